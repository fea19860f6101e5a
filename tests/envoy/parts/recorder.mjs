// Upstream that records every field of requests, in header and trailers, over HTTP/1.1 or HTTP/2.

import { createServer } from 'node:http';
import { createServer as createServer2 } from 'node:http2';
import { secrets } from './leaks.mjs';
import { listening } from './listening.mjs';

const H2 = 'envoy.extensions.upstreams.http.v3.HttpProtocolOptions';
const inPairs = (list) => list.flatMap((name, at) => (at % 2 ? [] : [[name.toLowerCase(), list[at + 1]]]));

class Arrived {
  constructor({ method, path, fields, trailers, body }) {
    Object.assign(this, { method, path, fields, trailers, body });
  }

  /** Values of a field. */
  all(name) {
    return this.fields.filter(([field]) => field === name).map(([, value]) => value);
  }

  /** Cookies, each `name=value`. */
  get cookies() {
    return this.all('cookie').flatMap((value) => value.split(';').map((pair) => pair.trim()));
  }

  /** The whole request in one text. */
  get text() {
    return JSON.stringify([this.method, this.path, this.fields, this.trailers, this.body]);
  }
}

/** @returns `{port, http2, requests, stop}`; each of `requests` is complete, with its body and its trailers. */
export async function startRecorder({ http2 = false } = {}) {
  const requests = [];
  const record = async (request, { method, path, fields, trailers }) => {
    let body = '';
    for await (const chunk of request) body += chunk;
    const arrived = new Arrived({ method, path, fields, trailers: trailers(), body });
    for (const value of arrived.all('authorization')) secrets.add(value.split(' ').at(-1));
    requests.push(arrived);
  };
  const listener = async (request, response) => {
    try {
      await record(request, {
        method: request.method,
        path: request.url,
        fields: inPairs(request.rawHeaders),
        trailers: () => inPairs(request.rawTrailers),
      });
      response.end('recorded\n');
    } catch {
      response.destroy();
    }
  };
  const server = http2 ? createServer2({}, listener) : createServer({ keepAliveTimeout: 600_000 }, listener);
  const { port, stop } = await listening(server);
  return { port, http2, requests, stop };
}

/** Puts the recorder behind an Envoy, in place of the MCP server. */
export function putBehind({ static_resources: { clusters } }, recorder) {
  const cluster = clusters.find(({ name }) => name === 'mcp_server');
  const [{ endpoint }] = cluster.load_assignment.endpoints[0].lb_endpoints;
  endpoint.address.socket_address.port_value = recorder.port;
  if (recorder.http2) {
    cluster.typed_extension_protocol_options = {
      [H2]: { '@type': `type.googleapis.com/${H2}`, explicit_http_config: { http2_protocol_options: {} } },
    };
  }
}
