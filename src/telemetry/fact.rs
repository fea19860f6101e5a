//! Table of the facts that a log line and Envoy's filter state can have, and the detail of a refusal, which is made of them.

use std::borrow::Cow;
use std::fmt::{self, Write};
use std::rc::Rc;

use crate::json::{Object, Value};

/// Maximum length of a value, in characters before they are escaped. A longer value is cut and ends with `...`.
pub(super) const MAX_VALUE: usize = 512;

/// Makes [`Fact`] of its table: a variant for each row with its name, its quotes and, natively only, its meaning.
macro_rules! facts {
    ($($fact:ident => ($name:literal, $quotes:ident, $meaning:literal);)*) => {
        /// Fact about a request or an exchange.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[allow(missing_docs, reason = "the table has the meaning of each")]
        pub enum Fact {
            $($fact,)*
        }

        impl Fact {
            /// Every fact, in the order of the table.
            pub const ALL: &[Self] = &[$(Self::$fact,)*];

            /// Key in Envoy's filter state. Envoy puts its own `wasm.` in front.
            pub const fn key(self) -> &'static str {
                match self {
                    $(Self::$fact => concat!("onbehalf.", $name),)*
                }
            }

            const fn quotes(self) -> Quotes {
                match self {
                    $(Self::$fact => Quotes::$quotes,)*
                }
            }

            /// Sentence for the documentation. The module for Envoy does not contain it.
            #[cfg(not(target_arch = "wasm32"))]
            pub const fn meaning(self) -> &'static str {
                match self {
                    $(Self::$fact => $meaning,)*
                }
            }
        }
    };
}

/// Rule for the quotes around a value in a log line.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Quotes {
    /// Quotes stand around a value that contains a space, `=` or a backslash.
    AsNeeded,
    /// Quotes stand around every value.
    Always,
}

facts! {
    Event => ("event", AsNeeded, "Kind of the line: refused, exchanged, renewed, forwarded, jwks_fetch_failed, jwks_ambiguous or discovery_failed.");
    Outcome => ("outcome", AsNeeded, "Result of an exchange: ok, ok_with_previous_secret, or the reason of the refusal.");
    Reason => ("reason", AsNeeded, "Reason of the refusal.");
    Resource => ("resource", AsNeeded, "URL of the resource that the request is for.");
    Provider => ("provider", AsNeeded, "Name of the identity provider in the configuration.");
    Issuer => ("issuer", AsNeeded, "Issuer of the verified subject token.");
    Subject => ("subject", AsNeeded, "User of the verified subject token, shown as the option audit.subjects says.");
    Client => ("client", AsNeeded, "Client of the verified subject token.");
    Tenant => ("tenant", AsNeeded, "Tenant of the verified subject token.");
    Scopes => ("scopes", AsNeeded, "Scopes that the exchange asks for.");
    GrantedScopes => ("granted_scopes", AsNeeded, "Scopes that the token response names.");
    MissingScopes => ("missing_scopes", AsNeeded, "Scopes that the exchange asks for and the token response does not name.");
    Cache => ("cache", AsNeeded, "Result of the look-up of the exchanged token.");
    LatencyMs => ("latency_ms", AsNeeded, "Time since the request or the exchange began, in milliseconds.");
    Waiters => ("waiters", AsNeeded, "Number of requests that waited for the exchange.");
    LifetimeSeconds => ("lifetime_s", AsNeeded, "Remaining lifetime of the issued token, in seconds.");
    ProviderTraceId => ("provider_trace_id", AsNeeded, "Id of the request in the log of the provider.");
    Detail => ("detail", AsNeeded, "Cause of a refusal or of a failed exchange: all further facts of the log line as one text.");
    Url => ("url", AsNeeded, "URL of the callout that failed.");
    Cluster => ("cluster", AsNeeded, "Envoy cluster of the callout that failed.");
    CachedJwks => ("cached_jwks", AsNeeded, "kept if the worker still has keys of the provider, else none.");
    TokenError => ("token_error", AsNeeded, "Reason for which the ID token in the second header is refused.");
    ProviderUnverified => ("provider_unverified", AsNeeded, "Provider that the token names, before its signature is verified.");
    IssuerUnverified => ("issuer_unverified", Always, "Issuer that the token names, before its signature is verified.");
    AudienceUnverified => ("aud_unverified", Always, "Audiences that the token names, before its signature is verified, separated by spaces.");
    KeyId => ("kid", Always, "Key id, in the header of an unverified token or in a JWKS.");
    Host => ("host", Always, "Host that the request names.");
    Path => ("path", Always, "Path that the request names, without query; in normal form, if it has one.");
    Nearest => ("nearest", AsNeeded, "URL of the resource that the request was probably meant for.");
    Header => ("header", AsNeeded, "Header field that must carry the token.");
    Missing => ("missing", Always, "Scope or claim that the token lacks.");
    Wants => ("wants", AsNeeded, "Demand of the upstream's challenge: nonce or claims.");
    UpstreamError => ("upstream_error", Always, "Value of error in the challenge with which the upstream rejected a token.");
    SentIssuer => ("sent_iss", Always, "Issuer of the exchanged token that the upstream rejected, if it is a readable JWT.");
    SentAudience => ("sent_aud", Always, "Audiences of that token, separated by spaces.");
    SentScope => ("sent_scope", Always, "Scopes of that token: its scp and scope.");
    SentVersion => ("sent_ver", Always, "Claim ver of that token.");
    Leg => ("leg", AsNeeded, "2 if the second token request of the exchange failed.");
    Error => ("error", Always, "Error code of the token endpoint, or a sentence about a response that has none.");
    Status => ("status", AsNeeded, "HTTP status code of the token endpoint.");
    ContentEncoding => ("content_encoding", AsNeeded, "Content coding of the response of the token endpoint, which the filter does not decode.");
    ErrorDescription => ("error_description", Always, "Description of the error by the provider, if audit.error_descriptions is true.");
    EnvoyReply => ("envoy_reply", Always, "Words with which Envoy answered a callout itself, because the provider gave no response.");
    ErrorCodes => ("error_codes", AsNeeded, "Further error codes in the response of the token endpoint.");
    Audience => ("aud", Always, "Audience that the issued token must not have.");
    Responsible => ("responsible", AsNeeded, "Party that must act: user, admin, operator or provider.");
    Remedy => ("remedy", Always, "Action that removes the cause.");
    Cause => ("cause", Always, "Cause of the refusal.");
}

/// Prefix of every key in filter state.
const PREFIX: &str = "onbehalf.";

impl Fact {
    /// Name in a log line.
    pub fn name(self) -> &'static str {
        self.key().get(PREFIX.len()..).unwrap_or_default()
    }

    /// Writes `name=value` of a value that is escaped already.
    pub(super) fn write(self, out: &mut fmt::Formatter<'_>, value: &str) -> fmt::Result {
        let is_quoted = self.quotes() == Quotes::Always || value.contains([' ', '=', '\\']);
        let quote = if is_quoted { "\"" } else { "" };
        write!(out, "{}={quote}{value}{quote}", self.name())
    }
}

/// Facts that say why a request is refused or an exchange fails, in the order of the log line. They contain no token, secret
/// or personal data. Values are unescaped. A clone shares them: each request that meets a cached failure has one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Detail(Option<Rc<Vec<Entry>>>);

/// Fact with its value.
type Entry = (Fact, Cow<'static, str>);

impl Detail {
    /// Detail without a fact.
    pub const fn new() -> Self {
        Self(None)
    }

    /// Adds a fact at the end. An empty value adds nothing.
    pub fn add(&mut self, fact: Fact, value: impl Into<Cow<'static, str>>) {
        self.push(fact, value.into());
    }

    // Generic callers would have a copy each.
    #[inline(never)]
    fn push(&mut self, fact: Fact, value: Cow<'static, str>) {
        if !value.is_empty() {
            Rc::make_mut(self.0.get_or_insert_default()).push((fact, value));
        }
    }

    fn facts(&self) -> &[Entry] {
        self.0.as_deref().map_or(&[], Vec::as_slice)
    }

    /// Returns the detail with one more fact, see [`add`](Self::add).
    #[must_use]
    #[inline(never)]
    pub fn with(mut self, fact: Fact, value: impl Into<Cow<'static, str>>) -> Self {
        self.add(fact, value);
        self
    }

    /// Returns the detail with the facts of `other` at the end.
    #[must_use]
    pub fn and(mut self, other: &Self) -> Self {
        for (fact, value) in other.facts() {
            self.push(*fact, value.clone());
        }
        self
    }

    /// Returns `true` if there is no fact.
    pub const fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// Memory of the values, in bytes.
    pub fn bytes(&self) -> usize {
        self.facts().iter().map(|(_, value)| value.len()).sum()
    }

    /// Value of a fact.
    pub fn get(&self, fact: Fact) -> Option<&str> {
        self.facts().iter().find_map(|(other, value)| (*other == fact).then_some(&**value))
    }

    /// JSON object for another worker.
    pub(crate) fn to_json(&self) -> Value<'_> {
        let members = self.facts().iter().map(|(fact, value)| (fact.name().into(), Value::from(&**value))).collect();
        Object::from_members(members).map_or(Value::Null, Value::Object)
    }

    /// Reads the object of [`to_json`](Self::to_json). Members that are no facts are skipped.
    pub(crate) fn from_json(members: &Object<'_>) -> Self {
        let fact = |name: &str| Fact::ALL.iter().copied().find(|fact| fact.name() == name);
        let mut detail = Self::new();
        for (name, value) in members.members() {
            if let Some((fact, value)) = fact(name).zip(value.as_str()) {
                detail.add(fact, value.to_owned());
            }
        }
        detail
    }
}

/// Part of a log line, in logfmt: `name=value`, separated by spaces.
impl fmt::Display for Detail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (fact, value)) in self.facts().iter().enumerate() {
            if index > 0 {
                f.write_char(' ')?;
            }
            fact.write(f, &escaped(value, MAX_VALUE))?;
        }
        Ok(())
    }
}

/// Returns at most `max` characters of a text from outside, for a fact.
pub fn cut(text: &str, max: usize) -> String {
    text.chars().take(max).collect()
}

/// Escapes a text as JSON does (RFC 8259 section 7), so that it is printable ASCII without a bare quote or backslash. A text of
/// more than `max` characters is cut.
pub(super) fn escaped(text: &str, max: usize) -> String {
    let mut escaped = String::with_capacity(text.len().min(max));
    for (at, character) in text.char_indices().take(max) {
        let is_outer = at == 0 || at.saturating_add(1) == text.len();
        match character {
            // HTTP removes spaces at both ends of a field value (RFC 9110 section 5.5). Two names would become one.
            ' ' if is_outer => escaped.push_str("\\u0020"),
            '"' | '\\' => escaped.extend(['\\', character]),
            ' '..='~' => escaped.push(character),
            other => {
                for unit in other.encode_utf16(&mut [0; 2]) {
                    // Writing to a string does not fail.
                    let _ = write!(escaped, "\\u{unit:04x}");
                }
            }
        }
    }
    if text.chars().nth(max).is_some() {
        escaped.push_str("...");
    }
    escaped
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::json;

    #[test]
    fn each_fact_has_a_name_of_its_own_and_a_sentence() {
        let names: HashSet<_> = Fact::ALL.iter().map(|fact| fact.name()).collect();
        assert_eq!(names.len(), Fact::ALL.len());
        for fact in Fact::ALL {
            let meaning = fact.meaning();
            assert!(fact.key().starts_with(PREFIX) && !fact.name().is_empty() && meaning.ends_with('.'), "{meaning}");
        }
    }

    #[test]
    fn a_detail_is_escaped_once_and_survives_the_way_to_another_worker() {
        let detail = Detail::new()
            .with(Fact::Provider, "acme")
            .with(Fact::KeyId, "x\" event=y\u{e9}")
            .with(Fact::Client, "")
            .with(Fact::Cause, "no key");
        assert_eq!(detail.to_string(), r#"provider=acme kid="x\" event=y\u00e9" cause="no key""#);
        let text = json::text([("detail", detail.to_json())]);
        let read = json::object(text.as_bytes()).unwrap();
        assert_eq!(Detail::from_json(read.get("detail").unwrap().as_object().unwrap()), detail);
        assert_eq!(detail.get(Fact::Cause), Some("no key"));
    }

    #[test]
    fn a_long_value_is_cut() {
        let text = escaped(&"\n".repeat(100_000), MAX_VALUE);
        assert_eq!(text.len(), MAX_VALUE * "\\u000a".len() + "...".len());
        assert_eq!(escaped(&"a".repeat(MAX_VALUE), MAX_VALUE), "a".repeat(MAX_VALUE));
    }
}
