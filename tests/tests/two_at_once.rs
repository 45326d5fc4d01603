//! Several commands on one store at once: all succeed, nothing is written twice, nothing is lost.

use std::process::Stdio;

use envd_tests::{
    sandbox::{Outcome, conclude},
    world::World,
};

/// Starts these commands together and waits for all.
fn together(world: &World, commands: &[&[&str]]) -> Vec<Outcome> {
    use std::os::unix::process::CommandExt;
    let children: Vec<_> = commands
        .iter()
        .map(|arguments| {
            world
                .envd_command(arguments)
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .process_group(0)
                .spawn()
                .unwrap()
        })
        .collect();
    children
        .into_iter()
        .map(|child| std::thread::spawn(move || conclude(child)))
        .collect::<Vec<_>>()
        .into_iter()
        .map(|thread| thread.join().expect("waiting does not panic"))
        .collect()
}

#[test]
fn four_realise_the_same_thing_from_nothing() {
    let Some(world) = World::small() else { return };
    world.wants(&["hello", "greet"]);
    let run: &[&str] = &["run", "--", "hello"];
    for outcome in together(&world, &[run; 4]) {
        assert_eq!(outcome.ok().stdout, "Hello, world! 1.0\n");
    }
    world.envd(&["store", "verify"]).ok();
    let fetched = world
        .server
        .asked()
        .iter()
        .filter(|request| request.path.contains("hello_1.0"))
        .count();
    assert_eq!(fetched, 1, "one download should have served all four");
}

/// gc must never take what another command is about to use.
#[test]
fn gc_beside_realising_and_running() {
    let Some(world) = World::small() else { return };
    for _ in 0..5 {
        world.wants(&["hello", "greet"]);
        let run: &[&str] = &["run", "--", "sh", "-c", "hello && greet"];
        let gc: &[&str] = &["gc"];
        let is_run = [true, false, true, false, false];
        for (outcome, is_run) in together(&world, &[run, gc, run, gc, gc])
            .into_iter()
            .zip(is_run)
        {
            let outcome = outcome.ok();
            if is_run {
                assert_eq!(outcome.stdout, "Hello, world! 1.0\ngood day\n");
            }
        }
        world.envd(&["store", "verify"]).ok();
        world.wants(&[]);
        world.envd(&["run", "--", "true"]).ok();
        world.envd(&["gc"]).ok();
    }
}

#[test]
fn gc_does_not_wait_for_nor_harm_what_runs() {
    let Some(world) = World::small() else { return };
    world.wants(&["hello"]);
    world.envd(&["run", "--", "true"]).ok();
    let mut command = world.envd_command(&["run", "--", "sh", "-c", "touch up; read go; hello"]);
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let end = std::time::Instant::now() + std::time::Duration::from_secs(60);
    while !world.project().join("up").exists() {
        assert!(std::time::Instant::now() < end, "the command never started");
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    // Even with the project's file gone, a running environment keeps what it runs on.
    world.wants(&[]);
    world.envd(&["run", "--", "true"]).ok();
    world.envd(&["gc"]).ok();
    drop(child.stdin.take());
    let outcome = conclude(child).ok();
    assert_eq!(outcome.stdout, "Hello, world! 1.0\n");
}
