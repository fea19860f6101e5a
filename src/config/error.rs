//! Configuration errors: every finding has a stable code, a path, a found kind and an expected value.

use std::fmt;

/// Maximum number of findings that one error lists.
pub const MAX_FINDINGS: usize = 20;

/// Mistakes in a configuration, in the order of the document. The error has at least one finding, and at most
/// [`MAX_FINDINGS`].
#[derive(Debug, PartialEq, Eq)]
pub struct ConfigError {
    first: Finding,
    others: Vec<Finding>,
}

/// One mistake in a configuration.
#[derive(Debug, PartialEq, Eq)]
pub struct Finding {
    /// Stable name of the kind of mistake.
    pub code: Code,
    /// Path of the field, such as `identity_providers.acme.client.id` or `resources[0].url`.
    pub path: String,
    /// Kind of the value that the field has; never a secret.
    pub found: String,
    /// Value that the field should have.
    pub expected: String,
}

macro_rules! codes {
    ($($(#[doc = $doc:literal])+ $variant:ident = $name:literal, $scope:ident;)+) => {
        /// Stable name of a kind of mistake.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Code {
            $($(#[doc = $doc])+ $variant,)+
        }

        impl Code {
            /// Name of the code in logs and documentation.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)+
                }
            }

            /// Every code with its name, its sentence, and `true` if `docs/configuration.schema.json` finds the mistake, too.
            #[cfg(not(target_arch = "wasm32"))]
            pub const ALL: &'static [(Self, &'static str, bool)] =
                &[$((Self::$variant, concat!($($doc),+), codes!($scope)),)+];
        }
    };
    (schema) => { true };
    (beyond) => { false };
}

codes! {
    /// The option is misspelled, or is in the wrong object.
    UnknownField = "unknown_field", schema;
    /// The option or its value has another name now. The error gives the new name.
    Renamed = "renamed", schema;
    /// The value has another type.
    WrongType = "wrong_type", schema;
    /// The number is too small, too large, or not whole.
    OutOfRange = "out_of_range", schema;
    /// The value is none of the values that the option has.
    UnknownValue = "unknown_value", schema;
    /// The option is required.
    Missing = "missing", schema;
    /// The list is empty.
    EmptyList = "empty_list", schema;
    /// Exactly one of two options is required.
    ExactlyOne = "exactly_one", schema;
    /// The profile of the provider, or the authentication method of the client, does not use the option.
    NotUsed = "not_used", schema;
    /// The name of the identity provider or of the parameter has other characters than the allowed ones.
    InvalidName = "invalid_name", schema;
    /// The value stands twice in `algorithms`, `certificate_header` or `authorization_servers`. In other lists of accepted values,
    /// such as `audiences` and `scopes`, a second one has no effect.
    Duplicate = "duplicate", schema;
    /// The configuration is not a JSON object, is not UTF-8, or has a name twice in one object.
    NotAnObject = "not_an_object", beyond;
    /// The value is not an absolute `https` URL without user information, query and fragment (`http` only for a loopback host).
    NotAUrl = "not_a_url", beyond;
    /// The issuer is the URL of a metadata document.
    MetadataUrl = "metadata_url", beyond;
    /// The path is not in normal form.
    NotANormalPath = "not_a_normal_path", beyond;
    /// The URL of the resource is in the place of protected resource metadata.
    ReservedPath = "reserved_path", beyond;
    /// The value is not one scope token (RFC 6749 section 3.3).
    NotAScope = "not_a_scope", beyond;
    /// The value is not the name of a header field, or the field has a meaning of its own.
    NotAHeader = "not_a_header", beyond;
    /// The header field is one that clients send, and Envoy must set this one.
    ClientHeader = "client_header", beyond;
    /// The value is not the name of a cookie.
    NotACookie = "not_a_cookie", beyond;
    /// The token type is not a URN.
    NotAUrn = "not_a_urn", beyond;
    /// The environment variable is not set, or empty, in the filter's environment.
    UnsetVariable = "unset_variable", beyond;
    /// The environment variable holds something other than a token.
    NotAToken = "not_a_token", beyond;
    /// The private key is not a key for the algorithm, or not PKCS#8 in PEM.
    NotAKey = "not_a_key", beyond;
    /// The certificate is not PEM, or is the certificate of another key.
    NotACertificate = "not_a_certificate", beyond;
    /// A `certificate_header` has no `certificate`.
    MissingCertificate = "missing_certificate", beyond;
    /// The JWK Set has a key that cannot be used, or no key.
    NotAKeySet = "not_a_key_set", beyond;
    /// A JWK Set and its URL exclude each other.
    TwoKeySources = "two_key_sources", beyond;
    /// The issuer and the list of tenants contradict each other, or the profile has no tenants.
    TenantMismatch = "tenant_mismatch", beyond;
    /// Another identity provider has the same issuer.
    SameIssuer = "same_issuer", beyond;
    /// Another resource has the same host and path.
    SameUrl = "same_url", beyond;
    /// A resource is below another one that has an alias, and lacks the alias for its own path.
    NestedWithoutAlias = "nested_without_alias", beyond;
    /// No list says which audiences the tokens of the provider must have.
    MissingAudiences = "missing_audiences", beyond;
    /// The options of `subject_token` contradict each other.
    SubjectTokenMismatch = "subject_token_mismatch", beyond;
    /// The profile of the provider cannot work with the value.
    RefusedByProfile = "refused_by_profile", beyond;
    /// The profile of the provider does not use the option of `exchange`.
    NotUsedByProfile = "not_used_by_profile", beyond;
    /// No identity provider has the name, or the resource does not exchange for it.
    UnknownProvider = "unknown_provider", beyond;
    /// The option is for access tokens, and the provider's users bring ID tokens.
    IdTokensCannot = "id_tokens_cannot", beyond;
    /// A token that is bound to the caller's key cannot be forwarded.
    ForwardsBoundTokens = "forwards_bound_tokens", beyond;
    /// The client has no key for DPoP proofs.
    MissingDpopKey = "missing_dpop_key", beyond;
    /// Only DPoP proofs have a use for the URL of the upstream.
    UpstreamUrlUnused = "upstream_url_unused", beyond;
    /// The `subject` is required for actor tokens that come in a header field.
    MissingSubject = "missing_subject", beyond;
    /// The option cannot be used for the client of another authorization server.
    AssertionInHeader = "assertion_in_header", beyond;
    /// Another option or the exchange itself sets the parameter.
    ReservedParameter = "reserved_parameter", beyond;
    /// No client has a secret, so `shared_data_secret` is required.
    MissingSharedDataSecret = "missing_shared_data_secret", beyond;
    /// The secret is too short.
    ShortSecret = "short_secret", beyond;
}

impl ConfigError {
    pub(super) const fn new(first: Finding, others: Vec<Finding>) -> Self {
        Self { first, others }
    }

    /// Every finding, in the order of the document.
    pub fn findings(&self) -> impl Iterator<Item = &Finding> {
        std::iter::once(&self.first).chain(&self.others)
    }
}

/// The first finding.
impl std::ops::Deref for ConfigError {
    type Target = Finding;

    fn deref(&self) -> &Finding {
        &self.first
    }
}

/// One line for each finding.
impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.first.fmt(f)?;
        self.others.iter().try_for_each(|finding| write!(f, "\n{finding}"))
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { code, path, found, expected } = self;
        write!(f, "configuration error at {path}: found {found}, expected {expected} ({})", code.name())
    }
}

impl std::error::Error for ConfigError {}
