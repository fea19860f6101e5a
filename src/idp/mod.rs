//! Identity providers: everything in which they differ, and nothing outside this folder names one.
//!
//! A provider is a [`Profile`]: one file with an `impl` and one line in [`PROFILES`]. What they share is beside
//! it: discovery, client authentication, reading a token response, the catalogue of failures.

mod client_auth;
mod discovery;
mod entra;
mod fault;
mod grant;
mod okta;
mod rfc8693;

use std::fmt::Debug;

pub use client_auth::Assertion;
pub use discovery::{Endpoints, metadata_url};
pub use fault::{Blame, Fault};
pub use grant::{Issued, Subject, token_call, token_response};

use crate::config::{Provider, RawExchange};
use crate::token::{Claims, TokenError};

/// The profiles that a configuration can name.
static PROFILES: [&dyn Profile; 3] = [&entra::EntraObo, &okta::OktaObo, &rfc8693::Rfc8693];

/// A mistake in the configuration: the field (behind what the caller prefixes), what was found, what is expected.
pub type Mistake = (&'static str, String, &'static str);

/// What one kind of provider does in its own way.
pub trait Profile: Debug + Sync {
    /// Its name in the configuration.
    fn name(&self) -> &'static str;

    /// Refuses a provider that the profile cannot work with; the field is relative to the provider.
    fn check(&self, _provider: &Provider) -> Result<(), Mistake> {
        Ok(())
    }

    /// What to ask for, from what the operator wrote; the field is empty or begins with a dot.
    fn target(&self, exchange: RawExchange) -> Result<Target, Mistake>;

    /// Whether a verified token is an access token of a user, and which user's.
    fn caller(&self, claims: &Claims) -> Result<Caller, TokenError>;

    /// Which user a verified ID token is of, in the terms of [`Caller::user`].
    fn id_token_user(&self, claims: &Claims) -> Option<String>;

    /// The grant's parameters (form fields), client authentication not among them.
    fn parameters<'a>(&self, target: &'a Target, subject: Subject<'a>) -> Vec<(&'static str, &'a str)>;

    /// Whose fault an error response is, where this provider deviates from the standards.
    fn blame(&self, _status: u16, _error: &str, _suberror: Option<&str>) -> Option<Blame> {
        None
    }

    /// Response fields, in header or body, that name a failed request in the provider's own logs.
    fn trace_fields(&self) -> &'static [&'static str] {
        &[]
    }
}

/// What to ask a provider for on behalf of a resource's callers.
#[derive(Debug, Default)]
pub struct Target {
    /// `audience` (RFC 8693 section 2.1).
    pub audience: Option<String>,
    /// `resource` (RFC 8707), if it is sent.
    pub resource: Option<String>,
    /// `scope`, space-separated, if it is sent.
    pub scope: Option<String>,
    /// `requested_token_type` (RFC 8693 section 3), if it is sent.
    pub requested_token_type: Option<String>,
}

/// The user behind a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// What identifies the user at this issuer, for as long as the account exists.
    pub user: String,
    /// Whether the client understands a claims challenge.
    pub takes_claims_challenge: bool,
}

/// The profile of that name.
pub fn profile(name: &str) -> Option<&'static dyn Profile> {
    PROFILES.into_iter().find(|profile| profile.name() == name)
}

/// The names of all profiles, for an error text.
pub fn profile_names() -> String {
    PROFILES.map(Profile::name).join(", ")
}

/// Scopes as one parameter; `None` when there are none.
fn scope_parameter(scopes: &[String]) -> Option<String> {
    (!scopes.is_empty()).then(|| scopes.join(" "))
}
