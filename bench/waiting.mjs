// Measures the time to refuse all waiting requests of a worker, from the answer of the provider to the last refusal, and writes
// target/bench/refusals.json. `make test-envoy` shows that all of them are answered, for each kind of wait.
//
// REFUSALS_ROUNDS (15)  ONBEHALF_WASM  ENVOY
import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { setTimeout as pause } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { HOST } from '../tests/envoy/parts/crowd-client.mjs';
import { configurationOf, startCrowdScene } from '../tests/envoy/parts/crowd.mjs';
import { MODULE } from '../tests/envoy/parts/envoy.mjs';
import { answers, gate } from '../tests/envoy/parts/faults.mjs';
import { sendManyFields } from '../tests/envoy/parts/raw-http2.mjs';

const run = promisify(execFile);
const results = fileURLToPath(new URL('../target/bench', import.meta.url));
const ROUNDS = Number(process.env.REFUSALS_ROUNDS ?? 15);
/** Limits of the engine: waiting requests of a worker, and of one token. */
const WAITING = 1024;
const FOR_A_TOKEN = 256;

const cores = availableParallelism();
const pin = (pid, core) => run('taskset', ['--all-tasks', '--pid', '--cpu-list', String(Math.min(core, cores - 1)), String(pid)]);
const scene = await startCrowdScene({ workers: 1 });
const milliseconds = [];
try {
  await pin(scene.envoy.pid, 0);
  await pin(process.pid, 1);
  for (let round = 0; round < ROUNDS; round += 1) milliseconds.push(await refuse(round));
} finally {
  await scene.stop();
}

const [lowest, ...rest] = milliseconds.toSorted((one, other) => one - other);
const highest = rest.at(-1);
const value = [lowest, ...rest][Math.floor(milliseconds.length / 2)];
mkdirSync(results, { recursive: true });
const figures = {
  module_sha256: createHash('sha256').update(readFileSync(MODULE)).digest('hex'),
  refusals_of_1024_waiting_ms: { value, unit: 'ms', rounds: milliseconds },
};
writeFileSync(`${results}/refusals.json`, `${JSON.stringify(figures, undefined, 2)}\n`);
console.log(`refusals_of_1024_waiting_ms ${value.toFixed(1)} (${lowest.toFixed(1)} to ${highest.toFixed(1)}) of ${ROUNDS} rounds`);

/** Milliseconds from the answers to the exchanges to the last refusal. */
async function refuse(round) {
  const place = scene.provider.place(`round${round}`);
  const [listener] = await scene.listen(configurationOf(place));
  await scene.servesEverywhere(listener);
  const hold = gate();
  const rejects = answers(400, '{"error":"invalid_grant"}', { 'content-type': 'application/json' });
  place.fail('token', (exchange) => hold.behave({ ...exchange, real: () => rejects(exchange) }));
  const requests = Array.from({ length: WAITING }, (_, number) => [
    [':method', 'GET'],
    [':scheme', 'http'],
    [':authority', HOST],
    [':path', '/mcp'],
    ['authorization', `Bearer ${scene.provider.token(`user${Math.floor(number / FOR_A_TOKEN)}`)}`],
  ]);
  const refused = sendManyFields(listener.port, requests);
  await scene.isActive(listener, WAITING);
  // Other work of the module is done after this pause.
  await pause(300);
  const released = performance.now();
  hold.release();
  const { bodies, whole } = await refused;
  const others = bodies.filter((body) => JSON.parse(body).reason !== 'exchange_rejected');
  if (others.length) throw new Error(`${others.length} were answered otherwise: ${others[0]}`);
  return whole - released;
}
