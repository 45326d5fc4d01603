//! The map of ARCHITECTURE.md, held: which room may know which, where unsafe code may live, and how long a file may be.
//! A user loses nothing today when this fails; the next change loses its way.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use envd_tests::sandbox::workspace;

/// Each room and the rooms it may name in its manifest.
const ARROWS: [(&str, &[&str]); 10] = [
    (
        "envd",
        &[
            "envd-agents",
            "envd-oci",
            "envd-shims",
            "envd-trampoline",
            "envd-store",
            "envd-init",
            "envd-supervision",
        ],
    ),
    ("agents", &["envd-shims", "envd-store", "envd-init"]),
    ("oci", &["envd-store"]),
    ("shims", &["envd-init"]),
    ("shims/trampoline", &["envd-init"]),
    ("store", &[]),
    ("init", &[]),
    ("init/supervision", &[]),
    (
        "tests",
        &[
            "envd",
            "envd-agents",
            "envd-oci",
            "envd-shims",
            "envd-store",
            "envd-init",
            "envd-supervision",
        ],
    ),
    ("tests/xtask", &[]),
];

/// The modules in which unsafe code may live: the layers that speak to the kernel.
const UNSAFE_MODULES: [&str; 4] = [
    "init/src/sys/",
    "init/src/freestanding.rs",
    "shims/src/sys.rs",
    "shims/src/sys/",
];

fn manifest(room: &str) -> toml::Table {
    let path = workspace().join(room).join("Cargo.toml");
    let text = std::fs::read_to_string(&path)
        .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    text.parse()
        .unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Names of all dependencies, of every kind and for every target.
fn dependencies(table: &toml::Table, found: &mut BTreeSet<String>) {
    for (key, value) in table {
        let Some(inner) = value.as_table() else {
            continue;
        };
        if key.ends_with("dependencies") {
            for (name, specification) in inner {
                let real = specification.get("package").and_then(|name| name.as_str());
                found.insert(real.unwrap_or(name).to_owned());
            }
        } else if key == "target" || key.starts_with("cfg(") {
            dependencies(inner, found);
        }
    }
}

/// Every Rust source of the rooms, relative to the workspace, with its text.
fn sources() -> BTreeMap<PathBuf, String> {
    fn walk(directory: &Path, root: &Path, sources: &mut BTreeMap<PathBuf, String>) {
        for entry in std::fs::read_dir(directory).expect("readable").flatten() {
            let path = entry.path();
            if path.is_dir() {
                walk(&path, root, sources);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let name = path.strip_prefix(root).expect("below").to_owned();
                sources.insert(name, std::fs::read_to_string(&path).expect("text"));
            }
        }
    }
    let root = workspace();
    let mut sources = BTreeMap::new();
    for (room, _) in ARROWS {
        // tests/ holds xtask/, which is a room of the list itself.
        for part in ["src", "tests", "benches", "build.rs"] {
            let path = root.join(room).join(part);
            if path.is_dir() {
                walk(&path, &root, &mut sources);
            }
        }
    }
    assert!(
        sources.len() > 20,
        "the sources are not where they should be"
    );
    sources
}

#[test]
fn arrows_go_down_only() {
    let members: BTreeSet<_> = manifest("")["workspace"]["members"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|member| member.as_str().expect("a folder").to_owned())
        .collect();
    let known: BTreeSet<_> = ARROWS.iter().map(|(room, _)| (*room).to_owned()).collect();
    assert_eq!(
        members, known,
        "a room is missing from the map or from the workspace"
    );
    let rooms: BTreeMap<_, _> = ARROWS
        .iter()
        .map(|(room, _)| {
            let name = manifest(room)["package"]["name"]
                .as_str()
                .expect("a name")
                .to_owned();
            (name, *room)
        })
        .collect();
    for (room, allowed) in ARROWS {
        let mut named = BTreeSet::new();
        dependencies(&manifest(room), &mut named);
        for name in named.iter().filter(|name| rooms.contains_key(*name)) {
            assert!(
                allowed.contains(&name.as_str()),
                "{room}/ must not know {name} (ARCHITECTURE.md draws the map)"
            );
        }
    }
}

#[test]
fn every_room_is_under_the_lints() {
    let lints = &manifest("")["workspace"]["lints"];
    assert_eq!(lints["rust"]["unsafe_code"].as_str(), Some("deny"));
    assert!(lints["rust"].get("missing_docs").is_some());
    assert_eq!(
        lints["clippy"]["undocumented_unsafe_blocks"].as_str(),
        Some("deny")
    );
    for (room, _) in ARROWS {
        let manifest = manifest(room);
        assert_eq!(
            manifest
                .get("lints")
                .and_then(|lints| lints.get("workspace")),
            Some(&toml::Value::Boolean(true)),
            "{room}/Cargo.toml does not inherit the workspace's lints"
        );
    }
    for room in [
        "envd",
        "agents",
        "oci",
        "store",
        "init/supervision",
        "tests",
    ] {
        let root = workspace().join(room).join("src/lib.rs");
        let text = std::fs::read_to_string(&root).expect("a crate root");
        assert!(
            text.contains("#![forbid(unsafe_code)]"),
            "{} does not forbid unsafe code",
            root.display()
        );
    }
}

#[test]
fn unsafe_code_lives_in_the_named_modules() {
    for (path, text) in sources() {
        let name = path.to_str().expect("our own names");
        if UNSAFE_MODULES.iter().any(|module| name.starts_with(module)) {
            continue;
        }
        for (number, line) in text.lines().enumerate() {
            let code = line.trim_start();
            if code.starts_with("//") {
                continue;
            }
            let opens = [
                concat!("un", "safe {"),
                concat!("un", "safe fn"),
                concat!("un", "safe impl"),
                concat!("un", "safe extern"),
                concat!("un", "safe("),
            ];
            assert!(
                !opens.iter().any(|keyword| code.contains(keyword)),
                "{name}:{}: unsafe code outside {UNSAFE_MODULES:?}",
                number + 1
            );
        }
        let lifts_the_lint = text.lines().any(|line| {
            let line = line.trim_start();
            !line.starts_with("//") && line.contains(concat!("allow(", "unsafe_code)"))
        });
        // The module's own declaration may stand in its parent.
        let declares_sys = text.contains("mod sys;");
        assert!(
            !lifts_the_lint || declares_sys,
            "{name} lifts the lint against unsafe code"
        );
    }
}

#[test]
fn files_stay_short_or_say_why() {
    let mut lengths = Vec::new();
    for (path, text) in sources() {
        let length = text.lines().count();
        lengths.push(length);
        let head: String = text
            .lines()
            .take_while(|line| line.starts_with("//!"))
            .collect();
        assert!(
            length <= 600 || head.contains("one thing") || head.contains("one file"),
            "{} has {length} lines and its first comment does not say why it is one thing",
            path.display()
        );
    }
    lengths.sort_unstable();
    let median = lengths[lengths.len() / 2];
    assert!(median < 250, "the median file has {median} lines");
}

/// A stub that is shipped is a promise broken in silence.
#[test]
fn nothing_is_left_to_do() {
    for (path, text) in sources() {
        for word in [
            concat!("TO", "DO"),
            concat!("FIX", "ME"),
            concat!("unimplemented", "!("),
            concat!("todo", "!("),
            concat!("#[ig", "nore"),
        ] {
            assert!(!text.contains(word), "{} contains {word}", path.display());
        }
    }
}
