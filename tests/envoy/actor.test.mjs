// Actor tokens (RFC 8693 sections 2.1 and 4.4), with a provider that follows the RFC.

import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { after, before, describe, it } from 'node:test';
import { decodeJwt } from 'jose';
import { assertRefused, assertSoundAndSilent } from './parts/expect.mjs';
import { RESOURCE, startGateway, startParts, wasmOf } from './parts/gateway.mjs';
import { startRfc8693 } from './parts/identity-provider.mjs';
import { signIn } from './parts/login.mjs';
import { startMcpServer } from './parts/mcp-server.mjs';

const JWT = 'urn:ietf:params:oauth:token-type:jwt';
const SECRET = randomBytes(24).toString('base64url');
const now = () => Math.floor(Date.now() / 1000);

const AUDIENCE = 'https://gateway.example';

const SOURCES = {
  'from the environment': { env: 'ACTOR_TOKEN' },
  'from a header that Envoy puts there': { header: 'x-actor-token' },
};

for (const [where, source] of Object.entries(SOURCES)) {
  describe(where, () => {
    let parts;
    let plain;
    let gateway;
    before(async () => {
      parts = await startParts();
      plain = await startRfc8693({
        method: 'client_secret_basic',
        clientSecret: SECRET,
        audience: RESOURCE,
        scopes: ['mcp:call'],
      });
      await parts.mcp.stop();
      const { issuer, urls } = plain.forMcp;
      parts.mcp = await startMcpServer([{ issuer, audience: RESOURCE, jwksUri: urls.keys }]);
      parts.servers.push(plain.signIn);
      const actorToken = await plain.signIn.sign({ iss: issuer, sub: 'agent', aud: issuer, exp: now() + 3600 });
      if (source.env) parts.env.ACTOR_TOKEN = actorToken;
      parts.env.PLAIN_SECRET = SECRET;
      gateway = await startGateway(parts, {
        recipe: 'okta',
        // The filter that sets the header has the token in its configuration, which Envoy shows.
        exposes: source.header ? [actorToken] : [],
        change: (filter, bootstrap) => {
          const { clusters, listeners } = bootstrap.static_resources;
          const address = { socket_address: { address: '127.0.0.1', port_value: plain.host.port } };
          const endpoints = [{ lb_endpoints: [{ endpoint: { address } }] }];
          clusters.push({ name: 'plain', type: 'STATIC', load_assignment: { cluster_name: 'plain', endpoints } });
          delete filter.resources[0].audiences;
          filter.identity_providers = {
            plain: {
              profile: 'rfc8693',
              issuer,
              cluster: 'plain',
              audiences: [AUDIENCE],
              client: {
                id: plain.ids.gateway,
                authentication: { method: 'client_secret_basic', secret: { env: 'PLAIN_SECRET' } },
              },
            },
          };
          const actor_token = { ...source, type: JWT, subject: 'agent' };
          filter.resources[0].exchange = { plain: { audience: RESOURCE, scopes: ['mcp:call'], actor_token } };
          const { http_filters } = listeners[0].filter_chains[0].filters[0].typed_config;
          const { environment_variables } = wasmOf(bootstrap).vm_config;
          environment_variables.host_env_keys = ['PLAIN_SECRET', ...(source.env ? ['ACTOR_TOKEN'] : [])];
          if (source.header) http_filters.unshift(putsThere(source.header, actorToken));
        },
      });
    });
    after(async () => {
      await gateway?.stop();
      await plain?.host.down();
      await parts?.stop();
    });

    it('the token for the upstream names the actor', async () => {
      const { accessToken } = await signIn(plain, 'carol');
      // An actor token of the client is overwritten or ignored.
      const answer = await gateway.call(accessToken, { 'x-actor-token': 'mine' });
      assert.equal(answer.status, 200, answer.text);
      const [token] = parts.mcp.tokens;
      const { sub, act } = decodeJwt(token);
      assert.deepEqual({ sub, act }, { sub: 'carol', act: { sub: 'agent' } });
      const [request] = plain.forMcp.exchanges;
      assert.equal(request.values.actor_token_type, JWT);
      if (source.header) assert.ok(!parts.mcp.requests.at(-1).headerNames.includes(source.header));
    });

    it('an actor that may_act does not name gets no token', async () => {
      const claims = { iss: plain.signIn.issuer, aud: AUDIENCE, sub: 'dave', scope: 'mcp:read', exp: now() + 600 };
      const before = plain.forMcp.exchanges.length;
      const token = await plain.signIn.sign({ ...claims, may_act: { sub: 'another-agent' } }, { typ: 'at+jwt' });
      await assertRefused(gateway, { reason: 'actor_not_allowed', status: 403, error: 'access_denied' }, () =>
        gateway.call(token),
      );
      assert.equal(plain.forMcp.exchanges.length, before);
      const allowed = await plain.signIn.sign({ ...claims, may_act: { sub: 'agent' } }, { typ: 'at+jwt' });
      await gateway.call(allowed);
      assert.equal(plain.forMcp.exchanges.length, before + 1);
    });

    it('the module never trapped, and no secret is visible', () => assertSoundAndSilent(gateway));
  });
}

/** A filter that sets a header and replaces the one of the client. */
const putsThere = (key, value) => ({
  name: 'actor',
  typed_config: {
    '@type': 'type.googleapis.com/envoy.extensions.filters.http.header_mutation.v3.HeaderMutation',
    mutations: {
      request_mutations: [{ append: { header: { key, value }, append_action: 'OVERWRITE_IF_EXISTS_OR_ADD' } }],
    },
  },
});
