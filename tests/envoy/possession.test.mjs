// Sender-constrained tokens: DPoP on an Envoy with several workers, and certificates on an Envoy with TLS.

import assert from 'node:assert/strict';
import { createHash, X509Certificate } from 'node:crypto';
import { request } from 'node:https';
import { after, before, describe, it } from 'node:test';
import { throwAwayAuthority } from './parts/certificate.mjs';
import { proofKey } from './parts/dpop.mjs';
import { assertSoundAndSilent } from './parts/expect.mjs';
import { answers, secrets } from './parts/leaks.mjs';
import { MCP_HOST, METADATA_PATH, RESOURCE, startGateway, startParts } from './parts/gateway.mjs';

let parts;
let alice;

/** Lets the provider sign a token of Alice that is bound to something. */
function boundTo(cnf) {
  const claims = JSON.parse(Buffer.from(alice.accessToken.split('.')[1], 'base64url').toString());
  return parts.entra.signIn.sign({ ...claims, cnf }, { typ: 'JWT' });
}

before(async () => {
  parts = await startParts();
  alice = await parts.alice();
});
after(() => parts?.stop());

describe('DPoP', () => {
  let gateway;
  before(async () => {
    gateway = await startGateway(parts, {
      concurrency: 4,
      change: (filter) => {
        filter.resources[0].dpop = { mode: 'optional' };
      },
    });
  });
  after(() => gateway?.stop());

  const call = (token, proof, headers = {}) =>
    gateway.call(undefined, { authorization: `DPoP ${token}`, ...(proof && { dpop: proof }), ...headers });

  for (const algorithm of ['ES256', 'ES384', 'Ed25519', 'RS256', 'PS256']) {
    it(`${algorithm}: a bound token with its DPoP proof is exchanged`, async () => {
      const holder = await proofKey(algorithm);
      const token = await boundTo({ jkt: holder.thumbprint });
      const arrived = parts.mcp.requests.length;
      const answer = await call(token, await holder.proof({ method: 'POST', url: RESOURCE, token }));
      assert.equal(answer.status, 200, answer.text);
      const seen = parts.mcp.requests.at(-1);
      assert.equal(parts.mcp.requests.length, arrived + 1);
      assert.ok(!seen.headerNames.includes('dpop'));
      assert.ok(seen.identity, 'the server has verified a token of its own');
    });
  }

  it('a DPoP proof is accepted once in the whole process', async () => {
    const holder = await proofKey();
    const token = await boundTo({ jkt: holder.thumbprint });
    assert.equal((await call(token, await holder.proof({ method: 'POST', url: RESOURCE, token }))).status, 200);
    const proof = await holder.proof({ method: 'POST', url: RESOURCE, token });
    // Each request has its own connection: Envoy distributes them over its workers.
    const answers = await Promise.all(Array.from({ length: 24 }, () => call(token, proof, { connection: 'close' })));
    const good = answers.filter(({ status }) => status === 200);
    assert.equal(good.length, 1, answers.map(({ status }) => status).join(' '));
    for (const { json } of answers.filter((answer) => !good.includes(answer))) {
      assert.equal(json.reason, 'invalid_dpop_proof');
    }
  });

  it('the htu of a DPoP proof is the URL of the resource', async () => {
    const holder = await proofKey();
    const token = await boundTo({ jkt: holder.thumbprint });
    const at = async (url, headers) => call(token, await holder.proof({ method: 'POST', url, token }), headers);
    assert.equal((await at(`https://${MCP_HOST.toUpperCase()}:443/mcp?x=1`)).status, 200);
    const forwarded = { 'x-forwarded-host': 'evil.example', 'x-forwarded-proto': 'http' };
    assert.equal((await at(RESOURCE, forwarded)).status, 200);
    assert.equal((await at('http://evil.example/mcp', forwarded)).json.reason, 'invalid_dpop_proof');
    assert.equal((await at(`http://${MCP_HOST}/mcp`)).json.reason, 'invalid_dpop_proof');
  });

  it('two DPoP proofs get 401, in two fields and in one', async () => {
    const holder = await proofKey();
    const token = await boundTo({ jkt: holder.thumbprint });
    const proofs = await Promise.all([1, 2].map(() => holder.proof({ method: 'POST', url: RESOURCE, token })));
    assert.equal((await call(token, proofs.join(', '))).json.reason, 'invalid_dpop_proof');
    const headers = ['authorization', `DPoP ${token}`, 'dpop', proofs[0], 'dpop', proofs[1]];
    assert.equal((await gateway.send({ method: 'POST', headers })).json.reason, 'invalid_dpop_proof');
  });

  it('a DPoP proof of another token or another key gets 401', async () => {
    const [holder, thief] = await Promise.all([proofKey(), proofKey()]);
    const token = await boundTo({ jkt: holder.thumbprint });
    const of = (key, change) => key.proof({ method: 'POST', url: RESOURCE, token, ...change });
    for (const proof of [await of(thief), await of(holder, { token: 'another' }), await of(holder, { method: 'GET' })]) {
      assert.equal((await call(token, proof)).json.reason, 'invalid_dpop_proof');
    }
  });

  it('the metadata and the challenge advertise DPoP', async () => {
    const { json } = await gateway.send({ path: METADATA_PATH });
    assert.ok(json.dpop_signing_alg_values_supported.includes('ES256'));
    const { headers } = await gateway.call(undefined);
    assert.match(headers['www-authenticate'], /^Bearer .*, DPoP algs="ES256 /);
  });

  it('the module never trapped, and no secret is visible', () => assertSoundAndSilent(gateway));
});

describe('client certificates', () => {
  let gateway;
  const authority = throwAwayAuthority();
  const [server, alices, bobs] = [[MCP_HOST], ['alice.example'], ['bob.example']].map((names) => authority.issue(names));
  before(async () => {
    gateway = await startGateway(parts, {
      change: (filter, bootstrap) => {
        filter.resources[0].certificate_bound_tokens = 'optional';
        const [chain] = bootstrap.static_resources.listeners[0].filter_chains;
        const inline = (text) => ({ inline_string: text });
        secrets.add(server.key);
        chain.transport_socket = {
          name: 'envoy.transport_sockets.tls',
          typed_config: {
            '@type': 'type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext',
            common_tls_context: {
              tls_certificates: [{ certificate_chain: inline(server.cert), private_key: inline(server.key) }],
              validation_context: { trusted_ca: inline(authority.certificate) },
            },
          },
        };
      },
    });
  });
  after(() => gateway?.stop());

  /** Returns status and reason of a tool call over TLS. */
  async function call(token, client) {
    const body = JSON.stringify({ jsonrpc: '2.0', id: 1, method: 'tools/call', params: { name: 'whoami', arguments: {} } });
    const options = {
      host: '127.0.0.1',
      port: gateway.envoy.port,
      path: '/mcp',
      method: 'POST',
      servername: MCP_HOST,
      ca: authority.certificate,
      ...(client && { cert: client.cert, key: client.key }),
      headers: {
        host: MCP_HOST,
        authorization: `Bearer ${token}`,
        'content-type': 'application/json',
        accept: 'application/json, text/event-stream',
      },
    };
    const response = await new Promise((resolve, reject) => {
      request(options, resolve).once('error', reject).end(body);
    });
    let text = '';
    for await (const chunk of response) text += chunk;
    answers.add(`${response.rawHeaders.join('\n')}\n${text}`);
    return response.statusCode === 200 ? 200 : JSON.parse(text).reason;
  }

  it('a certificate-bound token is accepted with its certificate only', async () => {
    const { raw } = new X509Certificate(alices.cert);
    const digest = createHash('sha256').update(raw).digest('base64url');
    const token = await boundTo({ 'x5t#S256': digest });
    assert.equal(await call(token, alices), 200);
    assert.equal(await call(token, bobs), 'wrong_certificate');
    assert.equal(await call(token), 'wrong_certificate');
    assert.equal(await call(alice.accessToken), 200, 'one that is not bound needs none');
  });

  it('the module never trapped', async () => assert.deepEqual(await gateway.envoy.traps(), []));
});
