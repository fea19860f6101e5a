//! Responses of upstreams: a 401 says that the exchanged token is not accepted there (docs/adr/0013).

use std::rc::Rc;
use std::time::Duration;

use crate::cache::rejected_tokens::{RejectionOutcome, SentToken};
use crate::cache::verified_tokens::VerifiedToken;
use crate::dpop::{NonceIssuer, nonce_cache};
use crate::engine::audit::AuditContext;
use crate::engine::{Decision, Engine, Progress, broadcast};
use crate::http::Response;
use crate::provider::sent_token;
use crate::refusal::{Reason, Refusal};
use crate::resource::{Resource, ResourceExchange, SlashForm, challenge};
use crate::telemetry::{Detail, Fact};
use crate::time::UnixTime;

/// `Retry-After` of a client whose token was dropped: its next request exchanges anew.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Fields without which a browser shows no response of another origin to a script (Fetch section 3.3.3). The local reply keeps them.
const CORS_FIELDS: [&str; 3] =
    ["access-control-allow-origin", "access-control-allow-credentials", "access-control-expose-headers"];

/// Remedy for [`Reason::UpstreamRejectedToken`].
const ANOTHER_TOKEN: &str = "none if the upstream accepts the next token; else compare issuer, audience and scopes of the token, in sent_*, with what it requires";
/// Remedy for [`Reason::UpstreamRejectsTokens`].
const COMPARE: &str = "compare issuer, audience and scopes of the token, in sent_* if it is readable, with what the upstream requires; exchange of the resource decides them";
/// Remedy for [`Reason::UpstreamSessionGone`].
const NEW_SESSION: &str = "none if the client begins a new session, which MCP requires after 404";

/// Value of `grpc-status` for UNAUTHENTICATED. PERMISSION_DENIED is 7, and as little about the token as a 403.
const UNAUTHENTICATED: &str = "16";

/// Returns `true` if an upstream does not accept the token: 401, or 200 with `grpc-status: 16` in the header, which is
/// gRPC's form of a response without content (gRPC over HTTP2, "Trailers-Only").
fn rejects_token(response: &Response) -> bool {
    match response.status {
        401 => true,
        200 => response.header("grpc-status") == Some(UNAUTHENTICATED),
        _ => false,
    }
}

/// Facts about a forwarded request that are kept until the upstream answers.
#[derive(Clone)]
pub struct ForwardedRequest {
    /// Exchanged token. `None`: the upstream got none.
    pub(super) token: Option<SentToken>,
    pub(super) caller: Rc<VerifiedToken>,
    pub(super) exchange: Rc<ResourceExchange>,
    pub(super) resource: Rc<Resource>,
    pub(super) at: UnixTime,
    /// `true` if the request named a session of the upstream.
    pub(super) has_session: bool,
    /// `true` if a DPoP proof of this proxy went with it.
    pub(super) is_proved: bool,
    /// `true` if a client could take a nonce of the upstream for one of this proxy.
    pub(super) hides_nonce: bool,
}

impl ForwardedRequest {
    /// Time at which the request was forwarded.
    pub const fn at(&self) -> UnixTime {
        self.at
    }

    /// Returns `true` if an exchanged token went with the request, so that a 401 is about that token.
    pub const fn has_token(&self) -> bool {
        self.token.is_some()
    }

    /// Returns `true` if a `DPoP-Nonce` of the response is not for the client: a proof of this proxy went with the request,
    /// or the client's proofs are for this proxy (RFC 9449 section 8.2).
    pub const fn hides_nonce(&self) -> bool {
        self.hides_nonce
    }
}

/// Action on a response of an upstream.
#[must_use]
pub enum UpstreamAction {
    /// The response is forwarded without these fields.
    PassOn {
        /// Names of the fields.
        remove: &'static [&'static str],
    },
    /// This decision replaces the response.
    Instead(Decision),
}

impl Engine {
    /// Takes in a message of another worker. A message that no worker with this configuration has sent is ignored.
    pub fn message(&mut self, message: &[u8], now: UnixTime) {
        self.set_time(now);
        let Some(rejected) = broadcast::read_message(&self.config.shared_key, &self.config.resources, message) else {
            return;
        };
        match self.state.exchanged_tokens.fingerprint(&rejected.key) {
            // Workers that do not share tokens have another one: the upstream has said nothing of it.
            Some(in_use) if in_use != rejected.fingerprint => {}
            in_use => {
                self.state.rejected_tokens.record_remote(&rejected, now);
                if in_use.is_some() {
                    self.state.exchanged_tokens.remove_issued(&rejected.key);
                }
            }
        }
    }

    /// Takes in the response of an upstream to a forwarded request.
    ///
    /// `WWW-Authenticate` of the upstream is meant for this proxy. A client that followed it would sign in for the upstream and
    /// come back with a token for another resource.
    pub fn on_upstream_response(
        &mut self,
        sent: &ForwardedRequest,
        response: &Response,
        now: UnixTime,
    ) -> UpstreamAction {
        let has_nonce = sent.is_proved && self.upstream_nonce(&sent.resource, nonce_cache::fields(response));
        let (true, Some(token)) = (rejects_token(response), sent.token) else {
            let remove: &[_] =
                if sent.hides_nonce { &["www-authenticate", "dpop-nonce"] } else { &["www-authenticate"] };
            return UpstreamAction::PassOn { remove };
        };
        self.set_time(now);
        let (provider, resource) = (&sent.exchange.provider, &sent.resource);
        let claims = challenge::wanted_claims(response).filter(|_| provider.profile.takes_claims());
        let is_for_nonce = has_nonce && challenge::wants_nonce(response);
        let wants = match (is_for_nonce, &claims) {
            (true, _) => "nonce",
            (false, Some(_)) => "claims",
            (false, None) => "",
        };
        let detail = Detail::new().with(Fact::Wants, wants).and(&self.sent_facts(&token, response));
        let in_use = self.state.exchanged_tokens.fingerprint(&token.key);
        let outcome = if is_for_nonce {
            RejectionOutcome::Kept
        } else {
            let (sent_to, in_session) = ((resource.id, sent.at), sent.has_session);
            self.state.rejected_tokens.record_rejection(token, sent_to, in_use, claims, in_session, now)
        };
        if matches!(outcome, RejectionOutcome::Invalidated) {
            self.state.exchanged_tokens.remove_issued(&token.key);
            self.shared_tokens().invalidate(&token.key, token.fingerprint, now);
            if let Some(rejected) = self.state.rejected_tokens.message(resource.id, &token.key) {
                self.broadcast.send(&rejected, resource, &self.store, now);
            }
        }
        let (reason, remedy) = match outcome {
            RejectionOutcome::Invalidated | RejectionOutcome::Superseded | RejectionOutcome::Kept => {
                (Reason::UpstreamRejectedToken, ANOTHER_TOKEN)
            }
            RejectionOutcome::RejectsReplacements => (Reason::UpstreamRejectsTokens, COMPARE),
            RejectionOutcome::SessionGone => (Reason::UpstreamSessionGone, NEW_SESSION),
        };
        let mut refusal = Refusal::detailed(reason, detail.with(Fact::Remedy, remedy));
        if reason == Reason::UpstreamRejectedToken {
            refusal = refusal.retry_after(RETRY_AFTER);
        }
        let (caller, form) = (Some(sent.caller.clone()), SlashForm::Configured);
        let audit = AuditContext { resource: Some(resource.clone()), form, caller, cache: None };
        let progress = Progress { decisions: 0, since: sent.at, cache: None };
        let mut decision = self.refuse(&refusal, &audit, progress, now);
        if let Decision::Respond(reply) = &mut decision {
            let fields = CORS_FIELDS.iter().filter_map(|name| Some((*name, response.header(name)?.to_owned())));
            reply.headers.extend(fields);
        }
        UpstreamAction::Instead(decision)
    }

    /// Facts about a rejection: the upstream's error code, and claims of the token that it rejected.
    fn sent_facts(&self, sent: &SentToken, response: &Response) -> Detail {
        let authorization = self.state.exchanged_tokens.authorization(&sent.key, sent.fingerprint);
        let token =
            authorization.and_then(|authorization| authorization.reveal().split_once(' ')).map(|(_, token)| token);
        let error = challenge::error_code(response).map(|code| sent_token::shown_error(&code, token));
        let facts = Detail::new().with(Fact::UpstreamError, error.unwrap_or_default());
        facts.and(&token.map(sent_token::facts).unwrap_or_default())
    }

    /// Takes in the `DPoP-Nonce` fields of a response of an upstream: its next proof has the nonce in it (RFC 9449 sections
    /// 8.2 and 9). Returns `true` if there is a nonce.
    fn upstream_nonce<'a>(&mut self, resource: &Resource, fields: impl Iterator<Item = &'a [u8]>) -> bool {
        resource.takes_proofs() && self.state.nonces.insert(NonceIssuer::Upstream(&resource.url), fields)
    }
}
