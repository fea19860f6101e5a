// Request bodies of every kind through the filter, and a server behind it that tells which bytes arrived.

import { createHash, randomBytes } from 'node:crypto';
import { createServer, request } from 'node:http';
import { connect } from 'node:http2';
import { setTimeout as pause } from 'node:timers/promises';
import { gate } from './faults.mjs';
import { startGateway, startParts, wasmOf } from './gateway.mjs';
import { listening } from './listening.mjs';
import { signIn } from './login.mjs';
import { putBehind } from './recorder.mjs';
import { until } from './until.mjs';

export const SIZES = { '1 B': 1, '64 KiB': 65_536, '1 MiB': 1_048_576, '5 MB': 5_000_000 };
export const PROTOCOLS = ['HTTP/1.1', 'HTTP/1.1 chunked', 'HTTP/2'];
export const PACES = ['at once', 'slowly'];
export const TOKENS = ['cached', 'exchanged meanwhile'];
export const SETTINGS = [false, true];

const PIECES = 16;
const BETWEEN_PIECES_MS = 15;
/** Time for which the provider holds its answer when the whole body is sent at once. */
const HELD_MS = 150;
const GIVES_UP_SECONDS = 20;

/** Size, protocol, pace, token and setting of every case. */
export function* everyCase({ sizes = Object.keys(SIZES), settings = SETTINGS } = {}) {
  for (const stopIteration of settings) {
    for (const token of TOKENS) {
      for (const protocol of PROTOCOLS) {
        for (const pace of PACES) for (const size of sizes) yield { stopIteration, token, protocol, pace, size };
      }
    }
  }
}

const digest = (bytes) => createHash('sha256').update(bytes).digest('hex');

async function startServer() {
  const arrived = new Map();
  const server = createServer({ keepAliveTimeout: 600_000 }, async (incoming, response) => {
    const hash = createHash('sha256');
    let length = 0;
    try {
      for await (const chunk of incoming) {
        hash.update(chunk);
        length += chunk.length;
      }
      arrived.set(incoming.headers['x-case'], { length, digest: hash.digest('hex') });
      response.end('ok');
    } catch {
      arrived.set(incoming.headers['x-case'], { length, broken: true });
      response.destroy();
    }
  });
  return { arrived, ...(await listening(server)) };
}

/** Writes the body in pieces. `halfway` is called after half of them. */
async function write(stream, body, pace, halfway) {
  const pieces = pace === 'slowly' ? PIECES : 1;
  const length = Math.ceil(body.length / pieces);
  for (let piece = 0; piece < pieces; piece += 1) {
    if (piece > 0) await pause(BETWEEN_PIECES_MS);
    if (piece === PIECES / 2) halfway();
    if (stream.destroyed) return;
    stream.write(body.subarray(piece * length, (piece + 1) * length));
  }
  stream.end();
  if (pieces === 1) {
    await pause(HELD_MS);
    halfway();
  }
}

/** Status of the answer, or how the request ended. */
function sent({ protocol, pace }, { port, host }, headers, body, halfway) {
  return new Promise((resolve) => {
    const timer = setTimeout(() => resolve('no answer'), GIVES_UP_SECONDS * 1000);
    const end = (status) => {
      clearTimeout(timer);
      resolve(status);
    };
    if (protocol === 'HTTP/2') {
      const session = connect(`http://127.0.0.1:${port}`);
      session.on('error', () => end('closed'));
      const stream = session.request({ ':method': 'POST', ':path': '/mcp', ':authority': host, ...headers }, { endStream: false });
      let status = 'reset';
      stream.on('response', (fields) => (status = fields[':status']));
      stream.on('error', () => {});
      stream.on('close', () => {
        session.destroy();
        end(status);
      });
      stream.resume();
      void write(stream, body, pace, halfway);
      return;
    }
    const framing = protocol === 'HTTP/1.1' ? { 'content-length': body.length } : { 'transfer-encoding': 'chunked' };
    const outgoing = request({ port, host: '127.0.0.1', method: 'POST', path: '/mcp', agent: false, headers: { host, ...headers, ...framing } });
    let status = 'closed';
    outgoing.on('response', (answer) => {
      status = answer.statusCode;
      answer.resume();
      answer.on('close', () => end(status));
    });
    outgoing.on('error', () => end(status));
    void write(outgoing, body, pace, halfway);
  });
}

/** Providers and server, for `send`: one Envoy for each value of `allow_on_headers_stop_iteration`. */
export async function startBodies(settings = SETTINGS) {
  const parts = await startParts();
  const server = await startServer();
  const gateways = new Map();
  const newToken = async (user) => (await signIn(parts.entra, `${user}@contoso.example`)).accessToken;
  const warm = await newToken('warm');
  for (const stopIteration of settings) {
    const change = (_filter, bootstrap) => {
      putBehind(bootstrap, server);
      wasmOf(bootstrap).allow_on_headers_stop_iteration = stopIteration;
    };
    const gateway = await startGateway(parts, { change });
    gateways.set(stopIteration, gateway);
    await until(async () => (await gateway.call(warm)).status === 200, 'the token is cached');
  }

  let number = 0;
  return {
    gateways: [...gateways.values()],
    /** Sends one body: `whole`, the status of a refusal, or what was lost. */
    async send(one) {
      const gateway = gateways.get(one.stopIteration);
      const body = randomBytes(SIZES[one.size]);
      const id = String((number += 1));
      const waits = one.token !== 'cached';
      const token = waits ? await newToken(`user${id}`) : warm;
      const hold = gate();
      const repair = waits ? parts.entra.forMcp.fail('token', hold.behave) : () => {};
      try {
        const headers = { authorization: `Bearer ${token}`, 'x-case': id, 'content-type': 'application/octet-stream' };
        const release = async () => {
          if (waits) await until(() => hold.waiting() === 1, 'the exchange is under way');
          hold.release();
        };
        const status = await sent(one, gateway.target, headers, body, () => void release().catch(() => {}));
        const got = server.arrived.get(id);
        if (status === 200 && got?.digest === digest(body)) return 'whole';
        return [status, got && `${got.length} of ${body.length} bytes arrived`].filter(Boolean).join(', ');
      } finally {
        hold.release();
        repair();
      }
    },
    async stop() {
      for (const gateway of gateways.values()) await gateway.stop();
      await server.stop();
      await parts.stop();
    },
  };
}
