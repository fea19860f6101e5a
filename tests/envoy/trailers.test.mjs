// Trailers of a request, which a server may merge with its header (RFC 9110 section 6.5.1), and bodies and trailers that arrive
// before the request is forwarded.

import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { decodeJwt } from 'jose';
import { assertSoundAndSilent } from './parts/expect.mjs';
import { gate } from './parts/faults.mjs';
import { startGateway, startParts, wasmOf } from './parts/gateway.mjs';
import { send2 } from './parts/http2-client.mjs';
import { signIn } from './parts/login.mjs';
import { putBehind, startRecorder } from './parts/recorder.mjs';
import { until } from './parts/until.mjs';

let parts;
let recorder;
let number = 0;
const newcomer = async () => {
  number += 1;
  return (await signIn(parts.entra, `trailing${number}@contoso.example`)).accessToken;
};

before(async () => {
  parts = await startParts();
  recorder = await startRecorder({ http2: true });
});
after(async () => {
  await recorder?.stop();
  await parts?.stop();
});

function configure(filter, bootstrap) {
  filter.unauthenticated_paths = ['/healthz'];
  filter.request_headers_to_remove = ['x-session'];
  putBehind(bootstrap, recorder);
  const [manager] = bootstrap.static_resources.listeners[0].filter_chains[0].filters;
  manager.typed_config.http_protocol_options = { enable_trailers: true };
  // CGI servers read these names as others; Envoy lets them pass here.
  manager.typed_config.common_http_protocol_options.headers_with_underscores_action = 'ALLOW';
}

const HARMLESS = { 'grpc-status': '0', 'x-checksum': 'abc' };

/** Fields that no upstream may get, in a case that only HTTP/1.1 can send. */
const hostile = (token) => ({
  Authorization: `Bearer ${token}`,
  Cookie: `BearerToken=${token}`,
  DPoP: 'proof',
  'X-Onbehalf-User': 'somebody',
  X_Onbehalf_User: 'somebody',
  'X-Original-URL': '/mcp/admin',
  'X-Rewrite-URL': '/mcp/admin',
  'Proxy-Authorization': 'Basic YTpi',
  'X-Forwarded-Access-Token': 'opaque',
  'X-Amzn-Oidc-Data': 'opaque',
  'X-Session': 'secret',
  'X-Copy': token,
  'X-Encoded': `%22${token.replaceAll('.', '%2E')}%22`,
});

const lower = (fields) => Object.fromEntries(Object.entries(fields).map(([name, value]) => [name.toLowerCase(), value]));

/** Sends a POST with a body and these trailers; `{status}`. */
const WAYS = {
  'HTTP/2': (gateway, path, token, trailers) =>
    send2({
      ...gateway.target,
      path,
      headers: { authorization: `Bearer ${token}` },
      trailers: lower(trailers),
    }),
  'HTTP/1.1': async (gateway, path, token, trailers) => {
    const head = [`POST ${path} HTTP/1.1`, `host: ${gateway.target.host}`, `authorization: Bearer ${token}`];
    const framing = ['transfer-encoding: chunked', 'connection: close'];
    const behind = Object.entries(trailers).map(([name, value]) => `${name}: ${value}\r\n${name.toUpperCase()}: ${value}`);
    const lines = [...head, ...framing, '', '1', '{', '1', '}', '0', ...behind, '', ''];
    const answer = await gateway.sendBytes(Buffer.from(lines.join('\r\n'), 'latin1'));
    return { status: Number(answer.match(/^HTTP\/1\.1 (\d{3})/)?.[1]), text: answer };
  },
};

/** Runs `act`, and returns the requests that reach the upstream meanwhile. */
async function arrivals(act) {
  const { length } = recorder.requests;
  await act();
  return recorder.requests.slice(length);
}

/**
 * Sends a request whose exchange is held until the test has seen that the upstream gets nothing of it; then the request is
 * served.
 */
async function heldMeanwhile(gateway, send) {
  const { length } = recorder.requests;
  const hold = gate();
  const repair = parts.entra.forMcp.fail('token', hold.behave);
  try {
    const answer = send();
    await until(() => hold.waiting() === 1 || recorder.requests.length > length, 'the exchange is under way');
    await gateway.settled();
    assert.equal(recorder.requests.length, length, 'it went on meanwhile');
    hold.release();
    assert.equal((await answer).status, 200);
  } finally {
    hold.release();
    repair();
  }
}

/** Asserts that the request is whole, with its harmless trailers and no other, and with a token for the upstream or none. */
function assertClean([arrived, ...others], token, { open = false } = {}) {
  assert.ok(arrived && others.length === 0, 'one request arrives');
  const trailers = Object.fromEntries(arrived.trailers);
  assert.deepEqual(trailers, HARMLESS);
  assert.equal(arrived.body, '{}');
  const authorization = arrived.all('authorization');
  assert.equal(authorization.length, open ? 0 : 1);
  if (!open) assert.equal(decodeJwt(authorization[0].split(' ')[1]).aud, parts.entra.ids.mcpServer);
  assert.ok(!arrived.text.includes(token.split('.')[2]), 'the token of the caller is nowhere');
}

describe('trailers of a request', () => {
  let gateway;
  before(async () => {
    gateway = await startGateway(parts, { change: configure });
  });
  after(() => gateway?.stop());

  for (const [way, post] of Object.entries(WAYS)) {
    const withAll = (path, token) => post(gateway, path, token, { ...hostile(token), ...HARMLESS });

    it(`trailers bring no credential over ${way}, with a cached token`, async () => {
      const token = await newcomer();
      assert.equal((await gateway.call(token)).status, 200);
      const arrived = await arrivals(async () => assert.equal((await withAll('/mcp', token)).status, 200));
      assertClean(arrived.map(once), token);
    });

    it(`trailers bring no credential over ${way}, with a waiting request`, async () => {
      const token = await newcomer();
      const arrived = await arrivals(() => heldMeanwhile(gateway, () => withAll('/mcp', token)));
      assertClean(arrived.map(once), token);
    });

    it(`trailers bring no credential over ${way}, on an unauthenticated path`, async () => {
      const token = await newcomer();
      const arrived = await arrivals(async () => assert.equal((await withAll('/healthz', token)).status, 200));
      assertClean(arrived.map(once), token, { open: true });
    });

    it(`a token in trailers is not read over ${way}`, async () => {
      const token = await newcomer();
      const forged = `${token.slice(0, -12)}AAAAAAAAAAAA`;
      const arrived = await arrivals(async () => {
        const { status } = await post(gateway, '/mcp', forged, { Authorization: `Bearer ${token}`, ...HARMLESS });
        assert.equal(status, 401);
      });
      assert.deepEqual(arrived, []);
    });
  }

  it('the module never trapped, and no secret is visible', () => assertSoundAndSilent(gateway));
});

/** Reduces a repeated trailer to one. */
function once(arrived) {
  const { trailers } = arrived;
  for (const [name, value] of trailers) assert.ok(value.split(',').every((one) => one.trim() === HARMLESS[name]), name);
  arrived.trailers = trailers.map(([name, value]) => [name, value.split(',')[0]]);
  return arrived;
}

describe('Envoy with allow_on_headers_stop_iteration: bodies are not held', () => {
  let gateway;
  const keys = gate();
  before(async () => {
    parts.okta.signIn.fail('keys', keys.behave);
    gateway = await startGateway(parts, {
      change: (filter, bootstrap) => {
        configure(filter, bootstrap);
        wasmOf(bootstrap).allow_on_headers_stop_iteration = true;
      },
    });
  });
  after(() => gateway?.stop());

  it('a body of a waiting request that is refused is not forwarded', async () => {
    const { accessToken } = await parts.bob();
    const forged = `${accessToken.slice(0, -12)}AAAAAAAAAAAA`;
    const arrived = await arrivals(async () => {
      const answers = Object.values(WAYS).map((post) => post(gateway, '/mcp', forged, {}));
      await until(async () => {
        const stats = await gateway.envoy.stats('http.gateway.downstream_rq_active');
        return stats['http.gateway.downstream_rq_active'] === answers.length;
      }, 'both wait for keys');
      await gateway.settled();
      keys.release();
      for (const { status } of await Promise.all(answers)) assert.equal(status, 401);
    });
    assert.deepEqual(arrived, []);
  });

  for (const [way, post] of Object.entries(WAYS)) {
    for (const [what, trailers] of [['a body', {}], ['a body with trailers', HARMLESS]]) {
      it(`${what} of a waiting request waits over ${way}`, async () => {
        const token = await newcomer();
        const arrived = await arrivals(() => heldMeanwhile(gateway, () => post(gateway, '/mcp', token, trailers)));
        const [{ body, text }] = arrived;
        assert.equal(body, '{}');
        assert.ok(!text.includes(token.split('.')[2]));
      });
    }
  }

  it('the module never trapped, and no secret is visible', () => assertSoundAndSilent(gateway));
});
