//! Command lines and messages: what scripts and container managers look for.

use std::process::Command;

use crate::harness::{Outcome, Place, command, program, run};

fn said(name: &str, arguments: &[&str]) -> Outcome {
    run(command(Place::Beside, name).args(arguments))
}

#[test]
fn versions_are_those_that_container_managers_look_for() {
    assert_eq!(said("tini", &["--version"]).output, "tini version 0.19.0\n");
    assert_eq!(
        said("docker-init", &["--version"]).output,
        "tini version 0.19.0\n"
    );
    assert_eq!(
        said("dumb-init", &["--version"]).error,
        "dumb-init v1.2.5\n"
    );
    let catatonit = said("catatonit", &["-V"]).output;
    assert!(catatonit.starts_with("tini version ") && catatonit.ends_with("_catatonit\n"));
    let ours = format!("envd-init {}\n", env!("CARGO_PKG_VERSION"));
    assert_eq!(said("anything", &["--version"]).output, ours);
}

#[test]
fn help_is_no_failure() {
    for (name, option) in [
        ("tini", "-h"),
        ("dumb-init", "--help"),
        ("catatonit", "-h"),
        ("envd-init", "--help"),
    ] {
        let outcome = said(name, &[option]);
        assert_eq!(outcome.code, Some(0), "{name}");
        let text = outcome.output + &outcome.error;
        assert!(text.to_lowercase().contains("usage: "), "{name}: {text}");
        assert!(!text.contains('%'), "{name}: {text}");
    }
}

#[test]
fn no_program_is_a_mistake() {
    for (name, code) in [
        ("tini", 1),
        ("tini-static", 1),
        ("dumb-init", 1),
        ("catatonit", 1),
        ("envd-init", 125),
    ] {
        for arguments in [&[][..], &["--"]] {
            let outcome = said(name, arguments);
            assert_eq!(outcome.code, Some(code), "{name} {outcome:?}");
            assert!(
                !outcome.error.is_empty() && outcome.output.is_empty(),
                "{outcome:?}"
            );
        }
    }
}

#[test]
fn wrong_options_are_told_as_getopt_tells_them() {
    for (name, arguments, message) in [
        ("tini", &["-Z", "true"][..], "invalid option -- 'Z'\n"),
        ("tini", &["--yes", "true"], "invalid option -- '-'\n"),
        ("tini", &["-e"], "option requires an argument -- 'e'\n"),
        (
            "dumb-init",
            &["--yes", "true"],
            "unrecognized option '--yes'\n",
        ),
        (
            "dumb-init",
            &["--rewrite"],
            "option '--rewrite' requires an argument\n",
        ),
        (
            "dumb-init",
            &["--help=me"],
            "option '--help' doesn't allow an argument\n",
        ),
        (
            "dumb-init",
            &["--ver", "true"],
            "option '--ver' is ambiguous; possibilities: '--verbose' '--version'\n",
        ),
        ("catatonit", &["-Z"], "invalid option -- 'Z'\n"),
        ("envd-init", &["--yes"], "unrecognized option '--yes'\n"),
    ] {
        let outcome = said(name, arguments);
        let expected = format!("{}: {message}", program(name).display());
        assert!(
            outcome.error.starts_with(&expected),
            "{outcome:?} and not {expected}"
        );
        assert_ne!(outcome.code, Some(0));
    }
}

#[test]
fn wrong_values_are_refused() {
    for (name, arguments) in [
        ("tini", &["-e", "256"][..]),
        ("tini", &["-e", "-1"]),
        ("tini", &["-e", "x"]),
        ("tini", &["-p", "SIGNONE"]),
        ("tini", &["-p", "TERM"]),
        ("dumb-init", &["-r", ""]),
        ("dumb-init", &["-r", "15"]),
        ("dumb-init", &["-r", "0:1"]),
        ("dumb-init", &["-r", "15::12"]),
        ("dumb-init", &["-r", "15:32"]),
        ("envd-init", &["-r", "TERM"]),
        ("envd-init", &["-r", "NONE:TERM"]),
        ("envd-init", &["-p", "0"]),
        ("envd-init", &["-e", ""]),
    ] {
        let mut all = arguments.to_vec();
        all.push("true");
        let outcome = said(name, &all);
        let code = if name == "envd-init" { 125 } else { 1 };
        assert_eq!(outcome.code, Some(code), "{all:?} {outcome:?}");
        assert!(!outcome.error.is_empty(), "{all:?}");
    }
}

#[test]
fn where_options_end_is_as_under_each_name() {
    // These take options anywhere, unless told to be as POSIX wants it.
    for name in ["tini", "catatonit"] {
        let outcome = said(name, &["echo", "-g", "a", "--", "-g"]);
        assert_eq!(outcome.output, "a -g\n", "{name}");
        let mut strict = command(Place::Beside, name);
        strict.env("POSIXLY_CORRECT", "1");
        let outcome = run(strict.args(["echo", "-g", "a", "--", "-g"]));
        assert_eq!(outcome.output, "-g a -- -g\n", "{name}");
    }
    // These never do.
    for name in ["dumb-init", "envd-init"] {
        let outcome = said(name, &["-v", "echo", "-g", "--", "a"]);
        assert_eq!(outcome.output, "-g -- a\n", "{name}");
    }
}

#[test]
fn the_environment_is_asked_too() {
    let tini = |variable: &str, value: &str| {
        let mut command = command(Place::Beside, "tini");
        run(command.env(variable, value).arg("true"))
    };
    assert!(tini("TINI_VERBOSITY", "1").error.contains("zombie reaping"));
    assert_eq!(tini("TINI_VERBOSITY", "0").error, "");
    assert_eq!(tini("TINI_SUBREAPER", "").error, "");
    assert!(
        tini("TINI_VERBOSITY", "3")
            .output
            .contains("Received SIGCHLD")
    );
    let dumb_init = |variable: &str, value: &str| {
        let mut command = command(Place::Beside, "dumb-init");
        run(command.env(variable, value).args(["-v", "true"])).error
    };
    assert!(dumb_init("DUMB_INIT_DEBUG", "1").starts_with("[dumb-init] Running in debug mode.\n"));
    assert!(!dumb_init("DUMB_INIT_SETSID", "0").contains("setsid complete."));
    assert!(dumb_init("DUMB_INIT_SETSID", "1").contains("setsid complete."));
}

#[test]
fn dumb_init_tells_the_whole_story() {
    let mut command = Command::new(program("dumb-init"));
    let outcome = run(command.args(["-v", "-c", "sh", "-c", "kill -KILL $$"]));
    let told: String = outcome
        .error
        .chars()
        .filter(|letter| !letter.is_ascii_digit())
        .collect();
    assert_eq!(
        told,
        "[dumb-init] Child spawned with PID .\n\
        [dumb-init] Received signal .\n\
        [dumb-init] A child with PID  was terminated by signal .\n\
        [dumb-init] Forwarded signal  to children.\n\
        [dumb-init] Child exited with status . Goodbye.\n"
    );
    assert_eq!(outcome.code, Some(137));
}
