//! What the documentation says of options, refusals, metrics and files is what the code has.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use onbehalf::config::Config;
use onbehalf::refusal::Reason;
use serde_json::{Value, json};

use crate::support::{configuration, environment};

fn read(name: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(name))
        .unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// The names that an object of the configuration may have: what the error about an unknown one lists.
fn options_at(pointer: &str) -> BTreeSet<String> {
    let mut configuration = configuration();
    configuration["audit"] = json!({});
    configuration["cache"] = json!({});
    configuration["resources"][0]["dpop"] = json!({"mode": "off"});
    let key = json!({"key": {"env": "OKTA_PRIVATE_KEY"}, "algorithm": "ES256"});
    configuration["identity_providers"]["okta-eu"]["client"]["dpop"] = key;
    configuration["identity_providers"]["okta-eu"]["subject_token"] = json!({"type": "access_token"});
    configuration["identity_providers"]["okta-eu"]["profile"] = json!("id_jag");
    configuration["resources"][0]["exchange"]["okta-eu"] = json!({"audience": "https://auth.example",
        "authorization_server": {"token_endpoint": "https://acme.okta.example/token"}});
    if pointer.contains("actor_token") {
        configuration["identity_providers"]["okta-eu"]["profile"] = json!("rfc8693");
        configuration["resources"][0]["exchange"]["okta-eu"] = json!({"audience": "a", "actor_token": {}});
    }
    configuration.pointer_mut(pointer).unwrap()["no_such_field"] = Value::Bool(true);
    let error = Config::parse(configuration.to_string().as_bytes(), &environment).unwrap_err();
    error.expected.strip_prefix("only ").unwrap_or_else(|| panic!("{error}")).split(", ").map(str::to_owned).collect()
}

#[test]
fn the_table_of_options_has_every_option_and_no_other() {
    let okta = "/identity_providers/okta-eu";
    let levels = [
        ("", String::new()),
        ("….", okta.to_owned()),
        ("….client.", format!("{okta}/client")),
        ("….client.authentication.", format!("{okta}/client/authentication")),
        ("….client.dpop.", format!("{okta}/client/dpop")),
        ("….subject_token.", format!("{okta}/subject_token")),
        ("….", "/resources/0".to_owned()),
        ("….dpop.", "/resources/0/dpop".to_owned()),
        ("….exchange.*.", "/resources/0/exchange/okta-eu".to_owned()),
        ("….exchange.*.actor_token.", "/resources/0/exchange/okta-eu/actor_token".to_owned()),
        ("….exchange.*.authorization_server.", "/resources/0/exchange/okta-eu/authorization_server".to_owned()),
        ("audit.", "/audit".to_owned()),
        ("cache.", "/cache".to_owned()),
    ];
    // An object is documented by its members.
    let objects =
        ["audit", "cache", "client", "dpop", "authentication", "subject_token", "authorization_server", "actor_token"];
    let mut options = BTreeSet::new();
    for (prefix, pointer) in levels {
        options.extend(
            options_at(&pointer)
                .into_iter()
                .filter(|name| !objects.contains(&name.as_str()) || prefix.ends_with("authorization_server."))
                .map(|name| format!("{prefix}{name}")),
        );
    }
    let readme = read("README.md");
    let section = readme.split("## Options").nth(1).unwrap().split("\n## ").next().unwrap();
    let mut documented = BTreeSet::new();
    for row in section.lines().filter(|line| line.starts_with("| `")) {
        let first = row.split('|').nth(1).unwrap();
        documented.extend(first.split('`').skip(1).step_by(2).map(str::to_owned));
    }
    assert_eq!(documented, options);
}

#[test]
fn the_table_of_refusals_has_every_refusal_as_it_is() {
    let readme = read("README.md");
    for &reason in Reason::ALL {
        let row = reason.row();
        let line = format!("| `{}` | {} | {} |", row.label, row.status, row.text);
        assert!(readme.contains(&line), "missing: {line}");
    }
    let section = readme.split("## What a client sees").nth(1).unwrap().split("\n## ").next().unwrap();
    assert_eq!(section.lines().filter(|line| line.starts_with("| `")).count(), Reason::ALL.len());
}

#[test]
fn every_metric_is_documented() {
    let source = read("src/filter/metrics.rs");
    let readme = read("README.md");
    let mut names = 0;
    for piece in source.split("\"onbehalf.").skip(1) {
        let stat = piece.split('"').next().unwrap();
        let mut parts = stat.split('.');
        let name = parts.next().unwrap();
        let labels: Vec<_> = parts.step_by(2).collect();
        let row = readme.lines().find(|line| line.starts_with(&format!("| `onbehalf_{name}`")));
        let row = row.unwrap_or_else(|| panic!("onbehalf_{name} is not documented"));
        for label in labels {
            assert!(row.contains(&format!("`{label}`")), "{label} of onbehalf_{name} is not documented");
        }
        names += 1;
    }
    assert_eq!(names, readme.lines().filter(|line| line.starts_with("| `onbehalf_")).count());
}

#[test]
fn the_alerts_look_at_metrics_and_reasons_that_there_are() {
    let alerts = read("envoy-config/alerts.yaml");
    let readme = read("README.md");
    let words = alerts.split(|c: char| !(c.is_ascii_lowercase() || c == '_'));
    let metrics: BTreeSet<_> = words.filter(|word| word.starts_with("onbehalf_")).collect();
    for metric in &metrics {
        assert!(readme.contains(&format!("\n| `{metric}` |")), "{metric} is not among the metrics");
    }
    let mut reasons = BTreeSet::new();
    for pattern in alerts.split("{reason=").skip(1) {
        let pattern = pattern.trim_start_matches('~').split('"').nth(1).unwrap();
        reasons.extend(pattern.split('|').map(str::to_owned));
    }
    for reason in &reasons {
        let is_meant =
            |label: &str| reason.strip_suffix(".*").map_or(label == reason, |start| label.starts_with(start));
        assert!(Reason::ALL.iter().any(|one| is_meant(one.row().label)), "{reason} is no reason");
    }
    assert_eq!((metrics.len(), reasons.len()), (3, 6));
}

#[test]
fn the_configurations_of_the_readme_are_those_of_the_recipes() {
    let readme = read("README.md");
    for recipe in ["entra", "okta"] {
        let yaml = read(&format!("envoy-config/{recipe}/envoy.yaml"));
        let block = yaml
            .split("                configuration:\n")
            .nth(1)
            .unwrap()
            .split("          - name: envoy.filters.http.router")
            .next()
            .unwrap();
        let dedented: Vec<&str> =
            block.trim_end().lines().map(|line| line.strip_prefix("                ").unwrap_or(line)).collect();
        assert!(readme.contains(&format!("configuration:\n{}\n```", dedented.join("\n"))), "{recipe}");
    }
}

#[test]
fn every_file_and_target_that_is_named_is_there() {
    let makefile = read("Makefile");
    for page in [
        "README.md",
        "CHANGELOG.md",
        "CONTRIBUTING.md",
        "SECURITY.md",
        "docs/architecture.md",
        "docs/attacks.md",
        "docs/clients.md",
        "docs/errors.md",
        "docs/promises.md",
        "docs/filter-state.md",
    ] {
        let text = read(page);
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(page);
        for link in text.split("](").skip(1).map(|rest| rest.split(')').next().unwrap()) {
            if !link.contains("://") && !link.starts_with('#') {
                let target = folder.parent().unwrap().join(link.split('#').next().unwrap());
                assert!(target.exists(), "{page} links to {link}");
            }
        }
        for target in text.split("`make ").skip(1).map(|rest| rest.split(['`', ' ']).next().unwrap()) {
            assert!(makefile.contains(&format!("\n{target}:")), "{page} names make {target}");
        }
    }
}

#[test]
fn the_map_names_every_file_of_the_source() {
    let design = read("docs/architecture.md");
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("src")];
    let mut files = 0;
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let name = path.file_name().unwrap().to_str().unwrap();
            assert!(design.contains(name), "{} is not on the map in docs/architecture.md", path.display());
            files += 1;
        }
    }
    assert!(files > 30);
}

#[test]
fn only_the_folder_for_providers_names_one() {
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("src")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                if path.file_name().unwrap() != "provider" {
                    folders.push(path);
                }
                continue;
            }
            // Its descriptions and examples are documentation.
            if path.ends_with("src/config/options.rs") {
                continue;
            }
            let text = fs::read_to_string(&path).unwrap().to_lowercase();
            for name in ["okta", "entra", "microsoft", "aadsts"] {
                let is_word = |line: &&str| line.split(|c: char| !c.is_ascii_alphanumeric()).any(|word| word == name);
                let found = text.lines().find(is_word);
                assert!(found.is_none(), "{}: {found:?}", path.display());
            }
        }
    }
}

/// Whether the file has a test of that name: a function of Rust, or the title of an `it` as it is written.
fn has_test(text: &str, file: &str, name: &str) -> bool {
    if !file.ends_with(".rs") {
        return ["'", "`"].iter().any(|quote| text.contains(&format!("it({quote}{name}{quote}, ")));
    }
    let Some((before, _)) = text.split_once(&format!("fn {name}(")) else {
        return false;
    };
    // Its attributes are the lines above it.
    before.lines().rev().take_while(|line| !line.is_empty()).any(|line| line.trim() == "#[test]")
}

#[test]
fn every_attack_has_tests_and_every_test_that_is_named_is_there() {
    let page = read("docs/attacks.md");
    let mut numbers = BTreeSet::new();
    for row in page.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| #")) {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let ["", number, _, _, tests, ""] = *cells else {
            panic!("not four cells: {row}");
        };
        numbers.insert(number.parse::<u32>().unwrap_or_else(|_| panic!("no number: {row}")));
        are_there(tests);
    }
    assert_eq!(numbers, (1..=26).collect());
}

/// The tests that a cell of a table names, one at least, are in the files that it names.
fn are_there(tests: &str) {
    let mut named = 0;
    for of_file in tests.split("; ") {
        let (file, names) = of_file.split_once("`: `").unwrap_or_else(|| panic!("no file and tests: {of_file}"));
        let file = file.strip_prefix('`').unwrap();
        let text = read(file);
        for name in names.strip_suffix('`').unwrap().split("`, `") {
            assert!(has_test(&text, file, name), "{file} has no test {name}");
            named += 1;
        }
    }
    assert!(named > 0, "{tests}");
}

#[test]
fn every_promise_stands_where_it_is_said_to_stand_and_has_tests() {
    let on_one_line = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let page = read("docs/promises.md");
    let mut documents = BTreeSet::new();
    for row in page.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| where")) {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let ["", document, sentence, settings, tests, ""] = *cells else {
            panic!("not four cells: {row}");
        };
        assert!(on_one_line(&read(document)).contains(sentence), "{document} does not say: {sentence}");
        assert!(!sentence.is_empty() && !settings.is_empty(), "{row}");
        are_there(tests);
        documents.insert(document);
    }
    assert_eq!(documents, ["README.md", "SECURITY.md", "docs/attacks.md", "docs/filter-state.md"].into());
}
