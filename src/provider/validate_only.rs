//! A provider whose users' tokens are validated, and exchanged for nothing.

use crate::jose::{Claims, Header, Rejection};
use crate::provider::{
    Caller, Mistake, Parameters, Profile, Provider, RawExchange, Subject, SubjectToken, Target, Unexchanged, rfc8693,
};

#[derive(Debug)]
pub(crate) struct Nothing;

impl Profile for Nothing {
    fn name(&self) -> &'static str {
        "none"
    }

    fn exchanges(&self) -> bool {
        false
    }

    fn check(&self, provider: &Provider) -> Result<(), Mistake> {
        match provider.subject_token {
            SubjectToken::AccessToken | SubjectToken::IdToken => Ok(()),
            SubjectToken::IdTokenBeside { .. } => {
                let expected =
                    "no header, cookie or audiences: nothing is exchanged, so nothing comes beside the token";
                Err(("subject_token", "a token beside the other".to_owned(), expected))
            }
        }
    }

    fn exchange_fields(&self) -> &'static [&'static str] {
        &["token"]
    }

    fn target(&self, _provider: &Provider, exchange: RawExchange) -> Result<Target, Mistake> {
        Ok(Target { unexchanged: Some(exchange.token.unwrap_or(Unexchanged::Removed)), ..Target::default() })
    }

    fn caller(&self, provider: &Provider, header: &Header, claims: &Claims<'_>) -> Result<Caller, Rejection> {
        rfc8693::Rfc8693.caller(provider, header, claims)
    }

    fn id_token_caller(&self, claims: &Claims<'_>) -> Result<Caller, Rejection> {
        rfc8693::Rfc8693.id_token_caller(claims)
    }

    fn parameters<'a>(&self, _target: &'a Target, _subject: Subject<'a>) -> Parameters<'a> {
        Vec::new()
    }
}
