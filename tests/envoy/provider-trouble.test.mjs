// Providers that are down, slow or broken, or that rotate their keys.

import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { assertRefused, assertSoundAndSilent } from './parts/expect.mjs';
import {
  answers,
  answersHtml,
  answersJson,
  breaksOffHalfway,
  dropsTheConnection,
  gate,
  isSlow,
  neverAnswers,
  refusesWith,
  trickle,
} from './parts/faults.mjs';
import { startGateway, startParts } from './parts/gateway.mjs';
import { signIn } from './parts/login.mjs';
import { withKid } from './parts/tokens.mjs';
import { until } from './parts/until.mjs';

let parts;
let number = 0;
const newcomer = (name) => {
  number += 1;
  return signIn(parts[name], `user${number}@${name}.example`);
};
const quick = (filter) => {
  for (const provider of Object.values(filter.identity_providers)) provider.timeout_seconds = 1;
};

before(async () => {
  parts = await startParts();
});
after(() => parts?.stop());

/** Runs `use` with its own gateway, because failures of a provider are remembered for some time. */
async function withGateway(use, options = { change: quick }) {
  const gateway = await startGateway(parts, options);
  try {
    await use(gateway);
    await assertSoundAndSilent(gateway);
  } finally {
    await gateway.stop();
  }
}

const UNAVAILABLE = {
  reason: 'provider_unavailable',
  status: 503,
  error: 'temporarily_unavailable',
  retryAfter: true,
};
const INVALID = { reason: 'provider_answer_invalid', status: 502, error: 'server_error' };

describe('a provider that is down', () => {
  for (const name of ['entra', 'okta']) {
    it(`${name}: cached users are served, and new users get 503 for a while`, () =>
      withGateway(async (gateway) => {
        const known = await newcomer(name);
        const unknown = await newcomer(name);
        assert.equal((await gateway.call(known.accessToken)).status, 200);
        await parts[name].host.down();
        try {
          for (let round = 0; round < 3; round += 1) {
            assert.equal((await gateway.call(known.accessToken)).status, 200);
          }
          await assertRefused(gateway, UNAVAILABLE, () => gateway.call(unknown.accessToken));
          assert.equal((await gateway.call(known.accessToken)).status, 200);
        } finally {
          await parts[name].host.up();
        }
        await until(
          async () => (await gateway.call(unknown.accessToken)).status === 200,
          'the new user is served',
          60,
        );
      }));
  }

  it('a provider that is down does not affect users of the other', () =>
    withGateway(async (gateway) => {
      await parts.entra.host.down();
      const { accessToken } = await newcomer('okta');
      assert.equal((await gateway.call(accessToken)).status, 200);
      await parts.entra.host.up();
    }));

  it('Envoy starts and serves users of Okta while Entra is down', async () => {
    await parts.entra.host.down();
    await withGateway(async (gateway) => {
      const { accessToken } = await newcomer('okta');
      assert.equal((await gateway.call(accessToken)).status, 200);
      await parts.entra.host.up();
      const later = await newcomer('entra');
      await until(
        async () => (await gateway.call(later.accessToken)).status === 200,
        'Entra’s users are served when it is back',
        60,
      );
    });
  });
});

describe('token endpoints that do not work', () => {
  const cases = [
    ['answers 503', answers(503, 'no'), UNAVAILABLE],
    ['answers 500 with an OAuth error', refusesWith('server_error'), UNAVAILABLE],
    ['answers 400 temporarily_unavailable', refusesWith('temporarily_unavailable'), UNAVAILABLE],
    ['answers 502 with HTML', answersHtml(502), UNAVAILABLE],
    ['drops the connection', dropsTheConnection(), UNAVAILABLE],
    ['never answers', neverAnswers(), UNAVAILABLE],
    ['breaks off in the middle of the answer', breaksOffHalfway(), UNAVAILABLE],
    ['redirects', answers(302, '', { location: 'https://evil.example/token' }), UNAVAILABLE],
    ['redirects for good', answers(308, '', { location: 'https://evil.example/token' }), UNAVAILABLE],
    ['answers HTML with 200', answersHtml(200), INVALID],
    ['answers an empty 200', answers(200), INVALID],
    [
      'answers truncated JSON',
      answers(200, '{"access_token":"abc","token_ty', { 'content-type': 'application/json' }),
      INVALID,
    ],
    [
      'answers half a megabyte',
      answersJson({ access_token: 'a', token_type: 'Bearer', padding: 'x'.repeat(512 * 1024) }),
      INVALID,
    ],
    ['answers without a token', answersJson({ token_type: 'Bearer', expires_in: 60 }), INVALID],
    [
      'answers with a token that cannot stand in a header',
      answersJson({ access_token: 'a\r\nx-evil: 1', token_type: 'Bearer', expires_in: 60 }),
      INVALID,
    ],
    ...['N_A', 'mac', 'DPoP', 7, null].map((token_type) => [
      `answers with token_type ${token_type}`,
      answersJson({ access_token: 'abc', token_type, expires_in: 60 }),
      INVALID,
    ]),
    ...['soon', -1, 0, {}].map((expires_in) => [
      `answers with expires_in ${JSON.stringify(expires_in)}`,
      answersJson({ access_token: 'abc', token_type: 'Bearer', expires_in }),
      INVALID,
    ]),
    [
      'issues another type of token than was asked for',
      answersJson({
        access_token: 'abc',
        token_type: 'Bearer',
        expires_in: 60,
        issued_token_type: 'urn:ietf:params:oauth:token-type:saml2',
      }),
      INVALID,
    ],
    [
      'names a member twice',
      answers(200, '{"access_token":"a","token_type":"Bearer","access_token":"b","expires_in":60}', {
        'content-type': 'application/json',
      }),
      INVALID,
    ],
  ];
  let gateway;
  before(async () => {
    gateway = await startGateway(parts, { change: quick });
  });
  after(() => gateway?.stop());

  for (const [what, fault, row] of cases) {
    it(`a token endpoint that ${what} causes one refusal`, async () => {
      const name = number % 2 ? 'entra' : 'okta';
      const { accessToken } = await newcomer(name);
      const repair = parts[name].forMcp.fail('token', fault);
      try {
        await assertRefused(gateway, row, () => gateway.call(accessToken));
      } finally {
        repair();
      }
      const next = await newcomer(name);
      await until(
        async () => (await gateway.call(next.accessToken)).status === 200,
        'the next user is served',
        60,
      );
    });
  }

  for (const name of ['entra', 'okta']) {
    it(`${name}: an answer that comes byte by byte gets 503 in time`, () =>
      withGateway(async (own) => {
        const { accessToken } = await newcomer(name);
        const { behave, closed } = trickle();
        const repair = parts[name].forMcp.fail('token', behave);
        try {
          await assertRefused(own, UNAVAILABLE, () => own.call(accessToken));
          // Envoy closes the connection of a callout that timed out.
          await closed;
        } finally {
          repair();
        }
        const next = await newcomer(name);
        assert.equal((await own.call(next.accessToken)).status, 200);
      }));
  }

  it('a slow answer within the time limit is used', async (t) => {
    const patient = await startGateway(parts);
    t.after(() => patient.stop());
    const { accessToken } = await newcomer('okta');
    const repair = parts.okta.forMcp.fail('token', isSlow(1500));
    assert.equal((await patient.call(accessToken)).status, 200);
    repair();
  });

  it('a gzip answer is refused', async () => {
    const { gzipSync } = await import('node:zlib');
    const body = gzipSync('{"access_token":"abc","token_type":"Bearer","expires_in":60}');
    const headers = { 'content-type': 'application/json', 'content-encoding': 'gzip' };
    const { accessToken } = await newcomer('okta');
    const repair = parts.okta.forMcp.fail('token', answers(200, body, headers));
    await assertRefused(gateway, INVALID, () => gateway.call(accessToken));
    repair();
    await until(() => /event=exchanged .*content_encoding=gzip /.test(gateway.envoy.log), 'the log names the coding');
  });

  it('an issued token for the gateway itself is not forwarded', async () => {
    const { accessToken } = await newcomer('okta');
    // A token for clients of this gateway.
    const forUs = await newcomer('okta');
    const repair = parts.okta.forMcp.fail(
      'token',
      answersJson({ access_token: forUs.accessToken, token_type: 'Bearer', expires_in: 3600 }),
    );
    try {
      await assertRefused(gateway, INVALID, () => gateway.call(accessToken));
    } finally {
      repair();
    }
    const line = await until(
      () => gateway.envoy.log.split('\n').find((text) => /event=exchanged .*is for this proxy itself/.test(text)),
      'the line is written',
    );
    assert.match(line, /outcome=provider_answer_invalid .* aud="api:\/\/default" responsible=operator remedy="/);
  });

  it('an issued token that has expired or is an ID token is not forwarded', async () => {
    const { accessToken, idToken } = await newcomer('okta');
    const old = await parts.okta.forMcp.sign({ iss: parts.okta.forMcp.issuer, aud: 'x', exp: 1_700_000_000 });
    for (const access_token of [old, idToken]) {
      const repair = parts.okta.forMcp.fail('token', answersJson({ access_token, token_type: 'Bearer', expires_in: 60 }));
      const { accessToken: another } = await newcomer('okta');
      try {
        await assertRefused(gateway, INVALID, () => gateway.call(another));
      } finally {
        repair();
      }
    }
    assert.equal((await gateway.call(accessToken)).status, 200);
  });

  it('the module never trapped, and no secret is visible', async () => assertSoundAndSilent(gateway));
});

describe('a token endpoint that failed', () => {
  it('the user who failed last probes the endpoint at any of four workers', () =>
    withGateway(
      async (gateway) => {
        const a = await newcomer('okta');
        const again = await signIn(parts.okta, `user${number}@okta.example`);
        const b = await newcomer('okta');
        const repair = parts.okta.forMcp.fail('token', answers(503));
        const { length } = parts.okta.forMcp.exchanges;
        try {
          for (const { accessToken } of [a, b, again]) {
            const answer = await gateway.call(accessToken);
            assert.equal(answer.status, 503, answer.text);
          }
        } finally {
          repair();
        }
        assert.equal(parts.okta.forMcp.exchanges.length, length + 3);
        const other = await newcomer('okta');
        const answer = await gateway.call(other.accessToken);
        assert.equal(answer.json.reason, 'provider_unavailable', 'nobody asks now');
        // Other users had a precedence of thirty seconds once.
        await until(async () => (await gateway.call(again.accessToken)).status === 200, 'that user is served', 15);
        assert.equal(parts.okta.forMcp.exchanges.length, length + 4);
        await until(async () => (await gateway.call(other.accessToken)).status === 200, 'so are others', 5);
      },
      { change: quick, concurrency: 4 },
    ));
});

describe('JWKS', () => {
  it('the JWKS is fetched once for all workers before the first request', () =>
    withGateway(async (gateway) => {
      await gateway.expectCount('jwks_refreshes.provider.entra.outcome.ok', 1);
      await gateway.expectCount('jwks_refreshes.provider.okta.outcome.ok', 1);
      const { keys } = parts.entra.signIn.counts;
      const { accessToken } = await newcomer('entra');
      assert.equal((await gateway.call(accessToken)).status, 200);
      assert.equal(parts.entra.signIn.counts.keys, keys);
    }));

  for (const name of ['entra', 'okta']) {
    it(`${name}: a key rotation causes one fetch, and the old key stays valid`, () =>
      withGateway(async (gateway) => {
        const old = await newcomer(name);
        assert.equal((await gateway.call(old.accessToken)).status, 200);
        await gateway.expectCount(`jwks_refreshes.provider.${name}.outcome.ok`, 1);
        parts[name].signIn.rotate();
        const users = await Promise.all([1, 2, 3, 4, 5].map(() => newcomer(name)));
        const hold = gate();
        const repair = parts[name].signIn.fail('keys', hold.behave);
        let answered = 0;
        const calls = users.map(async ({ accessToken }) => {
          const { status } = await gateway.call(accessToken);
          answered += 1;
          return status;
        });
        // Requests that come while the new keys are fetched wait for them as well.
        await until(async () => {
          const stats = await gateway.envoy.stats('http.gateway.downstream_rq_active');
          const waiting = stats['http.gateway.downstream_rq_active'];
          return hold.waiting() === 1 && waiting + answered === users.length;
        }, 'all requests have arrived');
        hold.release();
        assert.deepEqual(await Promise.all(calls), [200, 200, 200, 200, 200]);
        repair();
        // The counter of the provider does not help: the MCP server fetches these keys as well.
        await gateway.expectCount(`jwks_refreshes.provider.${name}.outcome.ok`, 2);
        assert.equal((await gateway.call(old.accessToken)).status, 200);
      }));
  }

  it('a flood of unknown kids causes one fetch', () =>
    withGateway(async (gateway) => {
      const { accessToken } = await newcomer('okta');
      assert.equal((await gateway.call(accessToken)).status, 200);
      await gateway.expectCount('jwks_refreshes.provider.okta.outcome.ok', 1);
      const { keys } = parts.okta.signIn.counts;
      const answered = await Promise.all(
        Array.from({ length: 50 }, (_, index) => gateway.call(withKid(accessToken, `k${index}`))),
      );
      assert.deepEqual([...new Set(answered.map(({ json }) => json.reason))], ['unknown_key']);
      assert.equal(parts.okta.signIn.counts.keys, keys + 1);
    }));

  it('10,000 unknown kids cause one fetch at four workers', () =>
    withGateway(
      async (gateway) => {
        const { accessToken } = await newcomer('okta');
        assert.equal((await gateway.call(accessToken)).status, 200);
        await gateway.expectCount('jwks_refreshes.provider.okta.outcome.ok', 1);
        const { keys } = parts.okta.signIn.counts;
        const started = Date.now();
        for (let sent = 0; sent < 10_000 && Date.now() - started < 25_000; sent += 100) {
          const answered = await Promise.all(
            Array.from({ length: 100 }, (_, index) => gateway.call(withKid(accessToken, `k${sent + index}`))),
          );
          assert.deepEqual([...new Set(answered.map(({ json }) => json.reason))], ['unknown_key']);
        }
        assert.equal(parts.okta.signIn.counts.keys, keys + 1);
        await gateway.expectCount('jwks_refreshes.provider.okta.outcome.ok', 2);
      },
      { change: quick, concurrency: 4 },
    ));

  it('a withdrawn key is not accepted after the next fetch', () =>
    withGateway(async (gateway) => {
      const old = await newcomer('okta');
      assert.equal((await gateway.call(old.accessToken)).status, 200);
      await gateway.expectCount('jwks_refreshes.provider.okta.outcome.ok', 1);
      parts.okta.signIn.rotate({ forgetOldKeys: true });
      const fresh = await newcomer('okta');
      assert.equal((await gateway.call(fresh.accessToken)).status, 200);
      const answer = await gateway.call(old.accessToken);
      assert.equal(answer.status, 401);
      assert.equal(answer.json.reason, 'unknown_key');
    }));

  it('the JWKS stays if a fetch fails', () =>
    withGateway(async (gateway) => {
      const { accessToken } = await newcomer('entra');
      assert.equal((await gateway.call(accessToken)).status, 200);
      await gateway.expectCount('jwks_refreshes.provider.entra.outcome.ok', 1);
      const repair = parts.entra.signIn.fail('keys', answersHtml());
      const answer = await gateway.call(withKid(accessToken, 'unknown'));
      assert.ok([401, 503].includes(answer.status), answer.text);
      await gateway.expectCount('jwks_refreshes.provider.entra.outcome.failed', 1);
      const other = await newcomer('entra');
      assert.equal((await gateway.call(other.accessToken)).status, 200);
      repair();
    }));

  const broken = [
    ['HTML', answersHtml()],
    ['half a document', answers(200, '{"keys":[{"kty":"RS', { 'content-type': 'application/json' })],
    ['no keys', answersJson({ keys: [] })],
    ['five megabytes', answersJson({ keys: [], padding: 'x'.repeat(5 * 1024 * 1024) })],
    ['a redirect', answers(302, '', { location: 'http://127.0.0.1:1/keys' })],
    [
      'only unusable keys',
      answersJson({ keys: [{ kty: 'oct', k: 'AAAA', kid: 'a' }, { kty: 'RSA', kid: 'b' }, null, 7] }),
    ],
  ];
  for (const [what, fault] of broken) {
    it(`${what} in place of the JWKS gets 503 until the JWKS comes`, async () => {
      const repair = parts.entra.signIn.fail('keys', fault);
      await withGateway(async (gateway) => {
        const { accessToken } = await newcomer('entra');
        const answer = await gateway.call(accessToken);
        if (what === 'only unusable keys' || what === 'no keys') {
          assert.ok([401, 503].includes(answer.status), answer.text);
        } else {
          assert.equal(answer.status, 503, answer.text);
          assert.equal(answer.json.reason, 'jwks_unavailable');
          assert.match(answer.headers['retry-after'], /^\d+$/);
        }
        repair();
        await until(
          async () => (await gateway.call(accessToken)).status === 200,
          'the user is served',
          60,
        );
      });
    });
  }

  it('a metadata document of another issuer is not used', async () => {
    const repair = parts.entra.signIn.fail(
      'discovery',
      answersJson({
        issuer: 'https://login.microsoftonline.com/{tenantid}/v2.0',
        jwks_uri: parts.entra.signIn.urls.keys,
        token_endpoint: parts.entra.signIn.urls.token,
      }),
    );
    await withGateway(async (gateway) => {
      const { accessToken } = await newcomer('entra');
      const answer = await gateway.call(accessToken);
      assert.equal(answer.status, 503);
      assert.equal(answer.json.reason, 'jwks_unavailable');
    });
    repair();
  });

  it('endpoints on another host are not used', async () => {
    const repair = parts.entra.signIn.fail(
      'discovery',
      answersJson({
        issuer: parts.entra.signIn.issuer,
        jwks_uri: 'https://evil.example/keys',
        token_endpoint: 'https://evil.example/token',
      }),
    );
    const { keys } = parts.entra.signIn.counts;
    await withGateway(async (gateway) => {
      const { accessToken } = await newcomer('entra');
      assert.equal((await gateway.call(accessToken)).json.reason, 'jwks_unavailable');
      assert.equal(parts.entra.signIn.counts.keys, keys);
    });
    repair();
  });
});
