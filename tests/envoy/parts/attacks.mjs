// Set-up of the tests of attacks (docs/attacks.md) that need Envoy: header fields before the filter sees them, and requests that
// reach the MCP server.

import assert from 'node:assert/strict';
import { MCP_HOST, RESOURCE, startGateway, startParts } from './gateway.mjs';

export const NONCED = `https://${MCP_HOST}/nonced`;

/** Providers, gateway and a token of Alice, between `start` and `stop`. */
export let parts;
export let gateway;
export let token;

/**
 * Configures an administrators' resource below a resource of all users, an unauthenticated path, and a resource that requires a nonce in
 * proofs.
 */
export function configure(filter, bootstrap) {
  const [mcp] = filter.resources;
  const like = (more) => ({ ...structuredClone(mcp), ...more });
  filter.unauthenticated_paths = ['/healthz'];
  filter.resources.push(
    like({ url: `${RESOURCE}/admin`, scopes: ['mcp:admin'] }),
    like({ url: NONCED, dpop: { mode: 'required', nonce: true } }),
  );
  mcp.dpop = { mode: 'optional' };
  for (const provider of Object.values(filter.identity_providers)) provider.timeout_seconds = 2;
  // Delay of Envoy before it closes a connection on which it has refused a request.
  managerOf(bootstrap).delayed_close_timeout = '0.05s';
}

export const managerOf = (bootstrap) => bootstrap.static_resources.listeners[0].filter_chains[0].filters[0].typed_config;

export async function start() {
  parts = await startParts();
  gateway = await startGateway(parts, { change: configure });
  token = (await parts.alice()).accessToken;
}

/** Asserts that the worker, and so its VM, still serves requests. */
export async function assertServes() {
  assert.equal((await gateway.call(token)).status, 200);
}

export async function stop() {
  await gateway?.stop();
  await parts?.stop();
}

export const statusOf = (answer) => Number(answer.match(/^HTTP\/1\.1 (\d{3})/)?.[1]);
export const reasonOf = (answer) => answer.match(/"reason":"(\w+)"/)?.[1];

/** Sends an HTTP/1.1 request as raw lines; its bytes are latin1. */
export function raw(lines, { path = '/mcp', method = 'GET', body = '', at = gateway, host = `host: ${MCP_HOST}` } = {}) {
  const all = [`${method} ${path} HTTP/1.1`, host, ...lines, 'connection: close'];
  return at.sendBytes(Buffer.from(`${all.join('\r\n')}\r\n\r\n${body}`, 'latin1'));
}

/** Runs `act`, and returns the requests that reach the MCP server meanwhile. */
export async function arrivals(act) {
  const { length } = parts.mcp.requests;
  const answer = await act();
  return { answer, arrived: parts.mcp.requests.slice(length) };
}

/**
 * Sends a request, and asserts that it is refused with this status and reason (no reason: by Envoy itself) and does not reach
 * the upstream.
 */
export async function refused(status, reason, lines, options) {
  const { answer, arrived } = await arrivals(() => raw(lines, options));
  const shown = `${JSON.stringify(lines).replaceAll(token, 'TOKEN').slice(0, 200)}: ${answer.slice(0, 300)}`;
  assert.equal(statusOf(answer), status, shown);
  assert.equal(reasonOf(answer), reason, shown);
  assert.equal(arrived.length, 0, `${shown}\narrived`);
}

/** Sends a request, and asserts that it reaches the upstream once, with the token that was issued for the upstream. */
export async function served(lines, options) {
  const { answer, arrived } = await arrivals(() => raw(lines, options));
  assert.equal(arrived.length, 1, answer.slice(0, 300));
  assert.ok(arrived[0].identity, 'the server has verified a token of its own');
  assert.equal(arrived[0].headerLines.filter((name) => name === 'authorization').length, 1);
  return arrived[0];
}
