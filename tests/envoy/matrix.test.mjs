// Every profile with every client authentication that it allows, against providers that verify the credential: one exchange,
// proved in the way that is configured. All of them in one Envoy.

import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { after, before, describe, it } from 'node:test';
import { registeredKey } from './parts/authorization-server.mjs';
import { ofClient } from './parts/certificate.mjs';
import { assertSoundAndSilent } from './parts/expect.mjs';
import { RESOURCE, startGateway, startParts, wasmOf } from './parts/gateway.mjs';
import { startEntra, startOkta, startRfc8693 } from './parts/identity-provider.mjs';
import { inPem, keysFor } from './parts/keys.mjs';
import { signIn } from './parts/login.mjs';
import { until } from './parts/until.mjs';
import { startUpstream } from './parts/upstream.mjs';

const CROWD = 10;
const SECRETS = [{ method: 'client_secret_basic' }, { method: 'client_secret_post' }];
const KEYS = ['ES256', 'RS256', 'PS256', 'EdDSA'].map((algorithm) => ({ method: 'private_key_jwt', algorithm }));
const CERTIFICATES = [['x5t#S256'], ['x5t#S256', 'x5t', 'x5c']].map((certificate) => ({
  method: 'private_key_jwt',
  algorithm: 'PS256',
  certificate,
}));

/** With DPoP at the token endpoint and for the upstream; without, it is off. */
const BOUND = [
  { ...SECRETS[0], dpop: 'EdDSA' },
  { ...KEYS[0], dpop: 'ES256' },
];

/**
 * By profile: the client authentications that it allows, a provider of its own for each of them, and what to ask it for.
 * A provider is started with `method`, and the `secret`, the `jwks`, or the `certificate` of the client; with `dpop` it must prove a
 * key of its own.
 */
const PROFILES = {
  entra_obo: {
    authentications: [...SECRETS, ...CERTIFICATES],
    start: ({ authority, method, secret, certificate }) => startEntra({ authority, method, clientSecret: secret, certificate }),
    client: ({ ids }) => ids.gateway,
    subjectAudience: ({ ids }) => ids.gateway,
    audience: ({ ids }) => ids.mcpServer,
    exchange: ({ ids }) => ({ resource: `api://${ids.mcpServer}` }),
  },
  okta_obo: {
    authentications: [...SECRETS, ...KEYS, { ...KEYS[0], certificate: ['x5t#S256', 'x5c'] }, ...BOUND],
    start: ({ authority, number, method, secret, jwks, dpop }) =>
      startOkta({
        authority,
        domain: `matrix${number}.okta.com`,
        audience: RESOURCE,
        scopes: ['mcp:call'],
        serviceApp: { token_endpoint_auth_method: method, dpop_bound_access_tokens: dpop, ...(jwks ? { jwks } : { client_secret: secret }) },
      }),
    more: ({ forMcp }) => ({ token_endpoint: forMcp.urls.token }),
    client: ({ ids }) => ids.serviceApp,
    subjectAudience: () => 'api://default',
    audience: () => RESOURCE,
    exchange: () => ({ audience: RESOURCE, scopes: ['mcp:call'] }),
  },
  rfc8693: {
    authentications: [...SECRETS, ...KEYS, ...BOUND],
    start: plain,
    client: ({ ids }) => ids.gateway,
    subjectAudience: () => 'https://gateway.example',
    audience: () => RESOURCE,
    exchange: () => ({ audience: RESOURCE, scopes: ['mcp:call'] }),
  },
  jwt_bearer: {
    authentications: [...SECRETS, ...KEYS, ...BOUND],
    start: plain,
    client: ({ ids }) => ids.gateway,
    subjectAudience: () => 'https://gateway.example',
    audience: () => RESOURCE,
    exchange: () => ({ scopes: ['mcp:call'], parameters: { target_service: RESOURCE } }),
  },
};

function plain({ method, secret, jwks, dpop }) {
  return startRfc8693({ method, clientSecret: secret, jwks, dpop, audience: RESOURCE, scopes: ['mcp:call'] });
}

const ROWS = Object.entries(PROFILES)
  .flatMap(([profile, { authentications }]) => authentications.map((authentication) => ({ profile, ...authentication })))
  .map((row, number) => ({
    ...row,
    number,
    id: `row${number}`,
    title: [row.profile, 'with', row.method, row.algorithm, ...(row.certificate ?? []), row.dpop && `and DPoP ${row.dpop}`].filter(Boolean).join(' '),
  }));

let parts;
let gateway;
/** The same with credentials that no provider knows. */
let impostor;

before(async () => {
  parts = await startParts();
  await parts.mcp.stop();
  await Promise.all(ROWS.map(startRow));
  const trusted = ROWS.map(({ provider: { host, forMcp } }) => {
    const { url: jwksUri, headers } = host.reach(forMcp.urls.keys);
    return { issuer: forMcp.issuer, jwksUri, headers };
  });
  parts.mcp = await startUpstream(trusted, { '/mcp': null });
  gateway = await startGateway(parts, { change, env: Object.assign({}, ...ROWS.map(({ env }) => env)) });
  impostor = await startGateway(parts, { change, env: Object.assign({}, ...ROWS.map(({ wrongEnv }) => wrongEnv)) });
});
after(async () => {
  await gateway?.stop();
  await impostor?.stop();
  await Promise.all(ROWS.map(({ provider }) => provider?.host.down()));
  await parts?.stop();
});

/** Makes the credential of a row, and one that is wrong, and a provider that knows the first. */
async function startRow(row) {
  const { id, method, algorithm } = row;
  const credential = () => {
    const env = row.dpop ? { [`${id}_DPOP`]: inPem(keysFor(row.dpop).privateKey) } : {};
    if (!algorithm) return { env: { ...env, [`${id}_SECRET`]: `~+&=%/: ${randomBytes(18).toString('base64url')}` } };
    const keys = keysFor(algorithm);
    env[`${id}_KEY`] = inPem(keys.privateKey);
    const certificate = row.certificate && ofClient('gateway', keys);
    if (certificate) env[`${id}_CERTIFICATE`] = certificate.pem;
    const jwk = registeredKey(env[`${id}_KEY`], { kid: id, alg: algorithm });
    return { env, jwks: { keys: [jwk] }, certificate: certificate && { thumbprint: certificate.thumbprint, jwk } };
  };
  const { env, ...registered } = credential();
  Object.assign(row, { env, wrongEnv: credential().env });
  const { authority } = parts;
  const secret = env[`${id}_SECRET`];
  row.provider = await PROFILES[row.profile].start({ ...registered, authority, number: row.number, method, secret, dpop: Boolean(row.dpop) });
}

/** Puts all rows into the recipe instead of what it has. */
function change(filter, bootstrap) {
  const { clusters } = bootstrap.static_resources;
  const secure = JSON.stringify(clusters.find(({ name }) => name === 'okta'));
  filter.identity_providers = {};
  filter.resources[0].exchange = {};
  for (const row of ROWS) {
    const { provider, id, profile } = row;
    const of = PROFILES[profile];
    filter.identity_providers[id] = {
      profile,
      issuer: provider.signIn.issuer,
      cluster: id,
      audiences: [of.subjectAudience(provider)],
      ...of.more?.(provider),
      client: {
        id: of.client(provider),
        authentication: authenticationOf(row),
        ...(row.dpop && { dpop: { key: { env: `${id}_DPOP` }, algorithm: row.dpop } }),
      },
    };
    filter.resources[0].exchange[id] = { ...of.exchange(provider), ...(row.dpop && { presented_as: 'dpop' }) };
    const cluster = JSON.parse(secure.replaceAll(parts.okta.host.name, provider.host.name));
    const [endpoint] = cluster.load_assignment.endpoints[0].lb_endpoints;
    endpoint.endpoint.address.socket_address.port_value = provider.host.tlsPort ?? provider.host.port;
    if (!provider.host.tlsPort) delete cluster.transport_socket;
    cluster.load_assignment.cluster_name = id;
    clusters.push({ ...cluster, name: id });
  }
  wasmOf(bootstrap).vm_config.environment_variables.host_env_keys = ROWS.flatMap(({ env }) => Object.keys(env));
}

function authenticationOf({ id, method, algorithm, certificate }) {
  if (!algorithm) return { method, secret: { env: `${id}_SECRET` } };
  return {
    method,
    algorithm,
    key: { env: `${id}_KEY` },
    key_id: id,
    ...(certificate && { certificate: { env: `${id}_CERTIFICATE` }, certificate_header: certificate }),
  };
}

/** What is answered when the keys are there. */
const answered = (through, token) =>
  until(async () => {
    const answer = await through.call(token);
    return answer.json.reason !== 'keys_unavailable' && answer;
  }, 'the keys are there');

for (const row of ROWS) {
  describe(row.title, () => {
    it('is one exchange for all requests of a user, proved as configured', async () => {
      const { provider } = row;
      const { accessToken } = await signIn(provider, `user-of-${row.id}`);
      await answered(gateway, accessToken);
      const all = await Promise.all(Array.from({ length: CROWD }, () => gateway.call(accessToken)));
      const expected = PROFILES[row.profile].audience(provider);
      for (const { status, text, json } of all) {
        assert.deepEqual([status, json.issuer, [json.audience].flat()], [200, provider.forMcp.issuer, [expected]], text);
      }
      assert.deepEqual([...new Set(all.map(({ json }) => json.user))], [`user-of-${row.id}`]);
      const { exchanges } = provider.forMcp;
      assert.deepEqual([...new Set(all.map(({ json }) => json.scheme))], [row.dpop ? 'DPoP' : 'Bearer']);
      // The first call learns the nonce that proofs must have.
      assert.deepEqual(exchanges.map(({ status, error }) => error ?? status), row.dpop ? ['use_dpop_nonce', 200] : [200]);
      for (const { clientAuthentication, assertion, proof } of exchanges) {
        assert.deepEqual([clientAuthentication, assertion?.alg, Boolean(proof)], [row.method, row.algorithm, Boolean(row.dpop)]);
      }
    });

    it('gets nothing with a credential that the provider does not know', async () => {
      const { length } = row.provider.forMcp.exchanges;
      const { requests } = parts.mcp.counts;
      const { accessToken } = await signIn(row.provider, `victim-of-${row.id}`);
      const answer = await answered(impostor, accessToken);
      assert.deepEqual([answer.status, answer.json.reason], [502, 'exchange_misconfigured']);
      const errors = row.provider.forMcp.exchanges.slice(length).map(({ error }) => error);
      assert.deepEqual(errors, ['invalid_client']);
      assert.equal(parts.mcp.counts.requests, requests);
    });
  });
}

it('nothing trapped and nothing secret can be seen', async () => {
  assert.deepEqual(parts.mcp.mistaken, []);
  await assertSoundAndSilent(gateway);
  await assertSoundAndSilent(impostor);
});
