//! The program itself, for what needs no store: help, editing, guesses, errors and exit codes.

use std::{
    fs,
    io::Read as _,
    path::Path,
    process::{Command, Stdio},
};

/// The program in `directory`, with an environment of its own.
fn envd(directory: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_envd"));
    command
        .current_dir(directory)
        .env_clear()
        .env("HOME", directory.join("nobody"))
        .env("ENVD_STORE", directory.join("store"))
        .stdin(Stdio::null());
    command
}

struct Ran {
    code: Option<i32>,
    out: String,
    error: String,
}

fn run(directory: &Path, arguments: &[&str]) -> Ran {
    finish(envd(directory).args(arguments))
}

fn finish(command: &mut Command) -> Ran {
    let output = command.output().expect("envd starts");
    Ran {
        code: output.status.code(),
        out: String::from_utf8(output.stdout).unwrap(),
        error: String::from_utf8(output.stderr).unwrap(),
    }
}

#[test]
fn each_page_of_help_fits_a_screen() {
    let directory = tempfile::tempdir().unwrap();
    let first = run(directory.path(), &["--help"]);
    insta::assert_snapshot!("help", first.out);
    let commands = [
        "init",
        "add",
        "remove",
        "search",
        "lock",
        "update",
        "why",
        "list",
        "run",
        "enter",
        "x",
        "task",
        "up",
        "down",
        "ps",
        "logs",
        "lease",
        "daemon",
        "image",
        "store",
        "gc",
        "doctor",
        "uninstall",
        "completions",
        "schema",
    ];
    for command in commands {
        let page = run(directory.path(), &[command, "-h"]);
        assert_eq!(page.code, Some(0));
        assert!(page.out.lines().count() <= 45, "{command}: {}", page.out);
        assert!(
            page.out.lines().all(|line| line.chars().count() <= 100),
            "{command}: {}",
            page.out
        );
        insta::assert_snapshot!(format!("help-{command}"), page.out);
    }
}

#[test]
fn a_project_is_made_and_edited() {
    let directory = tempfile::tempdir().unwrap();
    let here = directory.path();
    fs::write(here.join("Makefile"), "all:\n").unwrap();
    fs::write(here.join("main.c"), "int main(void) { return 0; }\n").unwrap();
    let made = run(here, &["init"]);
    assert_eq!(made.code, Some(0), "{}", made.error);
    assert!(
        made.out.contains("make") && made.out.contains("libc6-dev"),
        "{}",
        made.out
    );
    let again = run(here, &["init"]);
    assert_eq!(again.code, Some(2));
    assert!(
        again.error.contains("envd.toml exists already"),
        "{}",
        again.error
    );
    assert_eq!(run(here, &["add", "python3@>=3.11", "git"]).code, Some(0));
    assert_eq!(run(here, &["remove", "git"]).code, Some(0));
    insta::assert_snapshot!(
        "made-and-edited",
        fs::read_to_string(here.join("envd.toml")).unwrap()
    );
    let twice = run(here, &["add", "python3"]);
    assert_eq!(twice.code, Some(2));
    assert!(
        twice
            .error
            .contains("help: edit that line, or `envd remove python3` first"),
        "{}",
        twice.error
    );
}

#[test]
fn a_wrong_file_is_shown_with_its_line() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(
        directory.path().join("envd.toml"),
        "[env]\npackges = [\"gcc\"]\n",
    )
    .unwrap();
    let ran = run(directory.path(), &["add", "make"]);
    assert_eq!((ran.code, &*ran.out), (Some(2), ""));
    let shown = ran.error.replace(
        fs::canonicalize(directory.path())
            .unwrap()
            .to_str()
            .unwrap(),
        "/project",
    );
    insta::assert_snapshot!("wrong-file", shown);
}

#[test]
fn without_a_project_the_way_to_one_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let ran = run(directory.path(), &["add", "make"]);
    assert_eq!(ran.code, Some(2));
    assert!(
        ran.error.contains("there is no envd.toml in"),
        "{}",
        ran.error
    );
    assert!(
        ran.error.contains("help: `envd init` writes one"),
        "{}",
        ran.error
    );
}

#[test]
fn errors_are_for_machines_too() {
    let directory = tempfile::tempdir().unwrap();
    let ran = run(directory.path(), &["--json", "add", "make"]);
    let event: serde_json::Value = serde_json::from_str(&ran.error).expect("one line of JSON");
    assert_eq!(
        (event["event"].as_str(), event["code"].as_u64()),
        (Some("error"), Some(2))
    );
    assert_eq!(event["kind"], "usage");
}

#[test]
fn a_wrong_command_line_and_wrong_settings_are_usage_errors() {
    let directory = tempfile::tempdir().unwrap();
    for arguments in [
        &["lokc"][..],
        &["run"],
        &["run", "--home", "nowhere", "--", "true"],
        &["x"],
    ] {
        let ran = run(directory.path(), arguments);
        assert_eq!(ran.code, Some(2), "{arguments:?}: {}", ran.error);
    }
    let ran = finish(
        envd(directory.path())
            .arg("schema")
            .env("ENVD_OFFLINE", "perhaps"),
    );
    assert_eq!(ran.code, Some(2));
    assert!(
        ran.error.contains("ENVD_OFFLINE is \"perhaps\""),
        "{}",
        ran.error
    );
}

#[test]
fn a_reader_that_stops_is_no_news() {
    let directory = tempfile::tempdir().unwrap();
    let mut child = envd(directory.path())
        .args(["completions", "bash"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let mut error = String::new();
    child
        .stderr
        .take()
        .unwrap()
        .read_to_string(&mut error)
        .unwrap();
    assert_eq!((child.wait().unwrap().code(), &*error), (Some(141), ""));
}

#[test]
fn colours_are_for_terminals_unless_demanded() {
    let directory = tempfile::tempdir().unwrap();
    let plain = run(directory.path(), &["add", "make"]);
    assert!(!plain.error.contains('\u{1b}'));
    let colored = run(directory.path(), &["--color", "always", "add", "make"]);
    assert!(colored.error.contains("\u{1b}[1;31merror: "));
}

#[test]
fn the_schema_is_printed_as_json() {
    let directory = tempfile::tempdir().unwrap();
    let ran = run(directory.path(), &["schema"]);
    let schema: serde_json::Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!(schema["title"], "envd.toml");
}
