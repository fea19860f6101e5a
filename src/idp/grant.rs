//! The one request to a token endpoint and the reading of its answer.

use std::time::Duration;

use super::client_auth::{Which, prove};
use super::fault::{self, Fault};
use super::rfc8693::{ACCESS_TOKEN, JWT};
use super::{Presentation, Target};
use crate::config::Provider;
use crate::crypto::Crypto;
use crate::http::{Answer, Call, Reply, Url};
use crate::json::{self, Object, Value};
use crate::mcp::challenge::Scheme;
use crate::secret::Secret;
use crate::time::UnixTime;
use crate::token::prover::Purpose;

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
pub(super) const BOUND: &str = "token_type is DPoP, and the upstream gets a bearer token";
pub(super) const UNBOUND: &str = "token_type is Bearer, and the upstream gets a bound token";
pub(super) const WRONG_TYPE: &str = "issued_token_type is not what was asked for";

/// The token that is handed in.
#[derive(Clone, Copy, Default)]
pub struct Subject<'a> {
    /// Itself.
    pub token: &'a str,
    /// Whether it is an ID token; else it is an access token.
    pub is_id_token: bool,
    /// What the upstream wants of the new token beside what the operator does: JSON text (OpenID Connect Core section
    /// 5.5), as it stands in a claims challenge. Text that is no JSON object counts for nothing, and so does all of it where the
    /// profile does not take claims ([`Profile::takes_claims`](super::Profile::takes_claims)). It is no part of the key
    /// under which the token is kept: what is asked for in this way takes the place of what was there.
    pub claims: Option<&'a str>,
}

/// A token for the upstream.
#[derive(Debug)]
pub struct Issued {
    /// Itself, fit for a header.
    pub access_token: Secret,
    /// How it is presented.
    pub scheme: Scheme,
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
    /// By which assertion, where the request brought the client's.
    pub assertion: Option<&'a Secret>,
    /// The nonce that the endpoint has given last for proofs (RFC 9449 section 8).
    pub nonce: Option<&'a str>,
}

impl TokenRequest<'_> {
    /// The call, made anew for every attempt. `None` when the client could not prove itself.
    pub fn call(&self, timeout: Duration, crypto: &dyn Crypto, now: UnixTime) -> Option<Call> {
        let Self { provider, target, token_endpoint, subject, which, assertion, nonce } = *self;
        let proof = prove(&provider.client, which, assertion, token_endpoint, crypto, now)?;
        let mut form = form_urlencoded::Serializer::new(String::new());
        for (name, value) in provider.profile.parameters(target, subject) {
            form.append_pair(name, &value);
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
        if let Some(prover) = &provider.client.dpop {
            let purpose = Purpose { method: "POST", url: token_endpoint.as_str(), access_token: None, nonce };
            headers.push(("dpop", prover.prove(purpose, crypto, now)?));
        }
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
            Reply::Answer(answer) if answer.status == 200 => {
                self.read_success(answer).map_err(|problem| Fault::unusable_answer(problem, self.provider, answer))
            }
            Reply::Answer(answer) => Err(fault::read(self.provider, answer, now)),
            Reply::Failed(failure) => Err(Fault::no_answer(*failure)),
        }
    }

    fn read_success(&self, answer: &Answer) -> Result<Issued, &'static str> {
        let response = json::object(&answer.body).ok_or("the answer is not a JSON object with distinct names")?;
        let access_token = response.string("access_token").ok_or("there is no access_token")?;
        if access_token.is_empty() || !access_token.bytes().all(|byte| matches!(byte, 0x21..=0x7E)) {
            return Err("the access_token cannot stand in a header");
        }
        if access_token.len() > MOST_TOKEN_BYTES {
            return Err("the access_token is longer than 32 KiB");
        }
        if access_token == self.subject.token {
            return Err(HANDED_BACK);
        }
        let scheme = self.scheme(&response)?;
        // RFC 8693 section 2.2.1 requires it; RFC 7523 knows nothing of it. Where it stands, it must be right.
        if let Some(issued) = response.get("issued_token_type") {
            let wanted = self.target.requested_token_type.as_deref().unwrap_or(ACCESS_TOKEN);
            if !issued.as_str().is_some_and(|issued| issued == wanted || issued == JWT) {
                return Err(WRONG_TYPE);
            }
        }
        let lifetime = match response.get("expires_in") {
            None => DEFAULT_LIFETIME,
            Some(value) => seconds(value).ok_or("expires_in is not a number of seconds above zero")?,
        };
        let refresh_in = response.get("refresh_in").and_then(seconds);
        Ok(Issued { access_token: Secret::new(access_token.to_owned()), scheme, lifetime, refresh_in })
    }

    /// How the token is to be presented (RFC 6749 section 7.1), if that is how its resource gets it.
    fn scheme(&self, response: &Object<'_>) -> Result<Scheme, &'static str> {
        let kind = response.string("token_type").unwrap_or_default();
        let is = |scheme: Scheme| kind.eq_ignore_ascii_case(scheme.name());
        let has_key = self.provider.client.dpop.is_some();
        match &self.target.presentation {
            Presentation::Bearer if is(Scheme::Bearer) => Ok(Scheme::Bearer),
            Presentation::Dpop { .. } if is(Scheme::Dpop) && has_key => Ok(Scheme::Dpop),
            Presentation::Bearer if is(Scheme::Dpop) => Err(BOUND),
            Presentation::Dpop { .. } if is(Scheme::Bearer) => Err(UNBOUND),
            Presentation::Bearer => Err(NOT_BEARER),
            Presentation::Dpop { .. } => Err("token_type is not DPoP"),
        }
    }
}

/// Whole seconds; some servers write the number as a string.
fn seconds(value: &Value<'_>) -> Option<Duration> {
    let seconds = value.as_u64().or_else(|| value.as_str()?.parse().ok())?;
    (seconds > 0).then(|| Duration::from_secs(seconds.min(LONGEST_LIFETIME)))
}
