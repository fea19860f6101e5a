//! The one request to a token endpoint and the reading of its answer.

use std::time::Duration;

use crate::crypto::Crypto;
use crate::dpop::ProofTarget;
use crate::http::{Callout, CalloutResult, Response, Scheme};
use crate::json::{self, Object, Value};
use crate::provider::client_auth::prove;
use crate::provider::issued_token::{self, HANDED_BACK, Problem};
use crate::provider::rfc8693::ACCESS_TOKEN;
use crate::provider::token_error::{self, Asked};
use crate::provider::{
    Accepted, AuthorizationServer, Client, ExchangeTarget, JWT, Provider, SecretVersion, TokenEndpointError, TokenType,
    id_jag,
};
use crate::secret::Secret;
use crate::time::UnixTime;
use crate::url::Url;

/// RFC 6749 section 5.1 recommends `expires_in`; this is assumed of a token without it.
const DEFAULT_LIFETIME: Duration = Duration::from_secs(300);

/// The largest token response that is read. A token has to fit into a header, which Envoy bounds at 60 KiB.
const MOST_ANSWER_BYTES: usize = 256 * 1024;

/// The longest token that is sent on: servers take headers of 8 to 60 KiB in all.
const MOST_TOKEN_BYTES: usize = 32 * 1024;

/// The longest lifetime that is believed.
const LONGEST_LIFETIME: u64 = 7 * 24 * 3600;

/// What is wrong with an answer and has an entry of its own in the catalogue.
pub(crate) const NOT_BEARER: &str = "token_type is not Bearer";
pub(crate) const BOUND: &str = "token_type is DPoP, and the upstream gets a bearer token";
pub(crate) const UNBOUND: &str = "token_type is Bearer, and the upstream gets a bound token";
pub(crate) const WRONG_TYPE: &str = "issued_token_type is not what was asked for";

/// The token that is handed in.
#[derive(Clone, Copy, Default)]
pub struct SubjectInput<'a> {
    /// Itself.
    pub token: &'a str,
    /// Whether it is an ID token; else it is an access token.
    pub is_id_token: bool,
    /// What the upstream wants of the new token beside what the operator does: JSON text (OpenID Connect Core section
    /// 5.5), as it stands in a claims challenge. Text that is no JSON object counts for nothing, and so does all of it where the
    /// profile does not take claims ([`Profile::takes_claims`](crate::provider::Profile::takes_claims)). It is no part of the key
    /// under which the token is kept: what is asked for in this way takes the place of what was there.
    pub claims: Option<&'a str>,
    /// The token of the party that acts, where it comes with the request ([`ActorTokenSource::Header`](crate::provider::ActorTokenSource)).
    pub actor: Option<&'a str>,
}

/// Which of the requests of an exchange.
#[derive(Clone, Copy)]
pub enum Hop<'a> {
    /// The one to the provider.
    First,
    /// The one to the authorization server of the resource ([`ExchangeTarget::second`]), with the token that the first has brought.
    Second(&'a str),
}

/// A token for the upstream.
#[derive(Debug)]
pub struct Issued {
    /// Itself, fit for a header.
    pub access_token: Secret,
    /// How it is presented.
    pub scheme: Scheme,
    /// The time for which it is good, from the answer on.
    pub lifetime: Duration,
    /// `exp` of a token that is a JWT.
    pub expires: Option<UnixTime>,
    /// After how long the provider wants it to be renewed, if it says so (`refresh_in`).
    pub refresh_in: Option<Duration>,
}

impl Issued {
    /// The end of a token whose lifetime began at `start`: of the two that the answer may give, the earlier one.
    pub fn end(&self, start: UnixTime) -> UnixTime {
        let end = start.plus(self.lifetime);
        self.expires.map_or(end, |expires| expires.min(end))
    }
}

/// A request at a token endpoint, with everything that shapes it and the reading of its answer.
#[derive(Clone, Copy)]
pub struct TokenRequest<'a> {
    /// Whom it asks.
    pub provider: &'a Provider,
    /// For what.
    pub target: &'a ExchangeTarget,
    /// Where, if it is the first leg.
    pub token_endpoint: &'a Url,
    /// On whose behalf.
    pub subject: SubjectInput<'a>,
    /// By which secret of the client's.
    pub which: SecretVersion,
    /// By which assertion, where the request brought the client's.
    pub assertion: Option<&'a Secret>,
    /// The nonce that the endpoint has given last for proofs (RFC 9449 section 8).
    pub nonce: Option<&'a str>,
    /// Which request it is.
    pub leg: Hop<'a>,
}

impl TokenRequest<'_> {
    /// Who is to be proved, and how.
    pub fn client(&self) -> Option<&Client> {
        match self.leg {
            Hop::First => self.provider.client.as_ref(),
            Hop::Second(_) => self.target.issued_to(self.provider),
        }
    }

    /// Whether what it brings is for another request, not for the upstream.
    pub const fn is_first_of_two(&self) -> bool {
        matches!(self.leg, Hop::First) && self.target.second.is_some()
    }

    /// Whether a proof goes with it (RFC 9449 section 5).
    pub fn has_proof(&self) -> bool {
        self.client().is_some_and(|client| client.dpop.is_some())
    }

    /// Where it goes.
    pub fn endpoint(&self) -> &Url {
        self.second().map_or(self.token_endpoint, |server| &server.token_endpoint)
    }

    /// A request is the second of two if it goes to the authorization server of the resource.
    pub(crate) const fn is_second(&self) -> bool {
        matches!(self.leg, Hop::Second(_))
    }

    /// The assertion that the first of two requests has brought for this one.
    pub(crate) const fn assertion_of_first(&self) -> Option<&str> {
        match self.leg {
            Hop::First => None,
            Hop::Second(assertion) => Some(assertion),
        }
    }

    fn second(&self) -> Option<&AuthorizationServer> {
        self.target.second.as_ref().filter(|_| matches!(self.leg, Hop::Second(_)))
    }

    /// The call, made anew for every attempt. `None` when the client could not prove itself.
    pub fn call(&self, timeout: Duration, crypto: &dyn Crypto, now: UnixTime) -> Option<Callout> {
        let Self { provider, target, subject, nonce, .. } = *self;
        let (client, second, token_endpoint) = (self.client()?, self.second(), self.endpoint());
        let proof = prove(client, self.which, self.assertion, token_endpoint, crypto, now)?;
        let (parameters, own) = match self.leg {
            Hop::First => (provider.profile.parameters(target, subject), target.parameters.as_slice()),
            Hop::Second(assertion) => (id_jag::second_parameters(assertion), [].as_slice()),
        };
        let mut form = form_urlencoded::Serializer::new(String::new());
        for (name, value) in parameters {
            form.append_pair(name, &value);
        }
        for (name, value) in own {
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
        if let Some(prover) = &client.dpop {
            let purpose = ProofTarget { method: "POST", url: token_endpoint.as_str(), access_token: None, nonce };
            headers.push(("dpop", prover.prove(purpose, crypto, now)?));
        }
        Some(Callout {
            cluster: second.and_then(|server| server.cluster.as_ref()).unwrap_or(&provider.cluster).clone(),
            method: "POST",
            url: token_endpoint.clone(),
            headers,
            body: Secret::new(form.finish()),
            timeout,
            most_bytes: MOST_ANSWER_BYTES,
        })
    }

    /// Reads what came back: a token that can be used, or whose fault it is that there is none. `accepted`: the tokens that
    /// come in here, none of which may go out.
    pub fn read(
        &self,
        reply: &CalloutResult,
        accepted: &[Accepted<'_>],
        now: UnixTime,
    ) -> Result<Issued, TokenEndpointError> {
        let asked = Asked { provider: self.provider, client: self.client() };
        let read = match reply {
            CalloutResult::Response(answer) if answer.status == 200 => {
                let issued = self.read_success(answer, accepted, now);
                issued.map_err(|problem| TokenEndpointError::unusable_answer(problem, asked, answer))
            }
            CalloutResult::Response(answer) => Err(token_error::read(asked, answer, now)),
            CalloutResult::Failed(failure) => Err(TokenEndpointError::no_answer(*failure)),
        };
        read.map_err(|fault| self.located(fault))
    }

    /// A fault of this request, which says of the second that it was that.
    pub fn located(&self, fault: TokenEndpointError) -> TokenEndpointError {
        match self.second() {
            None => fault,
            Some(server) => fault.of_second_leg(server.token_endpoint.authority() != self.provider.issuer.authority()),
        }
    }

    fn read_success(&self, answer: &Response, accepted: &[Accepted<'_>], now: UnixTime) -> Result<Issued, Problem> {
        let response = json::object(&answer.body).ok_or("the answer is not a JSON object with distinct names")?;
        let access_token = response.string("access_token").ok_or("there is no access_token")?;
        if access_token.is_empty() || !access_token.bytes().all(|byte| matches!(byte, 0x21..=0x7E)) {
            return Err("the access_token cannot stand in a header".into());
        }
        if access_token.len() > MOST_TOKEN_BYTES {
            return Err("the access_token is longer than 32 KiB".into());
        }
        let is_handed_in = match self.leg {
            Hop::First => access_token == self.subject.token,
            Hop::Second(assertion) => access_token == self.subject.token || access_token == assertion,
        };
        if is_handed_in {
            return Err(HANDED_BACK.into());
        }
        let scheme = self.scheme(&response)?;
        let issued = response.get("issued_token_type").map(|issued| issued.as_str().unwrap_or_default());
        let wanted = match self.leg {
            Hop::First => self.target.requested_token_type.as_deref().unwrap_or(ACCESS_TOKEN),
            Hop::Second(_) => ACCESS_TOKEN,
        };
        // RFC 8693 section 2.2.1 requires it; RFC 7523 knows nothing of it. Where it stands, it must be right.
        let is_right = match issued {
            None => !self.is_first_of_two(),
            Some(issued) => issued == wanted || (issued == JWT && !self.is_first_of_two()),
        };
        if !is_right {
            return Err(WRONG_TYPE.into());
        }
        let expires = issued_token::look(self, access_token, accepted, now)?;
        let lifetime = match response.get("expires_in") {
            None => DEFAULT_LIFETIME,
            Some(value) => seconds(value).ok_or("expires_in is not a number of seconds above zero")?,
        };
        let refresh_in = response.get("refresh_in").and_then(seconds);
        Ok(Issued { access_token: Secret::new(access_token.to_owned()), scheme, lifetime, expires, refresh_in })
    }

    /// How the token is to be presented (RFC 6749 section 7.1), if that is how its resource gets it.
    fn scheme(&self, response: &Object<'_>) -> Result<Scheme, &'static str> {
        let kind = response.string("token_type").unwrap_or_default();
        let is = |scheme: Scheme| kind.eq_ignore_ascii_case(scheme.name());
        let has_key = self.client().is_some_and(|client| client.dpop.is_some());
        if self.is_first_of_two() {
            // RFC 8693 section 2.2.1: `N_A`, as it is no access token; some servers say Bearer of it. It is not presented.
            let is_known = kind.eq_ignore_ascii_case("N_A") || is(Scheme::Bearer);
            return if is_known { Ok(Scheme::Bearer) } else { Err("token_type is neither N_A nor Bearer") };
        }
        match &self.target.presentation {
            TokenType::Bearer if is(Scheme::Bearer) => Ok(Scheme::Bearer),
            TokenType::Dpop { .. } if is(Scheme::Dpop) && has_key => Ok(Scheme::Dpop),
            TokenType::Bearer if is(Scheme::Dpop) => Err(BOUND),
            TokenType::Dpop { .. } if is(Scheme::Bearer) => Err(UNBOUND),
            TokenType::Bearer => Err(NOT_BEARER),
            TokenType::Dpop { .. } => Err("token_type is not DPoP"),
        }
    }
}

/// Whole seconds; some servers write the number as a string.
fn seconds(value: &Value<'_>) -> Option<Duration> {
    let seconds = value.as_u64().or_else(|| value.as_str()?.parse().ok())?;
    (seconds > 0).then(|| Duration::from_secs(seconds.min(LONGEST_LIFETIME)))
}
