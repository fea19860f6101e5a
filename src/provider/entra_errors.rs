//! Known errors of Microsoft Entra ID: by the numbers of `error_codes` (AADSTS numbers), and at sign-in.

use crate::provider::ErrorPattern::{Numbers, Suberror};
use crate::provider::KnownError;
use crate::provider::Responsible::{Admin, Operator, Provider as Entra, User};

/// Values of `suberror` by which Microsoft's libraries know that the user must act.
pub(super) const USER_MUST_ACT: &[&str] =
    &["basic_action", "additional_action", "message_only", "user_password_expired", "consent_required", "bad_token"];

/// Value of `suberror` for a grant of another client. Like the next two, no sign-in helps, whatever `claims` say: Microsoft's
/// libraries do not ask the user either.
pub(super) const CLIENT_MISMATCH: &[&str] = &["client_mismatch"];

/// Values of `suberror` for an app that no app protection policy governs: Entra's, and that of Microsoft's library for .NET.
pub(super) const OTHER_APP_NEEDED: &[&str] = &["protection_policies_required", "protection_policy_required"];

pub(super) static KNOWN_ERRORS: &[KnownError] = &[
    KnownError::new(
        (400, "invalid_grant", Numbers(&[65001])),
        "the proxy's app has no consent for the upstream's scopes, and the upstream does not list it among its authorized client applications (`preAuthorizedApplications`)",
        Admin,
        "Grant the app admin consent for the upstream, or list it under the upstream's authorized client applications.",
    )
    .with_suberror("consent_required"),
    KnownError::new(
        (400, "access_denied", Numbers(&[65004])),
        "the user refused consent to the app",
        User,
        "Sign in again and accept the permissions that the app requests.",
    ),
    KnownError::new(
        (400, "invalid_scope", Numbers(&[65005, 650056, 650057])),
        "the proxy's app does not declare the permission",
        Operator,
        "Add the upstream's delegated permission to the app, and grant admin consent.",
    ),
    KnownError::new(
        (400, "invalid_scope", Numbers(&[70011, 28002, 28003, 650053, 700023])),
        "the upstream does not expose the scope, the scope names no resource, or `.default` is combined with named scopes",
        Operator,
        "Set resource to the upstream's App ID URI, or scopes to {App ID URI}/{scope} as exposed there.",
    ),
    KnownError::new(
        (400, "invalid_scope", Numbers(&[700022])),
        "the scopes are of several resources",
        Operator,
        "Request the scopes of one resource in an exchange.",
    ),
    KnownError::new(
        (400, "invalid_resource", Numbers(&[500011, 50001, 500014, 650052, 650054])),
        "the upstream's app is not installed in the tenant, is disabled there, or has another App ID URI",
        Admin,
        "Install or enable the upstream's app in the tenant, and check resource against its App ID URI.",
    ),
    KnownError::new(
        (400, "invalid_grant", Numbers(&[50013])),
        "Entra cannot validate the token: it is for Microsoft Graph, of another tenant, or signed with the app's own key",
        Operator,
        "Have clients request a token of the app in this tenant, and remove the app's own signing key.",
    ),
    KnownError::new(
        (400, "invalid_grant", Numbers(&[500131])),
        "`aud` of the token is another app than the one that exchanges it",
        Operator,
        "Have clients request the scope in the metadata of the resource: `scopes_supported` must be a scope of the app in client.id.",
    ),
    KnownError::new(
        (400, "invalid_grant", Numbers(&[500133, 50027])),
        "the token has expired, is not valid yet, or lacks a claim",
        User,
        "Get a new token; if all are refused, check the clock of this host.",
    ),
    KnownError::new(
        (400, "invalid_grant", Numbers(&[50173, 50132, 50133, 50089, 70008, 700082, 70043])),
        "the session of the token was revoked or is too old, or the password has changed",
        User,
        "Sign in again.",
    ),
    KnownError::new(
        (400, "invalid_grant", Numbers(&[240002])),
        "the token is an ID token, not an access token",
        Operator,
        "Have clients send their access token, not their ID token.",
    ),
    KnownError::new(
        (400, "interaction_required", Numbers(&[50072, 50074, 50076, 50078, 50079, 50158])),
        "Conditional Access requires a second factor, or its registration",
        User,
        "Sign in again with a second factor; clients with cp1 (xms_cc) get a challenge.",
    ),
    KnownError::new(
        (400, "interaction_required", Numbers(&[50005, 50097, 50131, 53000, 53001, 53002, 53009])),
        "Conditional Access requires another device or app",
        User,
        "Sign in from a device and an app that Conditional Access accepts.",
    ),
    KnownError::new(
        (400, "interaction_required", Numbers(&[53003, 53004, 53010, 53011, 530032, 530035])),
        "Conditional Access or the security defaults block the user; a new sign-in helps only if the response has `claims`",
        Admin,
        "Find the trace id in the sign-in log, and let Conditional Access admit the user.",
    ),
    KnownError::new(
        (400, "login_required", Numbers(&[50058])),
        "the user has no session",
        User,
        "Sign in again.",
    ),
    KnownError::new(
        (400, "interaction_required", Numbers(&[16000, 50020, 50034, 51004, 90072])),
        "the user's account is not in the tenant, not even as a guest",
        Admin,
        "Invite the user as a guest, or add the user's own tenant to tenants.",
    ),
    KnownError::new(
        (400, "invalid_grant", Numbers(&[50105])),
        "the upstream's app requires assignment, and this user is not assigned",
        Admin,
        "Assign the user to the upstream's enterprise application.",
    ),
    KnownError::new(
        (400, "invalid_grant", Numbers(&[50053, 50057])),
        "the account is locked or disabled",
        Admin,
        "Unlock or enable the account.",
    ),
    KnownError::new(
        (400, "invalid_grant", Numbers(&[500571])),
        "the guest account of the user is disabled in this tenant",
        Admin,
        "Enable the guest account in the tenant of the upstream.",
    ),
    KnownError::new(
        (400, "invalid_grant", Numbers(&[50126])),
        "the user's name or password was not accepted, at Entra or at the server that it asks (pass-through authentication, federation)",
        User,
        "Sign in again with the current password.",
    ),
    KnownError::new(
        (400, "", Numbers(&[65002])),
        "the proxy's app or the upstream is an app of Microsoft, which only its owner can authorize in advance; no consent helps",
        Admin,
        "Exchange with an app of your own, for an upstream that lets tenants grant it permissions.",
    ),
    KnownError::new(
        (400, "", Numbers(&[90094])),
        "the permission needs the consent of an administrator",
        Admin,
        "Grant the app admin consent for the upstream's permission.",
    ),
    KnownError::new(
        (400, "", Numbers(&[530084])),
        "the token protection policy of Conditional Access blocks tokens that are not bound to a device, as those of an exchange are",
        Admin,
        "Exclude the upstream or this app from the token protection policy.",
    ),
    KnownError::new(
        (400, "invalid_grant", Numbers(&[50055])),
        "the password has expired",
        User,
        "Sign in again and change the password.",
    )
    .with_suberror("user_password_expired"),
    KnownError::new(
        (400, "invalid_grant", Suberror(USER_MUST_ACT)),
        "Entra requires an action of the user",
        User,
        "Sign in again and follow the instructions of Entra.",
    ),
    KnownError::new(
        (400, "unauthorized_client", Numbers(&[53005])),
        "Conditional Access requires an app protection policy, and the user's app has none",
        User,
        "Sign in with an app under the app protection policy.",
    )
    .with_suberror("protection_policies_required"),
    KnownError::new(
        (400, "invalid_grant", Suberror(OTHER_APP_NEEDED)),
        "Conditional Access requires an app protection policy, and the user's app has none",
        User,
        "Sign in with an app under the app protection policy.",
    ),
    KnownError::new(
        (400, "invalid_grant", Suberror(CLIENT_MISMATCH)),
        "the grant belongs to another client",
        Operator,
        "Set client.id to the app of the audiences.",
    ),
    KnownError::new(
        (400, "unauthorized_client", Numbers(&[700016, 70001, 7000112, 700011, 90099])),
        "the proxy's app does not exist in the tenant, or is disabled there",
        Operator,
        "Check client.id and the tenant in issuer, and enable the app in the tenant (enterprise applications).",
    ),
    KnownError::new(
        (400, "unauthorized_client", Numbers(&[7000114])),
        "the app may not use the on-behalf-of flow, or the token is an application's own and has no user",
        Operator,
        "Have clients sign a user in, and send that user's token.",
    ),
    KnownError::new(
        (401, "invalid_client", Numbers(&[7000222])),
        "the client secret has expired",
        Operator,
        "Create another client secret, set secret to it, and restart Envoy.",
    ),
    KnownError::new(
        (401, "invalid_client", Numbers(&[7000215, 70002])),
        "the client secret is wrong",
        Operator,
        "Set secret to a client secret's value, not its id.",
    ),
    KnownError::new(
        (401, "invalid_client", Numbers(&[7000229])),
        "the app has no service principal in the tenant",
        Admin,
        "Create the app's service principal in the tenant, for example by granting it admin consent there.",
    ),
    KnownError::new(
        (401, "invalid_client", Numbers(&[5002741])),
        "the client assertion has several values in `aud`, and Entra accepts one",
        Operator,
        "Have the issuer of the client assertion put only the token endpoint or the issuer of the tenant into aud.",
    ),
    KnownError::new(
        (401, "invalid_client", Numbers(&[7000218])),
        "the request has neither a client secret nor a client assertion",
        Operator,
        "Check client.authentication.",
    ),
    KnownError::new(
        (401, "invalid_client", Numbers(&[700025])),
        "the app is registered as a public client, which cannot authenticate",
        Operator,
        "Register the app as a confidential client (platform Web).",
    ),
    KnownError::new(
        (401, "invalid_client", Numbers(&[700027, 700030, 50012, 50048])),
        "the client assertion is of another app, or not signed with a certificate of the app",
        Operator,
        "Upload the certificate of key to the app, set certificate to it, and use PS256.",
    ),
    KnownError::new(
        (401, "invalid_client", Numbers(&[700024])),
        "the client assertion has expired or is not valid yet",
        Operator,
        "Check the clock of this host.",
    ),
    KnownError::new(
        (401, "invalid_client", Numbers(&[70021, 700211, 700212, 700213])),
        "no federated credential of the app has the issuer, subject and audience of the client assertion",
        Operator,
        "Give the app a federated credential with the assertion's iss, sub and aud.",
    ),
    KnownError::new(
        (400, "invalid_request", Numbers(&[90002, 90019, 50059, 90038, 900382, 900432])),
        "the tenant does not exist in this cloud, or the app is of another national cloud",
        Operator,
        "Check the host (each national cloud has its own) and the tenant id of issuer.",
    ),
    KnownError::new(
        (400, "invalid_request", Numbers(&[50194])),
        "the app is of one tenant only, and `issuer` or `token_endpoint` is that of all tenants",
        Operator,
        "Put the tenant id into issuer and token_endpoint, or let the app have users of other tenants.",
    ),
    KnownError::new(
        (400, "invalid_request", Numbers(&[9001023])),
        "`token_endpoint` is that of `common`, `organizations` or `consumers`, which refuses the on-behalf-of flow",
        Operator,
        "Put the tenant id into token_endpoint.",
    ),
    KnownError::new(
        (400, "invalid_target", Numbers(&[901002, 9010010])),
        "the parameter `resource` and the scopes are of different apps; the filter never sends `resource`, so clients get this error at sign-in",
        Operator,
        "Check resource or scopes of the exchange against the upstream's App ID URI.",
    ),
    KnownError::new(
        (400, "invalid_request", Numbers(&[900144, 90014, 90023, 90100, 900561, 9002313])),
        "the request is malformed, or a parameter is missing",
        Operator,
        "Check parameters and token_endpoint; if they are right, report a bug of this filter.",
    ),
    KnownError::new(
        (400, "invalid_resource", Numbers(&[90008, 90009])),
        "the app requests a token for itself by its App ID URI",
        Operator,
        "Set resource to the upstream's app, or to the bare client id.",
    ),
    KnownError::new(
        (400, "invalid_grant", Numbers(&[50196])),
        "the client repeats the same request too often in a short time (a loop)",
        Operator,
        "Wait some minutes, and look for a client that repeats its request.",
    ),
    KnownError::new(
        (400, "temporarily_unavailable", Numbers(&[90055, 50033, 50087, 90006, 90012, 90024, 90033, 90090])),
        "Entra throttles, or has a temporary failure",
        Entra,
        "Wait; if the error persists, look at the provider's status page.",
    ),
    KnownError::new(
        (400, "", Numbers(&[1000000, 1000002, 1000031, 1000104])),
        "the account is not bound, the app is not available, or the cloud of the user is not permitted across organizations",
        Admin,
        "Find the trace id in the sign-in log.",
    ),
    KnownError::new(
        (400, "", Numbers(&[82014])),
        "the identity of an agent lacks a permission, and cannot consent to it",
        Admin,
        "Let the agent's identity inherit the permission from its blueprint.",
    ),
    #[cfg(not(target_arch = "wasm32"))]
    KnownError::at_upstream(
        403,
        "with `resource` (`.default`) Entra issues a token with the consented scopes only: without admin consent the exchange succeeds, and the token has no scope of the upstream",
        Admin,
        "Grant the app admin consent for the upstream, or list it under the upstream's authorized client applications.",
    ),
    #[cfg(not(target_arch = "wasm32"))]
    KnownError::at_upstream(
        403,
        "the token of a user in more than 200 groups has no groups (`_claim_names` instead)",
        Admin,
        "Put only the groups into the token that are assigned to the upstream's application, or use app roles.",
    ),
    #[cfg(not(target_arch = "wasm32"))]
    KnownError::at_upstream(
        401,
        "the upstream expects tokens of the other version, with other values of `iss` and `aud`",
        Operator,
        "Set requestedAccessTokenVersion in the manifest of the upstream's app to 2, or have it accept v1.0 tokens.",
    ),
];

/// Known errors at sign-in, by the code that Entra shows to the user. Source: documentation and reports of others.
#[cfg(not(target_arch = "wasm32"))]
pub(super) static SIGN_IN_ERRORS: &[crate::provider::SignInError] = &[
    crate::provider::SignInError {
        code: "AADSTS9010010",
        cause: "the client sends `resource`, the `url` of the resource, as MCP clients must. Entra requires it to equal the App ID URI of the scope byte for byte. So Entra refuses a scope of `api://…`, and a client that adds a slash to the `url`. The client receives `invalid_target`; some clients report only a missing authorization code",
        responsible: Operator,
        remedy: "Set an App ID URI of this proxy's app to the `url` of the resource (its host must be a verified domain of the tenant), and advertise `{url}/{scope}` in `scopes_supported`. If that is impossible, use a client that can omit `resource`.",
    },
    crate::provider::SignInError {
        code: "AADSTS650053",
        cause: "the scope has no App ID URI, such as `mcp:read`. Entra takes it for a scope of Microsoft Graph, which does not have it. If Graph has a scope of that name, the token is for Graph, and this proxy refuses it with `wrong_audience`",
        responsible: Operator,
        remedy: "Advertise `{url}/{scope}` in `scopes_supported`. Without `scopes_supported`, the proxy advertises `scopes`, the short names that tokens have.",
    },
    crate::provider::SignInError {
        code: "AADSTS500011",
        cause: "no app in the tenant has the App ID URI of the scope: it is spelled differently (a slash, another host), the app is not installed in the tenant of the user, or Entra did not accept the URI because its host is no verified domain (`azurewebsites.net` and similar domains cannot be verified)",
        responsible: Admin,
        remedy: "Compare the App ID URI of this proxy's app with `scopes_supported`, byte for byte, and install the app in the tenant.",
    },
    crate::provider::SignInError {
        code: "AADSTS900144",
        cause: "the client requests no scope, because none is advertised, or because it retries without a scope after another error",
        responsible: Operator,
        remedy: "Set `scopes_supported` of the resource; if it is set, look for the error before this one.",
    },
];
