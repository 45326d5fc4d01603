//! A coding agent's side of `envd agent mcp`: raw lines of JSON-RPC, so that the server's library is not tested with itself.

use std::{
    collections::BTreeMap,
    io::{BufRead as _, BufReader, Write as _},
    os::fd::AsFd as _,
    process::{Child, ChildStderr, ChildStdin, ChildStdout, Command, Stdio},
};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use serde_json::{Value, json};

use crate::sandbox::{PATIENCE, Sandbox, wait};

/// A server, and the client's end of the conversation with it.
#[derive(Debug)]
pub struct Agent {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
    number: u64,
    /// Answers that came before anybody waited for them.
    early: BTreeMap<u64, Value>,
}

impl Agent {
    /// Starts `envd agent mcp` with these options, and shakes hands.
    pub fn start(sandbox: &Sandbox, options: &[&str]) -> Self {
        let arguments = [&["agent", "mcp"], options].concat();
        Self::by(&mut sandbox.envd_command(&arguments))
    }

    /// Shakes hands with the server that a command starts.
    pub fn by(command: &mut Command) -> Self {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the server is there");
        let input = child.stdin.take();
        let output = BufReader::new(child.stdout.take().expect("the server is there"));
        let mut agent = Self {
            child,
            input,
            output,
            number: 0,
            early: BTreeMap::new(),
        };
        agent.ask(
            "initialize",
            json!({
                "protocolVersion": "2025-11-25",
                "capabilities": {},
                "clientInfo": {"name": "test", "version": "1"},
            }),
        );
        agent.tell(&json!({"jsonrpc": "2.0", "method": "notifications/initialized"}));
        agent
    }

    /// Sends a message.
    pub fn tell(&mut self, message: &Value) {
        self.tell_raw(message.to_string().as_bytes());
    }

    /// Sends a line, whatever it is.
    pub fn tell_raw(&mut self, line: &[u8]) {
        let input = self.input.as_mut().expect("the server is there");
        input.write_all(line).expect("the server is there");
        input.write_all(b"\n").expect("the server is there");
        input.flush().expect("the server is there");
    }

    /// Sends a request and does not wait; its number.
    pub fn request(&mut self, method: &str, parameters: &Value) -> u64 {
        self.number += 1;
        let number = self.number;
        self.tell(&json!({"jsonrpc": "2.0", "id": number, "method": method, "params": parameters}));
        number
    }

    /// Asks, and waits for the answer; an error of the protocol fails the test.
    pub fn ask(&mut self, method: &str, parameters: Value) -> Value {
        let number = self.request(method, &parameters);
        let message = self.answer(number);
        assert!(message.get("error").is_none(), "{method}: {message}");
        message["result"].clone()
    }

    /// Waits for the answer to a request, whatever it is.
    pub fn answer(&mut self, number: u64) -> Value {
        loop {
            if let Some(answer) = self.early.remove(&number) {
                return answer;
            }
            if self.output.buffer().is_empty() {
                let patience = PollTimeout::try_from(PATIENCE).expect("minutes fit");
                let mut ends = [PollFd::new(
                    self.output.get_ref().as_fd(),
                    PollFlags::POLLIN,
                )];
                let ready = poll(&mut ends, patience).expect("the server is there");
                assert!(ready > 0, "request {number} is not answered");
            }
            let mut line = String::new();
            let length = self
                .output
                .read_line(&mut line)
                .expect("the server is there");
            assert!(length > 0, "the server is gone instead of answering");
            let message: Value = serde_json::from_str(&line).expect("JSON");
            if let Some(id) = message["id"].as_u64() {
                self.early.insert(id, message);
            }
        }
    }

    /// Calls a tool; `None` where the protocol itself refuses the call, else as [`Agent::call`].
    pub fn try_call(&mut self, tool: &str, arguments: Value) -> Option<(Value, bool)> {
        let call = json!({"name": tool, "arguments": arguments});
        let number = self.request("tools/call", &call);
        let result = self.answer(number).get("result")?.clone();
        let failed = result["isError"] == true;
        Some((result, failed))
    }

    /// What the server writes to standard error, where that is piped; once.
    pub fn take_errors(&mut self) -> ChildStderr {
        self.child.stderr.take().expect("standard error is piped")
    }

    /// The server's process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Calls a tool; the result, and whether it is a failure.
    pub fn call(&mut self, tool: &str, arguments: Value) -> (Value, bool) {
        let result = self.ask("tools/call", json!({"name": tool, "arguments": arguments}));
        let failed = result["isError"] == true;
        (result, failed)
    }

    /// Calls a tool that has to succeed.
    #[track_caller]
    pub fn ok(&mut self, tool: &str, arguments: Value) -> Value {
        let (result, failed) = self.call(tool, arguments);
        assert!(!failed, "{tool}: {result}");
        result["structuredContent"].clone()
    }

    /// Calls a tool that has to fail, and gives what it says.
    #[track_caller]
    pub fn fails(&mut self, tool: &str, arguments: Value) -> String {
        let (result, failed) = self.call(tool, arguments);
        assert!(failed, "{tool}: {result}");
        result.to_string()
    }

    /// Creates an environment; its handle.
    pub fn create(&mut self, arguments: Value) -> String {
        let environment = self.ok("environment_create", arguments);
        environment["environment"]
            .as_str()
            .expect("a handle")
            .to_owned()
    }

    /// Runs a shell line that has to succeed.
    #[track_caller]
    pub fn run(&mut self, environment: &str, line: &str) -> String {
        let ended = self.ok(
            "command_run",
            json!({"environment": environment, "command": line}),
        );
        assert_eq!(ended["exit_code"], 0, "{line}: {ended}");
        ended["stdout"]["head"].as_str().expect("text").to_owned()
    }

    /// Kills the server, which then can do nothing more.
    pub fn kill(&mut self) {
        self.child.kill().expect("it is our child");
        self.child.wait().expect("it is our child");
    }

    /// The client closes its end; the server has to end by itself.
    pub fn leave(mut self) {
        self.input.take();
        let status = wait(&mut self.child, PATIENCE).expect("it ends with its client");
        assert!(status.success(), "{status}");
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
