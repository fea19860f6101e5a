//! Profiles `okta_obo` and `okta_xaa`: Okta.
//!
//! `okta_obo` exchanges tokens at a custom authorization server (RFC 8693). `okta_xaa` is Cross App Access, see
//! [`okta_xaa`].

use crate::jose::{Claims, Header, Rejection, TokenError};
use crate::json::Object;
use crate::provider::okta_errors::KNOWN_ERRORS;
use crate::provider::okta_servers::{is_custom_server, is_org_server};
use crate::provider::profile::match_one_issuer;
use crate::provider::token_kind::{TokenKind, kind_of};
use crate::provider::{
    Caller, ErrorClass, ErrorRule, ExchangeOptions, IssuerMatch, KnownError, Profile, ProfileError, Provider,
    ProviderOptions, Responsible, SubjectTokenSource, TokenExchangeTarget, caller, id_jag, okta_xaa, rfc8693,
};
use crate::url::Url;

/// Okta, with the flow by which it exchanges tokens.
#[derive(Debug)]
pub(super) enum Okta {
    /// Token exchange at a custom authorization server (on-behalf-of).
    OnBehalfOf,
    /// ID-JAG of the org authorization server (Cross App Access).
    CrossAppAccess,
}

impl Profile for Okta {
    fn name(&self) -> &'static str {
        match self {
            Self::OnBehalfOf => "okta_obo",
            Self::CrossAppAccess => "okta_xaa",
        }
    }

    /// Okta does not publish the keys of access tokens of the org authorization server, so only Okta can validate them.
    fn check(&self, options: &ProviderOptions<'_>) -> Result<(), ProfileError> {
        let issuer = options.issuer_url()?;
        if is_org_server(issuer) && !matches!(options.subject_token, SubjectTokenSource::IdToken) {
            let expected = "the issuer of a custom authorization server (https://{domain}/oauth2/{id}), or subject_token of type id_token without header and cookie: only Okta can validate access tokens of the org authorization server";
            return Err(ProfileError::new("issuer", "the org authorization server", expected));
        }
        if !is_custom_server(issuer) && !issuer.path().is_empty() {
            let expected = "https://{domain}/oauth2/{id} for a custom authorization server, or https://{domain} for the org authorization server";
            return Err(ProfileError::new("issuer", format!("{:?}", issuer.as_str()), expected));
        }
        let label = issuer.authority().split('.').next().unwrap_or_default();
        if is_okta(issuer) && label.ends_with("-admin") {
            let expected = "the host of the org, not the host of its admin console";
            return Err(ProfileError::new("issuer", format!("{:?}", issuer.as_str()), expected));
        }
        if options.audience_claim.is_some() {
            let expected = "nothing: tokens of Okta always have aud, the audience of the authorization server";
            return Err(ProfileError::new("audience_claim", "a claim", expected));
        }
        match self {
            Self::OnBehalfOf => Ok(()),
            Self::CrossAppAccess => okta_xaa::check(options),
        }
    }

    fn exchange_fields(&self) -> &'static [&'static str] {
        match self {
            Self::OnBehalfOf => &["audience", "resource", "scopes", "requested_token_type", "parameters"],
            Self::CrossAppAccess => id_jag::EXCHANGE_FIELDS,
        }
    }

    fn target(&self, provider: &Provider, options: ExchangeOptions) -> Result<TokenExchangeTarget, ProfileError> {
        if options.scopes.iter().any(|scope| is_openid_scope(scope)) {
            let expected = "scopes of the upstream: Okta refuses openid, profile, email, address, phone and offline_access in an exchange";
            return Err(ProfileError::new("scopes", "a scope of OpenID Connect", expected));
        }
        if matches!(self, Self::CrossAppAccess) {
            return okta_xaa::target(provider, options);
        }
        options.one_audience("the audience of the authorization server at token_endpoint")?;
        rfc8693::target(options)
    }

    fn expected_audience(&self, provider: &Provider, audience: &str) -> Option<&'static str> {
        match self {
            Self::OnBehalfOf => None,
            Self::CrossAppAccess => id_jag::expected_audience(provider, audience),
        }
    }

    fn match_issuer<'a>(&self, provider: &'a Provider, issuer: &str, claims: &Object<'_>) -> IssuerMatch<'a> {
        let exact = match_one_issuer(provider, issuer);
        if matches!(exact, IssuerMatch::NoMatch)
            && let Some(own) = provider.issuer.url()
            && let Ok(other) = Url::parse(issuer)
        {
            if other.authority() == own.authority() && is_org_server(&other) && claims.present("cid").is_some() {
                return IssuerMatch::NearMiss(TokenError::Issuer.because(
                    "an access token of the org authorization server, which only Okta can validate: the client must use the configured custom authorization server",
                ));
            }
            if other.authority() == own.authority() && !is_org_server(&other) && other.path() != own.path() {
                return IssuerMatch::NearMiss(TokenError::Issuer.because(
                    "a token of another authorization server of the same org: the client must use the configured one, or add this one as a provider",
                ));
            }
            if other.authority() != own.authority() && other.path() == own.path() && is_okta(&other) {
                return IssuerMatch::NearMiss(TokenError::Issuer.because(
                    "a token of another org or environment (preview, EMEA, a custom domain): the client signs in at another host than the configured one",
                ));
            }
        }
        exact
    }

    fn access_token_claim(&self) -> Option<&'static str> {
        Some("cid")
    }

    /// An access token has its client in `cid` and its user in `uid`. A token of an application has no `uid`.
    fn caller(&self, _provider: &Provider, _header: &Header, claims: &Claims<'_>) -> Result<Caller, Rejection> {
        if has_jti_of_id_token(claims.members) || !claims.has("cid") {
            return Err(TokenError::IdToken.because("no cid, or the jti of an ID token: the client sends its ID token"));
        }
        let user = claims.text("uid").filter(|uid| !uid.is_empty()).ok_or_else(|| {
            TokenError::NotAUser.because("no uid: the token is of the client credentials grant, without a user")
        })?;
        let client = claims.text("cid").map(str::to_owned);
        Ok(Caller { user: user.to_owned(), tenant: None, client, takes_claims_challenge: false })
    }

    /// `sub` of an ID token equals `uid` of the user's access tokens.
    fn id_token_caller(&self, claims: &Claims<'_>) -> Result<Caller, Rejection> {
        caller::of_subject(claims)
    }

    fn wrong_audience(&self, provider: &Provider, _audiences: &[String], claims: &Claims<'_>) -> &'static str {
        let is_id_token =
            has_jti_of_id_token(claims.members) || matches!(kind_of(None, claims.members), Some((TokenKind::Id, _)));
        if is_id_token || matches!(provider.subject_token, SubjectTokenSource::IdToken) {
            "an ID token for another client: its aud must be the configured client"
        } else {
            "aud is the audience of the authorization server, or the resource that the client requested: configure the aud that tokens of this server have"
        }
    }

    /// The token endpoint of the org authorization server, for tokens of any authorization server of the org.
    fn token_endpoint(&self, provider: &Provider, endpoint: &Url, _tenant: Option<&str>) -> Option<Url> {
        match self {
            Self::OnBehalfOf => Some(endpoint.clone()),
            Self::CrossAppAccess => okta_xaa::token_endpoint(provider, endpoint),
        }
    }

    fn is_id_token(&self, claims: &Object<'_>) -> bool {
        has_jti_of_id_token(claims)
    }

    /// `uid` is the same at all authorization servers of an org, and equals `sub` of the org's ID tokens. A resource
    /// authorization server of Cross App Access may be of another org.
    fn is_of_another_user(&self, issued: &Object<'_>, subject: &Object<'_>) -> bool {
        if matches!(self, Self::CrossAppAccess) {
            return false;
        }
        let user = if subject.present("cid").is_some() { subject.string("uid") } else { subject.string("sub") };
        issued.string("uid").zip(user).is_some_and(|(one, other)| one != other)
    }

    /// `access_denied` with 401 (no policy rule) and 403 (no trusted server) is a misconfiguration; with 400 it concerns
    /// the user. `server_error` below 500 comes from misconfigured claims and hooks.
    fn error_rules(&self) -> &'static [ErrorRule] {
        static RULES: [ErrorRule; 2] = [
            ErrorRule::new(&[(401, 499)], &["access_denied"], ErrorClass::Operator).act(Responsible::Admin),
            ErrorRule::new(&[], &["server_error"], ErrorClass::Operator).act(Responsible::Admin),
        ];
        &RULES
    }

    fn known_errors(&self) -> &'static [KnownError] {
        KNOWN_ERRORS
    }

    fn trace_fields(&self) -> &'static [&'static str] {
        &["x-okta-request-id"]
    }
}

fn is_openid_scope(scope: &str) -> bool {
    matches!(scope, "openid" | "offline_access" | "profile" | "email" | "address" | "phone")
}

/// Returns `true` if the host is in a domain of Okta, not in a customer's.
fn is_okta(issuer: &Url) -> bool {
    [".okta.com", ".oktapreview.com", ".okta-emea.com", ".okta-gov.com", ".okta.mil"]
        .iter()
        .any(|domain| issuer.authority().ends_with(domain))
}

fn has_jti_of_id_token(claims: &Object<'_>) -> bool {
    claims.string("jti").is_some_and(|id| id.starts_with("ID."))
}
