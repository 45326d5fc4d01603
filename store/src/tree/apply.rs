//! A layer put on top of a tree.

use std::collections::BTreeMap;

use super::{Entry, Node, Tree, TreeError, builder, links};
use crate::TreePath;

impl Tree {
    /// This tree with `layer` on top. Entries of the layer replace, its whiteouts remove with all that is below, and where it puts
    /// something else than a directory in the place of a directory, what was below goes too. A hard link whose file goes keeps the
    /// content.
    pub fn apply(&self, layer: &Tree) -> Result<Tree, TreeError> {
        self.apply_all(&[layer])
    }

    /// This tree with several layers on top, lowest first: as if each were applied after the other, for the price of one.
    pub fn apply_all(&self, layers: &[&Tree]) -> Result<Tree, TreeError> {
        if self.layer || layers.iter().any(|layer| !layer.layer) {
            return Err(TreeError::NotLayer);
        }
        let own = self
            .iter()
            .map(|(path, entry)| (path.clone(), (0, entry.clone())));
        let mut picked: BTreeMap<TreePath, (usize, Entry)> = own.collect();
        for (number, layer) in layers.iter().enumerate() {
            for (path, _) in layer.iter().filter(|(_, entry)| !entry.is_directory()) {
                let below = picked.range(path..).map(|(below, _)| below);
                let gone: Vec<TreePath> = below
                    .take_while(|below| below.starts_with(path))
                    .cloned()
                    .collect();
                for path in gone {
                    picked.remove(&path);
                }
            }
            for (path, entry) in layer
                .iter()
                .filter(|(_, entry)| entry.node != Node::Whiteout)
            {
                picked.insert(path.clone(), (number + 1, entry.clone()));
            }
        }
        let entries = links::regroup(picked, |origin, file| {
            let tree = if origin == 0 {
                self
            } else {
                layers[origin - 1]
            };
            tree.get(file).map(|entry| entry.node.clone())
        });
        match builder::check_parents(&entries)?.into_iter().next() {
            None => Ok(Tree {
                entries,
                layer: false,
            }),
            Some(parent) => {
                let below = entries
                    .keys()
                    .find(|path| path.starts_with(&parent))
                    .unwrap_or(&parent);
                Err(TreeError::NoParent {
                    path: below.clone(),
                    parent,
                })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Digest, Meta};

    fn path(text: &str) -> TreePath {
        TreePath::new(text.as_bytes()).unwrap()
    }

    /// `name=content` a file, `name/` a directory, `name&target` a hard link, `-name` a whiteout.
    fn entries(mut builder: super::super::TreeBuilder, texts: &[&str]) -> Tree {
        for text in texts {
            let (name, node) = if let Some((name, content)) = text.split_once('=') {
                let digest = Digest::of(content.as_bytes());
                let size = content.len() as u64;
                (name, Node::File { digest, size })
            } else if let Some((name, target)) = text.split_once('&') {
                (
                    name,
                    Node::HardLink {
                        target: path(target),
                    },
                )
            } else if let Some(name) = text.strip_prefix('-') {
                (name, Node::Whiteout)
            } else {
                (text.trim_end_matches('/'), Node::Directory)
            };
            let meta = Meta::directory();
            builder.insert(path(name), Entry { meta, node }).unwrap();
        }
        builder.finish().unwrap()
    }

    fn tree(texts: &[&str]) -> Tree {
        entries(Tree::builder(), texts)
    }

    fn layer(texts: &[&str]) -> Tree {
        entries(Tree::builder().layer(), texts)
    }

    #[test]
    fn entries_replace_and_whiteouts_remove() {
        let base = tree(&["d/a=1", "d/b/c=2", "d!=3", "e=4"]);
        assert_eq!(base.apply(&layer(&[])).unwrap(), base);
        let found = base
            .apply(&layer(&["d/a=9", "-d/b", "d/n=5", "-e", "-absent"]))
            .unwrap();
        assert_eq!(found, tree(&["d/a=9", "d!=3", "d/n=5"]));
        assert_eq!(
            base.apply(&layer(&["d=7"])).unwrap(),
            tree(&["d=7", "d!=3", "e=4"])
        );
        assert_eq!(
            base.apply(&layer(&["e/", "e/x=1"])).unwrap(),
            tree(&["d/a=1", "d/b/c=2", "d!=3", "e/x=1"])
        );
    }

    #[test]
    fn several_layers_are_as_one_after_the_other() {
        let base = tree(&["d/a=1", "d/b/c=2", "e=4", "f=5", "g&f"]);
        let layers = [
            layer(&["-d", "-e", "f=6"]),
            layer(&["d/", "d/n=7", "e/", "e/x=8"]),
            layer(&["e=9", "-g"]),
        ];
        let mut one_by_one = base.clone();
        for layer in &layers {
            one_by_one = one_by_one.apply(layer).unwrap();
        }
        let at_once = base.apply_all(&layers.iter().collect::<Vec<_>>()).unwrap();
        assert_eq!(at_once, one_by_one);
        assert_eq!(at_once, tree(&["d/n=7", "e=9", "f=6"]));
    }

    #[test]
    fn links_outlive_their_holder() {
        let base = tree(&["a=1", "b&a", "c&a"]);
        assert_eq!(base.apply(&layer(&["-a"])).unwrap(), tree(&["b=1", "c&b"]));
        assert_eq!(
            base.apply(&layer(&["a=2"])).unwrap(),
            tree(&["a=2", "b=1", "c&b"])
        );
        assert_eq!(base.apply(&layer(&["-a", "-b"])).unwrap(), tree(&["c=1"]));
        assert_eq!(
            base.apply(&layer(&["0=3", "b&0"])).unwrap(),
            tree(&["0=3", "b&0", "a=1", "c&a"])
        );
    }

    #[test]
    fn a_layer_needs_what_it_builds_on() {
        let base = tree(&["f=1"]);
        assert!(matches!(
            base.apply(&layer(&["d/x=1"])),
            Err(TreeError::NoParent { .. })
        ));
        assert!(matches!(
            base.apply(&layer(&["f/x=1"])),
            Err(TreeError::NotDirectory { .. })
        ));
        assert_eq!(base.apply(&base), Err(TreeError::NotLayer));
        assert_eq!(layer(&[]).apply(&layer(&[])), Err(TreeError::NotLayer));
    }
}
