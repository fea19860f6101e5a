// Providers as docs/guides/other-providers.md describes them, on one Envoy: tokens with other claims, endpoints on hosts of their
// own, a public client, and a key that is replaced under its old `kid`.

import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { createServer, request as httpRequest } from 'node:http';
import { after, before, describe, it } from 'node:test';
import { decodeJwt, decodeProtectedHeader } from 'jose';
import { assertSoundAndSilent, challengeOf } from './parts/expect.mjs';
import { MCP_HOST, metadataPathOf, startGateway, startParts, wasmOf } from './parts/gateway.mjs';
import { startRfc8693 } from './parts/identity-provider.mjs';
import { listening } from './parts/listening.mjs';
import { signIn } from './parts/login.mjs';
import { putBehind, startRecorder } from './parts/recorder.mjs';
import { until } from './parts/until.mjs';

const SECRET = 'se cret~+&=%/:';
const UPSTREAM = 'https://tickets.example';
const GATEWAY = 'https://gateway.example';
/** Host names of the endpoints of `split`, each served by a server of its own. */
const HOSTS = { metadata: '127.0.0.1', keys: 'keys.split.example', token: 'token.split.example' };

let parts;
let recorder;
let gateway;
const providers = {};
const fronts = {};

/** Server that knows some paths of a provider under one host name; `requests` has all that came, with their status. */
async function startFront(provider, name, paths) {
  const requests = [];
  const server = createServer((request, response) => {
    const host = request.headers.host.replace(/:\d+$/, '');
    if (host !== name || !paths.includes(request.url)) {
      requests.push(`404 ${host}${request.url}`);
      response.writeHead(404).end();
      return;
    }
    requests.push(`200 ${host}${request.url}`);
    const { method, url: path, headers } = request;
    const to = { host: '127.0.0.1', port: provider().host.port, method, path, headers };
    request.pipe(httpRequest(to, (answer) => answer.pipe(response.writeHead(answer.statusCode, answer.headers))));
  });
  return { ...(await listening(server)), requests };
}

const clusterOf = (name, port) => ({
  name,
  type: 'STATIC',
  load_assignment: {
    cluster_name: name,
    endpoints: [{ lb_endpoints: [{ endpoint: { address: { socket_address: { address: '127.0.0.1', port_value: port } } } }] }],
  },
});

before(async () => {
  parts = await startParts();
  recorder = await startRecorder();
  const start = (method, more) =>
    startRfc8693({ method, clientSecret: method === 'none' ? undefined : SECRET, audience: UPSTREAM, scopes: ['call'], ...more });
  providers.cognito = await start('client_secret_basic');
  providers.auth0 = await start('client_secret_post');
  providers.public = await start('none');
  providers.split = await start('client_secret_basic', {
    metadata: { jwks_uri: `https://${HOSTS.keys}/jwks`, token_endpoint: `https://${HOSTS.token}/token` },
  });
  const own = { metadata: ['/.well-known/openid-configuration'], keys: ['/jwks'], token: ['/token'] };
  for (const [name, paths] of Object.entries(own)) fronts[name] = await startFront(() => providers.split, HOSTS[name], paths);
  parts.servers.push(...Object.values(providers).map(({ forMcp }) => forMcp));

  gateway = await startGateway(parts, {
    recipe: 'okta',
    env: { OTHER_SECRET: SECRET },
    change: (filter, bootstrap) => {
      putBehind(bootstrap, recorder);
      wasmOf(bootstrap).vm_config.environment_variables.host_env_keys = ['OTHER_SECRET'];
      const { clusters } = bootstrap.static_resources;
      const provider = (name, method, more) => {
        const { forMcp, host, ids } = providers[name];
        if (name !== 'split') clusters.push(clusterOf(name, host.port));
        const authentication = method === 'none' ? { method } : { method, secret: { env: 'OTHER_SECRET' } };
        return { profile: 'rfc8693', issuer: forMcp.issuer, cluster: name, audiences: [GATEWAY], client: { id: ids.gateway, authentication }, ...more };
      };
      filter.identity_providers = {
        cognito: provider('cognito', 'client_secret_basic', { audience_claim: 'client_id', audiences: ['app1'], required_claims: { token_use: 'access' } }),
        auth0: provider('auth0', 'client_secret_post', { scope_claims: ['scope', 'permissions'] }),
        public: provider('public', 'none'),
        split: provider('split', 'client_secret_basic', { cluster: 'split_metadata', jwks_cluster: 'split_keys', token_cluster: 'split_token' }),
      };
      for (const [name, { port }] of Object.entries(fronts)) clusters.push(clusterOf(`split_${name}`, port));
      filter.resources = Object.keys(providers).map((name) => ({
        url: `https://${MCP_HOST}/${name}`,
        scopes: ['mcp:read'],
        exchange: { [name]: { audience: UPSTREAM, scopes: ['call'] } },
      }));
    },
  });
});
after(async () => {
  await gateway?.stop();
  await Promise.all(Object.values(fronts).map((front) => front.stop()));
  await Promise.all(Object.values(providers).map(({ host }) => host.down()));
  await recorder?.stop();
  await parts?.stop();
});

const now = () => Math.floor(Date.now() / 1000);
const call = (name, token) => gateway.call(token, {}, { path: `/${name}` });
const exchangesOf = (name) => providers[name].forMcp.exchanges;

/** Asserts that a user is served with an exchanged token. */
async function assertServed(name, token, subject) {
  const { length } = recorder.requests;
  const answer = await call(name, token);
  assert.equal(answer.status, 200, answer.text);
  const [authorization] = recorder.requests[length].all('authorization');
  const { iss, aud, sub } = decodeJwt(authorization.split(' ')[1]);
  assert.deepEqual([iss, aud, sub], [providers[name].forMcp.issuer, UPSTREAM, subject]);
}

/** Asserts that a token is refused, and neither exchanged nor forwarded. */
async function assertNotServed(name, token, status, reason) {
  const counts = () => [exchangesOf(name).length, recorder.requests.length];
  const earlier = counts();
  const answer = await call(name, token);
  assert.deepEqual([answer.status, answer.json.reason], [status, reason], answer.text);
  assert.equal(challengeOf(answer)?.resource_metadata, `https://${MCP_HOST}${metadataPathOf(`/${name}`)}`);
  assert.deepEqual(counts(), earlier);
}

describe('tokens of the form of Cognito', () => {
  const signed = (changes = {}) => {
    const { forMcp } = providers.cognito;
    const user = randomUUID();
    const claims = { sub: user, username: user, iss: forMcp.issuer, version: 2, client_id: 'app1', origin_jti: randomUUID(), token_use: 'access', scope: 'mcp:read', auth_time: now(), iat: now(), exp: now() + 3600, jti: randomUUID(), ...changes };
    return forMcp.sign(claims).then((token) => ({ token, user }));
  };

  it('a token without aud is accepted for its client', async () => {
    const { token, user } = await signed();
    await assertServed('cognito', token, user);
  });

  it('a token of another client, or of no client, is refused', async () => {
    for (const [client_id, reason] of [['app2', 'wrong_audience'], ['', 'wrong_audience'], [['app2'], 'wrong_audience'], [undefined, 'invalid_claims'], [1, 'invalid_claims']]) {
      await assertNotServed('cognito', (await signed({ client_id })).token, 401, reason);
    }
  });

  it('a token that has aud needs an accepted value in both', async () => {
    const { token, user } = await signed({ aud: 'app1' });
    await assertServed('cognito', token, user);
    await assertNotServed('cognito', (await signed({ aud: 'https://elsewhere.example' })).token, 401, 'wrong_audience');
  });

  it('an ID token and a refresh token are refused', async () => {
    await assertNotServed('cognito', (await signed({ token_use: 'id', aud: 'app1' })).token, 401, 'id_token_as_access_token');
    await assertNotServed('cognito', (await signed({ token_use: 'refresh', aud: 'app1' })).token, 401, 'unsupported_token_type');
  });
});

describe('tokens of the form of Auth0', () => {
  const signed = (changes = {}) => {
    const { forMcp } = providers.auth0;
    const user = `auth0|${randomUUID()}`;
    const claims = { iss: forMcp.issuer, sub: user, aud: [GATEWAY, `${forMcp.issuer}/userinfo`], azp: 'client1', iat: now(), exp: now() + 3600, scope: 'openid profile', ...changes };
    return forMcp.sign(claims, { typ: 'JWT' }).then((token) => ({ token, user }));
  };

  it('permissions of a token count as its scopes', async () => {
    const { token, user } = await signed({ permissions: ['mcp:read', 'mcp:write'] });
    await assertServed('auth0', token, user);
  });

  it('a token without the permission is refused', async () => {
    for (const permissions of [undefined, [], ['mcp:write'], [['mcp:read']], { 'mcp:read': true }]) {
      const { token } = await signed({ permissions });
      await assertNotServed('auth0', token, 403, 'insufficient_scope');
    }
  });
});

describe('a provider with keys and token endpoint on other hosts', () => {
  it('each endpoint is asked through its own cluster', async () => {
    const { accessToken } = await signIn(providers.split, 'erin');
    await assertServed('split', accessToken, 'erin');
    assert.deepEqual(Object.values(fronts).map(({ requests }) => requests), [
      [`200 ${HOSTS.metadata}/.well-known/openid-configuration`],
      [`200 ${HOSTS.keys}/jwks`],
      [`200 ${HOSTS.token}/token`],
    ]);
  });
});

describe('a public client', () => {
  it('its token request names it, and has no credentials', async () => {
    const { accessToken } = await signIn(providers.public, 'frank');
    await assertServed('public', accessToken, 'frank');
    const [{ clientAuthentication, parameters, values }] = exchangesOf('public');
    assert.deepEqual([clientAuthentication, values.client_id], ['none', providers.public.ids.gateway]);
    assert.deepEqual(parameters.filter((name) => /secret|assertion/.test(name)), []);
    assert.match(gateway.envoy.log, /\[warning\].*identity_providers\.public\.client/);
  });
});

describe('a provider that starts anew with another key under the old kid', () => {
  const kidOf = (token) => decodeProtectedHeader(token).kid;

  it('users of the new key are served, and those of the old key are not', async () => {
    const server = providers.public.forMcp;
    const old = (await signIn(providers.public, 'grace')).accessToken;
    await assertServed('public', old, 'grace');
    const fetched = server.counts.keys;
    server.rotate({ forgetOldKeys: true, kid: kidOf(old) });
    const fresh = (await signIn(providers.public, 'heidi')).accessToken;
    assert.equal(kidOf(fresh), kidOf(old));
    // Keys that have only just been fetched are not fetched again.
    await until(async () => {
      const answer = await call('public', fresh);
      if (answer.status !== 200) assert.deepEqual([answer.status, answer.json.reason], [401, 'bad_signature']);
      return answer.status === 200;
    }, 'the new key is fetched');
    await assertServed('public', fresh, 'heidi');
    assert.equal(server.counts.keys, fetched + 1);
    // The token was verified by a key that is no longer the provider's.
    await assertNotServed('public', old, 401, 'bad_signature');
    // Forged signatures cause no further fetch.
    for (let call = 0; call < 10; call += 1) {
      await assertNotServed('public', `${fresh.slice(0, -12)}${'AQ'.repeat(6)}`, 401, 'bad_signature');
    }
    assert.equal(server.counts.keys, fetched + 1);
  });
});

it('the module never trapped, and no secret is visible', () => assertSoundAndSilent(gateway));
