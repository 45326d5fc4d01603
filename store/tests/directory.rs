//! Directories and overlay uppers as trees.

mod support;

use std::{
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::Path,
    process::{Command, Stdio},
};

use envd_store::{
    Entry, Node, Store, Tree, TreePath,
    ingest::{self, DirectoryOptions, IngestError, Note, Ownership},
};
use rustix::fs::{CWD, FileType, Mode, XattrFlags, lsetxattr, makedev, mknodat};
use support::{as_part, assert_sound, can_unshare, file, hard_link, mode, part, path, tree};

fn new() -> (tempfile::TempDir, Store) {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(&directory.path().join("store")).unwrap();
    (directory, store)
}

fn write(at: &Path, content: &[u8], bits: u32) {
    fs::create_dir_all(at.parent().unwrap()).unwrap();
    fs::write(at, content).unwrap();
    fs::set_permissions(at, fs::Permissions::from_mode(bits)).unwrap();
}

fn make_special(at: &Path, kind: FileType, major: u32) {
    mknodat(
        CWD,
        at,
        kind,
        Mode::from_raw_mode(0o600),
        makedev(major, major),
    )
    .unwrap();
}

const ROOT_OWNED: DirectoryOptions<'static> = DirectoryOptions {
    root_owned: true,
    exclude: None,
};

#[test]
fn a_directory_becomes_its_tree() {
    let (directory, store) = new();
    let session = store.session().unwrap();
    let source = directory.path().join("source");
    write(&source.join("bin/tool"), b"tool", 0o4755);
    write(&source.join("big"), &[5; 400_000], 0o600);
    write(&source.join("skip/this"), b"", 0o644);
    fs::hard_link(source.join("bin/tool"), source.join("also")).unwrap();
    symlink("/etc/passwd", source.join("link")).unwrap();
    fs::set_permissions(source.join("bin"), fs::Permissions::from_mode(0o711)).unwrap();
    let exclude = |at: &TreePath| at.as_bytes() == b"skip";
    let options = DirectoryOptions {
        exclude: Some(&exclude),
        ..ROOT_OWNED
    };
    let found = ingest::directory(&session, &source, &options).unwrap();
    let expected = tree(&[
        ("also", file(b"tool", 0o4755)),
        ("bin", Entry::directory(mode(0o711))),
        ("bin/tool", hard_link("also")),
        ("big", file(&[5; 400_000], 0o600)),
        ("link", Entry::symlink("/etc/passwd")),
    ]);
    assert_eq!(found, expected);
    session.add_tree(&found).unwrap();
    make_special(&source.join("pipe"), FileType::Fifo, 0);
    let error = ingest::directory(&session, &source, &options)
        .unwrap_err()
        .to_string();
    assert!(error.contains("/pipe") && error.contains("FIFO"), "{error}");
    drop(session);
    assert_sound(&store);
}

/// The tree under the overlays of these tests.
fn lower() -> Tree {
    let mut shadow = file(b"shadow", 0o640);
    shadow.meta.gid = 42;
    let mut capable = file(b"ping", 0o755);
    capable.meta.xattrs.insert(
        b"security.capability".as_slice().into(),
        b"cap".as_slice().into(),
    );
    let mut mail = Entry::directory(mode(0o2775));
    mail.meta.gid = 8;
    tree(&[
        ("bin/ping", capable),
        ("bin/su", file(b"su", 0o4755)),
        ("etc/passwd", file(b"passwd", 0o644)),
        ("etc/shadow", shadow),
        ("opt/a/x", file(b"x", 0o644)),
        ("opt/b", file(b"b", 0o644)),
        ("opt/c", file(b"c", 0o644)),
        ("var/mail", mail),
        ("var/lib/gone/deep", file(b"x", 0o644)),
    ])
}

fn capture(store: &Store, upper: &Path, notes: &Ownership) -> Result<Tree, IngestError> {
    let session = store.session().unwrap();
    let exclude = |at: &TreePath| at.starts_with(&path("var/log"));
    let layer = ingest::overlay_upper(&session, upper, upper, &lower(), notes, &exclude)?;
    for entry in [b"shadow".as_slice(), b"x", b"b", b"c"] {
        session.put(entry, 0o644).unwrap();
    }
    Ok(layer)
}

fn whiteout() -> Entry {
    Entry {
        meta: mode(0),
        node: Node::Whiteout,
    }
}

fn layer(entries: &[(&str, Entry)]) -> Tree {
    let mut builder = Tree::builder().layer();
    for (at, entry) in entries {
        builder.insert(path(at), entry.clone()).unwrap();
    }
    builder.finish().unwrap()
}

fn mark(at: &Path, name: &str, value: &[u8]) -> bool {
    lsetxattr(at, name, value, XattrFlags::empty()).is_ok()
}

#[test]
fn an_upper_becomes_a_layer() {
    let (directory, store) = new();
    let upper = directory.path().join("upper");
    // Unchanged copies: left out. Changed content under the mode that views show: set-id bits are kept.
    write(&upper.join("bin/ping"), b"ping", 0o755);
    write(&upper.join("bin/su"), b"newer su", 0o755);
    write(&upper.join("etc/passwd"), b"passwd", 0o600);
    write(&upper.join("etc/shadow"), b"new shadow", 0o640);
    write(&upper.join("etc/new"), b"new", 0o644);
    write(&upper.join("var/log/dpkg.log"), b"now", 0o644);
    write(&upper.join("etc/closed"), b"secret", 0o000);
    fs::hard_link(upper.join("etc/new"), upper.join("etc/other")).unwrap();
    fs::create_dir_all(upper.join("var/mail")).unwrap();
    fs::create_dir_all(upper.join("var/lib")).unwrap();
    for (at, bits) in [
        ("var/mail", 0o775),
        ("bin", 0o755),
        ("etc", 0o755),
        ("var", 0o755),
        ("var/lib", 0o700),
    ] {
        fs::set_permissions(upper.join(at), fs::Permissions::from_mode(bits)).unwrap();
    }
    make_special(&upper.join("var/lib/gone"), FileType::CharacterDevice, 0);
    make_special(
        &upper.join("var/lib/never-was"),
        FileType::CharacterDevice,
        0,
    );
    let mut su = file(b"newer su", 0o4755);
    su.meta.uid = 7;
    let mut shadow = file(b"new shadow", 0o640);
    shadow.meta.gid = 42;
    let mut notes = Ownership::default();
    let note = Note {
        uid: Some(7),
        ..Note::default()
    };
    notes.by_path.insert(path("bin/su"), note);
    let expected = layer(&[
        ("bin/su", su),
        ("etc/closed", file(b"secret", 0o000)),
        ("etc/new", file(b"new", 0o644)),
        ("etc/other", hard_link("etc/new")),
        ("etc/passwd", file(b"passwd", 0o600)),
        ("etc/shadow", shadow),
        ("var/lib", Entry::directory(mode(0o700))),
        ("var/lib/gone", whiteout()),
    ]);
    assert_eq!(capture(&store, &upper, &notes).unwrap(), expected);
    let applied = lower().apply(&expected).unwrap();
    assert!(applied.get(&path("var/lib/gone/deep")).is_none());
    assert_eq!(
        applied.get(&path("bin/ping")),
        lower().get(&path("bin/ping"))
    );
    assert_sound(&store);
}

#[test]
fn opaque_directories_hide_what_was_below() {
    let (directory, store) = new();
    let upper = directory.path().join("upper");
    write(&upper.join("opt/b"), b"new b", 0o644);
    fs::set_permissions(upper.join("opt"), fs::Permissions::from_mode(0o755)).unwrap();
    if !mark(&upper.join("opt"), "user.overlay.opaque", b"y") {
        assert!(
            std::env::var_os("ENVD_TESTS_MUST_RUN").is_none(),
            "no user attributes here"
        );
        eprintln!("skipped: no user attributes on this file system");
        return;
    }
    mark(&upper.join("opt"), "user.overlay.origin", b"whatever");
    let expected = layer(&[
        ("opt/a", whiteout()),
        ("opt/b", file(b"new b", 0o644)),
        ("opt/c", whiteout()),
    ]);
    assert_eq!(
        capture(&store, &upper, &Ownership::default()).unwrap(),
        expected
    );
    // The other spelling of a whiteout.
    write(&upper.join("etc/passwd"), b"", 0o644);
    mark(&upper.join("etc/passwd"), "user.overlay.whiteout", b"y");
    mark(&upper.join("etc"), "user.overlay.opaque", b"x");
    fs::set_permissions(upper.join("etc"), fs::Permissions::from_mode(0o755)).unwrap();
    let found = capture(&store, &upper, &Ownership::default()).unwrap();
    assert_eq!(found.get(&path("etc/passwd")), Some(&whiteout()));
    assert_eq!(found.len(), 4);
    mark(&upper.join("opt/b"), "user.overlay.metacopy", b"");
    let error = capture(&store, &upper, &Ownership::default())
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("metacopy") && error.contains("/opt/b"),
        "{error}"
    );
}

#[test]
fn notes_say_what_the_kernel_would_not() {
    use std::os::unix::fs::MetadataExt;
    let (directory, store) = new();
    let upper = directory.path().join("upper");
    write(&upper.join("run/db"), b"", 0o644);
    write(&upper.join("run/null"), b"", 0o644);
    fs::set_permissions(upper.join("run"), fs::Permissions::from_mode(0o755)).unwrap();
    make_special(&upper.join("run/pipe"), FileType::Fifo, 0);
    let error = capture(&store, &upper, &Ownership::default()).unwrap_err();
    assert!(
        matches!(&error, IngestError::Special { path, .. } if path.as_bytes() == b"run/pipe"),
        "{error}"
    );
    let inode = |name: &str| {
        let found = fs::symlink_metadata(upper.join(name)).unwrap();
        (found.dev(), found.ino())
    };
    let device = Note {
        device: true,
        ..Note::default()
    };
    let owned = Note {
        uid: Some(100),
        gid: Some(101),
        capability: Some(vec![1, 2]),
        device: false,
    };
    let mut notes = Ownership::default();
    notes.by_inode.insert(inode("run/pipe"), device.clone());
    notes.by_inode.insert(inode("run/db"), owned);
    notes.by_path.insert(path("run/null"), device);
    let found = capture(&store, &upper, &notes).unwrap();
    let mut db = file(b"", 0o644);
    db.meta.uid = 100;
    db.meta.gid = 101;
    db.meta.xattrs.insert(
        b"security.capability".as_slice().into(),
        [1, 2].as_slice().into(),
    );
    assert_eq!(
        found,
        layer(&[("run", Entry::directory(mode(0o755))), ("run/db", db)])
    );
}

/// The real thing: a view as the lower directory of a mounted overlay, changed, captured and put on top again.
#[test]
fn a_mounted_overlay_is_captured() {
    if !can_unshare("a_mounted_overlay_is_captured") {
        return;
    }
    let (directory, store) = new();
    let script = r#"
        set -e
        mkdir -p "$BASE/upper" "$BASE/work" "$BASE/merged"
        mount -t overlay overlay -o "lowerdir=$VIEW,upperdir=$BASE/upper,workdir=$BASE/work,userxattr,metacopy=off,index=off" "$BASE/merged"
        cd "$BASE/merged"
        rm -r dir && mkdir dir && echo new > dir/new
        rm gone && chmod 600 mode && echo more >> more && ln more linked
        mv moved there && chmod g-w unchanged && chmod g+w unchanged
        ln -s anywhere link && rm -r whole
        cd / && umount "$BASE/merged"
    "#;
    let session = store.session().unwrap();
    let files: Vec<(&str, &[u8], u16)> = vec![
        ("dir/old", b"1", 0o644),
        ("dir/sub/old", b"2", 0o644),
        ("gone", b"3", 0o644),
        ("mode", b"4", 0o4755),
        ("more", b"5\n", 0o644),
        ("moved/inside", b"6", 0o644),
        ("unchanged", b"7", 0o664),
        ("whole/deep/file", b"8", 0o644),
    ];
    let (lower, id) = support::add_files(&session, &files);
    let view = session.view(&id).unwrap();
    let output = Command::new("unshare")
        .args(["-rm", "sh", "-c", script])
        .env("VIEW", &view)
        .env("BASE", directory.path())
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let upper = directory.path().join("upper");
    let found = ingest::overlay_upper(
        &session,
        &upper,
        &upper,
        &lower,
        &Ownership::default(),
        &|_| false,
    )
    .unwrap();
    let applied = lower.apply(&found).unwrap();
    let mut changed = file(b"4", 0o600);
    changed.meta.mode = 0o600;
    let expected = tree(&[
        ("dir/new", file(b"new\n", 0o644)),
        ("linked", file(b"5\nmore\n", 0o644)),
        ("more", hard_link("linked")),
        ("mode", changed),
        ("there/inside", file(b"6", 0o644)),
        ("unchanged", file(b"7", 0o664)),
        ("link", Entry::symlink("anywhere")),
    ]);
    assert_eq!(
        String::from_utf8(applied.to_manifest()),
        String::from_utf8(expected.to_manifest())
    );
    assert!(
        found.get(&path("unchanged")).is_none(),
        "an unchanged file is in the layer"
    );
    let private = session.private_view(&lower).unwrap();
    session.add_tree(&applied).unwrap();
    session.transform_view(&private, &lower, &applied).unwrap();
    drop(session);
    assert_sound(&store);
}

/// The same input under another umask must have the same digest: a colleague's is not ours.
#[test]
fn the_umask_does_not_show() {
    let directory = tempfile::tempdir().unwrap();
    let mut found = Vec::new();
    for umask in ["000", "022", "027", "077"] {
        let at = directory.path().join(umask);
        Store::open(&at).unwrap();
        let output = Command::new("sh")
            .args(["-c", &format!("umask {umask}; exec \"$0\" \"$@\"")])
            .arg(std::env::current_exe().unwrap())
            .args(part("under_some_umask", &at).get_args())
            .env("ENVD_TEST_PART", "under_some_umask")
            .env("ENVD_TEST_STORE", &at)
            .stdin(Stdio::null())
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "{umask}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        let store = Store::open(&at).unwrap();
        assert_sound(&store);
        let ids: Vec<_> = fs::read_dir(store.path("trees"))
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        assert_eq!(ids.len(), 1);
        found.push(ids);
    }
    assert!(found.iter().all(|ids| *ids == found[0]), "{found:?}");
}

#[test]
fn under_some_umask() {
    let Some(store) = as_part("under_some_umask") else {
        return;
    };
    let session = store.session().unwrap();
    let files: Vec<(&str, &[u8], u16)> = vec![
        ("a/b", b"1", 0o666),
        ("a/c", b"2", 0o4711),
        ("d", &[3; 300_000], 0o777),
    ];
    let (_, id) = support::add_files(&session, &files);
    session.view(&id).unwrap();
}
