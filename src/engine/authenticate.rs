//! Authentication: the caller's token is validated, or was before and has not expired.

use std::borrow::Cow;
use std::rc::Rc;

use crate::cache::verified_tokens::VerifiedToken;
use crate::config::Config;
use crate::crypto::Algorithm;
use crate::engine::context::{RequestContext, Stop};
use crate::engine::credentials::{self, check_form};
use crate::engine::need::Need;
use crate::engine::state::TokenRole;
use crate::jose::{self, Claims, CompactJws, Header, Rejection, Selection, Signed, TokenError, TokenRules};
use crate::json::Object;
use crate::provider::{Caller, IssuerMatch, Provider, SubjectTokenSource, TokenLocation};
use crate::refusal::{Reason, Refusal};
use crate::resource::Resource;
use crate::resource::admission::Admission;
use crate::telemetry::{Detail, Fact, cut};
use crate::time::UnixTime;

/// Accepted values of `typ` of an access token (RFC 9068 section 2.1; most providers write `JWT`).
const ACCESS_TOKEN_TYPES: [&str; 2] = ["jwt", "at+jwt"];

/// Accepted values of `typ` of an ID token.
const ID_TOKEN_TYPES: [&str; 1] = ["jwt"];

/// Maximum length of a value of an unverified token in a log line, in characters.
const MAX_UNVERIFIED: usize = 128;

/// Maximum number of providers, in order of their names, that an unknown issuer is compared with. A near miss of a later one is
/// `unknown_issuer`.
pub(super) const MAX_DIAGNOSED: usize = 64;

/// Diagnosis of a token for another resource of this proxy.
pub(super) const FOR_ANOTHER_RESOURCE: &str = "the token is for another resource here: the client must ask for one for this resource, or audiences of this resource lack one";

/// Use of a token: it decides which provider and which audience are accepted.
#[derive(Clone, Copy)]
enum TokenUse<'a> {
    /// Credential for a resource, in `authorization`.
    Credential(&'a Resource),
    /// Subject token: an ID token of that provider for one of those audiences.
    SubjectToken { provider: &'a Provider, audiences: &'a [String] },
}

/// Provider whose issuer a token names.
struct MatchedIssuer<'a> {
    provider: &'a Rc<Provider>,
    /// Issuer of the tenant, in the provider's spelling.
    issuer: Cow<'a, str>,
    tenant: Option<String>,
}

/// Authenticates the caller by the token in `authorization`.
pub(super) fn authenticate(
    ctx: &mut RequestContext<'_>,
    token: &str,
    resource: &Resource,
) -> Result<Rc<VerifiedToken>, Stop> {
    verified(ctx, token, TokenUse::Credential(resource))
}

/// Subject token that comes in a place of its own: an ID token of the caller.
pub(super) fn subject_token<'r>(
    ctx: &mut RequestContext<'r>,
    caller: &VerifiedToken,
    location: &TokenLocation,
    audiences: &[String],
) -> Result<(Rc<VerifiedToken>, &'r str), Stop> {
    let request = ctx.request;
    let token = credentials::subject_token(request, location).ok_or(Refusal::new(Reason::SubjectTokenMissing))?;
    let verified = verified(ctx, token, TokenUse::SubjectToken { provider: &caller.provider, audiences })?;
    if verified.provider != caller.provider || verified.identity.user != caller.identity.user {
        return Err(Refusal::new(Reason::SubjectMismatch).into());
    }
    Ok((verified, token))
}

/// Validated token, from the cache if it was validated before.
fn verified(ctx: &mut RequestContext<'_>, token: &str, token_use: TokenUse<'_>) -> Result<Rc<VerifiedToken>, Stop> {
    let role = token_use.role();
    match ctx.state.verified(role, token) {
        Some(verified) if ctx.now < verified.accepted_until => return Ok(verified),
        Some(verified) => {
            ctx.state.forget(role, token);
            let ago = ctx.now.since(verified.expires).as_secs();
            if role == TokenRole::Credential {
                ctx.audit.caller = Some(verified);
            }
            return Err(rejected(role, &TokenError::Expired.because(format!("exp was {ago} s ago")), Detail::new()));
        }
        None => {}
    }
    let verified = Rc::new(validate(ctx, token, token_use)?);
    ctx.state.remember(role, token, &verified);
    Ok(verified)
}

/// Validates a token in one order: form, algorithm, issuer, claims, key, signature. A check that needs no signature comes
/// before it, unless its refusal says more than that the token is not valid: claims of a forged token prove nothing.
fn validate(ctx: &mut RequestContext<'_>, token: &str, token_use: TokenUse<'_>) -> Result<VerifiedToken, Stop> {
    let role = token_use.role();
    let malformed = |error: TokenError| match (role, check_form(token)) {
        // A value that is no token may not even be one credential.
        (TokenRole::Credential, Err(refusal)) => refusal.into(),
        _ => rejected(role, &error.into(), Detail::new()),
    };
    let jws = CompactJws::parse(token, |segment| ctx.state.header(segment)).map_err(malformed)?;
    let members = jws.claims().map_err(malformed)?;
    let algorithm = Algorithm::from_name(&jws.header.algorithm).ok_or_else(|| {
        let diagnosis = "alg is none, symmetric or unsupported";
        rejected(role, &TokenError::Algorithm.because(diagnosis), Detail::new())
    })?;
    let config = ctx.config;
    let matched = match_issuer(config, &members).map_err(|(rejection, context)| rejected(role, &rejection, context))?;
    token_use.check_provider(matched.provider).map_err(|rejection| rejected(role, &rejection, Detail::new()))?;
    let provider = matched.provider;
    // A token may be forged until its signature is verified, and the log says so.
    let context = || match role {
        TokenRole::Credential => Detail::new().with(Fact::ProviderUnverified, provider.name.to_string()),
        TokenRole::SubjectToken => Detail::new(),
    };
    if !provider.algorithms.is_empty() && !provider.algorithms.contains(&algorithm) {
        let diagnosis = "algorithms of the provider does not list alg";
        return Err(rejected(role, &TokenError::Algorithm.because(diagnosis), context()));
    }
    let names = provider.claim_names(token_use.is_id_token(provider));
    let claims = Claims::read_named(&members, names).map_err(|error| rejected(role, &error.into(), context()))?;
    let caller = validate_claims(token_use, provider, &jws.header, &claims, ctx.now);
    if let Err(rejection) = &caller
        && rejection.error != TokenError::NotAUser
    {
        let context = match rejection.error {
            TokenError::Audience => {
                context().with(Fact::AudienceUnverified, shown_audiences(refused_claim(token_use, provider, &claims).1))
            }
            _ => context(),
        };
        return Err(rejected(role, rejection, context));
    }
    verify_signature(ctx, &jws, algorithm, &matched, role, &context)?;
    let caller = caller.map_err(|rejection| {
        let provider = Detail::new().with(Fact::Provider, provider.name.to_string());
        rejected(role, &rejection, provider)
    })?;
    ctx.state.remember_header(jws.header_segment, &jws.header);
    let admission = Admission::of(&claims, provider, &config.audiences);
    let mut verified = VerifiedToken::new(provider, caller, claims, &config.scopes);
    verified.admission = admission;
    if role == TokenRole::Credential {
        let missing = provider.required_claims.iter().find(|required| !required.is_in(&members));
        verified.missing_claim = missing.map(|required| required.name.clone());
    }
    if let Cow::Owned(issuer) = matched.issuer {
        verified.issuer = Some(issuer.into());
    }
    Ok(verified)
}

/// Provider whose issuer the claims name. It only selects the keys that the signature must then hold by.
fn match_issuer<'a>(config: &'a Config, claims: &Object<'_>) -> Result<MatchedIssuer<'a>, (Rejection, Detail)> {
    let issuer = claims.string("iss").unwrap_or_default();
    let mut near_miss = None;
    let by_issuer = config.issuers.get(issuer).into_iter().flatten();
    for provider in by_issuer.chain(config.providers.iter().take(MAX_DIAGNOSED)) {
        match provider.profile.match_issuer(provider, issuer, claims) {
            IssuerMatch::Match { issuer, tenant } => return Ok(MatchedIssuer { provider, issuer, tenant }),
            IssuerMatch::NearMiss(rejection) => near_miss = near_miss.or(Some((rejection, &provider.name))),
            IssuerMatch::NoMatch => {}
        }
    }
    let context = Detail::new();
    let issuer = cut(issuer, MAX_UNVERIFIED);
    Err(match near_miss {
        Some((rejection, provider)) => {
            let context = context.with(Fact::ProviderUnverified, provider.to_string());
            (rejection, context.with(Fact::IssuerUnverified, issuer))
        }
        None => {
            let rejection = TokenError::Issuer.because("no provider with that issuer is configured");
            (rejection, context.with(Fact::IssuerUnverified, issuer))
        }
    })
}

/// Checks type, times, audience and kind of the token, and finds its user.
fn validate_claims(
    token_use: TokenUse<'_>,
    provider: &Provider,
    header: &Header,
    claims: &Claims<'_>,
    now: UnixTime,
) -> Result<Caller, Rejection> {
    let is_id_token = token_use.is_id_token(provider);
    let audiences = token_use.audiences(provider);
    let rules = TokenRules {
        audiences,
        types: if is_id_token { &ID_TOKEN_TYPES } else { &ACCESS_TOKEN_TYPES },
        leeway: provider.leeway,
    };
    let caller = || match is_id_token {
        false => provider.caller(header, claims),
        true => provider.id_token_caller(header, claims),
    };
    jose::check(header, claims, rules, caller, now).map_err(|mut rejection| {
        if rejection.error == TokenError::Audience && rejection.diagnosis.is_empty() {
            let cause = match token_use.role() {
                TokenRole::Credential if claims.is_for(&provider.every_audience) => FOR_ANOTHER_RESOURCE,
                _ => provider.profile.wrong_audience(provider, audiences, claims),
            };
            let (claim, _) = refused_claim(token_use, provider, claims);
            rejection.diagnosis = [claim, " has no accepted audience: ", cause].concat().into();
        }
        rejection
    })
}

/// Claim whose audiences are not accepted, by its name, and those audiences.
#[inline(never)]
fn refused_claim<'c>(
    token_use: TokenUse<'_>,
    provider: &'c Provider,
    claims: &'c Claims<'_>,
) -> (&'c str, &'c [&'c str]) {
    let (audiences, is_aud) = claims.refused_audiences(token_use.audiences(provider));
    let own = provider.claim_names(token_use.is_id_token(provider)).audience;
    (if is_aud { jose::AUDIENCE } else { own }, audiences)
}

/// Audiences of an unverified token as a log line shows them: the first few. One that may be another token is left out.
#[inline(never)]
fn shown_audiences(audiences: &[&str]) -> String {
    const MOST: usize = 4;
    let few = audiences.iter().filter(|audience| !audience.contains(jose::JWT_START)).take(MOST);
    let mut shown = few.map(|audience| cut(audience, MAX_UNVERIFIED)).collect::<Vec<_>>().join(" ");
    if audiences.len() > MOST {
        shown.push_str(" ...");
    }
    shown
}

/// Verifies the signature with the key that the header names, among the provider's keys.
fn verify_signature(
    ctx: &mut RequestContext<'_>,
    jws: &CompactJws<'_>,
    algorithm: Algorithm,
    matched: &MatchedIssuer<'_>,
    role: TokenRole,
    context: &dyn Fn() -> Detail,
) -> Result<(), Stop> {
    let provider = matched.provider;
    let need = |is_refetch| Stop::Fetch(Need::Jwks { provider: provider.clone(), is_refetch });
    let jwks = &*ctx.state.jwks(provider);
    let Some(keys) = &jwks.keys else {
        return Err(match jwks.remaining_backoff(ctx.now) {
            Some(pause) => Refusal::detailed(Reason::JwksUnavailable, context()).retry_after(pause).into(),
            None => need(false),
        });
    };
    let key_id = jws.header.key_id.as_deref();
    let with_key_id = || context().with(Fact::KeyId, cut(key_id.unwrap_or_default(), MAX_UNVERIFIED));
    let rejected = |rejection: Rejection| rejected(role, &rejection, with_key_id());
    let selection = keys.select_listed(key_id, algorithm, &provider.algorithms);
    let is_unknown_key = key_id.is_some() && matches!(selection, Selection::Missing);
    let rejection = match selection {
        Selection::Found(key) => {
            let signed = Signed { algorithm, input: jws.signing_input, signature: &jws.signature };
            let tenant = matched.tenant.as_deref();
            match jose::verify(signed, key, &provider.algorithms, &matched.issuer, tenant, ctx.crypto) {
                Ok(()) => return Ok(()),
                Err(error) => error.into(),
            }
        }
        Selection::OtherAlgorithm if key_id.is_none() => TokenError::Algorithm.because("no key has that alg"),
        Selection::OtherAlgorithm => TokenError::Algorithm.because("the key of that kid is for another alg"),
        Selection::Ambiguous if key_id.is_none() => {
            TokenError::Key.because("the token has no kid, and the provider publishes several keys with its alg")
        }
        Selection::Ambiguous => {
            TokenError::Key.because("the provider publishes two different keys under that kid: it must withdraw one")
        }
        Selection::Missing => TokenError::Key.because(
            "the provider does not publish that key: a token of another environment, a custom signing key, or a forged one",
        ),
    };
    // A provider that starts anew may publish another key under a `kid` that it has used before. Whether that is so, or the token is
    // forged, only the provider's JWKS can tell. It is fetched for all such tokens at most once in 30 seconds, and not for requests
    // that have waited for the keys in use.
    let is_refetch = jwks.may_refetch(ctx.now) && (is_unknown_key || !jwks.is_just_fetched(ctx.now));
    if is_refetch { Err(need(true)) } else { Err(rejected(rejection)) }
}

impl<'a> TokenUse<'a> {
    const fn role(self) -> TokenRole {
        match self {
            Self::Credential(_) => TokenRole::Credential,
            Self::SubjectToken { .. } => TokenRole::SubjectToken,
        }
    }

    /// Returns `true` if the token must be an ID token.
    const fn is_id_token(self, provider: &Provider) -> bool {
        match self {
            Self::Credential(_) => matches!(provider.subject_token, SubjectTokenSource::IdToken),
            Self::SubjectToken { .. } => true,
        }
    }

    /// A subject token must be of the provider of the credential: it is validated by the rules of that provider, and must
    /// not be cached as good by rules of another.
    fn check_provider(self, provider: &Provider) -> Result<(), Rejection> {
        match self {
            Self::SubjectToken { provider: wanted, .. } if wanted != provider => {
                Err(TokenError::Issuer.because("the ID token is of another provider than the access token"))
            }
            _ => Ok(()),
        }
    }

    fn audiences(self, provider: &'a Provider) -> &'a [String] {
        match self {
            Self::Credential(resource) => resource.audiences_for(provider),
            Self::SubjectToken { audiences, .. } => audiences,
        }
    }
}

/// Refusal of a token. All faults of a subject token are one reason to the client; the log says which it is.
pub(super) fn rejected(role: TokenRole, rejection: &Rejection, context: Detail) -> Stop {
    let reason = Reason::from(&rejection.error);
    let (reason, detail) = match role {
        TokenRole::Credential => (reason, context),
        TokenRole::SubjectToken => {
            (Reason::SubjectTokenInvalid, Detail::new().with(Fact::TokenError, reason.label()).and(&context))
        }
    };
    Refusal::detailed(reason, detail.with(Fact::Cause, rejection.diagnosis.clone())).into()
}
