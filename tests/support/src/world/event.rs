//! The events of the world, and the scripted replies of its providers.

use std::time::Duration;

#[cfg(feature = "arbitrary")]
use arbitrary::Arbitrary;
use onbehalf::http::{Callout, CalloutFailure, CalloutResult, Response};
use serde_json::json;

use super::scene::Scene;
use super::settings::exchange_of;
use crate::http::{answer_with, form};

/// An event.
#[cfg_attr(feature = "arbitrary", derive(Arbitrary))]
#[derive(Debug)]
pub enum Event<'a> {
    /// A caller asks a worker for a resource.
    Request {
        /// The second worker.
        worker: bool,
        /// The number of the caller.
        caller: u8,
        /// `/github/admin` in place of `/github`.
        admin: bool,
        /// The number of the caller's proof.
        proof: u8,
        /// The difference from a proper request.
        oddity: Oddity,
    },
    /// A call is answered.
    CalloutResult {
        /// The number of the call.
        call: u8,
        /// The reply.
        reply: Scripted<'a>,
    },
    /// A call that was answered before is answered again.
    Again {
        /// The number of the call.
        call: u8,
        /// The reply.
        reply: Scripted<'a>,
    },
    /// The timer of a worker fires.
    Tick(bool),
    /// Another plugin writes into the memory that workers share.
    Damage {
        /// The place in each record.
        at: u16,
        /// The octet that is written there.
        byte: u8,
    },
    /// Time passes.
    Later(Span),
    /// The clock is set back.
    Earlier(Span),
    /// The clock is set to any number of milliseconds.
    At(u64),
    /// A client whose request waits disconnects.
    Gone(u8),
}

impl Event<'_> {
    /// Texts that the event itself brings: the header field and the body of a reply that is any bytes.
    pub const fn texts(&self) -> [&[u8]; 2] {
        match self {
            Self::CalloutResult { reply: Scripted::Bytes { value, body, .. }, .. }
            | Self::Again { reply: Scripted::Bytes { value, body, .. }, .. } => [value, body],
            _ => [b"", b""],
        }
    }
}

/// The difference of a request from a proper one.
#[cfg_attr(feature = "arbitrary", derive(Arbitrary))]
#[derive(Debug)]
pub enum Oddity {
    /// No difference.
    None,
    /// The ID token of another caller, or one where none belongs.
    IdTokenOf(u8),
    /// No ID token.
    NoIdToken,
    /// A second cookie of the ID token's name.
    TwoCookies,
    /// Two `authorization` fields.
    TwoAuthorizations,
    /// The token in the query as well.
    TokenInQuery,
    /// No DPoP proof.
    NoProof,
    /// No client certificate.
    NoCertificate,
    /// `Bearer` in place of `DPoP`, or the other way round.
    OtherScheme,
}

/// A span of time.
#[cfg_attr(feature = "arbitrary", derive(Arbitrary))]
#[derive(Debug)]
pub enum Span {
    /// 1 ms.
    Moment,
    /// 1 s.
    Second,
    /// 61 s.
    Minute,
    /// 901 s.
    QuarterOfAnHour,
    /// A day and a second.
    Day,
    /// A number of milliseconds.
    Millis(u32),
}

impl Span {
    /// The span as a duration.
    pub fn duration(&self) -> Duration {
        Duration::from_millis(match self {
            Self::Moment => 1,
            Self::Second => 1000,
            Self::Minute => 61_000,
            Self::QuarterOfAnHour => 901_000,
            Self::Day => 86_401_000,
            Self::Millis(millis) => u64::from(*millis),
        })
    }
}

/// The reply to a call.
#[cfg_attr(feature = "arbitrary", derive(Arbitrary))]
#[derive(Debug)]
pub enum Scripted<'a> {
    /// The reply of a healthy provider.
    Good,
    /// The reply of a healthy provider after its key rotation.
    Next,
    /// The good reply with one octet replaced.
    Spoiled {
        /// The place in the body.
        at: u16,
        /// The octet.
        byte: u8,
    },
    /// The first octets of the good reply.
    Cut(u16),
    /// The good reply, whose token has a lifetime in seconds.
    Issued {
        /// The lifetime.
        lifetime: u16,
    },
    /// The token of a caller as the issued token.
    Echo(u8),
    /// The subject token as an error.
    EchoAsError {
        /// The status.
        status: u16,
    },
    /// No response.
    Failed(u8),
    /// An error that the standards define.
    Error {
        /// The status.
        status: u16,
        /// The number of the error.
        error: u8,
        /// The seconds in `retry-after`.
        retry_after: Option<u64>,
    },
    /// Any response.
    Bytes {
        /// The status.
        status: u16,
        /// The number of the header field's name.
        header: u8,
        /// The header field's value.
        value: &'a [u8],
        /// The body.
        body: &'a [u8],
    },
}

/// The errors of [`Scripted::Error`], by number.
pub(super) const ERRORS: [&str; 10] = [
    "invalid_grant",
    "invalid_client",
    "interaction_required",
    "consent_required",
    "access_denied",
    "slow_down",
    "temporarily_unavailable",
    "server_error",
    "invalid_target",
    "",
];

/// The header fields of [`Scripted::Bytes`], by number.
const HEADERS: [&str; 6] =
    ["retry-after", "x-rate-limit-reset", "x-okta-request-id", "x-ms-request-id", "cache-control", "age"];

impl Scripted<'_> {
    /// The reply to a call, and the lifetime in seconds of the token in it, if it is known.
    pub(super) fn reply(&self, call: &Callout, scene: &Scene, serial: &mut u32) -> (CalloutResult, Option<u16>) {
        let mut issued = |lifetime: u16| {
            *serial += 1;
            // The first of two calls brings an assertion (ID-JAG).
            if let Some(kind) = form(call).get("requested_token_type") {
                let assertion = format!("assertion-{serial}");
                return answer_with(
                    200,
                    &[],
                    &json!({"access_token": assertion, "token_type": "N_A", "issued_token_type": kind}),
                );
            }
            let token = format!("up-{serial}");
            answer_with(200, &[], &json!({"access_token": token, "token_type": "Bearer", "expires_in": lifetime}))
        };
        let mut healthy = |next: bool, lifetime: u16| match call.method {
            "POST" => issued(lifetime),
            _ => scene.document(call, next),
        };
        let mut good = |next: bool| healthy(next, 3600);
        match self {
            Self::Good => (good(false), Some(3600)),
            Self::Next => (good(true), Some(3600)),
            Self::Spoiled { at, byte } => {
                let mut reply = good(false);
                if let CalloutResult::Response(answer) = &mut reply {
                    let at = usize::from(*at) % answer.body.len();
                    answer.body[at] = *byte;
                }
                (reply, None)
            }
            Self::Cut(length) => {
                let mut reply = good(false);
                if let CalloutResult::Response(answer) = &mut reply {
                    answer.body.truncate(usize::from(*length));
                }
                (reply, None)
            }
            Self::Issued { lifetime } => (healthy(false, *lifetime), Some(*lifetime)),
            Self::Echo(caller) => {
                let caller = &scene.callers[usize::from(*caller) % scene.callers.len()];
                let id_token = caller.id_token.as_ref().filter(|_| serial.is_multiple_of(2));
                *serial += 1;
                let token = id_token.unwrap_or(&caller.token);
                (answer_with(200, &[], &json!({"access_token": token, "token_type": "Bearer"})), None)
            }
            _ => {
                let subject = if call.method == "POST" { exchange_of(call).0 } else { String::new() };
                (self.trouble(&subject).expect("a reply without a good part"), None)
            }
        }
    }

    /// The reply of a provider in trouble to a token request with this subject token, or none if the reply needs a
    /// healthy provider.
    pub fn trouble(&self, subject: &str) -> Option<CalloutResult> {
        Some(match self {
            Self::EchoAsError { status } => {
                let claims = json!({"access_token": {"nonce": {"value": subject}}}).to_string();
                let body = json!({"error": subject, "suberror": subject, "trace_id": subject,
                    "error_description": subject, "error_codes": [1, subject], "claims": claims});
                answer_with(*status, &[], &body)
            }
            Self::Failed(failure) => {
                use CalloutFailure::{NoConnection, NotSent, TimedOut, TooLarge};
                CalloutResult::Failed([NotSent, TimedOut, NoConnection, TooLarge][usize::from(*failure) % 4])
            }
            Self::Error { status, error, retry_after } => {
                let retry_after = retry_after.map(|seconds| seconds.to_string());
                let headers: Vec<_> = retry_after.iter().map(|value| ("retry-after", value.as_str())).collect();
                answer_with(*status, &headers, &json!({"error": ERRORS[usize::from(*error) % ERRORS.len()]}))
            }
            Self::Bytes { status, header, value, body } => {
                let name = HEADERS[usize::from(*header) % HEADERS.len()].to_owned();
                CalloutResult::Response(Response {
                    status: *status,
                    headers: vec![(name, value.to_vec())],
                    body: body.to_vec(),
                })
            }
            _ => return None,
        })
    }
}
