// Envoy process: started on free ports, watched, and always stopped.

import { spawn } from 'node:child_process';
import { appendFileSync, existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { leaksOf, secrets, seenIn } from './leaks.mjs';
import { until } from './until.mjs';

const CHECKOUT = fileURLToPath(new URL('../../../', import.meta.url));
export const ENVOY = process.env.ENVOY ?? join(CHECKOUT, '.tools/bin/envoy');
export const MODULE = process.env.ONBEHALF_WASM ?? join(CHECKOUT, 'target/onbehalf.wasm');

const running = new Set();
const folders = new Set();
function cleanUp() {
  for (const child of running) child.kill('SIGKILL');
  for (const folder of folders) rmSync(folder, { recursive: true, force: true });
}
process.on('exit', cleanUp);
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) {
  process.on(signal, () => process.exit(process.exitCode ?? 130));
}

/** Makes a folder that is removed at the end of the process. */
export function scratchFolder() {
  const folder = mkdtempSync(join(tmpdir(), 'onbehalf-'));
  folders.add(folder);
  return folder;
}

function newFolder(config) {
  if (!existsSync(MODULE)) throw new Error(`${MODULE} is missing: run make build first`);
  const folder = scratchFolder();
  const file = join(folder, typeof config === 'string' ? 'envoy.yaml' : 'envoy.json');
  writeFileSync(file, typeof config === 'string' ? config : JSON.stringify(config));
  return { folder, file };
}

function forget(folder) {
  rmSync(folder, { recursive: true, force: true });
  folders.delete(folder);
}

/** Runs `envoy --mode validate`: `{ok, output}`. */
export async function validate(config, env = {}) {
  const { folder, file } = newFolder(config);
  keepSecret(env);
  const child = spawn(ENVOY, ['--mode', 'validate', '-c', file], { env });
  running.add(child);
  let output = '';
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (chunk) => (output += chunk));
  const status = await new Promise((resolve) => child.on('close', resolve));
  running.delete(child);
  forget(folder);
  complainOf(seenIn({ operator: { output } }).found);
  return { ok: status === 0, output };
}

/**
 * Starts Envoy with a bootstrap configuration (an object, or YAML text) whose admin interface and first listener have port 0,
 * and waits until it accepts requests. The values of `env` are secrets. `exposes`: secrets that a test shows on purpose.
 */
export async function startEnvoy(config, { env = {}, concurrency = 1, exposes = [] } = {}) {
  keepSecret(env);
  const { folder, file } = newFolder(config);
  const adminFile = join(folder, 'admin');
  const child = spawn(
    ENVOY,
    [
      ...['-c', file, '--concurrency', String(concurrency), '--admin-address-path', adminFile],
      ...['--disable-hot-restart', '--drain-time-s', '1', '--log-level', 'info'],
      // The default interval of access logs is ten seconds.
      ...['--file-flush-interval-msec', '100'],
    ],
    { env, stdio: ['ignore', 'pipe', 'pipe'] },
  );
  running.add(child);
  const envoy = new Envoy(child, folder);
  envoy.exposes = exposes;
  try {
    envoy.admin = await until(() => envoy.alive() && readIfThere(adminFile), 'Envoy starts', 60);
    await until(async () => envoy.alive() && (await envoy.isReady()), 'Envoy is ready', 60);
    const listeners = JSON.parse(await envoy.get('/listeners?format=json'));
    envoy.port = listeners.listener_statuses[0].local_address.socket_address.port_value;
  } catch (error) {
    await envoy.stop();
    throw new Error(`${error.message}\n${envoy.lastLines()}`);
  }
  return envoy;
}

class Envoy {
  constructor(child, folder) {
    this.log = '';
    this.pid = child.pid;
    this.child = child;
    this.folder = folder;
    this.exited = new Promise((resolve) => {
      child.on('exit', (code, signal) => {
        running.delete(child);
        this.end = signal ?? code;
        resolve();
      });
    });
    this.logFile = join(folder, 'envoy.log');
    const keep = (chunk) => {
      this.log += chunk;
      if (existsSync(folder)) appendFileSync(this.logFile, chunk);
    };
    child.stdout.on('data', keep);
    child.stderr.on('data', keep);
  }

  /** Last lines of the log, without the lists of header maps. */
  lastLines(count = 15) {
    const lines = this.log.trimEnd().split('\n').filter((line) => !/header map|trailer map/.test(line));
    return lines.slice(-count).join('\n');
  }

  alive() {
    if (this.end !== undefined) throw new Error(`Envoy ended (${this.end})`);
    return true;
  }

  async isReady() {
    try {
      return (await this.get('/ready')).startsWith('LIVE');
    } catch {
      return false;
    }
  }

  /** Page of the admin interface. */
  async get(path) {
    const response = await fetch(`http://${this.admin}${path}`);
    return response.text();
  }

  prometheus() {
    return this.get('/stats/prometheus');
  }

  configDump() {
    return this.get('/config_dump');
  }

  /** Counters and gauges with a matching name, as an object. */
  async stats(pattern = '') {
    const text = await this.get(`/stats?filter=${encodeURIComponent(pattern)}`);
    const lines = text.split('\n').map((line) => line.split(': '));
    return Object.fromEntries(lines.filter(([, v]) => /^\d+$/.test(v)).map(([k, v]) => [k, Number(v)]));
  }

  /** Value of a counter or a gauge, or undefined. */
  async stat(name) {
    return (await this.stats(`^${name.replaceAll('.', '\\.')}$`))[name];
  }

  /** Traps of the module in counters and log; empty if it never trapped. */
  async traps() {
    const stats = await this.stats('^wasm\\.');
    const counted = Object.entries(stats).filter(([name, v]) => /vm_reload|fail/.test(name) && v > 0);
    const logged = this.log.match(/^.*(Uncaught \w*Error|panicked|wasm log .*panic|VM .*fail|Wasm VM failed).*$/gim);
    return [...counted.map(([name, value]) => `${name}: ${value}`), ...(logged ?? [])];
  }

  /** Stops Envoy, after a search for secrets in all that it shows. */
  async stop() {
    if (this.end === undefined) {
      if (this.port) complainOf((await leaksOf(this, this.exposes)).found);
      this.child.kill('SIGTERM');
      const timer = setTimeout(() => this.child.kill('SIGKILL'), 5000);
      await this.exited;
      clearTimeout(timer);
    }
    forget(this.folder);
  }
}

function keepSecret(env) {
  for (const value of Object.values(env)) secrets.add(value);
}

/** Makes the run fail without an exception, because callers wait for the stop. */
function complainOf(found) {
  if (Object.keys(found).length === 0) return;
  console.error(`secrets can be seen: ${JSON.stringify(found)}`);
  process.exitCode = 1;
}

function readIfThere(file) {
  try {
    return readFileSync(file, 'utf8').trim();
  } catch {
    return '';
  }
}
