//! A lock outlives the day it was made on: what the mirror drops is sought in the past.

use std::time::{Duration, SystemTime};

use envd_tests::{clock::DAY, programs, programs::small_archive, world::World};

/// A world whose suites are dated a month ago, with a lock of `hello` 1.0 made then.
fn a_month_ago() -> Option<World> {
    let world = World::around(small_archive()?.dated(30 * DAY));
    world.wants(&["hello"]);
    world.envd(&["lock"]).ok();
    Some(world)
}

/// snapshot.debian.org imports what is published some time after the date in the Release file: a replay that asks for
/// the very date gets the import before it, in which a new version is not yet there.
#[test]
fn what_the_mirror_dropped_is_found_in_the_snapshot() {
    let Some(mut world) = a_month_ago() else {
        return;
    };
    let published = SystemTime::now() - 30 * DAY;
    let mut before = world.archive.clone();
    before.trixie().supersede(programs::hello("0.9"));
    before.take_snapshot(published - DAY / 4);
    let mut now = before;
    now.trixie().supersede(programs::hello("1.0"));
    now.take_snapshot(published + Duration::from_secs(40 * 60));
    now.trixie().supersede(programs::hello("1.1"));
    now.pass_a_day();
    now.take_snapshot(published + 2 * DAY);
    world.archive = now;
    world.publish();
    let outcome = world.envd(&["run", "--", "hello"]).ok();
    assert_eq!(outcome.stdout, "Hello, world! 1.0\n");
    let asked = world.server.asked();
    assert!(
        asked
            .iter()
            .any(|request| request.path.starts_with("archive/debian/")),
        "{asked:?}"
    );
}

#[test]
fn what_is_nowhere_any_more_is_named_with_the_way_out() {
    let Some(mut world) = a_month_ago() else {
        return;
    };
    world.archive.trixie().supersede(programs::hello("1.1"));
    world.archive.pass_a_day();
    world.publish();
    world
        .envd(&["run", "--", "hello"])
        .fails()
        .says(&["hello", "1.0", "envd update hello"]);
    world.envd(&["update", "hello"]).ok();
    let outcome = world.envd(&["run", "--", "hello"]).ok();
    assert_eq!(outcome.stdout, "Hello, world! 1.1\n");
}

#[test]
fn what_is_realised_needs_no_archive_at_all() {
    let Some(mut world) = a_month_ago() else {
        return;
    };
    world.envd(&["run", "--", "hello"]).ok();
    world.archive.trixie().remove("hello");
    world.publish();
    world.envd(&["run", "--", "hello"]).ok();
}

#[test]
fn a_pinned_channel_sees_the_past() {
    let Some(mut world) = a_month_ago() else {
        return;
    };
    let moment = SystemTime::now() - 29 * DAY;
    let stamp = world.archive.take_snapshot(moment);
    world.archive.trixie().supersede(programs::hello("2.0"));
    world.archive.pass_a_day();
    world.publish();
    let sandbox = world.another();
    sandbox.wants_of(&[&format!("debian:trixie@{stamp}")], &["hello"]);
    let outcome = sandbox.envd(&["run", "--", "hello"]).ok();
    assert_eq!(outcome.stdout, "Hello, world! 1.0\n");
    let sandbox = world.another();
    sandbox.wants(&["hello"]);
    let outcome = sandbox.envd(&["run", "--", "hello"]).ok();
    assert_eq!(outcome.stdout, "Hello, world! 2.0\n");
}
