//! `envd agent` in a test: environments by name, from the command line.

use std::{
    io::Read as _,
    os::unix::process::CommandExt as _,
    process::{Child, Stdio},
};

use serde_json::Value;

use crate::{
    sandbox::{Outcome, Sandbox},
    user::Account,
    world::World,
};

/// Whoever runs the tests, and an ordinary user where that is another.
pub fn everyone(world: &World) -> Vec<Sandbox> {
    let ordinary = Account::ordinary().map(|account| world.another_of(Some(account)));
    std::iter::once(world.another()).chain(ordinary).collect()
}

/// `envd agent` to its end.
pub fn agent(sandbox: &Sandbox, words: &[&str]) -> Outcome {
    sandbox.envd(&[&["agent"], words].concat())
}

/// What a command prints, without the line's end.
#[track_caller]
pub fn printed(sandbox: &Sandbox, words: &[&str]) -> String {
    agent(sandbox, words).ok().stdout.trim_end().to_owned()
}

/// The same as JSON.
#[track_caller]
pub fn json(sandbox: &Sandbox, words: &[&str]) -> Value {
    let outcome = agent(sandbox, &[words, &["--json"]].concat()).ok();
    serde_json::from_str(&outcome.stdout).unwrap_or_else(|error| panic!("{error}\n{outcome}"))
}

/// Runs a shell line inside that has to succeed.
#[track_caller]
pub fn sh(sandbox: &Sandbox, environment: &str, line: &str) -> String {
    let run = ["agent", "run", environment, "--", "sh", "-c", line];
    sandbox.envd(&run).ok().stdout
}

/// `agent run` that is not waited for.
pub fn start(sandbox: &Sandbox, environment: &str, line: &str) -> Child {
    sandbox
        .envd_command(&["agent", "run", environment, "--", "sh", "-c", line])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .spawn()
        .expect("envd starts")
}

/// Reads until there is such a line.
pub fn until_line(child: &mut Child, line: &str) {
    let stdout = child.stdout.as_mut().expect("piped");
    let (mut seen, mut byte) = (Vec::new(), [0]);
    let end = format!("{line}\n").into_bytes();
    while !seen.ends_with(&end) {
        let count = stdout.read(&mut byte).expect("readable");
        assert_eq!(
            count,
            1,
            "it ended before: {:?}",
            String::from_utf8_lossy(&seen)
        );
        seen.push(byte[0]);
    }
}
