// Clients in crowds: many concurrent requests over HTTP/1.1 or HTTP/2, and streams of events that must stay whole meanwhile.

import { Agent, request as httpRequest } from 'node:http';
import { connect } from 'node:http2';
import { answers } from './leaks.mjs';
import { until } from './until.mjs';

export const HOST = 'mcp.example.com';

/**
 * Opens connections to a port: over HTTP/2 `connections`, and over HTTP/1.1 one for each request. `send(index, options)` sends a
 * request over the HTTP/2 connection of that index, and resolves with `{status, reason, user}`, or `{error}` if no answer came.
 * `leave()` closes the connections.
 */
export async function connectCrowd(port, protocol, connections) {
  return protocol === 'HTTP/2' ? connectHttp2(port, connections) : connectHttp1(port);
}

async function connectHttp2(port, connections) {
  const sessions = await Promise.all(
    Array.from({ length: connections }, async () => {
      const session = connect(`http://127.0.0.1:${port}`, { maxSessionMemory: 1000 });
      session.on('error', () => {});
      // Before the settings of the server, the client sends at most a hundred requests.
      await new Promise((resolve, reject) => session.once('remoteSettings', resolve).once('error', reject).once('close', reject));
      return session;
    }),
  );
  return {
    send: (index, { path, method = 'GET', headers, body, signal }) =>
      new Promise((resolve) => {
        const stream = sessions[index].request(
          { ':path': path, ':method': method, ':authority': HOST, ...headers },
          { endStream: body === undefined, signal },
        );
        collect(stream, resolve);
        if (body !== undefined) stream.end(body);
      }),
    leave: () => sessions.forEach((session) => session.destroy()),
  };
}

/** Reads the answer of an HTTP/2 stream. */
function collect(stream, resolve) {
  let status;
  let text = '';
  let failure;
  let isWhole = false;
  stream.setEncoding('utf8');
  stream.on('response', (head) => (status = head[':status']));
  stream.on('data', (chunk) => (text += chunk));
  stream.on('end', () => (isWhole = true));
  stream.on('error', (error) => (failure = error.code ?? error.message));
  stream.on('close', () => {
    if (isWhole && status !== undefined && failure === undefined && !stream.rstCode) resolve(answer(status, text));
    else resolve({ error: failure ?? `reset ${stream.rstCode}` });
  });
}

async function connectHttp1(port) {
  const agent = new Agent({ keepAlive: true, maxSockets: Infinity });
  return {
    send: (_index, { path, method = 'GET', headers, body, signal }) =>
      new Promise((resolve) => {
        const options = { agent, host: '127.0.0.1', port, path, method, headers: { host: HOST, ...headers }, signal };
        const failed = (error) => resolve({ error: error.code ?? error.message });
        const request = httpRequest(options, (response) => {
          let text = '';
          response.setEncoding('utf8');
          response.on('data', (chunk) => (text += chunk));
          response.on('end', () => resolve(answer(response.statusCode, text)));
          response.on('error', failed);
        });
        request.on('error', failed);
        request.end(body);
      }),
    leave: () => agent.destroy(),
  };
}

function answer(status, text) {
  answers.add(text);
  try {
    const { reason, user } = JSON.parse(text);
    return { status, reason, user };
  } catch {
    return { status };
  }
}

/** Counts answers by kind, such as `200` or `503 overloaded`. */
export function tally(all) {
  const counts = {};
  for (const { status, reason, error } of all) {
    const kind = error === undefined ? [status, reason].filter(Boolean).join(' ') : `no answer: ${error}`;
    counts[kind] = (counts[kind] ?? 0) + 1;
  }
  return counts;
}

let streams = 0;

/**
 * Opens a stream of events on its own connection. `end(upstream)` lets the upstream finish it, and returns its error or
 * undefined.
 */
export async function openEventStream(port, { path, headers = {} }) {
  streams += 1;
  const name = `stream${streams}`;
  let text = '';
  let status;
  let closed;
  const session = connect(`http://127.0.0.1:${port}`);
  session.on('error', () => {});
  const stream = session.request({ ':path': path, ':authority': HOST, 'x-stream': name, ...headers });
  const ended = new Promise((resolve) => {
    stream.setEncoding('utf8');
    stream.on('response', (head) => (status = head[':status']));
    stream.on('data', (chunk) => (text += chunk));
    stream.on('error', (error) => (closed = error.code));
    stream.on('close', () => resolve((closed ??= 'closed')));
  });
  await until(() => text.includes('\n\n') || closed, `${name} has begun`);
  if (status !== 200 || closed) throw new Error(`no stream of events: ${status}, ${closed}`);
  return {
    async end(upstream) {
      upstream.finish(name);
      await ended;
      session.destroy();
      const events = text.split('\n\n').slice(0, -1);
      const last = events.pop();
      if (last !== `event: end\ndata: ${events.length}`) return `it was cut after ${events.length} events (${closed})`;
      const gap = events.findIndex((event, number) => event !== `id: ${number}`);
      return gap < 0 ? undefined : `event ${gap} is missing`;
    },
  };
}
