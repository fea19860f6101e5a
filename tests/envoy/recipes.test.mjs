// Recipes: each folder of envoy-config/ runs as it is, with its placeholders replaced, and serves users who have an MCP client,
// its URL, and the client ID that was registered for it.

import assert from 'node:assert/strict';
import { readFileSync, readdirSync } from 'node:fs';
import { after, before, describe, it } from 'node:test';
import { MODULE, validate } from './parts/envoy.mjs';
import { assertRefused, assertSoundAndSilent } from './parts/expect.mjs';
import { ENTRA_PATH, filled, MCP_HOST, metadataPathOf, OKTA_PATH, startGateway, startParts } from './parts/gateway.mjs';
import { needs } from './parts/version.mjs';

const FOLDER = new URL('../../envoy-config/', import.meta.url);
/** Recipes, with the path for the users of each provider and the options of `startParts`. */
const RECIPES = {
  okta: { paths: { okta: '/mcp' } },
  'okta-xaa': { paths: { okta: '/mcp' } },
  entra: { paths: { entra: '/mcp' } },
  'okta-and-entra': { paths: { entra: ENTRA_PATH, okta: OKTA_PATH } },
  'okta-sds': { paths: { okta: '/mcp' }, has: { oktaSecret: true } },
  keycloak: { paths: { keycloak: '/mcp' }, has: { hasKeycloak: true } },
  'entra-workload-identity': { paths: { entra: '/mcp' }, has: { entraFederation: true } },
};
const PEOPLE = { entra: 'alice@contoso.example', okta: 'bob@acme.example', keycloak: 'carol' };

/** Scope that clients request. */
const scopeOf = (recipe, name, path) =>
  name === 'entra' ? `https://${MCP_HOST}${path}/mcp:read` : recipe === 'okta-xaa' ? 'openid' : 'mcp:read';

/** Authorization server of the clients. */
const serverOf = (parts, recipe, name) => (recipe === 'okta-xaa' ? parts.okta.org : parts[name].signIn);

/** Application in front of the gateway, with the client ID and the key of the agent. */
const agent = ({ okta, proveAgent }) => ({ server: okta.org, clientId: okta.ids.agent, prove: proveAgent, sendsIdToken: true });

/** Token of a user who has signed in without the gateway. */
async function tokenOf(parts, recipe, name) {
  if (name === 'entra') return (await parts.alice()).accessToken;
  if (name === 'keycloak') return (await parts.carol()).accessToken;
  return recipe === 'okta-xaa' ? parts.bobsIdToken() : (await parts.bob()).accessToken;
}

it('each recipe has a test', () => {
  const folders = readdirSync(FOLDER, { withFileTypes: true }).filter((entry) => entry.isDirectory());
  assert.deepEqual(folders.map(({ name }) => name).sort(), Object.keys(RECIPES).sort());
});

for (const [recipe, { paths, has }] of Object.entries(RECIPES)) {
  describe(`envoy-config/${recipe}`, () => {
    let parts;
    before(async () => {
      parts = await startParts(has);
    });
    after(() => parts?.stop());

    const text = (file) => readFileSync(new URL(`${recipe}/${file}`, FOLDER), 'utf8');
    const placeholders = () =>
      Object.keys(parts.placeholders).filter((word) => text('envoy.yaml').includes(word));

    it('the top of the file and its README name every placeholder', () => {
      const [top] = text('envoy.yaml').split('\nadmin:');
      const withoutFormats = text('envoy.yaml').replaceAll(/%[^%\n]*%/g, '');
      const shouting = new Set(withoutFormats.match(/\b[A-Z][A-Z0-9]*(_[A-Z0-9]+)+\b/g));
      const notToFill = ['FAIL_RELOAD', 'FAIL_OPEN', 'STRICT_DNS', 'LOGICAL_DNS', 'V4_PREFERRED'];
      const variables = ['ENTRA_CLIENT_SECRET', 'KEYCLOAK_CLIENT_SECRET', 'OKTA_PRIVATE_KEY', 'ONBEHALF_SHARED_SECRET'];
      const others = ['REJECT_REQUEST', 'DROP_HEADER', ...variables];
      for (const word of [...notToFill, ...others]) shouting.delete(word);
      assert.deepEqual([...shouting].sort(), placeholders().sort());
      for (const word of shouting) {
        assert.match(top, new RegExp(`^#   ${word} `, 'm'));
        assert.ok(text('README.md').includes(`\`${word}\``), `README.md says nothing of ${word}`);
        assert.ok(text('README.md').includes(`-e 's/${word}/`), `its command leaves out ${word}`);
      }
    });

    // The other tests run the recipe on an older Envoy as its README says.
    const skip = text('envoy.yaml').includes('header_value_prefix:') && needs('1.37', 'header_value_prefix of injected credentials');
    it('envoy --mode validate accepts the text with placeholders replaced', { skip }, async () => {
      const config = filled(recipe, { ...parts.placeholders, ...parts.files, '/etc/envoy/onbehalf.wasm': MODULE });
      const { ok, output } = await validate(config, parts.env);
      assert.ok(ok, output);
    });

    for (const [name, path] of Object.entries(paths)) {
      it(`users of ${name} sign in with an MCP client and are served`, async () => {
        const gateway = await startGateway(parts, { recipe });
        try {
          const client = { path, provider: parts[name], ...(recipe === 'okta-xaa' && agent(parts)) };
          const { seen, idToken, authorization } = await gateway.visit(PEOPLE[name], client);
          assert.equal(seen.issuer, parts[name].forMcp.issuer);
          const { searchParams } = authorization;
          assert.equal(searchParams.get('resource'), `https://${MCP_HOST}${path}`);
          assert.equal(searchParams.get('scope'), `${scopeOf(recipe, name, path)} offline_access`);
          assert.equal(idToken !== undefined, recipe === 'okta-xaa');
          await assertSoundAndSilent(gateway);
        } finally {
          await gateway.stop();
        }
      });
    }

    it('the gateway publishes its metadata and refuses other tokens', async () => {
      const gateway = await startGateway(parts, { recipe });
      try {
        for (const [name, path] of Object.entries(paths)) {
          const metadata = `https://${MCP_HOST}${metadataPathOf(path)}`;
          const scope = scopeOf(recipe, name, path);
          const document = await gateway.send({ path: metadataPathOf(path) });
          assert.deepEqual(document.json.authorization_servers, [serverOf(parts, recipe, name).issuer]);
          assert.deepEqual(document.json.scopes_supported, [scope]);
          await assertRefused(
            gateway,
            { reason: 'no_credentials', status: 401, error: 'unauthorized', challenge: 'bare', scope, metadata },
            () => gateway.call(undefined, {}, { path }),
          );
          const stranger = name === 'entra' ? 'okta' : 'entra';
          const answer = await gateway.call(await tokenOf(parts, recipe, stranger), {}, { path });
          const expected = stranger in paths ? [403, 'no_exchange'] : [401, 'unknown_issuer'];
          assert.deepEqual([answer.status, answer.json.reason], expected);
        }
        await assertSoundAndSilent(gateway);
      } finally {
        await gateway.stop();
      }
    });

    it('the gateway trusts no server with a certificate of another name', async () => {
      // The certificate is of the right authority, for another name.
      const impostor = await startGateway(parts, {
        recipe,
        change: (_filter, { static_resources: { clusters } }) => {
          for (const cluster of clusters.filter(({ transport_socket }) => transport_socket)) {
            const [endpoint] = cluster.load_assignment.endpoints[0].lb_endpoints;
            const other = cluster.name === 'okta' ? parts.entra : parts.okta;
            endpoint.endpoint.address.socket_address.port_value = other.host.tlsPort;
          }
        },
      });
      try {
        const [[name, path]] = Object.entries(paths);
        const answer = await impostor.call(await tokenOf(parts, recipe, name), {}, { path });
        assert.equal(answer.status, 503, answer.text);
        assert.equal(answer.json.reason, 'jwks_unavailable');
        const failures = await impostor.envoy.stats('ssl.fail_verify_san');
        assert.ok(Object.values(failures).some((count) => count > 0));
      } finally {
        await impostor.stop();
      }
    });
  });
}
