// Dialect of a provider that follows RFC 8693, and RFC 7523 with a parameter for the target. Tokens are those of the library
// (RFC 9068, `typ: at+jwt`), and clients authenticate with a secret.

import { directory, failure } from './authorization-server.mjs';

const TOKEN_EXCHANGE = 'urn:ietf:params:oauth:grant-type:token-exchange';
const JWT_BEARER = 'urn:ietf:params:oauth:grant-type:jwt-bearer';
const TOKEN_TYPE = 'urn:ietf:params:oauth:token-type:';

export const rfc8693 = {
  routes: { authorization: '/authorize', token: '/token', jwks: '/jwks' },
  metadataPaths: (issuerPath) => [
    `${issuerPath}/.well-known/openid-configuration`,
    `/.well-known/oauth-authorization-server${issuerPath}`,
  ],
  sendsIssuer: true,
  idTokenClaims: ['sub'],
  publishKey: ({ bare }) => ({
    ...bare,
    alg: 'RS256',
    use: 'sig',
    kid: bare.n.slice(0, 16),
  }),
  metadata: (standard) => standard,
  resourceOfScopes: (server) => server.settings.resources[0].identifier,
  accessToken(_server, token, jwt) {
    if (token.act) jwt.payload.act = token.act;
  },
  idToken: (_server, account) => ({ sub: account.id }),
  error: (error, { status, text } = {}) => ({
    status: status ?? (error === 'invalid_client' ? 401 : 400),
    body: { error, error_description: text ?? error },
  }),
  throttled: () => ({ status: 429, body: '', headers: { 'retry-after': '7' } }),
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
      async handle(server, ctx) {
        const { audience, resource: wanted, scope, subject_token, subject_token_type } =
          ctx.oidc.params;
        const { actor_token, actor_token_type } = ctx.oidc.params;
        if (subject_token_type !== `${TOKEN_TYPE}access_token`) {
          throw failure('invalid_request', 'subject_token_type is not supported');
        }
        let subject;
        try {
          subject = await server.verify(subject_token);
        } catch {
          throw failure('invalid_request', 'subject_token is not valid');
        }
        let actor;
        if (actor_token || actor_token_type) {
          if (actor_token_type !== `${TOKEN_TYPE}jwt`) {
            throw failure('invalid_request', 'actor_token_type is not supported');
          }
          try {
            actor = await server.verify(actor_token);
          } catch {
            throw failure('invalid_request', 'actor_token is not valid');
          }
        }
        const resource = server.settings.resources.find(
          (known) => known.audience === audience || known.identifier === wanted,
        );
        if (!resource) throw failure('invalid_target', 'audience or resource is unknown');
        const scopes = scope ? scope.split(' ') : resource.scopes;
        ctx.body = {
          access_token: await server.issueAccessToken(ctx, {
            accountId: subject.sub,
            resource,
            scopes,
            act: actor && { sub: actor.sub },
          }),
          issued_token_type: `${TOKEN_TYPE}access_token`,
          token_type: ctx.state.tokenType,
          expires_in: server.accessTokenSeconds,
          scope: scopes.join(' '),
        };
      },
    },
    [JWT_BEARER]: {
      parameters: ['assertion', 'scope', 'target_service'],
      async handle(server, ctx) {
        const { assertion, scope, target_service: wanted } = ctx.oidc.params;
        let subject;
        try {
          subject = await server.verify(assertion);
        } catch {
          throw failure('invalid_grant', 'assertion is not valid');
        }
        const resource = server.settings.resources.find(({ audience }) => audience === wanted);
        if (!resource) throw failure('invalid_target', 'target_service is unknown');
        ctx.body = {
          access_token: await server.issueAccessToken(ctx, { accountId: subject.sub, resource, scopes: scope.split(' ') }),
          token_type: ctx.state.tokenType,
          expires_in: server.accessTokenSeconds,
        };
      },
    },
  },
};

export const plainDirectory = () => directory((login) => ({ id: login }));
