// Request bodies arrive whole at the upstream, or not at all. `make bodies` tries more kinds, and prints a table.

import assert from 'node:assert/strict';
import { after, before, it } from 'node:test';
import { everyCase, startBodies } from './parts/bodies.mjs';
import { needs } from './parts/version.mjs';

let scene;
before(async () => {
  scene = await startBodies();
});
after(() => scene?.stop());

/** Kinds with another result than `expected`. */
async function others(expected, cases) {
  const found = [];
  for (const one of cases) {
    const result = await scene.send(one);
    if (result !== expected) found.push({ ...one, result });
  }
  return found;
}

it('bodies of 1 B to 5 MB arrive whole while their request waits', async () => {
  assert.deepEqual(await others('whole', everyCase({ settings: [false] })), []);
});

const option = { skip: needs('1.39.1', 'bodies that arrive whole with allow_on_headers_stop_iteration') };
it('with allow_on_headers_stop_iteration, bodies of 64 KiB arrive whole', option, async () => {
  assert.deepEqual(await others('whole', everyCase({ settings: [true], sizes: ['1 B', '64 KiB'] })), []);
});

it('with that option, a waiting body beyond the buffer limit gets 413', async () => {
  const waiting = [...everyCase({ settings: [true], sizes: ['5 MB'] })].filter(
    ({ token, protocol }) => token !== 'cached' && protocol !== 'HTTP/2',
  );
  assert.deepEqual(await others('413', waiting), []);
});

it('the module never trapped', async () => {
  for (const gateway of scene.gateways) assert.deepEqual(await gateway.envoy.traps(), []);
});
