// Every line of the refusal table, on Envoy: status, challenge, body, metric, and nothing at the upstream.

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { connect as connectHttp2 } from 'node:http2';
import { after, before, describe, it } from 'node:test';
import { CompactEncrypt, generateKeyPair } from 'jose';
import { assertRefused, assertSoundAndSilent, challengeOf } from './parts/expect.mjs';
import {
  answersHtml,
  answersJson,
  dropsTheConnection,
  gate,
  refusesWith,
  throttles,
} from './parts/faults.mjs';
import { MCP_HOST, METADATA_PATH, startGateway, startParts } from './parts/gateway.mjs';
import { proofKey } from './parts/dpop.mjs';
import { answers } from './parts/leaks.mjs';
import { machineToken, signIn } from './parts/login.mjs';
import { until } from './parts/until.mjs';

const METADATA_OF_BOUND = `https://${MCP_HOST}/.well-known/oauth-protected-resource/bound`;
const reached = new Set();
let parts;
let gateway;
let alice;
let bob;
let number = 0;

/** Users who have not been here before. */
const newcomer = (name, options) => {
  number += 1;
  return signIn(parts[name], `user${number}@${name}.example`, options);
};

const refused = (row, act, at = gateway) => {
  reached.add(row.reason);
  return assertRefused(at, row, act);
};

const invalidToken = (reason) => ({
  reason,
  status: 401,
  error: 'invalid_token',
  challenge: 'error',
});
const invalidRequest = (reason) => ({
  reason,
  status: 400,
  error: 'invalid_request',
  challenge: 'error',
});

const decode = (segment) => JSON.parse(Buffer.from(segment, 'base64url').toString());
const encode = (object) => Buffer.from(JSON.stringify(object)).toString('base64url');

/** A real token with its header or claims edited and the signature left as it was. */
function edited(token, { header = (h) => h, claims = (c) => c }) {
  const [h, c, signature] = token.split('.');
  return [encode(header(decode(h))), encode(claims(decode(c))), signature].join('.');
}

/** A token that the provider really signs, with claims that no login gives. */
const signed = (server, token, change, header = {}) => {
  const [h, claims] = token.split('.').map((part, index) => (index < 2 ? decode(part) : part));
  return server.sign({ ...claims, ...change }, { ...(h.typ ? { typ: h.typ } : {}), ...header });
};

before(async () => {
  parts = await startParts();
  gateway = await startGateway(parts, {
    change: (filter) => {
      filter.identity_providers.entra.timeout_seconds = 2;
      filter.identity_providers.okta.timeout_seconds = 2;
      filter.resources.push({
        url: `https://${MCP_HOST}/bound`,
        scopes: ['mcp:read'],
        dpop: { mode: 'required', nonce: true },
        certificate_bound_tokens: 'optional',
        exchange: structuredClone(filter.resources[0].exchange),
      });
      filter.resources.push({
        url: `https://${MCP_HOST}/okta-only`,
        scopes: ['mcp:read'],
        exchange: { okta: structuredClone(filter.resources[0].exchange.okta) },
      });
    },
  });
  alice = await parts.alice({ idToken: true });
  bob = await parts.bob({ idToken: true });
  assert.equal((await gateway.call(alice.accessToken)).status, 200);
  assert.equal((await gateway.call(bob.accessToken)).status, 200);
});

after(async () => {
  await gateway?.stop();
  await parts?.stop();
});

describe('before a token is looked at', () => {
  it('a path that belongs to no resource is 404, also with a good token', async () => {
    const row = { reason: 'unknown_resource', status: 404, error: 'not_found' };
    await refused(row, () => gateway.call(alice.accessToken, {}, { path: '/nothing' }));
    await refused(row, () => gateway.call(alice.accessToken, {}, { path: '/mcpx' }));
    await refused(row, () => gateway.call(alice.accessToken, { host: 'other.example.com' }));
  });

  it('a client that takes the host for an authorization server is told which to ask', async () => {
    const row = {
      reason: 'not_an_authorization_server',
      status: 404,
      error: 'not_found',
      members: ['authorization_servers', 'resource_metadata'],
    };
    const issuers = [parts.entra.signIn.issuer, parts.okta.signIn.issuer];
    for (const [path, servers, metadata] of [
      ['/.well-known/oauth-authorization-server/mcp', issuers, METADATA_PATH],
      ['/.well-known/openid-configuration/okta-only', [parts.okta.signIn.issuer], `${METADATA_PATH.slice(0, -4)}/okta-only`],
    ]) {
      const { json } = await refused(row, () => gateway.send({ path }));
      assert.deepEqual(json.authorization_servers, servers);
      assert.deepEqual(json.resource_metadata, [`https://${MCP_HOST}${metadata}`]);
    }
    const paths = ['/register', '/token', '/authorize?client_id=x', '/.well-known/openid-configuration'];
    for (const path of paths) {
      const headers = { 'content-type': 'application/json', authorization: `Bearer ${alice.accessToken}` };
      const answer = await refused(row, () => gateway.send({ path, method: 'POST', headers, body: '{}' }));
      assert.deepEqual(answer.json.authorization_servers, issuers);
      assert.equal(answer.json.resource_metadata.length, 3);
      assert.equal(answer.headers['access-control-allow-origin'], '*');
      assert.ok(answer.json.error_description.endsWith(`(${issuers.join(' or ')}).`), answer.json.error_description);
    }
    const elsewhere = { reason: 'unknown_resource', status: 404, error: 'not_found' };
    await refused(elsewhere, () => gateway.send({ path: '/register', headers: { host: 'other.example.com' } }));
    // Any client asks: it is no line beside the others.
    assert.match(gateway.envoy.log, /event=refused reason=unknown_resource/);
    assert.doesNotMatch(gateway.envoy.log, /event=refused reason=not_an_authorization_server/);
  });

  it('a path that can be read in two ways is 400', async () => {
    const row = { reason: 'ambiguous_path', status: 400, error: 'invalid_request' };
    for (const path of ['/;/mcp', '/mcp/;/x', '/mcp;v=1/x', '/mcp%3b/x']) {
      await refused(row, () => gateway.call(alice.accessToken, {}, { path }));
    }
  });

  it('writing to the metadata document is 405', async () => {
    const row = { reason: 'method_not_allowed', status: 405, error: 'invalid_request' };
    const answer = await refused(row, () => gateway.send({ path: METADATA_PATH, method: 'POST' }));
    assert.equal(answer.headers.allow, 'GET, HEAD, OPTIONS');
  });

  it('no token, or another scheme, is 401 without an error', async () => {
    const row = { reason: 'no_credentials', status: 401, error: 'unauthorized', challenge: 'bare' };
    await refused(row, () => gateway.call(undefined));
    await refused(row, () => gateway.call(undefined, { authorization: 'Basic YWxpY2U6eA==' }));
  });

  it('a Bearer line that is not one token is 400', async () => {
    const row = invalidRequest('malformed_credentials');
    for (const value of ['Bearer', 'Bearer a b', 'Bearer "abc"', `Bearer ${alice.accessToken}\u00e4`]) {
      await refused(row, () => gateway.call(undefined, { authorization: value }));
    }
  });

  it('two tokens are 400, wherever the second is', async () => {
    const row = invalidRequest('multiple_credentials');
    const line = `Bearer ${alice.accessToken}`;
    await refused(row, () =>
      gateway.send({ method: 'POST', headers: ['authorization', line, 'authorization', line] }),
    );
    await refused(row, () => gateway.call(undefined, { authorization: `${line}, ${line}` }));
    const query = '/mcp?access_token=abc';
    await refused(row, () => gateway.call(alice.accessToken, {}, { path: query }));
    await refused(row, () => gateway.call(undefined, {}, { path: query }));
  });

  it('a token of more than 16 KiB is 400', async () => {
    const [header, , signature] = alice.accessToken.split('.');
    const long = `${header}.${'A'.repeat(17 * 1024)}.${signature}`;
    await refused(invalidRequest('token_too_large'), () => gateway.call(long));
  });
});

describe('tokens that are not good', () => {
  it('something that is no JWT', async () => {
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

  it('an encrypted token', async () => {
    const { publicKey } = await generateKeyPair('RSA-OAEP-256');
    const jwe = await new CompactEncrypt(Buffer.from('{}'))
      .setProtectedHeader({ alg: 'RSA-OAEP-256', enc: 'A256GCM' })
      .encrypt(publicKey);
    await refused(invalidToken('encrypted_token'), () => gateway.call(jwe));
  });

  it('an algorithm that does not fit the key', async () => {
    const row = invalidToken('unsupported_algorithm');
    for (const alg of ['none', 'HS256', 'PS256', 'ES256', 'rs256']) {
      const token = edited(alice.accessToken, { header: (h) => ({ ...h, alg }) });
      await refused(row, () => gateway.call(token));
    }
  });

  it('another kind of JWT', async () => {
    const row = invalidToken('unsupported_token_type');
    for (const typ of ['logout+jwt', 'dpop+jwt', 'oauth-id-jag+jwt']) {
      const token = await signed(parts.entra.signIn, alice.accessToken, {}, { typ });
      await refused(row, () => gateway.call(token));
    }
  });

  it('a token of an authorization server that nobody configured', async () => {
    const stranger = await signIn(parts.okta, 'bob@acme.example', { server: parts.okta.other });
    await refused(invalidToken('unknown_issuer'), () => gateway.call(stranger.accessToken));
  });

  it('a token of another tenant', async () => {
    const tid = '0d9c8b7a-1111-4222-8333-aabbccddeeff';
    const iss = `https://login.microsoftonline.com/${tid}/v2.0`;
    const token = await signed(parts.entra.signIn, alice.accessToken, { iss, tid });
    await refused(invalidToken('wrong_tenant'), () => gateway.call(token));
  });

  it('a token signed with a key that the provider does not publish', async () => {
    const row = invalidToken('unknown_key');
    const token = edited(alice.accessToken, { header: (h) => ({ ...h, kid: 'made-up' }) });
    await refused(row, () => gateway.call(token));
  });

  it('a tampered token', async () => {
    const row = invalidToken('bad_signature');
    for (const { accessToken } of [alice, bob]) {
      const token = edited(accessToken, { claims: (c) => ({ ...c, aio: 'x', uid: 'root', oid: 'root' }) });
      await refused(row, () => gateway.call(token));
    }
  });

  it('the signature of another token', async () => {
    const [header, payload] = alice.accessToken.split('.');
    const other = (await parts.alice()).accessToken.split('.')[2];
    await refused(invalidToken('bad_signature'), () => gateway.call(`${header}.${payload}.${other}`));
  });

  it('an expired token', async () => {
    for (const name of ['entra', 'okta']) {
      parts[name].signIn.clockOffsetSeconds = -7200;
      const { accessToken } = await newcomer(name);
      parts[name].signIn.clockOffsetSeconds = 0;
      await refused(invalidToken('expired'), () => gateway.call(accessToken));
    }
  });

  it('a token from the future', async () => {
    for (const name of ['entra', 'okta']) {
      parts[name].signIn.clockOffsetSeconds = 7200;
      const { accessToken } = await newcomer(name);
      parts[name].signIn.clockOffsetSeconds = 0;
      await refused(invalidToken('not_yet_valid'), () => gateway.call(accessToken));
    }
  });

  it('a token for another audience', async () => {
    const { accessToken } = await newcomer('entra', { resource: `api://${parts.entra.ids.otherApi}` });
    await refused(invalidToken('wrong_audience'), () => gateway.call(accessToken));
  });

  it('a token without expiry, or with claims of a wrong type', async () => {
    const row = invalidToken('invalid_claims');
    for (const change of [{ exp: undefined }, { exp: 'tomorrow' }, { scp: 7 }, { nbf: 'x' }]) {
      const token = await signed(parts.entra.signIn, alice.accessToken, change);
      await refused(row, () => gateway.call(token));
    }
  });

  it('an ID token in place of an access token', async () => {
    const row = invalidToken('id_token_as_access_token');
    // The user signed in to the gateway's own app: the audience would be right.
    for (const [name, aud] of [
      ['entra', parts.entra.ids.gateway],
      ['okta', 'api://default'],
    ]) {
      const { idToken } = name === 'entra' ? alice : bob;
      const token = await signed(parts[name].signIn, idToken, { aud });
      await refused(row, () => gateway.call(token));
    }
  });

  it('an ID token as the sign-in gives it', async () => {
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

describe('good tokens that may not do this', () => {
  it('a token of an application', async () => {
    const row = { reason: 'not_a_user_token', status: 403, error: 'access_denied' };
    const ofEntra = await machineToken(parts.entra, `${parts.entra.resource}/.default`);
    const ofOkta = await machineToken(parts.okta, 'mcp:read');
    await refused(row, () => gateway.call(ofEntra));
    await refused(row, () => gateway.call(ofOkta));
  });

  it('a token without the scope', async () => {
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

  it('a token of a provider that has no exchange for the resource', async () => {
    const row = { reason: 'no_exchange', status: 403, error: 'access_denied' };
    await refused(row, () => gateway.call(alice.accessToken, {}, { path: '/okta-only' }));
  });
});

describe('exchanges that fail', () => {
  /** A newcomer whose exchange meets this fault. */
  async function unlucky(name, fault, row, options) {
    const { accessToken } = await newcomer(name, options);
    const repair = parts[name].forMcp.fail('token', fault);
    try {
      return await refused(row, () => gateway.call(accessToken));
    } finally {
      repair();
    }
  }

  for (const name of ['entra', 'okta']) {
    it(`${name}: the token is not accepted any more`, () =>
      unlucky(name, refusesWith('invalid_grant'), invalidToken('exchange_rejected')));

    it(`${name}: the user must act`, () =>
      unlucky(
        name,
        refusesWith(name === 'entra' ? 'interaction_required' : 'consent_required'),
        { reason: 'interaction_required', status: 403, error: 'access_denied' },
      ));

    it(`${name}: the user is denied access`, () =>
      unlucky(name, refusesWith('access_denied'), {
        reason: 'exchange_denied',
        status: 403,
        error: 'access_denied',
      }));

    for (const error of [
      'invalid_client',
      'unauthorized_client',
      'invalid_scope',
      'invalid_target',
      'invalid_request',
      'unsupported_grant_type',
      ...(name === 'entra' ? ['invalid_resource'] : []),
    ]) {
      it(`${name}: ${error} is the operator's to repair`, async () => {
        await unlucky(name, refusesWith(error), {
          reason: 'exchange_misconfigured',
          status: 502,
          error: 'server_error',
        });
        const line = gateway.envoy.log
          .split('\n')
          .findLast((text) => text.includes('reason=exchange_misconfigured'));
        assert.ok(line.includes(error) && line.includes(name), line);
      });
    }

    it(`${name}: an answer that is no token response`, () =>
      unlucky(name, answersHtml(), {
        reason: 'provider_answer_invalid',
        status: 502,
        error: 'server_error',
      }));
  }

  it('a claims challenge reaches a client that can handle it', async () => {
    const claims = '{"access_token":{"polids":{"essential":true,"values":["5ce770ea"]}}}';
    const { accessToken } = await newcomer('entra');
    const repair = parts.entra.signIn.fail('token', refusesWith('interaction_required', { claims }));
    const counted = await gateway.decisions('interaction_required');
    const answer = await gateway.call(accessToken);
    repair();
    await gateway.expectCount('decisions.reason.interaction_required', counted + 1);
    assert.equal(answer.status, 401);
    const challenge = challengeOf(answer);
    assert.equal(challenge.error, 'insufficient_claims');
    assert.equal(Buffer.from(challenge.claims, 'base64').toString(), claims);
    assert.equal(answer.json.reason, 'interaction_required');
  });

  it('and not one that cannot', () => {
    const claims = '{"access_token":{"acrs":{"essential":true,"value":"c1"}}}';
    return unlucky(
      'entra',
      refusesWith('interaction_required', { claims }),
      { reason: 'interaction_required', status: 403, error: 'access_denied' },
      { client: parts.entra.ids.oldClient },
    );
  });

  it('where the user can act is told to the caller, if it is on the provider’s own host', async () => {
    const row = { reason: 'interaction_required', status: 403, error: 'access_denied' };
    const { issuer } = parts.okta.signIn;
    const interactionUri = `${new URL(issuer).origin}/consent?id=7`;
    const told = await unlucky('okta', refusesWith('interaction_required', { interactionUri }), {
      ...row,
      members: ['interaction_uri'],
    });
    assert.equal(told.json.interaction_uri, interactionUri);
    const elsewhere = { interactionUri: 'https://evil.example/consent?id=7' };
    await unlucky('okta', refusesWith('interaction_required', elsewhere), row);
    assert.ok(!gateway.envoy.log.includes('consent?id=7'));
  });

  it('the log says who must act and what to do, in words of our own', async () => {
    const misconfigured = { reason: 'exchange_misconfigured', status: 502, error: 'server_error' };
    const last = () => gateway.envoy.log.split('\n').findLast((text) => text.includes('reason=exchange_misconfigured'));
    await unlucky('entra', refusesWith('invalid_client', { code: 7000222, text: 'a text of theirs' }), misconfigured);
    assert.match(last(), /error_codes=7000222 provider_trace_id=\S+ responsible=operator remedy="Create another client secret[^"]+\."/);
    assert.ok(!last().includes('theirs'));
    const text = "The 'subject_token' issuer isn't a trusted authorization server.";
    await unlucky('okta', refusesWith('access_denied', { status: 403, text }), misconfigured);
    assert.match(last(), /error="access_denied" status=403 .*responsible=admin remedy="Add the issuer [^"]+ Trusted servers [^"]+\."/);
    assert.ok(!last().includes("isn't"));
  });

  it('access_denied of Okta for want of a policy is the operator’s to repair', () =>
    unlucky('okta', refusesWith('access_denied', { status: 401 }), {
      reason: 'exchange_misconfigured',
      status: 502,
      error: 'server_error',
    }));

  it('the trace id of Entra is in the log', async () => {
    await unlucky('entra', refusesWith('invalid_client'), {
      reason: 'exchange_misconfigured',
      status: 502,
      error: 'server_error',
    });
    const line = gateway.envoy.log
      .split('\n')
      .findLast((text) => text.includes('reason=exchange_misconfigured'));
    assert.match(line, /7000215/);
    assert.match(line, /[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}/);
  });

  it('nothing that a provider writes reaches the client or the log as it is', async () => {
    const evil = 'x", error="y\r\nset-cookie: a=b <script>';
    const body = { error: evil, error_description: evil, error_uri: evil, trace_id: evil };
    const { accessToken } = await newcomer('entra');
    const repair = parts.entra.signIn.fail('token', async (exchange) => {
      await exchange.server.recordFaulty(exchange.request, 400, 'evil');
      exchange.response.writeHead(400, { 'content-type': 'application/json' });
      exchange.response.end(JSON.stringify(body));
    });
    const answer = await gateway.call(accessToken);
    repair();
    assert.equal(answer.status, 502);
    assert.equal(answer.headers['set-cookie'], undefined);
    assert.ok(!answer.text.includes('<script') && !JSON.stringify(answer.headers).includes('<script'));
    assert.ok(!/<script|set-cookie:/.test(gateway.envoy.log));
  });

  it('a provider that closes the connection is 503', () =>
    unlucky('okta', dropsTheConnection(), {
      reason: 'provider_unavailable',
      status: 503,
      error: 'temporarily_unavailable',
      retryAfter: true,
    }));

  it('other users are served all the while', async () => {
    for (const name of ['entra', 'okta']) {
      const { accessToken } = await newcomer(name);
      const answer = await until(async () => {
        const tried = await gateway.call(accessToken);
        return tried.status === 200 && tried;
      }, `a user of ${name} is served`);
      assert.equal(answer.status, 200);
    }
  });

  it('a wrong secret is found out by the provider and reported to the operator', async () => {
    const wrong = await startGateway(parts, { env: { ENTRA_CLIENT_SECRET: 'not-the-secret' } });
    try {
      const { accessToken } = await newcomer('entra');
      await refused(
        { reason: 'exchange_misconfigured', status: 502, error: 'server_error' },
        () => wrong.call(accessToken),
        wrong,
      );
      assert.equal(parts.entra.signIn.exchanges.at(-1).error, 'invalid_client');
    } finally {
      await wrong.stop();
    }
  });

  it('the token that was handed in is never taken for an exchanged one', async () => {
    const { accessToken } = await newcomer('entra');
    const echo = answersJson({ access_token: accessToken, token_type: 'Bearer', expires_in: 3600 });
    const repair = parts.entra.signIn.fail('token', echo);
    await refused(
      { reason: 'provider_answer_invalid', status: 502, error: 'server_error' },
      () => gateway.call(accessToken),
    );
    repair();
  });
});

describe('too much at once', () => {
  for (const name of ['entra', 'okta']) {
    it(`${name} limits requests: 503 with the time it asks for`, async () => {
      const own = await startGateway(parts);
      const { accessToken } = await newcomer(name);
      const repair = parts[name].forMcp.fail('token', throttles());
      try {
        const answer = await refused(
          {
            reason: 'provider_throttled',
            status: 503,
            error: 'temporarily_unavailable',
            retryAfter: true,
          },
          () => own.call(accessToken),
          own,
        );
        const seconds = Number(answer.headers['retry-after']);
        const asked = name === 'entra' ? 60 : 30;
        assert.ok(seconds > asked - 10 && seconds <= asked + 1, `${seconds} s`);
        // It is left in peace: also for others, and also when it would answer again.
        repair();
        const { length } = parts[name].forMcp.exchanges;
        const another = await own.call((await newcomer(name)).accessToken);
        assert.deepEqual([another.status, another.json.reason], [503, 'provider_throttled']);
        assert.equal(parts[name].forMcp.exchanges.length, length);
      } finally {
        repair();
        await own.stop();
      }
    });
  }

  it('more requests than may wait for one token are 503', async () => {
    const { accessToken } = await newcomer('entra');
    const hold = gate();
    const repair = parts.entra.signIn.fail('token', hold.behave);
    const own = await startGateway(parts);
    const sessions = [0, 1].map(() => connectHttp2(`http://127.0.0.1:${own.envoy.port}`));
    const statuses = [];
    try {
      for (let index = 0; index < 256; index += 1) {
        const stream = sessions[index % 2].request({
          ':path': '/mcp',
          ':authority': MCP_HOST,
          authorization: `Bearer ${accessToken}`,
        });
        stream.on('response', (headers) => statuses.push(headers[':status']));
        stream.on('error', () => {});
        stream.on('data', (chunk) => answers.add(String(chunk)));
        stream.end();
      }
      await until(async () => {
        const active = await own.envoy.stats('http.gateway.downstream_rq_active');
        return active['http.gateway.downstream_rq_active'] === 256;
      }, '256 requests wait');
      await until(() => hold.waiting() === 1, 'their exchange is under way');
      await refused(
        {
          reason: 'overloaded',
          status: 503,
          error: 'temporarily_unavailable',
          challenge: 'none',
          retryAfter: true,
        },
        () => own.call(accessToken),
        own,
      );
      hold.release();
      await until(() => statuses.length === 256, 'all who waited are answered');
      assert.equal(hold.waiting(), 1, 'one exchange for all');
      assert.deepEqual([...new Set(statuses)].includes(503), false);
    } finally {
      repair();
      hold.release();
      for (const session of sessions) session.destroy();
      await own.stop();
    }
  });
});

describe('without the provider’s keys', () => {
  it('users of that provider get 503 and the others go on; when the keys come, all is well', async () => {
    const repair = parts.entra.signIn.fail('discovery', dropsTheConnection());
    const own = await startGateway(parts);
    try {
      await refused(
        {
          reason: 'jwks_unavailable',
          status: 503,
          error: 'temporarily_unavailable',
          retryAfter: true,
        },
        () => own.call(alice.accessToken),
        own,
      );
      assert.equal((await own.call(bob.accessToken)).status, 200);
      repair();
      await until(
        async () => (await own.call(alice.accessToken)).status === 200,
        'Alice is served again',
        60,
      );
    } finally {
      repair();
      await own.stop();
    }
  });
});

describe('where an ID token must come with the access token', () => {
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

  it('it is missing', () =>
    refused(invalidToken('subject_token_missing'), () => own.call(bob.accessToken), own));

  it('it is not valid', async () => {
    const row = invalidToken('subject_token_invalid');
    const tampered = edited(bob.idToken, { claims: (c) => ({ ...c, sub: 'root' }) });
    const elsewhere = await signed(parts.okta.signIn, bob.idToken, { aud: 'another-client' });
    for (const idToken of ['junk', tampered, elsewhere, bob.accessToken]) {
      await refused(row, () => own.call(bob.accessToken, { 'x-id-token': idToken }), own);
    }
  });

  it('it belongs to somebody else', async () => {
    const { idToken } = await newcomer('okta', { idToken: true });
    await refused(
      invalidToken('subject_mismatch'),
      () => own.call(bob.accessToken, { 'x-id-token': idToken }),
      own,
    );
  });
});

describe('where callers come with an ID token', () => {
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

  it('it is exchanged, and the access token is refused', async () => {
    assert.equal((await own.call(bob.idToken)).status, 200);
    await refused(invalidToken('access_token_as_id_token'), () => own.call(bob.accessToken), own);
  });
});

describe('bound tokens', () => {
  const dpop = { error: 'invalid_dpop_proof', status: 401, challenge: 'error', metadata: METADATA_OF_BOUND };
  const bound = { path: '/bound' };

  it('without the proof for them', async () => {
    const token = await signed(parts.entra.signIn, alice.accessToken, { cnf: { jkt: 'x' } });
    await refused(invalidToken('sender_constrained_token'), () => gateway.call(token));
    const authorization = `DPoP ${token}`;
    const noProof = () => gateway.call(undefined, { authorization }, bound);
    await refused({ ...dpop, reason: 'invalid_dpop_proof', scheme: 'DPoP' }, noProof);
  });

  it('with the certificate of somebody else, or none', async () => {
    const token = await signed(parts.entra.signIn, alice.accessToken, { cnf: { 'x5t#S256': 'x' } });
    const row = { ...invalidToken('wrong_certificate'), metadata: METADATA_OF_BOUND, scheme: 'DPoP' };
    await refused(row, () => gateway.call(undefined, { authorization: `DPoP ${token}` }, bound));
  });

  it('where they must be, and are not', async () => {
    const row = { ...invalidToken('token_not_sender_constrained'), metadata: METADATA_OF_BOUND, scheme: 'DPoP' };
    await refused(row, () => gateway.call(alice.accessToken, {}, bound));
  });

  it('with a proof that lacks the nonce', async () => {
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

describe('who acts', () => {
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

  it('a token that names somebody else as the actor', async () => {
    const token = await signed(parts.okta.signIn, bob.accessToken, { may_act: { sub: 'another' } });
    const row = { reason: 'actor_not_allowed', status: 403, error: 'access_denied' };
    await refused(row, () => own.call(token, { 'x-actor-token': 'opaque' }), own);
  });

  it('without the token by which the proxy acts', async () => {
    const row = { reason: 'actor_token_missing', status: 502, error: 'server_error' };
    await refused(row, () => own.call(bob.accessToken), own);
  });
});

describe('all in all', () => {
  it('every reason that the filter knows has been reached', () => {
    const source = readFileSync(new URL('../../src/refusal/reason.rs', import.meta.url), 'utf8');
    const labels = [...source.matchAll(/=> \{?\s*\(\s*"([a-z_]+)",\s*\d{3},/g)].map(([, label]) => label);
    assert.ok(labels.length >= 34, `found ${labels.length} labels`);
    // What an upstream brings about is reached with upstreams of its own.
    const upstreams = readFileSync(new URL('upstream.test.mjs', import.meta.url), 'utf8');
    const there = labels.filter((label) => label.startsWith('upstream_') && upstreams.includes(`'${label}'`));
    assert.deepEqual([...reached, ...there].sort(), labels.sort());
  });

  it('nothing trapped and nothing secret can be seen', () => assertSoundAndSilent(gateway));
});
