//! Known secrets: texts of a provider are compared with them before they reach the log.

use crate::json::Object;
use crate::provider::{TokenRequest, client_auth, remedies};
use crate::telemetry::cut;

/// Length of the parts of a secret that a text must not have, in bytes. A server that quotes a token often cuts it.
pub(super) const PART: usize = 16;

/// Secrets that a response of a token endpoint could repeat, and that must not reach the log: those of the clients, and the
/// tokens of request and response.
#[derive(Clone, Copy)]
pub(super) struct KnownSecrets<'a> {
    pub(super) request: &'a TokenRequest<'a>,
    /// Body of the response.
    pub(super) body: Option<&'a Object<'a>>,
}

impl KnownSecrets<'_> {
    /// Returns at most 64 characters of an id. A text that repeats a secret becomes empty.
    pub(super) fn printable(self, text: &str) -> String {
        if self.are_in(text) {
            return String::new();
        }
        text.chars().filter(|c| c.is_ascii_alphanumeric() || "_-.".contains(*c)).take(64).collect()
    }

    /// Returns at most `max` characters of a code or a description, which the log line escapes. A text that repeats a secret,
    /// or 31 bytes of one, becomes empty.
    pub(super) fn shown(self, text: &str, max: usize) -> String {
        let shown = cut(text, max);
        let has_part = |secret: &[u8]| secret.chunks_exact(PART).any(|part| remedies::contains(&shown, part));
        if self.are_in(text) || self.any(&has_part) { String::new() } else { shown }
    }

    fn are_in(self, text: &str) -> bool {
        self.any(&|secret| remedies::contains(text, secret))
    }

    /// Returns `true` if `is` is true for a secret, in a form in which a request has it.
    fn any(self, is: &dyn Fn(&[u8]) -> bool) -> bool {
        let Self { request, body } = self;
        let clients = std::iter::once(request.client()).chain(request.provider.client.as_deref());
        let is_of_client = clients.into_iter().any(|client| {
            let authentication = &client.authentication;
            let previous = authentication.previous_secret().map(|secret| secret.reveal().as_bytes());
            authentication.secret().into_iter().chain(previous).any(|secret| {
                let encoded = client_auth::form_encoded(secret);
                let basic = client_auth::basic(&client.id, secret);
                [secret, encoded.as_bytes(), basic.as_bytes()].into_iter().any(is)
            })
        });
        let issued = ["access_token", "refresh_token", "id_token"].into_iter();
        let issued = issued.filter_map(|name| body?.string(name)).filter(|token| !token.is_empty());
        is_of_client || request.secrets_sent().chain(issued).any(|token| is(token.as_bytes()))
    }
}
