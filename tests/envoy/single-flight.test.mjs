// Single flight: concurrent requests for the same token or keys cause one callout, which survives the request that started it.

import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { assertSoundAndSilent } from './parts/expect.mjs';
import { gate, refusesWith } from './parts/faults.mjs';
import { startGateway, startParts } from './parts/gateway.mjs';
import { signIn } from './parts/login.mjs';
import { until } from './parts/until.mjs';

const CROWD = 50;
let parts;
let gateway;
let number = 0;
const newcomer = (name) => {
  number += 1;
  return signIn(parts[name], `user${number}@${name}.example`);
};
const waitingAtEnvoy = async (at = gateway) => {
  const stats = await at.envoy.stats('http.gateway.downstream_rq_active');
  return stats['http.gateway.downstream_rq_active'];
};

before(async () => {
  parts = await startParts();
  gateway = await startGateway(parts, { concurrency: 1 });
});
after(async () => {
  await gateway?.stop();
  await parts?.stop();
});

for (const name of ['entra', 'okta']) {
  describe(`${CROWD} first requests of one user of ${name} at once`, () => {
    it('concurrent first requests cause one exchange', async () => {
      const { accessToken } = await newcomer(name);
      const { length } = parts[name].forMcp.exchanges;
      const hold = gate();
      const repair = parts[name].forMcp.fail('token', hold.behave);
      const crowd = Array.from({ length: CROWD }, () => gateway.call(accessToken));
      await until(async () => (await waitingAtEnvoy()) === CROWD, `${CROWD} wait`);
      hold.release();
      const answers = await Promise.all(crowd);
      repair();
      assert.deepEqual([...new Set(answers.map(({ status }) => status))], [200]);
      assert.equal(hold.waiting(), 1);
      assert.equal(parts[name].forMcp.exchanges.length, length + 1);
    });

    it('concurrent first requests cause one exchange if the first one leaves', async () => {
      const { accessToken } = await newcomer(name);
      const { length } = parts[name].forMcp.exchanges;
      const hold = gate();
      const repair = parts[name].forMcp.fail('token', hold.behave);
      const first = new AbortController();
      const left = gateway
        .send({ headers: { authorization: `Bearer ${accessToken}` }, signal: first.signal })
        .catch((error) => error.name);
      await until(() => hold.waiting() === 1, 'the exchange is under way');
      const crowd = Array.from({ length: CROWD - 1 }, () => gateway.call(accessToken));
      await until(async () => (await waitingAtEnvoy()) === CROWD, `${CROWD} wait`);
      first.abort();
      assert.equal(await left, 'AbortError');
      await until(async () => (await waitingAtEnvoy()) === CROWD - 1, 'the first is gone');
      hold.release();
      const answers = await Promise.all(crowd);
      repair();
      assert.deepEqual([...new Set(answers.map(({ status }) => status))], [200]);
      assert.equal(hold.waiting(), 1);
      assert.equal(parts[name].forMcp.exchanges.length, length + 1);
    });

    it('concurrent first requests are all refused if the exchange fails', async () => {
      const { accessToken } = await newcomer(name);
      const hold = gate();
      const refusal = refusesWith('invalid_grant');
      const repair = parts[name].forMcp.fail('token', (exchange) =>
        hold.behave({ ...exchange, real: () => refusal(exchange) }),
      );
      const crowd = Array.from({ length: CROWD }, () => gateway.call(accessToken));
      await until(async () => (await waitingAtEnvoy()) === CROWD, `${CROWD} wait`);
      hold.release();
      const answers = await Promise.all(crowd);
      repair();
      assert.deepEqual([...new Set(answers.map(({ json }) => json.reason))], ['exchange_rejected']);
      assert.equal(hold.waiting(), 1);
    });
  });
}

it('different users do not wait for each other', async () => {
  const slow = await newcomer('entra');
  const quick = await newcomer('okta');
  const hold = gate();
  const repair = parts.entra.signIn.fail('token', hold.behave);
  const waiting = gateway.call(slow.accessToken);
  await until(() => hold.waiting() === 1, 'the exchange is under way');
  assert.equal((await gateway.call(quick.accessToken)).status, 200);
  hold.release();
  assert.equal((await waiting).status, 200);
  repair();
});

it('a token in use is renewed while no request waits', async () => {
  const { accessToken } = await newcomer('entra');
  const { forMcp } = parts.entra;
  const { length } = forMcp.exchanges;
  const seen = parts.mcp.tokens.size;
  // The issued token expires before the subject token: otherwise the next one would not last longer.
  forMcp.accessTokenSeconds = 600;
  forMcp.settings.refreshIn = 1;
  const hold = gate();
  let repair = () => {};
  try {
    assert.equal((await gateway.call(accessToken)).status, 200);
    repair = forMcp.fail('token', hold.behave);
    await until(async () => {
      assert.equal((await gateway.call(accessToken)).status, 200);
      return hold.waiting() > 0;
    }, 'the next token is asked for');
    // Requests that come meanwhile use the first token.
    const crowd = await Promise.all(Array.from({ length: CROWD }, () => gateway.call(accessToken)));
    assert.deepEqual([...new Set(crowd.map(({ status }) => status))], [200]);
    assert.deepEqual([hold.waiting(), parts.mcp.tokens.size], [1, seen + 1]);
    forMcp.settings.refreshIn = undefined;
    hold.release();
    await until(async () => {
      assert.equal((await gateway.call(accessToken)).status, 200);
      return parts.mcp.tokens.size === seen + 2;
    }, 'the next token is used');
    assert.equal(forMcp.exchanges.length, length + 2);
  } finally {
    repair();
    hold.release();
    forMcp.accessTokenSeconds = 3600;
    forMcp.settings.refreshIn = undefined;
  }
});

it('the last 28 seconds of a token cost one exchange', async () => {
  const { signIn: server, forMcp } = parts.okta;
  server.accessTokenSeconds = 28;
  const { accessToken } = await newcomer('okta');
  server.accessTokenSeconds = 3600;
  const { length } = forMcp.exchanges;
  const seen = parts.mcp.tokens.size;
  const began = Date.now();
  for (let call = 0; call < 40; call += 1) {
    await new Promise((resolve) => setTimeout(resolve, began + call * 500 - Date.now()));
    assert.equal((await gateway.call(accessToken)).status, 200, `call ${call}`);
  }
  assert.equal(forMcp.exchanges.length, length + 1);
  assert.equal(parts.mcp.tokens.size, seen + 1);
});

it('an exchange whose only request has left still fills the cache', async () => {
  const { accessToken } = await newcomer('okta');
  const { length } = parts.okta.forMcp.exchanges;
  const hold = gate();
  const repair = parts.okta.forMcp.fail('token', hold.behave);
  const only = new AbortController();
  const left = gateway
    .send({ headers: { authorization: `Bearer ${accessToken}` }, signal: only.signal })
    .catch((error) => error.name);
  await until(() => hold.waiting() === 1, 'the exchange is under way');
  only.abort();
  await left;
  hold.release();
  await until(() => parts.okta.forMcp.exchanges.length === length + 1, 'the exchange ends');
  repair();
  assert.equal((await gateway.call(accessToken)).status, 200);
  assert.equal(parts.okta.forMcp.exchanges.length, length + 1);
});

it('concurrent first requests at four workers cause one exchange', async () => {
  const four = await startGateway(parts, { concurrency: 4 });
  try {
    const { accessToken } = await newcomer('entra');
    const { length } = parts.entra.forMcp.exchanges;
    const hold = gate();
    const repair = parts.entra.forMcp.fail('token', hold.behave);
    const crowd = Array.from({ length: CROWD }, () => four.call(accessToken));
    await until(async () => (await waitingAtEnvoy(four)) === CROWD, `${CROWD} wait`);
    hold.release();
    const answers = await Promise.all(crowd);
    repair();
    assert.deepEqual([...new Set(answers.map(({ status }) => status))], [200]);
    assert.equal(hold.waiting(), 1);
    assert.equal(parts.entra.forMcp.exchanges.length - length, 1);
    // Envoy assigns connections to workers: this many requests reach each of them.
    const later = await Promise.all(Array.from({ length: CROWD }, () => four.call(accessToken)));
    assert.deepEqual([...new Set(later.map(({ status }) => status))], [200]);
    assert.equal(parts.entra.forMcp.exchanges.length - length, 1);
    await assertSoundAndSilent(four);
  } finally {
    await four.stop();
  }
});

it('the module never trapped, and no secret is visible', () => assertSoundAndSilent(gateway));
