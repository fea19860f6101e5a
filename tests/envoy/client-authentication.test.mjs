// Client authentication by Envoy: a secret that it adds, the token of the workload, a certificate. The files change while Envoy
// runs.

import assert from 'node:assert/strict';
import { generateKeyPairSync, randomBytes } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { ofClient } from './parts/certificate.mjs';
import { scratchFolder } from './parts/envoy.mjs';
import { assertSoundAndSilent } from './parts/expect.mjs';
import { RESOURCE, startGateway, startParts, wasmOf, WORKLOAD } from './parts/gateway.mjs';
import { startRfc8693 } from './parts/identity-provider.mjs';
import { signIn } from './parts/login.mjs';
import { startMcpServer } from './parts/mcp-server.mjs';
import { until } from './parts/until.mjs';

/** Sends a request of a new user, so that it needs an exchange. */
let users = 0;
async function newcomer(gateway, provider, headers) {
  const { accessToken } = await signIn(provider, `user${(users += 1)}@example.com`);
  return gateway.call(accessToken, headers);
}

/** Waits until requests of new users get a status. */
const answered = (gateway, provider, status) =>
  until(async () => (await newcomer(gateway, provider)).status === status, `a newcomer gets ${status}`);

describe('upstream: Envoy adds the secret, from a file', () => {
  let parts;
  let gateway;
  before(async () => {
    parts = await startParts({ oktaSecret: true });
    gateway = await startGateway(parts, { recipe: 'okta-sds', concurrency: 2 });
  });
  after(async () => {
    await gateway?.stop();
    await parts?.stop();
  });

  it('the filter sends no secret, and only the token endpoint gets it', async () => {
    const answer = await newcomer(gateway, parts.okta);
    assert.equal(answer.status, 200, answer.text);
    const [exchange] = parts.okta.forMcp.exchanges;
    assert.equal(exchange.clientAuthentication, 'client_secret_basic');
    assert.deepEqual(
      exchange.parameters.filter((name) => name.startsWith('client_')),
      [],
    );
    assert.deepEqual(parts.okta.forMcp.authorized, { discovery: 0, keys: 0, token: 1 });
    assert.deepEqual(parts.okta.signIn.authorized, { discovery: 0, keys: 0, token: 0 });
    assert.ok(parts.okta.signIn.counts.keys > 0);
  });

  it('a secret that is replaced in its file is used without a restart', async () => {
    const { okta } = parts;
    const second = randomBytes(24).toString('base64url');
    okta.forMcp.register(okta.ids.serviceApp, { client_secret: second });
    const refused = await newcomer(gateway, okta);
    assert.equal(refused.status, 502, refused.text);
    assert.equal(refused.json.reason, 'exchange_misconfigured');
    assert.equal(okta.forMcp.exchanges.at(-1).error, 'invalid_client');

    parts.provideOktaSecret(second);
    await answered(gateway, okta, 200);
    assert.equal(okta.forMcp.exchanges.at(-1).error, undefined);
    // All workers have the new secret.
    for (let round = 0; round < 8; round += 1) {
      const answer = await newcomer(gateway, okta);
      assert.equal(answer.status, 200, answer.text);
    }
  });

  it('the module never trapped, and no secret is visible', () => assertSoundAndSilent(gateway));
});

describe('client_assertion: Envoy brings the workload’s token, from a file', () => {
  let parts;
  let gateway;
  before(async () => {
    parts = await startParts({ entraFederation: true });
    gateway = await startGateway(parts, { recipe: 'entra-workload-identity' });
  });
  after(async () => {
    await gateway?.stop();
    await parts?.stop();
  });
  const provide = async (changes) => parts.projected.entra.replace(await parts.workloadToken(changes));
  const assertionOf = () => parts.entra.forMcp.exchanges.at(-1).assertion;

  it('the assertion is the token of the workload, and stays out of upstreams', async () => {
    const answer = await newcomer(gateway, parts.entra);
    assert.equal(answer.status, 200, answer.text);
    const { iss, sub, aud } = assertionOf();
    const { issuer, subject } = parts.entra.forMcp.settings.federation;
    assert.deepEqual([iss, sub, aud], [issuer, subject, ['api://AzureADTokenExchange']]);
    assert.deepEqual(
      parts.entra.forMcp.exchanges.at(-1).parameters.filter((name) => name.startsWith('client_')),
      ['client_assertion', 'client_assertion_type', 'client_id'],
    );
    assert.ok(!parts.mcp.requests.at(-1).headerNames.includes('x-workload-assertion'));
  });

  it('an assertion that a client sends is not used', async () => {
    const own = await parts.workloadToken({ subject: 'system:serviceaccount:mcp:mallory' });
    for (const sent of [own, [own, own], 'no JWT']) {
      const answer = await newcomer(gateway, parts.entra, { 'x-workload-assertion': sent });
      assert.equal(answer.status, 200, answer.text);
      assert.equal(assertionOf().sub, WORKLOAD);
      assert.ok(!parts.mcp.requests.at(-1).headerNames.includes('x-workload-assertion'));
    }
  });

  it('a workload token that is replaced is used without a restart', async () => {
    const { issuer } = parts.entra.forMcp.settings.federation;
    const foreign = generateKeyPairSync('rsa', { modulusLength: 2048 }).privateKey;
    const { accessToken: early } = await signIn(parts.entra, 'early@example.com');
    assert.equal((await gateway.call(early)).status, 200);
    for (const [changes, code] of [
      [{ iss: `${issuer}/other` }, 700211],
      [{ audience: 'api://other' }, 700212],
      [{ subject: 'system:serviceaccount:mcp:other' }, 700213],
      [{ seconds: -10 }, 700024],
      [{ key: foreign }, 700027],
    ]) {
      await provide(changes);
      await answered(gateway, parts.entra, 502);
      await until(() => gateway.envoy.log.includes(`error_codes=${code}`), `the log has ${code}`);
      // A user whose token is cached is still served.
      assert.equal((await gateway.call(early)).status, 200);
      await provide();
      await answered(gateway, parts.entra, 200);
    }
    const before = assertionOf().jti;
    await provide();
    await until(async () => {
      assert.equal((await newcomer(gateway, parts.entra)).status, 200);
      return assertionOf().jti !== before;
    }, 'the next token is used');
  });

  it('the module never trapped, and no secret is visible', () => assertSoundAndSilent(gateway));

  it('a missing, repeated or malformed assertion gets 502 without a call', async (t) => {
    const alone = await startGateway(parts, {
      recipe: 'entra-workload-identity',
      change: (_filter, { static_resources: { listeners } }) => {
        const { typed_config } = listeners[0].filter_chains[0].filters[0];
        typed_config.http_filters = typed_config.http_filters.filter(({ name }) => !name.includes('injector'));
      },
    });
    t.after(() => alone.stop());
    const good = await parts.workloadToken();
    const exchanges = parts.entra.forMcp.exchanges.length;
    for (const [sent, why] of [
      [undefined, 'nothing has put it there'],
      [[good, good], 'it is there several times'],
      ['hunter2.hunter2', 'it is no signed JWT'],
    ]) {
      const answer = await newcomer(alone, parts.entra, sent && { 'x-workload-assertion': sent });
      assert.equal(answer.status, 502, answer.text);
      assert.equal(answer.json.reason, 'exchange_misconfigured');
      await until(() => alone.envoy.log.includes(`header=x-workload-assertion cause="${why}"`), `the log says ${why}`);
    }
    assert.equal(parts.entra.forMcp.exchanges.length, exchanges);
    assert.ok(!alone.envoy.log.includes('hunter2'));
    assert.equal((await newcomer(alone, parts.entra, { 'x-workload-assertion': good })).status, 200);
    await assertSoundAndSilent(alone);
  });
});

describe('mutual TLS: the cluster presents the client’s certificate', () => {
  const keys = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const selfSigned = ofClient('gateway', keys);
  const SAN = 'gateway.client.example';
  const TOKEN_ENDPOINT = 'https://login.plain.example/token';

  /** Starts the parts with a provider that authenticates the gateway by its certificate. */
  async function withProvider(client, { metadata } = {}) {
    const parts = await startParts();
    const plain = await startRfc8693({
      authority: parts.authority,
      method: client.token_endpoint_auth_method,
      client,
      metadata,
      audience: RESOURCE,
      scopes: ['mcp:call'],
    });
    const { issuer, urls } = plain.forMcp;
    const { url, headers } = plain.host.reach(urls.keys);
    await parts.mcp.stop();
    parts.mcp = await startMcpServer([{ issuer, audience: RESOURCE, jwksUri: url, headers }]);
    parts.servers.push(plain.signIn);
    return { parts, plain, stop: () => Promise.all([plain.host.down(), parts.stop()]) };
  }

  /** Starts a gateway with that certificate. */
  function start({ parts, plain }, method, certificate, own = {}) {
    const file = (name, text) => {
      const path = join(scratchFolder(), name);
      writeFileSync(path, text);
      return { filename: path };
    };
    return startGateway(parts, {
      recipe: 'okta',
      change: (filter, bootstrap) => {
        const [cluster] = bootstrap.static_resources.clusters.filter(({ name }) => name === 'okta');
        cluster.name = 'plain';
        const [{ endpoint }] = cluster.load_assignment.endpoints[0].lb_endpoints;
        endpoint.address.socket_address.port_value = plain.host.tlsPort;
        const tls = cluster.transport_socket.typed_config;
        tls.sni = plain.host.name;
        if (certificate) {
          tls.common_tls_context.tls_certificates = [
            { certificate_chain: file('tls.crt', certificate.cert), private_key: file('tls.key', certificate.key) },
          ];
        }
        delete filter.resources[0].audiences;
        filter.identity_providers = {
          plain: {
            profile: 'rfc8693',
            issuer: plain.forMcp.issuer,
            cluster: 'plain',
            audiences: ['https://gateway.example'],
            client: { id: plain.ids.gateway, authentication: { method } },
            ...own,
          },
        };
        filter.resources[0].exchange = { plain: { audience: RESOURCE, scopes: ['mcp:call'] } };
        filter.shared_data_secret = { env: 'ONBEHALF_SHARED_SECRET' };
        wasmOf(bootstrap).vm_config.environment_variables.host_env_keys = ['ONBEHALF_SHARED_SECRET'];
      },
    });
  }

  const pem = (key) => key.export({ type: 'pkcs8', format: 'pem' });

  for (const [method, client, certificateOf, other] of [
    [
      'tls_client_auth',
      { tls_client_auth_san_dns: SAN },
      (authority) => authority.issue([SAN]),
      (authority) => authority.issue(['other.client.example']),
    ],
    [
      'self_signed_tls_client_auth',
      { jwks: { keys: [{ ...keys.publicKey.export({ format: 'jwk' }), 'x5t#S256': selfSigned.thumbprint }] } },
      () => ({ cert: selfSigned.pem, key: pem(keys.privateKey) }),
      () => ({ cert: ofClient('gateway', keys).pem, key: pem(keys.privateKey) }),
    ],
  ]) {
    it(`${method}: only the registered certificate authenticates`, async (t) => {
      const scene = await withProvider({ token_endpoint_auth_method: method, ...client });
      t.after(() => scene.stop());
      const { parts, plain } = scene;
      for (const [certificate, status] of [
        [certificateOf(parts.authority), 200],
        [other(parts.authority), 502],
        [undefined, 502],
      ]) {
        const gateway = await start(scene, method, certificate);
        t.after(() => gateway.stop());
        const answer = await newcomer(gateway, plain);
        assert.equal(answer.status, status, answer.text);
        const exchange = plain.forMcp.exchanges.at(-1);
        assert.equal(exchange.error, status === 200 ? undefined : 'invalid_client');
        assert.deepEqual([exchange.clientAuthentication, exchange.values.client_id], ['none', 'gateway']);
        await assertSoundAndSilent(gateway);
      }
    });
  }

  it('the mtls endpoint alias is used if its host is the issuer’s', async (t) => {
    const client = { token_endpoint_auth_method: 'tls_client_auth', tls_client_auth_san_dns: SAN };
    const alias = (token_endpoint) => ({
      metadata: { token_endpoint: `${TOKEN_ENDPOINT}/that/is/not/there`, mtls_endpoint_aliases: { token_endpoint } },
    });
    const same = await withProvider(client, alias(TOKEN_ENDPOINT));
    t.after(() => same.stop());
    const gateway = await start(same, 'tls_client_auth', same.parts.authority.issue([SAN]));
    t.after(() => gateway.stop());
    const answer = await newcomer(gateway, same.plain);
    assert.equal(answer.status, 200, answer.text);

    const elsewhere = await withProvider(client, alias('https://mtls.plain.example/token'));
    t.after(() => elsewhere.stop());
    const certificate = elsewhere.parts.authority.issue([SAN]);
    const lost = await start(elsewhere, 'tls_client_auth', certificate);
    t.after(() => lost.stop());
    assert.equal((await newcomer(lost, elsewhere.plain)).json.reason, 'jwks_unavailable');
    await until(() => lost.envoy.log.includes('set jwks_cluster and token_cluster, or jwks_uri and token_endpoint'), 'the log says what to do');
    const byHand = await start(elsewhere, 'tls_client_auth', certificate, { token_endpoint: TOKEN_ENDPOINT });
    t.after(() => byHand.stop());
    const served = await newcomer(byHand, elsewhere.plain);
    assert.equal(served.status, 200, served.text);
  });
});
