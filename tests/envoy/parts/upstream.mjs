// API behind Envoy that accepts tokens of several issuers, as any resource server does, and returns the user of the token.

import { createHash } from 'node:crypto';
import { createServer } from 'node:http';
import { calculateJwkThumbprint, createRemoteJWKSet, decodeJwt, EmbeddedJWK, jwtVerify } from 'jose';
import { secrets } from './leaks.mjs';
import { listening } from './listening.mjs';

/**
 * @param {{issuer: string, jwksUri: string, headers?: object}[]} trusted
 * @param {object} audiences by path, the audience that tokens must have; null: any
 *
 * It answers 200 with what it read of the token, 401 to a token that is not valid, and 409 if the request expects another user
 * (`x-expected-user`). `mistaken` has what it refused.
 */
export async function startUpstream(trusted, audiences) {
  const issuers = new Map(
    trusted.map(({ issuer, jwksUri, headers }) => [issuer, createRemoteJWKSet(new URL(jwksUri), { headers, cooldownDuration: 0 })]),
  );
  const verified = new Map();
  const mistaken = [];
  const counts = { requests: 0 };

  const verify = async ({ authorization, dpop }, audience) => {
    const [scheme, token, ...rest] = (authorization ?? '').split(' ');
    if (!['Bearer', 'DPoP'].includes(scheme) || !token || rest.length) throw new Error('no token');
    if (!verified.has(token)) {
      secrets.add(token);
      const { iss } = decodeJwt(token);
      const keys = issuers.get(iss);
      if (!keys) throw new Error('not a trusted issuer');
      verified.set(token, (await jwtVerify(token, keys, { issuer: iss })).payload);
    }
    const claims = verified.get(token);
    if (audience === undefined) throw new Error('nothing is here');
    if (audience !== null && ![claims.aud].flat().includes(audience)) throw new Error(`for ${claims.aud}, not ${audience}`);
    if (!(claims.exp > Date.now() / 1000)) throw new Error('expired');
    if (scheme !== (claims.cnf?.jkt ? 'DPoP' : 'Bearer')) throw new Error(`a token that is ${claims.cnf ? '' : 'not '}bound came as ${scheme}`);
    if (claims.cnf?.jkt) await proves(dpop, token, claims.cnf.jkt);
    return { scheme, ...claims };
  };

  const server = createServer({ keepAliveTimeout: 600_000 }, async (request, response) => {
    counts.requests += 1;
    request.resume();
    const answer = (status, body) => response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(body));
    try {
      const claims = await verify(request.headers, audiences[request.url]);
      const user = claims.preferred_username ?? claims.sub;
      const expected = request.headers['x-expected-user'];
      if (expected !== undefined && expected !== user) {
        mistaken.push(`${expected} got a token of ${user}`);
        return answer(409, { user });
      }
      return answer(200, { scheme: claims.scheme, issuer: claims.iss, audience: claims.aud, subject: claims.sub, user, actor: claims.act?.sub, scopes: claims.scp ?? claims.scope });
    } catch (error) {
      mistaken.push(error.message);
      return answer(401, { error: 'invalid_token' });
    }
  });
  const { port, stop } = await listening(server);
  return { port, counts, mistaken, stop };
}

/** Verifies a DPoP proof for a bound token (RFC 9449 section 4.3); bound-resource.mjs verifies all of its claims. */
async function proves(proof, token, thumbprint) {
  const { payload, protectedHeader } = await jwtVerify(proof, EmbeddedJWK, { typ: 'dpop+jwt', requiredClaims: ['jti', 'htm', 'htu', 'iat', 'ath'] });
  if ((await calculateJwkThumbprint(protectedHeader.jwk)) !== thumbprint) throw new Error('a proof of another key');
  if (payload.ath !== createHash('sha256').update(token).digest('base64url')) throw new Error('a proof for another token');
}
