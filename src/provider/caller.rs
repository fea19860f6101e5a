//! Caller: the user that a token names, the rules of every profile by which a token is a user's, and the standard ones: RFC
//! 9068 for access tokens, OpenID Connect Core for ID tokens.

use crate::jose::{self, Claims, Header, Rejection, TokenError};
use crate::json::Value;
use crate::provider::Provider;
use crate::provider::token_kind::{TokenKind, is_usual_in_id_tokens, kind_of, shape_of_access_token};

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

impl Provider {
    /// Returns the user of an access token, or the reason why the token is not an access token of a user. The signature is not
    /// verified yet. What is unmistakably another kind of token, or an application's, is refused whatever the profile says.
    pub fn caller(&self, header: &Header, claims: &Claims<'_>) -> Result<Caller, Rejection> {
        match kind_of(header.media_type.as_deref(), claims.members) {
            // Access tokens of Azure AD B2C have `nonce` beside `scp`.
            Some((TokenKind::Id, sign)) if is_usual_in_id_tokens(sign) && self.access_token_claim(claims).is_some() => {
            }
            Some((TokenKind::Id, sign)) => {
                return Err(TokenError::IdToken.because(format!("{sign}: the client sends its ID token")));
            }
            Some((TokenKind::Other, sign)) => return Err(another_kind(sign)),
            None if is_for_its_client(claims) => {
                return Err(TokenError::IdToken.because(
                    "aud is the value of audience_claim, as in an ID token, and nothing marks an access token (typ, token_use): audience_claim is for tokens without it",
                ));
            }
            Some((TokenKind::Access, _)) | None => {}
        }
        let caller = self.profile.caller(self, header, claims);
        // The words of a profile say more than the sign.
        let is_open =
            caller.as_ref().map_or_else(|rejection| matches!(rejection.error, TokenError::Claims(_)), |_| true);
        match sign_of_application(claims).filter(|_| is_open) {
            Some(sign) => Err(TokenError::NotAUser
                .because(format!("{sign}: the token is of an application (client credentials grant)"))),
            None => caller,
        }
    }

    /// Returns the user of an ID token, or the reason why the token is not an ID token. The signature is not verified yet.
    pub fn id_token_caller(&self, header: &Header, claims: &Claims<'_>) -> Result<Caller, Rejection> {
        let kind = kind_of(header.media_type.as_deref(), claims.members);
        let sign = match kind {
            Some((TokenKind::Access, sign)) => Some(sign),
            Some((TokenKind::Other, sign)) => return Err(another_kind(sign)),
            Some((TokenKind::Id, _)) | None => self.access_token_claim(claims),
        };
        match sign {
            Some(sign) => Err(TokenError::AccessToken.because(format!("{sign}: the client sends its access token"))),
            None => self.profile.id_token_caller(claims),
        }
    }

    /// Returns the name of the claim that only access tokens of this provider have, if the token has it.
    fn access_token_claim(&self, claims: &Claims<'_>) -> Option<&'static str> {
        self.profile.access_token_claim().filter(|name| claims.members.present(name).is_some())
    }
}

/// Returns `true` if a token is for the client that the claim of `audience_claim` names. The client is the audience of an ID token
/// (OpenID Connect Core section 2).
fn is_for_its_client(claims: &Claims<'_>) -> bool {
    claims.further_audiences.as_ref().is_some_and(|audiences| jose::has_one(&claims.audiences, audiences))
}

/// Returns the user of an ID token of a provider that follows OpenID Connect Core. An access token may lack every sign, so that
/// only its audience tells it apart.
pub(super) fn of_id_token(claims: &Claims<'_>) -> Result<Caller, Rejection> {
    if kind_of(None, claims.members).is_none()
        && let Some(sign) = shape_of_access_token(claims.members)
    {
        return Err(TokenError::AccessToken.because(format!(
            "{sign}, and no claim of an ID token (nonce, at_hash, azp that is in aud): the client sends its access token, or signs in without nonce"
        )));
    }
    of_subject(claims)
}

fn another_kind(sign: &str) -> Rejection {
    TokenError::Type.because(format!("{sign}: a refresh token, a logout token or a security event"))
}

/// Returns the sign by which a token is unmistakably an application's own.
///
/// `sub` is the client (RFC 9068 section 2.2), or `{client}@clients` (Auth0). `gty` (Auth0) or `grant_type` (Cloud Foundry UAA)
/// is the client credentials grant. `idtyp` is `app` (Microsoft), or `aut` is `APPLICATION` (WSO2). The user is
/// `service-account-{client}` (Keycloak).
fn sign_of_application(claims: &Claims<'_>) -> Option<&'static str> {
    let is_grant = |value: &Value<'_>| {
        value.as_str().is_some_and(|grant| matches!(grant, "client-credentials" | "client_credentials"))
    };
    let has_grant =
        |value: &Value<'_>| is_grant(value) || value.as_array().is_some_and(|values| values.iter().any(is_grant));
    let (mut client_id, mut azp, mut cid, mut keycloak_client) = (None, None, None, None);
    let (mut user_name, mut mark) = (None, None);
    // One pass: every token at first sight is searched.
    for (name, value) in claims.members.members() {
        let text = value.as_str();
        match name {
            "client_id" => client_id = text,
            "azp" => azp = text,
            "cid" => cid = text,
            "clientId" => keycloak_client = text,
            "preferred_username" => user_name = text,
            "idtyp" if text == Some("app") => mark = Some("idtyp"),
            "aut" if text == Some("APPLICATION") => mark = Some("aut"),
            "gty" if has_grant(value) => mark = Some("gty"),
            "grant_type" if has_grant(value) => mark = Some("grant_type"),
            _ => {}
        }
    }
    let clients = || [client_id, azp, cid, keycloak_client].into_iter().flatten();
    let is_of_client = |text: &str| {
        clients().any(|client| text == client || text.strip_suffix("@clients").is_some_and(|text| text == client))
    };
    // Keycloak writes names of users in lower case.
    let is_service_account = |name: &str| {
        name.strip_prefix("service-account-").is_some_and(|name| clients().any(|id| name.eq_ignore_ascii_case(id)))
    };
    if claims.subject.is_some_and(is_of_client) {
        return Some("sub is the client");
    }
    if user_name.is_some_and(is_service_account) {
        return Some("preferred_username");
    }
    mark
}

/// Returns the user that `sub` names.
pub(super) fn of_subject(claims: &Claims<'_>) -> Result<Caller, Rejection> {
    let user = claims.subject.filter(|subject| !subject.is_empty()).ok_or(TokenError::Claims("sub is missing"))?;
    let client = claims.text("client_id").or_else(|| claims.text("azp")).map(str::to_owned);
    Ok(Caller { user: user.to_owned(), tenant: None, client, takes_claims_challenge: false })
}
