// Sends a request over HTTP/2 with prior knowledge (RFC 9113 section 3.3), with trailers.

import { connect } from 'node:http2';
import { answers } from './leaks.mjs';

/**
 * Resolves with `{status, headers, text, trailers}`, of the response. A value of `headers` may be a list, to send a name several
 * times. `trailers` follow the body (RFC 9110 section 6.5), which is sent in two pieces.
 */
export function send2({ port, host, path = '/mcp', method = 'POST', headers = {}, body = ['{', '}'], trailers }) {
  return new Promise((resolve, reject) => {
    const session = connect(`http://127.0.0.1:${port}`);
    session.on('error', reject);
    const stream = session.request(
      { ':method': method, ':path': path, ':authority': host, ...headers },
      { waitForTrailers: trailers !== undefined, endStream: false },
    );
    let answer;
    let ending;
    let text = '';
    stream.setEncoding('utf8');
    stream.on('wantTrailers', () => {
      try {
        stream.sendTrailers(trailers);
      } catch (error) {
        stream.destroy(error);
      }
    });
    stream.on('response', (fields) => (answer = fields));
    stream.on('trailers', (fields) => (ending = fields));
    stream.on('data', (chunk) => (text += chunk));
    stream.on('error', (error) => {
      session.destroy();
      reject(error);
    });
    stream.on('close', () => {
      session.destroy();
      if (answer === undefined) return reject(new Error('no answer'));
      answers.add(`${JSON.stringify([answer, ending])}\n${text}`);
      const { ':status': status, ...rest } = answer;
      resolve({
        status,
        headers: rest,
        text,
        trailers: ending,
        get json() {
          return JSON.parse(text);
        },
      });
    });
    for (const piece of body) stream.write(piece);
    stream.end();
  });
}
