// Three verdicts on one token: onbehalf and `jwt_authn` of Envoy, each on a listener of the same Envoy, and jose.

import { createServer } from 'node:http';
import { connect } from 'node:net';
import { createLocalJWKSet, jwtVerify } from 'jose';
import { bootstrap, cluster, listener, ports, wasmFilter } from '../../../tools/envoy-config.mjs';
import { MODULE, startEnvoy } from './envoy.mjs';
import { issuers as makeIssuers } from './hostile-issuers.mjs';
import { answers } from './leaks.mjs';
import { listening } from './listening.mjs';

/** Algorithms of onbehalf; the others are limited to them. */
const ALGORITHMS = ['RS256', 'RS384', 'RS512', 'PS256', 'PS384', 'PS512', 'ES256', 'ES384', 'EdDSA', 'Ed25519'];

export async function startVerifiers() {
  const provider = await startProvider();
  const { issuers } = provider;
  let envoy;
  try {
    envoy = await startEnvoy(
      bootstrap([listener('onbehalf', [onbehalf(issuers)]), listener('jwt_authn', [jwtAuthn(issuers)])], [cluster('provider', provider.port)]),
      { env: { CLIENT_SECRET: 'of three verifiers' } },
    );
  } catch (error) {
    await provider.stop();
    throw error;
  }
  const portOf = await ports(envoy);
  const sets = issuers.map(({ issuer, audiences, leeway, jwks }) => ({
    keys: createLocalJWKSet(jwks),
    options: { issuer, audience: audiences, algorithms: ALGORITHMS, clockTolerance: leeway },
  }));

  return {
    issuers,
    envoy,
    /** Numbers of requests to the provider, by path. */
    asked: provider.asked,
    /** Client with its own connections and one request at a time. */
    asker() {
      const lines = { onbehalf: new Line(portOf.onbehalf), jwt_authn: new Line(portOf.jwt_authn) };
      const ask = async (side, token) => {
        const { status, body } = await lines[side].ask(token);
        return { accepts: status === 200, status, says: status === 200 ? '' : body };
      };
      return {
        onbehalf: (token) => ask('onbehalf', token),
        jwt_authn: (token) => ask('jwt_authn', token),
        jose: (token) => joseVerdict(sets, token),
        close: () => Object.values(lines).forEach((line) => line.close()),
      };
    },
    async stop() {
      await envoy.stop();
      await provider.stop();
    },
  };
}

/** Verdict of jose for several trusted issuers: one of them must accept. HTTP strips surrounding spaces. */
async function joseVerdict(sets, written) {
  const token = written.replace(/^ +| +$/g, '');
  const says = [];
  for (const { keys, options } of sets) {
    try {
      await jwtVerify(token, keys, options);
      return { accepts: true, says: '' };
    } catch (error) {
      says.push(error.code ?? error.name);
    }
  }
  return { accepts: false, says: says.join(', ') };
}

/** Provider that serves discovery and keys of each issuer, and exchanges any token. */
async function startProvider() {
  const asked = {};
  let exchanges = 0;
  const server = createServer((request, response) => {
    asked[request.url] = (asked[request.url] ?? 0) + 1;
    request.resume().on('end', () => {
      const [, name, ...rest] = request.url.split('/');
      const issuer = issuers.find((known) => known.name === name);
      const answer = (body) => response.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify(body));
      switch (issuer && rest.join('/')) {
        case '.well-known/openid-configuration':
        case '.well-known/oauth-authorization-server':
          return answer({ issuer: issuer.issuer, jwks_uri: `${issuer.issuer}/keys`, token_endpoint: `${issuer.issuer}/token` });
        case 'keys':
          return answer(issuer.jwks);
        case 'token':
          exchanges += 1;
          return answer({
            access_token: `exchanged-${exchanges}`,
            issued_token_type: 'urn:ietf:params:oauth:token-type:access_token',
            token_type: 'Bearer',
            expires_in: 3600,
          });
        default:
          return response.writeHead(404).end();
      }
    });
  });
  server.keepAliveTimeout = 600_000;
  const { port, stop } = await listening(server);
  const issuers = makeIssuers(`http://127.0.0.1:${port}`);
  return { port, issuers, asked, stop };
}

function onbehalf(issuers) {
  const configuration = {
    identity_providers: Object.fromEntries(
      issuers.map(({ name, issuer, audiences, leeway }) => [
        name,
        {
          profile: 'rfc8693',
          issuer,
          cluster: 'provider',
          audiences,
          clock_skew_seconds: leeway,
          client: { id: 'gateway', authentication: { method: 'client_secret_post', secret: { env: 'CLIENT_SECRET' } } },
        },
      ]),
    ),
    resources: [
      {
        url: 'https://mcp.example.com/mcp',
        exchange: Object.fromEntries(issuers.map(({ name }) => [name, { audience: 'https://upstream.example' }])),
      },
    ],
  };
  return wasmFilter('onbehalf', MODULE, configuration, ['CLIENT_SECRET']);
}

function jwtAuthn(issuers) {
  const requirements = issuers.map(({ name }) => ({ provider_name: name }));
  return {
    name: 'envoy.filters.http.jwt_authn',
    typed_config: {
      '@type': 'type.googleapis.com/envoy.extensions.filters.http.jwt_authn.v3.JwtAuthentication',
      providers: Object.fromEntries(
        issuers.map(({ name, issuer, audiences, leeway, jwks }) => [
          name,
          { issuer, audiences, clock_skew_seconds: leeway, local_jwks: { inline_string: JSON.stringify(jwks) } },
        ]),
      ),
      rules: [{ match: { prefix: '/' }, requires: { requires_any: { requirements } } }],
    },
  };
}

/** Connection that sends a token byte by byte: HTTP clients refuse some of them. */
class Line {
  constructor(port) {
    this.port = port;
  }

  async ask(token) {
    this.socket ??= await this.#open();
    const answer = this.#answer(this.socket);
    this.socket.write(Buffer.from(`GET /mcp HTTP/1.1\r\nhost: mcp.example.com\r\nauthorization: Bearer ${token}\r\n\r\n`, 'latin1'));
    const { text, over } = await answer;
    if (over) this.close();
    const status = Number(text.match(/^HTTP\/1\.1 (\d{3}) /)?.[1]);
    if (!status) throw new Error(`no answer but ${JSON.stringify(text)}`);
    const body = text.slice(text.indexOf('\r\n\r\n') + 4);
    answers.add(body);
    return { status, body };
  }

  close() {
    this.socket?.destroy();
    this.socket = undefined;
  }

  #open() {
    return new Promise((resolve, reject) => {
      const socket = connect(this.port, '127.0.0.1', () => resolve(socket.off('error', reject).on('error', () => {})));
      socket.once('error', reject);
    });
  }

  #answer(socket) {
    return new Promise((resolve) => {
      let text = '';
      const done = (over) => {
        socket.off('data', more).off('close', ended);
        resolve({ text, over });
      };
      const ended = () => done(true);
      const more = (chunk) => {
        text += chunk.toString('latin1');
        const end = text.indexOf('\r\n\r\n');
        if (end < 0) return;
        const head = text.slice(0, end);
        const length = Number(head.match(/^content-length: (\d+)$/im)?.[1] ?? 0);
        if (text.length >= end + 4 + length) done(/^connection: close$/im.test(head));
      };
      socket.on('data', more).on('close', ended);
    });
  }
}
