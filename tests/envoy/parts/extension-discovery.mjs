// Wasm filter whose configuration Envoy discovers in a file, as Istio's agent sends it (ECDS).

import { renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { scratchFolder } from './envoy.mjs';

const WASM = 'type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm';

/** Plugin configuration as text. */
export const stringValue = (filter) => ({
  '@type': 'type.googleapis.com/google.protobuf.StringValue',
  value: JSON.stringify(filter),
});

/**
 * Puts a filter with discovery in place of `onbehalf`. `change` edits its `config`. Returns a function that replaces the
 * configuration of the filter.
 */
export function discovered(filter, bootstrap, { name = 'onbehalf', change = () => {} } = {}) {
  const folder = scratchFolder();
  const path = join(folder, 'ecds.json');
  const [manager] = bootstrap.static_resources.listeners[0].filter_chains[0].filters;
  const { http_filters } = manager.typed_config;
  const at = http_filters.findIndex((one) => one.name === 'onbehalf');
  const { config } = http_filters[at].typed_config;
  change(config);
  /** Envoy watches the folder for renamed files. */
  const replace = (configuration) => {
    const resource = {
      '@type': 'type.googleapis.com/envoy.config.core.v3.TypedExtensionConfig',
      name,
      typed_config: { '@type': WASM, config: { ...config, configuration: stringValue(configuration) } },
    };
    writeFileSync(join(folder, 'new'), JSON.stringify({ resources: [resource] }));
    renameSync(join(folder, 'new'), path);
  };
  replace(filter);
  const config_source = { resource_api_version: 'V3', path_config_source: { path } };
  http_filters[at] = { name, config_discovery: { config_source, type_urls: [WASM] } };
  bootstrap.node = { id: 'gateway', cluster: 'gateway' };
  return replace;
}

/** Number of configurations that Envoy has refused. */
export async function rejected(envoy) {
  const stats = await envoy.stats('extension_config_discovery.*update_rejected$');
  return Object.values(stats).reduce((sum, count) => sum + count, 0);
}
