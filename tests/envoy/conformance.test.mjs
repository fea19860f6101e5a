// MCP conformance: the released server suite has the same result through Envoy with the filter as at the MCP server itself.

import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { startConformanceServer } from './parts/conformance-server.mjs';
import { countOf, linesOf, RELEASED, startTokenAdder } from './parts/conformance-suite.mjs';
import { RESOURCE, startGateway, startParts } from './parts/gateway.mjs';
import { putBehind } from './parts/recorder.mjs';

let parts;
let direct;

before(async () => {
  parts = await startParts();
  const server = await startConformanceServer();
  try {
    direct = await RELEASED.run(server.url);
  } finally {
    await server.stop();
  }
});
after(() => parts?.stop());

describe('the server suite of @modelcontextprotocol/conformance 0.1.16', () => {
  it('the MCP server passes every check of every scenario', async () => {
    assert.deepEqual(Object.keys(direct), await RELEASED.scenarios());
    assert.deepEqual(linesOf(direct).filter((line) => !/ (SUCCESS|INFO)$/.test(line)), []);
    assert.deepEqual(countOf(direct), { SUCCESS: 47, INFO: 7 });
  });

  for (const [name, user, audience] of [
    ['entra', 'alice', ({ entra }) => entra.ids.mcpServer],
    ['okta', 'bob', () => RESOURCE],
  ]) {
    it(`${name}: each check has the same result through the filter`, async (t) => {
      const issuer = parts[name].forMcp;
      const { length } = issuer.exchanges;
      const server = await startConformanceServer({
        accepts: async (token) => assert.equal((await issuer.verify(token)).aud, audience(parts)),
      });
      t.after(() => server.stop());
      const gateway = await startGateway(parts, { change: (_filter, bootstrap) => putBehind(bootstrap, server) });
      t.after(() => gateway.stop());
      const { accessToken } = await parts[user]();
      const adder = await startTokenAdder(gateway, accessToken);
      t.after(() => adder.stop());

      const through = await RELEASED.run(adder.url);
      assert.deepEqual(linesOf(through), linesOf(direct));
      assert.equal(new Set(server.tokens).size, 1);
      assert.ok(!server.tokens.includes(accessToken));
      assert.equal(issuer.exchanges.length, length + 1);
      assert.deepEqual(await gateway.envoy.traps(), []);
    });
  }
});
