// Configuration errors: `envoy --mode validate` names the field, the value found and the value expected.

import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { generateKeyPairSync } from 'node:crypto';
import { assertSoundAndSilent } from './parts/expect.mjs';
import { discovered, rejected } from './parts/extension-discovery.mjs';
import { startGateway, startParts, validateRecipe, wasmOf } from './parts/gateway.mjs';
import { until } from './parts/until.mjs';

let parts;
before(async () => {
  parts = await startParts();
});
after(() => parts?.stop());

const provider = (name, edit) => (filter) => edit(filter.identity_providers[name]);
const authentication = (name, edit) => provider(name, ({ client }) => edit(client.authentication));
const resource = (edit) => (filter) => edit(filter.resources[0], filter);

/** [the mistake, the field that the error names, the edit] */
const MISTAKES = [
  ['no providers', 'identity_providers', (f) => (f.identity_providers = {})],
  ['no resources', 'resources', (f) => (f.resources = [])],
  ['an unknown field at the top', 'resource', (f) => (f.resource = [])],
  [
    'an unknown field in a provider',
    'identity_providers.entra',
    provider('entra', (p) => (p.audience = 'x')),
  ],
  [
    'an unknown field in a client',
    'identity_providers.okta.client',
    provider('okta', (p) => (p.client.secret = 'x')),
  ],
  ['an unknown field in a resource', 'resources[0]', resource((r) => (r.scope = 'x'))],
  [
    'an unknown field in an exchange',
    'resources[0].exchange.okta',
    resource((r) => (r.exchange.okta.target = 'x')),
  ],
  [
    'an unknown profile',
    'identity_providers.entra.profile',
    provider('entra', (p) => (p.profile = 'entra')),
  ],
  [
    'a provider name that cannot be a label',
    'identity_providers',
    (f) => (f.identity_providers['Entra US'] = f.identity_providers.entra),
  ],
  [
    'an issuer that is no URL',
    'identity_providers.entra.issuer',
    provider('entra', (p) => (p.issuer = 'login.microsoftonline.com')),
  ],
  [
    'an issuer without TLS',
    'identity_providers.okta.issuer',
    provider('okta', (p) => (p.issuer = 'http://acme.okta.com/oauth2/default')),
  ],
  [
    'the tenant common',
    'identity_providers.entra.issuer',
    provider('entra', (p) => (p.issuer = 'https://login.microsoftonline.com/common/v2.0')),
  ],
  [
    'two providers with one issuer',
    'identity_providers.okta.issuer',
    (f) => (f.identity_providers.okta.issuer = f.identity_providers.entra.issuer),
  ],
  ['no cluster', 'identity_providers.okta', provider('okta', (p) => delete p.cluster)],
  [
    'an empty cluster',
    'identity_providers.okta.cluster',
    provider('okta', (p) => (p.cluster = '')),
  ],
  ['no audiences', 'identity_providers.okta', provider('okta', (p) => delete p.audiences)],
  [
    'an empty list of audiences',
    'identity_providers.okta.audiences',
    provider('okta', (p) => (p.audiences = [])),
  ],
  [
    'a string where a list is needed',
    'identity_providers.okta.audiences',
    provider('okta', (p) => (p.audiences = 'api://default')),
  ],
  [
    'a string where a number is needed',
    'identity_providers.okta.timeout_seconds',
    provider('okta', (p) => (p.timeout_seconds = '10s')),
  ],
  [
    'a timeout out of range',
    'identity_providers.okta.timeout_seconds',
    provider('okta', (p) => (p.timeout_seconds = 3600)),
  ],
  [
    'an unknown method',
    'identity_providers.entra.client.authentication.method',
    authentication('entra', (a) => (a.method = 'client_secret')),
  ],
  [
    'a secret variable that is not set',
    'identity_providers.entra.client.authentication.secret.env',
    authentication('entra', (a) => (a.secret.env = 'FORGOTTEN')),
  ],
  [
    'a key variable that is not set',
    'identity_providers.okta.client.authentication.key.env',
    authentication('okta', (a) => (a.key.env = 'FORGOTTEN')),
  ],
  [
    'a key that is no key',
    'identity_providers.okta.client.authentication.key',
    authentication('okta', (a) => (a.key.env = 'ENTRA_CLIENT_SECRET')),
  ],
  [
    'a key for another algorithm',
    'identity_providers.okta.client.authentication.key',
    authentication('okta', (a) => (a.algorithm = 'RS256')),
  ],
  [
    'an algorithm that is not offered',
    'identity_providers.okta.client.authentication.algorithm',
    authentication('okta', (a) => (a.algorithm = 'HS256')),
  ],
  [
    'no secret at all',
    'identity_providers.entra.client.authentication.secret',
    authentication('entra', (a) => delete a.secret),
  ],
  [
    'an ID token as subject at Entra',
    'identity_providers.entra.subject_token',
    provider('entra', (p) => (p.subject_token = { type: 'id_token', header: 'x', audiences: ['a'] })),
  ],
  [
    'an ID token from nowhere',
    'identity_providers.okta.subject_token',
    provider('okta', (p) => (p.subject_token = { type: 'id_token', audiences: ['a'] })),
  ],
  ['a resource that is no URL', 'resources[0].url', resource((r) => (r.url = '/mcp'))],
  [
    'a resource with dots in its path',
    'resources[0].url',
    resource((r) => (r.url = 'https://mcp.example.com/a/../mcp')),
  ],
  [
    'two resources in one place',
    'resources[1].url',
    resource((r, f) => f.resources.push(structuredClone(r))),
  ],
  ['a resource without exchange', 'resources[0].exchange', resource((r) => (r.exchange = {}))],
  [
    'an exchange for an unknown provider',
    'resources[0].exchange.google',
    resource((r) => (r.exchange.google = { audience: 'x' })),
  ],
  [
    'an audience for Entra',
    'resources[0].exchange.entra.audience',
    resource((r) => (r.exchange.entra.audience = 'x')),
  ],
  [
    'nothing to ask Entra for',
    'resources[0].exchange.entra',
    resource((r) => (r.exchange.entra = {})),
  ],
  [
    'no audience for Okta',
    'resources[0].exchange.okta.audience',
    resource((r) => delete r.exchange.okta.audience),
  ],
  ['two scopes in one string', 'resources[0].scopes[0]', resource((r) => (r.scopes = ['a b']))],
  ['an unauthenticated path that is not normal', 'unauthenticated_paths[0]', (f) => (f.unauthenticated_paths = ['/a/../b'])],
];

/** Mistakes that `--mode validate` is asked about. One Envoy, which compiles the module once, is asked about all of them. */
const VALIDATED = ['no providers', 'a key that is no key', 'two scopes in one string'];

/** Asserts that the output has an error about the field, and no secret. */
function assertNames(field, output) {
  const line = output.split('\n').find((text) => text.includes('configuration error')) ?? output;
  assert.ok(line.includes(field), line);
  assert.match(line, /found .+ expected .+/, line);
  for (const secret of Object.values(parts.env)) assert.ok(!output.includes(secret));
}

describe('an error names its field', () => {
  for (const [what, field, change] of MISTAKES.filter(([name]) => VALIDATED.includes(name))) {
    it(`--mode validate refuses ${what}: ${field}`, async () => {
      const { ok, output } = await validateRecipe(parts, change);
      assert.ok(!ok, 'it was accepted');
      assertNames(field, output);
    });
  }
});

describe('an Envoy that runs refuses a configuration with a mistake', () => {
  let gateway;
  let replace;
  let valid;
  before(async () => {
    const change = (filter, bootstrap) => {
      valid = structuredClone(filter);
      replace = discovered(filter, bootstrap);
    };
    gateway = await startGateway(parts, { change });
  });
  after(() => gateway?.stop());

  for (const [what, field, change] of MISTAKES) {
    it(`${what}: ${field}`, async () => {
      const before = await rejected(gateway.envoy);
      const { length } = gateway.envoy.log;
      const mistaken = structuredClone(valid);
      change(mistaken);
      replace(mistaken);
      await until(async () => (await rejected(gateway.envoy)) > before, 'it is refused');
      await until(() => gateway.envoy.log.slice(length).includes('configuration error'), 'the log has an error');
      assertNames(field, gateway.envoy.log.slice(length));
    });
  }

  it('users are served by the configuration before the mistakes', async () => {
    assert.equal(await rejected(gateway.envoy), MISTAKES.length);
    const { accessToken } = await parts.bob();
    const answer = await gateway.call(accessToken);
    assert.equal(answer.status, 200, answer.text);
  });
});

describe('a valid configuration is accepted', () => {
  it('the recipe is accepted', async () => {
    const { ok, output } = await validateRecipe(parts);
    assert.ok(ok, output);
  });

  it('a configuration as a JSON string, as of Envoy Gateway, is accepted', async (t) => {
    const gateway = await startGateway(parts, {
      change: (filter, bootstrap) => {
        wasmOf(bootstrap).configuration = {
          '@type': 'type.googleapis.com/google.protobuf.StringValue',
          value: JSON.stringify(filter),
        };
      },
    });
    t.after(() => gateway.stop());
    const bob = await parts.bob();
    assert.equal((await gateway.call(bob.accessToken)).status, 200);
  });

  it('endpoints in the configuration need no discovery', async (t) => {
    const gateway = await startGateway(parts, {
      recipe: 'entra',
      change: ({ identity_providers: { entra } }) => {
        entra.jwks_uri = parts.entra.signIn.urls.keys;
        entra.token_endpoint = parts.entra.signIn.urls.token;
      },
    });
    t.after(() => gateway.stop());
    const { discovery } = parts.entra.signIn.counts;
    const alice = await parts.alice();
    assert.equal((await gateway.call(alice.accessToken)).status, 200);
    assert.equal(parts.entra.signIn.counts.discovery, discovery);
  });

  it('an inline secret is used, and the log warns without showing it', async (t) => {
    const gateway = await startGateway(parts, {
      recipe: 'entra',
      exposes: [parts.env.ENTRA_CLIENT_SECRET],
      change: ({ identity_providers: { entra } }) => {
        entra.client.authentication.secret = { inline: parts.env.ENTRA_CLIENT_SECRET };
      },
    });
    t.after(() => gateway.stop());
    const alice = await parts.alice();
    assert.equal((await gateway.call(alice.accessToken)).status, 200);
    await until(() => gateway.envoy.log.includes('secret.inline'), 'the warning is in the log');
    assert.ok(!gateway.envoy.log.includes(parts.env.ENTRA_CLIENT_SECRET));
  });

  it('a previous_secret is used while the new one is not registered', async (t) => {
    const gateway = await startGateway(parts, {
      recipe: 'entra',
      env: { ENTRA_NEW_SECRET: 'not known yet' },
      change: ({ identity_providers: { entra } }, bootstrap) => {
        const { authentication: client } = entra.client;
        client.previous_secret = client.secret;
        client.secret = { env: 'ENTRA_NEW_SECRET' };
        wasmOf(bootstrap).vm_config.environment_variables.host_env_keys.push('ENTRA_NEW_SECRET');
      },
    });
    t.after(() => gateway.stop());
    const { length } = parts.entra.forMcp.exchanges;
    const alice = await parts.alice();
    const answer = await gateway.call(alice.accessToken);
    assert.equal(answer.status, 200, answer.text);
    assert.deepEqual(parts.entra.forMcp.exchanges.slice(length).map(({ error }) => error ?? 'none'), ['invalid_client', 'none']);
    await assertSoundAndSilent(gateway);
  });

  for (const algorithm of ['RS256', 'RS384', 'RS512', 'PS256', 'PS384', 'PS512', 'ES384', 'EdDSA']) {
    it(`a key for ${algorithm} signs client assertions`, async (t) => {
      const own = await startParts({ oktaAlgorithm: algorithm });
      t.after(() => own.stop());
      const gateway = await startGateway(own, {
        change: authentication('okta', (a) => (a.algorithm = algorithm)),
      });
      t.after(() => gateway.stop());
      const bob = await own.bob();
      const answer = await gateway.call(bob.accessToken);
      assert.equal(answer.status, 200, answer.text);
      assert.equal(own.okta.forMcp.exchanges.at(-1).assertion.alg, algorithm);
      await assertSoundAndSilent(gateway);
    });
  }

  it('a key with its certificate authenticates at Entra', async (t) => {
    const own = await startParts({ entraCertificate: true });
    t.after(() => own.stop());
    const start = (certificate) =>
      startGateway(own, {
        recipe: 'entra',
        change: ({ identity_providers: { entra } }, bootstrap) => {
          const key = { env: 'ENTRA_PRIVATE_KEY' };
          entra.client.authentication = { method: 'private_key_jwt', algorithm: 'PS256', key, ...certificate };
          wasmOf(bootstrap).vm_config.environment_variables.host_env_keys = ['ENTRA_PRIVATE_KEY', 'ENTRA_CERTIFICATE'];
        },
      });
    const alice = await own.alice();
    const gateway = await start({ certificate: { env: 'ENTRA_CERTIFICATE' } });
    t.after(() => gateway.stop());
    const answer = await gateway.call(alice.accessToken);
    assert.equal(answer.status, 200, answer.text);
    assert.equal(own.entra.forMcp.exchanges.at(-1).assertion.thumbprint, own.entra.forMcp.settings.certificates[0]);
    await assertSoundAndSilent(gateway);

    const without = await start({});
    t.after(() => without.stop());
    const refused = await without.call(alice.accessToken);
    assert.equal(refused.status, 502, refused.text);
    await until(() => without.envoy.log.includes('error_codes=700027'), 'the log has the provider’s code');
  });
});

describe('an error about an unusable private key names its field', () => {
  const key = (type, options) => generateKeyPairSync(type, options).privateKey;
  const P256 = { namedCurve: 'P-256' };
  const KEYS = {
    'an RSA key that is too small': [
      'RS256',
      () => key('rsa', { modulusLength: 1024 }).export({ type: 'pkcs8', format: 'pem' }),
    ],
    'a key of another curve': [
      'ES256',
      () => key('ec', { namedCurve: 'P-384' }).export({ type: 'pkcs8', format: 'pem' }),
    ],
    'a key in the older form of PEM': [
      'ES256',
      () => key('ec', P256).export({ type: 'sec1', format: 'pem' }),
    ],
    'a public key': [
      'ES256',
      () => generateKeyPairSync('ec', P256).publicKey.export({ type: 'spki', format: 'pem' }),
    ],
    'half a key': [
      'ES256',
      () => key('ec', P256).export({ type: 'pkcs8', format: 'pem' }).slice(0, 100),
    ],
  };
  for (const [what, [algorithm, make]] of Object.entries(KEYS)) {
    it(`${what} is refused`, async () => {
      const { ok, output } = await validateRecipe(
        parts,
        authentication('okta', (a) => (a.algorithm = algorithm)),
        { env: { ...parts.env, OKTA_PRIVATE_KEY: make() } },
      );
      assert.ok(!ok, 'it was accepted');
      assert.match(output, /identity_providers\.okta\.client\.authentication\.key/);
    });
  }
});
