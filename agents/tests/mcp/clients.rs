//! The official clients drive the server through a whole coding task, over both transports, and nothing is left.
//!
//! Where they come from is in `peers.rs`; that they drive the whole product in `tests/tests/agent_clients/`.

use std::{
    fs,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, Stdio},
};

use crate::{
    ground::Ground,
    peers::{bounded, drive, node, or_skip, python, script},
};

fn task(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/mcp/clients")
        .join(name)
}

fn server(ground: &Ground) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mcp-fake"));
    command.arg(ground.project()).arg(ground.scratch());
    command
}

/// A server over HTTP that ends when this is dropped or its standard input is closed.
struct Host {
    child: Child,
    /// Kept open: the service prints.
    _output: BufReader<ChildStdout>,
    url: String,
    token: String,
}

impl Host {
    fn new(ground: &Ground) -> Self {
        let mut child = server(ground)
            .arg("--http")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("it was built");
        let mut line = String::new();
        let mut output = BufReader::new(child.stdout.take().expect("piped"));
        output.read_line(&mut line).expect("it says where it is");
        let (url, token) = line.trim().split_once(' ').expect("address and token");
        Self {
            url: url.to_owned(),
            token: token.to_owned(),
            _output: output,
            child,
        }
    }

    fn end(mut self) {
        drop(self.child.stdin.take());
        let status = self.child.wait().expect("it is our child");
        assert!(status.success(), "the server says that something is left");
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Nothing of what was lent is left: no file, and no process that stands in one.
fn assert_empty(ground: &Ground) {
    ground.assert_empty();
    let scratch = ground.scratch();
    let standing = fs::read_dir("/proc")
        .expect("it is there")
        .flatten()
        .filter_map(|entry| fs::read_link(entry.path().join("cwd")).ok())
        .filter(|directory| directory.starts_with(&scratch))
        .count();
    assert_eq!(standing, 0, "processes are left");
}

fn python_over(ground: &Ground, packages: &Path, mode: &str, rest: &[&str]) -> String {
    let said = drive(
        bounded("python3")
            .env("PYTHONPATH", packages)
            .arg(task("task.py"))
            .arg(mode)
            .args(rest),
    );
    let applied = fs::read_to_string(ground.project().join("total.py")).expect("it was applied");
    assert!(!applied.contains("+ 1"), "{applied}");
    said
}

#[test]
fn the_python_client_over_the_standard_streams() {
    let Some(packages) = or_skip(python()) else {
        return;
    };
    for (mode, revision) in [("auto", "2026-07-28"), ("legacy", "2025-11-25")] {
        let ground = Ground::new();
        let (project, scratch) = (ground.project(), ground.scratch());
        let rest = [
            "stdio",
            env!("CARGO_BIN_EXE_mcp-fake"),
            project.to_str().expect("plain"),
            scratch.to_str().expect("plain"),
        ];
        assert_eq!(python_over(&ground, &packages, mode, &rest), revision);
        assert_empty(&ground);
    }
}

#[test]
fn the_python_client_over_http() {
    let Some(packages) = or_skip(python()) else {
        return;
    };
    for (mode, revision) in [("auto", "2026-07-28"), ("legacy", "2025-11-25")] {
        let ground = Ground::new();
        let host = Host::new(&ground);
        let rest = ["http", &host.url, &host.token];
        assert_eq!(python_over(&ground, &packages, mode, &rest), revision);
        host.end();
        assert_empty(&ground);
    }
}

#[test]
fn the_typescript_clients_over_both() {
    let Some(directory) = or_skip(node()) else {
        return;
    };
    let script = script(&directory, &task("task.mjs"));
    for revision in ["2025-11-25", "2026-07-28"] {
        let node = || {
            let mut command = bounded("node");
            command.arg(&script).arg(revision);
            command
        };
        let ground = Ground::new();
        drive(
            node()
                .arg("stdio")
                .arg(env!("CARGO_BIN_EXE_mcp-fake"))
                .arg(ground.project())
                .arg(ground.scratch()),
        );
        assert!(ground.project().join("check.sh").exists());
        assert_empty(&ground);

        let ground = Ground::new();
        let host = Host::new(&ground);
        drive(node().args(["http", &host.url, &host.token]));
        host.end();
        assert_empty(&ground);
    }
}

#[test]
fn standard_output_is_the_protocols_alone_and_its_end_is_the_servers() {
    let ground = Ground::new();
    let mut child = server(&ground)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("it was built");
    let initialize = r#"{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"by-hand","version":"0"}}}"#;
    let create = r#"{"jsonrpc":"2.0","id":2,"method":"tools/call","params":{"name":"environment_create","arguments":{}}}"#;
    std::io::Write::write_all(
        &mut child.stdin.take().expect("piped"),
        format!("{initialize}\n{create}\n").as_bytes(),
    )
    .expect("it reads");
    let done = child.wait_with_output().expect("it is our child");
    assert!(done.status.success(), "{:?}", done.status);
    let said = String::from_utf8(done.stdout).expect("text");
    assert_eq!(said.lines().count(), 2, "{said}");
    for line in said.lines() {
        let message: serde_json::Value = serde_json::from_str(line).expect("a message");
        assert_eq!(message["jsonrpc"], "2.0");
    }
    assert_empty(&ground);
}

#[test]
fn a_server_that_is_asked_to_end_leaves_nothing() {
    let ground = Ground::new();
    let mut child = server(&ground)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("it was built");
    let mut input = child.stdin.take().expect("piped");
    let mut output = BufReader::new(child.stdout.take().expect("piped"));
    let mut ask = |message: serde_json::Value| {
        std::io::Write::write_all(&mut input, format!("{message}\n").as_bytes()).expect("it reads");
        let mut line = String::new();
        output.read_line(&mut line).expect("it answers");
        serde_json::from_str::<serde_json::Value>(&line).expect("a message")
    };
    ask(
        serde_json::json!({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {
            "protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "by-hand", "version": "0"},
        }}),
    );
    let created = ask(
        serde_json::json!({"jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": {
            "name": "environment_create", "arguments": {},
        }}),
    );
    let environment = &created["result"]["structuredContent"]["environment"];
    let started = ask(
        serde_json::json!({"jsonrpc": "2.0", "id": 3, "method": "tools/call", "params": {
            "name": "command_start", "arguments": {"environment": environment, "command": "sleep 1000"},
        }}),
    );
    assert_eq!(started["result"]["isError"], false, "{started}");
    let id = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(id, rustix::process::Signal::TERM).expect("it runs");
    // Its standard input is still open.
    let status = child.wait().expect("it is our child");
    assert!(status.success(), "{status:?}");
    assert_empty(&ground);
}
