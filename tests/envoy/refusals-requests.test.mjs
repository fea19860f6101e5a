// Requests that are refused before their token is read: status, challenge, body, metric, and no request to the upstream.

import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { assertSoundAndSilent } from './parts/expect.mjs';
import { MCP_HOST, METADATA_PATH } from './parts/gateway.mjs';
import { alice, assertReached, assertShares, gateway, invalidRequest, parts, refused, start, stop } from './parts/refusals.mjs';

before(start);
after(stop);

describe('requests that are refused before their token is read', () => {
  it('a path of no resource gets 404, with a valid token too', async () => {
    const row = { reason: 'unknown_resource', status: 404, error: 'not_found' };
    await refused(row, () => gateway.call(alice.accessToken, {}, { path: '/nothing' }));
    await refused(row, () => gateway.call(alice.accessToken, {}, { path: '/mcpx' }));
    await refused(row, () => gateway.call(alice.accessToken, { host: 'other.example.com' }));
  });

  it('a request to an authorization server here gets the issuers to ask', async () => {
    const row = {
      reason: 'not_an_authorization_server',
      status: 404,
      error: 'not_found',
      members: ['authorization_servers', 'resource_metadata'],
    };
    const issuers = [parts.entra.signIn.issuer, parts.okta.signIn.issuer];
    for (const [path, servers, metadata] of [
      ['/.well-known/oauth-authorization-server/mcp', issuers, METADATA_PATH],
      ['/.well-known/openid-configuration/okta-only', [parts.okta.signIn.issuer], `${METADATA_PATH.slice(0, -4)}/okta-only`],
    ]) {
      const { json } = await refused(row, () => gateway.send({ path }));
      assert.deepEqual(json.authorization_servers, servers);
      assert.deepEqual(json.resource_metadata, [`https://${MCP_HOST}${metadata}`]);
    }
    const paths = ['/register', '/token', '/authorize?client_id=x', '/.well-known/openid-configuration'];
    for (const path of paths) {
      const headers = { 'content-type': 'application/json', authorization: `Bearer ${alice.accessToken}` };
      const answer = await refused(row, () => gateway.send({ path, method: 'POST', headers, body: '{}' }));
      assert.deepEqual(answer.json.authorization_servers, issuers);
      assert.equal(answer.json.resource_metadata.length, 3);
      assert.equal(answer.headers['access-control-allow-origin'], '*');
      assert.ok(answer.json.error_description.endsWith(`(${issuers.join(' or ')}).`), answer.json.error_description);
    }
    const elsewhere = { reason: 'unknown_resource', status: 404, error: 'not_found' };
    await refused(elsewhere, () => gateway.send({ path: '/register', headers: { host: 'other.example.com' } }));
    // Any client sends this: it is not worth a line at this level.
    assert.match(gateway.envoy.log, /event=refused reason=unknown_resource/);
    assert.doesNotMatch(gateway.envoy.log, /event=refused reason=not_an_authorization_server/);
  });

  it('an ambiguous path gets 400', async () => {
    const row = { reason: 'ambiguous_path', status: 400, error: 'invalid_request' };
    for (const path of ['/;/mcp', '/mcp/;/x', '/mcp;v=1/x', '/mcp%3b/x']) {
      await refused(row, () => gateway.call(alice.accessToken, {}, { path }));
    }
  });

  it('a POST to the metadata document gets 405', async () => {
    const row = { reason: 'method_not_allowed', status: 405, error: 'invalid_request' };
    const answer = await refused(row, () => gateway.send({ path: METADATA_PATH, method: 'POST' }));
    assert.equal(answer.headers.allow, 'GET, HEAD, OPTIONS');
  });

  it('a request without a token or with another scheme gets a bare 401', async () => {
    const row = { reason: 'no_credentials', status: 401, error: 'unauthorized', challenge: 'bare' };
    await refused(row, () => gateway.call(undefined));
    await refused(row, () => gateway.call(undefined, { authorization: 'Basic YWxpY2U6eA==' }));
  });

  it('an Authorization field that is not one token gets 400', async () => {
    const row = invalidRequest('malformed_credentials');
    for (const value of ['Bearer', 'Bearer a b', 'Bearer "abc"', `Bearer ${alice.accessToken}\u00e4`]) {
      await refused(row, () => gateway.call(undefined, { authorization: value }));
    }
  });

  it('a second token gets 400, in a field and in the query', async () => {
    const row = invalidRequest('multiple_credentials');
    const line = `Bearer ${alice.accessToken}`;
    await refused(row, () =>
      gateway.send({ method: 'POST', headers: ['authorization', line, 'authorization', line] }),
    );
    await refused(row, () => gateway.call(undefined, { authorization: `${line}, ${line}` }));
    const query = '/mcp?access_token=abc';
    await refused(row, () => gateway.call(alice.accessToken, {}, { path: query }));
    await refused(row, () => gateway.call(undefined, {}, { path: query }));
  });

  it('a token longer than 16 KiB gets 400', async () => {
    const [header, , signature] = alice.accessToken.split('.');
    const long = `${header}.${'A'.repeat(17 * 1024)}.${signature}`;
    await refused(invalidRequest('token_too_large'), () => gateway.call(long));
  });
});

describe('the file', () => {
  it('every reason of this file has been reached', () => assertReached('requests'));

  it('every reason of the filter belongs to one file', assertShares);

  it('the module never trapped, and no secret is visible', () => assertSoundAndSilent(gateway));
});
