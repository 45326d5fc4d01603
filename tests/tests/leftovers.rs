//! Whatever ends a command, nothing stays: no process, no mount, no file outside the store and the project.

use std::{
    os::unix::process::CommandExt,
    process::{Child, Command, Stdio},
    time::Duration,
};

use envd_tests::{deb::Deb, leftovers::Watch, programs, sandbox::wait, world::World};
use nix::{
    sys::signal::{Signal, kill, killpg},
    unistd::Pid,
};

const SCRIPT: &str =
    "setsid sh -c 'trap \"\" TERM HUP INT; sleep 600' & sleep 600 & echo ready; sleep 600";

fn start(world: &World, arguments: &[&str]) -> Child {
    spawn(&mut world.envd_command(arguments))
}

fn spawn(command: &mut Command) -> Child {
    command
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()
        .expect("envd starts")
}

fn pid(child: &Child) -> Pid {
    Pid::from_raw(child.id() as i32)
}

/// Reads until the script inside says that it is ready.
fn until_ready(child: &mut Child) {
    use std::io::Read;
    let mut stdout = child.stdout.take().expect("piped");
    let mut seen = Vec::new();
    let mut byte = [0];
    while !seen.ends_with(b"ready\n") {
        let count = stdout.read(&mut byte).expect("readable");
        assert_eq!(count, 1, "it ended before it was ready");
        seen.push(byte[0]);
    }
}

#[test]
fn after_a_run_that_ends_well_or_badly() {
    let Some(world) = World::small() else { return };
    world.wants(&["hello"]);
    let watch = Watch::start(&world);
    world.envd(&["run", "--", "hello"]).ok();
    watch.assert_nothing_left();
    world.run_shell("exit 3").code(3);
    world.envd(&["run", "--", "absent"]).code(127);
    watch.assert_nothing_left();
}

#[test]
fn after_a_signal_to_envd_or_to_the_terminals_group() {
    let Some(mut world) = World::small() else {
        return;
    };
    world
        .archive
        .trixie()
        .add(Deb::new("stay", "1.0").program("usr/bin/stay", programs::staying()));
    world.publish();
    world.wants(&["stay"]);
    world.envd(&["run", "--", "true"]).ok();
    let watch = Watch::start(&world);
    for signal in [
        Signal::SIGINT,
        Signal::SIGTERM,
        Signal::SIGHUP,
        Signal::SIGQUIT,
    ] {
        for whole_group in [true, false] {
            let mut child = start(&world, &["run", "--", "stay"]);
            until_ready(&mut child);
            if whole_group {
                killpg(pid(&child), signal).unwrap();
            } else {
                kill(pid(&child), signal).unwrap();
            }
            let ended = wait(&mut child, Duration::from_secs(20));
            if ended.is_none() {
                child.kill().unwrap();
                child.wait().unwrap();
                panic!("{signal} (whole group: {whole_group}) did not end the run");
            }
            watch.assert_nothing_left();
        }
    }
}

/// Fifty moments, from the first instruction of envd to well inside the running command.
#[test]
fn after_kill_minus_nine_at_fifty_moments() {
    let Some(world) = World::small() else { return };
    world.wants(&["hello"]);
    world.envd(&["run", "--", "true"]).ok();
    let watch = Watch::start(&world);
    let mut alive = 0;
    for moment in 0..50_u64 {
        let mut child = start(&world, &["run", "--", "sh", "-c", SCRIPT]);
        // Dense where namespaces and mounts are made, sparse later.
        std::thread::sleep(Duration::from_micros(200 * moment * (1 + moment / 8)));
        alive += u32::from(child.try_wait().unwrap().is_none());
        child.kill().unwrap();
        child.wait().unwrap();
    }
    assert_eq!(alive, 50, "it ended before it was killed");
    watch.assert_nothing_left();
    let outcome = world.envd(&["run", "--", "hello"]).ok();
    assert_eq!(outcome.stdout, "Hello, world! 1.0\n");
    world.envd(&["store", "verify"]).ok();
}

#[test]
fn killed_while_realising_the_next_command_carries_on() {
    let Some(world) = World::small() else { return };
    for moment in 0..20_u64 {
        let sandbox = world.another();
        sandbox.wants(&["hello", "greet"]);
        let watch = Watch::start(&sandbox);
        let mut child = spawn(&mut sandbox.envd_command(&["run", "--", "hello"]));
        std::thread::sleep(Duration::from_millis(5 + moment * 12));
        let _ = child.kill();
        child.wait().unwrap();
        let outcome = sandbox.envd(&["run", "--", "hello"]).ok();
        assert_eq!(outcome.stdout, "Hello, world! 1.0\n");
        sandbox.envd(&["store", "verify"]).ok();
        sandbox.envd(&["gc"]).ok();
        let work: Vec<_> = std::fs::read_dir(sandbox.store().join("tmp"))
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| entry.path())
            .collect();
        assert!(work.is_empty(), "work of the dead is kept: {work:?}");
        watch.assert_nothing_left();
    }
}

#[test]
fn pid_one_inside_killed_ends_everything() {
    let Some(world) = World::small() else { return };
    world.wants(&[]);
    world.envd(&["run", "--", "true"]).ok();
    let watch = Watch::start(&world);
    let mut child = start(&world, &["run", "--", "sh", "-c", SCRIPT]);
    until_ready(&mut child);
    let first = first_in_its_namespace(&world);
    kill(first, Signal::SIGKILL).unwrap();
    let ended = wait(&mut child, Duration::from_secs(10));
    let _ = child.kill();
    child.wait().unwrap();
    assert!(
        ended.is_some_and(|status| !status.success()),
        "envd outlived its environment: {ended:?}"
    );
    watch.assert_nothing_left();
}

/// The process that is PID 1 of a namespace in which the world's project is mounted.
fn first_in_its_namespace(world: &World) -> Pid {
    let project = world.project();
    let project = project.to_str().unwrap();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let Ok(number) = entry.file_name().to_string_lossy().parse::<i32>() else {
            continue;
        };
        let read =
            |name: &str| std::fs::read_to_string(entry.path().join(name)).unwrap_or_default();
        let inside: Vec<_> = read("status")
            .lines()
            .filter_map(|line| line.strip_prefix("NSpid:"))
            .flat_map(str::split_whitespace)
            .map(str::to_owned)
            .collect();
        if inside.len() > 1
            && inside.last().is_some_and(|last| last == "1")
            && read("mountinfo").contains(project)
        {
            return Pid::from_raw(number);
        }
    }
    panic!("no PID 1 was found");
}

#[test]
fn uninstall_takes_everything_and_proves_it() {
    let Some(world) = World::small() else { return };
    let watch = Watch::start(&world);
    world.wants(&["hello"]);
    world.envd(&["run", "--", "hello"]).ok();
    let outcome = world.envd(&["uninstall", "--verify"]);
    assert!(
        !outcome.status.success(),
        "verify must say that the store is still there\n{outcome}"
    );
    world.envd(&["uninstall", "--yes"]).ok();
    assert!(!world.store().exists(), "the store is still there");
    world.envd(&["uninstall", "--verify"]).ok();
    watch.assert_nothing_left();
    assert!(world.project().join("envd.toml").exists());
}
