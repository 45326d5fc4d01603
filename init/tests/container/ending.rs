//! Exit codes: what a container's owner decides by.

use std::fs;

use crate::harness::{NAMES, Place, command, places, run};

#[test]
fn the_programs_exit_code_is_the_containers() {
    for place in places() {
        for name in NAMES {
            for code in [0, 1, 7, 255] {
                let script = format!("exit {code}");
                let outcome = run(command(place, name).args(["--", "sh", "-c", &script]));
                assert_eq!(outcome.code, Some(code), "{name} {place:?} {outcome:?}");
            }
        }
    }
}

#[test]
fn a_program_ended_by_a_signal_is_128_and_the_signal() {
    for place in places() {
        for name in NAMES {
            for (signal, code) in [("KILL", 137), ("TERM", 143), ("SEGV", 139)] {
                let script = format!("kill -{signal} $$");
                let outcome = run(command(place, name).args(["--", "sh", "-c", &script]));
                assert_eq!(outcome.code, Some(code), "{name} {place:?} {outcome:?}");
            }
        }
    }
}

#[test]
fn a_program_that_is_not_there_is_told_from_one_that_is_no_program() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    fs::write(&file, "nothing").unwrap();
    let file = file.to_str().unwrap();
    let codes = [
        ("tini", 127, 126),
        ("dumb-init", 2, 2),
        ("catatonit", 1, 1),
        ("envd-init", 127, 126),
    ];
    for (name, missing, refused) in codes {
        for (program, code, why) in [
            ("/does/not/exist", missing, "No such file or directory"),
            ("does-not-exist", missing, "No such file or directory"),
            ("", missing, "No such file or directory"),
            (file, refused, "Permission denied"),
        ] {
            let mut command = command(Place::Beside, name);
            // A directory of PATH that may not be looked into is a refusal, too.
            command.env("PATH", "/usr/bin:/bin");
            let outcome = run(command.args(["--", program]));
            assert_eq!(outcome.code, Some(code), "{name} {program} {outcome:?}");
            assert!(outcome.error.contains(why), "{name} {program} {outcome:?}");
            assert!(outcome.error.contains(program), "{outcome:?}");
        }
    }
}

#[test]
fn codes_that_are_expected_become_0() {
    for (name, options) in [
        ("tini", ["-e", "7", "-e143"]),
        ("envd-init", ["--expect=7", "-e", "143"]),
    ] {
        for (script, code) in [
            ("exit 7", 0),
            ("kill -TERM $$", 0),
            ("exit 8", 8),
            ("exit 0", 0),
        ] {
            let mut command = command(Place::Beside, name);
            let outcome = run(command.args(options).args(["--", "sh", "-c", script]));
            assert_eq!(outcome.code, Some(code), "{name} {script} {outcome:?}");
        }
    }
}

#[test]
fn a_code_survives_a_caller_that_ignores_its_children() {
    for name in NAMES {
        let mut command = std::process::Command::new("env");
        command.arg("--ignore-signal=CHLD");
        command.arg(crate::harness::program(name));
        let outcome = run(command.args(["--", "sh", "-c", "exit 7"]));
        assert_eq!(outcome.code, Some(7), "{name} {outcome:?}");
    }
}
