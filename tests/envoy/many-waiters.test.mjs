// Requests that wait in large numbers: for each kind of wait and each event that ends it, the VM does not trap, each request
// gets its answer, and other users are served meanwhile. To answer a request, Envoy runs filters, onbehalf among them, before
// the answer is sent: some three hundred of these nested calls overflow the stack of V8.

import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { after, before, describe, it } from 'node:test';
import { fileURLToPath } from 'node:url';
import { Burst } from './parts/crowd-burst.mjs';
import { configurationOf, MOST_CALLS, startCrowdScene } from './parts/crowd.mjs';
import { PROVIDERS } from './parts/crowd-provider.mjs';
import { MODULE } from './parts/envoy.mjs';
import { answers, gate } from './parts/faults.mjs';
import { until } from './parts/until.mjs';

/**
 * Numbers of requests of each worker: one below the depth that overflowed the stack of V8, one above, and the limits of the
 * engine.
 */
const SIZES = [300, 305, 512, 1024];
/** Limits of the engine in each worker: requests that wait for keys, and for the same token. */
const FOR_KEYS = 512;
const FOR_A_TOKEN = 256;

const SCENES = {
  'one worker, over HTTP/1.1': { workers: 1, protocol: 'HTTP/1.1' },
  'one worker with other filters behind, over HTTP/2': { workers: 1, hasNeighbours: true, protocol: 'HTTP/2' },
  'four workers with other filters behind, over HTTP/2': { workers: 4, hasNeighbours: true, protocol: 'HTTP/2' },
};

/** Holds the real answer, or a failure in its place, until the test releases it. */
function held(place, endpoint, failure) {
  const hold = gate();
  const behave = (exchange) => hold.behave(failure ? { ...exchange, real: () => failure(exchange) } : exchange);
  place.fail(endpoint, behave);
  return hold;
}

/** Numbers of requests of a crowd that wait for keys, and that are refused. */
const forKeys = ({ size }) => ({ waiting: Math.min(size, FOR_KEYS), overloaded: Math.max(size - FOR_KEYS, 0) });

/** Sends a crowd of users that waits for the first keys, to a listener of this configuration. */
async function waitForFirstKeys(burst, configuration, { failure, pathOf = () => '/mcp' } = {}) {
  const { waiting, overloaded } = forKeys(burst);
  const keys = held(burst.place, 'keys', failure);
  await burst.listen([configuration], { known: [] });
  burst.sendAll((worker, number) => burst.of(burst.user(worker, number), { path: pathOf(number) }));
  await burst.waits(waiting);
  await until(() => keys.waiting() > 0, 'the keys are asked for');
  return { keys, waiting, overloaded };
}

/** Sends a crowd to the second of two listeners that waits for the tokens of four users, which the first listener fetches. */
async function waitForTokensElsewhere(burst, { pathOf = () => '/mcp' } = {}) {
  const users = ['a', 'b', 'c', 'd'];
  await burst.listen(twoOf(burst.place));
  const token = held(burst.place, 'token');
  for (const user of users) burst.send(0, burst.of(user, { at: 0 }));
  await until(() => token.waiting() === users.length, 'the first listener asks');
  burst.sendAll((_worker, number) => burst.of(users[number % users.length], { path: pathOf(number) }));
  await burst.waits(burst.size);
  return { token, beside: { 200: users.length } };
}

/**
 * Sends a crowd to the second of two listeners that waits for keys and tokens of two providers, which the first listener
 * fetches.
 */
async function waitForTwoProviders(burst, { failure, timeout_seconds = 60 } = {}) {
  await burst.listen(twoOf(burst.place, { providers: PROVIDERS, provider: { timeout_seconds } }), { known: PROVIDERS });
  const keys = held(burst.place, 'keys', failure);
  const token = held(burst.place, 'token', failure);
  const things = PROVIDERS.flatMap((provider) => [burst.forged(0, { provider }), burst.of('somebody', { provider })]);
  for (const thing of things) burst.send(0, { ...thing, at: 0 });
  await until(() => keys.waiting() + token.waiting() === things.length, 'the first listener asks');
  burst.sendAll((_worker, number) => things[number % things.length]);
  // Half of them get `unknown_key`, and half get 503.
  const half = (count) => ({ '401 unknown_key': Math.ceil(count / 2), '503 provider_unavailable': Math.floor(count / 2) });
  return { keys, token, each: half(burst.size), beside: half(things.length) };
}

/** Returns one configuration for two listeners, each of which takes the other for another worker. */
const twoOf = (place, changes) => [100, 101].map((max_wait_seconds) => configurationOf(place, { max_wait_seconds, ...changes }));

/** Paths whose requests Envoy answers itself as soon as they continue: no endpoint, no healthy endpoint, no cluster. */
const NOWHERE = ['/mcp/empty', '/mcp/unhealthy', '/mcp/direct'];
const nowhere = (number) => NOWHERE[number % NOWHERE.length];
const fromNowhere = (count) => ({ 503: Math.ceil((count * 2) / 3), 418: Math.floor(count / 3) });

/** Configuration with a provider whose tokens are not exchanged. */
const withoutExchange = (place) =>
  configurationOf(place, {
    provider: { profile: 'validate_only', token_endpoint: undefined, client: undefined },
    exchange: { forward: false },
    shared_data_secret: { env: 'CROWD_SECRET' },
  });

const WAYS = {
  async 'wait for keys whose fetch fails'(burst) {
    const { keys, waiting, overloaded } = await waitForFirstKeys(burst, configurationOf(burst.place), { failure: answers(500) });
    keys.release();
    await burst.ends({ '503 jwks_unavailable': waiting, '503 overloaded': overloaded }, { well: false });
  },

  async 'wait for keys, and are signed with others'(burst) {
    const { waiting, overloaded } = forKeys(burst);
    await burst.listen([configurationOf(burst.place)]);
    const keys = held(burst.place, 'keys');
    burst.sendAll((_worker, number) => burst.forged(number));
    await burst.waits(waiting);
    keys.release();
    await burst.ends({ '401 unknown_key': waiting, '503 overloaded': overloaded });
  },

  async 'wait for the first keys, and then each for a token'(burst) {
    const token = held(burst.place, 'token');
    const { keys, waiting, overloaded } = await waitForFirstKeys(burst, configurationOf(burst.place));
    keys.release();
    await until(() => token.waiting() === waiting * burst.workers, 'each token is asked for');
    token.release();
    await burst.ends({ 200: waiting, '503 overloaded': overloaded });
  },

  async 'wait for the same tokens, which come'(burst) {
    await burst.listen([configurationOf(burst.place)]);
    const token = held(burst.place, 'token');
    burst.sendAll((worker, number) => burst.of(burst.user(worker, Math.floor(number / FOR_A_TOKEN))));
    await burst.waits(burst.size);
    token.release();
    await burst.ends({ 200: burst.size });
  },

  async 'wait for as many tokens, which come'(burst) {
    await burst.listen([configurationOf(burst.place)]);
    const token = held(burst.place, 'token');
    burst.sendAll((worker, number) => burst.of(burst.user(worker, number)));
    await burst.waits(burst.size);
    await until(() => token.waiting() === burst.size * burst.workers, 'each token is asked for');
    token.release();
    await burst.ends({ 200: burst.size });
  },

  async 'wait for tokens longer than they may'(burst) {
    await burst.listen([configurationOf(burst.place, { max_wait_seconds: burst.workers > 1 ? 3 : 2 })]);
    const token = held(burst.place, 'token');
    burst.sendAll((worker, number) => burst.of(burst.user(worker, number)));
    await burst.answered();
    token.release();
    await burst.ends({ '503 provider_unavailable': burst.size });
  },

  async 'wait for tokens that another worker asks for'(burst) {
    const { token, beside } = await waitForTokensElsewhere(burst);
    token.release();
    await burst.ends({ 200: burst.size }, { beside });
  },

  async 'wait for as many tokens that another worker asks for'(burst) {
    await burst.listen(twoOf(burst.place));
    const token = held(burst.place, 'token');
    for (let number = 0; number < burst.size; number += 1) burst.send(0, burst.of(`${number}`, { at: 0 }));
    await until(() => token.waiting() === burst.size, 'the first listener asks');
    burst.sendAll((_worker, number) => burst.of(`${number}`));
    await burst.waits(burst.size);
    token.release();
    await burst.ends({ 200: burst.size }, { beside: { 200: burst.size } });
  },

  async 'wait for two providers, which fail at once'(burst) {
    const { keys, token, each, beside } = await waitForTwoProviders(burst, { failure: answers(500) });
    await burst.waits(burst.size);
    keys.release();
    token.release();
    await burst.ends(each, { beside, well: false });
  },

  async 'wait for two providers, which do not answer'(burst) {
    const { each, beside } = await waitForTwoProviders(burst, { timeout_seconds: burst.workers > 1 ? 3 : 2 });
    await burst.ends(each, { beside, well: false });
  },

  async 'wait for keys, and are answered by Envoy'(burst) {
    const { keys, waiting, overloaded } = await waitForFirstKeys(burst, withoutExchange(burst.place), { pathOf: nowhere });
    keys.release();
    await burst.ends({ ...fromNowhere(waiting), '503 overloaded': overloaded }, { well: false });
  },

  async 'wait for tokens, and are answered by Envoy'(burst) {
    const { token, beside } = await waitForTokensElsewhere(burst, { pathOf: nowhere });
    token.release();
    await burst.ends(fromNowhere(burst.size), { beside });
  },

  async 'wait for keys, and then ask an endpoint that is ill'(burst) {
    const cluster = 'provider-changing';
    const configuration = configurationOf(burst.place, { provider: { cluster } });
    const { keys, waiting, overloaded } = await waitForFirstKeys(burst, configuration);
    burst.scene.provider.setHealthy(false);
    try {
      await burst.scene.hasHealthy(cluster, 0);
      keys.release();
      await burst.ends({ '503 provider_unavailable': waiting, '503 overloaded': overloaded }, { well: false });
    } finally {
      burst.scene.provider.setHealthy(true);
      await burst.scene.hasHealthy(cluster, 1);
    }
  },

  async 'wait for keys, and then ask an endpoint that is gone'(burst) {
    const configuration = configurationOf(burst.place, { provider: { cluster: 'provider-refusing' } });
    const { keys, waiting, overloaded } = await waitForFirstKeys(burst, configuration);
    burst.scene.provider.refuse();
    try {
      keys.release();
      await burst.ends({ '503 provider_unavailable': waiting, '503 overloaded': overloaded }, { well: false });
    } finally {
      await burst.scene.provider.again();
    }
  },

  async 'wait for keys, and then ask more than Envoy lets out'(burst) {
    const token = held(burst.place, 'token');
    const configuration = configurationOf(burst.place, { provider: { cluster: 'provider-few-calls' } });
    const { keys, waiting, overloaded } = await waitForFirstKeys(burst, configuration);
    keys.release();
    // The first requests take the places until the others are answered. Envoy can let out some more, because it compares a count
    // with the limit and adds to the count in a second step, in each worker.
    const out = await burst.waitsOnlyFor(token);
    assert.ok(out < MOST_CALLS + burst.workers, `${out} token requests are out`);
    token.release();
    const beside = { 200: out, '503 provider_unavailable': -out };
    await burst.ends({ '503 provider_unavailable': waiting, '503 overloaded': overloaded }, { beside, well: false });
  },

  async 'wait, and their clients leave'(burst) {
    await burst.listen([configurationOf(burst.place)]);
    const keys = held(burst.place, 'keys');
    const token = held(burst.place, 'token');
    burst.sendAll((worker, number) => (number % 2 ? burst.forged(number) : burst.of(burst.user(worker, number))));
    await burst.waits(burst.size);
    burst.leave();
    await burst.waits(0);
    // The next requests get their places.
    await burst.connect();
    for (let worker = 0; worker < burst.workers; worker += 1) burst.send(worker, burst.of(burst.user(worker, 'next')));
    await burst.waits(1);
    keys.release();
    token.release();
    await burst.ends({ 'no answer: left': burst.size, 200: 1 });
  },

  async 'wait, and a fifth of their clients leave'(burst) {
    await burst.listen([configurationOf(burst.place)]);
    const token = held(burst.place, 'token');
    const leaving = new AbortController();
    burst.sendAll((worker, number) => burst.of(burst.user(worker, number), number % 5 === 0 && { signal: leaving.signal }));
    await burst.waits(burst.size);
    leaving.abort();
    const gone = Math.ceil(burst.size / 5);
    await burst.waits(burst.size - gone);
    token.release();
    await burst.ends({ 200: burst.size - gone, 'no answer: left': gone });
  },

  async 'wait for all of that together'(burst) {
    await burst.listen(twoOf(burst.place));
    const keys = held(burst.place, 'keys');
    const token = held(burst.place, 'token');
    burst.send(0, burst.of('somebody', { at: 0 }));
    await until(() => token.waiting() === 1, 'the first listener asks');
    const leaving = new AbortController();
    // The kinds take turns, and half of the requests wait for keys.
    const turns = [
      () => burst.of('somebody'),
      (worker) => burst.of(burst.user(worker, 'all')),
      (worker, number) => burst.of(burst.user(worker, number), { path: '/mcp/empty' }),
      (worker, number) => burst.of(burst.user(worker, number), { signal: leaving.signal }),
    ];
    const { length } = turns;
    burst.sendAll((worker, number) => (number % 2 ? turns[((number - 1) / 2) % length](worker, number) : burst.forged(number)));
    await burst.waits(burst.size);
    leaving.abort();
    keys.release();
    token.release();
    const half = Math.floor(burst.size / 2);
    const of = (...those) => those.reduce((sum, turn) => sum + Math.ceil((half - turn) / length), 0);
    const each = { '401 unknown_key': burst.size - half, 200: of(0, 1), 503: of(2), 'no answer: left': of(3) };
    await burst.ends(each, { beside: { 200: 1 } });
  },
};

const results = fileURLToPath(new URL('../../target/bench', import.meta.url));
let reloads = 0;
let ways = 0;

for (const [name, { protocol, ...options }] of Object.entries(SCENES)) {
  describe(name, () => {
    let scene;
    before(async () => {
      scene = await startCrowdScene(options);
    });
    after(async () => {
      const counters = (await scene?.envoy.stats('vm_reload')) ?? {};
      reloads += Object.values(counters).reduce((sum, value) => sum + value, 0);
      await scene?.stop();
    });
    for (const [way, run] of Object.entries(WAYS)) {
      for (const size of SIZES) {
        it(`${size} requests ${way}`, { timeout: 120_000 }, async () => {
          ways += 1;
          await run(new Burst(scene, protocol, size));
        });
      }
    }
  });
}

// `make bench` reads this figure.
after(() => {
  mkdirSync(results, { recursive: true });
  const module_sha256 = createHash('sha256').update(readFileSync(MODULE)).digest('hex');
  writeFileSync(`${results}/waiting.json`, `${JSON.stringify({ module_sha256, reloads, ways }, undefined, 2)}\n`);
});
