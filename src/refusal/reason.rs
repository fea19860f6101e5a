//! Table of the reasons for which a request is refused: label, status, challenge, who is to blame, text for the client and, for
//! the documentation, meaning and remedy. Only data; `docs/client-responses.md` is generated from it.

use crate::jose::TokenError;
use crate::provider::ErrorClass;

/// Party that caused a refusal and can remove its cause. It decides the level of the log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blame {
    /// The caller: its request or its token.
    Caller,
    /// The operator: the configuration of this proxy, the identity provider or the upstream.
    Operator,
    /// The identity provider, or the network between this proxy and the provider.
    Provider,
}

/// Row of the table.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// Label in metrics, log lines and bodies.
    pub label: &'static str,
    /// HTTP status code.
    pub status: u16,
    /// `error` in the body and in the challenge (RFC 6750 section 3.1).
    pub error: &'static str,
    /// Form of the `WWW-Authenticate` field.
    pub challenge: Challenge,
    /// Party that can remove the cause.
    pub blame: Blame,
    /// `error_description` for the client: at least 22 characters, with a full stop at the end. Printable ASCII without quotes
    /// and backslashes (RFC 6750 section 3).
    pub text: &'static str,
}

/// Form of the `WWW-Authenticate` field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Challenge {
    /// No field.
    No,
    /// Parameters that lead to an authorization server, without `error`: the request had no token (RFC 6750 section 3.1).
    Bare,
    /// Parameters of [`Bare`](Self::Bare), with `error` and `error_description`.
    WithError,
}

/// Makes [`Reason`] of its table: a variant for each row with its [`Row`] and, natively only, its meaning and remedy.
macro_rules! reasons {
    ($($name:ident => ($label:literal, $status:literal, $error:literal, $challenge:ident, $blame:ident, $text:literal,
        $meaning:literal, $remedy:literal);)*) => {
        /// Reason for which a request is not forwarded.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[allow(missing_docs, reason = "the table has the meaning of each")]
        pub enum Reason {
            $($name,)*
        }

        impl Reason {
            /// Every reason, in the order of the table.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// Row of the table.
            pub const fn row(self) -> Row {
                match self {
                    $(Self::$name => Row {
                        label: $label,
                        status: $status,
                        error: $error,
                        challenge: Challenge::$challenge,
                        blame: Blame::$blame,
                        text: $text,
                    },)*
                }
            }

            /// Label in metrics, log lines and bodies.
            pub const fn label(self) -> &'static str {
                self.row().label
            }

            /// Sentence about what happened, for the documentation. The module for Envoy does not contain it.
            #[cfg(not(target_arch = "wasm32"))]
            pub const fn meaning(self) -> &'static str {
                match self {
                    $(Self::$name => $meaning,)*
                }
            }

            /// Sentence about what the client or the operator does. The module for Envoy does not contain it.
            #[cfg(not(target_arch = "wasm32"))]
            pub const fn remedy(self) -> &'static str {
                match self {
                    $(Self::$name => $remedy,)*
                }
            }
        }
    };
}

reasons! {
    UnknownResource => ("unknown_resource", 404, "not_found", No, Caller, "Nothing is published at this host and path.",
        "No resource and no unauthenticated path of the configuration matches the host (with its port) and the path of the request.",
        "Client: use the URL of the resource; operator: compare `host` and `path` in the log with `url` and `aliases` of the resources; `nearest` names one.");
    NotAnAuthorizationServer => ("not_an_authorization_server", 404, "not_found", No, Caller, "This host is not an authorization server; get a token from one of authorization_servers.",
        "The client takes the host of the resource for its authorization server and asks for its metadata or one of its endpoints.",
        "Client: read the protected resource metadata at `resource_metadata` of the body, and use one of `authorization_servers`.");
    AmbiguousPath => ("ambiguous_path", 400, "invalid_request", No, Caller, "The path is ambiguous; send it in normal form.",
        "Two servers could read the path in different ways, for example because of `//`, `/../`, `%2f` or a backslash.",
        "Client: send the path without empty segments, dot segments, backslashes and needless percent-encoding; operator: see `cause` in the log.");
    MethodNotAllowed => ("method_not_allowed", 405, "invalid_request", No, Caller, "This method is not allowed here.",
        "The request for protected resource metadata has another method than GET, HEAD or OPTIONS; or the method is TRACE, by which a server would send the token for the upstream back.",
        "Client: read metadata by GET, and send no TRACE.");
    NoCredentials => ("no_credentials", 401, "unauthorized", Bare, Caller, "Send an access token in the Authorization header.",
        "The request has no `Authorization` header, or one of another scheme than Bearer or DPoP.",
        "Client: get a token from an authorization server in the metadata at `resource_metadata` of the challenge, and send it.");
    MalformedCredentials => ("malformed_credentials", 400, "invalid_request", WithError, Caller, "The Authorization header is not a scheme (Bearer or DPoP), a space, and one token.",
        "The scheme is Bearer or DPoP without exactly one token behind it, or the header is not ASCII.",
        "Client: send `Authorization: Bearer <token>` or `Authorization: DPoP <token>`.");
    MultipleCredentials => ("multiple_credentials", 400, "invalid_request", WithError, Caller, "Send one token, once, in the Authorization header.",
        "The request has several `Authorization` fields, or a token in its URL or in a field that proxies append to.",
        "Client: send one token, in one `Authorization` header, and nowhere else.");
    TokenTooLarge => ("token_too_large", 400, "invalid_request", WithError, Caller, "The token is longer than 16 KiB.",
        "The token is longer than 16 KiB.",
        "Operator: have the identity provider issue fewer claims, for example fewer groups.");
    MalformedToken => ("malformed_token", 401, "invalid_token", WithError, Caller, "The token is not a well-formed signed JWT.",
        "The token is not a JWS in compact form with a JSON header and JSON claims.",
        "Client: send the access token as the authorization server issued it.");
    OpaqueToken => ("opaque_token", 401, "invalid_token", WithError, Caller, "The token is opaque, not a JWT; ask for a token for this resource.",
        "The token has no dots, so it is not a JWT: the identity provider issued it for its own endpoints.",
        "Client: ask for a token with `scope` (and `resource` or `audience`) of this resource; operator: register the API at the identity provider.");
    EncryptedToken => ("encrypted_token", 401, "invalid_token", WithError, Caller, "The token is encrypted; the identity provider must issue signed tokens for this audience.",
        "The token is a JWE, which this proxy cannot read.",
        "Operator: turn token encryption off for this API at the identity provider.");
    UnsupportedAlgorithm => ("unsupported_algorithm", 401, "invalid_token", WithError, Caller, "The token is signed with an algorithm that is not accepted for its key.",
        "`alg` of the token is `none`, symmetric, unknown or not in `algorithms`, or another one than that of the key.",
        "Operator: have the identity provider sign with RS256, or another supported algorithm that its JWKS names for the key or `algorithms` lists.");
    UnsupportedTokenType => ("unsupported_token_type", 401, "invalid_token", WithError, Caller, "The token is another kind of JWT than an access token.",
        "`typ` or the claims of the token say that it is another kind of JWT, for example a logout token.",
        "Client: send the access token.");
    UnknownIssuer => ("unknown_issuer", 401, "invalid_token", WithError, Caller, "The token comes from an issuer that is not accepted here.",
        "`iss` of the token is not an issuer of a configured identity provider.",
        "Client: get a token from an authorization server in the metadata; operator: compare `issuer_unverified` in the log with `issuer`.");
    WrongTenant => ("wrong_tenant", 401, "invalid_token", WithError, Caller, "The token comes from an organization that is not accepted here.",
        "The token is of a tenant that the configuration does not list.",
        "Operator: add the tenant to `tenants` if its users may use the resources.");
    UnknownKey => ("unknown_key", 401, "invalid_token", WithError, Caller, "The token is signed with a key that its issuer does not publish.",
        "The JWKS of the issuer has no key with the `kid` of the token, not even after it was fetched again, or it has two different ones.",
        "Client: get a new token; operator: check that the token is of the same environment, and that the API has no signing key of its own.");
    BadSignature => ("bad_signature", 401, "invalid_token", WithError, Caller, "The signature of the token is not valid.",
        "The key that the token names did not sign it.",
        "Client: send the token unchanged, or get a new one.");
    Expired => ("expired", 401, "invalid_token", WithError, Caller, "The token has expired; get a new one.",
        "`exp` of the token has passed.",
        "Client: get a new token; operator: check the clock of this host if new tokens are refused, too.");
    NotYetValid => ("not_yet_valid", 401, "invalid_token", WithError, Caller, "The token is not valid yet; check the clocks.",
        "`nbf` or `iat` of the token is in the future.",
        "Operator: synchronize the clocks of this host and of the identity provider.");
    WrongAudience => ("wrong_audience", 401, "invalid_token", WithError, Caller, "The token was issued for another audience; ask for one for this resource.",
        "`aud` of the token, or the claim that `audience_claim` names, has none of the values that this resource accepts.",
        "Client: ask for a token with the scopes of the challenge; operator: compare `aud_unverified` in the log with `audiences`.");
    InvalidClaims => ("invalid_claims", 401, "invalid_token", WithError, Caller, "A claim that the token needs is missing or of a wrong type.",
        "A required claim such as `iss`, `aud`, `exp` or the user's identifier is missing or has a wrong type.",
        "Operator: `cause` in the log names the claim; have the identity provider issue it.");
    IdTokenAsAccessToken => ("id_token_as_access_token", 401, "invalid_token", WithError, Caller, "This is an ID token; send an access token.",
        "The client sends its ID token in the place of its access token.",
        "Client: send `access_token` of the token response, not `id_token`.");
    AccessTokenAsIdToken => ("access_token_as_id_token", 401, "invalid_token", WithError, Caller, "This is an access token; send an ID token.",
        "The identity provider is configured for ID tokens, and the client sends its access token.",
        "Client: send `id_token` of the token response, not `access_token`.");
    SenderConstrainedToken => ("sender_constrained_token", 401, "invalid_token", WithError, Caller, "The token is bound to a key or a certificate, and was sent without the proof for it.",
        "The token has `cnf`, and the request does not prove that its sender holds the key or the certificate.",
        "Client: send the token with the scheme DPoP and a proof, or over its TLS connection; operator: set `dpop` or `certificate_bound_tokens` of the resource.");
    TokenNotSenderConstrained => ("token_not_sender_constrained", 401, "invalid_token", WithError, Caller, "This resource requires a token that is bound to a key or a certificate of the client.",
        "The resource requires sender-constrained tokens, and the token has no `cnf` for the required method.",
        "Client: send a DPoP proof (or its TLS certificate) to the authorization server's token endpoint, too.");
    WrongCertificate => ("wrong_certificate", 401, "invalid_token", WithError, Caller, "The token is bound to another certificate than that of this connection.",
        "The token is bound to a certificate (RFC 8705), and the TLS connection has another one or none.",
        "Client: use the certificate with which it got the token; operator: let Envoy itself end TLS and ask for client certificates.");
    InvalidProof => ("invalid_dpop_proof", 401, "invalid_dpop_proof", WithError, Caller, "The DPoP proof is missing, does not fit the request and its token, or was used before.",
        "The `DPoP` header is missing or repeated, or the proof fails a check of RFC 9449 section 4.3.",
        "Client: send a new proof for each request; `cause` in the log names the check.");
    UseNonce => ("use_dpop_nonce", 401, "use_dpop_nonce", WithError, Caller, "The DPoP proof must have the nonce of the DPoP-Nonce header in it.",
        "The resource requires a nonce in DPoP proofs, and the proof has none or an old one.",
        "Client: repeat the request with a proof that has the nonce of the `DPoP-Nonce` header.");
    NotAUserToken => ("not_a_user_token", 403, "access_denied", No, Caller, "The token belongs to an application; this proxy acts for users only.",
        "The token is of the client credentials grant: no user has signed in.",
        "Client: use a grant in which a user signs in, such as the authorization code grant.");
    InsufficientScope => ("insufficient_scope", 403, "insufficient_scope", WithError, Caller, "The token lacks a scope that this resource needs.",
        "The token lacks one of the scopes that the resource requires.",
        "Client: ask for a token with the `scope` of the challenge.");
    RequiredClaimMissing => ("required_claim_missing", 403, "access_denied", No, Caller, "The token lacks a claim that this proxy requires, or has another value of it; another token of this user has the same claims.",
        "The token lacks a claim of `required_claims` of its identity provider, or has none of the accepted values.",
        "Operator: `missing` in the log names the claim; have the provider issue it, or change `required_claims`.");
    NoExchange => ("no_exchange", 403, "access_denied", No, Caller, "Users of this identity provider have no access to this resource.",
        "The resource has no `exchange` for the identity provider of the token.",
        "Client: get a token from an authorization server in the metadata of the resource; operator: add the provider to `exchange`.");
    SubjectTokenMissing => ("subject_token_missing", 401, "invalid_token", WithError, Caller, "The ID token that must come with the access token is missing, or there are several.",
        "The identity provider is configured to exchange an ID token in a second header or cookie, which has no token or several.",
        "Client: send the ID token there, once; operator: check `subject_token`.");
    SubjectTokenInvalid => ("subject_token_invalid", 401, "invalid_token", WithError, Caller, "The ID token that came with the access token is not valid.",
        "The ID token in the second header or cookie fails a check of its own.",
        "Client: get both tokens again; operator: `token_error` in the log is the reason of the same check of an access token.");
    SubjectMismatch => ("subject_mismatch", 401, "invalid_token", WithError, Caller, "The ID token and the access token belong to different users.",
        "The ID token in the second header or cookie names another user than the access token.",
        "Client: send two tokens of the same sign-in.");
    ActorNotAllowed => ("actor_not_allowed", 403, "access_denied", No, Caller, "The token names who may act for its user, and this proxy is not named.",
        "`may_act` of the token (RFC 8693 section 4.4) does not name this proxy.",
        "Operator: have the identity provider name `client.id`, or the configured `actor_token.subject`, in `may_act`.");
    ActorTokenMissing => ("actor_token_missing", 502, "server_error", No, Operator, "This proxy lacks the token with which it acts for users; its operator finds the reason in the log.",
        "The request does not bring the actor token that the exchange needs, or brings one of another actor.",
        "Operator: check the Envoy filter that puts the actor token into its header.");
    JwksUnavailable => ("jwks_unavailable", 503, "temporarily_unavailable", No, Provider, "The identity provider's keys could not be fetched; try again.",
        "The keys of the identity provider were never fetched, or are older than `jwks_max_age_seconds`.",
        "Client: repeat the request after `Retry-After`; operator: look for `event=jwks_fetch_failed` in the log.");
    ExchangeRejected => ("exchange_rejected", 401, "invalid_token", WithError, Caller, "The identity provider does not accept the token any more; get a new one.",
        "The identity provider refused the subject token, for example because its session was revoked or the user signed out.",
        "Client: get a new token, by a new sign-in if a refresh does not help.");
    InteractionRequired => ("interaction_required", 403, "access_denied", No, Caller, "The identity provider requires an action of the user: sign in again and pass its checks (a second factor, an accepted device), or open interaction_uri if there is one, or have an administrator consent; then try again.",
        "The identity provider requires an action of the user or an administrator; with a claims challenge the status is 401 and `error` is `insufficient_claims`.",
        "Client: sign the user in again with `claims` of the challenge, or show `interaction_uri`; operator: `responsible` and `remedy` in the log say who must act and how.");
    ExchangeDenied => ("exchange_denied", 403, "access_denied", No, Caller, "The identity provider denies this user access to the resource.",
        "The identity provider denies this user a token for the upstream.",
        "Operator: assign the user or the group to the upstream's application at the identity provider.");
    ExchangeMisconfigured => ("exchange_misconfigured", 502, "server_error", No, Operator, "The identity provider refused this proxy's request; its operator finds the reason in the log.",
        "The identity provider refused the token request for a reason that no user can change, or the request could not be made.",
        "Operator: do what `remedy` or `cause` in the log says.");
    ProviderThrottled => ("provider_throttled", 503, "temporarily_unavailable", No, Provider, "The identity provider is limiting requests; try again later.",
        "The identity provider answered 429, or with a code such as `slow_down` or `rate_limit_exceeded`.",
        "Client: repeat the request after `Retry-After`; operator: raise the rate limit of the client at the provider.");
    ProviderUnavailable => ("provider_unavailable", 503, "temporarily_unavailable", No, Provider, "The identity provider cannot be reached; try again later.",
        "The identity provider answered 5xx, 408, 421, 425 or not in time, or the circuit breaker of its token endpoint is open.",
        "Client: repeat the request after `Retry-After`; operator: check the provider's status and the Envoy cluster.");
    ProviderAnswerInvalid => ("provider_answer_invalid", 502, "server_error", No, Provider, "The identity provider's response was not usable; the operator finds the reason in the log.",
        "The token response of the identity provider is not one of RFC 6749, or its token must not be forwarded.",
        "Operator: do what `error` and `remedy` in the log say.");
    UpstreamRejectedToken => ("upstream_rejected_token", 503, "temporarily_unavailable", No, Caller, "The server behind this proxy did not accept the token that was exchanged for it; try again, with another.",
        "The upstream answered 401, or 200 with only `grpc-status: 16`, to an exchanged token, which is dropped.",
        "Client: repeat the request after `Retry-After`; the next request gets another token.");
    UpstreamRejectsTokens => ("upstream_rejects_tokens", 502, "server_error", No, Operator, "The server behind this proxy accepts no token that is exchanged for it; the operator finds the reason there.",
        "The upstream answered 401 to an exchanged token, and to those that replaced it.",
        "Operator: compare `sent_iss`, `sent_aud` and `sent_scope` in the log, which `exchange` of the resource decides, with what the upstream requires.");
    UpstreamSessionGone => ("upstream_session_gone", 404, "not_found", No, Caller, "The server behind this proxy does not accept this session; start a new one, without Mcp-Session-Id.",
        "The upstream answered 401 to a request with `Mcp-Session-Id`, and to a new token as well: it has forgotten the session, for example by a restart.",
        "Client: start a new session, as MCP requires after 404; if it is rejected as well, the reason is the token.");
    SecondPass => ("second_pass", 502, "server_error", No, Operator, "This proxy has already replaced the token of this request; the operator must not lead the request through it again.",
        "The request came through the filter a second time, with the token for the upstream: by an internal redirect of Envoy, or because two filters are in one chain.",
        "Operator: take `internal_redirect_policy` off the routes of resources, or lead the redirect to an unauthenticated path; `cause` in the log is the reason for which the second pass refused the request.");
    Overloaded => ("overloaded", 503, "temporarily_unavailable", No, Operator, "Too many requests are waiting; try again.",
        "A worker has the maximum number of waiting requests, callouts or remembered DPoP proofs.",
        "Client: repeat the request after `Retry-After`; operator: check the latency of the identity provider, and add workers or hosts.");
}

impl From<ErrorClass> for Reason {
    fn from(class: ErrorClass) -> Self {
        match class {
            ErrorClass::Token => Self::ExchangeRejected,
            ErrorClass::UserMustAct => Self::InteractionRequired,
            ErrorClass::NotAllowed => Self::ExchangeDenied,
            ErrorClass::ClientAuthentication | ErrorClass::Operator => Self::ExchangeMisconfigured,
            ErrorClass::Throttled => Self::ProviderThrottled,
            ErrorClass::Unavailable => Self::ProviderUnavailable,
            ErrorClass::InvalidResponse => Self::ProviderAnswerInvalid,
        }
    }
}

impl From<&TokenError> for Reason {
    fn from(error: &TokenError) -> Self {
        match error {
            TokenError::Opaque => Self::OpaqueToken,
            TokenError::Malformed(_) => Self::MalformedToken,
            TokenError::Encrypted => Self::EncryptedToken,
            TokenError::Algorithm => Self::UnsupportedAlgorithm,
            TokenError::Type => Self::UnsupportedTokenType,
            TokenError::Issuer => Self::UnknownIssuer,
            TokenError::Tenant => Self::WrongTenant,
            TokenError::Key => Self::UnknownKey,
            TokenError::Signature => Self::BadSignature,
            TokenError::Expired => Self::Expired,
            TokenError::NotYetValid => Self::NotYetValid,
            TokenError::Audience => Self::WrongAudience,
            TokenError::Claims(_) => Self::InvalidClaims,
            TokenError::IdToken => Self::IdTokenAsAccessToken,
            TokenError::AccessToken => Self::AccessTokenAsIdToken,
            TokenError::NotAUser => Self::NotAUserToken,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_reason_has_a_label_of_its_own() {
        let labels: HashSet<_> = Reason::ALL.iter().map(|reason| reason.label()).collect();
        assert_eq!(labels.len(), Reason::ALL.len());
    }

    #[test]
    fn every_text_is_a_sentence_that_can_stand_in_a_challenge() {
        for &reason in Reason::ALL {
            let fits = |byte: u8| matches!(byte, 0x20..=0x21 | 0x23..=0x5B | 0x5D..=0x7E);
            let text = reason.row().text;
            assert!(text.bytes().all(fits), "{reason:?}: printable ASCII without quotes and backslashes: {text}");
            // `assertRefused` of the tests on Envoy requires the same.
            assert!(text.len() >= 22 && text.ends_with('.'), "{reason:?}: 22 characters and a full stop: {text}");
        }
    }

    #[test]
    fn meaning_and_remedy_are_one_sentence_each() {
        for &reason in Reason::ALL {
            for text in [reason.meaning(), reason.remedy()] {
                let is_sentence = text.ends_with('.') && !text.contains(". ") && !text.contains('|');
                assert!(is_sentence, "{reason:?}: one sentence without `|`: {text}");
            }
        }
    }

    #[test]
    fn every_401_has_a_challenge_with_an_error_of_rfc_6750() {
        for &reason in Reason::ALL {
            let row = reason.row();
            assert!(row.status != 401 || row.challenge != Challenge::No, "{reason:?}");
            if row.challenge == Challenge::WithError {
                let expected = match row.status {
                    // RFC 9449 sections 7.1 and 9.
                    401 if matches!(reason, Reason::InvalidProof | Reason::UseNonce) => row.label,
                    400 => "invalid_request",
                    401 => "invalid_token",
                    _ => "insufficient_scope",
                };
                assert_eq!(row.error, expected, "{reason:?}");
            }
        }
    }
}
