//! What users of images would lose: that the same root is the same bytes, and that tools find what the manifest names.

use std::{collections::BTreeMap, fs, path::Path};

use envd_oci::{Image, LayoutError, write};
use envd_store::{Digest, Entry, Meta, Node, Store, Tree, TreePath, project};

fn tree(store: &Store) -> Tree {
    let session = store.session().unwrap();
    let mut builder = Tree::builder();
    for (path, content, mode, uid) in [
        ("usr/bin/tool", "#!/bin/sh\n", 0o4755, 0),
        ("etc/secret", "s", 0o640, 42),
        ("empty", "", 0o644, 0),
    ] {
        let (digest, size) = session.put(content.as_bytes(), mode).unwrap();
        let meta = Meta {
            mode,
            uid,
            ..Meta::default()
        };
        let path = TreePath::new(path.as_bytes()).unwrap();
        builder
            .insert(
                path,
                Entry {
                    meta,
                    node: Node::File { digest, size },
                },
            )
            .unwrap();
    }
    builder.finish().unwrap()
}

fn image() -> Image {
    Image {
        architecture: "amd64".into(),
        created: 1_735_689_600,
        created_text: "2025-01-01T00:00:00Z".into(),
        environment: vec!["PATH=/usr/bin".into()],
        entrypoint: Vec::new(),
        command: vec!["tool".into()],
        working_directory: "/".into(),
        reference: "latest".into(),
    }
}

fn files(directory: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    for below in ["", "blobs/sha256"] {
        for entry in fs::read_dir(directory.join(below))
            .unwrap()
            .flatten()
            .filter(|e| e.path().is_file())
        {
            let name = format!("{below}/{}", entry.file_name().to_string_lossy());
            found.insert(name, fs::read(entry.path()).unwrap());
        }
    }
    found
}

#[test]
fn the_same_tree_is_the_same_image_and_everything_named_is_there() {
    let scratch = tempfile::tempdir().unwrap();
    let store = Store::open(&scratch.path().join("store")).unwrap();
    let tree = tree(&store);
    let [one, two] = ["one", "two"].map(|name| scratch.path().join(name));
    let digest = write(&store, &tree, &image(), &one).unwrap();
    assert_eq!(digest, write(&store, &tree, &image(), &two).unwrap());
    let found = files(&one);
    assert_eq!(found, files(&two));

    for (name, content) in &found {
        if let Some(digest) = name.strip_prefix("blobs/sha256/") {
            assert_eq!(
                Digest::of(content).to_string(),
                digest,
                "a blob is named by its digest"
            );
        }
    }
    let json = |name: &str| -> serde_json::Value { serde_json::from_slice(&found[name]).unwrap() };
    let index = json("/index.json");
    assert_eq!(index["manifests"][0]["digest"], format!("sha256:{digest}"));
    let blob = |value: &serde_json::Value| {
        format!(
            "blobs/sha256/{}",
            value["digest"]
                .as_str()
                .unwrap()
                .strip_prefix("sha256:")
                .unwrap()
        )
    };
    let manifest = json(&format!("blobs/sha256/{digest}"));
    let configuration = json(&blob(&manifest["config"]));
    let layer = &found[&blob(&manifest["layers"][0])];
    assert_eq!(manifest["layers"][0]["size"], layer.len());

    let mut tar = Vec::new();
    project::tar(&store, &tree, 1_735_689_600, &mut tar).unwrap();
    let unpacked = std::io::read_to_string(flate2::read::GzDecoder::new(&layer[..])).unwrap();
    assert_eq!(unpacked.as_bytes(), tar);
    assert_eq!(
        configuration["rootfs"]["diff_ids"][0],
        format!("sha256:{}", Digest::of(&tar))
    );
    assert_eq!(configuration["config"]["Cmd"][0], "tool");
}

#[test]
fn what_is_in_the_way_is_not_overwritten() {
    let scratch = tempfile::tempdir().unwrap();
    let store = Store::open(&scratch.path().join("store")).unwrap();
    let output = scratch.path().join("out");
    fs::create_dir(&output).unwrap();
    fs::write(output.join("mine"), "precious").unwrap();
    let refused = write(&store, &tree(&store), &image(), &output).unwrap_err();
    assert!(matches!(refused, LayoutError::Occupied { .. }), "{refused}");
    assert_eq!(fs::read_to_string(output.join("mine")).unwrap(), "precious");
}
