//! Making libraries known, at the end and over the whole root. Every other library activates this trigger, so that serving
//! it as dpkg does would have one package more configure everything anew; and its inputs are few.

use envd_store::{Digest, Node, Tree, TreePath};

use super::{
    Run, recipe,
    step::{self, Job},
};
use crate::realise::{
    RealiseError, checked,
    compose::Package,
    key::{KeyHasher, subtree},
    strata::LDCONFIG,
};

/// What is run.
const PROGRAM: &str = "usr/sbin/ldconfig";
/// Where it finds directories to look into, beside its own (ldconfig(8)).
const CONFIGURATION: [&str; 2] = ["etc/ld.so.conf", "etc/ld.so.conf.d"];

impl Run<'_> {
    /// The root with the libraries of these packages, for which nothing else was run, made known.
    pub(super) fn with_libraries(
        &mut self,
        root: Tree,
        packages: &[&Package],
    ) -> Result<Tree, RealiseError> {
        let activates = |package: &&Package| {
            let mut triggers = package.triggers.iter();
            triggers.any(|trigger| !trigger.interest && trigger.name == LDCONFIG)
        };
        if root.get(&checked(PROGRAM)).is_none() || !packages.iter().any(activates) {
            return Ok(root);
        }
        let key = key(&root);
        let layer = match self.session().store().memo(&key) {
            Some(layer) => layer,
            None => {
                let step = self.bare_step(vec![format!("/{PROGRAM}").into()])?;
                let session = self.session();
                let (view, id) = std::thread::scope(|scope| {
                    let id = scope.spawn(|| session.add_tree(&root));
                    (self.view(&root), id.join())
                });
                let id = id.unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
                let job = Job {
                    lowers: vec![view?],
                    below: vec![id],
                    ..Job::new(session, vec![step])
                };
                let made = step::start(self.configuration.program, &job, 1)
                    .and_then(|running| running.wait(&mut |_| {}, &mut |_, _| {}))
                    .map_err(RealiseError::Step)?;
                self.session().set_memo(&key, &made[0])?;
                made[0]
            }
        };
        self.kept.push(layer);
        let layer = self.session().store().tree(&layer)?;
        root.apply(&layer).map_err(RealiseError::Tree)
    }
}

/// What the result depends on: the program, its configuration, and all that is called like a library (it looks at nothing
/// else), with the directories that lead there.
fn key(root: &Tree) -> Digest {
    let mut hasher = KeyHasher::new("libraries");
    for word in recipe::words() {
        hasher.word(word.as_bytes());
    }
    for path in CONFIGURATION.into_iter().chain([PROGRAM]) {
        hasher.word(subtree(root, path).as_bytes());
    }
    let mut elsewhere = false;
    for (path, entry) in root {
        let library = is_library(path.name());
        match &entry.node {
            Node::Symlink { target } if library => {
                elsewhere |= !is_library(target.rsplit(|&b| b == b'/').next().unwrap_or(target));
                hasher.word(path.as_bytes());
                hasher.word(target);
            }
            // It may stand for a directory on the way.
            Node::Symlink { target } if !is_to_file(root, path, target) => {
                hasher.word(path.as_bytes());
                hasher.word(target);
            }
            Node::File { .. } | Node::HardLink { .. } if library => {
                hasher.word(path.as_bytes());
                if let Some((digest, _)) = root.content_of(entry) {
                    hasher.word(digest.as_bytes());
                }
            }
            _ => {}
        }
    }
    // A library that is a link to what is not called like one: then anything may matter.
    if elsewhere {
        hasher.word(root.id().0.as_bytes());
    }
    hasher.finish()
}

/// Whether a link is to a file, as far as its words tell.
fn is_to_file(root: &Tree, link: &TreePath, target: &[u8]) -> bool {
    let mut words: Vec<&[u8]> = match target.strip_prefix(b"/") {
        Some(_) => Vec::new(),
        None => link.as_bytes().split(|&b| b == b'/').collect(),
    };
    // The link's own name.
    words.pop();
    for word in target.split(|&b| b == b'/') {
        match word {
            b"" | b"." => {}
            b".." => drop(words.pop()),
            word => words.push(word),
        }
    }
    let target = TreePath::new(&words.join(&b'/'));
    let entry = target.ok().and_then(|target| root.get(&target));
    entry.is_some_and(|entry| matches!(entry.node, Node::File { .. } | Node::HardLink { .. }))
}

fn is_library(name: &[u8]) -> bool {
    memchr::memmem::find(name, b".so").is_some()
}

#[cfg(test)]
mod tests {
    use envd_store::{Entry, Meta};

    use super::*;

    fn root(files: &[(&str, &str)]) -> Tree {
        let mut builder = Tree::builder();
        for (path, content) in files {
            let path = TreePath::new(path.as_bytes()).unwrap();
            let entry = match content.strip_prefix("-> ") {
                Some(target) => Entry::symlink(target),
                None => Entry {
                    meta: Meta::default(),
                    node: Node::File {
                        digest: Digest::of(content.as_bytes()),
                        size: content.len() as u64,
                    },
                },
            };
            builder.insert(path, entry).unwrap();
        }
        builder.finish().unwrap()
    }

    /// A cache that lacks a library is a program that does not start.
    #[test]
    fn every_library_and_nothing_else_counts() {
        let base = [("usr/sbin/ldconfig", "p"), ("usr/lib/libc.so.6", "c")];
        let with = |more: &[(&str, &str)]| key(&root(&[&base, more].concat()));
        let plain = with(&[]);
        let tool = [("usr/bin/tree", "t"), ("usr/bin/ls-r", "-> ./tree")];
        assert_eq!(with(&tool), plain);
        for more in [
            ("usr/lib/x86_64-linux-gnu/libjq.so.1", "j"),
            ("etc/ld.so.conf.d/more.conf", "/opt/lib"),
            ("usr/lib/libm.so", "-> libc.so.6"),
            ("opt/lib", "-> /usr/lib"),
        ] {
            assert_ne!(with(&[more]), plain, "{more:?}");
        }
        let link = ("usr/lib/libx.so", "-> x");
        assert_ne!(
            with(&[link, ("usr/lib/x", "1")]),
            with(&[link, ("usr/lib/x", "2")])
        );
    }
}
