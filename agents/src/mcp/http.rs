//! Clients over HTTP: on loopback only, with a token, and from no web page.
//!
//! Whoever shows the token is one owner, whichever connection or session they use: with 2026-07-28 there are no sessions, and a
//! client that reconnects finds its environments again. They end with the server.

use std::{convert::Infallible, io, net::SocketAddr, sync::Arc};

use http_body_util::{BodyExt, Full, combinators::BoxBody};
use hyper::{
    Request, Response, StatusCode,
    body::{Bytes, Incoming},
    header::{AUTHORIZATION, HeaderValue, WWW_AUTHENTICATE},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use rmcp::transport::streamable_http_server::{
    StreamableHttpServerConfig, StreamableHttpService, session::local::LocalSessionManager,
};
use tokio::{net::TcpListener, sync::Semaphore, task::JoinSet};
use tokio_util::sync::CancellationToken;

use super::{server::Server, token::Token};
use crate::service::{Owner, Service};

/// The only path there is.
pub const PATH: &str = "/mcp";
/// Connections at a time. More wait: whoever has no token can open connections too.
const MOST_CONNECTIONS: usize = 128;
/// Most bytes in one request: a file that is written whole must fit.
const MOST_REQUEST: usize = 16 * 1024 * 1024;
/// How long a session of a client older than 2026-07-28 may be silent, for instance because a command runs for long.
const SESSION_SILENCE: std::time::Duration = std::time::Duration::from_secs(24 * 60 * 60);

/// Where to listen and whom to admit.
#[derive(Clone, Debug)]
pub struct HttpOptions {
    /// A loopback address; port 0 takes a free one.
    pub address: SocketAddr,
    /// What a client must show.
    pub token: Token,
    /// Web pages that may speak to the server, as `http://localhost:6274`; usually none.
    pub origins: Vec<String>,
}

/// Why there is no server.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// The address can be reached from elsewhere.
    #[error(
        "{0} can be reached from other machines: listen on 127.0.0.1 or [::1], and forward a port with ssh if need be"
    )]
    NotLoopback(SocketAddr),
    /// The port cannot be had.
    #[error("cannot listen on {address}: take another port, or 0 for a free one")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// A server that listens and does not serve yet.
#[derive(Debug)]
pub struct HttpServer {
    listener: TcpListener,
    address: SocketAddr,
    token: Token,
    origins: Vec<String>,
}

impl HttpServer {
    /// Begins to listen.
    pub async fn bind(options: HttpOptions) -> Result<Self, HttpError> {
        let HttpOptions {
            address,
            token,
            origins,
        } = options;
        if !address.ip().is_loopback() {
            return Err(HttpError::NotLoopback(address));
        }
        let listen = |source| HttpError::Listen { address, source };
        let listener = TcpListener::bind(address).await.map_err(listen)?;
        let address = listener.local_addr().map_err(listen)?;
        Ok(Self {
            listener,
            address,
            token,
            origins,
        })
    }

    /// What clients are to be configured with.
    pub fn url(&self) -> String {
        format!("http://{}{PATH}", self.address)
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `stop` is cancelled. Whatever was lent is gone when this returns.
    pub async fn serve(self, service: Arc<dyn Service>, stop: CancellationToken) {
        let owner = Owner::random();
        let over = stop.child_token();
        let server = Server::new(service.clone(), owner.clone(), over.clone());
        let door = Arc::new(Door {
            token: self.token.clone(),
            protocol: protocol(&self, server.clone(), over),
        });
        let places = Arc::new(Semaphore::new(MOST_CONNECTIONS));
        let mut connections = JoinSet::new();
        loop {
            let accepted = tokio::select! {
                () = stop.cancelled() => break,
                Some(_) = connections.join_next() => continue,
                accepted = accept(&self.listener, &places) => accepted,
            };
            // What fails here is the connection of one client (or descriptors are short, which passes).
            let Ok((stream, place)) = accepted else {
                tokio::time::sleep(std::time::Duration::from_millis(10)).await;
                continue;
            };
            let door = door.clone();
            connections.spawn(async move {
                let _place = place;
                let answer = service_fn(move |request| {
                    let door = door.clone();
                    async move { Ok::<_, Infallible>(door.answer(request).await) }
                });
                // A client that goes away in the middle is no failure of ours.
                let _ = http1::Builder::new()
                    .timer(TokioTimer::new())
                    .serve_connection(TokioIo::new(stream), answer)
                    .await;
            });
        }
        connections.shutdown().await;
        server.end().await;
        service.release(&owner).await;
    }
}

async fn accept(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
) -> io::Result<(tokio::net::TcpStream, tokio::sync::OwnedSemaphorePermit)> {
    let place = places
        .clone()
        .acquire_owned()
        .await
        .map_err(io::Error::other)?;
    let (stream, _) = listener.accept().await?;
    stream.set_nodelay(true)?;
    Ok((stream, place))
}

type Protocol = StreamableHttpService<Server, LocalSessionManager>;
type Answer = Response<BoxBody<Bytes, Infallible>>;

fn protocol(host: &HttpServer, server: Server, over: CancellationToken) -> Protocol {
    let port = host.address.port();
    // A page that has its name resolved to loopback sends that name as Host; a page elsewhere sends its Origin.
    let config = StreamableHttpServerConfig::default()
        .with_allowed_hosts([host.address.to_string(), format!("localhost:{port}")])
        .with_allowed_origins(&host.origins)
        .enforce_origin_validation()
        .with_max_request_body_bytes(MOST_REQUEST)
        .with_cancellation_token(over);
    let mut sessions = LocalSessionManager::default();
    sessions.session_config.keep_alive = Some(SESSION_SILENCE);
    StreamableHttpService::new(move || Ok(server.clone()), Arc::new(sessions), config)
}

struct Door {
    token: Token,
    protocol: Protocol,
}

impl Door {
    async fn answer(&self, request: Request<Incoming>) -> Answer {
        let shown = request.headers().get(AUTHORIZATION);
        if !shown.is_some_and(|shown| self.token.admits(shown.as_bytes())) {
            let mut answer = plain(
                StatusCode::UNAUTHORIZED,
                "Show the token that `envd agent mcp --http` printed: Authorization: Bearer TOKEN\n",
            );
            answer
                .headers_mut()
                .insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            return answer;
        }
        if request.uri().path() != PATH {
            return plain(StatusCode::NOT_FOUND, "The server is at /mcp\n");
        }
        self.protocol.handle(request).await
    }
}

fn plain(status: StatusCode, text: &'static str) -> Answer {
    let mut answer = Response::new(Full::new(Bytes::from_static(text.as_bytes())).boxed());
    *answer.status_mut() = status;
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_address_that_others_reach_is_refused() {
        for address in ["0.0.0.0:0", "[::]:0", "192.0.2.1:0"] {
            let options = HttpOptions {
                address: address.parse().expect("an address"),
                token: Token::random(),
                origins: Vec::new(),
            };
            let error = HttpServer::bind(options).await.expect_err(address);
            assert!(matches!(error, HttpError::NotLoopback(_)), "{error}");
        }
    }
}
