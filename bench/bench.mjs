// Measures the cost of onbehalf on one Envoy worker, and writes target/bench/latest.json.
//
// Each side of a comparison is a listener of the same Envoy process: same worker, same route (Envoy answers 200 itself), same
// requests, same load. The sides take turns in short rounds, so that other activity of the machine affects all of them. A ratio
// is taken within a round: of the processor time that Envoy takes for a request, and of requests per second.
//
// BENCH_ONLY (all groups, e.g. before,last30s)  BENCH_ROUNDS (24)  BENCH_SECONDS (1, of one side in one round)  ONBEHALF_WASM  ENVOY
// BENCH_BEFORE (04eb90b): commit whose module `make bench` builds for the comparison
import { createHash, generateKeyPairSync } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync } from 'node:fs';
import { Agent } from 'node:http';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { MODULE, validate } from '../tests/envoy/parts/envoy.mjs';
import { until } from '../tests/envoy/parts/until.mjs';
import { bootstrap, cluster, listener, ports, wasmFilter } from '../tools/envoy-config.mjs';
import { configurationsFor } from './configurations.mjs';
import { anonymousMemory, ask, CONNECTIONS, everyoneIsServed, fileOf, load, pinLoad, start } from './load.mjs';
import { startProvider } from './provider.mjs';
import { printTurns, report } from './report.mjs';
import { count, FEWEST_ROUNDS, median, sample, turns } from './statistics.mjs';

const results = fileURLToPath(new URL('../target/bench', import.meta.url));
const ROUNDS = Number(process.env.BENCH_ROUNDS ?? 24);
const SECONDS = Number(process.env.BENCH_SECONDS ?? 1);
const EMPTY = join(results, 'empty_filter.wasm');
/** Module of the other commit, or undefined if bench/build-before.sh could not build it. */
const BEFORE = join(results, 'before.wasm');
const ROUNDS_OF_AN_ENVOY = 6;
const USERS = 100;
const USERS_IN_MEMORY = 10_000;
const MEMORY_ROUNDS = 3;
const CHURN = { tokens: 100_000, cached: 10_000, rounds: 9 };
const FLOOD = { requests: 10_000, workers: 4, seconds: 30 };
const PARALLEL = 50;
const PARALLEL_ROUNDS = 5;
const FIRST = { users: 50, rounds: 12 };
const MANY = { resources: 1000, loads: 40 };
/** Calls from the first second of a token to its last one. */
const LAST = { lifetime: 29, calls: 40, pauseMs: 700, workers: [1, 4] };
const GROUPS = { before: against, warm, cold, memory, parallel, first: firstRequests, last30s: lastSeconds, churn, flood, many };

const groups = process.env.BENCH_ONLY?.split(',') ?? Object.keys(GROUPS);
for (const group of groups) {
  if (!GROUPS[group]) throw new Error(`BENCH_ONLY: ${group} is none of ${Object.keys(GROUPS).join(', ')}`);
}
if (!(ROUNDS >= FEWEST_ROUNDS && ROUNDS % 2 === 0)) throw new Error(`BENCH_ROUNDS: an even number, at least ${FEWEST_ROUNDS}`);

mkdirSync(results, { recursive: true });
await pinLoad();
const provider = await startProvider();
const configurations = await configurationsFor(MODULE, provider);
const figures = {};
const notes = [];

try {
  for (const group of groups) {
    try {
      await GROUPS[group]();
    } catch (error) {
      // The exit code does not discard the figures of the other groups.
      notes.push(`NOT MEASURED: ${group}: ${error.stack}`);
      process.exitCode = 1;
    }
  }
} finally {
  await provider.stop();
}
leftBehind('exchanges_in_soak_over_minimum', 'soak.json', 'make soak', (soak) => soak.exchanges_in_soak_over_minimum);
leftBehind('reloads_over_all_ways_of_waiting', 'waiting.json', 'tests/envoy/many-waiters.test.mjs', ({ reloads, ways }) => ({ ...count('reloads', [reloads]), ways }));
figures.module_bytes = count('bytes', [readFileSync(MODULE).length]);
const about = { module_sha256: shaOf(MODULE), before: before() ?? null, load: `${CONNECTIONS} connections, ${USERS} users in turn, ${SECONDS} s a turn` };
await report(join(results, 'latest.json'), figures, notes, about);

/** Requests served from the cache, against the module of another commit. */
async function against() {
  const sides = await ours('onbehalf', MODULE);
  // Two identical filters. Their ratio is the smallest difference that this machine can measure.
  Object.assign(sides, await ours('again', MODULE));
  if (before()) Object.assign(sides, await ours('before', BEFORE));
  const measured = await takeTurns('cached', sides);
  compare(measured, 'same_vs_same', 'again', 'onbehalf');
  compare(measured, 'same_vs_same_audited', 'again, audited', 'onbehalf, audited');
  compare(measured, 'warm_vs_before', 'onbehalf, audited', 'before, audited');
  compare(measured, 'warm_default_vs_before_default', 'onbehalf', 'before');
  const sight = await takeTurns('first sight', { ...await withoutVerifiedTokens('onbehalf', MODULE), ...(before() && await withoutVerifiedTokens('before', BEFORE)) });
  compare(sight, 'cold_rs256_vs_before', 'onbehalf, RS256', 'before, RS256');
}

/** A module that verifies each token again. */
async function withoutVerifiedTokens(name, module) {
  const { usual } = await configurationsFor(module, provider);
  return { [`${name}, RS256`]: { filters: [wasmFilter(`${name}-cold`, module, { ...usual(), cache: { verified_tokens: 0 } })] } };
}

/** Requests served from the cache, against Envoy's own filters. */
async function warm() {
  const measured = await takeTurns('cached', {
    'no filter': { filters: [] },
    'empty wasm filter': { filters: [wasmFilter('empty', EMPTY)] },
    'jwt_authn, cached': { filters: [jwtAuthn({ jwt_cache_config: { jwt_cache_size: USERS * 10 } })] },
    ...await ours('onbehalf', MODULE),
  });
  compare(measured, 'warm_vs_empty_wasm', 'onbehalf', 'empty wasm filter');
  compare(measured, 'warm_vs_jwt_authn_cached', 'onbehalf', 'jwt_authn, cached');
  // Lower bound for any Wasm filter on this machine.
  compare(measured, 'empty_wasm_vs_jwt_authn_cached', 'empty wasm filter', 'jwt_authn, cached');
  compare(measured, 'audit_hits_vs_warm', 'onbehalf, audited', 'onbehalf');
}

/** A module with its defaults, and with `audit.hits` if it has that option. */
async function ours(name, module) {
  const { usual, audited } = await configurationsFor(module, provider);
  return {
    [name]: { filters: [wasmFilter(name, module, usual())] },
    ...(audited && { [`${name}, audited`]: { filters: [wasmFilter(`${name}-audited`, module, audited())] } }),
  };
}

/** First request of each token, which is validated but not exchanged. */
async function cold() {
  const sides = { 'onbehalf, warm': { filters: [onbehalf('warm')] } };
  for (const algorithm of ['RS256', 'ES256', 'PS256']) {
    sides[`jwt_authn, ${algorithm}`] = { filters: [jwtAuthn({})], algorithm };
    sides[`onbehalf, ${algorithm}`] = { filters: [onbehalf(algorithm, { cache: { verified_tokens: 0 } })], algorithm };
  }
  const measured = await takeTurns('first sight', sides);
  for (const algorithm of ['RS256', 'ES256', 'PS256']) {
    compare(measured, `cold_${algorithm.toLowerCase()}_vs_jwt_authn`, `onbehalf, ${algorithm}`, `jwt_authn, ${algorithm}`);
  }
  // Envoy's `verify_signature` cannot be disabled for one filter. It does not support RSASSA-PSS, so the module verifies that
  // itself: same key size and same modular exponentiation as RS256.
  const added = measured['onbehalf, PS256'].map(({ cpu }, round) => (cpu - measured['onbehalf, warm'][round].cpu) / 1000);
  figures.cold_rs256_without_host_crypto_us = sample('µs', added);
}

/**
 * Loads each side in each round, prints the results, and returns the turns of each side by round. Two instances of one filter
 * are never equally fast, because their code and data have different addresses: every few rounds a new Envoy draws new
 * addresses.
 */
async function takeTurns(what, sides) {
  const names = Object.keys(sides);
  const algorithmOf = (side) => sides[side].algorithm ?? 'RS256';
  const tokens = {};
  const files = {};
  for (const algorithm of new Set(names.map(algorithmOf))) {
    tokens[algorithm] = await provider.tokens(USERS, { algorithm });
    files[algorithm] = fileOf(algorithm, tokens[algorithm]);
  }
  const measured = Object.fromEntries(names.map((side) => [side, []]));
  for (let first = 0; first < ROUNDS; first += ROUNDS_OF_AN_ENVOY) {
    const envoy = await start(provider, names.map((side) => listener(side, sides[side].filters)));
    try {
      const portOf = await ports(envoy);
      const turn = (side) => load(envoy, portOf[side], files[algorithmOf(side)], SECONDS);
      for (const side of names) {
        await everyoneIsServed(portOf[side], tokens[algorithmOf(side)]);
        await turn(side);
      }
      const exchangesBefore = provider.exchanges();
      for (let round = first; round < Math.min(first + ROUNDS_OF_AN_ENVOY, ROUNDS); round += 1) {
        for (const at of turns(names.length, round)) measured[names[at]].push(await turn(names[at]));
        process.stderr.write(`${what}: round ${round + 1} of ${ROUNDS}\r`);
      }
      if (provider.exchanges() !== exchangesBefore) throw new Error('tokens were exchanged while the cache was measured');
    } finally {
      await envoy.stop();
    }
  }
  printTurns(what, measured);
  return measured;
}

/**
 * Speed of one side relative to another in the same round: processor time per request of the other over its own, and its
 * requests per second over those of the other. Above 1, it is the faster one.
 */
function compare(measured, key, one, other) {
  const missing = [one, other].find((side) => !measured[side]);
  if (missing) return leaveOut(key, `there is no "${missing}"`);
  const paired = (ratio) => sample('ratio', measured[one].map((turn, round) => ratio(turn, measured[other][round])));
  figures[key] = { ...paired((own, others) => others.cpu / own.cpu), throughput: paired((own, others) => own.rate / others.rate) };
}

/** Growth of Envoy for each user whose exchanged token is cached, in bytes. Each round has a new Envoy. */
async function memory() {
  const first = await provider.tokens(USERS);
  const tokens = await provider.tokens(USERS_IN_MEMORY);
  const cache = { verified_tokens: 2 * USERS_IN_MEMORY, exchanged_tokens: 2 * USERS_IN_MEMORY };
  const rounds = [];
  for (let round = 0; round < MEMORY_ROUNDS; round += 1) {
    const envoy = await start(provider, [listener('memory', [onbehalf('memory', { cache })])]);
    try {
      for (let pass = 0; pass < 20; pass += 1) await everyoneIsServed(envoy.port, first);
      const earlier = anonymousMemory(envoy.pid);
      await everyoneIsServed(envoy.port, tokens);
      rounds.push((anonymousMemory(envoy.pid) - earlier) / tokens.length);

      const exchangesBefore = provider.exchanges();
      await everyoneIsServed(envoy.port, tokens);
      const again = provider.exchanges() - exchangesBefore;
      if (again > 0) throw new Error(`${again} of ${tokens.length} users were not in the cache any more`);
    } finally {
      await envoy.stop();
    }
  }
  figures.worker_bytes_per_cached_user = sample('bytes', rounds);
}

async function parallel() {
  figures.exchanges_for_50_parallel_first_requests = await singleFlight(200);
  figures.calls_for_50_parallel_first_requests_failing_endpoint = await singleFlight(503);
}

/**
 * Calls at the token endpoint when the first requests of a new user come at once, and all get `status`. The endpoint answers
 * when all requests have come. Each round has a new Envoy, because failures are remembered.
 */
async function singleFlight(expected) {
  const rounds = [];
  for (let round = 0; round < PARALLEL_ROUNDS; round += 1) rounds.push(await parallelFirstRequests(expected));
  return count('calls', rounds);
}

async function parallelFirstRequests(expected) {
  const envoy = await start(provider, [listener('parallel', [onbehalf('parallel')])]);
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

/**
 * Latency of the first request of a user without the time that the provider takes for its own answer, by client authentication:
 * a secret, or an assertion (RFC 7523) that the module signs for this exchange. Envoy's `sign` signs ES256 and RS256 for it; it
 * does not support PS256, which Entra requires, so the module signs that itself. Requests come one after the other: the
 * connections of client, Envoy and provider are part of the figure.
 */
async function firstRequests() {
  const inPem = (type, options) => generateKeyPairSync(type, options).privateKey.export({ type: 'pkcs8', format: 'pem' });
  const signed = (algorithm, key) => ({ method: 'private_key_jwt', algorithm, key: { inline: key } });
  const methods = {
    secret: undefined,
    es256: signed('ES256', inPem('ec', { namedCurve: 'P-256' })),
    rs256: signed('RS256', inPem('rsa', { modulusLength: 2048 })),
    ps256: signed('PS256', inPem('rsa', { modulusLength: 2048 })),
  };
  const names = Object.keys(methods);
  const envoy = await start(provider, names.map((name) => listener(name, [wasmFilter(name, MODULE, configurations.usual(methods[name]))])));
  const rounds = Object.fromEntries(names.map((name) => [name, []]));
  const agent = new Agent({ keepAlive: true, maxSockets: 1 });
  try {
    const portOf = await ports(envoy);
    const warm = await provider.tokens(20);
    for (const port of Object.values(portOf)) await everyoneIsServed(port, warm);
    for (let round = 0; round < FIRST.rounds; round += 1) {
      for (const at of turns(names.length, round)) {
        const added = [];
        for (const token of await provider.tokens(FIRST.users)) {
          const started = process.hrtime.bigint();
          const status = await ask(agent, portOf[names[at]], token);
          const took = Number(process.hrtime.bigint() - started) / 1e6;
          if (status !== 200) throw new Error(`a first request got ${status}`);
          added.push(took - provider.tookMs());
        }
        rounds[names[at]].push(median(added));
      }
    }
  } finally {
    agent.destroy();
    await envoy.stop();
  }
  for (const name of names) figures[`first_request_added_ms_${name}`] = sample('ms', rounds[name]);
}

/**
 * Calls at the token endpoint for one user who keeps calling while the subject token expires: with one worker, and with several,
 * each call on a new connection, so that calls meet different workers.
 */
async function lastSeconds() {
  const rounds = [];
  for (const workers of LAST.workers) {
    const envoy = await start(provider, [listener('last', [onbehalf('last')])], workers);
    const agent = new Agent({ keepAlive: false });
    try {
      await everyoneIsServed(envoy.port, await provider.tokens(USERS));
      const [token] = await provider.tokens(1, { lifetime: LAST.lifetime });
      const exchangesBefore = provider.exchanges();
      const started = Date.now();
      for (let call = 0; call < LAST.calls; call += 1) {
        await sleep(Math.max(0, started + call * LAST.pauseMs - Date.now()));
        const status = await ask(agent, envoy.port, token);
        if (status !== 200) throw new Error(`call ${call + 1} in the last seconds of a token got ${status}`);
      }
      rounds.push(provider.exchanges() - exchangesBefore);
    } finally {
      agent.destroy();
      await envoy.stop();
    }
  }
  figures.exchanges_in_last_30s_of_a_token = count('calls', rounds);
}

/** 99th percentile of warm requests before and after many more tokens than the cache holds, and the growth of Envoy. */
async function churn() {
  const warm = await provider.tokens(USERS);
  const warmFile = fileOf('warm', warm);
  const others = await provider.tokens(CHURN.tokens, { algorithm: 'ES256' });
  const cache = { verified_tokens: CHURN.cached, exchanged_tokens: CHURN.cached };
  const envoy = await start(provider, [listener('churn', [onbehalf('churn', { cache })])]);
  try {
    const p99s = async () => {
      await everyoneIsServed(envoy.port, warm);
      await load(envoy, envoy.port, warmFile, SECONDS);
      const rounds = [];
      for (let round = 0; round < CHURN.rounds; round += 1) rounds.push((await load(envoy, envoy.port, warmFile, SECONDS)).p99);
      return rounds;
    };
    const earlier = await p99s();
    const memory = [];
    for (let at = 0; at < others.length; at += others.length / 4) {
      await everyoneIsServed(envoy.port, others.slice(at, at + others.length / 4));
      memory.push(anonymousMemory(envoy.pid));
    }
    const later = await p99s();
    // Rounds of the two are independent: they are paired in their order.
    figures.p99_after_100k_tokens_vs_before = sample('ratio', later.map((p99, round) => p99 / earlier[round]));
    // The cache is full after the first quarter.
    figures.memory_after_100k_tokens_vs_25k = count('ratio', [memory.at(-1) / memory[0]]);
  } finally {
    await envoy.stop();
  }
}

/** Fetches of the JWKS that requests with unknown `kid`s cause, beyond the first fetch. */
async function flood() {
  const [good] = await provider.tokens(1);
  const forged = [];
  for (let number = 0; number < FLOOD.requests; number += 1) {
    const header = Buffer.from(JSON.stringify({ typ: 'JWT', alg: 'RS256', kid: `k${number}` })).toString('base64url');
    forged.push([header, ...good.split('.').slice(1)].join('.'));
  }
  const envoy = await start(provider, [listener('flood', [onbehalf('flood')])], FLOOD.workers);
  try {
    await everyoneIsServed(envoy.port, [good]);
    const earlier = provider.keyFetches();
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
    figures.jwks_fetches_in_unknown_kid_flood = count('fetches', [provider.keyFetches() - earlier]);
  } finally {
    await envoy.stop();
  }
}

/** Cost of a cached request, and time to load the configuration, with many resources at one host. */
async function many() {
  const { resources: [resource], ...others } = configurations.usual();
  const rest = Array.from({ length: MANY.resources - 1 }, (_, number) => ({ ...resource, url: `https://mcp.example.com/server-${number}/mcp` }));
  const sides = {
    '1 path': { filters: [wasmFilter('one', MODULE, { ...others, resources: [resource] })] },
    '1,000 paths': { filters: [wasmFilter('many', MODULE, { ...others, resources: [...rest, resource] })] },
  };
  compare(await takeTurns('cached', sides), 'warm_1000_paths_vs_1', '1,000 paths', '1 path');
  // Envoy's own start and the compilation of the module are in both.
  const took = async (side) => {
    const started = process.hrtime.bigint();
    const { ok, output } = await validate(bootstrap([listener('load', sides[side].filters)], [cluster('provider', provider.port)]));
    if (!ok) throw new Error(`the configuration of ${side} is refused\n${output}`);
    return Number(process.hrtime.bigint() - started) / 1e6;
  };
  const added = [];
  for (let round = 0; round < Math.min(MANY.loads, ROUNDS); round += 1) {
    const ms = {};
    for (const at of turns(2, round)) ms[Object.keys(sides)[at]] = await took(Object.keys(sides)[at]);
    added.push(ms['1,000 paths'] - ms['1 path']);
  }
  figures.load_1000_resources_ms = sample('ms', added);
}

/** Adds the figures of another program, if it measured this module. */
function leftBehind(key, file, writer, figure) {
  const path = join(results, file);
  const left = existsSync(path) ? JSON.parse(readFileSync(path, 'utf8')) : {};
  if (left.module_sha256 === shaOf(MODULE)) figures[key] = figure(left);
  else leaveOut(key, `${writer} has not run with this module`);
}

/** Removes a figure, that of an earlier run as well. */
function leaveOut(key, reason) {
  figures[key] = undefined;
  notes.push(`${reason}: ${key} is left out`);
}

/** Commit of the other module, or undefined. */
function before() {
  return existsSync(`${BEFORE}.commit`) ? readFileSync(`${BEFORE}.commit`, 'utf8').trim() : undefined;
}

function shaOf(file) {
  return createHash('sha256').update(readFileSync(file)).digest('hex');
}

function onbehalf(name, more) {
  return wasmFilter(name, MODULE, { ...configurations.usual(), ...more });
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
