// Restarts of Envoy and updates of a listener: tokens that are exchanged again, and tokens that stay.

import assert from 'node:assert/strict';
import { renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, it } from 'node:test';
import { assertSoundAndSilent } from './parts/expect.mjs';
import { scratchFolder } from './parts/envoy.mjs';
import { startGateway, startParts } from './parts/gateway.mjs';
import { until } from './parts/until.mjs';

let parts;
before(async () => (parts = await startParts()));
after(() => parts?.stop());

/** Number of exchanges and of fetches of keys that `act` causes at both providers. */
async function costOf(act) {
  const count = () => {
    const servers = [parts.entra, parts.okta];
    const fetches = servers.reduce((sum, { signIn }) => sum + signIn.counts.keys, 0);
    return [servers.reduce((sum, { forMcp }) => sum + forMcp.exchanges.length, 0), fetches];
  };
  const earlier = count();
  await act();
  return count().map((now, index) => now - earlier[index]);
}

/** Sends some requests of each user; Envoy assigns each connection to one of its workers. */
async function callMuch(gateway, tokens, calls = 40) {
  for (let call = 0; call < calls; call += 1) {
    for (const token of tokens) assert.equal((await gateway.call(token)).status, 200, `call ${call}`);
  }
}

it('a restart costs one exchange for each user at four workers', async () => {
  const tokens = (await Promise.all([parts.alice(), parts.bob()])).map(({ accessToken }) => accessToken);
  for (let start = 0; start < 2; start += 1) {
    const gateway = await startGateway(parts, { concurrency: 4 });
    try {
      const [exchanges] = await costOf(() => callMuch(gateway, tokens));
      assert.equal(exchanges, 2);
      await assertSoundAndSilent(gateway);
    } finally {
      await gateway.stop();
    }
  }
});

it('an updated listener keeps keys and tokens at four workers', async () => {
  const tokens = (await Promise.all([parts.alice(), parts.bob()])).map(({ accessToken }) => accessToken);
  const folder = scratchFolder();
  const file = join(folder, 'lds.json');
  let listener;
  const push = (version) => {
    const resource = { '@type': 'type.googleapis.com/envoy.config.listener.v3.Listener', ...listener };
    writeFileSync(`${file}.new`, JSON.stringify({ version_info: version, resources: [resource] }));
    // Envoy watches for a file that is moved into place.
    renameSync(`${file}.new`, file);
  };
  let filter;
  const gateway = await startGateway(parts, {
    concurrency: 4,
    change: (configuration, bootstrap) => {
      filter = configuration;
      [listener] = bootstrap.static_resources.listeners;
      push('1');
      delete bootstrap.static_resources.listeners;
      bootstrap.node ??= { id: 'test', cluster: 'test' };
      bootstrap.dynamic_resources = { lds_config: { path_config_source: { path: file }, resource_api_version: 'V3' } };
    },
  });
  try {
    const [exchanges] = await costOf(() => callMuch(gateway, tokens));
    assert.equal(exchanges, 2);
    const configured = () => gateway.envoy.log.split(' is configured: ').length;
    const earlier = configured();
    // Other options than before, with the same secrets and targets.
    filter.max_wait_seconds = 20;
    filter.unauthenticated_paths = ['/healthz'];
    push('2');
    // Four workers and the main thread.
    await until(() => configured() >= earlier + 5, 'the next configuration is loaded');
    await until(async () => (await gateway.send({ path: '/healthz' })).text === 'ok\n', 'its unauthenticated path is served');
    const cost = await costOf(() => callMuch(gateway, tokens));
    assert.deepEqual(cost, [0, 0], 'exchanges and fetches of keys');
    await assertSoundAndSilent(gateway);
  } finally {
    await gateway.stop();
  }
});
