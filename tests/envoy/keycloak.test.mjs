// Keycloak: the stand-in answers as the source of Keycloak does, and the recipe serves and refuses the users of a realm.

import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { clientAssertion, registeredKey } from './parts/authorization-server.mjs';
import { assertRefused, assertSoundAndSilent } from './parts/expect.mjs';
import { basic, startGateway, startParts } from './parts/gateway.mjs';
import { startKeycloak } from './parts/identity-provider.mjs';
import { logOut } from './parts/keycloak.mjs';
import { inPem, keysFor } from './parts/keys.mjs';
import { secrets } from './parts/leaks.mjs';
import { machineToken, signIn } from './parts/login.mjs';
import { invalidToken } from './parts/refusals.mjs';
import { decode } from './parts/tokens.mjs';

const TOKEN_TYPE = 'urn:ietf:params:oauth:token-type';
const EXCHANGE = 'urn:ietf:params:oauth:grant-type:token-exchange';

const claimsOf = (token) => decode(token.split('.')[1]);
const scopesOf = ({ scope }) => scope.split(' ');

describe('the stand-in for Keycloak', () => {
  const SECRET = 'a secret of the gateway: ~+&=%/';
  let keycloak;
  let token;
  let fromKiosk;
  before(async () => {
    keycloak = await startKeycloak({ clientSecret: SECRET });
    token = (await signIn(keycloak, 'carol')).accessToken;
    fromKiosk = (await signIn(keycloak, 'dora', { client: keycloak.ids.kiosk, scopes: ['profile'] })).accessToken;
  });
  after(() => keycloak?.host.down());

  const encoded = (client, secret) => `Basic ${basic(encodeURIComponent(client), encodeURIComponent(secret))}`;

  /** Sends a token request of the gateway, changed by `form`; a member that is undefined is left out. */
  async function request(form = {}, authorization = encoded('mcp-gateway', SECRET)) {
    const { url, headers } = keycloak.host.reach(keycloak.forMcp.urls.token);
    const all = {
      grant_type: EXCHANGE,
      subject_token: token,
      subject_token_type: `${TOKEN_TYPE}:access_token`,
      audience: 'mcp-server',
      scope: 'mcp:call',
      ...form,
    };
    const pairs = Object.entries(all).flatMap(([name, value]) => [value ?? []].flat().map((one) => [name, one]));
    const response = await fetch(url, {
      method: 'POST',
      headers: { ...headers, ...(authorization && { authorization }) },
      body: new URLSearchParams(pairs),
    });
    const body = await response.json();
    if (body.access_token) secrets.add(body.access_token);
    return { status: response.status, ...body };
  }

  const REFUSED = [
    ['another impersonated user', { requested_subject: 'bob' }, 400, 'invalid_request', "Parameter 'requested_subject' is not supported for standard token exchange"],
    ['a requested issuer', { requested_issuer: 'github' }, 400, 'invalid_request', "Parameter 'requested_issuer' is not supported for standard token exchange"],
    ['an issuer of the subject', { subject_issuer: 'github' }, 400, 'invalid_request', "Parameter 'subject_issuer' is not supported for standard token exchange"],
    ['no subject token', { subject_token: undefined }, 400, 'invalid_request', "Parameter 'subject_token' required for standard token exchange"],
    ['a subject token of the type jwt', { subject_token_type: `${TOKEN_TYPE}:jwt` }, 400, 'invalid_request', "Parameter 'subject_token' supports access tokens only"],
    ['a subject token of the type id_token', { subject_token_type: `${TOKEN_TYPE}:id_token` }, 400, 'invalid_request', "Parameter 'subject_token' supports access tokens only"],
    ['a forged subject token', { subject_token: 'a.b.c' }, 400, 'invalid_request', 'Invalid token'],
    ['a requested SAML assertion', { requested_token_type: `${TOKEN_TYPE}:saml2` }, 400, 'invalid_request', 'requested_token_type unsupported'],
    ['a requested refresh token', { requested_token_type: `${TOKEN_TYPE}:refresh_token` }, 400, 'invalid_request', 'requested_token_type unsupported'],
    ['an audience that is no client', { audience: 'https://mcp.example.com/mcp' }, 400, 'invalid_client', 'Audience not found'],
    ['an audience that is a disabled client', { audience: 'reports' }, 400, 'invalid_client', 'Client disabled'],
    ['an audience that no client scope adds', { audience: 'mcp-server', scope: undefined }, 400, 'invalid_request', 'Requested audience not available: mcp-server'],
    ['one of two audiences that no client scope adds', { audience: ['mcp-server', 'mcp-clients'] }, 400, 'invalid_request', 'Requested audience not available: mcp-clients'],
    ['a scope of another client', { scope: 'mcp:read' }, 400, 'invalid_scope', 'Invalid scopes: mcp:read'],
    ['another grant', { grant_type: 'urn:example:other' }, 400, 'unsupported_grant_type', 'Unsupported grant_type'],
  ];
  for (const [what, form, ...expected] of REFUSED) {
    it(`${what} is refused as by the source`, async () => {
      const { status, error, error_description } = await request(form);
      assert.deepEqual([status, error, error_description], expected);
    });
  }

  it('a token without the client in its audience is refused with 403', async () => {
    assert.equal(claimsOf(fromKiosk).aud, 'account');
    const { status, error, error_description } = await request({ subject_token: fromKiosk });
    assert.deepEqual([status, error, error_description], [403, 'access_denied', 'Client is not within the token audience']);
  });

  it('failed client authentication is told apart by its method', async () => {
    const wrong = 'Invalid client or Invalid client credentials';
    const seen = [];
    for (const [form, authorization] of [
      [{}, encoded('mcp-gateway', 'not the secret')],
      [{}, encoded('stranger', SECRET)],
      [{ client_id: 'mcp-gateway', client_secret: 'not the secret' }, null],
    ]) {
      const { status, error, error_description } = await request(form, authorization);
      seen.push([status, error, error_description]);
    }
    assert.deepEqual(seen, [
      [401, 'unauthorized_client', wrong],
      [401, 'invalid_client', wrong],
      [401, 'unauthorized_client', wrong],
    ]);
    const key = () => inPem(keysFor('ES256').privateKey);
    const named = { kid: 'onbehalf', alg: 'ES256' };
    keycloak.forMcp.register('mcp-gateway', { token_endpoint_auth_method: 'private_key_jwt', jwks: { keys: [registeredKey(key(), named)] } });
    const proof = await clientAssertion(key(), { client: 'mcp-gateway', audience: keycloak.forMcp.urls.token, ...named });
    const { status, error, error_description } = await request(proof, null);
    keycloak.forMcp.register('mcp-gateway', { token_endpoint_auth_method: 'client_secret_basic' });
    const failed = 'Client authentication with signed JWT failed: Signature on JWT token failed validation';
    assert.deepEqual([status, error, error_description], [400, 'invalid_client', failed]);
  });

  it('a public client, or one without the switch, may not exchange', async () => {
    const { settings } = keycloak.forMcp;
    keycloak.forMcp.register('mcp-clients', { grant_types: ['authorization_code', 'refresh_token', EXCHANGE] });
    const asPublic = () => request({ client_id: 'mcp-clients' }, null);
    const seen = [await asPublic()];
    settings.mayExchange.push('mcp-clients');
    seen.push(await asPublic());
    settings.mayExchange = [];
    seen.push(await request());
    settings.mayExchange = ['mcp-gateway'];
    const off = 'Standard token exchange is not enabled for the requested client';
    assert.deepEqual(
      seen.map(({ status, error, error_description }) => [status, error, error_description]),
      [
        [400, 'invalid_request', off],
        [400, 'invalid_client', 'Public client is not allowed to exchange token'],
        [400, 'invalid_request', off],
      ],
    );
  });

  it('a client that needs consent is refused with invalid_scope', async () => {
    keycloak.forMcp.settings.needConsent = ['mcp-gateway'];
    const { status, error, error_description } = await request();
    keycloak.forMcp.settings.needConsent = [];
    assert.deepEqual([status, error, error_description], [400, 'invalid_scope', 'Missing consents for Token Exchange in client mcp-gateway']);
  });

  it('a user who has logged out has no valid token any more', async () => {
    const { accessToken } = await signIn(keycloak, 'erin');
    assert.equal((await request({ subject_token: accessToken })).status, 200);
    logOut(keycloak.signIn, 'erin');
    const { status, error, error_description } = await request({ subject_token: accessToken });
    assert.deepEqual([status, error, error_description], [400, 'invalid_request', 'Invalid token']);
    const again = (await signIn(keycloak, 'erin')).accessToken;
    assert.equal((await request({ subject_token: again })).status, 200);
    assert.equal((await request({ subject_token: accessToken })).status, 400);
  });

  it('its tokens are those of Keycloak', async () => {
    const user = claimsOf(token);
    assert.deepEqual(decode(token.split('.')[0]).typ, 'JWT');
    assert.deepEqual(user.aud, ['mcp-gateway', 'account']);
    assert.deepEqual([user.typ, user.azp, user.preferred_username], ['Bearer', 'mcp-clients', 'carol']);
    assert.match(user.jti, /^onrtac:/);
    assert.ok(scopesOf(user).includes('mcp:read') && !('nonce' in user));

    const { access_token, ...answer } = await request();
    const exchanged = claimsOf(access_token);
    assert.deepEqual([exchanged.aud, exchanged.azp, exchanged.sub, exchanged.sid], ['mcp-server', 'mcp-gateway', user.sub, user.sid]);
    assert.match(exchanged.jti, /^onrtte:/);
    assert.deepEqual([answer.token_type, answer.expires_in, answer.issued_token_type], ['Bearer', 300, `${TOKEN_TYPE}:access_token`]);
    assert.deepEqual([answer.session_state, answer['not-before-policy'], answer.refresh_expires_in], [user.sid, 0, 0]);
    const { access_token: both } = await request({ audience: ['mcp-server', 'account'] });
    assert.deepEqual(claimsOf(both).aud, ['mcp-server', 'account']);
    const { access_token: idToken, token_type } = await request({ requested_token_type: `${TOKEN_TYPE}:id_token` });
    assert.deepEqual([token_type, claimsOf(idToken).typ, claimsOf(idToken).aud], ['N_A', 'ID', 'mcp-gateway']);

    const service = claimsOf(await machineToken(keycloak, ''));
    assert.deepEqual([service.preferred_username, service.client_id, service.sid], ['service-account-nightly-batch', 'nightly-batch', undefined]);
    assert.match(service.sub, /^[0-9a-f]{8}-/);
    await assert.rejects(machineToken(keycloak, 'mcp:read'), /400 .*Invalid scopes: mcp:read/);
  });

  it('its metadata is that of a realm, at the places of three documents', async () => {
    const get = async (path) => {
      const { url, headers } = keycloak.host.reach(`https://sso.acme.example${path}`);
      const response = await fetch(url, { headers });
      return response.ok && response.json();
    };
    const realm = '/realms/acme';
    const document = await get(`${realm}/.well-known/openid-configuration`);
    assert.equal(document.issuer, `https://sso.acme.example${realm}`);
    assert.equal(document.token_endpoint, `${document.issuer}/protocol/openid-connect/token`);
    assert.equal(document.jwks_uri, `${document.issuer}/protocol/openid-connect/certs`);
    assert.ok(document.grant_types_supported.includes(EXCHANGE));
    assert.deepEqual(await get(`${realm}/.well-known/oauth-authorization-server`), document);
    assert.deepEqual(await get(`/.well-known/oauth-authorization-server${realm}`), document);
    assert.equal(await get('/.well-known/openid-configuration'), false);
  });

  it('a client that registers itself is refused by the policy of the realm', async () => {
    const { url, headers } = keycloak.host.reach(`${keycloak.signIn.issuer}/clients-registrations/openid-connect`);
    const response = await fetch(url, { method: 'POST', headers, body: '{}' });
    assert.deepEqual([response.status, (await response.json()).error], [403, 'insufficient_scope']);
  });

  it('a scope that is not one of the client is refused at sign-in', async () => {
    const wanted = signIn(keycloak, 'carol', { scopes: ['mcp:call'] });
    await assert.rejects(wanted, /error=invalid_scope.*Invalid\+scopes/);
  });

  it('its keys for encryption stand beside those for signatures', async () => {
    const { url, headers } = keycloak.host.reach(keycloak.signIn.urls.keys);
    const { keys } = await (await fetch(url, { headers })).json();
    assert.deepEqual([...new Set(keys.map(({ use, alg }) => `${use} ${alg}`))], ['sig RS256', 'enc RSA-OAEP']);
  });
});

describe('the recipe for Keycloak', () => {
  let parts;
  let gateway;
  before(async () => {
    parts = await startParts({ hasKeycloak: true });
    gateway = await startGateway(parts, { recipe: 'keycloak' });
  });
  after(async () => {
    await gateway?.stop();
    await parts?.stop();
  });

  const exchanges = () => parts.keycloak.forMcp.exchanges;

  it('users get a token for the MCP server alone, by one exchange', async () => {
    const { accessToken } = await parts.carol();
    const seen = await gateway.whoami(accessToken);
    assert.deepEqual([seen.audience, seen.subject], ['mcp-server', claimsOf(accessToken).sub]);
    assert.ok(seen.scopes.includes('mcp:call') && !seen.scopes.includes('mcp:read'), seen.scopes.join());
    await gateway.whoami(accessToken);
    assert.equal(exchanges().length, 1);
    const [{ values, clientAuthentication, status }] = exchanges();
    assert.deepEqual([values.grant_type, values.audience, values.scope], [EXCHANGE, 'mcp-server', 'mcp:call']);
    assert.deepEqual([clientAuthentication, status], ['client_secret_basic', 200]);
  });

  it('tokens for other audiences and of service accounts are refused', async () => {
    const { length } = exchanges();
    const kiosk = await signIn(parts.keycloak, 'dora', { client: parts.keycloak.ids.kiosk, scopes: ['profile'] });
    await assertRefused(gateway, invalidToken('wrong_audience'), () => gateway.call(kiosk.accessToken));
    const service = await machineToken(parts.keycloak, '');
    const ofAnApplication = { reason: 'not_a_user_token', status: 403, error: 'access_denied' };
    await assertRefused(gateway, ofAnApplication, () => gateway.call(service));
    const { idToken } = await parts.carol({ idToken: true });
    const answer = await gateway.call(idToken);
    assert.equal(answer.status, 401, answer.text);
    assert.equal(exchanges().length, length);
  });

  it('a user who has logged out is served until the cached token ends', async () => {
    const { accessToken } = await signIn(parts.keycloak, 'frank');
    assert.equal((await gateway.call(accessToken)).status, 200);
    logOut(parts.keycloak.signIn, 'frank');
    const { length } = exchanges();
    assert.equal((await gateway.call(accessToken)).status, 200);
    assert.equal(exchanges().length, length);
  });

  it('a user who has logged out gets no new token', async () => {
    const { accessToken } = await signIn(parts.keycloak, 'grace');
    logOut(parts.keycloak.signIn, 'grace');
    // Other users of the realm have been served, so the configuration is right and the token is what differs.
    await assertRefused(gateway, invalidToken('exchange_rejected'), () => gateway.call(accessToken));
    assert.deepEqual([exchanges().at(-1).status, exchanges().at(-1).error], [400, 'invalid_request']);
  });

  it('a logged-out user gets 502 until any of four workers has served one', async () => {
    const four = await startGateway(parts, { recipe: 'keycloak', concurrency: 4 });
    const loggedOut = async (username) => {
      const { accessToken } = await signIn(parts.keycloak, username);
      logOut(parts.keycloak.signIn, username);
      return accessToken;
    };
    /** Statuses and reasons of requests that all workers get some of: each has a new connection. */
    const answersTo = async (token, count = 40) => {
      const seen = new Set();
      for (let call = 0; call < count; call += 1) {
        const { status, text } = await four.call(token);
        seen.add(`${status} ${status === 200 ? '' : JSON.parse(text).reason}`);
      }
      return [...seen];
    };
    try {
      const { length } = exchanges();
      // No worker knows that the configuration is right. The first one asks, and shares the failure with the others.
      assert.deepEqual(await answersTo(await loggedOut('ivan')), ['502 exchange_misconfigured']);
      assert.equal(exchanges().length, length + 1);
      // One worker exchanges; the others find the token, which is as good a proof.
      assert.deepEqual(await answersTo((await signIn(parts.keycloak, 'judy')).accessToken), ['200 ']);
      assert.equal(exchanges().length, length + 2);
      for (const username of ['mallory', 'niaj', 'olivia']) {
        assert.deepEqual(await answersTo(await loggedOut(username), 12), ['401 exchange_rejected'], username);
      }
      await assertSoundAndSilent(four);
    } finally {
      await four.stop();
    }
  });

  it('the audience `account` lets tokens in that Keycloak refuses', async () => {
    const mistaken = await startGateway(parts, {
      recipe: 'keycloak',
      change: (filter) => {
        filter.resources[0].audiences = ['account'];
        filter.resources[0].scopes = ['profile'];
      },
    });
    try {
      const { accessToken } = await signIn(parts.keycloak, 'heidi', { client: parts.keycloak.ids.kiosk, scopes: ['profile'] });
      const arrived = parts.mcp.requests.length;
      const answer = await mistaken.call(accessToken);
      assert.deepEqual([answer.status, answer.json.reason], [502, 'exchange_misconfigured'], answer.text);
      assert.deepEqual([exchanges().at(-1).status, exchanges().at(-1).error], [403, 'access_denied']);
      assert.match(mistaken.envoy.log, /event=exchanged .* error="access_denied" status=403/);
      assert.equal(parts.mcp.requests.length, arrived);
      await assertSoundAndSilent(mistaken);
    } finally {
      await mistaken.stop();
    }
  });

  it('the module never trapped, and no secret is visible', () => assertSoundAndSilent(gateway));
});
