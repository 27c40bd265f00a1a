use std::{path::Path, process::Command};

use crate::support::Gateway;

const GUIDE: &str = include_str!("../../docs/troubleshooting.md");
const INDEX: &str = include_str!("../../docs/README.md");

/// The commands of the guide that have an output, and the parts of the output.
fn commands() -> Vec<(&'static str, Vec<&'static str>)> {
    let mut found = Vec::new();
    for block in GUIDE.split("```sh\n").skip(1) {
        let (command, rest) = block.split_once("```").expect("a block ends");
        if let Some(output) = rest.trim_start().strip_prefix("```text\n") {
            let (output, _) = output.split_once("```").expect("a block ends");
            found.push((command, output.lines().collect()));
        }
    }
    found
}

#[tokio::test]
async fn the_commands_of_the_troubleshooting_guide_print_what_it_says() {
    let gateway = Gateway::start();
    let origin = gateway.url("");
    let binary = Path::new(env!("CARGO_BIN_EXE_tidegate")).parent().expect("a folder");
    let path = format!("{}:{}", binary.display(), std::env::var("PATH").expect("a path"));
    let commands = commands();
    assert!(12 < commands.len(), "{}", commands.len());
    for (command, parts) in commands {
        let command = command.replace("http://127.0.0.1:3000", &origin);
        let path = path.clone();
        let output = tokio::task::spawn_blocking(move || {
            Command::new("sh").args(["-c", &command]).env("PATH", path).output()
        });
        let output = output.await.expect("no panic").expect("there is a shell");
        let output = String::from_utf8(output.stdout).expect("text");
        let mut rest = output.as_str();
        for part in parts {
            let at = rest.find(part);
            let at = at.unwrap_or_else(|| panic!("{part} is not in {output}"));
            rest = &rest[at + part.len()..];
        }
    }
}

#[test]
fn the_index_has_every_guide() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs");
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let name = entry.expect("an entry").file_name().into_string().expect("text");
        if name.ends_with(".md") && name != "README.md" {
            assert!(INDEX.contains(&format!("]({name})")), "{name}");
        }
    }
}
