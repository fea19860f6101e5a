// MCP client on the official SDK that has a token, and plain HTTP for requests that no conformant client sends.

import { request as httpRequest } from 'node:http';
import { connect } from 'node:net';
import { Readable } from 'node:stream';
import { Client, StreamableHTTPClientTransport } from '@modelcontextprotocol/client';
import { answers } from './leaks.mjs';

/**
 * Sends an HTTP request; resolves with `{status, headers, text, json}`. `headers` may be an object or a flat list of names and
 * values, to send a name twice.
 */
export function send({ port, host, path = '/mcp', method = 'GET', headers = {}, body, signal }) {
  return new Promise((resolve, reject) => {
    const request = httpRequest(
      {
        host: '127.0.0.1',
        port,
        path,
        method,
        headers: Array.isArray(headers) ? ['host', host, ...headers] : { host, ...headers },
        signal,
        agent: false,
      },
      async (response) => {
        try {
          let text = '';
          for await (const chunk of response) text += chunk;
          answers.add(`${response.rawHeaders.join('\n')}\n${text}`);
          resolve({
            status: response.statusCode,
            headers: response.headers,
            text,
            get json() {
              return JSON.parse(text);
            },
          });
        } catch (error) {
          reject(error);
        }
      },
    );
    request.on('error', reject);
    request.end(body);
  });
}

/**
 * Writes raw bytes and resolves with everything that comes back until the connection ends. A server may close the connection
 * before it has read all; its answer may then be lost.
 */
export function sendBytes(port, bytes) {
  return new Promise((resolve, reject) => {
    const socket = connect(port, '127.0.0.1', () => socket.write(bytes));
    let received = '';
    socket.on('data', (chunk) => {
      received += chunk.toString('latin1');
      // Envoy keeps a connection open for a second after its answer.
      const [head, length] = received.match(/^[^]*?\r\ncontent-length: (\d+)\r\n[^]*?\r\n\r\n/) ?? [];
      if (head && received.length >= head.length + Number(length)) socket.destroy();
    });
    socket.on('error', (error) => {
      if (!['ECONNRESET', 'EPIPE'].includes(error.code)) reject(error);
    });
    socket.on('close', () => {
      answers.add(received);
      resolve(received);
    });
  });
}

/**
 * `fetch` over node:http, which, unlike the built-in one, sends the given Host field. `reach` returns the address of a URL on
 * this machine, the header fields with its name, and its provider (`host`), whose answers contain tokens.
 */
export function fetchBy(reach) {
  return (address, { method = 'GET', headers, body, signal } = {}) =>
    new Promise((resolve, reject) => {
      const { url, headers: names, host: provider } = reach(address);
      const { port, pathname, search } = new URL(url);
      const request = httpRequest(
        {
          host: '127.0.0.1',
          port,
          path: pathname + search,
          method,
          headers: { ...Object.fromEntries(new Headers(headers)), ...names },
          signal,
          agent: false,
        },
        (response) => {
          const pairs = Object.entries(response.headers).map(([k, v]) => [k, String(v)]);
          const empty = response.statusCode === 204 || response.statusCode === 304;
          if (!provider) {
            answers.add(response.rawHeaders.join('\n'));
            response.on('data', (chunk) => answers.add(String(chunk)));
          }
          resolve(
            new Response(empty ? null : Readable.toWeb(response), {
              status: response.statusCode,
              headers: pairs,
            }),
          );
        },
      );
      request.on('error', reject);
      request.end(body instanceof URLSearchParams ? String(body) : body);
    });
}

/** Connects, runs `use(client)`, and closes. */
export async function withMcpClient({ port, host, path = '/mcp', token, headers, mode = 'auto' }, use) {
  const client = new Client(
    { name: 'onbehalf-tests', version: '1.0.0' },
    { versionNegotiation: { mode } },
  );
  const transport = new StreamableHTTPClientTransport(new URL(`http://127.0.0.1:${port}${path}`), {
    fetch: fetchBy((url) => ({ url, headers: { host } })),
    requestInit: { headers: { ...(token ? { authorization: `Bearer ${token}` } : {}), ...headers } },
  });
  try {
    await client.connect(transport);
    return await use(client);
  } finally {
    await client.close();
  }
}

/** Calls `whoami`, and returns what the MCP server read of the token. */
export const whoami = (target) =>
  withMcpClient(target, async (client) => {
    const { structuredContent } = await client.callTool({ name: 'whoami', arguments: {} });
    return structuredContent;
  });

/** Tool call as one POST (revision 2025-11-25, no session), for counts and raw answers. */
export const callTool = (target, headers, { name = 'whoami', args = {} } = {}) =>
  send({
    ...target,
    method: 'POST',
    headers: Array.isArray(headers)
      ? ['content-type', 'application/json', 'accept', MCP_ACCEPT, ...headers]
      : { 'content-type': 'application/json', accept: MCP_ACCEPT, ...headers },
    body: JSON.stringify({ jsonrpc: '2.0', id: 1, method: 'tools/call', params: { name, arguments: args } }),
  });

const MCP_ACCEPT = 'application/json, text/event-stream';
