//! Every "no": from the reason to status, challenge, body, metric label and log line, in one table.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use crate::http::{LocalReply, Scheme};
use crate::jose::TokenError;
use crate::json::{self, Object, Value};
use crate::provider::ErrorClass;
use crate::resource::authorization_server::AuthorizationServers;
use crate::resource::challenge::{self, Problem};
use crate::resource::{Resource, metadata};
use crate::telemetry::Record;

/// Who can do something about a refusal: it decides how loud the log is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blame {
    /// The caller; nothing is wrong here.
    Caller,
    /// Whoever runs this proxy or the provider.
    Operator,
}

/// A row of the table.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// The label in metrics, logs and bodies.
    pub label: &'static str,
    /// The status code.
    pub status: u16,
    /// `error` of the body, and of the challenge where there is one (RFC 6750 section 3.1).
    pub error: &'static str,
    /// Whether a `WWW-Authenticate` goes with it, and with an error or without.
    pub challenge: Challenge,
    /// Whose concern it is.
    pub concern: Blame,
    /// What a person can do: the error description. Printable ASCII without quotes and backslashes.
    pub text: &'static str,
}

/// What `WWW-Authenticate` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Challenge {
    /// There is none.
    No,
    /// Where to get a token; no error, as RFC 6750 section 3.1 wants it when there was no token.
    Bare,
    /// Where to get a better token, and what was wrong.
    WithError,
}

/// Makes [`Reason`] of its table: each line a variant with its [`Row`].
macro_rules! reasons {
    ($($name:ident => ($label:literal, $status:literal, $error:literal, $challenge:ident, $concern:ident, $text:literal);)*) => {
        /// Why a request is not forwarded.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[allow(missing_docs, reason = "each is explained by its row")]
        pub enum Reason {
            $($name,)*
        }

        impl Reason {
            /// Every reason.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// The row of the table.
            pub const fn row(self) -> Row {
                match self {
                    $(Self::$name => Row {
                        label: $label,
                        status: $status,
                        error: $error,
                        challenge: Challenge::$challenge,
                        concern: Blame::$concern,
                        text: $text,
                    },)*
                }
            }

            /// The label in metrics, logs and bodies.
            pub const fn label(self) -> &'static str {
                self.row().label
            }
        }
    };
}

reasons! {
    UnknownResource => ("unknown_resource", 404, "not_found", No, Caller, "Nothing is published at this host and path.");
    NotAnAuthorizationServer => ("not_an_authorization_server", 404, "not_found", No, Caller, "This is no authorization server; ask one of authorization_servers for a token.");
    AmbiguousPath => ("ambiguous_path", 400, "invalid_request", No, Caller, "The path has more than one reading; send it in normal form.");
    MethodNotAllowed => ("method_not_allowed", 405, "invalid_request", No, Caller, "Metadata can only be read: GET or HEAD.");
    NoCredentials => ("no_credentials", 401, "unauthorized", Bare, Caller, "Send an access token in the Authorization header.");
    MalformedCredentials => ("malformed_credentials", 400, "invalid_request", WithError, Caller, "The Authorization header is not a scheme (Bearer or DPoP), a space, and one token.");
    SeveralCredentials => ("several_credentials", 400, "invalid_request", WithError, Caller, "Send one token, once, in the Authorization header.");
    TokenTooLarge => ("token_too_large", 400, "invalid_request", WithError, Caller, "The token is longer than 16 KiB.");
    MalformedToken => ("malformed_token", 401, "invalid_token", WithError, Caller, "The token is not a well-formed signed JWT.");
    OpaqueToken => ("opaque_token", 401, "invalid_token", WithError, Caller, "The token is opaque, not a JWT; ask for a token for this resource.");
    EncryptedToken => ("encrypted_token", 401, "invalid_token", WithError, Caller, "The token is encrypted; the identity provider must issue signed tokens for this audience.");
    UnsupportedAlgorithm => ("unsupported_algorithm", 401, "invalid_token", WithError, Caller, "The token is signed with an algorithm that is not accepted for its key.");
    UnsupportedTokenType => ("unsupported_token_type", 401, "invalid_token", WithError, Caller, "The token is another kind of JWT than an access token.");
    UnknownIssuer => ("unknown_issuer", 401, "invalid_token", WithError, Caller, "The token comes from an issuer that is not accepted here.");
    WrongTenant => ("wrong_tenant", 401, "invalid_token", WithError, Caller, "The token comes from an organization that is not accepted here.");
    UnknownKey => ("unknown_key", 401, "invalid_token", WithError, Caller, "The token is signed with a key that its issuer does not publish.");
    BadSignature => ("bad_signature", 401, "invalid_token", WithError, Caller, "The signature of the token does not fit.");
    Expired => ("expired", 401, "invalid_token", WithError, Caller, "The token has expired; get a new one.");
    NotYetValid => ("not_yet_valid", 401, "invalid_token", WithError, Caller, "The token is not valid yet; check the clocks.");
    WrongAudience => ("wrong_audience", 401, "invalid_token", WithError, Caller, "The token was issued for another audience; ask for one for this resource.");
    InvalidClaims => ("invalid_claims", 401, "invalid_token", WithError, Caller, "A claim that the token needs is missing or of a wrong type.");
    IdTokenAsAccessToken => ("id_token_as_access_token", 401, "invalid_token", WithError, Caller, "This is an ID token; send an access token.");
    AccessTokenAsIdToken => ("access_token_as_id_token", 401, "invalid_token", WithError, Caller, "This is an access token; send an ID token.");
    BoundToken => ("bound_token", 401, "invalid_token", WithError, Caller, "The token is bound to a key or a certificate, and was sent without the proof for it.");
    UnboundToken => ("unbound_token", 401, "invalid_token", WithError, Caller, "The token is not bound to a key or a certificate of its holder, as it must be here.");
    WrongCertificate => ("wrong_certificate", 401, "invalid_token", WithError, Caller, "The token is bound to another certificate than that of this connection.");
    InvalidProof => ("invalid_dpop_proof", 401, "invalid_dpop_proof", WithError, Caller, "The DPoP proof is missing, does not fit the request and its token, or was used before.");
    UseNonce => ("use_dpop_nonce", 401, "use_dpop_nonce", WithError, Caller, "The DPoP proof must have the nonce of the DPoP-Nonce header in it.");
    NotAUserToken => ("not_a_user_token", 403, "access_denied", No, Caller, "The token belongs to an application; only users can be acted for.");
    InsufficientScope => ("insufficient_scope", 403, "insufficient_scope", WithError, Caller, "The token lacks a scope that this resource needs.");
    NoExchange => ("no_exchange", 403, "access_denied", No, Caller, "Users of this identity provider have no access to this resource.");
    SubjectTokenMissing => ("subject_token_missing", 401, "invalid_token", WithError, Caller, "The ID token that must come with the access token is missing, or there are several.");
    SubjectTokenInvalid => ("subject_token_invalid", 401, "invalid_token", WithError, Caller, "The ID token that came with the access token is not valid.");
    SubjectMismatch => ("subject_mismatch", 401, "invalid_token", WithError, Caller, "The ID token and the access token belong to different users.");
    ActorNotAllowed => ("actor_not_allowed", 403, "access_denied", No, Caller, "The token says who may act for its user, and that is not this proxy.");
    ActorTokenMissing => ("actor_token_missing", 502, "server_error", No, Operator, "This proxy lacks the token by which it acts for users; its operator finds the reason in the log.");
    KeysUnavailable => ("keys_unavailable", 503, "temporarily_unavailable", No, Operator, "The identity provider's keys could not be fetched; try again.");
    ExchangeRejected => ("exchange_rejected", 401, "invalid_token", WithError, Caller, "The identity provider does not accept the token any more; get a new one.");
    InteractionRequired => ("interaction_required", 403, "access_denied", No, Caller, "The identity provider wants the user to act: sign in again and pass its checks (a second factor, an accepted device), or open interaction_uri if there is one, or have an administrator consent; then try again.");
    ExchangeDenied => ("exchange_denied", 403, "access_denied", No, Caller, "The identity provider denies this user access to the resource.");
    ExchangeMisconfigured => ("exchange_misconfigured", 502, "server_error", No, Operator, "The identity provider refused this proxy's request; its operator finds the reason in the log.");
    ProviderThrottled => ("provider_throttled", 503, "temporarily_unavailable", No, Operator, "The identity provider is limiting requests; try again later.");
    ProviderUnavailable => ("provider_unavailable", 503, "temporarily_unavailable", No, Operator, "The identity provider cannot be reached; try again later.");
    ProviderAnswerInvalid => ("provider_answer_invalid", 502, "server_error", No, Operator, "The identity provider's answer was not usable; the operator finds the reason in the log.");
    UpstreamRejectedToken => ("upstream_rejected_token", 503, "temporarily_unavailable", No, Caller, "The server behind this proxy did not accept the token that was exchanged for it; try again, with another.");
    UpstreamRejectsTokens => ("upstream_rejects_tokens", 502, "server_error", No, Operator, "The server behind this proxy accepts no token that is exchanged for it; the operator finds the reason there.");
    Overloaded => ("overloaded", 503, "temporarily_unavailable", No, Operator, "Too many requests are waiting; try again.");
}

/// A refusal of one request.
#[derive(Clone, Debug)]
pub struct Refusal {
    /// Why.
    pub reason: Reason,
    /// When it is worth trying again (`Retry-After`).
    pub retry_after: Option<Duration>,
    /// A claims challenge for the client: JSON text.
    pub claims: Option<String>,
    /// Where the user can act, in a browser: an `https` URL at the identity provider.
    pub interaction_uri: Option<Box<str>>,
    /// The authorization servers that should have been asked.
    pub servers: Option<Box<AuthorizationServers>>,
    /// A nonce that the client's next proof must have (`DPoP-Nonce`).
    pub nonce: Option<String>,
    /// How the token was presented.
    pub scheme: Scheme,
    /// For the log: what a person needs beside the reason. No token, secret or personal data.
    pub detail: String,
}

impl Refusal {
    /// A refusal with nothing but its reason.
    pub const fn new(reason: Reason) -> Self {
        Self {
            reason,
            retry_after: None,
            claims: None,
            interaction_uri: None,
            servers: None,
            nonce: None,
            scheme: Scheme::Bearer,
            detail: String::new(),
        }
    }

    /// The same with a detail for the log.
    pub fn because(reason: Reason, detail: impl Into<String>) -> Self {
        Self { detail: detail.into(), ..Self::new(reason) }
    }

    /// The same with a time to wait.
    pub fn retry_after(self, pause: Duration) -> Self {
        Self { retry_after: Some(pause), ..self }
    }

    /// What of it holds for every request that lacks the same: for another worker, which reads it by
    /// [`from_members`](Self::from_members).
    pub fn members(&self) -> Vec<(&'static str, Value<'_>)> {
        let mut members = vec![
            ("reason", self.reason.label().into()),
            ("detail", self.detail.as_str().into()),
            ("retry", self.retry_after.is_some().into()),
        ];
        members.extend(self.claims.as_deref().map(|claims| ("claims", claims.into())));
        members.extend(self.interaction_uri.as_deref().map(|uri| ("interaction_uri", uri.into())));
        members
    }

    /// The time to wait, if there is one, is for the reader to say.
    pub fn from_members(members: &Object<'_>) -> Option<Self> {
        let label = members.string("reason")?;
        let reason = *Reason::ALL.iter().find(|reason| reason.label() == label)?;
        Some(Self {
            retry_after: (members.get("retry") == Some(&Value::Bool(true))).then_some(Duration::ZERO),
            claims: members.string("claims").map(str::to_owned),
            interaction_uri: members.string("interaction_uri").map(Into::into),
            ..Self::because(reason, members.string("detail")?)
        })
    }

    /// What the client gets. `resource` is the one that the request was for, if it was for one.
    pub fn answer(&self, resource: Option<&Resource>) -> LocalReply {
        let row = self.reason.row();
        let (status, error) = match &self.claims {
            Some(_) => (401, "insufficient_claims"),
            None => (row.status, row.error),
        };
        let mut headers =
            vec![("content-type", "application/json".to_owned()), ("cache-control", "no-store".to_owned())];
        if let Some(resource) = resource {
            let problem = Problem { error, description: row.text, claims: self.claims.as_deref(), scheme: self.scheme };
            let challenges = match (&self.claims, row.challenge) {
                (None, Challenge::No) => Vec::new(),
                (None, Challenge::Bare) => challenge::challenges(resource, None),
                (Some(_), _) | (None, Challenge::WithError) => challenge::challenges(resource, Some(&problem)),
            };
            headers.extend(challenges.into_iter().map(|value| ("www-authenticate", value)));
        }
        headers.extend(self.nonce.clone().map(|nonce| ("dpop-nonce", nonce)));
        if let Some(pause) = self.retry_after {
            // Rounded up: a client that comes a moment early is refused again.
            let seconds = pause.as_millis().div_ceil(1000).max(1);
            headers.push(("retry-after", seconds.to_string()));
        }
        if self.reason == Reason::MethodNotAllowed {
            headers.push(("allow", "GET, HEAD, OPTIONS".to_owned()));
        }
        let mut description = Cow::Borrowed(row.text);
        let mut members: Vec<(&str, Value<'_>)> = Vec::new();
        members.extend(self.interaction_uri.as_deref().map(|uri| ("interaction_uri", uri.into())));
        if let Some(servers) = self.servers.as_deref() {
            headers.push(metadata::readable());
            members.push(("authorization_servers", servers.issuers.iter().map(String::as_str).collect()));
            members.push(("resource_metadata", servers.metadata.iter().map(String::as_str).collect()));
            // Many clients show nothing else.
            if let Some(text) = row.text.strip_suffix('.').filter(|_| !servers.issuers.is_empty()) {
                description = format!("{text} ({}).", servers.issuers.join(" or ")).into();
            }
        }
        let body =
            [("error", error.into()), ("error_description", Value::String(description)), ("reason", row.label.into())];
        let body = json::text(body.into_iter().chain(members));
        LocalReply { status, headers, body, audit: Record::default() }
    }
}

/// Writes a line about something that ended so, as loud as whoever must act needs it.
pub fn log_at(reason: Reason, record: &Record) {
    match reason {
        // The first request of every MCP client, and what some ask after it.
        Reason::NoCredentials | Reason::NotAnAuthorizationServer => log::debug!("{record}"),
        reason if reason.row().concern == Blame::Operator => log::warn!("{record}"),
        _ => log::info!("{record}"),
    }
}

/// For a log line.
impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "reason={}", self.reason.label())?;
        if !self.detail.is_empty() {
            write!(f, " {}", self.detail)?;
        }
        Ok(())
    }
}

impl From<ErrorClass> for Reason {
    fn from(class: ErrorClass) -> Self {
        match class {
            ErrorClass::Token => Self::ExchangeRejected,
            ErrorClass::UserMustAct => Self::InteractionRequired,
            ErrorClass::NotAllowed => Self::ExchangeDenied,
            ErrorClass::Operator => Self::ExchangeMisconfigured,
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
    fn every_text_can_stand_in_a_challenge() {
        for &reason in Reason::ALL {
            let fits = |byte: u8| matches!(byte, 0x20..=0x21 | 0x23..=0x5B | 0x5D..=0x7E);
            assert!(reason.row().text.bytes().all(fits), "{reason:?}");
        }
    }

    #[test]
    fn a_challenge_goes_with_every_401_and_its_error_is_what_rfc_6750_names() {
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
