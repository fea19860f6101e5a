//! Error class: the party that must act when a token request fails, and the table of the rules that decide it.

use crate::http::CalloutFailure;
use crate::provider::{Profile, Responsible};

/// Party that must act after a failed token request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorClass {
    /// The caller: the provider does not accept its token any more.
    Token,
    /// The user: sign in again, consent, or present another factor.
    UserMustAct,
    /// The administrator who grants access: this user has none.
    NotAllowed,
    /// The operator of this filter: the authentication of its client failed.
    ClientAuthentication,
    /// The operator of the provider or of this filter: the configuration is wrong.
    Operator,
    /// The provider, which received too many requests.
    Throttled,
    /// The provider or the network: no service.
    Unavailable,
    /// The provider: its response is unusable.
    InvalidResponse,
}

/// Parts of an error response that decide its class. Nothing else of the response does.
#[derive(Clone, Copy, Debug, Default)]
pub struct ErrorSigns<'a> {
    /// Status code.
    pub status: u16,
    /// `error`. Empty: the response is no OAuth error.
    pub error: &'a str,
    /// `suberror` (Entra).
    pub suberror: Option<&'a str>,
    /// The response has a claims challenge that can be passed on.
    pub has_claims: bool,
    /// An exchange for this resource and provider has succeeded since the configuration was loaded, only the subject token can
    /// differ, and no known description names another cause.
    pub has_worked: bool,
}

/// Rule of the table: the class of the error responses that it matches.
#[derive(Debug)]
pub struct ErrorRule {
    /// Ranges of status codes, both ends included. Empty: any status.
    pub statuses: &'static [(u16, u16)],
    /// Values of `error`. Empty: any value.
    pub errors: &'static [&'static str],
    /// Further condition.
    pub condition: ErrorCondition,
    /// Class.
    pub class: ErrorClass,
    /// Party that must act, unless the catalogue knows the error better.
    pub responsible: Responsible,
}

/// Further condition of a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorCondition {
    /// No condition.
    Always,
    /// `suberror` is one of these.
    Suberror(&'static [&'static str]),
    /// [`ErrorSigns::has_claims`].
    Claims,
    /// [`ErrorSigns::has_worked`].
    Worked,
}

impl ErrorRule {
    /// Describes a rule without a condition, with the usual party of the class.
    pub(super) const fn new(
        statuses: &'static [(u16, u16)],
        errors: &'static [&'static str],
        class: ErrorClass,
    ) -> Self {
        let responsible = class.responsible();
        Self { statuses, errors, condition: ErrorCondition::Always, class, responsible }
    }

    /// Adds a condition.
    pub(super) const fn only(mut self, condition: ErrorCondition) -> Self {
        self.condition = condition;
        self
    }

    /// Replaces the party that must act.
    pub(super) const fn act(mut self, responsible: Responsible) -> Self {
        self.responsible = responsible;
        self
    }

    /// Returns `true` if the rule is about responses with this status.
    fn has_status(&self, status: u16) -> bool {
        self.statuses.is_empty() || self.statuses.iter().any(|(from, to)| (*from..=*to).contains(&status))
    }

    /// Returns `true` if the rule is about this response.
    pub fn matches(&self, signs: &ErrorSigns<'_>) -> bool {
        let Self { errors, condition, .. } = self;
        self.has_status(signs.status)
            && (errors.is_empty() || errors.contains(&signs.error))
            && match condition {
                ErrorCondition::Always => true,
                ErrorCondition::Suberror(suberrors) => signs.suberror.is_some_and(|text| suberrors.contains(&text)),
                ErrorCondition::Claims => signs.has_claims,
                ErrorCondition::Worked => signs.has_worked,
            }
    }
}

/// Rules that precede those of a profile: no server means anything else by these. The statuses of one rule mean the same.
static TRANSIENT: [ErrorRule; 4] = [
    // RFC 6585 section 4, RFC 8628 section 3.5.
    ErrorRule::new(&[(429, 429)], &[], ErrorClass::Throttled),
    ErrorRule::new(&[(300, 399)], &[], ErrorClass::Unavailable),
    // RFC 9110 sections 15.5.9 and 15.5.20, RFC 8470 section 5.2: the same request can succeed later, or on another connection.
    ErrorRule::new(&[(408, 408), (421, 421), (425, 425)], &[], ErrorClass::Unavailable),
    ErrorRule::new(&[(500, u16::MAX)], &[], ErrorClass::Unavailable),
];

/// Returns `true` if both statuses mean the same, whatever else stands in the response.
pub(super) fn is_same_status(one: u16, other: u16) -> bool {
    one == other || TRANSIENT.iter().any(|rule| rule.has_status(one) && rule.has_status(other))
}

/// Rules that follow those of a profile (RFC 6749 section 5.2, RFC 8693 section 2.2.2, OpenID Connect Core section 3.1.2.6).
/// The last one matches every response.
static GENERAL: [ErrorRule; 15] = [
    ErrorRule::new(
        &[],
        &["slow_down", "rate_limit_exceeded", "rate_limited", "too_many_requests"],
        ErrorClass::Throttled,
    ),
    ErrorRule::new(&[], &["temporarily_unavailable", "server_error"], ErrorClass::Unavailable),
    // OpenID Connect Core section 5.5: a challenge says what a sign-in must bring. A new token alone would be refused again.
    ErrorRule::new(
        &[],
        &["invalid_token", "expired_token", "token_expired", "token_inactive", "invalid_grant"],
        ErrorClass::UserMustAct,
    )
    .only(ErrorCondition::Claims),
    // RFC 6750 section 3.1 names the subject token, so it is not the client that failed, whatever the status.
    ErrorRule::new(&[], &["invalid_token", "expired_token", "token_expired", "token_inactive"], ErrorClass::Token),
    // OpenID Connect Core section 3.1.2.6, RFC 9470 section 3, OpenID Connect Unmet Authentication Requirements, Auth0.
    ErrorRule::new(
        &[],
        &[
            "interaction_required",
            "login_required",
            "consent_required",
            "account_selection_required",
            "insufficient_user_authentication",
            "unmet_authentication_requirements",
            "mfa_required",
            "mfa_registration_required",
        ],
        ErrorClass::UserMustAct,
    ),
    // RFC 9449 sections 5 and 8: the proof is wrong, and another secret does not help.
    ErrorRule::new(&[], &["invalid_dpop_proof", "use_dpop_nonce"], ErrorClass::Operator),
    ErrorRule::new(&[], &["invalid_client"], ErrorClass::ClientAuthentication),
    // The grant is at fault whatever the status (RFC 6749 section 5.2), and an old secret does not help.
    ErrorRule::new(&[(401, 401)], &["invalid_grant"], ErrorClass::Token),
    // RFC 6749 section 5.2 has 401 for failed client authentication only. Servers put many codes beside it.
    ErrorRule::new(&[(401, 401)], &[], ErrorClass::ClientAuthentication),
    // Every other code: the client authenticated itself, and its proof was right.
    ErrorRule::new(&[], &[], ErrorClass::UserMustAct).only(ErrorCondition::Claims),
    ErrorRule::new(&[], &["invalid_grant"], ErrorClass::Token),
    // RFC 8693 section 2.2.2 has one code for a wrong request and for a subject token that is not valid any more.
    ErrorRule::new(&[], &["invalid_request"], ErrorClass::Token).only(ErrorCondition::Worked),
    // The client or the target is at fault: it is not in `aud` of the subject token, or may not request the target.
    ErrorRule::new(&[(403, 403)], &["access_denied"], ErrorClass::Operator).act(Responsible::Admin),
    ErrorRule::new(&[], &["access_denied"], ErrorClass::NotAllowed),
    ErrorRule::new(&[], &[], ErrorClass::Operator),
];

/// Returns the rules for error responses of a profile, in their order: the first that matches decides.
pub fn error_rules(profile: &dyn Profile) -> impl Iterator<Item = &'static ErrorRule> {
    TRANSIENT.iter().chain(profile.error_rules()).chain(&GENERAL)
}

/// Returns the rule that decides about an error response.
pub(super) fn rule(profile: &dyn Profile, signs: &ErrorSigns<'_>) -> &'static ErrorRule {
    let [.., last] = &GENERAL;
    error_rules(profile).find(|rule| rule.matches(signs)).unwrap_or(last)
}

impl ErrorClass {
    /// Returns `true` if the same request can succeed later without an action of anyone.
    pub const fn is_retryable(self) -> bool {
        matches!(self, Self::Throttled | Self::Unavailable)
    }

    /// Returns the party that usually must act.
    pub const fn responsible(self) -> Responsible {
        match self {
            Self::Token | Self::UserMustAct => Responsible::User,
            Self::NotAllowed => Responsible::Admin,
            Self::ClientAuthentication | Self::Operator | Self::InvalidResponse => Responsible::Operator,
            Self::Throttled | Self::Unavailable => Responsible::Provider,
        }
    }

    /// Returns the class of a failed callout.
    pub(super) const fn of_failure(failure: CalloutFailure) -> Self {
        match failure {
            CalloutFailure::TooLarge => Self::InvalidResponse,
            CalloutFailure::NotSent | CalloutFailure::TimedOut | CalloutFailure::NoConnection => Self::Unavailable,
        }
    }
}
