// Configurations as Istio and Envoy Gateway write them, on a real Envoy. docs/guides/istio-and-envoy-gateway.md has the sources.

import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { decodeJwt } from 'jose';
import { assertSoundAndSilent } from './parts/expect.mjs';
import { discovered, rejected, stringValue } from './parts/extension-discovery.mjs';
import { ENTRA_PATH, metadataPathOf, OKTA_PATH, startGateway, startParts } from './parts/gateway.mjs';
import { leaks } from './parts/leaks.mjs';
import { putBehind, startRecorder } from './parts/recorder.mjs';
import { until } from './parts/until.mjs';

const WASM = 'type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm';
const ROUTE_FILTER = 'type.googleapis.com/envoy.config.route.v3.FilterConfig';
const PATHS = { entra: ENTRA_PATH, okta: OKTA_PATH };
/** Path of another application behind the same listener. */
const OTHER = '/other';

let parts;
let recorder;
const tokens = {};
before(async () => {
  parts = await startParts();
  recorder = await startRecorder();
  tokens.entra = (await parts.alice()).accessToken;
  tokens.okta = (await parts.bob()).accessToken;
});
after(async () => {
  await recorder?.stop();
  await parts?.stop();
});

const managerOf = ({ static_resources: { listeners } }) => listeners[0].filter_chains[0].filters[0].typed_config;

/** Names the clusters of the providers as Istio does. */
function nameAsIstio(filter, { static_resources: { clusters } }) {
  for (const name of Object.keys(filter.identity_providers)) {
    const cluster = clusters.find((one) => one.name === name);
    const istio = `outbound|443||${cluster.transport_socket.typed_config.sni}`;
    cluster.name = istio;
    filter.identity_providers[name].cluster = istio;
  }
}

/** Part of the configuration for the users of one provider. */
const partOf = (filter, name) => ({
  ...filter,
  identity_providers: { [name]: filter.identity_providers[name] },
  resources: filter.resources.filter(({ exchange }) => name in exchange),
});

/** Calls the resource of a provider, and asserts that its server gets a token for it and not the caller's. */
async function assertServed(gateway, name) {
  const { length } = recorder.requests;
  const answer = await until(async () => {
    const got = await gateway.call(tokens[name], {}, { path: PATHS[name] });
    return got.status !== 503 && got;
  }, 'the keys are there');
  assert.equal(answer.status, 200, answer.text);
  assert.equal(recorder.requests.length, length + 1);
  const [authorization] = recorder.requests.at(-1).all('authorization');
  const { iss, aud } = decodeJwt(authorization.split(' ')[1]);
  assert.equal(iss, parts[name].forMcp.issuer);
  assert.equal(aud, name === 'entra' ? parts.entra.ids.mcpServer : 'https://mcp.example.com/mcp');
}

async function assertRefused(gateway, path, token, status, reason) {
  const { length } = recorder.requests;
  const answer = await gateway.call(token, {}, { path });
  assert.deepEqual([answer.status, answer.json.reason], [status, reason], answer.text);
  assert.equal(recorder.requests.length, length);
}

const forged = (token) => `${token.slice(0, -12)}AAAAAAAAAAAA`;

describe('Istio: a text, no vm_id, no failure_policy, extension discovery', () => {
  const NAME = 'extensions.istio.io/wasmplugin/mcp.onbehalf';
  let configuration;
  let discover;
  let gateway;

  before(async () => {
    gateway = await startGateway(parts, {
      recipe: 'okta-and-entra',
      change: (filter, bootstrap) => {
        putBehind(bootstrap, recorder);
        nameAsIstio(filter, bootstrap);
        configuration = filter;
        const change = (config) => {
          config.name = NAME;
          delete config.failure_policy;
          delete config.vm_config.vm_id;
        };
        discover = discovered(filter, bootstrap, { name: NAME, change });
      },
    });
  });
  after(() => gateway?.stop());

  for (const name of Object.keys(PATHS)) {
    it(`users of ${name} are served through its cluster outbound|443||…`, async () => {
      await assertServed(gateway, name);
      const used = await gateway.envoy.get('/clusters');
      assert.ok(used.includes(configuration.identity_providers[name].cluster), 'the cluster is in use');
    });
    it(`a forged token of ${name} is refused`, () => assertRefused(gateway, PATHS[name], forged(tokens[name]), 401, 'bad_signature'));
  }

  it('a configuration with a mistake is not taken', async () => {
    discover({ ...configuration, resource: [] });
    await until(async () => (await rejected(gateway.envoy)) === 1, 'it is refused');
    assert.match(gateway.envoy.log, /configuration error at resource: /);
    for (const name of Object.keys(PATHS)) await assertServed(gateway, name);
    await assertRefused(gateway, OKTA_PATH, forged(tokens.okta), 401, 'bad_signature');
  });

  it('a new configuration replaces the old one without a restart', async () => {
    await assertRefused(gateway, OTHER, undefined, 404, 'unknown_resource');
    discover({ ...configuration, unauthenticated_paths: [OTHER] });
    await until(async () => (await gateway.send({ path: OTHER })).status === 200, 'the path is open');
    await assertServed(gateway, 'okta');
    await assertRefused(gateway, OKTA_PATH, forged(tokens.okta), 401, 'bad_signature');
  });

  it('the module never trapped, and no secret is visible', async () => {
    const isOfTheMistake = (line) => line.endsWith('Wasm VM failed Failed to configure base Wasm plugin');
    assert.deepEqual((await gateway.envoy.traps()).filter((line) => !isOfTheMistake(line)), []);
    const { found, looked } = await leaks(gateway);
    assert.ok(looked > 0);
    assert.deepEqual(found, {});
  });
});

for (const [what, vm_id] of [['a vm_id each', (name) => name], ['no vm_id', () => undefined]]) {
  describe(`Envoy Gateway: two filters on one listener, on by route, with ${what}`, () => {
    let gateway;
    before(async () => {
      gateway = await startGateway(parts, {
        recipe: 'okta-and-entra',
        concurrency: 2,
        change: (filter, bootstrap) => {
          putBehind(bootstrap, recorder);
          const manager = managerOf(bootstrap);
          const at = manager.http_filters.findIndex(({ name }) => name === 'onbehalf');
          const [usual] = manager.http_filters.splice(at, 1);
          const nameOf = (provider) => `envoy.filters.http.wasm/envoyextensionpolicy/mcp/${provider}/wasm/0`;
          for (const provider of Object.keys(PATHS)) {
            const name = nameOf(provider);
            const { failure_policy: _, ...config } = usual.typed_config.config;
            const vm_config = { ...config.vm_config, vm_id: vm_id(name) };
            const configuration = stringValue(partOf(filter, provider));
            const typed_config = { '@type': WASM, config: { ...config, name, vm_config, configuration } };
            manager.http_filters.unshift({ name, disabled: true, typed_config });
          }
          const on = (provider) => ({ [nameOf(provider)]: { '@type': ROUTE_FILTER, config: {} } });
          const routes = Object.entries(PATHS).flatMap(([provider, path]) =>
            [path, metadataPathOf(path)].map((prefix) => ({
              match: { path_separated_prefix: prefix },
              route: { cluster: 'mcp_server' },
              typed_per_filter_config: on(provider),
            })),
          );
          manager.route_config.virtual_hosts[0].routes = [...routes, { match: { path_separated_prefix: OTHER }, route: { cluster: 'mcp_server' } }];
        },
      });
    });
    after(() => gateway?.stop());

    for (const name of Object.keys(PATHS)) {
      it(`users of ${name} are served by its filter`, async () => {
        // Both workers, and tokens from the cache.
        for (let round = 0; round < 6; round += 1) await assertServed(gateway, name);
      });
      it(`the filter of ${name} refuses users of the other provider`, async () => {
        const [other] = Object.keys(PATHS).filter((one) => one !== name);
        await assertRefused(gateway, PATHS[name], tokens[other], 401, 'unknown_issuer');
        await assertRefused(gateway, PATHS[name], forged(tokens[name]), 401, 'bad_signature');
        await assertRefused(gateway, PATHS[name], undefined, 401, 'no_credentials');
      });
      it(`the filter of ${name} publishes the metadata of its resource`, async () => {
        const document = await gateway.send({ path: metadataPathOf(PATHS[name]) });
        assert.equal(document.status, 200, document.text);
        assert.deepEqual(document.json.authorization_servers, [parts[name].signIn.issuer]);
      });
    }

    it('a route without the filter is served without it', async () => {
      const { length } = recorder.requests;
      assert.equal((await gateway.send({ path: OTHER })).status, 200);
      assert.equal(recorder.requests.length, length + 1);
    });

    it('the module never trapped, and no secret is visible', () => assertSoundAndSilent(gateway));
  });
}
