// Mistakes in the cluster of a provider: the log has the words with which Envoy answered the callout.

import assert from 'node:assert/strict';
import { createServer } from 'node:http';
import { createServer as createTcpServer } from 'node:net';
import { after, before, it } from 'node:test';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { throwAwayAuthority } from './parts/certificate.mjs';
import { scratchFolder } from './parts/envoy.mjs';
import { assertSoundAndSilent } from './parts/expect.mjs';
import { answers } from './parts/faults.mjs';
import { freePort } from './parts/free-port.mjs';
import { startGateway, startParts } from './parts/gateway.mjs';
import { listening } from './parts/listening.mjs';
import { signIn } from './parts/login.mjs';
import { until } from './parts/until.mjs';
import { needs } from './parts/version.mjs';

let parts;
before(async () => {
  parts = await startParts();
});
after(() => parts?.stop());

const tls = (cluster) => cluster.transport_socket.typed_config;
const moveTo = (cluster, port) => {
  cluster.load_assignment.endpoints[0].lb_endpoints[0].endpoint.address.socket_address.port_value = port;
};
const withoutTls = (cluster, port) => {
  delete cluster.transport_socket;
  if (port) moveTo(cluster, port);
};
const anotherAuthority = () => {
  const file = join(scratchFolder(), 'another.pem');
  writeFileSync(file, throwAwayAuthority().certificate);
  return file;
};
const http2 = {
  'envoy.extensions.upstreams.http.v3.HttpProtocolOptions': {
    '@type': 'type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions',
    explicit_http_config: { http2_protocol_options: {} },
  },
};

/** Runtime guard of Envoy that hides why TLS failed. */
const HIDES = 'envoy.reloadable_features.hide_transport_failure_reason_in_response_body';
const shownIn = (bootstrap) => {
  bootstrap.layered_runtime = { layers: [{ name: 'static', static_layer: { [HIDES]: false } }] };
};

/** Mistakes in the cluster, with the words in the log and the counter by which docs/troubleshooting.md tells them apart. */
const MISTAKES = [
  ['an authority that is not trusted', (cluster) => { tls(cluster).common_tls_context.validation_context.trusted_ca.filename = anotherAuthority(); }, /CERTIFICATE_VERIFY_FAILED/, 'ssl.fail_verify_error'],
  ['a wrong sni', (cluster) => { tls(cluster).sni = 'wrong.example'; }, /CERTIFICATE_VERIFY_FAILED/, 'ssl.fail_verify_san'],
  ['TLS to a plain port', (cluster, { plain }) => moveTo(cluster, plain), /WRONG_VERSION_NUMBER/, 'ssl.connection_error'],
  ['a port that refuses', (cluster, { closed }) => moveTo(cluster, closed), /delayed connect error: Connection refused|remote connection failure$/, 'upstream_cx_connect_fail'],
  ['HTTP/2 to a server without it', (cluster) => { cluster.typed_extension_protocol_options = http2; }, /NO_APPLICATION_PROTOCOL/, 'ssl.connection_error'],
  ['HTTP without TLS to a TLS port', (cluster) => withoutTls(cluster), /connection termination/, 'upstream_cx_destroy_remote_with_active_rq'],
  // Envoy answers these with 502: there is a connection, and what comes over it is not the protocol.
  ['HTTP/2 without TLS to a server without it', (cluster, { plain }) => { withoutTls(cluster, plain); cluster.typed_extension_protocol_options = http2; }, /protocol error/, 'upstream_cx_protocol_error'],
  ['a server of another protocol', (cluster, { mail }) => withoutTls(cluster, mail), /protocol error/, 'upstream_cx_protocol_error'],
];

for (const [name, make, words, counter] of MISTAKES) {
  it(`${name}: the log has the words of Envoy`, async () => {
    const plain = await listening(createServer((_request, response) => response.end()));
    const mail = await listening(createTcpServer((socket) => socket.on('error', () => {}).write('220 mail.example ESMTP\r\n')));
    const ports = { plain: plain.port, mail: mail.port, closed: await freePort() };
    const gateway = await startGateway(parts, {
      change: (_filter, bootstrap) => {
        shownIn(bootstrap);
        make(bootstrap.static_resources.clusters.find((cluster) => cluster.name === 'entra'), ports);
      },
    });
    try {
      const { accessToken } = await signIn(parts.entra, 'alice@contoso.example');
      const answer = await gateway.call(accessToken);
      assert.deepEqual([answer.status, answer.json.reason], [503, 'jwks_unavailable']);
      const line = await until(
        () => gateway.envoy.log.split('\n').find((line) => /event=\S+_failed provider=entra/.test(line)),
        'the failed callout is logged',
        10,
      );
      const [, said] = /envoy_reply="((?:[^"\\]|\\.)*)"/.exec(line) ?? assert.fail(line);
      assert.match(said, words);
      assert.doesNotMatch(answer.text, words);
      const counted = await gateway.envoy.stats(`^cluster\\.entra\\.${counter.replaceAll('.', '\\.')}$`);
      assert.ok(counted[`cluster.entra.${counter}`] > 0, JSON.stringify(counted));
      await assertSoundAndSilent(gateway);
    } finally {
      await gateway.stop();
      await plain.stop();
      await mail.stop();
    }
  });
}

it('by default, Envoy does not say why TLS failed', { skip: needs('1.39', 'the guard that hides why TLS failed') }, async () => {
  const gateway = await startGateway(parts, {
    change: (_filter, { static_resources: { clusters } }) => {
      const [, untrusted] = MISTAKES[0];
      untrusted(clusters.find((cluster) => cluster.name === 'entra'));
    },
  });
  try {
    const { accessToken } = await signIn(parts.entra, 'alice@contoso.example');
    assert.equal((await gateway.call(accessToken)).status, 503);
    const line = gateway.envoy.log.split('\n').find((line) => /event=\S+_failed provider=entra/.test(line));
    assert.match(line, /envoy_reply="upstream connect error[^"]* remote connection failure"/);
  } finally {
    await gateway.stop();
  }
});

it('a provider that sends the words of Envoy is not taken for Envoy', async () => {
  const gateway = await startGateway(parts);
  try {
    const { accessToken } = await signIn(parts.entra, 'copycat@contoso.example');
    const words = 'upstream connect error or disconnect/reset before headers. reset reason: protocol error';
    const repair = parts.entra.forMcp.fail('token', answers(502, words));
    try {
      assert.equal((await gateway.call(accessToken)).status, 503);
    } finally {
      repair();
    }
    const line = gateway.envoy.log.split('\n').find((line) => /event=exchanged .*provider=entra/.test(line));
    assert.match(line, / status=502/);
    assert.doesNotMatch(line, /envoy_reply|protocol error/);
  } finally {
    await gateway.stop();
  }
});
