// Minimal Envoy configurations that run a filter.

/** Bootstrap configuration with the admin interface on a free port. */
export function bootstrap(listeners, clusters) {
  return { admin: { address: address(0) }, static_resources: { listeners, clusters } };
}

/** Ports of the listeners, by name. */
export async function ports(envoy) {
  const { listener_statuses: listeners } = JSON.parse(await envoy.get('/listeners?format=json'));
  return Object.fromEntries(listeners.map(({ name, local_address: local }) => [name, local.socket_address.port_value]));
}

/** Listener on a free port that runs `filters`, and then answers each request with 200 itself or forwards it to a cluster. */
export function listener(name, filters, upstream) {
  const end = upstream ? { route: { cluster: upstream } } : { direct_response: { status: 200, body: { inline_string: 'ok' } } };
  return {
    name,
    address: address(0),
    filter_chains: [{
      filters: [{
        name: 'envoy.filters.network.http_connection_manager',
        typed_config: {
          '@type': 'type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager',
          stat_prefix: name,
          normalize_path: true,
          merge_slashes: true,
          path_with_escaped_slashes_action: 'REJECT_REQUEST',
          route_config: {
            virtual_hosts: [{
              name,
              domains: ['*'],
              routes: [{ match: { prefix: '/' }, ...end }],
            }],
          },
          http_filters: [...filters, {
            name: 'envoy.filters.http.router',
            typed_config: { '@type': 'type.googleapis.com/envoy.extensions.filters.http.router.v3.Router' },
          }],
        },
      }],
    }],
  };
}

/** HTTP filter with a Wasm module from disk. `name` also separates its VM from the others. */
export function wasmFilter(name, path, configuration, environment = []) {
  return {
    name,
    typed_config: {
      '@type': 'type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm',
      config: {
        name,
        failure_policy: 'FAIL_RELOAD',
        ...(configuration && { configuration: { '@type': 'type.googleapis.com/google.protobuf.StringValue', value: JSON.stringify(configuration) } }),
        vm_config: {
          vm_id: name,
          runtime: 'envoy.wasm.runtime.v8',
          code: { local: { filename: path } },
          environment_variables: { host_env_keys: environment },
        },
      },
    },
  };
}

/** Cluster with one loopback endpoint. */
export function cluster(name, port) {
  return {
    name,
    type: 'STATIC',
    load_assignment: { cluster_name: name, endpoints: [{ lb_endpoints: [{ endpoint: { address: address(port) } }] }] },
  };
}

function address(port) {
  return { socket_address: { address: '127.0.0.1', port_value: port } };
}
