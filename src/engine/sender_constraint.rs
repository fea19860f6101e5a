//! That a bound token is presented by its holder: by a proof of the key (RFC 9449), or by the certificate of the
//! connection (RFC 8705 section 3).

use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;

use crate::cache::verified_tokens::VerifiedToken;
use crate::crypto::Crypto;
use crate::dpop::replay::{self, ProofUse};
use crate::dpop::{server_nonce, verify};
use crate::engine::credentials::{Credential, DpopField, RequestHead};
use crate::engine::decide::Verdict;
use crate::http::{Request, Scheme};
use crate::path;
use crate::refusal::{Reason, Refusal};
use crate::resource::{Requirement, Resource};
use crate::shared::{SharedData, SharedKey};
use crate::time::UnixTime;

/// A proof that holds and is still to be used, which can be done once.
pub(super) struct Possession<'a> {
    id: String,
    key_thumbprint: &'a str,
    /// When its time makes it too old.
    until: UnixTime,
}

/// Whether the one who sent the request holds its token. A bound token is never taken without proof: it could be stolen,
/// which is what it was bound against.
#[expect(clippy::too_many_arguments, reason = "the facts of one request, each used once")]
pub(super) fn check<'a>(
    resource: &'a Resource,
    request: &Request,
    head: &RequestHead<'_>,
    credential: &Credential<'_>,
    caller: &'a VerifiedToken,
    crypto: &dyn Crypto,
    key: &SharedKey,
    now: UnixTime,
) -> Result<Option<Possession<'a>>, Verdict> {
    let no = |reason: Reason, cause: &'static str| Err(Verdict::from(Refusal::because(reason, cause)));
    let confirmation = caller.confirmation.as_ref();
    let key_thumbprint = confirmation.and_then(|confirmation| confirmation.key_thumbprint.as_deref());
    let certificate = confirmation.and_then(|confirmation| confirmation.certificate_thumbprint.as_deref());
    if confirmation.is_some() && key_thumbprint.is_none() && certificate.is_none() {
        return no(
            Reason::SenderConstrainedToken,
            "cnf names neither jkt nor x5t#S256: nobody here can prove to be its holder",
        );
    }
    match certificate {
        Some(_) if resource.certificates == Requirement::Off => {
            return no(Reason::SenderConstrainedToken, "x5t#S256: certificate_bound_tokens of the resource is off");
        }
        Some(bound) => match request.peer_certificate.map(|digest| BASE64_URL_SAFE_NO_PAD.encode(digest)) {
            None => {
                return no(
                    Reason::WrongCertificate,
                    "no certificate on Envoy's own connection: the client has none, Envoy asks for none without validation_context.trusted_ca, or TLS ends before Envoy",
                );
            }
            Some(shown) if shown != bound => return no(Reason::WrongCertificate, "another certificate"),
            Some(_) => {}
        },
        None if resource.certificates == Requirement::Required => {
            return no(
                Reason::TokenNotSenderConstrained,
                "no x5t#S256: the provider must bind tokens to the client's certificate",
            );
        }
        None => {}
    }
    match (key_thumbprint, credential.scheme) {
        (None, Scheme::Bearer) if resource.dpop.mode != Requirement::Required => Ok(None),
        (None, _) => no(
            Reason::TokenNotSenderConstrained,
            "no jkt: the client must send a DPoP proof to the token endpoint as well",
        ),
        (Some(_), Scheme::Bearer) => no(Reason::SenderConstrainedToken, "jkt: sent as Bearer, without a proof"),
        (Some(key_thumbprint), Scheme::Dpop) => {
            let proof = match credential.proof {
                DpopField::One(proof) => proof,
                DpopField::None => return no(Reason::InvalidProof, "there is no DPoP header"),
                DpopField::Several => return no(Reason::InvalidProof, "there are several DPoP headers"),
            };
            let path = path::normal_form(head.target).unwrap_or_default();
            let expected = verify::ProofRules {
                method: head.method,
                url: &resource.url,
                path: &path,
                access_token: credential.token,
                key_thumbprint,
                max_age: resource.dpop.max_age,
            };
            let proof = match verify::verify(proof, expected, crypto, now) {
                Ok(proof) => proof,
                Err(problem) => return no(Reason::InvalidProof, problem),
            };
            if resource.dpop.nonce
                && !proof.nonce.as_deref().is_some_and(|nonce| server_nonce::is_fresh(nonce, key, now))
            {
                let mut refusal = Refusal::new(Reason::UseNonce);
                refusal.nonce = Some(server_nonce::nonce(key, now));
                return Err(refusal.into());
            }
            let until = proof.issued_at.plus(resource.dpop.max_age);
            Ok(Some(Possession { id: proof.id, key_thumbprint, until }))
        }
    }
}

impl Possession<'_> {
    /// Uses the proof: no worker takes it again.
    pub(super) fn claim(&self, shared: &dyn SharedData, key: &SharedKey, now: UnixTime) -> Result<(), Verdict> {
        match replay::use_proof(shared, key, self.key_thumbprint, &self.id, self.until, now) {
            ProofUse::First => Ok(()),
            ProofUse::Again => Err(Refusal::because(Reason::InvalidProof, "jti was used before").into()),
            ProofUse::Unknown => Err(Refusal::because(Reason::Overloaded, "too many proofs to remember")
                .retry_after(Duration::from_secs(1))
                .into()),
        }
    }
}
