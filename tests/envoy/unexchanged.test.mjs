// Tokens that are validated and not exchanged: removed, or forwarded where a resource says so.

import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { assertRefused, assertSoundAndSilent } from './parts/expect.mjs';
import { startGateway, startParts } from './parts/gateway.mjs';
import { startMcpServer } from './parts/mcp-server.mjs';

let parts;
let bob;
before(async () => {
  parts = await startParts();
  // The server behind here takes what users come with.
  const { host, signIn } = parts.okta;
  const { url, headers } = host.reach(signIn.urls.keys);
  await parts.mcp.stop();
  parts.mcp = await startMcpServer([{ issuer: signIn.issuer, audience: 'api://default', jwksUri: url, headers }]);
  bob = await parts.bob();
});
after(() => parts?.stop());

/** The second recipe's users of Okta, of whom nothing is exchanged. */
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

    it('what the upstream gets is what the operator wants', async () => {
      const answer = await gateway.call(bob.accessToken, { dpop: 'x', 'x-onbehalf-user': 'mallory' });
      const arrived = parts.mcp.requests.at(-1);
      assert.ok(!arrived.headerNames.includes('dpop') && !arrived.headerNames.includes('x-onbehalf-user'));
      assert.equal(arrived.headerNames.includes('authorization'), how === 'forwarded');
      // A server that wants a token refuses the request by itself.
      assert.equal(answer.status, how === 'forwarded' ? 200 : 401, answer.text);
      // What it wants then is nothing that the client should follow.
      assert.equal(answer.headers['www-authenticate'], undefined);
      if (how === 'forwarded') {
        const seen = await gateway.whoami(bob.accessToken);
        assert.equal(seen.issuer, parts.okta.signIn.issuer);
        assert.equal(seen.subject, 'bob@acme.example');
      }
      assert.equal(parts.okta.forMcp.exchanges.length, 0);
    });

    it('whose token goes on or stays here is in the log', () => {
      const line = /event=forwarded resource=\S+ provider=okta issuer=\S+ subject=bob@acme\.example /;
      assert.match(gateway.envoy.log, line);
    });

    it('the log warns where a token goes on, and only there', () => {
      const warning = /resources\[0\]\.exchange\.okta\.forward: the callers' own tokens reach the upstream/;
      assert.equal(warning.test(gateway.envoy.log), how === 'forwarded');
    });

    it('a token that is not valid gets no further than here', async () => {
      const scope = 'mcp:read';
      await assertRefused(
        gateway,
        { reason: 'wrong_audience', status: 401, error: 'invalid_token', challenge: 'error', scope },
        async () => gateway.call(await parts.okta.signIn.sign({ ...claims(), aud: 'api://other' })),
      );
      await assertRefused(
        gateway,
        { reason: 'bound_token', status: 401, error: 'invalid_token', challenge: 'error', scope },
        async () => gateway.call(await parts.okta.signIn.sign({ ...claims(), cnf: { jkt: 'x' } })),
      );
    });

    it('users of the other provider are exchanged for as before', async () => {
      const alice = await parts.alice();
      const before = parts.entra.forMcp.exchanges.length;
      await gateway.call(alice.accessToken);
      assert.equal(parts.entra.forMcp.exchanges.length, before + 1);
    });

    it('nothing trapped and nothing secret can be seen', () => assertSoundAndSilent(gateway));
  });
}

function claims() {
  const now = Math.floor(Date.now() / 1000);
  const { issuer } = parts.okta.signIn;
  return { iss: issuer, aud: 'api://default', sub: 'bob', cid: 'c', scp: ['mcp:read'], iat: now, exp: now + 600 };
}
