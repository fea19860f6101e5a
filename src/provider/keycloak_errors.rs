//! Known errors of Keycloak: by status and error, and where several causes share these, by words of the error description.
//! Source: `StandardTokenExchangeProvider`, `AbstractTokenExchangeProvider`, `TokenEndpoint`, `AuthenticationProcessor` and
//! the client authenticators of keycloak/keycloak, 26.2 and later.

use crate::provider::ErrorPattern::Words;
use crate::provider::KnownError;
use crate::provider::Responsible::{Admin, Operator, User};

pub(super) static KNOWN_ERRORS: &[KnownError] = &[
    KnownError::new(
        (403, "access_denied", Words(&["not within the token audience"])),
        "`aud` of the caller's token lacks the client of this proxy",
        Admin,
        "Give the callers' client a client scope with an audience mapper for client.id, and set audiences to client.id.",
    ),
    KnownError::new(
        (403, "access_denied", Words(&["Realm not enabled"])),
        "the realm is disabled",
        Admin,
        "Enable the realm.",
    ),
    KnownError::new(
        (403, "invalid_request", Words(&["HTTPS required"])),
        "Keycloak takes the token request for plain HTTP, which the realm refuses",
        Operator,
        "Have Envoy call Keycloak over TLS, or set proxy-headers and hostname of Keycloak behind a TLS terminator.",
    ),
    KnownError::new(
        (400, "invalid_request", Words(&["Invalid token"])),
        "the user has logged out, the session or the token has ended or was revoked, or the user is disabled",
        User,
        "Sign in again to get a new token.",
    ),
    KnownError::new(
        (400, "invalid_request", Words(&["Standard token exchange is not enabled"])),
        "the client of this proxy may not exchange tokens",
        Admin,
        "Switch Standard Token Exchange on in the client of client.id.",
    ),
    KnownError::new(
        (400, "invalid_request", Words(&["Requested audience not available"])),
        "no client scope of the exchange adds `audience` to the token; the parameter selects audiences and adds none",
        Admin,
        "Give the client of client.id a client scope with an audience mapper for audience, and name it in scopes.",
    ),
    KnownError::new(
        (400, "invalid_request", Words(&["supports access tokens only"])),
        "the subject token of the exchange is an ID token",
        Operator,
        "Leave subject_token.type out: Keycloak exchanges access tokens only.",
    ),
    KnownError::new(
        (400, "invalid_request", Words(&["requested_token_type unsupported"])),
        "Keycloak does not issue the requested token type to this client",
        Operator,
        "Leave requested_token_type out.",
    ),
    KnownError::new(
        (400, "invalid_request", Words(&["Sender-constrained token exchange rejected"])),
        "the caller's token is bound to a key or a certificate of its own client",
        Admin,
        "Issue unbound tokens to callers: switch DPoP and certificate binding off in their client.",
    ),
    KnownError::new(
        (400, "invalid_client", Words(&["Audience not found"])),
        "`audience` is no client of the realm",
        Operator,
        "Set audience to the Client ID of the upstream in the realm.",
    ),
    KnownError::new(
        (400, "invalid_client", Words(&["Client disabled"])),
        "the client that `audience` names is disabled",
        Admin,
        "Enable the client that audience names.",
    ),
    KnownError::new(
        (400, "invalid_client", Words(&["Public client is not allowed"])),
        "the client of this proxy is public",
        Admin,
        "Switch Client authentication on in the client of client.id.",
    ),
    KnownError::new(
        (400, "invalid_client", Words(&["signed JWT failed", "load public key", "Invalid signature algorithm"])),
        "the client has no public key for the client assertion, or expects another algorithm",
        Operator,
        "Register the public key of key on the tab Keys of the client, with the configured key_id and algorithm.",
    ),
    KnownError::new(
        (400, "invalid_client", Words(&["Invalid token audience"])),
        "`aud` of the client assertion is neither the issuer nor the token endpoint of the realm",
        Operator,
        "Remove audience from client.authentication, or set it to the issuer.",
    ),
    KnownError::new(
        (400, "invalid_client", Words(&["Token reuse detected"])),
        "Keycloak received the same client assertion twice",
        Operator,
        "Switch off retries on the way to Keycloak: it accepts a client assertion once.",
    ),
    KnownError::new(
        (401, "invalid_client", Words(&["Invalid client or Invalid client credentials"])),
        "the realm has no enabled client of this name",
        Operator,
        "Check client.id and the realm in issuer.",
    ),
    KnownError::new(
        (401, "unauthorized_client", Words(&["Invalid client or Invalid client credentials"])),
        "the client secret is wrong, expired, or missing",
        Operator,
        "Set secret to the one on the tab Credentials of the client.",
    ),
    KnownError::new(
        (400, "invalid_scope", Words(&["Invalid scopes"])),
        "a scope of the exchange is no client scope of the client of this proxy",
        Admin,
        "Add the client scopes that scopes names to the client of client.id as optional ones.",
    ),
    KnownError::new(
        (400, "invalid_scope", Words(&["Missing consents"])),
        "the client of this proxy requires consent, and the user has not given it",
        Admin,
        "Switch Consent required off in the client of client.id.",
    ),
];
