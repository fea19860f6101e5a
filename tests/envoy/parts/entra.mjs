// Dialect of Microsoft Entra ID (v2.0 endpoints, documentation of August 2026), with its obstacles for MCP clients. Its
// documentation: "OpenID Connect on the Microsoft identity platform" (the one metadata document and its members), "Secure a
// Model Context Protocol (MCP) server with Microsoft Entra ID" (`resource` is compared with Application ID URIs), "Redirect URI
// (reply URL) restrictions" (ports of loopback addresses), "Microsoft Entra authentication and authorization error codes". The
// answer to a scope without its app is known from reports of users only; some report that it was read as a scope of Graph.

import { createHash, randomBytes, randomUUID } from 'node:crypto';
import { createRemoteJWKSet, jwtVerify } from 'jose';
import { directory, failure } from './authorization-server.mjs';
import { selfSigned } from './certificate.mjs';

const JWT_BEARER = 'urn:ietf:params:oauth:grant-type:jwt-bearer';
const CLIENT_ASSERTION = 'urn:ietf:params:oauth:client-assertion-type';

const GRAPH = '00000003-0000-0000-c000-000000000000';
const OIDC_SCOPES = ['openid', 'profile', 'email', 'offline_access'];

const CODE = {
  access_denied: [65004, 'User declined to consent to access the app.'],
  consent_required: [65001, 'The user or administrator has not consented to use the application.'],
  interaction_required: [
    50076,
    'Due to a configuration change made by your administrator, you must use multi-factor authentication.',
  ],
  invalid_client: [7000215, 'Invalid client secret provided.'],
  invalid_redirect_uri: [50011, 'The redirect URI of the request is none of those that the application has.'],
  invalid_grant: [500133, 'Assertion is not within its valid time range.'],
  invalid_request: [900144, 'The request body must contain all required parameters.'],
  invalid_resource: [500011, 'The resource principal was not found in the tenant.'],
  invalid_scope: [70011, "The provided value for the input parameter 'scope' is not valid."],
  invalid_target: [9010010, 'The resource parameter does not match the requested scopes.'],
  login_required: [50058, 'A silent sign-in request was sent but no user is signed in.'],
  server_error: [50196, 'The server terminated an operation.'],
  slow_down: [90055, 'Too many requests.'],
  temporarily_unavailable: [90033, 'A transient error has occurred. Please try again.'],
  unauthorized_client: [700016, 'Application was not found in the directory.'],
  unsupported_grant_type: [70003, 'The app requested an unsupported grant type.'],
};

export const entra = {
  routes: {
    authorization: '/oauth2/v2.0/authorize',
    token: '/oauth2/v2.0/token',
    jwks: '/discovery/v2.0/keys',
    end_session: '/oauth2/v2.0/logout',
  },
  metadataPaths: (issuerPath) => [`${issuerPath}/.well-known/openid-configuration`],
  idTokenClaims: ['sub', 'oid', 'tid', 'ver', 'preferred_username', 'rh', 'uti'],

  // Entra publishes no `alg`, and has members of its own.
  publishKey({ bare, publicKey, privateKey, issuer }) {
    const { x5c, x5t } = selfSigned({ subject: 'accounts.accesscontrol', publicKey, privateKey });
    return {
      kty: 'RSA',
      use: 'sig',
      kid: x5t,
      x5t,
      n: bare.n,
      e: bare.e,
      x5c,
      cloud_instance_name: 'microsoftonline.com',
      issuer: issuer.replace(/[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}/, '{tenantid}'),
    };
  },

  // The document lacks S256, registration, public clients and `iss`.
  metadata: ({ issuer, jwks_uri, authorization_endpoint, token_endpoint, end_session_endpoint }) => ({
    token_endpoint,
    token_endpoint_auth_methods_supported: ['client_secret_post', 'private_key_jwt', 'client_secret_basic'],
    jwks_uri,
    response_modes_supported: ['query', 'fragment', 'form_post'],
    subject_types_supported: ['pairwise'],
    id_token_signing_alg_values_supported: ['RS256'],
    response_types_supported: ['code', 'id_token', 'code id_token', 'id_token token'],
    scopes_supported: OIDC_SCOPES,
    issuer,
    request_uri_parameter_supported: false,
    userinfo_endpoint: 'https://graph.microsoft.com/oidc/userinfo',
    authorization_endpoint,
    http_logout_supported: true,
    frontchannel_logout_supported: true,
    end_session_endpoint,
    tenant_region_scope: 'EU',
    cloud_instance_name: 'microsoftonline.com',
    cloud_graph_host_name: 'graph.windows.net',
    msgraph_host: 'graph.microsoft.com',
  }),

  // The path is compared exactly; the port of a loopback address is ignored. IPv6 is not a loopback address here.
  isRedirectUri(uri, registered) {
    const portless = (text) => text.replace(/^(http:\/\/(?:localhost|127\.0\.0\.1)):\d+(?=\/|$)/, '$1');
    return portless(uri) === portless(registered);
  },

  // The scope names the resource: {Application ID URI}/{scope}. The parameter `resource`, if present, must name the same app.
  checkSignIn(server, { scope, resource }) {
    if (!scope) {
      const missing = failure('invalid_request', "The request body must contain the parameter 'scope'.", { code: 900144 });
      throw Object.assign(missing, { allow_redirect: false });
    }
    const apps = scope
      .split(' ')
      .filter((name) => !OIDC_SCOPES.includes(name))
      .map((name) => appOfScope(server, name));
    for (const identifier of [resource ?? []].flat()) {
      const app = server.resource(identifier);
      if (!app || apps.length === 0 || apps.some((audience) => audience !== app.audience)) {
        throw failure('invalid_target', CODE.invalid_target[1]);
      }
    }
  },

  resourceOfScopes(server, scope = '') {
    const full = scope.split(' ').find((value) => value.includes('/'));
    const identifier = full?.slice(0, full.lastIndexOf('/'));
    return appOf(server, identifier)?.identifier ?? identifier;
  },
  // A scope may name the app by each of its URIs or by its client ID.
  scopesOf: (server, { audience }) =>
    server.settings.resources
      .filter((same) => same.audience === audience)
      .flatMap(({ identifier, scopes }) => [identifier, audience].flatMap((app) => scopes.map((scope) => `${app}/${scope}`))),

  accessToken(server, token, jwt) {
    const account = server.accounts.byId(token.accountId);
    const client = server.clients.find(({ client_id }) => client_id === token.clientId);
    const resource = server.settings.resources.find(({ audience }) => audience === token.aud);
    const { iat, exp, aud, iss } = jwt.payload;
    const short = (token.scope ?? '').split(' ').map((scope) => scope.slice(scope.lastIndexOf('/') + 1));
    jwt.header = { typ: 'JWT' };
    jwt.payload = {
      aud,
      iss,
      iat,
      nbf: iat,
      exp,
      aio: randomBytes(24).toString('base64'),
      azp: token.clientId,
      azpacr: client?.token_endpoint_auth_method === 'none' ? '0' : '1',
      rh: `1.${randomBytes(16).toString('base64url')}.`,
      tid: server.settings.tenant,
      uti: randomBytes(16).toString('base64url'),
      ver: '2.0',
      ...(account
        ? {
            oid: account.id,
            preferred_username: account.login,
            scp: short.filter(Boolean).join(' '),
            sub: pairwise(account, aud),
            ...token.wanted,
            ...(server.settings.canAnswerClaimsChallenges.includes(token.clientId)
              ? { xms_cc: ['cp1'] }
              : {}),
          }
        : { oid: token.clientId, sub: token.clientId, idtyp: 'app', roles: resource?.appRoles ?? [] }),
    };
  },

  idToken: (server, account, clientId) => ({
    sub: pairwise(account, clientId),
    oid: account.id,
    tid: server.settings.tenant,
    ver: '2.0',
    preferred_username: account.login,
    rh: `1.${randomBytes(16).toString('base64url')}.`,
    uti: randomBytes(16).toString('base64url'),
  }),

  error(error, { status, text: told, code, suberror, claims } = {}) {
    const [usualCode, usualText] = CODE[error] ?? [900144, error];
    // The library compares `resource` at the token endpoint, with its own texts.
    const text = error === 'invalid_target' ? usualText : told;
    const trace_id = randomUUID();
    const correlation_id = randomUUID();
    const timestamp = `${new Date().toISOString().slice(0, 19).replace('T', ' ')}Z`;
    return {
      status: error === 'invalid_client' ? 401 : error === 'server_error' ? 500 : (status ?? 400),
      body: {
        error,
        error_description:
          `AADSTS${code ?? usualCode}: ${text ?? usualText} Trace ID: ${trace_id} ` +
          `Correlation ID: ${correlation_id} Timestamp: ${timestamp}`,
        error_codes: [code ?? usualCode],
        timestamp,
        trace_id,
        correlation_id,
        error_uri: `https://login.microsoftonline.com/error?code=${code ?? usualCode}`,
        ...(suberror ? { suberror } : {}),
        ...(claims ? { claims } : {}),
      },
    };
  },

  // The certificate selects the key, not `kid`.
  checkAssertion(server, header) {
    if (header.alg !== 'PS256' || !server.settings.certificates.includes(header['x5t#S256'])) {
      throw failure('invalid_client', 'The certificate is not registered.', { code: 700027 });
    }
  },

  throttled: () => ({
    status: 429,
    body: 'Too Many Requests',
    headers: { 'content-type': 'text/plain', 'retry-after': '60' },
  }),

  grants: {
    [JWT_BEARER]: {
      parameters: ['assertion', 'claims', 'requested_token_use', 'resource', 'scope'],
      handle: onBehalfOf,
    },
  },
};

/** App of an Application ID URI, or of a client ID in its place. */
const appOf = (server, identifier) =>
  server.settings.resources.find((known) => known.identifier === identifier || known.audience === identifier);

/** Client ID of the app of a scope. A scope that names no app is of Graph. */
function appOfScope(server, scope) {
  const at = scope.lastIndexOf('/');
  const [identifier, name] = [scope.slice(0, Math.max(at, 0)), scope.slice(at + 1)];
  const app = appOf(server, identifier);
  if (identifier && !app) {
    const { tenant } = server.settings;
    throw failure('invalid_resource', `The resource principal named ${identifier} was not found in the tenant ${tenant}.`);
  }
  if (!app || ![...app.scopes, '.default'].includes(name)) {
    const text = `The application asked for scope '${name}' that does not exist on the resource '${app?.audience ?? GRAPH}'.`;
    throw failure('invalid_client', text, { code: 650053 });
  }
  return app.audience;
}

/** Federated identity credential: a token of another issuer, with the registered subject and audience. */
async function checkFederation({ issuer, subject }, { client_assertion, client_assertion_type }) {
  const refused = (code, text) => failure('invalid_client', text, { code });
  if (client_assertion_type !== `${CLIENT_ASSERTION}:jwt-bearer` || !client_assertion) {
    throw refused(7000218, "The request body must contain 'client_assertion' or 'client_secret'.");
  }
  const metadata = await (await fetch(`${issuer}/.well-known/openid-configuration`)).json();
  const keys = createRemoteJWKSet(new URL(metadata.jwks_uri));
  try {
    await jwtVerify(client_assertion, keys, { issuer, subject, audience: 'api://AzureADTokenExchange' });
  } catch (error) {
    const code = { iss: 700211, aud: 700212, sub: 700213 }[error.claim];
    if (code) throw refused(code, `No matching federated identity record found: ${error.claim}.`);
    if (error.code === 'ERR_JWT_EXPIRED') throw refused(700024, 'Client assertion is not within its valid time range.');
    throw refused(700027, 'Client assertion failed signature validation.');
  }
}

async function onBehalfOf(server, ctx) {
  if (server.settings.federation) await checkFederation(server.settings.federation, ctx.oidc.body);
  const { assertion, requested_token_use, resource: forbidden, scope } = ctx.oidc.params;
  const { clientId } = ctx.oidc.client;
  if (requested_token_use !== 'on_behalf_of') {
    throw failure('invalid_request', "The 'requested_token_use' parameter is missing.", { code: 900144 });
  }
  if (!assertion || !scope) {
    throw failure('invalid_request', "The request body must contain 'assertion' and 'scope'.", { code: 900144 });
  }
  if (forbidden !== undefined) {
    throw failure('invalid_request', "The 'resource' request parameter is not supported.", { code: 901002 });
  }

  let subject;
  try {
    subject = await server.verify(assertion);
  } catch (error) {
    const code = error.message === 'expired' ? 500133 : 50013;
    throw failure('invalid_grant', 'Assertion failed signature or time validation.', { code });
  }
  if (subject.scp === undefined && subject.roles === undefined) {
    throw failure('invalid_grant', "Input id_token cannot be used as 'jwt-bearer' grant.", { code: 240002 });
  }
  if (appOf(server, subject.aud)?.audience !== clientId) {
    throw failure('invalid_grant', 'Assertion audience does not match the client app.', { code: 500131 });
  }
  const account = server.accounts.byId(subject.oid);
  if (!account || subject.idtyp === 'app') {
    throw failure('invalid_grant', 'The assertion is not of a user.', { code: 50034 });
  }

  const { resource, scopes } = requested(server, scope);
  ctx.body = {
    token_type: 'Bearer',
    scope: scopes.join(' '),
    expires_in: server.accessTokenSeconds,
    ext_expires_in: server.accessTokenSeconds,
    ...(server.settings.refreshIn && { refresh_in: server.settings.refreshIn }),
    access_token: await server.issueAccessToken(ctx, { accountId: account.id, resource, scopes, wanted: wanted(ctx) }),
  };
}

/** Authentication contexts that the parameter `claims` requests; the user is taken to have passed them. */
function wanted({ oidc: { params } }) {
  if (params.claims === undefined) return undefined;
  const { acrs } = JSON.parse(params.claims).access_token;
  return acrs && { acrs: [acrs.value] };
}

function requested(server, scope) {
  const wanted = scope.split(' ').map((full) => ({
    identifier: full.slice(0, full.lastIndexOf('/')),
    name: full.slice(full.lastIndexOf('/') + 1),
  }));
  const [{ identifier }] = wanted;
  const resource = appOf(server, identifier);
  if (!resource) throw failure('invalid_resource', `The resource principal ${identifier} was not found.`);
  if (wanted.some((other) => other.identifier !== identifier)) {
    throw failure('invalid_scope', 'Scopes of more than one resource.', { code: 700022 });
  }
  const names = wanted.map(({ name }) => name);
  if (names.includes('.default') && names.length > 1) {
    throw failure('invalid_scope', 'Scope .default with others.', { code: 70011 });
  }
  const scopes = names[0] === '.default' ? resource.scopes : names;
  if (scopes.some((name) => !resource.scopes.includes(name))) {
    throw failure('invalid_scope', 'Unknown scope.', { code: 70011 });
  }
  return { resource, scopes: scopes.map((name) => `${resource.identifier}/${name}`) };
}

/** `sub` of one user differs by audience; `oid` does not. */
const pairwise = (account, audience) =>
  createHash('sha256').update(`${account.id} ${audience}`).digest('base64url');

export const entraDirectory = () =>
  directory((_login, seed) => ({
    id: seed.toString('hex').replace(/^(.{8})(.{4}).(.{3}).(.{3})(.{12}).*$/, '$1-$2-4$3-8$4-$5'),
  }));
