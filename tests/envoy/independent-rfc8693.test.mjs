// Interoperability of the profile rfc8693 with idpyoidc, an independent implementation, with each client authentication that it
// supports.

import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { bootstrap, cluster, listener, ports, wasmFilter } from '../../tools/envoy-config.mjs';
import { MODULE, startEnvoy } from './parts/envoy.mjs';
import { startIdpyoidc } from './parts/idpyoidc.mjs';
import { inPem, keysFor } from './parts/keys.mjs';
import { send } from './parts/mcp-client.mjs';
import { until } from './parts/until.mjs';
import { startUpstream } from './parts/upstream.mjs';

const HOST = 'mcp.example.com';
const RESOURCE = `https://${HOST}/mcp`;
// idpyoidc reads the secret of Basic authentication without the encoding of RFC 6749 section 2.3.1.
const SECRET = 'a-secret-of-letters-and-digits-0123456789';

const METHODS = [
  { method: 'client_secret_basic' },
  { method: 'client_secret_post' },
  ...['RS256', 'PS256', 'ES256', 'ES384', 'EdDSA'].map((algorithm) => ({ method: 'private_key_jwt', algorithm })),
].map((row) => ({ ...row, name: [row.method, row.algorithm].filter(Boolean).join(' ') }));
/** Methods that are also tried with a wrong secret or key: one of each. */
const TRIED_WRONGLY = METHODS.filter(({ algorithm }) => [undefined, 'ES256'].includes(algorithm));

let server;
let upstream;
let envoy;
let portOf;

before(async () => {
  const clients = {};
  const env = { SECRET, OTHER_SECRET: 'not-the-secret' };
  METHODS.forEach((row, index) => {
    row.client = `gateway-${index}`;
    clients[row.client] = { method: row.method, secret: SECRET };
    if (row.algorithm) {
      const [key, other] = [keysFor(row.algorithm), keysFor(row.algorithm)].map(({ privateKey }) => inPem(privateKey));
      Object.assign(env, { [`KEY_${index}`]: key, [`OTHER_KEY_${index}`]: other });
      clients[row.client] = { method: row.method, key, algorithm: row.algorithm };
    }
  });
  server = await startIdpyoidc({ clients, scopes: ['mcp:read', 'mcp:call'], audiences: [RESOURCE], signs: 'ES256' });
  upstream = await startUpstream([{ issuer: server.issuer, jwksUri: server.urls.keys }], { '/mcp': RESOURCE });

  const filter = (row, index, prefix = '') =>
    wasmFilter(
      `${prefix}${index}`,
      MODULE,
      {
        identity_providers: {
          idpyoidc: {
            profile: 'rfc8693',
            issuer: server.issuer,
            cluster: 'idpyoidc',
            audiences: [row.client],
            client: {
              id: row.client,
              authentication: row.algorithm
                ? { method: row.method, key: { env: `${prefix}KEY_${index}` }, key_id: row.client, algorithm: row.algorithm }
                : { method: row.method, secret: { env: `${prefix}SECRET` } },
            },
          },
        },
        resources: [{ url: RESOURCE, scopes: ['mcp:read'], exchange: { idpyoidc: { audience: RESOURCE, scopes: ['mcp:call'] } } }],
      },
      Object.keys(env),
    );
  const listeners = METHODS.flatMap((row, index) => [
    listener(row.name, [filter(row, index)], 'upstream'),
    ...(TRIED_WRONGLY.includes(row) ? [listener(`${row.name}, wrongly`, [filter(row, index, 'OTHER_')], 'upstream')] : []),
  ]);
  envoy = await startEnvoy(bootstrap(listeners, [cluster('idpyoidc', server.port), cluster('upstream', upstream.port)]), { env });
  portOf = await ports(envoy);
});

after(async () => {
  await envoy?.stop();
  await upstream?.stop();
  await server?.stop();
});

const ask = (listener, token) =>
  send({ port: portOf[listener], host: HOST, headers: token === undefined ? {} : { authorization: `Bearer ${token}` } });

/** Waits for the keys, and returns the answer. */
const answer = (listener, token) =>
  until(async () => {
    const got = await ask(listener, token);
    return got.status !== 503 && got;
  }, 'the keys are there');

const exchanges = async () => (await server.counts()).exchange ?? 0;

for (const row of METHODS) {
  describe(row.name, () => {
    it('a subject token is exchanged once, and the API gets the new token', async () => {
      const token = await server.signIn(row.client, `carol-${row.client}`, ['mcp:read', 'mcp:call']);
      const before = await exchanges();
      const first = await answer(row.name, token);
      assert.equal(first.status, 200, `${first.text} ${server.complaints()}`);
      const seen = first.json;
      assert.equal(seen.issuer, server.issuer);
      assert.deepEqual([seen.audience, seen.scopes].flat(), [RESOURCE, 'mcp:call']);
      assert.equal(seen.subject, JSON.parse(Buffer.from(token.split('.')[1], 'base64url')).sub);
      for (let round = 0; round < 3; round += 1) assert.deepEqual((await ask(row.name, token)).json, seen);
      assert.equal((await exchanges()) - before, 1);
    });

    if (!TRIED_WRONGLY.includes(row)) return;
    it('a client with a wrong credential gets no token', async () => {
      const token = await server.signIn(row.client, `dave-${row.client}`, ['mcp:read', 'mcp:call']);
      const { requests } = upstream.counts;
      const refused = await answer(`${row.name}, wrongly`, token);
      assert.deepEqual([refused.status, refused.json.reason], [502, 'exchange_misconfigured']);
      assert.equal(upstream.counts.requests, requests);
    });
  });
}

it('a token that the server has not issued is refused without a callout', async () => {
  const { name, client } = METHODS[0];
  const token = await server.signIn(client, 'erin', ['mcp:read']);
  const before = await exchanges();
  const [header, payload, signature] = token.split('.');
  const forged = [header, payload, Buffer.from(signature, 'base64url').reverse().toString('base64url')].join('.');
  const refused = await answer(name, forged);
  assert.deepEqual([refused.status, refused.json.reason], [401, 'bad_signature']);
  assert.equal(await exchanges(), before);
});

it('a scope that the user lacks gets 502', async () => {
  const { name, client } = METHODS[0];
  const token = await server.signIn(client, 'frank', ['mcp:read']);
  const before = await exchanges();
  const refused = await answer(name, token);
  assert.equal(await exchanges(), before + 1);
  assert.deepEqual([refused.status, refused.json.reason], [502, 'exchange_misconfigured']);
});

it('the module never trapped, and the API got no invalid token', async () => {
  assert.deepEqual(await envoy.traps(), []);
  assert.deepEqual(upstream.mistaken, []);
});
