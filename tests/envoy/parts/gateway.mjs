// Scene of most tests: both providers, the MCP server, and Envoy with a recipe of envoy-config/.
//
// A recipe is used as it is in the repository, or, for most tests, with one URL for both providers (`BOTH_AT_ONE_URL`). Its
// placeholders are replaced, and these values are changed for this machine: the listener and admin addresses, the file of the
// module, the address and the certificate authority of the provider clusters, the port of the MCP server. TLS to the providers
// stays, with the names of the recipe.

import { randomBytes } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import YAML from 'yaml';
import { ENTRA_RESOURCE, MCP_HOST, metadataPathOf, RESOURCE } from './addresses.mjs';
import { clientAssertion, registeredKey } from './authorization-server.mjs';
import { ofClient, throwAwayAuthority } from './certificate.mjs';
import { MODULE, scratchFolder, startEnvoy, validate } from './envoy.mjs';
import { startEntra, startKeycloak, startOkta } from './identity-provider.mjs';
import { inPem, keysFor } from './keys.mjs';
import { secrets } from './leaks.mjs';
import { startMcpServer } from './mcp-server.mjs';
import { callTool, send, sendBytes, whoami } from './mcp-client.mjs';
import { signIn } from './login.mjs';
import { Projected } from './projected.mjs';
import { signInBySdk } from './sdk-client.mjs';
import { startWorkloadIssuer } from './workload-issuer.mjs';
import { until } from './until.mjs';
import { isAtLeast } from './version.mjs';

export * from './addresses.mjs';

/**
 * Recipe for both providers with one resource in place of its two: users of both call `/mcp`. An MCP client would always go to
 * the first provider; a token from elsewhere is exchanged at its own provider.
 */
export const BOTH_AT_ONE_URL = 'okta-and-entra, and both at one URL';

/** File of a recipe next to its envoy.yaml, with the folder of secrets of this machine. */
function beside(file, folder, projected) {
  const text = readFileSync(new URL(`../../../envoy-config/${file}`, import.meta.url), 'utf8');
  const here = join(scratchFolder(), 'sds.yaml');
  writeFileSync(here, text.replaceAll(folder, projected.folder));
  return here;
}

/** Value of the Basic credentials in the file that Envoy reads. */
export const basic = (id, secret) => Buffer.from(`${id}:${secret}`).toString('base64');

/** Text that Envoy injects as Basic credentials. Before 1.37 it has no `header_value_prefix`. */
export const injected = (credentials) => (isAtLeast('1.37') ? credentials : `Basic ${credentials}`);

/** Subject of the workload token of the gateway. */
export const WORKLOAD = 'system:serviceaccount:mcp:gateway';

/**
 * Starts providers and MCP server, which several gateways can use in turn. The app of the gateway at Entra has the URLs of its
 * resources as Application ID URIs, as the recipes have, unless `entraAppIdUris` makes others of its client ID.
 */
export async function startParts({
  oktaAlgorithm = 'ES256',
  oktaDpop = false,
  oktaSecret = false,
  entraCertificate = false,
  entraFederation = false,
  entraAppIdUris = () => [RESOURCE, ENTRA_RESOURCE],
  hasKeycloak = false,
} = {}) {
  const authority = throwAwayAuthority();
  const caFile = join(scratchFolder(), 'authority.pem');
  writeFileSync(caFile, authority.certificate);
  // The secret has characters that a form and Basic authentication must encode.
  const entraSecret = `~+&=%/ ${randomBytes(18).toString('base64url')}`;
  const oktaKey = inPem(keysFor(oktaAlgorithm).privateKey);
  const entraKeys = keysFor('PS256');
  const certificate = ofClient('gateway', entraKeys);
  const workloads = entraFederation ? await startWorkloadIssuer() : undefined;
  const workloadToken = async (changes) => {
    const token = await workloads.token({ subject: WORKLOAD, audience: 'api://AzureADTokenExchange', ...changes });
    secrets.add(token);
    return token;
  };

  const entra = await startEntra({
    authority,
    appIdUris: entraAppIdUris,
    clientSecret: entraSecret,
    federation: workloads && { issuer: workloads.issuer, subject: WORKLOAD },
    certificate: entraCertificate && {
      thumbprint: certificate.thumbprint,
      jwk: registeredKey(inPem(entraKeys.privateKey), { alg: 'PS256' }),
    },
  });
  const okta = await startOkta({
    authority,
    audience: RESOURCE,
    scopes: ['mcp:call'],
    serviceApp: oktaSecret
      ? { token_endpoint_auth_method: 'client_secret_basic', client_secret: randomBytes(24).toString('base64url') }
      : {
          token_endpoint_auth_method: 'private_key_jwt',
          dpop_bound_access_tokens: oktaDpop,
          jwks: { keys: [registeredKey(oktaKey, { kid: 'onbehalf', alg: oktaAlgorithm })] },
        },
  });
  const keycloakSecret = `~+&=%/: ${randomBytes(18).toString('base64url')}`;
  const keycloak = hasKeycloak ? await startKeycloak({ authority, clientSecret: keycloakSecret }) : undefined;
  if (keycloak) secrets.add(keycloakSecret);
  const projected = {
    ...(oktaSecret && { okta: new Projected('basic', '') }),
    ...(workloads && { entra: new Projected('azure-identity-token', await workloadToken()) }),
  };
  /** Writes a secret of the app of the gateway to the file that Envoy reads. */
  const provideOktaSecret = (secret) => {
    secrets.add(secret).add(basic(okta.ids.serviceApp, secret));
    projected.okta.replace(injected(basic(okta.ids.serviceApp, secret)));
  };
  if (oktaSecret) {
    const app = okta.forMcp.clients.find(({ client_id }) => client_id === okta.ids.serviceApp);
    provideOktaSecret(app.client_secret);
  }
  const trust = (provider, audience) => {
    const { issuer, urls } = provider.forMcp;
    const { url, headers } = provider.host.reach(urls.keys);
    return { issuer, audience, jwksUri: url, headers };
  };
  const mcp = await startMcpServer([
    trust(entra, entra.ids.mcpServer),
    trust(okta, RESOURCE),
    ...(keycloak ? [trust(keycloak, keycloak.ids.mcpServer)] : []),
  ]);

  const proveAgent = (audience) =>
    clientAssertion(oktaKey, { client: okta.ids.agent, audience, kid: 'onbehalf', alg: oktaAlgorithm });

  return {
    authority,
    caFile,
    entra,
    okta,
    keycloak,
    mcp,
    servers: [entra.signIn, okta.signIn, okta.forMcp, okta.other, okta.org, ...(keycloak ? [keycloak.signIn] : [])],
    workloadToken,
    projected,
    provideOktaSecret,
    /** Files of this machine by the paths in the recipes. */
    files: {
      ...(oktaSecret && {
        '/etc/envoy/okta-client.yaml': beside(
          'okta-sds/client-secret.yaml',
          '/var/run/secrets/okta-client',
          projected.okta,
        ),
      }),
      ...(workloads && {
        '/etc/envoy/workload-token.yaml': beside(
          'entra-workload-identity/workload-token.yaml',
          '/var/run/secrets/azure/tokens',
          projected.entra,
        ),
      }),
    },
    env: {
      ONBEHALF_SHARED_SECRET: randomBytes(32).toString('base64'),
      ENTRA_CLIENT_SECRET: entraSecret,
      OKTA_PRIVATE_KEY: oktaKey,
      ...(keycloak && { KEYCLOAK_CLIENT_SECRET: keycloakSecret }),
      ...(oktaDpop && { OKTA_DPOP_KEY: inPem(keysFor('ES256').privateKey) }),
      ...(entraCertificate && { ENTRA_PRIVATE_KEY: inPem(entraKeys.privateKey), ENTRA_CERTIFICATE: certificate.pem }),
    },
    placeholders: {
      MCP_HOST,
      ENTRA_TENANT_ID: entra.ids.tenant,
      ENTRA_CLIENT_ID: entra.ids.gateway,
      ENTRA_MCP_APP_ID: entra.ids.mcpServer,
      OKTA_DOMAIN: okta.host.name,
      OKTA_CLIENT_ID: okta.ids.serviceApp,
      OKTA_AGENT_ID: okta.ids.agent,
      OKTA_MCP_SERVER_ID: okta.ids.mcpServer,
      ...(keycloak && {
        KEYCLOAK_HOST: keycloak.host.name,
        KEYCLOAK_REALM: keycloak.ids.realm,
        KEYCLOAK_CLIENT_ID: keycloak.ids.gateway,
        KEYCLOAK_MCP_SERVER_ID: keycloak.ids.mcpServer,
      }),
    },
    alice: (options) => signIn(entra, 'alice@contoso.example', options),
    bob: (options) => signIn(okta, 'bob@acme.example', options),
    carol: (options) => signIn(keycloak, 'carol', options),
    /** ID token of Bob from the org server, for the gateway as an agent. */
    async bobsIdToken(login = 'bob@acme.example') {
      const agent = okta.ids.agent;
      const { idToken } = await signIn(okta, login, {
        server: okta.org,
        client: agent,
        scopes: [],
        idToken: true,
        prove: (audience) => proveAgent(audience),
      });
      return idToken;
    },
    proveAgent,
    async stop() {
      await Promise.all([entra.host.down(), okta.host.down(), keycloak?.host.down(), this.mcp.stop(), workloads?.stop()]);
    },
  };
}

/** Text of a recipe with its placeholders replaced, as the reader of its README does. */
export function filled(recipe, placeholders) {
  const file = new URL(`../../../envoy-config/${recipe}/envoy.yaml`, import.meta.url);
  let text = readFileSync(file, 'utf8');
  for (const [word, value] of Object.entries(placeholders)) text = text.replaceAll(word, value);
  return text;
}

/** Recipe as an object, with its placeholders replaced and the values of this machine. */
export function bootstrapOf(recipe, parts) {
  if (recipe === BOTH_AT_ONE_URL) {
    const both = bootstrapOf('okta-and-entra', parts);
    const filter = filterOf(both);
    acceptsByProvider(filter);
    const exchange = Object.assign({}, ...filter.resources.map((resource) => resource.exchange));
    filter.resources = [{ url: RESOURCE, scopes: ['mcp:read'], exchange }];
    return both;
  }
  const text = filled(recipe, { ...parts.placeholders, ...parts.files });
  const bootstrap = YAML.parse(isAtLeast('1.37') ? text : text.replace(/^ *header_value_prefix: .*\n/m, ''));
  const loopback = (port_value) => ({ socket_address: { address: '127.0.0.1', port_value } });
  bootstrap.admin.address = loopback(0);
  const { listeners, clusters } = bootstrap.static_resources;
  listeners[0].address = loopback(0);
  wasmOf(bootstrap).vm_config.code.local.filename = MODULE;
  for (const cluster of clusters) {
    const [endpoint] = cluster.load_assignment.endpoints[0].lb_endpoints;
    if (cluster.name === 'mcp_server') endpoint.endpoint.address = loopback(parts.mcp.port);
    else {
      endpoint.endpoint.address = loopback(parts[cluster.name].host.tlsPort);
      const { common_tls_context } = cluster.transport_socket.typed_config;
      common_tls_context.validation_context.trusted_ca.filename = parts.caFile;
    }
  }
  return bootstrap;
}

/** Moves the audiences of resources to their providers, for tests that replace the resources. */
export function acceptsByProvider(filter) {
  for (const resource of filter.resources) {
    for (const name of Object.keys(resource.exchange)) filter.identity_providers[name].audiences = resource.audiences;
    delete resource.audiences;
  }
}

/** `config` of the Wasm filter in a bootstrap. */
export function wasmOf(bootstrap) {
  const [connectionManager] = bootstrap.static_resources.listeners[0].filter_chains[0].filters;
  const filters = connectionManager.typed_config.http_filters;
  return filters.find(({ name }) => name === 'onbehalf').typed_config.config;
}

/** Configuration of the filter in a bootstrap. */
export const filterOf = (bootstrap) => wasmOf(bootstrap).configuration.value;

/** Starts Envoy in front of the parts. `change(filter, bootstrap)` edits the configuration of the filter, or all of it. */
export async function startGateway(
  parts,
  { recipe = BOTH_AT_ONE_URL, concurrency = 1, change = () => {}, env = {}, exposes } = {},
) {
  const bootstrap = bootstrapOf(recipe, parts);
  const filter = filterOf(bootstrap);
  change(filter, bootstrap);
  const envoy = await startEnvoy(bootstrap, { concurrency, env: { ...parts.env, ...env }, exposes });
  return new Gateway(parts, envoy, metadataPathOf(new URL(filter.resources[0].url).pathname), concurrency);
}

/** Runs `envoy --mode validate` with a recipe after a change. */
export function validateRecipe(parts, change = () => {}, { recipe = BOTH_AT_ONE_URL, env } = {}) {
  const bootstrap = bootstrapOf(recipe, parts);
  change(filterOf(bootstrap), bootstrap);
  return validate(bootstrap, env ?? parts.env);
}

class Gateway {
  constructor(parts, envoy, metadataPath, concurrency) {
    Object.assign(this, { parts, envoy, metadataPath, concurrency });
    this.target = { port: envoy.port, host: MCP_HOST };
  }

  /** Sends any HTTP request. */
  send(options) {
    return send({ ...this.target, ...options });
  }

  /** Sends raw bytes, for requests that no HTTP library sends. */
  sendBytes(bytes) {
    return sendBytes(this.envoy.port, bytes);
  }

  /** Calls a tool with one POST and this token, as curl would. */
  call(token, headers = {}, options = {}) {
    const authorization = token === undefined ? {} : { authorization: `Bearer ${token}` };
    const { path = '/mcp' } = options;
    return callTool({ ...this.target, path }, { ...authorization, ...headers }, options);
  }

  /** Calls a tool with the official MCP client; returns what the MCP server read of the token. */
  whoami(token, options = {}) {
    return whoami({ ...this.target, token, ...options });
  }

  /**
   * Signs a user in who opens a path with an MCP client; see sdk-client.mjs. The client is the one that is registered at
   * `provider` (its authorization server `server`), or `clientId`; `null` is no client. The other options are for `signInBySdk`.
   */
  signIn(username, { path = '/mcp', provider, server = provider.signIn, clientId = provider.ids.mcpClient, ...client }) {
    const { entra, okta, keycloak } = this.parts;
    const reach = (address) => {
      const { host, pathname, search } = new URL(address);
      if (host === MCP_HOST) return { url: `http://127.0.0.1:${this.envoy.port}${pathname}${search}`, headers: { host } };
      const { host: of } = [entra, okta, keycloak].find((known) => known?.host.name === host) ?? {};
      if (!of) throw new TypeError(`${host} is not on this machine`);
      return { ...of.reach(address), host: of };
    };
    return signInBySdk({ ...client, url: `https://${MCP_HOST}${path}`, username, clientId, issuer: server.issuer, reach });
  }

  /** Signs a user in and calls the tool; `seen` is what the MCP server read of the token. */
  async visit(username, options) {
    const signedIn = await this.signIn(username, options);
    return { ...signedIn, seen: await signedIn.whoami() };
  }

  /** Value of a counter of the module. */
  async count(name) {
    const full = `wasmcustom.onbehalf.${name}`;
    return (await this.envoy.stats(`^${full.replaceAll('.', '\\.')}$`))[full] ?? 0;
  }

  decisions(reason) {
    return this.count(`decisions.reason.${reason}`);
  }

  /** Waits until the module has handed its counters to Envoy (it does so each second, in each worker). */
  async settled() {
    const counted = await this.decisions('metadata');
    await this.send({ path: this.metadataPath });
    await until(async () => (await this.decisions('metadata')) > counted, 'counters are handed over', 10);
    if (this.concurrency === 1) return;
    let before;
    const isStable = async () => {
      if (before) await pause(1_500);
      const now = JSON.stringify(await this.envoy.stats('^wasmcustom\\.onbehalf\\.'));
      const same = now === before;
      before = now;
      return same;
    };
    await until(isStable, 'the counters of all workers are handed over', 30);
  }

  /** Waits until a counter (they are flushed each second) has exactly this value. */
  async expectCount(name, value) {
    let seen;
    try {
      await until(async () => (seen = await this.count(name)) >= value, `${name} counts ${value}`, 10);
    } catch (error) {
      throw new Error(`${error.message}; it is ${seen}`);
    }
    if (seen !== value) throw new Error(`${name} is ${seen}, not ${value}`);
  }

  stop() {
    return this.envoy.stop();
  }
}
