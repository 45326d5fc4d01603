//! Where the cases are played: an archive with a shell and the attacker's program, and a sandbox for each user.

use std::{
    path::{Path, PathBuf},
    sync::OnceLock,
};

use envd_tests::{
    agent::Agent,
    archive::Archive,
    deb::Deb,
    programs,
    sandbox::{Sandbox, set_mode},
    server::Server,
    user::Account,
};
use serde_json::{Value, json};

/// A sandbox whose project has the attacker's tools.
pub struct Ground {
    pub sandbox: Sandbox,
    /// Whose it is, for messages.
    pub user: &'static str,
}

impl std::ops::Deref for Ground {
    type Target = Sandbox;

    fn deref(&self) -> &Sandbox {
        &self.sandbox
    }
}

fn published() -> Option<&'static (Archive, Server)> {
    static PUBLISHED: OnceLock<Option<(Archive, Server)>> = OnceLock::new();
    let published = PUBLISHED.get_or_init(|| {
        let mut archive = programs::small_archive()?;
        let attacker =
            Deb::new("attacker", "1.0").program("usr/bin/attacker", programs::attacker());
        archive.trixie().add(attacker);
        let server = Server::start(archive.files());
        Some((archive, server))
    });
    published.as_ref()
}

/// For whoever runs the tests, and for an ordinary user where that is another. None where the machine lacks something and tests
/// may skip.
pub fn everyone() -> Vec<Ground> {
    let ordinary = Account::ordinary().map(Some);
    std::iter::once(None)
        .chain(ordinary)
        .filter_map(ground)
        .collect()
}

/// For whoever runs the tests alone: for what does not depend on who that is.
pub fn one() -> Option<Ground> {
    ground(None)
}

fn ground(account: Option<Account>) -> Option<Ground> {
    let (archive, server) = published()?;
    let user = match (&account, nix::unistd::geteuid().is_root()) {
        (None, true) => "root",
        _ => "an ordinary user",
    };
    let sandbox = Sandbox::owned_by(account).knowing(archive, server);
    sandbox.wants(&["attacker"]);
    Some(Ground { sandbox, user })
}

impl Ground {
    /// A server, and an environment of the project in it.
    pub fn agent(&self) -> (Agent, String) {
        let mut agent = Agent::start(self, &[]);
        let environment = agent.create(json!({}));
        (agent, environment)
    }

    /// The attacker's program where an ordinary user finds it, to stand outside for something.
    pub fn attacker(&self) -> PathBuf {
        let path = self.path("attacker");
        if !path.exists() {
            std::fs::write(&path, programs::attacker()).expect("writable");
            set_mode(&path, 0o755);
        }
        path
    }

    /// A file outside the project, with a content that is to be found nowhere else.
    pub fn secret(&self, name: &str) -> PathBuf {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().expect("in the sandbox")).expect("writable");
        std::fs::write(&path, SECRET).expect("writable");
        self.hand_over();
        path
    }
}

/// What nobody inside may ever read.
pub const SECRET: &str = "the owner's secret\n";

/// Runs a line, whatever it comes to: its output and errors.
pub fn shell(agent: &mut Agent, environment: &str, line: &str) -> String {
    let ended = agent.ok(
        "command_run",
        json!({"environment": environment, "command": line, "output_bytes": 500_000}),
    );
    format!(
        "{}{}",
        ended["stdout"]["head"].as_str().expect("text"),
        ended["stderr"]["head"].as_str().expect("text")
    )
}

/// Tries attacks of the attacker's program, and asserts that each comes to one of the outcomes stated.
#[track_caller]
pub fn held(agent: &mut Agent, environment: &str, user: &str, attacks: &[(&str, &[&str])]) {
    let names: Vec<&str> = attacks.iter().map(|(name, _)| *name).collect();
    let command = [&["attacker"], &names[..]].concat();
    let ended = agent.ok(
        "command_run",
        json!({"environment": environment, "command": command, "output_bytes": 500_000}),
    );
    let output = ended["stdout"]["head"].as_str().expect("text");
    let wrong: Vec<String> = attacks
        .iter()
        .filter_map(|(name, expected)| {
            let answer = output
                .lines()
                .find_map(|line| line.split_once(&format!("{name}: ")))
                .map(|(before, answer)| format!("{before}{answer}"));
            match answer {
                Some(answer) if expected.contains(&answer.as_str()) => None,
                other => Some(format!("{name}: {other:?}, expected one of {expected:?}")),
            }
        })
        .collect();
    assert!(
        wrong.is_empty(),
        "as {user}:\n{}\n{ended}",
        wrong.join("\n")
    );
}

/// Attacks that all come to the same.
pub fn all<'a>(names: &[&'a str], outcomes: &'a [&'a str]) -> Vec<(&'a str, &'a [&'a str])> {
    names.iter().map(|name| (*name, outcomes)).collect()
}

/// A call's arguments with the environment among them.
pub fn on(environment: &str, more: Value) -> Value {
    let mut all = json!({"environment": environment});
    let more = more.as_object().expect("an object").clone();
    all.as_object_mut().expect("an object").extend(more);
    all
}

/// A file's text.
pub fn text(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}
