//! Builder of identity providers.

use std::collections::HashSet;
use std::rc::Rc;
use std::time::Duration;

use crate::config::check::item;
use crate::config::error::Code;
use crate::config::findings::Reported;
use crate::config::names::{cookie_name, header_name};
use crate::config::options::Kind;
use crate::config::reader::{Fields, by_name};
use crate::config::{client, find_placeholder, find_placeholders, not_a_url, optional_endpoint, refused_by_profile};
use crate::crypto::Algorithm;
use crate::jose::{AUDIENCE, KeySet};
use crate::json::Value;
use crate::provider::{
    self, ClaimValue, Client, Endpoints, Issuer, Profile, Provider, ProviderId, ProviderOptions, RequiredClaim,
    SubjectTokenSource, TENANT, TokenLocation, oauth,
};
use crate::secret::shown;
use crate::url::{PLACEHOLDER, Url};

/// Identity providers: all names, and those without a mistake.
pub(super) struct Providers<'a, P = Provider> {
    /// Names in the configuration, in their order. An invalid one may be a secret in the wrong place.
    pub(super) names: Vec<&'a str>,
    /// Providers without a mistake, in order of their names.
    pub(super) built: Vec<P>,
}

impl<P> Providers<'_, P> {
    /// Returns all providers.
    pub(super) fn all(self) -> Result<Vec<P>, Reported> {
        self.all_ref()?;
        Ok(self.built)
    }

    /// Returns all providers.
    pub(super) fn all_ref(&self) -> Result<&[P], Reported> {
        if self.built.len() == self.names.len() { Ok(&self.built) } else { Err(Reported::DEPENDS) }
    }
}

/// Builds every provider, in order of their names.
pub(super) fn build_all<'a>(root: &Fields<'a>) -> Providers<'a> {
    let mut providers = Providers { names: Vec::new(), built: Vec::<Provider>::new() };
    let mut issuers = HashSet::new();
    for (name, fields) in root.named_objects("identity_providers") {
        providers.names.push(name);
        let Ok(fields) = fields else { continue };
        let Ok(provider) = build(name, &fields) else { continue };
        let id = ProviderId(u32::try_from(providers.built.len()).unwrap_or(u32::MAX));
        let provider = Provider { id, ..provider };
        warn_of_clusters(&fields, &provider);
        // Two tenants of one provider may be the same.
        let own: HashSet<String> = provider.issuers().into_iter().collect();
        if own.iter().any(|issuer| issuers.contains(issuer)) {
            fields.refuse(Code::SameIssuer, "issuer", "the issuer of another provider", "an issuer of its own");
        } else {
            issuers.extend(own);
            providers.built.push(provider);
        }
    }
    let id_token_headers: HashSet<&str> =
        providers.built.iter().filter_map(|provider| provider.subject_token.header()).collect();
    for provider in &providers.built {
        if let Some(header) = provider.client.as_ref().and_then(|client| client.authentication.header())
            && id_token_headers.contains(header)
        {
            let name = format!("identity_providers.{}.client.authentication.assertion.header", provider.name);
            let found = format!("{header:?}, in which callers send ID tokens");
            root.refuse(Code::ClientHeader, &name, &found, "a field that only Envoy sets");
        }
    }
    providers
}

fn build(name: &str, fields: &Fields<'_>) -> Result<Provider, Reported> {
    let profile = fields.required_text("profile").and_then(|name| provider::profile(name).ok_or(Reported::DEPENDS));
    let issuer = profile.and_then(|profile| issuer_and_tenants(fields, profile));
    let (tokens, servers, limits) = (tokens(fields), servers(fields), limits(fields));
    let client = profile.and_then(|profile| client(fields, profile));
    let subject_token = profile.and_then(|profile| match fields.object("subject_token")? {
        Some(fields) => subject_token(&fields, profile),
        None => Ok((SubjectTokenSource::AccessToken, None)),
    });
    // All at once, so that the values are dropped in one place.
    let (
        (Ok(profile), Ok((issuer, tenants)), Ok(tokens), Ok(servers)),
        (Ok(limits), Ok(client), Ok((subject_token, subject_token_type))),
    ) = ((profile, issuer, tokens, servers), (limits, client, subject_token))
    else {
        return Err(Reported::DEPENDS);
    };
    let client = client.map(Rc::new);
    let options = ProviderOptions {
        issuer: &issuer,
        tenants: &tenants,
        token_endpoint: servers.token_endpoint.as_ref(),
        client_id: client.as_ref().map(|client| client.id.as_str()),
        audience_claim: tokens.audience_claim,
        subject_token: &subject_token,
    };
    profile.check(&options).map_err(|error| refused_by_profile(fields, error))?;
    if tokens.audience_claim.is_some() && matches!(subject_token, SubjectTokenSource::IdToken) {
        let expected = "nothing: ID tokens always have aud";
        return Err(fields.refuse(Code::IdTokensCannot, "audience_claim", "a claim", expected));
    }
    let [cluster, jwks_cluster, token_cluster] = servers.clusters;
    let provider = Provider {
        id: ProviderId::default(),
        name: name.into(),
        profile,
        issuer,
        tenants,
        cluster,
        jwks_cluster,
        token_cluster,
        every_audience: tokens.audiences.clone(),
        audiences: tokens.audiences,
        algorithms: tokens.algorithms,
        audience_claim: tokens.audience_claim.map(str::to_owned),
        scope_claims: tokens.scope_claims,
        required_claims: tokens.required_claims,
        jwks: servers.jwks,
        jwks_uri: servers.jwks_uri,
        token_endpoint: servers.token_endpoint,
        client,
        subject_token,
        subject_token_type,
        oldest_keys: limits.oldest_keys,
        leeway: limits.leeway,
        timeout: limits.timeout,
        retries: limits.retries,
    };
    check_audiences(fields, &provider)?;
    Ok(provider)
}

/// Reads the issuer and its tenants. An issuer that is no URL must have configured keys and endpoints.
fn issuer_and_tenants(fields: &Fields<'_>, profile: &'static dyn Profile) -> Result<(Issuer, Vec<String>), Reported> {
    let (text, tenants) = issuer(fields, profile)?;
    if text.contains("/.well-known/") {
        let expected = "the issuer itself, as in `iss` of its tokens";
        return Err(fields.refuse(Code::MetadataUrl, "issuer", "the URL of its metadata", expected));
    }
    let has_keys = fields.has("jwks") || fields.has("jwks_uri");
    let is_discovered = !has_keys || (profile.exchanges() && !fields.has("token_endpoint"));
    match Url::parse(&text) {
        Ok(url) => Ok((url.into(), tenants)),
        Err(problem) if is_discovered || problem == PLACEHOLDER => {
            let expected =
                "a URL such as https://login.example/tenant; any other text needs jwks or jwks_uri, and token_endpoint";
            Err(not_a_url(fields, "issuer", &text, problem, expected))
        }
        Err(_) => {
            find_placeholder(fields, "issuer", &text);
            Ok((Issuer::without_metadata(&text), tenants))
        }
    }
}

/// Refuses an audience that no token of the provider can have.
fn check_audiences(fields: &Fields<'_>, provider: &Provider) -> Result<(), Reported> {
    for (index, audience) in provider.audiences.iter().enumerate() {
        if let Some(expected) = provider.profile.expected_audience(provider, audience) {
            return Err(fields.refuse(Code::RefusedByProfile, &item("audiences", index), &shown(audience), expected));
        }
    }
    Ok(())
}

/// Options about callers' tokens.
struct Tokens<'a> {
    audiences: Vec<String>,
    algorithms: Vec<Algorithm>,
    audience_claim: Option<&'a str>,
    scope_claims: Vec<String>,
    required_claims: Vec<RequiredClaim>,
}

fn tokens<'a>(fields: &Fields<'a>) -> Result<Tokens<'a>, Reported> {
    let [audiences, algorithms, scope_claims] =
        ["audiences", "algorithms", "scope_claims"].map(|name| fields.texts(name));
    if let Ok(audiences) = &audiences {
        find_placeholders(fields, "audiences", audiences);
    }
    let (audience_claim, required_claims) = (fields.text("audience_claim"), required_claims(fields));
    let (audience_claim, scope_claims, required_claims) = (audience_claim?, scope_claims?, required_claims?);
    let of_scopes = scope_claims.iter().map(|name| ("scope_claims", name.as_str()));
    let of_required = required_claims.iter().map(|claim| ("required_claims", &*claim.name));
    let names = audience_claim.into_iter().map(|name| ("audience_claim", name)).chain(of_scopes).chain(of_required);
    names.for_each(|(option, name)| warn_of_path(fields, option, name));
    Ok(Tokens {
        audiences: audiences?,
        algorithms: algorithms?.iter().filter_map(|name| Algorithm::from_name(name)).collect(),
        audience_claim: audience_claim.filter(|name| *name != AUDIENCE),
        scope_claims,
        required_claims,
    })
}

/// Warns of the name of a claim that is written as a path to a claim inside another one. A name that is a URI has dots, too.
fn warn_of_path(fields: &Fields<'_>, option: &str, claim: &str) {
    if claim.contains('.') && !claim.contains(':') {
        let text = format_args!(
            "{} is read as one name, with its dots: no claim inside another one is found by it; have the provider write that claim at the top of the token, and name it here",
            shown(claim)
        );
        fields.warn(option, text);
    }
}

/// Reads the claims that tokens must have, in order of their names.
fn required_claims(fields: &Fields<'_>) -> Result<Vec<RequiredClaim>, Reported> {
    let members = fields.any_object("required_claims")?.map(by_name).unwrap_or_default();
    let claim = |(name, value): (&str, &Value<'_>)| {
        let values = value.as_array().map_or_else(|| std::slice::from_ref(value), Vec::as_slice);
        let accepted = values.iter().map(ClaimValue::of).collect::<Option<_>>().ok_or(Reported::DEPENDS)?;
        Ok(RequiredClaim { name: name.into(), accepted })
    };
    members.into_iter().map(claim).collect()
}

/// Options about the servers of a provider.
struct Servers {
    /// Clusters for metadata, for keys and for the token endpoint.
    clusters: [Rc<str>; 3],
    jwks: Option<KeySet>,
    jwks_uri: Option<Url>,
    token_endpoint: Option<Url>,
}

fn servers(fields: &Fields<'_>) -> Result<Servers, Reported> {
    const URL: &str = "a URL such as https://login.example/tenant";
    if let Ok(Some(text)) = fields.text("token_endpoint") {
        find_placeholder(fields, "token_endpoint", text);
    }
    let (clusters, jwks) = (clusters(fields), jwks(fields));
    let [jwks_uri, token_endpoint] = ["jwks_uri", "token_endpoint"].map(|name| optional_endpoint(fields, name, URL));
    Ok(Servers { clusters: clusters?, jwks: jwks?, jwks_uri: jwks_uri?, token_endpoint: token_endpoint? })
}

/// Warns of a configured endpoint whose cluster serves another host, too: the calls to one of them miss their server.
fn warn_of_clusters(fields: &Fields<'_>, provider: &Provider) {
    let discovers = Endpoints::configured(provider).is_none();
    let mut hosts: Vec<(&str, &str)> = Vec::new();
    hosts.extend(provider.issuer.url().filter(|_| discovers).map(|url| (&*provider.cluster, url.authority())));
    for (name, own, endpoint, cluster) in [
        ("jwks_uri", "jwks_cluster", &provider.jwks_uri, &provider.jwks_cluster),
        ("token_endpoint", "token_cluster", &provider.token_endpoint, &provider.token_cluster),
    ] {
        let Some(url) = endpoint else { continue };
        match hosts.iter().find(|(known, _)| *known == &**cluster) {
            Some((_, host)) if *host != url.authority() => {
                let text = format_args!(
                    "its host is {}, but its requests go to the cluster {cluster}, as those to {host} do; set {own} to a cluster of that host",
                    url.authority(),
                );
                fields.warn(name, text);
            }
            _ => hosts.push((cluster, url.authority())),
        }
    }
}

/// Reads the clusters for metadata, for keys and for the token endpoint.
fn clusters(fields: &Fields<'_>) -> Result<[Rc<str>; 3], Reported> {
    let cluster: Rc<str> = fields.required_text("cluster")?.into();
    let or_usual = |name: &str| Ok(fields.text(name)?.map_or_else(|| cluster.clone(), Rc::from));
    Ok([cluster.clone(), or_usual("jwks_cluster")?, or_usual("token_cluster")?])
}

/// Options about time.
struct Limits {
    oldest_keys: Duration,
    leeway: Duration,
    timeout: Duration,
    retries: bool,
}

fn limits(fields: &Fields<'_>) -> Result<Limits, Reported> {
    let names = ["jwks_max_age_seconds", "clock_skew_seconds", "timeout_seconds", "retries"];
    let [max_age, skew, timeout, retries] = names.map(|name| fields.number(name));
    let seconds = |number: u32| Duration::from_secs(number.into());
    Ok(Limits {
        oldest_keys: seconds(max_age?),
        leeway: seconds(skew?),
        timeout: seconds(timeout?),
        retries: retries? > 0,
    })
}

/// Reads the client, if the profile exchanges tokens.
fn client(fields: &Fields<'_>, profile: &'static dyn Profile) -> Result<Option<Client>, Reported> {
    if profile.exchanges() { client::build(fields).map(Some) } else { Ok(None) }
}

/// Reads the issuer with the profile's word for all tenants in the place of `{tenantid}`, and the tenants.
fn issuer(fields: &Fields<'_>, profile: &'static dyn Profile) -> Result<(String, Vec<String>), Reported> {
    let text = fields.required_text("issuer")?;
    let tenants = fields.texts("tenants")?;
    let (name, found, expected) = match (profile.multitenant_segment(), text.contains(TENANT), tenants.is_empty()) {
        (_, false, true) => return Ok((text.to_owned(), tenants)),
        (Some(word), true, false) => return Ok((text.replacen(TENANT, word, 1), tenants)),
        (Some(_), true, true) => ("tenants", "none", "a list of tenant ids, because the issuer has {tenantid}"),
        (None, _, _) => {
            let name = if tenants.is_empty() { "issuer" } else { "tenants" };
            let expected = "one issuer without tenants: the profile has no providers of several tenants";
            (name, "several tenants", expected)
        }
        (Some(_), false, false) => {
            let expected =
                "an issuer with {tenantid} (in this spelling) in the place of the tenant, because there are tenants";
            ("issuer", "an issuer without {tenantid}", expected)
        }
    };
    Err(fields.refuse(Code::TenantMismatch, name, found, expected))
}

/// Reads keys in the configuration. Unlike in a fetched set, every key must be usable.
fn jwks(fields: &Fields<'_>) -> Result<Option<KeySet>, Reported> {
    let Some(set) = fields.any_object("jwks")? else {
        return Ok(None);
    };
    if fields.has("jwks_uri") {
        return Err(fields.refuse(Code::TwoKeySources, "jwks_uri", "a value", "nothing: the keys are in jwks"));
    }
    let found = match KeySet::from_members(set) {
        None => "no key set".to_owned(),
        Some((keys, _)) if keys.is_empty() => "a set with no usable key".to_owned(),
        Some((_, skipped)) if !skipped.is_empty() => format!("a key that is of no use: {}", skipped.join("; ")),
        Some((keys, _)) => return Ok(Some(keys)),
    };
    Err(fields.refuse(Code::NotAKeySet, "jwks", &found, &Kind::KeySet.expected()))
}

/// Reads the source of the subject token, and the type by which an access token is sent if that is another one.
fn subject_token(
    fields: &Fields<'_>,
    profile: &'static dyn Profile,
) -> Result<(SubjectTokenSource, Option<Rc<str>>), Reported> {
    const NAME: &str = "type";
    let text = fields.required_text(NAME)?;
    let name = text.strip_prefix(oauth::TOKEN_TYPE).unwrap_or(text);
    let other = match name {
        "access_token" | "id_token" => None,
        "jwt" => Some(oauth::JWT),
        _ if text.contains(':') && text.bytes().all(|byte| matches!(byte, 0x21..=0x7E)) => Some(text),
        _ => {
            return Err(fields.refuse(Code::NotAUrn, NAME, &shown(text), "access_token, id_token, jwt, or a URI"));
        }
    };
    if other.is_some() && !profile.takes_subject_token_type() {
        let expected = "access_token or id_token: the profile sends no other type";
        return Err(fields.refuse(Code::NotUsedByProfile, NAME, &shown(text), expected));
    }
    Ok((subject_token_source(fields, name == "id_token")?, other.map(Rc::from)))
}

fn subject_token_source(fields: &Fields<'_>, is_id_token: bool) -> Result<SubjectTokenSource, Reported> {
    let audiences = fields.texts("audiences")?;
    let (header, cookie) = (fields.text("header")?, fields.text("cookie")?);
    let is_alone = header.is_none() && cookie.is_none() && audiences.is_empty();
    let (name, found, expected) = match (is_id_token, is_alone, header, cookie) {
        (false, true, ..) => return Ok(SubjectTokenSource::AccessToken),
        (true, true, ..) => return Ok(SubjectTokenSource::IdToken),
        (false, false, ..) => {
            let expected = "no header, cookie or audiences: the access token is the one in `authorization`";
            ("", "more than a type", expected)
        }
        (true, false, Some(_), None) | (true, false, None, Some(_)) if audiences.is_empty() => {
            ("audiences", "none", "a list with the id of the client that the user signed in to")
        }
        (true, false, Some(header), None) => {
            let source = TokenLocation::Header(header_name(fields, "header", header)?);
            return Ok(SubjectTokenSource::IdTokenBeside { source, audiences });
        }
        (true, false, None, Some(cookie)) => {
            let source = TokenLocation::Cookie(cookie_name(fields, "cookie", cookie)?);
            return Ok(SubjectTokenSource::IdTokenBeside { source, audiences });
        }
        (true, false, header, _) => {
            let found = if header.is_some() { "both header and cookie" } else { "neither header nor cookie" };
            let expected =
                "one of them, with audiences; or neither and no audiences, if the ID token is in `authorization`";
            ("", found, expected)
        }
    };
    Err(fields.refuse(Code::SubjectTokenMismatch, name, found, expected))
}
