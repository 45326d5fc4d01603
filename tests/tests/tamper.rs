//! Whoever sits between the archive and the user, or edits the store, is found out and named.

use std::{
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use envd_tests::{
    archive::flip_a_bit, clock::DAY, deb::Deb, key::Key, programs::small_archive, server::Fault,
    world::World,
};

/// Bytes that no compressor makes smaller.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_u32;
    std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state as u8
    })
    .take(length)
    .collect()
}

fn wanting_hello() -> Option<World> {
    let world = World::small()?;
    world.wants(&["hello"]);
    Some(world)
}

/// Edits the signed text of trixie's InRelease.
fn edit_release(world: &World, edit: impl Fn(&str) -> String) {
    world.server.tamper("dists/trixie/InRelease", |bytes| {
        let text = String::from_utf8(bytes.clone()).unwrap();
        *bytes = edit(&text).into_bytes();
    });
}

#[test]
fn an_edited_inrelease_is_refused() {
    let Some(world) = wanting_hello() else { return };
    edit_release(&world, |text| {
        text.replace("made for a test", "made for an attack")
    });
    world.envd(&["lock"]).fails().says(&["trixie", "signature"]);
    assert!(!world.project().join("envd.lock").exists());
}

#[test]
fn a_strangers_signature_is_refused() {
    let Some(world) = wanting_hello() else { return };
    world
        .server
        .serve(world.archive.files_signed_by(&Key::generate("stranger")));
    world.envd(&["lock"]).fails().says(&["trixie", "keyring"]);
}

#[test]
fn an_unsigned_release_is_refused() {
    let Some(world) = wanting_hello() else { return };
    edit_release(&world, |text| {
        let start = text.find("Origin:").unwrap();
        let end = text.find("-----BEGIN PGP SIGNATURE").unwrap();
        text[start..end].to_owned()
    });
    world.envd(&["lock"]).fails().says(&["trixie", "signed"]);
}

/// Only what is inside the signature counts.
#[test]
fn text_outside_the_signed_part_has_no_effect() {
    let Some(world) = wanting_hello() else { return };
    world.server.tamper("main/binary-", flip_a_bit);
    edit_release(&world, |text| {
        format!(
            "Suite: evil\nSHA256:\n 00 1 main/binary-amd64/Packages.xz\n\n{text}\nSuite: evil\n"
        )
    });
    world.envd(&["lock"]).fails().says(&["trixie"]);
}

#[test]
fn an_expired_index_is_a_clear_error_when_locking_and_none_when_replaying() {
    let Some(mut archive) = small_archive() else {
        return;
    };
    archive.trixie().date = SystemTime::now() - 20 * DAY;
    archive.trixie().valid_until = Some(SystemTime::now() + DAY);
    let mut world = World::around(archive);
    world.wants(&["hello"]);
    world.envd(&["lock"]).ok();
    let lock = world.lock();
    world.archive.trixie().valid_until = Some(SystemTime::now() - 10 * DAY);
    world.publish();
    let late = world.another();
    late.wants(&["hello"]);
    late.envd(&["lock"])
        .fails()
        .says(&["trixie", "expired", "accept-expired"]);
    late.write("envd.lock", &lock);
    late.envd(&["run", "--", "hello"]).ok();
}

/// An old index, properly signed, would hold a user on software whose holes are known.
#[test]
fn an_index_older_than_one_seen_before_is_refused() {
    let Some(mut world) = wanting_hello() else {
        return;
    };
    let old = world.archive.files();
    world.archive.pass_a_day();
    world.publish();
    world.envd(&["lock"]).ok();
    world.server.serve(old);
    world.envd(&["update"]).fails().says(&["trixie", "older"]);
}

#[test]
fn an_edited_index_is_refused() {
    let Some(world) = wanting_hello() else { return };
    world.server.tamper("dists/trixie/main/binary-", flip_a_bit);
    world.envd(&["lock"]).fails().says(&["trixie", "packages"]);
}

#[test]
fn an_edited_package_is_refused_by_name() {
    let Some(world) = wanting_hello() else { return };
    world.server.tamper("hello_1.0", flip_a_bit);
    world.envd(&["run", "--", "hello"]).fails().says(&["hello"]);
    // Healed, the same store works: nothing of the forgery was kept.
    world.publish();
    world.envd(&["run", "--", "hello"]).ok();
    world.envd(&["store", "verify"]).ok();
}

#[test]
fn a_package_of_the_right_size_but_another_content_is_refused() {
    let Some(world) = wanting_hello() else { return };
    let files = world.archive.files();
    let (_, honest) = files
        .iter()
        .find(|(path, _)| path.contains("hello_1.0"))
        .unwrap();
    world
        .server
        .always("hello_1.0", Fault::Instead(vec![0; honest.len()]));
    world.envd(&["run", "--", "hello"]).fails().says(&["hello"]);
}

#[test]
fn an_endless_answer_is_cut_at_the_size_the_index_names() {
    let Some(world) = wanting_hello() else { return };
    world
        .server
        .always("hello_1.0", Fault::Instead(noise(64 << 20)));
    world.envd(&["run", "--", "hello"]).fails().says(&["hello"]);
    let kept = disk_use(&world.store());
    assert!(kept < 32 << 20, "{kept} bytes were kept");
}

fn disk_use(path: &Path) -> u64 {
    let Ok(metadata) = std::fs::symlink_metadata(path) else {
        return 0;
    };
    let below: u64 = std::fs::read_dir(path)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| disk_use(&entry.path()))
        .sum();
    below
        + if metadata.is_file() {
            metadata.len()
        } else {
            0
        }
}

/// A world with one package of 3 MB that arrives over a bad line.
fn big_download() -> Option<World> {
    let mut archive = small_archive()?;
    archive
        .trixie()
        .add(Deb::new("big", "1.0").file("usr/share/big", noise(3 << 20)));
    let world = World::around(archive);
    world.wants(&["big"]);
    Some(world)
}

#[test]
fn a_cut_download_is_resumed_where_it_stopped() {
    let Some(world) = big_download() else { return };
    world.server.next(2, "big_1.0", Fault::CutAfter(1_000_000));
    world.run_shell("wc -c < /usr/share/big").ok();
    let starts: Vec<_> = world
        .server
        .asked()
        .into_iter()
        .filter(|request| request.path.contains("big_1.0"))
        .map(|request| request.from.unwrap_or(0))
        .collect();
    assert_eq!(
        starts,
        [0, 1_000_000, 2_000_000],
        "resumed from the wrong places"
    );
}

#[test]
fn a_download_that_is_always_cut_is_given_up_by_name() {
    let Some(world) = big_download() else { return };
    world.server.always("big_1.0", Fault::CutAfter(0));
    world.envd(&["run", "--", "true"]).fails().says(&["big"]);
    world.server.heal();
    world.envd(&["run", "--", "true"]).ok();
}

#[test]
fn a_server_that_ignores_ranges_is_read_from_the_start() {
    let Some(world) = big_download() else { return };
    world.server.next(1, "big_1.0", Fault::CutAfter(1_000_000));
    world.server.always("big_1.0", Fault::IgnoreRange);
    world.run_shell("wc -c < /usr/share/big").ok();
}

#[test]
fn passing_failures_are_retried_and_lasting_ones_named() {
    let Some(world) = wanting_hello() else { return };
    world.server.next(2, "", Fault::Status(503));
    world.envd(&["run", "--", "hello"]).ok();
    let other = world.another();
    other.wants(&["greet"]);
    world.server.always("greet_2.0", Fault::Status(500));
    other
        .envd(&["run", "--", "greet"])
        .fails()
        .says(&["greet", "500"]);
}

/// A mirror in the middle of an update serves an index that does not fit its Release; by-hash is the way around.
#[test]
fn a_mirror_in_the_middle_of_an_update_is_no_problem_by_hash() {
    let Some(world) = wanting_hello() else { return };
    for suffix in ["Packages.xz", "Packages.gz", "/Packages"] {
        world
            .server
            .always(suffix, Fault::Instead(b"of another hour".to_vec()));
    }
    world.envd(&["lock"]).ok();
}

#[test]
fn an_archive_without_by_hash_works_too() {
    let Some(mut world) = wanting_hello() else {
        return;
    };
    for suite in ["trixie", "trixie-updates", "trixie-security"] {
        world.archive.suite(suite).by_hash = false;
    }
    world.publish();
    world.envd(&["lock"]).ok();
}

/// A suite under another's name would let a mirror hold users on old software.
#[test]
fn a_release_of_another_suite_is_refused() {
    let Some(mut world) = wanting_hello() else {
        return;
    };
    world.archive.trixie().claimed_name = Some("buster".to_owned());
    world.publish();
    world.envd(&["lock"]).fails().says(&["trixie", "buster"]);
}

#[test]
fn a_slow_server_is_waited_for() {
    let Some(world) = wanting_hello() else { return };
    world
        .server
        .always("hello_1.0", Fault::Slow(Duration::from_millis(3)));
    world.envd(&["run", "--", "hello"]).ok();
}

/// The biggest file below a directory of the store.
fn biggest(directory: &Path) -> PathBuf {
    fn walk(directory: &Path, best: &mut (u64, PathBuf)) {
        for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
            let metadata = entry.metadata().unwrap();
            if metadata.is_dir() {
                walk(&entry.path(), best);
            } else if metadata.len() > best.0 {
                *best = (metadata.len(), entry.path());
            }
        }
    }
    let mut best = (0, PathBuf::new());
    walk(directory, &mut best);
    assert!(best.0 > 0, "nothing in {}", directory.display());
    best.1
}

fn corrupt(path: &Path) {
    let mut bytes = std::fs::read(path).unwrap();
    flip_a_bit(&mut bytes);
    envd_tests::sandbox::set_mode(path, 0o644);
    std::fs::write(path, bytes).unwrap();
}

#[test]
fn a_rotten_object_is_found_named_and_repaired() {
    let Some(world) = wanting_hello() else { return };
    world.envd(&["run", "--", "hello"]).ok();
    world.envd(&["store", "verify"]).ok();
    let object = biggest(&world.store().join("objects"));
    corrupt(&object);
    let name = object.file_name().unwrap().to_str().unwrap().to_owned();
    let short = &name[..name.len().min(12)];
    let outcome = world.envd(&["store", "verify"]);
    assert!(!outcome.status.success(), "{outcome}");
    let said = format!("{}{}", outcome.stdout, outcome.stderr);
    assert!(said.contains(short), "{short} is not named\n{outcome}");
    world.envd(&["store", "verify", "--repair"]).ok();
    world.envd(&["store", "verify"]).ok();
    world.envd(&["run", "--", "hello"]).ok();
}

#[test]
fn a_rotten_manifest_is_found() {
    let Some(world) = wanting_hello() else { return };
    world.envd(&["run", "--", "hello"]).ok();
    corrupt(&biggest(&world.store().join("trees")));
    let outcome = world.envd(&["store", "verify"]);
    assert!(!outcome.status.success(), "{outcome}");
}
