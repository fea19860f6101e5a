//! Caller: the user that a token names, and the standard rules by which a token is a user's: RFC 9068 for access
//! tokens, OpenID Connect Core for ID tokens.

use crate::jose::{Claims, Rejection, TokenError};

/// The user behind a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// Identifier of the user at the provider, stable for the lifetime of the account.
    pub user: String,
    /// Tenant of the user. `None`: the provider has one tenant.
    pub tenant: Option<String>,
    /// Client that the token was issued to, if the token names it.
    pub client: Option<String>,
    /// The client accepts a claims challenge.
    pub takes_claims_challenge: bool,
}

/// Returns the user of an access token. A token whose subject is its client is the client's own (RFC 9068 section 2.2).
pub(super) fn of_access_token(claims: &Claims<'_>) -> Result<Caller, Rejection> {
    if has_id_token_claims(claims) {
        return Err(TokenError::IdToken.because("nonce, at_hash or c_hash: the client sends its ID token"));
    }
    refuse_security_event(claims)?;
    let caller = of_subject(claims)?;
    if ["client_id", "azp"].iter().any(|name| claims.text(name) == Some(&caller.user)) {
        return Err(TokenError::NotAUser.because("sub is the client: the token is of the client credentials grant"));
    }
    Ok(caller)
}

/// Returns the user of an ID token. Scopes or a `client_id` mark an access token.
pub(super) fn of_id_token(claims: &Claims<'_>) -> Result<Caller, Rejection> {
    refuse_security_event(claims)?;
    if claims.scopes.is_some() || claims.has("client_id") || claims.text("typ") == Some("Bearer") {
        return Err(
            TokenError::AccessToken.because("scope, client_id or typ Bearer: the client sends its access token")
        );
    }
    of_subject(claims)
}

/// Returns the user that `sub` names.
pub(super) fn of_subject(claims: &Claims<'_>) -> Result<Caller, Rejection> {
    let user = claims.subject.filter(|subject| !subject.is_empty()).ok_or(TokenError::Claims("sub is missing"))?;
    let client = claims.text("client_id").or_else(|| claims.text("azp")).map(str::to_owned);
    Ok(Caller { user: user.to_owned(), tenant: None, client, takes_claims_challenge: false })
}

/// Returns `true` if a claim of ID tokens is present (OpenID Connect Core sections 2 and 3.3.2.11).
pub(super) fn has_id_token_claims(claims: &Claims<'_>) -> bool {
    ["nonce", "at_hash", "c_hash"].iter().any(|name| claims.has(name))
}

/// Refuses security event tokens, such as logout tokens: they have the claim `events` (RFC 8417 section 2.2).
pub(super) fn refuse_security_event(claims: &Claims<'_>) -> Result<(), Rejection> {
    if claims.has("events") {
        return Err(TokenError::Type.because("events: a logout token, or another security event"));
    }
    Ok(())
}
