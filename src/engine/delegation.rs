//! Who acts for a user: whether the user's token lets us (RFC 8693 section 4.4), and the token that says who we are (section
//! 2.1).

use crate::engine::credentials::header_token;
use crate::http::Request;
use crate::jose::{ActorClaim, CompactJws};
use crate::provider::{ActorToken, ActorTokenSource, ExchangeTarget, ID_TOKEN, JWT, Provider};
use crate::refusal::{Reason, Refusal};
use crate::telemetry::{Detail, Fact};

/// Whether we are who may act: this client, or whoever the token is of that is sent for the actor.
pub(super) fn check(may_act: Option<&ActorClaim>, provider: &Provider, target: &ExchangeTarget) -> Result<(), Refusal> {
    let Some(party) = may_act else {
        return Ok(());
    };
    let no = |cause: &'static str| {
        let detail = Detail::new().with(Fact::Provider, provider.name.to_string()).with(Fact::Cause, cause);
        Err(Refusal::detailed(Reason::ActorNotAllowed, detail))
    };
    let client = provider.client.as_ref().map(|client| client.id.as_str());
    let (subject, issuer) = match &target.actor {
        None => (client, None),
        Some(actor) if actor.subject.is_none() && party.subject.is_some() => {
            return no("the token has may_act, and actor_token.subject does not say whom the actor's token is of");
        }
        Some(actor) => (actor.subject.as_deref(), actor.issuer.as_deref()),
    };
    let issuer = issuer.unwrap_or(provider.issuer.as_str());
    let is = |wanted: &Option<String>, ours: Option<&str>| wanted.as_deref().is_none_or(|wanted| Some(wanted) == ours);
    if party.subject.is_none() && party.client_id.is_none() {
        return no("may_act names neither sub nor client_id");
    }
    if !is(&party.subject, subject) || !is(&party.client_id, client) || !is(&party.issuer, Some(issuer)) {
        return no("may_act names somebody else than this client, or than the actor that is configured");
    }
    Ok(())
}

/// The actor's token that comes with the request, where it comes with that. What it says of itself is not verified here,
/// the provider does that; but one that says to be another's than the configured actor's goes nowhere, nor does one that
/// we read in another way than the provider may, or not at all. Only an opaque one says nothing of itself.
pub(super) fn token<'r>(
    request: &'r Request,
    provider: &Provider,
    target: &ExchangeTarget,
) -> Result<Option<&'r str>, Refusal> {
    let Some(ActorToken { source: ActorTokenSource::Header(name), token_type, subject, issuer }) = &target.actor else {
        return Ok(None);
    };
    let no = |cause: &'static str| {
        let detail = Detail::new().with(Fact::Provider, provider.name.to_string()).with(Fact::Header, name.clone());
        Err(Refusal::detailed(Reason::ActorTokenMissing, detail.with(Fact::Cause, cause)))
    };
    let Some(token) = header_token(request, name) else {
        return no("not one token is there: an earlier filter of Envoy's must put it there, in place of what came");
    };
    let is_said = subject.is_some() || issuer.is_some();
    let may_be_opaque = token.matches('.').count() < 2 && ![JWT, ID_TOKEN].contains(&token_type.as_str());
    if is_said && !may_be_opaque {
        let is_theirs = CompactJws::parse(token, |_| None).and_then(|compact| {
            let claims = compact.claims()?;
            let is = |name: &str, wanted: &Option<String>| wanted.is_none() || claims.string(name) == wanted.as_deref();
            Ok(is("sub", subject) && is("iss", issuer))
        });
        match is_theirs {
            Ok(true) => {}
            Ok(false) => return no("it is of another actor than the configured one"),
            Err(_) => return no("whose it is cannot be read: it is no plain signed JWT"),
        }
    }
    Ok(Some(token))
}
