// Authorization server: npm oidc-provider with the dialect of a product.
//
// The library does the protocol: client authentication (with replay detection of client assertions), PKCE, sessions, codes,
// keys, signatures. This file adds the grants that the library lacks, the form that a dialect (okta.mjs, entra.mjs, rfc8693.mjs)
// gives to tokens, keys, metadata and errors, and the refusals of the product that the library lacks.

import { createHash, createPrivateKey, createPublicKey, generateKeyPairSync, randomBytes } from 'node:crypto';
import { CompactSign, compactVerify, createLocalJWKSet, decodeProtectedHeader } from 'jose';
import Provider, { errors } from 'oidc-provider';
// Check of proofs in the grants of the library, which does not export it.
import validateDpop, { checkDpopReplay } from 'oidc-provider/lib/helpers/validate_dpop.js';
// Parameters of the grants of the library, which has no way to remove one.
import internalsOf from 'oidc-provider/lib/helpers/weak_cache.js';
import { secrets } from './leaks.mjs';

export { errors };

const HIDDEN = new Set([
  'assertion',
  'actor_token',
  'client_assertion',
  'client_secret',
  'code',
  'code_verifier',
  'refresh_token',
  'subject_token',
]);

/** Client certificate of the TLS connection (RFC 8705 section 2). */
const MUTUAL_TLS = {
  enabled: true,
  tlsClientAuth: true,
  selfSignedTlsClientAuth: true,
  getCertificate: ({ socket }) => socket.getPeerX509Certificate?.(),
  certificateAuthorized: ({ socket }) => socket.authorized,
  certificateSubjectMatches: ({ socket }, property, expected) => {
    if (property !== 'tls_client_auth_san_dns') throw new Error(`${property} is not checked here`);
    return socket.getPeerX509Certificate().subjectAltName === `DNS:${expected}`;
  },
};

export class AuthorizationServer {
  /**
   * @param {object} dialect behaviour of the product of a provider
   * @param {string} issuer the exact `iss`
   * @param {string} mount path of the endpoints (not always the path of the issuer)
   */
  constructor({ name, issuer, mount, dialect, clients, accounts, settings }) {
    Object.assign(this, { name, issuer, mount, dialect, clients, accounts, settings });
    this.accessTokenSeconds = 3600;
    this.clockOffsetSeconds = 0;
    this.counts = { discovery: 0, keys: 0, token: 0 };
    this.authorized = { discovery: 0, keys: 0, token: 0 }; // those that came with `authorization`
    this.tokenRequests = [];
    this.signIns = []; // parameters of authorization requests
    this.faults = [];
    this.nonceSecret = randomBytes(32);
    this.cookieKey = randomBytes(16).toString('hex');
    this.signingKeys = [newKey(dialect, issuer), newKey(dialect, issuer)];
    this.published = [...this.signingKeys];
    this.#build();
  }

  /** Endpoints as in the metadata. */
  get urls() {
    const at = (path) => new URL(this.mount + path, this.issuer).href;
    const { authorization, token, jwks } = this.dialect.routes;
    return { authorize: at(authorization), token: at(token), keys: at(jwks) };
  }

  /** Endpoint of a request path, or undefined. */
  endpoint(path) {
    const issuerPath = new URL(this.issuer).pathname.replace(/\/$/, '');
    if (this.dialect.metadataPaths(issuerPath).includes(path)) return 'discovery';
    if (path.includes('/.well-known/')) return undefined;
    const { token, jwks } = this.dialect.routes;
    if (path === this.mount + token) return 'token';
    if (path === this.mount + jwks) return 'keys';
    return path.startsWith(`${this.mount}/`) ? 'other' : undefined;
  }

  async handle(request, response, endpoint) {
    if (endpoint in this.counts) {
      this.counts[endpoint] += 1;
      if (request.headers.authorization !== undefined) this.authorized[endpoint] += 1;
    }
    const index = this.faults.findIndex((fault) => fault.endpoint === endpoint);
    const real = () => this.#serve(request, response, endpoint);
    if (index < 0) return real();
    const fault = this.faults[index];
    fault.times -= 1;
    if (fault.times <= 0) this.faults.splice(index, 1);
    return fault.behave({ request, response, real, server: this });
  }

  /** Lets requests at an endpoint meet a fault (see faults.mjs). Returns a function that removes the fault. */
  fail(endpoint, behave, { times = Infinity } = {}) {
    const fault = { endpoint, behave, times };
    this.faults.push(fault);
    return () => {
      this.faults = this.faults.filter((other) => other !== fault);
    };
  }

  /**
   * Rotates the signing key. The new key is published at once, and the old ones stay unless `forgetOldKeys` is set. `kid`: that
   * of the new key.
   */
  rotate({ publish = true, forgetOldKeys = false, kid } = {}) {
    const fresh = newKey(this.dialect, this.issuer, kid);
    this.signingKeys = [fresh];
    const old = forgetOldKeys ? [] : this.published;
    this.published = publish ? [fresh, ...old] : old;
    this.#build();
    return fresh.kid;
  }

  /** Invalidates all nonces for DPoP proofs. */
  forgetNonces() {
    this.nonceSecret = randomBytes(32);
    this.#build();
  }

  /** Signs any claims with the real key of the server, for tokens that no sign-in gives. */
  async sign(claims, header = {}) {
    const { privateKey, kid } = this.signingKeys[0];
    const token = await new CompactSign(Buffer.from(JSON.stringify(claims)))
      .setProtectedHeader({ alg: 'RS256', kid, ...header })
      .sign(privateKey);
    secrets.add(token);
    return token;
  }

  /** Verifies signature, issuer and expiry of a token of this server for the grants; throws if one is wrong. */
  async verify(token) {
    const keys = createLocalJWKSet({ keys: this.published.map((key) => key.publicJwk) });
    const { payload } = await compactVerify(token, keys);
    const claims = JSON.parse(Buffer.from(payload).toString());
    if (claims.iss !== this.issuer) throw new Error(`issued by ${claims.iss}`);
    if (!(claims.exp > Date.now() / 1000)) throw new Error('expired');
    return claims;
  }

  /** Token requests of the gateway, without those of sign-ins. */
  get exchanges() {
    const signIns = ['authorization_code', 'client_credentials'];
    return this.tokenRequests.filter((request) => !signIns.includes(request.values.grant_type));
  }

  resource(identifier) {
    return this.settings.resources.find((resource) => resource.identifier === identifier);
  }

  /**
   * Access token of this server for a user at a resource, signed by the library. A proof in the request binds it to its key.
   * `ctx.state.tokenType` has the type.
   */
  async issueAccessToken(ctx, { accountId, resource, scopes, act, wanted }) {
    const token = new this.provider.AccessToken({
      accountId,
      client: ctx.oidc.client,
      scope: scopes.join(' '),
      gty: ctx.oidc.params.grant_type,
      expiresIn: this.accessTokenSeconds,
    });
    token.resourceServer = new this.provider.ResourceServer(
      resource.identifier,
      this.#resourceServer(resource),
    );
    const proof = await validateDpop(this.provider, ctx);
    if (proof) {
      await checkDpopReplay(this.provider, ctx, proof, ctx.oidc.client.clientId);
      token.setThumbprint('jkt', proof.thumbprint);
    } else if (ctx.oidc.client.dpopBoundAccessTokens) {
      throw new errors.InvalidDpopProof('The DPoP proof JWT header is missing.');
    }
    ctx.state.tokenType = token.tokenType;
    // Claims for the dialect, which the library would drop.
    token.wanted = wanted;
    token.act = act;
    const value = await token.save();
    secrets.add(value);
    return value;
  }

  #resourceServer(resource) {
    return {
      audience: resource.audience,
      scope: (this.dialect.scopesOf?.(this, resource) ?? resource.scopes).join(' '),
      accessTokenFormat: 'jwt',
      accessTokenTTL: this.accessTokenSeconds,
      jwt: { sign: { alg: 'RS256', kid: this.signingKeys[0].kid } },
    };
  }

  /** Changes the registration of a client. */
  register(clientId, changes) {
    Object.assign(this.clients.find(({ client_id }) => client_id === clientId), changes);
    this.#build();
  }

  #build() {
    const { dialect, settings } = this;
    const checkSignIn = (ctx) => {
      if (ctx.oidc.route === 'authorization') dialect.checkSignIn?.(this, ctx.query);
    };
    const provider = quietly(
      () =>
        new Provider(this.issuer, {
          clients: this.clients,
          jwks: { keys: this.signingKeys.map((key) => key.privateJwk) },
          routes: dialect.routes,
          cookies: { keys: [this.cookieKey] },
          scopes: ['openid', 'offline_access'],
          claims: { openid: dialect.idTokenClaims },
          pkce: { required: () => true },
          clientAuthMethods: [
            'none',
            'client_secret_basic',
            'client_secret_post',
            // The library verifies assertions of the key of a client only; the dialect verifies others.
            ...(settings.federation ? [] : ['private_key_jwt']),
            ...(settings.mutualTls ? ['tls_client_auth', 'self_signed_tls_client_auth'] : []),
          ],
          enabledJWA: {
            clientAuthSigningAlgValues: ['RS256', 'RS384', 'RS512', 'PS256', 'PS384', 'PS512', 'ES256', 'ES384', 'EdDSA'],
          },
          assertJwtClientAuthClaimsAndHeader: async (_ctx, claims, header) => {
            dialect.checkAssertion?.(this, header);
            if (claims.aud !== this.urls.token) {
              throw new errors.InvalidClientAuth('the audience must be the endpoint invoked');
            }
            if (claims.exp - Date.now() / 1000 > 3600) {
              throw new errors.InvalidClientAuth('the assertion lives longer than an hour');
            }
          },
          features: {
            devInteractions: { enabled: false },
            clientCredentials: { enabled: true },
            dPoP: { enabled: true, nonceSecret: this.nonceSecret, requireNonce: () => true },
            ...(settings.mutualTls && { mTLS: MUTUAL_TLS }),
            resourceIndicators: {
              enabled: true,
              // The library calls one of these two for each sign-in, after it has checked client, redirect URI and PKCE.
              defaultResource: (ctx, _client, oneOf) => {
                checkSignIn(ctx);
                return oneOf?.[0] ?? dialect.resourceOfScopes(this, ctx.oidc.params.scope);
              },
              useGrantedResource: () => true,
              getResourceServerInfo: (ctx, identifier) => {
                checkSignIn(ctx);
                const resource = this.resource(identifier);
                if (!resource) throw new errors.InvalidTarget();
                return this.#resourceServer(resource);
              },
            },
          },
          interactions: { url: (_ctx, interaction) => `${this.mount}/login/${interaction.uid}` },
          renderError: (ctx, { error }) => {
            ctx.type = 'html';
            ctx.body = `<p>${inHtml(this.#textOfSignIn(ctx, error))}</p>`;
          },
          findAccount: (ctx, id) => ({
            accountId: id,
            claims: () => dialect.idToken(this, this.accounts.byId(id), ctx.oidc.client.clientId),
          }),
          loadExistingGrant: async (ctx) => {
            const grant = new ctx.oidc.provider.Grant({
              clientId: ctx.oidc.client.clientId,
              accountId: ctx.oidc.session.accountId,
            });
            grant.addOIDCScope('openid offline_access');
            for (const [identifier, server] of Object.entries(ctx.oidc.resourceServers)) {
              grant.addResourceScope(identifier, server.scope);
            }
            await grant.save();
            return grant;
          },
          formats: {
            customizers: {
              jwt: (_ctx, token, jwt) => {
                for (const claim of ['iat', 'exp']) jwt.payload[claim] += this.clockOffsetSeconds;
                dialect.accessToken(this, token, jwt);
              },
            },
          },
          ttl: {
            AccessToken: () => this.accessTokenSeconds,
            ClientCredentials: () => this.accessTokenSeconds,
            Grant: 3600,
            IdToken: 3600,
            Interaction: 600,
            RefreshToken: 86_400,
            Session: 3600,
          },
        }),
    );
    provider.proxy = true;
    for (const event of ['grant.error', 'authorization.error']) {
      provider.on(event, (ctx, error) => {
        ctx.state.error = error;
      });
    }
    if (dialect.isRedirectUri) {
      provider.Client.prototype.redirectUriAllowed = function isAllowed(uri) {
        return this.redirectUris.some((registered) => dialect.isRedirectUri(uri, registered));
      };
    }
    if (dialect.ignoresResource) {
      // `#serve` removes it from sign-ins before the library sees it.
      const { grantTypeParams } = internalsOf(provider);
      for (const grant of ['authorization_code', 'refresh_token']) grantTypeParams.get(grant).delete('resource');
    }
    provider.use(async (ctx, next) => {
      await next();
      const route = ctx.oidc?.route;
      if (route === 'jwks') {
        ctx.body = { keys: [...this.published.map((key) => key.asPublished), ...(dialect.otherKeys?.() ?? [])] };
        ctx.type = 'application/json';
      } else if (route === 'discovery') {
        const kind = ctx.path.split('/').at(-1);
        ctx.body = { ...dialect.metadata(ctx.body, { server: this, kind }), ...settings.metadata };
      } else if (route === 'authorization' || route === 'resume') {
        this.#redirectAsTheProduct(ctx);
      } else if (route === 'token') {
        if (ctx.body?.error) {
          const { status, body } = dialect.error(ctx.body.error, {
            status: ctx.status,
            text: ctx.state.error?.error_detail ?? ctx.body.error_description,
            authentication: clientAuthentication(ctx.req, ctx.oidc.body ?? {}),
            ...ctx.state.error?.dialect,
          });
          ctx.status = status;
          ctx.body = body;
        }
        this.#record(ctx.req, ctx.oidc.body ?? {}, ctx.status, ctx.body?.error);
      }
    });
    for (const [grantType, { parameters, repeated, handle }] of Object.entries(dialect.grants)) {
      provider.registerGrantType(grantType, (ctx) => handle(this, ctx), parameters, repeated);
    }
    this.provider = provider;
    this.callback = provider.callback();
  }

  /** Text of the product for a refused sign-in, for refusals by the library as well. */
  #textOfSignIn(ctx, error) {
    const { ofProduct, error_detail: text, dialect } = ctx.state.error ?? {};
    return this.dialect.error(error, ofProduct && { text, ...dialect }).body.error_description;
  }

  /** Adapts the redirect to the client: texts of the product, and `iss` (RFC 9207) only if the product sends it. */
  #redirectAsTheProduct(ctx) {
    const { location } = ctx.response.headers;
    const redirectUri = ctx.oidc.params?.redirect_uri;
    if (!redirectUri || !location?.startsWith(redirectUri)) return;
    const url = new URL(location);
    if (!this.dialect.sendsIssuer) url.searchParams.delete('iss');
    const error = url.searchParams.get('error');
    if (error) url.searchParams.set('error_description', this.#textOfSignIn(ctx, error));
    ctx.set('location', url.href);
  }

  /** Records a token request that a fault answered. */
  async recordFaulty(request, status, error) {
    let text = '';
    for await (const chunk of request) text += chunk;
    this.#record(request, Object.fromEntries(new URLSearchParams(text)), status, error);
  }

  #record(request, form, status, error) {
    const shown = (name, value) => {
      if (!HIDDEN.has(name)) return value;
      secrets.add(String(value));
      return '(hidden)';
    };
    const basic = request.headers.authorization?.match(/^Basic (.*)$/)?.[1];
    if (basic) secrets.add(basic);
    const entry = {
      parameters: Object.keys(form).sort(),
      values: Object.fromEntries(Object.entries(form).map(([k, v]) => [k, shown(k, v)])),
      clientAuthentication: clientAuthentication(request, form),
      subject: subjectOf(form.subject_token ?? form.assertion),
      accept: request.headers.accept,
      contentType: request.headers['content-type'],
      userAgent: request.headers['user-agent'],
      host: request.headers.host,
      status,
      error,
      at: performance.now(),
    };
    const proof = request.headers.dpop;
    if (proof) {
      secrets.add(proof);
      entry.proof = JSON.parse(Buffer.from(proof.split('.')[1], 'base64url').toString());
    }
    if (form.client_assertion) entry.assertion = describeAssertion(form.client_assertion);
    this.tokenRequests.push(entry);
  }

  async #serve(request, response, endpoint) {
    const url = new URL(request.url, 'http://loopback');
    const login = url.pathname.match(/^(.*)\/login\/[\w-]+$/);
    if (login && login[1] === this.mount) return this.#loginPage(request, response);
    const own = this.dialect.answers?.(this, request.method, url.pathname.slice(this.mount.length));
    if (own && endpoint === 'other') {
      response.writeHead(own.status, own.headers);
      return response.end(own.body);
    }
    if (url.pathname === this.mount + this.dialect.routes.authorization) {
      this.signIns.push(Object.fromEntries(url.searchParams));
      if (this.dialect.ignoresResource) url.searchParams.delete('resource');
      request.url = url.pathname + url.search;
    }
    // The metadata is at the path of the issuer; the library serves it at the path of the endpoints.
    const [document] = url.pathname.match(/\/\.well-known\/[\w-]+/) ?? [];
    request.url = endpoint === 'discovery' ? document : request.url.slice(this.mount.length) || '/';
    request.originalUrl = this.mount + request.url;
    return this.callback(request, response);
  }

  async #loginPage(request, response) {
    if (request.method !== 'POST') {
      response.setHeader('content-type', 'text/html');
      return response.end('<form method="post"><input name="username"><button>Next</button></form>');
    }
    let body = '';
    for await (const chunk of request) body += chunk;
    const account = this.accounts.byLogin(new URLSearchParams(body).get('username'));
    request.url = request.url.slice(this.mount.length);
    return this.provider.interactionFinished(request, response, {
      login: { accountId: account.id },
      consent: {},
    });
  }
}

/** Users, made on first sight: the ID is derived from the login, so it is stable. */
export function directory(toAccount) {
  const accounts = new Map();
  const byLogin = (login) => {
    if (!accounts.has(login)) {
      const seed = createHash('sha256').update(login).digest();
      accounts.set(login, { login, ...toAccount(login, seed) });
    }
    return accounts.get(login);
  };
  return { byLogin, byId: (id) => [...accounts.values()].find((account) => account.id === id) };
}

/** OAuth error with the members that this dialect adds to its body. */
export function failure(error, text, dialect) {
  const Failure = {
    invalid_grant: errors.InvalidGrant,
    invalid_request: errors.InvalidRequest,
    invalid_scope: errors.InvalidScope,
    invalid_target: errors.InvalidTarget,
    access_denied: errors.AccessDenied,
  }[error];
  const thrown = Failure ? new Failure(text) : new errors.CustomOIDCProviderError(error, text);
  return Object.assign(thrown, { error_detail: text, dialect, ofProduct: true });
}

// Keys take long to make: a process with dozens of servers reuses them.
const MOST_KEY_PAIRS = 40;
const keyPairs = [];
let keysMade = 0;

function keyPair() {
  const at = keysMade % MOST_KEY_PAIRS;
  keysMade += 1;
  keyPairs[at] ??= generateKeyPairSync('rsa', { modulusLength: 2048 });
  return keyPairs[at];
}

function newKey(dialect, issuer, kidOfAnother) {
  const { publicKey, privateKey } = keyPair();
  const bare = publicKey.export({ format: 'jwk' });
  const asPublished = dialect.publishKey({ bare, publicKey, privateKey, issuer });
  if (kidOfAnother) asPublished.kid = kidOfAnother;
  const { kid } = asPublished;
  return {
    kid,
    privateKey,
    asPublished,
    publicJwk: { ...bare, kid, alg: 'RS256', use: 'sig' },
    privateJwk: { ...privateKey.export({ format: 'jwk' }), kid, alg: 'RS256', use: 'sig' },
  };
}

function clientAuthentication(request, form) {
  const used = [];
  if (request.headers.authorization?.startsWith('Basic ')) used.push('client_secret_basic');
  if ('client_secret' in form) used.push('client_secret_post');
  if ('client_assertion' in form) used.push('private_key_jwt');
  return used.join(' and ') || 'none';
}

/** User in a subject token, valid or not. */
function subjectOf(token) {
  try {
    const { preferred_username, sub } = JSON.parse(Buffer.from(token.split('.')[1], 'base64url').toString());
    return preferred_username ?? sub;
  } catch {
    return undefined;
  }
}

/** Header and claims of a client assertion, without the assertion. */
function describeAssertion(assertion) {
  try {
    const { alg, kid, typ, 'x5t#S256': thumbprint } = decodeProtectedHeader(assertion);
    const claims = JSON.parse(Buffer.from(assertion.split('.')[1], 'base64url').toString());
    const { iss, sub, aud, exp, iat, jti } = claims;
    return { alg, kid, typ, ...(thumbprint && { thumbprint }), iss, sub, aud, seconds: exp - (iat ?? Date.now() / 1000), jti };
  } catch {
    return { unreadable: true };
  }
}

/** Form fields for client authentication with a private key (RFC 7523 section 2.2). */
export async function clientAssertion(pem, { client, audience, kid, alg }) {
  const now = Math.floor(Date.now() / 1000);
  const claims = { iss: client, sub: client, aud: audience, iat: now, exp: now + 60, jti: randomBytes(16).toString('hex') };
  return {
    client_assertion_type: 'urn:ietf:params:oauth:client-assertion-type:jwt-bearer',
    client_assertion: await new CompactSign(Buffer.from(JSON.stringify(claims)))
      .setProtectedHeader({ alg, kid })
      .sign(createPrivateKey(pem)),
  };
}

/** Public half of a PEM private key as a JWK, as an operator registers it. */
export function registeredKey(pem, { kid, alg }) {
  return { ...createPublicKey(pem).export({ format: 'jwk' }), kid, alg, use: 'sig' };
}

const inHtml = (text) => text.replace(/[&<>"]/g, (character) => `&#${character.charCodeAt(0)};`);

/** Suppresses the advice for production that the library prints. */
function quietly(make) {
  const { info, warn } = console;
  console.info = () => {};
  console.warn = () => {};
  try {
    return make();
  } finally {
    Object.assign(console, { info, warn });
  }
}
