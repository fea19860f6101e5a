// User with an MCP client on the official SDK, who has a URL and the client ID that was registered for the client. The SDK does
// what MCP clients do: it reads the refusal, finds the metadata of the resource and of the authorization server, and sends the
// user there (its `auth()`). A script plays the browser.

import { randomBytes } from 'node:crypto';
import { Client, StreamableHTTPClientTransport, UnauthorizedError } from '@modelcontextprotocol/client';
import { REDIRECT_URI } from './addresses.mjs';
import { secrets } from './leaks.mjs';
import { playUser } from './login.mjs';
import { fetchBy } from './mcp-client.mjs';

/** State of the client for one server. */
class Wallet {
  constructor({ clientId, issuer, prove, sendsIdToken }) {
    this.sendsIdToken = sendsIdToken;
    this.client = clientId && { client_id: clientId, issuer };
    if (prove) {
      this.addClientAuthentication = async (_headers, form, url) => {
        for (const [name, value] of Object.entries(await prove(String(url)))) form.set(name, value);
      };
    }
  }

  redirectUrl = REDIRECT_URI;

  clientMetadata = {
    client_name: 'A person’s MCP client',
    redirect_uris: [REDIRECT_URI],
    grant_types: ['authorization_code', 'refresh_token'],
    response_types: ['code'],
    token_endpoint_auth_method: 'none',
  };

  state() {
    this.expectedState = randomBytes(16).toString('base64url');
    return this.expectedState;
  }

  clientInformation() {
    return this.client;
  }

  saveClientInformation(client) {
    this.client = client;
  }

  tokens() {
    return this.saved && { ...this.saved, ...(this.sendsIdToken && { access_token: this.saved.id_token }) };
  }

  saveTokens(tokens) {
    this.saved = tokens;
    for (const name of ['access_token', 'id_token', 'refresh_token']) if (tokens[name]) secrets.add(tokens[name]);
  }

  saveCodeVerifier(verifier) {
    secrets.add(verifier);
    this.verifier = verifier;
  }

  codeVerifier() {
    return this.verifier;
  }

  saveDiscoveryState(state) {
    this.discovered = state;
  }

  discoveryState() {
    return this.discovered;
  }

  redirectToAuthorization(url) {
    this.authorization = url;
  }
}

/**
 * Signs a user in who opens `url`. Returns the tokens, the URL that the user was sent to as `authorization`, the URLs that the
 * client requested, in order, as `asked`, and `whoami`, which calls that tool with the client and returns what the MCP server
 * read of the token.
 * @param {function(string): {url, headers, host}} reach address of a URL on this machine; `host` is the host that startOkta or
 * startEntra returned
 * @param {string} clientId of the client at the authorization server `issuer`; without one it tries to register itself
 * @param prove returns the form fields of a confidential client at a token endpoint
 * @param {boolean} sendsIdToken sends the ID token in place of the access token, as MCP clients do not
 */
export async function signInBySdk({ url, username, clientId, issuer, prove, sendsIdToken, reach }) {
  const asked = [];
  const fetch = fetchBy((address) => {
    asked.push(String(address));
    return reach(address);
  });
  const wallet = new Wallet({ clientId, issuer, prove, sendsIdToken });
  const newClient = () => [
    new Client({ name: 'onbehalf-tests', version: '1.0.0' }, { versionNegotiation: { mode: 'auto' } }),
    new StreamableHTTPClientTransport(new URL(url), { fetch, authProvider: wallet }),
  ];

  const [client, transport] = newClient();
  try {
    await client.connect(transport);
    throw new Error(`${url} lets people in who have not signed in`);
  } catch (error) {
    if (!(error instanceof UnauthorizedError && wallet.authorization)) throw error;
  } finally {
    await client.close();
  }
  const callback = await playUser(reach(wallet.authorization).host, wallet.authorization, username);
  if (callback.get('state') !== wallet.expectedState) throw new Error('the answer to another sign-in');
  await transport.finishAuth(callback);

  const { access_token: accessToken, id_token: idToken, refresh_token: refreshToken } = wallet.saved;
  return {
    accessToken,
    idToken,
    refreshToken,
    authorization: wallet.authorization,
    asked,
    async whoami() {
      const [again, connection] = newClient();
      try {
        await again.connect(connection);
        return (await again.callTool({ name: 'whoami', arguments: {} })).structuredContent;
      } finally {
        await again.close();
      }
    },
  };
}
