use std::time::Duration;

use super::fields::Fields;
use super::{ConfigError, Provider, SubjectToken, check_scopes};
use crate::http::Url;
use crate::idp::{Presentation, Target};
use crate::json;
use crate::mcp::metadata;
use crate::path;
use crate::secret::Secret;

/// Something behind Envoy that has tokens of its own: an MCP server, an API (RFC 9728 section 1.2).
#[derive(Debug)]
pub struct Resource {
    /// Its resource identifier, and with host and path also what requests are its.
    pub url: Url,
    /// Scopes that a caller's token must have, every one.
    pub scopes: Vec<String>,
    /// Scopes as clients must ask for them: in metadata and challenges. Some providers want a longer form
    /// there than what their tokens carry.
    pub scopes_supported: Vec<String>,
    /// Whether tokens must be bound to a key that their holder proves to have (RFC 9449).
    pub dpop: Dpop,
    /// Whether tokens must be bound to the certificate of the connection (RFC 8705 section 3).
    pub certificates: Bound,
    /// What to ask each provider for, by its index; `None` where users of the provider have no business.
    pub targets: Vec<Option<Target>>,
}

impl Resource {
    /// Whether any token goes to it with a proof.
    pub fn takes_proofs(&self) -> bool {
        let is_proved = |target: &Target| matches!(target.presentation, Presentation::Dpop { .. });
        self.targets.iter().flatten().any(is_proved)
    }
}

/// Whether the tokens of a resource's callers are bound to something that a thief does not have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Bound {
    /// Bound ones are refused: nobody looks for the proof.
    #[default]
    Off,
    /// Bound ones are proved, others are taken as they are.
    Optional,
    /// Others are refused.
    Required,
}

/// What a resource wants of proofs.
#[derive(Clone, Debug)]
pub struct Dpop {
    /// Whether it wants any.
    pub mode: Bound,
    /// Whether proofs must have a nonce of ours in them (RFC 9449 section 9).
    pub nonce: bool,
    /// How far the time of a proof may be from now.
    pub max_age: Duration,
}

/// How far the time of a proof may be from now, if the operator does not say.
const DEFAULT_PROOF_AGE: u32 = 300;

/// What to ask a provider for, as the operator wrote it; which fields make sense is the profile's to say.
#[derive(Debug, Default)]
pub struct RawExchange {
    /// `audience`: none, one, or several.
    pub audiences: Vec<String>,
    /// `resource`: none, one, or several.
    pub resources: Vec<String>,
    /// `scopes`.
    pub scopes: Vec<String>,
    /// `requested_token_type`.
    pub requested_token_type: Option<String>,
    /// `claims`: JSON text.
    pub claims: Option<String>,
    /// Parameters that no profile knows, none of them one that it does.
    pub parameters: Vec<(String, Secret)>,
}

const FIELDS: [&str; 6] = ["url", "scopes", "scopes_supported", "dpop", "certificate_bound_tokens", "exchange"];

const EXCHANGE_FIELDS: [&str; 8] =
    ["audience", "resource", "scopes", "requested_token_type", "claims", "parameters", "presented_as", "upstream_url"];

/// Every resource, as listed.
pub(super) fn build_all(
    root: &Fields<'_>,
    providers: &[Provider],
    warnings: &mut Vec<String>,
) -> Result<Vec<Resource>, ConfigError> {
    let mut resources: Vec<Resource> = Vec::new();
    for fields in root.objects("resources", &FIELDS)? {
        let resource = build(&fields, providers, warnings)?;
        let same = |other: &Resource| {
            other.url.authority() == resource.url.authority()
                && path::without_final_slash(other.url.path()) == path::without_final_slash(resource.url.path())
        };
        if let Some(other) = resources.iter().position(same) {
            return Err(ConfigError::new(
                fields.at("url"),
                format!("host and path of resources[{other}]"),
                "a host and path of its own (a longer path under another resource is fine)",
            ));
        }
        resources.push(resource);
    }
    Ok(resources)
}

fn build(fields: &Fields<'_>, providers: &[Provider], warnings: &mut Vec<String>) -> Result<Resource, ConfigError> {
    let text = fields.required_text("url", "the https URL that clients use")?;
    let url = Url::parse(text).map_err(|problem| {
        ConfigError::new(fields.at("url"), super::shown(text, problem), "the https URL that clients use")
    })?;
    if !url.path().is_empty() && !path::is_normal(url.path()) {
        let expected = "a path in normal form (no empty or dot segments, no parameters, no patterns, no escapes that are not needed)";
        return Err(ConfigError::new(fields.at("url"), format!("{text:?}"), expected));
    }
    if path::is_under(url.path(), metadata::WELL_KNOWN) {
        let expected = "a path that is not where the metadata of resources is";
        return Err(ConfigError::new(fields.at("url"), format!("{text:?}"), expected));
    }
    let scopes = |fields: &Fields<'_>, name: &str| {
        let scopes = fields.texts(name)?;
        check_scopes(&fields.at(name), &scopes)?;
        Ok(scopes)
    };
    let needed = scopes(fields, "scopes")?;
    let scopes_supported =
        if fields.has("scopes_supported") { scopes(fields, "scopes_supported")? } else { needed.clone() };
    let dpop = match fields.object("dpop", &["mode", "nonce", "max_age_seconds"])? {
        None => Dpop { mode: Bound::Off, nonce: false, max_age: Duration::ZERO },
        Some(fields) => {
            let seconds = fields.number("max_age_seconds", 10, 600, "seconds")?.unwrap_or(DEFAULT_PROOF_AGE);
            fields.required_text("mode", BOUND)?;
            Dpop {
                mode: bound(&fields, "mode")?,
                nonce: fields.truth("nonce")?,
                max_age: Duration::from_secs(seconds.into()),
            }
        }
    };
    let certificates = bound(fields, "certificate_bound_tokens")?;
    let path_of_scopes = fields.at("scopes");
    let mut targets: Vec<Option<Target>> = providers.iter().map(|_| None).collect();
    for (name, fields) in fields.named_objects("exchange", &EXCHANGE_FIELDS)? {
        let found = providers.iter().zip(targets.iter_mut()).find(|(provider, _)| *provider.name == *name);
        let Some((provider, slot)) = found else {
            let names: Vec<&str> = providers.iter().map(|provider| &*provider.name).collect();
            return Err(ConfigError::new(
                fields.path(),
                "a name that no provider has",
                format!("a name from identity_providers: {}", names.join(", ")),
            ));
        };
        if matches!(provider.subject_token, SubjectToken::IdToken) {
            // Nobody of that provider could come in.
            let lacks = |what: &str| {
                let found = format!("a wish that no ID token of {name} can meet: {what}");
                ConfigError::new(fields.path(), found, "a resource of its own for users with ID tokens")
            };
            if !needed.is_empty() {
                return Err(lacks("scopes"));
            }
            if dpop.mode == Bound::Required || certificates == Bound::Required {
                return Err(lacks("that it is bound"));
            }
        }
        let exchange = RawExchange {
            audiences: fields.one_or_more("audience")?,
            resources: fields.one_or_more("resource")?,
            scopes: scopes(&fields, "scopes")?,
            requested_token_type: fields.text("requested_token_type")?.map(str::to_owned),
            claims: claims(&fields, provider)?,
            parameters: parameters(&fields)?,
        };
        for (index, scope) in needed.iter().enumerate() {
            let doubt = provider.profile.doubt(scope);
            warnings.extend(doubt.map(|doubt| format!("{path_of_scopes}[{index}]: with {name}, {doubt}")));
        }
        let target = provider.profile.target(provider, exchange);
        let target = target.map_err(|(field, found, expected)| {
            ConfigError::new(format!("{}{field}", fields.path()), found, expected)
        })?;
        *slot = Some(Target { presentation: presentation(&fields, provider)?, ..target });
    }
    Ok(Resource { url, scopes: needed, scopes_supported, dpop, certificates, targets })
}

/// What the operator wants to be in the token (OpenID Connect Core section 5.5).
fn claims(fields: &Fields<'_>, provider: &Provider) -> Result<Option<String>, ConfigError> {
    let Some(claims) = fields.any_object("claims")? else {
        return Ok(None);
    };
    let wrong = |found: &str, expected: &str| Err(ConfigError::new(fields.at("claims"), found, expected));
    if !provider.profile.takes_claims() {
        return wrong("a value", "none: this profile has no such parameter");
    }
    let is_well_formed = !claims.is_empty() && claims.members().all(|(_, value)| value.as_object().is_some());
    if !is_well_formed {
        return wrong("another form", "an object of objects, such as {access_token: {xms_cc: {values: [cp1]}}}");
    }
    Ok(Some(json::text(claims.members().map(|(name, value)| (name, value.clone())))))
}

/// Parameters of token requests that are set by fields of their own, or by the exchange itself.
const RESERVED: [&str; 31] = [
    "access_token",
    "actor_token",
    "actor_token_type",
    "assertion",
    "audience",
    "auth_req_id",
    "claims",
    "client_assertion",
    "client_assertion_type",
    "client_id",
    "client_secret",
    "code",
    "code_verifier",
    "device_code",
    "grant_type",
    "password",
    "redirect_uri",
    "refresh_token",
    "request",
    "request_uri",
    "requested_issuer",
    "requested_subject",
    "requested_token_type",
    "requested_token_use",
    "resource",
    "scope",
    "subject_issuer",
    "subject_token",
    "subject_token_type",
    "token",
    "username",
];

/// Parameters that the operator's provider wants beside those that are known (RFC 6749 section 8.2).
fn parameters(fields: &Fields<'_>) -> Result<Vec<(String, Secret)>, ConfigError> {
    let named = fields.named_texts("parameters")?;
    // RFC 6749 appendix A, `param-name`; some servers take `.` and `-` for `_`.
    let is_name = |name: &str| {
        !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte))
    };
    let is_reserved = |name: &str| RESERVED.contains(&name.to_ascii_lowercase().replace(['.', '-'], "_").as_str());
    let expected = "names of letters, digits, -, . and _ that no other field sets and the exchange does not either";
    for (name, _) in &named {
        // Somebody may have written a secret where its name should be.
        let found = match (is_name(name), is_reserved(name)) {
            (true, false) => continue,
            (_, true) => format!("the name {name:?}"),
            (false, false) => "a name that is none".to_owned(),
        };
        return Err(ConfigError::new(fields.at("parameters"), found, expected));
    }
    Ok(named.into_iter().map(|(name, value)| (name, Secret::new(value))).collect())
}

/// How the exchanged token goes to the upstream.
fn presentation(fields: &Fields<'_>, provider: &Provider) -> Result<Presentation, ConfigError> {
    const SCHEMES: &str = "bearer or dpop";
    match fields.text("presented_as")? {
        None | Some("bearer") if fields.has("upstream_url") => {
            let expected = "nothing: only proofs (presented_as: dpop) name the URL of the upstream";
            Err(ConfigError::new(fields.at("upstream_url"), "a value", expected))
        }
        None | Some("bearer") => Ok(Presentation::Bearer),
        Some("dpop") if provider.client.dpop.is_none() => {
            let expected = format!("bearer, or a key in identity_providers.{}.client.dpop", provider.name);
            Err(ConfigError::new(fields.at("presented_as"), "\"dpop\"", expected))
        }
        Some("dpop") => {
            let url = |text: &str| {
                let expected = "the https URL that the upstream has for itself";
                Url::parse(text).map_err(|problem| {
                    ConfigError::new(fields.at("upstream_url"), super::shown(text, problem), expected)
                })
            };
            Ok(Presentation::Dpop { url: fields.text("upstream_url")?.map(url).transpose()? })
        }
        Some(other) => Err(ConfigError::new(fields.at("presented_as"), format!("{other:?}"), SCHEMES)),
    }
}

const BOUND: &str = "off, optional or required";

fn bound(fields: &Fields<'_>, name: &str) -> Result<Bound, ConfigError> {
    match fields.text(name)? {
        None | Some("off") => Ok(Bound::Off),
        Some("optional") => Ok(Bound::Optional),
        Some("required") => Ok(Bound::Required),
        Some(other) => Err(ConfigError::new(fields.at(name), format!("{other:?}"), BOUND)),
    }
}
