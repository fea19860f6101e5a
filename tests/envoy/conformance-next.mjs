// MCP conformance: a check of the next server suite, 0.2.0-alpha.12, that passes at the MCP server passes through Envoy with the
// filter. `make test-more` runs it.

import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { countOf, directly, NEXT, throughFilter, worse } from './parts/conformance-suite.mjs';
import { startParts } from './parts/gateway.mjs';

/** Revisions in which scenarios run, with the checks that the MCP server passes; without one, all run, each in its own. */
const RUNS = [
  [undefined, { passed: 202, failed: 30 }],
  ['2025-11-25', { passed: 84, failed: 0 }],
  ['2026-07-28', { passed: 152, failed: 0 }],
];

let parts;

before(async () => {
  parts = await startParts();
});
after(() => parts?.stop());

describe('the server suite of @modelcontextprotocol/conformance 0.2.0-alpha.12', () => {
  for (const [revision, expected] of RUNS) {
    it(`${revision ?? 'all revisions'}: what passes at the server passes through the filter`, async () => {
      const run = (url) => NEXT.run(url, revision);
      const direct = await directly(run);
      assert.deepEqual(Object.keys(direct), await NEXT.scenarios(revision));
      const count = countOf(direct);
      assert.deepEqual({ passed: count.SUCCESS, failed: (count.FAILURE ?? 0) + (count.WARNING ?? 0) }, expected);

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
