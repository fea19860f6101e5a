//! Catalogue of known errors of providers, and the page docs/errors.md that is written from it.

mod page;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use onbehalf::config::Config;
use onbehalf::http::{CalloutFailure, CalloutResult};
use onbehalf::provider;
use onbehalf::provider::{
    COMMON_ERRORS, ErrorClass, ErrorCondition, ErrorPattern, ErrorRule, Hop, KnownError, Profile, Responsible,
    SecretVersion, SignInError, SubjectInput, Symptom, TokenEndpointError, TokenRequest,
};
use onbehalf::refusal::Reason;
use onbehalf::url::Url;
use serde_json::{Value, json};

use onbehalf_test_support::{NOW, answer, answer_with, configuration, parse, with};

/// Returns a configuration with a provider of that profile.
fn config_of(profile: &str) -> Config {
    let mut configuration = configuration();
    if !matches!(profile, "entra_obo" | "okta_obo") {
        configuration["identity_providers"]["okta-eu"]["profile"] = json!(profile);
    }
    parse(&configuration)
}

/// Returns the error that a response of the provider with that profile becomes.
fn read(config: &Config, profile: &str, reply: &CalloutResult) -> TokenEndpointError {
    read_at(Hop::IdentityProvider, config, profile, reply, false)
}

fn read_at(
    hop: Hop<'_>,
    config: &Config,
    profile: &str,
    reply: &CalloutResult,
    has_worked: bool,
) -> TokenEndpointError {
    let index = config.providers.iter().position(|provider| provider.profile.name() == profile).unwrap();
    let request = TokenRequest {
        provider: &config.providers[index],
        target: config.resources[0].exchanges[index].target.exchange().unwrap(),
        token_endpoint: &Url::parse("https://login.example/token").unwrap(),
        subject: SubjectInput { token: "subject-token", is_id_token: false, ..SubjectInput::default() },
        hop,
        secret_version: SecretVersion::Current,
        nonce: None,
        assertion: None,
        has_worked,
        shows_descriptions: false,
    };
    request.read(reply, &[], NOW).unwrap_err()
}

/// Returns every entry with its profile; the common entries with `rfc8693`.
fn entries() -> Vec<(&'static dyn Profile, &'static KnownError)> {
    let of = |(profile, entries): (&'static dyn Profile, &'static [KnownError])| {
        entries.iter().map(move |entry| (profile, entry))
    };
    let common = (provider::profile("rfc8693").unwrap(), COMMON_ERRORS);
    provider::known_errors().chain([common]).flat_map(of).collect()
}

/// Returns the error responses that an entry describes: one for each of its numbers, words or suberrors.
fn answers(entry: &KnownError) -> Vec<CalloutResult> {
    let Symptom::ErrorResponse { status, error, pattern } = entry.symptom else {
        return Vec::new();
    };
    let base = match entry.suberror {
        "" => json!({"error": error, "trace_id": "t", "error_description": ""}),
        suberror => json!({"error": error, "suberror": suberror}),
    };
    let bodies = match pattern {
        ErrorPattern::Any | ErrorPattern::Worked => vec![base],
        ErrorPattern::Claims => vec![with(base, json!({"claims": "{}"}))],
        ErrorPattern::Suberror(suberrors) => {
            suberrors.iter().map(|text| with(base.clone(), json!({"suberror": text}))).collect()
        }
        ErrorPattern::Numbers(numbers) => {
            numbers.iter().map(|number| with(base.clone(), json!({"error_codes": [7, number]}))).collect()
        }
        ErrorPattern::Words(words) => {
            let text = |word: &&str| format!("The {word} of something.");
            words.iter().map(|word| with(base.clone(), json!({"error_description": text(word)}))).collect()
        }
    };
    bodies.iter().map(|body| answer_with(status, &[], body)).collect()
}

/// Returns the numbers that an entry is known by.
fn numbers(entry: &KnownError) -> &'static [u32] {
    match entry.symptom {
        Symptom::ErrorResponse { pattern: ErrorPattern::Numbers(numbers), .. } => numbers,
        _ => &[],
    }
}

#[test]
fn listed_failures_have_their_listed_explanations() {
    let mut explained = 0;
    for (profile, entry) in entries() {
        let config = config_of(profile.name());
        for reply in answers(entry) {
            let has_worked = matches!(entry.symptom, Symptom::ErrorResponse { pattern: ErrorPattern::Worked, .. });
            let fault = read_at(Hop::IdentityProvider, &config, profile.name(), &reply, has_worked);
            let line = fault.to_string();
            let expected = format!(" responsible={} remedy={:?}", entry.responsible.text(), entry.remedy);
            assert!(line.ends_with(&expected), "{}: {entry:?}: {line}", profile.name());
            assert_eq!(Some(fault.class), entry.class(profile), "{entry:?}");
            explained += 1;
        }
    }
    assert!(explained > 150, "{explained}");
}

#[test]
fn failures_of_the_second_call_have_their_listed_explanations() {
    let mut configuration = configuration();
    configuration["identity_providers"]["okta-eu"]["profile"] = json!("okta_xaa");
    let target = json!({"audience": "https://acme.okta.example/oauth2/aus1", "scopes": ["read"]});
    configuration["resources"][0]["exchange"]["okta-eu"] = target;
    let config = parse(&configuration);
    let mut explained = 0;
    for (profile, entry) in entries().into_iter().filter(|(_, entry)| entry.is_at_access_token_request) {
        for reply in answers(entry) {
            let fault = read_at(Hop::ResourceServer { id_jag: "assertion" }, &config, "okta_xaa", &reply, false);
            let line = fault.to_string();
            assert!(
                line.ends_with(&format!(" responsible={} remedy={:?}", entry.responsible.text(), entry.remedy)),
                "{line}"
            );
            assert_eq!(fault.class, at_access_token_request(entry.class(profile).unwrap()), "{entry:?}");
            explained += 1;
        }
    }
    assert_eq!(explained, 4);
}

#[test]
fn response_without_an_oauth_error_is_explained_too() {
    let config = config_of("rfc8693");
    let remedy = |failure| {
        let symptom = Symptom::CalloutFailed(failure);
        COMMON_ERRORS.iter().find(|entry| entry.symptom == symptom).unwrap().remedy
    };
    for failure in
        [CalloutFailure::NotSent, CalloutFailure::NoConnection, CalloutFailure::TimedOut, CalloutFailure::TooLarge]
    {
        let line = read(&config, "rfc8693", &CalloutResult::Failed(failure)).to_string();
        assert!(line.ends_with(&format!("remedy={:?}", remedy(failure))) && !line.contains("status="), "{line}");
    }
    let good = json!({"access_token": "up", "token_type": "Bearer"});
    for (change, words) in [
        (json!({"token_type": "DPoP"}), "token_type: dpop"),
        (json!({"token_type": "N_A"}), "access tokens"),
        (json!({"access_token": "subject-token"}), "instead of returning them"),
        (json!({"issued_token_type": "x"}), "requested_token_type"),
        (json!({"access_token": null}), "no token response"),
        (json!({"expires_in": 0}), "lifetimes"),
        (json!({"expires_in": -103}), "lifetimes"),
        (json!({"expires_in": "soon"}), "no token response"),
    ] {
        let line = read(&config, "rfc8693", &answer_with(200, &[], &with(good.clone(), change))).to_string();
        assert!(line.split("remedy=").nth(1).unwrap().contains(words), "{line}");
    }
    for (status, words) in [(307, "redirects"), (503, "status page"), (404, "token_endpoint"), (429, "limit")] {
        let line = read(&config, "rfc8693", &answer(status, b"<html>")).to_string();
        assert!(line.split("remedy=").nth(1).unwrap().contains(words), "{line}");
    }
}

#[test]
fn explanation_depends_only_on_error_code_and_suberror() {
    let signs: Vec<Value> = entries()
        .iter()
        .flat_map(|(_, entry)| match entry.symptom {
            Symptom::ErrorResponse { pattern: ErrorPattern::Numbers(numbers), .. } => {
                numbers.iter().map(|number| json!({"error_codes": [number]})).collect()
            }
            Symptom::ErrorResponse { pattern: ErrorPattern::Words(words), .. } => {
                words.iter().map(|word| json!({"error_description": word})).collect::<Vec<_>>()
            }
            _ => Vec::new(),
        })
        .collect();
    let config = config_of("entra_obo");
    for profile in ["entra_obo", "okta_obo"] {
        for (status, error) in [
            (400, "invalid_grant"),
            (401, "invalid_client"),
            (400, "interaction_required"),
            (400, "access_denied"),
            (403, "access_denied"),
            (400, "server_error"),
            (429, "invalid_grant"),
            (500, "server_error"),
            (400, "of_no_known_name"),
        ] {
            let bare = json!({"error": error, "claims": "{}"});
            let without = read(&config, profile, &answer_with(status, &[], &bare));
            for sign in &signs {
                let told = read(&config, profile, &answer_with(status, &[], &with(bare.clone(), sign.clone())));
                let decided = |fault: &TokenEndpointError| (fault.class, fault.retry_after, fault.claims.clone());
                assert_eq!(decided(&told), decided(&without), "{profile} {status} {error} {sign}");
            }
        }
    }
}

#[test]
fn numbers_of_entra_have_the_class_and_remedy_of_their_cause() {
    const TOKEN: ErrorClass = ErrorClass::Token;
    const CLIENT: ErrorClass = ErrorClass::ClientAuthentication;
    let config = config_of("entra_obo");
    for (number, status, error, suberror, class, act, words) in [
        (7_000_229, 401, "invalid_client", "", CLIENT, Responsible::Admin, "Create the app's service principal"),
        (5_002_741, 401, "invalid_client", "", CLIENT, Responsible::Operator, "only the token endpoint or the issuer"),
        (65002, 400, "invalid_grant", "", TOKEN, Responsible::Admin, "Exchange with an app of your own"),
        (65002, 400, "invalid_client", "", CLIENT, Responsible::Admin, "Exchange with an app of your own"),
        (50126, 400, "invalid_grant", "", TOKEN, Responsible::User, "Sign in again with the current password"),
        (50126, 400, "invalid_grant", "bad_token", ErrorClass::UserMustAct, Responsible::User, "current password"),
        (500_571, 400, "invalid_grant", "", TOKEN, Responsible::Admin, "Enable the guest account"),
        (90094, 400, "invalid_grant", "", TOKEN, Responsible::Admin, "the upstream's permission"),
        (90094, 400, "access_denied", "", ErrorClass::NotAllowed, Responsible::Admin, "the upstream's permission"),
        (530_084, 400, "invalid_grant", "", TOKEN, Responsible::Admin, "token protection policy"),
        (530_084, 400, "access_denied", "", ErrorClass::NotAllowed, Responsible::Admin, "token protection policy"),
        (
            50194,
            400,
            "invalid_request",
            "",
            ErrorClass::Operator,
            Responsible::Operator,
            "Put the tenant id into issuer",
        ),
        (
            53009,
            400,
            "interaction_required",
            "",
            ErrorClass::UserMustAct,
            Responsible::User,
            "from a device and an app",
        ),
        (
            53005,
            400,
            "unauthorized_client",
            "protection_policies_required",
            ErrorClass::NotAllowed,
            Responsible::User,
            "app protection policy",
        ),
    ] {
        let body = json!({"error": error, "suberror": suberror, "error_codes": [number], "error_description": "x"});
        let fault = read(&config, "entra_obo", &answer_with(status, &[], &body));
        let line = fault.to_string();
        let remedy = line.split("remedy=").nth(1).unwrap_or_default();
        assert!(remedy.contains(words), "{number} {error}: {line}");
        assert!(line.contains(&format!(" responsible={} ", act.text())), "{number} {error}: {line}");
        assert_eq!(fault.class, class, "{number} {error}");
    }
}

#[test]
fn known_provider_pitfalls_are_all_listed() {
    let numbers: Vec<u32> = entries().iter().flat_map(|(_, entry)| numbers(entry)).copied().collect();
    assert_eq!(numbers.iter().collect::<BTreeSet<_>>().len(), numbers.len(), "two entries have the same number");
    let ranges = [(53000..=53005, "blocked by policy"), (7_000_222..=7_000_222, "expired secret")];
    for (range, what) in ranges {
        assert!(range.clone().all(|number| numbers.contains(&number)), "{what}");
    }
    let okta = config_of("okta_obo");
    let entra = config_of("entra_obo");
    let description = |error: &str, text: &str| json!({"error": error, "error_description": text});
    for (config, profile, status, body, act, words) in [
        (&okta, "okta_obo", 400, description("invalid_dpop_proof", ""), Responsible::Operator, "DPoP"),
        (&okta, "okta_obo", 400, description("use_dpop_nonce", ""), Responsible::Operator, "DPoP"),
        (&okta, "okta_obo", 401, description("access_denied", ""), Responsible::Admin, "access policy"),
        (
            &okta,
            "okta_obo",
            400,
            description("access_denied", "User is not assigned to the client application."),
            Responsible::Admin,
            "Assign the user",
        ),
        (
            &okta,
            "okta_obo",
            403,
            description("access_denied", "The 'subject_token' issuer isn't a trusted authorization server."),
            Responsible::Admin,
            "Trusted servers",
        ),
        (
            &okta,
            "okta_obo",
            401,
            description("invalid_client", "The client_assertion token has already been used."),
            Responsible::Operator,
            "retries",
        ),
        (
            &okta,
            "okta_obo",
            400,
            description("invalid_request", "'subject_token_type' is invalid or not supported."),
            Responsible::Operator,
            "access_token",
        ),
        (
            &okta,
            "okta_obo",
            400,
            description("invalid_request", "'subject_token' is invalid."),
            Responsible::Operator,
            "access token",
        ),
        (
            &okta,
            "okta_obo",
            400,
            description(
                "server_error",
                "The groups claim matched too many groups and must be configured to match fewer groups.",
            ),
            Responsible::Admin,
            "prefix",
        ),
        (
            &entra,
            "entra_obo",
            400,
            json!({"error": "invalid_grant", "suberror": "consent_required", "error_codes": [65001]}),
            Responsible::Admin,
            "authorized client applications",
        ),
        (
            &entra,
            "entra_obo",
            400,
            json!({"error": "invalid_grant", "error_codes": [240_002]}),
            Responsible::Operator,
            "ID token",
        ),
        (
            &entra,
            "entra_obo",
            401,
            json!({"error": "invalid_client", "error_codes": [7_000_222]}),
            Responsible::Operator,
            "another client secret",
        ),
    ] {
        let line = read(config, profile, &answer_with(status, &[], &body)).to_string();
        let remedy = line.split(&format!("responsible={} remedy=", act.text())).nth(1);
        assert!(remedy.is_some_and(|remedy| remedy.contains(words)), "{body}: {line}");
    }
    let later = |profile: &str, words: &str| {
        let of = entries();
        let is_later = |entry: &KnownError| matches!(entry.symptom, Symptom::RefusedByUpstream(_));
        let mut later = of.iter().filter(|(of, entry)| of.name() == profile && is_later(entry));
        assert!(later.any(|(_, entry)| entry.cause.contains(words)), "{words}");
    };
    later("entra_obo", ".default");
    later("entra_obo", "200 groups");
    later("okta_obo", "prefix");
    let at_sign_in = provider::profile("entra_obo").unwrap().sign_in_errors();
    for (code, words) in [
        ("AADSTS9010010", "`{url}/{scope}`"),
        ("AADSTS650053", "`{url}/{scope}`"),
        ("AADSTS500011", "App ID URI"),
        ("AADSTS900144", "`scopes_supported`"),
    ] {
        let entry = at_sign_in.iter().find(|entry| entry.code == code).unwrap_or_else(|| panic!("no {code}"));
        assert!(entry.remedy.contains(words) && !entry.cause.is_empty(), "{entry:?}");
    }
    assert!(at_sign_in.iter().all(|entry| !entry.cause.contains('|') && !entry.remedy.contains('|')));
}

/// Texts of the source of Keycloak.
#[test]
fn texts_of_keycloak_have_a_remedy_of_their_own() {
    let config = config_of("rfc8693");
    let mut remedies = BTreeSet::new();
    let cases = [
        (403, "access_denied", "Client is not within the token audience", "audience mapper for client.id"),
        (403, "access_denied", "Realm not enabled", "Enable the realm"),
        (403, "invalid_request", "HTTPS required", "TLS"),
        (400, "invalid_request", "Invalid token", "Sign in again"),
        (400, "invalid_request", "Standard token exchange is not enabled for the requested client", "Switch"),
        (400, "invalid_request", "Requested audience not available: mcp-server", "name it in scopes"),
        (400, "invalid_request", "Parameter 'subject_token' supports access tokens only", "subject_token.type"),
        (400, "invalid_request", "requested_token_type unsupported", "requested_token_type"),
        (
            400,
            "invalid_request",
            "Sender-constrained token exchange rejected as the token was not issued for the requesting client",
            "unbound",
        ),
        (400, "invalid_client", "Audience not found", "Client ID of the upstream"),
        (400, "invalid_client", "Client disabled", "that audience names"),
        (400, "invalid_client", "Public client is not allowed to exchange token", "Client authentication"),
        (
            400,
            "invalid_client",
            "Client authentication with signed JWT failed: Signature on JWT token failed validation",
            "public key",
        ),
        (400, "invalid_client", "Invalid token audience", "client.authentication"),
        (400, "invalid_client", "Token reuse detected", "retries"),
        (401, "invalid_client", "Invalid client or Invalid client credentials", "Check client.id"),
        (401, "unauthorized_client", "Invalid client or Invalid client credentials", "Set secret"),
        (400, "invalid_scope", "Invalid scopes: mcp:call", "optional"),
        (400, "invalid_scope", "Missing consents for Token Exchange in client mcp-gateway", "Consent"),
    ];
    for (status, error, text, words) in cases {
        let body = json!({"error": error, "error_description": text});
        let line = read(&config, "rfc8693", &answer_with(status, &[], &body)).to_string();
        let remedy = line.split("remedy=").nth(1).unwrap().to_owned();
        assert!(remedy.contains(words), "{text}: {remedy}");
        remedies.insert(remedy);
    }
    assert_eq!(remedies.len(), cases.len());
    assert_eq!(provider::profile("rfc8693").unwrap().known_errors().len(), cases.len());
}

#[test]
fn remedy_is_one_sentence_for_a_log_line() {
    for (_, entry) in entries() {
        let is_plain = |byte: u8| matches!(byte, b' '..=b'~') && !b"\"\\|".contains(&byte);
        assert!(entry.remedy.bytes().all(is_plain) && entry.remedy.len() < 200, "{entry:?}");
        assert!(entry.remedy.ends_with('.') && !entry.remedy.contains(". "), "{entry:?}");
        assert!(!entry.cause.is_empty() && !entry.cause.contains('|') && !entry.cause.ends_with('.'), "{entry:?}");
    }
}

/// Returns the class that an error has at the access token request.
fn at_access_token_request(class: ErrorClass) -> ErrorClass {
    if class == ErrorClass::Token { ErrorClass::Operator } else { class }
}
