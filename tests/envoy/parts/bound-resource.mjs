// API behind the gateway that accepts bound tokens only, each with a DPoP proof (RFC 9449 section 4.3), on npm jose. It accepts
// each proof once.

import { createHash } from 'node:crypto';
import { createServer } from 'node:http';
import { calculateJwkThumbprint, createRemoteJWKSet, EmbeddedJWK, jwtVerify } from 'jose';
import { secrets } from './leaks.mjs';
import { listening } from './listening.mjs';

/**
 * Starts the API. `url` is its own URL up to the path (it may change while it runs).
 * Returns `{port, url, requests, stop, nonce}`; `requests` has for each request its error or its user. While `nonce` is set,
 * proofs must contain it.
 */
export async function startBoundResource({ issuer, audience, jwksUri, headers, url }) {
  const keys = createRemoteJWKSet(new URL(jwksUri), { headers, cooldownDuration: 0 });
  const used = new Set();
  const requests = [];
  const api = { url, requests, nonce: undefined };

  async function verify(request) {
    const [scheme, token, ...rest] = (request.headers.authorization ?? '').split(' ');
    if (scheme !== 'DPoP' || !token || rest.length) throw new Error(`scheme ${scheme}`);
    secrets.add(token);
    const { payload } = await jwtVerify(token, keys, { issuer, audience });
    const proofs = request.rawHeaders.filter((name, index) => index % 2 === 0 && name.toLowerCase() === 'dpop');
    if (proofs.length !== 1) throw new Error(`${proofs.length} proofs`);
    const { payload: proof, protectedHeader } = await jwtVerify(request.headers.dpop, EmbeddedJWK, {
      typ: 'dpop+jwt',
      algorithms: ['ES256', 'EdDSA', 'PS256'],
      maxTokenAge: 60,
      requiredClaims: ['jti', 'htm', 'htu', 'iat', 'ath'],
    });
    secrets.add(request.headers.dpop);
    if (payload.cnf?.jkt !== (await calculateJwkThumbprint(protectedHeader.jwk))) throw new Error('jkt');
    if (proof.ath !== createHash('sha256').update(token).digest('base64url')) throw new Error('ath');
    if (proof.htm !== request.method) throw new Error('htm');
    // The comparison is exact: not every server normalises.
    if (proof.htu !== api.url + request.url.split('?')[0]) throw new Error(`htu ${proof.htu}`);
    if (used.has(proof.jti)) throw new Error('jti was used before');
    used.add(proof.jti);
    if (api.nonce !== proof.nonce) throw new Error('nonce');
    return { user: payload.uid, nonce: proof.nonce };
  }

  const server = createServer({ keepAliveTimeout: 600_000 }, async (request, response) => {
    for await (const _ of request);
    if (api.nonce) response.setHeader('dpop-nonce', api.nonce);
    try {
      const seen = await verify(request);
      requests.push(seen);
      response.setHeader('content-type', 'application/json');
      response.end(JSON.stringify(seen));
    } catch (error) {
      requests.push({ wrong: error.message });
      const code = error.message === 'nonce' ? 'use_dpop_nonce' : 'invalid_token';
      response.writeHead(401, { 'www-authenticate': `DPoP error="${code}", algs="ES256"` });
      response.end();
    }
  });
  const { port, stop } = await listening(server);
  return Object.assign(api, { port, stop });
}
