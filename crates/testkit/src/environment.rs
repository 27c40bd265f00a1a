//! The environment of a program under test, without the settings of the machine's user.

use std::{env, ffi::OsStr, process::Command};

/// Prefixes of variables that the gateway reads: its own, and those of other hubs' images.
const PREFIXES: [&str; 2] = ["TIDEGATE_", "MERCURE_"];

/// Further variables of other hubs' images.
const NAMES: [&str; 4] =
    ["CADDY_EXTRA_CONFIG", "CADDY_SERVER_EXTRA_DIRECTIVES", "GLOBAL_OPTIONS", "SERVER_NAME"];

/// A command without the inherited variables that would change what the program does.
pub fn command(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    for (name, _) in env::vars_os() {
        if is_setting(&name.to_string_lossy()) {
            command.env_remove(name);
        }
    }
    command
}

fn is_setting(name: &str) -> bool {
    // Libraries read `http_proxy` in lower and upper case, and its siblings too.
    let is_proxy = name.to_ascii_lowercase().ends_with("_proxy");
    is_proxy || NAMES.contains(&name) || PREFIXES.iter().any(|it| name.starts_with(it))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_and_proxies_are_recognized() {
        for name in ["TIDEGATE_CONFIG", "MERCURE_TRUSTED_ISSUERS", "SERVER_NAME", "https_proxy"] {
            assert!(is_setting(name), "{name}");
        }
        for name in ["NO_PROXY", "ALL_PROXY"] {
            assert!(is_setting(name), "{name}");
        }
        for name in ["PATH", "TMPDIR", "SERVER_NAMES", "CARGO_TARGET_DIR"] {
            assert!(!is_setting(name), "{name}");
        }
    }
}
