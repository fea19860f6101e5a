//! Microsoft Entra ID: the on-behalf-of flow of the v2.0 endpoint.
//!
//! The grant is RFC 7523 section 2.1 with a parameter of Microsoft's, not RFC 8693: an access token as
//! `assertion`, one resource in `scope`, never a `resource` parameter (AADSTS9010010). Tokens that it issues
//! belong to the resource and are not read.

use std::borrow::Cow;

use super::{Blame, Caller, Mistake, Profile, RawExchange, Recognition, Subject, Target, scope_parameter};
use crate::config::{Provider, SubjectToken};
use crate::http::Url;
use crate::json::{Object, Value};
use crate::token::{Claims, Header, Rejection, TokenError};

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
pub(super) struct EntraObo;

impl Profile for EntraObo {
    fn name(&self) -> &'static str {
        "entra_obo"
    }

    fn check(&self, provider: &Provider) -> Result<(), Mistake> {
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
            SubjectToken::AccessToken => Ok(()),
            SubjectToken::IdToken | SubjectToken::IdTokenBeside { .. } => Err((
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
    fn recognise<'a>(&self, provider: &'a Provider, issuer: &str, claims: &Object<'_>) -> Recognition<'a> {
        let own = &provider.issuer;
        let own_tenant = tenant_of(own.path());
        let mut parts = issuer.split('/').skip(2);
        let (host, tenant) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        if !is_guid(tenant) {
            return Recognition::Foreign;
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
                Recognition::Almost(TokenError::Issuer.because(
                    "a token of another cloud (worldwide, US Government, China …), or with an issuer of no known form",
                ))
            } else {
                Recognition::Foreign
            };
        }
        if claims.string("tid") != Some(tenant) {
            return Recognition::Almost(TokenError::Claims("tid is not the tenant of iss").into());
        }
        let is_allowed = match provider.tenants.as_slice() {
            [] => tenant == own_tenant,
            tenants => tenants.iter().any(|allowed| allowed == tenant),
        };
        if !is_allowed {
            return Recognition::Almost(TokenError::Tenant.because(
                "a token of a tenant that is not configured: the user signed in at another organization, or is a guest there",
            ));
        }
        if claims.string("ver").is_some_and(|version| version != if is_v2 { "2.0" } else { "1.0" }) {
            return Recognition::Almost(TokenError::Claims("ver and iss name different versions").into());
        }
        Recognition::Ours { issuer: canonical, tenant: Some(tenant.to_owned()) }
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

    fn target(&self, exchange: RawExchange) -> Result<Target, Mistake> {
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
        Ok(Target { scope: Some(scope), parameters: exchange.parameters, ..Target::default() })
    }

    /// A delegated token has `scp`; an ID token names no client; an application's own token has roles at most.
    fn caller(&self, _provider: &Provider, header: &Header, claims: &Claims<'_>) -> Result<Caller, Rejection> {
        if header.has_nonce || claims.audiences.iter().any(|audience| is_graph(audience)) {
            return Err(TokenError::Audience.because(
                "a token for Microsoft Graph, which only Graph can validate: the client must ask for api://{client id}/{scope} of this proxy's app",
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
        Ok(Caller { user: [tenant, "/", oid].concat(), tenant: Some(tenant.to_owned()), takes_claims_challenge: false })
    }

    fn wrong_audience(&self, provider: &Provider, claims: &Claims<'_>) -> &'static str {
        let is_uri = |audience: &String| audience.contains("://");
        let has = |is_wanted: &dyn Fn(&String) -> bool| provider.audiences.iter().any(is_wanted);
        if claims.text("ver") == Some("1.0") && !has(&is_uri) {
            "a v1.0 token, whose aud is the App ID URI (api://{client id}): add it to audiences, or set requestedAccessTokenVersion of the app to 2"
        } else if claims.text("ver") == Some("2.0") && !has(&|audience| is_guid(audience)) {
            "a v2.0 token, whose aud is the client id (a GUID): add it to audiences"
        } else {
            "a token for another app: the client must ask for api://{client id}/{scope} of this proxy's app"
        }
    }

    fn parameters<'a>(&self, target: &'a Target, subject: Subject<'a>) -> Vec<(&'a str, &'a str)> {
        vec![
            ("grant_type", "urn:ietf:params:oauth:grant-type:jwt-bearer"),
            ("requested_token_use", "on_behalf_of"),
            ("assertion", subject.token),
            ("scope", target.scope.as_deref().unwrap_or_default()),
        ]
    }

    /// The values of `suberror` by which Microsoft's own libraries know that the user must act.
    fn blame(&self, _status: u16, error: &str, suberror: Option<&str>) -> Option<Blame> {
        const USER_MUST_ACT: [&str; 6] = [
            "message_only",
            "additional_action",
            "basic_action",
            "user_password_expired",
            "consent_required",
            "bad_token",
        ];
        (error == "invalid_grant" && suberror.is_some_and(|suberror| USER_MUST_ACT.contains(&suberror)))
            .then_some(Blame::UserMustAct)
    }

    fn trace_fields(&self) -> &'static [&'static str] {
        &["trace_id", "correlation_id", "x-ms-request-id"]
    }
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
