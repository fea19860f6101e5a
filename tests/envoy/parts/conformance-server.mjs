// MCP server that offers what the server suite of @modelcontextprotocol/conformance calls: official SDK, streamable HTTP, sessions,
// streams that can be resumed.

import { randomUUID } from 'node:crypto';
import { createServer } from 'node:http';
import { hostHeaderValidation, localhostOriginValidation } from '@modelcontextprotocol/node';
import { Server } from '@modelcontextprotocol/sdk/server/index.js';
import { StreamableHTTPServerTransport } from '@modelcontextprotocol/sdk/server/streamableHttp.js';
import * as protocol from '@modelcontextprotocol/sdk/types.js';
import { MCP_HOST } from './addresses.mjs';
import { listed, PROMPTS, read, RESOURCES, TEMPLATE, TOOLS } from './conformance-features.mjs';
import { modernHandler } from './conformance-modern.mjs';
import { secrets } from './leaks.mjs';
import { listening } from './listening.mjs';

const INFO = { name: 'conformance', version: '1.0.0' };
const CAPABILITIES = { tools: {}, resources: { subscribe: true }, prompts: {}, logging: {}, completions: {} };
const RESULTS = {
  'sampling/createMessage': protocol.CreateMessageResultSchema,
  'elicitation/create': protocol.ElicitResultSchema,
};
/** Milliseconds after which a client resumes a stream that was closed (SEP-1699). */
const RETRY = 100;

const known = (byName, name) => {
  if (Object.hasOwn(byName, name)) return byName[name];
  throw new protocol.McpError(protocol.ErrorCode.InvalidParams, `${name} is unknown`);
};

function newServer() {
  const server = new Server(INFO, { capabilities: CAPABILITIES });
  const on = (schema, answer) => server.setRequestHandler(schema, ({ params }, extra) => answer(params ?? {}, extra));
  on(protocol.ListToolsRequestSchema, () => ({ tools: listed(TOOLS) }));
  on(protocol.CallToolRequestSchema, ({ name, arguments: values = {} }, extra) =>
    known(TOOLS, name).run(values, {
      notify: (method, params) => extra.sendNotification({ method, params }),
      ask: (method, params) => extra.sendRequest({ method, params }, RESULTS[method]),
      closeStream: () => extra.closeSSEStream(),
      progressToken: extra._meta?.progressToken,
    }),
  );
  on(protocol.ListResourcesRequestSchema, () => ({ resources: listed(RESOURCES, 'uri') }));
  on(protocol.ListResourceTemplatesRequestSchema, () => ({ resourceTemplates: [TEMPLATE] }));
  on(protocol.ReadResourceRequestSchema, ({ uri }) => {
    const contents = read(uri);
    if (!contents) throw new protocol.McpError(-32002, 'Resource not found', { uri });
    return { contents };
  });
  on(protocol.SubscribeRequestSchema, () => ({}));
  on(protocol.UnsubscribeRequestSchema, () => ({}));
  on(protocol.ListPromptsRequestSchema, () => ({ prompts: listed(PROMPTS) }));
  on(protocol.GetPromptRequestSchema, ({ name, arguments: values = {} }) => ({
    messages: known(PROMPTS, name).messages(values),
  }));
  on(protocol.CompleteRequestSchema, () => ({ completion: { values: [], total: 0, hasMore: false } }));
  return server;
}

/** Events of one session, in order, for clients that resume a stream. */
class Events {
  #all = [];

  async storeEvent(streamId, message) {
    const eventId = `${streamId}/${this.#all.length}`;
    this.#all.push({ eventId, streamId, message });
    return eventId;
  }

  async getStreamIdForEventId(eventId) {
    return this.#all.find((event) => event.eventId === eventId)?.streamId;
  }

  async replayEventsAfter(lastEventId, { send }) {
    const at = this.#all.findIndex(({ eventId }) => eventId === lastEventId);
    const { streamId } = this.#all[at];
    for (const { eventId, message } of this.#all.slice(at + 1).filter((event) => event.streamId === streamId)) {
      if (message.method || 'id' in message) await send(eventId, message);
    }
    return streamId;
  }
}

/**
 * Makes a request name the revision that its session agreed on. The suite's scenario `server-sse-polling` agrees on the latest one
 * and then names 2025-03-26, for which the SDK sends no event that primes a stream. A revision that the SDK does not know stays.
 */
function asAgreed({ headers, rawHeaders }, revision) {
  const name = 'mcp-protocol-version';
  if (!protocol.SUPPORTED_PROTOCOL_VERSIONS.includes(headers[name])) return;
  headers[name] = revision;
  rawHeaders.forEach((field, at) => {
    if (at % 2 === 0 && field.toLowerCase() === name) rawHeaders[at + 1] = revision;
  });
}

async function bodyOf(request) {
  let body = '';
  for await (const chunk of request) body += chunk;
  return body && JSON.parse(body);
}

function refuse(response, status, message) {
  response.writeHead(status, { 'content-type': 'application/json' });
  response.end(JSON.stringify({ jsonrpc: '2.0', error: { code: -32000, message }, id: null }));
}

/**
 * @param {function(string): Promise} accepts rejects for a bearer token that is not for this server. Without it, requests need
 * no token.
 * Returns `{port, url, tokens, stop}`; `tokens` has the bearer token of each accepted request.
 */
export async function startConformanceServer({ accepts } = {}) {
  const sessions = new Map();
  const tokens = [];
  const modern = modernHandler();
  const isOurs = hostHeaderValidation(['localhost', '127.0.0.1', '[::1]', MCP_HOST]);
  const isOfOurs = localhostOriginValidation();

  const newSession = async ({ protocolVersion } = {}) => {
    const isKnown = protocol.SUPPORTED_PROTOCOL_VERSIONS.includes(protocolVersion);
    const revision = isKnown ? protocolVersion : protocol.LATEST_PROTOCOL_VERSION;
    const transport = new StreamableHTTPServerTransport({
      sessionIdGenerator: randomUUID,
      eventStore: new Events(),
      retryInterval: RETRY,
      onsessioninitialized: (id) => void sessions.set(id, { transport, revision }),
    });
    transport.onclose = () => void sessions.delete(transport.sessionId);
    await newServer().connect(transport);
    return { transport, revision };
  };

  const answer = async (request, response) => {
    if (!isOurs(request, response) || !isOfOurs(request, response)) return;
    if (accepts) {
      const [scheme, token] = (request.headers.authorization ?? '').split(' ');
      try {
        if (scheme !== 'Bearer') throw new Error('no bearer token');
        await accepts(token);
      } catch {
        response.writeHead(401, { 'www-authenticate': 'Bearer error="invalid_token"' }).end();
        return;
      }
      secrets.add(token);
      tokens.push(token);
    }
    const body = request.method === 'POST' ? await bodyOf(request) : undefined;
    if (await modern.isMeant(request, body)) return modern.handle(request, response, body);
    const id = request.headers['mcp-session-id'];
    if (id === undefined && body?.method !== 'initialize') return refuse(response, 400, 'A session is missing');
    const session = id === undefined ? await newSession(body.params) : sessions.get(id);
    if (!session) return refuse(response, 404, 'The session is unknown');
    asAgreed(request, session.revision);
    await session.transport.handleRequest(request, response, body);
  };

  const server = createServer({ keepAliveTimeout: 600_000 }, (request, response) => {
    answer(request, response).catch((error) => {
      console.error(`conformance server: ${error.stack}`);
      if (!response.headersSent) refuse(response, 500, 'Internal error');
    });
  });
  const { port, stop } = await listening(server);
  return {
    port,
    url: `http://127.0.0.1:${port}/mcp`,
    tokens,
    async stop() {
      await modern.close();
      for (const { transport } of sessions.values()) await transport.close();
      await stop();
    },
  };
}
