//! Fetches in flight, and the requests that wait for each. A fetch is one remote operation of one callout or several in a row.
//! Two needs with the same key are one fetch (single flight).

use std::borrow::Cow;
use std::rc::Rc;

use rustc_hash::FxHashMap;

use crate::cache::exchanged_tokens::TokenKey;
use crate::crypto::Crypto;
use crate::engine::RequestId;
use crate::engine::need::{FetchKey, Need};
use crate::engine::state::WorkerState;
use crate::engine::token_exchange::TokenExchange;
use crate::http::Callout;
use crate::provider::{Document, Endpoints, Provider};
use crate::secret::Secret;
use crate::time::UnixTime;
use crate::url::Url;

/// Maximum number of requests that wait for the same exchanged token.
const MAX_WAITING_FOR_A_TOKEN: usize = 256;

/// Maximum size of a metadata document or JWK Set, in bytes. Ten keys with their certificates are about 20 KB.
const MAX_DOCUMENT_BYTES: usize = 1024 * 1024;

/// Number of a fetch; never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FetchId(u64);

/// Fetch in flight.
pub(super) struct Fetch {
    pub(super) operation: Operation,
    pub(super) waiters: Vec<RequestId>,
    /// Time at which its current callout was made.
    pub(super) started: UnixTime,
}

/// Operation of a fetch, at one of its callouts.
pub(super) enum Operation {
    /// Discovery of a provider's metadata. Its keys come next.
    Discovery {
        provider: Rc<Provider>,
        document: Document,
        /// Problem of the document before, for the log.
        earlier: Option<DiscoveryProblem>,
    },
    /// Fetch of a provider's keys.
    Jwks { provider: Rc<Provider>, endpoints: Endpoints, jwks_uri: Url },
    /// Fetch of a provider's keys by another worker.
    RemoteJwks { provider: Rc<Provider>, ended: u64 },
    /// Token exchange.
    TokenExchange(TokenExchange),
    /// Token exchange by another worker.
    RemoteToken { provider: Rc<Provider>, key: TokenKey },
}

/// Problem of one metadata document.
pub(super) struct DiscoveryProblem {
    pub(super) url: Option<Url>,
    pub(super) text: Cow<'static, str>,
    /// `true`: the document is metadata, which does not fit the configuration.
    pub(super) is_metadata: bool,
}

impl DiscoveryProblem {
    /// Text of this problem and of another one.
    #[inline(never)]
    pub(super) fn followed_by(&self, order: &str, other: &Self) -> String {
        [&*self.text, order, other.url.as_ref().map_or("", Url::as_str), ": ", &*other.text].concat()
    }
}

/// Fetch that another worker makes.
#[derive(Clone)]
pub(super) enum RemoteFetch {
    /// Fetch of keys; `ended` fetches had ended before it.
    Jwks { provider: Rc<Provider>, ended: u64 },
    /// Token exchange.
    Token(TokenKey),
}

/// Result of [`InFlight::join`].
pub(super) enum JoinOutcome {
    /// The request waits for a fetch that was in flight.
    Joined,
    /// The fetch has no room: its waiters would take the places of all others.
    Full,
    /// No fetch serves the need.
    NotFound,
}

/// Table of the fetches in flight.
#[derive(Default)]
pub(super) struct InFlight {
    fetches: FxHashMap<FetchId, Fetch>,
    by_key: FxHashMap<FetchKey, FetchId>,
    last_id: u64,
}

impl InFlight {
    /// Lets `waiter` wait for the fetch that serves `need`, if there is one with room.
    pub(super) fn join(&mut self, need: &Need, waiter: RequestId, max_waiting_for_keys: usize) -> JoinOutcome {
        let room = match need {
            Need::Jwks { .. } => max_waiting_for_keys,
            Need::Token(_) => MAX_WAITING_FOR_A_TOKEN,
        };
        match self.by_key.get(&need.fetch_key()).and_then(|id| self.fetches.get_mut(id)) {
            None => JoinOutcome::NotFound,
            Some(fetch) if fetch.waiters.len() >= room => JoinOutcome::Full,
            Some(fetch) => {
                fetch.waiters.push(waiter);
                JoinOutcome::Joined
            }
        }
    }

    /// Removes a request from the waiters of a fetch. The fetch continues.
    pub(super) fn leave(&mut self, key: FetchKey, waiter: RequestId) {
        if let Some(fetch) = self.by_key.get(&key).and_then(|id| self.fetches.get_mut(id)) {
            fetch.waiters.retain(|other| *other != waiter);
        }
    }

    /// Adds a fetch.
    pub(super) fn put(&mut self, fetch: Fetch) -> FetchId {
        self.last_id = self.last_id.wrapping_add(1);
        let id = FetchId(self.last_id);
        self.by_key.insert(fetch.operation.fetch_key(), id);
        self.fetches.insert(id, fetch);
        id
    }

    /// Removes a fetch.
    pub(super) fn take(&mut self, id: FetchId) -> Option<Fetch> {
        let fetch = self.fetches.remove(&id)?;
        self.by_key.remove(&fetch.operation.fetch_key());
        Some(fetch)
    }

    /// Number of fetches.
    pub(super) fn len(&self) -> usize {
        self.fetches.len()
    }

    /// Number of fetches that no request waits for.
    pub(super) fn background_count(&self) -> usize {
        self.fetches.values().filter(|fetch| fetch.waiters.is_empty()).count()
    }

    /// Returns `true` if a fetch with that key is in flight.
    pub(super) fn contains(&self, key: FetchKey) -> bool {
        self.by_key.contains_key(&key)
    }

    /// Fetches that other workers make and requests of this worker wait for.
    pub(super) fn remote(&self) -> Vec<(FetchId, RemoteFetch)> {
        let remote = |id: FetchId| match &self.fetches.get(&id)?.operation {
            Operation::RemoteJwks { provider, ended } => {
                Some((id, RemoteFetch::Jwks { provider: provider.clone(), ended: *ended }))
            }
            Operation::RemoteToken { key, .. } => Some((id, RemoteFetch::Token(*key))),
            _ => None,
        };
        self.in_order().into_iter().filter_map(remote).collect()
    }

    /// Fetches whose callout the host has forgotten: they are older than [`Provider::callout_limit`].
    pub(super) fn overdue(&self, now: UnixTime) -> Vec<FetchId> {
        let is_overdue = |fetch: &Fetch| {
            let operation = &fetch.operation;
            !operation.is_remote() && now.since(fetch.started) > operation.provider().callout_limit()
        };
        self.in_order().into_iter().filter(|id| self.fetches.get(id).is_some_and(is_overdue)).collect()
    }

    /// Numbers in the order of the starts, so that the same events always have the same outcome.
    fn in_order(&self) -> Vec<FetchId> {
        let mut ids: Vec<_> = self.fetches.keys().copied().collect();
        ids.sort_unstable();
        ids
    }

    /// Starts that lie ahead of the new clock become now.
    pub(super) fn clock_went_back(&mut self, now: UnixTime) {
        for fetch in self.fetches.values_mut() {
            fetch.started = fetch.started.min(now);
        }
    }
}

impl Operation {
    /// Fetch of a provider's keys. Discovery comes first, unless the endpoints are configured, or known from the last fetch
    /// and only another key is looked for.
    pub(super) fn jwks(provider: &Rc<Provider>, is_refetch: bool, state: &mut WorkerState) -> Self {
        let known = state.jwks(provider).endpoints.clone().filter(|_| is_refetch);
        let provider = provider.clone();
        match known.or_else(|| Endpoints::configured(&provider)) {
            Some(Endpoints { jwks_uri: Some(jwks_uri), token_endpoint }) => {
                let endpoints = Endpoints { jwks_uri: Some(jwks_uri.clone()), token_endpoint };
                Self::Jwks { provider, endpoints, jwks_uri }
            }
            _ => Self::Discovery { provider, document: Document::OpenId, earlier: None },
        }
    }

    /// Callout of this step. `None`: it cannot be made.
    pub(super) fn callout(&self, state: &WorkerState, crypto: &dyn Crypto, now: UnixTime) -> Option<Callout> {
        match self {
            Self::Discovery { provider, document, .. } => {
                Some(get(provider, &provider.cluster, document.url(provider.issuer.url()?)?, "application/json"))
            }
            // RFC 7517 section 8.5 registers a type of its own. Most servers use `application/json`.
            Self::Jwks { provider, jwks_uri, .. } => {
                let accept = "application/jwk-set+json, application/json";
                Some(get(provider, &provider.jwks_cluster, jwks_uri.clone(), accept))
            }
            Self::RemoteJwks { .. } | Self::RemoteToken { .. } => None,
            Self::TokenExchange(exchange) => exchange.callout(&state.nonces, crypto, now),
        }
    }

    /// Provider that the operation is for.
    pub(super) fn provider(&self) -> &Rc<Provider> {
        match self {
            Self::Discovery { provider, .. }
            | Self::Jwks { provider, .. }
            | Self::RemoteJwks { provider, .. }
            | Self::RemoteToken { provider, .. } => provider,
            Self::TokenExchange(exchange) => exchange.need.provider(),
        }
    }

    const fn is_remote(&self) -> bool {
        matches!(self, Self::RemoteJwks { .. } | Self::RemoteToken { .. })
    }

    fn fetch_key(&self) -> FetchKey {
        match self {
            Self::Discovery { provider, .. } | Self::Jwks { provider, .. } | Self::RemoteJwks { provider, .. } => {
                FetchKey::Jwks(provider.id)
            }
            Self::RemoteToken { key, .. } => FetchKey::Token(*key),
            Self::TokenExchange(exchange) => FetchKey::Token(exchange.need.key),
        }
    }
}

fn get(provider: &Provider, cluster: &Rc<str>, url: Url, accept: &str) -> Callout {
    Callout {
        cluster: cluster.clone(),
        method: "GET",
        url,
        headers: vec![("accept", Secret::new(accept.to_owned()))],
        body: Secret::new(String::new()),
        timeout: provider.timeout,
        most_bytes: MAX_DOCUMENT_BYTES,
    }
}
