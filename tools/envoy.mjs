// Starts Envoy with a configuration given as an object, waits until it serves, and ends it again.
import { spawn } from 'node:child_process';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { setTimeout as delay } from 'node:timers/promises';
import net from 'node:net';

const checkout = fileURLToPath(new URL('..', import.meta.url));
const ENVOY = process.env.ENVOY ?? join(checkout, '.tools/bin/envoy');

/** A port of the loopback interface that nobody listens on now. */
export async function freePort() {
  const server = net.createServer();
  await new Promise((resolve, reject) => server.once('error', reject).listen(0, '127.0.0.1', resolve));
  const { port } = server.address();
  await new Promise((resolve) => server.close(resolve));
  return port;
}

/** Polls `condition` until it gives something truthy, and returns that. Throws, saying what it waited for, after `seconds`. */
export async function until(what, condition, seconds = 30) {
  const deadline = Date.now() + seconds * 1000;
  for (;;) {
    const found = await condition();
    if (found) return found;
    if (Date.now() > deadline) throw new Error(`${what}: not within ${seconds} s`);
    await delay(20);
  }
}

/**
 * Starts Envoy. `config` is a bootstrap configuration without `admin`; the rest is optional: `concurrency`, `cpu` (pins
 * the process to one core), `env` (added to the environment).
 */
export async function startEnvoy(config, { concurrency = 1, cpu, env = {} } = {}) {
  const folder = await mkdtemp(join(tmpdir(), 'onbehalf-envoy-'));
  const adminAddress = join(folder, 'admin');
  const configPath = join(folder, 'envoy.json');
  await writeFile(configPath, JSON.stringify({ admin: { address: address(0) }, ...config }));

  const command = [ENVOY, '--config-path', configPath, '--concurrency', String(concurrency), '--log-level', 'warning',
    '--component-log-level', 'wasm:info', '--disable-hot-restart', '--admin-address-path', adminAddress];
  if (cpu !== undefined) command.unshift('taskset', '--cpu-list', String(cpu));
  const envoy = spawn(command[0], command.slice(1), { stdio: ['ignore', 'ignore', 'pipe'], env: { ...process.env, ...env } });
  let log = '';
  envoy.stderr.setEncoding('utf8').on('data', (text) => { log = (log + text).slice(-200_000); });
  let ended = false;
  const exit = new Promise((resolve) => envoy.once('error', (error) => { log += `${error}\n`; }).once('close', resolve))
    .then(() => { ended = true; });
  const killWithParent = () => envoy.kill('SIGKILL');
  process.once('exit', killWithParent);

  async function stop() {
    envoy.kill('SIGTERM');
    await Promise.race([exit, delay(5000, undefined, { ref: false }).then(() => envoy.kill('SIGKILL'))]);
    await exit;
    process.removeListener('exit', killWithParent);
    await rm(folder, { recursive: true, force: true });
  }

  async function admin(path) {
    const response = await fetch(`http://${(await readFile(adminAddress, 'utf8')).trim()}${path}`);
    return response.text();
  }

  try {
    await until('Envoy serves', async () => {
      if (ended) throw new Error('Envoy ended');
      return admin('/ready').then((text) => text.startsWith('LIVE'), () => false);
    });
  } catch (error) {
    await stop();
    throw new Error(`${error.message}\n${log}`);
  }

  return {
    pid: envoy.pid,
    admin,
    stop,
    log: () => log,
    /** The value of one counter or gauge; 0 where Envoy has not made it yet. */
    async stat(name) {
      const { stats } = JSON.parse(await admin(`/stats?format=json&filter=${encodeURIComponent(`^${name.replaceAll('.', '\\.')}$`)}`));
      return stats.find((stat) => stat.name === name)?.value ?? 0;
    },
  };
}

/** A loopback address as Envoy's configuration wants it. */
export function address(port) {
  return { socket_address: { address: '127.0.0.1', port_value: port } };
}

/** A listener that runs `filters` and then answers every request with 200 itself. */
export function listener(name, port, filters) {
  return {
    name,
    address: address(port),
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
              routes: [{ match: { prefix: '/' }, direct_response: { status: 200, body: { inline_string: 'ok' } } }],
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

/** The HTTP filter for a Wasm module on disk. `name` also keeps its VM apart from the others. */
export function wasmFilter(name, path, configuration, environment = []) {
  return {
    name,
    typed_config: {
      '@type': 'type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm',
      config: {
        name,
        failure_policy: 'FAIL_RELOAD',
        ...(configuration && { configuration: { '@type': 'type.googleapis.com/google.protobuf.Struct', value: configuration } }),
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

/** A cluster with one loopback endpoint. */
export function cluster(name, port) {
  return {
    name,
    type: 'STATIC',
    load_assignment: { cluster_name: name, endpoints: [{ lb_endpoints: [{ endpoint: { address: address(port) } }] }] },
  };
}
