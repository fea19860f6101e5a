// MCP conformance: the released server suite has the same result through Envoy with the filter as at the MCP server itself.

import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { directly, failedIn, isDocumented, linesOf, RELEASED, throughFilter } from './parts/conformance-suite.mjs';
import { RESOURCE, startParts } from './parts/gateway.mjs';

let parts;
let direct;

before(async () => {
  parts = await startParts();
  direct = await directly((url) => RELEASED.run(url));
});
after(() => parts?.stop());

describe('the server suite of @modelcontextprotocol/conformance 0.1.16', () => {
  it('the MCP server passes every check of every scenario', async () => {
    assert.deepEqual(Object.keys(direct), await RELEASED.scenarios());
    assert.deepEqual(failedIn(direct), []);
    assert.ok(isDocumented('0.1.16', 'all', direct));
  });

  for (const [name, user, audience] of [
    ['entra', 'alice', ({ entra }) => entra.ids.mcpServer],
    ['okta', 'bob', () => RESOURCE],
  ]) {
    it(`${name}: each check has the same result through the filter`, async () => {
      const issuer = parts[name].forMcp;
      const { length } = issuer.exchanges;
      const { accessToken: token } = await parts[user]();
      const accepts = async (exchanged) => assert.equal((await issuer.verify(exchanged)).aud, audience(parts));

      const { server, result, traps } = await throughFilter(parts, { token, accepts }, (url) => RELEASED.run(url));
      assert.deepEqual(linesOf(result), linesOf(direct));
      assert.deepEqual(traps, []);
      assert.equal(new Set(server.tokens).size, 1);
      assert.ok(!server.tokens.includes(token));
      assert.equal(issuer.exchanges.length, length + 1);
    });
  }
});
