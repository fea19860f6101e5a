// Each folder of envoy-config/ runs as it is, filled in.

import assert from 'node:assert/strict';
import { readFileSync, readdirSync } from 'node:fs';
import { after, before, describe, it } from 'node:test';
import { MODULE, validate } from './parts/envoy.mjs';
import { assertRefused, assertSoundAndSilent } from './parts/expect.mjs';
import { filled, METADATA_PATH, startGateway, startParts } from './parts/gateway.mjs';

const FOLDER = new URL('../../envoy-config/', import.meta.url);
const RECIPES = {
  okta: { providers: ['okta'] },
  'okta-xaa': { providers: ['okta'] },
  entra: { providers: ['entra'] },
  'okta-and-entra': { providers: ['entra', 'okta'] },
  'okta-sds': { providers: ['okta'], has: { oktaSecret: true } },
  'entra-workload-identity': { providers: ['entra'], has: { entraFederation: true } },
};

/** What a user of a provider comes with. */
async function tokenOf(parts, recipe, name) {
  if (name === 'entra') return (await parts.alice()).accessToken;
  return recipe === 'okta-xaa' ? parts.bobsIdToken() : (await parts.bob()).accessToken;
}

it('there is a test for each recipe', () => {
  const folders = readdirSync(FOLDER, { withFileTypes: true }).filter((entry) => entry.isDirectory());
  assert.deepEqual(folders.map(({ name }) => name).sort(), Object.keys(RECIPES).sort());
});

for (const [recipe, { providers, has }] of Object.entries(RECIPES)) {
  describe(`envoy-config/${recipe}`, () => {
    let parts;
    before(async () => {
      parts = await startParts(has);
    });
    after(() => parts?.stop());

    const text = (file) => readFileSync(new URL(`${recipe}/${file}`, FOLDER), 'utf8');
    const placeholders = () =>
      Object.keys(parts.placeholders).filter((word) => text('envoy.yaml').includes(word));

    it('names at its top every word that must be replaced, and its README explains each', () => {
      const [top] = text('envoy.yaml').split('\nadmin:');
      const withoutFormats = text('envoy.yaml').replaceAll(/%[^%\n]*%/g, '');
      const shouting = new Set(withoutFormats.match(/\b[A-Z][A-Z0-9]*(_[A-Z0-9]+)+\b/g));
      const notToFill = ['FAIL_RELOAD', 'FAIL_OPEN', 'STRICT_DNS', 'LOGICAL_DNS', 'V4_PREFERRED'];
      const variables = ['ENTRA_CLIENT_SECRET', 'OKTA_PRIVATE_KEY', 'ONBEHALF_SHARED_SECRET'];
      const others = ['REJECT_REQUEST', 'DROP_HEADER', ...variables];
      for (const word of [...notToFill, ...others]) shouting.delete(word);
      assert.deepEqual([...shouting].sort(), placeholders().sort());
      for (const word of shouting) {
        assert.match(top, new RegExp(`^#   ${word} `, 'm'));
        assert.ok(text('README.md').includes(`\`${word}\``), `README.md says nothing of ${word}`);
        assert.ok(text('README.md').includes(`-e 's/${word}/`), `its command leaves out ${word}`);
      }
    });

    it('is accepted by envoy --mode validate, text as it is, with nothing but the words replaced', async () => {
      const config = filled(recipe, { ...parts.placeholders, ...parts.files, '/etc/envoy/onbehalf.wasm': MODULE });
      const { ok, output } = await validate(config, parts.env);
      assert.ok(ok, output);
    });

    it('serves its users, publishes its metadata and refuses everybody else', async () => {
      const gateway = await startGateway(parts, { recipe });
      try {
        for (const name of ['entra', 'okta']) {
          const token = await tokenOf(parts, recipe, name);
          if (providers.includes(name)) {
            const seen = await gateway.whoami(token);
            assert.equal(seen.issuer, parts[name].forMcp.issuer);
          } else {
            const answer = await gateway.call(token);
            assert.equal(answer.status, 401);
            assert.equal(answer.json.reason, 'unknown_issuer');
          }
        }
        const scope =
          providers.join() === 'entra'
            ? `api://${parts.entra.ids.gateway}/mcp:read`
            : recipe === 'okta-xaa' ? 'openid' : 'mcp:read';
        await assertRefused(
          gateway,
          { reason: 'no_credentials', status: 401, error: 'unauthorized', challenge: 'bare', scope },
          () => gateway.call(undefined),
        );
        const metadata = await gateway.send({ path: METADATA_PATH });
        assert.deepEqual(
          metadata.json.authorization_servers,
          providers.map((name) => (recipe === 'okta-xaa' ? parts.okta.org : parts[name].signIn).issuer),
        );
        assert.deepEqual(metadata.json.scopes_supported, [scope]);
        await assertSoundAndSilent(gateway);
      } finally {
        await gateway.stop();
      }
    });

    it('does not talk to a server that is not the provider', async () => {
      // A certificate of the right authority for another name.
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
        const answer = await impostor.call(await tokenOf(parts, recipe, providers[0]));
        assert.equal(answer.status, 503, answer.text);
        assert.equal(answer.json.reason, 'keys_unavailable');
        const failures = await impostor.envoy.stats('ssl.fail_verify_san');
        assert.ok(Object.values(failures).some((count) => count > 0));
      } finally {
        await impostor.stop();
      }
    });
  });
}
