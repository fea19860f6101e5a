// Attacks 18 and 20 of docs/attacks.md: header fields over HTTP/2 and HTTP/1.1.

import assert from 'node:assert/strict';
import { after, afterEach, before, describe, it } from 'node:test';
import { arrivals, assertServes, gateway, raw, reasonOf, refused, served, start, statusOf, stop, token } from './parts/attacks.mjs';
import { assertRefused, assertSoundAndSilent, challengeOf } from './parts/expect.mjs';
import { MCP_HOST, METADATA_PATH, METADATA_URL, RESOURCE } from './parts/gateway.mjs';
import { sendFields } from './parts/raw-http2.mjs';

before(start);
afterEach(assertServes);
after(stop);

/** Fields of a request over HTTP/2. */
const fields = (...more) => [
  [':method', 'GET'],
  [':scheme', 'https'],
  [':authority', MCP_HOST],
  [':path', '/mcp'],
  ...more,
];

describe('18 and 20: header fields over HTTP/2', () => {
  const over2 = (list) => arrivals(() => sendFields(gateway.envoy.port, list));

  it('a valid request arrives', async () => {
    const { answer, arrived } = await over2(fields(['authorization', `Bearer ${token}`]));
    assert.equal(answer.ended, undefined);
    assert.equal(arrived.length, 1, answer.body);
    assert.ok(arrived[0].identity);
  });

  it('two Authorization fields get 400', async () => {
    for (const pair of [
      [`Bearer ${token}`, 'Bearer junk'],
      ['Bearer junk', `Bearer ${token}`],
      [`Bearer ${token}`, `Bearer ${token}`],
    ]) {
      const { answer, arrived } = await over2(fields(...pair.map((value) => ['authorization', value])));
      assert.equal(reasonOf(answer.body), 'multiple_credentials', answer.body);
      assert.equal(arrived.length, 0);
    }
  });

  it('a repeated, late or missing pseudo-header ends the stream', async () => {
    const good = fields(['authorization', `Bearer ${token}`]);
    const cases = {
      'two paths': [...good.slice(0, 4), [':path', '/healthz'], good[4]],
      'two paths, the open one first': [...good.slice(0, 3), [':path', '/healthz'], ...good.slice(3)],
      'the same path twice': [...good.slice(0, 4), [':path', '/mcp'], good[4]],
      'two authorities': [...good.slice(0, 4), [':authority', 'other.example.com'], good[4]],
      'two methods': [...good.slice(0, 4), [':method', 'POST'], good[4]],
      'two schemes': [...good.slice(0, 4), [':scheme', 'http'], good[4]],
      'a path behind a field': [...good, [':path', '/healthz']],
      'a pseudo-header that there is not': [...good.slice(0, 4), [':authorization', 'x'], good[4]],
      'one of an answer': [...good.slice(0, 4), [':status', '200'], good[4]],
      'no path': good.filter(([name]) => name !== ':path'),
      'an empty path': good.map(([name, value]) => [name, name === ':path' ? '' : value]),
      'no method': good.filter(([name]) => name !== ':method'),
      'a name in upper case': fields(['Authorization', `Bearer ${token}`]),
      'a line break in a value': fields(['x-any', `a\r\nauthorization: Bearer ${token}`]),
      'NUL in a value': fields(['authorization', `Bearer ${token}\0`]),
      'a line break in the path': good.map(([name, value]) => [name, name === ':path' ? '/mcp\r\nx: y' : value]),
      'a connection field': fields(['authorization', `Bearer ${token}`], ['connection', 'authorization']),
    };
    for (const [what, list] of Object.entries(cases)) {
      const { answer, arrived } = await over2(list);
      assert.equal(arrived.length, 0, `${what}: arrived`);
      assert.ok(answer.ended, `${what}: ${answer.body}`);
    }
  });

  it('a Host field with :authority does not choose the resource', async () => {
    const none = await over2(fields(['host', 'other.example.com']));
    assert.ok(none.answer.ended || reasonOf(none.answer.body) === 'no_credentials', none.answer.body);
    const other = fields(['host', MCP_HOST], ['authorization', `Bearer ${token}`]);
    other[2] = [':authority', 'other.example.com'];
    const { answer, arrived } = await over2(other);
    assert.ok(answer.ended || reasonOf(answer.body) === 'unknown_resource', answer.body);
    assert.equal(arrived.length, 0);
  });
});

describe('20: header fields over HTTP/1.1', () => {
  it('fields that the filter owns, or that choose another path, are removed', async () => {
    const { headerNames } = await served([
      `authorization: Bearer ${token}`,
      'x-onbehalf-user: root',
      'X-OnBehalf-User: root',
      'x-onbehalf-: root',
      'x_onbehalf_user: root',
      'x-onbehalf_user: root',
      'x-original-url: /mcp/admin',
      'X-Rewrite-URL: /mcp/admin',
      'dpop: proof',
      'x-other: stays',
    ]);
    assert.deepEqual(headerNames.filter((name) => /onbehalf|original-url|rewrite-url|dpop/.test(name)), []);
    assert.ok(headerNames.includes('x-other'));
  });

  it('a Connection field removes no field of the filter, and keeps none', async () => {
    const lines = ['x-onbehalf-user: root', 'dpop: proof'];
    const good = `authorization: Bearer ${token}`;
    for (const named of ['x-onbehalf-user', 'dpop', 'x-any', 'te', 'cookie']) {
      const { headerNames } = await served([`connection: ${named}`, ...lines, good]);
      assert.deepEqual(headerNames.filter((name) => /onbehalf|dpop/.test(name)), [], named);
      await refused(401, 'no_credentials', [`connection: ${named}`, ...lines]);
    }
    // Envoy removes the named fields before the filter runs, so there is no token.
    for (const named of ['authorization', 'Authorization, te', 'x-any, AUTHORIZATION']) {
      await refused(401, 'no_credentials', [`connection: ${named}`, ...lines, good]);
    }
    for (const named of ['host', ':path', ':authority']) await refused(400, undefined, [`connection: ${named}`, good]);
  });

  const FORWARDED = {
    'x-forwarded-host': 'evil.example',
    'x-forwarded-proto': 'http',
    'x-forwarded-port': '8443',
    'x-forwarded-prefix': '/evil',
    'x-forwarded-for': '127.0.0.1',
    'x-original-host': 'evil.example',
    'x-host': 'evil.example',
    'x-envoy-original-path': '/healthz',
    'x-envoy-original-dst-host': '127.0.0.1:1',
    forwarded: 'host=evil.example;proto=http',
  };

  it('no field chooses the resource of the metadata and the challenge', async () => {
    const plain = await gateway.send({ path: METADATA_PATH });
    assert.equal(plain.json.resource, RESOURCE);
    const forwarded = await gateway.send({ path: METADATA_PATH, headers: FORWARDED });
    assert.deepEqual([forwarded.status, forwarded.json], [200, plain.json]);
    const row = { reason: 'no_credentials', status: 401, error: 'unauthorized', challenge: 'bare' };
    await gateway.settled();
    const act = async () => {
      const answer = await gateway.call(undefined, FORWARDED);
      // The resource accepts DPoP: its challenge comes second.
      const [bearer, dpop] = answer.headers['www-authenticate'].split(', DPoP ');
      assert.match(dpop, /^algs=/);
      return { ...answer, json: answer.json, headers: { ...answer.headers, 'www-authenticate': bearer } };
    };
    const answer = await assertRefused(gateway, row, act);
    assert.equal(challengeOf(answer).resource_metadata, METADATA_URL);
    const elsewhere = await gateway.call(token, { host: 'other.example.com', 'x-forwarded-host': MCP_HOST });
    assert.equal(elsewhere.json.reason, 'unknown_resource');
  });

  it('a request with two lengths is refused by Envoy', async () => {
    const good = `authorization: Bearer ${token}`;
    for (const lines of [
      [good, 'content-length: 4', 'transfer-encoding: chunked'],
      [good, 'content-length: 4', 'content-length: 5'],
      [good, 'transfer-encoding: chunked, identity'],
      [good, 'transfer-encoding: xchunked'],
      [good, 'content-length: +4'],
    ]) {
      const { answer, arrived } = await arrivals(() => raw(lines, { method: 'POST', body: '0\r\n\r\n' }));
      assert.ok([400, 501].includes(statusOf(answer)), `${lines[1]}: ${answer.slice(0, 200)}`);
      assert.equal(arrived.length, 0, lines[1]);
    }
  });

  it('TRACE does not reach the upstream', async () => {
    await refused(405, 'method_not_allowed', [`authorization: Bearer ${token}`], { method: 'TRACE' });
  });

  it('two Host fields do not choose a resource', async () => {
    const lines = [`authorization: Bearer ${token}`];
    for (const host of [
      `host: ${MCP_HOST}\r\nhost: ${MCP_HOST}`,
      `host: ${MCP_HOST}\r\nhost: other.example.com`,
      `host: other.example.com\r\nhost: ${MCP_HOST}`,
      `host: ${MCP_HOST}, other.example.com`,
      `host: ${MCP_HOST}@other.example.com`,
      `host: ${MCP_HOST}/other.example.com`,
      'x-no-host: 1',
    ]) {
      const { answer, arrived } = await arrivals(() => raw(lines, { host }));
      assert.ok([400, 404].includes(statusOf(answer)), `${host}: ${answer.slice(0, 200)}`);
      assert.equal(arrived.length, 0, host);
    }
  });
});

it('the module never trapped, and no secret is visible', () => assertSoundAndSilent(gateway));
