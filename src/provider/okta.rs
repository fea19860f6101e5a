//! Okta: on-behalf-of token exchange (RFC 8693) at a custom authorization server.

use crate::jose::{Claims, Header, Rejection, TokenError};
use crate::json::Object;
use crate::provider::ErrorPattern::{None as Any, Words};
use crate::provider::Responsible::{Admin, Operator, Provider as Okta, User};
use crate::provider::{
    Caller, ErrorClass, ExchangeOptions, ExchangeTarget, IssuerMatch, KnownError, Parameters, Profile, ProfileError,
    Provider, SubjectInput, SubjectTokenSource, rfc8693,
};
use crate::url::Url;

#[derive(Debug)]
pub(crate) struct OktaObo;

impl Profile for OktaObo {
    fn name(&self) -> &'static str {
        "okta_obo"
    }

    /// The keys by which an org authorization server signs access tokens are not published: no proxy can validate them.
    fn check(&self, provider: &Provider) -> Result<(), ProfileError> {
        if is_org_server(&provider.issuer) && !matches!(provider.subject_token, SubjectTokenSource::IdToken) {
            let expected = "the issuer of a custom authorization server (…/oauth2/default), or subject_token of type id_token without header and cookie: nobody but Okta can validate access tokens of the org server";
            return Err(("issuer", "the org authorization server".to_owned(), expected));
        }
        if !is_custom_server(&provider.issuer) && !provider.issuer.path().is_empty() {
            let expected = "https://{domain}/oauth2/{id of the authorization server}, or https://{domain} for the org server, without anything behind it";
            return Err(("issuer", format!("{:?}", provider.issuer.as_str()), expected));
        }
        let label = provider.issuer.authority().split('.').next().unwrap_or_default();
        if is_okta(&provider.issuer) && label.ends_with("-admin") {
            let expected = "the org's own host, not that of its admin console";
            return Err(("issuer", format!("{:?}", provider.issuer.as_str()), expected));
        }
        Ok(())
    }

    fn match_issuer<'a>(&self, provider: &'a Provider, issuer: &str, claims: &Object<'_>) -> IssuerMatch<'a> {
        let own = &provider.issuer;
        let exact = crate::provider::profile::exactly(provider, issuer);
        if matches!(exact, IssuerMatch::NoMatch)
            && let Ok(other) = Url::parse(issuer)
        {
            if other.authority() == own.authority() && is_org_server(&other) && claims.has("cid") {
                return IssuerMatch::NearMiss(TokenError::Issuer.because(
                    "an access token of the org authorization server, which nobody but Okta can validate: have the client ask the custom authorization server that is configured",
                ));
            }
            if other.authority() == own.authority() && !is_org_server(&other) && other.path() != own.path() {
                return IssuerMatch::NearMiss(TokenError::Issuer.because(
                    "a token of another authorization server of the same org: have the client ask the one that is configured, or add this one as a provider",
                ));
            }
            if other.authority() != own.authority() && other.path() == own.path() && is_okta(&other) {
                return IssuerMatch::NearMiss(TokenError::Issuer.because(
                    "a token of another org or environment (preview, EMEA, a custom domain): the client signs in at another host than the one that is configured",
                ));
            }
        }
        exact
    }

    fn target(&self, _provider: &Provider, exchange: ExchangeOptions) -> Result<ExchangeTarget, ProfileError> {
        check_scopes(&exchange.scopes)?;
        let target = rfc8693::target(exchange)?;
        if target.audiences.len() != 1 {
            let found = if target.audiences.is_empty() { "nothing" } else { "several" };
            return Err((".audience", found.to_owned(), "the audience of the authorization server that exchanges"));
        }
        Ok(target)
    }

    /// An access token names its client in `cid`, and its user in `uid`, which an application's own lacks.
    fn caller(&self, _provider: &Provider, _header: &Header, claims: &Claims<'_>) -> Result<Caller, Rejection> {
        if is_id_token(claims) || !claims.has("cid") {
            return Err(TokenError::IdToken
                .because("no cid, or jti of an ID token: the client sends the wrong one of its two tokens"));
        }
        let user = claims.text("uid").filter(|uid| !uid.is_empty()).ok_or_else(|| {
            TokenError::NotAUser.because("no uid: the token is of the client credentials grant, no user has signed in")
        })?;
        let client = claims.text("cid").map(str::to_owned);
        Ok(Caller { user: user.to_owned(), tenant: None, client, takes_claims_challenge: false })
    }

    /// `sub` of an ID token is what access tokens carry as `uid`.
    fn id_token_caller(&self, claims: &Claims<'_>) -> Result<Caller, Rejection> {
        rfc8693::is_no_event(claims)?;
        if claims.has("cid") {
            return Err(
                TokenError::AccessToken.because("cid: the client sends its access token where its ID token belongs")
            );
        }
        rfc8693::subject(claims)
    }

    fn wrong_audience(&self, provider: &Provider, _audiences: &[String], claims: &Claims<'_>) -> &'static str {
        if is_id_token(claims) || matches!(provider.subject_token, SubjectTokenSource::IdToken) {
            "an ID token for another client: it must be of the client that is configured"
        } else {
            "aud is the audience of the authorization server, or the resource that the client asked for: configure what tokens of this server carry"
        }
    }

    fn is_id_token(&self, claims: &Object<'_>) -> bool {
        has_id_of_id_token(claims)
    }

    /// `uid` is the same at all authorization servers of an org, and `sub` of its ID tokens.
    fn is_of_another_user(&self, issued: &Object<'_>, subject: &Object<'_>) -> bool {
        let user = if subject.has("cid") { subject.string("uid") } else { subject.string("sub") };
        issued.string("uid").zip(user).is_some_and(|(one, other)| one != other)
    }

    fn parameters<'a>(&self, target: &'a ExchangeTarget, subject: SubjectInput<'a>) -> Parameters<'a> {
        rfc8693::parameters(target, subject)
    }

    /// `access_denied` with 401 (no policy rule) and 403 (no trusted server) is the operator's; with 400 the user's. A
    /// `server_error` that is no 500 is of claims and hooks that somebody configured.
    fn blame(&self, status: u16, error: &str, _suberror: Option<&str>) -> Option<ErrorClass> {
        ((error == "access_denied" && status != 400) || error == "server_error").then_some(ErrorClass::Operator)
    }

    fn failures(&self) -> &'static [KnownError] {
        FAILURES
    }

    fn trace_fields(&self) -> &'static [&'static str] {
        &["x-okta-request-id"]
    }
}

pub(crate) fn check_scopes(scopes: &[String]) -> Result<(), ProfileError> {
    let is_of_login = |scope: &String| {
        matches!(scope.as_str(), "openid" | "offline_access" | "profile" | "email" | "address" | "phone")
    };
    if scopes.iter().any(is_of_login) {
        let expected = "scopes of the target: openid, profile, email, address, phone and offline_access are refused in an exchange";
        return Err((".scopes", "a scope of OpenID Connect".to_owned(), expected));
    }
    Ok(())
}

/// Whether it is an issuer such as `https://acme.okta.com/oauth2/default`.
pub(crate) fn is_custom_server(issuer: &Url) -> bool {
    issuer.path().strip_prefix("/oauth2/").is_some_and(|id| !id.is_empty() && !id.contains('/'))
}

/// Such as `https://acme.okta.com`: not below `/oauth2/`.
pub(crate) fn is_org_server(issuer: &Url) -> bool {
    issuer.path().is_empty() || issuer.path() == "/"
}

fn is_okta(issuer: &Url) -> bool {
    [".okta.com", ".oktapreview.com", ".okta-emea.com", ".okta-gov.com", ".okta.mil"]
        .iter()
        .any(|domain| issuer.authority().ends_with(domain))
}

fn is_id_token(claims: &Claims<'_>) -> bool {
    has_id_of_id_token(claims.members) || rfc8693::is_id_token(claims)
}

pub(crate) fn has_id_of_id_token(claims: &Object<'_>) -> bool {
    claims.string("jti").is_some_and(|id| id.starts_with("ID."))
}

/// By status and error, and where those do not tell, by words that Okta's error descriptions have.
static FAILURES: &[KnownError] = &[
    KnownError::new(
        (401, "invalid_client", Words(&["already been used"])),
        "a client assertion is good once, and this one arrived twice",
        Operator,
        "Switch off retries on the way to Okta: an assertion is good once.",
    ),
    KnownError::new(
        (401, "invalid_client", Words(&["audience claim"])),
        "`aud` of the client assertion is not the endpoint that was called",
        Operator,
        "Leave audience of client.authentication out.",
    ),
    KnownError::new(
        (401, "invalid_client", Words(&["token is expired", "too far into the future", "before the current time"])),
        "the client assertion's times do not fit Okta's clock",
        Operator,
        "Check the clock of this host.",
    ),
    KnownError::new(
        (401, "invalid_client", Words(&["signature algorithm"])),
        "the client assertion is signed with an algorithm that its key is not registered for",
        Operator,
        "Set algorithm to that of the registered key.",
    ),
    KnownError::new(
        (401, "invalid_client", Words(&["kid is invalid", "JWKSet", "signature is invalid", "'use'", "signing key"])),
        "the client assertion's key is not among the app's public keys",
        Operator,
        "Register key's public half at the app, with use sig and the configured key_id.",
    ),
    KnownError::new(
        (401, "invalid_client", Words(&["client secret", "Authentication header"])),
        "the client secret is wrong",
        Operator,
        "Set secret to an active client secret of the app.",
    ),
    KnownError::new(
        (401, "invalid_client", Words(&["encryption key"])),
        "tokens for this client are to be encrypted, and there is no key for it",
        Admin,
        "Switch token encryption off for the app.",
    ),
    KnownError::new(
        (401, "invalid_client", Any),
        "Okta does not know the client by its id and by what it proved itself with",
        Operator,
        "Check client.id and client.authentication.",
    ),
    KnownError::new(
        (401, "access_denied", Any),
        "no rule of an access policy of the authorization server admits this request",
        Admin,
        "Add an access policy for the app, with a rule for Token Exchange and the scopes.",
    ),
    KnownError::new(
        (403, "access_denied", Words(&["trusted authorization server", "associated server"])),
        "the caller's token is of an authorization server that the exchanging one does not trust",
        Admin,
        "Add the issuer of callers' tokens to the Trusted servers of the authorization server.",
    ),
    KnownError::new(
        (403, "access_denied", Words(&["Token Exchange flow"])),
        "tokens are not exchanged between apps of these two types",
        Admin,
        "Make the app one of the type API Services.",
    ),
    KnownError::new(
        (403, "access_denied", Words(&["network zone"])),
        "the proxy calls from outside of the app's network zones",
        Admin,
        "Add this proxy's address to the app's network zones.",
    ),
    KnownError::new(
        (403, "access_denied", Any),
        "Okta denies the proxy's app the exchange, whoever the user is",
        Admin,
        "Check the server's Trusted servers, and the app's type and network zones.",
    ),
    KnownError::new(
        (400, "access_denied", Words(&["not assigned"])),
        "the user is not assigned to the app",
        Admin,
        "Assign the user or a group to the app.",
    ),
    KnownError::new(
        (400, "access_denied", Words(&["scopes were rejected", "denied by the policy"])),
        "the policy rule does not allow the scopes",
        Admin,
        "Allow the scopes in the policy's rule.",
    ),
    KnownError::new(
        (400, "access_denied", Words(&["feature is not enabled"])),
        "the org lacks the feature",
        Admin,
        "Have API Access Management and Token Exchange enabled in the org.",
    ),
    KnownError::new(
        (400, "access_denied", Any),
        "the user is not assigned, or the policy does not allow the scopes for this user",
        Admin,
        "Assign the user to the app, and allow the scopes in the policy's rule.",
    ),
    KnownError::new(
        (400, "invalid_target", Words(&["'resource'"])),
        "`resource` is not known there",
        Operator,
        "Leave resource out, or set it to one that the authorization server knows.",
    ),
    KnownError::new(
        (400, "invalid_target", Words(&["resource app"])),
        "the resource's app is not completely set up, or the user is not assigned to it",
        Admin,
        "Complete the resource's app, and assign the user to it.",
    ),
    KnownError::new(
        (400, "invalid_target", Any),
        "`audience` is not the audience of the authorization server that exchanges",
        Operator,
        "Set audience to that of the authorization server at token_endpoint.",
    ),
    KnownError::new(
        (400, "invalid_request", Words(&["'subject_token_type'"])),
        "an ID token where access tokens are exchanged: token types are confused",
        Operator,
        "Use subject_token of type access_token: this server takes no ID token.",
    ),
    KnownError::new(
        (400, "invalid_request", Words(&["'subject_token'"])),
        "the token is not an access token of this authorization server or of a trusted one (an ID token, or one of the org server), or its user is not active",
        Operator,
        "Have clients send an access token of this authorization server or of a trusted one.",
    ),
    KnownError::new(
        (400, "invalid_request", Words(&["'requested_token_type'"])),
        "Okta does not issue that type in an exchange",
        Operator,
        "Leave requested_token_type out of the exchange.",
    ),
    KnownError::new(
        (400, "invalid_request", Words(&["service clients"])),
        "the proxy's app is not a service app",
        Admin,
        "Make the app one of the type API Services.",
    ),
    KnownError::new(
        (400, "invalid_request", Words(&["id-jag"])),
        "`scope` in the second request with an ID-JAG, which has its scopes in it",
        Operator,
        "Ask for scopes in the first request only.",
    )
    .at_second(),
    KnownError::new(
        (400, "invalid_request", Words(&["delegation link"])),
        "no delegation link lets this client act with that user's access token",
        Admin,
        "Create a delegation link from the app to the resource.",
    ),
    KnownError::new(
        (400, "invalid_grant", Words(&["was already used"])),
        "an ID-JAG is good once, and this one arrived twice",
        Operator,
        "Switch off retries on the way to Okta: an assertion is good once.",
    )
    .at_second(),
    KnownError::new(
        (400, "invalid_grant", Words(&["id-jag", "JWT Bearer Grant"])),
        "the ID-JAG has expired, lives too long, or is of another issuer, client or audience",
        Operator,
        "Check audience (the issuer of the resource's server) and the clock of this host.",
    )
    .at_second(),
    KnownError::new(
        (400, "invalid_grant", Any),
        "the caller's token has expired, or the session behind it was ended",
        User,
        "Sign in again to get a new token.",
    ),
    KnownError::new(
        (400, "invalid_scope", Words(&["'openid'"])),
        "`openid`, `profile`, `email` or `offline_access` in an exchange",
        Operator,
        "Ask for scopes of the upstream only.",
    ),
    KnownError::new(
        (400, "invalid_scope", Words(&["default scopes", "No scopes"])),
        "no scope is asked for, and the authorization server has no default ones",
        Operator,
        "Set scopes to some of the upstream's.",
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
        "Switch the grant type Token Exchange on at the app.",
    ),
    KnownError::new(
        (400, "consent_required", Any),
        "a scope wants the user's consent, for which nobody can be asked in an exchange",
        Admin,
        "Let the scopes need no consent (User consent: Implicit).",
    ),
    KnownError::new(
        (400, "interaction_required", Any),
        "the user has to agree or to sign in at Okta or at a service behind it",
        User,
        "Open the answer's interaction_uri, then send the request again.",
    ),
    KnownError::new(
        (400, "server_error", Words(&["too many groups"])),
        "the groups claim's filter (prefix, expression) lets more groups of this user through than Okta puts into a token",
        Admin,
        "Narrow the groups claim's filter, by a longer prefix for instance.",
    ),
    KnownError::new(
        (400, "server_error", Words(&["could not be evaluated"])),
        "the expression of a claim fails for this user",
        Admin,
        "Mend the expressions of the server's claims.",
    ),
    KnownError::new(
        (400, "server_error", Any),
        "a token inline hook failed, or a claim cannot be made",
        Admin,
        "Check the server's token inline hook and claims.",
    ),
    KnownError::new(
        (429, "", Any),
        "the rate limit of the token endpoint is spent, for the app or for the org",
        Okta,
        "Wait a minute; if it stays so, raise the app's share of the limit.",
    ),
    #[cfg(not(target_arch = "wasm32"))]
    KnownError::new(
        (403, "", crate::provider::ErrorPattern::Upstream),
        "the upstream looks for groups that the groups claim's filter (prefix, expression) does not let into the token",
        Admin,
        "Let the filter of the groups claim at the upstream's authorization server match the groups that it looks for.",
    ),
];
