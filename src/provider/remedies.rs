//! Catalogue of known errors: the cause, the party that must act, and the remedy. `make docs` writes `docs/errors.md`
//! from it.
//!
//! An entry explains and decides nothing: [`ErrorClass`] alone selects the refusal. A number or a word that a provider
//! changes therefore changes no more than a sentence in the log. One exception is [`excuses_subject_token`].

use crate::http::CalloutFailure;
use crate::provider::common_errors::COMMON_ERRORS;
use crate::provider::{ErrorClass, ErrorSigns, PROFILES, Profile, UnusableToken, error_class};

/// Party that must act.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Responsible {
    /// The user, in the client or in a browser.
    User,
    /// The administrator of the identity provider.
    Admin,
    /// The operator of this proxy, of the upstream's registration or of the clients.
    Operator,
    /// The provider; all others wait.
    Provider,
}

impl Responsible {
    /// Returns the value of the fact `responsible`.
    pub const fn text(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Admin => "admin",
            Self::Operator => "operator",
            Self::Provider => "provider",
        }
    }
}

/// Mark of an error response that distinguishes it from others with the same status and `error`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorPattern {
    /// No mark.
    Any,
    /// `suberror` is one of these.
    Suberror(&'static [&'static str]),
    /// `error_codes` contains one of these, with any status and `error`.
    Numbers(&'static [u32]),
    /// `error_description` contains one of these.
    Words(&'static [&'static str]),
    /// The response has `claims`.
    Claims,
    /// An exchange for this resource and provider has succeeded.
    Worked,
}

/// Symptom by which an error is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Symptom {
    /// No response, or one that is too large.
    CalloutFailed(CalloutFailure),
    /// A response with status 2xx whose token is unusable. `None`: any other problem of such a response.
    UnusableToken(Option<UnusableToken>),
    /// An error response (RFC 6749 section 5.2).
    ErrorResponse {
        /// Usual status.
        status: u16,
        /// `error`. Empty: any.
        error: &'static str,
        /// Mark within the response.
        pattern: ErrorPattern,
    },
    /// The exchange succeeds, and the upstream refuses the token with this status. The filter does not see the cause.
    RefusedByUpstream(u16),
}

/// Known error of an exchange.
#[derive(Debug)]
pub struct KnownError {
    /// Symptom.
    pub symptom: Symptom,
    /// Party that must act.
    pub responsible: Responsible,
    /// Action of that party: one sentence, printable ASCII without quotes.
    pub remedy: &'static str,
    /// The subject token can be the cause as well, if the exchange succeeds with others.
    pub can_be_subject_token: bool,
    /// Cause. This and the fields below are for the documentation only, and not in the module.
    #[cfg(not(target_arch = "wasm32"))]
    pub cause: &'static str,
    /// Usual `suberror` of an error that is known by its number.
    #[cfg(not(target_arch = "wasm32"))]
    pub suberror: &'static str,
    /// Only the access token request with an ID-JAG fails with this error.
    #[cfg(not(target_arch = "wasm32"))]
    pub is_at_access_token_request: bool,
}

impl KnownError {
    /// Describes an error response by status, `error` and pattern.
    pub(super) const fn new(
        (status, error, pattern): (u16, &'static str, ErrorPattern),
        cause: &'static str,
        responsible: Responsible,
        remedy: &'static str,
    ) -> Self {
        Self::of(Symptom::ErrorResponse { status, error, pattern }, cause, responsible, remedy)
    }

    /// Describes an upstream that refuses the token with `status`.
    #[cfg(not(target_arch = "wasm32"))]
    pub(super) const fn at_upstream(
        status: u16,
        cause: &'static str,
        responsible: Responsible,
        remedy: &'static str,
    ) -> Self {
        Self::of(Symptom::RefusedByUpstream(status), cause, responsible, remedy)
    }

    #[cfg_attr(target_arch = "wasm32", expect(unused_variables, reason = "the cause is for the documentation only"))]
    pub(super) const fn of(
        symptom: Symptom,
        cause: &'static str,
        responsible: Responsible,
        remedy: &'static str,
    ) -> Self {
        Self {
            symptom,
            responsible,
            remedy,
            can_be_subject_token: matches!(responsible, Responsible::User),
            #[cfg(not(target_arch = "wasm32"))]
            cause,
            #[cfg(not(target_arch = "wasm32"))]
            suberror: "",
            #[cfg(not(target_arch = "wasm32"))]
            is_at_access_token_request: false,
        }
    }

    /// Says that the subject token can be the cause as well.
    pub(super) const fn or_subject_token(mut self) -> Self {
        self.can_be_subject_token = true;
        self
    }

    /// Restricts the error to the access token request with an ID-JAG.
    #[cfg_attr(target_arch = "wasm32", expect(unused_mut, reason = "for the documentation only"))]
    pub(super) const fn at_access_token_request(mut self) -> Self {
        #[cfg(not(target_arch = "wasm32"))]
        {
            self.is_at_access_token_request = true;
        }
        self
    }

    /// Adds the usual `suberror`.
    #[cfg_attr(target_arch = "wasm32", expect(unused_variables, unused_mut, reason = "for the documentation only"))]
    pub(super) const fn with_suberror(mut self, suberror: &'static str) -> Self {
        #[cfg(not(target_arch = "wasm32"))]
        {
            self.suberror = suberror;
        }
        self
    }

    /// Returns the class of the error. `None`: the exchange succeeds.
    pub fn class(&self, profile: &dyn Profile) -> Option<ErrorClass> {
        match self.symptom {
            Symptom::CalloutFailed(failure) => Some(ErrorClass::of_failure(failure)),
            Symptom::UnusableToken(_) => Some(ErrorClass::InvalidResponse),
            Symptom::ErrorResponse { status, error, pattern } => {
                let suberror = match pattern {
                    ErrorPattern::Suberror(suberrors) => suberrors.first().copied(),
                    #[cfg(not(target_arch = "wasm32"))]
                    ErrorPattern::Numbers(_) => Some(self.suberror).filter(|suberror| !suberror.is_empty()),
                    _ => None,
                };
                let signs = ErrorSigns {
                    status,
                    error,
                    suberror,
                    has_claims: pattern == ErrorPattern::Claims,
                    has_worked: pattern == ErrorPattern::Worked,
                };
                Some(error_class::rule(profile, &signs).class)
            }
            Symptom::RefusedByUpstream(_) => None,
        }
    }
}

/// Known error at sign-in, in the browser or in the client. The filter does not see it, so it is for the documentation
/// only, and not in the module.
#[cfg(not(target_arch = "wasm32"))]
#[derive(Debug)]
pub struct SignInError {
    /// Code that the provider shows.
    pub code: &'static str,
    /// Cause.
    pub cause: &'static str,
    /// Party that must act.
    pub responsible: Responsible,
    /// Action of that party.
    pub remedy: &'static str,
}

/// Error response, as received and classified.
pub(super) struct ErrorDetails<'a> {
    pub(super) class: ErrorClass,
    pub(super) signs: ErrorSigns<'a>,
    pub(super) numbers: &'a [u32],
    pub(super) description: &'a str,
}

/// Returns the most specific entry for an error response. A number precedes words and `suberror`, these precede `error`
/// alone, and `error` precedes the class alone.
pub(super) fn find(profile: &dyn Profile, details: &ErrorDetails<'_>) -> Option<&'static KnownError> {
    let signs = &details.signs;
    let weight = |known: &KnownError| {
        let Symptom::ErrorResponse { status: usual_status, error, pattern } = known.symptom else {
            return None;
        };
        let is_same_error = error == signs.error;
        let (weight, has_pattern) = match pattern {
            ErrorPattern::Any => (0, true),
            ErrorPattern::Suberror(suberrors) => {
                (4, signs.suberror.is_some_and(|suberror| suberrors.contains(&suberror)))
            }
            ErrorPattern::Numbers(numbers) => (8, numbers.iter().any(|number| details.numbers.contains(number))),
            ErrorPattern::Claims => (0, signs.has_claims),
            ErrorPattern::Worked => (0, signs.has_worked),
            ErrorPattern::Words(words) => (4, words.iter().any(|word| contains(details.description, word.as_bytes()))),
        };
        // A number identifies the error. Other entries must have the class that was decided.
        let fits = matches!(pattern, ErrorPattern::Numbers(_))
            || (known.class(profile) == Some(details.class) && (is_same_error || error.is_empty()));
        // One entry covers every redirect, one every server error, and one every request that came at a wrong time or place.
        let is_same_status = error_class::is_same_status(usual_status, signs.status);
        (has_pattern && fits).then(|| weight | (u8::from(is_same_error) << 1) | u8::from(is_same_status))
    };
    let mut best: Option<(u8, &'static KnownError)> = None;
    for known in profile.known_errors().iter().chain(COMMON_ERRORS) {
        if let Some(weight) = weight(known)
            && best.is_none_or(|(most, _)| weight > most)
        {
            best = Some((weight, known));
        }
    }
    best.map(|(_, known)| known)
}

/// Returns `true` if the description of an error names a cause that no other subject token removes.
pub(super) fn excuses_subject_token(profile: &dyn Profile, error: &str, description: &str) -> bool {
    profile.known_errors().iter().any(|known| match known.symptom {
        Symptom::ErrorResponse { error: known_error, pattern: ErrorPattern::Words(words), .. } => {
            !known.can_be_subject_token
                && known_error == error
                && words.iter().any(|word| contains(description, word.as_bytes()))
        }
        _ => false,
    })
}

/// Returns `true` if `text` contains `word`. The search of the standard library is for long texts, and adds a kilobyte
/// to the module.
pub(super) fn contains(text: &str, word: &[u8]) -> bool {
    text.as_bytes().windows(word.len().max(1)).any(|window| window == word)
}

/// Returns the entry for a failed callout.
pub(super) fn of_failure(failure: CalloutFailure) -> Option<&'static KnownError> {
    COMMON_ERRORS.iter().find(|known| known.symptom == Symptom::CalloutFailed(failure))
}

/// Returns the entry for an unusable token.
pub(super) fn of_unusable_token(problem: UnusableToken) -> Option<&'static KnownError> {
    let is = |known: &&KnownError| match known.symptom {
        Symptom::UnusableToken(symptom) => symptom.is_none_or(|symptom| symptom == problem),
        _ => false,
    };
    COMMON_ERRORS.iter().find(is)
}

/// Returns every profile with its own known errors, for the documentation. A profile that has the errors of an earlier
/// one is left out.
pub fn known_errors() -> impl Iterator<Item = (&'static dyn Profile, &'static [KnownError])> {
    let is_own = |(index, profile): &(usize, &dyn Profile)| {
        let mut before = PROFILES.iter().take(*index);
        profile.known_errors().is_empty()
            || !before.any(|other| std::ptr::eq(other.known_errors(), profile.known_errors()))
    };
    PROFILES.iter().copied().enumerate().filter(is_own).map(|(_, profile)| (profile, profile.known_errors()))
}
