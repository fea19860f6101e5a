//! The documentation is held against the code: options, refusals, metrics, recipes, files and links.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use onbehalf::refusal::Reason;
use onbehalf::telemetry::Metric;

fn read(name: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(name))
        .unwrap_or_else(|error| panic!("{name}: {error}"))
}

#[test]
fn every_metric_is_documented() {
    let page = read("docs/operations.md");
    for metric in Metric::ALL {
        let is_row = |line: &&str| line.starts_with(&format!("| `onbehalf_{}`", metric.name()));
        let row = page.lines().find(is_row).unwrap_or_else(|| panic!("{} is not documented", metric.name()));
        for label in metric.labels() {
            assert!(row.contains(&format!("`{label}`")), "{row} lacks {label}");
        }
    }
    assert_eq!(page.lines().filter(|line| line.starts_with("| `onbehalf_")).count(), Metric::ALL.len());
}

#[test]
fn the_alerts_look_at_metrics_and_reasons_that_there_are() {
    let alerts = read("envoy-config/alerts.yaml");
    let page = read("docs/operations.md");
    let words = alerts.split(|c: char| !(c.is_ascii_lowercase() || c == '_'));
    let metrics: BTreeSet<_> = words.filter(|word| word.starts_with("onbehalf_")).collect();
    for metric in &metrics {
        assert!(page.contains(&format!("\n| `{metric}` |")), "{metric} is not among the metrics");
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
    let names: Vec<&str> = alerts.split("- alert: ").skip(1).map(|rest| rest.lines().next().unwrap()).collect();
    for name in &names {
        assert!(page.contains(&format!("\n| {name} | ")), "{name} is not among the alerts");
    }
    assert_eq!(names.len(), page.lines().filter(|line| line.starts_with("| Onbehalf")).count());
}

#[test]
fn the_guides_have_the_configurations_of_the_recipes() {
    let shown = [
        ("README.md", "entra"),
        ("docs/guides/entra.md", "entra"),
        ("docs/guides/okta.md", "okta"),
        ("docs/guides/okta-xaa.md", "okta-xaa"),
        ("docs/guides/keycloak.md", "keycloak"),
        ("docs/guides/okta-and-entra.md", "okta-and-entra"),
        ("docs/guides/rotating-secrets.md", "okta-sds"),
        ("docs/guides/rotating-secrets.md", "entra-workload-identity"),
    ];
    for (page, recipe) in shown {
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
        let example = format!("```yaml\nconfiguration:\n{}\n```", dedented.join("\n"));
        assert!(read(page).contains(&example), "{page} has another configuration than {recipe}");
    }
}

/// Every page of the documentation, by its path in the checkout.
fn pages() -> Vec<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut pages = Vec::new();
    let mut folders: Vec<PathBuf> = ["docs", "envoy-config"].map(|folder| root.join(folder)).into();
    let mut files: Vec<PathBuf> = fs::read_dir(root).unwrap().map(|entry| entry.unwrap().path()).collect();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { folders.push(path) } else { files.push(path) }
        }
    }
    for path in files {
        if path.extension().is_some_and(|extension| extension == "md") {
            pages.push(path.strip_prefix(root).unwrap().to_str().unwrap().to_owned());
        }
    }
    pages.sort();
    assert!(pages.len() > 30, "{pages:?}");
    pages
}

/// The lines of a page that are not in a fenced block.
fn prose(text: &str) -> impl Iterator<Item = &str> {
    let mut is_fenced = false;
    text.lines().filter(move |line| {
        let is_fence = line.trim_start().starts_with("```");
        is_fenced ^= is_fence;
        !is_fenced && !is_fence
    })
}

/// The anchors of a page, as GitHub makes them of its headings.
fn anchors(text: &str) -> BTreeSet<String> {
    let headings = prose(text).filter_map(|line| line.strip_prefix('#'));
    let slug = |heading: &str| {
        heading
            .trim_start_matches('#')
            .trim()
            .to_lowercase()
            .chars()
            .filter(|character| character.is_alphanumeric() || matches!(character, ' ' | '-' | '_'))
            .map(|character| if character == ' ' { '-' } else { character })
            .collect()
    };
    headings.map(slug).collect()
}

#[test]
fn every_file_heading_and_target_that_is_named_is_there() {
    let makefile = read("Makefile");
    for page in pages() {
        let text = read(&page);
        let folder = Path::new(&page).parent().unwrap().to_owned();
        for link in text.split("](").skip(1).map(|rest| rest.split(')').next().unwrap()) {
            if link.contains("://") {
                continue;
            }
            let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
            let target = if file.is_empty() { PathBuf::from(&page) } else { folder.join(file) };
            let absolute = Path::new(env!("CARGO_MANIFEST_DIR")).join(&target);
            assert!(absolute.exists(), "{page} links to {link}");
            if !anchor.is_empty() {
                let there = anchors(&fs::read_to_string(&absolute).unwrap());
                assert!(there.contains(anchor), "{page} links to {link}, and there are {there:?}");
            }
        }
        for target in text.split("`make ").skip(1).map(|rest| rest.split(['`', ' ']).next().unwrap()) {
            assert!(makefile.contains(&format!("\n{target}:")), "{page} names make {target}");
        }
    }
}

#[test]
fn the_readme_links_to_every_page() {
    let readme = read("README.md");
    for page in pages().iter().filter(|page| page.starts_with("docs/") && !page.starts_with("docs/adr/")) {
        assert!(readme.contains(&format!("]({page})")), "README.md does not link to {page}");
    }
    assert!(readme.lines().count() <= 120, "{} lines are more than two screens", readme.lines().count());
    for line in readme.lines().filter(|line| !line.starts_with('|')) {
        assert!(line.chars().count() <= 140, "{line}");
    }
}

/// Paths of the sources in the rows of the map: a row begins with a folder or a path, and the other files are beside it.
fn mapped(page: &str) -> BTreeSet<String> {
    let mut paths = BTreeSet::new();
    for row in page.lines().filter(|line| line.starts_with("| `src/")) {
        let words: Vec<&str> = row.split('`').skip(1).step_by(2).collect();
        let (folder, _) = words[0].rsplit_once('/').unwrap();
        let files = words.iter().map(|word| word.trim_start_matches(folder).trim_start_matches('/'));
        paths.extend(files.filter(|name| name.ends_with(".rs")).map(|name| format!("{folder}/{name}")));
    }
    paths
}

#[test]
fn the_map_names_every_file_of_the_source() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut folders = vec![root.join("src")];
    let mut files = BTreeSet::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                files.insert(path.strip_prefix(root).unwrap().to_str().unwrap().to_owned());
            }
        }
    }
    assert_eq!(mapped(&read("docs/architecture.md")), files, "the map in docs/architecture.md and src/");
}

#[test]
fn the_glossary_names_types_that_are_there() {
    let glossary = read("docs/glossary.md");
    let rows = glossary.split("## Words in the code").nth(1).unwrap().lines().filter(|line| line.contains("| `src/"));
    let mut types = 0;
    for row in rows {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let source = read(cells[3].trim_matches('`'));
        for name in cells[2].split(", ").map(|name| name.trim_matches('`')) {
            let is_there = source.split(|c: char| !c.is_alphanumeric()).any(|word| word == name);
            assert!(is_there, "{name} is not in {}", cells[3]);
            types += 1;
        }
    }
    assert!(types > 60);
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

/// Returns `true` if the file has a test of that name: a function of Rust, or the title of an `it` as it is written.
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
    let expected = [
        "SECURITY.md",
        "docs/attacks.md",
        "docs/configuration.md",
        "docs/conformance.md",
        "docs/filter-state.md",
        "docs/guides/okta-xaa.md",
        "docs/operations.md",
        "docs/performance.md",
        "docs/request-flow.md",
        "docs/security.md",
        "docs/troubleshooting.md",
    ];
    assert_eq!(documents, expected.into());
}
