//! Project rules that a compiler does not check: which room may use which, cycles of files, the
//! length of files and of comment lines, and the tests behind the bounds in docs/security.md.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use syn::{Item, UseTree};

/// The most lines of a file.
const LONGEST: usize = 500;

/// The last column of a comment.
const LAST_COLUMN: usize = 100;

/// The rooms of the gateway, and the rooms that each may use. ARCHITECTURE.md shows this list.
const GATEWAY: &[(&str, &[&str])] = &[
    ("settings", &[]),
    ("auth", &["settings"]),
    ("telemetry", &["settings"]),
    ("hooks", &["settings"]),
    ("listen", &["settings"]),
    ("policy", &["settings"]),
    ("gateway", &["auth", "hooks", "policy", "settings", "telemetry"]),
    ("http", &["auth", "gateway", "listen", "settings", "telemetry"]),
    ("pages", &["gateway", "http", "settings"]),
    ("realtime", &["gateway", "http"]),
    ("app", &["gateway", "http", "realtime", "settings"]),
    (
        "api",
        &[
            "app",
            "auth",
            "gateway",
            "http",
            "listen",
            "pages",
            "policy",
            "realtime",
            "settings",
            "telemetry",
        ],
    ),
    ("ops", &["gateway", "http"]),
    ("server", &["api", "auth", "gateway", "http", "listen", "ops", "pages", "settings"]),
    ("cli", &["auth", "gateway", "server", "settings", "telemetry"]),
    ("fuzzing", &["api", "auth", "http", "settings"]),
    ("lib", &["http"]),
    ("main", &[]),
];

/// The rooms of the core.
const CORE: &[(&str, &[&str])] = &[
    ("event", &[]),
    ("clock", &[]),
    ("random", &[]),
    ("shrink", &[]),
    ("budget", &["shrink"]),
    ("matching", &["event", "shrink"]),
    ("history", &["clock", "event", "matching"]),
    ("ledger", &["history"]),
    ("transport", &["event", "history", "matching"]),
    ("hub", &["event", "history", "matching", "transport"]),
    ("delivery", &["budget", "event", "history", "hub", "matching", "transport"]),
    ("calls", &["event", "random"]),
    ("clients", &["budget", "delivery", "event", "history", "hub", "matching", "transport"]),
    ("jobs", &["clock", "event", "history", "hub", "random", "transport"]),
    ("state", &["clock", "event", "history", "hub", "matching", "transport"]),
    ("subscriptions", &["event", "history", "hub", "matching", "transport"]),
    ("lib", &[]),
];

/// Files that use each other.
const KNOWN_CIRCLES: &[&str] = &[];

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn files(folder: &Path, extension: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).expect("a readable folder");
    let mut files: Vec<_> = entries
        .map(|it| it.expect("an entry").path())
        .flat_map(|path| if path.is_dir() { files(&path, extension) } else { vec![path] })
        .filter(|path| path.extension().is_some_and(|it| it == extension))
        .collect();
    files.sort();
    files
}

/// The folders of sources: that of the gateway and those of the other packages.
fn source_folders() -> Vec<PathBuf> {
    let crates = fs::read_dir(root().join("crates")).expect("a readable folder");
    let mut folders: Vec<_> = crates.map(|it| it.expect("an entry").path().join("src")).collect();
    folders.push(root().join("src"));
    folders
}

/// A module of a package: its path, and the paths that it uses, tests left out.
struct Module {
    file: PathBuf,
    path: Vec<String>,
    uses: BTreeSet<Vec<String>>,
}

fn modules(folder: &Path) -> Vec<Module> {
    let parse = |file: PathBuf| {
        let text = fs::read_to_string(&file).expect("text");
        let path = file.strip_prefix(folder).expect("below").with_extension("");
        let mut path: Vec<String> =
            path.iter().map(|it| it.to_str().expect("text").to_owned()).collect();
        if path.last().is_some_and(|it| it == "mod") {
            path.pop();
        }
        let mut uses = BTreeSet::new();
        let parsed = syn::parse_file(&text).expect("Rust");
        used(&parsed.items, &path, &mut uses);
        // Paths that are written out where they are used. Links in comments are no use.
        let is_code = |it: &&str| !it.trim_start().starts_with("//");
        let code: String = text.lines().filter(is_code).collect();
        for (_, rest) in code.match_indices("crate::").map(|(at, it)| code.split_at(at + it.len()))
        {
            let end = rest.find(|it: char| !it.is_alphanumeric() && !"_:".contains(it));
            let written = &rest[..end.unwrap_or(rest.len())];
            uses.insert(written.split("::").map(ToOwned::to_owned).collect());
        }
        Module { file, path, uses }
    };
    let is_test = |it: &PathBuf| {
        let name = it.file_stem().and_then(|it| it.to_str()).unwrap_or_default();
        name == "tests" || name.ends_with("_tests")
    };
    files(folder, "rs").into_iter().filter(|it| !is_test(it)).map(parse).collect()
}

/// Collects the paths of `use` items, as paths from the package's root.
fn used(items: &[Item], path: &[String], uses: &mut BTreeSet<Vec<String>>) {
    for item in items {
        if let Item::Use(item) = item {
            let mut leaves = Vec::new();
            leaves_of(&item.tree, &mut Vec::new(), &mut leaves);
            uses.extend(leaves.iter().filter_map(|leaf| absolute(leaf, path)));
        }
    }
}

fn leaves_of(tree: &UseTree, prefix: &mut Vec<String>, leaves: &mut Vec<Vec<String>>) {
    match tree {
        UseTree::Path(path) => {
            prefix.push(path.ident.to_string());
            leaves_of(&path.tree, prefix, leaves);
            prefix.pop();
        }
        UseTree::Group(group) => {
            group.items.iter().for_each(|it| leaves_of(it, prefix, leaves));
        }
        UseTree::Name(name) => leaves.push([&prefix[..], &[name.ident.to_string()]].concat()),
        UseTree::Rename(name) => leaves.push([&prefix[..], &[name.ident.to_string()]].concat()),
        UseTree::Glob(_) => leaves.push(prefix.clone()),
    }
}

fn absolute(leaf: &[String], path: &[String]) -> Option<Vec<String>> {
    let n_supers = leaf.iter().take_while(|it| *it == "super").count();
    let (base, rest) = match leaf.first()?.as_str() {
        "crate" => (&[][..], &leaf[1..]),
        "self" => (path, &leaf[1..]),
        "super" => (&path[..path.len().saturating_sub(n_supers)], &leaf[n_supers..]),
        _ => return None,
    };
    Some([base, rest].concat())
}

fn check_rooms(folder: &Path, rooms: &[(&str, &[&str])]) {
    let allowed: BTreeMap<_, _> = rooms.iter().copied().collect();
    for module in modules(folder) {
        let room = module.path.first().map_or("lib", String::as_str);
        let may_use = allowed.get(room).unwrap_or_else(|| panic!("{room} is not on the list"));
        for used in module.uses.iter().filter_map(|it| it.first()) {
            let is_room = allowed.contains_key(used.as_str());
            assert!(
                !is_room || used == room || may_use.contains(&used.as_str()),
                "{} uses {used}, which {room} may not",
                module.file.display()
            );
        }
    }
}

#[test]
fn every_room_uses_only_what_it_may() {
    check_rooms(&root().join("src"), GATEWAY);
    check_rooms(&root().join("crates/core/src"), CORE);
    for rooms in [GATEWAY, CORE] {
        for (at, (room, uses)) in rooms.iter().enumerate() {
            let below: Vec<_> = rooms[..at].iter().map(|(it, _)| *it).collect();
            assert!(
                *room == "lib" || uses.iter().all(|it| below.contains(it)),
                "{room} uses a room that is not below it"
            );
        }
    }
}

/// The module that defines what a path names, found through the modules that hand it on.
fn target<'m>(modules: &'m [Module], path: &[String]) -> Option<&'m Module> {
    let mut ends = (1..=path.len()).rev();
    let found = ends.find_map(|end| Some((end, modules.iter().find(|it| it.path == path[..end])?)));
    let (end, module) = found?;
    let handed_on = path.get(end).and_then(|name| {
        let is_it = |it: &&Vec<String>| it.last() == Some(name) && it.starts_with(&module.path);
        module.uses.iter().filter(is_it).find(|it| **it != *path)
    });
    handed_on.and_then(|it| target(modules, it)).or(Some(module))
}

/// The files that each file uses. A folder's own module only hands on what its files define.
fn edges(modules: &[Module]) -> BTreeMap<&Path, BTreeSet<&Path>> {
    let uses = |module: &Module| {
        let targets = module.uses.iter().filter_map(|it| target(modules, it));
        let files = targets.map(|it| it.file.as_path()).filter(|it| *it != module.file);
        files.filter(|it| it.file_stem().is_some_and(|it| it != "mod")).collect()
    };
    let is_file = |it: &&Module| it.file.file_stem().is_some_and(|it| it != "mod" && it != "lib");
    modules.iter().filter(is_file).map(|it| (it.file.as_path(), uses(it))).collect()
}

#[test]
fn no_files_use_each_other_in_a_circle() {
    let mut circular = BTreeSet::new();
    for folder in source_folders() {
        let modules = modules(&folder);
        let edges = edges(&modules);
        for file in edges.keys() {
            let (mut found, mut next) = (BTreeSet::new(), vec![*file]);
            while let Some(file) = next.pop() {
                let targets = edges.get(file).into_iter().flatten();
                next.extend(targets.filter(|it| found.insert(**it)));
            }
            if found.contains(file) {
                let name = file.strip_prefix(root()).expect("below").display().to_string();
                circular.insert(name);
            }
        }
    }
    let known: BTreeSet<String> = KNOWN_CIRCLES.iter().map(|it| (*it).to_owned()).collect();
    assert_eq!(circular, known, "files that use each other in circles");
}

#[test]
fn the_core_knows_no_http_and_nothing_is_unbounded_or_endless() {
    for folder in source_folders() {
        let is_core = folder.ends_with("core/src");
        for file in files(&folder, "rs") {
            let (text, name) = (fs::read_to_string(&file).expect("text"), file.display());
            assert!(!text.contains("unbounded"), "{name} has an unbounded channel");
            let http = ["actix_", "reqwest", "hyper::"].into_iter().find(|it| text.contains(it));
            assert!(!is_core || http.is_none(), "{name} uses {http:?}");
            let n_lines = text.lines().count();
            assert!(n_lines <= LONGEST, "{name} has {n_lines} lines");
            for (at, line) in text.lines().enumerate() {
                let is_comment = line.trim_start().starts_with("//");
                let is_long = is_comment && LAST_COLUMN < line.chars().count();
                assert!(!is_long, "{name}:{} ends after column {LAST_COLUMN}", at + 1);
            }
        }
    }
}

/// Every bound in docs/security.md names existing tests.
#[test]
fn every_bound_names_a_test() {
    let page = fs::read_to_string(root().join("docs/security.md")).expect("text");
    let (_, table) = page.split_once("## Bounds").expect("a table of bounds");
    let rows: Vec<&str> = table.lines().filter(|line| line.starts_with("| ")).skip(1).collect();
    assert!(20 < rows.len(), "{} rows", rows.len());
    for row in rows {
        let tests = row.trim_end_matches(['|', ' ']).rsplit('|').next().unwrap_or_default();
        for test in tests.split(',').map(|it| it.trim().trim_matches('`')) {
            let (module, name) = test.split_once("::").unwrap_or_else(|| panic!("no test: {row}"));
            // Only tests that need peers at other addresses are beside the code.
            let folder = if module.starts_with("src/") { "" } else { "tests/api/" };
            let file = root().join(format!("{folder}{module}.rs"));
            let text = fs::read_to_string(&file).unwrap_or_else(|_| panic!("{}", file.display()));
            assert!(text.contains(&format!("fn {name}(")), "{test}");
        }
    }
}
