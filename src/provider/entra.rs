//! Microsoft Entra ID: the on-behalf-of flow of the v2.0 endpoint.
//!
//! The grant is RFC 7523 section 2.1 with a parameter of Microsoft's, not RFC 8693: an access token as
//! `assertion`, one resource in `scope`, never a `resource` parameter (AADSTS9010010). Tokens that it issues
//! belong to the resource and are not read.

use std::borrow::Cow;

use crate::jose::{Claims, Header, Rejection, TokenError};
use crate::json::{Object, Value};
use crate::provider::ErrorPattern::{Numbers, Suberror};
use crate::provider::Responsible::{Admin, Operator, Provider as Entra, User};
use crate::provider::profile::scope_parameter;
use crate::provider::{
    Caller, ErrorClass, ExchangeOptions, ExchangeTarget, IssuerMatch, KnownError, Parameters, Profile, ProfileError,
    Provider, SubjectInput, SubjectTokenSource, claims_request, jwt_bearer,
};
use crate::url::Url;

/// Where users of each cloud sign in, and the host of its v1.0 issuer, which is another.
const CLOUDS: [(&str, &str); 6] = [
    ("login.microsoftonline.com", "sts.windows.net"),
    ("login.microsoftonline.us", "sts.windows.net"),
    ("login.partner.microsoftonline.cn", "sts.chinacloudapi.cn"),
    ("login.sovcloud-identity.fr", ""),
    ("login.sovcloud-identity.de", ""),
    ("login.sovcloud-identity.sg", ""),
];

const APP_ONLY: &str =
    "an application's own token (client credentials): sign a user in, only users can be acted for (AADSTS7000114)";

#[derive(Debug)]
pub(crate) struct EntraObo;

impl Profile for EntraObo {
    fn name(&self) -> &'static str {
        "entra_obo"
    }

    fn check(&self, provider: &Provider) -> Result<(), ProfileError> {
        // OBO is refused at the endpoints that stand for several tenants (AADSTS9001023): a token is exchanged at its own.
        if provider.tenants.is_empty() && !is_guid(tenant_of(provider.issuer.path())) {
            let expected =
                "the issuer of one tenant by its id (a GUID), or {tenantid} in its place and a list of tenants";
            return Err(("issuer", format!("the tenant {:?}", tenant_of(provider.issuer.path())), expected));
        }
        if provider.issuer.path() != format!("/{}/v2.0", tenant_of(provider.issuer.path())) {
            let expected = "the v2.0 issuer, https://login.microsoftonline.com/{tenant id}/v2.0: v1.0 tokens of the same tenant are accepted with it";
            return Err(("issuer", format!("{:?}", provider.issuer.as_str()), expected));
        }
        if let Some(tenant) = provider.tenants.iter().find(|tenant| !is_guid(tenant)) {
            return Err(("tenants", format!("{tenant:?}"), "tenant ids (GUIDs, in lower case as tokens have them)"));
        }
        match provider.subject_token {
            SubjectTokenSource::AccessToken => Ok(()),
            SubjectTokenSource::IdToken | SubjectTokenSource::IdTokenBeside { .. } => Err((
                "subject_token",
                "an ID token".to_owned(),
                "none: this provider takes access tokens only (AADSTS240002)",
            )),
        }
    }

    fn tenant_word(&self) -> Option<&'static str> {
        Some("organizations")
    }

    /// The issuer of v2.0 tokens, and of v1.0 tokens of the same tenant: which of the two an API gets is decided by its
    /// own registration, and both are signed with the same keys. The tenant is in `iss` and in `tid`, and must be the
    /// same.
    fn match_issuer<'a>(&self, provider: &'a Provider, issuer: &str, claims: &Object<'_>) -> IssuerMatch<'a> {
        let own = &provider.issuer;
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
                    "a token of another cloud (worldwide, US Government, China …), or with an issuer of no known form",
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

    fn token_endpoint(&self, provider: &Provider, endpoint: &Url, tenant: Option<&str>) -> Option<Url> {
        match (provider.tenants.is_empty(), tenant) {
            (true, _) => Some(endpoint.clone()),
            (false, Some(tenant)) => {
                let shared = format!("/{}/", tenant_of(endpoint.path()));
                Url::parse(&endpoint.as_str().replacen(&shared, &format!("/{tenant}/"), 1)).ok()
            }
            (false, None) => None,
        }
    }

    fn takes_claims(&self) -> bool {
        true
    }

    /// A token of another app would be refused as an assertion, each time.
    fn audience_instead(&self, provider: &Provider, audience: &str) -> Option<&'static str> {
        let is_of_another = provider.client.as_ref().is_some_and(|client| !is_of_client(audience, &client.id));
        is_of_another.then_some(
            "what `aud` is in tokens for the app of client.id: its id (v2.0), or its App ID URI such as api://{client id} (v1.0); Entra exchanges no others (AADSTS500131)",
        )
    }

    fn doubt(&self, scope: &str) -> Option<&'static str> {
        is_uri(scope).then_some(
            "tokens have a scope by its short name: write that here, and the long form into scopes_supported",
        )
    }

    /// A scope's App ID URI must be the very `resource` that comes beside it. MCP clients must send that ("Authorization",
    /// Resource Parameter Implementation), and take it from the metadata of the resource.
    fn doubt_advertised(&self, scope: Option<&str>, resource: &Url) -> Option<&'static str> {
        match scope {
            None => Some(
                "none is advertised, so MCP clients ask for none, which Entra refuses (AADSTS900144): advertise {url of the resource}/{scope}",
            ),
            Some(scope) if is_of_openid(scope) => None,
            Some(scope) => match scope.rsplit_once('/') {
                Some((app, _)) if app == resource.as_str() => None,
                Some(_) if resource.as_str().ends_with('/') => Some(
                    "MCP clients cannot ask for it: they send the url of the resource beside it, and Entra wants that to be the scope's App ID URI (AADSTS9010010), which cannot end with a slash: take the slash off the url",
                ),
                Some(_) => Some(
                    "MCP clients cannot ask for it: they send the url of the resource beside it, and Entra refuses the two unless that is the scope's App ID URI (AADSTS9010010): give the app that url for its App ID URI, and advertise {url of the resource}/{scope}",
                ),
                None => Some(
                    "without an App ID URI in front, Entra takes it for a scope of Microsoft Graph (AADSTS650053): advertise {url of the resource}/{scope}",
                ),
            },
        }
    }

    fn exchange_fields(&self) -> &'static [&'static str] {
        &["audience", "resource", "scopes", "requested_token_type", "claims", "parameters"]
    }

    fn target(&self, provider: &Provider, exchange: ExchangeOptions) -> Result<ExchangeTarget, ProfileError> {
        if !exchange.audiences.is_empty() {
            return Err((".audience", "a value".to_owned(), "none: the target goes into resource or scopes"));
        }
        if exchange.requested_token_type.is_some() {
            return Err((".requested_token_type", "a value".to_owned(), "none: this provider has no such parameter"));
        }
        let is_default = |scope: &String| scope.ends_with("/.default");
        if exchange.scopes.iter().any(is_default)
            && exchange.scopes.iter().any(|scope| !is_default(scope) && scope != "offline_access")
        {
            return Err((
                ".scopes",
                "a .default scope beside named ones".to_owned(),
                "the one or the others (AADSTS70011)",
            ));
        }
        let of_first = exchange.scopes.iter().find_map(|scope| resource_of(scope));
        if exchange.scopes.iter().filter_map(|scope| resource_of(scope)).any(|resource| Some(resource) != of_first) {
            return Err((
                ".scopes",
                "scopes of several resources".to_owned(),
                "those of one: a token is for one app (AADSTS700022)",
            ));
        }
        let is_own = |uri: &str| {
            let uri = uri.trim_end_matches('/');
            is_uri(uri) && provider.every_audience.iter().any(|audience| audience.trim_end_matches('/') == uri)
        };
        let of_scope = |scope: &String| scope.rsplit_once('/').is_some_and(|(resource, _)| is_own(resource));
        let of_resource = |resource: &String| is_own(resource.strip_suffix("/.default").unwrap_or(resource));
        if exchange.resources.iter().any(of_resource) || exchange.scopes.iter().any(of_scope) {
            let expected = "the upstream's app, or the client id in its place: an app that asks for itself is known by its id only (AADSTS90009)";
            return Err(("", "the App ID URI of the proxy's own app".to_owned(), expected));
        }
        let expected = "one of the two: the upstream's App ID URI as resource, or its scopes";
        let mut resources = exchange.resources.into_iter();
        let resource = resources.next();
        if resources.next().is_some() {
            return Err((".resource", "several".to_owned(), "one: a token is for one app"));
        }
        let scope = match (resource, scope_parameter(&exchange.scopes)) {
            (Some(resource), None) if resource.ends_with("/.default") => resource,
            (Some(resource), None) => format!("{}/.default", resource.strip_suffix('/').unwrap_or(&resource)),
            (None, Some(scope)) => scope,
            (None, None) => return Err(("", "neither resource nor scopes".to_owned(), expected)),
            (Some(_), Some(_)) => return Err(("", "both resource and scopes".to_owned(), expected)),
        };
        Ok(ExchangeTarget {
            scope: Some(scope),
            claims: exchange.claims,
            parameters: exchange.parameters,
            ..ExchangeTarget::default()
        })
    }

    /// A delegated token has `scp`; an ID token names no client; an application's own token has roles at most.
    fn caller(&self, _provider: &Provider, header: &Header, claims: &Claims<'_>) -> Result<Caller, Rejection> {
        if header.has_nonce || claims.audiences.iter().any(|audience| is_graph(audience)) {
            return Err(TokenError::Audience.because(
                "a token for Microsoft Graph, which only Graph can validate: the client must ask for the scope in the metadata of the resource (scopes_supported)",
            ));
        }
        if claims.text("idtyp") == Some("app") {
            return Err(TokenError::NotAUser.because(APP_ONLY));
        }
        if claims.scopes.is_none() {
            let names_client = claims.has("azp") || claims.has("appid");
            return Err(if names_client {
                TokenError::NotAUser.because(APP_ONLY)
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

    /// `oid` is unique in its tenant only.
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
            "a token for the app of client.id, by a name that audiences lacks: add that, or set requestedAccessTokenVersion of the app to 2"
        } else {
            "a token for another app: the client must ask for the scope in the metadata of the resource (scopes_supported)"
        }
    }

    /// An app is `api://{client id}` where it is asked for, and its client id in the `aud` of v2.0 tokens.
    fn is_same_audience(&self, one: &str, other: &str) -> bool {
        let bare = |name: &'_ str| -> String {
            let name = name.trim_end_matches('/');
            name.strip_prefix("api://").filter(|id| is_guid(id)).unwrap_or(name).to_owned()
        };
        bare(one) == bare(other)
    }

    /// `oid` is the same in tokens for all apps of a tenant.
    fn is_of_another_user(&self, issued: &Object<'_>, subject: &Object<'_>) -> bool {
        let is = |name: &str, is_same: bool| {
            issued.string(name).zip(subject.string(name)).is_some_and(|(one, other)| (one == other) == is_same)
        };
        is("tid", true) && is("oid", false)
    }

    fn parameters<'a>(&self, target: &'a ExchangeTarget, subject: SubjectInput<'a>) -> Parameters<'a> {
        let mut parameters = vec![
            ("grant_type", jwt_bearer::GRANT.into()),
            ("requested_token_use", "on_behalf_of".into()),
            ("assertion", subject.token.into()),
            ("scope", target.scope.as_deref().unwrap_or_default().into()),
        ];
        let claims = claims_request::merged(target.claims.as_deref(), subject.claims);
        parameters.extend(claims.map(|claims| ("claims", claims)));
        parameters
    }

    /// The values of `suberror` by which Microsoft's own libraries know that the user must act.
    fn blame(&self, _status: u16, error: &str, suberror: Option<&str>) -> Option<ErrorClass> {
        (error == "invalid_grant" && suberror.is_some_and(|suberror| USER_MUST_ACT.contains(&suberror)))
            .then_some(ErrorClass::UserMustAct)
    }

    fn failures(&self) -> &'static [KnownError] {
        FAILURES
    }

    #[cfg(not(target_arch = "wasm32"))]
    fn at_sign_in(&self) -> &'static [crate::provider::SignInError] {
        AT_SIGN_IN
    }

    fn trace_fields(&self) -> &'static [&'static str] {
        &["trace_id", "correlation_id", "x-ms-request-id"]
    }
}

/// See [`EntraObo::blame`].
const USER_MUST_ACT: &[&str] =
    &["basic_action", "additional_action", "message_only", "user_password_expired", "consent_required", "bad_token"];

/// What is before and behind `://`.
fn parts_of_uri(text: &str) -> Option<(&str, &str)> {
    text.split_once("://")
}

fn is_uri(text: &str) -> bool {
    parts_of_uri(text).is_some()
}

/// Whether tokens for the app with that id may have this `aud`.
fn is_of_client(audience: &str, client_id: &str) -> bool {
    let is_of_another =
        audience.strip_prefix("api://").is_some_and(|id| is_guid(id) && is_guid(client_id) && id != client_id);
    audience == client_id || (is_uri(audience) && !is_graph(audience) && !is_of_another)
}

/// What a scope is of, as far as it tells: scheme and first part of its resource. A scope by itself is of Microsoft
/// Graph; those of OpenID Connect are of nothing.
fn resource_of(scope: &str) -> Option<(&str, &str)> {
    if is_of_openid(scope) {
        return None;
    }
    let (scheme, rest) = parts_of_uri(scope).unwrap_or(("", scope));
    let Some((name, _)) = rest.split_once('/') else {
        return Some(("", ""));
    };
    let is_graph = is_graph(name) || is_graph(&[scheme, "://", name].concat());
    Some(if is_graph { ("", "") } else { (scheme, name) })
}

/// Scopes of OpenID Connect are no resource's.
fn is_of_openid(scope: &str) -> bool {
    matches!(scope, "openid" | "profile" | "email" | "offline_access")
}

/// The first segment of a path.
fn tenant_of(path: &str) -> &str {
    path.trim_start_matches('/').split('/').next().unwrap_or_default()
}

/// 8-4-4-4-12 lower-case hexadecimal digits, as tokens have it.
fn is_guid(text: &str) -> bool {
    let lengths = text.split('-').map(str::len);
    lengths.eq([8, 4, 4, 4, 12]) && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f' | b'-'))
}

fn v1_host(login: &str) -> Option<&'static str> {
    CLOUDS.iter().find(|(host, sts)| *host == login && !sts.is_empty()).map(|(_, sts)| *sts)
}

/// Microsoft Graph's names as an audience: its app id, and its URL in each cloud.
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

/// By the numbers of `error_codes` (AADSTS…).
static FAILURES: &[KnownError] = &[
    KnownError::new(
        (400, "invalid_grant", Numbers(&[65001])),
        "nobody has consented that this proxy's app asks for the upstream's scopes, and the upstream does not list it among its authorized client applications (`preAuthorizedApplications`)",
        Admin,
        "Grant the app admin consent for the upstream, or list it under the upstream's authorized client applications.",
    )
    .with("consent_required"),
    KnownError::new(
        (400, "access_denied", Numbers(&[65004])),
        "the user did not agree to what the app asks for",
        User,
        "Sign in again and accept what the app asks for.",
    ),
    KnownError::new(
        (400, "invalid_scope", Numbers(&[65005, 650056, 650057])),
        "the permission is not among those that the proxy's app declares",
        Operator,
        "Add the upstream's delegated permission to the app, and grant admin consent.",
    ),
    KnownError::new(
        (400, "invalid_scope", Numbers(&[70011, 28002, 28003, 650053, 700023])),
        "a scope that the upstream does not expose, that names no resource, or `.default` beside named ones",
        Operator,
        "Set resource to the upstream's App ID URI, or scopes to {App ID URI}/{scope} as exposed there.",
    ),
    KnownError::new(
        (400, "invalid_scope", Numbers(&[700022])),
        "scopes of several resources",
        Operator,
        "Ask for the scopes of one resource in an exchange.",
    ),
    KnownError::new(
        (400, "invalid_resource", Numbers(&[500011, 50001, 500014, 650052, 650054])),
        "the upstream's app is not installed in the tenant, is disabled there, or has another App ID URI",
        Admin,
        "Install or enable the upstream's app in the tenant, and check resource against its App ID URI.",
    ),
    KnownError::new(
        (400, "invalid_grant", Numbers(&[50013])),
        "Entra cannot check the token: it is for Microsoft Graph, of another tenant, or signed with a key of the app's own",
        Operator,
        "Have clients ask for a token of the app in this tenant, and give the app no signing key of its own.",
    ),
    KnownError::new(
        (400, "invalid_grant", Numbers(&[500131])),
        "`aud` of the token is another app than the one that exchanges it",
        Operator,
        "Have clients ask for the scope in the metadata of the resource: `scopes_supported` must be a scope of the app in client.id.",
    ),
    KnownError::new(
        (400, "invalid_grant", Numbers(&[500133, 50027])),
        "the token has expired, is not valid yet, or lacks something",
        User,
        "Get a new token; if all are refused, check the clock of this host.",
    ),
    KnownError::new(
        (400, "invalid_grant", Numbers(&[50173, 50132, 50133, 50089, 70008, 700082, 70043])),
        "the session behind the token was revoked or is too old, or the password has changed",
        User,
        "Sign in again.",
    ),
    KnownError::new(
        (400, "invalid_grant", Numbers(&[240002])),
        "an ID token in the place of the access token",
        Operator,
        "Have clients send their access token, not their ID token.",
    ),
    KnownError::new(
        (400, "interaction_required", Numbers(&[50072, 50074, 50076, 50078, 50079, 50158])),
        "Conditional Access wants another factor, now or by enrolment",
        User,
        "Sign in again with a second factor; clients with cp1 (xms_cc) get a challenge.",
    ),
    KnownError::new(
        (400, "interaction_required", Numbers(&[50005, 50097, 50131, 53000, 53001, 53002])),
        "Conditional Access wants another device or app",
        User,
        "Sign in from a device and an app that Conditional Access accepts.",
    ),
    KnownError::new(
        (400, "interaction_required", Numbers(&[53003, 53004, 53010, 53011, 530032, 530035])),
        "Conditional Access or the security defaults block it; without `claims` no sign-in helps",
        Admin,
        "Find the trace id in the sign-in log, and let Conditional Access admit the user.",
    ),
    KnownError::new(
        (400, "login_required", Numbers(&[50058])),
        "there is no session of the user's",
        User,
        "Sign in again.",
    ),
    KnownError::new(
        (400, "interaction_required", Numbers(&[16000, 50020, 50034, 51004, 90072])),
        "the user's account is not in the tenant, not even as a guest",
        Admin,
        "Invite the user as a guest, or add the user's own tenant to tenants.",
    ),
    KnownError::new(
        (400, "invalid_grant", Numbers(&[50105])),
        "the upstream's app wants users to be assigned, and this one is not",
        Admin,
        "Assign the user to the upstream's enterprise application.",
    ),
    KnownError::new(
        (400, "invalid_grant", Numbers(&[50053, 50057])),
        "the account is locked or disabled",
        Admin,
        "Unlock or enable the account.",
    ),
    KnownError::new(
        (400, "invalid_grant", Numbers(&[50055])),
        "the password has expired",
        User,
        "Sign in again and change the password.",
    )
    .with("user_password_expired"),
    KnownError::new(
        (400, "invalid_grant", Suberror(USER_MUST_ACT)),
        "Entra wants the user to do something",
        User,
        "Sign in again and do what Entra asks for.",
    ),
    KnownError::new(
        (400, "invalid_grant", Suberror(&["protection_policies_required"])),
        "an app protection policy is required",
        User,
        "Sign in with an app under the app protection policy.",
    ),
    KnownError::new(
        (400, "invalid_grant", Suberror(&["client_mismatch"])),
        "the grant belongs to another client",
        Operator,
        "Set client.id to the app of the audiences.",
    ),
    KnownError::new(
        (400, "unauthorized_client", Numbers(&[700016, 70001, 7000112, 700011, 90099])),
        "the proxy's app does not exist in the tenant, or is disabled there",
        Operator,
        "Check client.id and the issuer's tenant; the app must be enabled there (enterprise applications).",
    ),
    KnownError::new(
        (400, "unauthorized_client", Numbers(&[7000114])),
        "on-behalf-of is not for this app or this token: an application's own token is nobody's",
        Operator,
        "Have clients sign a user in, and send that user's token.",
    ),
    KnownError::new(
        (401, "invalid_client", Numbers(&[7000222])),
        "the client secret has expired",
        Operator,
        "Create another client secret, set secret to it, and restart Envoy.",
    ),
    KnownError::new(
        (401, "invalid_client", Numbers(&[7000215, 70002])),
        "the client secret is wrong",
        Operator,
        "Set secret to a client secret's value, not its id.",
    ),
    KnownError::new(
        (401, "invalid_client", Numbers(&[7000218])),
        "neither a secret nor an assertion arrived",
        Operator,
        "Check client.authentication.",
    ),
    KnownError::new(
        (401, "invalid_client", Numbers(&[700025])),
        "the app is registered as a public client, which proves nothing",
        Operator,
        "Register the app as a confidential client (platform Web).",
    ),
    KnownError::new(
        (401, "invalid_client", Numbers(&[700027, 700030, 50012, 50048])),
        "the client assertion is not signed with a certificate that the app has, or not by the app",
        Operator,
        "Upload key's certificate to the app, set certificate to it, and use PS256.",
    ),
    KnownError::new(
        (401, "invalid_client", Numbers(&[700024])),
        "the client assertion has expired or is not valid yet",
        Operator,
        "Check the clock of this host.",
    ),
    KnownError::new(
        (401, "invalid_client", Numbers(&[70021, 700211, 700212, 700213])),
        "no federated credential of the app has issuer, subject and audience of the assertion",
        Operator,
        "Give the app a federated credential with the assertion's iss, sub and aud.",
    ),
    KnownError::new(
        (400, "invalid_request", Numbers(&[90002, 90019, 50059, 90038, 900382, 900432])),
        "the tenant does not exist in this cloud, or the app is of another national cloud",
        Operator,
        "Check the issuer's host (each national cloud has its own) and tenant id.",
    ),
    KnownError::new(
        (400, "invalid_request", Numbers(&[9001023])),
        "on-behalf-of at `common`, `organizations` or `consumers`",
        Operator,
        "Put the tenant id into token_endpoint.",
    ),
    KnownError::new(
        (400, "invalid_target", Numbers(&[901002, 9010010])),
        "`resource` of the request and its scopes are not of one app; the filter never sends the former: clients meet this at sign-in",
        Operator,
        "Check resource or scopes of the exchange against the upstream's App ID URI.",
    ),
    KnownError::new(
        (400, "invalid_request", Numbers(&[900144, 90014, 90023, 90100, 900561, 9002313])),
        "the request is malformed, or a parameter is missing",
        Operator,
        "Check parameters and token_endpoint; if they are right, report a bug of this filter.",
    ),
    KnownError::new(
        (400, "invalid_resource", Numbers(&[90008, 90009])),
        "the app asks for a token for itself, by its App ID URI",
        Operator,
        "Set resource to the upstream's app, or to the bare client id.",
    ),
    KnownError::new(
        (400, "invalid_grant", Numbers(&[50196])),
        "a loop: the same request too many times in a short time",
        Operator,
        "Wait some minutes, and look for a client that repeats its request.",
    ),
    KnownError::new(
        (400, "temporarily_unavailable", Numbers(&[90055, 50033, 50087, 90006, 90012, 90024, 90033, 90090])),
        "Entra throttles, or has a problem of the moment",
        Entra,
        "Wait; if it stays so, look at the provider's status page.",
    ),
    KnownError::new(
        (400, "", Numbers(&[1000000, 1000002, 1000031, 1000104])),
        "the account is not bound, the app is not available, or its cloud is not allowed across organizations",
        Admin,
        "Find the trace id in the sign-in log.",
    ),
    KnownError::new(
        (400, "", Numbers(&[82014])),
        "an agent's identity would have to consent, which it cannot",
        Admin,
        "Let the agent's identity inherit the permission from its blueprint.",
    ),
    #[cfg(not(target_arch = "wasm32"))]
    KnownError::new(
        (403, "", crate::provider::ErrorPattern::Upstream),
        "with `resource` (`.default`) Entra issues a token with what has been consented to, however little: without admin consent the exchange succeeds, and the upstream finds no scope in the token",
        Admin,
        "Grant the app admin consent for the upstream, or list it under the upstream's authorized client applications.",
    ),
    #[cfg(not(target_arch = "wasm32"))]
    KnownError::new(
        (403, "", crate::provider::ErrorPattern::Upstream),
        "a user in more than 200 groups has none in the token (`_claim_names` instead)",
        Admin,
        "Put only the groups into the token that are assigned to the upstream's application, or use app roles.",
    ),
    #[cfg(not(target_arch = "wasm32"))]
    KnownError::new(
        (401, "", crate::provider::ErrorPattern::Upstream),
        "the upstream expects tokens of the other version: `iss` and `aud` differ",
        Operator,
        "Set requestedAccessTokenVersion in the manifest of the upstream's app to 2, or have it accept v1.0 tokens.",
    ),
];

/// By the code that Entra shows a person. They are known from documentation and from others' reports.
#[cfg(not(target_arch = "wasm32"))]
static AT_SIGN_IN: &[crate::provider::SignInError] = &[
    crate::provider::SignInError {
        code: "AADSTS9010010",
        cause: "the client sends `resource`, the url of the resource, as MCP clients must, and Entra wants that to be the App ID URI in front of the scope, byte for byte. A scope of `api://…` cannot be asked for so, and a client that adds a slash to the url is refused, too. It comes back to the client as `invalid_target`; some clients say only that there was no authorization code",
        act: Operator,
        remedy: "Give this proxy's app the `url` of the resource as an App ID URI (its host must be a verified domain of the tenant), and advertise `{url}/{scope}` in `scopes_supported`. Where that cannot be, use a client that can be told to leave `resource` out.",
    },
    crate::provider::SignInError {
        code: "AADSTS650053",
        cause: "the scope has no App ID URI in front, such as `mcp:read`: Entra takes it for one of Microsoft Graph, which has no such scope. Where it has, the token is for Graph, and is refused here with `wrong_audience`",
        act: Operator,
        remedy: "Advertise `{url}/{scope}` in `scopes_supported`; without it, `scopes` is advertised, which has the short names that tokens have.",
    },
    crate::provider::SignInError {
        code: "AADSTS500011",
        cause: "no app in the tenant has the App ID URI in front of the scope: it is spelled in another way (a slash, another host), the app is not installed in the tenant in which the user signs in, or the URI could not be set, as its host is no verified domain (`azurewebsites.net` and the like cannot be)",
        act: Admin,
        remedy: "Compare the App ID URI of this proxy's app with `scopes_supported`, byte for byte, and install the app in the tenant.",
    },
    crate::provider::SignInError {
        code: "AADSTS900144",
        cause: "the client asks for no scope, because none is advertised, or because it tries again without one after another error",
        act: Operator,
        remedy: "Set `scopes_supported` of the resource; where it is set, look for the error before this one.",
    },
];
