// Configurations of the modules. Names of options change from commit to commit, so a module of another commit may need other
// names.
import { validate } from '../tests/envoy/parts/envoy.mjs';
import { bootstrap, cluster, listener, wasmFilter } from '../tools/envoy-config.mjs';

/**
 * Newest first; a module gets the first one that it accepts. A commit that renames an option adds one for the commits before it.
 */
const DIALECTS = [
  { usual, audited: (...of) => ({ ...usual(...of), audit: { hits: true } }) },
  // Commits before d3ad1f0 have no audit.
  { usual },
];

const CLIENT_SECRET = { method: 'client_secret_post', secret: { inline: 'not-a-secret' } };

/** Configuration of a module, and the same with `audit.hits`, if it has that option. */
export async function configurationsFor(module, provider) {
  const refusals = [];
  for (const { usual, audited } of DIALECTS) {
    const filters = [usual, audited].filter(Boolean).map((make, at) => wasmFilter(`dialect-${at}`, module, make(provider, CLIENT_SECRET)));
    const { ok, output } = await validate(bootstrap([listener('dialect', filters)], [cluster('provider', provider.port)]));
    const filled = (make) => (authentication = CLIENT_SECRET) => make(provider, authentication);
    if (ok) return { usual: filled(usual), audited: audited && filled(audited) };
    refusals.push(output);
  }
  throw new Error(`${module} takes no configuration that bench/configurations.mjs has:\n${refusals.join('\n')}`);
}

function usual(provider, authentication) {
  return {
    identity_providers: {
      entra: {
        profile: 'entra_obo',
        issuer: provider.issuer,
        cluster: 'provider',
        audiences: [provider.audience],
        client: { id: provider.audience, authentication },
      },
    },
    resources: [{ url: 'https://mcp.example.com/mcp', scopes: ['mcp:read'], exchange: { entra: { resource: 'api://upstream' } } }],
  };
}
