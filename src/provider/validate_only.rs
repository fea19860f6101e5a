//! A provider whose users' tokens are validated, and exchanged for nothing.

use crate::jose::{Claims, Header, Rejection};
use crate::provider::{
    Caller, ExchangeOptions, ExchangeTarget, Parameters, Profile, ProfileError, Provider, SubjectInput,
    SubjectTokenSource, Unexchanged, rfc8693,
};

#[derive(Debug)]
pub(crate) struct ValidateOnly;

impl Profile for ValidateOnly {
    fn name(&self) -> &'static str {
        "validate_only"
    }

    fn exchanges(&self) -> bool {
        false
    }

    fn check(&self, provider: &Provider) -> Result<(), ProfileError> {
        match provider.subject_token {
            SubjectTokenSource::AccessToken | SubjectTokenSource::IdToken => Ok(()),
            SubjectTokenSource::IdTokenBeside { .. } => {
                let expected =
                    "no header, cookie or audiences: nothing is exchanged, so nothing comes beside the token";
                Err(("subject_token", "a token beside the other".to_owned(), expected))
            }
        }
    }

    fn exchange_fields(&self) -> &'static [&'static str] {
        &["forward"]
    }

    fn target(&self, _provider: &Provider, exchange: ExchangeOptions) -> Result<ExchangeTarget, ProfileError> {
        Ok(ExchangeTarget {
            unexchanged: Some(exchange.token.unwrap_or(Unexchanged::Removed)),
            ..ExchangeTarget::default()
        })
    }

    fn caller(&self, provider: &Provider, header: &Header, claims: &Claims<'_>) -> Result<Caller, Rejection> {
        rfc8693::Rfc8693.caller(provider, header, claims)
    }

    fn id_token_caller(&self, claims: &Claims<'_>) -> Result<Caller, Rejection> {
        rfc8693::Rfc8693.id_token_caller(claims)
    }

    fn parameters<'a>(&self, _target: &'a ExchangeTarget, _subject: SubjectInput<'a>) -> Parameters<'a> {
        Vec::new()
    }
}
