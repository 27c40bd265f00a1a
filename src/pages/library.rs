//! The browser library as it is served: without its comments, and also as classic scripts.
//!
//! The sources in `static/` are modules with their reasons in comments, and there is no build step.
//! What pages load is made of them when the first page asks.

use std::{borrow::Cow, collections::HashMap, sync::LazyLock};

use bytes::Bytes;
use sha2::{Digest as _, Sha256};

use super::Assets;

/// The files of the library. A classic script is named after its module, and ends with a line of
/// its own instead of the module's exports.
const FILES: [File; 4] = [
    File {
        module: "tidegate.js",
        classic: Some(("tidegate.classic.js", "globalThis.tidegate = { connect, Problem };")),
    },
    File { module: "tidegate-more.js", classic: None },
    File { module: "now.js", classic: Some(("now.classic.js", "globalThis.now = now;")) },
    File { module: "legacy.js", classic: None },
];

struct File {
    module: &'static str,
    classic: Option<(&'static str, &'static str)>,
}

/// A file as it is served.
pub(super) struct Served {
    /// The text.
    pub(super) content: Bytes,
    /// Its strong entity tag, with quotes.
    pub(super) tag: String,
}

static SERVED: LazyLock<HashMap<&'static str, Served>> = LazyLock::new(|| {
    let mut served = HashMap::new();
    for File { module, classic } in FILES {
        let source = Assets::get(module).map_or(Cow::Borrowed(&[][..]), |it| it.data);
        let text = without_comments(&String::from_utf8_lossy(&source));
        if let Some((name, exports)) = classic {
            served.insert(name, Served::new(classic_script(&text, exports)));
        }
        served.insert(module, Served::new(text));
    }
    served
});

/// Returns a file of the library; `None` if the path names another file.
pub(super) fn library(path: &str) -> Option<&'static Served> {
    SERVED.get(path)
}

impl Served {
    fn new(text: String) -> Self {
        let hash = Sha256::digest(&text);
        let tag = super::tag(&hash);
        Self { content: text.into(), tag }
    }
}

/// Drops empty lines, and lines that are comments.
fn without_comments(source: &str) -> String {
    let is_code = |line: &&str| !line.trim().is_empty() && !line.trim_start().starts_with("//");
    source.lines().filter(is_code).fold(String::new(), |text, line| text + line + "\n")
}

/// Makes a classic script of a module: a function, so that its names are not the page's. Its last
/// line, which has the exports, is replaced. A classic script finds its own address elsewhere, and
/// what it imports is there already.
fn classic_script(module: &str, exports: &str) -> String {
    const IMPORT: &str = "import { connect } from \"./tidegate.js\";";
    let body = module.trim_end().rsplit_once('\n').map_or("", |(body, _)| body);
    let body = body
        .replace("import.meta.url", "document.currentScript.src")
        .replace(IMPORT, "const { connect } = globalThis.tidegate;");
    format!("(() => {{\n\"use strict\";\n{body}\n{exports}\n}})();\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_module_ends_with_its_exports_and_every_file_is_served() {
        for File { module, classic } in FILES {
            let text = &library(module).expect("the file is embedded").content;
            let text = std::str::from_utf8(text).expect("text");
            let last = text.trim_end().lines().last().expect("it is not empty");
            if let Some((name, exports)) = classic {
                assert!(last.starts_with("export { "), "{module}: {last}");
                let script = &library(name).expect("a classic script").content;
                let script = std::str::from_utf8(script).expect("text");
                assert!(script.ends_with(&format!("{exports}\n}})();\n")), "{name}");
                for word in ["import.meta", "export ", "import {"] {
                    assert!(!script.contains(word), "{name} has {word}");
                }
            }
            assert!(!text.lines().any(|line| line.trim_start().starts_with("//")), "{module}");
        }
    }

    #[test]
    fn only_whole_lines_are_dropped() {
        let source = "// reason\nconst a = \"http://x\"; // kept\n\n  // reason\n  f();\n";
        assert_eq!(without_comments(source), "const a = \"http://x\"; // kept\n  f();\n");
    }
}
