// Sign-in: obstacles for an MCP client at Entra and at Okta, which the emulated providers here have as well. An emulation that
// is more lenient than the product hides that no user can sign in.

import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import {
  ENTRA_PATH,
  ENTRA_RESOURCE,
  MCP_HOST,
  OKTA_PATH,
  PORTLESS_REDIRECT_URI,
  REDIRECT_URI,
  RESOURCE,
  startGateway,
  startParts,
} from './parts/gateway.mjs';
import { playUser, signIn } from './parts/login.mjs';

let parts;
let gateway;
before(async () => {
  parts = await startParts();
  gateway = await startGateway(parts, { recipe: 'okta-and-entra' });
});
after(async () => {
  await gateway?.stop();
  await parts?.stop();
});

/** Sends GET or POST to a provider, and returns the answer with its body as text. Redirects are not followed. */
async function ask({ host }, url, form, type = 'application/x-www-form-urlencoded') {
  const target = host.reach(url);
  const response = await fetch(target.url, {
    method: form === undefined ? 'GET' : 'POST',
    body: form,
    headers: { ...target.headers, ...(form !== undefined && { 'content-type': type }) },
    redirect: 'manual',
  });
  const location = response.headers.get('location');
  return { status: response.status, text: await response.text(), location: location && new URL(location, url) };
}

/** URL to which an MCP client sends a browser, with `changes` of its parameters; `undefined` removes one. */
function signInUrl(provider, changes) {
  const url = new URL(provider.signIn.urls.authorize);
  const parameters = {
    client_id: provider.ids.mcpClient,
    response_type: 'code',
    redirect_uri: REDIRECT_URI,
    state: 'the state',
    code_challenge: 'E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM',
    code_challenge_method: 'S256',
    ...changes,
  };
  for (const [name, value] of Object.entries(parameters)) if (value !== undefined) url.searchParams.set(name, value);
  return url;
}
const authorize = (provider, changes) => ask(provider, signInUrl(provider, changes));

/** Parameters that came back to the client. */
function returned({ status, location, text }) {
  assert.equal(status, 303, text);
  assert.ok(location.href.startsWith(REDIRECT_URI), location.href);
  return Object.fromEntries(location.searchParams);
}

/** Returns `true` if the answer is the form for the name of the user. */
const isAsked = ({ status, location }) => status === 303 && location.pathname.includes('/login/');

describe('an MCP client at Entra', () => {
  it('a client is refused if the app has an api:// URI only', async (t) => {
    const own = await startParts({ entraAppIdUris: (clientId) => [`api://${clientId}`] });
    t.after(() => own.stop());
    const old = await startGateway(own, {
      recipe: 'entra',
      change: ({ resources: [resource] }) => {
        resource.audiences = [own.entra.ids.gateway, `api://${own.entra.ids.gateway}`];
        resource.scopes_supported = [`api://${own.entra.ids.gateway}/mcp:read`];
      },
    });
    t.after(() => old.stop());
    await assert.rejects(old.signIn('alice@contoso.example', { provider: own.entra }), {
      code: 'invalid_target',
      message: /^AADSTS9010010: /,
    });
    assert.deepEqual(own.entra.signIn.tokenRequests, []);
  });

  it('a client is refused if the metadata has an api:// URI', async (t) => {
    const old = await startGateway(parts, {
      recipe: 'entra',
      change: ({ resources: [resource] }) => {
        resource.scopes_supported = [`api://${parts.entra.ids.gateway}/mcp:read`];
      },
    });
    t.after(() => old.stop());
    await assert.rejects(old.signIn('alice@contoso.example', { provider: parts.entra }), /AADSTS500011: .*api:/);
  });

  it('a client is refused if the metadata has the short scope', async (t) => {
    const short = await startGateway(parts, {
      recipe: 'entra',
      change: ({ resources: [resource] }) => delete resource.scopes_supported,
    });
    t.after(() => short.stop());
    await assert.rejects(short.signIn('alice@contoso.example', { provider: parts.entra }), /AADSTS650053: .*'mcp:read'/);
  });

  it('a client cannot register itself at Entra', async () => {
    const stranger = { path: ENTRA_PATH, provider: parts.entra, clientId: null };
    await assert.rejects(gateway.signIn('alice@contoso.example', stranger), /does not support dynamic client registration/);
  });

  it('a client with a registered client ID signs in and refreshes its token', async () => {
    const { accessToken, refreshToken, whoami } = await gateway.signIn('alice@contoso.example', {
      path: ENTRA_PATH,
      provider: parts.entra,
    });
    assert.equal((await whoami()).issuer, parts.entra.forMcp.issuer);
    const refresh = (token, resource) => {
      const form = { grant_type: 'refresh_token', client_id: parts.entra.ids.mcpClient, refresh_token: token, resource };
      return ask(parts.entra, parts.entra.signIn.urls.token, new URLSearchParams(form));
    };
    const refreshed = JSON.parse((await refresh(refreshToken, ENTRA_RESOURCE)).text);
    assert.notEqual(refreshed.access_token, accessToken);
    assert.equal((await gateway.call(refreshed.access_token, {}, { path: ENTRA_PATH })).status, 200);
    const { status, text } = await refresh(refreshed.refresh_token, 'https://other.example/mcp');
    assert.deepEqual([status, JSON.parse(text).error], [400, 'invalid_target']);
    assert.match(JSON.parse(text).error_description, /^AADSTS9010010: /);
  });
});

describe('an MCP client at Okta', () => {
  it('a client may not register itself at Okta', async () => {
    const stranger = { path: OKTA_PATH, provider: parts.okta, clientId: null };
    await assert.rejects(gateway.signIn('bob@acme.example', stranger), /rejected \(HTTP 403\): .*"E0000005"/);
  });
});

it('a client of a resource of two providers goes to the first only', async (t) => {
  const both = await startGateway(parts);
  t.after(() => both.stop());
  const { json } = await both.send({ path: '/.well-known/oauth-protected-resource/mcp' });
  assert.deepEqual(json.authorization_servers, [parts.entra.signIn.issuer, parts.okta.signIn.issuer]);
  // The client has an ID of Okta, which Entra does not know.
  const bob = both.signIn('bob@acme.example', { provider: parts.okta });
  await assert.rejects(bob, /does not support dynamic client registration/);
});

describe('the emulated Entra', () => {
  const scopeOf = (identifier) => `${identifier}/mcp:read`;

  it('a resource that names the app of the scopes is accepted by any URI', async () => {
    for (const [resource, scope] of [
      [RESOURCE, scopeOf(RESOURCE)],
      [RESOURCE, `openid ${scopeOf(RESOURCE)} offline_access`],
      [ENTRA_RESOURCE, scopeOf(RESOURCE)],
      [RESOURCE, scopeOf(parts.entra.ids.gateway)],
      [undefined, scopeOf(RESOURCE)],
      [undefined, 'openid'],
    ]) {
      const answer = await authorize(parts.entra, { resource, scope });
      assert.ok(isAsked(answer), `${resource} ${scope}: ${answer.location}`);
    }
  });

  it('any other resource is refused in the redirect with AADSTS9010010', async () => {
    const other = `api://${parts.entra.ids.otherApi}`;
    for (const [resource, scope] of [
      ['https://mcp.example.com/mcp/', scopeOf(RESOURCE)],
      ['https://mcp.example.com', scopeOf(RESOURCE)],
      ['https://MCP.example.com/mcp', scopeOf(RESOURCE)],
      [other, scopeOf(RESOURCE)],
      [RESOURCE, scopeOf(other)],
      [RESOURCE, `${scopeOf(RESOURCE)} ${scopeOf(other)}`],
      [RESOURCE, 'openid'],
    ]) {
      const { error, error_description, state, ...others } = returned(await authorize(parts.entra, { resource, scope }));
      assert.deepEqual([error, state, others], ['invalid_target', 'the state', {}], `${resource} ${scope}`);
      assert.match(error_description, /^AADSTS9010010: /);
    }
  });

  it('scopes of no app, of an unknown app or unknown to it are refused', async () => {
    for (const [scope, error, code] of [
      ['mcp:read', 'invalid_client', /^AADSTS650053: .*'mcp:read'.*00000003-0000-0000-c000-000000000000/],
      [`${RESOURCE}/mcp:admin`, 'invalid_client', /^AADSTS650053: .*'mcp:admin'/],
      [scopeOf('https://unknown.example'), 'invalid_resource', /^AADSTS500011: .*https:\/\/unknown\.example/],
      [scopeOf(`api://${parts.entra.ids.gateway}`), 'invalid_resource', /^AADSTS500011: /],
    ]) {
      const answer = returned(await authorize(parts.entra, { scope, resource: RESOURCE }));
      assert.equal(answer.error, error, scope);
      assert.match(answer.error_description, code);
    }
  });

  it('a missing scope or another redirect URI gets an error page', async () => {
    const scope = scopeOf(RESOURCE);
    for (const [changes, code] of [
      [{ scope: undefined, resource: RESOURCE }, /AADSTS900144: /],
      [{ scope, redirect_uri: 'http://127.0.0.1:6276/other' }, /AADSTS50011: /],
      [{ scope, redirect_uri: 'http://localhost:6276/oauth/callback' }, /AADSTS50011: /],
      [{ scope, redirect_uri: 'https://127.0.0.1:6276/oauth/callback' }, /AADSTS50011: /],
      [{ scope, redirect_uri: 'http://127.0.0.1.evil.example:6276/oauth/callback' }, /AADSTS50011: /],
    ]) {
      const { status, location, text } = await authorize(parts.entra, changes);
      assert.deepEqual([status, location], [400, null], JSON.stringify(changes));
      assert.match(text, code);
    }
  });

  it('the port of a loopback redirect URI is ignored', async () => {
    for (const redirect_uri of [REDIRECT_URI, PORTLESS_REDIRECT_URI, 'http://127.0.0.1:1/oauth/callback']) {
      assert.ok(isAsked(await authorize(parts.entra, { scope: scopeOf(RESOURCE), resource: RESOURCE, redirect_uri })));
    }
  });

  it('Entra has one metadata document, which lacks members', async () => {
    const { issuer, urls } = parts.entra.signIn;
    const path = new URL(issuer).pathname;
    const there = await ask(parts.entra, `${issuer}/.well-known/openid-configuration`);
    const document = JSON.parse(there.text);
    assert.deepEqual(
      [there.status, document.issuer, document.authorization_endpoint, document.token_endpoint],
      [200, issuer, urls.authorize, urls.token],
    );
    for (const member of [
      'registration_endpoint',
      'code_challenge_methods_supported',
      'authorization_response_iss_parameter_supported',
      'client_id_metadata_document_supported',
      'grant_types_supported',
    ]) {
      assert.ok(!(member in document), member);
    }
    assert.ok(!document.token_endpoint_auth_methods_supported.includes('none'));
    for (const nothing of [
      `/.well-known/oauth-authorization-server${path}`,
      `/.well-known/openid-configuration${path}`,
      `${path}/.well-known/oauth-authorization-server`,
      `${path.replace('/v2.0', '')}/.well-known/oauth-authorization-server`,
      '/.well-known/oauth-authorization-server',
      '/.well-known/openid-configuration',
    ]) {
      assert.equal((await ask(parts.entra, new URL(nothing, issuer))).status, 404, nothing);
    }
  });
});

describe('the emulated Okta', () => {
  it('redirect URIs are compared exactly, and another gets an error page', async () => {
    assert.ok(isAsked(await authorize(parts.okta, { scope: 'mcp:read' })));
    for (const redirect_uri of [
      PORTLESS_REDIRECT_URI,
      'http://127.0.0.1:6277/oauth/callback',
      'http://localhost:6276/oauth/callback',
      `${REDIRECT_URI}/`,
    ]) {
      const { status, location, text } = await authorize(parts.okta, { scope: 'mcp:read', redirect_uri });
      assert.deepEqual([status, location], [400, null], redirect_uri);
      assert.match(text, /must be a Login redirect URI in the client app settings/);
    }
  });

  it('the resource parameter is ignored at both endpoints', async () => {
    for (const resource of [RESOURCE, 'https://other.example/mcp', 'no URI at all']) {
      const { accessToken } = await signIn(parts.okta, 'bob@acme.example', { resource });
      assert.equal((await gateway.call(accessToken, {}, { path: OKTA_PATH })).status, 200);
    }
  });

  it('the registration of a client needs an administrator', async () => {
    const url = `https://${parts.okta.host.name}/oauth2/v1/clients`;
    const { status, text } = await ask(parts.okta, url, '{"redirect_uris":["http://127.0.0.1/"]}', 'application/json');
    const { errorId, ...body } = JSON.parse(text);
    assert.equal(status, 403);
    assert.match(errorId, /^oae/);
    assert.deepEqual(body, {
      errorCode: 'E0000005',
      errorSummary: 'Invalid session',
      errorLink: 'E0000005',
      errorCauses: [],
    });
  });

  it('Okta has metadata at three paths, with the published scopes', async () => {
    for (const [server, path] of [
      [parts.okta.signIn, '/oauth2/default'],
      [parts.okta.org, ''],
    ]) {
      const published = server === parts.okta.org ? [] : ['mcp:read'];
      for (const [place, isOidc] of [
        [`${path}/.well-known/openid-configuration`, true],
        [`${path}/.well-known/oauth-authorization-server`, false],
        [`/.well-known/oauth-authorization-server${path}`, false],
      ]) {
        const { status, text } = await ask(parts.okta, new URL(place, server.issuer));
        assert.equal(status, 200, place);
        const document = JSON.parse(text);
        assert.equal(document.issuer, server.issuer);
        assert.equal(document.registration_endpoint, `https://${parts.okta.host.name}/oauth2/v1/clients`);
        assert.deepEqual(document.code_challenge_methods_supported, ['S256']);
        assert.ok(document.token_endpoint_auth_methods_supported.includes('none'));
        assert.deepEqual(document.scopes_supported.filter((scope) => scope.includes(':')), published);
        assert.equal('userinfo_endpoint' in document, isOidc);
        assert.ok(!('authorization_response_iss_parameter_supported' in document));
      }
      assert.equal((await ask(parts.okta, new URL(`/.well-known/openid-configuration${path}`, server.issuer))).status, path ? 404 : 200);
    }
  });
});

it('the sign-in script of other tests sends what the client sends', async () => {
  for (const [provider, path] of [
    [parts.entra, ENTRA_PATH],
    [parts.okta, OKTA_PATH],
  ]) {
    const server = provider.signIn;
    const resource = `https://${MCP_HOST}${path}`;
    await gateway.signIn('somebody@example.com', { path, provider });
    const [ofClient, forTokens] = [server.signIns.at(-1), server.tokenRequests.at(-1)];
    await signIn(provider, 'somebody@example.com', { resource });
    const [ofScript, forTheirs] = [server.signIns.at(-1), server.tokenRequests.at(-1)];
    // The client requests a refresh token, which no test needs from the script.
    const { prompt, ...expected } = { ...ofClient, scope: ofClient.scope.replace(' offline_access', '') };
    assert.equal(prompt, 'consent');
    assert.deepEqual(Object.keys(ofScript).sort(), Object.keys(expected).sort());
    for (const name of ['client_id', 'redirect_uri', 'scope', 'resource', 'code_challenge_method']) {
      assert.equal(ofScript[name], expected[name], name);
    }
    assert.deepEqual(forTheirs.parameters, forTokens.parameters);
    assert.equal(forTheirs.values.resource, forTokens.values.resource);
  }
});

it('neither provider returns iss with a code', async () => {
  for (const [provider, scope] of [
    [parts.entra, `${RESOURCE}/mcp:read`],
    [parts.okta, 'mcp:read'],
  ]) {
    const callback = await playUser(provider.host, signInUrl(provider, { scope }), 'somebody@example.com');
    assert.deepEqual([...callback.keys()].sort(), ['code', 'state']);
  }
});
