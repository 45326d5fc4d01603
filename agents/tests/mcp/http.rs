//! Who may speak to the server over HTTP, and what is left when it ends.

use std::{
    collections::BTreeMap,
    sync::{Arc, atomic::Ordering},
};

use envd_agents::mcp::{HttpOptions, HttpServer, Token};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;

use crate::ground::{Ground, until};

struct Host {
    ground: Ground,
    token: Token,
    authority: String,
    stop: CancellationToken,
    serving: JoinHandle<()>,
}

struct Answer {
    status: u16,
    headers: BTreeMap<String, String>,
    body: String,
}

impl Answer {
    /// The JSON-RPC answer in the body, whether it came alone or as the last event of a stream.
    fn message(&self) -> Value {
        let last = self
            .body
            .lines()
            .filter_map(|line| line.strip_prefix("data:"))
            .rfind(|data| !data.trim().is_empty())
            .unwrap_or(&self.body);
        serde_json::from_str(last)
            .unwrap_or_else(|error| panic!("{} {:?}: {error}", self.status, self.body))
    }
}

fn headers<const N: usize>(pairs: [(&str, &str); N]) -> BTreeMap<String, String> {
    pairs
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into()
}

impl Host {
    async fn new() -> Self {
        let ground = Ground::new();
        let token = Token::random();
        let server = HttpServer::bind(HttpOptions {
            address: ([127, 0, 0, 1], 0).into(),
            token: token.clone(),
            origins: vec!["http://localhost:6274".to_owned()],
        })
        .await
        .expect("a free port");
        let authority = server.address().to_string();
        let stop = CancellationToken::new();
        let serving = tokio::spawn(server.serve(ground.fake.clone(), stop.clone()));
        Self {
            ground,
            token,
            authority,
            stop,
            serving,
        }
    }

    async fn end(self) {
        self.stop.cancel();
        self.serving.await.expect("the server does not panic");
        self.ground.assert_empty();
    }

    /// Headers of a client that may speak to the server.
    fn admitted(&self) -> BTreeMap<String, String> {
        headers([
            ("Host", &self.authority),
            ("Authorization", &format!("Bearer {}", self.token.secret())),
            ("Content-Type", "application/json"),
            ("Accept", "application/json, text/event-stream"),
        ])
    }

    async fn open(
        &self,
        verb: &str,
        path: &str,
        headers: &BTreeMap<String, String>,
        body: &str,
    ) -> TcpStream {
        let mut stream = TcpStream::connect(&self.authority)
            .await
            .expect("it listens");
        let mut text = format!("{verb} {path} HTTP/1.1\r\nConnection: close\r\n");
        for (name, value) in headers {
            text += &format!("{name}: {value}\r\n");
        }
        text += &format!("Content-Length: {}\r\n\r\n{body}", body.len());
        stream.write_all(text.as_bytes()).await.expect("it reads");
        stream
    }

    async fn send(
        &self,
        verb: &str,
        path: &str,
        headers: &BTreeMap<String, String>,
        body: &str,
    ) -> Answer {
        let mut stream = self.open(verb, path, headers, body).await;
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).await.expect("it answers");
        let text = String::from_utf8(bytes).expect("text");
        let (head, body) = text.split_once("\r\n\r\n").expect("an answer");
        let mut lines = head.lines();
        let status = lines.next().and_then(|line| line.split(' ').nth(1));
        let headers: BTreeMap<String, String> = lines
            .filter_map(|line| line.split_once(": "))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
            .collect();
        let chunked = headers
            .get("transfer-encoding")
            .is_some_and(|value| value == "chunked");
        Answer {
            status: status
                .and_then(|status| status.parse().ok())
                .expect("a status"),
            body: if chunked {
                unchunked(body)
            } else {
                body.to_owned()
            },
            headers,
        }
    }

    /// A request of the current revision: no session, everything in the request and mirrored in headers.
    fn modern(
        &self,
        id: u64,
        method: &str,
        mut params: Value,
    ) -> (BTreeMap<String, String>, String) {
        params["_meta"]["io.modelcontextprotocol/protocolVersion"] = json!("2026-07-28");
        params["_meta"]["io.modelcontextprotocol/clientInfo"] =
            json!({"name": "by-hand", "version": "0"});
        params["_meta"]["io.modelcontextprotocol/clientCapabilities"] = json!({});
        let mut headers = self.admitted();
        headers.insert("MCP-Protocol-Version".to_owned(), "2026-07-28".to_owned());
        headers.insert("Mcp-Method".to_owned(), method.to_owned());
        if let Some(name) = params["name"].as_str() {
            headers.insert("Mcp-Name".to_owned(), name.to_owned());
        }
        let body = json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params});
        (headers, body.to_string())
    }

    async fn call(&self, tool: &str, arguments: Value) -> Value {
        let (headers, body) = self.modern(
            1,
            "tools/call",
            json!({"name": tool, "arguments": arguments}),
        );
        let answer = self.send("POST", "/mcp", &headers, &body).await;
        assert_eq!(answer.status, 200, "{}", answer.body);
        let message = answer.message();
        assert_eq!(message["result"]["isError"], false, "{message}");
        message["result"]["structuredContent"].clone()
    }
}

fn unchunked(mut body: &str) -> String {
    let mut whole = String::new();
    while let Some((size, rest)) = body.split_once("\r\n") {
        let size = usize::from_str_radix(size, 16).expect("a size");
        whole += &rest[..size];
        body = rest[size..].trim_start_matches("\r\n");
        if size == 0 {
            break;
        }
    }
    whole
}

#[tokio::test]
async fn without_the_token_nothing_is_said() {
    let host = Host::new().await;
    let (admitted, body) = host.modern(1, "server/discover", json!({}));
    assert_eq!(
        host.send("POST", "/mcp", &admitted, &body).await.status,
        200
    );
    for shown in [
        None,
        Some(format!("Bearer {}", Token::random().secret())),
        Some("Bearer".to_owned()),
    ] {
        let mut headers = admitted.clone();
        headers.remove("Authorization");
        headers.extend(shown.map(|shown| ("Authorization".to_owned(), shown)));
        for (verb, path) in [
            ("POST", "/mcp"),
            ("GET", "/mcp"),
            ("DELETE", "/mcp"),
            ("POST", "/elsewhere"),
        ] {
            let answer = host.send(verb, path, &headers, &body).await;
            assert_eq!(answer.status, 401, "{verb} {path} {headers:?}");
            assert_eq!(answer.headers["www-authenticate"], "Bearer");
        }
    }
    host.end().await;
}

#[tokio::test]
async fn a_web_page_is_refused_even_with_the_token() {
    let host = Host::new().await;
    let (admitted, body) = host.modern(1, "server/discover", json!({}));
    let port = host.authority.rsplit(':').next().expect("a port");
    for (name, value, status) in [
        // A name that was made to resolve to loopback.
        ("Host", "attacker.example".to_owned(), 403),
        ("Host", format!("attacker.example:{port}"), 403),
        ("Host", format!("127.0.0.1.attacker.example:{port}"), 403),
        ("Host", "127.0.0.1:1".to_owned(), 403),
        ("Host", format!("localhost:{port}"), 200),
        ("Origin", "http://attacker.example".to_owned(), 403),
        ("Origin", "null".to_owned(), 403),
        ("Origin", format!("http://{}", host.authority), 403),
        ("Origin", "http://localhost:6275".to_owned(), 403),
        (
            "Origin",
            "http://localhost:6274.attacker.example".to_owned(),
            403,
        ),
        ("Origin", "http://localhost:6274".to_owned(), 200),
    ] {
        let mut headers = admitted.clone();
        headers.insert(name.to_owned(), value.clone());
        let answer = host.send("POST", "/mcp", &headers, &body).await;
        assert_eq!(answer.status, status, "{name}: {value}: {}", answer.body);
    }
    host.end().await;
}

#[tokio::test]
async fn the_current_revision_is_posted_and_nothing_else() {
    let host = Host::new().await;
    let (headers, body) = host.modern(1, "server/discover", json!({}));
    for verb in ["GET", "PUT", "PATCH", "OPTIONS"] {
        let answer = host.send(verb, "/mcp", &headers, &body).await;
        assert_eq!(answer.status, 405, "{verb}: {}", answer.body);
    }
    assert_eq!(host.send("POST", "/", &headers, &body).await.status, 404);
    // What a proxy on the way would decide by must say the same as what is carried out.
    let mut contradicting = headers.clone();
    contradicting.insert("Mcp-Method".to_owned(), "tools/list".to_owned());
    assert_eq!(
        host.send("POST", "/mcp", &contradicting, &body)
            .await
            .status,
        400
    );
    let mut plain = headers.clone();
    plain.insert("Content-Type".to_owned(), "text/plain".to_owned());
    assert_eq!(host.send("POST", "/mcp", &plain, &body).await.status, 415);
    host.end().await;
}

#[tokio::test]
async fn environments_outlive_connections_and_end_with_the_server() {
    let host = Host::new().await;
    let created = host.call("environment_create", json!({})).await;
    let environment = &created["environment"];
    let ran = host
        .call(
            "command_run",
            json!({"environment": environment, "command": "cat README; exit 3"}),
        )
        .await;
    assert_eq!(
        (&ran["exit_code"], &ran["stdout"]["head"]),
        (&json!(3), &json!("a project\n"))
    );
    host.call(
        "command_start",
        json!({"environment": environment, "command": "sleep 1000"}),
    )
    .await;
    host.call(
        "file_write",
        json!({"environment": environment, "path": "README", "content": "changed\n"}),
    )
    .await;
    host.call("changes_apply", json!({"environment": environment}))
        .await;
    let applied = std::fs::read_to_string(host.ground.project().join("README"));
    assert_eq!(applied.expect("it is there"), "changed\n");
    let listed = host.call("environment_list", json!({})).await;
    assert_eq!(listed["environments"].as_array().map(Vec::len), Some(1));
    host.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_is_made_in_the_last_moment_is_released_too() {
    let host = Host::new().await;
    let arguments = json!({"from": {"packages": ["blocking"]}});
    let (headers, body) = host.modern(
        1,
        "tools/call",
        json!({"name": "environment_create", "arguments": arguments}),
    );
    let _stream = host.open("POST", "/mcp", &headers, &body).await;
    let Host {
        ground,
        stop,
        serving,
        ..
    } = host;
    let blocked = || ground.fake.blocked.load(Ordering::SeqCst);
    until("the call cannot be interrupted", blocked).await;
    stop.cancel();
    // A server that did not wait for the call would be gone by now.
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    ground.fake.unblock.store(true, Ordering::SeqCst);
    serving.await.expect("the server does not panic");
    until("the environment was made", || !blocked()).await;
    ground.assert_empty();
}

#[tokio::test]
async fn a_client_that_hangs_up_cancels_its_command() {
    let host = Host::new().await;
    let created = host.call("environment_create", json!({})).await;
    let (headers, body) = host.modern(
        2,
        "tools/call",
        json!({
            "name": "command_run",
            "arguments": {"environment": created["environment"], "command": "echo begun; sleep 1000"},
            "_meta": {"progressToken": 1},
        }),
    );
    let mut stream = host.open("POST", "/mcp", &headers, &body).await;
    let mut heard = String::new();
    while !heard.contains("begun") {
        let mut buffer = [0; 4096];
        let count = stream.read(&mut buffer).await.expect("events");
        assert!(count > 0, "the stream ended: {heard}");
        heard += &String::from_utf8_lossy(&buffer[..count]);
    }
    assert_eq!(host.ground.fake.left().1, 1);
    drop(stream);
    until("the command is gone", || host.ground.fake.left().1 == 0).await;
    host.end().await;
}

#[tokio::test]
async fn an_older_client_has_a_session_and_can_cancel_in_it() {
    let host = Arc::new(Host::new().await);
    let initialize = json!({
        "jsonrpc": "2.0", "id": 1, "method": "initialize",
        "params": {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "by-hand", "version": "0"}},
    });
    let answer = host
        .send("POST", "/mcp", &host.admitted(), &initialize.to_string())
        .await;
    assert_eq!(answer.message()["result"]["protocolVersion"], "2025-11-25");
    let mut headers = host.admitted();
    headers.insert(
        "Mcp-Session-Id".to_owned(),
        answer.headers["mcp-session-id"].clone(),
    );
    headers.insert("MCP-Protocol-Version".to_owned(), "2025-11-25".to_owned());
    let post = |body: Value| {
        let (host, headers) = (host.clone(), headers.clone());
        async move { host.send("POST", "/mcp", &headers, &body.to_string()).await }
    };
    let initialized = post(json!({"jsonrpc": "2.0", "method": "notifications/initialized"})).await;
    assert_eq!(initialized.status, 202);
    let call = |id: u64, tool: &str, arguments: Value| json!({"jsonrpc": "2.0", "id": id, "method": "tools/call", "params": {"name": tool, "arguments": arguments}});
    let created = post(call(2, "environment_create", json!({})))
        .await
        .message();
    let environment = &created["result"]["structuredContent"]["environment"];
    let command = json!({"environment": environment, "command": "sleep 1000"});
    let running = host
        .open(
            "POST",
            "/mcp",
            &headers,
            &call(3, "command_run", command).to_string(),
        )
        .await;
    until("the command runs", || host.ground.fake.left().1 == 1).await;
    let cancel =
        json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 3}});
    assert_eq!(post(cancel).await.status, 202);
    until("the command is gone", || host.ground.fake.left().1 == 0).await;
    drop(running);
    let ended = host.send("DELETE", "/mcp", &headers, "").await;
    assert!((200..300).contains(&ended.status), "{}", ended.status);
    let gone = post(call(4, "environment_list", json!({}))).await;
    assert_eq!(gone.status, 404, "{}", gone.body);
    Arc::into_inner(host)
        .expect("nobody else has it")
        .end()
        .await;
}
