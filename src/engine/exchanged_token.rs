//! Token for the upstream: the exchanged token from the cache, or what the operator wants in its place.

use std::rc::Rc;
use std::time::Duration;

use crate::cache::circuit_breaker::BreakerKey;
use crate::cache::exchanged_tokens::{Lookup, SubjectExpiry, TokenKey};
use crate::cache::rejected_tokens::SentToken;
use crate::cache::verified_tokens::VerifiedToken;
use crate::engine::audit::{AuditContext, log_failed_exchange};
use crate::engine::authenticate::subject_token;
use crate::engine::authorize::delegation;
use crate::engine::cache_key::key_prefix;
use crate::engine::context::{ForwardKind, RequestContext, Stop};
use crate::engine::credentials::{Credential, client_assertion};
use crate::engine::need::{Need, TokenNeed};
use crate::engine::upstream_response::ForwardedRequest;
use crate::http::Request;
use crate::provider::{ExchangeTarget, SubjectTokenSource, TokenExchangeTarget, TokenType};
use crate::refusal::{Reason, Refusal};
use crate::resource::{Requirement, Resource, ResourceExchange};
use crate::secret::Secret;
use crate::telemetry::{CacheOutcome, Detail, Fact};

/// Token for the upstream.
pub(super) struct UpstreamToken {
    pub(super) kind: ForwardKind,
    /// Value of `authorization`, scheme included. `None`: the upstream gets no token.
    pub(super) authorization: Option<Secret>,
    /// Facts to keep until the upstream answers.
    pub(super) sent: Option<ForwardedRequest>,
    /// Exchange of the token that replaces this one before it ends.
    pub(super) renewal: Option<Rc<TokenNeed>>,
}

/// Token that goes to the upstream for a caller who may use the resource.
pub(super) fn upstream_token(
    ctx: &mut RequestContext<'_>,
    resource: &Rc<Resource>,
    exchange: &Rc<ResourceExchange>,
    credential: &Credential<'_>,
    caller: &Rc<VerifiedToken>,
) -> Result<UpstreamToken, Stop> {
    let not_exchanged =
        |authorization, sent| UpstreamToken { kind: ForwardKind::NotExchanged, authorization, sent, renewal: None };
    match &exchange.target {
        ExchangeTarget::Exchange(target) => exchanged_token(ctx, resource, exchange, target, credential.token, caller),
        ExchangeTarget::ValidateOnly { forward: false } => {
            Ok(not_exchanged(None, Some(sent(ctx, resource, exchange, (None, caller), false))))
        }
        ExchangeTarget::ValidateOnly { forward: true } => {
            Ok(not_exchanged(Some(Secret::new(format!("Bearer {}", credential.token))), None))
        }
    }
}

/// Subject token of an exchange, and everything else that the exchange is for.
struct ExchangeRequest<'c> {
    resource: &'c Rc<Resource>,
    exchange: &'c Rc<ResourceExchange>,
    target: &'c Rc<TokenExchangeTarget>,
    /// Token in `authorization`.
    caller: &'c Rc<VerifiedToken>,
    subject: Rc<VerifiedToken>,
    subject_token: &'c str,
    is_id_token: bool,
}

/// Exchanged token from the cache. A token that is missing stops the pipeline; one that ends soon is renewed.
fn exchanged_token(
    ctx: &mut RequestContext<'_>,
    resource: &Rc<Resource>,
    exchange: &Rc<ResourceExchange>,
    target: &Rc<TokenExchangeTarget>,
    token: &str,
    caller: &Rc<VerifiedToken>,
) -> Result<UpstreamToken, Stop> {
    let provider = &exchange.provider;
    let beside = match &provider.subject_token {
        SubjectTokenSource::AccessToken | SubjectTokenSource::IdToken => None,
        SubjectTokenSource::IdTokenBeside { source, audiences } => Some(subject_token(ctx, caller, source, audiences)?),
    };
    let is_id_token = beside.is_some() || matches!(provider.subject_token, SubjectTokenSource::IdToken);
    let (subject, subject_token) = beside.unwrap_or_else(|| (caller.clone(), token));
    delegation::check(subject.may_act.as_deref(), provider, target)?;
    let wanted = ExchangeRequest { resource, exchange, target, caller, subject, subject_token, is_id_token };
    let key = wanted.key(ctx)?;
    let breaker_key = || BreakerKey::new(provider.id, caller.identity.tenant.as_deref(), target);
    match ctx.state.exchanged_tokens.get(&key, ctx.now) {
        // The contract must not rest on the provider: one that hands the subject token back is misconfigured.
        Lookup::Issued { authorization, .. }
            if authorization.reveal().split_once(' ').is_some_and(|(_, exchanged)| exchanged == token) =>
        {
            Err(Refusal::because(Reason::ProviderAnswerInvalid, "the caller's own token came back").into())
        }
        Lookup::Issued { authorization, fingerprint, is_renewal_due } => {
            let breakers = &ctx.state.circuit_breakers;
            let may_renew = is_renewal_due && breakers.allows_renewal(&breaker_key(), &key, ctx.now);
            let renewal = if may_renew { wanted.renewal(ctx, key) } else { None };
            ctx.audit.cache = Some(CacheOutcome::Hit);
            let is_proved = matches!(target.token_type, TokenType::Dpop { .. });
            let sent_token = SentToken { key, fingerprint, user: caller.user };
            Ok(UpstreamToken {
                kind: ForwardKind::Exchanged,
                authorization: Some(authorization),
                sent: Some(sent(ctx, resource, exchange, (Some(sent_token), caller), is_proved)),
                renewal,
            })
        }
        Lookup::Failed(refusal) => {
            ctx.audit.cache = Some(CacheOutcome::NegativeHit);
            Err(refusal.into())
        }
        Lookup::Unknown => Err(match ctx.state.circuit_breakers.check(&breaker_key(), ctx.now) {
            Err(open) => {
                let detail = "the circuit breaker of the token endpoint is open";
                Refusal::because(open.reason, detail).retry_after(open.retry_after).into()
            }
            Ok(()) => Stop::Fetch(Need::Token(wanted.need(ctx, key, false)?)),
        }),
    }
}

impl ExchangeRequest<'_> {
    /// Key of the exchanged token in the caches. It rests on the token endpoint, which may have to be discovered first.
    fn key(&self, ctx: &mut RequestContext<'_>) -> Result<TokenKey, Stop> {
        let provider = &self.exchange.provider;
        let jwks = ctx.state.jwks(provider);
        let prefix = jwks
            .key_prefix(self.resource.id, |endpoints| key_prefix(endpoints, provider, self.target, self.is_id_token));
        let Some(prefix) = prefix else {
            return Err(match jwks.remaining_backoff(ctx.now) {
                None => Stop::Fetch(Need::Jwks { provider: provider.clone(), is_refetch: false }),
                Some(pause) => {
                    let cause = "the token endpoint could not be discovered: set token_endpoint where it never can";
                    Refusal::because(Reason::ProviderUnavailable, cause).retry_after(pause).into()
                }
            });
        };
        Ok(self.subject.key_for(self.resource.id, || TokenKey::of(prefix, self.subject_token)))
    }

    fn need(&self, ctx: &RequestContext<'_>, key: TokenKey, is_renewal: bool) -> Result<Rc<TokenNeed>, Refusal> {
        let target = self.target;
        let (expires, accepted_until) = (self.subject.expires, self.subject.accepted_until);
        Ok(Rc::new(TokenNeed {
            key,
            resource: self.resource.clone(),
            exchange: self.exchange.clone(),
            target: target.clone(),
            caller: self.caller.clone(),
            is_renewal,
            subject_token: Secret::new(self.subject_token.to_owned()),
            is_id_token: self.is_id_token,
            assertion: assertion(ctx.request, target)?,
            claims: ctx.state.rejected_tokens.claims(self.resource.id, &key),
            subject_ends: SubjectExpiry { expires, accepted_until },
            actor_token: delegation::actor_token(ctx.request, target)?.map(|token| Secret::new(token.to_owned())),
        }))
    }

    /// Need for the token that replaces the one in use. `None`: it cannot be asked for, which the log says.
    fn renewal(&self, ctx: &mut RequestContext<'_>, key: TokenKey) -> Option<Rc<TokenNeed>> {
        match self.need(ctx, key, true) {
            Ok(need) => Some(need),
            Err(refusal) => {
                let audit = AuditContext {
                    resource: Some(self.resource.clone()),
                    caller: Some(self.caller.clone()),
                    cache: Some(CacheOutcome::Renewed),
                    ..AuditContext::default()
                };
                log_failed_exchange(&audit, ctx.config, &refusal, 0, Duration::ZERO);
                // The next request does not try again at once.
                ctx.state.exchanged_tokens.put_failed(key, refusal, true, Duration::ZERO, ctx.now);
                None
            }
        }
    }
}

fn sent(
    ctx: &RequestContext<'_>,
    resource: &Rc<Resource>,
    exchange: &Rc<ResourceExchange>,
    (token, caller): (Option<SentToken>, &Rc<VerifiedToken>),
    is_proved: bool,
) -> ForwardedRequest {
    ForwardedRequest {
        token,
        caller: caller.clone(),
        exchange: exchange.clone(),
        resource: resource.clone(),
        at: ctx.now,
        has_session: ctx.head.has_session,
        is_proved,
        hides_nonce: is_proved || resource.dpop.mode != Requirement::Off,
    }
}

/// Client assertion, where requests bring it. It shapes no token: whichever it is, it authenticates the same client.
fn assertion(request: &Request, target: &TokenExchangeTarget) -> Result<Option<Secret>, Refusal> {
    let Some(header) = target.client.authentication.header() else {
        return Ok(None);
    };
    client_assertion(request, header).map(Some).map_err(|cause| {
        let detail = Detail::new().with(Fact::Header, header.to_owned());
        Refusal::detailed(Reason::ExchangeMisconfigured, detail.with(Fact::Cause, cause))
    })
}
