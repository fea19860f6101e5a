// Protected resource metadata (RFC 9728), and the path of an MCP client from a refusal to a token.

import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import {
  Client,
  StreamableHTTPClientTransport,
  discoverAuthorizationServerMetadata,
  registerClient,
} from '@modelcontextprotocol/client';
import { assertSoundAndSilent, challengeOf } from './parts/expect.mjs';
import { MCP_HOST, METADATA_PATH, METADATA_URL, RESOURCE, startGateway, startParts } from './parts/gateway.mjs';

let parts;
let gateway;

before(async () => {
  parts = await startParts();
  gateway = await startGateway(parts, {
    change: (filter) => {
      filter.resources.push({
        url: `https://${MCP_HOST}/deeper/okta`,
        scopes: ['a', 'b'],
        scopes_supported: ['long:a', 'long:b'],
        exchange: { okta: structuredClone(filter.resources[0].exchange.okta) },
      });
    },
  });
});
after(async () => {
  await gateway?.stop();
  await parts?.stop();
});

describe('the document', () => {
  it('the metadata has the resource, its issuers and its scopes', async () => {
    const answer = await gateway.send({ path: METADATA_PATH });
    assert.equal(answer.status, 200);
    assert.equal(answer.headers['content-type'], 'application/json');
    assert.equal(answer.headers['access-control-allow-origin'], '*');
    assert.deepEqual(answer.json, {
      resource: RESOURCE,
      authorization_servers: [parts.entra.signIn.issuer, parts.okta.signIn.issuer],
      scopes_supported: ['mcp:read'],
      bearer_methods_supported: ['header'],
    });
  });

  it('the metadata of a resource has only the issuers of its exchanges', async () => {
    const answer = await gateway.send({ path: '/.well-known/oauth-protected-resource/deeper/okta' });
    assert.deepEqual(answer.json, {
      resource: `https://${MCP_HOST}/deeper/okta`,
      authorization_servers: [parts.okta.signIn.issuer],
      scopes_supported: ['long:a', 'long:b'],
      bearer_methods_supported: ['header'],
    });
  });

  it('the authorization servers are in the configured order', async (t) => {
    const issuers = { entra: parts.entra.signIn.issuer, okta: parts.okta.signIn.issuer };
    for (const names of [['okta', 'entra'], ['okta']]) {
      const own = await startGateway(parts, {
        change: ({ resources: [resource] }) => (resource.authorization_servers = names),
      });
      t.after(() => own.stop());
      const { json } = await own.send({ path: METADATA_PATH });
      assert.deepEqual(json.authorization_servers, names.map((name) => issuers[name]));
      // Users of the provider that is not listed are still served.
      const { accessToken } = await parts.alice();
      assert.equal((await own.call(accessToken)).status, 200);
    }
  });

  it('the metadata is served without a token and with any token', async () => {
    for (const headers of [{}, { authorization: 'Bearer junk' }, { authorization: 'Basic x' }]) {
      assert.equal((await gateway.send({ path: METADATA_PATH, headers })).status, 200);
    }
  });

  it('the metadata is served for HEAD and for browsers of other origins', async () => {
    const head = await gateway.send({ path: METADATA_PATH, method: 'HEAD' });
    assert.equal(head.status, 200);
    assert.equal(head.text, '');
    const preflight = await gateway.send({
      path: METADATA_PATH,
      method: 'OPTIONS',
      headers: {
        origin: 'https://inspector.example',
        'access-control-request-method': 'GET',
        'access-control-request-headers': 'mcp-protocol-version',
      },
    });
    assert.equal(preflight.status, 204);
    assert.equal(preflight.headers['access-control-allow-origin'], '*');
    assert.match(preflight.headers['access-control-allow-methods'], /GET/);
    assert.ok(preflight.headers['access-control-allow-headers']);
  });

  it('a path or a host without a resource has no metadata', async () => {
    for (const options of [
      { path: '/.well-known/oauth-protected-resource' },
      { path: '/.well-known/oauth-protected-resource/' },
      { path: '/.well-known/oauth-protected-resource/mcp/more' },
      { path: METADATA_PATH, headers: { host: 'other.example.com' } },
    ]) {
      const answer = await gateway.send(options);
      assert.equal(answer.status, 404, JSON.stringify(options));
    }
  });

  it('a request for metadata is counted, and reaches no upstream', async (t) => {
    const own = await startGateway(parts);
    t.after(() => own.stop());
    const { length } = parts.mcp.requests;
    for (const method of ['GET', 'HEAD', 'OPTIONS']) await own.send({ path: METADATA_PATH, method });
    await own.expectCount('decisions.reason.metadata', 3);
    assert.equal(parts.mcp.requests.length, length);
  });
});

describe('a preflight for the resource itself', () => {
  it('a preflight without a token does not reach the MCP server', async () => {
    const { length } = parts.mcp.requests;
    const answer = await gateway.send({
      path: '/mcp',
      method: 'OPTIONS',
      headers: { origin: 'https://inspector.example', 'access-control-request-method': 'POST' },
    });
    assert.ok([204, 401].includes(answer.status), answer.text);
    assert.equal(parts.mcp.requests.length, length);
  });
});

/** Fetch function of the official client: it reaches this host through the gateway, and no other host. */
const viaGateway = (asked) => async (url, options = {}) => {
  const { host, pathname, search } = new URL(url);
  asked.push(`${host}${pathname}`);
  if (host !== MCP_HOST) return new Response(null, { status: 404 });
  const headers = { ...Object.fromEntries(new Headers(options.headers)), host };
  const { method, body } = options;
  const answer = await gateway.send({ path: pathname + search, method, headers, body });
  return new Response(answer.text || null, { status: answer.status, headers: Object.entries(answer.headers) });
};

describe('the official MCP client', () => {
  it('a client that asks the host for its issuer is shown the issuers', async () => {
    const asked = [];
    const fetchFn = viaGateway(asked);
    for (const server of [RESOURCE, `https://${MCP_HOST}`]) {
      assert.equal(await discoverAuthorizationServerMetadata(server, { fetchFn }), undefined);
    }
    assert.deepEqual(
      asked.map((url) => url.slice(MCP_HOST.length)),
      [
        '/.well-known/oauth-authorization-server/mcp',
        '/.well-known/openid-configuration/mcp',
        '/mcp/.well-known/openid-configuration',
        '/.well-known/oauth-authorization-server',
        '/.well-known/openid-configuration',
      ],
    );
    const clientMetadata = { redirect_uris: ['http://127.0.0.1/callback'] };
    await assert.rejects(registerClient(RESOURCE, { clientMetadata, fetchFn }), (error) => {
      const both = `${parts.entra.signIn.issuer} or ${parts.okta.signIn.issuer}`;
      assert.ok(error.message.includes(`get a token from one of authorization_servers (${both}).`), error.message);
      return true;
    });
  });

  it('a client without a token follows the challenge to the provider', async () => {
    const asked = [];
    const authProvider = {
      redirectUrl: 'http://127.0.0.1/callback',
      clientMetadata: { redirect_uris: ['http://127.0.0.1/callback'] },
      clientInformation: () => ({ client_id: parts.okta.ids.mcpClient }),
      tokens: () => undefined,
      saveTokens() {},
      redirectToAuthorization() {},
      saveCodeVerifier() {},
      codeVerifier: () => 'x',
    };
    const client = new Client({ name: 'test', version: '1' });
    const transport = new StreamableHTTPClientTransport(new URL(RESOURCE), {
      fetch: viaGateway(asked),
      authProvider,
    });
    await assert.rejects(client.connect(transport));
    assert.equal(asked[0], `${MCP_HOST}/mcp`);
    assert.equal(asked[1], new URL(METADATA_URL).host + new URL(METADATA_URL).pathname);
    assert.match(asked[2], /^login\.microsoftonline\.com\//, asked.join(' '));
  });

  it('the challenge and the metadata agree', async () => {
    const refusal = await gateway.call(undefined);
    const challenge = challengeOf(refusal);
    const { pathname } = new URL(challenge.resource_metadata);
    const document = await gateway.send({ path: pathname });
    assert.deepEqual(document.json.scopes_supported, challenge.scope.split(' '));
  });
});

it('the module never trapped, and no secret is visible', () => assertSoundAndSilent(gateway));
