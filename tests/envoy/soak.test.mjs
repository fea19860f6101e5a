// The short form of `make soak`: nobody gets another user's token, and the providers are asked once for each, and again only
// where they failed.

import assert from 'node:assert/strict';
import { after, before, it } from 'node:test';
import { burstNowAndThen } from './parts/bursts.mjs';
import { assertSoundAndSilent } from './parts/expect.mjs';
import { everybodyIsServed, exchangesOf, load, randomNumbers, startScene, trouble } from './parts/soak.mjs';

const WORKERS = 4;
const SEED = Number(process.env.SOAK_SEED ?? Math.floor(Math.random() * 2 ** 32));
const random = randomNumbers(SEED);
let scene;

before(async () => {
  scene = await startScene({ workers: WORKERS, users: 40, resources: 3, timeoutSeconds: 4 });
});
after(() => scene?.stop());

it(`of thousands of requests none gets another user’s token, while clients leave, providers fail and many wait (SOAK_SEED=${SEED})`, async () => {
  const repair = trouble(scene, random, { longestPause: 200 });
  const endBursts = burstNowAndThen(scene);
  const outcome = await load(scene, { count: 4000, random, leaving: 0.03 }).finally(endBursts);
  const bursts = await endBursts();
  repair();
  assert.deepEqual([...outcome.wrong, ...bursts.wrong], []);
  assert.ok(bursts.answered['401 unknown_key'] > 1000, JSON.stringify(bursts.answered));
  assert.deepEqual(scene.parts.mcp.mistaken, []);
  assert.ok(outcome.served > 3000, JSON.stringify(outcome.refused));
  assert.ok(outcome.left > 0);
  await everybodyIsServed(scene);
});

it('each user’s token was exchanged once for each resource in the whole process, and again only where the provider failed', () => {
  const { pairs, issued, failed, undue, missing } = exchangesOf(scene);
  assert.deepEqual({ issued, undue, missing }, { issued: pairs, undue: 0, missing: 0 });
  assert.ok(failed > 0, 'nothing failed');
});

it('nothing trapped and nothing secret can be seen', () => assertSoundAndSilent(scene.gateway));
