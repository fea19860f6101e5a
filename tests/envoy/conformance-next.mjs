// MCP conformance: a check of the next server suite, 0.2.0-alpha.12, that passes at the MCP server passes through Envoy with the
// filter. `make test-more` runs it.

import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { directly, failedIn, isDocumented, NEXT, throughFilter, worse } from './parts/conformance-suite.mjs';
import { startParts } from './parts/gateway.mjs';

/** Extension that the MCP server does not have. */
const TASKS = 'tasks-';

let parts;

before(async () => {
  parts = await startParts();
});
after(() => parts?.stop());

describe('the server suite of @modelcontextprotocol/conformance 0.2.0-alpha.12', () => {
  for (const revision of ['all', '2025-11-25', '2026-07-28']) {
    it(`${revision}: what passes at the server passes through the filter`, async () => {
      const only = revision === 'all' ? undefined : revision;
      const run = (url) => NEXT.run(url, only);
      const direct = await directly(run);
      assert.deepEqual(Object.keys(direct), await NEXT.scenarios(only));
      assert.deepEqual(failedIn(direct).filter((name) => !name.startsWith(TASKS)), []);
      assert.ok(isDocumented('0.2.0-alpha.12', revision, direct));

      const { accessToken: token } = await parts.alice();
      const { entra } = parts;
      const accepts = async (exchanged) => assert.equal((await entra.forMcp.verify(exchanged)).aud, entra.ids.mcpServer);
      const { server, result, traps } = await throughFilter(parts, { token, accepts }, run);
      assert.deepEqual(worse(direct, result), { gone: [], failing: [] });
      assert.equal(new Set(server.tokens).size, 1);
      assert.ok(!server.tokens.includes(token));
      assert.deepEqual(traps, []);
    });
  }
});
