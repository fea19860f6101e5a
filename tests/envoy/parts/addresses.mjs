// Names and addresses that clients, providers and gateway have in common.

export const MCP_HOST = 'mcp.example.com';
export const RESOURCE = `https://${MCP_HOST}/mcp`;
/** The two URLs of the recipe for both providers. */
export const ENTRA_PATH = '/entra/mcp';
export const OKTA_PATH = '/okta/mcp';
export const ENTRA_RESOURCE = `https://${MCP_HOST}${ENTRA_PATH}`;

/** The path of a resource's metadata (RFC 9728 section 3.1). */
export const metadataPathOf = (path) => `/.well-known/oauth-protected-resource${path}`;
export const METADATA_PATH = metadataPathOf('/mcp');
export const METADATA_URL = `https://${MCP_HOST}${METADATA_PATH}`;

/** The redirect URI of the clients, which are registered by hand. */
export const REDIRECT_URI = 'http://127.0.0.1:6276/oauth/callback';
/** Its form where the port of a loopback address does not count (RFC 8252 section 7.3). */
export const PORTLESS_REDIRECT_URI = 'http://127.0.0.1/oauth/callback';
