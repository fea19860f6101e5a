//! Kind of a token, by its strongest sign. Callers' tokens and issued tokens are judged alike.

use crate::json::Object;

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

/// Members by which servers mark their tokens, each value with its kind: claim `typ` of Keycloak, `token_use` of Cognito.
const MARKS: [(&str, &[(&str, TokenKind)]); 2] = [
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
        ],
    ),
    ("token_use", &[("access", TokenKind::Access), ("id", TokenKind::Id), ("refresh", TokenKind::Other)]),
];

/// Claims that mark a token without naming its kind, the strongest first: `events` of security event tokens (RFC 8417
/// section 2.2), claims of ID tokens (OpenID Connect Core sections 2 and 3.3.2.11), and claims of access tokens (RFC 9068
/// section 2.2). ID tokens may have the last three too, so these decide only if there is nothing else.
const CLAIMS: [(&str, TokenKind); 7] = [
    ("events", TokenKind::Other),
    ("at_hash", TokenKind::Id),
    ("c_hash", TokenKind::Id),
    ("nonce", TokenKind::Id),
    ("client_id", TokenKind::Access),
    ("scope", TokenKind::Access),
    ("scp", TokenKind::Access),
];

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
    for (name, kinds) in MARKS {
        let value = claims.string(name).unwrap_or_default();
        if let Some((_, kind)) = kinds.iter().find(|(mark, _)| value.eq_ignore_ascii_case(mark)) {
            return Some((*kind, name));
        }
    }
    CLAIMS.iter().find(|(name, _)| claims.present(name).is_some()).map(|(name, kind)| (*kind, *name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json;

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
            ("", r#"{"typ":7,"token_use":"id","client_id":"c"}"#, Some((Id, "token_use"))),
            ("", r#"{"events":{},"nonce":"n","scope":"a"}"#, Some((Other, "events"))),
            ("", r#"{"at_hash":"h","scope":"a"}"#, Some((Id, "at_hash"))),
            ("", r#"{"scope":"a","client_id":"c","nonce":"n"}"#, Some((Id, "nonce"))),
            ("", r#"{"scp":["a"],"nonce":null}"#, Some((Access, "scp"))),
            ("jwt", r#"{"sub":"s","scope":null,"typ":"another"}"#, None),
        ] {
            let claims = json::object(claims.as_bytes()).unwrap();
            let media_type = Some(media_type).filter(|name| !name.is_empty());
            assert_eq!(kind_of(media_type, &claims), expected, "{media_type:?}");
        }
    }
}
