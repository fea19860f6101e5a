//! Profile: the deviations of one kind of identity provider from the standards.

use std::borrow::Cow;
use std::fmt::Debug;

use crate::jose::{Claims, Header, Rejection, TokenError};
use crate::json::Object;
#[cfg(not(target_arch = "wasm32"))]
use crate::provider::SignInError;
use crate::provider::{
    Caller, ErrorRule, ExchangeOptions, Issuer, KnownError, PROFILES, Parameters, Provider, SubjectInput,
    SubjectTokenSource, TokenExchangeTarget, caller, grant, rfc8693,
};
use crate::url::Url;

/// Returns the profile of that name.
pub fn profile(name: &str) -> Option<&'static dyn Profile> {
    PROFILES.iter().copied().find(|profile| profile.name() == name)
}

/// Returns the names of all profiles, separated by commas, for an error text.
pub fn profile_names() -> String {
    PROFILES.iter().map(|profile| profile.name()).collect::<Vec<_>>().join(", ")
}

/// One kind of identity provider.
///
/// The defaults are the standards: token exchange of RFC 8693 at a provider with one issuer, whose access tokens follow
/// RFC 9068 and whose ID tokens follow OpenID Connect Core. A profile overrides the methods in which its providers
/// deviate; only [`name`](Self::name) has no default.
pub trait Profile: Debug + Sync {
    /// Returns the value of `profile` in the configuration.
    fn name(&self) -> &'static str;

    // Configuration.

    /// Returns `true` if tokens are exchanged, so that a provider has a client and a token endpoint.
    fn exchanges(&self) -> bool {
        true
    }

    /// Checks the options of a provider. The field of an error is relative to the provider.
    fn check(&self, _options: &ProviderOptions<'_>) -> Result<(), ProfileError> {
        Ok(())
    }

    /// Returns the options of `exchange` that the profile takes, without those of the token's presentation.
    fn exchange_fields(&self) -> &'static [&'static str] {
        &["audience", "resource", "scopes", "requested_token_type", "actor_token", "parameters"]
    }

    /// Returns the parameters that token requests of this profile have in addition to those that any profile can have.
    fn own_parameters(&self) -> &'static [&'static str] {
        &[]
    }

    /// Builds the target of an exchange. The field of an error is relative to `exchange`.
    fn target(&self, _provider: &Provider, options: ExchangeOptions) -> Result<TokenExchangeTarget, ProfileError> {
        rfc8693::target(options)
    }

    /// Returns the expected value of `audiences`, if no token with `audience` can be exchanged.
    fn expected_audience(&self, _provider: &Provider, _audience: &str) -> Option<&'static str> {
        None
    }

    /// Returns a warning if `audiences`, which a resource accepts, are probably not what the operator means.
    fn audiences_warning(&self, provider: &Provider, audiences: &[String]) -> Option<&'static str> {
        keycloak_audience_warning(provider, audiences)
    }

    /// Returns a warning if no token of these providers has `scope`, which a resource requires.
    fn scope_warning(&self, _scope: &str) -> Option<&'static str> {
        None
    }

    /// Returns a warning if clients that send `resource` (RFC 8707 section 2) cannot request the advertised `scope` with
    /// it. `None` for `scope`: the resource advertises no scope.
    fn advertised_scope_warning(&self, _scope: Option<&str>, _resource: &Url) -> Option<&'static str> {
        None
    }

    /// Returns the path segment of an issuer that stands for every tenant. `None`: the provider has one issuer.
    fn multitenant_segment(&self) -> Option<&'static str> {
        None
    }

    // Tokens of callers.

    /// Returns every `iss` for which [`match_issuer`](Self::match_issuer) may return `IssuerMatch::Match`.
    fn token_issuers(&self, provider: &Provider) -> Vec<String> {
        provider.issuers()
    }

    /// Returns `IssuerMatch::Match` if a token with this `iss` and these claims is of the provider. The signature is
    /// not verified yet.
    fn match_issuer<'a>(&self, provider: &'a Provider, issuer: &str, _claims: &Object<'_>) -> IssuerMatch<'a> {
        match_one_issuer(provider, issuer)
    }

    /// Returns the name of a claim that users' access tokens have, and ID tokens never have.
    fn access_token_claim(&self) -> Option<&'static str> {
        None
    }

    /// Returns the user of an access token, or the reason why the token is not an access token of a user. No other kind of
    /// token, by its signs, arrives here (see [`Provider::caller`]).
    fn caller(&self, _provider: &Provider, _header: &Header, claims: &Claims<'_>) -> Result<Caller, Rejection> {
        caller::of_subject(claims)
    }

    /// Returns the user of an ID token, or the reason why the token is not an ID token. No other kind of token, by its signs,
    /// arrives here (see [`Provider::id_token_caller`]).
    fn id_token_caller(&self, claims: &Claims<'_>) -> Result<Caller, Rejection> {
        caller::of_id_token(claims)
    }

    /// Returns the likely cause of a token whose `aud` is none of `audiences`, and the action to take.
    fn wrong_audience(&self, _provider: &Provider, _audiences: &[String], _claims: &Claims<'_>) -> &'static str {
        "the client requested a token for another resource: it must request one of the configured audiences, or audiences lacks one"
    }

    // Token requests and issued tokens.

    /// Returns the token endpoint for users of `tenant`. `endpoint` is configured or discovered.
    fn token_endpoint(&self, _provider: &Provider, endpoint: &Url, _tenant: Option<&str>) -> Option<Url> {
        Some(endpoint.clone())
    }

    /// Returns the form parameters of the request to the provider, without those of client authentication and
    /// [`TokenExchangeTarget::parameters`].
    fn parameters<'a>(&self, target: &'a TokenExchangeTarget, subject: SubjectInput<'a>) -> Parameters<'a> {
        grant::parameters(target, subject)
    }

    /// Returns `true` if the provider accepts the parameter `claims` (OpenID Connect Core section 5.5).
    fn takes_claims(&self) -> bool {
        self.exchange_fields().contains(&"claims")
    }

    /// Returns `true` if the request has a `subject_token_type` that the operator may choose.
    fn takes_subject_token_type(&self) -> bool {
        self.exchange_fields().contains(&"requested_token_type")
    }

    /// Returns `true` if a response that names the scope `granted` grants the scope `requested`. Used for the log only.
    fn grants_scope(&self, requested: &str, granted: &str) -> bool {
        requested == granted
    }

    /// Returns `true` if two audiences identify one application.
    fn is_same_audience(&self, one: &str, other: &str) -> bool {
        one == other
    }

    /// Returns `true` if an issued token has a claim by which only this kind of provider marks ID tokens.
    fn is_id_token(&self, _claims: &Object<'_>) -> bool {
        false
    }

    /// Returns `true` if an issued token is of another user than the subject token, by a claim that identifies a user
    /// equally in both. `sub` is no such claim: it may differ per client (OpenID Connect Core section 8.1) and per
    /// authorization server.
    fn is_of_another_user(&self, _issued: &Object<'_>, _subject: &Object<'_>) -> bool {
        false
    }

    // Errors.

    /// Returns the rules for error responses that deviate from the standards. They precede the general ones of
    /// [`error_rules`](crate::provider::error_rules).
    fn error_rules(&self) -> &'static [ErrorRule] {
        &[]
    }

    /// Returns the known errors of this kind of provider, without [`COMMON_ERRORS`](crate::provider::COMMON_ERRORS).
    fn known_errors(&self) -> &'static [KnownError] {
        &[]
    }

    /// Returns the known errors at sign-in of clients that follow the MCP specification.
    #[cfg(not(target_arch = "wasm32"))]
    fn sign_in_errors(&self) -> &'static [SignInError] {
        &[]
    }

    /// Returns the header fields and body members of a response that identify the request in the provider's log.
    fn trace_fields(&self) -> &'static [&'static str] {
        &[]
    }
}

/// Options of a provider that a profile checks before the [`Provider`] is built.
#[derive(Clone, Copy, Debug)]
pub struct ProviderOptions<'a> {
    /// `issuer`, with [`Profile::multitenant_segment`] in place of the tenant where there are several.
    pub issuer: &'a Issuer,
    /// `tenants`.
    pub tenants: &'a [String],
    /// `token_endpoint`.
    pub token_endpoint: Option<&'a Url>,
    /// `client.id`. `None`: no tokens are exchanged.
    pub client_id: Option<&'a str>,
    /// `audience_claim`, if it is not `aud`.
    pub audience_claim: Option<&'a str>,
    /// `subject_token`.
    pub subject_token: &'a SubjectTokenSource,
}

impl<'a> ProviderOptions<'a> {
    /// Issuer as a URL, for a profile whose providers have no issuer of another form.
    pub fn issuer_url(&self) -> Result<&'a Url, ProfileError> {
        self.issuer.url().ok_or_else(|| ProfileError::new("issuer", "a text that is no https URL", "an https URL"))
    }
}

/// Configuration error that a profile finds.
#[derive(Debug)]
pub struct ProfileError {
    /// Path of the option, relative to the object that is checked, such as `client.id`. Empty: the object itself.
    pub field: &'static str,
    /// Value that was found.
    pub found: Cow<'static, str>,
    /// Value that is expected.
    pub expected: &'static str,
}

impl ProfileError {
    pub(super) fn new(field: &'static str, found: impl Into<Cow<'static, str>>, expected: &'static str) -> Self {
        Self { field, found: found.into(), expected }
    }
}

/// Result of matching the `iss` of a token with a provider.
#[derive(Debug)]
pub enum IssuerMatch<'a> {
    /// The provider issued the token.
    Match {
        /// Issuer of the tenant, in its usual form; the `issuer` of a JWK must equal it.
        issuer: Cow<'a, str>,
        /// Tenant. `None`: the provider has one tenant.
        tenant: Option<String>,
    },
    /// Another issuer, with a known cause.
    NearMiss(Rejection),
    /// Another issuer.
    NoMatch,
}

/// Warns of the audience that almost every token of a Keycloak realm has: the default roles of users bring it.
fn keycloak_audience_warning(provider: &Provider, audiences: &[String]) -> Option<&'static str> {
    let is_realm = provider.issuer.as_str().contains("/realms/");
    (is_realm && audiences.iter().any(|audience| audience == "account")).then_some(
        "account is an audience of almost every token of a Keycloak realm, whatever client it was issued to: accept an audience that a mapper adds for this proxy",
    )
}

/// Matches the one issuer of a provider, code point by code point (OpenID Connect Core section 3.1.3.7).
pub(super) fn match_one_issuer<'a>(provider: &'a Provider, issuer: &str) -> IssuerMatch<'a> {
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
            "iss differs from the configured issuer in case, scheme or a final slash: configure the issuer exactly as tokens have it",
        ));
    }
    IssuerMatch::NoMatch
}
