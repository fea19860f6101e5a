//! Microsoft Entra ID: the on-behalf-of flow of the v2.0 endpoint.
//!
//! The grant is RFC 7523 section 2.1 with a parameter of Microsoft's, not RFC 8693: an access token as
//! `assertion`, one resource in `scope`, never a `resource` parameter (AADSTS9010010). Tokens that it issues
//! belong to the resource and are not read.

use super::{Blame, Caller, Mistake, Profile, RawExchange, Subject, Target, scope_parameter};
use crate::config::{Provider, SubjectToken};
use crate::token::{Claims, TokenError};

#[derive(Debug)]
pub(super) struct EntraObo;

impl Profile for EntraObo {
    fn name(&self) -> &'static str {
        "entra_obo"
    }

    fn check(&self, provider: &Provider) -> Result<(), Mistake> {
        // OBO is refused at the endpoints that stand for several tenants (AADSTS9001023).
        let path = provider.issuer.path();
        let tenant = path.trim_start_matches('/').split('/').next().unwrap_or_default();
        if matches!(tenant, "common" | "organizations" | "consumers") {
            return Err(("issuer", format!("the tenant {tenant:?}"), "the issuer of one tenant, by its id"));
        }
        match provider.subject_token {
            SubjectToken::AccessToken => Ok(()),
            SubjectToken::IdToken { .. } => Err((
                "subject_token",
                "an ID token".to_owned(),
                "none: this provider takes access tokens only (AADSTS240002)",
            )),
        }
    }

    fn target(&self, exchange: RawExchange) -> Result<Target, Mistake> {
        if exchange.audience.is_some() {
            return Err((".audience", "a value".to_owned(), "none: the target goes into resource or scopes"));
        }
        if exchange.requested_token_type.is_some() {
            return Err((".requested_token_type", "a value".to_owned(), "none: this provider has no such parameter"));
        }
        let is_default = |scope: &String| scope.ends_with("/.default");
        if exchange.scopes.iter().any(is_default)
            && exchange.scopes.iter().any(|scope| !is_default(scope) && scope != "offline_access")
        {
            return Err((
                ".scopes",
                "a .default scope beside named ones".to_owned(),
                "the one or the others (AADSTS70011)",
            ));
        }
        let expected = "one of the two: the upstream's App ID URI as resource, or its scopes";
        let scope = match (exchange.resource, scope_parameter(&exchange.scopes)) {
            (Some(resource), None) => format!("{}/.default", resource.strip_suffix('/').unwrap_or(&resource)),
            (None, Some(scope)) => scope,
            (None, None) => return Err(("", "neither resource nor scopes".to_owned(), expected)),
            (Some(_), Some(_)) => return Err(("", "both resource and scopes".to_owned(), expected)),
        };
        Ok(Target { scope: Some(scope), ..Target::default() })
    }

    /// A delegated token has `scp`; an ID token names no client; an application's own token has roles at most.
    fn caller(&self, claims: &Claims) -> Result<Caller, TokenError> {
        if claims.text("idtyp") == Some("app") {
            return Err(TokenError::NotAUser);
        }
        if claims.scopes.is_none() {
            let names_client = claims.has("azp") || claims.has("appid");
            return Err(if names_client { TokenError::NotAUser } else { TokenError::IdToken });
        }
        let takes_claims_challenge = claims.members.get("xms_cc").is_some_and(|capabilities| {
            let is_cp1 =
                |value: &serde_json::Value| value.as_str().is_some_and(|text| text.eq_ignore_ascii_case("cp1"));
            is_cp1(capabilities) || capabilities.as_array().is_some_and(|values| values.iter().any(is_cp1))
        });
        Ok(Caller {
            user: self.id_token_user(claims).ok_or(TokenError::Claims("oid is missing"))?,
            takes_claims_challenge,
        })
    }

    fn id_token_user(&self, claims: &Claims) -> Option<String> {
        claims.text("oid").filter(|oid| !oid.is_empty()).map(str::to_owned)
    }

    fn parameters<'a>(&self, target: &'a Target, subject: Subject<'a>) -> Vec<(&'static str, &'a str)> {
        vec![
            ("grant_type", "urn:ietf:params:oauth:grant-type:jwt-bearer"),
            ("requested_token_use", "on_behalf_of"),
            ("assertion", subject.token),
            ("scope", target.scope.as_deref().unwrap_or_default()),
        ]
    }

    /// The values of `suberror` by which Microsoft's own libraries know that the user must act.
    fn blame(&self, _status: u16, error: &str, suberror: Option<&str>) -> Option<Blame> {
        const USER_MUST_ACT: [&str; 6] = [
            "message_only",
            "additional_action",
            "basic_action",
            "user_password_expired",
            "consent_required",
            "bad_token",
        ];
        (error == "invalid_grant" && suberror.is_some_and(|suberror| USER_MUST_ACT.contains(&suberror)))
            .then_some(Blame::UserMustAct)
    }

    fn trace_fields(&self) -> &'static [&'static str] {
        &["trace_id", "correlation_id", "x-ms-request-id"]
    }
}
