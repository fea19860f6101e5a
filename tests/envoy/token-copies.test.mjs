// Copies of the caller's token outside `authorization`, which filters of Envoy and other proxies put into fields and cookies:
// none reaches an upstream.

import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { after, before, describe, it } from 'node:test';
import { decodeJwt } from 'jose';
import { assertSoundAndSilent } from './parts/expect.mjs';
import { gate } from './parts/faults.mjs';
import { MCP_HOST, RESOURCE, startGateway, startParts } from './parts/gateway.mjs';
import { send2 } from './parts/http2-client.mjs';
import { answers, secrets } from './parts/leaks.mjs';
import { playUser, signIn } from './parts/login.mjs';
import { putBehind, startRecorder } from './parts/recorder.mjs';
import { until } from './parts/until.mjs';

const OPEN = '/healthz';
const CALLBACK = `https://${MCP_HOST}/callback`;
const WEB_CLIENT = '0oaweb';
const TYPE = 'type.googleapis.com/envoy.extensions.filters.http';
const TOKEN_COOKIES = ['BearerToken', 'IdToken', 'RefreshToken'];
const OWN_NAMES = { bearer_token: 'app_access', id_token: 'app_id', refresh_token: 'app_refresh' };

let parts;
let recorder;
/** Tokens that the provider has issued to the oauth2 filter: access, ID and refresh token. */
let issued;
const webSecret = randomBytes(24).toString('base64url');
const hmacSecret = randomBytes(32).toString('base64url');

before(async () => {
  parts = await startParts();
  recorder = await startRecorder({ http2: true });
  for (const secret of [webSecret, hmacSecret]) secrets.add(secret);
  const { signIn: server } = parts.okta;
  server.clients.push({
    client_id: WEB_CLIENT,
    client_secret: webSecret,
    token_endpoint_auth_method: 'client_secret_post',
    grant_types: ['authorization_code', 'refresh_token'],
    response_types: ['code'],
    redirect_uris: [CALLBACK],
  });
  server.register(WEB_CLIENT, {});
  server.provider.on('grant.success', ({ body }) => {
    issued = [body.access_token, body.id_token, body.refresh_token].filter(Boolean);
    for (const token of issued) secrets.add(token);
  });
});
after(async () => {
  await recorder?.stop();
  await parts?.stop();
});

/** Envoy's oauth2 filter for a web application; a request with `x-direct` bypasses it. */
function oauth2({ cookie_names, ...more }) {
  const { urls } = parts.okta.signIn;
  return {
    name: 'envoy.filters.http.oauth2',
    typed_config: {
      '@type': `${TYPE}.oauth2.v3.OAuth2`,
      config: {
        token_endpoint: { cluster: 'okta', uri: urls.token, timeout: '5s' },
        // A user who is asked for consent gets a refresh token.
        authorization_endpoint: `${urls.authorize}?prompt=consent`,
        redirect_uri: CALLBACK,
        redirect_path_matcher: { path: { exact: '/callback' } },
        signout_path: { path: { exact: '/signout' } },
        credentials: { client_id: WEB_CLIENT, token_secret: { name: 'web' }, hmac_secret: { name: 'hmac' }, cookie_names },
        auth_type: 'URL_ENCODED_BODY',
        auth_scopes: ['openid', 'offline_access', 'mcp:read'],
        forward_bearer_token: true,
        use_refresh_token: true,
        pass_through_matcher: [{ name: 'x-direct', present_match: true }],
        ...more,
      },
    },
  };
}

/** Envoy's jwt_authn filter, which forwards the claims of the token to the filters behind it. */
function jwtAuthn() {
  const { issuer, urls } = parts.okta.signIn;
  return {
    name: 'envoy.filters.http.jwt_authn',
    typed_config: {
      '@type': `${TYPE}.jwt_authn.v3.JwtAuthentication`,
      providers: {
        okta: {
          issuer,
          forward: true,
          forward_payload_header: 'x-jwt-payload',
          remote_jwks: { http_uri: { uri: urls.keys, cluster: 'okta', timeout: '5s' } },
        },
      },
      rules: [{ match: { prefix: '/' }, requires: { requires_any: { requirements: [{ provider_name: 'okta' }, { allow_missing_or_failed: {} }] } } }],
    },
  };
}

function start(front, exposes) {
  return startGateway(parts, {
    exposes,
    change: (filter, bootstrap) => {
      filter.unauthenticated_paths = [OPEN];
      filter.request_headers_to_remove = ['x-session-token'];
      filter.request_cookies_to_remove = ['sid', OWN_NAMES.refresh_token];
      putBehind(bootstrap, recorder);
      const { static_resources } = bootstrap;
      const secret = (name, inline_string) => ({ name, generic_secret: { secret: { inline_string } } });
      static_resources.secrets = [secret('web', webSecret), secret('hmac', hmacSecret)];
      const [manager] = static_resources.listeners[0].filter_chains[0].filters;
      manager.typed_config.http_filters.unshift(...front);
    },
  });
}

/** Sends a request, asserts that it gets 200, and returns the one request that reaches the upstream. */
async function arrival(act) {
  const { length } = recorder.requests;
  const answer = await act();
  assert.equal(answer.status, 200, answer.text);
  assert.equal(recorder.requests.length, length + 1);
  return recorder.requests.at(-1);
}

/** Asserts that the request has a token for the upstream (or none), and nowhere a part of these tokens. */
function assertFree(arrived, tokens, { open = false } = {}) {
  const authorization = arrived.all('authorization');
  assert.equal(authorization.length, open ? 0 : 1);
  if (!open) assert.equal(decodeJwt(authorization[0].split(' ')[1]).aud, RESOURCE);
  for (const token of tokens) {
    const segments = token.split('.');
    const [secret, payload] = segments.length === 3 ? [segments[2], segments[1]] : [token];
    for (const [name, value] of [...arrived.fields, ['body', arrived.body]]) {
      const text = decodeURIComponent(decodeURIComponent(value));
      assert.ok(!text.includes(secret), `a token goes on in ${name}`);
      // jwt_authn forwards the claims without the signature.
      if (name !== 'x-jwt-payload') assert.ok(!text.includes(payload ?? secret), `claims go on in ${name}`);
    }
  }
}

/** Sends one request over either protocol. */
const PROTOCOLS = {
  'HTTP/1.1': (gateway, path, headers) => gateway.send({ method: 'POST', path, body: '{}', headers }),
  'HTTP/2': (gateway, path, headers) => send2({ ...gateway.target, path, headers }),
};

const plain = { disable_token_encryption: true };
for (const [what, more] of Object.entries({
  encrypts: {},
  'does not encrypt': plain,
  'has names of its own for': { cookie_names: OWN_NAMES, ...plain },
})) {
  describe(`Envoy’s oauth2 filter in front, which ${what} its cookies`, () => {
    const names = more.cookie_names ? Object.values(more.cookie_names) : TOKEN_COOKIES;
    let gateway;
    let jar;
    before(async () => {
      gateway = await start([oauth2(more)]);
      jar = await signInByBrowser(gateway, `web-${what.length}@acme.example`);
    });
    after(() => gateway?.stop());

    const cookies = () => ['theme=dark', ...[...jar].map(([name, value]) => `${name}=${value}`), 'lang=en'].join('; ');

    it('the browser has cookies with all three tokens', () => {
      assert.equal(issued.length, names.length);
      for (const [index, name] of names.entries()) {
        const value = jar.get(name);
        assert.ok(value, name);
        if (what !== 'encrypts') assert.equal(decodeURIComponent(value), issued[index]);
      }
    });

    for (const [protocol, post] of Object.entries(PROTOCOLS)) {
      for (const [when, path] of [['that waits', '/mcp'], ['from the cache', '/mcp'], ['on an unauthenticated path', OPEN]]) {
        it(`a cookie with a token is removed over ${protocol} of a request ${when}`, async () => {
          if (when === 'that waits') jar = await signInByBrowser(gateway, `web-${protocol.length}-${what.length}@acme.example`);
          const { length } = parts.okta.forMcp.exchanges;
          const arrived = await arrival(() => post(gateway, path, { cookie: cookies() }));
          assert.equal(parts.okta.forMcp.exchanges.length - length, when === 'that waits' ? 1 : 0);
          assertFree(arrived, issued, { open: path === OPEN });
          const left = arrived.cookies.map((pair) => pair.split('=')[0]);
          for (const name of names) assert.ok(!left.includes(name), name);
          assert.ok(arrived.cookies.includes('theme=dark') && arrived.cookies.includes('lang=en'), left.join());
        });
      }
    }

    it('the module never trapped, and no secret is visible', () => assertSoundAndSilent(gateway));
  });
}

/** Signs a user in at the web application, and returns the cookies of the browser for the gateway. */
async function signInByBrowser(gateway, username) {
  const jar = new Map();
  const visit = async (path) => {
    const cookie = [...jar].map(([name, value]) => `${name}=${value}`).join('; ');
    const answer = await gateway.send({ path, headers: cookie ? { cookie } : {} });
    for (const line of answer.headers['set-cookie'] ?? []) {
      const [, name, value] = line.match(/^([^=]+)=([^;]*)/);
      jar.set(name, value);
    }
    return answer;
  };
  const first = await visit('/mcp');
  assert.equal(first.status, 302, first.text);
  const back = await playUser(parts.okta.host, first.headers.location, username, undefined, CALLBACK);
  const done = await visit(`/callback?${back}`);
  assert.equal(done.status, 302, done.text);
  // This answer may contain the tokens.
  for (const text of answers) if (text.includes('OauthHMAC=')) answers.delete(text);
  return jar;
}

describe('fields and cookies that contain a token of the caller', () => {
  let gateway;
  /** Tokens in the path or the host, which Envoy writes into its access log. */
  const shown = [];
  before(async () => {
    gateway = await start([jwtAuthn()], shown);
  });
  after(() => gateway?.stop());

  const foreign = () => {
    const [head, claims] = ['{"alg":"RS256"}', JSON.stringify({ iss: 'https://elsewhere.example', x: 'y'.repeat(80) })].map((text) =>
      Buffer.from(text).toString('base64url'),
    );
    return `${head}.${claims}.${randomBytes(64).toString('base64url')}`;
  };

  /** Fields that are removed, by their value or by their name. */
  const copies = (token, idToken) => ({
    'x-authorization': `Bearer ${token}`,
    'x-original-authorization': `bearer ${token}`,
    'x-access-token': token,
    'x-quoted': `"${token}"`,
    'x-json': JSON.stringify({ access_token: token, id_token: idToken }),
    'x-encoded': encodeURIComponent(JSON.stringify({ id_token: idToken })),
    'x-twice': encodeURIComponent(encodeURIComponent(`Bearer ${idToken}`)),
    'x-list': `a,${token};b`,
    'x-signature': token.split('.')[2],
    'x-id-token': idToken,
    referer: `https://app.example/?next=1#access_token=${token}&x=1`,
    baggage: `userId=1,token=${token}`,
    'user-agent': `agent/1.0 (${token})`,
    'sec-websocket-protocol': `bearer, ${token}`,
    'x-forwarded-access-token': 'opaque',
    'x-auth-request-access-token': 'opaque',
    'x-amzn-oidc-accesstoken': 'opaque',
    'x-amzn-oidc-data': 'opaque',
    'x-ms-token-aad-id-token': 'opaque',
    'x-ms-token-aad-refresh-token': 'opaque',
    'proxy-authorization': 'Basic YTpi',
    'x-session-token': 'opaque',
  });
  const cookieOf = (token, idToken) =>
    [
      'a=1',
      `access=${token}`,
      'sid=opaque',
      `state="${idToken}"`,
      `j=j%3A%7B%22t%22%3A%22${idToken}%22%7D`,
      'BearerToken=opaque',
      `theirs=${theirs}`,
      'b=2',
    ].join('; ');
  const theirs = foreign();
  const harmless = { 'x-plain': 'yes', 'x-foreign': theirs, traceparent: `00-${'a'.repeat(32)}-${'b'.repeat(16)}-01` };

  for (const [protocol, post] of Object.entries(PROTOCOLS)) {
    let token;
    let idToken;
    const all = () => ({
      authorization: `Bearer ${token}`,
      'x-direct': 'yes',
      ...copies(token, idToken),
      ...harmless,
      cookie: cookieOf(token, idToken),
    });
    const assertOnlyHarmless = (arrived, options) => {
      assertFree(arrived, [token, idToken], options);
      const names = arrived.fields.map(([name]) => name);
      for (const name of Object.keys(copies('x.y.z', 'x'))) assert.ok(!names.includes(name), name);
      for (const [name, value] of Object.entries(harmless)) assert.deepEqual(arrived.all(name), [value]);
      assert.deepEqual(arrived.cookies, ['a=1', `theirs=${theirs}`, 'b=2']);
    };

    it(`copies of a token are removed over ${protocol} from a waiting request`, async () => {
      ({ accessToken: token, idToken } = await signIn(parts.okta, `copies${protocol.length}@acme.example`, { idToken: true }));
      const hold = gate();
      const repair = parts.okta.forMcp.fail('token', hold.behave);
      try {
        const arrived = await arrival(async () => {
          const answer = post(gateway, '/mcp', all());
          await until(() => hold.waiting() === 1, 'the exchange is under way');
          hold.release();
          return answer;
        });
        assertOnlyHarmless(arrived);
      } finally {
        hold.release();
        repair();
      }
    });

    it(`copies of a token are removed over ${protocol} from a cached request`, async () => {
      assertOnlyHarmless(await arrival(() => post(gateway, '/mcp', all())));
    });

    it(`an unauthenticated path loses copies of a token over ${protocol}`, async () => {
      assertOnlyHarmless(await arrival(() => post(gateway, OPEN, all())), { open: true });
    });

    it(`tokens are removed over ${protocol} without one in authorization`, async () => {
      const { 'x-signature': _, ...whole } = copies(token, idToken);
      const names = Object.keys(whole);
      // A request with many more fields is refused before they are all read.
      while (names.length > 0) {
        const some = Object.fromEntries(names.splice(0, 4).map((name) => [name, whole[name]]));
        const headers = { 'x-direct': 'yes', ...some, ...harmless, cookie: cookieOf(token, idToken) };
        assertOnlyHarmless(await arrival(() => post(gateway, OPEN, headers)), { open: true });
      }
    });

    it(`each field with a token is removed over ${protocol} by itself`, async () => {
      for (const [name, value] of Object.entries(copies(token, idToken))) {
        const headers = { authorization: `Bearer ${token}`, [name]: value };
        const arrived = await arrival(() => post(gateway, '/mcp', headers));
        assertFree(arrived, [token, idToken]);
        assert.deepEqual(arrived.all(name), [], name);
      }
    });

    it(`the payload of jwt_authn is forwarded over ${protocol}`, async () => {
      const arrived = await arrival(() => post(gateway, '/mcp', { authorization: `Bearer ${token}` }));
      const [payload] = arrived.all('x-jwt-payload');
      assert.deepEqual(JSON.parse(Buffer.from(payload, 'base64url')), decodeJwt(token));
      assert.ok(!arrived.text.includes(token.split('.')[2]));
    });
  }

  it('cookies in several fields are read as one', async () => {
    const { accessToken, idToken } = await signIn(parts.okta, 'lines@acme.example', { idToken: true });
    const headers = ['authorization', `Bearer ${accessToken}`, 'cookie', `a=1; t=${accessToken}`, 'Cookie', 'IdToken=x', 'COOKIE', `b=2; i=${idToken}`];
    const arrived = await arrival(() => gateway.send({ headers }));
    assertFree(arrived, [accessToken, idToken]);
    assert.deepEqual(arrived.cookies, ['a=1', 'b=2']);
    const none = await arrival(() => gateway.send({ headers: headers.with(3, `t=${accessToken}`).with(7, `i=${idToken}`) }));
    assert.deepEqual(none.all('cookie'), []);
  });

  it('a token in the path, the host or x-forwarded-for gets 400', async () => {
    const { accessToken } = await signIn(parts.okta, 'shown@acme.example');
    shown.push(accessToken);
    const { length } = recorder.requests;
    const headers = { authorization: `Bearer ${accessToken}` };
    for (const options of [
      { path: `/mcp?x=${accessToken}` },
      { path: `/mcp/${accessToken}/y` },
      { path: `${OPEN}?x=${accessToken.replaceAll('.', '%2E')}` },
      { path: OPEN, host: accessToken },
      // Envoy appends the address of the client to this field.
      { more: { 'x-forwarded-for': accessToken } },
      { path: OPEN, more: { 'x-forwarded-for': accessToken } },
    ]) {
      const { more, ...where } = options;
      const answer = await gateway.send({ ...where, headers: { ...headers, ...more } });
      assert.deepEqual([answer.status, answer.json.reason], [400, 'multiple_credentials']);
    }
    assert.equal(recorder.requests.length, length);
  });

  it('the module never trapped, and no secret is visible', () => assertSoundAndSilent(gateway));
});
