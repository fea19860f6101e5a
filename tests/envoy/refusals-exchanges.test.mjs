// Token exchanges that fail: status, challenge, body, metric, and no request to the upstream.

import assert from 'node:assert/strict';
import { connect as connectHttp2 } from 'node:http2';
import { after, before, describe, it } from 'node:test';
import { assertSoundAndSilent, challengeOf } from './parts/expect.mjs';
import { answersHtml, answersJson, dropsTheConnection, gate, refusesWith, throttles } from './parts/faults.mjs';
import { MCP_HOST, startGateway } from './parts/gateway.mjs';
import { answers } from './parts/leaks.mjs';
import { alice, assertReached, bob, gateway, invalidToken, newcomer, parts, refused, start, stop } from './parts/refusals.mjs';
import { until } from './parts/until.mjs';

const MISCONFIGURED = { reason: 'exchange_misconfigured', status: 502, error: 'server_error' };

before(start);
after(stop);

describe('token exchanges that fail', () => {
  /** Asserts the refusal of a new user whose exchange meets this fault. */
  async function unlucky(name, fault, row, options) {
    const { accessToken } = await newcomer(name, options);
    const repair = parts[name].forMcp.fail('token', fault);
    try {
      return await refused(row, () => gateway.call(accessToken));
    } finally {
      repair();
    }
  }

  /** Latest log line of an exchange that the provider refused to the gateway. */
  const lastMisconfigured = () => gateway.envoy.log.split('\n').findLast((text) => text.includes('reason=exchange_misconfigured'));

  for (const name of ['entra', 'okta']) {
    it(`${name}: a subject token that is no longer accepted gets 401`, () =>
      unlucky(name, refusesWith('invalid_grant'), invalidToken('exchange_rejected')));

    it(`${name}: a user who must act gets 403`, () =>
      unlucky(
        name,
        refusesWith(name === 'entra' ? 'interaction_required' : 'consent_required'),
        { reason: 'interaction_required', status: 403, error: 'access_denied' },
      ));

    it(`${name}: a user who is denied access gets 403`, () =>
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
      'unsupported_grant_type',
      // At Okta the exchange has succeeded for Bob, so this is the fault of the token.
      ...(name === 'entra' ? ['invalid_request'] : []),
      ...(name === 'entra' ? ['invalid_resource'] : []),
    ]) {
      it(`${name}: ${error} gets 502, and the log has it`, async () => {
        await unlucky(name, refusesWith(error), MISCONFIGURED);
        const line = lastMisconfigured();
        assert.ok(line.includes(error) && line.includes(name), line);
      });
    }

    it(`${name}: an answer that is not a token response gets 502`, () =>
      unlucky(name, answersHtml(), {
        reason: 'provider_answer_invalid',
        status: 502,
        error: 'server_error',
      }));
  }

  it('okta: invalid_request gets 401 after a success of somebody', () =>
    unlucky('okta', refusesWith('invalid_request'), invalidToken('exchange_rejected')));

  it('a claims challenge reaches a client that declares cp1', async () => {
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

  it('a claims challenge does not reach a client that does not declare cp1', () => {
    const claims = '{"access_token":{"acrs":{"essential":true,"value":"c1"}}}';
    return unlucky(
      'entra',
      refusesWith('interaction_required', { claims }),
      { reason: 'interaction_required', status: 403, error: 'access_denied' },
      { client: parts.entra.ids.oldClient },
    );
  });

  it('an interaction_uri reaches the caller if its host is the provider’s', async () => {
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

  it('the log has responsible= and remedy=, and no text of the provider', async () => {
    await unlucky('entra', refusesWith('invalid_client', { code: 7000222, text: 'a text of theirs' }), MISCONFIGURED);
    const ofEntra = lastMisconfigured();
    assert.match(ofEntra, /error_codes=7000222 provider_trace_id=\S+ responsible=operator remedy="Create another client secret[^"]+\."/);
    assert.ok(!ofEntra.includes('theirs'));
    const text = "The 'subject_token' issuer isn't a trusted authorization server.";
    await unlucky('okta', refusesWith('access_denied', { status: 403, text }), MISCONFIGURED);
    const ofOkta = lastMisconfigured();
    assert.match(ofOkta, /error="access_denied" status=403 .*responsible=admin remedy="Add the issuer [^"]+ Trusted servers [^"]+\."/);
    assert.ok(!ofOkta.includes("isn't"));
  });

  it('access_denied of Okta without a policy gets 502', () =>
    unlucky('okta', refusesWith('access_denied', { status: 401 }), MISCONFIGURED));

  it('the trace ID of Entra is in the log', async () => {
    await unlucky('entra', refusesWith('invalid_client'), MISCONFIGURED);
    const line = lastMisconfigured();
    assert.match(line, /7000215/);
    assert.match(line, /[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}/);
  });

  it('text of a provider reaches no client, and the log only escaped', async () => {
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
    const shown = String.raw`error="x\", error=\"y\u000d\u000aset-cookie: a=b <script>"`;
    const lines = gateway.envoy.log.split('\n').filter((line) => /<script|set-cookie:/.test(line));
    assert.ok(lines.length > 0 && lines.every((line) => line.includes(` ${shown} `)), lines.join('\n'));
  });

  it('a connection that the provider closes gets 503', () =>
    unlucky('okta', dropsTheConnection(), {
      reason: 'provider_unavailable',
      status: 503,
      error: 'temporarily_unavailable',
      retryAfter: true,
    }));

  it('other users are served after these failures', async () => {
    for (const name of ['entra', 'okta']) {
      const { accessToken } = await newcomer(name);
      const answer = await until(async () => {
        const tried = await gateway.call(accessToken);
        return tried.status === 200 && tried;
      }, `a user of ${name} is served`);
      assert.equal(answer.status, 200);
    }
  });

  it('a wrong client secret gets 502', async () => {
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

  it('the subject token in the answer is not an exchanged token', async () => {
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

describe('limits', () => {
  for (const name of ['entra', 'okta']) {
    it(`${name}: a throttled token request gets 503 with its Retry-After`, async () => {
      const own = await startGateway(parts);
      // The sign-in is at the endpoint that throttles.
      const users = [];
      for (let count = 0; count < 4; count += 1) users.push((await newcomer(name)).accessToken);
      const [first, other, second, third] = users;
      let repair = parts[name].forMcp.fail('token', throttles());
      try {
        const answer = await refused(
          {
            reason: 'provider_throttled',
            status: 503,
            error: 'temporarily_unavailable',
            retryAfter: true,
          },
          () => own.call(first),
          own,
        );
        const seconds = Number(answer.headers['retry-after']);
        const asked = name === 'entra' ? 60 : 30;
        assert.ok(seconds > asked - 10 && seconds <= asked + 1, `${seconds} s`);
        // The provider may limit that user alone: another one is served.
        repair();
        assert.equal((await own.call(other)).status, 200);
        // A second user gets a 429.
        repair = parts[name].forMcp.fail('token', throttles());
        const again = await own.call(second);
        assert.deepEqual([again.status, again.json.reason], [503, 'provider_throttled']);
        // The circuit breaker is open for other users as well, and after the repair.
        repair();
        const { length } = parts[name].forMcp.exchanges;
        const another = await own.call(third);
        assert.deepEqual([another.status, another.json.reason], [503, 'provider_throttled']);
        assert.equal(parts[name].forMcp.exchanges.length, length);
      } finally {
        repair();
        await own.stop();
      }
    });
  }

  it('a request above the limit of waiting requests gets 503', async () => {
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

describe('a provider whose JWKS is not available', () => {
  it('its users get 503 until the JWKS comes, and other users are served', async () => {
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

describe('the file', () => {
  it('every reason of this file has been reached', () => assertReached('exchanges'));

  it('the module never trapped, and no secret is visible', () => assertSoundAndSilent(gateway));
});
