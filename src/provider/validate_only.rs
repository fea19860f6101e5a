//! Profile `validate_only`: callers' tokens are validated and not exchanged.

use crate::provider::{Profile, ProfileError, ProviderOptions, SubjectTokenSource};

/// Any provider whose tokens are validated only.
#[derive(Debug)]
pub(super) struct ValidateOnly;

impl Profile for ValidateOnly {
    fn name(&self) -> &'static str {
        "validate_only"
    }

    fn exchanges(&self) -> bool {
        false
    }

    fn check(&self, options: &ProviderOptions<'_>) -> Result<(), ProfileError> {
        match options.subject_token {
            SubjectTokenSource::AccessToken | SubjectTokenSource::IdToken => Ok(()),
            SubjectTokenSource::IdTokenBeside { .. } => {
                let expected = "no header, cookie or audiences: without an exchange, requests carry one token";
                Err(ProfileError::new("subject_token", "a second token in each request", expected))
            }
        }
    }

    fn exchange_fields(&self) -> &'static [&'static str] {
        &["forward"]
    }
}
