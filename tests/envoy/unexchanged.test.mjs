// Tokens that are validated and not exchanged: removed, or forwarded if the resource is configured so.

import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { assertRefused, assertSoundAndSilent } from './parts/expect.mjs';
import { startGateway, startParts } from './parts/gateway.mjs';
import { startMcpServer } from './parts/mcp-server.mjs';

let parts;
let bob;
before(async () => {
  parts = await startParts();
  // This server accepts the tokens of the callers.
  const { host, signIn } = parts.okta;
  const { url, headers } = host.reach(signIn.urls.keys);
  await parts.mcp.stop();
  parts.mcp = await startMcpServer([{ issuer: signIn.issuer, audience: 'api://default', jwksUri: url, headers }]);
  bob = await parts.bob();
});
after(() => parts?.stop());

/** Starts a gateway that does not exchange the tokens of Okta. */
const unexchanged = (exchange) =>
  startGateway(parts, {
    change: ({ identity_providers: { okta }, resources }) => {
      okta.profile = 'validate_only';
      delete okta.client;
      delete okta.token_endpoint;
      resources[0].exchange.okta = exchange;
    },
  });

for (const [how, exchange] of Object.entries({ removed: {}, forwarded: { forward: true } })) {
  describe(how, () => {
    let gateway;
    before(async () => {
      gateway = await unexchanged(exchange);
    });
    after(() => gateway?.stop());

    it('the upstream gets the token only if the resource forwards it', async () => {
      const answer = await gateway.call(bob.accessToken, { dpop: 'x', 'x-onbehalf-user': 'mallory' });
      const arrived = parts.mcp.requests.at(-1);
      assert.ok(!arrived.headerNames.includes('dpop') && !arrived.headerNames.includes('x-onbehalf-user'));
      assert.equal(arrived.headerNames.includes('authorization'), how === 'forwarded');
      // The server refuses a request without a token.
      assert.equal(answer.status, how === 'forwarded' ? 200 : 401, answer.text);
      // The client must not get the challenge of the server.
      assert.equal(answer.headers['www-authenticate'], undefined);
      if (how === 'forwarded') {
        const seen = await gateway.whoami(bob.accessToken);
        assert.equal(seen.issuer, parts.okta.signIn.issuer);
        assert.equal(seen.subject, 'bob@acme.example');
      }
      assert.equal(parts.okta.forMcp.exchanges.length, 0);
    });

    it('the log names the caller', () => {
      const line = /event=forwarded resource=\S+ provider=okta issuer=\S+ subject=bob@acme\.example /;
      assert.match(gateway.envoy.log, line);
    });

    it('the log warns only if a token is forwarded', () => {
      const warning = /resources\[0\]\.exchange\.okta\.forward: the callers' own tokens reach the upstream/;
      assert.equal(warning.test(gateway.envoy.log), how === 'forwarded');
    });

    it('a token that is not valid gets 401', async () => {
      const scope = 'mcp:read';
      await assertRefused(
        gateway,
        { reason: 'wrong_audience', status: 401, error: 'invalid_token', challenge: 'error', scope },
        async () => gateway.call(await parts.okta.signIn.sign({ ...claims(), aud: 'api://other' })),
      );
      await assertRefused(
        gateway,
        { reason: 'sender_constrained_token', status: 401, error: 'invalid_token', challenge: 'error', scope },
        async () => gateway.call(await parts.okta.signIn.sign({ ...claims(), cnf: { jkt: 'x' } })),
      );
    });

    it('tokens of the other provider are exchanged', async () => {
      const alice = await parts.alice();
      const before = parts.entra.forMcp.exchanges.length;
      await gateway.call(alice.accessToken);
      assert.equal(parts.entra.forMcp.exchanges.length, before + 1);
    });

    it('the module never trapped, and no secret is visible', () => assertSoundAndSilent(gateway));
  });
}

function claims() {
  const now = Math.floor(Date.now() / 1000);
  const { issuer } = parts.okta.signIn;
  return { iss: issuer, aud: 'api://default', sub: 'bob', cid: 'c', scp: ['mcp:read'], iat: now, exp: now + 600 };
}
