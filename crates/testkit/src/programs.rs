//! Programs that cargo builds beside the tests.

use std::{env, path::PathBuf};

/// Returns the program of an example: `target/debug/examples/…`, where the test is in
/// `target/debug/deps`.
pub fn example(name: &str) -> PathBuf {
    let this = env::current_exe().expect("this program has a path");
    let target = this.ancestors().nth(2).expect("it lies in the target directory");
    let program = target.join("examples").join(format!("{name}{}", env::consts::EXE_SUFFIX));
    assert!(program.exists(), "{} is missing; run `cargo build --examples`", program.display());
    program
}
