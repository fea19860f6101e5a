//! Refusals: the reason of each request that is not forwarded, its local reply and its log line.

mod reason;

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use crate::http::{LocalReply, Scheme};
use crate::json::{self, Object, Value};
use crate::resource::authorization_server::AuthorizationServers;
use crate::resource::challenge::{self, Problem};
use crate::resource::{Resource, SlashForm, metadata};
use crate::telemetry::{Detail, Fact, Record};

pub use reason::{Blame, Challenge, Reason, Row};

/// Refusal of one request.
#[derive(Clone, Debug)]
pub struct Refusal {
    /// Reason, which decides status, challenge and text.
    pub reason: Reason,
    /// Time after which the client should try again (`Retry-After`).
    pub retry_after: Option<Duration>,
    /// Claims challenge for the client: the JSON text of a `claims` request parameter (OpenID Connect Core section 5.5).
    pub claims: Option<String>,
    /// `https` URL at the identity provider where the user can act in a browser.
    pub interaction_uri: Option<Box<str>>,
    /// Authorization servers that the client should use instead of this host.
    pub servers: Option<Box<AuthorizationServers>>,
    /// Nonce that the client's next DPoP proof must have (`DPoP-Nonce`, RFC 9449 section 9).
    pub nonce: Option<String>,
    /// Scheme with which the client sent its token.
    pub scheme: Scheme,
    /// Further facts for the log line.
    pub detail: Detail,
}

impl Refusal {
    /// Refusal without further facts.
    pub const fn new(reason: Reason) -> Self {
        Self {
            reason,
            retry_after: None,
            claims: None,
            interaction_uri: None,
            servers: None,
            nonce: None,
            scheme: Scheme::Bearer,
            detail: Detail::new(),
        }
    }

    /// Refusal with its cause, a sentence for the log line.
    #[inline(never)]
    pub fn because(reason: Reason, cause: impl Into<Cow<'static, str>>) -> Self {
        Self::detailed(reason, Detail::new().with(Fact::Cause, cause))
    }

    /// Refusal with facts for the log line.
    #[inline(never)]
    pub fn detailed(reason: Reason, detail: Detail) -> Self {
        Self { detail, ..Self::new(reason) }
    }

    /// Adds a time after which the client should try again.
    #[must_use]
    pub fn retry_after(self, pause: Duration) -> Self {
        Self { retry_after: Some(pause), ..self }
    }

    /// Members of a JSON object for another worker, which reads them with [`from_members`](Self::from_members). They hold for
    /// every request that needs the same token.
    pub fn members(&self) -> Vec<(&'static str, Value<'_>)> {
        let mut members = vec![
            ("reason", self.reason.label().into()),
            ("detail", self.detail.to_json()),
            ("retry", self.retry_after.is_some().into()),
        ];
        members.extend(self.claims.as_deref().map(|claims| ("claims", claims.into())));
        members.extend(self.interaction_uri.as_deref().map(|uri| ("interaction_uri", uri.into())));
        members
    }

    /// Reads the object of [`members`](Self::members). A `retry_after` is zero: the caller sets the remaining time. `None`: the
    /// reason is unknown.
    pub fn from_members(members: &Object<'_>) -> Option<Self> {
        let label = members.string("reason")?;
        let reason = *Reason::ALL.iter().find(|reason| reason.label() == label)?;
        Some(Self {
            retry_after: (members.get("retry") == Some(&Value::Bool(true))).then_some(Duration::ZERO),
            claims: members.string("claims").map(str::to_owned),
            interaction_uri: members.string("interaction_uri").map(Into::into),
            ..Self::detailed(
                reason,
                members.get("detail").and_then(Value::as_object).map(Detail::from_json).unwrap_or_default(),
            )
        })
    }

    /// Local reply for the client. `resource` is the resource of the request, if the request matches one; the client uses that form
    /// of its URL.
    pub fn reply(&self, resource: Option<&Resource>, form: SlashForm) -> LocalReply {
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
                (None, Challenge::Bare) => challenge::challenges(resource, form, None),
                (Some(_), _) | (None, Challenge::WithError) => challenge::challenges(resource, form, Some(&problem)),
            };
            headers.extend(challenges.into_iter().map(|value| ("www-authenticate", value)));
        }
        headers.extend(self.nonce.clone().map(|nonce| ("dpop-nonce", nonce)));
        if let Some(pause) = self.retry_after {
            // Rounded up: a client that comes a moment too early is refused again.
            let seconds = pause.as_millis().div_ceil(1000).max(1);
            headers.push(("retry-after", seconds.to_string()));
        }
        if self.reason == Reason::MethodNotAllowed {
            // Metadata has no resource here. The upstream of a resource may allow less.
            let allowed =
                if resource.is_some() { "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS" } else { "GET, HEAD, OPTIONS" };
            headers.push(("allow", allowed.to_owned()));
        }
        let mut description = Cow::Borrowed(row.text);
        let mut members: Vec<(&str, Value<'_>)> = Vec::new();
        members.extend(self.interaction_uri.as_deref().map(|uri| ("interaction_uri", uri.into())));
        if let Some(servers) = self.servers.as_deref() {
            headers.push(metadata::readable());
            members.push(("authorization_servers", servers.issuers.iter().map(String::as_str).collect()));
            members.push(("resource_metadata", servers.metadata.iter().map(String::as_str).collect()));
            // Many clients show only the description.
            if let Some(text) = row.text.strip_suffix('.').filter(|_| !servers.issuers.is_empty()) {
                description = format!("{text} ({}).", servers.issuers.join(" or ")).into();
            }
        }
        let body =
            [("error", error.into()), ("error_description", Value::String(description)), ("reason", row.label.into())];
        let body = json::text(body.into_iter().chain(members));
        LocalReply { status, headers, body, record: Record::default() }
    }
}

/// Writes the log line of a refusal or a failed exchange, with a level for the party that can remove the cause.
pub fn log_at(reason: Reason, record: &Record) {
    match reason {
        // Each MCP client begins with a request without a token. Some then look for an authorization server on this host.
        Reason::NoCredentials | Reason::NotAnAuthorizationServer => log::debug!("{record}"),
        reason if reason.row().blame == Blame::Caller => log::info!("{record}"),
        _ => log::warn!("{record}"),
    }
}

/// Part of a log line: the reason and the detail.
impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "reason={}", self.reason.label())?;
        if !self.detail.is_empty() {
            write!(f, " {}", self.detail)?;
        }
        Ok(())
    }
}
