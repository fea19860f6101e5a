// MCP server behind the gateway: official SDK, streamable HTTP, a list of trusted issuers. It accepts any bearer token that one
// of them issued for it, and knows no products.

import { createServer } from 'node:http';
import { toNodeHandler } from '@modelcontextprotocol/node';
import { createMcpHandler, fromJsonSchema, McpServer } from '@modelcontextprotocol/server';
import { createRemoteJWKSet, decodeJwt, jwtVerify } from 'jose';
import { secrets } from './leaks.mjs';
import { listening } from './listening.mjs';

/**
 * @param {{issuer: string, audience: string, jwksUri: string, headers?: object}[]} trusted
 * Returns `{port, url, requests, tokens, reject, stop}`; `requests` has method, path and header names of each request, accepted
 * or not, and `identity` for a valid token; `tokens` has the valid tokens. `reject(answer)` makes the server answer valid tokens
 * by `answer(response, claims)`, which returns `true` if it has answered.
 */
export async function startMcpServer(trusted) {
  const issuers = new Map(
    trusted.map(({ issuer, audience, jwksUri, headers }) => [
      issuer,
      { issuer, audience, keys: createRemoteJWKSet(new URL(jwksUri), { headers, cooldownDuration: 0 }) },
    ]),
  );
  const requests = [];
  const tokens = new Set();
  let rejects = () => false;

  async function verify(authorization) {
    const [scheme, token, ...rest] = (authorization ?? '').split(' ');
    if (scheme !== 'Bearer' || !token || rest.length) throw new Error('no bearer token');
    const known = issuers.get(decodeJwt(token).iss);
    if (!known) throw new Error('not a trusted issuer');
    const { payload } = await jwtVerify(token, known.keys, {
      issuer: known.issuer,
      audience: known.audience,
    });
    return {
      token,
      clientId: payload.client_id ?? 'unknown',
      scopes: [payload.scp ?? payload.scope ?? []].flat().join(' ').split(' ').filter(Boolean),
      expiresAt: payload.exp,
      extra: { audience: payload.aud, issuer: payload.iss, subject: payload.sub },
      claims: payload,
    };
  }

  const mcp = createMcpHandler(newServer);
  const handle = toNodeHandler(mcp);
  const server = createServer({ keepAliveTimeout: 600_000 }, async (request, response) => {
    const entry = {
      method: request.method,
      path: request.url,
      headerNames: Object.keys(request.headers).sort(),
      headerLines: request.rawHeaders.filter((_, index) => index % 2 === 0).map((n) => n.toLowerCase()),
      cookieNames: (request.headers.cookie ?? '')
        .split(';')
        .map((pair) => pair.split('=')[0].trim())
        .filter(Boolean),
    };
    requests.push(entry);
    const { pathname } = new URL(request.url, 'http://loopback');
    if (pathname === '/healthz') return response.end('ok\n');
    try {
      request.auth = await verify(request.headers.authorization);
    } catch {
      response.writeHead(401, { 'www-authenticate': 'Bearer error="invalid_token"' });
      return response.end();
    }
    tokens.add(request.auth.token);
    secrets.add(request.auth.token);
    entry.identity = { ...request.auth.extra, scopes: request.auth.scopes };
    const { claims, ...auth } = request.auth;
    request.auth = auth;
    if (rejects(response, { ...claims, token: auth.token })) return undefined;
    return handle(request, response);
  });
  const { port, stop } = await listening(server);
  return {
    port,
    url: `http://127.0.0.1:${port}/mcp`,
    requests,
    tokens,
    reject(answer = () => false) {
      rejects = answer;
    },
    async stop() {
      await mcp.close();
      await stop();
    },
  };
}

function newServer() {
  const server = new McpServer({ name: 'who-am-i', version: '1.0.0' });
  server.registerTool(
    'whoami',
    { description: 'Says for whom, by whom and with which scopes the caller’s token was issued' },
    async ({ http: { authInfo } }) => {
      const seen = { ...authInfo.extra, scopes: authInfo.scopes };
      return { content: [{ type: 'text', text: JSON.stringify(seen) }], structuredContent: seen };
    },
  );
  server.registerTool(
    'count',
    {
      description: 'Counts slowly and reports progress',
      inputSchema: fromJsonSchema({
        type: 'object',
        properties: { to: { type: 'integer' }, milliseconds: { type: 'integer' } },
        required: ['to', 'milliseconds'],
      }),
    },
    async ({ to, milliseconds }, { mcpReq }) => {
      for (let progress = 1; progress <= to; progress += 1) {
        await new Promise((resolve) => setTimeout(resolve, milliseconds));
        if (mcpReq._meta?.progressToken === undefined) continue;
        await mcpReq.notify({
          method: 'notifications/progress',
          params: { progressToken: mcpReq._meta.progressToken, progress, total: to },
        });
      }
      return { content: [{ type: 'text', text: `counted to ${to}` }] };
    },
  );
  return server;
}
