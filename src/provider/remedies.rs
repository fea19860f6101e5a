//! What providers refuse an exchange for: why, who must act, and what to do. `docs/errors.md` is made of it.
//!
//! A row explains; it decides nothing. Which refusal a failure is, [`blame`](super::fault::blame) says alone, so that a
//! number or a word that changes at the provider changes a sentence in our log at most.

use Responsible::{Operator, Provider, User};

use crate::http::CalloutFailure;
use crate::provider::profile::PROFILES;
use crate::provider::token_error::blame;
use crate::provider::{ErrorClass, Profile, issued_token, token_request};

/// Who must act.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Responsible {
    /// The user, at the client or in a browser.
    User,
    /// Whoever administers the identity provider.
    Admin,
    /// Whoever configures this proxy, the upstream's registration or the clients.
    Operator,
    /// The provider; all others wait.
    Provider,
}

impl Responsible {
    /// The word of a log line.
    pub const fn text(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Admin => "admin",
            Self::Operator => "operator",
            Self::Provider => "provider",
        }
    }
}

/// By what a failure is told from others with the same status and error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorPattern {
    /// By nothing.
    None,
    /// By one of these in `suberror`.
    Suberror(&'static [&'static str]),
    /// By one of these in `error_codes`, whatever its status and error are.
    Numbers(&'static [u32]),
    /// By one of these in `error_description`.
    Words(&'static [&'static str]),
    /// The exchange succeeds, and the upstream refuses: no log line of ours can tell.
    Upstream,
}

/// A failure that is known.
#[derive(Debug)]
pub struct KnownError {
    /// The status that usually comes with it; 0: no answer came; 200: the answer was of no use.
    pub status: u16,
    /// `error`; or, without an error response, what was wrong. Empty: any.
    pub error: &'static str,
    /// What tells it from others.
    pub sign: ErrorPattern,
    /// Who must act.
    pub act: Responsible,
    /// What they do about it: one sentence, printable ASCII without quotes.
    pub remedy: &'static str,
    /// What is the matter. This and the next are for the page only, and not in the module.
    #[cfg(not(target_arch = "wasm32"))]
    pub cause: &'static str,
    /// The `suberror` that usually comes with a number.
    #[cfg(not(target_arch = "wasm32"))]
    pub suberror: &'static str,
    /// Whether only the second of two requests fails so.
    #[cfg(not(target_arch = "wasm32"))]
    pub is_at_second: bool,
}

impl KnownError {
    #[cfg_attr(target_arch = "wasm32", expect(unused_variables, reason = "the cause is for the page only"))]
    pub(crate) const fn new(
        (status, error, sign): (u16, &'static str, ErrorPattern),
        cause: &'static str,
        act: Responsible,
        remedy: &'static str,
    ) -> Self {
        Self {
            status,
            error,
            sign,
            act,
            remedy,
            #[cfg(not(target_arch = "wasm32"))]
            cause,
            #[cfg(not(target_arch = "wasm32"))]
            suberror: "",
            #[cfg(not(target_arch = "wasm32"))]
            is_at_second: false,
        }
    }

    /// The same, at the second of two requests only.
    #[cfg_attr(target_arch = "wasm32", expect(unused_mut, reason = "for the page only"))]
    pub(crate) const fn at_second(mut self) -> Self {
        #[cfg(not(target_arch = "wasm32"))]
        {
            self.is_at_second = true;
        }
        self
    }

    /// The same, usually with that `suberror`.
    #[cfg_attr(target_arch = "wasm32", expect(unused_variables, unused_mut, reason = "for the page only"))]
    pub(crate) const fn with(mut self, suberror: &'static str) -> Self {
        #[cfg(not(target_arch = "wasm32"))]
        {
            self.suberror = suberror;
        }
        self
    }

    /// What becomes of it. `None`: the exchange succeeds.
    pub fn blame(&self, profile: &dyn Profile) -> Option<ErrorClass> {
        let suberror = match self.sign {
            ErrorPattern::Suberror(suberrors) => suberrors.first().copied(),
            #[cfg(not(target_arch = "wasm32"))]
            ErrorPattern::Numbers(_) => Some(self.suberror).filter(|suberror| !suberror.is_empty()),
            _ => None,
        };
        match (self.sign, self.status) {
            (ErrorPattern::Upstream, _) => None,
            (_, 0) => Some(ErrorClass::Unavailable),
            (_, 200) => Some(ErrorClass::Nonsense),
            (_, status) => Some(blame(profile, status, self.error, suberror)),
        }
    }
}

/// An error that a user meets when signing in, in a browser or a client. Nothing of it reaches this proxy, so it is for the
/// page only, and not in the module.
#[cfg(not(target_arch = "wasm32"))]
#[derive(Debug)]
pub struct SignInError {
    /// By what it is known.
    pub code: &'static str,
    /// What is the matter.
    pub cause: &'static str,
    /// Who must act.
    pub act: Responsible,
    /// What they do about it.
    pub remedy: &'static str,
}

/// A failure as it came.
pub(crate) struct ErrorDetails<'a> {
    pub(crate) blame: ErrorClass,
    pub(crate) status: u16,
    pub(crate) error: &'a str,
    pub(crate) suberror: Option<&'a str>,
    pub(crate) numbers: &'a [u32],
    pub(crate) description: &'a str,
}

/// The entry that says most of a failure: by its number or words before its error alone, and by its error before its
/// blame alone.
pub(crate) fn find(profile: &dyn Profile, symptoms: &ErrorDetails<'_>) -> Option<&'static KnownError> {
    // One entry stands for all redirects, and one for all that a server says of itself.
    let status = match symptoms.status {
        300..=399 => 302,
        500.. => 500,
        status => status,
    };
    let weight = |entry: &KnownError| {
        let is_same_error = entry.error == symptoms.error;
        let (sign, has_sign) = match entry.sign {
            ErrorPattern::None => (0, true),
            ErrorPattern::Suberror(suberrors) => {
                (4, symptoms.suberror.is_some_and(|suberror| suberrors.contains(&suberror)))
            }
            ErrorPattern::Numbers(numbers) => (8, numbers.iter().any(|number| symptoms.numbers.contains(number))),
            ErrorPattern::Words(words) => (4, words.iter().any(|word| has(symptoms.description, word.as_bytes()))),
            ErrorPattern::Upstream => (0, false),
        };
        // A number says it all; whatever else has no number must not say other than what was decided.
        let fits = matches!(entry.sign, ErrorPattern::Numbers(_))
            || (entry.blame(profile) == Some(symptoms.blame) && (is_same_error || entry.error.is_empty()));
        let is_same_status = entry.status == status;
        (has_sign && fits).then(|| sign | (u8::from(is_same_error) << 1) | u8::from(is_same_status))
    };
    let mut best: Option<(u8, &'static KnownError)> = None;
    for entry in profile.failures().iter().chain(COMMON) {
        if let Some(weight) = weight(entry)
            && best.is_none_or(|(most, _)| weight > most)
        {
            best = Some((weight, entry));
        }
    }
    best.map(|(_, entry)| entry)
}

/// The plain search: that of the standard library is for long texts, and takes a kilobyte more of the module.
pub(crate) fn has(text: &str, word: &[u8]) -> bool {
    text.as_bytes().windows(word.len().max(1)).any(|window| window == word)
}

/// The entry of a failure that is no error response.
pub(crate) fn without_error(status: u16, problem: &str) -> Option<&'static KnownError> {
    let mut entries = COMMON.iter().filter(|entry| entry.status == status);
    entries.find(|entry| entry.error == problem || entry.error.is_empty())
}

/// Every profile with the failures that it adds to [`COMMON`], for the page; none with those of a profile before it.
pub fn failures() -> impl Iterator<Item = (&'static dyn Profile, &'static [KnownError])> {
    let is_own = |(at, profile): &(usize, &dyn Profile)| {
        let mut before = PROFILES.into_iter().take(*at);
        profile.failures().is_empty() || !before.any(|other| std::ptr::eq(other.failures(), profile.failures()))
    };
    PROFILES.into_iter().enumerate().filter(is_own).map(|(_, profile)| (profile, profile.failures()))
}

/// What any provider may answer: the errors of RFC 6749 section 5.2, RFC 8693 section 2.2.2, RFC 9449 section 5 and
/// OpenID Connect Core section 3.1.2.6, and what is no error response.
pub static COMMON: &[KnownError] = &[
    KnownError::new(
        (400, "invalid_grant", ErrorPattern::None),
        "the token that the caller sent has expired or was revoked, or the session behind it has ended",
        User,
        "Sign in again to get a new token.",
    ),
    KnownError::new(
        (400, "interaction_required", ErrorPattern::None),
        "the provider wants to see the user",
        User,
        "Sign in again and pass the provider's checks.",
    ),
    KnownError::new(
        (400, "consent_required", ErrorPattern::None),
        "nobody has agreed that this proxy asks for the upstream's scopes",
        Responsible::Admin,
        "Grant the app consent for the scopes, for all users.",
    ),
    KnownError::new(
        (400, "login_required", ErrorPattern::None),
        "the user has no session at the provider any more",
        User,
        "Sign in again.",
    ),
    KnownError::new(
        (400, "access_denied", ErrorPattern::None),
        "the provider lets this user not have a token for the upstream",
        Responsible::Admin,
        "Give the user access to the upstream at the provider.",
    ),
    KnownError::new(
        (401, "invalid_client", ErrorPattern::None),
        "the provider does not know the client by its id and by what it proved itself with",
        Operator,
        "Check client.id and client.authentication.",
    ),
    KnownError::new(
        (400, "unauthorized_client", ErrorPattern::None),
        "the client may not use this grant",
        Responsible::Admin,
        "Allow the app this grant.",
    ),
    KnownError::new(
        (400, "unsupported_grant_type", ErrorPattern::None),
        "the server does not know this grant, or has it switched off",
        Operator,
        "Check profile and token_endpoint, and switch the grant on there.",
    ),
    KnownError::new(
        (400, "invalid_scope", ErrorPattern::None),
        "a scope of the exchange does not exist there, or is not for this client",
        Operator,
        "Check scopes against those that the server has.",
    ),
    KnownError::new(
        (400, "invalid_target", ErrorPattern::None),
        "the server does not know the upstream by this audience or resource",
        Operator,
        "Check audience and resource against what the server calls the upstream.",
    ),
    KnownError::new(
        (400, "invalid_request", ErrorPattern::None),
        "a parameter is missing, not known or of a form that the server does not take; with RFC 8693 also: the subject token is not valid",
        Operator,
        "Check profile, subject_token and parameters against the provider's own log.",
    ),
    KnownError::new(
        (400, "invalid_dpop_proof", ErrorPattern::None),
        "the client is registered to prove a key with each token request (DPoP), and this one had no valid proof",
        Operator,
        "Set client.dpop and token_type: dpop, or switch DPoP off for the app; where they are set, check the clock of this host.",
    ),
    KnownError::new(
        (400, "use_dpop_nonce", ErrorPattern::None),
        "the same; the server wants a nonce in the proof",
        Operator,
        "Set client.dpop and token_type: dpop, which sends the nonce, too, or switch DPoP off for the app.",
    ),
    KnownError::new(
        (400, "temporarily_unavailable", ErrorPattern::None),
        "the provider is overloaded or under maintenance",
        Provider,
        "Wait; if it stays so, look at the provider's status page.",
    ),
    KnownError::new(
        (400, "slow_down", ErrorPattern::None),
        "the provider wants fewer requests",
        Provider,
        "Wait; if it stays so, look for a client that sends new tokens all the time.",
    ),
    KnownError::new(
        (500, "server_error", ErrorPattern::None),
        "something broke at the provider",
        Provider,
        "Wait; if it stays so, look at the provider's status page.",
    ),
    KnownError::new(
        (429, "", ErrorPattern::None),
        "the provider's rate limit for this client is spent",
        Provider,
        "Wait; if it stays so, have the limit raised.",
    ),
    KnownError::new(
        (500, "", ErrorPattern::None),
        "something broke at the provider or in front of it",
        Provider,
        "Wait; if it stays so, look at the provider's status page.",
    ),
    KnownError::new(
        (302, "", ErrorPattern::None),
        "a redirect, which is never followed: token_endpoint is not where it was, or something in between wants a login",
        Operator,
        "Check token_endpoint and the cluster: something redirects.",
    ),
    KnownError::new(
        (400, "", ErrorPattern::None),
        "an error that is not listed here, or an answer that is no OAuth error",
        Operator,
        "Look the request up in the provider's log, and check token_endpoint.",
    ),
    KnownError::new(
        (0, CalloutFailure::NotSent.text(), ErrorPattern::None),
        "Envoy has no such cluster, or no healthy host in it",
        Operator,
        "Check that the cluster is defined and that its host resolves.",
    ),
    KnownError::new(
        (0, CalloutFailure::NoConnection.text(), ErrorPattern::None),
        "the provider cannot be reached, TLS fails, or the connection broke",
        Operator,
        "Check the way to the provider, and its cluster's TLS (sni, trusted_ca).",
    ),
    KnownError::new(
        (0, CalloutFailure::TimedOut.text(), ErrorPattern::None),
        "the provider did not answer within `timeout_seconds`",
        Provider,
        "Wait; if it stays so, raise timeout_seconds.",
    ),
    KnownError::new(
        (200, CalloutFailure::TooLarge.text(), ErrorPattern::None),
        "more than 256 KiB came back",
        Operator,
        "Check token_endpoint and the cluster: this is no token response.",
    ),
    KnownError::new(
        (200, token_request::NOT_BEARER, ErrorPattern::None),
        "`token_type` is missing, or neither `Bearer` nor `DPoP`, such as `N_A` (an ID-JAG)",
        Operator,
        "Have the provider issue access tokens to the app.",
    ),
    KnownError::new(
        (200, token_request::BOUND, ErrorPattern::None),
        "the server binds what it issues to a key (DPoP), and an upstream that expects a bearer token cannot use it",
        Operator,
        "Set token_type: dpop, or switch off at the provider that the app must use DPoP and leave client.dpop out.",
    ),
    KnownError::new(
        (200, token_request::UNBOUND, ErrorPattern::None),
        "the server did not bind the token to the key of `client.dpop`, as the resource demands",
        Operator,
        "Have the provider bind the app's tokens (DPoP), or leave token_type: dpop out.",
    ),
    KnownError::new(
        (200, issued_token::HANDED_BACK, ErrorPattern::None),
        "the server gave back the very token that it got, as it was or in another spelling",
        Operator,
        "Have the server exchange tokens instead of returning them.",
    ),
    KnownError::new(
        (200, issued_token::FOR_THIS_PROXY, ErrorPattern::None),
        "`aud` is one of the `audiences` by which tokens come in here, and the exchange did not ask for that: the server ignores what it was asked for, and the upstream could come back with the token as its user",
        Operator,
        "Have the server issue the app tokens for the upstream, and name that in audience, resource or scopes; where tokens for this proxy are meant, name its own audience there.",
    ),
    KnownError::new(
        (200, issued_token::FOR_THE_SAME, ErrorPattern::None),
        "`iss` and `aud` are those of the token that was handed in, and the exchange did not ask for that audience: the server ignores what it was asked for",
        Operator,
        "Have the server issue the app tokens for the upstream, and name that in audience, resource or scopes.",
    ),
    KnownError::new(
        (200, issued_token::EXPIRED, ErrorPattern::None),
        "`exp` of the token is over",
        Operator,
        "Check the clock of this host and of the server, and how long its tokens are good for.",
    ),
    KnownError::new(
        (200, issued_token::ID_TOKEN, ErrorPattern::None),
        "`nonce`, `at_hash` or `typ` say that it is an ID token, which is for a client to read and not for an upstream",
        Operator,
        "Have the server issue access tokens to the app.",
    ),
    KnownError::new(
        (200, issued_token::NO_ACCESS_TOKEN, ErrorPattern::None),
        "`typ` or `events` say that it is another token than one for an upstream",
        Operator,
        "Have the server issue access tokens to the app.",
    ),
    KnownError::new(
        (200, issued_token::OF_ANOTHER, ErrorPattern::None),
        "`oid` (Entra) or `uid` (Okta) is not that of the user whose token was handed in",
        Operator,
        "Report it to the provider: it mixed up two users.",
    ),
    KnownError::new(
        (200, token_request::WRONG_TYPE, ErrorPattern::None),
        "`issued_token_type` is another type of token than was asked for",
        Operator,
        "Set requested_token_type to what the server issues.",
    ),
    KnownError::new(
        (200, "", ErrorPattern::None),
        "200, and no token that can be sent on: none at all, one that cannot stand in a header, an impossible lifetime, no JSON",
        Operator,
        "Check token_endpoint and the cluster: this is no token response.",
    ),
];
