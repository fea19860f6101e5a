// Each profile with each client authentication that it supports, against providers that verify the credential: one exchange,
// authenticated as configured. All of them run in one Envoy.

import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { after, before, describe, it } from 'node:test';
import { clientAssertion, registeredKey } from './parts/authorization-server.mjs';
import { ofClient } from './parts/certificate.mjs';
import { assertSoundAndSilent } from './parts/expect.mjs';
import { facts } from './parts/facts.mjs';
import { basic, bootstrapOf, injected, MCP_HOST, RESOURCE, startGateway, startParts, WORKLOAD, wasmOf } from './parts/gateway.mjs';
import { startEntra, startKeycloak, startOkta, startRfc8693 } from './parts/identity-provider.mjs';
import { inPem, keysFor } from './parts/keys.mjs';
import { signIn } from './parts/login.mjs';
import { until } from './parts/until.mjs';
import { startUpstream } from './parts/upstream.mjs';

const CROWD = 10;
/** Resources of users with ID tokens, which have no scopes. */
const ID_TOKENS = '/with-id-tokens';
const JWT = 'urn:ietf:params:oauth:token-type:jwt';

const SECRETS = [{ method: 'client_secret_basic' }, { method: 'client_secret_post' }];
const KEYS = ['ES256', 'RS256', 'PS256', 'EdDSA'].map((algorithm) => ({ method: 'private_key_jwt', algorithm }));
const CERTIFICATES = [['x5t#S256'], ['x5t#S256', 'x5t', 'x5c']].map((certificate) => ({
  method: 'private_key_jwt',
  algorithm: 'PS256',
  certificate,
}));
const MUTUAL_TLS = [{ method: 'tls_client_auth' }, { method: 'self_signed_tls_client_auth' }];
const ASSERTIONS = ['variable', 'header'].map((from) => ({ method: 'client_assertion', from }));
const ENVOY_INJECTED = { method: 'envoy_injected' };

/** DPoP at the token endpoint and for the upstream; otherwise it is off. */
const BOUND = [
  { ...SECRETS[0], dpop: 'EdDSA' },
  { ...KEYS[0], dpop: 'ES256' },
  { ...ENVOY_INJECTED, dpop: 'ES256' },
];

/** Actor token of the gateway. */
const ACTING = [
  { ...SECRETS[0], actor: 'agent' },
  { ...KEYS[0], actor: 'agent', dpop: 'ES256' },
];

/**
 * Profiles: the client authentications that each supports, a provider for each of them, and the target of the exchange. A
 * provider starts with the registration of `CREDENTIALS`; with `dpop` it requires proofs of a key. A product without a profile
 * of its own is named, and has `profile`.
 */
const PROFILES = {
  entra_obo: {
    authentications: [...SECRETS, ...CERTIFICATES, ...ASSERTIONS, ENVOY_INJECTED],
    start: ({ authority, method, secret, certificate, federation }) =>
      startEntra({ authority, method, clientSecret: secret, certificate, federation }),
    client: ({ ids }) => ids.gateway,
    subjectAudience: ({ ids }) => ids.gateway,
    audience: ({ ids }) => ids.mcpServer,
    exchange: ({ ids }) => ({ resource: `api://${ids.mcpServer}` }),
  },
  okta_obo: {
    authentications: [...SECRETS, ...KEYS, { ...KEYS[0], certificate: ['x5t#S256', 'x5c'] }, ENVOY_INJECTED, ...BOUND],
    start: org,
    more: ({ forMcp }) => ({ token_endpoint: forMcp.urls.token }),
    client: ({ ids }) => ids.serviceApp,
    subjectAudience: () => 'api://default',
    audience: () => RESOURCE,
    exchange: () => ({ audience: RESOURCE, scopes: ['mcp:call'] }),
  },
  okta_xaa: {
    ...inTwoCalls(),
    exchange: ({ forMcp }) => ({ audience: forMcp.issuer, resource: RESOURCE, scopes: ['mcp:call'] }),
  },
  id_jag: {
    ...inTwoCalls(),
    exchange: ({ forMcp }) => ({
      audience: forMcp.issuer,
      scopes: ['mcp:call'],
      authorization_server: { token_endpoint: forMcp.urls.token },
    }),
  },
  rfc8693: {
    authentications: [...SECRETS, ...KEYS, ...MUTUAL_TLS, ASSERTIONS[0], ENVOY_INJECTED, ...BOUND, ...ACTING],
    start: plain,
    client: ({ ids }) => ids.gateway,
    subjectAudience: () => 'https://gateway.example',
    audience: () => RESOURCE,
    exchange: () => ({ audience: RESOURCE, scopes: ['mcp:call'] }),
  },
  jwt_bearer: {
    authentications: [...SECRETS, ...KEYS, ...MUTUAL_TLS, ASSERTIONS[0], ENVOY_INJECTED, ...BOUND],
    start: plain,
    client: ({ ids }) => ids.gateway,
    subjectAudience: () => 'https://gateway.example',
    audience: () => RESOURCE,
    exchange: () => ({ scopes: ['mcp:call'], parameters: { target_service: RESOURCE } }),
  },
  keycloak: {
    profile: 'rfc8693',
    authentications: [...SECRETS, ...KEYS, ENVOY_INJECTED],
    start: realm,
    client: ({ ids }) => ids.gateway,
    subjectAudience: ({ ids }) => ids.gateway,
    audience: ({ ids }) => ids.mcpServer,
    exchange: ({ ids }) => ({ audience: ids.mcpServer, scopes: ['mcp:call'] }),
    failedAuthentication: ({ method }) => (method === 'private_key_jwt' ? 'invalid_client' : 'unauthorized_client'),
  },
};

function realm({ authority, number, method, secret, jwks }) {
  return startKeycloak({ authority, domain: `matrix${number}.sso.example`, method, clientSecret: secret, jwks });
}

function org({ authority, number, method, secret, jwks, dpop }) {
  return startOkta({
    authority,
    domain: `matrix${number}.okta.com`,
    audience: RESOURCE,
    scopes: ['mcp:call'],
    serviceApp: { token_endpoint_auth_method: method, dpop_bound_access_tokens: dpop, ...(jwks ? { jwks } : { client_secret: secret }) },
  });
}

/**
 * The ID token of the org server becomes an assertion there, and the assertion becomes a token at the authorization server for
 * MCP.
 */
function inTwoCalls() {
  return {
    authentications: [...SECRETS, ...KEYS, ENVOY_INJECTED, ...BOUND],
    async start(row) {
      const provider = await org({ ...row, dpop: false });
      const { forMcp, ids } = provider;
      // A client that must use DPoP would have to do so for ID tokens as well.
      forMcp.clients = structuredClone(forMcp.clients);
      forMcp.register(ids.agent, { dpop_bound_access_tokens: row.dpop });
      return { ...provider, signIn: provider.org, legs: [provider.org, provider.forMcp] };
    },
    more: () => ({ subject_token: { type: 'id_token' } }),
    client: ({ ids }) => ids.agent,
    subjectAudience: ({ ids }) => ids.agent,
    audience: () => RESOURCE,
    path: ID_TOKENS,
    async subject({ provider, prove }, user) {
      const { idToken } = await signIn(provider, user, { client: provider.ids.agent, scopes: [], idToken: true, ...prove });
      return idToken;
    },
  };
}

function plain({ authority, number, method, secret, jwks, client, dpop }) {
  // Client certificates need TLS.
  const secure = client && { authority, domain: `matrix${number}.plain.example`, client };
  return startRfc8693({ method, clientSecret: secret, jwks, dpop, audience: RESOURCE, scopes: ['mcp:call'], ...secure });
}

const ROWS = Object.entries(PROFILES)
  .flatMap(([profile, { authentications }]) => authentications.map((authentication) => ({ profile, ...authentication })))
  .map((row, number) => ({
    ...row,
    number,
    id: `row${number}`,
    title: [
      ...[row.profile, 'with', row.method, row.algorithm, ...(row.certificate ?? []), row.from && `from a ${row.from}`],
      ...[row.actor && 'and an actor', row.dpop && `and DPoP ${row.dpop}`],
    ]
      .filter(Boolean)
      .join(' '),
  }));

/**
 * Methods: the registration of a client, the variables of the gateway, its configuration, and the form of its calls at the
 * provider. A credential that is made a second time, or is not `known`, is not registered with the provider.
 */
const CREDENTIALS = {
  client_secret_basic: withSecret,
  client_secret_post: withSecret,
  private_key_jwt: withKey,
  tls_client_auth: (row, known) => {
    const name = `${row.id}.client.example`;
    const { cert, key } = parts.authority.issue([known ? name : 'another.client.example']);
    return { registered: { client: { tls_client_auth_san_dns: name } }, variables: { CERTIFICATE: cert, KEY: key }, looks: 'none' };
  },
  self_signed_tls_client_auth: () => {
    const keys = keysFor('ES256');
    const { pem, thumbprint } = ofClient('gateway', keys);
    const jwk = { ...keys.publicKey.export({ format: 'jwk' }), 'x5t#S256': thumbprint };
    return { registered: { client: { jwks: { keys: [jwk] } } }, variables: { CERTIFICATE: pem, KEY: inPem(keys.privateKey) }, looks: 'none' };
  },
  client_assertion: (row, known) => {
    const { id, from, profile } = row;
    const options = { assertion: from === 'header' ? { header: `x-${id}` } : { env: `${id}_ASSERTION` } };
    const looks = 'private_key_jwt';
    if (profile === 'entra_obo') {
      const { federation } = parts.entra.forMcp.settings;
      const token = () => parts.workloadToken({ subject: known ? WORKLOAD : 'system:serviceaccount:mcp:other' });
      return { registered: { federation }, variables: async () => ({ ASSERTION: await token() }), options, looks };
    }
    const key = inPem(keysFor('RS256').privateKey);
    const named = { kid: id, alg: 'RS256' };
    const variables = async ({ ids, forMcp }) => {
      const fields = await clientAssertion(key, { client: ids.gateway, audience: forMcp.urls.token, ...named });
      return { ASSERTION: fields.client_assertion };
    };
    return { registered: { method: looks, jwks: { keys: [registeredKey(key, named)] } }, variables, options, looks };
  },
  envoy_injected: (row) => {
    const secret = randomBytes(18).toString('base64url');
    const looks = 'client_secret_basic';
    const variables = (provider) => ({ SECRET: injected(basic(PROFILES[row.profile].client(provider), secret)) });
    return { registered: { method: looks, secret }, variables, looks };
  },
};

function withSecret({ id }) {
  const secret = `~+&=%/: ${randomBytes(18).toString('base64url')}`;
  return { registered: { secret }, variables: { SECRET: secret }, options: { secret: { env: `${id}_SECRET` } } };
}

function withKey({ id, algorithm, certificate }) {
  const keys = keysFor(algorithm);
  const KEY = inPem(keys.privateKey);
  const jwk = registeredKey(KEY, { kid: id, alg: algorithm });
  const { pem, thumbprint } = certificate ? ofClient('gateway', keys) : {};
  return {
    registered: { jwks: { keys: [jwk] }, certificate: certificate && { thumbprint, jwk } },
    variables: { KEY, ...(certificate && { CERTIFICATE: pem }) },
    options: {
      algorithm,
      key: { env: `${id}_KEY` },
      key_id: id,
      ...(certificate && { certificate: { env: `${id}_CERTIFICATE` }, certificate_header: certificate }),
    },
  };
}

let parts;
let gateway;
/** Rows with credentials that are not registered. */
let impostor;

before(async () => {
  parts = await startParts({ entraFederation: true });
  await parts.mcp.stop();
  await Promise.all(ROWS.map(startRow));
  const trusted = ROWS.map(({ provider: { host, forMcp } }) => {
    const { url: jwksUri, headers } = host.reach(forMcp.urls.keys);
    return { issuer: forMcp.issuer, jwksUri, headers };
  });
  parts.mcp = await startUpstream(trusted, { '/mcp': null, [ID_TOKENS]: null });
  gateway = await startGateway(parts, { change, env: Object.assign({}, ...ROWS.map(({ env }) => env)) });
  impostor = await startGateway(parts, { change, env: Object.assign({}, ...ROWS.map(({ wrongEnv }) => wrongEnv)) });
});
after(async () => {
  await gateway?.stop();
  await impostor?.stop();
  await Promise.all(ROWS.map(({ provider }) => provider?.host.down()));
  await parts?.stop();
});

/** Makes the credential of a row, a wrong one, and a provider that knows the first. */
async function startRow(row) {
  const { id, number, method, profile, dpop, actor } = row;
  const [right, wrong] = [CREDENTIALS[method](row, true), CREDENTIALS[method](row, false)];
  const { authority } = parts;
  row.provider = await PROFILES[profile].start({ authority, number, method, dpop: Boolean(dpop), ...right.registered });
  const { provider } = row;
  const variables = async ({ variables: of }) => {
    const all = typeof of === 'function' ? await of(provider) : of;
    return { ...all, ...(dpop && { DPOP: inPem(keysFor(dpop).privateKey) }) };
  };
  const named = (all) => Object.fromEntries(Object.entries(all).map(([name, value]) => [`${id}_${name}`, value]));
  row.env = named(await variables(right));
  row.wrongEnv = named(await variables(wrong));
  if (actor) {
    // The wrong credential of this row is the actor token.
    const token = (server) => server.sign({ iss: provider.signIn.issuer, sub: actor, exp: Math.floor(Date.now() / 1000) + 3600 });
    row.env = { ...row.env, ...named({ ACTOR: await token(provider.signIn) }) };
    row.wrongEnv = { ...row.env, ...named({ ACTOR: await token(parts.okta.signIn) }) };
  }
  row.authentication = { method, ...right.options };
  row.looks = right.looks ?? method;
  row.prove = asAgent(row, right.registered);
}

/** Client authentication of an application that signs users in at the org server and shares the client of the gateway. */
function asAgent({ id, algorithm, looks, env, provider: { ids } }, { secret }) {
  const client = ids.agent;
  return {
    client_secret_basic: { headers: { authorization: `Basic ${basic(encodeURIComponent(client), encodeURIComponent(secret))}` } },
    client_secret_post: { prove: async () => ({ client_secret: secret }) },
    private_key_jwt: { prove: (audience) => clientAssertion(env[`${id}_KEY`], { client, audience, kid: id, alg: algorithm }) },
  }[looks];
}

/** Puts all rows into the recipe in place of its providers and resources. */
function change(filter, bootstrap) {
  const { clusters, listeners } = bootstrap.static_resources;
  const secure = JSON.stringify(clusters.find(({ name }) => name === 'okta'));
  const secrets = [];
  filter.identity_providers = {};
  const [usual] = filter.resources;
  usual.exchange = {};
  const forIdTokens = { url: `https://${MCP_HOST}${ID_TOKENS}`, exchange: {} };
  filter.resources.push(forIdTokens);
  filter.shared_data_secret = { env: 'ONBEHALF_SHARED_SECRET' };
  for (const row of ROWS) {
    const { provider, id, profile, authentication, dpop, actor } = row;
    const of = PROFILES[profile];
    filter.identity_providers[id] = {
      profile: of.profile ?? profile,
      issuer: provider.signIn.issuer,
      cluster: id,
      audiences: [of.subjectAudience(provider)],
      ...of.more?.(provider),
      client: { id: of.client(provider), authentication, ...(dpop && { dpop: { key: { env: `${id}_DPOP` }, algorithm: dpop } }) },
    };
    (of.path ? forIdTokens : usual).exchange[id] = {
      ...of.exchange(provider),
      ...(dpop && { token_type: 'dpop' }),
      ...(actor && { actor_token: { env: `${id}_ACTOR`, type: JWT, subject: actor } }),
    };
    const cluster = JSON.parse(secure.replaceAll(parts.okta.host.name, provider.host.name));
    const [endpoint] = cluster.load_assignment.endpoints[0].lb_endpoints;
    endpoint.endpoint.address.socket_address.port_value = provider.host.tlsPort ?? provider.host.port;
    if (!provider.host.tlsPort) delete cluster.transport_socket;
    cluster.load_assignment.cluster_name = id;
    const { http_filters } = listeners[0].filter_chains[0].filters[0].typed_config;
    secrets.push(...provenByEnvoy(row, cluster, http_filters));
    clusters.push({ ...cluster, name: id });
  }
  bootstrap.static_resources.secrets = secrets;
  const isOfFilter = (name) => JSON.stringify(filter).includes(`"env":"${name}"`);
  const all = [parts.env, ...ROWS.map(({ env }) => env)].flatMap(Object.keys);
  wasmOf(bootstrap).vm_config.environment_variables.host_env_keys = all.filter(isOfFilter);
}

/** Sets what Envoy does for a client in the recipes; returns the secrets that Envoy then has. */
function provenByEnvoy({ id, method, from }, cluster, http_filters) {
  const inVariable = (name) => ({ environment_variable: `${id}_${name}` });
  const secret = (name) => ({ name: id, generic_secret: { secret: inVariable(name) } });
  if (method.endsWith('tls_client_auth')) {
    const { common_tls_context } = cluster.transport_socket.typed_config;
    common_tls_context.tls_certificates = [{ certificate_chain: inVariable('CERTIFICATE'), private_key: inVariable('KEY') }];
  } else if (method === 'envoy_injected') {
    const recipe = bootstrapOf('okta-sds', parts).static_resources.clusters.find(({ name }) => name === 'okta');
    const options = recipe.typed_extension_protocol_options;
    const [{ typed_config }] = Object.values(options)[0].http_filters;
    typed_config.extension_config.typed_config.credential.typed_config.credential = { name: id };
    cluster.typed_extension_protocol_options = options;
    return [secret('SECRET')];
  } else if (from === 'header') {
    const [listener] = bootstrapOf('entra-workload-identity', parts).static_resources.listeners;
    const [injector] = listener.filter_chains[0].filters[0].typed_config.http_filters;
    Object.assign(injector.typed_config.credential.typed_config, { header: `x-${id}`, credential: { name: id } });
    http_filters.unshift(injector);
    return [secret('ASSERTION')];
  }
  return [];
}

const call = ({ profile }, through, token) => through.call(token, {}, { path: PROFILES[profile].path });

/** Waits for the keys, and returns the answer. */
const answered = (row, through, token) =>
  until(async () => {
    const answer = await call(row, through, token);
    return answer.json.reason !== 'jwks_unavailable' && answer;
  }, 'the keys are there');

/** Token of a new user. */
async function subjectOf(row, user) {
  const { subject } = PROFILES[row.profile];
  return subject ? subject(row, user) : (await signIn(row.provider, user)).accessToken;
}

for (const row of ROWS) {
  describe(row.title, () => {
    it('one exchange serves all requests of a user', async () => {
      const { provider, method, looks, algorithm, dpop, actor } = row;
      const token = await subjectOf(row, `user-of-${row.id}`);
      await answered(row, gateway, token);
      const all = await Promise.all(Array.from({ length: CROWD }, () => call(row, gateway, token)));
      const expected = PROFILES[row.profile].audience(provider);
      for (const { status, text, json } of all) {
        assert.deepEqual([status, json.issuer, [json.audience].flat()], [200, provider.forMcp.issuer, [expected]], text);
        assert.deepEqual([json.user, json.actor, json.scheme], [`user-of-${row.id}`, actor, dpop ? 'DPoP' : 'Bearer']);
      }
      for (const server of provider.legs ?? [provider.forMcp]) {
        const { exchanges } = server;
        // The first call learns the nonce for proofs; a second call with another assertion follows, because assertions are used
        // once.
        const wantsNonce = server === provider.forMcp;
        const calls = !dpop ? [200] : [wantsNonce ? 'use_dpop_nonce' : 200, 200];
        assert.deepEqual(exchanges.map(({ status, error }) => error ?? status), calls);
        for (const { clientAuthentication, assertion, proof, parameters } of exchanges) {
          assert.deepEqual([clientAuthentication, Boolean(proof)], [looks, Boolean(dpop)]);
          if (method === 'private_key_jwt') assert.equal(assertion.alg, algorithm);
          if (method === 'envoy_injected') assert.ok(!parameters.some((name) => name.startsWith('client_')), parameters.join());
        }
      }
    });

    it('a credential that is not registered gets 502', async () => {
      const [first] = row.provider.legs ?? [row.provider.forMcp];
      const { length } = first.exchanges;
      const { requests } = parts.mcp.counts;
      const answer = await answered(row, impostor, await subjectOf(row, `victim-of-${row.id}`));
      assert.deepEqual([answer.status, answer.json.reason], [502, 'exchange_misconfigured']);
      const errors = first.exchanges.slice(length).map(({ error }) => error);
      const failed = PROFILES[row.profile].failedAuthentication?.(row) ?? 'invalid_client';
      assert.deepEqual(errors, [row.actor ? 'invalid_request' : failed]);
      assert.equal(parts.mcp.counts.requests, requests);
    });
  });
}

it('the matrix has every profile that exchanges tokens', () => {
  const exchanging = facts.profiles.filter((profile) => profile !== 'validate_only');
  const names = Object.entries(PROFILES).map(([name, { profile = name }]) => profile);
  assert.deepEqual([...new Set(names)].sort(), exchanging.sort());
});

it('the module never trapped, and no secret is visible', async () => {
  assert.deepEqual(parts.mcp.mistaken, []);
  await assertSoundAndSilent(gateway);
  await assertSoundAndSilent(impostor);
});
