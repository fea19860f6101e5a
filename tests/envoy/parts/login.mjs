// Sign-in by a script that sends what an MCP client sends (authorization code, PKCE, public client, resource indicator), and
// plays the user without a browser. sdk-client.mjs does it with a real MCP client.

import { createHash, randomBytes } from 'node:crypto';
import { REDIRECT_URI } from './addresses.mjs';
import { secrets } from './leaks.mjs';

/**
 * Signs a user in and returns `{accessToken, idToken, expiresIn}`.
 * @param {object} provider result of startOkta, startEntra or startRfc8693
 * @param {string[]} scopes short names, such as mcp:read
 * @param {string} resource the resource indicator (RFC 8707): `resource` of the metadata
 * @param {boolean} idToken requests an ID token as well, as MCP clients do not
 * @param prove returns the form fields of a confidential client at a token endpoint; or else by `headers`
 */
export async function signIn(
  provider,
  username,
  {
    scopes = ['mcp:read'],
    resource = provider.resource,
    idToken = false,
    server = provider.signIn,
    client = provider.ids.mcpClient,
    prove = async () => ({}),
    headers = {},
  } = {},
) {
  const browser = browserOf(provider.host);
  const verifier = randomBytes(32).toString('base64url');
  const state = randomBytes(8).toString('hex');
  const authorize = new URL(server.urls.authorize);
  authorize.search = new URLSearchParams({
    client_id: client,
    response_type: 'code',
    redirect_uri: REDIRECT_URI,
    scope: [...(idToken ? ['openid'] : []), ...scopes.map((scope) => provider.scopeOf(resource, scope))].join(' '),
    resource,
    state,
    code_challenge: createHash('sha256').update(verifier).digest('base64url'),
    code_challenge_method: 'S256',
  });

  const callback = await playUser(provider.host, authorize, username, browser);
  if (callback.get('state') !== state || !callback.get('code')) {
    throw new Error(`sign-in of ${username} failed: ${callback}`);
  }

  const answer = await browser(server.urls.token, {
    headers,
    form: {
      grant_type: 'authorization_code',
      client_id: client,
      code: callback.get('code'),
      redirect_uri: REDIRECT_URI,
      code_verifier: verifier,
      resource,
      ...(await prove(server.urls.token)),
    },
  });
  return tokens(answer, username);
}

/**
 * Plays the user in a sign-in: follows the redirects from the URL of the client, and submits the form. Returns the parameters of
 * the redirect to the client; throws the text of a page that leads no further.
 */
export async function playUser(host, url, username, browser = browserOf(host), redirectUri = REDIRECT_URI) {
  let page = await browser(url);
  for (let hops = 0; !page.location?.startsWith(`${redirectUri}?`); hops += 1) {
    if (hops > 10) throw new Error(`sign-in of ${username} goes in circles`);
    if (page.location) page = await browser(page.location);
    else if (page.status === 200) page = await browser(page.url, { form: { username } });
    else throw new Error(`sign-in of ${username} stopped at ${new URL(page.url).pathname}: ${page.status} ${page.text}`);
  }
  return new URL(page.location).searchParams;
}

/** Token of an application without a user (client_credentials). */
export async function machineToken(provider, scope, server = provider.signIn) {
  const answer = await browserOf(provider.host)(server.urls.token, {
    form: {
      grant_type: 'client_credentials',
      client_id: provider.ids.batch,
      client_secret: provider.batchSecret,
      scope,
    },
  });
  return tokens(answer, 'the machine').accessToken;
}

function tokens(answer, who) {
  if (answer.status !== 200) throw new Error(`no token for ${who}: ${answer.status} ${answer.text}`);
  const { access_token: accessToken, id_token: idToken, expires_in: expiresIn } = JSON.parse(answer.text);
  for (const token of [accessToken, idToken]) if (token) secrets.add(token);
  return { accessToken, idToken, expiresIn };
}

/** GET and POST with cookies, without following redirects. */
function browserOf(host) {
  const cookies = new Map();
  return async (url, { form, headers = {} } = {}) => {
    const target = host.reach(url);
    const response = await fetch(target.url, {
      method: form ? 'POST' : 'GET',
      body: form && new URLSearchParams(form),
      redirect: 'manual',
      headers: {
        ...target.headers,
        ...headers,
        cookie: [...cookies].map(([name, value]) => `${name}=${value}`).join('; '),
      },
    });
    for (const line of response.headers.getSetCookie()) {
      const [pair] = line.split(';');
      const at = pair.indexOf('=');
      cookies.set(pair.slice(0, at), pair.slice(at + 1));
    }
    const location = response.headers.get('location');
    return {
      url,
      status: response.status,
      text: await response.text(),
      location: location && new URL(location, url).href,
    };
  };
}
