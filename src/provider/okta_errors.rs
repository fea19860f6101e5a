//! Known errors of Okta: by status and error, and where several causes share these, by words of the error description.

use crate::provider::ErrorPattern::{Any, Words};
use crate::provider::KnownError;
use crate::provider::Responsible::{Admin, Operator, Provider as Okta, User};

pub(super) static KNOWN_ERRORS: &[KnownError] = &[
    KnownError::new(
        (401, "invalid_client", Words(&["already been used"])),
        "Okta received the same client assertion twice; it accepts an assertion once",
        Operator,
        "Switch off retries on the way to Okta: it accepts a client assertion once.",
    ),
    KnownError::new(
        (401, "invalid_client", Words(&["audience claim"])),
        "`aud` of the client assertion is not the token endpoint",
        Operator,
        "Remove audience from client.authentication.",
    ),
    KnownError::new(
        (401, "invalid_client", Words(&["token is expired", "too far into the future", "before the current time"])),
        "the clock of this host and Okta's clock differ, so the times of the client assertion are invalid",
        Operator,
        "Check the clock of this host.",
    ),
    KnownError::new(
        (401, "invalid_client", Words(&["signature algorithm"])),
        "the algorithm of the client assertion is not the registered algorithm of its key",
        Operator,
        "Set algorithm to that of the registered key.",
    ),
    KnownError::new(
        (401, "invalid_client", Words(&["kid is invalid", "JWKSet", "signature is invalid", "'use'", "signing key"])),
        "the app has no public key for the client assertion",
        Operator,
        "Register the public key of key at the app, with use sig and the configured key_id.",
    ),
    KnownError::new(
        (401, "invalid_client", Words(&["client secret", "Authentication header"])),
        "the client secret is wrong",
        Operator,
        "Set secret to an active client secret of the app.",
    ),
    KnownError::new(
        (401, "invalid_client", Words(&["encryption key"])),
        "the app requires encrypted tokens and has no encryption key",
        Admin,
        "Switch token encryption off for the app.",
    ),
    KnownError::new(
        (401, "invalid_client", Any),
        "Okta does not know the client id, or the client authentication is wrong",
        Operator,
        "Check client.id and client.authentication.",
    ),
    KnownError::new(
        (401, "access_denied", Any),
        "no rule of an access policy of the authorization server permits this request",
        Admin,
        "Add an access policy for the app, with a rule for Token Exchange and the scopes.",
    ),
    KnownError::new(
        (403, "access_denied", Words(&["trusted authorization server", "associated server"])),
        "the authorization server does not trust the issuer of the caller's token",
        Admin,
        "Add the issuer of callers' tokens to the Trusted servers of the authorization server.",
    ),
    KnownError::new(
        (403, "access_denied", Words(&["Token Exchange flow"])),
        "Okta does not exchange tokens between apps of these two types",
        Admin,
        "Make the app one of the type API Services.",
    ),
    KnownError::new(
        (403, "access_denied", Words(&["network zone"])),
        "the address of this proxy is not in a network zone of the app",
        Admin,
        "Add the address of this proxy to the network zones of the app.",
    ),
    KnownError::new(
        (403, "access_denied", Any),
        "Okta denies the proxy's app the exchange for every user",
        Admin,
        "Check the Trusted servers of the authorization server, and the type and network zones of the app.",
    ),
    KnownError::new(
        (400, "access_denied", Words(&["not assigned"])),
        "the user is not assigned to the app",
        Admin,
        "Assign the user or a group to the app.",
    ),
    KnownError::new(
        (400, "access_denied", Words(&["scopes were rejected", "denied by the policy"])),
        "the policy rule does not permit the scopes",
        Admin,
        "Permit the scopes in the rule of the access policy.",
    ),
    KnownError::new(
        (400, "access_denied", Words(&["feature is not enabled"])),
        "the org lacks the feature",
        Admin,
        "Have API Access Management and Token Exchange enabled in the org.",
    ),
    KnownError::new(
        (400, "access_denied", Any),
        "the user is not assigned to the app, or the policy does not permit the scopes for this user",
        Admin,
        "Assign the user to the app, and permit the scopes in the rule of the access policy.",
    ),
    KnownError::new(
        (400, "invalid_target", Words(&["'resource'"])),
        "the authorization server does not know `resource`",
        Operator,
        "Remove resource, or set it to one that the authorization server knows.",
    ),
    KnownError::new(
        (400, "invalid_target", Words(&["resource app"])),
        "the configuration of the resource app is incomplete, or the user is not assigned to it",
        Admin,
        "Complete the resource app, and assign the user to it.",
    ),
    KnownError::new(
        (400, "invalid_target", Any),
        "`audience` is not the audience of the authorization server at `token_endpoint`",
        Operator,
        "Set audience to that of the authorization server at token_endpoint.",
    ),
    KnownError::new(
        (400, "invalid_request", Words(&["'subject_token_type'"])),
        "the subject token is an ID token, and the authorization server exchanges access tokens only",
        Operator,
        "Set subject_token to type access_token: this authorization server takes no ID token.",
    ),
    KnownError::new(
        (400, "invalid_request", Words(&["'subject_token'"])),
        "the token is no access token of this authorization server or of a trusted one, or its user is not active",
        Operator,
        "Have clients send an access token of this authorization server or of a trusted one.",
    )
    .or_subject_token(),
    KnownError::new(
        (400, "invalid_request", Words(&["'requested_token_type'"])),
        "Okta does not issue this token type in an exchange",
        Operator,
        "Remove requested_token_type from the exchange.",
    ),
    KnownError::new(
        (400, "invalid_request", Words(&["service clients"])),
        "the proxy's app is not a service app",
        Admin,
        "Make the app one of the type API Services.",
    ),
    KnownError::new(
        (400, "invalid_request", Words(&["id-jag"])),
        "the access token request has a `scope`; the ID-JAG contains the scopes",
        Operator,
        "Request scopes with the ID-JAG only.",
    )
    .at_access_token_request(),
    KnownError::new(
        (400, "invalid_request", Words(&["delegation link"])),
        "no delegation link permits this client to act with the user's access token",
        Admin,
        "Create a delegation link from the app to the resource.",
    ),
    KnownError::new(
        (400, "invalid_grant", Words(&["was already used"])),
        "Okta received the same ID-JAG twice; it accepts an ID-JAG once",
        Operator,
        "Switch off retries on the way to Okta: it accepts an ID-JAG once.",
    )
    .at_access_token_request(),
    KnownError::new(
        (400, "invalid_grant", Words(&["id-jag", "JWT Bearer Grant"])),
        "the ID-JAG has expired, its lifetime is too long, or its issuer, client or audience is another one",
        Operator,
        "Check audience (the issuer of the resource's authorization server) and the clock of this host.",
    )
    .at_access_token_request(),
    KnownError::new(
        (400, "invalid_grant", Any),
        "the caller's token has expired, or its session has ended",
        User,
        "Sign in again to get a new token.",
    ),
    KnownError::new(
        (400, "invalid_scope", Words(&["'openid'"])),
        "the exchange requests `openid`, `profile`, `email` or `offline_access`",
        Operator,
        "Request scopes of the upstream only.",
    ),
    KnownError::new(
        (400, "invalid_scope", Words(&["default scopes", "No scopes"])),
        "the exchange requests no scope, and the authorization server has no default scope",
        Operator,
        "Set scopes to scopes of the upstream.",
    ),
    KnownError::new(
        (400, "invalid_scope", Any),
        "a scope of the exchange does not exist at this authorization server",
        Operator,
        "Create the scopes at the authorization server, or correct their names.",
    ),
    KnownError::new(
        (400, "unsupported_grant_type", Any),
        "the authorization server does not exchange tokens",
        Admin,
        "Set token_endpoint to a custom authorization server with a policy rule for Token Exchange.",
    ),
    KnownError::new(
        (400, "unauthorized_client", Any),
        "the app may not exchange tokens, or not at a custom authorization server",
        Admin,
        "Enable the grant type Token Exchange for the app.",
    ),
    KnownError::new(
        (400, "consent_required", Any),
        "a scope requires the user's consent, which an exchange cannot request",
        Admin,
        "Set User consent of the scopes to Implicit.",
    ),
    KnownError::new(
        (400, "interaction_required", Any),
        "the user must consent or sign in, at Okta or at a service that Okta calls",
        User,
        "Open the interaction_uri of the response, then send the request again.",
    ),
    KnownError::new(
        (400, "server_error", Words(&["too many groups"])),
        "the filter of the groups claim (prefix, expression) matches more groups of this user than Okta puts into a token",
        Admin,
        "Narrow the filter of the groups claim, for example with a longer prefix.",
    ),
    KnownError::new(
        (400, "server_error", Words(&["could not be evaluated"])),
        "the expression of a claim fails for this user",
        Admin,
        "Correct the expressions of the authorization server's claims.",
    ),
    KnownError::new(
        (400, "server_error", Any),
        "a token inline hook failed, or Okta cannot compute a claim",
        Admin,
        "Check the token inline hook and the claims of the authorization server.",
    ),
    KnownError::new(
        (429, "", Any),
        "the rate limit of the token endpoint is exceeded, for the app or for the org",
        Okta,
        "Wait a minute; if the error persists, raise the app's share of the limit.",
    ),
    #[cfg(not(target_arch = "wasm32"))]
    KnownError::at_upstream(
        403,
        "the filter of the groups claim (prefix, expression) excludes the groups that the upstream expects",
        Admin,
        "Let the filter of the groups claim at the upstream's authorization server match the groups that the upstream expects.",
    ),
];
