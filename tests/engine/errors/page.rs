//! Page of errors: `docs/errors.md` is generated from the catalogue.

use super::*;

#[test]
fn page_of_errors_equals_the_catalogue() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/errors.md");
    let page = page();
    if std::env::var_os("ONBEHALF_WRITE_DOCS").is_some() {
        fs::write(&path, &page).unwrap();
    }
    let there = fs::read_to_string(&path).unwrap_or_default();
    assert!(there == page, "docs/errors.md differs from the catalogue: run make docs");
}

const INTRODUCTION: &str = "\
# Errors of the providers

This page lists the errors of token requests: the cause, the party that must act, and the remedy. It also lists the errors
that users get at sign-in. `make docs` writes the page from the catalogue in `src/provider/`. The log line of a failed
exchange has the remedy as `remedy=` and the responsible party as `responsible=`.

The response to the client depends on `status`, `error`, `suberror` and `claims` of the provider's response, and on whether the same exchange has succeeded before, by the
[rules](#rules). Numbers and words of the description select the remedy only, because they are part of no contract and
change.

- *Retry* says whether the same request can succeed later without an action of anyone. The response to the client then has
  `Retry-After`.
- `interaction_required` becomes a 401 `insufficient_claims` challenge if the provider sent `claims` and the client accepts
  a claims challenge (`xms_cc` with `cp1`). The body of the response has `interaction_uri` if the provider sent one on its
  own host.
- The access token request with an ID-JAG (`leg=2` in the log) is the second request of `id_jag` and `okta_xaa`. An
  `invalid_grant` there becomes a 502 `exchange_misconfigured`, because the provider has just issued the ID-JAG. So does
  `interaction_required` if the resource authorization server is on another host than the provider, because that server
  must not send users to sign in.

";

/// Returns the page: one table for each provider with own errors, and one for all providers.
fn page() -> String {
    let titles = BTreeMap::from([("entra_obo", "Microsoft Entra ID"), ("okta_obo", "Okta"), ("rfc8693", "Keycloak")]);
    let mut page = INTRODUCTION.to_owned();
    rules_table(&mut page);
    for (profile, entries) in provider::known_errors().filter(|(_, entries)| !entries.is_empty()) {
        let name = profile.name();
        let has_them = |name: &&str| std::ptr::eq(provider::profile(name).unwrap().known_errors(), entries);
        let all = provider::profile_names();
        let names: Vec<String> = all.split(", ").filter(has_them).map(|name| format!("`{name}`")).collect();
        let title = *titles.get(name).unwrap_or(&name);
        table(&mut page, &format!("{title} ({})", names.join(", ")), profile, entries);
        if !profile.sign_in_errors().is_empty() {
            sign_in_table(&mut page, title, profile.sign_in_errors());
        }
    }
    table(&mut page, "Any provider", provider::profile("rfc8693").unwrap(), COMMON_ERRORS);
    page
}

/// Returns the rules of all profiles in one order, each with the profiles that have it. Empty: every profile.
fn rules() -> Vec<(&'static ErrorRule, Vec<&'static str>)> {
    let names = provider::profile_names();
    let profiles: Vec<_> = names.split(", ").map(|name| provider::profile(name).unwrap()).collect();
    let general = provider::profile("rfc8693").unwrap();
    let mut rules: Vec<(&ErrorRule, Vec<&str>)> =
        provider::error_rules(general).map(|rule| (rule, Vec::new())).collect();
    let own =
        profiles.iter().flat_map(|profile| provider::error_rules(*profile).enumerate().map(|at| (profile.name(), at)));
    for (name, (at, rule)) in own {
        match rules.iter_mut().find(|(other, _)| std::ptr::eq(*other, rule)) {
            Some((_, names)) if names.is_empty() => {}
            Some((_, names)) => names.push(name),
            None => rules.insert(at, (rule, vec![name])),
        }
    }
    rules
}

/// Writes the table of the rules.
fn rules_table(page: &mut String) {
    page.push_str(RULES);
    let or_any = |texts: Vec<String>| if texts.is_empty() { "any".to_owned() } else { texts.join(", ") };
    let quoted = |texts: &[&str]| texts.iter().map(|text| format!("`{text}`")).collect::<Vec<_>>();
    for (rule, profiles) in rules() {
        let statuses = rule.statuses.iter().map(|(from, to)| match (from, to) {
            (from, to) if from == to => from.to_string(),
            (from, &u16::MAX) => format!("{from} and above"),
            (from, to) => format!("{from} to {to}"),
        });
        let condition = match rule.condition {
            ErrorCondition::Always => String::new(),
            ErrorCondition::Suberror(suberrors) => format!("`suberror` is {}", quoted(suberrors).join(", ")),
            ErrorCondition::Claims => "the response has `claims`".to_owned(),
            ErrorCondition::Worked => {
                "token exchange (RFC 8693) without an actor token, and the same exchange has succeeded for somebody"
                    .to_owned()
            }
        };
        let reason = Reason::from(rule.class);
        writeln!(
            page,
            "| {} | {} | {} | {condition} | {} | {} `{}`{} |",
            or_any(quoted(&profiles)),
            or_any(statuses.collect()),
            or_any(quoted(rule.errors)),
            who(rule.responsible),
            reason.row().status,
            reason.label(),
            if rule.class == ErrorClass::ClientAuthentication { "; `previous_secret` is tried first" } else { "" },
        )
        .unwrap();
    }
    page.push('\n');
}

const RULES: &str = "\
## Rules

The first rule that matches an error response decides. *Any* status is any but 2xx. The catalogue below may know better who
must act.

- *The same exchange has succeeded* means: since the configuration was loaded, in this worker, for the same resource and
  provider. The worker remembers one bit for each; a restart and a new configuration begin anew, and then the operator is
  blamed until somebody's exchange succeeds. A token of another worker that is found in shared data counts as well. Workers share a failure
  for 30 seconds, with the verdict of the worker that asked. A description that the catalogue knows as the fault of another party than
  the user counts more than the success. An `invalid_request` never opens the circuit breaker.
- `claims` count if they are a JSON object of at most 4096 bytes.

| profile | status | `error` | condition | who must act | response to the client |
|---|---|---|---|---|---|
";

fn table(page: &mut String, title: &str, profile: &dyn Profile, entries: &[KnownError]) {
    writeln!(page, "## {title}\n").unwrap();
    page.push_str("| response | distinguished by | cause | who must act | remedy | retry | response to the client |\n");
    page.push_str("|---|---|---|---|---|---|---|\n");
    let mut sorted: Vec<&KnownError> = entries.iter().collect();
    sorted.sort_by_key(|entry| match entry.symptom {
        Symptom::ErrorResponse { status, error, pattern } => {
            (u8::from(error.is_empty()), error, status, pattern == ErrorPattern::Any)
        }
        Symptom::CalloutFailed(failure) => (2, failure.text(), 0, false),
        Symptom::UnusableToken(Some(problem)) => (3, problem.text(), 0, false),
        Symptom::UnusableToken(None) => (4, "", 0, false),
        Symptom::RefusedByUpstream(status) => (5, "", status, false),
    });
    for entry in sorted {
        let class = entry.class(profile);
        let class = if entry.is_at_access_token_request { class.map(at_access_token_request) } else { class };
        writeln!(
            page,
            "| {}{} | {} | {} | {} | {} | {} | {} |",
            if entry.is_at_access_token_request { "access token request: " } else { "" },
            response(entry),
            distinction(entry),
            entry.cause,
            who(entry.responsible),
            entry.remedy.replace('{', "\\{").replace('<', "\\<"),
            if class.is_some_and(ErrorClass::is_retryable) { "yes" } else { "no" },
            response_after_success(entry, response_to_client(entry, class)),
        )
        .unwrap();
    }
    page.push('\n');
}

/// Response to the client, and the other one after a success, for an error whose description does not excuse the subject token.
fn response_after_success(entry: &KnownError, response: String) -> String {
    let depends = matches!(
        entry.symptom,
        Symptom::ErrorResponse { error: "invalid_request", pattern: ErrorPattern::Words(_), .. }
    ) && entry.can_be_subject_token;
    if depends { format!("{response}; 401 `exchange_rejected` once the same exchange has succeeded") } else { response }
}

const fn who(responsible: Responsible) -> &'static str {
    match responsible {
        Responsible::User => "the user",
        Responsible::Admin => "the administrator of the provider",
        Responsible::Operator => "the operator",
        Responsible::Provider => "the provider",
    }
}

/// Writes the table of errors at sign-in.
fn sign_in_table(page: &mut String, title: &str, entries: &[SignInError]) {
    writeln!(page, "## {title}, at sign-in\n").unwrap();
    page.push_str(
        "The provider returns these errors before it issues a token to the client. The user's browser or the client shows them; the
provider's sign-in log has them, and the log of this proxy does not. If the configuration causes one of them, this proxy
logs a warning when it loads the configuration. Source: documentation and reports of others; they are not reproduced on a
tenant of this project.

| error | cause | who must act | remedy |
|---|---|---|---|
",
    );
    for SignInError { code, cause, responsible, remedy } in entries {
        writeln!(page, "| {code} | {cause} | {} | {remedy} |", who(*responsible)).unwrap();
    }
    page.push('\n');
}

/// Describes the response of the provider.
fn response(entry: &KnownError) -> String {
    match entry.symptom {
        Symptom::CalloutFailed(failure) => format!("none: {}", failure.text()),
        Symptom::UnusableToken(Some(problem)) => format!("2xx: {}", problem.text()),
        Symptom::UnusableToken(None) => "2xx: any other problem".to_owned(),
        Symptom::RefusedByUpstream(status) => format!("a token; the upstream responds {status}"),
        Symptom::ErrorResponse { error: "", pattern: ErrorPattern::Numbers(_), .. } => "any `error`".to_owned(),
        Symptom::ErrorResponse { status: 302, error: "", .. } => "3xx".to_owned(),
        Symptom::ErrorResponse { status: 500, error: "", .. } => "5xx".to_owned(),
        Symptom::ErrorResponse { status: 408, error: "", .. } => "408, 421, 425".to_owned(),
        Symptom::ErrorResponse { error: "", pattern: ErrorPattern::Claims, .. } => "any other but 401".to_owned(),
        Symptom::ErrorResponse { status: 401, error: "", .. } => "401, any other".to_owned(),
        Symptom::ErrorResponse { status: 400, error: "", .. } => "any other".to_owned(),
        Symptom::ErrorResponse { status, error: "", .. } => status.to_string(),
        Symptom::ErrorResponse { status, error, .. } => format!("{status} `{error}`"),
    }
}

/// Describes the mark by which the response is distinguished from others with the same `error`.
fn distinction(entry: &KnownError) -> String {
    let quoted = |texts: &[&str]| texts.iter().map(|text| format!("`{text}`")).collect::<Vec<_>>().join(", ");
    let suberror = if entry.suberror.is_empty() { String::new() } else { format!(", usually `{}`", entry.suberror) };
    let Symptom::ErrorResponse { pattern, .. } = entry.symptom else {
        return String::new();
    };
    match pattern {
        ErrorPattern::Any => String::new(),
        ErrorPattern::Claims => "the response has `claims`".to_owned(),
        ErrorPattern::Worked => "the same exchange has succeeded for somebody".to_owned(),
        ErrorPattern::Suberror(suberrors) => format!("`suberror` {}", quoted(suberrors)),
        ErrorPattern::Words(words) => format!("description contains {}", quoted(words)),
        ErrorPattern::Numbers(numbers) => {
            let mut numbers = numbers.to_vec();
            numbers.sort_unstable();
            let numbers: Vec<String> = numbers.iter().map(|number| format!("AADSTS{number}")).collect();
            format!("{}{suberror}", numbers.join(", "))
        }
    }
}

/// Describes the response to the client.
fn response_to_client(entry: &KnownError, class: Option<ErrorClass>) -> String {
    match class.map(Reason::from) {
        None => "the response of the upstream".to_owned(),
        Some(_)
            if matches!(entry.symptom, Symptom::ErrorResponse { error: "", pattern: ErrorPattern::Numbers(_), .. }) =>
        {
            "by the row of [Rules](#rules) for the `error` that came with it".to_owned()
        }
        Some(reason) => format!("{} `{}`", reason.row().status, reason.label()),
    }
}
