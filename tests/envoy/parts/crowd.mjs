// Scene for crowds that wait: one Envoy, whose listeners change while it runs. All of them run the filter in the same VM of each
// worker, so that a trap in one of them cuts the streams of all.

import { renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { connectCrowd, HOST, openEventStream } from './crowd-client.mjs';
import { startCrowdProvider, UPSTREAM_AUDIENCE } from './crowd-provider.mjs';
import { startCrowdUpstream } from './crowd-upstream.mjs';
import { MODULE, scratchFolder, startEnvoy } from './envoy.mjs';
import { freePort } from './free-port.mjs';
import { until } from './until.mjs';

const FOREIGN_MODULE = fileURLToPath(new URL('../../../target/foreign_filter.wasm', import.meta.url));
const EXTENSIONS = 'type.googleapis.com/envoy.extensions';
const STRING = 'type.googleapis.com/google.protobuf.StringValue';
const address = (port) => ({ socket_address: { address: '127.0.0.1', port_value: port } });
const typed = (name, type, fields = {}) => ({ name, typed_config: { '@type': `${EXTENSIONS}.${type}`, ...fields } });
/** A connection has room for a whole crowd: several connections would lose the order. */
const http2 = { max_concurrent_streams: 4096 };
const http = (name, type, fields) => typed(name, `filters.http.${type}`, fields);

/** Entry of `http_filters` for a Wasm module. Entries of one module share one VM. */
const wasm = (name, module, configuration, environment = []) =>
  http(name, 'wasm.v3.Wasm', {
    config: {
      name,
      failure_policy: 'FAIL_RELOAD',
      vm_config: {
        vm_id: name,
        runtime: 'envoy.wasm.runtime.v8',
        code: { local: { filename: module } },
        environment_variables: { host_env_keys: environment },
      },
      configuration: { '@type': STRING, value: configuration },
    },
  });

/** Filters behind onbehalf, each of which acts on requests and on answers. */
const neighbours = () => [
  http('header_mutation', 'header_mutation.v3.HeaderMutation', {
    mutations: {
      request_mutations: [{ append: { header: { key: 'x-subject', value: '%FILTER_STATE(wasm.onbehalf.subject:PLAIN)%' } } }],
      response_mutations: [{ append: { header: { key: 'x-served-by', value: 'a gateway' } } }],
    },
  }),
  http('cors', 'cors.v3.Cors'),
  http('compressor', 'compressor.v3.Compressor', {
    response_direction_config: { common_config: { min_content_length: 1 } },
    compressor_library: typed('gzip', 'compression.gzip.compressor.v3.Gzip'),
  }),
  http('lua', 'lua.v3.Lua', {
    default_source_code: {
      inline_string:
        'function envoy_on_request(handle) handle:headers():add("x-lua", "1") end\n' +
        'function envoy_on_response(handle) handle:headers():add("x-lua", handle:headers():get(":status")) end',
    },
  }),
  http('buffer', 'buffer.v3.Buffer', { max_request_bytes: 65536 }),
  wasm('foreign', FOREIGN_MODULE, 'pass'),
];

const CORS = {
  cors: { '@type': `${EXTENSIONS}.filters.http.cors.v3.CorsPolicy`, allow_origin_string_match: [{ safe_regex: { regex: '.*' } }] },
};

function listener(name, port, configuration, { hasNeighbours }) {
  const route = (prefix, cluster) => ({ match: { prefix }, route: { cluster, timeout: '0s' } });
  return {
    '@type': 'type.googleapis.com/envoy.config.listener.v3.Listener',
    name,
    stat_prefix: name,
    // The port is not zero: Envoy would reuse the socket of a removed listener for all later ones.
    address: address(port),
    // Envoy gives each worker the same number of connections.
    connection_balance_config: { exact_balance: {} },
    filter_chains: [{
      filters: [typed('http', 'filters.network.http_connection_manager.v3.HttpConnectionManager', {
        stat_prefix: name,
        http2_protocol_options: http2,
        route_config: {
          virtual_hosts: [{
            name,
            domains: ['*'],
            ...(hasNeighbours && { typed_per_filter_config: CORS }),
            routes: [
              route('/mcp/empty', 'empty'),
              route('/mcp/unhealthy', 'unhealthy'),
              { match: { prefix: '/mcp/direct' }, direct_response: { status: 418, body: { inline_string: '{}' } } },
              route('/', 'upstream'),
            ],
          }],
        },
        http_filters: [
          wasm('onbehalf', MODULE, JSON.stringify(configuration), ['CROWD_SECRET']),
          ...(hasNeighbours ? neighbours() : []),
          http('envoy.filters.http.router', 'router.v3.Router'),
        ],
      })],
    }],
  };
}

/**
 * Number of calls that Envoy lets out to `provider-few-calls`. It has room for a key fetch of each worker and of the main thread: a
 * worker whose requests wait for two seconds for the fetch of another thread fetches as well.
 */
export const MOST_CALLS = 8;
const MANY = { max_connections: 100_000, max_pending_requests: 100_000, max_requests: 100_000 };
const protocol = (version, common) => ({
  typed_extension_protocol_options: {
    'envoy.extensions.upstreams.http.v3.HttpProtocolOptions': {
      '@type': `${EXTENSIONS}.upstreams.http.v3.HttpProtocolOptions`,
      explicit_http_config: { [`${version}_protocol_options`]: version === 'http2' ? http2 : {} },
      ...(common && { common_http_protocol_options: common }),
    },
  },
});
const cluster = (name, ports, fields, thresholds = MANY) => ({
  name,
  type: 'STATIC',
  connect_timeout: '5s',
  load_assignment: { cluster_name: name, endpoints: [{ lb_endpoints: ports.map((port) => ({ endpoint: { address: address(port) } })) }] },
  circuit_breakers: { thresholds: [thresholds] },
  ...fields,
});
/** Unhealthy endpoints get no requests, even if all are unhealthy; workers learn of changes at once. */
const healthChecked = (path) => ({
  common_lb_config: { healthy_panic_threshold: { value: 0 }, update_merge_window: '0s' },
  health_checks: [{
    timeout: '1s',
    interval: '0.05s',
    no_traffic_interval: '0.05s',
    unhealthy_threshold: 1,
    healthy_threshold: 1,
    http_health_check: { path, codec_client_type: 'HTTP2' },
  }],
});

/**
 * Starts Envoy with this many workers, with or without other filters behind onbehalf, in front of an upstream and with two
 * providers.
 */
export async function startCrowdScene({ workers, hasNeighbours = false }) {
  const provider = await startCrowdProvider();
  const upstream = await startCrowdUpstream(provider);
  const file = join(scratchFolder(), 'listeners.json');
  const write = (listeners) => {
    writeFileSync(`${file}.new`, JSON.stringify({ resources: listeners }));
    renameSync(`${file}.new`, file);
  };
  const calm = listener('calm', await freePort(), configurationOf(provider.place('calm')), { hasNeighbours });
  write([calm]);
  const envoy = await startEnvoy(
    {
      node: { id: 'crowd', cluster: 'crowd' },
      admin: { address: address(0) },
      dynamic_resources: { lds_config: { path_config_source: { path: file }, resource_api_version: 'V3' } },
      static_resources: {
        clusters: [
          cluster('upstream', [upstream.port], protocol('http2')),
          cluster('empty', []),
          cluster('unhealthy', [provider.http2Port], { ...protocol('http2'), ...healthChecked('/health/never') }),
          cluster('provider', [provider.http2Port], protocol('http2')),
          cluster('provider-changing', [provider.http2Port], { ...protocol('http2'), ...healthChecked('/health/changing') }),
          cluster('provider-refusing', [provider.port], protocol('http', { max_requests_per_connection: 1 })),
          cluster('provider-few-calls', [provider.http2Port], protocol('http2'), { ...MANY, max_requests: MOST_CALLS }),
        ],
      },
    },
    { concurrency: workers, env: { CROWD_SECRET: provider.secret } },
  );
  const scene = new Scene({ envoy, provider, upstream, workers, hasNeighbours, write, always: calm });
  scene.calm = { name: 'calm', port: envoy.port };
  await scene.servesEverywhere(scene.calm);
  return scene;
}

/** Configuration with the providers of a place, and one resource. */
export function configurationOf(place, { providers = ['one'], provider: changes = {}, exchange, ...rest } = {}) {
  return {
    identity_providers: Object.fromEntries(providers.map((name) => [name, place.configuration(name, changes)])),
    resources: [{
      url: `https://${HOST}/mcp`,
      exchange: Object.fromEntries(providers.map((name) => [name, exchange ?? { audience: UPSTREAM_AUDIENCE }])),
    }],
    unauthenticated_paths: ['/mcp/open/events'],
    ...rest,
  };
}

class Scene {
  #listeners = 0;
  #newcomers = 0;
  #reported = 0;

  constructor(parts) {
    Object.assign(this, parts);
  }

  /** Opens a listener for each configuration, in place of the former ones: `{name, port}`. */
  async listen(...configurations) {
    const added = [];
    for (const configuration of configurations) {
      this.#listeners += 1;
      added.push(listener(`crowd${this.#listeners}`, await freePort(), configuration, this));
    }
    this.write([this.always, ...added]);
    await until(async () => {
      const { listener_statuses: there } = JSON.parse(await this.envoy.get('/listeners?format=json'));
      return added.every(({ name }) => there.some((listener) => listener.name === name));
    }, 'the listeners are there');
    return added.map((listener) => ({ name: listener.name, port: listener.address.socket_address.port_value }));
  }

  connect(port, version) {
    return connectCrowd(port, version, this.workers);
  }

  /** Waits until a listener has exactly this many open requests. */
  isActive({ name }, count) {
    return this.#gauge(`http.${name}.downstream_rq_active`, count);
  }

  /** Waits until a listener has exactly this many connections. */
  hasConnections({ name }, count) {
    return this.#gauge(`http.${name}.downstream_cx_active`, count);
  }

  /** Throws if the workers have different numbers of connections of a listener. */
  async expectEqualShares({ name }) {
    const connections = await this.envoy.stats(`^listener\\.${name}\\.worker_\\d+\\.downstream_cx_active$`);
    if (Object.keys(connections).length !== this.workers || new Set(Object.values(connections)).size !== 1) {
      throw new Error(`workers do not have equal shares: ${JSON.stringify(connections)}`);
    }
  }

  async #gauge(name, value) {
    let seen;
    const look = async () => (seen = await this.envoy.stat(name)) === value;
    await until(look, `${name} is ${value}`).catch((error) => {
      throw new Error(`${error.message}; it is ${seen}`);
    });
  }

  /** Waits until a cluster has this many healthy endpoints. */
  hasHealthy(cluster, count) {
    return this.#gauge(`cluster.${cluster}.membership_healthy`, count);
  }

  /**
   * Opens two streams of events in each worker: one on an unauthenticated path of a listener, and one with the token of a user at the calm
   * listener.
   */
  async openEventStreams({ port }) {
    const user = 'listener';
    const headers = { authorization: `Bearer ${this.provider.token(user)}`, 'x-expected-user': user };
    const streams = [];
    // The streams open one after the other: else one worker could get two.
    for (let worker = 0; worker < this.workers; worker += 1) {
      streams.push(await openEventStream(port, { path: '/mcp/open/events' }));
      streams.push(await openEventStream(this.calm.port, { path: '/mcp/events', headers }));
    }
    return streams;
  }

  /** Waits until each worker serves a new user of a provider at a listener. */
  async servesEverywhere({ name, port }, { provider, within = 20 } = {}) {
    const connections = `http.${name}.downstream_cx_active`;
    const before = await this.envoy.stat(connections);
    const crowd = await this.connect(port, 'HTTP/2');
    this.#newcomers += 1;
    const user = `newcomer${this.#newcomers}`;
    const headers = { authorization: `Bearer ${this.provider.token(user, provider)}`, 'x-expected-user': user };
    try {
      for (let worker = 0; worker < this.workers; worker += 1) {
        let last;
        const served = async () => (last = await crowd.send(worker, { path: '/mcp', headers })).status === 200;
        await until(served, 'a newcomer is served', within).catch((error) => {
          throw new Error(`${error.message}; the last answer was ${JSON.stringify(last)}`);
        });
      }
    } finally {
      crowd.leave();
      // The next connections are distributed evenly only after these are closed.
      await this.#gauge(connections, before);
    }
  }

  /** Traps since the last call. The next request in a VM that has trapped finds and counts the trap. */
  async newTraps() {
    const stats = await this.envoy.stats('vm_reload');
    const count = Object.values(stats).reduce((sum, value) => sum + value, 0);
    const lines = this.envoy.log.match(/^.*Function: \w+ failed.*$/gm) ?? [];
    const reported = count + lines.length;
    const found = reported - this.#reported;
    this.#reported = reported;
    return found === 0 ? [] : [`counters of reloads: ${JSON.stringify(stats)}`, ...lines.slice(-1)];
  }

  async stop() {
    await this.envoy.stop();
    await Promise.all([this.provider.stop(), this.upstream.stop()]);
  }
}
