//! Packages that mean harm, correctly signed: refused by name, with nothing written outside the store.

use std::{os::unix::fs::MetadataExt, path::Path};

use envd_tests::{
    archive::Archive,
    deb::Deb,
    hostile::{Attack, PLANTED, attacks},
    leftovers::Watch,
    programs,
    world::World,
};

fn size_of(path: &Path) -> u64 {
    let Ok(metadata) = std::fs::symlink_metadata(path) else {
        return 0;
    };
    let below: u64 = std::fs::read_dir(path)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| size_of(&entry.path()))
        .sum();
    below + metadata.blocks() * 512
}

/// What one attack achieved; empty when it was refused as it should be.
fn outcome_of(attack: &Attack) -> Vec<String> {
    let mut archive = Archive::new();
    archive.trixie().add(programs::base_files());
    archive
        .trixie()
        .add_bytes(Attack::package(), attack.bytes.clone());
    let world = World::around(archive);
    world.wants(&["evil"]);
    let watch = Watch::start(&world);
    let outcome = world.envd(&["run", "--", "true"]);
    let mut achieved = Vec::new();
    if outcome.status.success() {
        achieved.push("it was accepted".to_owned());
    }
    // 125 to 127 belong to the command inside; reaching it means that the package got through.
    if !matches!(outcome.status.code(), Some(code) if !(126..=127).contains(&code) && code != 101) {
        achieved.push("the refusal is no refusal".to_owned());
    }
    if !outcome.stderr.contains("evil") {
        achieved.push("the package is not named".to_owned());
    }
    if Path::new("/tmp").join(PLANTED).exists() {
        achieved.push("a file was planted".to_owned());
    }
    achieved.extend(watch.left_for_good());
    let store = size_of(&world.store());
    if store > 64 << 20 {
        achieved.push(format!("the store grew to {store} bytes"));
    }
    if !achieved.is_empty() {
        achieved.push(outcome.to_string());
    }
    achieved
}

#[test]
fn every_attack_is_refused() {
    let mut failures = Vec::new();
    for attack in attacks() {
        let achieved = outcome_of(&attack);
        if !achieved.is_empty() {
            failures.push(format!("## {}\n{}", attack.name, achieved.join("\n")));
        }
    }
    let shadow = std::fs::metadata("/etc/shadow").map_or(1, |metadata| metadata.nlink());
    assert_eq!(shadow, 1, "the host's password file has a second name");
    assert!(failures.is_empty(), "{}", failures.join("\n\n"));
}

/// The same package, honest: else the refusals above would prove nothing.
#[test]
fn the_honest_twin_is_accepted() {
    let Some(mut world) = World::small() else {
        return;
    };
    let honest = Attack::package().program("usr/bin/evil", programs::printing("good"));
    world.archive.trixie().add(honest);
    world.publish();
    world.wants(&["evil"]);
    let outcome = world.envd(&["run", "--", "evil"]).ok();
    assert_eq!(outcome.stdout, "good\n");
}

#[test]
fn two_packages_with_one_path_are_both_named() {
    let Some(mut world) = World::small() else {
        return;
    };
    world
        .archive
        .trixie()
        .add(Deb::new("mine", "1.0").file("usr/share/shared", "mine\n"))
        .add(Deb::new("yours", "1.0").file("usr/share/shared", "yours\n"))
        .add(Deb::new("same", "1.0").file("usr/share/shared", "mine\n"))
        .add(
            Deb::new("successor", "1.0")
                .field("Replaces", "mine")
                .file("usr/share/shared", "successor\n"),
        );
    world.publish();
    world.wants(&["mine", "yours"]);
    world
        .envd(&["run", "--", "true"])
        .fails()
        .says(&["mine", "yours", "usr/share/shared"]);
    world.wants(&["mine", "same"]);
    world.run_shell("cat /usr/share/shared").ok();
    world.wants(&["mine", "successor"]);
    let outcome = world.run_shell("cat /usr/share/shared").ok();
    assert_eq!(outcome.stdout, "successor\n");
}

/// One package makes a link, the other writes through it: the link may lead anywhere inside, nowhere outside.
#[test]
fn a_path_through_another_packages_link_stays_inside() {
    let Some(mut world) = World::small() else {
        return;
    };
    world
        .archive
        .trixie()
        .add(Deb::new("linker", "1.0").symlink("usr/share/way-out", "/tmp"))
        .add(
            Deb::new("writer", "1.0")
                .depends("linker")
                .file(&format!("usr/share/way-out/{PLANTED}"), "planted\n"),
        );
    world.publish();
    world.wants(&["writer"]);
    world.envd(&["run", "--", "true"]);
    assert!(!Path::new("/tmp").join(PLANTED).exists());
}

/// The index is signed, and still only data.
#[test]
fn an_index_that_lies_is_refused_by_the_packages_name() {
    let digest = "00".repeat(32);
    let honest = format!(
        "Package: evil\nVersion: 1\nArchitecture: all\nFilename: pool/e/evil.deb\nSize: 3\nSHA256: {digest}\n"
    );
    for (from, to) in [
        ("pool/e/evil.deb", "../../../../etc/passwd"),
        ("pool/e/evil.deb", "/etc/passwd"),
        ("pool/e/evil.deb", "http://127.0.0.1:1/evil.deb"),
        ("Size: 3", "Size: 99999999999999999999"),
        ("Size: 3", "Size: -1"),
        (digest.as_str(), "short"),
        ("SHA256", "SHA1"),
        ("Version: 1", "Version: 1/../../2"),
        ("Package: evil", "Package: evil/../../x"),
    ] {
        let Some(mut world) = World::small() else {
            return;
        };
        world.archive.trixie().raw_stanzas = vec![honest.replace(from, to)];
        world.publish();
        world.wants(&["evil"]);
        let watch = Watch::start(&world);
        world.envd(&["run", "--", "true"]).fails().says(&["evil"]);
        watch.assert_nothing_left();
    }
}

/// Bookworm ships `/bin` paths while `/bin` is a link; both spellings are one path.
#[test]
fn paths_through_the_merged_usr_are_one() {
    let Some(mut world) = World::small() else {
        return;
    };
    world
        .archive
        .trixie()
        .add(Deb::new("oldstyle", "1.0").program("bin/oldstyle", programs::printing("old style")));
    world.publish();
    world.wants(&["oldstyle"]);
    let outcome = world.run_shell("/usr/bin/oldstyle && /bin/oldstyle").ok();
    assert_eq!(outcome.stdout, "old style\nold style\n");
}

#[test]
fn honest_oddities_survive() {
    let Some(mut world) = World::small() else {
        return;
    };
    let long = format!("usr/share/odd/{}", "n".repeat(200));
    world.archive.trixie().add(
        Deb::new("odd", "2:1.0~rc1+b2")
            .file("usr/share/odd/with space", "space\n")
            .file("usr/share/odd/ünïcode", "unicode\n")
            .file(&long, "long\n")
            .file("usr/share/odd/new\nline", "newline\n")
            .file("usr/share/odd/empty", "")
            .program("usr/share/odd/one", "#!/bin/sh\n")
            .hard_link("usr/share/odd/two", "usr/share/odd/one")
            .symlink("usr/share/odd/dangling", "/nonexistent/target")
            .directory("usr/share/odd/hollow", 0o755),
    );
    world.publish();
    world.wants(&["odd"]);
    let script = format!(
        "cd /usr/share/odd && cat 'with space' ünïcode /{long} new*line empty && test -x two && test -d hollow && readlink dangling"
    );
    let outcome = world.run_shell(&script).ok();
    assert_eq!(
        outcome.stdout,
        "space\nunicode\nlong\nnewline\n/nonexistent/target\n"
    );
}
