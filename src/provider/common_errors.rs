//! Known errors of any provider: the errors of RFC 6749 section 5.2, RFC 8693 section 2.2.2, RFC 9449 section 5, RFC 9470
//! section 3 and OpenID Connect Core section 3.1.2.6, those of Keycloak and Auth0, failed callouts, and responses whose token is unusable.

use crate::http::CalloutFailure::{NoConnection, NotSent, TimedOut, TooLarge};
use crate::provider::ErrorPattern::{Any, Claims, Worked};
use crate::provider::Responsible::{Admin, Operator, Provider, User};
use crate::provider::Symptom::{CalloutFailed, UnusableToken};
use crate::provider::{KnownError, UnusableToken as Problem};

/// Known errors of any provider.
pub static COMMON_ERRORS: &[KnownError] = &[
    KnownError::new(
        (400, "invalid_grant", Any),
        "the caller's token has expired or was revoked, or its session has ended",
        User,
        "Sign in again to get a new token.",
    ),
    KnownError::new(
        (400, "invalid_token", Any),
        "the caller's token has expired or was revoked, or its session has ended",
        User,
        "Sign in again to get a new token.",
    ),
    KnownError::new(
        (400, "expired_token", Any),
        "the caller's token has expired",
        User,
        "Sign in again to get a new token.",
    ),
    KnownError::new(
        (400, "token_expired", Any),
        "the caller's token has expired",
        User,
        "Sign in again to get a new token.",
    ),
    KnownError::new(
        (401, "token_inactive", Any),
        "the caller's token has expired or was revoked",
        User,
        "Sign in again to get a new token.",
    ),
    KnownError::new(
        (400, "", Claims),
        "the response has `claims`: the provider issues the token after a sign-in that brings them",
        User,
        "Sign in again; clients with cp1 (xms_cc) get the claims as a challenge.",
    ),
    KnownError::new(
        (400, "interaction_required", Any),
        "the provider requires an interaction with the user",
        User,
        "Sign in again and pass the provider's checks.",
    ),
    KnownError::new(
        (400, "consent_required", Any),
        "the proxy's app has no consent for the upstream's scopes",
        Admin,
        "Grant the app consent for the scopes, for all users.",
    ),
    KnownError::new(
        (400, "login_required", Any),
        "the user's session at the provider has ended",
        User,
        "Sign in again.",
    ),
    KnownError::new(
        (400, "account_selection_required", Any),
        "the user is signed in to several accounts",
        User,
        "Sign in again and select the account.",
    ),
    KnownError::new(
        (403, "mfa_required", Any),
        "the provider requires a second factor (Auth0)",
        User,
        "Sign in again with a second factor; if that does not help, require it at sign-in and not in the exchange.",
    ),
    KnownError::new(
        (403, "mfa_registration_required", Any),
        "the provider requires a second factor, and the user has registered none (Auth0)",
        User,
        "Sign in again and register a second factor.",
    ),
    KnownError::new(
        (400, "insufficient_user_authentication", Any),
        "the sign-in of the user is too weak or too long ago for the upstream (RFC 9470)",
        User,
        "Sign in again, as strongly as the upstream requires.",
    ),
    KnownError::new(
        (400, "unmet_authentication_requirements", Any),
        "the sign-in of the user is too weak for the upstream",
        User,
        "Sign in again, as strongly as the upstream requires.",
    ),
    KnownError::new(
        (403, "access_denied", Any),
        "the client of this proxy is not in `aud` of the caller's token (Keycloak), or the provider does not know the requested audience or does not let the client request it (Auth0)",
        Admin,
        "Have clients request tokens with client.id in aud, and let the app request audience or resource at the provider.",
    ),
    KnownError::new(
        (400, "access_denied", Any),
        "the provider denies this user a token for the upstream",
        Admin,
        "Give the user access to the upstream at the provider.",
    ),
    KnownError::new(
        (401, "invalid_client", Any),
        "the provider does not know the client id, or the client authentication is wrong",
        Operator,
        "Check client.id and client.authentication.",
    ),
    KnownError::new(
        (401, "", Any),
        "the client authentication is wrong, whatever `error` says: Keycloak answers `unauthorized_client`, Auth0 `access_denied`, and some servers answer without an OAuth error",
        Operator,
        "Check client.id and client.authentication, such as the secret and the method.",
    ),
    KnownError::new(
        (400, "unauthorized_client", Any),
        "the client may not use this grant",
        Admin,
        "Allow the app this grant.",
    ),
    KnownError::new(
        (400, "unsupported_grant_type", Any),
        "the authorization server does not support this grant, or it is disabled",
        Operator,
        "Check profile and token_endpoint, and enable the grant at the authorization server.",
    ),
    KnownError::new(
        (400, "invalid_scope", Any),
        "a scope of the exchange does not exist at the authorization server, or this client may not request it",
        Operator,
        "Check scopes against those of the authorization server.",
    ),
    KnownError::new(
        (400, "invalid_target", Any),
        "the authorization server does not know the upstream by this audience or resource",
        Operator,
        "Check audience and resource against the authorization server's name of the upstream.",
    ),
    KnownError::new(
        (400, "invalid_request", Any),
        "a parameter is missing, unknown or malformed; with RFC 8693 also: the subject token is invalid",
        Operator,
        "Check profile, subject_token and parameters against the provider's own log.",
    ),
    KnownError::new(
        (400, "invalid_request", Worked),
        "the subject token is not valid any more, for example because its session has ended (RFC 8693 has no other code for it; Keycloak sends it)",
        User,
        "Sign in again to get a new token; if every user must, see whether the exchange is still allowed at the provider.",
    ),
    KnownError::new(
        (400, "invalid_dpop_proof", Any),
        "the provider requires a DPoP proof of this client, and the token request had no valid one",
        Operator,
        "Set client.dpop and token_type: dpop, or switch DPoP off for the app; where they are set, check the clock of this host.",
    ),
    KnownError::new(
        (400, "use_dpop_nonce", Any),
        "the provider requires a DPoP proof with a nonce of this client, and the token request had none",
        Operator,
        "Set client.dpop and token_type: dpop, which also sends the nonce, or switch DPoP off for the app.",
    ),
    KnownError::new(
        (400, "temporarily_unavailable", Any),
        "the provider is overloaded or under maintenance",
        Provider,
        "Wait; if the error persists, look at the provider's status page.",
    ),
    KnownError::new(
        (400, "slow_down", Any),
        "the provider requires fewer requests",
        Provider,
        "Wait; if the error persists, look for a client that sends new tokens continuously.",
    ),
    KnownError::new(
        (500, "server_error", Any),
        "the provider has an internal error",
        Provider,
        "Wait; if the error persists, look at the provider's status page.",
    ),
    KnownError::new(
        (429, "", Any),
        "the provider's rate limit for this client is exceeded",
        Provider,
        "Wait; if the error persists, have the limit raised.",
    ),
    KnownError::new(
        (500, "", Any),
        "the provider, or a proxy in front of it, has an internal error",
        Provider,
        "Wait; if the error persists, look at the provider's status page.",
    ),
    KnownError::new(
        (408, "", Any),
        "the request came too slowly, too early, or on a connection for another host name",
        Provider,
        "Wait; if the error persists, check the host name and sni of the cluster.",
    ),
    KnownError::new(
        (302, "", Any),
        "the token endpoint has moved, or a proxy in front of it requires a login; the filter follows no redirect",
        Operator,
        "Check token_endpoint and the cluster: the server redirects.",
    ),
    KnownError::new(
        (400, "", Any),
        "an error that this table does not list, or a response that is no OAuth error",
        Operator,
        "Look the request up in the provider's log, and check token_endpoint.",
    ),
    KnownError::of(
        CalloutFailed(NotSent),
        "Envoy has no such cluster, or no healthy host in it",
        Operator,
        "Check that the cluster is defined and that its host resolves.",
    ),
    KnownError::of(
        CalloutFailed(NoConnection),
        "the provider is unreachable, TLS fails, or the connection broke",
        Operator,
        "Check the route to the provider, and the TLS settings of its cluster (sni, trusted_ca).",
    ),
    KnownError::of(
        CalloutFailed(TimedOut),
        "the provider did not respond within `timeout_seconds`",
        Provider,
        "Wait; if the error persists, raise timeout_seconds.",
    ),
    KnownError::of(
        CalloutFailed(TooLarge),
        "the response is larger than 256 KiB",
        Operator,
        "Check token_endpoint and the cluster: this is no token response.",
    ),
    KnownError::of(
        UnusableToken(Some(Problem::NotBearer)),
        "`token_type` is missing, or neither `Bearer` nor `DPoP`, such as `N_A` (an ID-JAG)",
        Operator,
        "Have the provider issue access tokens to the app.",
    ),
    KnownError::of(
        UnusableToken(Some(Problem::Bound)),
        "the authorization server binds its tokens to a key (DPoP), and the upstream expects a bearer token",
        Operator,
        "Set token_type: dpop, or switch off at the provider that the app must use DPoP and leave client.dpop out.",
    ),
    KnownError::of(
        UnusableToken(Some(Problem::Unbound)),
        "the authorization server did not bind the token to the key of `client.dpop`, and the upstream expects a bound token",
        Operator,
        "Have the provider bind the app's tokens (DPoP), or leave token_type: dpop out.",
    ),
    KnownError::of(
        UnusableToken(Some(Problem::HandedBack)),
        "the authorization server returned the token of the request, unchanged or in another encoding",
        Operator,
        "Have the authorization server exchange tokens instead of returning them.",
    ),
    KnownError::of(
        UnusableToken(Some(Problem::ForThisProxy)),
        "`aud` is one of the `audiences` of this proxy, which the exchange did not request: the authorization server ignores the requested audience, and the upstream could impersonate the user at this proxy",
        Operator,
        "Have the authorization server issue tokens for the upstream, and set audience, resource or scopes to it; if tokens for this proxy are intended, name its own audience there.",
    ),
    KnownError::of(
        UnusableToken(Some(Problem::ForSameAudience)),
        "`iss` and `aud` are those of the token of the request, and the exchange did not request that audience: the authorization server ignores the requested audience",
        Operator,
        "Have the authorization server issue tokens for the upstream, and set audience, resource or scopes to it.",
    ),
    KnownError::of(
        UnusableToken(Some(Problem::Expired)),
        "`exp` of the token is in the past",
        Operator,
        "Check the clocks of this host and of the authorization server, and the lifetime of its tokens.",
    ),
    KnownError::of(
        UnusableToken(Some(Problem::NoLifetime)),
        "`expires_in` is zero or negative: the session of the caller's token ends at this moment, or the lifetime of tokens is 0",
        Operator,
        "Check the lifetimes of tokens and sessions at the authorization server.",
    ),
    KnownError::of(
        UnusableToken(Some(Problem::Encoded)),
        "the body has a content coding (`content_encoding` in the log), which the filter did not ask for and does not decode",
        Operator,
        "Switch compression off for the token endpoint, at the authorization server or at a proxy in front of it.",
    ),
    KnownError::of(
        UnusableToken(Some(Problem::IdToken)),
        "`nonce`, `at_hash` or `typ` mark an ID token, which is for a client and not for an upstream",
        Operator,
        "Have the authorization server issue access tokens to the app.",
    ),
    KnownError::of(
        UnusableToken(Some(Problem::OtherKind)),
        "`typ` or `events` mark a token that is not for an upstream",
        Operator,
        "Have the authorization server issue access tokens to the app.",
    ),
    KnownError::of(
        UnusableToken(Some(Problem::OfAnotherUser)),
        "`oid` (Entra) or `uid` (Okta) is not that of the caller's token",
        Operator,
        "Report it to the provider: it confused two users.",
    ),
    KnownError::of(
        UnusableToken(Some(Problem::WrongType)),
        "`issued_token_type` is not the requested token type",
        Operator,
        "Set requested_token_type to the type that the authorization server issues.",
    ),
    KnownError::of(
        UnusableToken(None),
        "the response is no JSON, or has no token, a token that no header field can carry, or an invalid lifetime",
        Operator,
        "Check token_endpoint and the cluster: this is no token response.",
    ),
];
