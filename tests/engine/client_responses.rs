//! The table of docs/client-responses.md is the table of reasons in `src/refusal/reason.rs`.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use onbehalf::refusal::{Challenge, Reason};

const BEGIN: &str = "<!-- `make docs` writes this table -->\n";
const END: &str = "<!-- end of the table -->\n";

#[test]
fn the_page_of_client_responses_has_every_reason() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/client-responses.md");
    let page = fs::read_to_string(&path).unwrap();
    let (before, rest) = page.split_once(BEGIN).unwrap();
    let (_, after) = rest.split_once(END).unwrap();
    let expected = [before, BEGIN, &table(), END, after].concat();
    if std::env::var_os("ONBEHALF_WRITE_DOCS").is_some() {
        fs::write(&path, &expected).unwrap();
    } else {
        assert!(page == expected, "docs/client-responses.md is not what src/refusal/reason.rs has: run make docs");
    }
}

fn table() -> String {
    let mut table = "\n| reason | status | challenge | error | error text | meaning | what to do |\n".to_owned();
    table.push_str("|---|---|---|---|---|---|---|\n");
    for &reason in Reason::ALL {
        let row = reason.row();
        let challenge = match row.challenge {
            Challenge::No => "no",
            Challenge::Bare => "without error",
            Challenge::WithError => "with error",
        };
        let (meaning, remedy) = (reason.meaning(), reason.remedy());
        let (label, status, error, text) = (row.label, row.status, row.error, row.text);
        writeln!(table, "| `{label}` | {status} | {challenge} | `{error}` | {text} | {meaning} | {remedy} |").unwrap();
    }
    table.push('\n');
    table
}
