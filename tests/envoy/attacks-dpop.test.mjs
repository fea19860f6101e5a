// Attack 19 of docs/attacks.md: DPoP proofs.

import assert from 'node:assert/strict';
import { createHash, randomUUID } from 'node:crypto';
import { after, afterEach, before, describe, it } from 'node:test';
import { SignJWT, calculateJwkThumbprint, exportJWK, generateKeyPair } from 'jose';
import { arrivals, assertServes, gateway, NONCED, parts, start, stop, token } from './parts/attacks.mjs';
import { proofKey } from './parts/dpop.mjs';
import { assertSoundAndSilent, challengeOf } from './parts/expect.mjs';
import { MCP_HOST, RESOURCE } from './parts/gateway.mjs';

before(start);
afterEach(assertServes);
after(stop);

describe('19: DPoP proofs', () => {
  let holder;
  let bound;
  const withProof = (proof, path = '/mcp', of = bound) =>
    gateway.call(undefined, { authorization: `DPoP ${of}`, ...(proof && { dpop: proof }) }, { path });
  /** Token of Alice, bound to a key. */
  const boundTo = (jkt) => {
    const claims = JSON.parse(Buffer.from(token.split('.')[1], 'base64url').toString());
    return parts.entra.signIn.sign({ ...claims, cnf: { jkt } }, { typ: 'JWT' });
  };
  const proofOf = (change) => holder.proof({ method: 'POST', url: RESOURCE, token: bound, ...change });
  const now = () => Math.floor(Date.now() / 1000);

  before(async () => {
    holder = await proofKey();
    bound = await boundTo(holder.thumbprint);
  });

  async function assertNoProof(proof, what, of) {
    const { answer, arrived } = await arrivals(() => withProof(proof, '/mcp', of));
    assert.equal(answer.status, 401, what);
    assert.equal(answer.json.reason, 'invalid_dpop_proof', what);
    assert.equal(arrived.length, 0, what);
  }

  it('a bound token without its DPoP proof gets 401 with each scheme', async () => {
    await assertNoProof(undefined, 'DPoP without a proof');
    const proof = await proofOf();
    const asBearer = await gateway.call(bound);
    assert.equal(asBearer.json.reason, 'sender_constrained_token');
    const asBearerWithProof = await gateway.call(bound, { dpop: proof });
    assert.equal(asBearerWithProof.json.reason, 'sender_constrained_token');
    const unbound = await gateway.call(undefined, { authorization: `DPoP ${token}`, dpop: proof });
    assert.equal(unbound.json.reason, 'token_not_sender_constrained');
    // None of these requests used the proof.
    assert.equal((await withProof(proof)).status, 200);
    await assertNoProof(proof, 'the second time');
  });

  it('a DPoP proof of another URL, method, time or token gets 401', async () => {
    const cases = {
      ...Object.fromEntries(
        [
          `http://${MCP_HOST}/mcp`,
          `https://${MCP_HOST}:8443/mcp`,
          `https://${MCP_HOST}:80/mcp`,
          `https://${MCP_HOST}/`,
          `https://${MCP_HOST}/mcp/`,
          `https://${MCP_HOST}/MCP`,
          `https://${MCP_HOST}/mcp/admin`,
          `https://${MCP_HOST}//mcp`,
          `https://${MCP_HOST}/./mcp`,
          `https://${MCP_HOST}/x/../mcp`,
          `https://${MCP_HOST}/%2e/mcp`,
          `https://${MCP_HOST}/mcp%2f`,
          `https://${MCP_HOST}/mcp;x=1`,
          `https://x@${MCP_HOST}/mcp`,
          `https://${MCP_HOST}.evil.example/mcp`,
          `https://${MCP_HOST}./mcp`,
          '/mcp',
          '',
        ].map((url) => [`htu ${url}`, { url }]),
      ),
      'htm in lower case': { method: 'post' },
      'htm GET': { method: 'GET' },
      'an hour old': { iat: now() - 3600 },
      'an hour ahead': { iat: now() + 3600 },
      'iat that is text': { iat: String(now()) },
      'ath of another token': { token: 'another' },
      'no ath': { ath: undefined },
      'no jti': { jti: undefined },
    };
    for (const [what, change] of Object.entries(cases)) await assertNoProof(await proofOf(change), what);
    for (const url of [`https://${MCP_HOST}:443/mcp`, `https://${MCP_HOST.toUpperCase()}/mcp?x#y`, `https://${MCP_HOST}/%6dcp`]) {
      assert.equal((await withProof(await proofOf({ url }))).status, 200, url);
    }
  });

  it('a DPoP proof with a private key, another typ or alg gets 401', async () => {
    const { privateKey, publicKey } = await generateKeyPair('ES256', { extractable: true });
    const [secret, jwk] = [await exportJWK(privateKey), await exportJWK(publicKey)];
    const own = await boundTo(await calculateJwkThumbprint(jwk));
    const ath = createHash('sha256').update(own).digest('base64url');
    const made = (header) =>
      new SignJWT({ htm: 'POST', htu: RESOURCE, jti: randomUUID(), iat: now(), ath })
        .setProtectedHeader({ typ: 'dpop+jwt', alg: 'ES256', ...header })
        .sign(privateKey);
    assert.equal((await withProof(await made({ jwk }), '/mcp', own)).status, 200);
    for (const header of [{ jwk: secret }, { jwk, typ: 'JWT' }, { jwk, typ: undefined }, {}, { jwk: { ...jwk, use: 'enc' } }]) {
      await assertNoProof(await made(header), JSON.stringify(Object.keys(header)), own);
    }
    const [, payload] = (await made({ jwk })).split('.');
    const none = Buffer.from(JSON.stringify({ typ: 'dpop+jwt', alg: 'none', jwk })).toString('base64url');
    await assertNoProof(`${none}.${payload}.`, 'none', own);
  });

  it('a nonce of another origin gets 401 with a nonce that is accepted', async () => {
    const proofWith = (nonce) => proofOf({ url: NONCED, nonce });
    for (const nonce of [undefined, 'A'.repeat(32), '']) {
      const answer = await withProof(await proofWith(nonce), '/nonced');
      assert.equal(answer.json.reason, 'use_dpop_nonce', String(nonce));
      assert.equal(challengeOf(answer, 'DPoP').error, 'use_dpop_nonce');
    }
    const { headers } = await withProof(await proofWith('x'), '/nonced');
    const { answer, arrived } = await arrivals(async () => withProof(await proofWith(headers['dpop-nonce']), '/nonced'));
    assert.notEqual(answer.status, 400);
    assert.ok(arrived[0]?.identity, answer.text);
  });
});

it('the module never trapped, and no secret is visible', () => assertSoundAndSilent(gateway));
