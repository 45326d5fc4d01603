//! Generations and the way back: what was realised once is there again in a moment, without a network, as long as it is
//! among the latest ten; and what somebody wrote since is not lost.

use envd_tests::{clock::DAY, deb::Deb, programs, sandbox::Sandbox, world::World};

/// A world in which `hello` went from 1.0 over 2.0 to 3.0, each realised.
fn three() -> Option<World> {
    let mut world = World::small()?;
    world.wants(&["hello"]);
    world.envd(&["run", "--", "true"]).ok();
    for version in ["2.0", "3.0"] {
        world.archive.trixie().supersede(programs::hello(version));
        world.archive.pass_a_day();
        world.publish();
        world.envd(&["update"]).ok();
        world.envd(&["run", "--", "true"]).ok();
    }
    Some(world)
}

fn generations(sandbox: &Sandbox) -> serde_json::Value {
    let outcome = sandbox.envd(&["--json", "generations"]).ok();
    serde_json::from_str(&outcome.stdout).expect("JSON")
}

/// Their numbers; the present one's first.
fn numbers(sandbox: &Sandbox) -> (Option<u64>, Vec<u64>) {
    let all = generations(sandbox);
    let all = all.as_array().expect("a list");
    let number = |generation: &serde_json::Value| generation["number"].as_u64().expect("a number");
    let current = all
        .iter()
        .find(|generation| generation["current"] == true)
        .map(number);
    (current, all.iter().map(number).collect())
}

fn says_hello(sandbox: &Sandbox, version: &str) {
    let outcome = sandbox.envd(&["--offline", "run", "--", "hello"]).ok();
    assert_eq!(outcome.stdout, format!("Hello, world! {version}\n"));
}

#[test]
fn each_realised_lock_is_listed_with_what_changed() {
    let Some(world) = three() else { return };
    assert_eq!(numbers(&world), (Some(3), vec![1, 2, 3]));
    let all = generations(&world);
    assert!(
        all[0]["changes"].is_null(),
        "the first is compared with none"
    );
    assert_eq!(
        all[2]["changes"],
        serde_json::json!([{"name": "hello", "from": "2.0", "to": "3.0"}])
    );
    assert!(all[2]["size"].as_u64().is_some_and(|size| size > 100_000));
    assert!(all[2]["date"].as_str().is_some_and(|date| date.len() == 20));
    let outcome = world.envd(&["generations"]).ok();
    assert!(outcome.stdout.contains("~ hello 1.0 → 2.0"), "{outcome}");
    // Running again is nothing new, and neither is a lock that only names newer indexes.
    world.envd(&["run", "--", "true"]).ok();
    assert_eq!(numbers(&world).1, [1, 2, 3]);
}

#[test]
fn a_lock_of_newer_indexes_with_the_same_packages_is_the_same_generation() {
    let Some(mut world) = World::small() else {
        return;
    };
    world.wants(&["hello"]);
    world.envd(&["run", "--", "true"]).ok();
    let before = world.lock();
    world.archive.pass_a_day();
    world.publish();
    world.envd(&["update"]).ok();
    assert_ne!(world.lock(), before, "the date of the indexes is locked");
    world.envd(&["run", "--", "true"]).ok();
    assert_eq!(numbers(&world), (Some(1), vec![1]));
}

#[test]
fn back_one_by_one_and_forth_by_number_without_a_connection() {
    let Some(world) = three() else { return };
    let newest = world.lock();
    let before = world.server.connections();
    let outcome = world.envd(&["--offline", "rollback"]).ok();
    assert!(outcome.stdout.contains("~ hello 3.0 → 2.0"), "{outcome}");
    assert!(outcome.stdout.contains("generation 3"), "{outcome}");
    says_hello(&world, "2.0");
    assert_eq!(numbers(&world), (Some(2), vec![1, 2, 3]));
    world.envd(&["--offline", "rollback"]).ok();
    says_hello(&world, "1.0");
    world
        .envd(&["--offline", "rollback"])
        .code(2)
        .says(&["generation 1 is the first"]);
    world.envd(&["--offline", "rollback", "3"]).ok();
    says_hello(&world, "3.0");
    assert_eq!(world.lock(), newest, "byte for byte");
    world
        .envd(&["rollback", "9"])
        .code(2)
        .says(&["generation 9", "1, 2, 3"]);
    assert_eq!(world.server.connections(), before);
}

/// The old lock is what `envd lock` would keep, so nothing moves by itself afterwards.
#[test]
fn what_one_went_back_to_stays_until_it_is_updated() {
    let Some(world) = three() else { return };
    world.envd(&["rollback", "1"]).ok();
    let lock = world.lock();
    world.envd(&["lock"]).ok();
    assert_eq!(world.lock(), lock);
    world.envd(&["lock", "--check"]).ok();
    world.envd(&["update"]).ok();
    says_hello(&world, "3.0");
    assert_eq!(numbers(&world), (Some(3), vec![1, 2, 3]));
}

#[test]
fn gc_keeps_what_one_can_go_back_to() {
    let Some(world) = three() else { return };
    world.envd(&["gc"]).ok();
    world.envd(&["--offline", "rollback", "1"]).ok();
    says_hello(&world, "1.0");
    world.envd(&["store", "verify"]).ok();
}

#[test]
fn gc_drops_old_generations_when_told_but_never_the_present_one() {
    let Some(world) = three() else { return };
    world.envd(&["rollback", "1"]).ok();
    let freed = |arguments: &[&str]| {
        let outcome = world.envd(arguments).ok();
        let report: serde_json::Value = serde_json::from_str(&outcome.stdout).expect("JSON");
        report["objects"].as_u64().expect("a number")
    };
    let would = freed(&["--json", "gc", "--dry-run", "--generations", "1"]);
    assert_eq!(numbers(&world).1, [1, 2, 3], "a dry run drops nothing");
    assert!(would > 0, "generation 2 has a hello of its own");
    assert_eq!(freed(&["--json", "gc", "--generations", "1"]), would);
    assert_eq!(numbers(&world), (Some(1), vec![1, 3]));
    says_hello(&world, "1.0");
    world.envd(&["rollback", "2"]).code(2);
    world.envd(&["--offline", "rollback", "3"]).ok();
    says_hello(&world, "3.0");
}

/// Bytes that only old generations keep are counted to those, and the project's own to the project.
#[test]
fn what_a_dry_run_counts_to_a_generation_is_what_dropping_it_frees() {
    let Some(world) = three() else { return };
    let outcome = world.envd(&["--json", "store", "roots"]).ok();
    let roots: serde_json::Value = serde_json::from_str(&outcome.stdout).expect("JSON");
    let only = |ending: &str| {
        let roots = roots.as_array().expect("a list").iter();
        let mut of =
            roots.filter(|root| root["name"].as_str().is_some_and(|n| n.ends_with(ending)));
        let root = of.next().unwrap_or_else(|| panic!("{ending}: {outcome}"));
        root["only"].as_u64().expect("a number")
    };
    assert!(only("project") > only("generation 1"), "{outcome}");
    assert!(only("generation 1") > 0, "{outcome}");
    // The present one is the project's.
    assert!(only("generation 3") < 100_000, "{outcome}");
}

#[test]
fn only_the_latest_ten_are_kept() {
    let Some(archive) = programs::small_archive() else {
        return;
    };
    let mut world = World::around(archive.dated(30 * DAY));
    world.wants(&["note"]);
    for version in 1..=12 {
        let version = version.to_string();
        let note = Deb::new("note", &version).file("usr/share/note", version.as_str());
        world.archive.trixie().supersede(note);
        world.archive.pass_a_day();
        world.publish();
        world.envd(&["update"]).ok();
        world.envd(&["run", "--", "true"]).ok();
    }
    assert_eq!(numbers(&world), (Some(12), (3..=12).collect()));
}

#[test]
fn a_changed_manifest_is_said_and_what_one_went_back_to_runs_all_the_same() {
    let Some(world) = World::small() else { return };
    world.wants(&["hello"]);
    world.envd(&["run", "--", "true"]).ok();
    world.wants(&["greet"]);
    world.envd(&["run", "--", "true"]).ok();
    let before = world.server.connections();
    world
        .envd(&["--offline", "rollback"])
        .ok()
        .says(&["envd.toml", "envd lock", "--manifest"]);
    says_hello(&world, "1.0");
    let old = world.lock();
    // Whatever asks the lock leaves it alone.
    world.envd(&["--offline", "list"]).ok();
    assert_eq!(world.lock(), old);
    assert_eq!(world.server.connections(), before);
    world.envd(&["lock", "--check"]).code(1);
    world.envd(&["lock"]).ok();
    world.envd(&["run", "--", "greet"]).ok();
    assert_eq!(numbers(&world), (Some(2), vec![1, 2]));
}

#[test]
fn the_manifest_comes_back_when_asked_for_and_what_was_there_is_kept() {
    let Some(world) = World::small() else { return };
    world.wants(&["hello"]);
    world.envd(&["run", "--", "true"]).ok();
    let manifest = world.project().join("envd.toml");
    let first = std::fs::read_to_string(&manifest).unwrap();
    world.wants(&["greet"]);
    world.envd(&["run", "--", "true"]).ok();
    let second = std::fs::read_to_string(&manifest).unwrap();
    world.envd(&["--offline", "rollback", "--manifest"]).ok();
    assert_eq!(std::fs::read_to_string(&manifest).unwrap(), first);
    says_hello(&world, "1.0");
    world.envd(&["lock", "--check"]).ok();
    let aside = world.project().join("envd.toml.before-rollback");
    assert!(!aside.exists(), "generation 2 has it");
    // What was never realised nobody has.
    let written = format!("# mine\n{second}");
    world.write("envd.toml", &written);
    world
        .envd(&["--offline", "rollback", "1", "--manifest"])
        .ok()
        .says(&["before-rollback"]);
    assert_eq!(std::fs::read_to_string(&manifest).unwrap(), first);
    assert_eq!(std::fs::read_to_string(&aside).unwrap(), written);
}

/// A lock that a merge broke, or a manifest that cannot be read, is when one wants to go back.
#[test]
fn there_is_a_way_back_from_files_that_cannot_be_read() {
    let Some(world) = three() else { return };
    world.write("envd.lock", "<<<<<<< ours\n");
    world.write("envd.toml", "no TOML\n");
    world
        .envd(&["--offline", "rollback", "2", "--manifest"])
        .ok();
    says_hello(&world, "2.0");
}

#[test]
fn shims_go_back_with_it() {
    let Some(world) = World::small() else { return };
    world.wants(&["hello"]);
    world.envd(&["shim", "install"]).ok();
    world.wants(&["greet"]);
    world.envd(&["run", "--", "true"]).ok();
    let bin = world.project().join(".envd/bin");
    assert!(!bin.join("hello").exists() && bin.join("greet").exists());
    world.envd(&["--offline", "rollback"]).ok();
    assert!(bin.join("hello").exists() && !bin.join("greet").exists());
}

#[test]
fn without_any_generation_it_is_said_what_makes_one() {
    let Some(world) = World::small() else { return };
    world.wants(&["hello"]);
    world.envd(&["generations"]).ok();
    world.envd(&["rollback"]).code(2).says(&["envd run"]);
}
