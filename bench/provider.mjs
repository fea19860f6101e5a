// Identity provider in the form of Entra, with the least that a measurement needs: it serves discovery and keys, and answers
// each exchange at once. It verifies nothing; the provider in tests/envoy does.
import { constants, createHash, generateKeyPairSync, randomBytes, randomUUID, sign } from 'node:crypto';
import { createServer } from 'node:http';
import { promisify } from 'node:util';

const signAsync = promisify(sign);
const TENANT = '5f0c7a4e-9a0f-4c3e-8f5d-2b7f6f1f0c11';
const AUDIENCE = 'c1b0a9d8-7e6f-4a5b-9c8d-0e1f2a3b4c5d';
/** Padding to the usual length of an Entra token. */
const EXCHANGED_TOKEN_LENGTH = 1400;

export async function startProvider() {
  const keys = {
    RS256: signingKey(generateKeyPairSync('rsa', { modulusLength: 2048 })),
    PS256: signingKey(generateKeyPairSync('rsa', { modulusLength: 2048 }), 'PS256', { padding: constants.RSA_PKCS1_PSS_PADDING, saltLength: 32 }),
    ES256: signingKey(generateKeyPairSync('ec', { namedCurve: 'P-256' }), 'ES256', { dsaEncoding: 'ieee-p1363' }),
  };
  const jwks = { keys: Object.values(keys).map(({ jwk }) => jwk) };
  let exchanges = 0;
  let keyFetches = 0;
  let held = null;
  let took = 0n;

  const server = createServer(async (request, response) => {
    const came = process.hrtime.bigint();
    const chunks = [];
    for await (const chunk of request) chunks.push(chunk);
    const answer = (body) => response.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify(body));
    switch (request.url) {
      case `/${TENANT}/v2.0/.well-known/openid-configuration`:
        return answer({ issuer, jwks_uri: `${origin}/${TENANT}/discovery/v2.0/keys`, token_endpoint: `${origin}/${TENANT}/oauth2/v2.0/token` });
      case `/${TENANT}/discovery/v2.0/keys`:
        keyFetches += 1;
        return answer(jwks);
      case `/${TENANT}/oauth2/v2.0/token`: {
        exchanges += 1;
        const failing = await held?.promise;
        if (failing) return response.writeHead(503).end();
        const form = Buffer.concat(chunks);
        response.once('finish', () => {
          took = process.hrtime.bigint() - came;
        });
        return answer({ token_type: 'Bearer', scope: 'api://upstream/.default', expires_in: 3599, ext_expires_in: 3599, access_token: exchangedToken(form) });
      }
      default:
        return response.writeHead(404).end();
    }
  });
  server.keepAliveTimeout = 600_000;
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address();
  const origin = `http://127.0.0.1:${port}`;
  const issuer = `${origin}/${TENANT}/v2.0`;

  return {
    port,
    issuer,
    jwks,
    audience: AUDIENCE,
    exchanges: () => exchanges,
    keyFetches: () => keyFetches,
    /** Duration of the last exchange here, from its header to its answer, in milliseconds. */
    tookMs: () => Number(took) / 1e6,
    /** Holds the answers to exchanges until the returned function is called; with `failing`, they are 503. */
    hold({ failing = false } = {}) {
      held = Promise.withResolvers();
      return () => {
        held.resolve(failing);
        held = null;
      };
    },
    /** Access tokens of `count` different users, with the claims of Entra. */
    tokens(count, { algorithm: alg = 'RS256', lifetime = 3600 } = {}) {
      const header = encode({ typ: 'JWT', alg, kid: keys[alg].jwk.kid });
      const now = Math.floor(Date.now() / 1000);
      return Promise.all(Array.from({ length: count }, async () => {
        const input = `${header}.${encode({
          aud: AUDIENCE,
          iss: issuer,
          iat: now,
          nbf: now,
          exp: now + lifetime,
          aio: randomBytes(90).toString('base64'),
          azp: randomUUID(),
          azpacr: '1',
          name: 'Adele Vance',
          oid: randomUUID(),
          preferred_username: `${randomBytes(6).toString('hex')}@example.com`,
          rh: `1.${randomBytes(40).toString('base64url')}.`,
          scp: 'mcp:read mcp:write',
          sub: randomBytes(32).toString('base64url'),
          tid: TENANT,
          uti: randomBytes(16).toString('base64url'),
          ver: '2.0',
        })}`;
        const signature = await signAsync('sha256', Buffer.from(input), keys[alg].signer);
        return `${input}.${signature.toString('base64url')}`;
      }));
    },
    stop() {
      server.closeAllConnections();
      return new Promise((resolve) => server.close(resolve));
    },
  };
}

/** Key in its published form and in its signing form. */
function signingKey({ privateKey, publicKey }, alg, options) {
  const kid = randomBytes(20).toString('base64url');
  return { jwk: { ...publicKey.export({ format: 'jwk' }), use: 'sig', kid, ...(alg && { alg }) }, signer: { key: privateKey, ...options } };
}

function encode(value) {
  return Buffer.from(JSON.stringify(value)).toString('base64url');
}

/** A different token for each form parameter set, without the cost of a signature. */
function exchangedToken(form) {
  const seed = createHash('sha512').update(form).digest('base64url');
  return seed.repeat(Math.ceil(EXCHANGED_TOKEN_LENGTH / seed.length)).slice(0, EXCHANGED_TOKEN_LENGTH);
}
