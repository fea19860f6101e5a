// However many requests wait, and whatever lets them go: the VM does not trap, each of them has its answer, and everybody else
// is served meanwhile. To answer a request runs filters, ours among them, before the answer is out: some three hundred of that
// within one another are more than V8's stack holds.

import { createHash } from 'node:crypto';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { Burst } from './parts/crowd-burst.mjs';
import { configurationOf, startCrowdScene } from './parts/crowd.mjs';
import { PROVIDERS } from './parts/crowd-provider.mjs';
import { MODULE } from './parts/envoy.mjs';
import { answers, gate } from './parts/faults.mjs';
import { until } from './parts/until.mjs';

/** Of each worker. One request less than V8's stack held, one more, and the engine's own bounds. */
const SIZES = [300, 305, 512, 1024];
/** The engine's bounds, of each worker: how many wait for keys, and for the same token. */
const FOR_KEYS = 512;
const FOR_A_TOKEN = 256;

const SCENES = {
  'one worker, over HTTP/1.1': { workers: 1, protocol: 'HTTP/1.1' },
  'one worker with other filters behind, over HTTP/2': { workers: 1, hasNeighbours: true, protocol: 'HTTP/2' },
  'four workers with other filters behind, over HTTP/2': { workers: 4, hasNeighbours: true, protocol: 'HTTP/2' },
};

/** The real answer when the test says so, or a failure in its place. */
function held(place, endpoint, failure) {
  const hold = gate();
  const behave = (exchange) => hold.behave(failure ? { ...exchange, real: () => failure(exchange) } : exchange);
  place.fail(endpoint, behave);
  return hold;
}

/** How many of a crowd wait for keys, and how many are too many. */
const forKeys = ({ size }) => ({ waiting: Math.min(size, FOR_KEYS), overloaded: Math.max(size - FOR_KEYS, 0) });

/** The same configuration for two listeners, each of which takes the other for another worker. */
const twoOf = (place, changes) => [100, 101].map((longest_wait_seconds) => configurationOf(place, { longest_wait_seconds, ...changes }));

/** Paths whose requests Envoy answers itself as soon as they go on: no endpoint, none that is well, no cluster at all. */
const NOWHERE = ['/mcp/empty', '/mcp/unhealthy', '/mcp/direct'];
const fromNowhere = (count) => ({ 503: Math.ceil((count * 2) / 3), 418: Math.floor(count / 3) });

/** By turns, what nobody has a key for and a token of somebody’s, of both providers. */
const thingsOf = (burst) =>
  PROVIDERS.flatMap((provider) => [burst.forged(0, { provider }), burst.of('somebody', { provider })]);

const WAYS = {
  async 'wait for keys whose fetch fails'(burst) {
    const { waiting, overloaded } = forKeys(burst);
    const keys = held(burst.place, 'keys', answers(500));
    await burst.listen([configurationOf(burst.place)], { known: [] });
    burst.sendAll((worker, number) => burst.of(burst.user(worker, number)));
    await burst.waits(waiting);
    keys.release();
    await burst.ends({ '503 keys_unavailable': waiting, '503 overloaded': overloaded }, { well: false });
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
    const { waiting, overloaded } = forKeys(burst);
    const keys = held(burst.place, 'keys');
    const token = held(burst.place, 'token');
    await burst.listen([configurationOf(burst.place)], { known: [] });
    burst.sendAll((worker, number) => burst.of(burst.user(worker, number)));
    await burst.waits(waiting);
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
    await burst.listen([configurationOf(burst.place, { longest_wait_seconds: burst.workers > 1 ? 3 : 2 })]);
    const token = held(burst.place, 'token');
    burst.sendAll((worker, number) => burst.of(burst.user(worker, number)));
    await burst.waits(burst.size);
    await burst.waits(0);
    token.release();
    await burst.ends({ '503 provider_unavailable': burst.size });
  },

  async 'wait for what another worker asks for'(burst) {
    await burst.listen(twoOf(burst.place));
    const token = held(burst.place, 'token');
    const users = ['a', 'b', 'c', 'd'];
    for (const user of users) burst.send(0, burst.of(user, { at: 0 }));
    await until(() => token.waiting() === users.length, 'the first listener asks');
    burst.sendAll((_worker, number) => burst.of(users[number % users.length]));
    await burst.waits(burst.size);
    token.release();
    await burst.ends({ 200: burst.size }, { beside: { 200: users.length } });
  },

  async 'wait for many things that another worker asks for'(burst) {
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
    await burst.listen(twoOf(burst.place, { providers: PROVIDERS }), { known: PROVIDERS });
    const keys = held(burst.place, 'keys', answers(500));
    const token = held(burst.place, 'token', answers(500));
    const things = thingsOf(burst);
    for (const thing of things) burst.send(0, { ...thing, at: 0 });
    await until(() => keys.waiting() + token.waiting() === things.length, 'the first listener asks');
    burst.sendAll((_worker, number) => things[number % things.length]);
    await burst.waits(burst.size);
    keys.release();
    token.release();
    await burst.ends(...halfOfEach(burst, things));
  },

  async 'wait for two providers, which do not answer'(burst) {
    const timeout_seconds = burst.workers > 1 ? 3 : 2;
    await burst.listen(twoOf(burst.place, { providers: PROVIDERS, provider: { timeout_seconds } }), { known: PROVIDERS });
    const keys = held(burst.place, 'keys');
    const token = held(burst.place, 'token');
    const things = thingsOf(burst);
    for (const thing of things) burst.send(0, { ...thing, at: 0 });
    await until(() => keys.waiting() + token.waiting() === things.length, 'the first listener asks');
    burst.sendAll((_worker, number) => things[number % things.length]);
    await burst.waits(burst.size);
    await burst.ends(...halfOfEach(burst, things));
  },

  async 'wait for keys, and are answered by Envoy'(burst) {
    const { waiting, overloaded } = forKeys(burst);
    const keys = held(burst.place, 'keys');
    await burst.listen([withoutExchange(burst.place)], { known: [] });
    burst.sendAll((worker, number) => burst.of(burst.user(worker, number), { path: NOWHERE[number % NOWHERE.length] }));
    await burst.waits(waiting);
    keys.release();
    await burst.ends({ ...fromNowhere(waiting), '503 overloaded': overloaded }, { well: false });
  },

  async 'wait for tokens, and are answered by Envoy'(burst) {
    await burst.listen(twoOf(burst.place));
    const token = held(burst.place, 'token');
    const users = ['a', 'b', 'c', 'd'];
    for (const user of users) burst.send(0, burst.of(user, { at: 0 }));
    await until(() => token.waiting() === users.length, 'the first listener asks');
    burst.sendAll((_worker, number) => burst.of(users[number % users.length], { path: NOWHERE[number % NOWHERE.length] }));
    await burst.waits(burst.size);
    token.release();
    await burst.ends(fromNowhere(burst.size), { beside: { 200: users.length } });
  },

  async 'wait for keys, and then ask an endpoint that is ill'(burst) {
    const { waiting, overloaded } = forKeys(burst);
    const keys = held(burst.place, 'keys');
    await burst.listen([configurationOf(burst.place, { provider: { cluster: 'provider-changing' } })], { known: [] });
    burst.sendAll((worker, number) => burst.of(burst.user(worker, number)));
    await burst.waits(waiting);
    burst.scene.provider.setHealthy(false);
    try {
      await burst.scene.hasHealthy('provider-changing', 0);
      keys.release();
      await burst.ends({ '503 provider_unavailable': waiting, '503 overloaded': overloaded }, { well: false });
    } finally {
      burst.scene.provider.setHealthy(true);
      await burst.scene.hasHealthy('provider-changing', 1);
    }
  },

  async 'wait for keys, and then ask an endpoint that is gone'(burst) {
    const { waiting, overloaded } = forKeys(burst);
    const keys = held(burst.place, 'keys');
    await burst.listen([configurationOf(burst.place, { provider: { cluster: 'provider-refusing' } })], { known: [] });
    burst.sendAll((worker, number) => burst.of(burst.user(worker, number)));
    await burst.waits(waiting);
    burst.scene.provider.refuse();
    try {
      keys.release();
      await burst.ends({ '503 provider_unavailable': waiting, '503 overloaded': overloaded }, { well: false });
    } finally {
      await burst.scene.provider.again();
    }
  },

  async 'wait for keys, and then ask more than Envoy lets out'(burst) {
    const { waiting, overloaded } = forKeys(burst);
    const keys = held(burst.place, 'keys');
    const token = held(burst.place, 'token');
    await burst.listen([configurationOf(burst.place, { provider: { cluster: 'provider-one-call' } })], { known: [] });
    burst.sendAll((worker, number) => burst.of(burst.user(worker, number)));
    await burst.waits(waiting);
    keys.release();
    // One of all, who takes the place until the others have been told.
    await burst.waits(1 / burst.workers);
    token.release();
    const one = { 200: 1, '503 provider_unavailable': -1 };
    await burst.ends({ '503 provider_unavailable': waiting, '503 overloaded': overloaded }, { beside: one, well: false });
  },

  async 'wait, and their clients leave'(burst) {
    await burst.listen([configurationOf(burst.place)]);
    const keys = held(burst.place, 'keys');
    const token = held(burst.place, 'token');
    burst.sendAll((worker, number) => (number % 2 ? burst.forged(number) : burst.of(burst.user(worker, number))));
    await burst.waits(burst.size);
    burst.leave();
    await burst.waits(0);
    keys.release();
    token.release();
    await burst.ends({ 'no answer: left': burst.size });
  },

  async 'wait, and a third of their clients leave'(burst) {
    await burst.listen([configurationOf(burst.place)]);
    const token = held(burst.place, 'token');
    const leaving = new AbortController();
    burst.sendAll((worker, number) => burst.of(burst.user(worker, number), number % 3 === 0 && { signal: leaving.signal }));
    await burst.waits(burst.size);
    leaving.abort();
    const gone = Math.ceil(burst.size / 3);
    await burst.waits(burst.size - gone);
    token.release();
    await burst.ends({ 200: burst.size - gone, 'no answer: left': gone });
  },

  async 'wait for all of that together'(burst) {
    await burst.listen(twoOf(burst.place, { providers: PROVIDERS }), { known: PROVIDERS });
    const keys = held(burst.place, 'keys');
    const token = held(burst.place, 'token');
    const elsewhere = burst.of('somebody', { provider: 'two' });
    burst.send(0, { ...elsewhere, at: 0 });
    await until(() => token.waiting() === 1, 'the first listener asks');
    const leaving = new AbortController();
    const turns = [
      (_worker, number) => burst.forged(number),
      () => elsewhere,
      (worker) => burst.of(burst.user(worker, 'all')),
      (worker, number) => burst.of(burst.user(worker, number), { path: '/mcp/empty' }),
      (_worker, number) => burst.forged(number, { provider: 'two' }),
      () => elsewhere,
      (worker) => burst.of(burst.user(worker, 'all')),
      (worker, number) => burst.of(burst.user(worker, number), { signal: leaving.signal }),
    ];
    burst.sendAll((worker, number) => turns[number % turns.length](worker, number));
    await burst.waits(burst.size);
    leaving.abort();
    keys.release();
    token.release();
    const of = (...those) => those.reduce((sum, turn) => sum + Math.ceil((burst.size - turn) / turns.length), 0);
    const each = { '401 unknown_key': of(0, 4), 200: of(1, 2, 5, 6), 503: of(3), 'no answer: left': of(7) };
    await burst.ends(each, { beside: { 200: 1 } });
  },
};

/** Of a crowd half are told that there is no such key, and half that there is no such service. */
const halfOfEach = ({ size }, { length }) => {
  const half = (count) => ({ '401 unknown_key': Math.ceil(count / 2), '503 provider_unavailable': Math.floor(count / 2) });
  return [half(size), { beside: half(length), well: false }];
};

/** A provider whose tokens are exchanged for nothing. */
const withoutExchange = (place) =>
  configurationOf(place, {
    provider: { profile: 'none', token_endpoint: undefined, client: undefined },
    exchange: { token: 'removed' },
    shared_secret: { env: 'CROWD_SECRET' },
  });

let reloads = 0;
for (const [name, { protocol, ...options }] of Object.entries(SCENES)) {
  describe(name, () => {
    let scene;
    before(async () => {
      scene = await startCrowdScene(options);
    });
    after(async () => {
      if (!scene) return;
      for (const [counter, value] of Object.entries(await scene.envoy.stats('vm_reload'))) reloads += value;
      await scene.stop();
    });
    for (const [way, run] of Object.entries(WAYS)) {
      for (const size of SIZES) it(`${size} requests ${way}`, () => run(new Burst(scene, protocol, size)));
    }
  });
}
