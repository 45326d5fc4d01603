//! Archives: honest ones become the tree they describe, hostile ones an error that names the member, and nothing is written outside
//! the store.

mod support;

use std::{
    collections::BTreeMap,
    fs,
    io::{self, Read},
};

use envd_store::{
    Digest, Entry, Node, Session, Store, Tree, TreePath,
    ingest::{self, IngestError, Limits},
    project,
};
use proptest::prelude::*;
use support::{assert_sound, file, hard_link, mode, path, tree};
use tar::{EntryType, Header};

fn new() -> (tempfile::TempDir, Store) {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(&directory.path().join("store")).unwrap();
    (directory, store)
}

/// An archive made block by block, since no honest writer makes what is needed here.
#[derive(Default)]
struct Archive(Vec<u8>);

impl Archive {
    fn header(kind: EntryType, name: &[u8], link: &[u8], size: u64) -> Header {
        let mut header = Header::new_gnu();
        header.set_entry_type(kind);
        header.as_old_mut().name[..name.len().min(100)]
            .copy_from_slice(&name[..name.len().min(100)]);
        header.as_old_mut().linkname[..link.len().min(100)]
            .copy_from_slice(&link[..link.len().min(100)]);
        header.set_mode(0o755);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(1_000_000_000);
        header.set_size(size);
        header.set_cksum();
        header
    }

    fn raw(mut self, header: &Header, content: &[u8]) -> Self {
        self.0.extend_from_slice(header.as_bytes());
        self.0.extend_from_slice(content);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    fn with(self, kind: EntryType, name: &str, link: &str, content: &[u8]) -> Self {
        let header = Self::header(kind, name.as_bytes(), link.as_bytes(), content.len() as u64);
        self.raw(&header, content)
    }

    fn file(self, name: &str, content: &[u8]) -> Self {
        self.with(EntryType::Regular, name, "", content)
    }

    fn pax(self, records: &[(&str, &[u8])]) -> Self {
        let mut text = Vec::new();
        for (key, value) in records {
            let rest = key.len() + value.len() + 3;
            let length = (rest + 1..)
                .find(|length| rest + length.to_string().len() == *length)
                .unwrap();
            text.extend_from_slice(format!("{length} {key}=").as_bytes());
            text.extend_from_slice(value);
            text.push(b'\n');
        }
        self.with(EntryType::XHeader, "PaxHeader", "", &text)
    }

    fn end(mut self) -> Vec<u8> {
        self.0.resize(self.0.len() + 1024, 0);
        self.0
    }
}

const LIMITS: Limits = Limits {
    entries: 100,
    bytes: 10_000_000,
};

fn read(session: &Session, archive: &[u8]) -> Result<Tree, IngestError> {
    ingest::tar(session, archive, &LIMITS, &mut Some)
}

#[test]
fn an_archive_becomes_its_tree() {
    let (_directory, store) = new();
    let session = store.session().unwrap();
    let big = vec![3; 700_001];
    let long = format!("usr/{}/{}", "a".repeat(120), "b".repeat(120));
    let archive = Archive::default()
        .with(EntryType::Directory, "./", "", b"")
        .with(EntryType::Directory, "./bin/", "", b"")
        .file("./bin/sh", b"shell")
        .with(EntryType::Link, "./bin/ash", "./bin/sh", b"")
        .with(EntryType::Symlink, "./etc/motd", "/run/motd", b"")
        .file("usr/big", &big)
        .with(
            EntryType::GNULongName,
            "././@LongLink",
            "",
            format!("{long}\0").as_bytes(),
        )
        .file("cut off", b"long")
        .pax(&[
            ("path", b"usr/p\n\xff"),
            ("uid", b"3000000000"),
            ("SCHILY.xattr.user.k", b"v\n=\0"),
            ("mtime", b"1.5"),
        ])
        .file("ignored", b"")
        .with(EntryType::XGlobalHeader, "g", "", b"19 comment=whatever")
        .end();
    let error = read(&session, &archive).unwrap_err().to_string();
    assert!(error.contains("broken pax records"), "{error}");
    let mut archive = archive;
    archive.truncate(archive.len() - 1024 - 1024);
    let archive = Archive(archive)
        .with(EntryType::XGlobalHeader, "g", "", b"20 comment=whatever\n")
        .end();
    // usr/ maps to where /bin points on a merged system; what is in /etc is left out.
    let mut mapper = |at: TreePath| {
        if at.starts_with(&path("bin")) {
            TreePath::new(&[b"usr/", at.as_bytes()].concat()).ok()
        } else {
            (!at.starts_with(&path("etc"))).then_some(at)
        }
    };
    let found = ingest::tar(&session, archive.as_slice(), &LIMITS, &mut mapper).unwrap();
    let mut odd = file(b"", 0o755);
    odd.meta.uid = 3_000_000_000;
    odd.meta
        .xattrs
        .insert(b"user.k".as_slice().into(), b"v\n=\0".as_slice().into());
    let mut builder = Tree::builder();
    for (at, entry) in [
        ("usr/bin", Entry::directory(mode(0o755))),
        ("usr/bin/sh", file(b"shell", 0o755)),
        ("usr/bin/ash", hard_link("usr/bin/sh")),
        ("usr/big", file(&big, 0o755)),
        (&long, file(b"long", 0o755)),
    ] {
        builder.insert(path(at), entry).unwrap();
    }
    builder
        .insert(TreePath::new(b"usr/p\n\xff").unwrap(), odd)
        .unwrap();
    assert_eq!(found, builder.finish().unwrap());
    let id = session.add_tree(&found).unwrap();
    session.view(&id).unwrap();
    drop(session);
    assert_sound(&store);
}

/// Each of these has been a way to write where an unpacker should not, or to exhaust the machine.
#[test]
fn hostile_archives_are_refused_by_name() {
    use EntryType as T;
    let new = Archive::default;
    let device = |kind| new().with(kind, "dev/evil", "", b"").end();
    let mut lie = Archive::header(T::Regular, b"lie", b"", 5000);
    let truncated = new().raw(&lie, b"short").0;
    lie.as_old_mut().size = *b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xf0";
    lie.set_cksum();
    let negative = new().raw(&lie, b"").end();
    lie.as_old_mut().size = *b"99999999999\0";
    lie.set_cksum();
    let garbled = new().raw(&lie, b"").end();
    lie.set_size(1 << 40);
    lie.set_cksum();
    let huge = new().raw(&lie, b"").end();
    let mut checksum = new().file("flipped", b"").end();
    checksum[0] ^= 1;
    let long_name = Archive::header(T::GNULongName, b"././@LongLink", b"", 1 << 33);
    let bomb = (0..11)
        .fold(new(), |archive, part| {
            archive.file(&format!("bomb{part}"), &vec![0; 1_000_000])
        })
        .end();
    let many = (0..101)
        .fold(new(), |archive, part| {
            archive.file(&format!("many{part}"), b"")
        })
        .end();
    let mut cut = new().file("first", b"1").end();
    cut.truncate(1024);
    let cases: Vec<(&str, Vec<u8>, &str)> = vec![
        (
            "traversal",
            new().file("../../etc/cron.d/x", b"").end(),
            "../../etc/cron.d/x",
        ),
        (
            "inner traversal",
            new().file("usr/../../x", b"").end(),
            "usr/../../x",
        ),
        (
            "absolute",
            new().file("/etc/passwd", b"").end(),
            "/etc/passwd",
        ),
        (
            "long component",
            new().pax(&[("path", &[b'a'; 300])]).file("x", b"").end(),
            "aaaa",
        ),
        (
            "NUL",
            new().pax(&[("path", b"a\0b")]).file("x", b"").end(),
            "a\\0b",
        ),
        (
            "through a symlink",
            new()
                .with(T::Symlink, "out", "/etc", b"")
                .file("out/passwd", b"x")
                .end(),
            "/out/passwd",
        ),
        (
            "symlink over directory",
            new()
                .file("d/x", b"")
                .with(T::Symlink, "d", "/etc", b"")
                .end(),
            "/d/x",
        ),
        (
            "directory over symlink",
            new()
                .with(T::Symlink, "d", "/etc", b"")
                .with(T::Directory, "d/", "", b"")
                .end(),
            "\"d/\"",
        ),
        (
            "below a file",
            new().file("f", b"").file("f/x", b"").end(),
            "/f/x",
        ),
        (
            "duplicate",
            new().file("twice", b"1").file("twice", b"2").end(),
            "twice",
        ),
        ("character device", device(T::Char), "character device"),
        ("block device", device(T::Block), "block device"),
        ("FIFO", device(T::Fifo), "FIFO"),
        ("sparse", device(T::GNUSparse), "sparse"),
        ("unknown kind", device(T::new(b'Z')), "dev/evil"),
        (
            "empty symlink",
            new().with(T::Symlink, "nowhere", "", b"").end(),
            "nowhere",
        ),
        (
            "hard link out",
            new().with(T::Link, "passwd", "/etc/passwd", b"").end(),
            "passwd",
        ),
        (
            "hard link up",
            new().with(T::Link, "passwd", "../passwd", b"").end(),
            "passwd",
        ),
        (
            "hard link to nothing",
            new().with(T::Link, "l", "missing", b"").end(),
            "missing",
        ),
        (
            "hard link through a symlink",
            new()
                .with(T::Symlink, "s", "/etc", b"")
                .with(T::Link, "l", "s/passwd", b"")
                .end(),
            "/s/passwd",
        ),
        (
            "hard link with content",
            new().with(T::Link, "l", "x", b"smuggled").end(),
            "\"l\"",
        ),
        ("size beyond the end", truncated, "lie"),
        ("negative size", negative, "lie"),
        ("garbled size", garbled, "lie"),
        ("huge size", huge, "lie"),
        ("flipped bit", checksum, "checksum"),
        ("endless name", new().raw(&long_name, b"").end(), "1 MiB"),
        ("bomb", bomb, "bomb10"),
        ("too many", many, "many100"),
        ("no end", cut, "first"),
        ("empty", Vec::new(), "cut short"),
        ("garbage", vec![b'x'; 5000], "checksum"),
        (
            "broken pax",
            new()
                .with(T::XHeader, "p", "", b"9999999 path=x\n")
                .file("x", b"")
                .end(),
            "pax",
        ),
        (
            "sparse pax",
            new()
                .pax(&[("GNU.sparse.major", b"1")])
                .file("x", b"")
                .end(),
            "sparse",
        ),
        (
            "pax size",
            new().pax(&[("size", b"-1")]).file("x", b"").end(),
            "size",
        ),
        (
            "global rename",
            new()
                .with(T::XGlobalHeader, "g", "", b"10 path=x\n")
                .file("x", b"")
                .end(),
            "rename",
        ),
        (
            "big owner",
            new()
                .pax(&[("uid", b"4294967296")])
                .file("owned", b"")
                .end(),
            "owned",
        ),
        (
            "overlay mark",
            new()
                .pax(&[("SCHILY.xattr.trusted.overlay.opaque", b"y")])
                .file("x", b"")
                .end(),
            "overlay",
        ),
    ];
    let (directory, store) = new_store_beside_a_victim();
    let session = store.session().unwrap();
    for (case, archive, hint) in cases {
        let error = read(&session, &archive).expect_err(case);
        let message = chain(&error);
        assert!(
            message.contains(hint),
            "{case}: {message:?} does not contain {hint:?}"
        );
        assert_eq!(support::files(&session.path()), 0, "{case} left a file");
    }
    drop(session);
    let outside: Vec<_> = fs::read_dir(directory.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(outside.len(), 2, "{outside:?}");
    assert_eq!(fs::read(directory.path().join("victim")).unwrap(), b"safe");
    assert_sound(&store);
}

fn new_store_beside_a_victim() -> (tempfile::TempDir, Store) {
    let (directory, store) = new();
    fs::write(directory.path().join("victim"), "safe").unwrap();
    (directory, store)
}

/// The message and those behind it.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text += &format!(": {error}");
        source = error.source();
    }
    text
}

/// A stream that fails half-way, as a download does.
#[test]
fn a_failing_stream_is_no_short_archive() {
    struct Failing;
    impl Read for Failing {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::Error::other("line cut"))
        }
    }
    let (_directory, store) = new();
    let session = store.session().unwrap();
    let archive = Archive::default().file("whole", &[1; 512]).0;
    let error = ingest::tar(&session, archive.chain(Failing), &LIMITS, &mut Some).unwrap_err();
    assert!(
        matches!(&error, IngestError::Read { member, .. } if member == "whole"),
        "{error}"
    );
}

/// Same tree, same bytes; and what went in comes out.
#[test]
fn a_projected_archive_is_canonical_and_complete() {
    let (_directory, store) = new();
    let session = store.session().unwrap();
    let mut odd = file(b"content", 0o4755);
    odd.meta.uid = 0o7777777 + 1;
    odd.meta.gid = 5;
    odd.meta
        .xattrs
        .insert(b"user.k".as_slice().into(), b"v\n".as_slice().into());
    session.put(b"content", 0o4755).unwrap();
    session.put(b"", 0o644).unwrap();
    let prefix_and_name = format!("{}/{}", "p".repeat(150), "n".repeat(100));
    let too_long = format!("{}/{}", "q".repeat(200), "n".repeat(101));
    let wanted = tree(&[
        ("a/odd", odd),
        ("a/same", hard_link("a/odd")),
        (&prefix_and_name, file(b"", 0o644)),
        (&too_long, file(b"", 0o644)),
        ("link", Entry::symlink(vec![b't'; 150])),
        ("tmp", Entry::directory(mode(0o1777))),
    ]);
    let mut archive = Vec::new();
    project::tar(&store, &wanted, 7, &mut archive).unwrap();
    assert_eq!(read(&session, &archive).unwrap(), wanted);
    let mut again = Vec::new();
    project::tar(&store, &wanted, 7, &mut again).unwrap();
    assert!(archive == again);
    // Pinned: image layers have this digest.
    assert_eq!(
        Digest::of(&archive).to_string(),
        "ed497373c217fca7615d7a2e24c14ba0f9d906132b0c7e76de86dbf8b8b8e0b6"
    );
    // Another reader agrees.
    let mut theirs = tar::Archive::new(archive.as_slice());
    let names: BTreeMap<Vec<u8>, u64> = theirs
        .entries()
        .unwrap()
        .map(|entry| {
            let entry = entry.unwrap();
            (
                entry.path_bytes().into_owned(),
                entry.header().mtime().unwrap(),
            )
        })
        .collect();
    assert_eq!(names.len(), wanted.len());
    for (at, entry) in &wanted {
        let name = if entry.is_directory() {
            [at.as_bytes(), b"/"].concat()
        } else {
            at.as_bytes().to_vec()
        };
        assert_eq!(names.get(&name), Some(&7), "{at}");
    }
    let layer = Tree::builder().layer();
    let mut layer = layer;
    let node = Node::Whiteout;
    layer
        .insert(
            path("w"),
            Entry {
                meta: mode(0),
                node,
            },
        )
        .unwrap();
    assert!(project::tar(&store, &layer.finish().unwrap(), 7, &mut io::sink()).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(80))]

    /// Whatever a mirror sends, the answer is a tree or an error.
    #[test]
    fn damaged_archives_never_panic(changes in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 1..6)) {
        let (_directory, store) = new();
        let session = store.session().unwrap();
        let mut archive = Archive::default()
            .with(EntryType::Directory, "d/", "", b"")
            .pax(&[("path", b"d/one"), ("SCHILY.xattr.user.k", b"v")])
            .file("x", b"content")
            .with(EntryType::Link, "d/two", "d/one", b"")
            .with(EntryType::Symlink, "three", "four", b"")
            .end();
        for (at, byte) in &changes {
            let at = at.index(archive.len());
            archive[at] = *byte;
            // With a right checksum it gets further.
            let block = at / 512 * 512;
            let mut header = Header::from_byte_slice(&archive[block..block + 512]).clone();
            header.set_cksum();
            archive[block..block + 512].copy_from_slice(header.as_bytes());
        }
        if let Ok(tree) = read(&session, &archive) {
            prop_assert_eq!(Tree::parse(&tree.to_manifest()).unwrap(), tree);
        }
    }
}

#[test]
fn many_threads_share_a_session() {
    let (_directory, store) = new();
    let session = store.session().unwrap();
    let trees: Vec<Tree> = std::thread::scope(|scope| {
        let archive = |thread: usize| {
            (0..60).fold(Archive::default(), |archive, part| {
                // Half of the contents are the same for all.
                let content = format!("{}", part * (thread * (part % 2) + 1));
                archive.file(&format!("d{}/f{part}", part % 7), content.as_bytes())
            })
        };
        let session = &session;
        let threads: Vec<_> = (0..8)
            .map(|thread| scope.spawn(move || read(session, &archive(thread).end()).unwrap()))
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .collect()
    });
    for tree in &trees {
        let id = session.add_tree(tree).unwrap();
        session.view(&id).unwrap();
    }
    drop(session);
    assert_sound(&store);
}
