//! The validated configuration. Operator bytes end in `fields`; past [`Config::parse`] there are only domain types.
//!
//! A mistake is refused with the path of the field, what was found and what is expected, because the operator
//! sees nothing but that line of Envoy's log (`envoy --mode validate` prints it too).

mod audiences;
mod client;
mod exchange;
mod provider;
mod reader;
mod resource;
mod struct_pb;

use std::fmt;
use std::ops::Deref;
use std::rc::Rc;
use std::time::Duration;

use reader::Fields;

use crate::provider::{ExchangeTarget, ProfileError, Provider, SubjectTokenSource, TokenLocation};
use crate::resource::{Requirement, Resource};
use crate::shared::SharedKey;
use crate::telemetry::SubjectDisplay;

/// How many tokens a worker remembers when the operator does not say.
const DEFAULT_CACHED_TOKENS: u32 = 10_000;

/// How many bytes of verified tokens a worker remembers when the operator does not say.
const DEFAULT_CACHED_BYTES: u32 = 32 * 1024 * 1024;

/// How long a request may wait for all that it lacks, in seconds, when the operator does not say.
const DEFAULT_LONGEST_WAIT: u32 = 30;

/// The most that it may be told to: at some kilobytes each, a worker's share of Envoy's memory.
const MOST_CACHED_TOKENS: u32 = 1_000_000;

/// The fewest characters of a secret of which the key of shared memory may be made: whoever reads a record can try short ones.
const FEWEST_SHARED_CHARACTERS: usize = 32;

/// Cookies in which Envoy's `oauth2` filter keeps tokens, by its default names
/// (envoy.extensions.filters.http.oauth2.v3.OAuth2Credentials.CookieNames).
const TOKEN_COOKIES: [&str; 3] = ["BearerToken", "IdToken", "RefreshToken"];

/// Everything the operator decided.
#[derive(Debug)]
pub struct Config {
    /// In order of their names.
    pub providers: Vec<Rc<Provider>>,
    /// As listed.
    pub resources: Vec<Rc<Resource>>,
    /// Every scope that one of them asks for, once.
    pub scopes: Vec<Rc<str>>,
    /// The header fields that bring ID tokens, assertions of clients, and tokens of actors, and others that the operator keeps
    /// from upstreams: none of them goes on.
    pub own_headers: Vec<String>,
    /// The cookies that bring ID tokens, and others that the operator keeps from upstreams.
    pub own_cookies: Vec<String>,
    /// Paths that are forwarded without a token, exactly as listed.
    pub open_paths: Vec<String>,
    /// The most verified tokens that are remembered.
    pub verified_tokens: usize,
    /// The most bytes that they take.
    pub verified_bytes: usize,
    /// The most exchanged tokens (and refusals) that are remembered.
    pub exchanged_tokens: usize,
    /// The most bytes that they take.
    pub exchanged_bytes: usize,
    /// The most exchanged tokens (and refusals) that all workers of a process share.
    pub shared_tokens: usize,
    /// The longest that a request may wait for all that it lacks.
    pub longest_wait: Duration,
    /// What is said of who did what.
    pub audit: Audit,
    /// What workers with this configuration have in common.
    pub shared_key: Rc<SharedKey>,
    /// What the operator should know although it is no mistake.
    pub warnings: Vec<String>,
}

/// What is said of who did what.
#[derive(Clone, Copy, Debug)]
pub struct Audit {
    /// What is shown of users.
    pub subjects: SubjectDisplay,
    /// Whether the access log is told of requests, too, whose token was in the cache.
    pub hits: bool,
}

/// A mistake in the configuration.
#[derive(Debug, PartialEq, Eq)]
pub struct ConfigError(Box<Finding>);

/// The parts of a [`ConfigError`], which has them in a box so that reading a field hands over a pointer at most.
#[derive(Debug, PartialEq, Eq)]
pub struct Finding {
    /// Where: `identity_providers.acme.client.id`, `resources[0].url`.
    pub path: String,
    /// What is there; never a secret.
    pub found: String,
    /// What should be.
    pub expected: String,
}

impl Deref for ConfigError {
    type Target = Finding;

    fn deref(&self) -> &Finding {
        &self.0
    }
}

impl ConfigError {
    pub(crate) fn new(path: impl Into<String>, found: impl Into<String>, expected: impl Into<String>) -> Self {
        Self(Box::new(Finding { path: path.into(), found: found.into(), expected: expected.into() }))
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "configuration error at {}: found {}, expected {}", self.path, self.found, self.expected)
    }
}

impl std::error::Error for ConfigError {}

impl Config {
    /// Reads a configuration (JSON). `env` gives the value of an environment variable.
    pub fn parse(bytes: &[u8], env: &dyn Fn(&str) -> Option<String>) -> Result<Self, ConfigError> {
        let members = reader::read(bytes)?;
        let root = Fields::root(
            &members,
            &[
                "identity_providers",
                "resources",
                "open_paths",
                "cache",
                "audit",
                "longest_wait_seconds",
                "shared_secret",
                "request_headers_to_remove",
                "request_cookies_to_remove",
            ],
        )?;
        let mut warnings = Vec::new();
        let providers = provider::build_all(&root, env, &mut warnings)?;
        let (providers, resources) = resource::build_all(&root, providers, env, &mut warnings)?;
        let open_paths = root.texts("open_paths")?;
        for (index, path) in open_paths.iter().enumerate() {
            if !crate::path::is_normal(path) {
                let (found, expected) = (format!("{path:?}"), "a path in normal form, without query and parameters");
                return Err(ConfigError::new(format!("open_paths[{index}]"), found, expected));
            }
            let holds = |resource: &Rc<Resource>| {
                let prefix = crate::path::without_final_slash(resource.url.path());
                !prefix.is_empty() && crate::path::is_under(path, prefix)
            };
            if let Some(at) = resources.iter().position(holds) {
                warnings
                    .push(format!("open_paths[{index}]: forwarded without a token, although it is in resources[{at}]"));
            }
        }
        let cache = root.object(
            "cache",
            &["verified_tokens", "verified_bytes", "exchanged_tokens", "exchanged_bytes", "shared_tokens"],
        )?;
        let size = |name: &str, least: u32, most: u32, default: u32, unit: &str| {
            let size = cache.as_ref().map_or(Ok(None), |cache| cache.number(name, least, most, unit))?;
            Ok(usize::try_from(size.unwrap_or(default)).unwrap_or(usize::MAX))
        };
        let tokens = |name: &str, least: u32| size(name, least, MOST_CACHED_TOKENS, DEFAULT_CACHED_TOKENS, "tokens");
        let audit = audit(&root)?;
        let shared_key = Rc::new(shared_key(&root, &providers, &resources, env, &mut warnings)?);
        let mut scopes: Vec<Rc<str>> = Vec::new();
        for scope in resources.iter().flat_map(|resource| &resource.scopes) {
            if !scopes.iter().any(|known| **known == **scope) {
                scopes.push(scope.as_str().into());
            }
        }
        let targets = resources.iter().flat_map(|resource| &resource.exchanges).map(|exchange| &exchange.target);
        let of_actors = targets.filter_map(|target| target.exchange()?.actor_token()?.header());
        let of_providers = providers.iter().flat_map(|provider| {
            let client = provider.client.as_ref().and_then(|client| client.authentication.header());
            [provider.subject_token.header(), client].into_iter().flatten()
        });
        let mut own_headers: Vec<String> = Vec::new();
        for header in of_actors.chain(of_providers) {
            if !own_headers.iter().any(|known| known == header) {
                own_headers.push(header.to_owned());
            }
        }
        for (index, name) in root.texts("request_headers_to_remove")?.iter().enumerate() {
            own_headers.push(provider::header_name(&format!("request_headers_to_remove[{index}]"), name)?);
        }
        let mut own_cookies: Vec<String> = TOKEN_COOKIES.map(str::to_owned).to_vec();
        own_cookies.extend(providers.iter().filter_map(|provider| match &provider.subject_token {
            SubjectTokenSource::IdTokenBeside { source: TokenLocation::Cookie(name), .. } => Some(name.clone()),
            _ => None,
        }));
        for (index, name) in root.texts("request_cookies_to_remove")?.iter().enumerate() {
            own_cookies.push(provider::cookie_name(&format!("request_cookies_to_remove[{index}]"), name)?);
        }
        Ok(Self {
            scopes,
            own_headers,
            own_cookies,
            verified_tokens: tokens("verified_tokens", 0)?,
            verified_bytes: size("verified_bytes", 0, u32::MAX, DEFAULT_CACHED_BYTES, "bytes")?,
            // Waiting requests get their token from the cache of exchanged ones: it cannot be switched off.
            exchanged_tokens: tokens("exchanged_tokens", 1)?,
            exchanged_bytes: size("exchanged_bytes", 0, u32::MAX, DEFAULT_CACHED_BYTES, "bytes")?,
            shared_tokens: tokens("shared_tokens", 0)?,
            longest_wait: Duration::from_secs(
                root.number("longest_wait_seconds", 1, 120, "seconds")?.unwrap_or(DEFAULT_LONGEST_WAIT).into(),
            ),
            providers,
            resources,
            open_paths,
            audit,
            shared_key,
            warnings,
        })
    }

    /// Whether what a connection says of its client's certificate is of interest to any resource.
    pub fn takes_certificates(&self) -> bool {
        self.resources.iter().any(|resource| resource.certificates != Requirement::Off)
    }
}

fn audit(root: &Fields<'_>) -> Result<Audit, ConfigError> {
    let Some(fields) = root.object("audit", &["subjects", "hits"])? else {
        return Ok(Audit { subjects: SubjectDisplay::default(), hits: false });
    };
    let subjects = match fields.text("subjects")? {
        None | Some("plain") => SubjectDisplay::Plain,
        Some("hashed") => SubjectDisplay::Hashed,
        Some("none") => SubjectDisplay::None,
        Some(other) => {
            return Err(ConfigError::new(fields.at("subjects"), format!("{other:?}"), "plain, hashed or none"));
        }
    };
    Ok(Audit { subjects, hits: fields.truth("hits")? })
}

/// The key of what workers share, made of every secret that there is.
fn shared_key(
    root: &Fields<'_>,
    providers: &[Rc<Provider>],
    resources: &[Rc<Resource>],
    env: client::Environment<'_>,
    warnings: &mut Vec<String>,
) -> Result<SharedKey, ConfigError> {
    let targets = resources.iter().flat_map(|resource| &resource.exchanges).map(|exchange| &exchange.target);
    let targets = targets.filter_map(ExchangeTarget::exchange).filter(|target| !target.has_one_client());
    let elsewhere = targets.filter_map(|target| Some(&target.authorization_server()?.client));
    let clients = providers.iter().filter_map(|provider| provider.client.as_ref()).chain(elsewhere);
    let secrets: Vec<&[u8]> = clients.filter_map(|client| client.authentication.secret()).collect();
    if !root.has("shared_secret") && secrets.is_empty() {
        let expected = "{env: NAME} with a random secret (openssl rand -base64 32 makes one): workers share keys and tokens in memory that other plugins can read and write, and no client here has a secret to protect that with";
        return Err(ConfigError::new("shared_secret", "nothing", expected));
    }
    let own = match root.has("shared_secret") {
        true => Some(client::secret(root, "shared_secret", env, warnings)?),
        false => None,
    };
    if let Some(count) =
        own.as_ref().map(|own| own.reveal().chars().count()).filter(|count| *count < FEWEST_SHARED_CHARACTERS)
    {
        let expected = format!("at least {FEWEST_SHARED_CHARACTERS} (openssl rand -base64 32 makes a good one)");
        return Err(ConfigError::new("shared_secret", format!("{count} characters"), expected));
    }
    if own.is_none() && secrets.iter().all(|secret| secret.len() < FEWEST_SHARED_CHARACTERS) {
        warnings.push(format!(
            "shared_secret: it is not set, and every client secret has less than {FEWEST_SHARED_CHARACTERS} characters: whoever sees a DPoP-Nonce, a hashed subject or Envoy's shared data can try what they are"
        ));
    }
    let own = own.as_ref().map(|own| own.reveal().as_bytes());
    Ok(SharedKey::from_secrets(own.into_iter().chain(secrets)))
}

/// The error of a profile, with the path of `fields` in front of its field.
fn profile_error(fields: &Fields<'_>, error: ProfileError) -> ConfigError {
    let path = if error.field.is_empty() { fields.path().to_owned() } else { fields.at(error.field) };
    ConfigError::new(path, error.found, error.expected)
}

/// What an error shows of a URL that is none: not one with user information, which may be a password.
fn shown(url: &str, problem: &str) -> String {
    if url.contains('@') {
        format!("something with an @ in it, which {problem}")
    } else {
        format!("{url:?}, which {problem}")
    }
}

/// What is there where one of two fields should be.
fn either(is_first: bool, [first, second]: [&str; 2]) -> String {
    if is_first { format!("both {first} and {second}") } else { format!("neither {first} nor {second}") }
}

/// Warns of words of recipes, which the operator should have filled in: `CLIENT_ID`, also in `api://CLIENT_ID`.
fn find_placeholders(path: &str, texts: &[String], warnings: &mut Vec<String>) {
    for text in texts {
        find_placeholder(path, text, warnings);
    }
}

fn find_placeholder(path: &str, text: &str, warnings: &mut Vec<String>) {
    let is_part = |part: &str| !part.is_empty() && part.bytes().all(|byte| matches!(byte, b'A'..=b'Z' | b'0'..=b'9'));
    let is_placeholder = |word: &&str| {
        word.contains('_') && word.starts_with(|first: char| first.is_ascii_uppercase()) && word.split('_').all(is_part)
    };
    let mut words = text.split(|character: char| !character.is_ascii_alphanumeric() && character != '_');
    if let Some(word) = words.find(is_placeholder) {
        warnings.push(format!("{path}: {word} looks like a word of a recipe that is still to be replaced"));
    }
}

/// RFC 6749 section 3.3: what a scope token is made of.
fn check_scopes(path: &str, scopes: &[String]) -> Result<(), ConfigError> {
    for (index, scope) in scopes.iter().enumerate() {
        if !scope.bytes().all(|byte| matches!(byte, 0x21 | 0x23..=0x5B | 0x5D..=0x7E)) {
            let expected = "one scope: printable ASCII without spaces, quotes and backslashes (RFC 6749 section 3.3)";
            return Err(ConfigError::new(format!("{path}[{index}]"), format!("{scope:?}"), expected));
        }
    }
    Ok(())
}
