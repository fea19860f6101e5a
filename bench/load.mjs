// Envoy under load: start, requests, and their cost in processor time and memory.
import { execFile } from 'node:child_process';
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { Agent, request } from 'node:http';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { scratchFolder, startEnvoy } from '../tests/envoy/parts/envoy.mjs';
import { until } from '../tests/envoy/parts/until.mjs';
import { bootstrap, cluster } from '../tools/envoy-config.mjs';

export const run = promisify(execFile);
export const CONNECTIONS = 16;
const SCRIPT = fileURLToPath(new URL('load.lua', import.meta.url));
// With two cores or more, Envoy has one to itself and the load has another.
const [ENVOY_CPU, LOAD_CPU] = availableParallelism() > 1 ? [0, 1] : [0, 0];

/** Keeps this process and its children away from the core of Envoy. */
export function pinLoad() {
  return pin(process.pid, LOAD_CPU);
}

/** Starts Envoy. One worker gets one core; several workers get all cores. */
export async function start(provider, listeners, workers = 1) {
  const envoy = await startEnvoy(bootstrap(listeners, [cluster('provider', provider.port)]), { concurrency: workers });
  if (workers === 1) await pin(envoy.pid, ENVOY_CPU);
  return envoy;
}

async function pin(pid, cpu) {
  const tasks = () => run('taskset', ['--all-tasks', '--pid', '--cpu-list', String(cpu), String(pid)]);
  // taskset fails if a thread ends while it lists them.
  await tasks().catch(tasks);
}

/** File of tokens for `load`. */
export function fileOf(name, tokens) {
  const file = join(scratchFolder(), name);
  writeFileSync(file, `${tokens.join('\n')}\n`);
  return file;
}

/**
 * Runs wrk. Returns requests per second, the processor time of Envoy per request in nanoseconds, the share of the time in which
 * Envoy ran, the share in which it was runnable but waited for its core, and the 99th percentile of the latency.
 */
export async function load(envoy, port, tokenFile, seconds) {
  const before = threads(envoy.pid);
  const { stdout } = await run('wrk', ['--threads', '1', '--connections', String(CONNECTIONS), '--duration', `${seconds}s`,
    '--script', SCRIPT, `http://127.0.0.1:${port}`, '--', tokenFile]);
  const { requests, microseconds, p99, errors } = JSON.parse(stdout.match(/^\{.*\}$/m)[0]);
  if (errors > 0) throw new Error(`${errors} of ${requests} requests failed\n${envoy.log}`);
  const { ran, waited } = since(before, threads(envoy.pid));
  return { rate: (requests / microseconds) * 1e6, cpu: ran / requests, busy: ran / microseconds / 1000, waited: waited / microseconds / 1000, p99 };
}

/**
 * Time that each thread of a process has run on a processor and has waited for one, in nanoseconds. The kernel updates a running
 * thread at its next tick only, but the threads of an idle Envoy sleep.
 */
function threads(pid) {
  const folder = `/proc/${pid}/task`;
  return new Map(readdirSync(folder).flatMap((thread) => {
    const counted = readIfThere(join(folder, thread, 'schedstat'));
    return counted ? [[thread, counted.split(' ', 2).map(Number)]] : [];
  }));
}

/** Difference of two readings. A thread that started in between counts from zero; a thread that ended is left out. */
function since(before, now) {
  let [ran, waited] = [0, 0];
  for (const [thread, counted] of now) {
    const earlier = before.get(thread) ?? [0, 0];
    ran += counted[0] - earlier[0];
    waited += counted[1] - earlier[1];
  }
  if (!(ran > 0)) throw new Error('the kernel does not count what threads run (/proc/PID/task/*/schedstat)');
  return { ran, waited };
}

function readIfThere(file) {
  try {
    return readFileSync(file, 'utf8');
  } catch (error) {
    // ESRCH: the thread ended after its file was opened.
    if (error.code === 'ENOENT' || error.code === 'ESRCH') return '';
    throw error;
  }
}

/** Sends one request with each token, and repeats those that came before the JWKS. */
export async function everyoneIsServed(port, tokens) {
  const agent = new Agent({ keepAlive: true, maxSockets: CONNECTIONS });
  const waiting = [...tokens];
  await Promise.all(Array.from({ length: CONNECTIONS }, async () => {
    for (let token; (token = waiting.pop()) !== undefined;) {
      await until(async () => {
        const status = await ask(agent, port, token);
        if (status !== 200 && status !== 503) throw new Error(`a good token got ${status}`);
        return status === 200;
      }, 'the filter lets a good token through');
    }
  }));
  agent.destroy();
}

export async function ask(agent, port, token) {
  const headers = { host: 'mcp.example.com', authorization: `Bearer ${token}` };
  const response = await new Promise((resolve, reject) => request({ agent, host: '127.0.0.1', port, path: '/mcp', headers }, resolve).once('error', reject).end());
  for await (const _ of response);
  return response.statusCode;
}

/** Anonymous resident memory of a process in bytes. The memory of a module is part of it. */
export function anonymousMemory(pid) {
  return Number(readFileSync(`/proc/${pid}/status`, 'utf8').match(/^RssAnon:\s+(\d+) kB$/m)[1]) * 1024;
}
