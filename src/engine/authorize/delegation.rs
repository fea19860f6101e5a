//! Delegation: whether the user's token lets this client act for the user (`may_act`, RFC 8693 section 4.4), and the actor
//! token of the request (section 2.1).

use crate::engine::credentials::header_token;
use crate::http::Request;
use crate::jose::{ActorClaim, CompactJws};
use crate::provider::oauth::{ID_TOKEN, JWT};
use crate::provider::{ActorToken, ActorTokenSource, Provider, TokenExchangeTarget};
use crate::refusal::{Reason, Refusal};
use crate::telemetry::{Detail, Fact};

/// Checks `may_act` of a subject token. It must name this client, or the actor that is configured.
pub(in crate::engine) fn check(
    may_act: Option<&ActorClaim>,
    provider: &Provider,
    target: &TokenExchangeTarget,
) -> Result<(), Refusal> {
    let Some(named) = may_act else {
        return Ok(());
    };
    let no = |cause: &'static str| Err(Refusal::because(Reason::ActorNotAllowed, cause));
    let client = Some(target.client.id.as_str());
    let (subject, issuer) = match target.actor_token() {
        None => (client, None),
        Some(actor) if actor.subject.is_none() && named.subject.is_some() => {
            return no("the token has may_act, and actor_token.subject does not say whom the actor's token is of");
        }
        Some(actor) => (actor.subject.as_deref(), actor.issuer.as_deref()),
    };
    let issuer = issuer.unwrap_or(provider.issuer.as_str());
    let is = |wanted: &Option<String>, ours: Option<&str>| wanted.as_deref().is_none_or(|wanted| Some(wanted) == ours);
    if named.subject.is_none() && named.client_id.is_none() {
        return no("may_act names neither sub nor client_id");
    }
    if !is(&named.subject, subject) || !is(&named.client_id, client) || !is(&named.issuer, Some(issuer)) {
        return no("may_act names somebody else than this client, or than the actor that is configured");
    }
    Ok(())
}

/// Actor token of the request, where requests bring it. The provider verifies it. It is refused here if it names another
/// subject or issuer than the configuration, or cannot be read as a JWT although its type says so; an opaque token names
/// none.
pub(in crate::engine) fn actor_token<'r>(
    request: &'r Request,
    target: &TokenExchangeTarget,
) -> Result<Option<&'r str>, Refusal> {
    let Some(ActorToken { source: ActorTokenSource::Header(name), token_type, subject, issuer }) = target.actor_token()
    else {
        return Ok(None);
    };
    let no = |cause: &'static str| {
        let detail = Detail::new().with(Fact::Header, name.clone());
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
