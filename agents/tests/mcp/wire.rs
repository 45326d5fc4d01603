//! A client that writes JSON-RPC by hand, so that the tests see what is on the wire and nothing else.

use std::sync::{
    Arc,
    atomic::{AtomicI64, Ordering},
};

use envd_agents::{mcp, service::Service};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, DuplexStream, Lines, ReadHalf, WriteHalf},
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;

use crate::ground::Ground;

/// One connection.
pub struct Wire {
    lines: Lines<BufReader<ReadHalf<DuplexStream>>>,
    writer: WriteHalf<DuplexStream>,
    next: AtomicI64,
    revision: Option<&'static str>,
    /// Notifications that came while an answer was waited for.
    pub notifications: Vec<Value>,
    serving: JoinHandle<Result<(), mcp::StreamError>>,
    pub stop: CancellationToken,
}

impl Wire {
    /// A connection on which nothing was said yet.
    pub fn connect(ground: &Ground) -> Self {
        Self::to(ground.fake.clone())
    }

    /// The same with a service of the test's own.
    pub fn to(service: Arc<dyn Service>) -> Self {
        let (near, far) = tokio::io::duplex(1 << 16);
        let (reader, writer) = tokio::io::split(far);
        let stop = CancellationToken::new();
        let serving = tokio::spawn(mcp::serve(service, reader, writer, stop.clone()));
        let (reader, writer) = tokio::io::split(near);
        Self {
            lines: BufReader::new(reader).lines(),
            writer,
            next: AtomicI64::new(1),
            revision: None,
            notifications: Vec::new(),
            serving,
            stop,
        }
    }

    /// A connection of the current revision, which needs no handshake.
    pub fn modern(ground: &Ground) -> Self {
        let mut wire = Self::connect(ground);
        wire.revision = Some("2026-07-28");
        wire
    }

    /// A connection after the handshake of an older revision.
    pub async fn legacy(ground: &Ground, revision: &str) -> Self {
        let mut wire = Self::connect(ground);
        let answer = wire.initialize(revision).await;
        assert_eq!(answer["protocolVersion"], revision);
        wire
    }

    pub async fn initialize(&mut self, revision: &str) -> Value {
        let answer = self
            .request(
                "initialize",
                json!({
                    "protocolVersion": revision,
                    "capabilities": {},
                    "clientInfo": {"name": "by-hand", "version": "0"},
                }),
            )
            .await;
        self.write(json!({"jsonrpc": "2.0", "method": "notifications/initialized"}))
            .await;
        answer["result"].clone()
    }

    pub async fn write(&mut self, message: Value) {
        let line = format!("{message}\n");
        self.writer
            .write_all(line.as_bytes())
            .await
            .expect("the server reads");
    }

    pub async fn write_raw(&mut self, bytes: &[u8]) {
        self.writer
            .write_all(bytes)
            .await
            .expect("the server reads");
    }

    /// Closes our end; answers can still be read.
    pub async fn close_writer(&mut self) {
        self.writer.shutdown().await.expect("the pipe is ours");
    }

    /// Sends a request and returns its number.
    pub async fn send(&mut self, method: &str, mut params: Value) -> i64 {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        if let Some(revision) = self.revision {
            let meta = &mut params["_meta"];
            meta["io.modelcontextprotocol/protocolVersion"] = json!(revision);
            meta["io.modelcontextprotocol/clientInfo"] = json!({"name": "by-hand", "version": "0"});
            meta["io.modelcontextprotocol/clientCapabilities"] = json!({});
        }
        self.write(json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params}))
            .await;
        id
    }

    /// The next message, if there is any before the server closes.
    pub async fn receive(&mut self) -> Option<Value> {
        let line = self.lines.next_line().await.expect("the pipe is ours")?;
        Some(serde_json::from_str(&line).expect("the server writes JSON, a message a line"))
    }

    /// The answer to a request; notifications on the way are kept.
    pub async fn answer(&mut self, id: i64) -> Value {
        loop {
            let message = self.receive().await.expect("an answer before the end");
            if message.get("id") == Some(&json!(id)) {
                return message;
            }
            assert!(
                message.get("method").is_some(),
                "an answer to nothing: {message}"
            );
            self.notifications.push(message);
        }
    }

    pub async fn request(&mut self, method: &str, params: Value) -> Value {
        let id = self.send(method, params).await;
        self.answer(id).await
    }

    /// Calls a tool; the result, whichever it is.
    pub async fn call(&mut self, tool: &str, arguments: Value) -> Value {
        let answer = self
            .request("tools/call", json!({"name": tool, "arguments": arguments}))
            .await;
        assert!(answer.get("error").is_none(), "{answer}");
        answer["result"].clone()
    }

    /// Calls a tool that must succeed; its structured result.
    pub async fn done(&mut self, tool: &str, arguments: Value) -> Value {
        let result = self.call(tool, arguments).await;
        assert_ne!(result["isError"], true, "{result}");
        result["structuredContent"].clone()
    }

    /// Calls a tool that must fail; what the model reads.
    pub async fn fails(&mut self, tool: &str, arguments: Value) -> String {
        let result = self.call(tool, arguments).await;
        assert_eq!(result["isError"], true, "{result}");
        text(&result).to_owned()
    }

    /// The handle of a new environment.
    pub async fn create(&mut self) -> Value {
        self.done("environment_create", json!({})).await["environment"].clone()
    }

    /// Closes our end and waits until the server has ended.
    pub async fn close(mut self) -> Result<(), mcp::StreamError> {
        self.writer.shutdown().await.expect("the pipe is ours");
        self.serving.await.expect("the server does not panic")
    }

    /// Waits until the server has ended by itself.
    pub async fn ended(self) -> Result<(), mcp::StreamError> {
        self.serving.await.expect("the server does not panic")
    }
}

/// The text of a tool's result.
pub fn text(result: &Value) -> &str {
    result["content"][0]["text"].as_str().expect("a text")
}
