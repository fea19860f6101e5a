//! Pipeline: the decision about one request, in the order of the picture in `lib.rs`. Each step is in a file of its own.
//!
//! The pipeline runs again from the top when a fetch has brought what was missing (docs/adr/0001).

use std::rc::Rc;

use crate::engine::authenticate::authenticate;
use crate::engine::authorize::authorize;
use crate::engine::context::{ForwardKind, Passed, RequestContext, Stop};
use crate::engine::credentials::Credential;
use crate::engine::exchanged_token::{UpstreamToken, upstream_token};
use crate::engine::need::TokenNeed;
use crate::engine::route::{self, Route};
use crate::engine::upstream_proof;
use crate::engine::upstream_response::ForwardedRequest;
use crate::http::Scheme;
use crate::refusal::{Reason, Refusal};
use crate::resource::{Requirement, Resource};
use crate::secret::Secret;

/// Runs the pipeline as far as the facts go. It fails closed: a request is forwarded by the last line, or by the operator's
/// list of unauthenticated paths, and in no other way.
pub(super) fn decide(ctx: &mut RequestContext<'_>) -> Result<Passed, Stop> {
    let copies = ctx.head.copies(ctx.config);
    // The log shows hosts, so a token in the host is looked for first.
    ctx.head.check_target(&copies)?;
    let (route, form) = route::route(ctx.config, ctx.head.authority, ctx.head.target)?;
    let resource = match route {
        Route::Resource(mount) => {
            ctx.prefix = &mount.prefix;
            mount.resource.clone()
        }
        Route::Metadata(resource) => return Ok(Passed::Metadata(route::metadata(ctx, resource, form)?)),
        Route::AuthorizationServer(resource) => {
            return Ok(Passed::Metadata(route::authorization_server(ctx, resource)?));
        }
        Route::Unauthenticated => {
            ctx.head.check_query()?;
            let mutations = std::mem::take(&mut ctx.head).mutations(ctx.request, ctx.config, &copies, None, None)?;
            return Ok(Passed::Forward { mutations, kind: ForwardKind::Unauthenticated, renewal: None });
        }
    };
    ctx.audit.resource = Some(resource.clone());
    ctx.audit.form = form;
    check_method(ctx.head.method)?;
    let credential = ctx.head.credential()?;
    let admitted = admit(ctx, &resource, &credential).map_err(|stop| stop.token_type(credential.scheme))?;
    let Admitted { kind, authorization, proof, sent, renewal } = admitted;
    let head = std::mem::take(&mut ctx.head);
    let mut mutations = head.mutations(ctx.request, ctx.config, &copies, authorization, proof)?;
    mutations.sent = sent;
    Ok(Passed::Forward { mutations, kind, renewal })
}

/// Refuses TRACE (RFC 9110 section 9.3.8) and IIS's form of it. A server answers with the header of the request, so the caller would
/// get the token for the upstream.
fn check_method(method: &[u8]) -> Result<(), Refusal> {
    if method.eq_ignore_ascii_case(b"TRACE") || method.eq_ignore_ascii_case(b"TRACK") {
        return Err(Refusal::new(Reason::MethodNotAllowed));
    }
    Ok(())
}

/// Result of the steps that depend on the credential.
struct Admitted {
    kind: ForwardKind,
    /// New value of `authorization`.
    authorization: Option<Secret>,
    /// New value of `dpop`.
    proof: Option<Secret>,
    sent: Option<ForwardedRequest>,
    renewal: Option<Rc<TokenNeed>>,
}

/// Steps that depend on the credential, from authentication to the token for the upstream.
fn admit(ctx: &mut RequestContext<'_>, resource: &Rc<Resource>, credential: &Credential<'_>) -> Result<Admitted, Stop> {
    if credential.scheme == Scheme::Dpop && resource.dpop.mode == Requirement::Off {
        return Err(Refusal::new(Reason::NoCredentials).into());
    }
    let caller = authenticate(ctx, credential.token, resource)?;
    ctx.audit.caller = Some(caller.clone());
    let (exchange, proof_of_possession) = authorize(ctx, resource, credential, &caller)?;
    let UpstreamToken { kind, authorization, sent, renewal } =
        upstream_token(ctx, resource, &exchange, credential, &caller)?;
    // The pipeline may run several times for a request that waits, so the proof is used after the last step that can wait.
    if let Some(proof) = proof_of_possession {
        proof.use_once(ctx)?;
    }
    let proof = match &authorization {
        Some(authorization) => upstream_proof::prove(ctx, resource, &exchange, authorization)?,
        None => None,
    };
    Ok(Admitted { kind, authorization, proof, sent, renewal })
}
