// Soak test: a long load on several workers of Envoy, first with healthy providers and then with providers that fail and pause,
// while clients leave, and with bursts of waiting requests. It prints the outcome, and writes target/bench/soak.json, which
// `node bench/bench.mjs` reads.
//
// SOAK_WORKERS (8)  SOAK_USERS (200)  SOAK_RESOURCES (5)  SOAK_REQUESTS (100000)  SOAK_SEED  ONBEHALF_WASM  ENVOY

import { createHash } from 'node:crypto';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { burstNowAndThen } from './parts/bursts.mjs';
import { MODULE } from './parts/envoy.mjs';
import { leaks } from './parts/leaks.mjs';
import { everybodyIsServed, exchangesOf, growth, load, randomNumbers, startScene, trouble } from './parts/soak.mjs';

const results = fileURLToPath(new URL('../../target/bench', import.meta.url));
const setting = (name, usual) => Number(process.env[name] ?? usual);
const WORKERS = setting('SOAK_WORKERS', 8);
const REQUESTS = setting('SOAK_REQUESTS', 100_000);
const SEED = setting('SOAK_SEED', Math.floor(Math.random() * 2 ** 32));
const SIZE = { workers: WORKERS, users: setting('SOAK_USERS', 200), resources: setting('SOAK_RESOURCES', 5), timeoutSeconds: 5 };
const GROWTH = 1.15;
const LEAVING = 0.03;

const random = randomNumbers(SEED);
const complaints = [];
const check = (holds, complaint) => holds || complaints.push(complaint);

console.log(`SOAK_SEED=${SEED}: ${SIZE.users} users, ${SIZE.resources} resources, ${WORKERS} workers`);
const well = await run('providers that are well', { requests: Math.ceil(REQUESTS / 5) });
const troubled = await run('providers that fail and pause, and clients that leave', { requests: REQUESTS, failing: true });

mkdirSync(results, { recursive: true });
const over = well.calls / well.pairs;
const figures = {
  module_sha256: createHash('sha256').update(readFileSync(MODULE)).digest('hex'),
  seed: SEED,
  ...SIZE,
  exchanges_in_soak_over_minimum: { value: over, unit: 'ratio', rounds: [over] },
  well,
  troubled,
};
writeFileSync(join(results, 'soak.json'), `${JSON.stringify(figures, undefined, 2)}\n`);
console.log(`exchanges_in_soak_over_minimum ${over.toFixed(3)}\ntarget/bench/soak.json`);
for (const complaint of complaints) console.error(`NOT SO: ${complaint}`);
process.exitCode = complaints.length ? 1 : 0;

async function run(name, { requests, failing = false }) {
  const started = Date.now();
  const scene = await startScene(SIZE);
  try {
    const repair = failing ? trouble(scene, random) : () => {};
    const endBursts = burstNowAndThen(scene);
    const leaving = failing ? LEAVING : 0;
    const { wrong, memory, ...outcome } = await load(scene, { count: requests, random, leaving }).finally(endBursts);
    const { wrong: wrongInBursts, ...bursts } = await endBursts();
    repair();
    await everybodyIsServed(scene);
    const exchanges = exchangesOf(scene);
    const { found } = await leaks(scene.gateway);
    const traps = await scene.gateway.envoy.traps();
    const grown = growth(memory);

    const of = `${name}: `;
    check(wrong.length === 0, `${of}each answer is the right user’s, or one that a failure explains: ${wrong.slice(0, 5).join('; ')}`);
    check(wrongInBursts.length === 0, `${of}each of a burst is answered as it should be: ${wrongInBursts.slice(0, 5).join('; ')}`);
    check(scene.parts.mcp.mistaken.length === 0, `${of}the API refuses nothing: ${scene.parts.mcp.mistaken.slice(0, 5).join('; ')}`);
    check(exchanges.missing === 0, `${of}everybody is served: ${exchanges.missing} were not`);
    check(exchanges.undue === 0, `${of}no token is exchanged again that has been: ${exchanges.undue} were`);
    check(exchanges.issued === exchanges.pairs, `${of}${exchanges.pairs} tokens are issued: it were ${exchanges.issued}`);
    check(failing === exchanges.failed > 0, `${of}${exchanges.failed} exchanges failed`);
    check(!failing || grown <= GROWTH, `${of}Envoy does not grow: by ${grown.toFixed(2)} from the second quarter to the last`);
    check(traps.length === 0, `${of}nothing trapped: ${traps.join('; ')}`);
    check(Object.keys(found).length === 0, `${of}no secret can be seen: ${JSON.stringify(found)}`);

    const seconds = Math.round((Date.now() - started) / 1000);
    const megabytes = [memory[0], memory.at(-1)].map((bytes) => Math.round(bytes / 2 ** 20));
    const result = { requests, ...outcome, bursts, ...exchanges, growth: Number(grown.toFixed(3)), megabytes, seconds };
    console.log(name);
    for (const [key, value] of Object.entries(result)) console.log(`  ${key.padEnd(12)} ${JSON.stringify(value)}`);
    return result;
  } finally {
    await scene.stop();
  }
}
