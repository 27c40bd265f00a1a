//! The browser library: its scripted cases, its types, and what the gateway serves.

use std::path::Path;

use tidegate_testkit::{deadline::in_time, environment};
use tokio::process::Command;

use crate::support::{Gateway, folder_of_libraries, installed};

/// The folder with the tests' sources.
const TESTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests");

/// Runs Node.js in `folder` to its end, which must be a success. Without Node.js or the libraries
/// nothing is run, unless the environment requires every test.
async fn run_node(folder: &Path, arguments: &[&str]) {
    if installed().await.is_empty() {
        return;
    }
    let mut command = environment::command("node");
    command.args(arguments).current_dir(folder);
    let output = in_time("Node.js to end", Command::from(command).kill_on_drop(true).output());
    let output = output.await.expect("the program starts");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{}\n{}", text(&output.stdout), text(&output.stderr));
}

#[tokio::test]
async fn it_does_what_the_scripts_say() {
    let arguments =
        ["--experimental-vm-modules", "--no-warnings", "--test-force-exit", "--test", "library/"];
    run_node(Path::new(TESTS), &arguments).await;
}

#[tokio::test]
async fn it_is_served_small_and_to_the_browsers_that_it_is_for() {
    let gateway = Gateway::start(&[]).await;
    let origin = format!("http://{}", gateway.address);
    let program = include_str!("served.mjs");
    let arguments = ["--input-type=module", "--eval", program, "--", &origin];
    run_node(&folder_of_libraries(), &arguments).await;
}

#[tokio::test]
async fn its_types_are_those_of_its_guide() {
    let compiler = folder_of_libraries().join("node_modules/typescript/bin/tsc");
    let compiler = compiler.to_str().expect("text");
    let options = "--noEmit --strict --target es2022 --lib es2022,dom --module nodenext";
    let arguments: Vec<_> = [compiler].into_iter().chain(options.split(' ')).collect();
    let arguments = [&arguments[..], &["clients/types/use.ts"]].concat();
    run_node(Path::new(TESTS), &arguments).await;
}
