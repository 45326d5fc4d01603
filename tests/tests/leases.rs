//! What is lent for a time: leases, and environments that are opened for a client.

use std::{
    io::Read,
    os::{fd::AsRawFd, unix::process::CommandExt},
    process::{Child, Command, Stdio},
};

use envd_tests::{
    daemon::{Command as Running, Daemon, Raw, build, execute_packet, until},
    leftovers::Watch,
    sandbox::conclude,
    world::World,
};

/// A world with a daemon's runtime directory, in which nothing runs.
fn world() -> Option<World> {
    let world = World::small()?;
    world.wants(&["hello"]);
    world.envd(&["daemon", "start"]).ok();
    world.envd(&["daemon", "stop"]).ok();
    Some(world)
}

fn spawn(command: &mut Command) -> Child {
    command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .spawn()
        .expect("envd starts")
}

/// Reads until the line `ready`.
fn until_ready(child: &mut Child) {
    let stdout = child.stdout.as_mut().expect("piped");
    let mut seen = Vec::new();
    let mut byte = [0];
    while !seen.ends_with(b"ready\n") {
        let count = stdout.read(&mut byte).expect("readable");
        assert_eq!(count, 1, "it ended before it was ready: {seen:?}");
        seen.push(byte[0]);
    }
}

#[test]
fn a_lease_ends_with_its_time_and_says_so() {
    let Some(world) = world() else { return };
    let watch = Watch::start(&world);
    let daemon = Daemon::of(&world);
    let script = "setsid sleep 600 & sleep 600";
    world
        .envd(&["lease", "--ttl", "1s", "--", "sh", "-c", script])
        .code(124)
        .says(&["time of the lease"]);
    world
        .envd(&["lease", "--ttl", "1h", "--", "sh", "-c", "exit 5"])
        .code(5);
    drop(daemon);
    watch.assert_nothing_left();
}

#[test]
fn a_lease_ends_with_its_owner() {
    let Some(world) = world() else { return };
    let daemon = Daemon::of(&world);
    let mut owner = Command::new("sleep").arg("600").spawn().unwrap();
    let id = owner.id().to_string();
    let arguments = [
        "lease",
        "--owner-pid",
        &id,
        "--",
        "sh",
        "-c",
        "echo ready; sleep 600",
    ];
    let mut child = spawn(&mut world.envd_command(&arguments));
    until_ready(&mut child);
    owner.kill().unwrap();
    owner.wait().unwrap();
    conclude(child).code(137).says(&["owner"]);
    world
        .envd(&["lease", "--owner-pid", "999999999", "--", "true"])
        .fails()
        .says(&["999999999"]);
    drop(daemon);
}

/// Programs that stay connected run one command after the other, each where the last one left off.
#[test]
fn an_opened_environment_runs_many_commands_and_lives_as_long_as_its_client() {
    let Some(world) = world() else { return };
    let daemon = Daemon::start(&world);
    let status = daemon.status().unwrap();
    let build = build(&status);
    let opened = || {
        let status = daemon.status().unwrap();
        let environments = status["environments"].as_array().unwrap();
        let opened = environments.iter().filter(|one| one["use"] == "open");
        opened.count()
    };
    let ask = |raw: &Raw, request: &str| {
        raw.ask(&format!(
            r#"{{"version":1,"build":"{build:016x}","request":{request}}}"#
        ));
        raw.answer().unwrap()
    };
    let raw = daemon.connect();
    let handle = ask(&raw, r#""open""#)["ok"]["handle"].as_u64().unwrap();
    assert_eq!(opened(), 1);
    let null = std::fs::File::options()
        .read(true)
        .write(true)
        .open("/dev/null")
        .unwrap();
    let standard = [null.as_raw_fd(); 3];
    let shell = |script: &str| {
        let packet = execute_packet(handle, build, &["sh", "-c", script]);
        Running::start(&raw, &packet, standard)
    };
    assert_eq!(shell("echo kept > /tmp/kept").status(), Some(0));
    assert_eq!(
        shell("grep -q kept /tmp/kept && exit 7").status(),
        Some(7 << 8)
    );
    assert_eq!(shell("kill -9 $$").status(), Some(9));
    let missing = execute_packet(handle, build, &["no-such-program"]);
    assert_eq!(Running::start(&raw, &missing, standard).status(), None);
    // Many at once; one whose connection is closed is killed, and the others are not.
    let all: Vec<_> = (0..50)
        .map(|n| shell(&format!("sleep 0.2; exit {n}")))
        .collect();
    drop(shell("touch /tmp/started; sleep 600; touch /tmp/survived"));
    for (number, command) in all.iter().enumerate() {
        assert_eq!(command.status(), Some((number as i32) << 8));
    }
    assert_eq!(shell("test ! -e /tmp/survived").status(), Some(0));
    raw.send(
        &execute_packet(handle + 1, build, &["true"]),
        &[null.as_raw_fd(); 4],
    );
    assert_eq!(raw.error(), "gone");
    ask(&raw, &format!(r#""close","handle":{handle}"#));
    assert_eq!(opened(), 0);
    ask(&raw, r#""open""#);
    drop(raw);
    until("it is closed", || opened() == 0);
}
