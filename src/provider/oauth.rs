//! URNs of OAuth: grant types, token types and the type of client assertions.

/// Grant type of token exchange (RFC 8693 section 2.1).
pub(crate) const GRANT_TOKEN_EXCHANGE: &str = "urn:ietf:params:oauth:grant-type:token-exchange";

/// Grant type of a JWT authorization grant (RFC 7523 section 2.1).
pub(crate) const GRANT_JWT_BEARER: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";

/// Beginning of the token types of RFC 8693 section 3.
pub(crate) const TOKEN_TYPE: &str = "urn:ietf:params:oauth:token-type:";

/// Token type of an access token (RFC 8693 section 3).
pub(crate) const ACCESS_TOKEN: &str = "urn:ietf:params:oauth:token-type:access_token";

/// Token type of an ID token (RFC 8693 section 3).
pub(crate) const ID_TOKEN: &str = "urn:ietf:params:oauth:token-type:id_token";

/// Token type of a JWT, which may be an access token (RFC 8693 section 3).
pub(crate) const JWT: &str = "urn:ietf:params:oauth:token-type:jwt";

/// Token type of an Identity Assertion JWT Authorization Grant (draft-ietf-oauth-identity-assertion-authz-grant).
pub(crate) const ID_JAG: &str = "urn:ietf:params:oauth:token-type:id-jag";

/// `client_assertion_type` of a JWT (RFC 7523 section 2.2).
pub(crate) const CLIENT_ASSERTION_JWT: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
