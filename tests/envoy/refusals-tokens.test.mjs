// Tokens that are refused: status, challenge, body, metric, and no request to the upstream.

import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { CompactEncrypt, generateKeyPair } from 'jose';
import { proofKey } from './parts/dpop.mjs';
import { assertSoundAndSilent } from './parts/expect.mjs';
import { MCP_HOST, startGateway } from './parts/gateway.mjs';
import { machineToken, signIn } from './parts/login.mjs';
import {
  alice,
  assertReached,
  bob,
  gateway,
  invalidToken,
  newcomer,
  parts,
  refused,
  signed,
  start,
  stop,
} from './parts/refusals.mjs';
import { edited } from './parts/tokens.mjs';

const METADATA_OF_BOUND = `https://${MCP_HOST}/.well-known/oauth-protected-resource/bound`;

before(start);
after(stop);

describe('tokens that are not valid', () => {
  it('a token that is not a JWT gets 401', async () => {
    await refused(invalidToken('opaque_token'), () => gateway.call('opaque-token'));
    const row = invalidToken('malformed_token');
    await refused(row, () => gateway.call(`${alice.accessToken}=`));
    const critical = edited(alice.accessToken, { header: (h) => ({ ...h, crit: ['exp'] }) });
    await refused(row, () => gateway.call(critical));
    const [header, payload, signature] = alice.accessToken.split('.');
    const twice = Buffer.from(payload, 'base64url').toString().replace('{', '{"aud":"x",');
    await refused(row, () =>
      gateway.call([header, Buffer.from(twice).toString('base64url'), signature].join('.')),
    );
  });

  it('an encrypted token gets 401', async () => {
    const { publicKey } = await generateKeyPair('RSA-OAEP-256');
    const jwe = await new CompactEncrypt(Buffer.from('{}'))
      .setProtectedHeader({ alg: 'RSA-OAEP-256', enc: 'A256GCM' })
      .encrypt(publicKey);
    await refused(invalidToken('encrypted_token'), () => gateway.call(jwe));
  });

  it('an algorithm that does not match the key gets 401', async () => {
    const row = invalidToken('unsupported_algorithm');
    for (const alg of ['none', 'HS256', 'PS256', 'ES256', 'rs256']) {
      const token = edited(alice.accessToken, { header: (h) => ({ ...h, alg }) });
      await refused(row, () => gateway.call(token));
    }
  });

  it('a JWT of another type gets 401', async () => {
    const row = invalidToken('unsupported_token_type');
    for (const typ of ['logout+jwt', 'dpop+jwt', 'oauth-id-jag+jwt']) {
      const token = await signed(parts.entra.signIn, alice.accessToken, {}, { typ });
      await refused(row, () => gateway.call(token));
    }
  });

  it('a token of an issuer that is not configured gets 401', async () => {
    const stranger = await signIn(parts.okta, 'bob@acme.example', { server: parts.okta.other });
    await refused(invalidToken('unknown_issuer'), () => gateway.call(stranger.accessToken));
  });

  it('a token of another tenant gets 401', async () => {
    const tid = '0d9c8b7a-1111-4222-8333-aabbccddeeff';
    const iss = `https://login.microsoftonline.com/${tid}/v2.0`;
    const token = await signed(parts.entra.signIn, alice.accessToken, { iss, tid });
    await refused(invalidToken('wrong_tenant'), () => gateway.call(token));
  });

  it('a token with an unknown kid gets 401', async () => {
    const row = invalidToken('unknown_key');
    const token = edited(alice.accessToken, { header: (h) => ({ ...h, kid: 'made-up' }) });
    await refused(row, () => gateway.call(token));
  });

  it('a tampered token gets 401', async () => {
    const row = invalidToken('bad_signature');
    for (const { accessToken } of [alice, bob]) {
      const token = edited(accessToken, { claims: (c) => ({ ...c, aio: 'x', uid: 'root', oid: 'root' }) });
      await refused(row, () => gateway.call(token));
    }
  });

  it('a token with the signature of another token gets 401', async () => {
    const [header, payload] = alice.accessToken.split('.');
    const other = (await parts.alice()).accessToken.split('.')[2];
    await refused(invalidToken('bad_signature'), () => gateway.call(`${header}.${payload}.${other}`));
  });

  it('an expired token gets 401', async () => {
    for (const name of ['entra', 'okta']) {
      parts[name].signIn.clockOffsetSeconds = -7200;
      const { accessToken } = await newcomer(name);
      parts[name].signIn.clockOffsetSeconds = 0;
      await refused(invalidToken('expired'), () => gateway.call(accessToken));
    }
  });

  it('a token that is not valid yet gets 401', async () => {
    for (const name of ['entra', 'okta']) {
      parts[name].signIn.clockOffsetSeconds = 7200;
      const { accessToken } = await newcomer(name);
      parts[name].signIn.clockOffsetSeconds = 0;
      await refused(invalidToken('not_yet_valid'), () => gateway.call(accessToken));
    }
  });

  it('a token for another audience gets 401', async () => {
    const { accessToken } = await newcomer('entra', { resource: `api://${parts.entra.ids.otherApi}` });
    await refused(invalidToken('wrong_audience'), () => gateway.call(accessToken));
  });

  it('a token without exp or with claims of a wrong type gets 401', async () => {
    const row = invalidToken('invalid_claims');
    for (const change of [{ exp: undefined }, { exp: 'tomorrow' }, { nbf: 'x' }]) {
      const token = await signed(parts.entra.signIn, alice.accessToken, change);
      await refused(row, () => gateway.call(token));
    }
  });

  it('an ID token in place of an access token gets 401', async () => {
    const row = invalidToken('id_token_as_access_token');
    // The user signed in to the app of the gateway: the audience is right.
    for (const [name, aud] of [
      ['entra', parts.entra.ids.gateway],
      ['okta', 'api://default'],
    ]) {
      const { idToken } = name === 'entra' ? alice : bob;
      const token = await signed(parts[name].signIn, idToken, { aud });
      await refused(row, () => gateway.call(token));
    }
  });

  it('an ID token as the sign-in issues it gets 401', async () => {
    for (const { idToken } of [alice, bob]) {
      const answer = await gateway.call(idToken);
      assert.equal(answer.status, 401);
      assert.ok(
        ['id_token_as_access_token', 'wrong_audience'].includes(answer.json.reason),
        answer.text,
      );
    }
  });
});

describe('valid tokens that do not suffice', () => {
  it('a token of an application gets 403', async () => {
    const row = { reason: 'not_a_user_token', status: 403, error: 'access_denied' };
    const ofEntra = await machineToken(parts.entra, `${parts.entra.resource}/.default`);
    const ofOkta = await machineToken(parts.okta, 'mcp:read');
    await refused(row, () => gateway.call(ofEntra));
    await refused(row, () => gateway.call(ofOkta));
  });

  it('a token without the scope gets 403', async () => {
    const row = {
      reason: 'insufficient_scope',
      status: 403,
      error: 'insufficient_scope',
      challenge: 'error',
    };
    for (const name of ['entra', 'okta']) {
      const { accessToken } = await newcomer(name, { scopes: ['mcp:write'] });
      await refused(row, () => gateway.call(accessToken));
    }
  });

  it('a token without a required claim gets 403', async () => {
    const row = { reason: 'required_claim_missing', status: 403, error: 'access_denied' };
    const own = await startGateway(parts, {
      change: ({ identity_providers: { okta } }) => {
        okta.required_claims = { cid: ['another-client'] };
      },
    });
    try {
      assert.equal((await own.call(alice.accessToken)).status, 200);
      await refused(row, () => own.call(bob.accessToken), own);
    } finally {
      await own.stop();
    }
  });

  it('a token of a provider without an exchange gets 403', async () => {
    const row = { reason: 'no_exchange', status: 403, error: 'access_denied' };
    await refused(row, () => gateway.call(alice.accessToken, {}, { path: '/okta-only' }));
  });
});

describe('a resource that requires an ID token with the access token', () => {
  let own;
  
  before(async () => {
    own = await startGateway(parts, {
      change: ({ identity_providers: { okta } }) => {
        okta.subject_token = {
          type: 'id_token',
          header: 'x-id-token',
          audiences: [parts.okta.ids.mcpClient],
        };
      },
    });
  });
  after(() => own?.stop());

  it('a missing ID token gets 401', () =>
    refused(invalidToken('subject_token_missing'), () => own.call(bob.accessToken), own));

  it('an ID token that is not valid gets 401', async () => {
    const row = invalidToken('subject_token_invalid');
    const tampered = edited(bob.idToken, { claims: (c) => ({ ...c, sub: 'root' }) });
    const elsewhere = await signed(parts.okta.signIn, bob.idToken, { aud: 'another-client' });
    for (const idToken of ['junk', tampered, elsewhere, bob.accessToken]) {
      await refused(row, () => own.call(bob.accessToken, { 'x-id-token': idToken }), own);
    }
  });

  it('an ID token of another user gets 401', async () => {
    const { idToken } = await newcomer('okta', { idToken: true });
    await refused(
      invalidToken('subject_mismatch'),
      () => own.call(bob.accessToken, { 'x-id-token': idToken }),
      own,
    );
  });
});

describe('a provider whose subject token is the ID token', () => {
  let own;

  before(async () => {
    own = await startGateway(parts, {
      change: ({ identity_providers: { okta }, resources: [resource] }) => {
        okta.subject_token = { type: 'id_token' };
        okta.audiences = [parts.okta.ids.mcpClient];
        resource.scopes_supported = resource.scopes;
        delete resource.scopes;
      },
    });
  });
  after(() => own?.stop());

  it('an ID token is exchanged, and an access token gets 401', async () => {
    assert.equal((await own.call(bob.idToken)).status, 200);
    await refused(invalidToken('access_token_as_id_token'), () => own.call(bob.accessToken), own);
  });
});

describe('sender-constrained tokens', () => {
  const dpop = { error: 'invalid_dpop_proof', status: 401, challenge: 'error', metadata: METADATA_OF_BOUND };
  const bound = { path: '/bound' };

  it('a bound token without its DPoP proof gets 401', async () => {
    const token = await signed(parts.entra.signIn, alice.accessToken, { cnf: { jkt: 'x' } });
    await refused(invalidToken('sender_constrained_token'), () => gateway.call(token));
    const authorization = `DPoP ${token}`;
    const noProof = () => gateway.call(undefined, { authorization }, bound);
    await refused({ ...dpop, reason: 'invalid_dpop_proof', scheme: 'DPoP' }, noProof);
  });

  it('a certificate-bound token without its certificate gets 401', async () => {
    const token = await signed(parts.entra.signIn, alice.accessToken, { cnf: { 'x5t#S256': 'x' } });
    const row = { ...invalidToken('wrong_certificate'), metadata: METADATA_OF_BOUND, scheme: 'DPoP' };
    await refused(row, () => gateway.call(undefined, { authorization: `DPoP ${token}` }, bound));
  });

  it('an unbound token gets 401 where a binding is required', async () => {
    const row = { ...invalidToken('token_not_sender_constrained'), metadata: METADATA_OF_BOUND, scheme: 'DPoP' };
    await refused(row, () => gateway.call(alice.accessToken, {}, bound));
  });

  it('a DPoP proof without the nonce gets 401 and a nonce', async () => {
    const holder = await proofKey();
    const token = await signed(parts.entra.signIn, alice.accessToken, { cnf: { jkt: holder.thumbprint } });
    const url = `https://${MCP_HOST}/bound`;
    const row = { ...dpop, reason: 'use_dpop_nonce', error: 'use_dpop_nonce', scheme: 'DPoP' };
    const answer = await refused(row, async () =>
      gateway.call(
        undefined,
        { authorization: `DPoP ${token}`, dpop: await holder.proof({ method: 'POST', url, token }) },
        bound,
      ),
    );
    assert.match(answer.headers['dpop-nonce'], /^[\w-]{32}$/);
  });
});

describe('actors', () => {
  let own;
  before(async () => {
    own = await startGateway(parts, {
      change: ({ identity_providers, resources }) => {
        identity_providers.okta.profile = 'rfc8693';
        const type = 'urn:ietf:params:oauth:token-type:jwt';
        resources[0].exchange.okta.actor_token = { header: 'x-actor-token', type, subject: 'agent' };
      },
    });
  });
  after(() => own?.stop());

  it('a may_act claim that names another actor gets 403', async () => {
    const token = await signed(parts.okta.signIn, bob.accessToken, { may_act: { sub: 'another' } });
    const row = { reason: 'actor_not_allowed', status: 403, error: 'access_denied' };
    await refused(row, () => own.call(token, { 'x-actor-token': 'opaque' }), own);
  });

  it('a request without the actor token gets 502', async () => {
    const row = { reason: 'actor_token_missing', status: 502, error: 'server_error' };
    await refused(row, () => own.call(bob.accessToken), own);
  });
});

describe('the file', () => {
  it('every reason of this file has been reached', () => assertReached('tokens'));

  it('the module never trapped, and no secret is visible', () => assertSoundAndSilent(gateway));
});
