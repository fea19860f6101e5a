//! Kind of a token, by its strongest sign. Callers' tokens and issued tokens are judged alike.

use crate::jose::AUDIENCE;
use crate::json::{Object, Value};

/// Kind of a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TokenKind {
    /// Access token.
    Access,
    /// ID token.
    Id,
    /// Refresh token, logout token or another token that no resource accepts.
    Other,
}

/// Members by which servers mark their tokens, each value with its kind: claim `typ` of Keycloak, `token_use` of Cognito,
/// `aut` of access tokens of WSO2.
const MARKS: [(&str, &[(&str, TokenKind)]); 3] = [
    (
        "typ",
        &[
            ("bearer", TokenKind::Access),
            ("dpop", TokenKind::Access),
            ("id", TokenKind::Id),
            ("serialized-id", TokenKind::Other),
            ("refresh", TokenKind::Other),
            ("offline", TokenKind::Other),
            ("logout", TokenKind::Other),
            ("initialaccesstoken", TokenKind::Other),
            ("registrationaccesstoken", TokenKind::Other),
        ],
    ),
    ("token_use", &[("access", TokenKind::Access), ("id", TokenKind::Id), ("refresh", TokenKind::Other)]),
    (
        "aut",
        &[("application_user", TokenKind::Access), ("application", TokenKind::Access), ("agent", TokenKind::Access)],
    ),
];

/// Claims that mark a token without naming its kind, the strongest first: `events` of security event tokens (RFC 8417
/// section 2.2), and claims of ID tokens (OpenID Connect Core sections 2 and 3.3.2.11).
const CLAIMS: [(&str, TokenKind); 4] =
    [("events", TokenKind::Other), ("at_hash", TokenKind::Id), ("c_hash", TokenKind::Id), ("nonce", TokenKind::Id)];

/// Returns the kind of a token and the name of its strongest sign. `media_type` is `typ` of its header in lower case,
/// without `application/`. `None`: nothing marks the token.
pub(super) fn kind_of(media_type: Option<&str>, claims: &Object<'_>) -> Option<(TokenKind, &'static str)> {
    match media_type {
        // RFC 9068 section 2.1.
        Some("at+jwt") => return Some((TokenKind::Access, "typ at+jwt")),
        Some(
            "logout+jwt"
            | "secevent+jwt"
            | "dpop+jwt"
            | "oauth-authz-req+jwt"
            | "oauth-id-jag+jwt"
            | "token-introspection+jwt",
        ) => return Some((TokenKind::Other, "typ of the header")),
        _ => {}
    }
    // One pass: every token at first sight is searched, and few claims are signs.
    let is_sign = |name: &str| matches!(name, "typ" | "token_use" | "aut" | "events" | "at_hash" | "c_hash" | "nonce");
    let signs = claims.members().filter(|(name, _)| is_sign(name)).filter_map(|(name, value)| sign_of(name, value));
    signs.min_by_key(|(rank, ..)| *rank).map(|(_, kind, name)| (kind, name))
}

/// Returns what a claim says of the kind of its token: its rank among the signs, of which the lowest is the strongest, the kind,
/// and its name.
fn sign_of(name: &str, value: &Value<'_>) -> Option<(usize, TokenKind, &'static str)> {
    if let Some((rank, (name, kinds))) = MARKS.iter().enumerate().find(|(_, (mark, _))| *mark == name) {
        let text = value.as_str()?;
        let (_, kind) = kinds.iter().find(|(mark, _)| text.eq_ignore_ascii_case(mark))?;
        return Some((rank, *kind, name));
    }
    let (rank, (name, kind)) = CLAIMS.iter().enumerate().find(|(_, (claim, _))| *claim == name)?;
    (!matches!(value, Value::Null)).then_some((MARKS.len().saturating_add(rank), *kind, name))
}

/// Returns `true` if a sign is a claim that ID tokens usually have, and some access tokens as well.
pub(super) fn is_usual_in_id_tokens(sign: &str) -> bool {
    CLAIMS.contains(&(sign, TokenKind::Id))
}

/// Returns the claims by which a token that nothing marks has the shape of an access token, where ID tokens are expected.
///
/// `client_id` together with scopes makes an access token of RFC 9068 (sections 2.2 and 2.2.3). Either of them alone is in ID
/// tokens of some providers as well, and in access tokens whose audience is their client. `azp` tells these apart: it is a claim
/// of ID tokens, and names a client in `aud` (OpenID Connect Core section 2).
pub(super) fn shape_of_access_token(claims: &Object<'_>) -> Option<&'static str> {
    let client = claims.present("client_id");
    let scope = ["scope", "scp"].into_iter().find(|name| claims.present(name).is_some());
    let azp = claims.string("azp").filter(|azp| claims.texts(AUDIENCE).contains(azp));
    match (client, scope) {
        (None, None) => None,
        (Some(_), Some(_)) => Some("client_id and scopes"),
        (None, Some(scope)) => azp.is_none().then_some(scope),
        (Some(client), None) => (azp.is_none() || client.as_str() != azp).then_some("client_id"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json;

    #[test]
    fn shape_of_an_access_token_counts_only_without_a_mark() {
        for (claims, expected) in [
            (r#"{"aud":"c"}"#, None),
            (r#"{"aud":["api","c"],"azp":"c","scope":"openid"}"#, None),
            (r#"{"aud":"c","azp":"c","scp":["openid"]}"#, None),
            (r#"{"aud":"c","azp":"c","client_id":"c"}"#, None),
            (r#"{"aud":"c","client_id":null,"scope":null}"#, None),
            (r#"{"aud":"c","azp":"c","client_id":"c","scope":"openid"}"#, Some("client_id and scopes")),
            (r#"{"aud":"c","scope":["openid"]}"#, Some("scope")),
            (r#"{"aud":"c","azp":"mcp","scp":"read"}"#, Some("scp")),
            (r#"{"aud":"c","azp":["c"],"scope":"openid"}"#, Some("scope")),
            (r#"{"azp":"c","scope":"openid"}"#, Some("scope")),
            (r#"{"aud":"c","client_id":"c"}"#, Some("client_id")),
            (r#"{"aud":"c","azp":"c","client_id":"mcp"}"#, Some("client_id")),
            (r#"{"aud":"c","azp":"c","client_id":["c"]}"#, Some("client_id")),
        ] {
            assert_eq!(shape_of_access_token(&json::object(claims.as_bytes()).unwrap()), expected, "{claims}");
        }
    }

    #[test]
    fn strongest_sign_decides() {
        use TokenKind::{Access, Id, Other};
        for (media_type, claims, expected) in [
            ("at+jwt", r#"{"nonce":"n","at_hash":"h"}"#, Some((Access, "typ at+jwt"))),
            ("logout+jwt", r#"{"scope":"a"}"#, Some((Other, "typ of the header"))),
            ("jwt", r#"{"typ":"Bearer","token_use":"id","nonce":"n"}"#, Some((Access, "typ"))),
            ("", r#"{"typ":"DPoP","nonce":"n"}"#, Some((Access, "typ"))),
            ("", r#"{"typ":"ID","scope":"a"}"#, Some((Id, "typ"))),
            ("", r#"{"typ":"Offline","scope":"a"}"#, Some((Other, "typ"))),
            ("", r#"{"typ":"JWT","token_use":"access","nonce":"n"}"#, Some((Access, "token_use"))),
            ("", r#"{"aut":"APPLICATION_USER","nonce":"n"}"#, Some((Access, "aut"))),
            ("", r#"{"typ":7,"token_use":"id","client_id":"c"}"#, Some((Id, "token_use"))),
            ("", r#"{"events":{},"nonce":"n","scope":"a"}"#, Some((Other, "events"))),
            ("", r#"{"at_hash":"h","scope":"a"}"#, Some((Id, "at_hash"))),
            ("", r#"{"c_hash":"h","nonce":"n"}"#, Some((Id, "c_hash"))),
            (
                "",
                r#"{"nonce":"n","c_hash":"h","at_hash":"h","events":{},"aut":"AGENT","token_use":"x"}"#,
                Some((Access, "aut")),
            ),
            ("", r#"{"scope":"a","client_id":"c","nonce":"n"}"#, Some((Id, "nonce"))),
            ("", r#"{"typ":"RegistrationAccessToken","scope":"a"}"#, Some((Other, "typ"))),
            ("", r#"{"scp":["a"],"nonce":null,"scope":"a","client_id":"c"}"#, None),
            ("jwt", r#"{"sub":"s","scope":null,"typ":"another"}"#, None),
        ] {
            let claims = json::object(claims.as_bytes()).unwrap();
            let media_type = Some(media_type).filter(|name| !name.is_empty());
            assert_eq!(kind_of(media_type, &claims), expected, "{media_type:?}");
        }
    }
}
