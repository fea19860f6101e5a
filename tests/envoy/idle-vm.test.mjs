// VM of the main thread: it gets no requests, fetches keys as early as the workers, and always fails here, because Envoy
// connects to an internal listener on worker threads only.

import assert from 'node:assert/strict';
import { after, before, it } from 'node:test';
import { assertSoundAndSilent } from './parts/expect.mjs';
import { neverAnswers } from './parts/faults.mjs';
import { startGateway, startParts } from './parts/gateway.mjs';
import { signIn } from './parts/login.mjs';
import { until } from './parts/until.mjs';

const STARTS = 4;
let parts;
before(async () => {
  parts = await startParts();
});
after(() => parts?.stop());

/** Puts an internal listener between the cluster of a provider and the provider. */
function throughAnInternalListener(_filter, bootstrap) {
  const { listeners, clusters } = bootstrap.static_resources;
  const cluster = clusters.find(({ name }) => name === 'okta');
  const [{ endpoint }] = cluster.load_assignment.endpoints[0].lb_endpoints;
  clusters.push({
    name: 'okta_itself',
    type: 'STATIC',
    load_assignment: { cluster_name: 'okta_itself', endpoints: [{ lb_endpoints: [{ endpoint: { ...endpoint } }] }] },
  });
  endpoint.address = { envoy_internal_address: { server_listener_name: 'to_okta', endpoint_id: 'okta' } };
  cluster.type = 'STATIC';
  delete cluster.dns_lookup_family;
  const proxy = 'type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy';
  listeners.push({
    name: 'to_okta',
    internal_listener: {},
    filter_chains: [
      {
        filters: [
          {
            name: 'envoy.filters.network.tcp_proxy',
            typed_config: { '@type': proxy, stat_prefix: 'to_okta', cluster: 'okta_itself' },
          },
        ],
      },
    ],
  });
  bootstrap.bootstrap_extensions = [
    {
      name: 'envoy.bootstrap.internal_listener',
      typed_config: {
        '@type': 'type.googleapis.com/envoy.extensions.bootstrap.internal_listener.v3.InternalListener',
      },
    },
  ];
}

const start = (concurrency) => startGateway(parts, { recipe: 'okta', concurrency, change: throughAnInternalListener });

for (const workers of [1, 4]) {
  it(`a request at ${workers} workers is served if the main thread fails`, async () => {
    // The main thread fetches first in most starts; only those starts count.
    for (let starts = 0, failed = 0; failed < STARTS; starts += 1) {
      assert.ok(starts < 4 * STARTS, 'the main thread does not look first');
      const gateway = await start(workers);
      try {
        const { accessToken } = await signIn(parts.okta, `user${workers}${starts}@acme.example`);
        const hasFailed = () => gateway.envoy.log.includes('event=jwks_fetch_failed');
        const refreshes = () => gateway.count('jwks_refreshes.provider.okta.outcome.ok');
        await until(async () => hasFailed() || (await refreshes()) > 0, 'somebody has looked');
        failed += hasFailed() ? 1 : 0;
        const answer = await gateway.call(accessToken);
        assert.equal(answer.status, 200, answer.text);
        await gateway.expectCount('jwks_refreshes.provider.okta.outcome.ok', 1);
        await assertSoundAndSilent(gateway);
      } finally {
        await gateway.stop();
      }
    }
  });
}

it('a hanging callout of an idle VM delays first requests by two seconds', async () => {
  const { discovery } = parts.okta.signIn.counts;
  // The fetch of the first VM gets no answer.
  const repair = parts.okta.signIn.fail('discovery', neverAnswers(), { times: 1 });
  const gateway = await startGateway(parts, { recipe: 'okta', concurrency: 4 });
  try {
    const { accessToken } = await signIn(parts.okta, 'patient@acme.example');
    await until(() => parts.okta.signIn.counts.discovery > discovery, 'somebody has asked for keys');
    const began = Date.now();
    // The first VM is mostly that of the main thread. If it is a worker, requests in the other workers are served.
    const answers = Array.from({ length: 16 }, () => gateway.call(accessToken));
    const good = await Promise.any(
      answers.map(async (answer) => ((await answer).status === 200 ? answer : Promise.reject(new Error('refused')))),
    );
    const took = Date.now() - began;
    assert.equal(good.status, 200);
    assert.ok(took < 8000, `${took} ms`);
    await Promise.all(answers);
  } finally {
    repair();
    await gateway.stop();
  }
});
