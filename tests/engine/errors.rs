//! The catalogue of what providers refuse an exchange for, and the page that is made of it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use onbehalf::config::Config;
use onbehalf::http::{CalloutFailure, CalloutResult};
use onbehalf::provider;
use onbehalf::provider::{
    COMMON, ErrorClass, ErrorPattern, Hop, KnownError, Profile, Responsible, SecretVersion, SignInError, SubjectInput,
    TokenEndpointError, TokenRequest,
};
use onbehalf::refusal::Reason;
use onbehalf::url::Url;
use serde_json::{Value, json};

use crate::support::*;

/// The provider with that profile.
fn config_of(profile: &str) -> Config {
    let mut configuration = configuration();
    if !matches!(profile, "entra_obo" | "okta_obo") {
        configuration["identity_providers"]["okta-eu"]["profile"] = json!(profile);
    }
    parse(&configuration)
}

/// What is made of an answer by the provider with that profile.
fn read(config: &Config, profile: &str, reply: &CalloutResult) -> TokenEndpointError {
    read_at(Hop::First, config, profile, reply)
}

fn read_at(leg: Hop<'_>, config: &Config, profile: &str, reply: &CalloutResult) -> TokenEndpointError {
    let index = config.providers.iter().position(|provider| provider.profile.name() == profile).unwrap();
    let request = TokenRequest {
        provider: &config.providers[index],
        target: config.resources[0].targets[index].as_ref().unwrap(),
        token_endpoint: &Url::parse("https://login.example/token").unwrap(),
        subject: SubjectInput { token: "subject-token", is_id_token: false, ..SubjectInput::default() },
        leg,
        which: SecretVersion::Current,
        nonce: None,
        assertion: None,
    };
    request.read(reply, &[], NOW).unwrap_err()
}

/// Every entry with its profile; those of any provider with each.
fn entries() -> Vec<(&'static dyn Profile, &'static KnownError)> {
    let of = |(profile, entries): (&'static dyn Profile, &'static [KnownError])| {
        entries.iter().map(move |entry| (profile, entry))
    };
    let common =
        provider::failures().map(|(profile, _)| (profile, COMMON)).filter(|(profile, _)| profile.name() == "rfc8693");
    provider::failures().chain(common).flat_map(of).collect()
}

/// The answers that an entry is about: one for each of its numbers, words or suberrors.
fn answers(entry: &KnownError) -> Vec<CalloutResult> {
    let base = match entry.suberror {
        "" => json!({"error": entry.error, "trace_id": "t", "error_description": ""}),
        suberror => json!({"error": entry.error, "suberror": suberror}),
    };
    let bodies = match entry.sign {
        ErrorPattern::None => vec![base],
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
        ErrorPattern::Upstream => Vec::new(),
    };
    bodies.iter().map(|body| answer_with(entry.status, &[], body)).collect()
}

#[test]
fn every_failure_that_is_listed_is_explained_as_it_is_listed() {
    let mut explained = 0;
    for (profile, entry) in entries() {
        let config = config_of(profile.name());
        if matches!(entry.status, 0 | 200) {
            continue;
        }
        for reply in answers(entry) {
            let fault = read(&config, profile.name(), &reply);
            let line = fault.to_string();
            let expected = format!(" act={} remedy={:?}", entry.act.text(), entry.remedy);
            assert!(line.ends_with(&expected), "{}: {entry:?}: {line}", profile.name());
            assert_eq!(Some(fault.blame), entry.blame(profile), "{entry:?}");
            explained += 1;
        }
    }
    assert!(explained > 150, "{explained}");
}

#[test]
fn what_only_the_second_request_fails_with_is_explained_there_as_it_is_listed() {
    let mut configuration = configuration();
    configuration["identity_providers"]["okta-eu"]["profile"] = json!("okta_xaa");
    let target = json!({"audience": "https://acme.okta.example/oauth2/aus1", "scopes": ["read"]});
    configuration["resources"][0]["exchange"]["okta-eu"] = target;
    let config = parse(&configuration);
    let mut explained = 0;
    for (profile, entry) in entries().into_iter().filter(|(_, entry)| entry.is_at_second) {
        for reply in answers(entry) {
            let fault = read_at(Hop::Second("assertion"), &config, "okta_xaa", &reply);
            let line = fault.to_string();
            assert!(line.ends_with(&format!(" act={} remedy={:?}", entry.act.text(), entry.remedy)), "{line}");
            assert_eq!(fault.blame, at_second(entry.blame(profile).unwrap()), "{entry:?}");
            explained += 1;
        }
    }
    assert_eq!(explained, 4);
}

#[test]
fn what_is_no_error_response_is_explained_too() {
    let config = config_of("rfc8693");
    let remedy = |error: &str| COMMON.iter().find(|entry| entry.error == error).unwrap().remedy;
    for failure in
        [CalloutFailure::NotSent, CalloutFailure::NoConnection, CalloutFailure::TimedOut, CalloutFailure::TooLarge]
    {
        let line = read(&config, "rfc8693", &CalloutResult::Failed(failure)).to_string();
        assert!(line.ends_with(&format!("remedy={:?}", remedy(failure.text()))) && !line.contains("status="), "{line}");
    }
    let good = json!({"access_token": "up", "token_type": "Bearer"});
    for (change, words) in [
        (json!({"token_type": "DPoP"}), "token_type: dpop"),
        (json!({"token_type": "N_A"}), "access tokens"),
        (json!({"access_token": "subject-token"}), "instead of returning them"),
        (json!({"issued_token_type": "x"}), "requested_token_type"),
        (json!({"access_token": null}), "no token response"),
        (json!({"expires_in": 0}), "no token response"),
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
fn a_number_or_a_word_chooses_the_explanation_and_nothing_else() {
    let signs: Vec<Value> = entries()
        .iter()
        .flat_map(|(_, entry)| match entry.sign {
            ErrorPattern::Numbers(numbers) => numbers.iter().map(|number| json!({"error_codes": [number]})).collect(),
            ErrorPattern::Words(words) => {
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
                let decided = |fault: &TokenEndpointError| (fault.blame, fault.retry_after, fault.claims.clone());
                assert_eq!(decided(&told), decided(&without), "{profile} {status} {error} {sign}");
            }
        }
    }
}

#[test]
fn the_sharp_edges_are_all_listed() {
    let numbers: Vec<u32> = entries()
        .iter()
        .flat_map(|(_, entry)| match entry.sign {
            ErrorPattern::Numbers(numbers) => numbers.to_vec(),
            _ => Vec::new(),
        })
        .collect();
    assert_eq!(numbers.iter().collect::<BTreeSet<_>>().len(), numbers.len(), "a number stands twice");
    let ranges = [(53000..=53004, "blocked by policy"), (7_000_222..=7_000_222, "expired secret")];
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
        let remedy = line.split(&format!("act={} remedy=", act.text())).nth(1);
        assert!(remedy.is_some_and(|remedy| remedy.contains(words)), "{body}: {line}");
    }
    let later = |profile: &str, words: &str| {
        let of = entries();
        let mut later = of.iter().filter(|(of, entry)| of.name() == profile && entry.sign == ErrorPattern::Upstream);
        assert!(later.any(|(_, entry)| entry.cause.contains(words)), "{words}");
    };
    later("entra_obo", ".default");
    later("entra_obo", "200 groups");
    later("okta_obo", "prefix");
    let at_sign_in = provider::profile("entra_obo").unwrap().at_sign_in();
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

#[test]
fn a_remedy_is_one_sentence_that_can_stand_in_a_log_line() {
    for (_, entry) in entries() {
        let is_plain = |byte: u8| matches!(byte, b' '..=b'~') && !b"\"\\|".contains(&byte);
        assert!(entry.remedy.bytes().all(is_plain) && entry.remedy.len() < 200, "{entry:?}");
        assert!(entry.remedy.ends_with('.') && !entry.remedy.contains(". "), "{entry:?}");
        assert!(!entry.cause.is_empty() && !entry.cause.contains('|') && !entry.cause.ends_with('.'), "{entry:?}");
    }
}

#[test]
fn the_page_of_errors_is_what_the_catalogue_has() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/errors.md");
    let page = page();
    if std::env::var_os("ONBEHALF_WRITE_DOCS").is_some() {
        fs::write(&path, &page).unwrap();
    }
    let there = fs::read_to_string(&path).unwrap_or_default();
    assert!(there == page, "docs/errors.md is not what the catalogue has: run make docs");
}

const INTRODUCTION: &str = "\
# Errors of the providers

What a provider may answer to an exchange, what is the matter then, who must act, and what they do; and what users meet at
sign-in. `make docs` makes this page of the catalogue in `src/provider/`; the log line of a failed exchange has its sentence as
`remedy=` and who must act as `act=`.

What a client gets depends on the status, `error`, `suberror` and `claims` alone. Numbers, and words of a description, choose
the sentence and nothing else: they are not part of any contract, and change. *Again*: whether the same request may succeed
later without anybody doing anything; such a refusal has a `Retry-After`. `interaction_required` is a 401 `insufficient_claims`
challenge where the provider sent `claims` and the client takes them (`xms_cc` with `cp1`), and its body has `interaction_uri`
where the provider sent one that is on its own host. At the second of two requests (`leg=2` in the log), `invalid_grant` is the
operator's concern, and a 502 `exchange_misconfigured`: what was handed in there is the provider's own word. So is
`interaction_required` there, if that server is on another host than the provider: no user is sent anywhere by it.

";

/// The page, one table for each provider that has failures of its own, and one for all.
fn page() -> String {
    let titles = BTreeMap::from([("entra_obo", "Microsoft Entra ID"), ("okta_obo", "Okta")]);
    let mut page = INTRODUCTION.to_owned();
    let rfc8693 = provider::failures().find(|(profile, _)| profile.name() == "rfc8693").unwrap().0;
    for (profile, entries) in provider::failures().filter(|(_, entries)| !entries.is_empty()) {
        let name = profile.name();
        let has_them = |name: &&str| std::ptr::eq(provider::profile(name).unwrap().failures(), entries);
        let all = provider::profile_names();
        let names: Vec<String> = all.split(", ").filter(has_them).map(|name| format!("`{name}`")).collect();
        let title = *titles.get(name).unwrap_or(&name);
        table(&mut page, &format!("{title} ({})", names.join(", ")), profile, entries);
        if !profile.at_sign_in().is_empty() {
            table_of_sign_in(&mut page, title, profile.at_sign_in());
        }
    }
    table(&mut page, "Any provider", rfc8693, COMMON);
    page
}

fn table(page: &mut String, title: &str, profile: &dyn Profile, entries: &[KnownError]) {
    writeln!(page, "## {title}\n").unwrap();
    page.push_str("| answer | with | what is the matter | who acts | what to do | again | to the client |\n");
    page.push_str("|---|---|---|---|---|---|---|\n");
    let mut sorted: Vec<&KnownError> = entries.iter().collect();
    sorted.sort_by_key(|entry| {
        let is_last = (entry.sign == ErrorPattern::Upstream, matches!(entry.status, 0 | 200), entry.error.is_empty());
        (is_last, entry.error, entry.status, matches!(entry.sign, ErrorPattern::None))
    });
    for entry in sorted {
        let who = who(entry.act);
        let blame = entry.blame(profile).map(|blame| if entry.is_at_second { at_second(blame) } else { blame });
        let again = if blame.is_some_and(ErrorClass::is_retryable) { "yes" } else { "no" };
        writeln!(
            page,
            "| {}{} | {} | {} | {who} | {} | {again} | {} |",
            if entry.is_at_second { "second request: " } else { "" },
            came(entry),
            sign(entry),
            entry.cause,
            entry.remedy.replace('{', "\\{").replace('<', "\\<"),
            told(entry, blame),
        )
        .unwrap();
    }
    page.push('\n');
}

const fn who(act: Responsible) -> &'static str {
    match act {
        Responsible::User => "the user",
        Responsible::Admin => "the identity admin",
        Responsible::Operator => "the operator",
        Responsible::Provider => "the provider",
    }
}

/// What users meet before there is a token.
fn table_of_sign_in(page: &mut String, title: &str, entries: &[SignInError]) {
    writeln!(page, "## {title}, at sign-in\n").unwrap();
    page.push_str(
        "These come from the provider before there is a token, and are shown in the user's browser or by the client. Nothing of them
reaches this proxy: its log does not have them, the provider's sign-in log has. Where they follow from the configuration,
the log warns when that is loaded. They are known from documentation and from others' reports, and were not met on a tenant
of ours.

| error | what is the matter | who acts | what to do |
|---|---|---|---|
",
    );
    for SignInError { code, cause, act, remedy } in entries {
        writeln!(page, "| {code} | {cause} | {} | {remedy} |", who(*act)).unwrap();
    }
    page.push('\n');
}

/// What a failure becomes there.
fn at_second(blame: ErrorClass) -> ErrorClass {
    if blame == ErrorClass::Token { ErrorClass::Operator } else { blame }
}

/// The answer as it came.
fn came(entry: &KnownError) -> String {
    match (entry.sign, entry.status, entry.error) {
        (ErrorPattern::Upstream, status, _) => format!("a token; the upstream says {status}"),
        (_, 0, error) => format!("none: {error}"),
        (_, 200, "") => "200, anything else".to_owned(),
        (_, 200, error) => format!("200: {error}"),
        (ErrorPattern::Numbers(_), _, "") => "any `error`".to_owned(),
        (_, 302, "") => "3xx".to_owned(),
        (_, 500, "") => "5xx".to_owned(),
        (_, 400, "") => "anything else".to_owned(),
        (_, status, "") => status.to_string(),
        (_, status, error) => format!("{status} `{error}`"),
    }
}

/// By what it is told from its like.
fn sign(entry: &KnownError) -> String {
    let quoted = |texts: &[&str]| texts.iter().map(|text| format!("`{text}`")).collect::<Vec<_>>().join(", ");
    let suberror = if entry.suberror.is_empty() { String::new() } else { format!(", mostly `{}`", entry.suberror) };
    match entry.sign {
        ErrorPattern::None | ErrorPattern::Upstream => String::new(),
        ErrorPattern::Suberror(suberrors) => format!("suberror {}", quoted(suberrors)),
        ErrorPattern::Words(words) => format!("description has {}", quoted(words)),
        ErrorPattern::Numbers(numbers) => {
            let mut numbers = numbers.to_vec();
            numbers.sort_unstable();
            let numbers: Vec<String> = numbers.iter().map(|number| format!("AADSTS{number}")).collect();
            format!("{}{suberror}", numbers.join(", "))
        }
    }
}

/// What the client gets.
fn told(entry: &KnownError, blame: Option<ErrorClass>) -> String {
    match blame.map(Reason::from) {
        None => "the upstream's answer".to_owned(),
        Some(_) if entry.error.is_empty() && matches!(entry.sign, ErrorPattern::Numbers(_)) => {
            "as for the `error`".to_owned()
        }
        Some(reason) => format!("{} `{}`", reason.row().status, reason.label()),
    }
}
