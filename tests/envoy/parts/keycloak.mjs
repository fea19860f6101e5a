// Dialect of a realm of Keycloak, 26.2 and later, with standard token exchange (version 2). Source: the classes of
// keycloak/keycloak that the comments name, and its guides "Configuring and using token exchange" and "Integrating with Model
// Context Protocol (MCP)". The feature `resource-indicators` is experimental and off: `resource` is ignored.

import { createHash, generateKeyPairSync, randomUUID } from 'node:crypto';
import { directory, failure } from './authorization-server.mjs';
import { selfSigned } from './certificate.mjs';

const TOKEN_EXCHANGE = 'urn:ietf:params:oauth:grant-type:token-exchange';
const ACCESS_TOKEN = 'urn:ietf:params:oauth:token-type:access_token';
const ID_TOKEN = 'urn:ietf:params:oauth:token-type:id_token';

/** Client scopes that every client has as default ones in a new realm, and that are in the claim `scope`. */
export const DEFAULT_SCOPES = ['profile', 'email'];
const PROTOCOL = '/protocol/openid-connect';
const REGISTRATION = '/clients-registrations/openid-connect';
const INVALID_CLIENT = 'Invalid client or Invalid client credentials';
const UNTRUSTED_HOST = "Policy 'Trusted Hosts' rejected request to client-registration service. Details: Host not trusted.";

/** Refusal with the status of the source. */
const refusal = (error, text, status = 400) => failure(error, text, { own: true, status });

/** RSA key pair of the realm for encryption, beside those for signatures. */
let encryptionKeys;

export const keycloak = {
  // OIDCLoginProtocolService: `auth`, `token`, `certs`, `userinfo`, `logout`.
  routes: {
    authorization: `${PROTOCOL}/auth`,
    token: `${PROTOCOL}/token`,
    jwks: `${PROTOCOL}/certs`,
    userinfo: `${PROTOCOL}/userinfo`,
    end_session: `${PROTOCOL}/logout`,
  },
  metadataPaths: (issuerPath) => [
    `${issuerPath}/.well-known/openid-configuration`,
    `${issuerPath}/.well-known/oauth-authorization-server`,
    `/.well-known/oauth-authorization-server${issuerPath}`,
  ],
  sendsIssuer: true,
  ignoresResource: true,
  idTokenClaims: ['sub', 'typ', 'azp', 'sid', 'acr', 'email_verified', 'preferred_username'],

  // RedirectUtils: equal, or a prefix if the registered one ends with `*`.
  isRedirectUri: (uri, registered) => (registered.endsWith('*') ? uri.startsWith(registered.slice(0, -1)) : uri === registered),

  publishKey: ({ bare, publicKey, privateKey }) => asCertified({ bare, publicKey, privateKey }, { alg: 'RS256', use: 'sig' }),

  // JWKSServerUtils: the keys of the realm for encryption stand beside those for signatures.
  otherKeys() {
    encryptionKeys ??= generateKeyPairSync('rsa', { modulusLength: 2048 });
    const bare = encryptionKeys.publicKey.export({ format: 'jwk' });
    return [asCertified({ bare, ...encryptionKeys }, { alg: 'RSA-OAEP', use: 'enc' })];
  },

  // OIDCWellKnownProvider.
  metadata: ({ issuer, authorization_endpoint, token_endpoint, userinfo_endpoint, jwks_uri, end_session_endpoint }, { server }) => ({
    issuer,
    authorization_endpoint,
    token_endpoint,
    introspection_endpoint: `${token_endpoint}/introspect`,
    userinfo_endpoint: userinfo_endpoint ?? `${issuer}${PROTOCOL}/userinfo`,
    end_session_endpoint: end_session_endpoint ?? `${issuer}${PROTOCOL}/logout`,
    frontchannel_logout_session_supported: true,
    frontchannel_logout_supported: true,
    jwks_uri,
    check_session_iframe: `${issuer}${PROTOCOL}/login-status-iframe.html`,
    grant_types_supported: ['authorization_code', 'client_credentials', 'refresh_token', TOKEN_EXCHANGE],
    acr_values_supported: ['0', '1'],
    response_types_supported: ['code', 'none', 'id_token', 'token', 'id_token token', 'code id_token', 'code token', 'code id_token token'],
    subject_types_supported: ['public', 'pairwise'],
    id_token_signing_alg_values_supported: ['PS384', 'RS384', 'EdDSA', 'ES384', 'HS256', 'HS512', 'ES256', 'RS256', 'HS384', 'ES512', 'PS256', 'PS512', 'RS512'],
    id_token_encryption_alg_values_supported: ['ECDH-ES', 'RSA-OAEP', 'RSA-OAEP-256', 'RSA1_5'],
    id_token_encryption_enc_values_supported: ['A256GCM', 'A192GCM', 'A128GCM', 'A128CBC-HS256'],
    response_modes_supported: ['query', 'fragment', 'form_post', 'query.jwt', 'fragment.jwt', 'form_post.jwt', 'jwt'],
    registration_endpoint: `${issuer}${REGISTRATION}`,
    token_endpoint_auth_methods_supported: ['private_key_jwt', 'client_secret_basic', 'client_secret_post', 'tls_client_auth', 'client_secret_jwt'],
    token_endpoint_auth_signing_alg_values_supported: ['PS384', 'RS384', 'EdDSA', 'ES384', 'ES256', 'RS256', 'ES512', 'PS256', 'PS512', 'RS512'],
    claims_supported: ['aud', 'sub', 'iss', 'auth_time', 'name', 'given_name', 'family_name', 'preferred_username', 'email', 'acr'],
    claim_types_supported: ['normal'],
    claims_parameter_supported: true,
    scopes_supported: ['openid', 'offline_access', ...DEFAULT_SCOPES, 'roles', 'web-origins', 'basic', ...Object.keys(server.settings.clientScopes)],
    request_parameter_supported: true,
    request_uri_parameter_supported: true,
    code_challenge_methods_supported: ['plain', 'S256'],
    tls_client_certificate_bound_access_tokens: true,
    revocation_endpoint: `${issuer}${PROTOCOL}/revoke`,
    backchannel_logout_supported: true,
    backchannel_logout_session_supported: true,
    authorization_response_iss_parameter_supported: true,
  }),

  // ClientRegistrationAuth: a client that registers itself has no token, and its host is not in the policy of the realm.
  answers(_server, method, path) {
    if (method !== 'POST' || path !== REGISTRATION) return undefined;
    const body = JSON.stringify({ error: 'insufficient_scope', error_description: UNTRUSTED_HOST });
    return { status: 403, headers: { 'content-type': 'application/json' }, body };
  },

  // TokenManager.isValidScope: each scope must be one of the client's.
  checkSignIn(server, { client_id, scope = '' }) {
    const wrong = invalidScopes(server, client_id, scope);
    if (wrong.length) throw refusal('invalid_scope', `Invalid scopes: ${scope}`);
  },

  resourceOfScopes: (server) => server.settings.resources[0].identifier,

  accessToken(server, token, jwt) {
    const { iat, exp, iss, cnf } = jwt.payload;
    const { clientId, gty } = token;
    const account = token.accountId && server.accounts.byId(token.accountId);
    const requested = (token.scope ?? '').split(' ').filter(Boolean);
    const wrong = invalidScopes(server, clientId, requested.join(' '));
    if (wrong.length) throw refusal('invalid_scope', `Invalid scopes: ${requested.join(' ')}`);
    const isExchange = gty === TOKEN_EXCHANGE;
    const isOfService = token.wanted?.serviceAccount ?? (account ? undefined : clientId);
    const audiences = audiencesOf(server, requested, token.wanted?.audiences);
    const session = account && (isExchange ? server.sessions.get(account.id) : sessionOf(server, account));
    // DefaultTokenContextEncoderProvider: the session, the type of token and the grant are the prefix of `jti`.
    const kind = `${session ? 'on' : 'tr'}rt${isExchange ? 'te' : account ? 'ac' : 'cc'}`;
    jwt.header = { typ: 'JWT' };
    jwt.payload = {
      exp,
      iat,
      ...(account && !isExchange && { auth_time: iat }),
      jti: `${kind}:${randomUUID()}`,
      iss,
      // No audience at all is no claim.
      ...(audiences.length && { aud: audiences.length === 1 ? audiences[0] : audiences }),
      sub: account?.id ?? serviceAccountOf(isOfService),
      typ: 'Bearer',
      azp: clientId,
      ...(session && { sid: session }),
      acr: '1',
      realm_access: { roles: [`default-roles-${server.settings.realm}`, 'offline_access', 'uma_authorization'] },
      ...(audiences.includes('account') && {
        resource_access: { account: { roles: ['manage-account', 'manage-account-links', 'view-profile'] } },
      }),
      scope: withDefaults(requested),
      email_verified: false,
      ...(account
        ? { name: account.login, preferred_username: account.login, given_name: account.login, email: account.login }
        : // ServiceAccountConstants, and the mappers of the client scope `service_account`.
          { clientHost: '127.0.0.1', preferred_username: `service-account-${isOfService}`, clientAddress: '127.0.0.1', client_id: isOfService }),
      ...(cnf && { cnf }),
    };
  },

  idToken: (server, account, clientId) => ({
    sub: account.id,
    typ: 'ID',
    azp: clientId,
    sid: sessionOf(server, account),
    acr: '1',
    email_verified: false,
    preferred_username: account.login,
  }),

  error(error, { status = 400, text, own, authentication } = {}) {
    const answer = (code, name, description) => ({ status: code, body: { error: name, error_description: description } });
    if (own) return answer(status, error, text);
    if (error === 'invalid_client') {
      // AuthenticationProcessor.handleClientAuthException, JWTClientAuthenticator, ClientIdAndSecretAuthenticator.
      if (text === 'client not found') return answer(401, error, INVALID_CLIENT);
      if (authentication?.includes('private_key_jwt')) {
        return answer(400, error, 'Client authentication with signed JWT failed: Signature on JWT token failed validation');
      }
      return answer(401, 'unauthorized_client', INVALID_CLIENT);
    }
    // TokenEndpoint.checkGrantType.
    if (error === 'unsupported_grant_type') return answer(400, error, 'Unsupported grant_type');
    // KeycloakErrorHandler.
    if (error === 'server_error') return answer(500, 'unknown_error', 'For more on this error consult the server log.');
    return answer(status, error, text ?? error);
  },

  // Keycloak has no limit of its own; a proxy in front of it has.
  throttled: () => ({ status: 429, body: '', headers: {} }),

  grants: {
    [TOKEN_EXCHANGE]: {
      parameters: [
        'actor_token',
        'actor_token_type',
        'audience',
        'requested_issuer',
        'requested_subject',
        'requested_token_type',
        'resource',
        'scope',
        'subject_issuer',
        'subject_token',
        'subject_token_type',
      ],
      // TokenExchangeGrantType.getSupportedMultivaluedRequestParameters.
      repeated: ['audience', 'resource'],
      handle: exchange,
    },
  },
};

/** Ends the session of a user, as a log-out by the user or by an administrator does. */
export function logOut(server, login) {
  server.sessions.delete(server.accounts.byLogin(login).id);
}

/** Claim `scope`: requested scopes, and the default ones of the client. */
const withDefaults = (scopes) => [...new Set([...scopes, ...DEFAULT_SCOPES])].join(' ');

/** Session of a user; a sign-in begins one. */
function sessionOf(server, { id }) {
  if (!server.sessions.has(id)) server.sessions.set(id, randomUUID());
  return server.sessions.get(id);
}

/** Names that are no scopes of the realm or not assigned to this client. */
function invalidScopes(server, clientId, scope) {
  const assigned = ['openid', 'offline_access', ...DEFAULT_SCOPES, ...(server.settings.assignedScopes[clientId] ?? [])];
  return scope.split(' ').filter((name) => name && !assigned.includes(name));
}

/**
 * `aud` of a token: audience mappers of its client scopes (AudienceProtocolMapper), and `account`, for whose roles each user has
 * a default one (AudienceResolveProtocolMapper). The parameter `audience` keeps those that it names.
 */
function audiencesOf({ settings }, scopes, wanted) {
  const mapped = scopes.map((name) => settings.clientScopes[name]?.audience).filter(Boolean);
  const all = [...new Set([...mapped, 'account'])];
  return wanted?.length ? all.filter((audience) => wanted.includes(audience)) : all;
}

/** StandardTokenExchangeProvider and AbstractTokenExchangeProvider, in the order of their checks. */
async function exchange(server, ctx) {
  const { params, client } = ctx.oidc;
  const { clientId } = client;
  const { settings } = server;

  // StandardTokenExchangeProvider.supports; TokenExchangeGrantType answers with its reason.
  const unsupported = (reason) => refusal('invalid_request', reason);
  for (const name of ['requested_subject', 'requested_issuer', 'subject_issuer']) {
    if (params[name] !== undefined) throw unsupported(`Parameter '${name}' is not supported for standard token exchange`);
  }
  if (!settings.mayExchange.includes(clientId)) throw unsupported('Standard token exchange is not enabled for the requested client');
  for (const name of ['subject_token', 'subject_token_type']) {
    if (params[name] === undefined) throw unsupported(`Parameter '${name}' required for standard token exchange`);
  }
  if (params.subject_token_type !== ACCESS_TOKEN) throw unsupported("Parameter 'subject_token' supports access tokens only");

  // AuthenticationManager.verifyIdentityToken: signature, issuer, expiry, `typ`, user, session.
  const subject = await server.verify(params.subject_token).catch(() => undefined);
  const service = [...server.clients].find(({ client_id }) => subject && serviceAccountOf(client_id) === subject.sub);
  const hasSession = service ? true : subject?.sid !== undefined && server.sessions.get(subject.sub) === subject.sid;
  if (subject?.typ !== 'Bearer' || !hasSession) throw refusal('invalid_request', 'Invalid token');
  if (subject.cnf && subject.azp !== clientId) {
    const text = 'Sender-constrained token exchange rejected as the token was not issued for the requesting client';
    throw refusal('invalid_request', text);
  }

  const type = params.requested_token_type ?? ACCESS_TOKEN;
  if (![ACCESS_TOKEN, ID_TOKEN].includes(type)) throw refusal('invalid_request', 'requested_token_type unsupported');

  // AbstractTokenExchangeProvider.getTargetAudienceClients, then validateAudience.
  const wanted = [params.audience ?? []].flat();
  const known = [...server.clients.map(({ client_id }) => client_id), ...settings.otherClients];
  if (wanted.some((name) => !known.includes(name))) throw refusal('invalid_client', 'Audience not found');
  if (client.clientAuthMethod === 'none') throw refusal('invalid_client', 'Public client is not allowed to exchange token');
  if (wanted.some((name) => settings.disabledClients.includes(name))) throw refusal('invalid_client', 'Client disabled');
  if (subject.azp !== clientId && ![subject.aud ?? []].flat().includes(clientId)) {
    throw refusal('access_denied', 'Client is not within the token audience', 403);
  }

  const scope = params.scope ?? '';
  if (invalidScopes(server, clientId, scope).length) throw refusal('invalid_scope', `Invalid scopes: ${scope}`);
  if (settings.needConsent.includes(clientId)) {
    throw refusal('invalid_scope', `Missing consents for Token Exchange in client ${clientId}`);
  }
  const scopes = scope.split(' ').filter(Boolean);
  const granted = audiencesOf(server, scopes, wanted);
  const missing = wanted.filter((name) => !granted.includes(name));
  if (missing.length) throw refusal('invalid_request', `Requested audience not available: ${missing.join(',')}`);

  const account = service ? undefined : server.accounts.byId(subject.sub);
  const access_token = await (type === ID_TOKEN
    ? idTokenFor(server, account, clientId)
    : server.issueAccessToken(ctx, {
        accountId: account?.id,
        resource: settings.resources[0],
        scopes,
        wanted: { audiences: wanted, serviceAccount: service?.client_id },
      }));
  ctx.body = {
    access_token,
    expires_in: server.accessTokenSeconds,
    refresh_expires_in: 0,
    token_type: type === ID_TOKEN ? 'N_A' : 'Bearer',
    'not-before-policy': 0,
    ...(subject.sid && { session_state: subject.sid }),
    scope: withDefaults(scopes),
    issued_token_type: type,
  };
}

function idTokenFor(server, account, clientId) {
  const iat = Math.floor(Date.now() / 1000);
  const claims = keycloak.idToken(server, account, clientId);
  return server.sign({ ...claims, iss: server.issuer, aud: clientId, iat, exp: iat + server.accessTokenSeconds }, { typ: 'JWT' });
}

function asCertified({ bare, publicKey, privateKey }, use) {
  const { x5c, x5t } = selfSigned({ subject: 'acme', publicKey, privateKey });
  const thumbprint = createHash('sha256').update(Buffer.from(x5c[0], 'base64')).digest('base64url');
  const kid = createHash('sha256').update(bare.n).digest('base64url');
  return { kid, kty: 'RSA', ...use, x5c, x5t, 'x5t#S256': thumbprint, n: bare.n, e: bare.e };
}

const uuid = (seed) => seed.toString('hex').replace(/^(.{8})(.{4}).(.{3}).(.{3})(.{12}).*$/, '$1-$2-4$3-8$4-$5');

/** `sub` of the service account of a client: the ID of a user like any other. */
const serviceAccountOf = (clientId) => uuid(createHash('sha256').update(`service-account-${clientId}`).digest());

export const keycloakDirectory = () => directory((_login, seed) => ({ id: uuid(seed) }));
