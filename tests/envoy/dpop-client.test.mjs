// DPoP of the gateway: an Okta application that must use DPoP, and an API that accepts bound tokens only. The gateway holds the
// key for both.

import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { startBoundResource } from './parts/bound-resource.mjs';
import { proofKey } from './parts/dpop.mjs';
import { assertSoundAndSilent } from './parts/expect.mjs';
import { MCP_HOST, RESOURCE, startGateway, startParts, wasmOf } from './parts/gateway.mjs';
import { inPem, keysFor } from './parts/keys.mjs';
import { signIn } from './parts/login.mjs';
import { until } from './parts/until.mjs';

let parts;
let api;
let users = 0;

before(async () => {
  parts = await startParts({ oktaDpop: true });
  const { issuer, urls } = parts.okta.forMcp;
  const { url: jwksUri, headers } = parts.okta.host.reach(urls.keys);
  api = await startBoundResource({ issuer, audience: RESOURCE, jwksUri, headers, url: `https://${MCP_HOST}` });
});
after(async () => {
  api?.stop();
  await parts?.stop();
});

/** Starts the gateway with a DPoP key, in front of the API. */
function start({ exchange = { token_type: 'dpop' }, algorithm = 'ES256', env = {}, concurrency = 1 } = {}) {
  return startGateway(parts, {
    recipe: 'okta',
    concurrency,
    env,
    change: (filter, bootstrap) => {
      wasmOf(bootstrap).vm_config.environment_variables.host_env_keys.push('OKTA_DPOP_KEY');
      filter.identity_providers.okta.client.dpop = { key: { env: 'OKTA_DPOP_KEY' }, algorithm };
      Object.assign(filter.resources[0].exchange.okta, exchange);
      const cluster = bootstrap.static_resources.clusters.find(({ name }) => name === 'mcp_server');
      const [endpoint] = cluster.load_assignment.endpoints[0].lb_endpoints;
      endpoint.endpoint.address.socket_address.port_value = api.port;
    },
  });
}

/** Signs in a new user. */
async function somebody() {
  users += 1;
  return (await signIn(parts.okta, `user${users}@acme.example`)).accessToken;
}

/** Sends a request with that token, and returns the exchanges that it caused. */
async function ask(gateway, token, options = {}) {
  const { length } = parts.okta.forMcp.exchanges;
  const headers = { authorization: `Bearer ${token}`, ...options.headers };
  const answer = await gateway.send({ method: 'POST', ...options, headers });
  return { answer, exchanges: parts.okta.forMcp.exchanges.slice(length) };
}

const errorsOf = (exchanges) => exchanges.map(({ status, error }) => error ?? status);

describe('an API that requires DPoP', () => {
  let gateway;
  before(async () => {
    gateway = await start();
  });
  after(() => gateway?.stop());

  it('the first exchange learns the nonce by a second call', async () => {
    const { answer, exchanges } = await ask(gateway, await somebody());
    assert.equal(answer.status, 200, answer.text);
    assert.match(answer.json.user, /^00u/);
    assert.deepEqual(errorsOf(exchanges), ['use_dpop_nonce', 200]);
    const [first, second] = exchanges;
    assert.equal(first.proof.nonce, undefined);
    assert.match(second.proof.nonce, /^[\w-]{20,}$/);
    assert.notEqual(first.proof.jti, second.proof.jti);
    assert.notEqual(first.assertion.jti, second.assertion.jti);
    assert.equal(second.proof.htm, 'POST');
    assert.equal(second.proof.htu, parts.okta.forMcp.urls.token);
  });

  it('the next exchanges use the nonce until the provider requires another', async () => {
    for (const _ of [1, 2]) {
      const { answer, exchanges } = await ask(gateway, await somebody());
      assert.equal(answer.status, 200, answer.text);
      assert.deepEqual(errorsOf(exchanges), [200]);
    }
    parts.okta.forMcp.forgetNonces();
    const { answer, exchanges } = await ask(gateway, await somebody());
    assert.equal(answer.status, 200, answer.text);
    assert.deepEqual(errorsOf(exchanges), ['use_dpop_nonce', 200]);
    assert.notEqual(exchanges[0].proof.nonce, exchanges[1].proof.nonce);
    assert.deepEqual(errorsOf((await ask(gateway, await somebody())).exchanges), [200]);
  });

  it('a cached token is forwarded with a proof for the request', async () => {
    const token = await somebody();
    assert.equal((await ask(gateway, token)).answer.status, 200);
    for (const [method, path] of [
      ['GET', '/mcp'],
      ['POST', '/mcp?x=1'],
      ['DELETE', '/mcp/a/b%20c?y=/'],
      ['PUT', '/mcp/%61%40b/'],
    ]) {
      const { answer, exchanges } = await ask(gateway, token, { method, path });
      assert.equal(answer.status, 200, `${method} ${path}: ${JSON.stringify(api.requests.at(-1))}`);
      assert.deepEqual(exchanges, []);
    }
  });

  it('a DPoP proof of the caller is not forwarded', async () => {
    const token = await somebody();
    const { proof } = await proofKey();
    const own = await proof({ method: 'POST', url: RESOURCE, token });
    const headers = ['authorization', `Bearer ${token}`, 'dpop', own, 'dpop', own];
    const answer = await gateway.send({ method: 'POST', headers });
    assert.equal(answer.status, 200, JSON.stringify(api.requests.at(-1)));
  });

  it('a nonce of the API is in the next proof, and stays out of the answer', async (t) => {
    const token = await somebody();
    assert.equal((await ask(gateway, token)).answer.status, 200);
    t.after(() => (api.nonce = undefined));
    api.nonce = 'the-first';
    const { answer } = await ask(gateway, token);
    assert.equal(answer.status, 503, answer.text);
    assert.equal(answer.headers['dpop-nonce'], undefined);
    for (const _ of [1, 2]) {
      const { answer, exchanges } = await ask(gateway, token);
      assert.equal(answer.status, 200, JSON.stringify(api.requests.at(-1)));
      assert.equal(answer.json.nonce, 'the-first');
      assert.equal(answer.headers['dpop-nonce'], undefined);
      assert.deepEqual(exchanges, [], 'the token is as good as before');
    }
  });

  it('the module never trapped, and no secret is visible', () => assertSoundAndSilent(gateway));
});

it('four workers use each jti once', async (t) => {
  const gateway = await start({ concurrency: 4 });
  t.after(() => gateway.stop());
  const before = { exchanges: parts.okta.forMcp.exchanges.length, requests: api.requests.length };
  const tokens = await Promise.all([1, 2, 3].map(somebody));
  const headers = (token) => ({ authorization: `Bearer ${token}`, connection: 'close' });
  const asked = Array.from({ length: 60 }, (_, index) => tokens[index % tokens.length]);
  const answers = await Promise.all(asked.map((token) => gateway.send({ method: 'POST', headers: headers(token) })));
  assert.deepEqual(new Set(answers.map(({ status }) => status)), new Set([200]));
  assert.equal(api.requests.length, before.requests + asked.length);
  const exchanges = parts.okta.forMcp.exchanges.slice(before.exchanges);
  const ids = exchanges.map(({ proof }) => proof.jti);
  assert.equal(new Set(ids).size, ids.length);
  assert.deepEqual(errorsOf(exchanges).filter((error) => !['use_dpop_nonce', 200].includes(error)), []);
  await assertSoundAndSilent(gateway);
});

for (const algorithm of ['EdDSA', 'ES256']) {
  it(`a key for ${algorithm} makes accepted proofs`, async (t) => {
    const OKTA_DPOP_KEY = inPem(keysFor(algorithm).privateKey);
    const gateway = await start({ algorithm, env: { OKTA_DPOP_KEY } });
    t.after(() => gateway.stop());
    const { answer } = await ask(gateway, await somebody());
    assert.equal(answer.status, 200, JSON.stringify(api.requests.at(-1)));
    assert.deepEqual(await gateway.envoy.traps(), []);
  });
}

it('the htu of a proof begins with upstream_url', async (t) => {
  const gateway = await start({ exchange: { token_type: 'dpop', upstream_url: 'https://api.internal/mcp' } });
  t.after(() => gateway.stop());
  const token = await somebody();
  const { answer } = await ask(gateway, token, { path: '/mcp/a?x' });
  assert.equal(answer.json.reason, 'upstream_rejected_token', answer.text);
  assert.deepEqual(api.requests.at(-1), { wrong: 'htu https://api.internal/mcp/a' });
  const { url } = api;
  t.after(() => (api.url = url));
  api.url = 'https://api.internal';
  for (const path of ['/mcp', '/mcp/a?x']) assert.equal((await ask(gateway, token, { path })).answer.status, 200);
});

it('a bound token is refused for a resource that presents Bearer', async (t) => {
  const gateway = await start({ exchange: {} });
  t.after(() => gateway.stop());
  const arrived = api.requests.length;
  const { answer } = await ask(gateway, await somebody());
  assert.equal(answer.status, 502, answer.text);
  assert.equal(answer.json.reason, 'provider_answer_invalid');
  assert.equal(api.requests.length, arrived);
  await until(() => /token_type is DPoP.*token_type: dpop.*switch off/.test(gateway.envoy.log), 'the log names the remedy');
  await assertSoundAndSilent(gateway);
});

it('the log has the error of the provider if there is no DPoP key', async (t) => {
  const gateway = await startGateway(parts, { recipe: 'okta' });
  t.after(() => gateway.stop());
  const { answer } = await ask(gateway, await somebody());
  assert.equal(answer.status, 502, answer.text);
  assert.equal(answer.json.reason, 'exchange_misconfigured');
  await until(() => gateway.envoy.log.includes('invalid_dpop_proof'), 'the log has the error code');
});
