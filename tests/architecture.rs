//! The rules of the house that a compiler does not know: which stage may know which, and how long a file may be.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// Lines that a file may have.
const LONGEST: usize = 500;

/// Stages that know nothing of HTTP.
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
