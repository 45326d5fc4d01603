//! Each test says what a user would lose.

use std::{
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
};

use proptest::prelude::*;

use super::*;

const FIXTURE: &str = include_str!("../../tests/fixtures/lock-1.toml");

fn parse(text: &str) -> Result<Lock, LockError> {
    Lock::parse(text, Path::new("envd.lock"))
}

fn fixture() -> Lock {
    parse(FIXTURE).unwrap()
}

/// What reading the fixture with `from` replaced by `to` says.
fn refused(from: &str, to: &str) -> String {
    assert!(FIXTURE.contains(from), "the fixture has no {from:?}");
    parse(&FIXTURE.replacen(from, to, 1))
        .unwrap_err()
        .to_string()
}

#[test]
fn a_lock_of_version_1_stays_readable_and_is_written_the_same() {
    let lock = fixture();
    assert_eq!(lock.architecture, Architecture::AMD64);
    assert_eq!(lock.channels[0].suites[1].base, "debian-security");
    assert_eq!(
        lock.channels[0].suites[0].date.to_string(),
        "20260901T081234Z"
    );
    let names: Vec<&str> = lock.artifacts.iter().map(|a| &*a.artifact.name).collect();
    assert_eq!(names, ["gcc-14-base", "hello", "libc6", "libgcc-s1"]);
    let hello = lock.artifact("hello").unwrap();
    assert_eq!(hello.requested[0].to_string(), "hello@2.10");
    assert_eq!(hello.needs, ["libc6"]);
    assert_eq!(
        lock.suite_of(lock.artifact("libc6").unwrap()).unwrap().name,
        "trixie-security"
    );
    assert_eq!(lock.root.unwrap().to_string().len(), 64);
    assert_eq!(lock.to_text(), FIXTURE);
}

#[test]
fn digests_of_version_1_never_change() {
    // If they do, every lock out there goes stale, or every root is composed again.
    let lock = fixture();
    assert_eq!(
        lock.packages_digest().to_string(),
        "887a92bbcf8de6952effefb9d4cc39b3218b2e3fec5fc69b59c6ca0d3b64d556"
    );
    let requirements = ["hello@2.10".parse().unwrap(), "hello@2.10".parse().unwrap()];
    let channels = ["debian:trixie".parse().unwrap()];
    let inputs = Inputs {
        requirements: &requirements,
        channels: &channels,
        essential: false,
        architecture: Architecture::AMD64,
    };
    assert_eq!(inputs.digest(), lock.inputs);
    assert!(lock.is_current_for(&inputs));
    assert!(!lock.is_current_for(&Inputs {
        essential: true,
        ..inputs.clone()
    }));
    assert!(!lock.is_current_for(&Inputs {
        requirements: &[],
        ..inputs.clone()
    }));
    assert!(!lock.is_current_for(&Inputs {
        channels: &[],
        ..inputs.clone()
    }));
    assert!(!lock.is_current_for(&Inputs {
        architecture: Architecture::ARM64,
        ..inputs
    }));
}

#[test]
fn what_determines_the_root_is_the_files_and_nothing_else() {
    let lock = fixture();
    let mut same = lock.clone();
    same.root = None;
    same.channels[0].suites[0].date = "20270101T000000Z".parse().unwrap();
    same.artifacts[1].requested.clear();
    assert_eq!(lock.packages_digest(), same.packages_digest());
    let mut other = lock.clone();
    other.artifacts[1].artifact.sha256 = Digest::of(b"other");
    assert_ne!(lock.packages_digest(), other.packages_digest());
    let mut fewer = lock.clone();
    fewer.artifacts.remove(0);
    assert_ne!(lock.packages_digest(), fewer.packages_digest());
}

#[test]
fn the_head_is_read_without_the_rest() {
    let head = Lock::peek(FIXTURE, Path::new("envd.lock")).unwrap();
    assert_eq!(head.root, fixture().root);
    assert_eq!(head.inputs, fixture().inputs);
}

#[test]
fn a_newer_lock_says_so_whatever_it_contains() {
    let error = refused("version = 1\n", "version = 2\nmagic = [1]\n");
    assert!(
        error.contains("version 2") && error.contains("newer envd"),
        "{error}"
    );
    assert!(refused("version = 1\n", "").contains("missing field `version`"));
    assert!(refused("version = 1\n", "version = 0\n").contains("envd.lock:2:1: there never was"));
    assert!(refused("version = 1\n", "version = -1\n").contains("envd.lock:2:11"));
}

#[test]
fn a_merge_conflict_is_called_one() {
    let error = refused("[[artifact]]", "<<<<<<< HEAD\n[[artifact]]");
    assert!(error.starts_with("envd.lock:24: a merge left"), "{error}");
    assert!(refused("[[artifact]]", "=======\n[[artifact]]").contains("merge"));
}

#[test]
fn what_is_wrong_is_said_with_its_place() {
    for (from, to, said) in [
        ("size = 53", "sise = 53", "unknown field `sise`"),
        ("size = 53", "size = -53", "integer"),
        ("sha256 = \"0", "sha256 = \"X", "is not a SHA-256 digest"),
        ("inputs = ", "outputs = ", "unknown field `outputs`"),
        (
            "name = \"hello\"",
            "name = \"libc6\"",
            "package libc6 is there twice",
        ),
        (
            "name = \"hello\"",
            "name = \"../hello\"",
            "\"../hello\" names no package",
        ),
        (
            "version = \"2.10-5\"",
            "version = \"2 10\"",
            "is not a Debian version",
        ),
        (
            "path = \"pool/main/h",
            "path = \"../../main/h",
            "is no plain path",
        ),
        (
            "path = \"pool/main/h",
            "path = \"/pool/main/h",
            "is no plain path",
        ),
        (
            "path = \"pool/main/h",
            "path = \"pool//main/h",
            "is no plain path",
        ),
        (
            "path = \"pool/main/h",
            "path = \"pool/main?h",
            "is no plain path",
        ),
        ("base = \"debian\"", "base = \"..\"", "is no plain path"),
        (
            "suite = \"trixie\"",
            "suite = \"sid\"",
            "suite sid of channel debian:trixie is not above",
        ),
        (
            "channel = \"debian:trixie\"",
            "channel = \"debian:sid\"",
            "channel debian:sid is not above",
        ),
        (
            "channel = \"debian:trixie\"",
            "channel = \"trixie\"",
            "is not a channel",
        ),
        (
            "architecture = \"amd64\"\nchannel",
            "architecture = \"i386\"\nchannel",
            "i386 does not run on amd64",
        ),
        (
            "architecture = \"amd64\"",
            "architecture = \"vax\"",
            "is not an architecture",
        ),
        (
            "    \"libc6\",",
            "    \"libc7\",",
            "package libc7 is needed and not there",
        ),
        (
            "requested = [\n    \"hello@2.10\"",
            "requested = [\n    \"npm:x\"",
            "no such provider",
        ),
        (
            "date = \"20260901T",
            "date = \"20269901T",
            "is not a moment",
        ),
        (
            "[[channel]]",
            "[[channel]]\nname = \"debian:trixie\"\nsuite = []\n\n[[channel]]",
            "is there twice",
        ),
        ("[[artifact]]", "[[artefact]]", "unknown field `artefact`"),
    ] {
        let error = refused(from, to);
        assert!(error.contains(said), "{from:?} → {to:?}: {error}");
        let place: Vec<&str> = error.splitn(4, ':').collect();
        let changed = FIXTURE.replacen(from, to, 1);
        let line: usize = place[1].parse().unwrap();
        let column: usize = place[2].parse().unwrap();
        assert!(column >= 1 && line <= changed.lines().count(), "{error}");
    }
}

#[test]
fn the_place_of_an_error_is_the_line_that_was_changed() {
    let at = |from: &str, to: &str| {
        let expected = FIXTURE[..FIXTURE.find(from).unwrap()].lines().count() + 1;
        let error = refused(from, to);
        assert!(
            error.starts_with(&format!("envd.lock:{expected}:")),
            "{expected}: {error}"
        );
    };
    at("size = 53", "sise = 53");
    at("path = \"pool/main/h", "path = \"/pool/main/h");
    at("date = \"20260901T", "date = \"20269901T");
    at("    \"libc6\",", "    \"libc7\",");
}

#[test]
fn bytes_that_are_no_text_are_refused_with_their_place() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("envd.lock");
    fs::write(&path, b"version = 1\nx = \"\xff\"\n").unwrap();
    let error = Lock::load(&path).unwrap_err().to_string();
    assert!(
        error.contains("envd.lock:2:6: this is not UTF-8"),
        "{error}"
    );
    let missing = Lock::load(&directory.path().join("none"))
        .unwrap_err()
        .to_string();
    assert!(
        missing.starts_with("cannot read ") && missing.ends_with("none"),
        "{missing}"
    );
}

fn entries(directory: &Path) -> Vec<PathBuf> {
    let mut entries: Vec<PathBuf> = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into())
        .collect();
    entries.sort();
    entries
}

#[test]
fn saving_replaces_the_file_keeps_its_mode_and_leaves_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("envd.lock");
    fs::write(&path, "old").unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
    let left = directory.path().join(".envd.lock.new-1-0");
    fs::write(&left, "what a killed writer left").unwrap();
    fixture().save(&path).unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), FIXTURE);
    assert_eq!(
        fs::metadata(&path).unwrap().permissions().mode() & 0o7777,
        0o640
    );
    assert_eq!(entries(directory.path()), [Path::new("envd.lock")]);
    assert_eq!(Lock::load(&path).unwrap(), fixture());
}

#[test]
fn saving_the_same_again_touches_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("envd.lock");
    fixture().save(&path).unwrap();
    let before = fs::metadata(&path).unwrap();
    fixture().save(&path).unwrap();
    let after = fs::metadata(&path).unwrap();
    use std::os::unix::fs::MetadataExt;
    assert_eq!(
        (before.ino(), before.mtime_nsec()),
        (after.ino(), after.mtime_nsec())
    );
}

#[test]
fn a_link_within_the_project_is_followed_and_one_that_leaves_it_is_not() {
    let directory = tempfile::tempdir().unwrap();
    let project = directory.path().join("project");
    fs::create_dir_all(project.join("locks")).unwrap();
    let path = project.join("envd.lock");
    fs::write(project.join("locks/envd.lock"), "old").unwrap();
    symlink("locks/envd.lock", &path).unwrap();
    fixture().save(&path).unwrap();
    assert!(
        fs::symlink_metadata(&path)
            .unwrap()
            .file_type()
            .is_symlink()
    );
    assert_eq!(
        fs::read_to_string(project.join("locks/envd.lock")).unwrap(),
        FIXTURE
    );

    let precious = directory.path().join("precious");
    fs::write(&precious, "mine").unwrap();
    fs::remove_file(&path).unwrap();
    symlink("../precious", &path).unwrap();
    let error = fixture().save(&path).unwrap_err().to_string();
    assert!(error.contains("leads out of its directory"), "{error}");
    assert_eq!(fs::read_to_string(&precious).unwrap(), "mine");
}

#[test]
fn writers_at_once_leave_one_whole_lock() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("envd.lock");
    let (with, mut without) = (fixture(), fixture());
    without.root = None;
    std::thread::scope(|scope| {
        for lock in [&with, &without, &with, &without] {
            scope.spawn(|| (0..20).for_each(|_| lock.save(&path).unwrap()));
        }
    });
    let last = Lock::load(&path).unwrap();
    assert!(last == with || last == without);
    assert_eq!(entries(directory.path()), [Path::new("envd.lock")]);
}

#[test]
fn a_directory_that_cannot_be_written_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("none/envd.lock");
    let error = fixture().save(&path).unwrap_err().to_string();
    assert!(
        error.starts_with("cannot create a file in ") && error.ends_with("none"),
        "{error}"
    );
}

#[test]
fn a_difference_reads_as_a_list_of_changes() {
    let old = fixture();
    let mut new = fixture();
    new.artifacts.remove(0);
    new.artifacts[0].artifact.version = "2.12-1".to_owned();
    new.artifacts[0].artifact.sha256 = Digest::of(b"2.12");
    new.artifacts[1].artifact.sha256 = Digest::of(b"again");
    let mut more = new.artifacts[2].clone();
    more.artifact.name = "zlib1g".to_owned();
    new.artifacts.push(more);
    assert_eq!(
        Diff::between(&old, &new).to_string(),
        "- gcc-14-base 14.2.0-19\n~ hello 2.10-5 → 2.12-1\n~ libc6 2.41-12+deb13u1, another build\n+ zlib1g 14.2.0-19"
    );
    assert!(Diff::between(&old, &old).is_empty());
}

#[test]
fn a_lock_answers_why_without_any_index() {
    let lock = fixture();
    let chains = crate::resolve::why(&lock.links(), "gcc-14-base").unwrap();
    assert_eq!(
        chains[0].to_string(),
        "hello@2.10 (asked for) → hello 2.10-5 → libc6 2.41-12+deb13u1 → libgcc-s1 14.2.0-19 → gcc-14-base 14.2.0-19"
    );
}

#[test]
fn an_update_prefers_every_version_but_the_named() {
    let versions = fixture().versions_except(&["hello"]);
    assert_eq!(versions.get("libc6").unwrap(), "2.41-12+deb13u1");
    assert_eq!(versions.get("hello"), None);
}

proptest! {
    #[test]
    fn what_is_written_reads_back(
        names in proptest::collection::btree_set("[a-z0-9][a-z0-9+.-]{1,8}", 0..8),
        sizes in any::<[u32; 8]>(),
        component in "[a-z\"\\\\]{1,6}",
        flags in any::<u8>(),
    ) {
        let mut lock = fixture();
        let model = lock.artifacts[1].clone();
        let names: Vec<String> = names.into_iter().collect();
        lock.channels[0].suites[0].packages.insert(component, Digest::of(b"x"));
        lock.artifacts = names.iter().enumerate().map(|(at, name)| {
            let mut locked = model.clone();
            locked.artifact.name = name.clone();
            locked.artifact.size = sizes[at].into();
            locked.essential = flags & (1 << at) != 0;
            locked.needs = names[..at].to_vec();
            if !locked.essential {
                locked.requested.clear();
            }
            locked
        }).collect();
        if flags & 1 != 0 {
            lock.root = None;
        }
        prop_assert_eq!(parse(&lock.to_text()).unwrap(), lock);
    }

    #[test]
    fn a_damaged_lock_never_panics(at in 0..FIXTURE.len(), byte in any::<char>(), cut in any::<bool>()) {
        let mut text: String = FIXTURE.chars().take(at).collect();
        text.push(byte);
        if !cut {
            text.extend(FIXTURE.chars().skip(at + 1));
        }
        if let Err(error) = parse(&text) {
            prop_assert!(error.to_string().contains("envd.lock"));
        }
    }
}
