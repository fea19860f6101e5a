// HTTP/2 frames (RFC 9113), for header fields that no library sends: repeated, in upper case, or in a wrong order.

import { connect } from 'node:net';
import { answers } from './leaks.mjs';

const PREFACE = Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n');
const [DATA, HEADERS, RESET, SETTINGS, GOAWAY, WINDOW_UPDATE] = [0, 1, 3, 4, 7, 8];
const [END_STREAM, ACK, END_HEADERS] = [1, 1, 4];

function frame(type, flags, stream, payload = Buffer.alloc(0)) {
  const head = Buffer.alloc(9);
  head.writeUIntBE(payload.length, 0, 3);
  head[3] = type;
  head[4] = flags;
  head.writeUInt32BE(stream, 5);
  return Buffer.concat([head, payload]);
}

/** String without Huffman coding: its length in a prefix of 7 bits (RFC 7541 sections 5.1 and 5.2). */
function text(value) {
  const bytes = Buffer.from(value, 'latin1');
  const length = [Math.min(bytes.length, 127)];
  if (bytes.length >= 127) {
    let rest = bytes.length - 127;
    for (; rest >= 128; rest >>= 7) length.push((rest & 127) | 128);
    length.push(rest);
  }
  return Buffer.concat([Buffer.from(length), bytes]);
}

/** Request without a body: literal fields that are never indexed, with a literal name (RFC 7541 section 6.2.3). */
function requestOf(stream, fields) {
  const block = Buffer.concat(fields.flatMap(([name, value]) => [Buffer.of(0x10), text(name), text(value)]));
  return frame(HEADERS, END_STREAM | END_HEADERS, stream, block);
}

/**
 * Sends requests on one connection with as little work as possible, to measure the server. Resolves with the body of each, and
 * the time at which the last of them was `whole`.
 */
export function sendManyFields(port, requests) {
  const window = Buffer.alloc(4);
  window.writeUInt32BE(2 ** 30);
  const frames = requests.map((fields, index) => requestOf(2 * index + 1, fields));
  return new Promise((resolve, reject) => {
    const socket = connect(port, '127.0.0.1', () => {
      socket.write(Buffer.concat([PREFACE, frame(SETTINGS, 0, 0), frame(WINDOW_UPDATE, 0, 0, window), ...frames]));
    });
    const bodies = requests.map(() => []);
    let left = requests.length;
    let received = Buffer.alloc(0);
    socket.on('data', (chunk) => {
      received = received.length ? Buffer.concat([received, chunk]) : chunk;
      let at = 0;
      for (; received.length >= at + 9; ) {
        const end = at + 9 + received.readUIntBE(at, 3);
        if (received.length < end) break;
        const [type, flags] = [received[at + 3], received[at + 4]];
        if (type === SETTINGS && !(flags & ACK)) socket.write(frame(SETTINGS, ACK, 0));
        if (type === DATA) bodies[(received.readUInt32BE(at + 5) - 1) / 2].push(received.subarray(at + 9, end));
        if (type === RESET || type === GOAWAY) return socket.destroy(new Error('the other side does not go on'));
        if ((type === DATA || type === HEADERS) && flags & END_STREAM) left -= 1;
        at = end;
      }
      received = received.subarray(at);
      if (left > 0) return;
      const whole = performance.now();
      socket.destroy();
      const texts = bodies.map((parts) => Buffer.concat(parts).toString('latin1'));
      texts.forEach((body) => answers.add(body));
      resolve({ bodies: texts, whole });
    });
    socket.on('error', reject);
    socket.on('close', () => reject(new Error('the connection has ended')));
  });
}

/**
 * Sends a request of these fields, each a name and a value in latin1, in this order. Resolves with `body`, and `ended`: how the
 * server refused it (`reset`, `goaway` or `closed`), or undefined.
 */
export function sendFields(port, fields) {
  const request = requestOf(1, fields);
  return new Promise((resolve, reject) => {
    const socket = connect(port, '127.0.0.1', () => {
      socket.write(Buffer.concat([PREFACE, frame(SETTINGS, 0, 0), request]));
    });
    let received = Buffer.alloc(0);
    let body = '';
    const done = (ended) => {
      socket.destroy();
      answers.add(body);
      resolve({ ended, body });
    };
    socket.on('data', (chunk) => {
      received = Buffer.concat([received, chunk]);
      while (received.length >= 9 && received.length >= 9 + received.readUIntBE(0, 3)) {
        const length = received.readUIntBE(0, 3);
        const [type, flags] = [received[3], received[4]];
        const payload = received.subarray(9, 9 + length);
        received = received.subarray(9 + length);
        if (type === SETTINGS && !(flags & ACK)) socket.write(frame(SETTINGS, ACK, 0));
        if (type === DATA) body += payload.toString('latin1');
        if (type === RESET) return done('reset');
        if (type === GOAWAY) return done('goaway');
        if ((type === DATA || type === HEADERS) && flags & END_STREAM) return done(undefined);
      }
    });
    socket.on('error', (error) => {
      if (error.code !== 'ECONNRESET' && error.code !== 'EPIPE') reject(error);
    });
    socket.on('close', () => resolve({ ended: 'closed', body }));
  });
}
