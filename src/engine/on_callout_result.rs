//! Handling of callout results: what a result says is stored, and its fetch continues with another callout or ends.

use std::borrow::Cow;
use std::rc::Rc;
use std::time::Duration;

use crate::cache::circuit_breaker::BreakerContext;
use crate::cache::shared_tokens::SharedTokens;
use crate::config::Config;
use crate::crypto::Crypto;
use crate::engine::RequestId;
use crate::engine::audit::{exchange_record, log_failed_exchange};
use crate::engine::in_flight::{DiscoveryProblem, Fetch, Operation};
use crate::engine::need::TokenNeed;
use crate::engine::state::WorkerState;
use crate::engine::token_exchange::{self, TokenExchange};
use crate::http::{Callout, CalloutFailure, CalloutResult};
use crate::jose::{Key, KeySet};
use crate::provider::{DiscoveryError, Document, Endpoints, ErrorClass, Provider, TokenEndpointError};
use crate::refusal::{Reason, Refusal};
use crate::shared::SharedStore;
use crate::telemetry::{Counters, Fact, Record};
use crate::time::UnixTime;
use crate::url::Url;

/// Error of a fetch of keys whose callout cannot be made.
pub(super) const NOT_MADE: &str = "the call could not be made";

/// Everything that a callout result may change.
pub(super) struct CalloutHandler<'a> {
    pub(super) config: &'a Config,
    pub(super) crypto: &'a dyn Crypto,
    pub(super) state: &'a mut WorkerState,
    pub(super) counters: &'a mut Counters,
    pub(super) store: &'a SharedStore,
}

/// Continuation of a fetch after a callout result.
pub(super) enum Next {
    /// Another callout of the same fetch.
    Callout(Box<(Fetch, Callout)>),
    /// End of the fetch; these requests waited for it.
    Done(Vec<RequestId>),
}

impl<'a> CalloutHandler<'a> {
    /// Takes a result in.
    pub(super) fn handle(&mut self, fetch: Fetch, result: &CalloutResult, now: UnixTime) -> Next {
        let Fetch { operation, waiters, started } = fetch;
        match operation {
            Operation::Discovery { provider, document, earlier } => {
                match self.discovery(&provider, document, earlier, result, now) {
                    Some(next) => self.next_of_jwks(next, &provider, waiters, now),
                    None => Next::Done(waiters),
                }
            }
            Operation::Jwks { provider, endpoints, jwks_uri } => {
                self.jwks(&provider, endpoints, &jwks_uri, result, now);
                Next::Done(waiters)
            }
            Operation::RemoteJwks { .. } | Operation::RemoteToken { .. } => Next::Done(waiters),
            Operation::TokenExchange(exchange) => self.token_exchange(exchange, waiters, started, result, now),
        }
    }

    /// Result of a discovery. `None`: it is the last callout.
    fn discovery(
        &mut self,
        provider: &Rc<Provider>,
        document: Document,
        earlier: Option<DiscoveryProblem>,
        result: &CalloutResult,
        now: UnixTime,
    ) -> Option<Operation> {
        let read = body(result).map(|body| Endpoints::discovered(provider, body));
        // This document is the issuer's, and it is the configuration that does not admit it.
        let is_final = matches!(read, Ok(Err(DiscoveryError::OtherHost(_))));
        let is_metadata = matches!(&read, Ok(Err(error)) if *error != DiscoveryError::NotJson);
        let read = read.and_then(|read| read.map_err(|error| unreadable(error.text(), result)));
        let url = provider.issuer.url().and_then(|issuer| document.url(issuer));
        match (read, document.next()) {
            (Ok(Endpoints { jwks_uri: Some(jwks_uri), token_endpoint }), _) => {
                let endpoints = Endpoints { jwks_uri: Some(jwks_uri.clone()), token_endpoint };
                Some(Operation::Jwks { provider: provider.clone(), endpoints, jwks_uri })
            }
            (Ok(endpoints), _) => {
                let keys = provider.jwks.clone().unwrap_or_default();
                self.jwks_fetched(provider, endpoints, keys, (b"", None), now);
                None
            }
            // Some servers have the one document, some the other, and they say so by any status and any content. No part of a
            // document is used whose `issuer` is another one (RFC 8414 section 3.3), so a further document is as safe as the first.
            (Err(text), Some(document)) if is_answered(result) && !is_final => {
                let earlier = Some(DiscoveryProblem { url, text, is_metadata });
                Some(Operation::Discovery { provider: provider.clone(), document, earlier })
            }
            (Err(text), _) => {
                let last = DiscoveryProblem { url, text, is_metadata };
                // Metadata of another issuer is the cause, although a further document was looked for in vain.
                let (problem, url) = match &earlier {
                    Some(first) if first.is_metadata && !last.is_metadata => {
                        (first.followed_by("; after that, ", &last).into(), &first.url)
                    }
                    Some(first) => (last.followed_by("; before that, ", first).into(), &last.url),
                    None => (last.text.clone(), &last.url),
                };
                let at = url.as_ref().map(|url| (url, &provider.cluster));
                self.jwks_failed(provider, (&problem, result.words()), at, now);
                None
            }
        }
    }

    fn next_of_jwks(
        &mut self,
        operation: Operation,
        provider: &Rc<Provider>,
        waiters: Vec<RequestId>,
        now: UnixTime,
    ) -> Next {
        match operation.callout(self.state, self.crypto, now) {
            Some(callout) => {
                self.state.jwks(provider).extend_lease(self.store, now);
                Next::Callout(Box::new((Fetch { operation, waiters, started: now }, callout)))
            }
            None => {
                self.jwks_failed(provider, (NOT_MADE, ""), None, now);
                Next::Done(waiters)
            }
        }
    }

    /// Result of a fetch of keys.
    fn jwks(
        &mut self,
        provider: &Rc<Provider>,
        endpoints: Endpoints,
        jwks_uri: &Url,
        result: &CalloutResult,
        now: UnixTime,
    ) {
        let at = Some((jwks_uri, &provider.jwks_cluster));
        let read = body(result).and_then(|body| {
            let (keys, skipped) =
                KeySet::read(body).ok_or_else(|| unreadable("the answer is not a JWK Set".into(), result))?;
            Ok((body, keys, skipped))
        });
        match (read, result) {
            (Ok((jwks, keys, skipped)), CalloutResult::Response(response)) if !keys.is_empty() => {
                let skipped = counted(&skipped);
                if let Some(key) = keys.ambiguous() {
                    log::warn!("{}", ambiguous(provider, jwks_uri, key, &skipped));
                } else if !skipped.is_empty() {
                    log::debug!("skipped keys of provider={}: {skipped}", provider.name);
                }
                self.jwks_fetched(provider, endpoints, keys, (jwks, response.max_age()), now);
            }
            (Ok((_, _, skipped)), _) => {
                let problem = format!("the JWK Set has no usable key: {}", counted(&skipped));
                self.jwks_failed(provider, (problem.trim_end_matches(": "), ""), at, now);
            }
            (Err(problem), _) => self.jwks_failed(provider, (&problem, result.words()), at, now),
        }
    }

    /// Result of a callout of a token exchange.
    fn token_exchange(
        &mut self,
        exchange: TokenExchange,
        waiters: Vec<RequestId>,
        started: UnixTime,
        result: &CalloutResult,
        now: UnixTime,
    ) -> Next {
        let (need, took) = (exchange.need.clone(), exchange.took(now));
        let has_worked = self.state.has_worked(&need);
        let is_new = match exchange.on_result(result, self.config, has_worked, &mut self.state.nonces, self.crypto, now)
        {
            token_exchange::Next::Callout(next, callout) => {
                let operation = Operation::TokenExchange(*next);
                return Next::Callout(Box::new((Fetch { operation, waiters, started: now }, callout)));
            }
            token_exchange::Next::Issued { issued, outcome } => {
                let provider = need.provider();
                let mut record = exchange_record(&need.audit(), self.config, outcome, waiters.len(), took);
                record.add(Fact::LifetimeSeconds, &issued.end(now).since(now).as_secs().to_string());
                record.add(Fact::GrantedScopes, &issued.granted_scopes);
                record.add(Fact::MissingScopes, &issued.missing_scopes);
                record.add(Fact::ProviderTraceId, &issued.trace_id);
                let level = if issued.missing_scopes.is_empty() { log::Level::Info } else { log::Level::Warn };
                log::log!(level, "{record}");
                self.state.remember_success(&need);
                self.counters.exchanged(&provider.name, outcome, took);
                let context = self.breaker_context(provider, now);
                self.state.circuit_breakers.record_success(&need.breaker_key(), &context);
                self.state.exchanged_tokens.put_issued(need.key, &issued, need.subject_ends, started, now)
            }
            token_exchange::Next::Failed(error) => self.exchange_failed(&need, &error, waiters.len(), took, now),
        };
        match self.state.exchanged_tokens.peek(&need.key, now) {
            Some(stored) if is_new => self.shared_tokens().publish(&need.key, stored, now),
            kept => self.shared_tokens().release(&need.key, kept, now),
        }
        Next::Done(waiters)
    }

    /// Stores a failed exchange in the negative cache, for a time that depends on the class of the error. Returns `true` if
    /// it was stored; `false` if a token is in use, which may be as good as before.
    fn exchange_failed(
        &mut self,
        need: &TokenNeed,
        error: &TokenEndpointError,
        waiters: usize,
        took: Duration,
        now: UnixTime,
    ) -> bool {
        let class = error.class;
        let reason = Reason::from(class);
        let pause = self.update_breaker(need, error, took, now);
        let mut refusal = Refusal::detailed(reason, error.detail());
        log_failed_exchange(&need.audit(), self.config, &refusal, waiters, took);
        if class.is_retryable() {
            refusal = refusal.retry_after(pause);
        }
        if class == ErrorClass::UserMustAct {
            if need.caller.identity.takes_claims_challenge {
                // Not every error response says which claims are missing; the upstream did.
                refusal.claims = error.claims.clone().or_else(|| need.claims.clone().map(Into::into));
            }
            refusal.interaction_uri.clone_from(&error.interaction_uri);
        }
        if matches!(class, ErrorClass::Operator | ErrorClass::ClientAuthentication) {
            self.state.rejected_tokens.remove_claims(need.resource.id, &need.key);
        }
        self.counters.exchanged(&need.provider().name, reason.label(), took);
        // Errors of these classes say nothing of the user: a token that is in use is as good as before.
        let keeps_token = matches!(
            class,
            ErrorClass::ClientAuthentication
                | ErrorClass::Operator
                | ErrorClass::Throttled
                | ErrorClass::Unavailable
                | ErrorClass::InvalidResponse
        );
        self.state.exchanged_tokens.put_failed(need.key, refusal, keeps_token, pause, now)
    }

    /// Tells the circuit breaker of an error. The result is the time for which the failure is remembered.
    fn update_breaker(
        &mut self,
        need: &TokenNeed,
        error: &TokenEndpointError,
        took: Duration,
        now: UnixTime,
    ) -> Duration {
        let pause = match error.class {
            // A user who can act at once comes back at once.
            ErrorClass::UserMustAct if error.interaction_uri.is_some() => 10,
            ErrorClass::UserMustAct => 120,
            ErrorClass::NotAllowed => 60,
            ErrorClass::Token | ErrorClass::ClientAuthentication | ErrorClass::Operator => 30,
            ErrorClass::Throttled => 10,
            ErrorClass::InvalidResponse => 5,
            ErrorClass::Unavailable => 1,
        };
        let pause = error.retry_after.unwrap_or_else(|| Duration::from_secs(pause));
        let (key, context) = (need.breaker_key(), self.breaker_context(need.provider(), now));
        let (breakers, user) = (&mut self.state.circuit_breakers, &need.caller.identity.user);
        if error.is_rate_limit() {
            breakers.record_throttle(&key, user, pause, &context);
        } else if error.class == ErrorClass::Unavailable {
            let backoff = breakers.record_outage(&key, user, now.minus(took), &context);
            return error.retry_after.unwrap_or(backoff);
        } else {
            breakers.record_success(&key, &context);
        }
        pause
    }

    /// Stores keys, with the document that they came in and the time for which its response is fresh.
    fn jwks_fetched(
        &mut self,
        provider: &Provider,
        endpoints: Endpoints,
        keys: KeySet,
        (document, max_age): (&[u8], Option<Duration>),
        now: UnixTime,
    ) {
        log::debug!("fetched {} keys of provider={}", keys.len(), provider.name);
        let fetched = (endpoints, keys, document);
        let change = self.state.jwks(provider).record_success(fetched, max_age, self.store, self.crypto, now);
        self.state.apply_change(change);
        self.counters.jwks_refreshed(&provider.name, true);
    }

    /// Records a fetch of keys that failed. `words`: those of Envoy, if it answered in place of the provider. `at`: URL and
    /// cluster of the callout, if it was made.
    pub(super) fn jwks_failed(
        &mut self,
        provider: &Provider,
        (problem, words): (&str, &str),
        at: Option<(&Url, &Rc<str>)>,
        now: UnixTime,
    ) {
        let jwks = self.state.jwks(provider);
        let mut record = Record::default();
        record.add(Fact::Event, if provider.jwks.is_some() { "discovery_failed" } else { "jwks_fetch_failed" });
        record.add(Fact::Provider, &provider.name);
        record.add(Fact::Url, at.map_or("", |(url, _)| url.without_query()));
        record.add(Fact::Cluster, at.map_or(&provider.cluster, |(_, cluster)| cluster));
        record.add(Fact::Error, problem);
        record.add(Fact::EnvoyReply, words);
        record.add(Fact::CachedJwks, if jwks.keys.is_some() { "kept" } else { "none" });
        log::warn!("{record}");
        jwks.record_failure(self.store, self.crypto, now);
        self.counters.jwks_refreshed(&provider.name, false);
    }

    fn breaker_context<'p>(&self, provider: &'p Provider, now: UnixTime) -> BreakerContext<'p>
    where
        'a: 'p,
    {
        BreakerContext { store: self.store, crypto: self.crypto, provider, now }
    }

    fn shared_tokens(&self) -> SharedTokens<'_> {
        SharedTokens {
            store: self.store,
            crypto: self.crypto,
            rejections: &self.state.rejected_tokens,
            capacity: self.config.shared_tokens,
        }
    }
}

/// Body of a response with status 200, or the reason why there is none.
fn body(result: &CalloutResult) -> Result<&[u8], Cow<'static, str>> {
    match result {
        CalloutResult::Response(response) if response.status == 200 => Ok(&response.body),
        CalloutResult::Response(response) => Err(format!("the answer's status is {}", response.status).into()),
        CalloutResult::Failed(failure) | CalloutResult::ByEnvoy(failure, _) => Err(failure.text().into()),
    }
}

/// Log line about a JWKS with two different keys that have the same `kid` and algorithm.
fn ambiguous(provider: &Provider, jwks_uri: &Url, key: &Key, skipped: &str) -> Record {
    let mut problem =
        format!("two different keys have this kid and {}: tokens with it are refused", key.algorithm.name());
    if !skipped.is_empty() {
        problem.push_str("; keys that are not used: ");
        problem.push_str(skipped);
    }
    let mut record = Record::default();
    record.add(Fact::Event, "jwks_ambiguous");
    record.add(Fact::Provider, &provider.name);
    record.add(Fact::Url, jwks_uri.without_query());
    record.add(Fact::KeyId, key.id.as_deref().unwrap_or_default());
    record.add(Fact::Error, &problem);
    record
}

/// Reasons for which keys are skipped, each once and with its number of keys.
fn counted(reasons: &[&'static str]) -> String {
    let mut counts: Vec<(&str, usize)> = Vec::new();
    for reason in reasons {
        match counts.iter_mut().find(|(known, _)| known == reason) {
            Some((_, count)) => *count = count.saturating_add(1),
            None => counts.push((reason, 1)),
        }
    }
    let text = |(reason, count): (&str, usize)| {
        if count == 1 { reason.to_owned() } else { format!("{reason} ({count} keys)") }
    };
    counts.into_iter().map(text).collect::<Vec<_>>().join("; ")
}

/// Returns `true` if the server has answered. Another document would not be answered either, if it has not.
const fn is_answered(result: &CalloutResult) -> bool {
    matches!(result, CalloutResult::Response(_) | CalloutResult::Failed(CalloutFailure::TooLarge))
}

/// Problem of a body that cannot be read. The content coding is the cause if there is one: every callout asks for none.
fn unreadable(problem: Cow<'static, str>, result: &CalloutResult) -> Cow<'static, str> {
    let coding = match result {
        CalloutResult::Response(response) => response.content_coding(),
        CalloutResult::Failed(_) | CalloutResult::ByEnvoy(..) => None,
    };
    match coding {
        Some(coding) => format!("{problem}: its content-encoding is {coding}, although identity was asked for").into(),
        None => problem,
    }
}
