//! The store as one process sees it. This is one file because it is one suite over one fixture.

mod support;

use std::{
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::Path,
};

use envd_store::{
    Digest, Entry, GcOptions, Meta, RootKind, Store, StoreError, Tree, TreeId, merge,
};
use support::{add_files, assert_sound, file, hard_link, mode, path, root, tree};

fn new() -> (tempfile::TempDir, Store) {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(&directory.path().join("data/envd")).unwrap();
    (directory, store)
}

fn stat(path: &Path) -> fs::Metadata {
    fs::symlink_metadata(path).unwrap()
}

#[test]
fn other_versions_and_other_directories_are_refused() {
    let (_directory, store) = new();
    assert_eq!(stat(&store.path("")).mode() & 0o7777, 0o700);
    fs::write(store.path("version"), "envd-store 2\n").unwrap();
    let error = Store::open(&store.path("")).unwrap_err().to_string();
    assert!(
        error.contains("\"envd-store 2\"") && error.contains("\"envd-store 1\""),
        "{error}"
    );

    let other = tempfile::tempdir().unwrap();
    fs::write(other.path().join("thesis.tex"), "").unwrap();
    let error = Store::open(other.path()).unwrap_err();
    assert!(
        matches!(&error, StoreError::Foreign { name, .. } if name == "thesis.tex"),
        "{error}"
    );
    assert_eq!(fs::read_dir(other.path()).unwrap().count(), 1);
}

#[test]
fn a_half_made_store_is_completed() {
    let directory = tempfile::tempdir().unwrap();
    fs::create_dir_all(directory.path().join("objects")).unwrap();
    fs::write(directory.path().join("version.new"), "env").unwrap();
    let store = Store::open(directory.path()).unwrap();
    assert_sound(&store);
}

/// Objects are read-only to everyone by agreement, shared by views, and carry no time: so two stores are alike.
/// Whoever comes while another makes the store sees it whole or not at all.
#[test]
fn many_make_the_same_store() {
    for _ in 0..40 {
        let directory = tempfile::tempdir().unwrap();
        let at = directory.path().join("store");
        let barrier = std::sync::Barrier::new(8);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    barrier.wait();
                    Store::open(&at).unwrap();
                });
            }
        });
        let store = Store::open(&at).unwrap();
        assert_eq!(
            fs::read_to_string(store.path("version")).unwrap(),
            "envd-store 1\n"
        );
        assert!(!store.path("version.new").exists());
    }
}

#[test]
fn objects_have_their_mode_and_the_time_one() {
    let (_directory, store) = new();
    let session = store.session().unwrap();
    for (content, bits, on_disk) in [
        (&b"a"[..], 0o644, 0o644),
        (b"a", 0o4755, 0o755),
        (b"b", 0o000, 0o400),
    ] {
        let (digest, size) = session.put(content, bits).unwrap();
        assert_eq!((digest, size), (Digest::of(content), 1));
        let found = stat(&store.object_path(&digest, bits));
        assert_eq!((found.mode() & 0o7777, found.mtime()), (on_disk, 1));
    }
    let big = vec![7; 3_000_000];
    let mut writer = session.object_writer(0o600).unwrap();
    std::io::Write::write_all(&mut writer, &big).unwrap();
    let (digest, _) = writer.finish().unwrap();
    assert_eq!(fs::read(store.object_path(&digest, 0o600)).unwrap(), big);
    drop(session.object_writer(0o600).unwrap());
    session.twin(&digest, 0o600, 0o755).unwrap();
    assert_eq!(
        stat(&store.object_path(&digest, 0o755)).mode() & 0o777,
        0o755
    );
    assert_eq!(support::files(&session.path()), 0);
}

fn varied() -> Vec<(&'static str, Entry)> {
    let mut shadow = file(b"shadow", 0o640);
    shadow.meta.gid = 42;
    vec![
        ("bin", Entry::symlink("usr/bin")),
        ("etc/shadow", shadow),
        ("tmp", Entry::directory(mode(0o1777))),
        ("var/mail", Entry::directory(mode(0o2775))),
        ("root", Entry::directory(mode(0o500))),
        ("root/x", file(b"x", 0o600)),
        ("usr/bin/su", file(b"su", 0o4755)),
        ("usr/bin/sg", hard_link("usr/bin/su")),
    ]
}

#[test]
fn a_view_shows_the_tree() {
    let (_directory, store) = new();
    let session = store.session().unwrap();
    for (content, bits) in [(&b"shadow"[..], 0o640), (b"x", 0o600), (b"su", 0o4755)] {
        session.put(content, bits).unwrap();
    }
    let id = session.add_tree(&tree(&varied())).unwrap();
    assert_eq!(store.tree(&id).unwrap(), tree(&varied()));
    assert_eq!(store.view_path(&id), None);
    let view = session.view(&id).unwrap();
    assert_eq!(store.view_path(&id), Some(view.clone()));
    assert_eq!(session.view(&id).unwrap(), view);
    for (at, bits) in [
        ("", 0o755),
        ("etc", 0o755),
        ("etc/shadow", 0o640),
        ("tmp", 0o1777),
        ("var/mail", 0o775),
        ("root", 0o700),
        ("usr/bin/su", 0o755),
        ("bin", 0o777),
    ] {
        let found = stat(&view.join(at));
        assert_eq!((found.mode() & 0o7777, found.mtime()), (bits, 1), "{at}");
    }
    assert_eq!(
        fs::read_link(view.join("bin")).unwrap(),
        Path::new("usr/bin")
    );
    assert_eq!(
        stat(&view.join("usr/bin/su")).ino(),
        stat(&view.join("usr/bin/sg")).ino()
    );
    drop(session);
    assert_sound(&store);
}

#[test]
fn a_view_without_its_content_names_path_and_digest() {
    let (_directory, store) = new();
    let session = store.session().unwrap();
    let wanted = tree(&[("usr/bin/x", file(b"gone", 0o755))]);
    let error = session.add_tree(&wanted).unwrap_err().to_string();
    assert!(
        error.contains("/usr/bin/x") && error.contains(&Digest::of(b"gone").to_string()),
        "{error}"
    );
    session.put(b"gone", 0o755).unwrap();
    let id = session.add_tree(&wanted).unwrap();
    fs::remove_file(store.object_path(&Digest::of(b"gone"), 0o755)).unwrap();
    let error = session.view(&id).unwrap_err();
    assert!(matches!(error, StoreError::ObjectMissing { .. }), "{error}");
    assert_eq!(store.view_path(&id), None);
    assert!(matches!(
        session.view(&TreeId(Digest::of(b"?"))),
        Err(StoreError::TreeMissing { .. })
    ));
}

/// The configuration step edits a view in place; a difference to a view made afresh would be a digest that lies.
#[test]
fn a_transformed_view_is_the_view() {
    let (_directory, store) = new();
    let session = store.session().unwrap();
    for (content, bits) in [
        (&b"shadow"[..], 0o640),
        (b"x", 0o600),
        (b"su", 0o4755),
        (b"new", 0o644),
        (b"su", 0o644),
    ] {
        session.put(content, bits).unwrap();
    }
    let old = tree(&varied());
    let mut closed = file(b"shadow", 0o640);
    closed.meta.gid = 7;
    let new = tree(&[
        ("bin", Entry::symlink("elsewhere")),
        ("etc/shadow", closed),
        ("etc/new/deep/file", file(b"new", 0o644)),
        ("tmp", file(b"x", 0o600)),
        ("var", Entry::symlink("tmp")),
        ("root", Entry::directory(mode(0o750))),
        ("root/x/y", file(b"x", 0o600)),
        ("usr/bin/su", file(b"su", 0o644)),
        ("usr/bin/sg", hard_link("usr/bin/su")),
    ]);
    for (from, to) in [(&old, &new), (&new, &old), (&old, &Tree::default())] {
        let id = session.add_tree(to).unwrap();
        let private = session.private_view(from).unwrap();
        let view = session.transform_view(&private, from, to).unwrap();
        assert_eq!(store.view_path(&id), Some(view.clone()));
        assert!(!private.exists());
        let mut waiting = vec![view];
        while let Some(at) = waiting.pop() {
            assert_eq!(stat(&at).mtime(), 1, "{at:?}");
            if stat(&at).is_dir() {
                waiting.extend(
                    fs::read_dir(&at)
                        .unwrap()
                        .map(|entry| entry.unwrap().path()),
                );
            }
        }
    }
    drop(session);
    assert_sound(&store);
}

#[test]
fn damage_is_found_and_repaired() {
    let (_directory, store) = new();
    let session = store.session().unwrap();
    let (_, good) = add_files(&session, &[("a", b"good", 0o644)]);
    let (_, bad) = add_files(&session, &[("b", b"bad", 0o644), ("a", b"good", 0o644)]);
    let (_, torn) = add_files(&session, &[("c", b"good", 0o644)]);
    let (_, opened) = add_files(&session, &[("d", b"opened", 0o600)]);
    for id in [&good, &bad, &torn, &opened] {
        session.view(id).unwrap();
    }
    fs::write(
        store.path("fetch").join(Digest::of(b"deb").to_string()),
        "other",
    )
    .unwrap();
    drop(session);
    let object = store.object_path(&Digest::of(b"bad"), 0o644);
    fs::write(&object, "evil").unwrap();
    let manifest = store.path("trees").join(torn.to_string());
    fs::write(&manifest, "envd-tree 1\n").unwrap();
    assert!(matches!(store.tree(&torn), Err(StoreError::TreeDamaged { path }) if path == manifest));
    let setuid = store.object_path(&Digest::of(b"opened"), 0o600);
    fs::set_permissions(&setuid, fs::Permissions::from_mode(0o666)).unwrap();
    let report = store.verify(false).unwrap();
    for at in [&object, &manifest, &setuid] {
        assert!(report.problem_at(at).is_some(), "{at:?} {report:#?}");
    }
    assert_eq!(
        report
            .problems
            .iter()
            .filter(|problem| problem.repaired)
            .count(),
        0
    );
    let report = store.verify(true).unwrap();
    let mut expected = vec![bad, torn, opened];
    expected.sort();
    assert_eq!(report.refetch, expected);
    assert!(
        report.problems.iter().all(|problem| problem.repaired),
        "{report:#?}"
    );
    assert!(store.verify(false).unwrap().is_clean());
    assert!(store.view_path(&good).is_some());
    assert_eq!(store.view_path(&bad), None);
    // And what went can come again.
    let session = store.session().unwrap();
    let (_, again) = add_files(&session, &[("b", b"bad", 0o644), ("a", b"good", 0o644)]);
    assert_eq!(again, bad);
    session.view(&bad).unwrap();
    drop(session);
    assert_sound(&store);
}

#[test]
fn a_changed_view_is_found() {
    let (_directory, store) = new();
    let session = store.session().unwrap();
    let (_, id) = add_files(&session, &[("d/a", b"1", 0o644), ("d/b", b"2", 0o644)]);
    session.put(b"3", 0o644).unwrap();
    for change in [
        |view: &Path, _: &Path| fs::remove_file(view.join("d/a")).unwrap(),
        |view: &Path, _: &Path| fs::write(view.join("more"), "").unwrap(),
        |view: &Path, object: &Path| {
            fs::remove_file(view.join("d/b")).unwrap();
            fs::hard_link(object, view.join("d/b")).unwrap();
        },
        |view: &Path, _: &Path| {
            fs::set_permissions(view.join("d"), fs::Permissions::from_mode(0o777)).unwrap()
        },
    ] {
        let view = session.view(&id).unwrap();
        assert!(store.verify(false).unwrap().is_clean());
        change(&view, &store.object_path(&Digest::of(b"3"), 0o644));
        let report = store.verify(false).unwrap();
        assert_eq!(report.problems.len(), 1);
        assert!(report.problems[0].path.starts_with(&view));
        fs::rename(&view, session.scratch().unwrap().join("bad")).unwrap();
    }
}

#[test]
fn gc_takes_what_nothing_keeps() {
    let (_directory, store) = new();
    let session = store.session().unwrap();
    let (_, kept) = add_files(&session, &[("a", b"kept", 0o644), ("b", b"shared", 0o644)]);
    let (_, other) = add_files(
        &session,
        &[("b", b"shared", 0o644), ("c", b"of the other", 0o644)],
    );
    let (_, dead) = add_files(&session, &[("b", b"shared", 0o644), ("d", b"dead", 0o644)]);
    for id in [&kept, &dead] {
        session.view(id).unwrap();
    }
    let mut keeps = root("one", &[kept]);
    keeps.fetch = vec![Digest::of(b"deb")];
    session.set_root(&keeps).unwrap();
    session
        .set_root(&root(
            "two",
            &[other, TreeId(Digest::of(b"never realised"))],
        ))
        .unwrap();
    for download in [&b"deb"[..], b"old"] {
        fs::write(
            store.path("fetch").join(Digest::of(download).to_string()),
            download,
        )
        .unwrap();
    }
    fs::write(
        store
            .path("fetch")
            .join(format!("{}.part", Digest::of(b"half"))),
        "ha",
    )
    .unwrap();
    fs::write(store.path("caches").join("cargo"), "1234").unwrap();
    assert!(
        matches!(store.gc(GcOptions::default()), Err(StoreError::Busy { pids }) if pids == [std::process::id()])
    );
    drop(session);

    let dry = GcOptions {
        dry_run: true,
        fetch: true,
        caches: true,
        forget: &[],
    };
    let expected = store.gc(dry).unwrap();
    assert_eq!((expected.objects, expected.object_bytes), (1, 4));
    assert_eq!(
        (
            expected.trees,
            expected.views,
            expected.fetch,
            expected.kept_objects
        ),
        (1, 1, 2, 3)
    );
    let only: Vec<_> = expected
        .roots
        .iter()
        .map(|usage| (usage.state.root.name.as_str(), usage.bytes, usage.only))
        .collect();
    assert_eq!(only, [("one", 10, 4), ("two", 18, 12)]);
    assert!(store.has_tree(&dead) && store.view_path(&dead).is_some());

    let report = store
        .gc(GcOptions {
            dry_run: false,
            ..dry
        })
        .unwrap();
    assert_eq!(
        (
            report.objects,
            report.object_bytes,
            report.trees,
            report.views,
            report.fetch,
            report.fetch_bytes
        ),
        (1, 4, 1, 1, 2, 5)
    );
    assert!(report.cache_bytes > 0);
    assert!(!store.has_tree(&dead) && store.view_path(&dead).is_none());
    assert!(store.has_tree(&other) && store.view_path(&kept).is_some());
    assert!(
        store
            .path("fetch")
            .join(Digest::of(b"deb").to_string())
            .exists()
    );
    assert_eq!(fs::read_dir(store.path("caches")).unwrap().count(), 0);
    assert_sound(&store);

    assert!(store.remove_root("one").unwrap());
    assert!(!store.remove_root("one").unwrap());
    let report = store.gc(GcOptions::default()).unwrap();
    assert_eq!((report.trees, report.views, report.objects), (1, 1, 1));
    assert_eq!(report.fetch, 0);
}

/// What an old generation is counted is what dropping it frees; what the present one needs is the project's.
#[test]
fn what_roots_of_one_project_share_is_counted_once_and_given_up_by_name() {
    let (directory, store) = new();
    let session = store.session().unwrap();
    let add = |files: &[(&str, &[u8], u16)]| add_files(&session, files).1;
    let (all, two) = (&b"all"[..], &b"older two"[..]);
    let first = add(&[("a", all, 0o644), ("b", two, 0o644), ("c", b"1", 0o644)]);
    let second = add(&[("a", all, 0o644), ("b", two, 0o644), ("c", b"22", 0o644)]);
    let third = add(&[("a", all, 0o644), ("c", b"333", 0o644)]);
    let set = |name: &str, kind, id| {
        let mut root = root(name, &[id]);
        root.kind = kind;
        root.path = Some(directory.path().to_owned());
        session.set_root(&root).unwrap();
    };
    set("p", RootKind::Project, third);
    set("p-1", RootKind::Generation, first);
    set("p-2", RootKind::Generation, second);
    set("p-3", RootKind::Generation, third);
    drop(session);
    let dry = GcOptions {
        dry_run: true,
        ..GcOptions::default()
    };
    let only = |options| -> Vec<u64> {
        let report = store.gc(options).unwrap();
        report.roots.iter().map(|usage| usage.only).collect()
    };
    assert_eq!(only(dry), [3 + 3, 1, 9 + 2, 0]);
    let names = ["p-2".to_owned()];
    let forget = &names[..];
    assert_eq!(only(GcOptions { forget, ..dry }), [3 + 3, 9 + 1, 0]);
    assert!(store.root("p-2").unwrap().is_some(), "a dry run");
    let report = store
        .gc(GcOptions {
            forget,
            ..GcOptions::default()
        })
        .unwrap();
    assert_eq!((report.trees, report.objects), (1, 1));
    assert!(store.root("p-2").unwrap().is_none());
    // Another project's share is counted to nobody.
    let mut other = root("other", &[third]);
    other.path = Some("/elsewhere".into());
    store.session().unwrap().set_root(&other).unwrap();
    assert_eq!(only(dry), [0, 0, 9 + 1, 0]);
}

/// Users lost environments to collectors that took an unmounted disk for a deleted project.
#[test]
fn an_unreachable_root_is_kept_and_said() {
    let (directory, store) = new();
    let project = directory.path().join("project");
    fs::create_dir(&project).unwrap();
    let session = store.session().unwrap();
    let (_, id) = add_files(&session, &[("a", b"1", 0o644)]);
    let mut keeps = root("p", &[id]);
    keeps.path = Some(project.clone());
    session.set_root(&keeps).unwrap();
    drop(session);
    assert!(!store.roots().unwrap()[0].unreachable);
    fs::remove_dir(&project).unwrap();
    let report = store.gc(GcOptions::default()).unwrap();
    assert!(report.roots[0].state.unreachable);
    assert!(store.has_tree(&id));
    // What a damaged root keeps is unknown, so nothing goes.
    fs::write(store.path("roots/p"), "{").unwrap();
    assert!(matches!(
        store.gc(GcOptions::default()),
        Err(StoreError::RootDamaged { .. })
    ));
    assert!(store.has_tree(&id));
    assert!(matches!(
        store.root("../version"),
        Err(StoreError::RootName { .. })
    ));
}

#[test]
fn a_held_view_stays() {
    let (_directory, store) = new();
    let session = store.session().unwrap();
    let (_, id) = add_files(&session, &[("a", b"1", 0o644)]);
    assert!(store.hold(&id).unwrap().is_none());
    session.view(&id).unwrap();
    drop(session);
    let hold = store.hold(&id).unwrap().unwrap();
    let second = Store::open(&store.path(""))
        .unwrap()
        .hold(&id)
        .unwrap()
        .unwrap();
    assert_eq!(store.gc(GcOptions::default()).unwrap().held, [id]);
    drop(hold);
    assert_eq!(store.gc(GcOptions::default()).unwrap().held, [id]);
    assert!(matches!(
        store.clone().remove_all(),
        Err(StoreError::ViewInUse { .. })
    ));
    assert_eq!(fs::read(second.path().join("a")).unwrap(), b"1");
    assert_sound(&store);
    let outliving = second.into_fd();
    assert_eq!(store.gc(GcOptions::default()).unwrap().held, [id]);
    drop(outliving);
    let report = store.gc(GcOptions::default()).unwrap();
    assert_eq!(
        (
            report.held.len(),
            report.views,
            report.trees,
            report.objects
        ),
        (0, 1, 1, 1)
    );
    assert!(store.hold(&id).unwrap().is_none());
}

/// A gc that was killed while it removed a view leaves one that must never be entered.
#[test]
fn a_half_removed_view_counts_as_absent() {
    let (_directory, store) = new();
    let session = store.session().unwrap();
    let (_, id) = add_files(&session, &[("a", b"1", 0o644), ("b", b"2", 0o644)]);
    let view = session.view(&id).unwrap();
    let break_it = || {
        fs::set_permissions(&view, fs::Permissions::from_mode(0o700)).unwrap();
        fs::remove_file(view.join("a")).unwrap();
        assert_eq!(store.view_path(&id), None);
        assert!(store.hold(&id).unwrap().is_none());
    };
    break_it();
    assert_eq!(session.view(&id).unwrap(), view);
    assert!(view.join("a").exists());
    session.set_root(&root("r", &[id])).unwrap();
    break_it();
    drop(session);
    assert_sound(&store);
    assert_eq!(store.gc(GcOptions::default()).unwrap().views, 1);
    assert!(!view.exists() && store.has_tree(&id));
}

/// ext4 allows 65,000 links to a file; an empty `__init__.py` has more in a large enough store.
#[test]
fn too_many_links_become_a_copy() {
    let (_directory, store) = new();
    let session = store.session().unwrap();
    let (_, id) = add_files(&session, &[("a", b"", 0o644), ("b", b"", 0o644)]);
    let object = store.object_path(&Digest::of(b""), 0o644);
    let scratch = session.scratch().unwrap();
    let mut links = 1;
    while links < 70_000 && fs::hard_link(&object, scratch.join(links.to_string())).is_ok() {
        links += 1;
    }
    if links == 70_000 {
        eprintln!("no limit of links up to 70,000 on this file system: the copy is not exercised");
    }
    let view = session.view(&id).unwrap();
    for name in ["a", "b"] {
        let found = stat(&view.join(name));
        assert_eq!(
            (found.mode() & 0o7777, found.mtime(), found.len()),
            (0o644, 1, 0)
        );
        assert_eq!(found.nlink() == 1, links < 70_000);
    }
    drop(session);
    assert_sound(&store);
}

/// After a power cut, files that were written but not flushed are often empty. This makes one by hand.
#[test]
fn a_power_cut_costs_only_what_was_not_written() {
    let (_directory, store) = new();
    let session = store.session().unwrap();
    let (_, whole) = add_files(&session, &[("a", b"whole", 0o644)]);
    let (_, torn) = add_files(&session, &[("a", b"whole", 0o644), ("b", b"torn", 0o644)]);
    for id in [&whole, &torn] {
        session.view(id).unwrap();
    }
    drop(session);
    let markers: Vec<_> = fs::read_dir(store.path("unsynced"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    assert_eq!(markers.len(), 1, "{markers:?}");
    let object = store.object_path(&Digest::of(b"torn"), 0o644);
    fs::write(&object, "").unwrap();
    let session = store.session().unwrap();
    let (_, unlinked) = add_files(&session, &[("a", b"whole", 0o644), ("c", b"whole", 0o644)]);
    fs::remove_file(session.view(&unlinked).unwrap().join("c")).unwrap();
    drop(session);
    fs::remove_file(&markers[0]).unwrap();
    let markers: Vec<_> = fs::read_dir(store.path("unsynced"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    // In this boot, nothing has happened.
    Store::open(&store.path("")).unwrap();
    assert!(object.exists());
    fs::rename(
        &markers[0],
        store.path("unsynced/11111111-2222-3333-4444-555555555555.1-2-3.0"),
    )
    .unwrap();
    let store = Store::open(&store.path("")).unwrap();
    assert!(!object.exists() && !store.has_tree(&torn) && store.view_path(&torn).is_none());
    assert!(store.has_tree(&whole) && store.view_path(&whole).is_some());
    assert!(store.has_tree(&unlinked) && store.view_path(&unlinked).is_none());
    assert!(!store.path("unsynced").exists());
    assert_sound(&store);
    // Flushed means settled.
    let session = store.session().unwrap();
    session.put(b"more", 0o644).unwrap();
    assert!(store.path("unsynced").exists());
    session.sync().unwrap();
    assert!(!store.path("unsynced").exists());
    session.put(b"and more", 0o644).unwrap();
    assert!(store.path("unsynced").exists());
    drop(session);
    store.gc(GcOptions::default()).unwrap();
    assert!(!store.path("unsynced").exists());
}

#[test]
fn uninstalling_leaves_nothing_but_what_is_not_ours() {
    let (_directory, store) = new();
    let session = store.session().unwrap();
    let (_, id) = add_files(&session, &[("d/a", b"1", 0o644)]);
    session.view(&id).unwrap();
    session.set_root(&root("r", &[id])).unwrap();
    fs::create_dir_all(store.path("caches/cargo/registry")).unwrap();
    assert!(matches!(
        store.clone().remove_all(),
        Err(StoreError::Busy { .. })
    ));
    drop(session);
    let at = store.path("");
    let foreign = store.path("views/thesis.tex");
    fs::write(&foreign, "").unwrap();
    assert_eq!(
        store.remove_all().unwrap().foreign,
        std::slice::from_ref(&foreign)
    );
    assert_eq!(fs::read_dir(&at).unwrap().count(), 1);
    fs::remove_file(&foreign).unwrap();
    fs::remove_dir(at.join("views")).unwrap();
    let store = Store::open(&at).unwrap();
    assert!(store.remove_all().unwrap().foreign.is_empty());
    assert!(!at.exists());
}

#[test]
fn usage_counts_what_is_there() {
    let (_directory, store) = new();
    let session = store.session().unwrap();
    let (_, id) = add_files(
        &session,
        &[("d/a", &[1; 100_000], 0o644), ("e", b"2", 0o644)],
    );
    session.view(&id).unwrap();
    let usage = store.usage().unwrap();
    assert_eq!(
        (
            usage.objects.count,
            usage.trees.count,
            usage.views.count,
            usage.tmp.count
        ),
        (2, 1, 1, 1)
    );
    assert!(
        usage.objects.bytes >= 100_000 && usage.bytes() >= usage.objects.bytes + usage.trees.bytes
    );
}

/// Scratch directories hold whatever a sandbox left in them: closed directories, and nests deeper than a path can be.
#[test]
fn any_scratch_can_be_removed() {
    let (_directory, store) = new();
    let session = store.session().unwrap();
    let scratch = session.scratch().unwrap();
    let closed = scratch.join("work/work");
    fs::create_dir_all(closed.join("x/y")).unwrap();
    fs::write(closed.join("x/file"), "").unwrap();
    fs::set_permissions(closed.join("x"), fs::Permissions::from_mode(0o500)).unwrap();
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o000)).unwrap();
    let mut deep = rustix::fs::open(
        &scratch,
        rustix::fs::OFlags::RDONLY,
        rustix::fs::Mode::empty(),
    )
    .unwrap();
    let name = "d".repeat(100);
    for _ in 0..300 {
        rustix::fs::mkdirat(&deep, &*name, rustix::fs::Mode::RWXU).unwrap();
        deep = rustix::fs::openat(
            &deep,
            &*name,
            rustix::fs::OFlags::RDONLY,
            rustix::fs::Mode::empty(),
        )
        .unwrap();
    }
    drop(session);
    assert_sound(&store);
}

#[test]
fn merged_trees_have_a_view() {
    let (_directory, store) = new();
    let session = store.session().unwrap();
    let (one, _) = add_files(&session, &[("usr/bin/a", b"1", 0o755)]);
    let (two, _) = add_files(&session, &[("usr/bin/b", b"2", 0o755)]);
    let both = merge(
        &[("one".to_owned(), &one), ("two".to_owned(), &two)],
        &|_, _| false,
    )
    .unwrap();
    let id = session.add_tree(&both).unwrap();
    let view = session.view(&id).unwrap();
    assert_eq!(fs::read_dir(view.join("usr/bin")).unwrap().count(), 2);
    assert_eq!(both.get(&path("usr")).unwrap().meta, Meta::directory());
}
