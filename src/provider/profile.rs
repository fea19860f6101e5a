//! Profile: what one kind of identity provider does in its own way.

use std::borrow::Cow;
use std::fmt::Debug;

use crate::jose::{Claims, Header, Rejection, TokenError};
use crate::json::Object;
#[cfg(not(target_arch = "wasm32"))]
use crate::provider::SignInError;
use crate::provider::{
    ErrorClass, ExchangeOptions, ExchangeTarget, KnownError, Provider, SubjectInput, entra, id_jag, jwt_bearer, okta,
    okta_xaa, rfc8693, validate_only,
};
use crate::url::Url;

/// The profiles that a configuration can name.
pub(super) static PROFILES: [&dyn Profile; 7] = [
    &entra::EntraObo,
    &okta::OktaObo,
    &okta_xaa::OktaXaa,
    &id_jag::IdJag,
    &rfc8693::Rfc8693,
    &jwt_bearer::JwtBearer,
    &validate_only::ValidateOnly,
];

/// A mistake in the configuration: the field (behind what the caller prefixes), what was found, what is expected.
pub type ProfileError = (&'static str, String, &'static str);

/// Form fields.
pub type Parameters<'a> = Vec<(&'a str, Cow<'a, str>)>;

/// What one kind of provider does in its own way.
pub trait Profile: Debug + Sync {
    /// Its name in the configuration.
    fn name(&self) -> &'static str;

    /// Whether callers' tokens are exchanged at all.
    fn exchanges(&self) -> bool {
        true
    }

    /// Refuses a provider that the profile cannot work with; the field is relative to the provider.
    fn check(&self, _provider: &Provider) -> Result<(), ProfileError> {
        Ok(())
    }

    /// The value of `aud` that is expected in the place of this one, where no token that is exchanged can have it.
    fn audience_instead(&self, _provider: &Provider, _audience: &str) -> Option<&'static str> {
        None
    }

    /// What speaks against this scope among those that a caller's token must have, if anything does.
    fn doubt(&self, _scope: &str) -> Option<&'static str> {
        None
    }

    /// What keeps clients that send `resource` (RFC 8707 section 2) from asking for this scope as it is advertised for that
    /// resource, if anything does. `None` for a scope: none is advertised.
    fn doubt_advertised(&self, _scope: Option<&str>, _resource: &Url) -> Option<&'static str> {
        None
    }

    /// The fields of a resource's `exchange` that it has a use for, beside those of how the token is presented.
    fn exchange_fields(&self) -> &'static [&'static str] {
        &["audience", "resource", "scopes", "requested_token_type", "parameters"]
    }

    /// Whether it knows the parameter `claims`.
    fn takes_claims(&self) -> bool {
        self.exchange_fields().contains(&"claims")
    }

    /// What to ask for, from what the operator wrote; the field is empty or begins with a dot.
    fn target(&self, provider: &Provider, exchange: ExchangeOptions) -> Result<ExchangeTarget, ProfileError>;

    /// The word that stands for all tenants in the URLs of a provider of many. `None`: there is one issuer for all users.
    fn tenant_word(&self) -> Option<&'static str> {
        None
    }

    /// Whether a token with this `iss` and these claims is one of the provider's.
    fn match_issuer<'a>(&self, provider: &'a Provider, issuer: &str, _claims: &Object<'_>) -> IssuerMatch<'a> {
        exactly(provider, issuer)
    }

    /// Whether a token is an access token of a user, and which user's. Its signature may not be verified yet.
    fn caller(&self, provider: &Provider, header: &Header, claims: &Claims<'_>) -> Result<Caller, Rejection>;

    /// The same of an ID token.
    fn id_token_caller(&self, claims: &Claims<'_>) -> Result<Caller, Rejection>;

    /// How a token of the provider's comes to have another audience than these, and what to do.
    fn wrong_audience(&self, _provider: &Provider, _audiences: &[String], _claims: &Claims<'_>) -> &'static str {
        "the client asked for a token for something else: it must ask for one of the audiences that are configured, or its own is missing there"
    }

    /// Two names of an audience are the same if they are of one app.
    fn is_same_audience(&self, one: &str, other: &str) -> bool {
        one == other
    }

    /// An issued token may be known as an ID token by a claim that only this kind of provider writes.
    fn is_id_token(&self, _claims: &Object<'_>) -> bool {
        false
    }

    /// An issued token is another user's if it differs from the one that was handed in by a claim that names a user in the
    /// same way in both. `sub` may differ for one user: it is another for each client with some providers (OpenID Connect
    /// Core section 8.1), and another server has its own.
    fn is_of_another_user(&self, _issued: &Object<'_>, _subject: &Object<'_>) -> bool {
        false
    }

    /// Where a token of that tenant is exchanged, if not at the provider's one endpoint.
    fn token_endpoint(&self, _provider: &Provider, endpoint: &Url, _tenant: Option<&str>) -> Option<Url> {
        Some(endpoint.clone())
    }

    /// The grant's parameters (form fields), those of the client's authentication and the operator's own not among them.
    fn parameters<'a>(&self, target: &'a ExchangeTarget, subject: SubjectInput<'a>) -> Parameters<'a>;

    /// Whose fault an error response is, where this provider deviates from the standards.
    fn blame(&self, _status: u16, _error: &str, _suberror: Option<&str>) -> Option<ErrorClass> {
        None
    }

    /// What this provider is known to refuse, beside what any may.
    fn failures(&self) -> &'static [KnownError] {
        &[]
    }

    /// What its users are known to meet at sign-in, where MCP clients ask as they must.
    #[cfg(not(target_arch = "wasm32"))]
    fn at_sign_in(&self) -> &'static [SignInError] {
        &[]
    }

    /// Response fields, in header or body, that name a failed request in the provider's own logs.
    fn trace_fields(&self) -> &'static [&'static str] {
        &[]
    }
}

/// Whose a token's `iss` is.
#[derive(Debug)]
pub enum IssuerMatch<'a> {
    /// The provider's: its issuer for that tenant, in its usual spelling.
    Match {
        /// What a key's own `issuer` must be.
        issuer: Cow<'a, str>,
        /// The tenant, where there are several.
        tenant: Option<String>,
    },
    /// Not the provider's, but it is clear what went wrong.
    NearMiss(Rejection),
    /// Somebody else's.
    NoMatch,
}

/// The user behind a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// What identifies the user at this provider, for as long as the account exists.
    pub user: String,
    /// The tenant that the user is in, where there are several.
    pub tenant: Option<String>,
    /// The client that the token was issued to, if it says so.
    pub client: Option<String>,
    /// Whether the client understands a claims challenge.
    pub takes_claims_challenge: bool,
}

/// Recognises the one issuer, code point by code point (OpenID Connect Core section 3.1.3.7).
pub(super) fn exactly<'a>(provider: &'a Provider, issuer: &str) -> IssuerMatch<'a> {
    let own = provider.issuer.as_str();
    if own == issuer {
        return IssuerMatch::Match { issuer: own.into(), tenant: None };
    }
    let bare = |text: &str| {
        let text = text.to_ascii_lowercase();
        text.split_once("://").map_or(&*text, |(_, rest)| rest).trim_end_matches('/').to_owned()
    };
    if bare(own) == bare(issuer) {
        return IssuerMatch::NearMiss(TokenError::Issuer.because(
            "iss differs from the configured issuer in case, scheme or a slash at the end: configure it as tokens have it",
        ));
    }
    IssuerMatch::NoMatch
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
pub(super) fn scope_parameter(scopes: &[String]) -> Option<String> {
    (!scopes.is_empty()).then(|| scopes.join(" "))
}
