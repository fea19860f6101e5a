// A provider that follows RFC 8693 and RFC 7523: the profiles without deviations, with client secrets.

import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { assertSoundAndSilent } from './parts/expect.mjs';
import { RESOURCE, startGateway, startParts } from './parts/gateway.mjs';
import { startRfc8693 } from './parts/identity-provider.mjs';
import { signIn } from './parts/login.mjs';
import { startMcpServer } from './parts/mcp-server.mjs';

const SECRET = 'se cret~+&=%/:';

const GRANT = 'urn:ietf:params:oauth:grant-type';
const EXCHANGES = {
  rfc8693: { audience: RESOURCE, scopes: ['mcp:call'] },
  jwt_bearer: { scopes: ['mcp:call'], parameters: { target_service: RESOURCE } },
};

for (const [profile, method] of [
  ['rfc8693', 'client_secret_basic'],
  ['rfc8693', 'client_secret_post'],
  ['jwt_bearer', 'client_secret_basic'],
  ['jwt_bearer', 'client_secret_post'],
]) {
  describe(`${profile} with ${method}`, () => {
    let parts;
    let plain;
    let gateway;
    before(async () => {
      parts = await startParts();
      plain = await startRfc8693({
        method,
        clientSecret: SECRET,
        audience: RESOURCE,
        scopes: ['mcp:call'],
      });
      await parts.mcp.stop();
      const { issuer, urls } = plain.forMcp;
      parts.mcp = await startMcpServer([{ issuer, audience: RESOURCE, jwksUri: urls.keys }]);
      parts.servers.push(plain.signIn);
      parts.env.PLAIN_SECRET = SECRET;
      gateway = await startGateway(parts, {
        recipe: 'okta',
        change: (filter, bootstrap) => {
          const { clusters, listeners } = bootstrap.static_resources;
          clusters.push({
            name: 'plain',
            type: 'STATIC',
            load_assignment: {
              cluster_name: 'plain',
              endpoints: [
                {
                  lb_endpoints: [
                    {
                      endpoint: {
                        address: { socket_address: { address: '127.0.0.1', port_value: plain.host.port } },
                      },
                    },
                  ],
                },
              ],
            },
          });
          delete filter.resources[0].audiences;
          filter.identity_providers = {
            plain: {
              profile,
              issuer,
              cluster: 'plain',
              audiences: ['https://gateway.example'],
              client: {
                id: plain.ids.gateway,
                authentication: { method, secret: { env: 'PLAIN_SECRET' } },
              },
            },
          };
          filter.resources[0].exchange = { plain: EXCHANGES[profile] };
          const { config } = listeners[0].filter_chains[0].filters[0].typed_config.http_filters[0].typed_config;
          config.vm_config.environment_variables.host_env_keys = ['PLAIN_SECRET'];
        },
      });
    });
    after(async () => {
      await gateway?.stop();
      await plain?.host.down();
      await parts?.stop();
    });

    it('an RFC 9068 token is exchanged with the client authentication', async () => {
      const { accessToken } = await signIn(plain, 'carol');
      const seen = await gateway.whoami(accessToken);
      assert.deepEqual(seen, {
        issuer: plain.forMcp.issuer,
        audience: RESOURCE,
        subject: 'carol',
        scopes: ['mcp:call'],
      });
      const [request] = plain.forMcp.exchanges;
      assert.equal(request.clientAuthentication, method);
      const [grant, target] =
        profile === 'rfc8693' ? ['token-exchange', 'audience'] : ['jwt-bearer', 'target_service'];
      assert.equal(request.values.grant_type, `${GRANT}:${grant}`);
      assert.equal(request.values[target], RESOURCE);
      assert.equal(request.parameters.includes('client_secret'), method === 'client_secret_post');
    });

    it('the module never trapped, and no secret is visible', () => assertSoundAndSilent(gateway));
  });
}
