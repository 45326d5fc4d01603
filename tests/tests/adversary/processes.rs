//! Other processes: envd's own, its descriptors and its program; whatever is to outlive its owner.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    os::unix::process::CommandExt as _,
    process::Stdio,
};

use envd_tests::{
    agent::Agent,
    leftovers::Watch,
    requirement,
    sandbox::{PATIENCE, wait},
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::{Value, json};

use crate::ground::{Ground, all, everyone, held, on, one, shell};

/// Gain: PID 1 came out of a process outside: its memory, its descriptors, its root and its environment are the way out.
/// Must happen: nothing of it can be read, traced or taken.
/// Guard: `sys::set_not_dumpable` in `Operation::Protect` (`init/src/apply/mod.rs`); the rows OTHERS of
/// `shims/src/seccomp/table.rs`.
/// Seen to fail: with `set_not_dumpable` and `Operation::Filter` left out: what traces its parent ends nothing any more.
#[test]
fn memory_descriptors_and_root_of_pid_1() {
    for ground in everyone() {
        let (mut agent, environment) = ground.agent();
        let mut attacks = all(
            &[
                "vm_read_init",
                "vm_write_init",
                "vm_read_parent",
                "ptrace_attach_init",
                "ptrace_seize_init",
                "ptrace_attach_parent",
                "ptrace_attach_high",
                "ptrace_seize_high",
                "pidfd_getfd_init",
                "kcmp_init",
            ],
            &["EPERM"],
        );
        attacks.extend(all(
            &[
                "open=/proc/1/mem",
                "write=/proc/1/mem",
                "open=/proc/1/environ",
                "open=/proc/1/maps",
                "open=/proc/1/auxv",
                "open=/proc/1/exe",
                "readlink=/proc/1/exe",
                "readlink=/proc/1/root",
                "readlink=/proc/1/cwd",
                "list=/proc/1/root",
                "list=/proc/1/cwd",
                "readlink=/proc/1/fd/0",
                "enter=/proc/1/root",
                "enter=/proc/1/cwd",
                "open=/proc/1/fd/0",
                "open=/proc/1/ns/user",
                "write=/proc/1/oom_score_adj",
            ],
            &["EACCES", "EPERM"],
        ));
        held(&mut agent, &environment, ground.user, &attacks);
        agent.leave();
    }
}

/// Gain: overwriting the program that PID 1 and the launcher outside run (CVE-2019-5736).
/// Must happen: whoever gets hold of that file, by having PID 1 execute `/proc/self/exe`, finds it sealed.
/// Guard: the seals of `program_file` in `shims/src/resident.rs`; that it is busy is only some kernels' guard.
/// Seen to fail: it was not sealed when the case was written.
#[test]
fn the_launchers_own_program_is_sealed() {
    for ground in everyone() {
        let (mut agent, environment) = ground.agent();
        let started = agent.ok(
            "command_start",
            on(
                &environment,
                json!({"command": ["attacker", "overwrite_launcher"]}),
            ),
        );
        let outcome = loop {
            let execute = on(&environment, json!({"command": ["/proc/self/exe"]}));
            agent.call("command_run", execute);
            let polled = agent.ok("command_poll", json!({"command": started["command"]}));
            if polled["state"] != "running" {
                break polled;
            }
        };
        assert_eq!(
            outcome["stdout"]["text"], "overwrite_launcher: ETXTBSY\n",
            "as {}: {outcome}",
            ground.user
        );
        agent.leave();
    }
}

/// Gain: whatever descriptors the server was started with: files of the user, sockets of the agent's program.
/// Must happen: a command has its three standard descriptors and no more, and PID 1 has none of the caller's either.
/// Guard: `sys::close_all_but` in `init/src/launch.rs`, `close_on_exec_from` in `init/src/execute.rs`.
/// Seen to fail: with its guards taken out together; see `CASES.md`.
#[test]
fn inherited_descriptors() {
    for ground in everyone() {
        let secret = ground.secret("secret");
        let envd = ground.envd_command(&[]).get_program().to_owned();
        let mut command = ground.command("sh");
        command
            .args([
                "-c",
                "exec 7<\"$0\" 8<\"$0\" 9<\"$0\"; exec \"$1\" agent mcp",
            ])
            .arg(&secret)
            .arg(envd);
        let mut agent = Agent::by(&mut command);
        let environment = agent.create(json!({}));
        let script = "for number in $(ls /proc/self/fd); do echo $number; done; cat <&7; cat <&9";
        let output = shell(&mut agent, &environment, script);
        // The third is the one that ls reads the directory with.
        assert!(
            output.starts_with("0\n1\n2\n3\n"),
            "as {}: {output}",
            ground.user
        );
        assert!(!output.contains("secret"), "as {}: {output}", ground.user);
        assert!(
            !output.contains("\n7\n") && !output.contains("\n9\n"),
            "{output}"
        );
        agent.leave();
    }
}

/// Gain: a directory outside as the current one, from which `..` leads through the machine (CVE-2024-21626).
/// Must happen: a working directory is found inside; what lies behind a descriptor of PID 1 is none.
/// Guard: `sys::close_all_but` in `init/src/launch.rs`; `change_directory` comes after the root is changed.
/// Seen to fail: with its guards taken out together; see `CASES.md`.
#[test]
fn working_directories_that_lead_out() {
    for ground in everyone() {
        let secret = ground.secret("secret");
        let (mut agent, environment) = ground.agent();
        agent.run(
            &environment,
            "ln -s /proc/1/root root; ln -s /proc/self/fd/3 three; ln -s ../../../../../../../.. up",
        );
        let mut directories = vec![
            "..".to_owned(),
            "../../../../../../../../../..".to_owned(),
            "root".to_owned(),
            "three".to_owned(),
            "up".to_owned(),
            "/proc/1/root".to_owned(),
            "/proc/1/cwd".to_owned(),
            "/proc/self/root".to_owned(),
            "/proc/self/cwd".to_owned(),
            "/proc/self/task/1/root".to_owned(),
            secret.parent().unwrap().to_str().unwrap().to_owned(),
        ];
        directories.extend((0..32).map(|number| format!("/proc/self/fd/{number}")));
        directories.extend((0..8).map(|number| format!("/proc/1/fd/{number}")));
        let line = format!(
            "cat ./secret ../secret .{0} ./..{0} ../../../../../../../../../..{0}",
            secret.display()
        );
        for directory in directories {
            let run = on(&environment, json!({"command": line, "cwd": directory}));
            // Refused, or started somewhere inside.
            let (result, _) = agent.call("command_run", run);
            assert!(
                !result.to_string().contains("the owner's secret"),
                "{directory} as {}: {result}",
                ground.user
            );
        }
        agent.leave();
    }
}

/// Gain: the terminal in which somebody started the server: reading what is typed there, and drawing on it.
/// Must happen: it is nowhere inside, under no name.
/// Guard: `Compiler::devices` in `shims/src/compile/devices.rs`: a plan in a session of its own has no `/dev/console`.
/// Seen to fail: it was bound there when the case was written.
#[test]
fn the_terminal_of_whoever_started_the_server() {
    if !requirement::program("script") {
        return;
    }
    for ground in everyone() {
        let envd = ground.envd_command(&[]).get_program().to_owned();
        let token = "0123456789abcdef".repeat(4);
        let line = format!("{} agent mcp --http 127.0.0.1:0", envd.display());
        let mut command = ground.command("script");
        command
            .args([
                "--quiet",
                "--return",
                "--flush",
                "--command",
                &line,
                "/dev/null",
            ])
            .env("ENVD_MCP_TOKEN", &token)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .process_group(0);
        let mut child = command.spawn().unwrap();
        let mut shown = BufReader::new(child.stdout.take().unwrap());
        let mut first = String::new();
        shown.read_line(&mut first).unwrap();
        let url = first
            .trim()
            .strip_prefix("serving ")
            .expect(&first)
            .to_owned();
        let mut http = crate::calls::Http::open(&url, &token);
        let environment = http.call("environment_create", json!({}));
        let environment = environment["structuredContent"]["environment"].clone();
        let script = "ls /dev; ls /dev/pts; echo drawn > /dev/console; echo drawn > /dev/tty; true";
        let run = json!({"environment": environment, "command": script});
        let listed = http.call("command_run", run);
        let pid = Pid::from_raw(child.id().cast_signed());
        let _ = nix::sys::signal::killpg(pid, Signal::SIGTERM);
        let ended = wait(&mut child, PATIENCE);
        let listed = listed["structuredContent"]["stdout"]["head"]
            .as_str()
            .unwrap()
            .to_owned();
        assert!(!listed.contains("console"), "as {}: {listed}", ground.user);
        let mut rest = String::new();
        let _ = std::io::Read::read_to_string(&mut shown, &mut rest);
        assert!(!rest.contains("drawn"), "as {}: {rest}", ground.user);
        assert!(ended.is_some(), "it ends");
    }
}

/// Gain: escape sequences that the agent chooses, in the terminal of whoever reads the server's messages.
/// Must happen: what the server writes to standard error has no control character but newlines, whatever is logged.
/// Guard: the formatting of `tracing-subscriber` and `Debug`, and that names of the agent's are logged by it alone.
/// Seen to fail: not checked by removing; the log has no raw writer that could be taken out.
#[test]
fn escape_sequences_in_what_the_server_logs() {
    for ground in everyone() {
        let mut command = ground.envd_command(&["agent", "mcp"]);
        command.env("ENVD_LOG", "trace").stderr(Stdio::piped());
        let mut agent = Agent::by(&mut command);
        let errors = agent.take_errors();
        let reader = std::thread::spawn(move || std::io::read_to_string(errors).unwrap());
        let evil = "\u{1b}]0;owned\u{7}\u{1b}[2J\u{9b}31m\r";
        let environment = agent.create(json!({"name": evil}));
        for (tool, more) in [
            ("command_run", json!({"command": [evil, evil]})),
            ("command_run", json!({"command": "true", "cwd": evil})),
            (
                "command_run",
                json!({"command": "true", "env": {evil: evil}}),
            ),
            ("file_read", json!({"path": evil})),
            ("file_write", json!({"path": evil, "content": evil})),
            ("file_search", json!({"pattern": evil, "glob": evil})),
            ("changes_diff", json!({"paths": [evil]})),
            ("changes_apply", json!({})),
            ("package_add", json!({"packages": [evil]})),
            ("environment_fork", json!({"name": evil})),
        ] {
            agent.try_call(tool, on(&environment, more));
        }
        agent.try_call(evil, json!({}));
        agent.try_call("environment_create", json!({"project": evil}));
        agent.leave();
        let logged = reader.join().unwrap();
        let raw = |c: &char| c.is_control() && *c != '\n' && *c != '\t';
        let found: Vec<char> = logged.chars().filter(raw).collect();
        assert!(
            found.is_empty(),
            "as {}: {found:?} in\n{logged}",
            ground.user
        );
    }
}

/// What nobody may outlive: children in sessions of their own, twice forked, deaf to every signal that can be ignored.
const DEAF: &str = "trap '' HUP INT QUIT TERM USR1 USR2 PIPE ALRM TSTP TTIN TTOU; \
    (setsid sh -c '(setsid sleep 10000 &) ; exec sleep 10000' >/dev/null 2>&1 &); \
    (setsid setsid sleep 10000 >/dev/null 2>&1 &); \
    until test $(pidof sleep | wc -w) -ge 3; do :; done; pidof sleep | wc -w";

fn deaf(agent: &mut Agent, environment: &str) {
    let count = agent.run(environment, DEAF);
    assert!(count.trim().parse::<u32>().unwrap() >= 3, "{count}");
}

/// Gain: a process that goes on when its lender is gone.
/// Must happen: nothing is left, whether the client leaves, the client or the server is killed, the environment is destroyed or
/// its time is over.
/// Guard: the PID namespace, whose PID 1 ends with its connection (`init/src/serve.rs`) and its launcher
/// (`set_parent_death_signal` in `init/src/launch.rs`).
/// Seen to fail: with its guards taken out together; see `CASES.md`.
#[test]
fn double_forks_sessions_and_ignored_signals() {
    for ground in everyone() {
        ground.envd(&["run", "--", "true"]).ok();
        let watch = Watch::start(&ground);
        let (mut agent, environment) = ground.agent();
        deaf(&mut agent, &environment);
        agent.ok("environment_destroy", on(&environment, json!({})));
        watch_processes(&watch, agent.pid(), &ground, "destroyed");
        let short = agent.create(json!({"ttl_seconds": 1}));
        // It may be over before the last of them runs.
        agent.try_call("command_run", on(&short, json!({"command": DEAF})));
        while agent.ok("environment_list", json!({}))["environments"] != json!([]) {
            std::thread::yield_now();
        }
        watch_processes(&watch, agent.pid(), &ground, "expired");
        let environment = agent.create(json!({}));
        deaf(&mut agent, &environment);
        agent.leave();
        assert_eq!(
            watch.left_for_good(),
            Vec::<String>::new(),
            "left by a client that leaves"
        );
        let (mut agent, environment) = ground.agent();
        deaf(&mut agent, &environment);
        agent.kill();
        assert_eq!(
            watch.left_for_good(),
            Vec::<String>::new(),
            "left by a server that is killed"
        );
    }
}

/// Nothing but the server itself, and its launcher.
#[track_caller]
fn watch_processes(watch: &Watch, server: u32, ground: &Ground, when: &str) {
    let mut others = Vec::new();
    for _ in 0..500 {
        others = watch.left();
        others.retain(|line| line.contains("sleep"));
        if others.is_empty() {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    panic!("{when}, as {}, beside {server}: {others:?}", ground.user);
}

/// Gain: an environment that survives because the client was killed instead of leaving, or its PID 1 was.
/// Must happen: the server goes with its client, and what PID 1 held with PID 1; the server says so and lends again.
/// Guard: the end of standard input in `serve` (`agents/src/mcp/stdio.rs`); the PID namespace.
/// Seen to fail: with the end of input not told: the server is left.
#[test]
fn a_killed_client_and_a_killed_pid_1() {
    for ground in everyone() {
        ground.envd(&["run", "--", "true"]).ok();
        let watch = Watch::start(&ground);
        let (mut agent, environment) = ground.agent();
        deaf(&mut agent, &environment);
        // Its own, and those of environments that are made ahead, which are not lent after that.
        let first = inits(agent.pid());
        assert!((1..=5).contains(&first.len()), "{first:?}");
        for pid in first {
            kill(pid, Signal::SIGKILL).unwrap();
        }
        let gone = agent.fails("command_run", on(&environment, json!({"command": "true"})));
        assert!(gone.contains("environment"), "{gone}");
        watch_processes(&watch, agent.pid(), &ground, "PID 1 killed");
        let again = agent.create(json!({}));
        deaf(&mut agent, &again);
        drop(agent);
        assert_eq!(watch.left_for_good(), Vec::<String>::new());

        // A client that has the server as its child, with a pipe between them, and is killed.
        let envd = ground.envd_command(&[]).get_program().to_owned();
        let mut client = ground
            .command("sh")
            .args([
                "-c",
                "(cat; exec sleep 10000) | setsid \"$0\" agent mcp > answers",
            ])
            .arg(envd)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .process_group(0)
            .spawn()
            .unwrap();
        let mut input = client.stdin.take().unwrap();
        let initialize = json!({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {
            "protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}});
        writeln!(input, "{initialize}").unwrap();
        let create = json!({"jsonrpc": "2.0", "id": 2, "method": "tools/call",
            "params": {"name": "environment_create", "arguments": {}}});
        writeln!(input, "{create}").unwrap();
        drop(input);
        let answers = ground.project().join("answers");
        let answered = |number: u64| {
            std::fs::read_to_string(&answers)
                .unwrap_or_default()
                .lines()
                .filter_map(|line| serde_json::from_str::<Value>(line).ok())
                .any(|answer| answer["id"] == number)
        };
        while !answered(2) {
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        nix::sys::signal::killpg(Pid::from_raw(client.id().cast_signed()), Signal::SIGKILL)
            .unwrap();
        client.wait().unwrap();
        assert_eq!(
            watch.left_for_good(),
            Vec::<String>::new(),
            "left by a killed client"
        );
    }
}

/// The first processes of the environments of a server: children of its launcher.
fn inits(server: u32) -> Vec<Pid> {
    let children = |of: u32| -> Vec<u32> {
        std::fs::read_dir("/proc")
            .unwrap()
            .flatten()
            .filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok())
            .filter(|pid| {
                let status =
                    std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
                status.contains(&format!("\nPPid:\t{of}\n"))
            })
            .collect()
    };
    let launchers = children(server);
    let inits = launchers.into_iter().flat_map(children);
    inits.map(|pid| Pid::from_raw(pid.cast_signed())).collect()
}

/// Gain: a call, and with it the server, that waits for ever for something that holds a command's output open.
/// Must happen: the call returns with the command; what stays behind is killed with the environment.
/// Guard: `drain` in `Running::read` (`envd/src/agents/command.rs`).
/// Seen to fail: with each of its guards taken out; see `CASES.md`.
#[test]
fn a_child_that_holds_the_output_open() {
    for ground in everyone() {
        let (mut agent, environment) = ground.agent();
        let script =
            "echo parent; setsid sh -c 'trap \"\" HUP TERM; while :; do sleep 1000; done' & ";
        assert_eq!(agent.run(&environment, script), "parent\n");
        let destroyed = agent.ok("environment_destroy", on(&environment, json!({})));
        assert_eq!(destroyed["environment"], environment);
        agent.leave();
    }
}

/// Gain: stopping PID 1's child in the moment before it becomes a command: PID 1 waits for it for ever, and with it a server that
/// waits for PID 1, which then neither destroys the environment nor ends.
/// Must happen: the environment can be destroyed, and the server ends with its client.
/// Guard: `Lent::ending` in `envd/src/agents/live.rs`, which what waits for PID 1 looks at.
/// Seen to fail: `environment_destroy` did not return when the case was written.
#[test]
fn commands_that_are_stopped_before_they_begin() {
    for ground in everyone() {
        let (mut agent, environment) = ground.agent();
        let start = on(&environment, json!({"command": ["attacker", "stop_all"]}));
        let started = agent.ok("command_start", start);
        let poll = json!({"command": started["command"], "wait_seconds": 60});
        assert_eq!(
            agent.ok("command_poll", poll)["stdout"]["text"],
            "stopping\n"
        );
        let mut waiting = Vec::new();
        for _ in 0..8 {
            let run = json!({"name": "command_run", "arguments": on(&environment, json!({"command": "true"}))});
            waiting.push(agent.request("tools/call", &run));
        }
        agent.ok("environment_destroy", on(&environment, json!({})));
        for number in waiting {
            agent.answer(number);
        }
        agent.leave();
    }
}

/// Gain: what a fork that is no longer wanted leaves behind: processes and directories that nobody owns.
/// Must happen: whenever it is cancelled, destroying what is listed leaves nothing.
/// Guard: `Body::drop` and `Owned::drop` for what `blocking` made and nobody took (`envd/src/agents`).
/// Seen to fail: with its guards taken out together; see `CASES.md`.
#[test]
fn forks_and_creations_that_are_cancelled_halfway() {
    let Some(ground) = one() else { return };
    ground.envd(&["run", "--", "true"]).ok();
    let watch = Watch::start(&ground);
    let (mut agent, environment) = ground.agent();
    agent.run(&environment, "echo > file");
    for round in 0..24_u64 {
        let (tool, arguments) = match round % 2 {
            0 => ("environment_fork", on(&environment, json!({"count": 6}))),
            _ => ("environment_create", json!({})),
        };
        let call = json!({"name": tool, "arguments": arguments});
        let number = agent.request("tools/call", &call);
        std::thread::sleep(std::time::Duration::from_micros(round * 400));
        agent.tell(&json!({
            "jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": number},
        }));
        // Whether the fork was made or not, the environment is as it was.
        assert_eq!(agent.run(&environment, "cat file"), "\n");
    }
    let listed = agent.ok("environment_list", json!({}));
    for lent in listed["environments"].as_array().unwrap() {
        agent.ok(
            "environment_destroy",
            json!({"environment": lent["environment"]}),
        );
    }
    let pause = std::time::Duration::from_millis(10);
    for _ in 0..500 {
        if inits(agent.pid()).len() <= 4 {
            break;
        }
        std::thread::sleep(pause);
    }
    // Four are made ahead for whoever asks next: by now they are there, and whatever else is left is one too many.
    std::thread::sleep(20 * pause);
    let left = inits(agent.pid());
    assert!(
        left.len() <= 4,
        "processes of environments that nobody has: {left:?}"
    );
    agent.leave();
    watch.assert_nothing_left();
}
