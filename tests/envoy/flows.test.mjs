// Main flow: users of both providers sign in with an MCP client, each at their own URL, and the MCP server gets tokens that were
// issued for it.

import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { assertSoundAndSilent } from './parts/expect.mjs';
import { facts } from './parts/facts.mjs';
import { ENTRA_PATH, metadataPathOf, OKTA_PATH, RESOURCE, startGateway, startParts } from './parts/gateway.mjs';
import { withMcpClient } from './parts/mcp-client.mjs';
import { until } from './parts/until.mjs';

let parts;
let gateway;
let alice;
let bob;
/** URL for the users of each provider, and the provider with which their client is registered. */
const AT_ENTRA = { path: ENTRA_PATH };
const AT_OKTA = { path: OKTA_PATH };

before(async () => {
  parts = await startParts();
  AT_ENTRA.provider = parts.entra;
  AT_OKTA.provider = parts.okta;
  const change = (filter) => (filter.unauthenticated_paths = ['/healthz']);
  gateway = await startGateway(parts, { recipe: 'okta-and-entra', change });
});

after(async () => {
  await gateway?.stop();
  await parts?.stop();
});

describe('users of both providers', () => {
  it('Alice of Entra reaches the MCP server with a token of Entra for it', async () => {
    alice = await gateway.visit('alice@contoso.example', AT_ENTRA);
    const { seen } = alice;
    assert.equal(seen.issuer, parts.entra.forMcp.issuer);
    assert.equal(seen.audience, parts.entra.ids.mcpServer);
    assert.deepEqual(seen.scopes, ['mcp.call']);
    assert.match(seen.subject, /^[\w-]{43}$/);
  });

  it('Bob of Okta reaches the same server with a token of Okta for it', async () => {
    bob = await gateway.visit('bob@acme.example', AT_OKTA);
    assert.deepEqual(bob.seen, {
      issuer: parts.okta.forMcp.issuer,
      audience: RESOURCE,
      subject: 'bob@acme.example',
      scopes: ['mcp:call'],
    });
  });

  it('each client found its provider by the URL alone', () => {
    for (const [{ asked }, path, server] of [
      [alice, ENTRA_PATH, parts.entra.signIn],
      [bob, OKTA_PATH, parts.okta.signIn],
    ]) {
      const hosts = asked.map((url) => new URL(url));
      assert.deepEqual(hosts.slice(0, 2).map(({ pathname }) => pathname), [path, metadataPathOf(path)]);
      const ofProvider = hosts.slice(2).filter(({ host }) => host === new URL(server.issuer).host);
      assert.equal(ofProvider.at(-1).href, server.urls.token);
      assert.ok(ofProvider.length >= 2, `${asked}`);
    }
  });

  it('the MCP server never gets the token of the user', () => {
    for (const { accessToken, refreshToken } of [alice, bob]) {
      assert.ok(accessToken && refreshToken);
      assert.ok(!parts.mcp.tokens.has(accessToken));
      assert.ok(!parts.mcp.tokens.has(refreshToken));
    }
    assert.equal(parts.mcp.tokens.size, 2);
  });

  it('users of a provider are accepted at its URL and not at the other', async () => {
    for (const [{ accessToken }, { path }] of [
      [alice, AT_OKTA],
      [bob, AT_ENTRA],
    ]) {
      const answer = await gateway.call(accessToken, {}, { path });
      assert.deepEqual([answer.status, answer.json.reason], [403, 'no_exchange']);
    }
  });

  it('clients of the older protocol revision are served', async () => {
    const seen = await gateway.whoami(alice.accessToken, { ...AT_ENTRA, mode: 'legacy' });
    assert.equal(seen.issuer, parts.entra.forMcp.issuer);
  });

  it('progress of a slow tool arrives while it runs', async () => {
    const progress = [];
    const result = await withMcpClient({ ...gateway.target, ...AT_OKTA, token: bob.accessToken }, (client) =>
      client.callTool(
        { name: 'count', arguments: { to: 3, milliseconds: 100 } },
        { onprogress: (step) => progress.push({ ...step, at: Date.now() }) },
      ),
    );
    assert.equal(result.content[0].text, 'counted to 3');
    assert.deepEqual(progress.map((step) => step.progress), [1, 2, 3]);
    assert.ok(progress[2].at > progress[0].at, 'everything came at once');
  });
});

describe('token requests', () => {
  it('Entra gets one on-behalf-of request with the secret in the form', () => {
    const { exchanges } = parts.entra.signIn;
    assert.equal(exchanges.length, 1);
    const [request] = exchanges;
    assert.deepEqual(request.parameters, [
      'assertion',
      'client_id',
      'client_secret',
      'grant_type',
      'requested_token_use',
      'scope',
    ]);
    assert.equal(request.values.grant_type, 'urn:ietf:params:oauth:grant-type:jwt-bearer');
    assert.equal(request.values.requested_token_use, 'on_behalf_of');
    assert.equal(request.values.scope, `api://${parts.entra.ids.mcpServer}/.default`);
    assert.equal(request.values.client_id, parts.entra.ids.gateway);
    assert.equal(request.clientAuthentication, 'client_secret_post');
    assert.equal(request.status, 200);
  });

  it('Okta gets one token exchange with an assertion of the key', () => {
    const { exchanges } = parts.okta.forMcp;
    assert.equal(exchanges.length, 1);
    const [request] = exchanges;
    assert.equal(request.values.grant_type, 'urn:ietf:params:oauth:grant-type:token-exchange');
    assert.equal(
      request.values.subject_token_type,
      'urn:ietf:params:oauth:token-type:access_token',
    );
    assert.equal(request.values.audience, RESOURCE);
    assert.equal(request.values.scope, 'mcp:call');
    assert.equal(request.clientAuthentication, 'private_key_jwt');
    assert.equal(request.assertion.alg, 'ES256');
    assert.equal(request.assertion.kid, 'onbehalf');
    assert.equal(request.assertion.aud, parts.okta.forMcp.urls.token);
    assert.equal(request.assertion.iss, parts.okta.ids.serviceApp);
    assert.equal(request.assertion.sub, parts.okta.ids.serviceApp);
    assert.equal(request.assertion.seconds, 300);
    assert.ok(request.assertion.jti.length >= 16);
    assert.equal(request.status, 200);
  });

  it('each assertion has its own jti', async () => {
    await gateway.visit('carol@acme.example', AT_OKTA);
    const ids = parts.okta.forMcp.exchanges.map(({ assertion }) => assertion.jti);
    assert.equal(ids.length, 2);
    assert.notEqual(ids[0], ids[1]);
  });

  it('token requests are forms, accept JSON, and have Host and User-Agent', () => {
    for (const [server, host] of [
      [parts.entra.signIn, 'login.microsoftonline.com'],
      [parts.okta.forMcp, 'acme.okta.com'],
    ]) {
      for (const request of server.exchanges) {
        assert.equal(request.contentType, 'application/x-www-form-urlencoded');
        assert.equal(request.accept, 'application/json');
        assert.equal(request.host, host);
        assert.match(request.userAgent, /^onbehalf\/\d+\.\d+\.\d+$/);
      }
    }
  });
});

describe('the cache', () => {
  it('a second request makes no exchange', async () => {
    const { length } = parts.entra.signIn.exchanges;
    await gateway.settled();
    const hits = await gateway.count('token_cache.result.hit');
    const answer = await gateway.call(alice.accessToken, {}, AT_ENTRA);
    assert.equal(answer.status, 200);
    assert.equal(parts.entra.signIn.exchanges.length, length);
    await gateway.expectCount('token_cache.result.hit', hits + 1);
  });

  it('another token of the same user is exchanged again', async () => {
    const { length } = parts.entra.signIn.exchanges;
    await gateway.visit('alice@contoso.example', AT_ENTRA);
    assert.equal(parts.entra.signIn.exchanges.length, length + 1);
  });

  it('users never share a token', async () => {
    const users = await Promise.all(
      ['dave', 'erin', 'frank'].map((name) => gateway.visit(`${name}@acme.example`, AT_OKTA)),
    );
    assert.deepEqual(
      users.map(({ seen }) => seen.subject),
      ['dave@acme.example', 'erin@acme.example', 'frank@acme.example'],
    );
  });
});

describe('requests at the MCP server', () => {
  it('one Authorization field arrives, and no reserved field of the client', async () => {
    const headers = { 'x-onbehalf-user': 'root', 'X-OnBehalf-Anything': 'spoofed', 'x-other': 'stays' };
    const answer = await gateway.call(alice.accessToken, headers, AT_ENTRA);
    assert.equal(answer.status, 200);
    const { headerLines } = parts.mcp.requests.at(-1);
    assert.equal(headerLines.filter((name) => name === 'authorization').length, 1);
    assert.deepEqual(headerLines.filter((name) => name.startsWith('x-onbehalf')), []);
    assert.ok(headerLines.includes('x-other'));
  });

  it('a path below the resource and a query arrive as Envoy routes them', async () => {
    const answer = await gateway.call(alice.accessToken, {}, { path: `${ENTRA_PATH}/sub/tree?x=1&y=%2e` });
    assert.equal(answer.status, 200);
    assert.equal(parts.mcp.requests.at(-1).path, '/mcp/sub/tree?x=1&y=%2e');
  });

  it('a body of a megabyte arrives whole, of a waiting request as well', async () => {
    const fresh = await gateway.signIn('big@contoso.example', AT_ENTRA);
    const filler = 'x'.repeat(1024 * 1024);
    const answer = await gateway.call(fresh.accessToken, {}, { ...AT_ENTRA, args: { filler } });
    assert.equal(answer.status, 200);
    assert.match(answer.text, /whoami|audience/);
  });

  it('a request on an unauthenticated path arrives without credentials', async () => {
    const counted = await gateway.decisions('unauthenticated_path');
    for (const headers of [{}, { authorization: `Bearer ${alice.accessToken}` }]) {
      const answer = await gateway.send({ path: '/healthz', headers });
      assert.equal(answer.status, 200);
      assert.equal(answer.text, 'ok\n');
      assert.ok(!parts.mcp.requests.at(-1).headerNames.includes('authorization'));
    }
    await gateway.expectCount('decisions.reason.unauthenticated_path', counted + 2);
  });
});

describe('operations', () => {
  it('Prometheus gets names with labels', async () => {
    await gateway.expectCount('exchanges.provider.entra.outcome.ok', parts.entra.signIn.exchanges.length);
    const ours = async () =>
      (await gateway.envoy.prometheus()).split('\n').filter((text) => text.startsWith('onbehalf_'));
    // Envoy merges histograms every five seconds.
    await until(
      async () => {
        const page = (await ours()).join('\n');
        return /duration_ms_count\{provider="okta"\} [1-9]/.test(page) && page.includes('onbehalf_jwks_age_seconds{');
      },
      'the histogram and the gauge are there',
    );
    const page = (await ours()).join('\n');
    const line = (pattern) => assert.match(page, pattern);
    const names = new Set([...page.matchAll(/^(\w+?)(?:_bucket|_sum|_count)?[{ ]/gm)].map(([, name]) => name));
    assert.deepEqual([...names].sort(), facts.metrics.map(({ name }) => name).sort());
    line(/^onbehalf_decisions\{reason="forwarded"\} [1-9]\d*$/m);
    line(/^onbehalf_decisions\{reason="unauthenticated_path"\} 2$/m);
    line(/^onbehalf_exchanges\{(outcome="ok",provider="entra"|provider="entra",outcome="ok")\} [1-9]\d*$/m);
    line(/^onbehalf_exchanges\{(outcome="ok",provider="okta"|provider="okta",outcome="ok")\} [1-9]\d*$/m);
    line(/^onbehalf_exchange_duration_ms_bucket\{provider="entra",le="\d/m);
    line(/^onbehalf_exchange_duration_ms_count\{provider="okta"\} [1-9]\d*$/m);
    line(/^onbehalf_token_cache\{result="hit"\} [1-9]\d*$/m);
    line(/^onbehalf_token_cache\{result="miss"\} [1-9]\d*$/m);
    line(/^onbehalf_jwks_refreshes\{(outcome="ok",provider="entra"|provider="entra",outcome="ok")\} [1-9]\d*$/m);
  });

  it('no secret is in logs, stats, the configuration dump or answers', async () => {
    await assertSoundAndSilent(gateway);
  });
});
