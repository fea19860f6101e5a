// Issuer of workload tokens, as the API server of a Kubernetes cluster for service accounts: metadata, a JWKS, and signatures.

import { generateKeyPairSync, randomUUID } from 'node:crypto';
import { createServer } from 'node:http';
import { SignJWT } from 'jose';
import { listening } from './listening.mjs';

export async function startWorkloadIssuer() {
  const { publicKey, privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });
  const kid = randomUUID();
  const server = createServer((request, response) => {
    const body = {
      '/.well-known/openid-configuration': { issuer, jwks_uri: `${issuer}/openid/v1/jwks` },
      '/openid/v1/jwks': { keys: [{ ...publicKey.export({ format: 'jwk' }), kid, use: 'sig', alg: 'RS256' }] },
    }[request.url];
    response.writeHead(body ? 200 : 404, { 'content-type': 'application/json' }).end(JSON.stringify(body ?? {}));
  });
  const { port, stop } = await listening(server);
  const issuer = `http://127.0.0.1:${port}`;
  return {
    issuer,
    /** Token in the form that Kubernetes projects into a pod. */
    token({ subject, audience, seconds = 3600, iss = issuer, key = privateKey }) {
      const now = Math.floor(Date.now() / 1000);
      return new SignJWT({ iss, sub: subject, aud: [audience], iat: now, nbf: now, exp: now + seconds, jti: randomUUID() })
        .setProtectedHeader({ alg: 'RS256', kid })
        .sign(key);
    },
    stop,
  };
}
