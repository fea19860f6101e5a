//! Authorization servers of an Okta org: the org server and custom servers.

use crate::url::Url;

/// Returns `true` if the issuer is a custom authorization server, such as `https://acme.okta.com/oauth2/default`.
pub(super) fn is_custom_server(issuer: &Url) -> bool {
    issuer.path().strip_prefix("/oauth2/").is_some_and(|id| !id.is_empty() && !id.contains('/'))
}

/// Returns `true` if the issuer is an org authorization server, such as `https://acme.okta.com`.
pub(super) fn is_org_server(issuer: &Url) -> bool {
    issuer.path().is_empty() || issuer.path() == "/"
}
