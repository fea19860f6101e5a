//! Context of a request in the pipeline, and the results of the pipeline.

use std::rc::Rc;

use crate::config::Config;
use crate::crypto::Crypto;
use crate::engine::audit::AuditContext;
use crate::engine::credentials::RequestHead;
use crate::engine::header_mutations::HeaderMutations;
use crate::engine::need::{Need, TokenNeed};
use crate::engine::state::WorkerState;
use crate::http::{LocalReply, Request, Scheme};
use crate::refusal::Refusal;
use crate::shared::SharedStore;
use crate::time::UnixTime;

/// Request in the pipeline, and everything that its decision rests on.
pub(super) struct RequestContext<'a> {
    pub(super) request: &'a Request,
    pub(super) head: RequestHead<'a>,
    pub(super) config: &'a Config,
    pub(super) crypto: &'a dyn Crypto,
    pub(super) store: &'a SharedStore,
    pub(super) state: &'a mut WorkerState,
    pub(super) now: UnixTime,
    /// Path of the resource as Envoy sees it, without a final slash: that of its URL, or of an alias.
    pub(super) prefix: &'a str,
    /// Findings of the steps, for the log and for filter state.
    pub(super) audit: AuditContext,
}

/// Decision that ends the pipeline with an answer.
pub(super) enum Passed {
    /// The request is forwarded.
    Forward {
        mutations: HeaderMutations,
        kind: ForwardKind,
        /// Exchange of the token that replaces the one in use before it ends.
        renewal: Option<Rc<TokenNeed>>,
    },
    /// A metadata document is the answer.
    Metadata(LocalReply),
}

/// Kind of a forwarded request.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum ForwardKind {
    /// The upstream gets an exchanged token.
    Exchanged,
    /// The upstream gets no token or the caller's own, as the operator configured.
    NotExchanged,
    /// The path takes no token.
    Unauthenticated,
}

/// Decision that stops the pipeline.
pub(super) enum Stop {
    /// A fact is missing: the request waits for it.
    Fetch(Need),
    /// The request is refused.
    Refuse(Box<Refusal>),
}

impl Stop {
    /// Sets the scheme under which a refused token was presented. The challenge of that scheme names the error.
    pub(super) fn token_type(self, scheme: Scheme) -> Self {
        match self {
            Self::Fetch(need) => Self::Fetch(need),
            Self::Refuse(mut refusal) => {
                refusal.scheme = scheme;
                Self::Refuse(refusal)
            }
        }
    }
}

impl From<Refusal> for Stop {
    fn from(refusal: Refusal) -> Self {
        Self::Refuse(Box::new(refusal))
    }
}
