//! The decision about one request, top to bottom.

use std::borrow::Cow;
use std::rc::Rc;
use std::time::Duration;

use crate::cache::circuit_breaker::{elsewhere, place};
use crate::cache::exchanged_tokens::{KeyPrefix, Lookup, SubjectEnds, TokenKey};
use crate::cache::rejected_tokens::SentToken;
use crate::cache::verified_tokens::VerifiedToken;
use crate::config::Config;
use crate::crypto::{Algorithm, Crypto};
use crate::dpop::DpopKey;
use crate::engine::audit::{AuditContext, CacheOutcome};
use crate::engine::credentials::{Credential, RequestHead, check_form, client_assertion, subject_token};
use crate::engine::header_mutations::HeaderMutations;
use crate::engine::route::{Route, select};
use crate::engine::state::{TokenRole, WorkerState};
use crate::engine::upstream_proof::{self, UpstreamProof};
use crate::engine::upstream_response::Sent;
use crate::engine::{delegation, sender_constraint};
use crate::http::{LocalReply, Request, Scheme};
use crate::jose::{self, Claims, CompactJws, Rejection, Selection, Signed, TokenError, TokenRules};
use crate::json::Object;
use crate::provider::{
    ActorToken, Client, Endpoints, ExchangeTarget, IssuerMatch, Provider, SubjectInput, SubjectTokenSource,
    TokenLocation, TokenType, Unexchanged,
};
use crate::refusal::{Reason, Refusal};
use crate::resource::admission::Admission;
use crate::resource::authorization_server::AuthorizationServers;
use crate::resource::{Requirement, Resource, metadata};
use crate::secret::Secret;
use crate::shared::SharedData;
use crate::telemetry::record::quoted;
use crate::time::UnixTime;
use crate::url::Url;

/// `typ` of an access token, if it has one (RFC 9068 section 2.1; most providers write `JWT`).
const ACCESS_TOKEN_TYPES: [&str; 2] = ["jwt", "at+jwt"];

/// `typ` of an ID token, if it has one.
const ID_TOKEN_TYPES: [&str; 1] = ["jwt"];

/// What is wrong with a token that another resource takes.
const FOR_ANOTHER: &str = "the token is for another resource here: the client must ask for one for this resource, or audiences of this resource lack one";

/// What a decision rests on.
pub(super) struct Facts<'a> {
    pub(super) config: &'a Config,
    pub(super) known: &'a mut WorkerState,
    pub(super) crypto: &'a dyn Crypto,
    pub(super) shared: &'a dyn SharedData,
    /// What was found out, for whoever tells of it.
    pub(super) about: AuditContext,
    /// With what the request goes on, if its answer is to be looked at.
    pub(super) sent: Option<Sent>,
}

/// A request that is through.
pub(super) enum Outcome {
    /// On to the upstream.
    Forward {
        edits: HeaderMutations,
        passage: Passage,
        /// The exchange of a token that goes on for this request, and should be followed by another before it ends.
        renewal: Option<Box<TokenNeed>>,
    },
    /// A metadata document instead.
    Metadata(LocalReply),
}

/// How a request is through.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Passage {
    /// With a token that its own was exchanged for.
    Lookup,
    /// With none, or with its own: what the operator wants where none is exchanged.
    Unexchanged,
    /// On an open path, without any.
    Open,
}

/// A request that is not, or not yet.
pub(super) enum Stop {
    /// A fact is missing.
    Need(Need),
    /// No.
    Refuse(Box<Refusal>),
}

/// A fact that is missing.
pub(super) enum Need {
    /// The keys of a provider; `again`, if there are some but not the one that is wanted.
    Keys { provider: usize, again: bool },
    /// An exchanged token.
    Token(Box<TokenNeed>),
}

/// A token to be exchanged.
#[derive(Clone)]
pub(super) struct TokenNeed {
    pub(super) key: TokenKey,
    pub(super) provider: usize,
    pub(super) resource: usize,
    pub(super) caller: Rc<VerifiedToken>,
    /// Whether it follows one that is still good.
    pub(super) is_renewal: bool,
    pub(super) subject: Secret,
    pub(super) is_id_token: bool,
    /// By what the client proves itself, where the request brought it.
    pub(super) assertion: Option<Secret>,
    /// What the upstream wants the token to have in it, see [`SubjectInput::claims`].
    pub(super) claims: Option<Box<str>>,
    pub(super) tenant: Option<String>,
    /// The host of the authorization server of the resource, where that is another than the provider's.
    pub(super) elsewhere: Option<Box<str>>,
    pub(super) subject_ends: SubjectEnds,
    pub(super) takes_claims_challenge: bool,
    /// The actor's token, where it came with the request.
    pub(super) actor: Option<Secret>,
}

/// Decides, as far as the facts go. Fails closed: there is no way to `Forward` but through the last line, or by
/// the operator's list of open paths.
pub(super) fn decide(request: &Request, facts: &mut Facts<'_>, now: UnixTime) -> Result<Outcome, Stop> {
    let config = facts.config;
    let head = RequestHead::read(request, config);
    let copies = head.copies(config);
    // First: the log shows hosts.
    head.check_target(&copies).map_err(refuse)?;
    let index = match select(config, head.authority, head.target) {
        None => return Err(refuse(Refusal::new(Reason::AmbiguousPath))),
        Some(Route::ValidateOnly) => {
            let host = shown(&String::from_utf8_lossy(head.authority));
            let because = "no resource is at this host and path; a port counts";
            let detail = format!("host={host} because={because:?}");
            return Err(refuse(Refusal::because(Reason::UnknownResource, detail)));
        }
        Some(Route::Open) => {
            head.check_query().map_err(refuse)?;
            return Ok(Outcome::Forward {
                edits: head.edits(request, config, &copies, None, None).map_err(refuse)?,
                passage: Passage::Open,
                renewal: None,
            });
        }
        Some(Route::Metadata(index)) => {
            let answer = config
                .resources
                .get(index)
                .and_then(|resource| metadata::answer(head.method, resource, &config.providers));
            return answer.map(Outcome::Metadata).ok_or_else(|| refuse(Refusal::new(Reason::MethodNotAllowed)));
        }
        Some(Route::AuthorizationServer(index)) => {
            if head.method == b"OPTIONS" {
                return Ok(Outcome::Metadata(metadata::preflight("GET, HEAD, POST, OPTIONS")));
            }
            facts.about.resource = index;
            let here =
                config.resources.iter().enumerate().filter(|(at, resource)| {
                    index.is_none_or(|index| index == *at) && resource.url.is_at(head.authority)
                });
            let servers = AuthorizationServers::of(here.map(|(_, resource)| resource), &config.providers);
            let refusal = Refusal::new(Reason::NotAnAuthorizationServer);
            return Err(refuse(Refusal { servers: Some(Box::new(servers)), ..refusal }));
        }
        Some(Route::Resource(index)) => index,
    };
    facts.about.resource = Some(index);
    let resource = config.resources.get(index).ok_or_else(|| refuse(Refusal::new(Reason::UnknownResource)))?;

    let credential = head.credential().map_err(refuse)?;
    let Admitted { passage, authorization, proof, renewal } = facts
        .admit(request, index, resource, &head, &credential, now)
        .map_err(|verdict| verdict.with(credential.scheme))?;
    let mut edits = head.edits(request, config, &copies, authorization, proof).map_err(refuse)?;
    edits.sent = facts.sent;
    Ok(Outcome::Forward { edits, passage, renewal })
}

/// What a request goes on with.
struct Admitted {
    passage: Passage,
    authorization: Option<Secret>,
    proof: Option<Secret>,
    renewal: Option<Box<TokenNeed>>,
}

impl<'a> Facts<'a> {
    /// From the token that came to the one for the upstream, if it gets one.
    fn admit(
        &mut self,
        request: &Request,
        index: usize,
        resource: &Resource,
        head: &RequestHead<'_>,
        credential: &Credential<'_>,
        now: UnixTime,
    ) -> Result<Admitted, Verdict> {
        if credential.scheme == Scheme::Dpop && resource.dpop.mode == Requirement::Off {
            return Err(Refusal::new(Reason::NoCredentials).into());
        }
        let caller = self.authenticate(credential.token, resource, now)?;
        self.about.caller = Some(caller.clone());
        // A token that was verified for one resource may come to any.
        if !caller.admission.is_for(caller.provider, index, resource) {
            return Err(refusal_of(TokenRole::Bearer, &TokenError::Audience.because(FOR_ANOTHER), "").into());
        }
        let key = &self.config.shared_key;
        let possession = sender_constraint::check(resource, request, head, credential, &caller, self.crypto, key, now)?;
        let (provider, target) = authorize(self.config, resource, &caller)?;
        let (passage, authorization, renewal) = match target.unexchanged {
            None => {
                let (token, next) = self.exchange(request, index, credential.token, &caller, provider, target, now)?;
                (Passage::Lookup, Some(token), next)
            }
            Some(Unexchanged::Removed) => {
                self.sent = Some(self.sent(None, caller.provider, index, false, now));
                (Passage::Unexchanged, None, None)
            }
            Some(Unexchanged::Forwarded) => {
                (Passage::Unexchanged, Some(Secret::new(format!("Bearer {}", credential.token))), None)
            }
        };
        // Last, because what comes before may be done again for a request that has to wait.
        if let Some(possession) = possession {
            possession.claim(self.shared, key, now)?;
        }
        let (at, nonces) = ((index, resource), &self.known.nonces);
        let made = authorization.as_ref().map_or(UpstreamProof::Needless, |authorization| {
            upstream_proof::prove(at, provider, target, head, authorization, nonces, self.crypto, now)
        });
        let proof = match made {
            UpstreamProof::Needless => None,
            UpstreamProof::Made(proof) => Some(proof),
            UpstreamProof::Missing => {
                let because = "the proof for the upstream could not be made or signed";
                let detail = format!("because={because:?}");
                return Err(Refusal::because(Reason::ExchangeMisconfigured, detail).into());
            }
        };
        Ok(Admitted { passage, authorization, proof, renewal })
    }

    /// Who is calling: the token is verified, or was before and is still in force.
    fn authenticate(&mut self, token: &str, resource: &Resource, now: UnixTime) -> Result<Rc<VerifiedToken>, Verdict> {
        if let Some(verified) = self.remembered(TokenRole::Bearer, token, now)? {
            return Ok(verified);
        }
        self.verify_and_remember(token, Wanted::At(resource), now)
    }

    /// The token for the upstream, from the cache, or what stands in its place; and the need for the next one, if it is time.
    #[expect(clippy::too_many_arguments, reason = "the facts of one request, each used once")]
    fn exchange(
        &mut self,
        request: &Request,
        resource: usize,
        token: &str,
        caller: &Rc<VerifiedToken>,
        provider: &Provider,
        target: &ExchangeTarget,
        now: UnixTime,
    ) -> Result<(Secret, Option<Box<TokenNeed>>), Verdict> {
        let id_token = match &provider.subject_token {
            SubjectTokenSource::AccessToken | SubjectTokenSource::IdToken => None,
            SubjectTokenSource::IdTokenBeside { source, audiences } => {
                Some(self.id_token(request, caller, source, audiences, now)?)
            }
        };
        let (subject, subject_token) = match &id_token {
            None => (caller.as_ref(), token),
            Some((verified, id_token)) => (verified.as_ref(), *id_token),
        };
        delegation::check(subject.may_act.as_deref(), provider, target)?;
        let is_id_token = id_token.is_some() || matches!(provider.subject_token, SubjectTokenSource::IdToken);
        let shape = |endpoints: &Endpoints| shape(provider, endpoints, target, is_id_token);
        let shape = self.known.issuer_mut(caller.provider).and_then(|issuer| issuer.shape(resource, shape));
        let Some(shape) = shape else {
            let pause = self.known.issuer(caller.provider).and_then(|issuer| issuer.pause(now));
            return Err(pause.map_or(Verdict::Need(Need::Keys { provider: caller.provider, again: false }), |pause| {
                let because = "the token endpoint could not be discovered: set token_endpoint where it never can";
                let detail = format!("because={because:?}");
                Refusal::because(Reason::ProviderUnavailable, detail).retry_after(pause).into()
            }));
        };
        let key = subject.key_for(resource, || TokenKey::of(shape, subject_token));
        let need = |is_renewal| -> Result<_, Refusal> {
            Ok(Box::new(TokenNeed {
                key,
                provider: caller.provider,
                resource,
                caller: caller.clone(),
                is_renewal,
                subject: Secret::new(subject_token.to_owned()),
                is_id_token,
                assertion: assertion(request, provider)?,
                claims: self.known.rejections.claims(resource, &key),
                tenant: caller.caller.tenant.clone(),
                elsewhere: elsewhere(target).map(Box::from),
                subject_ends: SubjectEnds { expires: subject.expires, accepted_until: subject.accepted_until },
                takes_claims_challenge: caller.caller.takes_claims_challenge,
                actor: delegation::token(request, provider, target)?.map(|token| Secret::new(token.to_owned())),
            }))
        };
        let place = || place(caller.caller.tenant.as_deref(), elsewhere(target));
        match self.known.exchanges.get(&key, now) {
            // A provider that hands back what it got is misconfigured; the contract does not rest on its being right.
            Lookup::Issued { authorization, .. }
                if authorization.reveal().split_once(' ').is_some_and(|(_, exchanged)| exchanged == token) =>
            {
                let detail = format!("because={:?}", "the caller's own token came back");
                Err(Refusal::because(Reason::ProviderAnswerInvalid, detail).into())
            }
            Lookup::Issued { authorization, mark, is_due } => {
                let is_proved = matches!(target.presentation, TokenType::Dpop { .. });
                let sent = SentToken { key, mark, user: caller.user };
                self.sent = Some(self.sent(Some(sent), caller.provider, resource, is_proved, now));
                let may_renew = is_due && self.known.circuits.may_renew(caller.provider, place().as_deref(), &key, now);
                let renewal = match may_renew.then(|| need(true)).transpose() {
                    Ok(renewal) => renewal,
                    Err(refusal) => {
                        log::warn!("could not renew a token: {refusal}");
                        // Not at the next request again.
                        self.known.exchanges.put_failed(key, refusal, true, Duration::ZERO, now);
                        None
                    }
                };
                self.about.cache = Some(CacheOutcome::Hit);
                Ok((authorization, renewal))
            }
            Lookup::Failed(refusal) => {
                self.about.cache = Some(CacheOutcome::Remembered);
                Err(refusal.into())
            }
            Lookup::Unknown => Err(match self.known.circuits.closed(caller.provider, place().as_deref(), now) {
                Some((reason, pause)) => {
                    let detail = "because=\"so the provider answered other exchanges\"";
                    Refusal::because(reason, detail).retry_after(pause).into()
                }
                None => need(false).map_or_else(Verdict::from, |need| Verdict::Need(Need::Token(need))),
            }),
        }
    }

    fn sent(&self, token: Option<SentToken>, provider: usize, resource: usize, is_proved: bool, now: UnixTime) -> Sent {
        let takes_proofs =
            self.config.resources.get(resource).is_some_and(|resource| resource.dpop.mode != Requirement::Off);
        Sent { token, provider, resource, at: now, is_proved, hides_nonce: is_proved || takes_proofs }
    }

    /// The ID token that comes with the access token, verified as such and of the same user.
    fn id_token<'r>(
        &mut self,
        request: &'r Request,
        caller: &VerifiedToken,
        source: &TokenLocation,
        audiences: &[String],
        now: UnixTime,
    ) -> Result<(Rc<VerifiedToken>, &'r str), Verdict> {
        let token = subject_token(request, source).ok_or_else(|| Refusal::new(Reason::SubjectTokenMissing))?;
        let verified = match self.remembered(TokenRole::Beside, token, now)? {
            Some(verified) => verified,
            None => {
                let wanted = Wanted::Beside { provider: caller.provider, audiences };
                self.verify_and_remember(token, wanted, now)?
            }
        };
        let same_user = verified.provider == caller.provider && verified.caller.user == caller.caller.user;
        if !same_user {
            return Err(Refusal::new(Reason::SubjectMismatch).into());
        }
        Ok((verified, token))
    }

    /// A token that was verified before in that role, if it is still in force.
    fn remembered(
        &mut self,
        role: TokenRole,
        token: &str,
        now: UnixTime,
    ) -> Result<Option<Rc<VerifiedToken>>, Verdict> {
        match self.known.verified(role, token) {
            Some(verified) if now < verified.accepted_until => Ok(Some(verified)),
            Some(verified) => {
                self.known.forget(role, token);
                if role == TokenRole::Bearer {
                    self.about.caller = Some(verified.clone());
                }
                let ago = now.since(verified.expires).as_secs();
                Err(refusal_of(role, &TokenError::Expired.because(format!("exp was {ago} s ago")), "").into())
            }
            None => Ok(None),
        }
    }

    /// A token in one of its two roles.
    fn verify_and_remember(
        &mut self,
        token: &str,
        wanted: Wanted<'_>,
        now: UnixTime,
    ) -> Result<Rc<VerifiedToken>, Verdict> {
        let verified = Rc::new(self.verify(token, wanted, now)?);
        self.known.remember(wanted.role(), token, &verified);
        Ok(verified)
    }

    /// In one order: form, algorithm, issuer, what the claims say, key, signature. What can be said without the signature
    /// is said before it.
    fn verify(&mut self, token: &str, wanted: Wanted<'_>, now: UnixTime) -> Result<VerifiedToken, Verdict> {
        let role = wanted.role();
        let refuse = |rejection: Rejection, context: &str| Verdict::from(refusal_of(role, &rejection, context));
        let malformed = |error: TokenError| match role {
            // What is no token at all may not even be one credential.
            TokenRole::Bearer => match check_form(token) {
                Ok(()) => refuse(error.into(), ""),
                Err(refusal) => refusal.into(),
            },
            TokenRole::Beside => refuse(error.into(), ""),
        };
        let compact = CompactJws::parse(token, |segment| self.known.header(segment)).map_err(malformed)?;
        let members = compact.claims().map_err(malformed)?;
        let header = &compact.header;
        let algorithm = Algorithm::from_name(&header.algorithm).ok_or_else(|| {
            refuse(TokenError::Algorithm.because("alg is none, a symmetric one, or one that nobody uses here"), "")
        })?;
        let MatchedIssuer { index, provider, issuer, tenant } =
            Self::match_issuer(self.config, &members).map_err(|(rejection, context)| refuse(rejection, &context))?;
        // An ID token is verified with the rules of its caller's provider, so it must be of that provider: it would
        // otherwise be remembered as good by rules that are not its own.
        if matches!(wanted, Wanted::Beside { provider, .. } if provider != index) {
            return Err(refuse(
                TokenError::Issuer.because("of another provider than the token that it comes beside"),
                "",
            ));
        }
        let context = || match role {
            // Until its signature is verified, a token may be anybody's.
            TokenRole::Bearer => format!("provider_unverified={}", provider.name),
            TokenRole::Beside => String::new(),
        };
        let claims = Claims::read(&members).map_err(|error| refuse(error.into(), &context()))?;
        let is_id_token = role == TokenRole::Beside || matches!(provider.subject_token, SubjectTokenSource::IdToken);
        let audiences = match wanted {
            Wanted::At(resource) => resource.audiences_for(index, provider),
            Wanted::Beside { audiences, .. } => audiences,
        };
        let expected = TokenRules {
            audiences,
            types: if is_id_token { &ID_TOKEN_TYPES } else { &ACCESS_TOKEN_TYPES },
            leeway: provider.leeway,
        };
        let examine = || match is_id_token {
            false => provider.profile.caller(provider, header, &claims),
            true => provider.profile.id_token_caller(&claims),
        };
        let caller = jose::check(header, &claims, expected, examine, now).map_err(|mut rejection| {
            if rejection.error == TokenError::Audience && rejection.diagnosis.is_empty() {
                let is_ours = |audience: &String| claims.audiences.contains(&audience.as_str());
                rejection.diagnosis = match role {
                    TokenRole::Bearer if provider.every_audience.iter().any(is_ours) => FOR_ANOTHER.into(),
                    _ => provider.profile.wrong_audience(provider, audiences, &claims).into(),
                };
            }
            refuse(rejection, &context())
        })?;

        let state = self.known.issuer(index).ok_or_else(|| refuse(TokenError::Issuer.into(), &context()))?;
        let Some(keys) = &state.keys else {
            return Err(match state.pause(now) {
                Some(pause) => Refusal::because(Reason::KeysUnavailable, context()).retry_after(pause).into(),
                None => Verdict::Need(Need::Keys { provider: index, again: false }),
            });
        };
        let key_id = header.key_id.as_deref();
        let context =
            || [context(), format!("kid={}", shown(key_id.unwrap_or_default()))].join(" ").trim_start().to_owned();
        let key = match keys.select(key_id, algorithm) {
            Selection::Found(key) => key,
            Selection::OtherAlgorithm => {
                return Err(refuse(
                    TokenError::Algorithm.because("the key of that kid is for another alg"),
                    &context(),
                ));
            }
            Selection::Missing if key_id.is_some() && state.may_refetch(now) => {
                return Err(Verdict::Need(Need::Keys { provider: index, again: true }));
            }
            Selection::Missing => {
                let diagnosis = "the provider does not publish that key: a token of another environment, a custom signing key, or a forged one";
                return Err(refuse(TokenError::Key.because(diagnosis), &context()));
            }
        };
        let signed = Signed { algorithm, input: compact.signing_input, signature: &compact.signature };
        jose::verify(signed, key, &issuer, tenant.as_deref(), self.crypto)
            .map_err(|error| refuse(error.into(), &context()))?;
        self.known.remember_header(compact.header_segment, header);
        let admission = Admission::of(&claims, index, provider, &self.config.resources);
        let mut verified = VerifiedToken::new(index, caller, claims, &self.config.scopes, provider.leeway);
        verified.admission = admission;
        if let Cow::Owned(issuer) = issuer {
            verified.issuer = Some(issuer.into());
        }
        Ok(verified)
    }

    /// Whose token it is, by what it says: only to find the keys by which it must then hold.
    fn match_issuer(config: &'a Config, claims: &Object<'_>) -> Result<MatchedIssuer<'a>, (Rejection, String)> {
        let issuer = claims.string("iss").unwrap_or_default();
        let mut almost = None;
        for (index, provider) in config.providers.iter().enumerate() {
            match provider.profile.match_issuer(provider, issuer, claims) {
                IssuerMatch::Match { issuer, tenant } => return Ok(MatchedIssuer { index, provider, issuer, tenant }),
                IssuerMatch::NearMiss(rejection) => almost = almost.or(Some((rejection, &provider.name))),
                IssuerMatch::NoMatch => {}
            }
        }
        let context = format!("issuer_unverified={}", shown(issuer));
        Err(match almost {
            Some((rejection, provider)) => (rejection, format!("provider_unverified={provider} {context}")),
            None => (TokenError::Issuer.because("no provider with that issuer is configured"), context),
        })
    }
}

/// In which role a token comes, and for whom it must be then.
#[derive(Clone, Copy)]
enum Wanted<'a> {
    /// In `authorization`, for that resource.
    At(&'a Resource),
    /// An ID token beside that: of that provider, for one of those audiences.
    Beside { provider: usize, audiences: &'a [String] },
}

impl Wanted<'_> {
    const fn role(self) -> TokenRole {
        match self {
            Self::At(_) => TokenRole::Bearer,
            Self::Beside { .. } => TokenRole::Beside,
        }
    }
}

/// Whose a token says that it is.
struct MatchedIssuer<'a> {
    index: usize,
    provider: &'a Provider,
    /// The provider's issuer for the tenant.
    issuer: Cow<'a, str>,
    tenant: Option<String>,
}

/// A token that comes beside another and does not hold is one reason, whatever is wrong with it; the log says what.
fn refusal_of(role: TokenRole, rejection: &Rejection, context: &str) -> Refusal {
    let reason = Reason::from(&rejection.error);
    let space = if context.is_empty() { "" } else { " " };
    let because = match rejection.diagnosis.as_ref() {
        "" => String::new(),
        diagnosis => format!("{space}because={diagnosis:?}"),
    };
    match role {
        TokenRole::Bearer => Refusal::because(reason, format!("{context}{because}")),
        TokenRole::Beside => {
            Refusal::because(Reason::SubjectTokenInvalid, format!("which={} {context}{because}", reason.label()))
        }
    }
}

/// Whether the caller may use the resource at all, and what to ask the provider for then.
fn authorize<'c>(
    config: &'c Config,
    resource: &'c Resource,
    caller: &VerifiedToken,
) -> Result<(&'c Provider, &'c ExchangeTarget), Verdict> {
    let provider = config.providers.get(caller.provider);
    let target = resource.targets.get(caller.provider).and_then(Option::as_ref);
    let (Some(provider), Some(target)) = (provider, target) else {
        return Err(Refusal::new(Reason::NoExchange).into());
    };
    if let Some(missing) =
        resource.scopes.iter().find(|scope| !caller.scopes.iter().any(|granted| **granted == ***scope))
    {
        return Err(Refusal::because(Reason::InsufficientScope, format!("missing={missing:?}")).into());
    }
    Ok((provider, target))
}

/// The client's assertion, where requests bring it. It shapes no token: it proves the same client, whichever it is.
fn assertion(request: &Request, provider: &Provider) -> Result<Option<Secret>, Refusal> {
    let Some(header) = provider.client.as_ref().and_then(|client| client.authentication.header()) else {
        return Ok(None);
    };
    client_assertion(request, header).map(Some).map_err(|because| {
        let detail = format!("provider={} header={header} because={because:?}", provider.name);
        Refusal::because(Reason::ExchangeMisconfigured, detail)
    })
}

/// Everything that shapes the exchanged token, beside the token that is handed in: who asks whom, and with which parameters.
fn shape<'a>(
    provider: &'a Provider,
    endpoints: &'a Endpoints,
    target: &'a ExchangeTarget,
    is_id_token: bool,
) -> KeyPrefix {
    let subject = SubjectInput { token: "", is_id_token, claims: None, actor: None };
    let id = |client: Option<&'a Client>| client.map_or("", |client| client.id.as_str());
    let whom = [
        &*provider.name,
        provider.profile.name(),
        provider.issuer.as_str(),
        endpoints.token_endpoint.as_ref().map_or("", Url::as_str),
        id(provider.client.as_ref()),
        // Whether it is bound, and to which key.
        target.issued_to(provider).and_then(|client| client.dpop.as_ref()).map_or("", DpopKey::thumbprint),
        match target.presentation {
            TokenType::Bearer => Scheme::Bearer.name(),
            TokenType::Dpop { .. } => Scheme::Dpop.name(),
        },
    ];
    let known = provider.profile.parameters(target, subject);
    let known = known.iter().map(|(name, value)| (*name, &**value));
    let second = target
        .second
        .iter()
        .flat_map(|server| [server.token_endpoint.as_str(), id(server.client.as_ref().or(provider.client.as_ref()))]);
    // Of an actor whose token comes with the requests, who that is; the token itself changes.
    let actor = target.actor.iter().flat_map(ActorToken::identity);
    let own = target.parameters.iter().map(|(name, value)| (name.as_str(), value.reveal()));
    let with = known.chain(own).flat_map(|(name, value)| [name, value]);
    KeyPrefix::of(whom.into_iter().chain(second).chain(actor).chain(with))
}

/// What a log line shows of a text that a stranger wrote.
fn shown(text: &str) -> String {
    quoted(&text.chars().take(128).collect::<String>())
}

/// A [`Stop`] of which it is not said yet how the token was presented.
pub(super) enum Verdict {
    Need(Need),
    Refuse(Box<Refusal>),
}

impl Verdict {
    fn with(self, scheme: Scheme) -> Stop {
        match self {
            Self::Need(need) => Stop::Need(need),
            Self::Refuse(mut refusal) => {
                refusal.scheme = scheme;
                Stop::Refuse(refusal)
            }
        }
    }
}

impl From<Refusal> for Verdict {
    fn from(refusal: Refusal) -> Self {
        Self::Refuse(Box::new(refusal))
    }
}

fn refuse(refusal: Refusal) -> Stop {
    Stop::Refuse(Box::new(refusal))
}

#[cfg(test)]
mod tests {
    use jwt_simple::algorithms::ECDSAP256KeyPairLike as _;
    use jwt_simple::algorithms::ES256KeyPair;

    use super::*;
    use crate::url::Url;

    #[test]
    fn a_token_is_kept_for_its_key_and_for_how_it_is_presented() {
        let [one, other] = [(); 2].map(|()| ES256KeyPair::generate().key_pair().to_pem().unwrap());
        let of = |pem: Option<&str>, exchange: &str| {
            let dpop = pem.map_or("", |_| r#", "dpop": {"key": {"env": "K"}, "algorithm": "ES256"}"#);
            let text = format!(
                r#"{{"identity_providers": {{"p": {{"profile": "rfc8693", "issuer": "https://i.example", "cluster": "c",
                "audiences": ["a"], "client": {{"id": "g", "authentication": {{"method": "client_secret_post",
                "secret": {{"inline": "s"}}}}{dpop}}}}}}},
                "resources": [{{"url": "https://r.example", "exchange": {{"p": {{"audience": "a"{exchange}}}}}}}]}}"#
            );
            let env = |_: &str| pem.map(str::to_owned);
            let config = Config::parse(text.as_bytes(), &env).unwrap();
            let endpoints =
                Endpoints { jwks_uri: None, token_endpoint: Some(Url::parse("https://i.example/t").unwrap()) };
            let (provider, target) = (&config.providers[0], config.resources[0].targets[0].as_ref().unwrap());
            TokenKey::of(&shape(provider, &endpoints, target, false), "subject")
        };
        let dpop = r#", "token_type": "dpop""#;
        let keys =
            [of(None, ""), of(Some(&one), ""), of(Some(&one), dpop), of(Some(&other), ""), of(Some(&other), dpop)];
        for (index, key) in keys.iter().enumerate() {
            assert!(!keys[..index].contains(key), "{index}");
        }
        assert!(of(Some(&one), dpop) == keys[2], "the same is found again");
    }
}
