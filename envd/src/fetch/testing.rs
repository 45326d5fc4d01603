//! A small HTTP server for tests, which misbehaves as asked.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

use super::{FetchSettings, Fetcher};

/// What a client asked for.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) path: String,
    /// Where the range it wants starts.
    pub(crate) from: Option<usize>,
    /// How many requests for this path came before.
    pub(crate) earlier: usize,
}

/// What it gets.
#[derive(Clone, Default)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: String,
    pub(crate) body: Vec<u8>,
    /// Another Content-Length than the body has.
    pub(crate) announce: Option<usize>,
    /// No Content-Length at all.
    pub(crate) silent_length: bool,
    /// The connection ends after so many bytes of the body.
    pub(crate) cut: Option<usize>,
    /// Before the answer.
    pub(crate) pause: Duration,
}

impl Reply {
    pub(crate) fn status(status: u16) -> Self {
        Self {
            status,
            ..Self::default()
        }
    }

    pub(crate) fn whole(body: &[u8]) -> Self {
        Self {
            body: body.to_vec(),
            ..Self::status(200)
        }
    }

    /// What a server that knows ranges answers.
    pub(crate) fn ranged(body: &[u8], request: &Request) -> Self {
        match request.from {
            None => Self::whole(body),
            Some(from) if from >= body.len() => Self::status(416),
            Some(from) => Self {
                headers: format!(
                    "Content-Range: bytes {from}-{}/{}\r\n",
                    body.len() - 1,
                    body.len()
                ),
                body: body[from..].to_vec(),
                ..Self::status(206)
            },
        }
    }

    pub(crate) fn cut_after(mut self, bytes: usize) -> Self {
        self.cut = Some(bytes);
        self
    }
}

type Answer = dyn Fn(&Request) -> Reply + Send + Sync;

pub(crate) struct Server {
    address: SocketAddr,
    log: Arc<Mutex<Vec<Request>>>,
    task: JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Server {
    pub(crate) async fn start(answer: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let log = Arc::new(Mutex::new(Vec::new()));
        let answer: Arc<Answer> = Arc::new(answer);
        let kept = log.clone();
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, answer.clone(), kept.clone()));
            }
        });
        Self { address, log, task }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}/{path}", self.address)
    }

    pub(crate) fn requests(&self) -> Vec<Request> {
        self.log.lock().unwrap().clone()
    }
}

/// Answers one request. Errors mean that the client has gone, which some tests want.
async fn serve(
    mut stream: TcpStream,
    answer: Arc<Answer>,
    log: Arc<Mutex<Vec<Request>>>,
) -> std::io::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        if stream.read(&mut byte).await? == 0 {
            return Ok(());
        }
        head.push(byte[0]);
    }
    let head = String::from_utf8_lossy(&head).to_lowercase();
    let path = head.split(' ').nth(1).unwrap_or("/");
    let path = path.trim_start_matches('/').to_owned();
    let range = head.lines().find_map(|l| l.strip_prefix("range: bytes="));
    let request = {
        let mut log = log.lock().unwrap();
        let request = Request {
            from: range.and_then(|r| r.trim_end_matches('-').parse().ok()),
            earlier: log.iter().filter(|r: &&Request| r.path == path).count(),
            path,
        };
        log.push(request.clone());
        request
    };
    let reply = answer(&request);
    tokio::time::sleep(reply.pause).await;
    let mut head = format!(
        "HTTP/1.1 {} Because\r\nConnection: close\r\n{}",
        reply.status, reply.headers
    );
    if !reply.silent_length {
        let length = reply.announce.unwrap_or(reply.body.len());
        head += &format!("Content-Length: {length}\r\n");
    }
    stream.write_all(format!("{head}\r\n").as_bytes()).await?;
    let end = reply.cut.unwrap_or(usize::MAX).min(reply.body.len());
    stream.write_all(&reply.body[..end]).await?;
    stream.shutdown().await
}

/// A fetcher that does not dawdle.
pub(crate) fn fetcher() -> Fetcher {
    Fetcher::new(FetchSettings {
        first_pause: Duration::from_millis(1),
        silence_timeout: Duration::from_secs(5),
        ..FetchSettings::default()
    })
}
