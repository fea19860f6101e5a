// Identity providers for crowds. They check client and subject token and sign another token as oidc-provider does in the other
// tests, in a fraction of its time, for thousands of users at once.

import { generateKeyPairSync, randomBytes, sign } from 'node:crypto';
import { createServer } from 'node:http';
import { createServer as createHttp2Server } from 'node:http2';
import { secrets } from './leaks.mjs';
import { listening } from './listening.mjs';

const TOKEN_EXCHANGE = 'urn:ietf:params:oauth:grant-type:token-exchange';
const ACCESS_TOKEN = 'urn:ietf:params:oauth:token-type:access_token';
const CLIENT = 'gateway';
const OF_A_CLIENT = { client_id: 'client', scope: 'mcp:read' };
export const AUDIENCE = 'https://gateway.example';
export const UPSTREAM_AUDIENCE = 'https://upstream.example';
/** Names of the providers, which are also the ends of their issuers. */
export const PROVIDERS = ['one', 'two'];

const encode = (value) => Buffer.from(JSON.stringify(value)).toString('base64url');

/**
 * Starts two issuers at one address, with HTTP/1.1 at `port` and HTTP/2 at `http2Port`. Faults are set at a `place` only: a
 * named set of endpoints.
 */
export async function startCrowdProvider() {
  const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const kid = randomBytes(8).toString('hex');
  const jwks = { keys: [{ ...publicKey.export({ format: 'jwk' }), kid, alg: 'ES256', use: 'sig' }] };
  const secret = randomBytes(24).toString('base64url');
  const places = new Map();
  // Tokens are looked up by their text, which needs no signature check.
  const made = new Map();
  const claimsOf = new Map();
  let healthy = true;

  const signed = (claims) => {
    const input = `${encode({ typ: 'at+jwt', alg: 'ES256', kid })}.${encode(claims)}`;
    return `${input}.${sign('sha256', Buffer.from(input), { key: privateKey, dsaEncoding: 'ieee-p1363' }).toString('base64url')}`;
  };
  const now = () => Math.floor(Date.now() / 1000);
  const once = (issuer, user, audience, claims) => {
    const name = `${issuer} ${user} ${audience}`;
    if (!made.has(name)) {
      const all = { iss: issuer, sub: user, aud: audience, iat: now(), exp: now() + 3600, ...claims };
      const token = signed(all);
      secrets.add(token);
      made.set(name, token);
      claimsOf.set(token, all);
    }
    return made.get(name);
  };

  const handle = async (request, response) => {
    const chunks = [];
    for await (const chunk of request) chunks.push(chunk);
    const answer = (status, body) => {
      if (response.destroyed || response.stream?.destroyed) return;
      response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(body));
    };
    const [, endpoint, name, provider] = request.url.split('/');
    if (endpoint === 'health') return answer(name === 'changing' && healthy ? 200 : 503, {});
    const place = places.get(name);
    if (!place) return answer(404, {});
    const server = { recordFaulty: () => {} };
    if (endpoint === 'keys') return place.meet('keys', { request, response, server, real: () => answer(200, jwks) });
    const form = new URLSearchParams(Buffer.concat(chunks).toString());
    const real = () => exchange(request, form, issuers[provider], answer);
    return place.meet('token', { request, response, server, real });
  };

  /** RFC 8693 section 2. */
  const exchange = ({ headers }, form, issuer, answer) => {
    const basic = Buffer.from(`${CLIENT}:${encodeURIComponent(secret)}`).toString('base64');
    if (headers.authorization !== `Basic ${basic}`) return answer(401, { error: 'invalid_client' });
    if (form.get('grant_type') !== TOKEN_EXCHANGE) return answer(400, { error: 'unsupported_grant_type' });
    const claims = claimsOf.get(form.get('subject_token'));
    if (form.get('subject_token_type') !== ACCESS_TOKEN || claims?.iss !== issuer || claims.aud !== AUDIENCE) {
      return answer(400, { error: 'invalid_request' });
    }
    if (form.get('audience') !== UPSTREAM_AUDIENCE) return answer(400, { error: 'invalid_target' });
    return answer(200, {
      access_token: once(issuer, claims.sub, UPSTREAM_AUDIENCE, { client_id: CLIENT }),
      issued_token_type: ACCESS_TOKEN,
      token_type: 'Bearer',
      expires_in: 3600,
    });
  };

  const plain = await listening(createServer({ keepAliveTimeout: 600_000 }, handle));
  const http2 = await listening(createHttp2Server(handle));
  const origin = `http://127.0.0.1:${plain.port}`;
  const issuers = Object.fromEntries(PROVIDERS.map((name) => [name, `${origin}/${name}`]));

  return {
    port: plain.port,
    http2Port: http2.port,
    secret,
    claimsOf: (token) => claimsOf.get(token),
    /** Token of a user of a provider. */
    token: (user, provider = 'one') => once(issuers[provider], user, AUDIENCE, OF_A_CLIENT),
    /** Token in the form of a user’s, with a random signature and a `kid` that the provider does not publish. */
    forged(number, provider = 'one') {
      const header = { typ: 'at+jwt', alg: 'ES256', kid: `unknown${number}` };
      const claims = { iss: issuers[provider], sub: `forged${number}`, aud: AUDIENCE, exp: now() + 3600, ...OF_A_CLIENT };
      return `${encode(header)}.${encode(claims)}.${randomBytes(64).toString('base64url')}`;
    },
    place(name) {
      const place = new Place(name, origin, issuers);
      places.set(name, place);
      return place;
    },
    /** Sets the result of health checks at `/health/changing`. */
    setHealthy(is) {
      healthy = is;
    },
    /** Refuses new connections on the HTTP/1.1 port until `again`. Open requests continue. */
    refuse: () => plain.refuse(),
    again: () => plain.again(),
    async stop() {
      await Promise.all([plain.stop(), http2.stop()]);
    },
  };
}

/** Named set of endpoints of the providers. */
class Place {
  constructor(name, origin, issuers) {
    Object.assign(this, { name, origin, issuers });
    this.faults = [];
    this.asked = { keys: 0, token: 0 };
  }

  /** Entry of `identity_providers`. */
  configuration(provider, changes = {}) {
    return {
      profile: 'rfc8693',
      issuer: this.issuers[provider],
      cluster: 'provider',
      audiences: [AUDIENCE],
      jwks_uri: `${this.origin}/keys/${this.name}/${provider}`,
      token_endpoint: `${this.origin}/token/${this.name}/${provider}`,
      timeout_seconds: 60,
      client: { id: CLIENT, authentication: { method: 'client_secret_basic', secret: { env: 'CROWD_SECRET' } } },
      ...changes,
    };
  }

  /** Lets requests at an endpoint meet a fault (see faults.mjs). Returns a function that removes the fault. */
  fail(endpoint, behave) {
    const fault = { endpoint, behave };
    this.faults.unshift(fault);
    return () => {
      this.faults = this.faults.filter((other) => other !== fault);
    };
  }

  meet(endpoint, exchange) {
    this.asked[endpoint] += 1;
    const fault = this.faults.find((one) => one.endpoint === endpoint);
    return fault ? fault.behave(exchange) : exchange.real();
  }
}
