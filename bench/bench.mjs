// Measures what onbehalf costs on one Envoy worker, and writes target/bench/latest.json.
//
// Every compared side is a listener of the same Envoy process: same worker, same route (Envoy answers 200 itself), same
// requests, same load. The sides take turns in short rounds, so that whatever else the machine does meets all of them,
// and a ratio is taken within a round. Where there are two cores, Envoy has one to itself and the load the other.
//
//   BENCH_ROUNDS (12)  BENCH_SECONDS (2, of one side in one round)  ONBEHALF_WASM  ENVOY
import { execFile } from 'node:child_process';
import { createHash, generateKeyPairSync } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { Agent, request } from 'node:http';
import { availableParallelism, cpus } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { ENVOY, MODULE, scratchFolder, startEnvoy } from '../tests/envoy/parts/envoy.mjs';
import { until } from '../tests/envoy/parts/until.mjs';
import { bootstrap, cluster, listener, ports, wasmFilter } from '../tools/envoy-config.mjs';
import { startProvider } from './provider.mjs';

const run = promisify(execFile);
const checkout = fileURLToPath(new URL('..', import.meta.url));
const results = join(checkout, 'target/bench');
const ROUNDS = Number(process.env.BENCH_ROUNDS ?? 12);
const SECONDS = Number(process.env.BENCH_SECONDS ?? 2);
const EMPTY = join(results, 'empty_filter.wasm');
/** The module before workers shared tokens, if bench/build-before.sh could build it. */
const BEFORE = join(results, 'before.wasm');
const CONNECTIONS = 16;
const USERS = 100;
const USERS_IN_MEMORY = 10_000;
const MEMORY_ROUNDS = 3;
const CHURN = { tokens: 100_000, cached: 10_000 };
const FLOOD = { requests: 10_000, workers: 4, seconds: 30 };
const PARALLEL = 50;
const PARALLEL_ROUNDS = 5;
const FIRST = { users: 100, rounds: 5 };
const CLIENT_SECRET = { method: 'client_secret_post', secret: { inline: 'not-a-secret' } };
const [ENVOY_CPU, LOAD_CPU] = availableParallelism() > 1 ? [0, 1] : [0, 0];

mkdirSync(results, { recursive: true });
await pin(process.pid, LOAD_CPU);
const provider = await startProvider();
const figures = {};

try {
  await throughput();
  await memory();
  figures.exchanges_for_50_parallel_first_requests = await singleFlight(200);
  figures.calls_for_50_parallel_first_requests_failing_endpoint = await singleFlight(503);
  await firstRequests();
  await churn();
  await flood();
  soak();
  figures.module_bytes = figure('bytes', [statSync(MODULE).size]);
  await report();
} finally {
  await provider.stop();
}

/** Requests a second of each side, and from them the ratios. */
async function throughput() {
  const tokens = {};
  const files = {};
  for (const algorithm of ['RS256', 'ES256', 'PS256']) {
    tokens[algorithm] = await provider.tokens(USERS, algorithm);
    files[algorithm] = fileOf(algorithm, tokens[algorithm]);
  }
  const algorithmOf = (side) => side.match(/[A-Z]S256/)?.[0] ?? 'RS256';

  const uncached = { cache: { verified_tokens: 0 } };
  const sides = {
    'no filter': [],
    'empty wasm filter': [wasmFilter('empty', EMPTY)],
    'jwt_authn, cached': [jwtAuthn({ jwt_cache_config: { jwt_cache_size: USERS * 10 } })],
    'jwt_authn': [jwtAuthn({})],
    'onbehalf, warm': [onbehalf('warm')],
    'onbehalf, warm, audited': [onbehalf('audited', { audit: { hits: true } })],
    ...(existsSync(BEFORE) && { 'onbehalf before, warm': [onbehalf('before', {}, BEFORE)] }),
    'onbehalf, cold RS256': [onbehalf('cold', uncached)],
    'jwt_authn, ES256': [jwtAuthn({})],
    'onbehalf, cold ES256': [onbehalf('cold-es256', uncached)],
    'onbehalf, cold PS256': [onbehalf('cold-ps256', uncached)],
  };
  const envoy = await start(Object.entries(sides).map(([side, filters]) => listener(side, filters)));
  const measured = Object.fromEntries(Object.keys(sides).map((side) => [side, { rates: [], cpu: [], busy: [] }]));
  try {
    const portOf = await ports(envoy);
    for (const [side, port] of Object.entries(portOf)) {
      await everyoneIsServed(port, tokens[algorithmOf(side)]);
      await load(envoy, port, files[algorithmOf(side)]);
    }
    const exchangesBefore = provider.exchanges();
    for (let round = 0; round < ROUNDS; round += 1) {
      const names = Object.keys(sides);
      for (let turn = 0; turn < names.length; turn += 1) {
        const side = names[(turn + round) % names.length];
        const { rate, cpu, busy } = await load(envoy, portOf[side], files[algorithmOf(side)]);
        measured[side].rates.push(rate);
        measured[side].cpu.push(cpu);
        measured[side].busy.push(busy);
      }
      process.stderr.write(`round ${round + 1} of ${ROUNDS}\r`);
    }
    if (provider.exchanges() !== exchangesBefore) throw new Error('tokens were exchanged while the cache was measured');
  } finally {
    await envoy.stop();
  }

  const ratio = (one, other) => figure('ratio', measured[one].rates.map((rate, round) => rate / measured[other].rates[round]));
  figures.warm_vs_empty_wasm = ratio('onbehalf, warm', 'empty wasm filter');
  figures.warm_vs_jwt_authn_cached = ratio('onbehalf, warm', 'jwt_authn, cached');
  figures.audit_hits_vs_warm = ratio('onbehalf, warm, audited', 'onbehalf, warm');
  if (measured['onbehalf before, warm']) figures.warm_vs_before = ratio('onbehalf, warm', 'onbehalf before, warm');
  // What no Wasm filter can do better than, on this machine.
  figures.empty_wasm_vs_jwt_authn_cached = ratio('empty wasm filter', 'jwt_authn, cached');
  figures.cold_rs256_vs_jwt_authn = ratio('onbehalf, cold RS256', 'jwt_authn');
  figures.cold_es256_vs_jwt_authn = ratio('onbehalf, cold ES256', 'jwt_authn, ES256');
  // Envoy's verify_signature cannot be taken away from a filter. It knows no RSASSA-PSS: that is verified in the module,
  // with the same key size and the same modular exponentiation as RS256 would be.
  const added = measured['onbehalf, cold PS256'].cpu.map((cpu, round) => cpu - measured['onbehalf, warm'].cpu[round]);
  figures.cold_rs256_without_host_crypto_us = figure('µs', added);

  console.log(`\n${''.padEnd(24)}${'requests/s'.padStart(12)}${'lowest'.padStart(10)}${'highest'.padStart(10)}${'Envoy CPU, µs/request'.padStart(24)}`);
  for (const [side, { rates, cpu }] of Object.entries(measured)) {
    const cells = [median(rates), Math.min(...rates), Math.max(...rates)].map((rate) => rate.toFixed(0));
    console.log(side.padEnd(24) + cells[0].padStart(12) + cells[1].padStart(10) + cells[2].padStart(10) + median(cpu).toFixed(1).padStart(24));
  }
  const busy = median(Object.values(measured).map((side) => median(side.busy)));
  if (busy < 0.9) {
    console.log(`\nEnvoy had only ${(busy * 100).toFixed(0)} % of its core: the machine does something else, and the ratios below mean little.`);
  }
}

/** How much Envoy grows for each user whose token is exchanged and kept. A new Envoy for each round. */
async function memory() {
  const before = await provider.tokens(USERS);
  const tokens = await provider.tokens(USERS_IN_MEMORY);
  const rounds = [];
  for (let round = 0; round < MEMORY_ROUNDS; round += 1) {
    const bound = 2 * USERS_IN_MEMORY;
    const envoy = await start([listener('memory', [onbehalf('memory', { cache: { verified_tokens: bound, exchanged_tokens: bound } })])]);
    try {
      for (let pass = 0; pass < 20; pass += 1) await everyoneIsServed(envoy.port, before);
      const start = anonymousMemory(envoy.pid);
      await everyoneIsServed(envoy.port, tokens);
      rounds.push((anonymousMemory(envoy.pid) - start) / tokens.length);

      const exchangesBefore = provider.exchanges();
      await everyoneIsServed(envoy.port, tokens);
      const again = provider.exchanges() - exchangesBefore;
      if (again > 0) throw new Error(`${again} of ${tokens.length} users were not in the cache any more`);
    } finally {
      await envoy.stop();
    }
  }
  figures.worker_bytes_per_cached_user = figure('bytes', rounds);
}

/**
 * Calls at the token endpoint when a new user's first requests come all at once, and all get `status`. The endpoint's answer waits
 * until all are there. A new Envoy for each round, because failures are remembered.
 */
async function singleFlight(expected) {
  const rounds = [];
  for (let round = 0; round < PARALLEL_ROUNDS; round += 1) rounds.push(await parallelFirstRequests(expected));
  return { ...figure('calls', rounds), value: Math.max(...rounds) };
}

async function parallelFirstRequests(expected) {
  const envoy = await start([listener('parallel', [onbehalf('parallel')])]);
  try {
    const [first, token] = await provider.tokens(2);
    await everyoneIsServed(envoy.port, [first]);
    const exchangesBefore = provider.exchanges();
    const release = provider.hold({ failing: expected !== 200 });
    const agent = new Agent({ keepAlive: true, maxSockets: PARALLEL });
    const statuses = Promise.all(Array.from({ length: PARALLEL }, () => ask(agent, envoy.port, token)));
    try {
      const active = 'http.parallel.downstream_rq_active';
      await until(async () => (await envoy.stats(active))[active] === PARALLEL, `${PARALLEL} requests wait`);
    } finally {
      release();
    }
    for (const status of await statuses) {
      if (status !== expected) throw new Error(`one of ${PARALLEL} parallel requests got ${status}, not ${expected}`);
    }
    agent.destroy();
    return provider.exchanges() - exchangesBefore;
  } finally {
    await envoy.stop();
  }
}

/** The figures of `make soak`, if it has run with this module. */
function soak() {
  const path = join(results, 'soak.json');
  const { module_sha256: module, exchanges_in_soak_over_minimum: over } = existsSync(path) ? JSON.parse(readFileSync(path, 'utf8')) : {};
  if (module === createHash('sha256').update(readFileSync(MODULE)).digest('hex')) figures.exchanges_in_soak_over_minimum = over;
  else console.log('\nmake soak has not run with this module: exchanges_in_soak_over_minimum is left out');
}

/**
 * What a user's first request takes beyond the time that the provider takes for its own answer, by how the client proves
 * itself. One request after the other: the client's, Envoy's and the provider's own connections are part of it.
 */
async function firstRequests() {
  const inPem = (type, options) => generateKeyPairSync(type, options).privateKey.export({ type: 'pkcs8', format: 'pem' });
  const signed = (algorithm, key) => ({ method: 'private_key_jwt', algorithm, key: { inline: key } });
  const methods = {
    secret: CLIENT_SECRET,
    es256: signed('ES256', inPem('ec', { namedCurve: 'P-256' })),
    rs256: signed('RS256', inPem('rsa', { modulusLength: 2048 })),
  };
  const envoy = await start(Object.entries(methods).map(([name, authentication]) => listener(name, [onbehalf(name, {}, MODULE, authentication)])));
  const rounds = Object.fromEntries(Object.keys(methods).map((name) => [name, []]));
  const agent = new Agent({ keepAlive: true, maxSockets: 1 });
  try {
    const portOf = await ports(envoy);
    const warm = await provider.tokens(20);
    for (const port of Object.values(portOf)) await everyoneIsServed(port, warm);
    for (let round = 0; round < FIRST.rounds; round += 1) {
      for (const [name, port] of Object.entries(portOf)) {
        const added = [];
        for (const token of await provider.tokens(FIRST.users)) {
          const started = process.hrtime.bigint();
          const status = await ask(agent, port, token);
          const took = Number(process.hrtime.bigint() - started) / 1e6;
          if (status !== 200) throw new Error(`a first request got ${status}`);
          added.push(took - provider.tookMs());
        }
        rounds[name].push(median(added));
      }
    }
  } finally {
    agent.destroy();
    await envoy.stop();
  }
  for (const [name, added] of Object.entries(rounds)) figures[`first_request_added_ms_${name}`] = figure('ms', added);
}

/** How the slowest of a hundred warm requests does before and after many more tokens than the cache holds, and what Envoy grows by. */
async function churn() {
  const warm = await provider.tokens(USERS);
  const warmFile = fileOf('warm', warm);
  const others = await provider.tokens(CHURN.tokens, 'ES256');
  const cache = { verified_tokens: CHURN.cached, exchanged_tokens: CHURN.cached };
  const envoy = await start([listener('churn', [onbehalf('churn', { cache })])]);
  try {
    const p99 = async () => {
      await everyoneIsServed(envoy.port, warm);
      await load(envoy, envoy.port, warmFile);
      const rounds = [];
      for (let round = 0; round < 5; round += 1) rounds.push((await load(envoy, envoy.port, warmFile)).p99);
      return median(rounds);
    };
    const before = await p99();
    const memory = [];
    for (let at = 0; at < others.length; at += others.length / 4) {
      await everyoneIsServed(envoy.port, others.slice(at, at + others.length / 4));
      memory.push(anonymousMemory(envoy.pid));
    }
    const after = await p99();
    figures.p99_after_100k_tokens_vs_before = figure('ratio', [after / before]);
    // From the first quarter on, which is more than the cache holds.
    figures.memory_after_100k_tokens_vs_25k = figure('ratio', [memory.at(-1) / memory[0]]);
  } finally {
    await envoy.stop();
  }
}

/** Fetches of keys that requests with keys that do not exist cause, beyond the first fetch. */
async function flood() {
  const [good] = await provider.tokens(1);
  const forged = [];
  for (let number = 0; number < FLOOD.requests; number += 1) {
    const header = Buffer.from(JSON.stringify({ typ: 'JWT', alg: 'RS256', kid: `k${number}` })).toString('base64url');
    forged.push([header, ...good.split('.').slice(1)].join('.'));
  }
  const envoy = await startEnvoy(bootstrap([listener('flood', [onbehalf('flood')])], [cluster('provider', provider.port)]), { concurrency: FLOOD.workers });
  try {
    await everyoneIsServed(envoy.port, [good]);
    const before = provider.keyFetches();
    const agent = new Agent({ keepAlive: true, maxSockets: CONNECTIONS * 4 });
    const started = Date.now();
    await Promise.all(Array.from({ length: CONNECTIONS * 4 }, async () => {
      for (let token; (token = forged.pop()) !== undefined;) {
        const status = await ask(agent, envoy.port, token);
        if (status !== 401) throw new Error(`a forged token got ${status}`);
      }
    }));
    agent.destroy();
    const seconds = (Date.now() - started) / 1000;
    if (seconds > FLOOD.seconds) throw new Error(`the flood took ${seconds} s, which is more than ${FLOOD.seconds}`);
    figures.jwks_fetches_in_unknown_kid_flood = figure('fetches', [provider.keyFetches() - before]);
  } finally {
    await envoy.stop();
  }
}

function fileOf(name, tokens) {
  const file = join(scratchFolder(), name);
  writeFileSync(file, `${tokens.join('\n')}\n`);
  return file;
}

async function report() {
  const goals = {
    warm_vs_empty_wasm: ['≥', 0.97],
    warm_vs_jwt_authn_cached: ['≥', 0.80],
    cold_rs256_vs_jwt_authn: ['≥', 1],
    cold_es256_vs_jwt_authn: ['≥', 1],
    p99_after_100k_tokens_vs_before: ['≤', 1.5],
    jwks_fetches_in_unknown_kid_flood: ['≤', 1],
    module_bytes: ['≤', 716_800],
    exchanges_for_50_parallel_first_requests: ['=', 1],
    calls_for_50_parallel_first_requests_failing_endpoint: ['=', 1],
    exchanges_in_soak_over_minimum: ['≤', 1],
    warm_vs_before: ['≥', 0.98],
    first_request_added_ms_secret: ['≤', 1],
    first_request_added_ms_es256: ['≤', 1],
    first_request_added_ms_rs256: ['≤', 2],
  };
  const reached = { '≥': (value, goal) => value >= goal, '≤': (value, goal) => value <= goal, '=': (value, goal) => value === goal };
  console.log(`\n${''.padEnd(54)}${'median'.padStart(10)}${'lowest'.padStart(10)}${'highest'.padStart(10)}${'rounds'.padStart(8)}  goal`);
  for (const [name, { value, unit, rounds }] of Object.entries(figures)) {
    const show = (number) => (unit === 'ratio' || unit === 'ms' ? number.toFixed(3) : number.toFixed(0)).padStart(10);
    const goal = goals[name] ? `${goals[name][0]} ${goals[name][1]}${reached[goals[name][0]](value, goals[name][1]) ? '' : '  MISSED'}` : '';
    console.log(`${name.padEnd(54)}${show(value)}${show(Math.min(...rounds))}${show(Math.max(...rounds))}${String(rounds.length).padStart(8)}  ${goal}`);
  }
  const { stdout: version } = await run(ENVOY, ['--version']);
  console.log(`\n${cpus()[0].model}, ${cpus().length} cores; Envoy ${version.match(/\/(\d+\.\d+\.\d+)\//)[1]}, one worker; `
    + `wrk with ${CONNECTIONS} connections, ${USERS} users in turn, ${ROUNDS} rounds of ${SECONDS} s`);

  const path = join(results, 'latest.json');
  writeFileSync(path, `${JSON.stringify(figures, undefined, 2)}\n`);
  console.log('target/bench/latest.json');
}

async function start(listeners) {
  const envoy = await startEnvoy(bootstrap(listeners, [cluster('provider', provider.port)]));
  await pin(envoy.pid, ENVOY_CPU);
  return envoy;
}

async function pin(pid, cpu) {
  const tasks = () => run('taskset', ['--all-tasks', '--pid', '--cpu-list', String(cpu), String(pid)]);
  // A thread may end while they are listed.
  await tasks().catch(tasks);
}

function onbehalf(name, more = {}, module = MODULE, authentication = CLIENT_SECRET) {
  return wasmFilter(name, module, {
    identity_providers: {
      entra: {
        profile: 'entra_obo',
        issuer: provider.issuer,
        cluster: 'provider',
        audiences: [provider.audience],
        client: { id: provider.audience, authentication },
      },
    },
    resources: [{ url: 'https://mcp.example.com/mcp', scopes: ['mcp:read'], exchange: { entra: { resource: 'api://upstream' } } }],
    ...more,
  });
}

function jwtAuthn(more) {
  return {
    name: 'envoy.filters.http.jwt_authn',
    typed_config: {
      '@type': 'type.googleapis.com/envoy.extensions.filters.http.jwt_authn.v3.JwtAuthentication',
      providers: {
        entra: { issuer: provider.issuer, audiences: [provider.audience], local_jwks: { inline_string: JSON.stringify(provider.jwks) }, ...more },
      },
      rules: [{ match: { prefix: '/' }, requires: { provider_name: 'entra' } }],
    },
  };
}

/** Lets wrk run for a while; gives requests a second, the processor time that Envoy took for each, and its share of a core. */
async function load(envoy, port, tokenFile) {
  const cpuBefore = processorMicroseconds(envoy.pid);
  const { stdout } = await run('wrk', ['--threads', '1', '--connections', String(CONNECTIONS), '--duration', `${SECONDS}s`,
    '--script', join(checkout, 'bench/load.lua'), `http://127.0.0.1:${port}`, '--', tokenFile]);
  const { requests, microseconds, p99, errors } = JSON.parse(stdout.match(/^\{.*\}$/m)[0]);
  if (errors > 0) throw new Error(`${errors} of ${requests} requests failed\n${envoy.log}`);
  const cpu = processorMicroseconds(envoy.pid) - cpuBefore;
  return { rate: (requests / microseconds) * 1e6, cpu: cpu / requests, busy: cpu / microseconds, p99 };
}

/** Sends one request with each token, and again where the filter has no keys yet. */
async function everyoneIsServed(port, tokens) {
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

async function ask(agent, port, token) {
  const headers = { host: 'mcp.example.com', authorization: `Bearer ${token}` };
  const response = await new Promise((resolve, reject) => request({ agent, host: '127.0.0.1', port, path: '/mcp', headers }, resolve).once('error', reject).end());
  for await (const _ of response);
  return response.statusCode;
}

/** Resident memory of a process that no file backs, in bytes. A module's memory is part of it. */
function anonymousMemory(pid) {
  return Number(readFileSync(`/proc/${pid}/status`, 'utf8').match(/^RssAnon:\s+(\d+) kB$/m)[1]) * 1024;
}

/** Processor time that a process has taken so far; Linux counts it in hundredths of a second. */
function processorMicroseconds(pid) {
  const fields = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ').at(-1).split(' ');
  return (Number(fields[11]) + Number(fields[12])) * 10_000;
}

function figure(unit, rounds) {
  const rounded = rounds.map((number) => Number(number.toPrecision(6)));
  return { value: median(rounded), unit, rounds: rounded };
}

function median(numbers) {
  const sorted = numbers.toSorted((one, other) => one - other);
  const middle = Math.floor(sorted.length / 2);
  return sorted.length % 2 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}
