// Three issuers and their published keys: one conformant, one with each oddity that a JWK Set can have, and one with a single
// key without a name.

import { createHmac, generateKeyPairSync, randomBytes, sign } from 'node:crypto';
import { selfSigned } from './certificate.mjs';

const rsa = (modulusLength = 2048, publicExponent = 65537) =>
  generateKeyPairSync('rsa', { modulusLength, publicExponent });
const ec = (namedCurve) => generateKeyPairSync('ec', { namedCurve });
const ed25519 = () => generateKeyPairSync('ed25519');

const b64url = (bytes) => Buffer.from(bytes).toString('base64url');
const publicJwk = ({ publicKey }) => publicKey.export({ format: 'jwk' });

/** Bytes of a JWS signature (RFC 7518 section 3, RFC 8037 section 3.1). `options` are those of `sign` in Node. */
export function signature(alg, key, input, options = {}) {
  const hash = `sha${alg.slice(-3)}`;
  switch (alg.slice(0, 2)) {
    case 'HS':
      return createHmac(hash, key).update(input).digest();
    case 'RS':
      return sign(options.hash ?? hash, input, key);
    case 'PS':
      return sign(hash, input, { key, padding: 6, saltLength: options.saltLength ?? Number(alg.slice(-3)) / 8 });
    case 'ES':
      return sign(hash, input, { key, dsaEncoding: options.encoding ?? 'ieee-p1363' });
    default:
      return sign(null, input, key);
  }
}

/** Returns `true` if a key of this kind can make signatures of this algorithm. */
export function canSign(alg, { asymmetricKeyType, asymmetricKeyDetails }) {
  const curves = { ES256: 'prime256v1', ES384: 'secp384r1', ES512: 'secp521r1' };
  // A PS512 signature does not fit into 1024 bits.
  if (alg === 'PS512' && asymmetricKeyDetails?.modulusLength <= 1024) return false;
  if (/^[RP]S(256|384|512)$/.test(alg)) return asymmetricKeyType === 'rsa';
  if (curves[alg]) return asymmetricKeyDetails?.namedCurve === curves[alg];
  return ['EdDSA', 'Ed25519'].includes(alg) && asymmetricKeyType === 'ed25519';
}

/** `signers`: signers of tokens of the issuer, by label. `published`: every public key, with any JWK. */
function issuer(name, origin, { audiences, leeway, keys }) {
  const signers = {};
  const published = [];
  const jwks = { keys: [] };
  for (const [label, { pair, alg, kid, jwk }] of Object.entries(keys)) {
    if (alg) signers[label] = { label, alg, kid, key: pair.privateKey ?? pair };
    if (pair?.publicKey) published.push(pair.publicKey);
    if (jwk) jwks.keys.push(jwk);
  }
  return { name, issuer: `${origin}/${name}`, audiences, leeway, jwks, signers, published };
}

export function issuers(origin) {
  const plain = {};
  for (const [alg, pair] of [
    ['RS256', rsa()],
    ['PS256', rsa()],
    ['ES256', ec('P-256')],
    ['ES384', ec('P-384')],
    ['EdDSA', ed25519()],
  ]) {
    plain[alg] = { pair, alg, kid: alg, jwk: { ...publicJwk(pair), alg, use: 'sig', kid: alg } };
  }

  const odd = {};
  const add = (label, pair, alg, { kid = label, ...members }) => {
    odd[label] = { pair, alg, kid, jwk: { ...publicJwk(pair), kid, ...members } };
  };
  // Same names as of the issuer above, with other keys.
  add('RS256', rsa(), 'RS256', { alg: 'RS256' });
  add('ES256', ec('P-256'), 'ES256', { alg: 'ES256' });
  add('RS512', rsa(), 'RS512', { alg: 'RS512' });
  add('PS384', rsa(), 'PS384', { alg: 'PS384' });
  const bare = rsa();
  add('bare RSA', bare, 'RS256', {});
  odd['bare RSA as RS512'] = { pair: bare, alg: 'RS512', kid: 'bare RSA' };
  odd['bare RSA as PS256'] = { pair: bare, alg: 'PS256', kid: 'bare RSA' };
  add('bare P-256', ec('P-256'), 'ES256', {});
  add('bare P-384', ec('P-384'), 'ES384', { use: 'sig', key_ops: ['verify'] });
  const edwards = ed25519();
  add('bare Ed25519', edwards, 'EdDSA', {});
  odd['bare Ed25519 by its new name'] = { pair: edwards, alg: 'Ed25519', kid: 'bare Ed25519' };
  const twins = [rsa(), rsa()];
  add('twin 1', twins[0], 'RS256', { kid: 'twin', alg: 'RS256' });
  add('twin 2', twins[1], 'RS256', { kid: 'twin', alg: 'RS256' });
  const copy = rsa();
  add('copy 1', copy, 'RS256', { kid: 'copy', alg: 'RS256' });
  add('copy 2', copy, undefined, { kid: 'copy', alg: 'RS256' });
  add('pair RSA', rsa(), 'RS256', { kid: 'pair', alg: 'RS256' });
  add('pair P-256', ec('P-256'), 'ES256', { kid: 'pair', alg: 'ES256' });
  add('for encryption', rsa(), 'RS256', { use: 'enc' });
  add('for signing', rsa(), 'RS256', { key_ops: ['sign'] });
  add('of another issuer', rsa(), 'RS256', { alg: 'RS256', issuer: `${origin}/plain` });
  add('other algorithm', ec('P-256'), 'ES256', { alg: 'ES384' });
  add('1024 bits', rsa(1024), 'RS256', { alg: 'RS256' });
  add('exponent 3', rsa(2048, 3), 'RS256', { alg: 'RS256' });
  add('P-521', ec('P-521'), 'ES512', { alg: 'ES512' });
  const zero = rsa();
  const n = Buffer.from(publicJwk(zero).n, 'base64url');
  add('leading zero', zero, 'RS256', { alg: 'RS256', n: b64url(Buffer.concat([Buffer.of(0), n])) });
  const padded = rsa();
  add('padded modulus', padded, 'RS256', { alg: 'RS256', n: `${publicJwk(padded).n}==` });
  const secret = ec('P-256');
  add('private', secret, 'ES256', { ...secret.privateKey.export({ format: 'jwk' }), alg: 'ES256' });
  const shared = randomBytes(32);
  odd.symmetric = {
    pair: shared,
    alg: 'HS256',
    kid: 'symmetric',
    jwk: { kty: 'oct', k: b64url(shared), alg: 'HS256', kid: 'symmetric' },
  };
  const bareShared = randomBytes(32);
  odd['bare symmetric'] = {
    pair: bareShared,
    alg: 'HS256',
    kid: 'bare symmetric',
    jwk: { kty: 'oct', k: b64url(bareShared), kid: 'bare symmetric' },
  };
  const certified = rsa();
  odd['certificate only'] = {
    pair: certified,
    alg: 'RS256',
    kid: 'certificate only',
    jwk: { kty: 'RSA', alg: 'RS256', kid: 'certificate only', x5c: selfSigned({ subject: 'key', ...certified }).x5c },
  };

  const sole = rsa();
  return [
    issuer('plain', origin, { audiences: ['https://gateway.example', 'api://gateway'], leeway: 60, keys: plain }),
    issuer('odd', origin, { audiences: ['https://gateway.example'], leeway: 30, keys: odd }),
    issuer('sole', origin, {
      audiences: ['https://sole.example'],
      leeway: 120,
      keys: {
        nameless: { pair: sole, alg: 'RS256', jwk: publicJwk(sole) },
        'named by the token only': { pair: sole, alg: 'RS256', kid: 'anything' },
      },
    }),
  ];
}
