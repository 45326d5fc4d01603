//! `envd agent run` and what goes with it: a command's input, outputs, signals and exit status are its client's, and a command
//! that was detached is found again.

use std::{
    io::{Read as _, Write as _},
    os::unix::process::{CommandExt as _, ExitStatusExt as _},
    process::{Child, Stdio},
};

use envd_tests::{
    daemon::{Daemon, until},
    sandbox::{PATIENCE, Sandbox, conclude, wait},
    session::{agent, everyone, json, printed, sh, start, until_line},
    world::World,
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;

fn pid(child: &Child) -> Pid {
    Pid::from_raw(child.id().cast_signed())
}

#[test]
fn exit_codes_are_the_commands_own() {
    let Some(world) = World::small() else { return };
    let sandbox = world.another();
    sandbox.wants(&[]);
    let _daemon = Daemon::of(&sandbox);
    agent(&sandbox, &["create", "--name", "try"]).ok();
    let run = |options: &[&str], line: &str| {
        let words = [&["run", "try"], options, &["--", "sh", "-c", line]].concat();
        agent(&sandbox, &words)
    };
    run(&[], "exit 3").code(3);
    run(&[], "kill -TERM $$").code(143);
    run(&[], "kill -SEGV $$").code(139);
    run(&["--timeout", "1s"], "sleep 1000").code(124);
    agent(&sandbox, &["run", "try", "--", "no-such-tool"])
        .code(127)
        .says(&["no-such-tool", "envd search"]);
    let outcome = run(
        &["--env", "GREETING=hi there"],
        "echo $GREETING; echo no >&2; exit 4",
    )
    .code(4);
    assert_eq!((&*outcome.stdout, &*outcome.stderr), ("hi there\n", "no\n"));
    let words = [
        "--json",
        "agent",
        "run",
        "try",
        "--",
        "sh",
        "-c",
        "echo out; exit 5",
    ];
    let outcome = sandbox.envd(&words).code(5);
    let ended: Value = serde_json::from_str(&outcome.stdout).unwrap();
    assert_eq!(
        (&ended["exit_code"], &ended["stdout"]["head"]),
        (&5.into(), &"out\n".into())
    );
    agent(&sandbox, &["run", "try", "--cwd", "/nowhere", "--", "true"]).fails();
    agent(
        &sandbox,
        &["run", "env_0123456789abcdef0123456789abcdef", "--", "true"],
    )
    .code(2)
    .says(&["no environment env_0123"]);
    agent(&sandbox, &["logs", "cmd_0123456789abcdef0123456789abcdef"])
        .code(2)
        .says(&["no command cmd_0123", "envd agent logs"]);
    agent(&sandbox, &["restore", "try", "nothing"])
        .code(2)
        .says(&["no snapshot nothing"]);
    agent(&sandbox, &["create", "--name", "env_x"]).code(2);
    agent(&sandbox, &["create", "--package", "no-such-package"]).code(3);
    agent(&sandbox, &["rm", "try", "nobody"])
        .code(2)
        .says(&["nobody"]);
    assert_eq!(
        json(&sandbox, &["ls"])["environments"]
            .as_array()
            .unwrap()
            .len(),
        1,
        "neither"
    );
}

/// Many megabytes of every byte there is arrive as they were written, also at a reader that takes its time, and input goes the
/// other way.
#[test]
fn outputs_and_inputs_are_whole() {
    let Some(world) = World::small() else { return };
    for sandbox in everyone(&world) {
        sandbox.wants(&[]);
        let _daemon = Daemon::of(&sandbox);
        agent(&sandbox, &["create", "--name", "try"]).ok();
        let all: Vec<u8> = (0..=255).collect();
        let input = all.repeat(80 << 10);
        let mut child = start(&sandbox, "try", "cat; cat /dev/null >&2");
        let mut stdin = child.stdin.take().unwrap();
        let fed = input.clone();
        let feeding = std::thread::spawn(move || stdin.write_all(&fed));
        let mut output = Vec::new();
        child
            .stdout
            .take()
            .unwrap()
            .read_to_end(&mut output)
            .unwrap();
        feeding.join().unwrap().unwrap();
        assert!(wait(&mut child, PATIENCE).unwrap().success());
        assert!(output == input, "{} of {} bytes", output.len(), input.len());

        // What was written is kept, too.
        let commands = json(&sandbox, &["logs"]);
        let command = commands[0]["command"].as_str().unwrap().to_owned();
        assert_eq!(commands[0]["state"], "exited", "{commands}");
        let kept = sandbox
            .envd_command(&["agent", "logs", &command, "--offset", "1024"])
            .output()
            .unwrap();
        assert!(kept.stdout == input[1024..], "{} bytes", kept.stdout.len());
        // An answer of more than a packet.
        let polled = json(&sandbox, &["logs", &command]);
        assert!(polled["stdout"]["text"].as_str().unwrap().len() > 500_000);

        // A reader that goes away is what ends a command that writes without end.
        let mut child = start(&sandbox, "try", "yes");
        until_line(&mut child, "y");
        drop(child.stdout.take());
        let status = wait(&mut child, PATIENCE).expect("it hears that nobody reads");
        assert_eq!(status.code(), Some(141), "{status}");
    }
}

#[test]
fn commands_go_on_without_their_client_and_are_found_again() {
    let Some(world) = World::small() else { return };
    for sandbox in everyone(&world) {
        sandbox.wants(&[]);
        let _daemon = Daemon::of(&sandbox);
        agent(&sandbox, &["create", "--name", "try"]).ok();
        let line = "echo ready; read line; echo got $line; read line; echo $line >&2; exit 6";
        let detach = [
            "run",
            "try",
            "--detach",
            "--keep-input-open",
            "--",
            "sh",
            "-c",
            line,
        ];
        let command = printed(&sandbox, &detach);
        agent(&sandbox, &["wait", &command, "--timeout", "0s"]).code(124);
        let mut following = sandbox
            .envd_command(&["agent", "logs", "-f", &command[..14]])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn()
            .unwrap();
        until_line(&mut following, "ready");
        let input = |text: &str, options: &[&str]| {
            let words = [&["agent", "input", &command], options].concat();
            let mut child = sandbox
                .envd_command(&words)
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .process_group(0)
                .spawn()
                .unwrap();
            child
                .stdin
                .take()
                .unwrap()
                .write_all(text.as_bytes())
                .unwrap();
            conclude(child).ok();
        };
        input("a line\n", &["--keep-open"]);
        until_line(&mut following, "got a line");
        input("the end\n", &[]);
        agent(&sandbox, &["wait", &command]).code(6);
        assert_eq!(conclude(following).ok().stderr, "the end\n");
        let polled = json(&sandbox, &["logs", &command, "--offset", "6"]);
        assert_eq!(polled["stdout"]["text"], "got a line\n");
        assert_eq!(
            (&polled["state"], &polled["exit_code"]),
            (&"exited".into(), &6.into())
        );

        let line = "trap 'echo bye; exit 7' TERM; echo here; while :; do sleep 0.05; done";
        let command = printed(&sandbox, &["run", "try", "-d", "--", "sh", "-c", line]);
        until("it says that it is there", || {
            agent(&sandbox, &["logs", &command]).ok().stdout == "here\n"
        });
        agent(&sandbox, &["kill", &command]).ok();
        agent(&sandbox, &["wait", &command]).code(7);
        assert_eq!(
            agent(&sandbox, &["logs", &command]).ok().stdout,
            "here\nbye\n"
        );
        agent(&sandbox, &["kill", &command, "--signal", "SEGV"]).code(2);
    }
}

/// Ctrl-C ends the command inside, by the signal itself where it may answer to it, and a client that is killed takes it along.
#[test]
fn a_signal_to_the_client_is_one_to_the_command() {
    let Some(world) = World::small() else { return };
    for sandbox in everyone(&world) {
        sandbox.wants(&[]);
        let _daemon = Daemon::of(&sandbox);
        agent(&sandbox, &["create", "--name", "try"]).ok();
        let gone = |sandbox: &Sandbox| {
            until("the command is gone", || {
                let words = [
                    "agent",
                    "run",
                    "try",
                    "--",
                    "sh",
                    "-c",
                    "kill -0 $(cat pid)",
                ];
                !sandbox.envd(&words).status.success()
            });
        };
        for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
            let mut child = start(
                &sandbox,
                "try",
                "echo $$ > pid; echo ready; exec sleep 1000",
            );
            until_line(&mut child, "ready");
            kill(pid(&child), signal).unwrap();
            let outcome = conclude(child).code(128 + signal as i32);
            assert!(outcome.status.signal().is_none());
            gone(&sandbox);
        }
        let line = "trap 'echo cleaned; exit 9' INT; echo ready; while :; do sleep 0.05; done";
        let mut child = start(&sandbox, "try", line);
        until_line(&mut child, "ready");
        kill(pid(&child), Signal::SIGINT).unwrap();
        until_line(&mut child, "cleaned");
        assert_eq!(wait(&mut child, PATIENCE).unwrap().code(), Some(9));

        let line = "trap '' INT TERM HUP; echo $$ > pid; echo ready; exec sleep 1000";
        let mut child = start(&sandbox, "try", line);
        until_line(&mut child, "ready");
        kill(pid(&child), Signal::SIGKILL).unwrap();
        child.wait().unwrap();
        gone(&sandbox);
    }
}

/// What an agent's program writes cannot steer the terminal of whoever looks at it.
#[test]
fn output_on_a_terminal_is_harmless() {
    let Some(world) = World::small() else { return };
    let sandbox = world.another();
    sandbox.wants(&[]);
    let _daemon = Daemon::of(&sandbox);
    agent(&sandbox, &["create", "--name", "try"]).ok();
    let evil = r"printf '\033]0;owned\007\033[31mred\033[0m\n'";
    assert_eq!(
        sh(&sandbox, "try", evil),
        "\u{1b}]0;owned\u{7}\u{1b}[31mred\u{1b}[0m\n"
    );
    let envd = sandbox.envd_command(&[]).get_program().to_owned();
    let line = format!(
        "{} agent run try -- sh -c \"{}\"",
        envd.display(),
        evil.replace('\\', r"\\")
    );
    let mut script = sandbox.command("script");
    script.args(["-qec", &line, "/dev/null"]);
    let outcome = envd_tests::sandbox::finish(&mut script).ok();
    assert!(outcome.stdout.contains("\u{1b}[31mred"), "{outcome:?}");
    assert!(
        !outcome.stdout.contains('\u{7}') && !outcome.stdout.contains("\u{1b}]"),
        "{outcome:?}"
    );
}
