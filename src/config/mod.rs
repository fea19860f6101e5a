//! Configuration: reads and validates the operator's options. Past [`Config::parse`] there are only domain types.
//!
//! `options` is the table of all options, `check` compares a document with it, `reader` hands out the fields of an object,
//! and the other files build the types of the engine. Every mistake is reported with its path, the found kind and the
//! expected value, because Envoy's log and `envoy --mode validate` show nothing else of it.

mod audiences;
mod check;
mod client;
mod defaults;
mod error;
mod exchange;
mod findings;
mod names;
pub mod options;
mod provider;
mod reader;
mod resource;
mod secrets;
mod shared_key;
mod struct_pb;

use std::rc::Rc;
use std::time::Duration;

use rustc_hash::{FxHashMap, FxHashSet};

use check::item;
use findings::{Context, Environment, Reported};
use reader::Fields;
use resource::Built;

pub use error::{Code, ConfigError, Finding, MAX_FINDINGS};

use crate::path;
use crate::provider::{ActorToken, ProfileError, Provider, SubjectTokenSource, TokenExchangeTarget, TokenLocation};
use crate::resource::{AudienceIndex, Requirement, Resource, RouteTable};
use crate::secret::shown;
use crate::shared::SharedKey;
use crate::telemetry::SubjectDisplay;
use crate::url::Url;

/// Cookies in which Envoy's `oauth2` filter keeps tokens, by its default names
/// (envoy.extensions.filters.http.oauth2.v3.OAuth2Credentials.CookieNames).
const TOKEN_COOKIES: [&str; 3] = ["BearerToken", "IdToken", "RefreshToken"];

/// Expected value of a path.
const NORMAL_PATH: &str =
    "a path in normal form: no query, parameters, patterns, empty segments, dot segments and needless escapes";

/// Validated configuration.
#[derive(Debug)]
pub struct Config {
    /// Identity providers, in order of their names.
    pub providers: Vec<Rc<Provider>>,
    /// Identity providers by `iss` of their tokens; those with the same one are in order of their names.
    pub issuers: FxHashMap<String, Vec<Rc<Provider>>>,
    /// Resources, in the order of the document.
    pub resources: Vec<Rc<Resource>>,
    /// Scopes of all resources, each once.
    pub scopes: FxHashSet<Rc<str>>,
    /// Request header fields that no upstream receives: those that carry ID tokens, client assertions and actor tokens,
    /// and `request_headers_to_remove`. In lower case.
    pub own_headers: Vec<String>,
    /// Cookies that no upstream receives: those that carry ID tokens, and `request_cookies_to_remove`.
    pub own_cookies: Vec<String>,
    /// Resources by the audiences of their own.
    pub audiences: AudienceIndex,
    /// Resources by host and path, and the paths that are forwarded without a token.
    pub routes: RouteTable,
    /// Maximum number of verified tokens in a worker.
    pub verified_tokens: usize,
    /// Maximum size of verified tokens in a worker, in bytes.
    pub verified_bytes: usize,
    /// Maximum number of exchanged tokens and refusals in a worker.
    pub exchanged_tokens: usize,
    /// Maximum size of exchanged tokens and refusals in a worker, in bytes.
    pub exchanged_bytes: usize,
    /// Maximum number of exchanged tokens and refusals that all workers of a process share.
    pub shared_tokens: usize,
    /// Maximum time that a request waits for keys and for its token together.
    pub max_wait: Duration,
    /// Contents of log lines and of the access log.
    pub audit: Audit,
    /// Key that workers with this configuration have in common.
    pub shared_key: Rc<SharedKey>,
    /// Facts that the operator should know although they are no mistakes.
    pub warnings: Vec<String>,
}

/// Contents of log lines and of the access log.
#[derive(Clone, Copy, Debug)]
pub struct Audit {
    /// Form of user identifiers.
    pub subjects: SubjectDisplay,
    /// `true`: filter state has the facts of requests, too, whose token was in the cache.
    pub hits: bool,
    /// `true`: the log has the provider's descriptions of errors.
    pub error_descriptions: bool,
}

impl Config {
    /// Reads a configuration: JSON text, or a serialised `google.protobuf.Struct`. `env` returns the value of an
    /// environment variable.
    ///
    /// # Errors
    ///
    /// All mistakes in the order of the document, [`MAX_FINDINGS`] at most. Mistakes that follow from another one at the
    /// same place are left out.
    pub fn parse(bytes: &[u8], env: Environment<'_>) -> Result<Self, ConfigError> {
        let members = reader::read(bytes)?;
        let defaults = defaults::of_resources(&members);
        let context = Context::new(env, &defaults);
        let root = Fields::root(&members, &context);
        let config = Self::build(&root);
        context.finish(config, &members)
    }

    fn build(root: &Fields<'_>) -> Result<Self, Reported> {
        let Built { providers, resources, mut routes } = resource::build_all(root, provider::build_all(root));
        let unauthenticated_paths = unauthenticated_paths(root, resources.is_ok(), &mut routes);
        let audit = audit(root);
        let shared_key = shared_key::shared_key(root, &providers, resources.as_deref().ok());
        let headers = removed(root, "request_headers_to_remove", names::header_name);
        let cookies = removed(root, "request_cookies_to_remove", names::cookie_name);
        let cache = root.object("cache");
        let sizes = ["verified_tokens", "verified_bytes", "exchanged_tokens", "exchanged_bytes", "shared_tokens"];
        let sizes = sizes.map(|name| match &cache {
            Ok(Some(cache)) => cache.number(name),
            _ => reader::default(&options::CACHE, name),
        });
        // All at once, so that the values are dropped in one place.
        let (
            (Ok(providers), Ok(resources), Ok(_), Ok(max_wait), Ok(shared_key)),
            (Ok(()), Ok(audit), Ok(mut headers), Ok(mut cookies)),
            [Ok(verified_tokens), Ok(verified_bytes), Ok(exchanged_tokens), Ok(exchanged_bytes), Ok(shared_tokens)],
        ) = (
            (providers.all(), resources, cache, root.number("max_wait_seconds"), shared_key),
            (unauthenticated_paths, audit, headers, cookies),
            sizes,
        )
        else {
            return Err(Reported::DEPENDS);
        };
        let scopes: FxHashSet<Rc<str>> =
            resources.iter().flat_map(|resource| &resource.scopes).map(|scope| scope.as_str().into()).collect();
        let mut own_cookies = TOKEN_COOKIES.map(str::to_owned).to_vec();
        for provider in &providers {
            if let SubjectTokenSource::IdTokenBeside { source: TokenLocation::Cookie(name), .. } =
                &provider.subject_token
            {
                own_cookies.push(name.clone());
            }
        }
        own_cookies.append(&mut cookies);
        let mut issuers: FxHashMap<String, Vec<Rc<Provider>>> = FxHashMap::default();
        for provider in &providers {
            for issuer in provider.profile.token_issuers(provider) {
                issuers.entry(issuer).or_default().push(provider.clone());
            }
        }
        let mut own_headers = token_headers(&providers, &resources);
        own_headers.append(&mut headers);
        let size = |number: u32| usize::try_from(number).unwrap_or(usize::MAX);
        Ok(Self {
            issuers,
            scopes,
            own_headers,
            own_cookies,
            verified_tokens: size(verified_tokens),
            verified_bytes: size(verified_bytes),
            exchanged_tokens: size(exchanged_tokens),
            exchanged_bytes: size(exchanged_bytes),
            shared_tokens: size(shared_tokens),
            max_wait: Duration::from_secs(max_wait.into()),
            audiences: AudienceIndex::of(&resources),
            routes,
            audit,
            shared_key: Rc::new(shared_key),
            warnings: root.context.take_warnings(),
            providers,
            resources,
        })
    }

    /// Returns `true` if any resource uses the certificates of clients.
    pub fn takes_certificates(&self) -> bool {
        self.resources.iter().any(|resource| resource.certificates != Requirement::Off)
    }
}

/// Reads the paths that need no token, and warns of those in a resource unless one is mistaken.
fn unauthenticated_paths(root: &Fields<'_>, is_complete: bool, routes: &mut RouteTable) -> Result<(), Reported> {
    for (index, path) in root.texts("unauthenticated_paths")?.iter().enumerate() {
        let at = item("unauthenticated_paths", index);
        if !path::is_normal(path) {
            return Err(root.refuse(Code::NotANormalPath, &at, &shown(path), NORMAL_PATH));
        }
        if let Some(resource) = routes.covering(path).filter(|_| is_complete) {
            root.warn(&at, format_args!("forwarded without a token, although it is in resources[{}]", resource.id.0));
        }
        routes.add_unauthenticated(path);
    }
    Ok(())
}

fn audit(root: &Fields<'_>) -> Result<Audit, Reported> {
    let Some(fields) = root.object("audit")? else {
        return Ok(Audit { subjects: SubjectDisplay::default(), hits: false, error_descriptions: false });
    };
    let subjects = match fields.text("subjects")? {
        Some("hashed") => SubjectDisplay::Hashed,
        Some("none") => SubjectDisplay::None,
        _ => SubjectDisplay::Plain,
    };
    let (hits, error_descriptions) = (fields.truth("hits")?, fields.truth("error_descriptions")?);
    Ok(Audit { subjects, hits, error_descriptions })
}

/// Returns the header fields that carry actor tokens, ID tokens and client assertions, each once.
fn token_headers(providers: &[Rc<Provider>], resources: &[Rc<Resource>]) -> Vec<String> {
    let mut headers = FxHashSet::default();
    let mut add = |header: Option<&str>| headers.extend(header.map(str::to_owned));
    for exchange in resources.iter().flat_map(|resource| &resource.exchanges) {
        let actor_token = exchange.target.exchange().and_then(TokenExchangeTarget::actor_token);
        add(actor_token.and_then(ActorToken::header));
    }
    for provider in providers {
        add(provider.subject_token.header());
        add(provider.client.as_ref().and_then(|client| client.authentication.header()));
    }
    headers.into_iter().collect()
}

/// Reads a list of names of header fields or cookies that no upstream receives.
fn removed(
    root: &Fields<'_>,
    name: &str,
    check: fn(&Fields<'_>, &str, &str) -> Result<String, Reported>,
) -> Result<Vec<String>, Reported> {
    let names = root.texts(name)?;
    names.iter().enumerate().map(|(index, text)| check(root, &item(name, index), text)).collect()
}

/// Reads a URL.
fn url(fields: &Fields<'_>, name: &str, text: &str, expected: &str) -> Result<Url, Reported> {
    Url::parse(text).map_err(|problem| not_a_url(fields, name, text, problem, expected))
}

/// Reads the optional URL of an endpoint, which may have a query.
fn optional_endpoint(fields: &Fields<'_>, name: &str, expected: &str) -> Result<Option<Url>, Reported> {
    let read = |text| Url::parse_endpoint(text).map_err(|problem| not_a_url(fields, name, text, problem, expected));
    fields.text(name)?.map(read).transpose()
}

fn not_a_url(fields: &Fields<'_>, name: &str, text: &str, problem: &str, expected: &str) -> Reported {
    fields.refuse(Code::NotAUrl, name, &format!("{}, which {problem}", shown(text)), expected)
}

/// Reads an optional URL.
fn optional_url(fields: &Fields<'_>, name: &str, expected: &str) -> Result<Option<Url>, Reported> {
    fields.text(name)?.map(|text| url(fields, name, text, expected)).transpose()
}

/// Refuses what the profile of the provider refuses.
fn refused_by_profile(fields: &Fields<'_>, error: ProfileError) -> Reported {
    fields.refuse(Code::RefusedByProfile, error.field, &error.found, error.expected)
}

/// Warns of placeholders of recipes that the operator has not replaced: `CLIENT_ID`, also in `api://CLIENT_ID`.
fn find_placeholders(fields: &Fields<'_>, name: &str, texts: &[String]) {
    for text in texts {
        find_placeholder(fields, name, text);
    }
}

fn find_placeholder(fields: &Fields<'_>, name: &str, text: &str) {
    let is_placeholder = |word: &&str| {
        word.contains('_')
            && word.starts_with(|first: char| first.is_ascii_uppercase())
            && !word.ends_with('_')
            && !word.contains("__")
            && word.bytes().all(|byte| matches!(byte, b'A'..=b'Z' | b'0'..=b'9' | b'_'))
    };
    let mut words = text.split(|character: char| !character.is_ascii_alphanumeric() && character != '_');
    if let Some(word) = words.find(is_placeholder) {
        fields.warn(name, format_args!("{word} looks like a placeholder of a recipe"));
    }
}

/// Reads a list of scope tokens (RFC 6749 section 3.3).
fn scopes(fields: &Fields<'_>, name: &str) -> Result<Vec<String>, Reported> {
    let scopes = fields.texts(name)?;
    for (index, scope) in scopes.iter().enumerate() {
        if !scope.bytes().all(|byte| matches!(byte, 0x21 | 0x23..=0x5B | 0x5D..=0x7E)) {
            let expected = "one scope: printable ASCII without spaces, quotes and backslashes (RFC 6749 section 3.3)";
            return Err(fields.refuse(Code::NotAScope, &item(name, index), &shown(scope), expected));
        }
    }
    Ok(scopes)
}
