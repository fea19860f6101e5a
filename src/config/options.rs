//! Option table: name, type, default, presence, one description and one example of every option.
//!
//! The reader takes its checks and the expected values of its errors from the table. `docs/configuration.md` and
//! `docs/configuration.schema.json` are generated from it (`make docs`). Descriptions and examples are compiled natively
//! only, not into the module. The file holds data, so it may be longer than 500 lines.

use std::borrow::Cow;

use crate::provider;

/// Options of one object.
#[derive(Debug)]
pub struct Group {
    /// Options in the order of the documentation.
    pub options: &'static [OptionSpec],
    /// Two options of which exactly one is required, and the expected value of the object in an error.
    pub exactly_one: Option<([&'static str; 2], &'static str)>,
    /// Purpose of the object.
    #[cfg(not(target_arch = "wasm32"))]
    pub description: &'static str,
}

/// One option.
#[derive(Debug)]
pub struct OptionSpec {
    /// Name in its object. The full name is the dotted path to the object and this name.
    pub name: &'static str,
    /// Type of the value.
    pub kind: Kind,
    /// Condition under which the option is required or allowed.
    pub presence: &'static Presence,
    /// Description for the documentation.
    #[cfg(not(target_arch = "wasm32"))]
    pub docs: Docs,
}

/// Description of an option.
#[cfg(not(target_arch = "wasm32"))]
#[derive(Debug)]
pub struct Docs {
    /// Value that applies without the option. Empty: the type or the presence says it, as for booleans and whole numbers.
    pub default: &'static str,
    /// Condition that [`Presence`] does not state. Empty: there is none.
    pub required: &'static str,
    /// Description in sentences of at most 30 words; at most 330 bytes.
    pub description: &'static str,
    /// Example in YAML, with the name of the option.
    pub example: &'static str,
}

/// Type of the value of an option.
#[derive(Debug)]
pub enum Kind {
    /// String that is not empty.
    Text,
    /// Object of [`SECRET`].
    Secret,
    /// Whole number.
    Integer(&'static Range),
    /// `true` or `false`; the default is `false`.
    Boolean,
    /// One of these strings.
    Choice(&'static [&'static str]),
    /// Name of a profile.
    Profile,
    /// List of strings that are not empty. With a text, the list itself must not be empty, and the text is the expected
    /// value in the error.
    Texts(&'static str),
    /// List of some of these strings, each once; not empty.
    Choices(&'static [&'static str]),
    /// String, or list of strings; none of them empty.
    OneOrMore,
    /// Object of these options.
    Object(&'static Group),
    /// List of objects; not empty.
    List(&'static Group),
    /// Object of the options of a list's objects, except the first option, none of them required.
    Defaults(&'static Group),
    /// Object of objects by the names of providers; not empty.
    Map(&'static Group),
    /// Object of strings by the names of parameters.
    TextMap,
    /// Object of claims by name, not empty. Each is a string, whole number or boolean, or a list of these.
    Claims,
    /// Object of objects with any members; not empty.
    AnyObjects,
    /// JWK Set (RFC 7517 section 5).
    KeySet,
}

/// Range of a whole number.
#[derive(Debug)]
pub struct Range {
    /// Minimum.
    pub min: u32,
    /// Maximum.
    pub max: u32,
    /// Value that applies without the option.
    pub default: u32,
    /// Unit, in the plural.
    pub unit: &'static str,
}

/// Condition under which an option is required or allowed.
#[derive(Debug)]
pub enum Presence {
    /// Always allowed.
    Optional,
    /// Always required. The text is the expected value in the error; empty: the type's.
    Required(&'static str),
    /// Required, unless `resource_defaults` has it.
    RequiredOrDefault,
    /// Required under the condition, and not allowed otherwise.
    RequiredIf(Condition),
    /// Allowed under the condition only.
    AllowedIf(Condition),
}

/// Condition on another option of the same object.
#[derive(Debug)]
pub enum Condition {
    /// `method` is one of these.
    Method(&'static [&'static str]),
    /// `profile` is one that exchanges tokens.
    Exchanges,
}

impl Group {
    /// Returns the option of that name.
    pub fn option(&self, name: &str) -> Option<&'static OptionSpec> {
        self.options.iter().find(|option| option.name == name)
    }

    /// Names of all options, for an error.
    pub fn names(&self) -> String {
        names(self.options)
    }

    /// Options that a default may have: all but the first, which tells the objects of a list apart.
    pub fn defaults(&self) -> &'static [OptionSpec] {
        self.options.get(1..).unwrap_or_default()
    }
}

/// Names of options, for an error.
pub(super) fn names(options: &[OptionSpec]) -> String {
    options.iter().map(|option| option.name).collect::<Vec<_>>().join(", ")
}

impl Kind {
    /// Returns the group of an object, of the objects in a list, or of the objects in an object.
    pub const fn group(&self) -> Option<&'static Group> {
        match self {
            Self::Secret => Some(&SECRET),
            Self::Object(group) | Self::List(group) | Self::Map(group) | Self::Defaults(group) => Some(group),
            _ => None,
        }
    }

    /// Expected value in an error.
    pub fn expected(&self) -> Cow<'static, str> {
        match self {
            Self::Text => "a string that is not empty".into(),
            Self::Secret => SECRET.exactly_one.map_or("", |(_, expected)| expected).into(),
            Self::Integer(Range { min, max, unit, .. }) => {
                format!("a whole number of {unit} from {min} to {max}").into()
            }
            Self::Boolean => "true or false".into(),
            Self::Choice(values) => alternatives(values, "or").into(),
            Self::Profile => provider::profile_names().into(),
            Self::Texts("") => "a list of strings".into(),
            Self::Texts(expected) => (*expected).into(),
            Self::Choices(values) => format!("some of {}", alternatives(values, "and")).into(),
            Self::OneOrMore => "a string, or a list of strings; none of them empty".into(),
            Self::Object(group) => format!("an object of {}", group.names()).into(),
            Self::Defaults(group) => format!("an object of {}", names(group.defaults())).into(),
            Self::List(_) => "a list of at least one object".into(),
            Self::Map(_) => "an object with at least one name in it".into(),
            Self::TextMap => "an object of strings".into(),
            Self::Claims => {
                "an object of claims, each with a value or a list of values: strings, whole numbers, true or false"
                    .into()
            }
            Self::AnyObjects => "an object of objects, such as {access_token: {xms_cc: {values: [cp1]}}}".into(),
            Self::KeySet => "a JWK Set (RFC 7517 section 5) with public keys in `keys`".into(),
        }
    }

    /// Returns `true` if a member of an object by name may have this name.
    pub fn admits(&self, name: &str) -> bool {
        match self {
            Self::Map(_) => is_provider_name(name),
            // RFC 6749 appendix A, `param-name`; some servers take `.` and `-` for `_`.
            Self::TextMap => {
                let is_in = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
                !name.is_empty() && name.bytes().all(is_in)
            }
            Self::Claims => !name.is_empty(),
            _ => true,
        }
    }

    /// Expected names of the members of an object by name, in an error.
    pub const fn expected_names(&self) -> &'static str {
        match self {
            Self::Claims => "names of claims",
            Self::TextMap => "names of letters, digits, -, . and _",
            _ => "names of 1 to 63 of a-z, 0-9, - and _",
        }
    }
}

/// Returns `true` if a provider may have this name, which labels metrics.
pub(super) fn is_provider_name(name: &str) -> bool {
    let is_in = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_".contains(&byte);
    (1..=63).contains(&name.len()) && name.bytes().all(is_in)
}

/// Returns `a, b or c`.
fn alternatives(values: &[&str], word: &str) -> String {
    let mut text = String::new();
    let mut rest = values;
    while let [value, others @ ..] = rest {
        text += value;
        match others.len() {
            0 => {}
            1 => text.extend([" ", word, " "]),
            _ => text += ", ",
        }
        rest = others;
    }
    text
}

/// Old names of options and of values, each with the new name. A name is looked up only where the new name exists.
pub(super) const RENAMED: [(&str, &str); 9] = [
    ("clock_leeway_seconds", "clock_skew_seconds"),
    ("keys_max_age_seconds", "jwks_max_age_seconds"),
    ("longest_wait_seconds", "max_wait_seconds"),
    ("open_paths", "unauthenticated_paths"),
    ("presented_as", "token_type"),
    ("shared_secret", "shared_data_secret"),
    ("token", "forward"),
    ("none", "validate_only"),
    ("upstream", "envoy_injected"),
];

/// Client authentication methods.
pub(super) const METHODS: &[&str] = &[
    "client_secret_basic",
    "client_secret_post",
    "private_key_jwt",
    "tls_client_auth",
    "self_signed_tls_client_auth",
    "client_assertion",
    "envoy_injected",
    "none",
];
const ALGORITHMS: &[&str] =
    &["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "EdDSA", "Ed25519"];
const REQUIREMENTS: &[&str] = &["off", "optional", "required"];
const SECRET_METHODS: Condition = Condition::Method(&["client_secret_basic", "client_secret_post"]);
const KEY_METHOD: Condition = Condition::Method(&["private_key_jwt"]);

/// Expected value of an empty list of claims with scopes.
const SCOPE_CLAIMS: &str = "a list of claims";

/// Expected value of an empty list of audiences.
pub(super) const AUDIENCES: &str = "a list of what `aud` of the callers' tokens is";

macro_rules! seconds {
    ($min:literal, $max:literal, $default:expr) => {
        Integer(&Range { min: $min, max: $max, default: $default, unit: "seconds" })
    };
}

/// Number of tokens of a cache. The maximum bounds the worker's share of Envoy's memory, at some kilobytes each.
macro_rules! tokens {
    ($min:literal) => {
        Integer(&Range { min: $min, max: 1_000_000, default: 10_000, unit: "tokens" })
    };
}

const BYTES: Kind = Integer(&Range { min: 0, max: u32::MAX, default: 32 * 1024 * 1024, unit: "bytes" });

/// One option. The texts are in the native build only.
macro_rules! option {
    ($name:literal, $kind:expr, $presence:expr, default $default:literal, required $required:literal, $description:literal, $example:literal) => {
        OptionSpec {
            name: $name,
            kind: $kind,
            presence: &$presence,
            #[cfg(not(target_arch = "wasm32"))]
            docs: Docs { default: $default, required: $required, description: $description, example: $example },
        }
    };
    ($name:literal, $kind:expr, $presence:expr, default $default:literal, $description:literal, $example:literal) => {
        option!($name, $kind, $presence, default $default, required "", $description, $example)
    };
    ($name:literal, $kind:expr, $presence:expr, required $required:literal, $description:literal, $example:literal) => {
        option!($name, $kind, $presence, default "", required $required, $description, $example)
    };
    ($name:literal, $kind:expr, $presence:expr, $description:literal, $example:literal) => {
        option!($name, $kind, $presence, default "", required "", $description, $example)
    };
}

/// Group of options. The description is in the native build only.
macro_rules! group {
    ($description:literal, $exactly_one:expr, [$($option:expr),+ $(,)?]) => {
        Group {
            options: &[$($option),+],
            exactly_one: $exactly_one,
            #[cfg(not(target_arch = "wasm32"))]
            description: $description,
        }
    };
}

use Kind::{
    AnyObjects, Boolean, Choice, Choices, Claims, Defaults, Integer, KeySet, List, Map, Object, OneOrMore, Profile,
    Secret, Text, TextMap, Texts,
};
use Presence::{AllowedIf, Optional, Required, RequiredIf, RequiredOrDefault};

/// The whole configuration.
pub static ROOT: Group = group!(
    "The configuration is one object: a `google.protobuf.Struct`, or JSON text in a `google.protobuf.StringValue`. \
     Unknown options are refused. An option whose value is `null` counts as absent.",
    None,
    [
        option!(
            "identity_providers",
            Map(&PROVIDER),
            Required(""),
            "Identity providers by name. The name labels metrics and log lines. It has 1 to 63 characters: `a-z`, `0-9`, `-` and `_`.",
            "identity_providers: {entra: {profile: entra_obo, issuer: https://login.microsoftonline.com/00000000-1111-4222-8333-444455556666/v2.0, cluster: entra, client: {id: 11111111-1111-4222-8333-444455556666, authentication: {method: client_secret_post, secret: {env: ENTRA_CLIENT_SECRET}}}}}"
        ),
        option!(
            "resources",
            List(&RESOURCE),
            Required(""),
            "Protected resources behind Envoy, such as MCP servers and APIs.",
            "resources: [{url: https://mcp.acme.com/mcp, audiences: [\"https://mcp.acme.com/mcp\"], exchange: {acme: {audience: github}}}]"
        ),
        option!("resource_defaults", Defaults(&RESOURCE), Optional, default "none",
            "Options of every resource: those of `resources[]` except `url`. An option of the resource replaces the one here as a whole. `{url}` in a string stands for the `url` of the resource, and `{path}` for the path of that URL. See [many resources](guides/many-resources.md).",
            "resource_defaults: {audiences: [\"{url}\"], exchange: {acme: {resource: \"{url}\"}}}"),
        option!("unauthenticated_paths", Texts(""), Optional, default "none",
            "Exact paths that are forwarded without a token, on every host. They take precedence over resources. A token in such a request is removed. Each path is in normal form, without query.",
            "unauthenticated_paths: [/healthz]"),
        option!(
            "audit",
            Object(&AUDIT),
            Optional,
            "Contents of log lines and of the access log.",
            "audit: {subjects: hashed, hits: true}"
        ),
        option!("cache", Object(&CACHE), Optional, "Sizes of the caches.", "cache: {exchanged_tokens: 50000}"),
        option!(
            "max_wait_seconds",
            seconds!(1, 120, 30),
            Optional,
            "Maximum time that a request waits for keys and for its token together. The answer is then 503.",
            "max_wait_seconds: 15"
        ),
        option!("request_headers_to_remove", Texts(""), Optional, default "none",
            "Request header fields that no upstream receives. The fields that carry tokens are removed in any case.",
            "request_headers_to_remove: [x-internal-token]"),
        option!("request_cookies_to_remove", Texts(""), Optional, default "none",
            "Cookies that no upstream receives. The token cookies of Envoy's `oauth2` filter are removed in any case.",
            "request_cookies_to_remove: [session]"),
        option!("shared_data_secret", Secret, Optional, default "the clients' secrets alone", required "no client has a `secret` or a `key`",
            "Random secret of at least 32 characters that protects the tokens and keys in Envoy's shared data, in addition to the clients' secrets. `openssl rand -base64 32` makes one.",
            "shared_data_secret: {env: ONBEHALF_SHARED_SECRET}"),
    ]
);

static PROVIDER: Group = group!(
    "One identity provider: its users' tokens are accepted, and exchanged at its token endpoint.",
    None,
    [
        option!(
            "profile",
            Profile,
            Required(""),
            "Kind of the provider. See [profiles](#profiles).",
            "profile: entra_obo"
        ),
        option!(
            "issuer",
            Text,
            Required("the provider's issuer, as its tokens have it in `iss`"),
            "Issuer, exactly as `iss` of its tokens: an `https` URL, or any text if keys and token endpoint are configured. `entra_obo`: the v2.0 issuer; v1.0 tokens of the same tenant are accepted, too. `{tenantid}` in the place of the tenant admits the users of several `tenants`.",
            "issuer: https://login.microsoftonline.com/00000000-1111-4222-8333-444455556666/v2.0"
        ),
        option!("tenants", Texts(""), Optional, default "none", required "`issuer` has `{tenantid}`",
            "Tenants whose users are accepted, by id. Not allowed without `{tenantid}` in `issuer`.",
            "tenants: [00000000-1111-4222-8333-444455556666]"),
        option!(
            "cluster",
            Text,
            Required("the name of the Envoy cluster of the provider"),
            "Envoy cluster for every call to the provider, but for those of `jwks_cluster` and `token_cluster`.",
            "cluster: entra"
        ),
        option!("jwks_cluster", Text, Optional, default "`cluster`",
            "Envoy cluster for the keys. With another cluster than `cluster`, the discovered URL of the keys may be on another host than the issuer. The cluster must verify its server's certificate, and must not take the host from the request.",
            "jwks_cluster: google-apis"),
        option!("token_cluster", Text, AllowedIf(Condition::Exchanges), default "`cluster`",
            "Envoy cluster for the token endpoint. With another cluster than `cluster`, the discovered token endpoint may be on another host than the issuer. The same holds for the cluster as for `jwks_cluster`.",
            "token_cluster: google-oauth2"),
        option!("audiences", Texts(AUDIENCES), Optional, default "none", required "a resource that exchanges for the provider has no `audiences`",
            "Accepted values of `aud` in the token in `authorization`, at resources without `audiences` of their own. `entra_obo`: `client.id` for v2.0 tokens, and the App ID URIs of the same app for v1.0 tokens.",
            "audiences: [api://mcp]"),
        option!("audience_claim", Text, Optional, default "`aud`",
            "Claim that stands for `aud` in access tokens without it, such as `client_id` of Cognito; `audiences` has its values. It names no API: a token that its client got for another API is accepted. A token with `aud` too needs an accepted value in both, and `typ` or `token_use` if one value is in both. Not with Entra and Okta.",
            "audience_claim: client_id"),
        option!("scope_claims", Texts(SCOPE_CLAIMS), Optional, default "`[scope, scp]`",
            "Claims that scopes of access tokens are read from. Each is a string with spaces between scopes, or a list of strings. A token has the scopes of all of them. A claim of another type grants nothing.",
            "scope_claims: [scope, permissions]"),
        option!("required_claims", Claims, Optional, default "none",
            "Claims that the token in `authorization` must have, each with its accepted value or a list of these. A claim that is a list must contain one of them. Other tokens get 403. A claim inside another claim cannot be named.",
            "required_claims: {azp: [mcp-client, cli], email_verified: true}"),
        option!("algorithms", Choices(ALGORITHMS), Optional, default "what the keys allow",
            "Algorithms of callers' tokens; a token with another one is refused. Without the option, `alg` of the key decides, or RS256, ES256, ES384 or EdDSA by its type. With it, a key without `alg` verifies each listed algorithm of its type.",
            "algorithms: [PS256]"),
        option!("jwks", KeySet, Optional, default "keys are fetched",
            "Keys of the provider as a JWK Set. The filter then fetches no keys. `token_endpoint` is still discovered. Excludes `jwks_uri`.",
            "jwks: {keys: [{kty: OKP, crv: Ed25519, kid: k1, alg: EdDSA, x: 11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo}]}"),
        option!("jwks_uri", Text, Optional, default "discovered",
            "URL of the provider's keys. Discovery uses `{issuer}/.well-known/openid-configuration` and the place of RFC 8414; the discovered URL must have the same host as the issuer, unless `jwks_cluster` is set. A query is sent.",
            "jwks_uri: https://login.acme.com/keys"),
        option!(
            "jwks_max_age_seconds",
            seconds!(600, 604_800, 48 * 3600),
            Optional,
            "Maximum age of keys that could not be fetched again. Requests of the provider's users then get 503.",
            "jwks_max_age_seconds: 86400"
        ),
        option!("token_endpoint", Text, AllowedIf(Condition::Exchanges), default "discovered",
            "URL of the token endpoint. It is discovered from the same metadata as `jwks_uri`. A query is sent.",
            "token_endpoint: https://acme.okta.com/oauth2/aus1/v1/token"),
        option!(
            "client",
            Object(&CLIENT),
            RequiredIf(Condition::Exchanges),
            "OAuth client that exchanges tokens.",
            "client: {id: gateway, authentication: {method: client_secret_basic, secret: {env: ACME_SECRET}}}"
        ),
        option!("subject_token", Object(&SUBJECT_TOKEN), Optional, default "`{type: access_token}`",
            "Token that is exchanged.",
            "subject_token: {type: id_token, header: x-id-token, audiences: [login-client]}"),
        option!(
            "clock_skew_seconds",
            seconds!(0, 300, 60),
            Optional,
            "Maximum difference between the clocks of the provider and of Envoy.",
            "clock_skew_seconds: 30"
        ),
        option!(
            "timeout_seconds",
            seconds!(1, 60, 10),
            Optional,
            "Maximum time of a token exchange with all of its calls, and of each call for keys.",
            "timeout_seconds: 5"
        ),
        option!(
            "retries",
            Integer(&Range { min: 0, max: 1, default: 1, unit: "calls" }),
            AllowedIf(Condition::Exchanges),
            "Number of times that a call of a token exchange is repeated after the connection broke before an answer. A call is not repeated after an answer or a timeout.",
            "retries: 0"
        ),
    ]
);

static CLIENT: Group = group!(
    "The OAuth client that this proxy is at the token endpoint.",
    None,
    [
        option!(
            "id",
            Text,
            Required("the client id that the provider gave"),
            "Client identifier (`client_id`).",
            "id: 11111111-1111-4222-8333-444455556666"
        ),
        option!(
            "authentication",
            Object(&AUTHENTICATION),
            Required(""),
            "Client authentication at the token endpoint.",
            "authentication: {method: client_secret_post, secret: {env: ENTRA_CLIENT_SECRET}}"
        ),
        option!("dpop", Object(&CLIENT_DPOP), Optional, default "no proofs",
            "Key for DPoP proofs (RFC 9449). Every token request then carries a proof, and the provider binds its tokens to the key.",
            "dpop: {key: {env: OKTA_DPOP_KEY}, algorithm: ES256}"),
    ]
);

static AUTHENTICATION: Group = group!(
    "Client authentication. `method` decides which other options are used.",
    None,
    [
        option!(
            "method",
            Choice(METHODS),
            Required(""),
            "Client authentication method. `tls_client_auth`, `self_signed_tls_client_auth`: the cluster presents the certificate. `client_assertion`: another issuer makes the assertion. `envoy_injected`: the cluster adds the credentials, and the filter sends neither client id nor secret. `none`: a public client; the log warns.",
            "method: private_key_jwt"
        ),
        option!("secret", Secret, RequiredIf(SECRET_METHODS), "Client secret.", "secret: {env: ENTRA_CLIENT_SECRET}"),
        option!("previous_secret", Secret, AllowedIf(SECRET_METHODS), default "none",
            "Client secret from before a rotation. It is tried after the provider refuses the current secret, with `invalid_client` or status 401.",
            "previous_secret: {env: ENTRA_OLD_CLIENT_SECRET}"),
        option!(
            "key",
            Secret,
            RequiredIf(KEY_METHOD),
            "Private key: PKCS#8 in PEM (`BEGIN PRIVATE KEY`). `\\n` may stand for a line end.",
            "key: {env: OKTA_PRIVATE_KEY}"
        ),
        option!(
            "algorithm",
            Choice(ALGORITHMS),
            RequiredIf(KEY_METHOD),
            "Signature algorithm of the key. `Ed25519` is another name of `EdDSA`.",
            "algorithm: ES256"
        ),
        option!("key_id", Text, AllowedIf(KEY_METHOD), default "none",
            "`kid` of the assertion.",
            "key_id: onbehalf"),
        option!("audience", Text, AllowedIf(KEY_METHOD), default "the token endpoint",
            "`aud` of the assertion.",
            "audience: https://login.acme.com"),
        option!("certificate", Secret, AllowedIf(KEY_METHOD), default "none", required "`certificate_header` is set",
            "Certificate of the key as PEM, followed by the certificates of its issuers. Entra requires it, with `PS256`.",
            "certificate: {env: ENTRA_CERTIFICATE}"),
        option!("certificate_header", Choices(&["x5t#S256", "x5t", "x5c"]), AllowedIf(KEY_METHOD), default "`[x5t#S256]`, with `certificate`",
            "Header parameters of the assertion that identify the certificate.",
            "certificate_header: [x5t]"),
        option!(
            "assertion",
            Object(&ASSERTION),
            RequiredIf(Condition::Method(&["client_assertion"])),
            "Assertion of another issuer.",
            "assertion: {header: x-workload-token}"
        ),
    ]
);

static ASSERTION: Group = group!(
    "The source of a client assertion that another issuer makes. Exactly one of the two options is required.",
    Some((["env", "header"], "{env: NAME}, or {header: x-…}")),
    [
        option!(
            "env",
            Text,
            Optional,
            "Environment variable that holds the assertion. It is read once, when Envoy starts; the log has a warning.",
            "env: WORKLOAD_TOKEN"
        ),
        option!(
            "header",
            Text,
            Optional,
            "Request header field that holds the assertion. Its name begins with `x-`. A filter in front of this one must set it, and overwrite the field of the client.",
            "header: x-workload-token"
        ),
    ]
);

static CLIENT_DPOP: Group = group!(
    "The key for the client's DPoP proofs.",
    None,
    [
        option!(
            "key",
            Secret,
            Required(""),
            "Private key: PKCS#8 in PEM. It is not the key of `authentication`.",
            "key: {env: OKTA_DPOP_KEY}"
        ),
        option!(
            "algorithm",
            Choice(ALGORITHMS),
            Required(""),
            "Signature algorithm of the key. `ES256` is fast.",
            "algorithm: ES256"
        ),
    ]
);

static SUBJECT_TOKEN: Group = group!(
    "The subject token: the token that is exchanged.",
    None,
    [
        option!(
            "type",
            Text,
            Required("access_token, id_token, jwt, or a URI"),
            "`access_token`: the access token in `authorization`. `id_token`: the ID token in `header` or `cookie`; without both, the one in `authorization`. `rfc8693`, `okta_obo`: `jwt` or a URI sends the access token with that `subject_token_type`. `entra_obo`: access tokens only.",
            "type: id_token"
        ),
        option!("header", Text, Optional, default "the ID token is in `authorization`",
            "Request header field with the ID token. Excludes `cookie`.",
            "header: x-id-token"),
        option!("cookie", Text, Optional, default "the ID token is in `authorization`",
            "Cookie with the ID token. Excludes `header`.",
            "cookie: IdToken"),
        option!("audiences", Texts(""), Optional, default "none", required "`header` or `cookie` is set",
            "Accepted values of `aud` in the ID token: the client that the user signed in to.",
            "audiences: [login-client]"),
    ]
);

static RESOURCE: Group = group!(
    "One protected resource (RFC 9728).",
    None,
    [
        option!(
            "url",
            Text,
            Required("the https URL that clients use"),
            "Resource identifier: the `https` URL that clients use (`http` only for a loopback host). Host, port and path select its requests: `/mcp` covers `/mcp/` and `/mcp/x`, not `/mcpx`. The longest matching path wins. `htu` of DPoP proofs is compared with the URL.",
            "url: https://mcp.acme.com/mcp"
        ),
        option!("aliases", Texts(""), Optional, default "none",
            "URLs under which Envoy sees the resource's requests, where a load balancer or an ingress changes host or path. Any host may have `http`. Metadata, challenges and `htu` of proofs name `url`.",
            "aliases: [\"http://mcp.internal:8080/\"]"),
        option!(
            "encoded_slashes",
            Boolean,
            Optional,
            "`true`: `%2F` may stand in a path, below that of `url`. The upstream must not take it for a `/` that leads to another resource. Envoy must keep it: `path_with_escaped_slashes_action: KEEP_UNCHANGED` of its HTTP connection manager, in place of `REJECT_REQUEST` of the recipes. See [many resources](guides/many-resources.md).",
            "encoded_slashes: true"
        ),
        option!("audiences", Texts(AUDIENCES), Optional, default "the provider's `audiences`", required "a provider in `exchange` has no `audiences`",
            "Accepted values of `aud` in the token in `authorization`, in place of the provider's list. Each of several resources needs an audience of its own: otherwise a token for one is accepted at another, and the log warns. Entra's v2.0 tokens have `client.id` as `aud`.",
            "audiences: [\"https://mcp.acme.com/mcp\"]"),
        option!("scopes", Texts(""), Optional, default "none",
            "Scopes that the caller's token must have, all of them.",
            "scopes: [mcp:read]"),
        option!("scopes_supported", Texts(""), Optional, default "`scopes`",
            "Scopes as clients ask for them, in metadata and challenges. Entra requires the App ID URI in front of each. From MCP clients, which send `resource`, the App ID URI must be `url`.",
            "scopes_supported: [\"https://mcp.acme.com/mcp/mcp:read\"]"),
        option!("authorization_servers", Texts("names of providers in exchange, each once"), Optional, default "all providers in `exchange`, in order of their names",
            "Providers in `exchange` that the metadata names, in this order. Most clients take the first. Users of providers that are not listed are accepted, too.",
            "authorization_servers: [entra]"),
        option!("dpop", Object(&RESOURCE_DPOP), Optional, default "`{mode: off}`",
            "DPoP (RFC 9449) of callers. `exchange.*.token_type` decides about tokens for the upstream.",
            "dpop: {mode: required, nonce: true}"),
        option!("certificate_bound_tokens", Choice(REQUIREMENTS), Optional, default "`off`",
            "Tokens that are bound to the client's TLS certificate (RFC 8705). Envoy itself must terminate TLS, with `require_client_certificate: true` and a `validation_context.trusted_ca`. `x-forwarded-client-cert` is not read.",
            "certificate_bound_tokens: required"),
        option!(
            "exchange",
            Map(&EXCHANGE),
            RequiredOrDefault,
            "Token exchange by provider name. Users of other providers are refused.",
            "exchange: {entra: {resource: api://github}}"
        ),
    ]
);

static RESOURCE_DPOP: Group = group!(
    "DPoP of callers. The provider must bind the tokens that it issues to the client's key.",
    None,
    [
        option!(
            "mode",
            Choice(REQUIREMENTS),
            Required(""),
            "`off`: bound tokens are refused. `optional`: bound tokens need a proof. `required`: other tokens are refused. Bound tokens are never accepted as Bearer tokens.",
            "mode: required"
        ),
        option!("nonce", Boolean, Optional, "`true`: proofs must have a nonce of this proxy.", "nonce: true"),
        option!(
            "max_age_seconds",
            seconds!(10, 600, 300),
            Optional,
            "Maximum difference between `iat` of a proof and now.",
            "max_age_seconds: 60"
        ),
    ]
);

/// Token exchange of a resource at one provider.
pub(super) static EXCHANGE: Group = group!(
    "The token that the resource needs from one provider. The profile decides which options are used; see [profiles](#profiles).",
    None,
    [
        option!("resource", OneOrMore, Optional, default "not sent", required "profile `entra_obo`, without `scopes`",
            "`entra_obo`: App ID URI of the target, sent as scope `<resource>/.default`, also if `/.default` is written here. Other profiles: parameter `resource`, an absolute URI without a fragment.",
            "resource: api://github"),
        option!("scopes", Texts(""), Optional, default "not sent", required "profile `okta_xaa`; profile `entra_obo`, without `resource`",
            "Scopes of the new token.",
            "scopes: [read]"),
        option!("audience", OneOrMore, Optional, default "not sent", required "profile `okta_obo`, `okta_xaa` or `id_jag`",
            "Parameter `audience`. `okta_xaa`, `id_jag`: issuer of the resource's authorization server. Not with `entra_obo`.",
            "audience: https://mcp.acme.com/mcp"),
        option!("authorization_server", Object(&AUTHORIZATION_SERVER), Optional, default "see its options",
            "`okta_xaa`, `id_jag`: the authorization server that takes the ID-JAG and issues the token for the upstream.",
            "authorization_server: {token_endpoint: https://auth.todo.example/oauth/token, cluster: todo_auth}"),
        option!("requested_token_type", Text, Optional, default "not sent",
            "`okta_obo`, `rfc8693`: parameter `requested_token_type`, the URN of `access_token` or of `jwt`.",
            "requested_token_type: urn:ietf:params:oauth:token-type:access_token"),
        option!("actor_token", Object(&ACTOR_TOKEN), Optional, default "not sent",
            "`rfc8693`: parameter `actor_token`, which names the party that acts for the user.",
            "actor_token: {env: ACME_ACTOR_TOKEN, type: \"urn:ietf:params:oauth:token-type:access_token\", subject: gateway}"),
        option!("claims", AnyObjects, Optional, default "not sent",
            "`entra_obo`: claims that the new token should have (OpenID Connect Core section 5.5).",
            "claims: {access_token: {xms_cc: {values: [cp1]}}}"),
        option!("parameters", TextMap, Optional, default "none",
            "Additional parameters of the token request, by name. Parameters of the exchange itself are not allowed; `subject_issuer` and `requested_issuer` (Keycloak) are. `okta_xaa`, `id_jag`: only the first token request has them. Envoy's `/config_dump` shows them.",
            "parameters: {tenant: acme}"),
        option!(
            "forward",
            Boolean,
            Optional,
            "`validate_only`: `true` forwards the caller's token, `false` removes it. The upstream can use a forwarded token as its user wherever it is accepted; the log warns. Not with `dpop` and `certificate_bound_tokens`.",
            "forward: true"
        ),
        option!("token_type", Choice(&["bearer", "dpop"]), Optional, default "`bearer`",
            "Type of the token for the upstream. `dpop`: each request to the upstream has a proof of `client.dpop`. A token of the other type is refused.",
            "token_type: dpop"),
        option!("upstream_url", Text, Optional, default "`url` of the resource",
            "URL of the resource as the upstream knows it, for `htu` of proofs. Needed where Envoy rewrites host or path. Only with `token_type: dpop`.",
            "upstream_url: https://mcp.internal.acme.com/v1"),
    ]
);

static ACTOR_TOKEN: Group = group!(
    "The actor token (RFC 8693 section 2.1). Exactly one of `env` and `header` is required.",
    Some((["env", "header"], "{env: NAME} or {header: name}, with a type")),
    [
        option!(
            "env",
            Text,
            Optional,
            "Environment variable that holds the token. It is read once, when Envoy starts.",
            "env: ACME_ACTOR_TOKEN"
        ),
        option!(
            "header",
            Text,
            Optional,
            "Request header field that holds the token. Its name begins with `x-`. A filter in front of this one must set it, and overwrite the field of the client. The upstream does not receive it. All tokens must be of one actor.",
            "header: x-actor-token"
        ),
        option!(
            "type",
            Text,
            Required("a URN such as urn:ietf:params:oauth:token-type:access_token"),
            "Parameter `actor_token_type`, a URN.",
            "type: urn:ietf:params:oauth:token-type:access_token"
        ),
        option!("subject", Text, Optional, default "none; users' tokens with `sub` in `may_act` are refused", required "`header` is set",
            "`sub` of the actor's tokens. Users' tokens with `may_act` must name it. A token in `header` with another `sub` is refused, and so is a malformed JWT. An opaque token is not checked.",
            "subject: gateway"),
        option!("issuer", Text, Optional, default "none; in `may_act`, the provider's issuer",
            "`iss` of the actor's tokens, checked like `subject`.",
            "issuer: https://login.acme.com"),
    ]
);

static AUTHORIZATION_SERVER: Group = group!(
    "The authorization server of the resource, at which the ID-JAG is exchanged for the token.",
    None,
    [
        option!("token_endpoint", Text, Optional, default "`okta_xaa`: `{audience}/v1/token` of a custom server of the same org", required "`audience` is another server",
            "URL of its token endpoint.",
            "token_endpoint: https://auth.todo.example/oauth/token"),
        option!("cluster", Text, Optional, default "the provider's `cluster`", required "the token endpoint is on another host than the provider",
            "Envoy cluster for calls to it.",
            "cluster: todo_auth"),
        option!("client", Object(&CLIENT), Optional, default "the provider's `client`", required "the token endpoint is on another host, unless the provider's `client` has `private_key_jwt`",
            "OAuth client there.",
            "client: {id: acme-gateway, authentication: {method: client_secret_basic, secret: {env: TODO_SECRET}}}"),
    ]
);

static AUDIT: Group = group!(
    "The contents of log lines and of the access log.",
    None,
    [
        option!("subjects", Choice(&["plain", "hashed", "none"]), Optional, default "`plain`",
            "Form of user identifiers. `plain`: the identifier at the provider. `hashed`: a digest that changes with the configured secrets. `none`: nothing.",
            "subjects: hashed"),
        option!(
            "hits",
            Boolean,
            Optional,
            "`true`: filter state has `event`, `cache` and `issuer` also for requests whose token was in the cache. It names the caller in any case.",
            "hits: true"
        ),
        option!(
            "error_descriptions",
            Boolean,
            Optional,
            "`true`: log lines about a failed exchange have `error_description` of the provider: its first 256 characters, escaped. A text that repeats a secret or a part of a token is left out. Other personal data in it is not.",
            "error_descriptions: true"
        ),
    ]
);

/// Sizes of the caches.
pub(super) static CACHE: Group = group!(
    "The sizes of the caches. Each worker has its own caches, and all workers of a process share one.",
    None,
    [
        option!(
            "verified_tokens",
            tokens!(0),
            Optional,
            "Maximum number of verified tokens in a worker. 0 disables the cache.",
            "verified_tokens: 20000"
        ),
        option!(
            "verified_bytes",
            BYTES,
            Optional,
            "Maximum size of verified tokens in a worker.",
            "verified_bytes: 67108864"
        ),
        // Waiting requests get their token from the cache of exchanged tokens: it cannot be disabled.
        option!(
            "exchanged_tokens",
            tokens!(1),
            Optional,
            "Maximum number of exchanged tokens and refusals in a worker.",
            "exchanged_tokens: 50000"
        ),
        option!(
            "exchanged_bytes",
            BYTES,
            Optional,
            "Maximum size of exchanged tokens and refusals in a worker.",
            "exchanged_bytes: 67108864"
        ),
        option!(
            "shared_tokens",
            tokens!(0),
            Optional,
            "Maximum number of exchanged tokens and refusals that all workers share, encrypted, in Envoy's shared data. 0: each worker exchanges for itself.",
            "shared_tokens: 50000"
        ),
    ]
);

/// A secret: a private key, a client secret, or a certificate.
pub static SECRET: Group = group!(
    "A secret, private key or certificate. Exactly one of the two options is required.",
    Some((["env", "inline"], "{env: NAME}, or {inline: value}")),
    [
        option!(
            "env",
            Text,
            Optional,
            "Environment variable of Envoy that holds the value. `vm_config.environment_variables.host_env_keys` must list it.",
            "env: ENTRA_CLIENT_SECRET"
        ),
        option!(
            "inline",
            Text,
            Optional,
            "The value itself. Envoy's `/config_dump` shows it, and the log has a warning.",
            "inline: a-secret-for-tests-only"
        ),
    ]
);
