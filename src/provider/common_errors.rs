//! Known errors of any provider: the errors of RFC 6749 section 5.2, RFC 8693 section 2.2.2, RFC 9449 section 5 and
//! OpenID Connect Core section 3.1.2.6, failed callouts, and responses whose token is unusable.

use crate::http::CalloutFailure::{NoConnection, NotSent, TimedOut, TooLarge};
use crate::provider::ErrorPattern::Any;
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
        UnusableToken(Some(Problem::UnsafeInHeader)),
        "the token has characters other than those of a Bearer token (RFC 6750 section 2.1), such as a comma or a quote",
        Operator,
        "Have the authorization server issue tokens of letters, digits and -._~+/ with = at the end.",
    ),
    KnownError::of(
        UnusableToken(None),
        "the response is no JSON, or has no token, or an invalid lifetime",
        Operator,
        "Check token_endpoint and the cluster: this is no token response.",
    ),
];
