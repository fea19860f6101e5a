// Dialect of Okta (developer documentation of August 2026), with its obstacles for MCP clients. Its documentation: "OpenID
// Connect & OAuth 2.0 API" (the paths of the metadata, its members, scopes in it only if published), "Dynamic Client
// Registration" (an administrator's token), "Okta error codes" (E0000005), and the help article "OpenID Connect Sign-in Redirect
// URI" (compared exactly, port included). `resource` is not a parameter of a sign-in.

import { failure, directory } from './authorization-server.mjs';
import { createHash, randomBytes } from 'node:crypto';
import { decodeProtectedHeader } from 'jose';

const TOKEN_EXCHANGE = 'urn:ietf:params:oauth:grant-type:token-exchange';
const ACCESS_TOKEN = 'urn:ietf:params:oauth:token-type:access_token';
const ID_TOKEN = 'urn:ietf:params:oauth:token-type:id_token';
const JWT_BEARER = 'urn:ietf:params:oauth:grant-type:jwt-bearer';
export const ID_JAG = 'urn:ietf:params:oauth:token-type:id-jag';
const ID_JAG_SECONDS = 300;

const STATUS = { invalid_client: 401, server_error: 500 };
const TEXT = {
  access_denied: 'User is not assigned to the client application.',
  consent_required: 'The requested scopes require consent.',
  interaction_required: 'User interaction is required.',
  invalid_client: 'The client_assertion is invalid.',
  invalid_grant: 'The subject_token has expired.',
  invalid_redirect_uri: "The 'redirect_uri' parameter must be a Login redirect URI in the client app settings.",
  invalid_request: "The 'subject_token' is invalid.",
  invalid_scope: 'One or more scopes are not configured for the authorization server resource.',
  invalid_target: "The 'audience' is invalid.",
  login_required: 'The client specified not to prompt, but the user is not logged in.',
  server_error: 'An internal error has occurred.',
  slow_down: 'Slow down.',
  temporarily_unavailable: 'The authorization server is temporarily unavailable.',
  unauthorized_client: 'The client is not authorized to use the provided grant type.',
  unsupported_grant_type: 'The authorization grant type is not supported.',
};

const REGISTRATION = '/v1/clients';

export const okta = {
  routes: {
    authorization: '/v1/authorize',
    token: '/v1/token',
    jwks: '/v1/keys',
    userinfo: '/v1/userinfo',
    end_session: '/v1/logout',
  },
  metadataPaths: (issuerPath) => [
    `${issuerPath}/.well-known/openid-configuration`,
    `${issuerPath}/.well-known/oauth-authorization-server`,
    `/.well-known/oauth-authorization-server${issuerPath}`,
  ],
  ignoresResource: true,
  isRedirectUri: (uri, registered) => uri === registered,
  idTokenClaims: ['sub', 'ver', 'jti', 'amr', 'idp', 'preferred_username'],

  publishKey: ({ bare }) => ({
    kty: 'RSA',
    alg: 'RS256',
    kid: randomBytes(32).toString('base64url'),
    use: 'sig',
    e: bare.e,
    n: bare.n,
  }),

  // The registration endpoint of the org is in the metadata of each server.
  metadata(standard, { server, kind }) {
    const { authorization_response_iss_parameter_supported: _, userinfo_endpoint, ...members } = standard;
    const { id_token_signing_alg_values_supported, ...ofOAuth } = members;
    const published = server.settings.publishedScopes ?? [];
    return {
      ...(kind === 'openid-configuration' ? { ...members, userinfo_endpoint } : ofOAuth),
      registration_endpoint: new URL(`/oauth2${REGISTRATION}`, server.issuer).href,
      response_modes_supported: ['query', 'fragment', 'form_post', 'okta_post_message'],
      scopes_supported: ['openid', 'profile', 'email', 'address', 'phone', 'offline_access', ...published],
    };
  },

  // The registration of a client needs a token of an administrator.
  answers({ issuer }, method, path) {
    if (method !== 'POST' || path !== REGISTRATION || new URL(issuer).pathname !== '/') return undefined;
    const errorCode = 'E0000005';
    const errorId = `oae${randomBytes(16).toString('base64url')}`;
    return {
      status: 403,
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ errorCode, errorSummary: 'Invalid session', errorLink: errorCode, errorId, errorCauses: [] }),
    };
  },

  // An authorization server has one audience, and ignores a requested one.
  resourceOfScopes: (server) => server.settings.resources[0].identifier,

  accessToken(server, token, jwt) {
    const account = server.accounts.byId(token.accountId);
    const { iat, exp, aud, iss, cnf } = jwt.payload;
    jwt.header = { typ: undefined };
    jwt.payload = {
      ver: 1,
      jti: `AT.${randomBytes(24).toString('base64url')}`,
      iss,
      aud,
      iat,
      exp,
      cid: token.clientId,
      ...(account ? { uid: account.id, auth_time: iat } : {}),
      scp: (token.scope ?? '').split(' ').filter(Boolean),
      sub: account ? account.login : token.clientId,
      ...(cnf && { cnf }),
    };
  },

  idToken: (_server, account) => ({
    sub: account.id,
    ver: 1,
    jti: `ID.${randomBytes(24).toString('base64url')}`,
    amr: ['pwd'],
    idp: '00o1',
    preferred_username: account.login,
  }),

  error(error, { status, text, interactionUri } = {}) {
    return {
      status: STATUS[error] ?? status ?? 400,
      body: {
        error,
        error_description: text ?? TEXT[error] ?? error,
        ...(interactionUri ? { interaction_uri: interactionUri } : {}),
      },
    };
  },

  throttled: () => ({
    status: 429,
    body: JSON.stringify({
      errorCode: 'E0000047',
      errorSummary: 'API call exceeded rate limit due to too many requests.',
    }),
    headers: {
      'content-type': 'application/json',
      'x-rate-limit-limit': '600',
      'x-rate-limit-remaining': '0',
      'x-rate-limit-reset': String(Math.floor(Date.now() / 1000) + 30),
    },
  }),

  grants: {
    [TOKEN_EXCHANGE]: {
      parameters: [
        'actor_token',
        'actor_token_type',
        'audience',
        'requested_token_type',
        'resource',
        'scope',
        'subject_token',
        'subject_token_type',
      ],
      handle: (server, ctx) =>
        server.settings.connections ? issueIdJag(server, ctx) : exchange(server, ctx),
    },
    [JWT_BEARER]: { parameters: ['assertion', 'scope'], handle: redeemIdJag },
  },
};

/** RFC 8693 for a service app at a custom authorization server of Okta. */
async function exchange(server, ctx) {
  const { audience, scope, subject_token, subject_token_type, requested_token_type } =
    ctx.oidc.params;
  if (![ACCESS_TOKEN, ID_TOKEN].includes(subject_token_type)) {
    throw failure('invalid_request', "The 'subject_token_type' is invalid or not supported.");
  }
  if (requested_token_type && requested_token_type !== ACCESS_TOKEN) {
    throw failure('invalid_request', "The 'requested_token_type' is invalid.");
  }
  const resource = server.settings.resources.find((known) => known.audience === audience);
  if (!resource) throw failure('invalid_target', "The 'audience' is invalid.");
  const scopes = (scope ?? '').split(' ').filter(Boolean);
  if (!scopes.length || scopes.some((wanted) => !resource.scopes.includes(wanted))) {
    throw failure('invalid_scope', TEXT.invalid_scope);
  }

  const subject = await verifiedSubject(server, subject_token);
  const isIdToken = subject.jti.startsWith('ID.');
  if (isIdToken !== (subject_token_type === ID_TOKEN)) {
    throw failure('invalid_request', "The 'subject_token' is invalid.");
  }
  const account = server.accounts.byId(subject.uid ?? subject.sub);
  if (!account) throw failure('invalid_request', "The 'subject_token' is invalid.");

  const access_token = await server.issueAccessToken(ctx, { accountId: account.id, resource, scopes });
  ctx.body = {
    token_type: ctx.state.tokenType,
    expires_in: server.accessTokenSeconds,
    access_token,
    scope: scopes.join(' '),
    issued_token_type: ACCESS_TOKEN,
  };
}

/** Cross App Access at the org server: an assertion for an agent, to a server that the agent has a connection to. */
async function issueIdJag(server, ctx) {
  const { audience, scope, resource, subject_token, subject_token_type, requested_token_type } =
    ctx.oidc.params;
  const { clientId } = ctx.oidc.client;
  if (requested_token_type !== ID_JAG) {
    throw failure('invalid_request', "The 'requested_token_type' is invalid.");
  }
  if (subject_token_type !== ID_TOKEN) {
    throw failure('invalid_request', "The 'subject_token_type' is invalid or not supported.");
  }
  const subject = await verifiedSubject(server, subject_token);
  if (subject.aud !== clientId) throw failure('invalid_request', "The 'subject_token' is invalid.");
  const connection = server.settings.connections.find(({ issuer }) => issuer === audience);
  if (!connection) throw failure('invalid_target', "The 'audience' is invalid.");
  if (resource && resource !== connection.resource) {
    throw failure('invalid_target', "The 'resource' is invalid.");
  }
  const scopes = (scope ?? '').split(' ').filter(Boolean);
  if (!scopes.length || scopes.some((wanted) => !connection.scopes.includes(wanted))) {
    throw failure('invalid_scope', TEXT.invalid_scope);
  }
  const now = Math.floor(Date.now() / 1000);
  const assertion = await server.sign(
    {
      jti: `IDAAG.${randomBytes(24).toString('base64url')}`,
      iss: server.issuer,
      sub: subject.sub,
      aud: audience,
      client_id: connection.clientId ?? clientId,
      iat: now,
      exp: now + ID_JAG_SECONDS,
      scope: scopes.join(' '),
      ...(resource && { resource }),
    },
    { typ: 'oauth-id-jag+jwt' },
  );
  ctx.body = {
    token_type: 'N_A',
    expires_in: ID_JAG_SECONDS,
    access_token: assertion,
    issued_token_type: ID_JAG,
  };
}

/**
 * Cross App Access at the authorization server of a resource: an assertion is accepted once, from its client, with its scopes.
 */
async function redeemIdJag(server, ctx) {
  const { assertion, scope } = ctx.oidc.params;
  if (scope !== undefined) throw failure('invalid_request', 'id_jag_scopes_in_request');
  let claims;
  for (const issuer of server.settings.assertionsOf ?? []) {
    claims ??= await issuer.verify(assertion).catch(() => undefined);
  }
  const no = (text) => failure('invalid_grant', text);
  if (!claims) throw no('The assertion is invalid.');
  if (decodeProtectedHeader(assertion).typ !== 'oauth-id-jag+jwt') throw no('id_jag_invalid_type');
  if (claims.aud !== server.issuer) throw no('id_jag_invalid_audience');
  if (claims.client_id !== ctx.oidc.client.clientId) throw no('id_jag_invalid_client');
  if (claims.exp - claims.iat > ID_JAG_SECONDS) throw no('id_jag_lifetime_too_long');
  server.usedAssertions ??= new Set();
  if (server.usedAssertions.has(claims.jti)) throw no('id_jag_replayed');
  const [resource] = server.settings.resources;
  const scopes = claims.scope.split(' ').filter((granted) => resource.scopes.includes(granted));
  if (!scopes.length) throw failure('invalid_scope', TEXT.invalid_scope);
  const access_token = await server.issueAccessToken(ctx, { accountId: claims.sub, resource, scopes });
  server.usedAssertions.add(claims.jti);
  ctx.body = {
    token_type: ctx.state.tokenType,
    expires_in: server.accessTokenSeconds,
    access_token,
    scope: scopes.join(' '),
  };
}

async function verifiedSubject(server, token) {
  for (const issuer of [server, ...server.settings.trusts]) {
    try {
      return await issuer.verify(token);
    } catch (error) {
      if (error.message === 'expired') throw failure('invalid_grant', TEXT.invalid_grant);
    }
  }
  throw failure('invalid_request', "The 'subject_token' is invalid.");
}

/** Users of Okta: `uid` like 00u…; the login is the name that users know. */
export const oktaDirectory = () =>
  directory((_login, seed) => ({
    id: `00u${createHash('sha256').update(seed).digest('base64url').replace(/[-_]/g, 'x').slice(0, 17)}`,
  }));
