// DPoP key of a client (RFC 9449) and its proofs, on npm jose.

import { createHash, randomUUID } from 'node:crypto';
import { SignJWT, calculateJwkThumbprint, exportJWK, generateKeyPair } from 'jose';

/** Makes a key with its thumbprint, and `proof({method, url, token, nonce})`; further members replace claims of the proof. */
export async function proofKey(alg = 'ES256') {
  const { publicKey, privateKey } = await generateKeyPair(alg);
  const jwk = await exportJWK(publicKey);
  return {
    thumbprint: await calculateJwkThumbprint(jwk),
    proof({ method, url, token, nonce, ...change }) {
      const ath = createHash('sha256').update(token).digest('base64url');
      const iat = Math.floor(Date.now() / 1000);
      return new SignJWT({ htm: method, htu: url, jti: randomUUID(), iat, ath, nonce, ...change })
        .setProtectedHeader({ typ: 'dpop+jwt', alg, jwk })
        .sign(privateKey);
    },
  };
}
