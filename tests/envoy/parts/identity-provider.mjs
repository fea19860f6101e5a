// Identity providers on loopback. A host of this process answers for a name such as login.microsoftonline.com, over TLS with a
// certificate of a temporary authority (for Envoy) and over plain HTTP (for the scripts here), so that issuers have their real
// form.
//
// The providers lack and refuse what the products lack and refuse. A test that needs a lenient one requests it by an option.

import { randomBytes, randomUUID } from 'node:crypto';
import { createServer } from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import { PORTLESS_REDIRECT_URI, REDIRECT_URI, RESOURCE } from './addresses.mjs';
import { AuthorizationServer } from './authorization-server.mjs';
import { entra, entraDirectory } from './entra.mjs';
import { DEFAULT_SCOPES, keycloak, keycloakDirectory } from './keycloak.mjs';
import { okta, oktaDirectory } from './okta.mjs';
import { plainDirectory, rfc8693 } from './rfc8693.mjs';

class Host {
  constructor(name) {
    this.name = name;
    this.servers = [];
    this.sockets = new Set();
  }

  async start(authority, { asksForCertificates = false } = {}) {
    // Envoy keeps connections open; a server that closes them after five seconds, the default of Node, races with it.
    const options = { keepAliveTimeout: 600_000 };
    const listener = (request, response) => this.#handle(request, response);
    this.plain = createServer(options, listener);
    await this.#listen(this.plain);
    this.port = this.plain.address().port;
    if (authority) {
      // TLS accepts clients without a certificate or with one of another authority: the provider decides.
      const asking = asksForCertificates && { requestCert: true, rejectUnauthorized: false, ca: authority.certificate };
      this.secure = createTlsServer({ ...options, ...authority.issue([this.name]), ...asking }, listener);
      await this.#listen(this.secure);
      this.tlsPort = this.secure.address().port;
    }
    return this;
  }

  async #listen(server) {
    server.on('connection', (socket) => {
      this.sockets.add(socket);
      socket.on('close', () => this.sockets.delete(socket));
    });
    await new Promise((resolve, reject) => {
      server.once('error', reject);
      server.listen(0, '127.0.0.1', resolve);
    });
  }

  #handle(request, response) {
    const { pathname } = new URL(request.url, 'http://loopback');
    const serving = this.servers
      .map((server) => ({ server, endpoint: server.endpoint(pathname) }))
      .filter(({ endpoint }) => endpoint)
      .sort((a, b) => Number(a.endpoint === 'other') - Number(b.endpoint === 'other'))
      .shift();
    if (!serving) {
      response.writeHead(404);
      return response.end();
    }
    return serving.server.handle(request, response, serving.endpoint).catch((error) => {
      console.error(`identity provider ${this.name}: ${error.stack}`);
      response.writeHead(500);
      response.end();
    });
  }

  /** Closes idle and hanging connections, and refuses new ones, until `up`. */
  async down() {
    for (const server of [this.plain, this.secure].filter(Boolean)) server.close();
    for (const socket of this.sockets) socket.destroy();
  }

  async up() {
    const again = (server, port) =>
      new Promise((resolve, reject) => {
        server.once('error', reject);
        server.listen(port, '127.0.0.1', resolve);
      });
    await again(this.plain, this.port);
    if (this.secure) await again(this.secure, this.tlsPort);
  }

  /** Address of a URL of this host for the scripts. */
  reach(url) {
    const { pathname, search, host, protocol } = new URL(url);
    return {
      url: `http://127.0.0.1:${this.port}${pathname}${search}`,
      headers: { 'x-forwarded-host': host, 'x-forwarded-proto': protocol.slice(0, -1) },
    };
  }
}

const publicClient = (client_id, redirectUri = PORTLESS_REDIRECT_URI) => ({
  client_id,
  token_endpoint_auth_method: 'none',
  application_type: 'native',
  grant_types: ['authorization_code', 'refresh_token'],
  response_types: ['code'],
  redirect_uris: [redirectUri],
});

/** Form of a scope in a request: its name, or at Entra the resource and its name. */
const short = (_resource, scope) => scope;
const long = (resource, scope) => `${resource}/${scope}`;

const machineClient = (client_id, client_secret) => ({
  client_id,
  client_secret,
  token_endpoint_auth_method: 'client_secret_post',
  grant_types: ['client_credentials'],
  response_types: [],
  redirect_uris: [],
});

/**
 * Starts an Okta org with two custom authorization servers: `default`, where users sign in to the gateway, and another one,
 * whose tokens are for the MCP server and which trusts `default`. The org server issues assertions to the other one for an
 * agent. `serviceApp` is the registration of the gateway as a service app and as an agent: token_endpoint_auth_method and jwks
 * or client_secret.
 */
export async function startOkta({ authority, domain = 'acme.okta.com', audience, scopes, serviceApp }) {
  const host = await new Host(domain).start(authority);
  const accounts = oktaDirectory();
  const ids = {
    mcpClient: '0oamcpclient',
    serviceApp: '0oagateway',
    agent: 'wlp0gateway',
    batch: '0oabatch',
    mcpServer: 'aus1mcpserver',
  };
  const batchSecret = randomBytes(24).toString('base64url');
  const clients = [
    publicClient(ids.mcpClient, REDIRECT_URI),
    machineClient(ids.batch, batchSecret),
    {
      client_id: ids.serviceApp,
      grant_types: ['urn:ietf:params:oauth:grant-type:token-exchange'],
      response_types: [],
      redirect_uris: [],
      ...serviceApp,
    },
    {
      ...publicClient(ids.agent, REDIRECT_URI),
      grant_types: [
        'authorization_code',
        'refresh_token',
        'urn:ietf:params:oauth:grant-type:token-exchange',
        'urn:ietf:params:oauth:grant-type:jwt-bearer',
      ],
      ...serviceApp,
    },
  ];
  const server = (name, settings, path = `/oauth2/${name}`) =>
    new AuthorizationServer({
      name: `Okta ${name}`,
      issuer: `https://${domain}${path}`,
      mount: path || '/oauth2',
      dialect: okta,
      clients,
      accounts,
      settings: { trusts: [], ...settings },
    });
  const org = server('org', {
    resources: [{ identifier: `https://${domain}`, audience: `https://${domain}`, scopes: ['okta.users.read'] }],
    connections: [],
  }, '');
  const signIn = server('default', {
    resources: [
      { identifier: 'api://default', audience: 'api://default', scopes: ['mcp:read', 'mcp:write'] },
    ],
    publishedScopes: ['mcp:read'],
  });
  const forMcp = server(ids.mcpServer, {
    resources: [{ identifier: audience, audience, scopes }],
    trusts: [signIn],
    assertionsOf: [org],
  });
  org.settings.connections.push({ issuer: forMcp.issuer, resource: audience, scopes });
  const other = server('aus2other', {
    resources: [{ identifier: 'api://other', audience: 'api://other', scopes: ['mcp:read'] }],
  });
  // The org server is last, because its paths are prefixes of the others.
  host.servers = [signIn, forMcp, other, org];
  return { host, accounts, org, signIn, forMcp, other, ids, batchSecret, resource: RESOURCE, scopeOf: short };
}

/**
 * Starts an Entra tenant with the app of the gateway, the app of the MCP server, an unrelated API and two clients. The app of
 * the gateway has a federated credential, a certificate, or else a secret, which it sends as `method` says; `appIdUris` makes
 * its Application ID URIs of its client ID.
 */
export async function startEntra({
  authority,
  clientSecret,
  certificate,
  federation,
  method = 'client_secret_post',
  appIdUris = () => [RESOURCE],
}) {
  const host = await new Host('login.microsoftonline.com').start(authority);
  const tenant = randomUUID();
  const ids = {
    tenant,
    gateway: randomUUID(),
    mcpServer: randomUUID(),
    otherApi: randomUUID(),
    mcpClient: randomUUID(),
    oldClient: randomUUID(),
    batch: randomUUID(),
  };
  const batchSecret = randomBytes(24).toString('base64url');
  const app = (id, scopes, { uris = [`api://${id}`], appRoles = [] } = {}) =>
    uris.map((identifier) => ({ identifier, audience: id, scopes, appRoles }));
  const uris = appIdUris(ids.gateway);
  const server = new AuthorizationServer({
    name: 'Entra',
    issuer: `https://login.microsoftonline.com/${tenant}/v2.0`,
    mount: `/${tenant}`,
    dialect: entra,
    accounts: entraDirectory(),
    clients: [
      publicClient(ids.mcpClient),
      publicClient(ids.oldClient),
      machineClient(ids.batch, batchSecret),
      {
        client_id: ids.gateway,
        ...(federation
          ? { token_endpoint_auth_method: 'none' } // entra.mjs checks it
          : certificate
            ? { token_endpoint_auth_method: 'private_key_jwt', jwks: { keys: [certificate.jwk] } }
            : { token_endpoint_auth_method: method, client_secret: clientSecret }),
        grant_types: ['urn:ietf:params:oauth:grant-type:jwt-bearer'],
        response_types: [],
        redirect_uris: [],
      },
    ],
    settings: {
      tenant,
      federation,
      certificates: certificate ? [certificate.thumbprint] : [],
      canAnswerClaimsChallenges: [ids.mcpClient],
      resources: [
        ...app(ids.gateway, ['mcp:read', 'mcp:write'], { uris, appRoles: ['Mcp.Read.All'] }),
        ...app(ids.mcpServer, ['mcp.call']),
        ...app(ids.otherApi, ['mcp:read']),
      ],
    },
  });
  host.servers = [server];
  return { host, signIn: server, forMcp: server, ids, batchSecret, resource: uris[0], scopeOf: long };
}

/**
 * Starts a provider without deviations. The issuer is the loopback address; or, with an authority, a host (`domain`) over TLS
 * that requests client certificates, with the registration `client` of the gateway. `jwks`: keys of the gateway for
 * private_key_jwt. `dpop`: the gateway must use DPoP.
 */
export async function startRfc8693({
  method,
  clientSecret,
  jwks,
  dpop = false,
  audience,
  scopes,
  authority,
  domain = 'login.plain.example',
  client,
  metadata,
}) {
  const name = authority ? domain : '127.0.0.1';
  const host = await new Host(name).start(authority, { asksForCertificates: true });
  const ids = { mcpClient: 'mcp-client', gateway: 'gateway' };
  const server = new AuthorizationServer({
    name: 'RFC 8693',
    issuer: authority ? `https://${name}` : `http://${name}:${host.port}`,
    mount: '',
    dialect: rfc8693,
    accounts: plainDirectory(),
    clients: [
      publicClient(ids.mcpClient),
      {
        client_id: ids.gateway,
        ...(jwks && { jwks }),
        ...(clientSecret && { client_secret: clientSecret }),
        dpop_bound_access_tokens: dpop,
        token_endpoint_auth_method: method,
        ...client,
        grant_types: [
          'urn:ietf:params:oauth:grant-type:token-exchange',
          'urn:ietf:params:oauth:grant-type:jwt-bearer',
        ],
        response_types: [],
        redirect_uris: [],
      },
    ],
    settings: {
      mutualTls: Boolean(authority),
      metadata,
      // The first audience is this gateway, by the name that clients use.
      resources: [
        { identifier: RESOURCE, audience: 'https://gateway.example', scopes: ['mcp:read'] },
        { identifier: 'https://upstream.example', audience, scopes },
      ],
    },
  });
  host.servers = [server];
  return { host, signIn: server, forMcp: server, ids, resource: RESOURCE, scopeOf: short };
}

/**
 * Starts a realm of Keycloak: one client for all MCP clients, the gateway, the MCP server, a client with a service account, and
 * a client scope for each of gateway and MCP server, with an audience mapper. `jwks`: keys of the gateway for private_key_jwt.
 */
export async function startKeycloak({ authority, domain = 'sso.acme.example', realm = 'acme', method = 'client_secret_basic', clientSecret, jwks }) {
  const host = await new Host(domain).start(authority);
  const ids = { realm, mcpClient: 'mcp-clients', gateway: 'mcp-gateway', mcpServer: 'mcp-server', batch: 'nightly-batch', reports: 'reports', kiosk: 'kiosk' };
  const batchSecret = randomBytes(24).toString('base64url');
  const scopes = ['mcp:read', 'mcp:call', ...DEFAULT_SCOPES];
  const server = new AuthorizationServer({
    name: `Keycloak ${realm}`,
    issuer: `https://${domain}/realms/${realm}`,
    mount: `/realms/${realm}`,
    dialect: keycloak,
    accounts: keycloakDirectory(),
    clients: [
      publicClient(ids.mcpClient, REDIRECT_URI),
      // Without the client scope of the gateway.
      publicClient(ids.kiosk, REDIRECT_URI),
      machineClient(ids.batch, batchSecret),
      {
        client_id: ids.gateway,
        ...(jwks ? { jwks } : { client_secret: clientSecret }),
        token_endpoint_auth_method: method,
        grant_types: ['urn:ietf:params:oauth:grant-type:token-exchange'],
        response_types: [],
        redirect_uris: [],
      },
    ],
    settings: {
      realm,
      // Client scopes with the client of their audience mapper, and the clients that have them as optional ones.
      clientScopes: { 'mcp:read': { audience: ids.gateway }, 'mcp:call': { audience: ids.mcpServer } },
      assignedScopes: { [ids.mcpClient]: ['mcp:read'], [ids.gateway]: ['mcp:call'] },
      // Clients of the realm that never call it.
      otherClients: [ids.mcpServer, ids.reports, 'account'],
      disabledClients: [ids.reports],
      // Clients with the switch "Standard token exchange", and those with "Consent required".
      mayExchange: [ids.gateway],
      needConsent: [],
      resources: [{ identifier: `https://${domain}`, audience: ids.gateway, scopes }],
    },
  });
  server.accessTokenSeconds = 300;
  server.sessions = new Map();
  host.servers = [server];
  return { host, signIn: server, forMcp: server, ids, batchSecret, resource: RESOURCE, scopeOf: short };
}
