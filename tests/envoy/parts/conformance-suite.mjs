// Runs of the server suite of @modelcontextprotocol/conformance, directly at its fixture and through Envoy with the filter. The
// suite's client sends no token, so a second Envoy stands before the gateway and adds one.

import { spawn } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { MCP_HOST } from './addresses.mjs';
import { startConformanceServer } from './conformance-server.mjs';
import { scratchFolder, startEnvoy } from './envoy.mjs';
import { startGateway } from './gateway.mjs';
import { putBehind } from './recorder.mjs';

const CONNECTION_MANAGER = 'envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager';
const PAGE = readFileSync(new URL('../../../docs/conformance.md', import.meta.url), 'utf8');
const ROUTER = 'envoy.extensions.filters.http.router.v3.Router';

class Suite {
  constructor(folder) {
    this.script = fileURLToPath(new URL(`../node_modules/${folder}/dist/index.js`, import.meta.url));
  }

  /** Standard output of a command of the suite. Its exit status is 1 both for a failed check and for a crash; `end` tells them apart. */
  #run(args, end) {
    return new Promise((resolve, reject) => {
      const child = spawn(process.execPath, [this.script, ...args], { stdio: ['ignore', 'pipe', 'pipe'] });
      const written = { stdout: '', stderr: '' };
      for (const name of ['stdout', 'stderr']) child[name].on('data', (chunk) => (written[name] += chunk));
      child.on('error', reject);
      child.on('close', () => {
        if (end.test(written.stdout)) return resolve(written.stdout);
        // A line of the suite's code has many thousand characters.
        const lines = `${written.stdout}\n${written.stderr}`.split('\n').map((line) => line.slice(0, 300));
        reject(new Error(`the suite ended early:\n${lines.slice(-25).join('\n')}`));
      });
    });
  }

  /** Names of the scenarios for servers of these revisions, or of all. */
  async scenarios(revision) {
    const listed = (await this.#run(['list', '--server'], /Server scenarios/)).matchAll(/^ +- (\S+) \[(.+)\]$/gm);
    return [...listed].filter(([, , revisions]) => !revision || revisions.split(',').includes(revision)).map(([, name]) => name).sort();
  }

  /** Runs all scenarios, of a revision if it is given: checks, in order, by scenario. */
  async run(url, revision) {
    const folder = scratchFolder();
    const only = revision ? ['--spec-version', revision] : [];
    await this.#run(['server', '--url', url, '--suite', 'all', '--output-dir', folder, ...only], /^Total: \d+ passed/m);
    const scenarios = readdirSync(folder).map((run) => {
      const [, name] = /^server-(.+)-\d{4}-\d\d-\d\dT[\d-]+Z$/.exec(run);
      return [name, JSON.parse(readFileSync(join(folder, run, 'checks.json'), 'utf8'))];
    });
    return Object.fromEntries(scenarios.sort(([a], [b]) => (a < b ? -1 : 1)));
  }
}

export const RELEASED = new Suite('@modelcontextprotocol/conformance');
export const NEXT = new Suite('conformance-next');

/** One line for each check of a run: scenario, ID, name and status. */
export const linesOf = (run) =>
  Object.entries(run).flatMap(([scenario, checks]) => checks.map(({ id, name, status }) => `${scenario}: ${id} ${name} ${status}`));

const isBad = (line) => / (FAILURE|WARNING)$/.test(line);

/** Scenarios of a run in which a check fails or warns. */
export const failedIn = (run) => Object.keys(run).filter((name) => linesOf({ [name]: run[name] }).some(isBad));

/** Returns `true` if the table of docs/conformance.md has this run at the MCP server: scenarios, and checks that pass and fail. */
export function isDocumented(suite, revision, run) {
  const lines = linesOf(run);
  const passed = lines.filter((line) => line.endsWith(' SUCCESS')).length;
  const row = `| ${suite} | ${revision} | ${Object.keys(run).length} | ${passed} | ${lines.filter(isBad).length} |`;
  if (PAGE.includes(`\n${row}\n`)) return true;
  console.error(`docs/conformance.md does not have: ${row}`);
  return false;
}

/** Lines of one run that are not in another, as often as they are missing there. */
function without(lines, others) {
  const left = [...others];
  return lines.filter((line) => {
    const at = left.indexOf(line);
    if (at >= 0) left.splice(at, 1);
    return at < 0;
  });
}

/** Checks that are worse in the second run: what passed no longer does, or what fails did not fail before. */
export function worse(direct, through) {
  const [before, after] = [linesOf(direct), linesOf(through)];
  return {
    gone: without(before.filter((line) => !isBad(line)), after),
    failing: without(after.filter(isBad), before),
  };
}

/**
 * Starts an MCP server and runs `use(url)` with the address at which the suite reaches it through Envoy with the filter. `accepts`
 * rejects for a token that is not for the server. Returns the MCP server, which is stopped, `result`, and `traps` of the module.
 */
export async function throughFilter(parts, { token, accepts }, use) {
  const server = await startConformanceServer({ accepts });
  let gateway;
  let adder;
  try {
    gateway = await startGateway(parts, { concurrency: 2, change: (_filter, bootstrap) => putBehind(bootstrap, server) });
    adder = await startTokenAdder(gateway, token);
    const result = await use(adder.url);
    // Each request at the server went through the filter. The one other request of the suite is for the host of an attacker.
    await gateway.expectCount('decisions.reason.forwarded', server.tokens.length);
    await gateway.expectCount('decisions.reason.unknown_resource', 1);
    return { server, result, traps: await gateway.envoy.traps() };
  } finally {
    await adder?.stop();
    await gateway?.stop();
    await server.stop();
  }
}

/** Starts an MCP server that needs no token, and runs `use(url)` with its address. */
export async function directly(use) {
  const server = await startConformanceServer();
  try {
    return await use(server.url);
  } finally {
    await server.stop();
  }
}

/**
 * Starts an Envoy that adds a token to each request for a gateway: `{url, stop}`. The loopback address, for which the suite asks,
 * becomes the host of the resource; any other host stays, and is the gateway's to refuse.
 */
async function startTokenAdder(gateway, token) {
  const loopback = (port_value) => ({ socket_address: { address: '127.0.0.1', port_value } });
  const host = (name, domain, rewrite) => ({
    name,
    domains: [domain],
    routes: [{ match: { prefix: '/' }, route: { cluster: 'gateway', timeout: '0s', ...rewrite } }],
    request_headers_to_add: [{ header: { key: 'authorization', value: `Bearer ${token}` } }],
  });
  const envoy = await startEnvoy(
    {
      admin: { address: loopback(0) },
      static_resources: {
        listeners: [
          {
            name: 'token_adder',
            address: loopback(0),
            filter_chains: [
              {
                filters: [
                  {
                    name: 'envoy.filters.network.http_connection_manager',
                    typed_config: {
                      '@type': `type.googleapis.com/${CONNECTION_MANAGER}`,
                      stat_prefix: 'token_adder',
                      route_config: {
                        virtual_hosts: [
                          host('suite', '127.0.0.1:*', { host_rewrite_literal: MCP_HOST }),
                          host('others', '*'),
                        ],
                      },
                      http_filters: [
                        {
                          name: 'envoy.filters.http.router',
                          typed_config: { '@type': `type.googleapis.com/${ROUTER}` },
                        },
                      ],
                    },
                  },
                ],
              },
            ],
          },
        ],
        clusters: [
          {
            name: 'gateway',
            load_assignment: {
              cluster_name: 'gateway',
              endpoints: [{ lb_endpoints: [{ endpoint: { address: loopback(gateway.envoy.port) } }] }],
            },
          },
        ],
      },
    },
    { exposes: [token] },
  );
  return { url: `http://127.0.0.1:${envoy.port}/mcp`, stop: () => envoy.stop() };
}
