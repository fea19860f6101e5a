// Two servers behind one gateway: a token for one server is not accepted at the other.

import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { assertRefused, assertSoundAndSilent } from './parts/expect.mjs';
import { MCP_HOST, startGateway, startParts, validateRecipe } from './parts/gateway.mjs';
import { signIn } from './parts/login.mjs';

const A = `https://${MCP_HOST}/a`;
const B = `https://${MCP_HOST}/b`;
const PATHS = { [A]: '/a', [B]: '/b' };

/** Two resources for users of Okta; `lists` are their `audiences`, and `common` those of the provider. */
const two = (lists, common) => (filter) => {
  const [{ exchange }] = filter.resources;
  const { okta } = filter.identity_providers;
  filter.identity_providers = { okta };
  if (common) okta.audiences = common;
  else delete okta.audiences;
  filter.resources = [A, B].map((url) => ({
    url,
    scopes: ['mcp:read'],
    ...(lists[url] && { audiences: lists[url] }),
    exchange: { okta: structuredClone(exchange.okta) },
  }));
};

let parts;
let number = 0;
before(async () => {
  parts = await startParts();
});
after(() => parts?.stop());

/** Lets Okta sign a token for these audiences, for a new user. */
async function tokenFor(aud) {
  number += 1;
  const { accessToken } = await signIn(parts.okta, `user${number}@acme.example`);
  const [, claims] = accessToken.split('.');
  return parts.okta.signIn.sign({ ...JSON.parse(Buffer.from(claims, 'base64url')), aud }, {});
}

/** Asserts the complete refusal: answer, counter, and no request to the upstream. */
const refusedAt = (gateway, url, token) =>
  assertRefused(
    gateway,
    {
      reason: 'wrong_audience',
      status: 401,
      error: 'invalid_token',
      challenge: 'error',
      metadata: `https://${MCP_HOST}/.well-known/oauth-protected-resource${PATHS[url]}`,
    },
    () => gateway.call(token, {}, { path: PATHS[url] }),
  );

/** Sends requests at once, so that each worker gets some of them. */
const reasonsAt = async (gateway, url, token) => {
  const calls = Array.from({ length: 16 }, () => gateway.call(token, {}, { path: PATHS[url] }));
  return [...new Set((await Promise.all(calls)).map((answer) => (answer.status === 200 ? '200' : `${answer.status} ${answer.json.reason}`)))];
};

const exchanges = () => parts.okta.forMcp.exchanges.length;

for (const concurrency of [1, 4]) {
  describe(`audiences of each resource, concurrency ${concurrency}`, () => {
    let gateway;
    before(async () => {
      gateway = await startGateway(parts, { concurrency, change: two({ [A]: [A], [B]: [B] }) });
    });
    after(() => gateway?.stop());

    it('a token for another resource gets the metadata of this one', async () => {
      await refusedAt(gateway, A, await tokenFor(B));
      await refusedAt(gateway, B, await tokenFor([A, 'x']));
    });

    it('a token for one resource gets 401 at the other, in any order', async () => {
      for (const [own, other] of [[A, B], [B, A]]) {
        for (const first of [own, other]) {
          const token = await tokenFor(own);
          const before = exchanges();
          const arrived = parts.mcp.requests.length;
          if (first === other) {
            assert.deepEqual(await reasonsAt(gateway, other, token), ['401 wrong_audience']);
            assert.equal(exchanges(), before, 'the provider was asked for it');
            assert.equal(parts.mcp.requests.length, arrived);
          }
          assert.deepEqual(await reasonsAt(gateway, own, token), ['200']);
          // Now every worker has verified it, with its audience.
          assert.deepEqual(await reasonsAt(gateway, other, token), ['401 wrong_audience']);
          assert.equal(exchanges(), before + 1);
          assert.ok(parts.mcp.requests.slice(arrived).every(({ path }) => path.startsWith(PATHS[own])));
        }
      }
    });

    it('a token for both resources is accepted at both, for neither at none', async () => {
      const both = await tokenFor([A, B]);
      for (const path of ['/a', '/b', '/a']) assert.equal((await gateway.call(both, {}, { path })).status, 200);
      const neither = await tokenFor('api://default');
      for (const url of [A, B]) assert.deepEqual(await reasonsAt(gateway, url, neither), ['401 wrong_audience']);
    });

    it('the log has no warning, no trap and no secret', async () => {
      assert.ok(!gateway.envoy.log.includes('so a token for one of them'), gateway.envoy.log);
      await assertSoundAndSilent(gateway);
    });
  });
}

describe('one list for both', () => {
  it('a shared list accepts tokens of the other resource, with a warning', async (t) => {
    const gateway = await startGateway(parts, { change: two({}, ['api://default']) });
    t.after(() => gateway.stop());
    const token = await tokenFor('api://default');
    for (const path of ['/a', '/b']) assert.equal((await gateway.call(token, {}, { path })).status, 200);
    assert.match(
      gateway.envoy.log,
      new RegExp(`warning: identity_providers\\.okta\\.audiences: "api://default" is accepted at 2 resources, so .*: ${A}, ${B};`),
    );
  });

  it('a missing list of one resource is a configuration error', async () => {
    const { ok, output } = await validateRecipe(parts, two({ [A]: [A] }));
    assert.ok(!ok, output);
    assert.match(output, /identity_providers\.okta\.audiences: found none, expected .*missing in resources\[1\]/);
  });
});
