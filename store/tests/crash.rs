//! Processes that die, race each other, or run out of disk. Whatever happens, the next command finds a store that is whole.

mod support;

use std::{
    fs,
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use envd_store::{Digest, GcOptions, Store, StoreError, Tree, TreeId};
use support::{add_files, as_part, assert_sound, can_unshare, part, root};

/// Waits for a child, and kills it when this test ends early.
struct Reaped(Child);

impl Drop for Reaped {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn start(name: &str, store: &Path) -> Reaped {
    let mut command = part(name, store);
    Reaped(
        command
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap(),
    )
}

fn finish(name: &str, mut child: Reaped) {
    assert!(child.0.wait().unwrap().success(), "{name} failed");
}

/// A tree of its own for every number, half of whose content is shared with all others.
fn numbered(number: u64) -> Vec<(String, Vec<u8>, u16)> {
    (0..40u64)
        .map(|part| {
            let content = if part % 2 == 0 {
                part
            } else {
                number * 1000 + part
            };
            let length = if part == 7 { 300_000 } else { 20 };
            let bytes = content
                .to_le_bytes()
                .into_iter()
                .cycle()
                .take(length)
                .collect();
            (format!("d{}/f{part}", part % 5), bytes, 0o644)
        })
        .collect()
}

fn realise(store: &Store, number: u64) -> (Tree, TreeId) {
    let session = store.session().unwrap();
    let files = numbered(number);
    let files: Vec<(&str, &[u8], u16)> = files
        .iter()
        .map(|(at, bytes, bits)| (at.as_str(), bytes.as_slice(), *bits))
        .collect();
    let (tree, id) = add_files(&session, &files);
    session.view(&id).unwrap();
    session
        .set_root(&root(&format!("r{}", number % 3), &[id]))
        .unwrap();
    (tree, id)
}

/// Endless work of every kind; its killer decides when it ends.
#[test]
fn work_for_ever() {
    let Some(store) = as_part("work_for_ever") else {
        return;
    };
    for number in 0.. {
        let (old, _) = realise(&store, number);
        let session = store.session().unwrap();
        let files = numbered(number + 1);
        let files: Vec<(&str, &[u8], u16)> = files
            .iter()
            .map(|(at, bytes, bits)| (at.as_str(), bytes.as_slice(), *bits))
            .collect();
        let (new, _) = add_files(&session, &files);
        let private = session.private_view(&old).unwrap();
        session.transform_view(&private, &old, &new).unwrap();
        drop(session);
        store.gc(GcOptions::default()).unwrap();
    }
}

#[test]
fn killed_at_any_moment_the_store_is_whole() {
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path().join("store");
    for round in 0..25u64 {
        let child = start("work_for_ever", &at);
        // Not at random, so that a failure comes again; spread over the program's start and several turns of its work.
        std::thread::sleep(Duration::from_millis(5 + round * round * 7 % 211));
        drop(child);
        let store = Store::open(&at).unwrap();
        drop(store.session().unwrap());
        assert_sound(&store);
        for state in store.roots().unwrap() {
            for id in &state.root.trees {
                store.tree(id).unwrap();
            }
        }
    }
    let store = Store::open(&at).unwrap();
    for state in store.roots().unwrap() {
        store.remove_root(&state.root.name).unwrap();
    }
    store.gc(GcOptions::default()).unwrap();
    assert_sound(&store);
    let usage = store.usage().unwrap();
    assert_eq!(
        (
            usage.objects.count,
            usage.trees.count,
            usage.views.count,
            usage.tmp.count
        ),
        (0, 0, 0, 0)
    );
    assert!(store.remove_all().unwrap().foreign.is_empty());
}

/// A session that waits to be killed.
#[test]
fn sit_in_a_session() {
    let Some(store) = as_part("sit_in_a_session") else {
        return;
    };
    let session = store.session().unwrap();
    fs::create_dir_all(session.scratch().unwrap().join("deep/er")).unwrap();
    fs::write(store.path("caches/ready"), "").unwrap();
    std::thread::sleep(Duration::from_secs(60));
}

fn wait_for(at: &Path) {
    let begin = Instant::now();
    while !at.exists() {
        assert!(
            begin.elapsed() < Duration::from_secs(30),
            "{at:?} never came"
        );
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn sessions_of_the_living_are_left_and_of_the_dead_are_swept() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(&directory.path().join("store")).unwrap();
    let child = start("sit_in_a_session", &store.path(""));
    wait_for(&store.path("caches/ready"));
    drop(store.session().unwrap());
    assert_eq!(fs::read_dir(store.path("tmp")).unwrap().count(), 1);
    let pid = child.0.id();
    assert!(
        matches!(store.gc(GcOptions::default()), Err(StoreError::Busy { pids }) if pids == [pid])
    );
    drop(child);
    drop(store.session().unwrap());
    assert_eq!(fs::read_dir(store.path("tmp")).unwrap().count(), 0);
    store.gc(GcOptions::default()).unwrap();
}

/// A held view that waits to be killed.
#[test]
fn sit_in_a_view() {
    let Some(store) = as_part("sit_in_a_view") else {
        return;
    };
    let id = store.roots().unwrap()[0].root.trees[0];
    let _hold = store.hold(&id).unwrap().unwrap();
    fs::write(store.path("caches/ready"), "").unwrap();
    std::thread::sleep(Duration::from_secs(60));
}

/// Removing the view under a running environment would pull its libraries away.
#[test]
fn gc_neither_waits_for_an_environment_nor_harms_it() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(&directory.path().join("store")).unwrap();
    let (_, id) = realise(&store, 0);
    let child = start("sit_in_a_view", &store.path(""));
    wait_for(&store.path("caches/ready"));
    store.remove_root("r0").unwrap();
    let report = store.gc(GcOptions::default()).unwrap();
    assert_eq!((report.held, report.objects), (vec![id], 0));
    assert!(store.view_path(&id).is_some());
    assert_sound(&store);
    drop(child);
    let report = store.gc(GcOptions::default()).unwrap();
    assert_eq!((report.views, report.objects), (1, 40));
}

/// Realises the same as everyone else, several times over.
#[test]
fn realise_the_same() {
    let Some(store) = as_part("realise_the_same") else {
        return;
    };
    for number in 0..20 {
        let (_, id) = realise(&store, number);
        assert!(store.hold(&id).unwrap().is_some());
    }
}

#[test]
fn two_processes_realise_the_same_thing_at_once() {
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path().join("store");
    let children: Vec<_> = (0..3).map(|_| start("realise_the_same", &at)).collect();
    for child in children {
        finish("realise_the_same", child);
    }
    let store = Store::open(&at).unwrap();
    assert_sound(&store);
    let usage = store.usage().unwrap();
    assert_eq!(
        (usage.objects.count, usage.trees.count, usage.views.count),
        (20 + 20 * 20, 20, 20)
    );
}

/// In a store on a tmpfs of 4 MB: fills it while it realises, then frees it again.
#[test]
fn fill_the_disk() {
    let Some(store) = as_part("fill_the_disk") else {
        return;
    };
    let (_, kept) = realise(&store, 0);
    let (_, dead) = realise(&store, 3);
    assert!(!store.roots().unwrap()[0].root.trees.contains(&kept));
    store
        .session()
        .unwrap()
        .set_root(&root("r0", &[kept]))
        .unwrap();
    let session = store.session().unwrap();
    let mut number = 0u64;
    let error = loop {
        number += 1;
        let bytes: Vec<u8> = number
            .to_le_bytes()
            .into_iter()
            .cycle()
            .take(200_000)
            .collect();
        match session.put(&bytes, 0o644) {
            Ok(_) => {}
            Err(error) => break error,
        }
    };
    assert!(matches!(&error, StoreError::Full { .. }), "{error}");
    assert!(
        error.to_string().contains("disk is full") && error.to_string().contains("envd gc"),
        "{error}"
    );
    // The last bytes and inodes, too.
    fs::write(store.path("caches/filler"), vec![0; 4_000_000]).unwrap_err();
    let mut last = 0;
    while fs::write(store.path(&format!("caches/{last}")), "x").is_ok() {
        last += 1;
    }
    drop(session);
    fs::write(store.path("caches/one-more"), vec![0; 200_000]).unwrap_err();
    let report = store.gc(GcOptions::default()).unwrap();
    assert!(
        report.objects >= number - 1 && report.views == 1,
        "{report:?}"
    );
    assert!(store.has_tree(&kept) && !store.has_tree(&dead));
    assert_sound(&store);
    realise(&store, 6);
    assert_sound(&store);
    println!("the disk was full and is no more");
}

#[test]
fn gc_works_on_a_full_disk() {
    if !can_unshare("gc_works_on_a_full_disk") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path().join("mount");
    fs::create_dir(&at).unwrap();
    let child = part("fill_the_disk", &at.join("store"));
    let output = Command::new("unshare")
        .args([
            "-rm",
            "sh",
            "-c",
            "mount -t tmpfs -o size=4m,nr_inodes=2000 tmpfs \"$MOUNT\" && exec \"$0\" \"$@\"",
        ])
        .arg(child.get_program())
        .args(child.get_args())
        .env("MOUNT", &at)
        .env("ENVD_TEST_PART", "fill_the_disk")
        .env("ENVD_TEST_STORE", at.join("store"))
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(
        output.status.success() && text.contains("full and is no more"),
        "{text}"
    );
}

/// Two stores that know nothing of each other call the same thing by the same name.
#[test]
fn names_do_not_depend_on_the_store() {
    let directory = tempfile::tempdir().unwrap();
    let ids: Vec<TreeId> = ["one", "two"]
        .into_iter()
        .map(|name| realise(&Store::open(&directory.path().join(name)).unwrap(), 5).1)
        .collect();
    assert_eq!(ids[0], ids[1]);
    assert_ne!(ids[0].0, Digest::of(b""));
}
