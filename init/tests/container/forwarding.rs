//! Signals: how a container is told to stop, to reload, to say how it is.

use std::process::Command;

use nix::sys::signal::Signal::{
    self, SIGCONT, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGTSTP, SIGUSR1, SIGUSR2, SIGWINCH,
};

use crate::harness::{NAMES, Place, places, program, send, shell, start, stat, wait_until};

/// Prints each signal's name as it comes; ends on QUIT with code 9.
/// Not by waiting for input: a signal that comes between a shell's look for one and its reading is seen after that.
const PRINTS: &str = r#"
    exec 2>/dev/null
    for name in HUP INT USR1 USR2 TERM WINCH CONT ALRM; do trap "echo $name" $name; done
    trap 'echo QUIT; exit 9' QUIT
    echo ready
    while :; do sleep 0.01; done
"#;

#[test]
fn every_signal_reaches_the_program() {
    for place in places() {
        for name in NAMES {
            let running = shell(place, name, &[], PRINTS);
            running.until("ready");
            for (signal, printed) in [
                (SIGHUP, "HUP"),
                (SIGINT, "INT"),
                (SIGUSR1, "USR1"),
                (SIGUSR2, "USR2"),
                (SIGTERM, "TERM"),
                (SIGWINCH, "WINCH"),
                (Signal::SIGALRM, "ALRM"),
                (SIGCONT, "CONT"),
            ] {
                running.signal(signal);
                assert_eq!(running.line(), printed, "{name} {place:?}");
            }
            running.signal(SIGQUIT);
            assert_eq!(running.line(), "QUIT", "{name} {place:?}");
            assert_eq!(running.code(), 9, "{name} {place:?}");
        }
    }
}

/// PID 1 gets no default from the kernel, the program does: `docker stop` must not take ten seconds.
#[test]
fn a_program_that_handles_nothing_ends_when_it_is_told() {
    for place in places() {
        for name in NAMES {
            let running = shell(place, name, &[], "echo ready; exec sleep 1000");
            running.until("ready");
            running.signal(SIGTERM);
            assert_eq!(running.code(), 143, "{name} {place:?}");
        }
    }
}

/// `docker stop` may come before the program has started. The inner dumb-init reads it wherever it comes from, and
/// gives the sleeper what its blocked signals would keep from it.
#[test]
fn a_signal_from_before_there_is_a_program_is_not_lost() {
    for name in NAMES {
        let mut command = Command::new("env");
        command.args(["--block-signal=TERM", "sh", "-c"]);
        command.arg("kill -TERM $$; exec \"$@\"").arg("sh");
        command.arg(program(name)).arg("--");
        command.arg(program("dumb-init")).args(["sleep", "1000"]);
        assert_eq!(start(Place::Beside, command).code(), 143, "{name}");
    }
}

/// The program, and a process that it has started in its group; each prints what it gets.
const TWO: &str = r#"
    exec 2>/dev/null
    trap 'echo main' USR1
    trap 'kill -KILL $!; exit 0' QUIT
    sh -c 'trap "echo other" USR1; trap "echo probed" USR2; echo $$; while :; do sleep 0.01; done' &
    while :; do sleep 0.01; done
"#;

#[test]
fn signals_go_to_the_whole_group_where_asked_for() {
    for (name, option) in [
        ("tini", "-g"),
        ("catatonit", "-g"),
        ("envd-init", "--group"),
        ("dumb-init", "-v"),
    ] {
        let running = shell(Place::Beside, name, &[option], TWO);
        let _other: i32 = loop {
            if let Ok(number) = running.line().parse() {
                break number;
            }
        };
        running.signal(SIGUSR1);
        let mut got = Vec::new();
        while got.len() < 2 {
            let line = running.line();
            if line == "main" || line == "other" {
                got.push(line);
            }
        }
        got.sort();
        assert_eq!(got, ["main", "other"], "{name}");
    }
}

#[test]
fn signals_go_to_the_program_alone_otherwise() {
    for (name, options) in [
        ("tini", &[][..]),
        ("catatonit", &[]),
        ("envd-init", &[]),
        ("dumb-init", &["-c"]),
    ] {
        let running = shell(Place::Beside, name, options, TWO);
        let other: i32 = loop {
            if let Ok(number) = running.line().parse() {
                break number;
            }
        };
        running.signal(SIGUSR1);
        running.until("main");
        // Had it got the first, it would say so before.
        send(other, SIGUSR2);
        assert_eq!(running.line(), "probed", "{name}");
        running.signal(SIGQUIT);
        assert_eq!(running.code(), 0, "{name}");
    }
}

#[test]
fn signals_are_rewritten() {
    for (name, options) in [
        ("dumb-init", ["-r", "15:3", "--rewrite=2:0", "-r10:12"]),
        (
            "envd-init",
            ["-r", "TERM:QUIT", "--rewrite=SIGINT:0", "-rUSR1:12"],
        ),
    ] {
        let running = shell(Place::Beside, name, &options, PRINTS);
        running.until("ready");
        running.signal(SIGINT);
        running.signal(SIGUSR1);
        assert_eq!(running.line(), "USR2", "{name}");
        running.signal(SIGTERM);
        assert_eq!(running.line(), "QUIT", "{name}");
        assert_eq!(running.code(), 9, "{name}");
    }
}

#[test]
fn what_a_program_leaves_in_its_session_is_told_to_end() {
    let script = r#"
        exec 2>/dev/null
        sh -c 'trap "echo told; exit" TERM; trap "echo probed" USR2; echo $$; while :; do sleep 0.01; done' &
        read line
        exit 5
    "#;
    let mut running = shell(Place::Beside, "dumb-init", &[], script);
    let _left: i32 = running.line().parse().expect("a process id");
    running.close_input();
    assert_eq!(running.rest(), ["told"]);
    assert_eq!(running.code(), 5);
    // And not where only one child is looked after.
    let mut running = shell(Place::Beside, "dumb-init", &["--single-child"], script);
    let left: i32 = running.line().parse().expect("a process id");
    running.close_input();
    wait_until("the end", || running.ended());
    send(left, SIGUSR2);
    assert_eq!(running.line(), "probed");
    send(left, Signal::SIGKILL);
    assert_eq!(running.code(), 5);
}

/// Ctrl-Z in front of `docker run`, and `fg` after it.
#[test]
fn a_session_stops_and_goes_on_together() {
    for (name, options) in [("dumb-init", &[][..]), ("envd-init", &["--session"])] {
        let script = "echo ready; exec sleep 1000";
        let running = shell(Place::Beside, name, options, script);
        running.until("ready");
        let (init, main) = (running.init(), running.main());
        let both = |wanted: char| {
            let states = [init, main].map(|process| stat(process).map(|stat| stat.state));
            states == [Some(wanted); 2]
        };
        for signal in [SIGTSTP, Signal::SIGTTIN, Signal::SIGTTOU] {
            running.signal(signal);
            wait_until("both to stop", || both('T'));
            running.signal(SIGCONT);
            wait_until("both to go on", || both('S'));
        }
        running.signal(SIGTERM);
        assert_eq!(running.code(), 143, "{name}");
    }
}

#[test]
fn the_parents_death_is_a_signal() {
    for (name, signal) in [
        ("tini", "SIGUSR1"),
        ("envd-init", "usr1"),
        ("envd-init", "10"),
    ] {
        let signal = signal.to_uppercase();
        let script = format!(
            r#"{} -p {signal} -- sh -c 'exec 2>/dev/null; trap "echo told; exit" USR1; echo ready; while :; do sleep 0.01; done' &
            read line"#,
            program(name).display()
        );
        let mut command = Command::new("sh");
        command.args(["-c", &script]);
        let mut running = start(Place::Beside, command);
        running.until("ready");
        running.close_input();
        assert_eq!(running.rest(), ["told"], "{name}");
    }
}

#[test]
fn a_pause_ends_when_it_is_told() {
    for place in places() {
        for signal in [SIGTERM, SIGINT] {
            let mut command = crate::harness::command(place, "catatonit");
            command.arg("-P");
            let running = start(place, command);
            wait_until("the start", || {
                running.found().is_some_and(|init| {
                    std::fs::read_link(format!("/proc/{init}/cwd"))
                        .is_ok_and(|link| link.as_os_str() == "/")
                })
            });
            running.signal(SIGUSR1);
            running.signal(signal);
            assert_eq!(running.code(), 0, "{place:?}");
        }
    }
}
