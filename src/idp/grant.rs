//! The one request to a token endpoint and the reading of its answer.

use std::time::Duration;

use super::Target;
use super::client_auth::{Which, prove};
use super::fault::{self, Fault};
use super::rfc8693::{ACCESS_TOKEN, JWT};
use crate::config::Provider;
use crate::crypto::Crypto;
use crate::http::{Answer, Call, Reply, Url};
use crate::json::{self, Value};
use crate::secret::Secret;
use crate::time::UnixTime;

/// RFC 6749 section 5.1 recommends `expires_in`; this is assumed of a token without it.
const DEFAULT_LIFETIME: Duration = Duration::from_secs(300);

/// The largest token response that is read. A token has to fit into a header, which Envoy bounds at 60 KiB.
const MOST_ANSWER_BYTES: usize = 256 * 1024;

/// The longest token that is sent on: servers take headers of 8 to 60 KiB in all.
const MOST_TOKEN_BYTES: usize = 32 * 1024;

/// The longest lifetime that is believed.
const LONGEST_LIFETIME: u64 = 7 * 24 * 3600;

/// What is wrong with an answer and has an entry of its own in the catalogue.
pub(super) const HANDED_BACK: &str = "the token that was handed in came back";
pub(super) const NOT_BEARER: &str = "token_type is not Bearer";
pub(super) const WRONG_TYPE: &str = "issued_token_type is not what was asked for";

/// The token that is handed in.
#[derive(Clone, Copy)]
pub struct Subject<'a> {
    /// Itself.
    pub token: &'a str,
    /// Whether it is an ID token; else it is an access token.
    pub is_id_token: bool,
}

/// A token for the upstream.
#[derive(Debug)]
pub struct Issued {
    /// Itself, fit for a header.
    pub access_token: Secret,
    /// How long it is good for.
    pub lifetime: Duration,
    /// After how long the provider wants it to be renewed, if it says so (`refresh_in`).
    pub refresh_in: Option<Duration>,
}

/// A request at a token endpoint, with everything that shapes it and the reading of its answer.
#[derive(Clone, Copy)]
pub struct TokenRequest<'a> {
    /// Whom it asks.
    pub provider: &'a Provider,
    /// For what.
    pub target: &'a Target,
    /// Where.
    pub token_endpoint: &'a Url,
    /// On whose behalf.
    pub subject: Subject<'a>,
    /// By which secret of the client's.
    pub which: Which,
}

impl TokenRequest<'_> {
    /// The call, made anew for every attempt. `None` when the client could not prove itself.
    pub fn call(&self, timeout: Duration, crypto: &dyn Crypto, now: UnixTime) -> Option<Call> {
        let Self { provider, target, token_endpoint, subject, which } = *self;
        let proof = prove(&provider.client, which, token_endpoint, crypto, now)?;
        let mut form = form_urlencoded::Serializer::new(String::new());
        for (name, value) in provider.profile.parameters(target, subject) {
            form.append_pair(name, value);
        }
        for (name, value) in &target.parameters {
            form.append_pair(name, value.reveal());
        }
        for (name, value) in &proof.fields {
            form.append_pair(name, value.reveal());
        }
        let mut headers = vec![
            ("content-type", Secret::new("application/x-www-form-urlencoded".to_owned())),
            ("accept", Secret::new("application/json".to_owned())),
        ];
        headers.extend(proof.authorization.map(|value| ("authorization", value)));
        Some(Call {
            cluster: provider.cluster.clone(),
            method: "POST",
            url: token_endpoint.clone(),
            headers,
            body: Secret::new(form.finish()),
            timeout,
            most_bytes: MOST_ANSWER_BYTES,
        })
    }

    /// Reads what came back: a token that can be sent on, or whose fault it is that there is none.
    pub fn read(&self, reply: &Reply, now: UnixTime) -> Result<Issued, Fault> {
        match reply {
            Reply::Answer(answer) if answer.status == 200 => read_success(answer, self.target, self.subject)
                .map_err(|problem| Fault::unusable_answer(problem, self.provider, answer)),
            Reply::Answer(answer) => Err(fault::read(self.provider, answer, now)),
            Reply::Failed(failure) => Err(Fault::no_answer(*failure)),
        }
    }
}

fn read_success(answer: &Answer, target: &Target, subject: Subject<'_>) -> Result<Issued, &'static str> {
    let response = json::object(&answer.body).ok_or("the answer is not a JSON object with distinct names")?;
    let access_token = response.string("access_token").ok_or("there is no access_token")?;
    if access_token.is_empty() || !access_token.bytes().all(|byte| matches!(byte, 0x21..=0x7E)) {
        return Err("the access_token cannot stand in a header");
    }
    if access_token.len() > MOST_TOKEN_BYTES {
        return Err("the access_token is longer than 32 KiB");
    }
    if access_token == subject.token {
        return Err(HANDED_BACK);
    }
    if !response.string("token_type").is_some_and(|kind| kind.eq_ignore_ascii_case("Bearer")) {
        return Err(NOT_BEARER);
    }
    // RFC 8693 section 2.2.1 requires it; RFC 7523 knows nothing of it. Where it stands, it must be right.
    if let Some(issued) = response.get("issued_token_type") {
        let wanted = target.requested_token_type.as_deref().unwrap_or(ACCESS_TOKEN);
        if !issued.as_str().is_some_and(|issued| issued == wanted || issued == JWT) {
            return Err(WRONG_TYPE);
        }
    }
    let lifetime = match response.get("expires_in") {
        None => DEFAULT_LIFETIME,
        Some(value) => seconds(value).ok_or("expires_in is not a number of seconds above zero")?,
    };
    let refresh_in = response.get("refresh_in").and_then(seconds);
    Ok(Issued { access_token: Secret::new(access_token.to_owned()), lifetime, refresh_in })
}

/// Whole seconds; some servers write the number as a string.
fn seconds(value: &Value<'_>) -> Option<Duration> {
    let seconds = value.as_u64().or_else(|| value.as_str()?.parse().ok())?;
    (seconds > 0).then(|| Duration::from_secs(seconds.min(LONGEST_LIFETIME)))
}
