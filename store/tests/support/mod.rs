//! What the suites share: short ways to make stores and trees, and to run this test program again as another process.
#![allow(dead_code, reason = "each suite uses its part")]

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
};

use envd_store::{
    Digest, Entry, Meta, Node, Root, RootKind, Session, Store, Tree, TreeId, TreePath,
};

pub fn path(text: &str) -> TreePath {
    TreePath::new(text.as_bytes()).unwrap()
}

pub fn mode(mode: u16) -> Meta {
    Meta {
        mode,
        ..Meta::default()
    }
}

pub fn file(content: &[u8], bits: u16) -> Entry {
    Entry {
        meta: mode(bits),
        node: Node::File {
            digest: Digest::of(content),
            size: content.len() as u64,
        },
    }
}

pub fn hard_link(target: &str) -> Entry {
    Entry {
        meta: Meta::default(),
        node: Node::HardLink {
            target: path(target),
        },
    }
}

pub fn tree(entries: &[(&str, Entry)]) -> Tree {
    let mut builder = Tree::builder();
    for (at, entry) in entries {
        builder.insert(path(at), entry.clone()).unwrap();
    }
    builder.finish().unwrap()
}

/// A tree of regular files with their contents stored.
pub fn add_files(session: &Session, files: &[(&str, &[u8], u16)]) -> (Tree, TreeId) {
    let entries: Vec<(&str, Entry)> = files
        .iter()
        .map(|(at, content, bits)| {
            session.put(content, *bits).unwrap();
            (*at, file(content, *bits))
        })
        .collect();
    let tree = tree(&entries);
    let id = session.add_tree(&tree).unwrap();
    (tree, id)
}

pub fn root(name: &str, trees: &[TreeId]) -> Root {
    Root {
        name: name.to_owned(),
        kind: RootKind::Project,
        path: None,
        lock: None,
        trees: trees.to_vec(),
        fetch: Vec::new(),
        created: 1_700_000_000,
    }
}

/// Nothing is damaged, and no dead session is left.
pub fn assert_sound(store: &Store) {
    let report = store.verify(false).unwrap();
    assert!(report.is_clean(), "{:#?}", report.problems);
    let left: Vec<_> = fs::read_dir(store.path("tmp")).unwrap().collect();
    assert!(left.is_empty(), "{left:?}");
}

/// This test program once more, to run only the part called `part` on `store`, as a process of its own.
pub fn part(part: &str, store: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", part, "--nocapture", "--test-threads=1"])
        .env("ENVD_TEST_PART", part)
        .env("ENVD_TEST_STORE", store)
        .stdin(Stdio::null());
    command
}

/// The store that this process was started for as `name`, or `None` in an ordinary run of all tests.
pub fn as_part(name: &str) -> Option<Store> {
    if std::env::var_os("ENVD_TEST_PART")? != name {
        return None;
    }
    let root = std::env::var_os("ENVD_TEST_STORE").unwrap();
    Some(Store::open(Path::new(&root)).unwrap())
}

/// Whether `unshare -rm` works here; if not, says that a test is skipped, which is a failure where all must run.
pub fn can_unshare(test: &str) -> bool {
    let tried = Command::new("unshare")
        .args(["-rm", "true"])
        .stdin(Stdio::null())
        .output();
    let reason = match tried {
        Ok(output) if output.status.success() => return true,
        Ok(output) => String::from_utf8_lossy(&output.stderr).into_owned(),
        Err(error) => error.to_string(),
    };
    assert!(
        std::env::var_os("ENVD_TESTS_MUST_RUN").is_none(),
        "{test} cannot run: {reason}"
    );
    eprintln!("{test} is skipped: `unshare -rm` does not work here: {reason}");
    false
}

/// How many files there are below a directory.
pub fn files(directory: &Path) -> usize {
    let entries = fs::read_dir(directory).unwrap().map(Result::unwrap);
    entries
        .map(|entry| match entry.file_type().unwrap().is_dir() {
            true => files(&entry.path()),
            false => 1,
        })
        .sum()
}
