//! Services and tasks of a project, by its daemon.

use std::{
    io::{Read, Write},
    net::TcpStream,
    os::unix::process::CommandExt,
    process::{Child, Command, Stdio},
};

use envd_tests::{
    daemon::{Daemon, until},
    leftovers::Watch,
    sandbox::{conclude, finish},
    world::World,
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;

const ENVIRONMENT: &str = "[env]\nchannels = [\"debian:trixie\"]\npackages = [\"hello\"]\n";

/// A database that answers on a port of its own, and what needs it.
const TWO: &str = r#"
[service.db]
run = "mkdir -p $ENVD_STATE/db; echo started >> $ENVD_STATE/db/starts; exec httpd -f -p 127.0.0.1:{port.db} -h $ENVD_STATE/db"
ready = { tcp = "{port.db}" }
[service.web]
run = "echo hello from web; exec sleep 600"
needs = ["db"]
"#;

/// A world with these sections, in which nothing runs.
fn world(sections: &str) -> Option<World> {
    let world = World::small()?;
    world.write("envd.toml", &format!("{ENVIRONMENT}{sections}"));
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

fn json(world: &World, arguments: &[&str]) -> Value {
    let outcome = world.envd(arguments).ok();
    serde_json::from_str(&outcome.stdout).unwrap_or_else(|error| panic!("{error}\n{outcome}"))
}

fn state(world: &World, service: &str) -> String {
    let all = json(world, &["--json", "ps"]);
    let services = all["services"].as_array().unwrap().clone();
    let found = services.iter().find(|one| one["name"] == service);
    found.map_or_else(String::new, |one| one["state"].as_str().unwrap().to_owned())
}

#[test]
fn services_come_up_in_order_answer_and_go_down_again() {
    let Some(world) = world(TWO) else { return };
    let watch = Watch::start(&world);
    let daemon = Daemon::of(&world);
    let up = json(&world, &["--json", "up"]);
    let port = up["ports"]["db"].as_u64().expect("a port") as u16;
    assert_eq!(state(&world, "db"), "ready");
    assert_eq!(state(&world, "web"), "ready");
    let mut connection = TcpStream::connect(("127.0.0.1", port)).expect("db listens");
    connection
        .write_all(b"GET /starts HTTP/1.0\r\n\r\n")
        .unwrap();
    let mut page = String::new();
    connection.read_to_string(&mut page).unwrap();
    assert!(page.ends_with("started\n"), "{page}");
    let logs = world.envd(&["logs", "web"]).ok();
    assert!(logs.stdout.contains("| hello from web\n"), "{logs}");
    world.envd(&["ps"]).ok();
    world.envd(&["down"]).ok();
    assert!(TcpStream::connect(("127.0.0.1", port)).is_err());
    // What services keep is kept, until somebody says otherwise.
    world.envd(&["up", "db"]).ok();
    assert_eq!(state(&world, "web"), "stopped");
    let kept = || {
        let state = std::fs::read_dir(world.store().join("state")).ok()?;
        let project = state.flatten().next()?.path();
        std::fs::read_to_string(project.join("data/db/starts")).ok()
    };
    assert_eq!(kept().as_deref(), Some("started\nstarted\n"));
    world.envd(&["down", "--clean"]).ok();
    assert_eq!(kept(), None);
    drop(daemon);
    watch.assert_nothing_left();
}

#[test]
fn stopping_the_daemon_stops_services_in_order() {
    let Some(world) = world(
        r#"
[service.db]
run = "trap 'echo db is last >> order; exit 0' TERM; echo up; while :; do sleep 0.05; done"
[service.web]
run = "trap 'echo web is first >> order; exit 0' TERM; echo up; while :; do sleep 0.05; done"
needs = ["db"]
"#,
    ) else {
        return;
    };
    let watch = Watch::start(&world);
    let daemon = Daemon::of(&world);
    world.envd(&["up"]).ok();
    let said = |service: &str| {
        world
            .envd(&["logs", service])
            .ok()
            .stdout
            .contains("| up\n")
    };
    until("both have set their traps", || said("db") && said("web"));
    world.envd(&["daemon", "stop"]).ok();
    let order = std::fs::read_to_string(world.project().join("order")).unwrap();
    assert_eq!(order, "web is first\ndb is last\n");
    drop(daemon);
    watch.assert_nothing_left();
}

/// Whoever waits for it must hear why it waits in vain; the others go on.
#[test]
fn a_service_that_is_never_ready_is_named_and_the_daemon_goes_on() {
    let Some(world) = world(
        r#"
[service.never]
run = "echo I try; exec sleep 600"
ready = { tcp = "{port.never}" }
start-timeout = "1s"
restart = "never"
[service.absent]
run = ["no-such-program"]
restart = "never"
[service.good]
run = "exec sleep 600"
"#,
    ) else {
        return;
    };
    let daemon = Daemon::of(&world);
    world
        .envd(&["up", "never"])
        .fails()
        .says(&["never", "envd logs never"]);
    world.envd(&["up", "absent"]).fails().says(&["absent"]);
    world.envd(&["up", "unknown"]).fails().says(&["unknown"]);
    world.envd(&["up", "good"]).ok();
    assert_eq!(state(&world, "good"), "ready");
    assert_eq!(state(&world, "never"), "failed");
    let logs = world.envd(&["logs", "never"]).ok();
    assert!(logs.stdout.contains("I try"), "{logs}");
    world.envd(&["run", "--", "hello"]).ok();
    drop(daemon);
}

#[test]
fn a_service_that_dies_is_started_again_and_what_it_left_is_killed() {
    let Some(world) = world(
        r#"
[service.flaky]
run = "echo $$ >> lives; sleep 77777 & exec sleep 88888"
restart = "always"
"#,
    ) else {
        return;
    };
    let daemon = Daemon::of(&world);
    world.envd(&["up"]).ok();
    let running = |word: &str| {
        let processes = std::fs::read_dir("/proc").unwrap().flatten();
        let project = world.project().display().to_string();
        let found = processes.filter_map(|entry| {
            let number = entry.file_name().to_string_lossy().parse::<i32>().ok()?;
            let line = std::fs::read(entry.path().join("cmdline")).ok()?;
            let mounts = std::fs::read_to_string(entry.path().join("mountinfo")).ok()?;
            let line = String::from_utf8_lossy(&line).replace('\0', " ");
            (line.contains(word) && mounts.contains(&project)).then_some(number)
        });
        found.collect::<Vec<_>>()
    };
    let lives = || {
        let lives = std::fs::read_to_string(world.project().join("lives"));
        lives.unwrap_or_default().lines().count()
    };
    until("it lives", || {
        running("sleep 88888").len() == 1 && running("sleep 77777").len() == 1
    });
    let left = running("sleep 77777")[0];
    kill(Pid::from_raw(running("sleep 88888")[0]), Signal::SIGKILL).unwrap();
    until("it lives again", || {
        lives() == 2 && running("sleep 88888").len() == 1
    });
    until("what it left is gone", || {
        !running("sleep 77777").contains(&left)
    });
    drop(daemon);
}

#[test]
fn logs_are_followed_until_nobody_reads_them() {
    let Some(world) = world("[service.clock]\nrun = \"while :; do echo tick; sleep 0.05; done\"\n")
    else {
        return;
    };
    let daemon = Daemon::of(&world);
    world.envd(&["up"]).ok();
    let mut child = spawn(&mut world.envd_command(&["logs", "--follow", "--lines", "0"]));
    let mut stdout = child.stdout.take().unwrap();
    let mut seen = Vec::new();
    while seen.iter().filter(|byte| **byte == b'\n').count() < 3 {
        let mut byte = [0];
        assert_eq!(stdout.read(&mut byte).unwrap(), 1);
        seen.push(byte[0]);
    }
    assert!(String::from_utf8_lossy(&seen).contains("clock "));
    drop(stdout);
    assert!(child.wait().is_ok(), "it ends with its reader");
    until("the daemon has forgotten it", || {
        daemon.status().unwrap()["clients"] == 1
    });
    drop(daemon);
}

/// kill -9 of the daemon ends services like everything else.
#[test]
fn services_end_with_their_daemon() {
    let Some(world) = world("[service.stay]\nrun = \"setsid sleep 600 & exec sleep 600\"\n") else {
        return;
    };
    let watch = Watch::start(&world);
    let daemon = Daemon::of(&world);
    world.envd(&["up"]).ok();
    daemon.kill();
    let left = watch.left_for_good();
    assert!(
        left.iter().all(|line| line.starts_with("file ")),
        "{left:?}"
    );
    world.envd(&["up"]).ok();
    assert_eq!(state(&world, "stay"), "ready");
    world.envd(&["daemon", "stop"]).ok();
    drop(daemon);
    watch.assert_nothing_left();
}

/// Out of memory, say: the next `up` must not try to start services where nothing is any more.
#[test]
fn services_whose_environment_was_killed_come_up_in_a_new_one() {
    let Some(world) = world("[service.stay]\nrun = \"exec sleep 600\"\nrestart = \"never\"\n")
    else {
        return;
    };
    let daemon = Daemon::of(&world);
    world.envd(&["up"]).ok();
    let status = daemon.status().unwrap();
    let environments = status["environments"].as_array().unwrap();
    let services = environments.iter().find(|one| one["use"] == "services");
    let init = services.unwrap()["pid"].as_i64().unwrap() as i32;
    kill(Pid::from_raw(init), Signal::SIGKILL).unwrap();
    until("it has failed", || state(&world, "stay") == "failed");
    world.envd(&["up"]).ok();
    assert_eq!(state(&world, "stay"), "ready");
    drop(daemon);
}

/// An idle daemon ends; one whose services run is not idle.
#[test]
fn a_daemon_stays_for_its_services() {
    let Some(world) = world("[service.short]\nrun = \"read line < gate\"\nrestart = \"never\"\n")
    else {
        return;
    };
    let gate = world.project().join("gate");
    nix::unistd::mkfifo(&gate, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let daemon = Daemon::of(&world);
    finish(world.envd_command(&["up"]).env("ENVD_DAEMON_IDLE", "1")).ok();
    std::thread::sleep(std::time::Duration::from_secs(3));
    assert_eq!(state(&world, "short"), "ready");
    std::fs::write(&gate, "go\n").unwrap();
    until("it ends after its services", || daemon.sockets().is_empty());
    drop(daemon);
}

/// Root has no limit but the machine's, so this is an ordinary user's.
#[test]
fn a_fork_bomb_in_a_service_is_ended_with_it() {
    let Some(world) = World::small() else { return };
    let sandbox = world.another_of(envd_tests::user::Account::ordinary());
    let bomb = "[service.bomb]\nrun = \"b() { b | b & }; b; exec sleep 600\"\n";
    sandbox.write("envd.toml", &format!("{ENVIRONMENT}{bomb}"));
    sandbox.envd(&["daemon", "start"]).ok();
    sandbox.envd(&["daemon", "stop"]).ok();
    let watch = Watch::start(&sandbox);
    let daemon = Daemon::of(&sandbox);
    sandbox.envd(&["up"]).ok();
    sandbox.envd(&["run", "--", "hello"]).ok();
    assert!(daemon.status().is_some());
    sandbox.envd(&["down"]).ok();
    drop(daemon);
    watch.assert_nothing_left();
}

#[test]
fn tasks_run_in_order_and_are_skipped_while_nothing_has_changed() {
    let Some(world) = world(
        r#"
[service.db]
run = "exec httpd -f -p 127.0.0.1:{port.db}"
ready = { tcp = "{port.db}" }
[task.build]
run = "cat input > output; echo built >> times"
inputs = ["input"]
outputs = ["output"]
[task.test]
run = "echo tested with $PORT; test -n \"$PORT\" && cat output"
needs = ["build"]
services = ["db"]
env = { PORT = "{port.db}" }
[task.bad]
run = "exit 9"
"#,
    ) else {
        return;
    };
    let daemon = Daemon::of(&world);
    world.write("input", "one\n");
    world.write("sub/file", "");
    let times = || {
        let times = std::fs::read_to_string(world.project().join("times"));
        times.unwrap_or_default().lines().count()
    };
    let mut command = world.envd_command(&["task", "test"]);
    let outcome = finish(command.current_dir(world.project().join("sub"))).ok();
    assert!(outcome.stdout.starts_with("tested with "), "{outcome}");
    assert!(outcome.stdout.ends_with("one\n"), "{outcome}");
    assert_eq!(state(&world, "db"), "ready");
    world.envd(&["task", "build"]).ok().says(&["up to date"]);
    assert_eq!(times(), 1);
    world.write("input", "two\n");
    world
        .envd(&["task", "build"])
        .ok()
        .says(&["inputs have changed"]);
    assert_eq!(times(), 2);
    world.envd(&["task", "--force", "build"]).ok();
    assert_eq!(times(), 3);
    world.envd(&["task", "bad"]).code(9).says(&["bad"]);
    world.envd(&["task", "absent"]).fails().says(&["absent"]);
    let names = json(&world, &["--json", "task"]);
    assert_eq!(names, serde_json::json!(["bad", "build", "test"]));
    drop(daemon);
    let _ = conclude(spawn(&mut world.envd_command(&["task", "build"]))).ok();
}
