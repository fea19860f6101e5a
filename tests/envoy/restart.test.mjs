// What is promised of a restart, and of a listener that is pushed: whose token is exchanged again, and what stays.

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

/** How many exchanges and fetches of keys `act` costs at both providers. */
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

/** Some calls of each user; Envoy gives each connection to one of its workers. */
async function callMuch(gateway, tokens, calls = 40) {
  for (let call = 0; call < calls; call += 1) {
    for (const token of tokens) assert.equal((await gateway.call(token)).status, 200, `call ${call}`);
  }
}

it('after a restart each user is exchanged for once more, whichever of four workers is called', async () => {
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

it('a listener that is pushed takes keys and tokens over, at each of four workers', async () => {
  const tokens = (await Promise.all([parts.alice(), parts.bob()])).map(({ accessToken }) => accessToken);
  const folder = scratchFolder();
  const file = join(folder, 'lds.json');
  let listener;
  const push = (version) => {
    const resource = { '@type': 'type.googleapis.com/envoy.config.listener.v3.Listener', ...listener };
    writeFileSync(`${file}.new`, JSON.stringify({ version_info: version, resources: [resource] }));
    // Envoy looks for a file that is moved into its place.
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
    // Other options than before, and neither another secret nor another target.
    filter.max_wait_seconds = 20;
    filter.unauthenticated_paths = ['/healthz'];
    push('2');
    // A worker for each of the four, and the main thread.
    await until(() => configured() >= earlier + 5, 'the next configuration is loaded');
    await until(async () => (await gateway.send({ path: '/healthz' })).text === 'ok\n', 'its open path is open');
    const cost = await costOf(() => callMuch(gateway, tokens));
    assert.deepEqual(cost, [0, 0], 'exchanges and fetches of keys');
    await assertSoundAndSilent(gateway);
  } finally {
    await gateway.stop();
  }
});
