// API behind the gateway of a crowd: it accepts a token of the providers of the crowd, returns its user, and sends streams of
// events.

import { createServer } from 'node:http2';
import { UPSTREAM_AUDIENCE } from './crowd-provider.mjs';
import { listening } from './listening.mjs';

const EVENT_MS = 20;

/**
 * Answers `{user}` to a valid token, 409 if the request expects another user (`x-expected-user`), and 401 to any other token.
 * Paths below `/mcp/open` need no token. A path that ends in `/events` is a stream of numbered events, until its client passes
 * its name (`x-stream`) to `finish`. `arrivals` has the numbers of requests (`x-number`) in their order.
 */
export async function startCrowdUpstream(provider) {
  const streams = new Map();
  const arrivals = [];
  const mistaken = [];

  const userOf = ({ authorization }) => {
    const claims = provider.claimsOf(authorization?.match(/^Bearer (.*)$/)?.[1]);
    return claims?.aud === UPSTREAM_AUDIENCE ? claims.sub : undefined;
  };

  const server = createServer((request, response) => {
    const answer = (status, body) => response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(body));
    request.resume();
    const { headers, url } = request;
    const user = userOf(headers);
    if (headers['x-number'] !== undefined) arrivals.push(Number(headers['x-number']));
    if (!url.startsWith('/mcp/open')) {
      if (user === undefined) {
        mistaken.push('no good token');
        return answer(401, {});
      }
      if (user !== headers['x-expected-user']) {
        mistaken.push(`${headers['x-expected-user']} got a token of ${user}`);
        return answer(409, { user });
      }
    }
    if (!url.endsWith('/events')) return answer(200, { user });
    const name = headers['x-stream'];
    response.writeHead(200, { 'content-type': 'text/event-stream' });
    streams.set(name, { response, next: 0 });
    response.on('close', () => streams.delete(name));
  });
  const { port, stop } = await listening(server);
  const timer = setInterval(() => {
    for (const stream of streams.values()) {
      stream.response.write(`id: ${stream.next}\n\n`);
      stream.next += 1;
    }
  }, EVENT_MS);

  return {
    port,
    arrivals,
    mistaken,
    /** Ends a stream with an event that has the number of events before it. */
    finish(name) {
      const stream = streams.get(name);
      stream?.response.end(`event: end\ndata: ${stream.next}\n\n`);
    },
    async stop() {
      clearInterval(timer);
      await stop();
    },
  };
}
