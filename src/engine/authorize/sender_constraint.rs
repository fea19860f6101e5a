//! Sender constraint of a token: by a DPoP proof of its key (RFC 9449), or by the client certificate of the connection
//! (RFC 8705 section 3).

use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;

use crate::cache::verified_tokens::VerifiedToken;
use crate::dpop::replay::{self, ReplayCheck};
use crate::dpop::{server_nonce, verify};
use crate::engine::context::{RequestContext, Stop};
use crate::engine::credentials::{Credential, DpopField};
use crate::http::{Request, Scheme};
use crate::path;
use crate::refusal::{Reason, Refusal};
use crate::resource::{Requirement, Resource};
use crate::time::UnixTime;

/// DPoP proof that holds. It may be used once.
pub(in crate::engine) struct UnusedProof<'a> {
    id: String,
    key_thumbprint: &'a str,
    /// Time from which on the proof is too old to be accepted.
    until: UnixTime,
}

/// Checks that the sender of the request holds the token. A sender-constrained token is never accepted without proof: it may
/// be stolen.
pub(super) fn check<'c>(
    ctx: &RequestContext<'_>,
    resource: &Resource,
    credential: &Credential<'_>,
    caller: &'c VerifiedToken,
) -> Result<Option<UnusedProof<'c>>, Stop> {
    let confirmation = caller.confirmation.as_ref();
    let key_thumbprint = confirmation.and_then(|confirmation| confirmation.key_thumbprint.as_deref());
    let certificate = confirmation.and_then(|confirmation| confirmation.certificate_thumbprint.as_deref());
    if confirmation.is_some() && key_thumbprint.is_none() && certificate.is_none() {
        let cause = "cnf names neither jkt nor x5t#S256: nobody here can prove to be its holder";
        return Err(Refusal::because(Reason::SenderConstrainedToken, cause).into());
    }
    check_certificate(ctx.request, resource, certificate)?;
    match (key_thumbprint, credential.scheme) {
        (None, Scheme::Bearer) if resource.dpop.mode != Requirement::Required => Ok(None),
        (None, _) => {
            let cause = "no jkt: the client must send a DPoP proof to the token endpoint as well";
            Err(Refusal::because(Reason::TokenNotSenderConstrained, cause).into())
        }
        (Some(_), Scheme::Bearer) => {
            Err(Refusal::because(Reason::SenderConstrainedToken, "jkt: sent as Bearer, without a proof").into())
        }
        (Some(key_thumbprint), Scheme::Dpop) => Ok(Some(verified_proof(ctx, resource, credential, key_thumbprint)?)),
    }
}

/// Checks the certificate of the connection against `x5t#S256` of the token.
fn check_certificate(request: &Request, resource: &Resource, thumbprint: Option<&str>) -> Result<(), Refusal> {
    let Some(thumbprint) = thumbprint else {
        return match resource.certificates {
            Requirement::Required => {
                let cause = "no x5t#S256: the provider must bind tokens to the client's certificate";
                Err(Refusal::because(Reason::TokenNotSenderConstrained, cause))
            }
            Requirement::Off | Requirement::Optional => Ok(()),
        };
    };
    if resource.certificates == Requirement::Off {
        let cause = "x5t#S256: certificate_bound_tokens of the resource is off";
        return Err(Refusal::because(Reason::SenderConstrainedToken, cause));
    }
    match request.peer_certificate.map(|digest| BASE64_URL_SAFE_NO_PAD.encode(digest)) {
        None => Err(Refusal::because(
            Reason::WrongCertificate,
            "no certificate on Envoy's own connection: the client has none, Envoy asks for none without validation_context.trusted_ca, or TLS ends before Envoy",
        )),
        Some(presented) if presented != thumbprint => {
            Err(Refusal::because(Reason::WrongCertificate, "another certificate"))
        }
        Some(_) => Ok(()),
    }
}

/// Verifies the DPoP proof of the request (RFC 9449 section 4.3).
fn verified_proof<'c>(
    ctx: &RequestContext<'_>,
    resource: &Resource,
    credential: &Credential<'_>,
    key_thumbprint: &'c str,
) -> Result<UnusedProof<'c>, Refusal> {
    let proof = match credential.proof {
        DpopField::One(proof) => proof,
        DpopField::None => return Err(Refusal::because(Reason::InvalidProof, "there is no DPoP header")),
        DpopField::Several => return Err(Refusal::because(Reason::InvalidProof, "there are several DPoP headers")),
    };
    let path = path::normal_form_with_slashes(ctx.head.target).unwrap_or_default();
    // The client knows the public URL.
    let path = path::moved(&path, ctx.prefix, path::without_final_slash(resource.url.path()));
    let rules = verify::ProofRules {
        method: ctx.head.method,
        url: &resource.url,
        path: &path,
        access_token: credential.token,
        key_thumbprint,
        max_age: resource.dpop.max_age,
    };
    let proof = verify::verify(proof, rules, ctx.crypto, ctx.now)
        .map_err(|problem| Refusal::because(Reason::InvalidProof, problem))?;
    let key = &ctx.config.shared_key;
    let is_fresh = |nonce: &str| server_nonce::is_fresh(nonce, key, ctx.now);
    if resource.dpop.nonce && !proof.nonce.as_deref().is_some_and(is_fresh) {
        let nonce = Some(server_nonce::nonce(key, ctx.now));
        return Err(Refusal { nonce, ..Refusal::new(Reason::UseNonce) });
    }
    Ok(UnusedProof { id: proof.id, key_thumbprint, until: proof.issued_at.plus(resource.dpop.max_age) })
}

impl UnusedProof<'_> {
    /// Uses the proof. No worker accepts it again (RFC 9449 section 11.1).
    pub(in crate::engine) fn use_once(&self, ctx: &RequestContext<'_>) -> Result<(), Refusal> {
        match replay::record_use(ctx.store, self.key_thumbprint, &self.id, self.until, ctx.now) {
            ReplayCheck::FirstUse => Ok(()),
            ReplayCheck::Replayed => Err(Refusal::because(Reason::InvalidProof, "jti was used before")),
            ReplayCheck::NotRecorded => {
                let refusal = Refusal::because(Reason::Overloaded, "too many proofs to remember");
                Err(refusal.retry_after(Duration::from_secs(1)))
            }
        }
    }
}
