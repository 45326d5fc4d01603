//! The calls themselves: arguments that ask for more than was granted, handles of others, and what is sent instead of a call.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpStream,
    process::{Child, Stdio},
};

use envd_tests::{
    agent::Agent,
    sandbox::{PATIENCE, wait},
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::{Value, json};

use crate::ground::{Ground, SECRET, everyone, on, one};

/// A client over HTTP, a connection for each call.
pub struct Http {
    address: String,
    path: String,
    token: String,
    session: Option<String>,
}

impl Http {
    /// Shakes hands with the server at this address.
    pub fn open(url: &str, token: &str) -> Self {
        let rest = url.strip_prefix("http://").expect("an address");
        let (address, path) = rest.split_once('/').expect("with a path");
        let mut http = Self {
            address: address.to_owned(),
            path: format!("/{path}"),
            token: token.to_owned(),
            session: None,
        };
        let initialize = json!({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {
            "protocolVersion": "2025-11-25", "capabilities": {},
            "clientInfo": {"name": "test", "version": "1"}}});
        let (head, body) = http.post("", &initialize.to_string());
        assert!(head.starts_with("HTTP/1.1 200"), "{head}{body}");
        http.session = head.lines().find_map(|line| {
            let (name, value) = line.split_once(": ")?;
            name.eq_ignore_ascii_case("mcp-session-id")
                .then(|| value.trim().to_owned())
        });
        let initialized = json!({"jsonrpc": "2.0", "method": "notifications/initialized"});
        http.post("", &initialized.to_string());
        http
    }

    /// Sends a body with more fields in the head; the answer's head and body.
    fn post(&self, fields: &str, body: &str) -> (String, String) {
        let mut fields = fields.to_owned();
        if !fields.contains("Host: ") {
            fields += &format!("Host: {}\r\n", self.address);
        }
        if !fields.contains("Authorization: ") {
            fields += &format!("Authorization: Bearer {}\r\n", self.token);
        }
        if let Some(session) = &self.session {
            fields += &format!("Mcp-Session-Id: {session}\r\nMCP-Protocol-Version: 2025-11-25\r\n");
        }
        self.send(&format!(
            "POST {} HTTP/1.1\r\n{fields}Connection: close\r\nContent-Type: application/json\r\n\
             Accept: application/json, text/event-stream\r\nContent-Length: {}\r\n\r\n{body}",
            self.path,
            body.len()
        ))
    }

    fn send(&self, request: &str) -> (String, String) {
        let mut stream = TcpStream::connect(&self.address).expect("it listens");
        // A server that refuses early need not read all.
        let _ = stream.write_all(request.as_bytes());
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        let answer = String::from_utf8_lossy(&answer).into_owned();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
        (head.to_owned(), body.to_owned())
    }

    /// Calls a tool.
    pub fn call(&mut self, tool: &str, arguments: Value) -> Value {
        let call = json!({"jsonrpc": "2.0", "id": 2, "method": "tools/call",
            "params": {"name": tool, "arguments": arguments}});
        let (head, body) = self.post("", &call.to_string());
        let answer = body
            .lines()
            .filter_map(|line| {
                serde_json::from_str::<Value>(line.strip_prefix("data: ").unwrap_or(line)).ok()
            })
            .find(|message| message["id"] == 2);
        let answer = answer.unwrap_or_else(|| panic!("{head}\n{body}"));
        answer["result"].clone()
    }
}

/// A server over HTTP.
struct Served {
    child: Child,
    url: String,
    token: String,
}

impl Served {
    fn start(ground: &Ground, options: &[&str]) -> Self {
        let token = "fedcba9876543210".repeat(4);
        let mut child = ground
            .envd_command(&[&["agent", "mcp", "--http", "127.0.0.1:0"], options].concat())
            .env("ENVD_MCP_TOKEN", &token)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut first = String::new();
        BufReader::new(child.stderr.take().unwrap())
            .read_line(&mut first)
            .unwrap();
        let url = first
            .trim()
            .strip_prefix("serving ")
            .expect(&first)
            .to_owned();
        Self { child, url, token }
    }

    fn stop(mut self) {
        kill(
            Pid::from_raw(self.child.id().cast_signed()),
            Signal::SIGTERM,
        )
        .unwrap();
        let ended = wait(&mut self.child, PATIENCE);
        assert!(ended.is_some_and(|status| status.success()), "{ended:?}");
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Gain: a web page in the user's browser that drives the server: by its name resolved to loopback, or straight from its origin;
/// anybody else on the machine; a token guessed or cut.
/// Must happen: 401 without the whole token, 403 for a strange Host or Origin even with it.
/// Guard: `Door::answer` and `protocol` in `agents/src/mcp/http.rs`.
/// Seen to fail: Origin, with `enforce_origin_validation` left out; with any token admitted; with any Host allowed.
#[test]
fn rebinding_foreign_origins_and_tokens_over_http() {
    let Some(ground) = one() else { return };
    let served = Served::start(&ground, &[]);
    let http = Http::open(&served.url, &served.token);
    let port = http.address.rsplit_once(':').unwrap().1.to_owned();
    let list = json!({"jsonrpc": "2.0", "id": 3, "method": "tools/list", "params": {}}).to_string();
    for (fields, expected) in [
        (String::new(), "200"),
        (format!("Host: localhost:{port}\r\n"), "200"),
        ("Host: evil.example\r\n".to_owned(), "403"),
        (format!("Host: evil.example:{port}\r\n"), "403"),
        (format!("Host: 127.0.0.1.evil.example:{port}\r\n"), "403"),
        (format!("Host: localhost.:{port}\r\n"), "403"),
        ("Origin: https://evil.example\r\n".to_owned(), "403"),
        ("Origin: null\r\n".to_owned(), "403"),
        (format!("Origin: http://evil.example:{port}\r\n"), "403"),
        (format!("Origin: http://{}\r\n", http.address), "403"),
        ("Authorization: Bearer x\r\n".to_owned(), "401"),
        (
            format!("Authorization: Bearer {}\r\n", &served.token[1..]),
            "401",
        ),
        (
            format!("Authorization: Bearer {}0\r\n", served.token),
            "401",
        ),
        (format!("Authorization: Basic {}\r\n", served.token), "401"),
        (format!("Authorization: {}\r\n", served.token), "401"),
    ] {
        let (head, body) = http.post(&fields, &list);
        let status = head.split(' ').nth(1).unwrap_or_default();
        // A field twice or a strange Host may also be no request at all.
        let alike = expected == status || (expected == "403" && status == "400");
        assert!(alike, "{fields:?}: {head}\n{body}");
    }
    // A page may send these without asking first: none may do anything.
    for request in [
        format!(
            "GET {} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n",
            http.path, http.address
        ),
        format!(
            "OPTIONS {} HTTP/1.1\r\nHost: {}\r\nOrigin: https://evil.example\r\nAccess-Control-Request-Method: POST\r\nConnection: close\r\n\r\n",
            http.path, http.address
        ),
    ] {
        let (head, _) = http.send(&request);
        assert!(
            !head.contains(" 200 ") && !head.to_lowercase().contains("access-control-allow"),
            "{head}"
        );
    }
    served.stop();
}

/// Gain: another machine drives the server, or another user of this one sees what it is told.
/// Must happen: it listens on loopback alone, and the token is neither in its arguments nor shown when it was given.
/// Guard: `HttpServer::bind` (`agents/src/mcp/http.rs`), `http` in `envd/src/cli/agent.rs`.
/// Seen to fail: with `bind` taking any address it does not come to its end.
#[test]
fn addresses_that_others_reach() {
    let Some(ground) = one() else { return };
    for address in ["0.0.0.0:0", "[::]:0"] {
        ground
            .envd(&["agent", "mcp", "--http", address])
            .fails()
            .says(&["127.0.0.1"]);
    }
}

/// Gain: more than was granted, by asking for it in an argument: another directory, a network, no limits, a path that is none.
/// Must happen: refused, and what is refused tells nothing of what is there.
/// Guard: `Grants` (`envd/src/agents/grants.rs`); `deny_unknown_fields` of the requests (`agents/src/service`).
/// Seen to fail: with `Grants::project` lending every directory.
#[test]
fn arguments_that_widen_what_was_granted() {
    for ground in everyone() {
        let secret = ground.secret("home/.aws/credentials");
        std::os::unix::fs::symlink(ground.path("home"), ground.project().join("way")).unwrap();
        let mut agent = Agent::start(&ground, &["--allow-host", "a.example.org"]);
        let home = ground.path("home");
        let inside = ground.project();
        let inside = inside.to_str().unwrap();
        for project in [
            "/",
            "/etc",
            "/root",
            "/proc/self/root",
            "/proc/self/cwd/..",
            "..",
            "way",
            "./way/.aws",
            home.to_str().unwrap(),
            &format!("{inside}/../home"),
            secret.to_str().unwrap(),
            "\0",
        ] {
            let asked = agent.try_call(
                "environment_create",
                json!({"project": project, "from": "empty"}),
            );
            assert!(
                asked.is_none_or(|(_, failed)| failed),
                "{project:?} as {}",
                ground.user
            );
        }
        // Whether there is something is not told either.
        let told = |agent: &mut Agent, name: &str| {
            let path = home.join(name);
            let told = agent.fails(
                "environment_create",
                json!({"project": path, "from": "empty"}),
            );
            told.replace(name, "NAME")
        };
        assert_eq!(told(&mut agent, ".aws"), told(&mut agent, "nothing"));
        for network in [
            json!("host"),
            json!({"allow": ["*"]}),
            json!({"allow": ["*.org"]}),
            json!({"allow": ["b.example.org"]}),
            json!({"allow": ["*.example.org"]}),
            json!({"allow": ["a.example.org", "b.example.org"]}),
            json!({"allow": ["a.example.org:22/tcp"]}),
            json!({"allow": ["a.example.org:22"]}),
            json!({"allow": ["127.0.0.1"]}),
            json!({"allow": ["a.example.org."]}),
            json!({"allow": ["a.example.org\0.evil.example"]}),
            json!({"allow": ["a.example.org@evil.example"]}),
            json!("Host"),
            json!({"host": true}),
            json!(["host"]),
        ] {
            let asked = agent.try_call("environment_create", json!({"network": network}));
            assert!(asked.is_none_or(|(_, failed)| failed), "{network}");
        }
        let environment = agent.create(json!({}));
        for (tool, more) in [
            ("environment_create", json!({"seccomp": "off"})),
            ("environment_create", json!({"policy": {"network": "host"}})),
            (
                "environment_create",
                json!({"_meta": {"strict": false}, "lend": "/"}),
            ),
            (
                "environment_create",
                json!({"limits": {"capabilities": ["sys_admin"]}}),
            ),
            (
                "environment_fork",
                on(&environment, json!({"network": "host"})),
            ),
            (
                "environment_fork",
                on(&environment, json!({"count": 1_000_000})),
            ),
            (
                "command_run",
                on(&environment, json!({"command": "id", "as_root": true})),
            ),
            ("command_run", on(&environment, json!({"command": []}))),
            (
                "changes_apply",
                on(&environment, json!({"allow": [".git/hooks"]})),
            ),
            (
                "changes_apply",
                on(&environment, json!({"paths": ["../home"]})),
            ),
            (
                "changes_apply",
                on(&environment, json!({"paths": ["/etc/passwd"]})),
            ),
            (
                "changes_apply",
                on(&environment, json!({"paths": ["a/../../home"]})),
            ),
            (
                "changes_diff",
                on(&environment, json!({"paths": ["../home"]})),
            ),
        ] {
            let asked = agent.try_call(tool, more.clone());
            assert!(
                asked.as_ref().is_none_or(|(_, failed)| *failed),
                "{tool} {more}: {asked:?}"
            );
        }
        // In every text there may be a zero byte, at which the kernel would end it.
        for (tool, more) in [
            ("command_run", json!({"command": ["true\0", "a"]})),
            ("command_run", json!({"command": "true", "cwd": "/\0"})),
            (
                "command_run",
                json!({"command": "true", "env": {"A\0": "b"}}),
            ),
            (
                "command_run",
                json!({"command": "true", "env": {"A": "b\0"}}),
            ),
            ("file_read", json!({"path": "a\0"})),
            ("file_write", json!({"path": "a\0b", "content": ""})),
            ("changes_diff", json!({"paths": ["a\0"]})),
        ] {
            let asked = agent.try_call(tool, on(&environment, more.clone()));
            assert!(
                asked.as_ref().is_none_or(|(_, failed)| *failed),
                "{tool} {more}: {asked:?}"
            );
        }
        assert_eq!(agent.run(&environment, "echo alive"), "alive\n");
        agent.leave();
    }
}

/// Gain: a sibling's environment, output or changes, by a handle that was guessed or seen.
/// Must happen: what another client was lent is as if it were not there, over a connection of one's own and by resource.
/// Guard: the owner in `Shared::environment`, `command` and `snapshot` (`envd/src/agents/mod.rs`); 128 random bits
/// (`agents/src/service/handle.rs`); a process of its own for each client over standard streams.
/// Seen to fail: with the owners not compared it still held: a process for each client has nothing of another's.
#[test]
fn handles_of_a_sibling() {
    for ground in everyone() {
        let (mut victim, environment) = ground.agent();
        let written = victim.ok(
            "command_run",
            on(&environment, json!({"command": "echo private"})),
        );
        let command = written["command"].clone();
        let snapshot =
            victim.ok("environment_snapshot", on(&environment, json!({})))["snapshot"].clone();
        let resources = victim.ask("resources/list", json!({}));
        let mut agent = Agent::start(&ground, &[]);
        let unknown = json!("env_0123456789abcdef0123456789abcdef");
        for (tool, arguments) in [
            ("command_run", json!({"command": "true"})),
            ("command_start", json!({"command": "true"})),
            ("file_read", json!({"path": "envd.toml"})),
            ("file_write", json!({"path": "x", "content": "x"})),
            ("file_list", json!({})),
            ("file_search", json!({"pattern": "."})),
            ("changes_diff", json!({})),
            ("changes_apply", json!({})),
            ("environment_fork", json!({})),
            ("environment_snapshot", json!({})),
            ("environment_destroy", json!({})),
            ("package_add", json!({"packages": ["hello"]})),
        ] {
            let of = |handle: &Value| {
                let mut all = arguments.clone();
                all["environment"] = handle.clone();
                all
            };
            let there = agent.fails(tool, of(&json!(environment)));
            let nowhere = agent.fails(tool, of(&unknown));
            let same = there.replace(&environment, "HANDLE");
            assert_eq!(
                same,
                nowhere.replace(unknown.as_str().unwrap(), "HANDLE"),
                "{tool}"
            );
        }
        agent.fails("command_poll", json!({"command": command}));
        agent.fails(
            "command_signal",
            json!({"command": command, "signal": "KILL"}),
        );
        agent.fails("environment_restore", json!({"snapshot": snapshot}));
        agent.fails(
            "file_search",
            on(&environment, json!({"command": command, "pattern": "."})),
        );
        for resource in resources["resources"].as_array().unwrap() {
            let read = json!({"uri": resource["uri"]});
            let number = agent.request("resources/read", &read);
            let answer = agent.answer(number);
            assert!(answer.get("error").is_some(), "{resource}: {answer}");
        }
        assert_eq!(
            agent.ok("environment_list", json!({}))["environments"],
            json!([])
        );
        assert_eq!(
            agent.ask("resources/list", json!({}))["resources"],
            json!([])
        );
        agent.leave();
        assert_eq!(victim.run(&environment, "echo alive"), "alive\n");
        victim.leave();
    }
}

/// Gain: a server that is gone, or that takes the machine's memory: by messages that are no JSON, nested without end, longer than
/// any call, or of the wrong kind.
/// Must happen: it answers the next call, or says that the message is too long and ends in order; it never dies of a signal.
/// Guard: `MOST_MESSAGE` and the reader of `agents/src/mcp/stdio.rs`; the nesting that `serde_json` takes.
/// Seen to fail: with a `serde_json` that takes any nesting: the server is gone.
#[test]
fn messages_that_are_none() {
    let Some(ground) = one() else { return };
    let (mut agent, environment) = ground.agent();
    let nested =
        |open: &str, close: &str, depth: usize| [open.repeat(depth), close.repeat(depth)].concat();
    let call = |arguments: &str| {
        format!(
            "{{\"jsonrpc\":\"2.0\",\"id\":\"x\",\"method\":\"tools/call\",\"params\":{{\"name\":\"file_read\",\"arguments\":{arguments}}}}}"
        )
    };
    for line in [
        "".to_owned(),
        "{".to_owned(),
        "null".to_owned(),
        "[]".to_owned(),
        "\u{feff}{}".to_owned(),
        "{\"jsonrpc\":\"2.0\",\"id\":{},\"method\":1}".to_owned(),
        nested("[", "]", 200_000),
        nested("{\"a\":", "}", 100_000),
        call(&nested("[", "]", 100_000)),
        call(&nested("{\"a\":", "1}", 120)),
        call("{\"environment\": 1e999}"),
        call("{\"path\": \"\\ud800\"}"),
        call(&format!("{{\"path\": \"{}\"}}", "a".repeat(8 << 20))),
        call(&format!(
            "{{\"environment\": \"{environment}\", \"path\": \"{}\"}}",
            "a/".repeat(1 << 20)
        )),
    ] {
        agent.tell_raw(line.as_bytes());
        let listed = agent.ok("environment_list", json!({}));
        assert_eq!(listed["environments"].as_array().unwrap().len(), 1);
    }
    agent.tell_raw(b"\xff\xfe\x00");
    agent.ok("environment_list", json!({}));
    assert!(
        resident(agent.pid()) < 300 << 20,
        "{} bytes",
        resident(agent.pid())
    );
    agent.leave();
}

/// Gain: the machine's memory, by a message that never ends.
/// Must happen: the server stops reading it at a bound, and ends in order.
/// Guard: `MOST_MESSAGE` in `agents/src/mcp/stdio.rs`.
/// Seen to fail: with `MOST_MESSAGE` of 4 GiB.
#[test]
fn a_message_without_an_end() {
    let Some(ground) = one() else { return };
    let mut child = ground
        .envd_command(&["agent", "mcp"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    let piece = vec![b'a'; 1 << 20];
    let mut most = 0;
    for _ in 0..400 {
        if input.write_all(&piece).is_err() {
            break;
        }
        most = most.max(resident(child.id()));
    }
    drop(input);
    let ended = wait(&mut child, PATIENCE).expect("it ends with its client");
    assert!(ended.code().is_some(), "{ended}");
    assert!(most < 200 << 20, "{most} bytes");
}

/// Resident set of a process, in bytes.
pub fn resident(pid: u32) -> u64 {
    let statm = std::fs::read_to_string(format!("/proc/{pid}/statm")).unwrap_or_default();
    let pages = statm
        .split(' ')
        .nth(1)
        .and_then(|pages| pages.parse::<u64>().ok());
    pages.unwrap_or(0) * 4096
}

/// The most that its resident set has been, in bytes.
pub fn peak(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let most = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let most = most.and_then(|most| most.trim().strip_suffix(" kB"));
    most.map_or(0, |most| most.parse::<u64>().expect("a number") * 1024)
}

/// Gain: files of the user by way of the tools' own arguments (CVE-2026-39861 by a call instead of a link).
/// Must happen: an absolute path is one of the environment's; a resource's address names nothing else.
/// Guard: `Inside::open` with `RESOLVE_IN_ROOT` (`envd/src/agents/inside.rs`); `ResourceUri` (`agents/src/service/resource.rs`).
/// Seen to fail: with its guards taken out together; see `CASES.md`.
#[test]
fn paths_and_resources_of_the_machine() {
    for ground in everyone() {
        let secret = ground.secret("secret");
        let (mut agent, environment) = ground.agent();
        let path = secret.to_str().unwrap();
        for path in [
            path.to_owned(),
            format!("../../../../../../../../../..{path}"),
            format!("/proc/self/root{path}"),
            format!("/proc/1/root{path}"),
            format!("/proc/thread-self/root{path}"),
            format!("/dev/fd/../../..{path}"),
            "../secret".to_owned(),
        ] {
            let told = agent.fails("file_read", on(&environment, json!({"path": path})));
            assert!(!told.contains(SECRET.trim()), "{told}");
        }
        for uri in [
            format!("file://{path}"),
            format!("envd://{path}"),
            format!("envd://../..{path}"),
            "file:///etc/passwd".to_owned(),
        ] {
            let number = agent.request("resources/read", &json!({"uri": uri}));
            let answer = agent.answer(number);
            assert!(answer.get("error").is_some(), "{uri}: {answer}");
        }
        agent.leave();
    }
}
