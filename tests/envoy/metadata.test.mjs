// Protected resource metadata (RFC 9728) and how a real MCP client finds its way from a refusal to a token.

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
  it('says what the resource is, who issues tokens for it, and which scopes it takes', async () => {
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

  it('of another resource names only the providers that can exchange for it', async () => {
    const answer = await gateway.send({ path: '/.well-known/oauth-protected-resource/deeper/okta' });
    assert.deepEqual(answer.json, {
      resource: `https://${MCP_HOST}/deeper/okta`,
      authorization_servers: [parts.okta.signIn.issuer],
      scopes_supported: ['long:a', 'long:b'],
      bearer_methods_supported: ['header'],
    });
  });

  it('names the authorization servers in the order that the operator wrote', async (t) => {
    const issuers = { entra: parts.entra.signIn.issuer, okta: parts.okta.signIn.issuer };
    for (const names of [['okta', 'entra'], ['okta']]) {
      const own = await startGateway(parts, {
        change: ({ resources: [resource] }) => (resource.authorization_servers = names),
      });
      t.after(() => own.stop());
      const { json } = await own.send({ path: METADATA_PATH });
      assert.deepEqual(json.authorization_servers, names.map((name) => issuers[name]));
      // Whoever is not told of is let in all the same.
      const { accessToken } = await parts.alice();
      assert.equal((await own.call(accessToken)).status, 200);
    }
  });

  it('is there without and with any kind of token', async () => {
    for (const headers of [{}, { authorization: 'Bearer junk' }, { authorization: 'Basic x' }]) {
      assert.equal((await gateway.send({ path: METADATA_PATH, headers })).status, 200);
    }
  });

  it('can be asked for with HEAD, and by a browser of another origin', async () => {
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

  it('is not there for paths and hosts without a resource', async () => {
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

  it('is counted, and never comes from the MCP server', async (t) => {
    const own = await startGateway(parts);
    t.after(() => own.stop());
    const { length } = parts.mcp.requests;
    for (const method of ['GET', 'HEAD', 'OPTIONS']) await own.send({ path: METADATA_PATH, method });
    await own.expectCount('decisions.reason.metadata', 3);
    assert.equal(parts.mcp.requests.length, length);
  });
});

describe('a preflight for the resource itself', () => {
  it('carries no token and is refused or answered without reaching the MCP server', async () => {
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

/** What the official client fetches: this host by the gateway, another one not at all. */
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
  it('that takes the host for its authorization server finds none, and shows which to ask', async () => {
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
      assert.ok(error.message.includes(`for a token (${both}).`), error.message);
      return true;
    });
  });

  it('without a token reads the challenge, fetches the metadata, and turns to the provider that it names', async () => {
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

  it('a challenge and the document agree', async () => {
    const refusal = await gateway.call(undefined);
    const challenge = challengeOf(refusal);
    const { pathname } = new URL(challenge.resource_metadata);
    const document = await gateway.send({ path: pathname });
    assert.deepEqual(document.json.scopes_supported, challenge.scope.split(' '));
  });
});

it('nothing trapped and nothing secret can be seen', () => assertSoundAndSilent(gateway));
