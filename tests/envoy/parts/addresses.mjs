// Names and addresses that clients, providers and gateway share.

export const MCP_HOST = 'mcp.example.com';
export const RESOURCE = `https://${MCP_HOST}/mcp`;
/** URLs of the recipe for both providers. */
export const ENTRA_PATH = '/entra/mcp';
export const OKTA_PATH = '/okta/mcp';
export const ENTRA_RESOURCE = `https://${MCP_HOST}${ENTRA_PATH}`;

/** Path of the metadata of a resource (RFC 9728 section 3.1). */
export const metadataPathOf = (path) => `/.well-known/oauth-protected-resource${path}`;
export const METADATA_PATH = metadataPathOf('/mcp');
export const METADATA_URL = `https://${MCP_HOST}${METADATA_PATH}`;

/** Redirect URI of the clients, which are registered by hand. */
export const REDIRECT_URI = 'http://127.0.0.1:6276/oauth/callback';
/** Form of it without a port, for providers that ignore the port of a loopback address (RFC 8252 section 7.3). */
export const PORTLESS_REDIRECT_URI = 'http://127.0.0.1/oauth/callback';
