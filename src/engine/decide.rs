//! The decision about one request, top to bottom.

use std::rc::Rc;

use super::credentials::{Head, check_form, has_query_token, subject_token};
use super::known::{Exchanged, Known, Role, Shape, TokenKey, Verified};
use super::select::{Selected, select};
use crate::config::{Config, Provider, Resource, SubjectToken, TokenSource};
use crate::crypto::{Algorithm, Crypto};
use crate::http::{HeaderEdits, LocalAnswer, Request};
use crate::idp::{Caller, Endpoints, Target};
use crate::mcp::metadata;
use crate::refusal::{Reason, Refusal};
use crate::secret::Secret;
use crate::time::UnixTime;
use crate::token::{Claims, Compact, Expected, Selection, TokenError, verify};

/// `typ` of an access token, if it has one (RFC 9068 section 2.1; most providers write `JWT`).
const ACCESS_TOKEN_TYPES: [&str; 2] = ["jwt", "at+jwt"];

/// `typ` of an ID token, if it has one.
const ID_TOKEN_TYPES: [&str; 1] = ["jwt"];

/// What a decision rests on.
pub(super) struct Facts<'a> {
    pub(super) config: &'a Config,
    pub(super) known: &'a mut Known,
    pub(super) crypto: &'a dyn Crypto,
}

/// A request that is through.
pub(super) enum Outcome {
    /// On to the upstream: with an exchanged token, or on an open path without any.
    Forward { edits: HeaderEdits, exchanged: bool },
    /// A metadata document instead.
    Metadata(LocalAnswer),
}

/// A request that is not, or not yet.
pub(super) enum Stop {
    /// A fact is missing.
    Need(Need),
    /// No; `resource` is the index of the one that it was for.
    Refuse { refusal: Box<Refusal>, resource: Option<usize> },
}

/// A fact that is missing.
pub(super) enum Need {
    /// The keys of a provider. With its endpoints, if only the keys are to be fetched anew.
    Keys { provider: usize, known_endpoints: Option<Box<Endpoints>> },
    /// An exchanged token.
    Token(Box<TokenNeed>),
}

/// A token to be exchanged.
pub(super) struct TokenNeed {
    pub(super) key: TokenKey,
    pub(super) provider: usize,
    pub(super) resource: usize,
    pub(super) subject: Secret,
    pub(super) is_id_token: bool,
    pub(super) subject_expires: UnixTime,
    pub(super) takes_claims_challenge: bool,
}

/// Decides, as far as the facts go. Fails closed: there is no way to `Forward` but through the last line, or by
/// the operator's list of open paths.
pub(super) fn decide(request: &Request, facts: &mut Facts<'_>, now: UnixTime) -> Result<Outcome, Stop> {
    let config = facts.config;
    let head = Head::read(request, config);
    let index = match select(config, head.authority, head.target) {
        None => return Err(refuse(Refusal::new(Reason::AmbiguousPath))),
        Some(Selected::Nothing) => return Err(refuse(Refusal::new(Reason::UnknownResource))),
        Some(Selected::Open) => {
            if has_query_token(head.target) {
                return Err(refuse(Refusal::new(Reason::SeveralCredentials)));
            }
            return Ok(Outcome::Forward { edits: head.edits(request, config, None), exchanged: false });
        }
        Some(Selected::Metadata(index)) => {
            let answer = config
                .resources
                .get(index)
                .and_then(|resource| metadata::answer(head.method, resource, &config.providers));
            return answer.map(Outcome::Metadata).ok_or_else(|| refuse(Refusal::new(Reason::MethodNotAllowed)));
        }
        Some(Selected::Resource(index)) => index,
    };
    let resource = config.resources.get(index).ok_or_else(|| refuse(Refusal::new(Reason::UnknownResource)))?;

    let authorization = head
        .bearer()
        .map_err(|reason| Verdict::from(Refusal::new(reason)))
        .and_then(|token| facts.authenticate(token, now).map(|caller| (token, caller)))
        .and_then(|(token, caller)| {
            let (provider, target) = authorize(config, resource, &caller)?;
            facts.exchange(request, index, token, &caller, provider, target, now)
        })
        .map_err(|verdict| verdict.at(index))?;
    Ok(Outcome::Forward { edits: head.edits(request, config, Some(authorization)), exchanged: true })
}

impl Facts<'_> {
    /// Who is calling: the access token is verified, or was before and is still in force.
    fn authenticate(&mut self, token: &str, now: UnixTime) -> Result<Rc<Verified>, Verdict> {
        if let Some(verified) = self.remembered(Role::Access, token, now)? {
            return Ok(verified);
        }
        self.verify_and_remember(Role::Access, token, None, now)
    }

    /// The token for the upstream, from the cache, or what stands in its place.
    #[expect(clippy::too_many_arguments, reason = "the facts of one request, each used once")]
    fn exchange(
        &mut self,
        request: &Request,
        resource: usize,
        token: &str,
        caller: &Verified,
        provider: &Provider,
        target: &Target,
        now: UnixTime,
    ) -> Result<Secret, Verdict> {
        let id_token = match &provider.subject_token {
            SubjectToken::AccessToken => None,
            SubjectToken::IdToken { source, audiences } => {
                Some(self.id_token(request, caller, source, audiences, now)?)
            }
        };
        let (subject, subject_token) = match &id_token {
            None => (caller, token),
            Some((verified, id_token)) => (verified.as_ref(), *id_token),
        };
        let shape = |endpoints: &Endpoints| shape(provider, endpoints, target, id_token.is_some());
        let shape = self.known.issuer_mut(caller.provider).and_then(|issuer| issuer.shape(resource, shape));
        let shape = shape.ok_or(Verdict::Need(Need::Keys { provider: caller.provider, known_endpoints: None }))?;
        let key = subject.key_for(resource, || TokenKey::of(shape, subject_token));
        match self.known.exchanged(&key, now) {
            // A provider that hands back what it got is misconfigured; the contract does not rest on its being right.
            Exchanged::Issued(authorization) if authorization.reveal().strip_prefix("Bearer ") == Some(token) => {
                let detail = format!("provider={} the caller's own token came back", provider.name);
                Err(Refusal::because(Reason::ProviderAnswerInvalid, detail).into())
            }
            Exchanged::Issued(authorization) => Ok(authorization),
            Exchanged::Failed(refusal) => Err(refusal.into()),
            Exchanged::Unknown => Err(Verdict::Need(Need::Token(Box::new(TokenNeed {
                key,
                provider: caller.provider,
                resource,
                subject: Secret::new(subject_token.to_owned()),
                is_id_token: id_token.is_some(),
                subject_expires: subject.expires,
                takes_claims_challenge: caller.caller.takes_claims_challenge,
            })))),
        }
    }

    /// The ID token that comes with the access token, verified as such and of the same user.
    fn id_token<'r>(
        &mut self,
        request: &'r Request,
        caller: &Verified,
        source: &TokenSource,
        audiences: &[String],
        now: UnixTime,
    ) -> Result<(Rc<Verified>, &'r str), Verdict> {
        let token = subject_token(request, source).ok_or_else(|| Refusal::new(Reason::SubjectTokenMissing))?;
        let verified = match self.remembered(Role::Id, token, now)? {
            Some(verified) => verified,
            None => self.verify_and_remember(Role::Id, token, Some((caller.provider, audiences)), now)?,
        };
        let same_user = verified.provider == caller.provider && verified.caller.user == caller.caller.user;
        if !same_user {
            return Err(Refusal::new(Reason::SubjectMismatch).into());
        }
        Ok((verified, token))
    }

    /// A token that was verified before in that role, if it is still in force.
    fn remembered(&mut self, role: Role, token: &str, now: UnixTime) -> Result<Option<Rc<Verified>>, Verdict> {
        match self.known.verified(role, token) {
            Some(verified) if now < verified.accepted_until => Ok(Some(verified)),
            Some(_) => {
                self.known.forget(role, token);
                Err(refusal_of(role, &TokenError::Expired, String::new()).into())
            }
            None => Ok(None),
        }
    }

    /// A token in one of its two roles. An ID token must be of a certain provider and for certain audiences.
    fn verify_and_remember(
        &mut self,
        role: Role,
        token: &str,
        id: Option<(usize, &[String])>,
        now: UnixTime,
    ) -> Result<Rc<Verified>, Verdict> {
        let verified = self.verify(role, token, id, now).map_err(|doubt| match doubt {
            Doubt::Token(error, detail) => Verdict::from(refusal_of(role, &error, detail)),
            Doubt::Verdict(verdict) => verdict,
        })?;
        let verified = Rc::new(verified);
        self.known.remember(role, token, &verified);
        Ok(verified)
    }

    fn verify(
        &mut self,
        role: Role,
        token: &str,
        id: Option<(usize, &[String])>,
        now: UnixTime,
    ) -> Result<Verified, Doubt> {
        let compact = Compact::parse(token, |segment| self.known.header(segment)).map_err(|error| match role {
            // What is no token at all may not even be one credential.
            Role::Access => match check_form(token) {
                Ok(()) => Doubt::from(error),
                Err(reason) => Doubt::Verdict(Refusal::new(reason).into()),
            },
            Role::Id => Doubt::from(error),
        })?;
        let (header_segment, header) = (compact.header_segment, compact.header.clone());
        let algorithm = Algorithm::from_name(&compact.header.algorithm).ok_or(TokenError::Algorithm)?;
        // Only to find the keys: what they verify must say the same.
        let issuer = compact.claims.get("iss").and_then(serde_json::Value::as_str).unwrap_or_default();
        let found = self.config.providers.iter().enumerate().find(|(_, provider)| provider.issuer.as_str() == issuer);
        let (index, provider) =
            found.ok_or_else(|| Doubt::Token(TokenError::Issuer, format!("issuer={:?}", shortened(issuer))))?;
        // An ID token is verified with the rules of its caller's provider, so it must be of that provider: it would
        // otherwise be remembered as good by rules that are not its own.
        if id.is_some_and(|(provider, _)| provider != index) {
            return Err(TokenError::Issuer.into());
        }
        let state = self.known.issuer_mut(index).ok_or(TokenError::Issuer)?;
        let Some(keys) = &state.keys else {
            return Err(Doubt::Verdict(match state.pause(now) {
                Some(pause) => Refusal::because(Reason::KeysUnavailable, format!("provider={}", provider.name))
                    .retry_after(pause)
                    .into(),
                None => Verdict::Need(Need::Keys { provider: index, known_endpoints: None }),
            }));
        };
        let key_id = compact.header.key_id.as_deref();
        let detail = || format!("provider={} kid={:?}", provider.name, shortened(key_id.unwrap_or_default()));
        let key = match keys.select(key_id, algorithm) {
            Selection::Found(key) => key.clone(),
            Selection::OtherAlgorithm => return Err(Doubt::Token(TokenError::Algorithm, detail())),
            Selection::Missing => {
                if key_id.is_some() && state.may_refetch(now) {
                    let known_endpoints = state.endpoints.clone().map(Box::new);
                    return Err(Doubt::Verdict(Verdict::Need(Need::Keys { provider: index, known_endpoints })));
                }
                return Err(Doubt::Token(TokenError::Key, detail()));
            }
        };
        let expected = Expected {
            issuer: provider.issuer.as_str(),
            audiences: id.map_or(&provider.audiences, |(_, audiences)| audiences),
            types: if role == Role::Id { &ID_TOKEN_TYPES } else { &ACCESS_TOKEN_TYPES },
            leeway: provider.leeway,
        };
        let examine = |claims: &Claims| match role {
            Role::Access => provider.profile.caller(claims),
            Role::Id => {
                let user = provider.profile.id_token_user(claims).ok_or(TokenError::Claims("no user"))?;
                Ok(Caller { user, takes_claims_challenge: false })
            }
        };
        let (claims, caller) = verify(compact, &key, expected, self.crypto, examine, now)
            .map_err(|error| Doubt::Token(error, format!("provider={}", provider.name)))?;
        self.known.remember_header(header_segment, &header);
        Ok(Verified::new(index, caller, claims.scopes.unwrap_or_default(), claims.expires, provider.leeway))
    }
}

/// An ID token that does not hold is one reason, whatever is wrong with it; the log says what.
fn refusal_of(role: Role, error: &TokenError, detail: String) -> Refusal {
    let reason = Reason::from(error);
    match role {
        Role::Access => Refusal::because(reason, detail),
        Role::Id => Refusal::because(Reason::SubjectTokenInvalid, format!("because={} {detail}", reason.label())),
    }
}

/// Whether the caller may use the resource at all, and what to ask the provider for then.
fn authorize<'c>(
    config: &'c Config,
    resource: &'c Resource,
    caller: &Verified,
) -> Result<(&'c Provider, &'c Target), Verdict> {
    let provider = config.providers.get(caller.provider);
    let target = resource.targets.get(caller.provider).and_then(Option::as_ref);
    let (Some(provider), Some(target)) = (provider, target) else {
        let name = provider.map_or("-", |provider| &provider.name);
        return Err(Refusal::because(Reason::NoExchange, format!("provider={name}")).into());
    };
    if let Some(missing) = resource.scopes.iter().find(|scope| !caller.scopes.contains(scope)) {
        return Err(Refusal::because(
            Reason::InsufficientScope,
            format!("provider={} missing={missing:?}", provider.name),
        )
        .into());
    }
    Ok((provider, target))
}

/// Everything that shapes the exchanged token, beside the token that is handed in.
fn shape(provider: &Provider, endpoints: &Endpoints, target: &Target, is_id_token: bool) -> Shape {
    let optional = |part: &Option<String>| part.as_ref().map_or_else(String::new, |part| format!("={part}"));
    Shape::of(&[
        &provider.name,
        provider.profile.name(),
        provider.issuer.as_str(),
        endpoints.token_endpoint.as_str(),
        &provider.client.id,
        &optional(&target.audience),
        &optional(&target.resource),
        &optional(&target.scope),
        &optional(&target.requested_token_type),
        if is_id_token { "id_token" } else { "access_token" },
    ])
}

/// What a log line shows of a text that a stranger wrote; `{:?}` escapes the rest.
fn shortened(text: &str) -> String {
    text.chars().take(128).collect()
}

/// A [`Stop`] of which it is not said yet at which resource.
enum Verdict {
    Need(Need),
    Refuse(Box<Refusal>),
}

/// Why a token was not verified: its own fault, or something else.
enum Doubt {
    Token(TokenError, String),
    Verdict(Verdict),
}

impl Verdict {
    fn at(self, resource: usize) -> Stop {
        match self {
            Self::Need(need) => Stop::Need(need),
            Self::Refuse(refusal) => Stop::Refuse { refusal, resource: Some(resource) },
        }
    }
}

impl From<Refusal> for Verdict {
    fn from(refusal: Refusal) -> Self {
        Self::Refuse(Box::new(refusal))
    }
}

impl From<TokenError> for Doubt {
    fn from(error: TokenError) -> Self {
        let detail = match error {
            TokenError::Malformed(why) | TokenError::Claims(why) => format!("because={why:?}"),
            _ => String::new(),
        };
        Self::Token(error, detail)
    }
}

fn refuse(refusal: Refusal) -> Stop {
    Stop::Refuse { refusal: Box::new(refusal), resource: None }
}
