//! The daemon: what it changes (nothing but the time it takes), and that nothing of it stays.

use std::{
    io::{Read, Write},
    os::{fd::AsRawFd, unix::process::CommandExt},
    process::{Child, Command, Stdio},
};

use envd_tests::{
    daemon::{Daemon, build, join_packet, run_packet, until},
    leftovers::Watch,
    programs, requirement,
    sandbox::{PATIENCE, conclude, finish, set_mode, wait},
    world::World,
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
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

fn pid(child: &Child) -> Pid {
    Pid::from_raw(child.id() as i32)
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

/// Runs a command through the daemon and without it, and panics where they differ.
#[track_caller]
fn same(daemon: &Daemon<'_>, make: impl Fn(&str) -> Command) {
    let with = finish(&mut make(""));
    let without = finish(&mut make("--no-daemon"));
    assert_eq!(
        (with.status, &with.stdout, &with.stderr),
        (without.status, &without.stdout, &without.stderr),
        "with the daemon, and without"
    );
    assert!(daemon.status().is_some(), "{with}");
}

/// People must not have to know whether a daemon runs.
#[test]
fn a_command_behaves_the_same_with_the_daemon_and_without() {
    let Some(world) = world() else { return };
    world.write("sub/not-executable", "text\n");
    set_mode(&world.project().join("sub/not-executable"), 0o644);
    let daemon = Daemon::start(&world);
    let envd = envd_tests::sandbox::envd_binary().display().to_string();
    for script in [
        "$ENVD run $FLAG -- sh -c 'exit 7'",
        "$ENVD run $FLAG -- sh -c 'kill -TERM $$; sleep 9'",
        "$ENVD run $FLAG -- no-such-program",
        "$ENVD run $FLAG -- sub/not-executable",
        "$ENVD run $FLAG -- hello",
        "cd sub && $ENVD run $FLAG -- pwd",
        "cd / && $ENVD --project $PROJECT run $FLAG -- pwd",
        "umask 027; $ENVD run $FLAG -- sh -c 'umask; id -u; id -g'",
        "SECRET=1 LC_ALL=C TERM=vt100 $ENVD run $FLAG --env A=1 --env B='x y' -- env | sort",
        "$ENVD run $FLAG -- cat < envd.toml",
        "printf 'a\\nb' | $ENVD run $FLAG -- cat",
        "$ENVD run $FLAG -- cat < /dev/null",
        "$ENVD run $FLAG -- sh -c 'echo out; echo err >&2' 2>&1",
        "$ENVD run $FLAG -- sh -c 'yes; echo $? >&2' | head -n 2",
        "$ENVD run $FLAG -- sh -c 'sleep 600 & echo started'",
        "ulimit -S -n 77; ulimit -H -n 77; $ENVD run $FLAG -- sh -c 'ulimit -n'",
        "ulimit -c 0; $ENVD run $FLAG -- sh -c 'ulimit -c'",
        "ulimit -S -n 77; $ENVD run $FLAG -- cat /proc/self/limits",
        "ulimit -S -s 1024; ulimit -H -s 4096; ulimit -v 4000000; $ENVD run $FLAG -- cat /proc/self/limits",
        "$ENVD run $FLAG --strict -- sh -c 'ulimit -c; ulimit -H -c'",
        "nice -n 7 $ENVD run $FLAG -- cut -d' ' -f19 /proc/self/stat",
        "trap '' HUP INT USR1; $ENVD run $FLAG -- sh -c 'grep SigIgn /proc/self/status | cut -c18-'",
        "$ENVD run $FLAG --as-root -- sh -c 'id -u; echo $HOME'",
        "$ENVD run $FLAG --no-network -- sh -c 'cat /proc/net/dev | tail -n +3 | cut -d: -f1'",
        "$ENVD run $FLAG --strict -- sh -c 'echo x > /usr/x; touch here && rm here; grep Seccomp: /proc/self/status'",
        "$ENVD run $FLAG -- sh -c 'ls /proc/self/fd; cat /etc/passwd /etc/hosts; ls -d /tmp/* 2>&1'",
        "$ENVD run $FLAG -- sh -c 'ls / /dev; mount | wc -l'",
    ] {
        same(&daemon, |flag| {
            let mut command = world.command("sh");
            command
                .args(["-c", script])
                .env("ENVD", &envd)
                .env("FLAG", flag)
                .env("PROJECT", world.project());
            command
        });
    }
}

/// What the daemon was started with is no reason for a command to have less than its caller.
#[test]
fn a_daemon_that_was_started_with_less_leaves_the_command_to_its_caller() {
    let Some(world) = world() else { return };
    let envd = envd_tests::sandbox::envd_binary().display().to_string();
    let shell = |script: &str| finish(world.command("sh").args(["-c", script]).env("ENVD", &envd));
    for (less, more, asked) in [
        ("ulimit -n 200", "ulimit -S -n 250", "ulimit -n"),
        ("nice -n 5", "", "cut -d\" \" -f19 /proc/self/stat"),
    ] {
        let start = match less.starts_with("nice") {
            true => format!("{less} $ENVD daemon start"),
            false => format!("{less}; $ENVD daemon start"),
        };
        shell(&start).ok();
        let daemon = Daemon::of(&world);
        for flag in ["", "-v"] {
            let script = format!("{more}\n$ENVD {flag} run -- sh -c '{asked}'");
            let with = shell(&script).ok();
            let without = shell(&format!("{more}\nsh -c '{asked}'")).ok();
            assert_eq!(with.stdout, without.stdout, "{script}");
        }
        assert!(daemon.status().is_some());
        drop(daemon);
    }
}

/// What does not fit into a packet has another way in.
#[test]
fn long_command_lines_and_environments_get_through() {
    let Some(world) = world() else { return };
    let _daemon = Daemon::start(&world);
    let long = "x".repeat(100_000);
    let script = "echo ${#1} ${#2} ${#3}";
    let arguments = ["run", "--", "sh", "-c", script, "sh", &long, &long, "y"];
    let outcome = finish(world.envd_command(&arguments).env("LONG", &long)).ok();
    assert_eq!(outcome.stdout, "100000 100000 1\n");
}

#[test]
fn signals_reach_the_command_and_its_answer_comes_back() {
    let Some(world) = world() else { return };
    let _daemon = Daemon::start(&world);
    for (signal, name) in [
        (Signal::SIGTERM, "TERM"),
        (Signal::SIGINT, "INT"),
        (Signal::SIGHUP, "HUP"),
        (Signal::SIGUSR1, "USR1"),
        (Signal::SIGWINCH, "WINCH"),
    ] {
        let script = format!(
            "trap 'echo got {name}; exit 3' {name}; echo ready; while :; do sleep 0.05; done"
        );
        let mut child = spawn(&mut world.envd_command(&["run", "--", "sh", "-c", &script]));
        until_ready(&mut child);
        kill(pid(&child), signal).unwrap();
        let outcome = conclude(child).code(3);
        assert_eq!(outcome.stdout, format!("got {name}\n"));
    }
    let mut child =
        spawn(&mut world.envd_command(&["run", "--", "sh", "-c", "echo ready; exec sleep 600"]));
    until_ready(&mut child);
    kill(pid(&child), Signal::SIGTERM).unwrap();
    conclude(child).code(128 + 15);
}

/// Ctrl-Z on a job that reads a pipe stops what runs, not only the client.
#[test]
fn a_stopped_client_is_a_stopped_command() {
    let Some(world) = world() else { return };
    let _daemon = Daemon::start(&world);
    let script =
        "echo ready; while :; do echo tick >> ticks; sleep 0.01; test -e enough && exit 4; done";
    for front in ["-q", "-v"] {
        stopped_and_continued(&world, front, script);
    }
}

/// `-v` is for the whole of envd, `-q` for its front.
fn stopped_and_continued(world: &World, front: &str, script: &str) {
    for left in ["ticks", "enough"] {
        let _ = std::fs::remove_file(world.project().join(left));
    }
    let mut child = spawn(&mut world.envd_command(&[front, "run", "--", "sh", "-c", script]));
    until_ready(&mut child);
    let ticks = || std::fs::metadata(world.project().join("ticks")).map_or(0, |meta| meta.len());
    until("it ticks", || ticks() > 0);
    kill(pid(&child), Signal::SIGTSTP).unwrap();
    let stopped = || {
        let status = std::fs::read_to_string(format!("/proc/{}/status", child.id()));
        status.is_ok_and(|status| status.contains("State:\tT"))
    };
    until("the client is stopped", stopped);
    // The command was stopped before its client.
    let quiet = || {
        let before = ticks();
        std::thread::sleep(std::time::Duration::from_millis(100));
        before == ticks()
    };
    until("the command is stopped", quiet);
    world.write("enough", "");
    kill(pid(&child), Signal::SIGCONT).unwrap();
    conclude(child).code(4);
}

/// An update must not pull the root away from under what runs, nor keep anybody in the old one.
#[test]
fn a_new_lock_is_for_new_commands_and_running_ones_keep_theirs() {
    let Some(mut world) = world() else { return };
    let daemon = Daemon::start(&world.sandbox);
    let script = "hello; echo ready; read line; hello";
    let mut child = spawn(
        world
            .envd_command(&["run", "--", "sh", "-c", script])
            .stdin(Stdio::piped()),
    );
    until_ready(&mut child);
    world.archive.trixie().supersede(programs::hello("2.0"));
    world.archive.pass_a_day();
    world.publish();
    world.envd(&["update"]).ok();
    let outcome = world.envd(&["run", "--", "hello"]).ok();
    assert_eq!(outcome.stdout, "Hello, world! 2.0\n");
    world.envd(&["gc"]).ok();
    child.stdin.take().unwrap().write_all(b"go\n").unwrap();
    let outcome = conclude(child).ok();
    assert_eq!(outcome.stdout, "Hello, world! 1.0\n");
    let outcome = world.envd(&["run", "--", "hello"]).ok();
    assert_eq!(outcome.stdout, "Hello, world! 2.0\n");
    drop(daemon);
}

#[test]
fn a_hundred_clients_at_once_are_all_served() {
    let Some(world) = world() else { return };
    let daemon = Daemon::start(&world);
    let before = daemon.descriptors();
    std::thread::scope(|scope| {
        let clients: Vec<_> = (0..100)
            .map(|number: u32| {
                let world = &world;
                scope.spawn(move || {
                    let script = format!("echo {number}; exit {}", number % 7);
                    let outcome = world.run_shell(&script).code((number % 7) as i32);
                    assert_eq!(outcome.stdout, format!("{number}\n"));
                })
            })
            .collect();
        for client in clients {
            client.join().expect("served");
        }
    });
    // Two spares may wait where there were fewer, with two descriptors each.
    until("descriptors are given back", || {
        daemon.descriptors() <= before + 4
    });
    let status = daemon.status().unwrap();
    assert_eq!(status["clients"], 1, "{status}");
}

/// One client's mistakes are not the others' trouble.
#[test]
fn garbage_is_answered_and_leaks_nothing() {
    let Some(world) = world() else { return };
    let daemon = Daemon::start(&world);
    world.envd(&["run", "--", "true"]).ok();
    let status = daemon.status().unwrap();
    let build = build(&status);
    let before = daemon.descriptors();
    let good = run_packet(build, &["true"]);
    let null = std::fs::File::open("/dev/null").unwrap();
    let four = [null.as_raw_fd(); 4];
    let json = |text: &str| [&64u32.to_ne_bytes(), text.as_bytes()].concat();
    let mut lying = good.clone();
    lying[20] = 0xff;
    for (packet, descriptors) in [
        (b"garbage".to_vec(), &[][..]),
        (vec![0], &[]),
        (vec![0xff; 4096], &four),
        (vec![0; 150 * 1024], &[]),
        (json("{"), &[]),
        (json("[]"), &[]),
        (
            json(r#"{"version":1,"build":"0","request":"explode"}"#),
            &four,
        ),
        (
            json(r#"{"version":1,"build":"0","request":"open","inside":-1}"#),
            &[],
        ),
        (good.clone(), &[]),
        (good.clone(), &four[..3]),
        (good.clone(), &[null.as_raw_fd(); 7]),
        (good[..good.len() - 1].to_vec(), &four),
        (good[..20].to_vec(), &four),
        (lying, &four),
        // Who joins has a terminal.
        (join_packet(build, &["true"]), &four),
    ] {
        let raw = daemon.connect();
        raw.send(&packet, descriptors);
        assert_eq!(
            raw.error(),
            "malformed",
            "{:?}",
            &packet[..packet.len().min(40)]
        );
        assert_eq!(raw.answer(), None, "it hangs up");
    }
    // Who says half a sentence and leaves, or nothing at all.
    for _ in 0..20 {
        drop(daemon.connect());
        let raw = daemon.connect();
        raw.send(&good, &four[..2]);
    }
    until("descriptors are given back", || {
        daemon.descriptors() <= before
    });
    world.envd(&["run", "--", "hello"]).ok();
}

#[test]
fn a_client_of_another_build_is_told_so_and_may_only_look_and_stop() {
    let Some(world) = world() else { return };
    let daemon = Daemon::start(&world);
    let raw = daemon.connect();
    let null = std::fs::File::open("/dev/null").unwrap();
    raw.send(&run_packet(12345, &["true"]), &[null.as_raw_fd(); 4]);
    assert_eq!(raw.error(), "other-version");
    raw.ask(r#"{"version":1,"build":"0000000000003039","request":"open"}"#);
    assert_eq!(raw.error(), "other-version");
    raw.ask(r#"{"version":99,"build":"0000000000003039","request":"status"}"#);
    assert_eq!(raw.error(), "other-version");
    raw.ask(r#"{"version":1,"build":"0000000000003039","request":"status"}"#);
    assert!(raw.answer().unwrap()["ok"]["pid"].is_number());
    raw.ask(r#"{"version":1,"build":"0000000000003039","request":"stop","if_idle":true}"#);
    assert!(raw.answer().unwrap()["ok"].is_object());
    assert_eq!(raw.answer(), None);
    assert_eq!(daemon.sockets(), [] as [std::path::PathBuf; 0]);
}

/// An upgrade takes effect at once, but ends nobody's work.
#[test]
fn after_an_upgrade_an_idle_daemon_is_replaced_and_a_busy_one_left_alone() {
    let Some(world) = world() else { return };
    let daemon = Daemon::start(&world);
    let directory = tempfile::tempdir().unwrap();
    let other = directory.path().join("envd");
    std::fs::copy(envd_tests::sandbox::envd_binary(), &other).unwrap();
    let mut child = spawn(
        world
            .envd_command(&["run", "--", "sh", "-c", "echo ready; read line"])
            .stdin(Stdio::piped()),
    );
    until_ready(&mut child);
    let first = daemon.pid();
    let with_other = |arguments: &[&str]| finish(world.command(&other).args(arguments));
    let outcome = with_other(&["run", "--", "hello"])
        .ok()
        .says(&["something runs in it"]);
    assert_eq!(outcome.stdout, "Hello, world! 1.0\n");
    assert_eq!(daemon.pid(), first);
    drop(child.stdin.take());
    conclude(child);
    until("nothing runs", || {
        let status = daemon.status().unwrap();
        let used = status["environments"].as_array().unwrap();
        used.iter().all(|environment| environment["use"] == "spare")
    });
    let outcome = with_other(&["run", "--", "hello"]).ok();
    assert_eq!(outcome.stdout, "Hello, world! 1.0\n");
    assert_ne!(daemon.pid(), first);
}

#[test]
fn a_client_that_is_killed_leaves_nothing_behind() {
    let Some(world) = world() else { return };
    let daemon = Daemon::start(&world);
    let script =
        "setsid sh -c 'trap \"\" TERM HUP INT; sleep 600' & sleep 600 & echo ready; sleep 600";
    for _ in 0..5 {
        let mut child = spawn(&mut world.envd_command(&["run", "--", "sh", "-c", script]));
        until_ready(&mut child);
        child.kill().unwrap();
        child.wait().unwrap();
    }
    until("its environments are gone", || {
        let status = daemon.status().unwrap();
        let environments = status["environments"].as_array().unwrap();
        environments
            .iter()
            .all(|environment| environment["use"] == "spare")
    });
    let watch = Watch::start(&world);
    drop(daemon);
    watch.assert_nothing_left();
}

/// The kernel is the garbage collector.
#[test]
fn a_daemon_that_is_killed_leaves_nothing_and_the_next_command_starts_clean() {
    let Some(world) = world() else { return };
    let watch = Watch::start(&world);
    let daemon = Daemon::start(&world);
    let mut child =
        spawn(&mut world.envd_command(&["run", "--", "sh", "-c", "echo ready; sleep 600"]));
    until_ready(&mut child);
    daemon.kill();
    let outcome = conclude(child).fails();
    outcome.says(&["ended"]);
    let files = watch.left_for_good();
    assert!(
        files.iter().all(|line| line.starts_with("file ")),
        "{files:?}"
    );
    assert!(files.len() <= 3, "a socket, a lock and a log: {files:?}");
    let outcome = world.envd(&["run", "--", "hello"]).ok();
    assert_eq!(outcome.stdout, "Hello, world! 1.0\n");
    world.envd(&["daemon", "start"]).ok();
    world.envd(&["run", "--", "hello"]).ok();
    world.envd(&["daemon", "stop"]).ok();
    watch.assert_nothing_left();
}

/// Uninstalling pulls the root away from under a daemon, so that has to go first, with everything.
#[test]
fn uninstalling_ends_daemons_and_what_runs_in_them() {
    let Some(world) = World::small() else { return };
    world.wants(&["hello"]);
    world.envd(&["run", "--", "true"]).ok();
    let watch = Watch::start(&world);
    let daemon = Daemon::start(&world);
    let mut child =
        spawn(&mut world.envd_command(&["-v", "run", "--", "sh", "-c", "echo ready; sleep 600"]));
    until_ready(&mut child);
    let pid = daemon.pid();
    world
        .envd(&["uninstall", "--verify"])
        .code(1)
        .says(&["left"]);
    assert!(kill(pid, None).is_ok(), "looking ends nothing");
    world.envd(&["uninstall", "--yes"]).ok();
    conclude(child).fails().says(&["stopped"]);
    until("the daemon is gone", || kill(pid, None).is_err());
    assert!(daemon.sockets().is_empty());
    world.envd(&["uninstall", "--verify"]).ok();
    watch.assert_nothing_left();
}

#[test]
fn stopping_ends_everything_and_says_so_to_those_whose_work_it_was() {
    let Some(world) = world() else { return };
    let watch = Watch::start(&world);
    let daemon = Daemon::start(&world);
    let mut child =
        spawn(&mut world.envd_command(&["-v", "run", "--", "sh", "-c", "echo ready; sleep 600"]));
    until_ready(&mut child);
    world.envd(&["daemon", "stop"]).ok();
    conclude(child).fails().says(&["stopped"]);
    assert!(daemon.status().is_none());
    world.envd(&["daemon", "stop"]).ok();
    watch.assert_nothing_left();
}

/// Nothing lingers after a run that nobody asked for.
#[test]
fn run_alone_starts_no_daemon_and_an_idle_one_ends() {
    let Some(world) = world() else { return };
    let watch = Watch::start(&world);
    world.envd(&["run", "--", "hello"]).ok();
    let daemon = Daemon::of(&world);
    assert!(daemon.sockets().is_empty());
    let start = finish(
        world
            .envd_command(&["daemon", "start"])
            .env("ENVD_DAEMON_IDLE", "1"),
    );
    start.ok();
    until("it ends", || daemon.sockets().is_empty());
    watch.assert_nothing_left();
}

#[test]
fn a_runtime_directory_that_others_have_a_hand_in_is_refused_by_name() {
    let Some(world) = world() else { return };
    let directory = world.path("run").join("envd");
    set_mode(&directory, 0o755);
    world.envd(&["daemon", "start"]).fails().says(&[
        "open to others",
        "chmod 700",
        directory.to_str().unwrap(),
    ]);
    world.envd(&["run", "--", "hello"]).ok();
    set_mode(&directory, 0o700);
    if nix::unistd::geteuid().is_root() {
        std::os::unix::fs::chown(&directory, Some(4242), None).unwrap();
        world
            .envd(&["daemon", "start"])
            .fails()
            .says(&["another user", "4242"]);
        world.envd(&["run", "--", "hello"]).ok();
    }
}

#[test]
fn a_socket_path_that_is_too_long_is_said_with_the_way_out() {
    let Some(world) = world() else { return };
    let long = world.path("run").join("x".repeat(90));
    std::fs::create_dir(&long).unwrap();
    set_mode(&long, 0o700);
    let with =
        |arguments: &[&str]| finish(world.envd_command(arguments).env("XDG_RUNTIME_DIR", &long));
    with(&["daemon", "start"]).fails().says(&[
        "bytes long",
        "XDG_RUNTIME_DIR",
        long.to_str().unwrap(),
    ]);
    with(&["run", "--", "hello"]).ok();
}

/// A command that is killed with its PID 1 must not leave its client waiting.
#[test]
fn an_environment_that_is_killed_from_outside_is_said() {
    let Some(world) = world() else { return };
    let daemon = Daemon::start(&world);
    let mut child =
        spawn(&mut world.envd_command(&["run", "--", "sh", "-c", "echo ready; sleep 600"]));
    until_ready(&mut child);
    let status = daemon.status().unwrap();
    let environments = status["environments"].as_array().unwrap();
    let used = environments.iter().find(|one| one["use"] == "run").unwrap();
    let init = used["pid"].as_i64().unwrap() as i32;
    kill(Pid::from_raw(init), Signal::SIGKILL).unwrap();
    assert!(wait(&mut child, PATIENCE).is_some_and(|status| !status.success()));
    world.envd(&["run", "--", "hello"]).ok();
}

/// Root's daemon and a user's never meet; both work.
#[test]
fn an_ordinary_user_has_a_daemon_of_its_own() {
    let Some(account) = envd_tests::user::Account::ordinary() else {
        return;
    };
    let Some(world) = World::small() else { return };
    if !requirement::user_namespaces() {
        return;
    }
    let sandbox = world.another_of(Some(account));
    sandbox.wants(&["hello"]);
    let daemon = Daemon::start(&sandbox);
    let outcome = sandbox.envd(&["run", "--", "hello"]).ok();
    assert_eq!(outcome.stdout, "Hello, world! 1.0\n");
    drop(daemon);
    assert_eq!(
        Daemon::of(&sandbox).sockets(),
        [] as [std::path::PathBuf; 0]
    );
}
