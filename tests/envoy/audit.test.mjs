// Audit: who, what and how it ended, in the application log and in the access log of Envoy.

import assert from 'node:assert/strict';
import { after, before, it } from 'node:test';
import { assertSoundAndSilent } from './parts/expect.mjs';
import { gate, refusesWith } from './parts/faults.mjs';
import { RESOURCE, startGateway, startParts } from './parts/gateway.mjs';
import { signIn } from './parts/login.mjs';
import { until } from './parts/until.mjs';

let parts;
let gateway;
before(async () => {
  parts = await startParts();
  const inQuotes = 'TEXT detail="%FILTER_STATE(wasm.onbehalf.detail:PLAIN)%" status=%RESPONSE_CODE%\n';
  const asText = {
    name: 'text',
    typed_config: {
      '@type': 'type.googleapis.com/envoy.extensions.access_loggers.stream.v3.StdoutAccessLog',
      log_format: { text_format_source: { inline_string: inQuotes } },
    },
  };
  gateway = await startGateway(parts, {
    change: (_filter, { static_resources: { listeners } }) => {
      listeners[0].filter_chains[0].filters[0].typed_config.access_log.push(asText);
    },
  });
});
after(async () => {
  await gateway?.stop();
  await parts?.stop();
});

/** Lines of the access log, which the recipe writes to standard output as JSON. */
const accesses = () =>
  gateway.envoy.log
    .split('\n')
    .filter((line) => line.startsWith('{') && line.endsWith('}'))
    .map((line) => JSON.parse(line));

/** Audit lines of the application log that have all of these facts. */
const audits = (...facts) =>
  gateway.envoy.log
    .split('\n')
    .filter((line) => / wasm log onbehalf[^:]*: event=/.test(line))
    .filter((line) => facts.every((fact) => line.includes(` ${fact}`)));

/** Lines of the access log about requests that `act` makes. */
async function meanwhile(count, act) {
  const before = accesses().length;
  await act();
  await until(() => accesses().length >= before + count, `${count} lines in the access log`, 30);
  return accesses().slice(before);
}

function subjectOf(name, token) {
  const claims = JSON.parse(Buffer.from(token.split('.')[1], 'base64url'));
  return name === 'entra' ? `${claims.tid}/${claims.oid}` : claims.uid;
}

for (const name of ['entra', 'okta']) {
  it(`${name}: an exchange, joined and cached requests have their facts`, async () => {
    const { accessToken } = await signIn(parts[name], `audited@${name}.example`);
    const subject = subjectOf(name, accessToken);
    const lines = await meanwhile(3, async () => {
      const hold = gate();
      const repair = parts[name].forMcp.fail('token', hold.behave);
      const first = gateway.call(accessToken);
      await until(() => hold.waiting() === 1, 'the exchange is under way');
      const joined = gateway.call(accessToken);
      await until(async () => {
        const stats = await gateway.envoy.stats('http.gateway.downstream_rq_active');
        return stats['http.gateway.downstream_rq_active'] === 2;
      }, 'two wait');
      hold.release();
      assert.deepEqual([(await first).status, (await joined).status], [200, 200]);
      repair();
      assert.equal((await gateway.call(accessToken)).status, 200);
    });
    const cache = lines.map((line) => line.cache).sort();
    assert.deepEqual(cache, ['coalesced', 'hit', 'miss']);
    for (const line of lines) {
      const { event, reason, resource, provider, issuer, status, path, detail } = line;
      assert.deepEqual(
        { event, reason, resource, provider, issuer, status, path, detail, subject: line.subject },
        {
          event: 'forwarded',
          reason: null,
          resource: RESOURCE,
          provider: name,
          issuer: parts[name].signIn.issuer,
          status: 200,
          path: '/mcp',
          detail: null,
          subject,
        },
      );
      assert.ok(line.client);
      assert.deepEqual([line.address, line.response_details], ['127.0.0.1', 'via_upstream']);
      assert.match(line.request_id, /^[0-9a-f-]{36}$/);
    }
    const exchanged = audits('outcome=ok', `provider=${name}`, `subject=${subject}`, 'waiters=2', 'cache=miss');
    assert.equal(exchanged.length, 1, exchanged.join('\n'));
    assert.equal(audits(`subject=${subject}`).length, 1);
    assert.match(exchanged[0], /\[info\]/);
  });

  it(`${name}: a refusal after a wait has its facts`, async () => {
    const { accessToken } = await signIn(parts[name], `unlucky@${name}.example`);
    const subject = subjectOf(name, accessToken);
    const [line] = await meanwhile(1, async () => {
      const repair = parts[name].forMcp.fail('token', refusesWith('invalid_client'));
      assert.equal((await gateway.call(accessToken)).status, 502);
      repair();
    });
    assert.deepEqual(
      [line.event, line.reason, line.provider, line.subject, line.cache, line.status],
      ['refused', 'exchange_misconfigured', name, subject, 'miss', 502],
    );
    // The Okta of these tests sends no request ID.
    const answered = name === 'entra' ? ' error="?invalid_client"? .*provider_trace_id=[\\w.-]+' : ' error="?invalid_client"? ';
    // Quotes in it are escaped, for access log formats that quote it.
    assert.match(` ${JSON.parse(`"${line.detail}"`)}`, new RegExp(`^${answered}`));
    const lines = audits(`subject=${subject}`);
    assert.equal(lines.length, 2, lines.join('\n'));
    const ended = ['event=exchanged outcome', 'event=refused reason'];
    for (const [index, text] of ended.entries()) {
      assert.match(lines[index], new RegExp(`\\[warning\\].* ${text}=exchange_misconfigured .*${answered}`));
    }
  });
}

it('a refusal at once names no user, and the access log has no query', async () => {
  const { accessToken } = await signIn(parts.okta, 'audited@okta.example');
  const forged = `${accessToken.slice(0, -12)}AAAAAAAAAAAA`;
  const lines = await meanwhile(3, async () => {
    assert.equal((await gateway.call(forged)).status, 401);
    assert.equal((await gateway.call(accessToken, {}, { path: '/mcp?access_token=x' })).status, 400);
    assert.equal((await gateway.call(undefined)).status, 401);
  });
  assert.deepEqual(
    lines.map(({ event, reason, resource, path }) => ({ event, reason, resource, path })),
    ['bad_signature', 'multiple_credentials', 'no_credentials'].map((reason) => ({
      event: 'refused',
      reason,
      resource: RESOURCE,
      path: '/mcp',
    })),
  );
  for (const { subject, issuer, provider, client } of lines) {
    assert.deepEqual([subject, issuer, provider, client], [null, null, null, null]);
  }
  assert.equal(audits('reason=bad_signature', 'provider_unverified=okta').length, 1);
  assert.equal(audits('reason=no_credentials').length, 0, 'that is at debug');
});

it('a caller cannot end the quoted detail of a text access log', async () => {
  const { accessToken } = await signIn(parts.okta, 'audited@okta.example');
  const [, claims, signature] = accessToken.split('.');
  const kid = 'x subject=9b1c/victim event=forwarded y';
  const header = Buffer.from(JSON.stringify({ alg: 'RS256', kid })).toString('base64url');
  await meanwhile(1, async () => {
    assert.equal((await gateway.call(`${header}.${claims}.${signature}`)).status, 401);
  });
  const about = () => gateway.envoy.log.split('\n').filter((line) => line.startsWith('TEXT ') && line.includes('victim'));
  await until(() => about().length === 1, 'the line is there', 30);
  const [, detail, rest] = /^TEXT detail=("(?:[^"\\]|\\.)*")(.*)$/.exec(about()[0]);
  assert.equal(rest, ' status=401');
  assert.ok(JSON.parse(detail).includes(`kid="${kid}"`), detail);
});

it('the module never trapped, and no secret is visible', () => assertSoundAndSilent(gateway));
