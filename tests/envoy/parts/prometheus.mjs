// Prometheus on loopback that scrapes Envoys and evaluates rules several times a second.

import { spawn } from 'node:child_process';
import { copyFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { scratchFolder } from './envoy.mjs';
import { freePort } from './free-port.mjs';
import { until } from './until.mjs';

const OFTEN = '250ms';

/** Runs promtool of the same package: `{ok, output}`. */
export function promtool(...words) {
  return ended(spawn('promtool', words, { stdio: ['ignore', 'pipe', 'pipe'] }));
}

/** Starts Prometheus with a file of rules, for the admin interfaces of Envoys by their names. */
export async function startPrometheus(rules, targets) {
  const folder = scratchFolder();
  copyFileSync(rules, join(folder, 'rules.yaml'));
  const port = await freePort();
  const config = {
    global: { scrape_interval: OFTEN, scrape_timeout: OFTEN, evaluation_interval: OFTEN },
    rule_files: ['rules.yaml'],
    scrape_configs: [{
      job_name: 'envoy',
      metrics_path: '/stats/prometheus',
      static_configs: Object.entries(targets).map(([name, envoy]) => ({ targets: [envoy.admin], labels: { instance: name } })),
    }],
  };
  // JSON is YAML.
  writeFileSync(join(folder, 'prometheus.yaml'), JSON.stringify(config));
  const child = spawn(
    'prometheus',
    [
      `--config.file=${join(folder, 'prometheus.yaml')}`,
      `--storage.tsdb.path=${join(folder, 'data')}`,
      `--web.listen-address=127.0.0.1:${port}`,
      '--log.level=warn',
    ],
    { stdio: ['ignore', 'pipe', 'pipe'] },
  );
  const end = () => child.kill('SIGKILL');
  process.on('exit', end);
  let alive = true;
  const exited = ended(child).then((result) => {
    alive = false;
    return result;
  });
  const get = async (path) => {
    if (!alive) throw new Error(`Prometheus ended: ${(await exited).output}`);
    const response = await fetch(`http://127.0.0.1:${port}/api/v1/${path}`);
    const { data, error } = await response.json();
    if (error) throw new Error(error);
    return data;
  };
  const query = async (expression) => (await get(`query?query=${encodeURIComponent(expression)}`)).result;
  const isUp = async () => (await query('up == 1').catch(() => [])).length === Object.keys(targets).length;
  await until(isUp, 'Prometheus scrapes every target', 30);
  return {
    /** Results of an expression: `{metric, value}` for each. */
    query,
    /** Alerts whose expression is true, as `name of an instance`. */
    async alerts() {
      const { alerts } = await get('alerts');
      return alerts.map(({ labels }) => `${labels.alertname} of ${labels.instance}`).sort();
    },
    async stop() {
      end();
      await exited;
      process.off('exit', end);
    },
  };
}

async function ended(child) {
  let output = '';
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (chunk) => (output += chunk));
  const code = await new Promise((resolve) => child.on('error', (error) => resolve(error.message)).on('close', resolve));
  return { ok: code === 0, output: `${output}${code}` };
}
