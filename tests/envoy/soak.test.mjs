// Short form of `make soak`: no user gets the token of another one, and the providers get one exchange for each, and more only
// after a failure.

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

it(`no request gets a token of another user (SOAK_SEED=${SEED})`, async () => {
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

it('each token was exchanged once, and again only after a failure', () => {
  const { pairs, issued, failed, undue, missing } = exchangesOf(scene);
  assert.deepEqual({ issued, undue, missing }, { issued: pairs, undue: 0, missing: 0 });
  assert.ok(failed > 0, 'nothing failed');
});

it('the module never trapped, and no secret is visible', () => assertSoundAndSilent(scene.gateway));
