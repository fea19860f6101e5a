//! Profile `entra_obo`: Microsoft Entra ID, on-behalf-of flow of the v2.0 endpoint.
//!
//! The grant is RFC 7523 section 2.1 with a parameter of Microsoft, not RFC 8693: an access token as `assertion`, one
//! resource in `scope`, and no `resource` parameter (AADSTS9010010).

use std::borrow::Cow;

use crate::jose::{Claims, Header, Rejection, TokenError};
use crate::json::{Object, Value};
#[cfg(not(target_arch = "wasm32"))]
use crate::provider::entra_errors::SIGN_IN_ERRORS;
use crate::provider::entra_errors::{CLIENT_MISMATCH, KNOWN_ERRORS, OTHER_APP_NEEDED, USER_MUST_ACT};
use crate::provider::{
    Caller, ErrorClass, ErrorCondition, ErrorRule, ExchangeOptions, Grant, IssuerMatch, KnownError, Parameters,
    Profile, ProfileError, Provider, ProviderOptions, Responsible, SubjectInput, SubjectTokenSource,
    TokenExchangeTarget, claims_request, oauth,
};
use crate::secret::shown;
use crate::url::Url;

/// Microsoft Entra ID.
#[derive(Debug)]
pub(super) struct EntraObo;

impl Profile for EntraObo {
    fn name(&self) -> &'static str {
        "entra_obo"
    }

    fn check(&self, options: &ProviderOptions<'_>) -> Result<(), ProfileError> {
        let issuer = options.issuer_url()?;
        let tenant = tenant_of(issuer.path());
        // Multi-tenant endpoints refuse on-behalf-of (AADSTS9001023); a token is exchanged at the endpoint of its tenant.
        if options.tenants.is_empty() && !is_guid(tenant) {
            let expected =
                "the issuer of one tenant by its id (a GUID), or an issuer with {tenantid} and a list of tenants";
            return Err(ProfileError::new("issuer", format!("the tenant {tenant:?}"), expected));
        }
        if issuer.path() != format!("/{tenant}/v2.0") {
            let expected = "the v2.0 issuer, https://login.microsoftonline.com/{tenant id}/v2.0, which includes v1.0 tokens of the same tenant";
            return Err(ProfileError::new("issuer", format!("{:?}", issuer.as_str()), expected));
        }
        if let Some(tenant) = options.tenants.iter().find(|tenant| !is_guid(tenant)) {
            let expected = "tenant ids (GUIDs, in lower case as tokens have them)";
            return Err(ProfileError::new("tenants", shown(tenant), expected));
        }
        if options.audience_claim.is_some() {
            let expected = "nothing: tokens of Entra always have aud, which names the app that they are for";
            return Err(ProfileError::new("audience_claim", "a claim", expected));
        }
        match options.subject_token {
            SubjectTokenSource::AccessToken => Ok(()),
            SubjectTokenSource::IdToken | SubjectTokenSource::IdTokenBeside { .. } => {
                let expected = "nothing: this provider exchanges access tokens only (AADSTS240002)";
                Err(ProfileError::new("subject_token", "an ID token", expected))
            }
        }
    }

    fn exchange_fields(&self) -> &'static [&'static str] {
        &["audience", "resource", "scopes", "claims", "parameters"]
    }

    fn own_parameters(&self) -> &'static [&'static str] {
        &["requested_token_use"]
    }

    /// Builds the target: `resource` or `scopes` become the one parameter `scope`.
    fn target(&self, provider: &Provider, options: ExchangeOptions) -> Result<TokenExchangeTarget, ProfileError> {
        if !options.audiences.is_empty() {
            return Err(ProfileError::new("audience", "a value", "nothing: set resource or scopes"));
        }
        check_scopes(&options.scopes)?;
        check_is_not_own_app(provider, &options)?;
        let mut resources = options.resources.into_iter();
        let resource = resources.next();
        if resources.next().is_some() {
            return Err(ProfileError::new("resource", "several", "one: a token is for one app"));
        }
        let expected = "one of the two: the upstream's App ID URI as resource, or its scopes";
        let scope = match (resource, options.scopes.as_slice()) {
            (Some(resource), []) => {
                let resource = resource.strip_suffix('/').unwrap_or(&resource);
                format!("{}/.default", resource.strip_suffix("/.default").unwrap_or(resource))
            }
            (None, []) => return Err(ProfileError::new("", "neither resource nor scopes", expected)),
            (None, scopes) => scopes.join(" "),
            (Some(_), _) => return Err(ProfileError::new("", "both resource and scopes", expected)),
        };
        let grant = Grant::JwtBearer { claims: options.claims };
        let options = ExchangeOptions { resources: Vec::new(), scopes: vec![scope], claims: None, ..options };
        options.into_target(grant)
    }

    /// Entra refuses the token of another app as an assertion.
    fn expected_audience(&self, provider: &Provider, audience: &str) -> Option<&'static str> {
        let is_of_another = provider.client.as_ref().is_some_and(|client| !is_of_client(audience, &client.id));
        is_of_another.then_some(
            "aud of tokens for the app of client.id: its id (v2.0), or its App ID URI such as api://{client id} (v1.0); Entra exchanges no other tokens (AADSTS500131)",
        )
    }

    /// `aud` of v2.0 tokens is the client id, and that of v1.0 tokens the App ID URI, which is the `url` of a resource for MCP
    /// clients. An `api://` URI shows that v1.0 tokens are meant.
    fn audiences_warning(&self, provider: &Provider, audiences: &[String]) -> Option<&'static str> {
        let is_known = |audience: &String| {
            audience.starts_with("api://") || provider.client.as_ref().is_some_and(|client| *audience == client.id)
        };
        (!audiences.iter().any(is_known)).then_some(
            "only v1.0 tokens are accepted: aud of v2.0 tokens is client.id, so add it if requestedAccessTokenVersion of the app is 2",
        )
    }

    fn scope_warning(&self, scope: &str) -> Option<&'static str> {
        is_uri(scope).then_some(
            "tokens have the short name of a scope: set the short name here, and the full scope in scopes_supported",
        )
    }

    /// The App ID URI of a scope must equal the parameter `resource`, which MCP clients must send ("Authorization",
    /// Resource Parameter Implementation) and take from the metadata of the resource.
    fn advertised_scope_warning(&self, scope: Option<&str>, resource: &Url) -> Option<&'static str> {
        let Some(scope) = scope else {
            return Some(
                "no scope is advertised, so MCP clients request none, which Entra refuses (AADSTS900144): advertise {url of the resource}/{scope}",
            );
        };
        if is_openid_scope(scope) {
            return None;
        }
        match scope.rsplit_once('/') {
            Some((app, _)) if app == resource.as_str() => None,
            Some(_) if resource.as_str().ends_with('/') => Some(
                "MCP clients cannot request it: they send the url of the resource as well, and Entra requires it to be the App ID URI of the scope (AADSTS9010010), which cannot end with a slash: remove the final slash of the url",
            ),
            Some(_) => Some(
                "MCP clients cannot request it: they send the url of the resource as well, and Entra requires it to be the App ID URI of the scope (AADSTS9010010): set the App ID URI of the app to that url, and advertise {url of the resource}/{scope}",
            ),
            None => Some(
                "Entra takes a scope without an App ID URI for one of Microsoft Graph (AADSTS650053): advertise {url of the resource}/{scope}",
            ),
        }
    }

    fn multitenant_segment(&self) -> Option<&'static str> {
        Some("organizations")
    }

    /// Returns the issuers of v2.0 tokens, and of v1.0 tokens in the clouds that have them, for each tenant.
    fn token_issuers(&self, provider: &Provider) -> Vec<String> {
        let mut issuers = provider.issuers();
        if let Some(own) = provider.issuer.url()
            && let Some(host) = v1_host(own.authority())
        {
            let own = [tenant_of(own.path()).to_owned()];
            let tenants = if provider.tenants.is_empty() { &own[..] } else { &provider.tenants };
            issuers.extend(tenants.iter().map(|tenant| format!("https://{host}/{tenant}/")));
        }
        issuers
    }

    /// Matches the issuers of v2.0 tokens and of v1.0 tokens of a tenant. The registration of an API decides which of
    /// the two it gets; the keys are the same. `iss` and `tid` must name the same tenant.
    fn match_issuer<'a>(&self, provider: &'a Provider, issuer: &str, claims: &Object<'_>) -> IssuerMatch<'a> {
        let Some(own) = provider.issuer.url() else {
            return IssuerMatch::NoMatch;
        };
        let own_tenant = tenant_of(own.path());
        let mut parts = issuer.split('/').skip(2);
        let (host, tenant) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        if !is_guid(tenant) {
            return IssuerMatch::NoMatch;
        }
        let canonical = if tenant == own_tenant {
            Cow::Borrowed(own.as_str())
        } else {
            Cow::Owned(own.as_str().replacen(own_tenant, tenant, 1))
        };
        let is_v2 = issuer == canonical;
        let is_v1 = || v1_host(own.authority()).is_some_and(|host| issuer == format!("https://{host}/{tenant}/"));
        if !is_v2 && !is_v1() {
            return if CLOUDS.iter().any(|(login, sts)| *login == host || *sts == host) {
                IssuerMatch::NearMiss(TokenError::Issuer.because(
                    "a token of another cloud (worldwide, US Government, China or another), or an issuer of unknown form",
                ))
            } else {
                IssuerMatch::NoMatch
            };
        }
        if claims.string("tid") != Some(tenant) {
            return IssuerMatch::NearMiss(TokenError::Claims("tid is not the tenant of iss").into());
        }
        let is_allowed = match provider.tenants.as_slice() {
            [] => tenant == own_tenant,
            tenants => tenants.iter().any(|allowed| allowed == tenant),
        };
        if !is_allowed {
            return IssuerMatch::NearMiss(TokenError::Tenant.because(
                "a token of a tenant that is not configured: the user signed in at another organization, or is a guest there",
            ));
        }
        if claims.string("ver").is_some_and(|version| version != if is_v2 { "2.0" } else { "1.0" }) {
            return IssuerMatch::NearMiss(TokenError::Claims("ver and iss name different versions").into());
        }
        IssuerMatch::Match { issuer: canonical, tenant: Some(tenant.to_owned()) }
    }

    fn access_token_claim(&self) -> Option<&'static str> {
        Some("scp")
    }

    /// An access token of a user has `scp`. An ID token has neither `scp` nor a client; a token of an application has a
    /// client and no `scp`.
    fn caller(&self, _provider: &Provider, header: &Header, claims: &Claims<'_>) -> Result<Caller, Rejection> {
        const NO_USER: &str =
            "a token of an application (client credentials) is not exchanged (AADSTS7000114): sign a user in";
        if header.has_nonce || claims.audiences.iter().any(|audience| is_graph(audience)) {
            return Err(TokenError::Audience.because(
                "a token for Microsoft Graph, which only Graph can validate: the client must request the scope in the metadata of the resource (scopes_supported)",
            ));
        }
        if claims.text("idtyp") == Some("app") {
            return Err(TokenError::NotAUser.because(NO_USER));
        }
        if claims.members.present("scp").is_none() {
            let names_client = claims.has("azp") || claims.has("appid");
            return Err(if names_client {
                TokenError::NotAUser.because(NO_USER)
            } else {
                TokenError::IdToken.because("no scp and no client: the client sends its ID token (AADSTS240002)")
            });
        }
        let takes_claims_challenge = claims.members.get("xms_cc").is_some_and(|capabilities| {
            let is_cp1 = |value: &Value<'_>| value.as_str().is_some_and(|text| text.eq_ignore_ascii_case("cp1"));
            is_cp1(capabilities) || capabilities.as_array().is_some_and(|values| values.iter().any(is_cp1))
        });
        Ok(Caller { takes_claims_challenge, ..self.id_token_caller(claims)? })
    }

    /// `oid` identifies a user within a tenant only, so the identifier has the tenant as well.
    fn id_token_caller(&self, claims: &Claims<'_>) -> Result<Caller, Rejection> {
        let part = |name: &str| claims.text(name).filter(|text| !text.is_empty());
        let oid = part("oid").ok_or(TokenError::Claims("oid is missing"))?;
        let tenant = part("tid").ok_or(TokenError::Claims("tid is missing"))?;
        let client = claims.text("azp").or_else(|| claims.text("appid")).map(str::to_owned);
        let user = [tenant, "/", oid].concat();
        Ok(Caller { user, tenant: Some(tenant.to_owned()), client, takes_claims_challenge: false })
    }

    fn wrong_audience(&self, provider: &Provider, audiences: &[String], claims: &Claims<'_>) -> &'static str {
        let is_uri = |audience: &String| is_uri(audience);
        let has = |is_wanted: &dyn Fn(&String) -> bool| audiences.iter().any(is_wanted);
        if claims.text("ver") == Some("1.0") && !has(&is_uri) {
            "a v1.0 token, whose aud is the App ID URI (api://{client id}): add it to audiences, or set requestedAccessTokenVersion of the app to 2"
        } else if claims.text("ver") == Some("2.0") && !has(&|audience| is_guid(audience)) {
            "a v2.0 token, whose aud is the client id (a GUID): add it to audiences"
        } else if let Some(client) = &provider.client
            && claims.audiences.iter().any(|audience| self.is_same_audience(audience, &client.id))
        {
            "a token for the app of client.id, by a name that audiences lacks: add the name, or set requestedAccessTokenVersion of the app to 2"
        } else {
            "a token for another app: the client must request the scope in the metadata of the resource (scopes_supported)"
        }
    }

    /// The endpoint of the caller's tenant. A configured or discovered endpoint of a multi-tenant provider has
    /// `organizations` in its place.
    fn token_endpoint(&self, provider: &Provider, endpoint: &Url, tenant: Option<&str>) -> Option<Url> {
        match (provider.tenants.is_empty(), tenant) {
            (true, _) => Some(endpoint.clone()),
            (false, Some(tenant)) => {
                let shared = format!("/{}/", tenant_of(endpoint.path()));
                Url::parse_endpoint(&endpoint.as_str().replacen(&shared, &format!("/{tenant}/"), 1)).ok()
            }
            (false, None) => None,
        }
    }

    fn parameters<'a>(&self, target: &'a TokenExchangeTarget, subject: SubjectInput<'a>) -> Parameters<'a> {
        let mut parameters = vec![
            ("grant_type", oauth::GRANT_JWT_BEARER.into()),
            ("requested_token_use", "on_behalf_of".into()),
            ("assertion", subject.token.into()),
            ("scope", target.scope.as_deref().unwrap_or_default().into()),
        ];
        let configured = match &target.grant {
            Grant::JwtBearer { claims } => claims.as_deref(),
            Grant::TokenExchange { .. } | Grant::IdJag(_) => None,
        };
        let claims = claims_request::merge(configured, subject.claims);
        parameters.extend(claims.map(|claims| ("claims", claims)));
        parameters
    }

    /// `api://{client id}` in a request is the client id in `aud` of v2.0 tokens.
    fn is_same_audience(&self, one: &str, other: &str) -> bool {
        let bare = |name: &'_ str| -> String {
            let name = name.trim_end_matches('/');
            name.strip_prefix("api://").filter(|id| is_guid(id)).unwrap_or(name).to_owned()
        };
        bare(one) == bare(other)
    }

    /// `.default` stands for every consented scope. A response has a scope with or without its App ID URI, in any case, and never
    /// names `offline_access`.
    fn grants_scope(&self, requested: &str, granted: &str) -> bool {
        let short = |scope: &'_ str| scope.rsplit_once('/').map_or(scope, |(_, name)| name).to_ascii_lowercase();
        let requested = short(requested);
        requested == ".default" || is_openid_scope(&requested) || requested == short(granted)
    }

    /// `oid` is the same in tokens for all apps of a tenant.
    fn is_of_another_user(&self, issued: &Object<'_>, subject: &Object<'_>) -> bool {
        let is = |name: &str, is_same: bool| {
            issued.string(name).zip(subject.string(name)).is_some_and(|(one, other)| (one == other) == is_same)
        };
        is("tid", true) && is("oid", false)
    }

    fn error_rules(&self) -> &'static [ErrorRule] {
        static RULES: [ErrorRule; 3] = [
            ErrorRule::new(&[], &["invalid_grant"], ErrorClass::UserMustAct)
                .only(ErrorCondition::Suberror(USER_MUST_ACT)),
            ErrorRule::new(&[], &["invalid_grant"], ErrorClass::Operator)
                .only(ErrorCondition::Suberror(CLIENT_MISMATCH)),
            ErrorRule::new(&[], &["invalid_grant", "unauthorized_client"], ErrorClass::NotAllowed)
                .only(ErrorCondition::Suberror(OTHER_APP_NEEDED))
                .act(Responsible::User),
        ];
        &RULES
    }

    fn known_errors(&self) -> &'static [KnownError] {
        KNOWN_ERRORS
    }

    #[cfg(not(target_arch = "wasm32"))]
    fn sign_in_errors(&self) -> &'static [crate::provider::SignInError] {
        SIGN_IN_ERRORS
    }

    fn trace_fields(&self) -> &'static [&'static str] {
        &["trace_id", "correlation_id", "x-ms-request-id"]
    }
}

/// Hosts of each cloud: sign-in, and the issuer of v1.0 tokens. Empty: the cloud has no v1.0 tokens.
const CLOUDS: [(&str, &str); 6] = [
    ("login.microsoftonline.com", "sts.windows.net"),
    ("login.microsoftonline.us", "sts.windows.net"),
    ("login.partner.microsoftonline.cn", "sts.chinacloudapi.cn"),
    ("login.sovcloud-identity.fr", ""),
    ("login.sovcloud-identity.de", ""),
    ("login.sovcloud-identity.sg", ""),
];

/// Checks that scopes are of one app, and that `.default` stands alone.
fn check_scopes(scopes: &[String]) -> Result<(), ProfileError> {
    let is_default = |scope: &String| scope.ends_with("/.default");
    let is_named = |scope: &String| !is_default(scope) && scope != "offline_access";
    if scopes.iter().any(is_default) && scopes.iter().any(is_named) {
        let expected = "either .default or named scopes (AADSTS70011)";
        return Err(ProfileError::new("scopes", "both .default and named scopes", expected));
    }
    let of_first = scopes.iter().find_map(|scope| resource_of(scope));
    if scopes.iter().filter_map(|scope| resource_of(scope)).any(|resource| Some(resource) != of_first) {
        let expected = "scopes of one resource: a token is for one app (AADSTS700022)";
        return Err(ProfileError::new("scopes", "scopes of several resources", expected));
    }
    Ok(())
}

/// Checks that the target is not the proxy's own app by its App ID URI.
fn check_is_not_own_app(provider: &Provider, options: &ExchangeOptions) -> Result<(), ProfileError> {
    let is_own = |uri: &str| {
        let uri = uri.trim_end_matches('/');
        is_uri(uri) && provider.every_audience.iter().any(|audience| audience.trim_end_matches('/') == uri)
    };
    let of_scope = |scope: &String| scope.rsplit_once('/').is_some_and(|(resource, _)| is_own(resource));
    let of_resource = |resource: &String| {
        let resource = resource.strip_suffix('/').unwrap_or(resource);
        is_own(resource.strip_suffix("/.default").unwrap_or(resource))
    };
    if options.resources.iter().any(of_resource) || options.scopes.iter().any(of_scope) {
        let expected = "the upstream's app, or the client id instead: an app requests a token for itself by its id only (AADSTS90009)";
        return Err(ProfileError::new("", "the App ID URI of the proxy's own app", expected));
    }
    Ok(())
}

fn is_uri(text: &str) -> bool {
    text.contains("://")
}

/// Returns `true` if tokens for the app with that client id can have this `aud`.
fn is_of_client(audience: &str, client_id: &str) -> bool {
    let is_of_another =
        audience.strip_prefix("api://").is_some_and(|id| is_guid(id) && is_guid(client_id) && id != client_id);
    audience == client_id || (is_uri(audience) && !is_graph(audience) && !is_of_another)
}

/// Returns the resource of a scope: scheme and first part of its URI. A scope without a resource is of Microsoft Graph,
/// which is `("", "")`. `None`: a scope of OpenID Connect.
fn resource_of(scope: &str) -> Option<(&str, &str)> {
    if is_openid_scope(scope) {
        return None;
    }
    let (scheme, rest) = scope.split_once("://").unwrap_or(("", scope));
    let Some((name, _)) = rest.split_once('/') else {
        return Some(("", ""));
    };
    let is_graph = is_graph(name) || is_graph(&[scheme, "://", name].concat());
    Some(if is_graph { ("", "") } else { (scheme, name) })
}

fn is_openid_scope(scope: &str) -> bool {
    matches!(scope, "openid" | "profile" | "email" | "offline_access")
}

/// Returns the first segment of a path.
fn tenant_of(path: &str) -> &str {
    path.trim_start_matches('/').split('/').next().unwrap_or_default()
}

/// Returns `true` if a text is a GUID with digits in lower case, as in tokens.
fn is_guid(text: &str) -> bool {
    let lengths = text.split('-').map(str::len);
    lengths.eq([8, 4, 4, 4, 12]) && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f' | b'-'))
}

fn v1_host(login: &str) -> Option<&'static str> {
    CLOUDS.iter().find(|(host, sts)| *host == login && !sts.is_empty()).map(|(_, sts)| *sts)
}

/// Returns `true` if an audience is Microsoft Graph: its app id, or its URL in a cloud.
fn is_graph(audience: &str) -> bool {
    const GRAPH: [&str; 5] = [
        "00000003-0000-0000-c000-000000000000",
        "https://graph.microsoft.com",
        "https://graph.microsoft.us",
        "https://dod-graph.microsoft.us",
        "https://microsoftgraph.chinacloudapi.cn",
    ];
    GRAPH.contains(&audience.trim_end_matches('/'))
}
