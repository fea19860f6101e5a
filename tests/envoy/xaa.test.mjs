// Cross App Access: the org server exchanges an ID token for an assertion (ID-JAG), and the authorization server of the
// resource, of the same org or of another company, exchanges the assertion for a token.

import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { after, before, describe, it } from 'node:test';
import { assertRefused, assertSoundAndSilent } from './parts/expect.mjs';
import { dropsTheConnection, refusesWith } from './parts/faults.mjs';
import { RESOURCE, startGateway, startParts, wasmOf } from './parts/gateway.mjs';
import { startOkta } from './parts/identity-provider.mjs';
import { startMcpServer } from './parts/mcp-server.mjs';
import { ID_JAG } from './parts/okta.mjs';

const GRANT = 'urn:ietf:params:oauth:grant-type';

describe('with an authorization server of the same org', () => {
  let parts;
  let gateway;
  before(async () => {
    parts = await startParts();
    gateway = await startGateway(parts, { recipe: 'okta-xaa' });
  });
  after(async () => {
    await gateway?.stop();
    await parts?.stop();
  });

  it('the MCP server gets a token of its authorization server', async () => {
    const seen = await gateway.whoami(await parts.bobsIdToken());
    const { issuer } = parts.okta.forMcp;
    assert.deepEqual(seen, { issuer, audience: RESOURCE, subject: 'bob@acme.example', scopes: ['mcp:call'] });
  });

  it('each server got one request with its own client assertion', () => {
    const { org, forMcp, ids } = parts.okta;
    const [first, ...more] = org.exchanges;
    const [second, ...others] = forMcp.exchanges;
    assert.deepEqual([...more, ...others], []);
    assert.equal(first.values.grant_type, `${GRANT}:token-exchange`);
    assert.equal(first.values.requested_token_type, ID_JAG);
    assert.deepEqual(
      [first.values.audience, first.values.resource, first.values.scope],
      [forMcp.issuer, RESOURCE, 'mcp:call'],
    );
    assert.deepEqual(second.parameters, [
      'assertion',
      'client_assertion',
      'client_assertion_type',
      'client_id',
      'grant_type',
    ]);
    assert.equal(second.values.grant_type, `${GRANT}:jwt-bearer`);
    assert.deepEqual([first.assertion.aud, second.assertion.aud], [org.urls.token, forMcp.urls.token]);
    assert.deepEqual([first.assertion.sub, second.assertion.sub], [ids.agent, ids.agent]);
    assert.notEqual(first.assertion.jti, second.assertion.jti);
  });

  it('a connection that breaks at the second call restarts the exchange', async () => {
    const { org, forMcp } = parts.okta;
    const before = [org.exchanges.length, forMcp.exchanges.length];
    forMcp.fail('token', dropsTheConnection(), { times: 1 });
    const answer = await gateway.call(await parts.bobsIdToken('carol@acme.example'));
    assert.equal(answer.status, 200, answer.text);
    assert.equal(org.exchanges.length - before[0], 2);
    assert.deepEqual(
      forMcp.exchanges.slice(before[1]).map(({ status }) => status),
      [0, 200],
    );
  });

  it('an assertion that the second server refuses gets 502', async () => {
    const restore = parts.okta.forMcp.fail('token', refusesWith('invalid_grant', { text: 'id_jag_replayed' }));
    const token = await parts.bobsIdToken('dave@acme.example');
    await assertRefused(gateway, { reason: 'exchange_misconfigured', status: 502, error: 'server_error' }, () =>
      gateway.call(token),
    );
    restore();
    const line = gateway.envoy.log.split('\n').findLast((text) => text.includes('reason=exchange_misconfigured'));
    assert.match(line, /leg=2 error="invalid_grant" status=400/);
  });

  it('a refusal of the first server has no leg in the log', async () => {
    const token = await parts.bobsIdToken('erin@acme.example');
    const restore = parts.okta.org.fail('token', refusesWith('access_denied'));
    await assertRefused(gateway, { reason: 'exchange_denied', status: 403, error: 'access_denied' }, () =>
      gateway.call(token),
    );
    restore();
    const line = gateway.envoy.log.split('\n').find((text) => text.includes('reason=exchange_denied'));
    assert.match(line, /error="access_denied"/);
  });

  it('an ID token of another client and an access token get 401', async () => {
    const { idToken } = await parts.bob({ server: parts.okta.org, scopes: [], idToken: true });
    for (const [token, reason] of [
      [idToken, 'wrong_audience'],
      [(await parts.bob()).accessToken, 'unknown_issuer'],
    ]) {
      const answer = await gateway.call(token);
      assert.equal(answer.json.reason, reason, answer.text);
    }
  });

  it('the emulated servers refuse requests that are not conformant', async () => {
    const { org, forMcp, host, ids } = parts.okta;
    const post = async (server, form) => {
      const { url, headers } = host.reach(server.urls.token);
      const body = new URLSearchParams({ client_id: ids.agent, ...form, ...(await parts.proveAgent(server.urls.token)) });
      return (await fetch(url, { method: 'POST', headers, body })).json();
    };
    const issue = async () => {
      const { access_token: assertion } = await post(org, {
        grant_type: `${GRANT}:token-exchange`,
        requested_token_type: ID_JAG,
        subject_token: await parts.bobsIdToken(),
        subject_token_type: 'urn:ietf:params:oauth:token-type:id_token',
        audience: forMcp.issuer,
        scope: 'mcp:call',
      });
      return assertion;
    };
    const grant_type = `${GRANT}:jwt-bearer`;
    const assertion = await issue();
    assert.equal((await post(forMcp, { grant_type, assertion, scope: 'mcp:call' })).error, 'invalid_request');
    assert.ok((await post(forMcp, { grant_type, assertion })).access_token);
    assert.equal((await post(forMcp, { grant_type, assertion })).error_description, 'id_jag_replayed');
    assert.equal((await post(parts.okta.other, { grant_type, assertion: await issue() })).error, 'invalid_grant');
  });

  it('the module never trapped, and no secret is visible', () => assertSoundAndSilent(gateway));
});

describe('with an authorization server of another company', () => {
  const secret = randomBytes(24).toString('base64url');
  let parts;
  let theirs;
  let gateway;
  before(async () => {
    parts = await startParts();
    theirs = await startOkta({
      authority: parts.authority,
      domain: 'auth.todo.example',
      audience: RESOURCE,
      scopes: ['todo:read'],
      serviceApp: { token_endpoint_auth_method: 'client_secret_basic', client_secret: secret },
    });
    const { org } = parts.okta;
    const { issuer, urls } = theirs.forMcp;
    org.settings.connections.push({ issuer, resource: RESOURCE, scopes: ['todo:read'], clientId: theirs.ids.agent });
    theirs.forMcp.settings.assertionsOf.push(org);
    // The server identifies the user by the assertion.
    theirs.forMcp.accounts = parts.okta.accounts;
    parts.servers.push(theirs.forMcp);
    await parts.mcp.stop();
    const { url, headers } = theirs.host.reach(urls.keys);
    parts.mcp = await startMcpServer([{ issuer, audience: RESOURCE, jwksUri: url, headers }]);
    gateway = await startGateway(parts, {
      recipe: 'okta-xaa',
      env: { TODO_SECRET: secret },
      change: (filter, bootstrap) => {
        const { clusters } = bootstrap.static_resources;
        const their = structuredClone(clusters.find(({ name }) => name === 'okta'));
        their.name = 'todo_auth';
        their.load_assignment.cluster_name = 'todo_auth';
        their.load_assignment.endpoints[0].lb_endpoints[0].endpoint.address.socket_address.port_value = theirs.host.tlsPort;
        their.transport_socket.typed_config.sni = 'auth.todo.example';
        clusters.push(their);
        const { okta } = filter.resources[0].exchange;
        Object.assign(okta, {
          audience: issuer,
          scopes: ['todo:read'],
          authorization_server: {
            token_endpoint: urls.token,
            cluster: 'todo_auth',
            client: {
              id: theirs.ids.agent,
              authentication: { method: 'client_secret_basic', secret: { env: 'TODO_SECRET' } },
            },
          },
        });
        wasmOf(bootstrap).vm_config.environment_variables.host_env_keys.push('TODO_SECRET');
      },
    });
  });
  after(async () => {
    await gateway?.stop();
    await theirs?.host.down();
    await parts?.stop();
  });

  it('its token reaches the MCP server, and each server gets its own key', async () => {
    const seen = await gateway.whoami(await parts.bobsIdToken());
    assert.deepEqual(seen, {
      issuer: theirs.forMcp.issuer,
      audience: RESOURCE,
      subject: 'bob@acme.example',
      scopes: ['todo:read'],
    });
    assert.deepEqual(
      [parts.okta.org, theirs.forMcp].map(({ exchanges }) => exchanges.map((call) => call.clientAuthentication)),
      [['private_key_jwt'], ['client_secret_basic']],
    );
    assert.deepEqual(theirs.forMcp.exchanges[0].parameters, ['assertion', 'grant_type']);
    assert.equal(parts.okta.forMcp.exchanges.length, 0);
  });

  it('the module never trapped, and no secret is visible', () => assertSoundAndSilent(gateway));
});
