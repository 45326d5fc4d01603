//! Several calls of `py3compile -p PACKAGE` by one step. Most of such a call is its program's start: 60 of 80 ms on the
//! machine where 16 calls were measured. So it is loaded once, and a copy of the process makes each call; the byte-code itself
//! is made by Python processes of each call's own, as ever, since what a process did before shows in it.
//!
//! What the calls wrote is told apart afterwards, by whose source it was made of, so that each has the layer that it has alone.

use std::{collections::BTreeMap, ffi::OsString};

use envd_store::{Entry, Node, Store, Tree, TreeError, TreePath};
use memchr::memmem;

use super::{deferred::Call, recipe};
use crate::realise::{
    RealiseError,
    compose::{self, Package},
};

/// The program that is called.
const PROGRAM: &str = "usr/bin/py3compile";
/// What it must have for the driver to be able to do this. Its first line says which Python it wants.
const HEADS: [&str; 2] = ["#! /usr/bin/python3\n", "#!/usr/bin/python3\n"];
const PARTS: [&str; 2] = [
    "\ndef main():\n",
    "\nif __name__ == '__main__':\n    main()\n",
];

/// The driver's file in the step's workplace.
pub(super) const NAME: &str = "together";
/// The driver.
pub(super) const DRIVER: &str = "\
import os, sys
path = sys.argv[1]
with open(path, encoding='utf-8') as file:
    code = compile(file.read(), path, 'exec')
program = {'__name__': 'together', '__file__': path}
exec(code, program)
for package in sys.argv[2:]:
    print('@step', path, '-p', package, flush=True)
    child = os.fork()
    if child == 0:
        sys.argv = [path, '-p', package]
        program['main']()
        sys.exit(0)
    if os.waitpid(child, 0)[1] != 0:
        sys.exit(1)
";

/// Whether this root's program is one that the driver can call.
pub(super) fn can_drive(store: &Store, root: &Tree) -> Result<bool, RealiseError> {
    let Some(text) = compose::read(store, root, PROGRAM)? else {
        return Ok(false);
    };
    let has = |part: &str| memmem::find(&text, part.as_bytes()).is_some();
    let head = HEADS.iter().any(|head| text.starts_with(head.as_bytes()));
    Ok(head && PARTS.into_iter().all(has))
}

/// The package that a call of this kind is about.
pub(super) fn package(call: &Call) -> Option<&str> {
    match &call[..] {
        [program, option, package]
            if program.to_str()?.strip_prefix('/') == Some(PROGRAM) && option == "-p" =>
        {
            package.to_str()
        }
        _ => None,
    }
}

/// The command that makes the calls for these packages.
pub(super) fn command<'c>(packages: impl Iterator<Item = &'c str>) -> Vec<OsString> {
    let driver = format!("{}/{NAME}", recipe::WORKPLACE);
    let words = ["/usr/bin/python3".into(), driver, format!("/{PROGRAM}")];
    let packages = packages.map(str::to_owned);
    words.into_iter().chain(packages).map(Into::into).collect()
}

/// The layers that calls would have had each for itself. None where anything in the layer of all cannot be told to be of
/// one of them.
pub(super) fn parts(
    calls: &[&Call],
    whole: &Tree,
    packages: &[&Package],
) -> Result<Vec<Tree>, TreeError> {
    let sources: Vec<Vec<&Tree>> = calls
        .iter()
        .map(|call| {
            // Possibly with an architecture, `python3-yaml:amd64`.
            let name = package(call).and_then(|name| name.split(':').next());
            let named = packages
                .iter()
                .filter(|package| Some(package.name.as_str()) == name);
            named.map(|package| &package.tree).collect()
        })
        .collect();
    let mut builders = Vec::new();
    builders.resize_with(calls.len(), || Tree::builder().layer());
    let mut directories = BTreeMap::new();
    for (path, entry) in whole {
        match entry.node {
            Node::Directory if path.name() == b"__pycache__" => {
                directories.insert(path.clone(), (entry, false));
            }
            Node::File { .. } => {
                let Some(source) = source_of(path) else {
                    return Ok(Vec::new());
                };
                let has = |trees: &Vec<&Tree>| trees.iter().any(|tree| tree.get(&source).is_some());
                let owners: Vec<usize> = (0..calls.len()).filter(|&at| has(&sources[at])).collect();
                let [owner] = owners[..] else {
                    return Ok(Vec::new());
                };
                builders[owner].insert(path.clone(), entry.clone())?;
                if let Some(parent) = path.parent()
                    && let Some((directory, is_used)) = directories.get_mut(&parent)
                {
                    *is_used = true;
                    let directory: &Entry = directory;
                    builders[owner].insert(parent, directory.clone())?;
                }
            }
            _ => return Ok(Vec::new()),
        }
    }
    if directories.values().any(|(_, is_used)| !is_used) {
        return Ok(Vec::new());
    }
    builders
        .into_iter()
        .map(|builder| builder.finish())
        .collect()
}

/// Where in its package's tree the source of a file of byte-code is: `D/__pycache__/N.cpython-311.pyc` is made of `D/N.py`
/// (PEP 3147).
fn source_of(path: &TreePath) -> Option<TreePath> {
    let name = path.name().strip_suffix(b".pyc")?;
    let stem = &name[..memmem::rfind(name, b".cpython-")?];
    let cache = path.parent()?;
    if cache.name() != b"__pycache__" {
        return None;
    }
    let directory = cache.parent()?;
    TreePath::new(&[b"data/", directory.as_bytes(), b"/", stem, b".py"].concat()).ok()
}

#[cfg(test)]
mod tests {
    use std::sync::OnceLock;

    use envd_store::{Digest, Meta};

    use super::*;

    fn tree(entries: &[&str], layer: bool) -> Tree {
        let mut builder = Tree::builder();
        if layer {
            builder = builder.layer();
        }
        for text in entries {
            let path = TreePath::new(text.trim_end_matches('/').as_bytes()).unwrap();
            let entry = if text.ends_with('/') {
                Entry::directory(Meta::directory())
            } else {
                Entry {
                    meta: Meta::default(),
                    node: Node::File {
                        digest: Digest::of(text.as_bytes()),
                        size: 1,
                    },
                }
            };
            builder.insert(path, entry).unwrap();
        }
        builder.finish().unwrap()
    }

    fn packed(name: &str, files: &[&str]) -> Package {
        let tree = tree(files, false);
        Package {
            id: tree.id(),
            tree,
            name: name.to_owned(),
            version: "1".to_owned(),
            architecture: "all".to_owned(),
            control: String::new(),
            preinst: false,
            postinst: true,
            essential: false,
            depends: Vec::new(),
            provides: Vec::new(),
            triggers: Vec::new(),
            placed: OnceLock::new(),
        }
    }

    fn call(words: &[&str]) -> Call {
        words.iter().map(OsString::from).collect()
    }

    #[test]
    fn byte_code_is_its_source_s_package_s() {
        let packages = [
            packed("a", &["data/usr/l/one.py", "data/usr/l/sub/x.y.py"]),
            packed("b", &["data/usr/l/two.py"]),
        ];
        let packages: Vec<&Package> = packages.iter().collect();
        let calls = ["a:amd64", "b"].map(|name| call(&["/usr/bin/py3compile", "-p", name]));
        let calls: Vec<&Call> = calls.iter().collect();
        let made = |entries: &[&str]| parts(&calls, &tree(entries, true), &packages).unwrap();
        let of_a = [
            "usr/l/__pycache__/",
            "usr/l/__pycache__/one.cpython-311.pyc",
            "usr/l/sub/__pycache__/",
            "usr/l/sub/__pycache__/x.y.cpython-311.pyc",
        ];
        let of_b = [
            "usr/l/__pycache__/",
            "usr/l/__pycache__/two.cpython-311.opt-1.pyc",
        ];
        let both = [&of_a[..], &of_b[1..]].concat();
        assert_eq!(made(&both), [tree(&of_a, true), tree(&of_b, true)]);
        // A directory that was there is of nobody.
        assert_eq!(made(&of_b[1..]), [tree(&[], true), tree(&of_b[1..], true)]);
        for more in [
            "usr/l/__pycache__/three.cpython-311.pyc",
            "usr/l/one.pyc",
            "var/log/x",
            "usr/other/",
            "usr/other/__pycache__/",
        ] {
            let both = [&both[..], &[more]].concat();
            assert!(made(&both).is_empty(), "{more}");
        }
    }

    #[test]
    fn calls_with_anything_more_are_made_alone() {
        let of = |words: &[&str]| package(&call(words)).map(str::to_owned);
        assert_eq!(
            of(&["/usr/bin/py3compile", "-p", "six"]),
            Some("six".into())
        );
        assert_eq!(of(&["/usr/bin/py3compile", "-p", "six", "/usr/x"]), None);
        assert_eq!(of(&["/usr/sbin/update-ca-certificates"]), None);
    }
}
