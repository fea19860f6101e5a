// Key pairs for the algorithms of JWS, and private keys as an operator writes them.

import { generateKeyPairSync } from 'node:crypto';

export const inPem = (key) => key.export({ type: 'pkcs8', format: 'pem' });

export function keysFor(algorithm) {
  switch (algorithm) {
    case 'ES256':
      return generateKeyPairSync('ec', { namedCurve: 'P-256' });
    case 'ES384':
      return generateKeyPairSync('ec', { namedCurve: 'P-384' });
    case 'EdDSA':
      return generateKeyPairSync('ed25519');
    default:
      return generateKeyPairSync('rsa', { modulusLength: 2048 });
  }
}
