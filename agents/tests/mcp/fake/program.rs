//! The server over the service for tests, as a program that clients of other languages can start.
//!
//! `mcp-fake PROJECT SCRATCH` speaks on the standard streams; `mcp-fake PROJECT SCRATCH --http` prints an address and a token
//! and serves until its standard input ends.
#![forbid(unsafe_code)]

#[path = "mod.rs"]
mod fake;

use std::{io::Read, path::Path, sync::Arc};

use envd_agents::{
    mcp::{self, HttpOptions, HttpServer, Token},
    service::Service,
};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [project, scratch, rest @ ..] = &words[..] else {
        return Err("usage: mcp-fake PROJECT SCRATCH [--http]".into());
    };
    let fake = fake::Fake::new(Path::new(project), Path::new(scratch));
    let service: Arc<dyn Service> = fake.clone();
    let runtime = tokio::runtime::Runtime::new()?;
    runtime.block_on(async {
        if rest.is_empty() {
            return Ok(mcp::serve_stdio(service).await?);
        }
        let token = Token::random();
        let options = HttpOptions {
            address: ([127, 0, 0, 1], 0).into(),
            token: token.clone(),
            origins: Vec::new(),
        };
        let server = HttpServer::bind(options).await?;
        println!("{} {}", server.url(), token.secret());
        let stop = tokio_util::sync::CancellationToken::new();
        let ended = stop.clone();
        std::thread::spawn(move || {
            let _ = std::io::stdin().read_to_end(&mut Vec::new());
            ended.cancel();
        });
        server.serve(service, stop).await;
        Ok::<_, Box<dyn std::error::Error>>(())
    })?;
    runtime.shutdown_background();
    match fake.left() {
        (0, 0, 0) => Ok(()),
        left => Err(format!("environments, commands, snapshots left: {left:?}").into()),
    }
}
