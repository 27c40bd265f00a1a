//! Project rules that a compiler does not check: dependencies between stages, and the length of
//! files.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// The most lines of a file.
const LONGEST: usize = 500;

/// Stages that must not use HTTP.
const WITHOUT_HTTP: [&str; 5] = ["event", "history", "hub", "delivery", "transport"];

fn sources(folder: &Path) -> Vec<PathBuf> {
    let entries =
        fs::read_dir(folder).expect("a readable folder").map(|it| it.expect("an entry").path());
    entries
        .flat_map(|path| if path.is_dir() { sources(&path) } else { vec![path] })
        .filter(|path| path.extension().is_some_and(|it| it == "rs"))
        .collect()
}

fn source_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

#[test]
fn stages_below_http_know_nothing_of_it() {
    for stage in WITHOUT_HTTP {
        for file in sources(&source_folder().join(stage)) {
            let text = fs::read_to_string(&file).expect("text");
            assert!(!text.contains("actix_"), "{} uses actix", file.display());
            for other in ["gateway", "problem", "publish", "server", "settings", "subscribe"] {
                let path = format!("crate::{other}::");
                let list = format!("\n    {other}::");
                assert!(
                    !text.contains(&path) && !text.contains(&list),
                    "{} uses {other}",
                    file.display()
                );
            }
        }
    }
}

#[test]
fn events_know_nobody() {
    for file in sources(&source_folder().join("event")) {
        let text = fs::read_to_string(&file).expect("text");
        assert!(!text.contains("use crate::"), "{} uses another stage", file.display());
    }
}

#[test]
fn nothing_is_unbounded_and_no_file_is_endless() {
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).join("crates");
    for file in [sources(&source_folder()), sources(&crates)].concat() {
        let text = fs::read_to_string(&file).expect("text");
        assert!(!text.contains("unbounded"), "{} has an unbounded channel", file.display());
        let lines = text.lines().count();
        assert!(lines <= LONGEST, "{} has {lines} lines", file.display());
    }
}

/// Every bound in docs/security.md names existing tests.
#[test]
fn every_bound_names_a_test() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = fs::read_to_string(root.join("docs/security.md")).expect("text");
    let (_, table) = page.split_once("## Bounds").expect("a table of bounds");
    let rows: Vec<&str> = table.lines().filter(|line| line.starts_with("| ")).skip(1).collect();
    assert!(20 < rows.len(), "{} rows", rows.len());
    for row in rows {
        let tests = row.trim_end_matches(['|', ' ']).rsplit('|').next().unwrap_or_default();
        for test in tests.split(',').map(|it| it.trim().trim_matches('`')) {
            let (module, name) = test.split_once("::").unwrap_or_else(|| panic!("no test: {row}"));
            // Only tests that need peers at other addresses are beside the code.
            let folder = if module.starts_with("src/") { "" } else { "tests/api/" };
            let file = root.join(format!("{folder}{module}.rs"));
            let text = fs::read_to_string(&file).unwrap_or_else(|_| panic!("{}", file.display()));
            assert!(text.contains(&format!("fn {name}(")), "{test}");
        }
    }
}
