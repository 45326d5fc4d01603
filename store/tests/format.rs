//! The formats that stay: what one version wrote, every later one must read, and call by the same name.

mod support;

use envd_store::{Entry, Meta, Node, Root, RootKind, Store, Tree, TreePath};
use proptest::prelude::*;
use support::{file, hard_link, mode, path, tree};

fn with_owner(mut entry: Entry, uid: u32, gid: u32) -> Entry {
    entry.meta.uid = uid;
    entry.meta.gid = gid;
    entry
}

fn sample() -> Tree {
    let mut capable = file(b"ping\n", 0o755);
    let capability = [1, 0, 0, 2, 0, 32, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    capable.meta.xattrs.insert(
        b"security.capability".as_slice().into(),
        capability.as_slice().into(),
    );
    capable
        .meta
        .xattrs
        .insert(b"user.a=b c".as_slice().into(), b"".as_slice().into());
    tree(&[
        ("bin", Entry::symlink("usr/bin")),
        ("etc/shadow", with_owner(file(b"root:*:\n", 0o640), 0, 42)),
        ("tmp", Entry::directory(mode(0o1777))),
        ("usr/bin/ping", capable),
        ("usr/bin/su", file(b"su\n", 0o4755)),
        ("usr/bin/perl", file(b"perl\n", 0o755)),
        ("usr/bin/perl5.40", hard_link("usr/bin/perl")),
        ("usr/share/a file with 100% \u{e9}", file(b"", 0o644)),
        ("usr/share/x", Entry::symlink("a target")),
        ("usr.d", Entry::directory(Meta::directory())),
    ])
}

fn sample_layer() -> Tree {
    let mut builder = Tree::builder().layer();
    builder
        .insert(path("etc/hostname"), file(b"envd\n", 0o644))
        .unwrap();
    let whiteout = Entry {
        meta: Meta::default(),
        node: Node::Whiteout,
    };
    builder.insert(path("usr/share/x"), whiteout).unwrap();
    builder.finish().unwrap()
}

/// A lock made by an older envd names these digests.
#[test]
fn manifests_are_as_they_always_were() {
    let golden: [(&[u8], Tree, &str); 2] = [
        (
            include_bytes!("golden/tree-1.manifest"),
            sample(),
            "7310373bc8c6925efea8d3d848568af4208015e6ba331d57a64668501da445df",
        ),
        (
            include_bytes!("golden/layer-1.manifest"),
            sample_layer(),
            "b4ffd1c2ecc48bec6ae1daa7a4ad53d41b0faec13baf09596f4bd31a07ada7fd",
        ),
    ];
    for (bytes, tree, id) in golden {
        assert_eq!(
            String::from_utf8_lossy(&tree.to_manifest()),
            String::from_utf8_lossy(bytes)
        );
        assert_eq!(Tree::parse(bytes).unwrap(), tree);
        assert_eq!(tree.id().to_string(), id);
    }
}

/// A root that an older envd wrote keeps what it kept.
#[test]
fn roots_are_as_they_always_were() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(&directory.path().join("store")).unwrap();
    let golden = include_bytes!("golden/root-1.json");
    let at = store.path("roots/project-1");
    std::fs::write(&at, golden).unwrap();
    let root = Root {
        name: "project-1".to_owned(),
        kind: RootKind::Project,
        path: Some("/home/a user/100%".into()),
        lock: Some(envd_store::Digest::of(b"lock")),
        trees: vec![sample().id()],
        fetch: vec![envd_store::Digest::of(b"download")],
        created: 1_700_000_000,
    };
    assert_eq!(store.root("project-1").unwrap().unwrap(), root);
    std::fs::remove_file(&at).unwrap();
    store.session().unwrap().set_root(&root).unwrap();
    assert_eq!(
        String::from_utf8(std::fs::read(&at).unwrap()).unwrap(),
        String::from_utf8_lossy(golden)
    );
}

fn any_path() -> impl Strategy<Value = TreePath> {
    let component = prop_oneof![
        "[a-c]{1,2}",
        "[a-c!.% \u{e9}-]{1,3}".prop_filter("no dots", |text| text != "." && text != ".."),
    ];
    proptest::collection::vec(component, 1..4).prop_map(|components| path(&components.join("/")))
}

fn any_entry() -> impl Strategy<Value = Entry> {
    let meta = (
        0u16..=0o7777,
        any::<u32>(),
        any::<u32>(),
        proptest::collection::btree_map("[a-z=% ]{1,6}", any::<Vec<u8>>(), 0..2),
    );
    let meta = meta.prop_map(|(mode, uid, gid, xattrs)| Meta {
        mode,
        uid,
        gid,
        xattrs: xattrs
            .into_iter()
            .map(|(name, value)| (name.into_bytes().into(), value.into()))
            .collect(),
    });
    let node = prop_oneof![
        3 => Just(Node::Directory),
        3 => any::<u64>().prop_map(|size| Node::File { digest: envd_store::Digest::of(&size.to_le_bytes()), size }),
        1 => proptest::collection::vec(1u8.., 1..8).prop_map(|target| Node::Symlink { target: target.into() }),
        2 => any_path().prop_map(|target| Node::HardLink { target }),
    ];
    (meta, node).prop_map(|(meta, node)| Entry { meta, node })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    /// Whatever a builder accepts, its manifest says in full and in one way only.
    #[test]
    fn a_manifest_is_the_tree(entries in proptest::collection::vec((any_path(), any_entry()), 0..12)) {
        let mut builder = Tree::builder();
        for (path, entry) in &entries {
            let _ = builder.insert(path.clone(), entry.clone());
        }
        if let Ok(tree) = builder.finish() {
            let manifest = tree.to_manifest();
            prop_assert_eq!(&Tree::parse(&manifest).unwrap(), &tree);
            // One changed byte is refused or another tree, never the same one.
            for at in [manifest.len() / 3, manifest.len() / 2, manifest.len() - 2] {
                let mut changed = manifest.clone();
                changed[at] ^= 1;
                if let Ok(other) = Tree::parse(&changed) {
                    prop_assert_eq!(other.to_manifest(), changed);
                }
            }
            for (path, _) in &tree {
                for parent in path.ancestors() {
                    prop_assert!(tree.get(&parent).is_some_and(Entry::is_directory));
                }
            }
        }
    }

    /// Sorting by anything but directories-first would scatter a directory's contents.
    #[test]
    fn contents_follow_their_directory(mut paths in proptest::collection::vec(any_path(), 2..12)) {
        paths.sort();
        for (index, directory) in paths.iter().enumerate() {
            let inside = paths[index..].iter().take_while(|path| path.starts_with(directory)).count();
            prop_assert!(paths[index + inside..].iter().all(|path| !path.starts_with(directory)));
        }
    }

    #[test]
    fn paths_are_relative_and_normal(bytes: Vec<u8>, text in "[a./]{0,8}") {
        for bytes in [bytes.as_slice(), text.as_bytes()] {
            let expected = !bytes.is_empty() && !bytes.contains(&0)
                && bytes.split(|&b| b == b'/').all(|part| !matches!(part, b"" | b"." | b"..") && part.len() <= 255);
            prop_assert_eq!(TreePath::new(bytes).is_ok(), expected);
        }
    }
}
