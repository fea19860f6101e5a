// idpyoidc (PyPI), an authorization server of the Identity Python project: an independent implementation of RFC 8693. It runs in
// its own process (idpyoidc/server.py).

import { spawn } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { importPKCS8, SignJWT } from 'jose';
import { registeredKey } from './authorization-server.mjs';
import { secrets } from './leaks.mjs';

const here = (path) => fileURLToPath(new URL(path, import.meta.url));
const PYTHON = process.env.IDPYOIDC_PYTHON ?? join(here('../../..'), '.tools/venv/bin/python');
const TOKEN_EXCHANGE = 'urn:ietf:params:oauth:grant-type:token-exchange';
const JWT_BEARER = 'urn:ietf:params:oauth:client-assertion-type:jwt-bearer';
const REDIRECT_URI = 'http://127.0.0.1/callback';

/**
 * @param {object} settings `scopes`, `audiences` (that may be requested), `signs` (the algorithm of its tokens), and `clients`
 * by ID, each with `method`, and `secret`, or `key` (PEM) and `algorithm`
 */
export async function startIdpyoidc({ clients, ...settings }) {
  const child = spawn(PYTHON, ['-I', here('./idpyoidc/server.py')], { stdio: ['pipe', 'pipe', 'pipe'], env: {} });
  let said = '';
  child.stderr.on('data', (chunk) => (said += chunk));
  const ended = new Promise((resolve) => child.on('close', resolve));
  const registered = Object.entries(clients).map(([id, { method, secret, key, algorithm }]) => {
    const jwks = key && { keys: [registeredKey(key, { kid: id, alg: algorithm })] };
    return [id, { method, secret, jwks, redirect_uris: [REDIRECT_URI], grant_types: ['authorization_code', TOKEN_EXCHANGE] }];
  });
  child.stdin.write(`${JSON.stringify({ ...settings, clients: Object.fromEntries(registered) })}\n`);
  const first = createInterface({ input: child.stdout })[Symbol.asyncIterator]().next();
  const { value: line } = await Promise.race([first, ended.then(() => ({}))]);
  if (!line) throw new Error(`idpyoidc does not start: ${said}`);
  const { port } = JSON.parse(line);
  const issuer = `http://127.0.0.1:${port}`;
  return {
    port,
    issuer,
    urls: { token: `${issuer}/token`, keys: `${issuer}/jwks.json` },
    /** Numbers of requests by endpoint. */
    counts: async () => (await fetch(`${issuer}/counts`)).json(),
    /** Messages of the server about requests that it refused. */
    complaints: () => said,
    /**
     * Signs a user in to a client (authorization code), and returns the access token. There is no page: the server reads the
     * user from `login_hint`.
     */
    async signIn(client, user, scopes) {
      const query = new URLSearchParams({
        client_id: client,
        response_type: 'code',
        redirect_uri: REDIRECT_URI,
        scope: scopes.join(' '),
        state: 'state',
        login_hint: user,
      });
      const seen = await fetch(`${issuer}/authorization?${query}`, { redirect: 'manual' });
      const location = seen.headers.get('location');
      if (!location) throw new Error(`no sign-in of ${user}: ${await seen.text()} ${said}`);
      const { headers, form } = await proves(client, clients[client], `${issuer}/token`);
      const answer = await fetch(`${issuer}/token`, {
        method: 'POST',
        headers,
        body: new URLSearchParams({
          grant_type: 'authorization_code',
          code: new URL(location).searchParams.get('code'),
          redirect_uri: REDIRECT_URI,
          ...form,
        }),
      });
      if (answer.status !== 200) throw new Error(`no token for ${user}: ${await answer.text()} ${said}`);
      const { access_token: token } = await answer.json();
      secrets.add(token);
      return token;
    },
    async stop() {
      child.stdin.end();
      await ended;
    },
  };
}

/** Client authentication at the token endpoint in a sign-in. */
async function proves(id, { method, secret, key, algorithm }, audience) {
  switch (method) {
    case 'client_secret_basic':
      return { headers: { authorization: `Basic ${btoa(`${id}:${secret}`)}` } };
    case 'client_secret_post':
      return { form: { client_id: id, client_secret: secret } };
    default: {
      const assertion = new SignJWT({ iss: id, sub: id, aud: audience, jti: randomUUID() })
        .setProtectedHeader({ alg: algorithm, kid: id })
        .setIssuedAt()
        .setExpirationTime('1m');
      const client_assertion = await assertion.sign(await importPKCS8(key, algorithm));
      return { form: { client_id: id, client_assertion_type: JWT_BEARER, client_assertion } };
    }
  }
}
