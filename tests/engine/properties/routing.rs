//! Routing, compared with a look at every resource.

use onbehalf::config::{Code, Config};
use onbehalf_test_support::environment;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::{Value, json};

use super::cases;
use crate::routing::{of, resource};

/// Host and port of a URL, as requests may have them.
fn is_at(url: &str, authority: &str) -> bool {
    let (scheme, rest) = url.split_once("://").unwrap();
    let own = rest.split('/').next().unwrap().to_lowercase();
    let port = if scheme == "https" { ":443" } else { ":80" };
    let own = own.strip_suffix(port).unwrap_or(&own).to_owned();
    let asked = authority.to_lowercase();
    asked == own || (!own.contains(':') && asked == format!("{own}{port}"))
}

/// Path of a URL without a final slash.
fn path_of(url: &str) -> &str {
    let rest = url.split_once("://").unwrap().1;
    rest.find('/').map_or("", |at| &rest[at..]).trim_end_matches('/')
}

/// The resource and the path of it that a request belongs to, by a look at each: the longest path wins.
fn scanned<'a>(places: &[(usize, &'a str)], authority: &str, path: &str) -> Option<(usize, &'a str)> {
    let is_under = |url: &str| path == path_of(url) || path.starts_with(&format!("{}/", path_of(url)));
    let here = places.iter().filter(|(_, url)| is_at(url, authority) && is_under(url));
    here.max_by_key(|(_, url)| path_of(url).len()).map(|(resource, url)| (*resource, path_of(url)))
}

/// Authorities of which a request can have only one of two places.
fn authorities() -> Vec<&'static str> {
    vec!["a", "A", "b", "a:443", "a:80", "a:8443", "b:80", "b:443", "b:8443", "c", ""]
}

fn url_in_test() -> impl Strategy<Value = String> {
    let origin = select(vec![
        "https://a",
        "https://A:443",
        "https://a:8443",
        "https://b",
        "http://b",
        "http://b:80",
        "https://b:80",
    ]);
    (origin, path_in_test()).prop_map(|(origin, path)| format!("{origin}{path}"))
}

fn path_in_test() -> impl Strategy<Value = String> {
    let segments = vec(select(vec!["x", "y", "xy", ".well-known"]), 0..4);
    (segments, any::<bool>()).prop_map(|(segments, slash)| {
        let path: String = segments.iter().map(|segment| format!("/{segment}")).collect();
        if slash { format!("{path}/") } else { path }
    })
}

proptest! {
    #![proptest_config(cases(512))]

    #[test]
    fn table_finds_what_a_look_at_every_resource_finds(
        resources in vec((url_in_test(), vec(url_in_test(), 0..3)), 1..6),
        paths in vec(path_in_test(), 1..8),
        open in vec(path_in_test(), 0..2),
    ) {
        let open: Vec<String> = open.into_iter().filter(|path| !path.is_empty()).collect();
        let resources: Vec<_> = resources.iter().filter(|(url, _)| url.starts_with("https")).collect();
        prop_assume!(!resources.is_empty());
        let list: Vec<Value> =
            resources.iter().map(|(url, aliases)| resource(url, json!({"aliases": aliases}))).collect();
        let mut document = of(json!(list));
        document["unauthenticated_paths"] = json!(open);
        let mut places: Vec<(usize, &str)> = Vec::new();
        let mut is_ambiguous = false;
        for (index, (url, aliases)) in resources.iter().enumerate() {
            for url in std::iter::once(url).chain(aliases) {
                let same = |(_, other): &(usize, &str)| {
                    path_of(other) == path_of(url) && authorities().iter().any(|at| is_at(other, at) && is_at(url, at))
                };
                is_ambiguous |= places.iter().any(same);
                places.push((index, url));
            }
        }
        let config = Config::parse(document.to_string().as_bytes(), &environment);
        if let Err(error) = &config
            && error.findings().all(|finding| finding.code == Code::NestedWithoutAlias)
        {
            return Ok(());
        }
        prop_assert_eq!(config.is_err(), is_ambiguous, "{:?}", config.as_ref().err());
        if let Ok(config) = config {
            for authority in authorities() {
                for path in &paths {
                    let path = if path.is_empty() { "/" } else { path };
                    let host = config.routes.host(authority.as_bytes());
                    let mount = host.and_then(|host| host.mount(path));
                    let found = mount.map(|mount| (mount.resource.id.0 as usize, &*mount.prefix));
                    prop_assert_eq!(found, scanned(&places, authority, path), "{} {}", authority, path);
                    prop_assert_eq!(config.routes.is_unauthenticated(path), open.iter().any(|open| open == path));
                }
                for (index, (url, _)) in resources.iter().enumerate().filter(|(_, (url, _))| is_at(url, authority)) {
                    let host = config.routes.host(authority.as_bytes()).unwrap();
                    prop_assert_eq!(host.document(path_of(url)).unwrap().id.0 as usize, index);
                }
            }
        }
    }
}
