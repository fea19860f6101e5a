// The attacks of docs/attacks.md that have to be seen on Envoy, where other tests do not show them: what a request may do
// to the header map before the filter sees it, and what reaches the MCP server.

import assert from 'node:assert/strict';
import { createHash, randomUUID } from 'node:crypto';
import { after, afterEach, before, describe, it } from 'node:test';
import { SignJWT, calculateJwkThumbprint, exportJWK, generateKeyPair } from 'jose';
import { proofKey } from './parts/dpop.mjs';
import { assertRefused, assertSoundAndSilent, challengeOf } from './parts/expect.mjs';
import { MCP_HOST, METADATA_PATH, METADATA_URL, RESOURCE, startGateway, startParts } from './parts/gateway.mjs';
import { signIn } from './parts/login.mjs';
import { sendFields } from './parts/raw-http2.mjs';

const NONCED = `https://${MCP_HOST}/nonced`;
let parts;
let gateway;
let token;

/** An administrator's resource below one for everybody, an open path, and a resource that wants a nonce in proofs. */
function configure(filter, bootstrap) {
  const [mcp] = filter.resources;
  const like = (more) => ({ ...structuredClone(mcp), ...more });
  filter.unauthenticated_paths = ['/healthz'];
  filter.resources.push(
    like({ url: `${RESOURCE}/admin`, scopes: ['mcp:admin'] }),
    like({ url: NONCED, dpop: { mode: 'required', nonce: true } }),
  );
  mcp.dpop = { mode: 'optional' };
  for (const provider of Object.values(filter.identity_providers)) provider.timeout_seconds = 2;
  // Envoy waits so long before it ends a connection on which it has refused a request.
  managerOf(bootstrap).delayed_close_timeout = '0.05s';
}

const managerOf = (bootstrap) => bootstrap.static_resources.listeners[0].filter_chains[0].filters[0].typed_config;

before(async () => {
  parts = await startParts();
  gateway = await startGateway(parts, { change: configure });
  token = (await parts.alice()).accessToken;
});

// Whatever came before: the same worker, the same VM, still serves.
afterEach(async () => {
  assert.equal((await gateway.call(token)).status, 200);
});

after(async () => {
  await gateway?.stop();
  await parts?.stop();
});

const statusOf = (answer) => Number(answer.match(/^HTTP\/1\.1 (\d{3})/)?.[1]);
const reasonOf = (answer) => answer.match(/"reason":"(\w+)"/)?.[1];

/** One HTTP/1.1 request as raw lines; the bytes are latin1. */
function raw(lines, { path = '/mcp', method = 'GET', body = '', at = gateway, host = `host: ${MCP_HOST}` } = {}) {
  const all = [`${method} ${path} HTTP/1.1`, host, ...lines, 'connection: close'];
  return at.sendBytes(Buffer.from(`${all.join('\r\n')}\r\n\r\n${body}`, 'latin1'));
}

/** What of the acts arrives at the MCP server. */
async function arrivals(act) {
  const { length } = parts.mcp.requests;
  const answer = await act();
  return { answer, arrived: parts.mcp.requests.slice(length) };
}

/** Sends it; it is refused with this status and reason (without one: by Envoy itself), and nothing arrives. */
async function refused(status, reason, lines, options) {
  const { answer, arrived } = await arrivals(() => raw(lines, options));
  const shown = `${JSON.stringify(lines).replaceAll(token, 'TOKEN').slice(0, 200)}: ${answer.slice(0, 300)}`;
  assert.equal(statusOf(answer), status, shown);
  assert.equal(reasonOf(answer), reason, shown);
  assert.equal(arrived.length, 0, `${shown}\narrived`);
}

/** Sends it; it arrives, once, with the one token that was issued for the MCP server. */
async function served(lines, options) {
  const { answer, arrived } = await arrivals(() => raw(lines, options));
  assert.equal(arrived.length, 1, answer.slice(0, 300));
  assert.ok(arrived[0].identity, 'the server has verified a token of its own');
  assert.equal(arrived[0].headerLines.filter((name) => name === 'authorization').length, 1);
  return arrived[0];
}

describe('18: the Authorization field, over HTTP/1.1', () => {
  it('missing, empty and of another scheme it is no credential', async () => {
    await refused(401, 'no_credentials', []);
    for (const value of ['', ' ', '\t', 'Basic YTpi', 'Negotiate x', `Bearerx ${token}`, token]) {
      await refused(401, 'no_credentials', [`authorization: ${value}`]);
    }
    await refused(401, 'no_credentials', [`proxy-authorization: Bearer ${token}`]);
    await refused(401, 'no_credentials', [`x-authorization: Bearer ${token}`]);
    await refused(401, 'no_credentials', [`cookie: authorization=Bearer ${token}`]);
  });

  it('with any separator but spaces, or more than a token, it is malformed', async () => {
    for (const value of [
      'Bearer',
      'Bearer ',
      'Bearer,',
      `Bearer\t${token}`,
      `Bearer \t${token}`,
      `Bearer,${token}`,
      `Bearer:${token}`,
      `Bearer=${token}`,
      `Bearer "${token}"`,
      `Bearer ${token} ${token}`,
      `Bearer ${token};x=y`,
      `Bearer ${token}\xe9`,
      `Bearer \xff\xfe`,
    ]) {
      await refused(400, 'malformed_credentials', [`authorization: ${value}`]);
    }
  });

  it('in another case, with more spaces, and with white space around, it is the same', async () => {
    for (const line of [
      `authorization: bearer ${token}`,
      `AUTHORIZATION: BEARER ${token}`,
      `authorization: Bearer  ${token}`,
      `authorization:Bearer     ${token}`,
      `authorization: \t  Bearer ${token} \t `,
    ]) {
      await served([line]);
    }
  });

  it('two of them are one too many, in two lines and in one, whichever is good', async () => {
    const good = `Bearer ${token}`;
    for (const [first, second] of [
      [good, good],
      [good, 'Bearer junk'],
      ['Bearer junk', good],
      [good, 'Basic YTpi'],
    ]) {
      const [one, two] = [first, second].map((value) => `authorization: ${value}`);
      await refused(400, 'several_credentials', [one, two]);
      await refused(400, 'several_credentials', [one, 'x-between: 1', two.replace('authorization', 'AuthoriZation')]);
    }
    // Envoy hands the two over as one, which is then of the first one's scheme; an empty line adds nothing.
    await refused(401, 'no_credentials', ['authorization: Basic YTpi', `authorization: ${good}`]);
    await served(['authorization:', `authorization: ${good}`]);
    await served([`authorization: ${good}`, 'authorization:']);
    for (const value of [`${good}, ${good}`, `${good},${good}`, `${good},`, `Bearer junk, ${good}`]) {
      await refused(400, 'several_credentials', [`authorization: ${value}`]);
    }
  });

  it('a line that is folded is one line with a space in it (RFC 9112 section 5.2)', async () => {
    const half = token.length >> 1;
    await served([`authorization: Bearer\r\n ${token}`]);
    await served([`authorization:\r\n Bearer ${token}`]);
    await served(['x-other: 1\r\n authorization: Bearer x', `authorization: Bearer ${token}`]);
    await refused(401, 'no_credentials', [`x-other: 1\r\n authorization: Bearer ${token}`]);
    const folded = `authorization: Bearer ${token.slice(0, half)}\r\n\t${token.slice(half)}`;
    await refused(400, 'malformed_credentials', [folded]);
    await refused(400, 'several_credentials', [`authorization: Bearer ${token},\r\n Bearer ${token}`]);
  });

  it('a line that is no line gets no further than Envoy', async () => {
    for (const lines of [
      [`authorization : Bearer ${token}`],
      [`authorization: Bearer ${token}\0`],
      [` authorization: Bearer ${token}`],
      [`\0authorization: Bearer ${token}`],
      [`author\xefzation: Bearer ${token}`],
    ]) {
      await refused(400, undefined, lines);
    }
    // A carriage return by itself ends no line there.
    await refused(400, 'malformed_credentials', [`authorization: Bearer ${token}\rx: y`]);
    await refused(401, 'no_credentials', [`x: y\rauthorization: Bearer ${token}`]);
  });

  it('of more than 16 KiB it is not looked at', async () => {
    await refused(400, 'token_too_large', [`authorization: Bearer ${'A'.repeat(16 * 1024 + 1)}`]);
    await refused(401, 'opaque_token', [`authorization: Bearer ${'A'.repeat(16 * 1024)}`]);
  });

  it('a token in the query is refused, however its name is written, and beside a good one too', async () => {
    for (const query of [`access_token=${token}`, 'access_token=', 'access_token', 'x=y&%61ccess%5Ftoken=z']) {
      for (const lines of [[], [`authorization: Bearer ${token}`]]) {
        await refused(400, 'several_credentials', lines, { path: `/mcp?${query}` });
      }
      await refused(400, 'several_credentials', [], { path: `/healthz?${query}` });
    }
  });

  it('a token in a form or in a trailer is no credential', async () => {
    const form = `access_token=${token}`;
    const formLines = ['content-type: application/x-www-form-urlencoded', `content-length: ${form.length}`];
    await refused(401, 'no_credentials', formLines, { method: 'POST', body: form });
    const trailer = `0\r\nauthorization: Bearer ${token}\r\n\r\n`;
    const chunked = ['transfer-encoding: chunked', 'trailer: authorization'];
    await refused(401, 'no_credentials', chunked, { method: 'POST', body: trailer });
  });
});

/** The fields of a request over HTTP/2. */
const fields = (...more) => [
  [':method', 'GET'],
  [':scheme', 'https'],
  [':authority', MCP_HOST],
  [':path', '/mcp'],
  ...more,
];

describe('18 and 20: header fields over HTTP/2', () => {
  const over2 = (list) => arrivals(() => sendFields(gateway.envoy.port, list));

  it('a good request, written by hand, arrives', async () => {
    const { answer, arrived } = await over2(fields(['authorization', `Bearer ${token}`]));
    assert.equal(answer.ended, undefined);
    assert.equal(arrived.length, 1, answer.body);
    assert.ok(arrived[0].identity);
  });

  it('two Authorization fields are one too many', async () => {
    for (const pair of [
      [`Bearer ${token}`, 'Bearer junk'],
      ['Bearer junk', `Bearer ${token}`],
      [`Bearer ${token}`, `Bearer ${token}`],
    ]) {
      const { answer, arrived } = await over2(fields(...pair.map((value) => ['authorization', value])));
      assert.equal(reasonOf(answer.body), 'several_credentials', answer.body);
      assert.equal(arrived.length, 0);
    }
  });

  it('a pseudo-header that stands twice, too late, or nowhere ends the stream', async () => {
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

  it('a Host field beside :authority does not choose the resource', async () => {
    const none = await over2(fields(['host', 'other.example.com']));
    assert.ok(none.answer.ended || reasonOf(none.answer.body) === 'no_credentials', none.answer.body);
    const other = fields(['host', MCP_HOST], ['authorization', `Bearer ${token}`]);
    other[2] = [':authority', 'other.example.com'];
    const { answer, arrived } = await over2(other);
    assert.ok(answer.ended || reasonOf(answer.body) === 'unknown_resource', answer.body);
    assert.equal(arrived.length, 0);
  });
});

describe('19: proofs of possession', () => {
  let holder;
  let bound;
  const withProof = (proof, path = '/mcp', of = bound) =>
    gateway.call(undefined, { authorization: `DPoP ${of}`, ...(proof && { dpop: proof }) }, { path });
  /** Alice's token, bound to a key. */
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

  it('a bound token without its proof is refused in each way that it may come', async () => {
    await assertNoProof(undefined, 'DPoP without a proof');
    const proof = await proofOf();
    const asBearer = await gateway.call(bound);
    assert.equal(asBearer.json.reason, 'bound_token');
    const asBearerWithProof = await gateway.call(bound, { dpop: proof });
    assert.equal(asBearerWithProof.json.reason, 'bound_token');
    const unbound = await gateway.call(undefined, { authorization: `DPoP ${token}`, dpop: proof });
    assert.equal(unbound.json.reason, 'unbound_token');
    // It was not used up by any of them.
    assert.equal((await withProof(proof)).status, 200);
    await assertNoProof(proof, 'the second time');
  });

  it('a proof of another URL, method, time, token or resource is none', async () => {
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

  it('a proof with a private key in it, or of another type or algorithm, is none', async () => {
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

  it('a nonce that this gateway did not make is answered with one that it did, which is good', async () => {
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

describe('20: header fields that mean something to somebody', () => {
  it('none that could be taken for ours, or that chooses another path, arrives', async () => {
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

  it('a Connection field takes nothing away that the filter has put there, and saves nothing that it took', async () => {
    const lines = ['x-onbehalf-user: root', 'dpop: proof'];
    const good = `authorization: Bearer ${token}`;
    for (const named of ['x-onbehalf-user', 'dpop', 'x-any', 'te', 'cookie']) {
      const { headerNames } = await served([`connection: ${named}`, ...lines, good]);
      assert.deepEqual(headerNames.filter((name) => /onbehalf|dpop/.test(name)), [], named);
      await refused(401, 'no_credentials', [`connection: ${named}`, ...lines]);
    }
    // Envoy takes away what is named before the filter sees it: then there is no token.
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

  it('no field chooses which resource the metadata and the challenge name', async () => {
    const plain = await gateway.send({ path: METADATA_PATH });
    assert.equal(plain.json.resource, RESOURCE);
    const forwarded = await gateway.send({ path: METADATA_PATH, headers: FORWARDED });
    assert.deepEqual([forwarded.status, forwarded.json], [200, plain.json]);
    const row = { reason: 'no_credentials', status: 401, error: 'unauthorized', challenge: 'bare' };
    await gateway.settled();
    const act = async () => {
      const answer = await gateway.call(undefined, FORWARDED);
      // The resource takes proofs as well: that challenge comes behind.
      const [bearer, dpop] = answer.headers['www-authenticate'].split(', DPoP ');
      assert.match(dpop, /^algs=/);
      return { ...answer, json: answer.json, headers: { ...answer.headers, 'www-authenticate': bearer } };
    };
    const answer = await assertRefused(gateway, row, act);
    assert.equal(challengeOf(answer).resource_metadata, METADATA_URL);
    const elsewhere = await gateway.call(token, { host: 'other.example.com', 'x-forwarded-host': MCP_HOST });
    assert.equal(elsewhere.json.reason, 'unknown_resource');
  });

  it('a request that ends in two places gets no further than Envoy', async () => {
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

  it('of two hosts neither chooses the resource', async () => {
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

/** Every path that a server may take this one for that decodes once, in this or in another order. */
function readings(path) {
  const bare = path.split(/[?#]/)[0];
  const withoutParameters = (text) => text.replace(/;[^/]*/g, '');
  const decoded = (text) => text.replace(/%[0-9a-f]{2}/gi, (escape) => String.fromCharCode(parseInt(escape.slice(1), 16)));
  const resolved = (text) => {
    const segments = [];
    for (const segment of text.replaceAll('\\', '/').split('/').filter((part) => part !== '' && part !== '.')) {
      if (segment === '..') segments.pop();
      else segments.push(segment);
    }
    return `/${segments.join('/')}`;
  };
  const spelled = [bare, decoded(bare), withoutParameters(bare), withoutParameters(decoded(bare)), decoded(withoutParameters(bare))];
  return spelled.flatMap((text) => [resolved(text), resolved(text.split('\0')[0])]);
}

const ADMIN = [
  '/mcp/admin',
  '/mcp/admin/',
  '/mcp/admin/x',
  '/mcp//admin',
  '//mcp//admin',
  '/mcp/./admin',
  '/mcp/x/../admin',
  '/mcp/x/..;/admin',
  '/mcp/x/..;a=b/admin',
  '/mcp/;/admin',
  '/mcp/admin;x',
  '/mcp;x/admin',
  '/mcp/.;/admin',
  '/mcp/%2e/admin',
  '/mcp/x/%2e%2e/admin',
  '/mcp/x/%2E%2E%3b/admin',
  '/mcp/x/.%2e/admin',
  '/mcp%2Fadmin',
  '/mcp%2fadmin/x',
  '/mcp/%61dmin',
  '/mcp/%61%64%6d%69%6e/x',
  '/mcp/admin%2fx',
  '/mcp/admin%00',
  '/mcp/admin%3bx',
  '/mcp/admin%3Fx',
  '/mcp/admin%23x',
  '/mcp\\admin',
  '/mcp%5cadmin',
  '/mcp/x\\..\\admin',
  '/mcp/x/..%5cadmin',
  '/mcp/x%2f..%2fadmin',
  '/mcp/x/..%2fadmin',
  '/mcp/admin#x',
  '/mcp#/../mcp/admin',
  '/mcp/admin?x',
  '/mcp?/../admin',
  '/healthz/../mcp/admin',
  '/healthz/..;/mcp/admin',
  '/healthz;/../mcp/admin',
  '/healthz%2f..%2fmcp/admin',
  '/healthz#/../mcp/admin',
  '/healthz?/../mcp/admin',
  '/x/../mcp/admin',
  '/.well-known/oauth-protected-resource/../../mcp/admin',
  '/.well-known/oauth-protected-resource/mcp/..;/..;/..;/mcp/admin',
  '/nonced/../mcp/admin',
];

const METADATA = [
  '//.well-known/oauth-protected-resource/mcp',
  '/.well-known//oauth-protected-resource/mcp',
  '/.well-known/oauth-protected-resource//mcp',
  '/.well-known/./oauth-protected-resource/mcp',
  '/mcp/../.well-known/oauth-protected-resource/mcp',
  '/.well-known/oauth-protected-resource/mcp/',
  '/.well-known/oauth-protected-resource/mcp/..',
  '/.well-known/oauth-protected-resource/%6dcp',
  '/%2ewell-known/oauth-protected-resource/mcp',
  '/.well-known/oauth-protected-resource%2fmcp',
  '/.well-known%2foauth-protected-resource/mcp',
  '/.well-known/oauth-protected-resource/mcp;x',
  '/.well-known/oauth-protected-resource;x/mcp',
  '/.well-known/oauth-protected-resource/mcp%00',
  '/.well-known/oauth-protected-resource/mcp\\x',
  '/.well-known/oauth-protected-resource/mcp#x',
  '/.well-known/oauth-protected-resource/mcp?x',
  '/.WELL-KNOWN/oauth-protected-resource/mcp',
  '/.well-known/oauth-protected-resource/MCP',
  '/.well-known/oauth-protected-resource/mcp/x',
  '/.well-known/oauth-protected-resource/healthz',
  '/.well-known/oauth-protected-resource/../../healthz/x',
];

for (const [what, change] of [
  ['as the recipes have Envoy normalise it', () => {}],
  [
    'as it comes, without Envoy’s normalisation',
    (bootstrap) => {
      const manager = managerOf(bootstrap);
      for (const option of ['normalize_path', 'merge_slashes', 'path_with_escaped_slashes_action']) {
        assert.ok(option in manager, option);
        delete manager[option];
      }
    },
  ],
]) {
  describe(`21: a path ${what}`, () => {
    let own;
    before(async () => {
      own = await startGateway(parts, {
        change: (filter, bootstrap) => {
          configure(filter, bootstrap);
          change(bootstrap);
        },
      });
    });
    after(() => own?.stop());
    const credentials = () => [`authorization: Bearer ${token}`];

    it('no spelling of it gets a user to what administrators may, and none gets anybody in without a token', async () => {
      assert.ok(ADMIN.slice(0, 12).every((path) => readings(path).some((read) => read.startsWith('/mcp/admin'))));
      for (const path of ADMIN) {
        for (const lines of [credentials(), []]) {
          const { answer, arrived } = await arrivals(() => raw(lines, { path, at: own }));
          for (const { path: seen, identity } of arrived) {
            const reads = readings(seen);
            assert.ok(!reads.some((read) => read === '/mcp/admin' || read.startsWith('/mcp/admin/')), `${path} arrived as ${seen}`);
            assert.ok(identity || reads.every((read) => read === '/healthz'), `${path} arrived as ${seen} without a token`);
          }
          assert.ok([200, 301, 307, 400, 401, 403, 404].includes(statusOf(answer)) || arrived.length, `${path}: ${answer.slice(0, 200)}`);
        }
      }
      await arrivals(() => raw(credentials(), { path: '/mcp/admin', at: own })).then(({ answer }) =>
        assert.equal(reasonOf(answer), 'insufficient_scope'),
      );
    });

    it('a slash at the end, or upper case, is no way around the token', async () => {
      await refused(401, 'no_credentials', [], { path: '/mcp/', at: own });
      assert.equal((await served(credentials(), { path: '/mcp/', at: own })).path, '/mcp/');
      for (const path of ['/MCP', '/Mcp/admin', '/HEALTHZ', '/healthz/', '/mcpx']) {
        await refused(404, 'unknown_resource', credentials(), { path, at: own });
        await refused(404, 'unknown_resource', [], { path, at: own });
      }
    });

    it('no spelling of the metadata document is anything else', async () => {
      for (const path of METADATA) {
        for (const lines of [credentials(), []]) {
          const { answer, arrived } = await arrivals(() => raw(lines, { path, at: own }));
          assert.equal(arrived.length, 0, `${path} arrived as ${arrived[0]?.path}`);
          const status = statusOf(answer);
          if (status === 200) {
            const [, body] = answer.split('\r\n\r\n');
            assert.equal(JSON.parse(body).resource, RESOURCE, path);
          } else {
            assert.ok([301, 307, 400, 404].includes(status), `${path}: ${answer.slice(0, 200)}`);
          }
        }
      }
    });

    it('nothing trapped and nothing secret can be seen', () => assertSoundAndSilent(own));
  });
}

describe('22: a token endpoint that answers byte by byte', () => {
  for (const name of ['entra', 'okta']) {
    it(`${name}: those who wait are told to come back, and the next is served`, async () => {
      const { accessToken } = await signIn(parts[name], `patient@${name}.example`);
      let open;
      const repair = parts[name].forMcp.fail('token', async ({ request, response, server }) => {
        await server.recordFaulty(request, 200, 'byte by byte');
        response.writeHead(200, { 'content-type': 'application/json' });
        const timer = setInterval(() => response.write(' '), 100);
        open = new Promise((resolve) => {
          response.on('close', () => {
            clearInterval(timer);
            resolve();
          });
        });
      });
      try {
        const row = { reason: 'provider_unavailable', status: 503, error: 'temporarily_unavailable', retryAfter: true };
        await assertRefused(gateway, row, () => gateway.call(accessToken));
        // Envoy does not keep on listening.
        await open;
      } finally {
        repair();
      }
      const next = await signIn(parts[name], `next@${name}.example`);
      assert.equal((await gateway.call(next.accessToken)).status, 200);
    });
  }
});

it('nothing trapped and nothing secret can be seen', () => assertSoundAndSilent(gateway));
