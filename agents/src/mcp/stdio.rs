//! One client over a pair of streams: the standard ones, or any others.

use std::{
    io,
    os::fd::{AsRawFd as _, OwnedFd},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use rmcp::{
    RoleServer,
    model::{ClientJsonRpcMessage, ClientRequest, ServerJsonRpcMessage},
    service::{ServerInitializeError, serve_server_with_ct},
    transport::{Transport, async_rw::AsyncRwTransport},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::unix::pipe,
    signal::unix::{SignalKind, signal},
};
use tokio_util::sync::CancellationToken;

use super::server::Server;
use crate::service::{Owner, Service};

/// How long calls may still run once the client has closed its end: long enough for the answers of a script that writes its
/// requests and closes, short enough for clients that wait before they kill.
const GRACE: Duration = Duration::from_secs(1);
/// Most bytes in one message of a client.
const MOST_MESSAGE: usize = 16 * 1024 * 1024;

/// Why a client could not be served to its end.
#[derive(Debug, thiserror::Error)]
pub enum StreamError {
    /// The conversation did not come about: nothing the client can do is served, or it cannot be written to.
    #[error("the client and this server do not come together")]
    NoConversation(#[source] Box<ServerInitializeError>),
    /// The standard streams cannot be taken over.
    #[error("cannot take over the standard streams")]
    Streams(#[source] io::Error),
    /// A handler of signals cannot be set.
    #[error("cannot watch for signals")]
    Signals(#[source] io::Error),
}

/// Notes when the stream it reads has come to its end.
struct UntilEnd<R> {
    reader: R,
    ended: CancellationToken,
}

impl<R: AsyncRead + Unpin> AsyncRead for UntilEnd<R> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.reader).poll_read(context, buffer);
        let ended = match &polled {
            Poll::Ready(Ok(())) => buffer.filled().len() == before && buffer.remaining() > 0,
            Poll::Ready(Err(_)) => true,
            Poll::Pending => false,
        };
        if ended {
            self.ended.cancel();
        }
        polled
    }
}

/// Passes over what is no request before the first one that opens the conversation: a client that probes, loses patience and
/// cancels its probe is no stranger, and rmcp would end the connection.
struct Opening<T> {
    transport: T,
    open: bool,
}

impl<T: Transport<RoleServer>> Transport<RoleServer> for Opening<T> {
    type Error = T::Error;

    fn send(
        &mut self,
        message: ServerJsonRpcMessage,
    ) -> impl Future<Output = Result<(), T::Error>> + Send + 'static {
        self.transport.send(message)
    }

    async fn receive(&mut self) -> Option<ClientJsonRpcMessage> {
        loop {
            let message = self.transport.receive().await?;
            if let ClientJsonRpcMessage::Request(request) = &message {
                self.open |= !matches!(
                    request.request,
                    ClientRequest::PingRequest(_) | ClientRequest::DiscoverRequest(_)
                );
            } else if !self.open {
                continue;
            }
            return Some(message);
        }
    }

    async fn close(&mut self) -> Result<(), T::Error> {
        self.transport.close().await
    }
}

/// Serves one client until it closes its end, or `stop` is cancelled. Whatever it was lent is gone when this returns.
pub async fn serve(
    service: Arc<dyn Service>,
    reader: impl AsyncRead + Send + Unpin + 'static,
    writer: impl AsyncWrite + Send + Unpin + 'static,
    stop: CancellationToken,
) -> Result<(), StreamError> {
    let owner = Owner::random();
    let over = CancellationToken::new();
    let ended = CancellationToken::new();
    let server = Server::new(service.clone(), owner.clone(), over.clone());
    let reader = UntilEnd {
        reader,
        ended: ended.clone(),
    };
    let transport = Opening {
        transport: AsyncRwTransport::new_server(reader, writer).with_max_line_length(MOST_MESSAGE),
        open: false,
    };
    // Its own token: rmcp cancels what it was given when a client leaves, and `stop` may be shared.
    let serving = stop.child_token();
    let outcome = tokio::select! {
        outcome = conversation(server.clone(), transport, serving) => outcome,
        never = cancel_calls(&ended, &stop, &over) => match never {},
    };
    server.end().await;
    service.release(&owner).await;
    outcome
}

async fn conversation<T>(
    server: Server,
    transport: T,
    stop: CancellationToken,
) -> Result<(), StreamError>
where
    T: Transport<RoleServer> + 'static,
{
    match serve_server_with_ct(server, transport, stop).await {
        Ok(running) => {
            // How it ended does not matter: what follows is the same.
            let _ = running.waiting().await;
            Ok(())
        }
        Err(ServerInitializeError::ConnectionClosed(_) | ServerInitializeError::Cancelled) => {
            Ok(())
        }
        Err(error) => Err(StreamError::NoConversation(Box::new(error))),
    }
}

/// Cancels the calls that are left: at once when the server is to stop, after a while when the client is gone.
async fn cancel_calls(
    ended: &CancellationToken,
    stop: &CancellationToken,
    over: &CancellationToken,
) -> std::convert::Infallible {
    tokio::select! {
        () = stop.cancelled() => {}
        () = async {
            ended.cancelled().await;
            tokio::time::sleep(GRACE).await;
        } => {}
    }
    over.cancel();
    std::future::pending().await
}

/// Serves the client at the standard streams until it closes its end or a signal asks to stop.
///
/// Standard output is the protocol's alone: whatever else in this process writes to it goes to standard error from now on.
/// A read of standard input cannot be interrupted, so after a signal the runtime must be left with
/// [`shutdown_background`](tokio::runtime::Runtime::shutdown_background) or the process exited.
pub async fn serve_stdio(service: Arc<dyn Service>) -> Result<(), StreamError> {
    let mut terminate = signal(SignalKind::terminate()).map_err(StreamError::Signals)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(StreamError::Signals)?;
    let mut hangup = signal(SignalKind::hangup()).map_err(StreamError::Signals)?;
    let output = take_standard_output().map_err(StreamError::Streams)?;
    let output = writer(output);
    let stop = CancellationToken::new();
    let signalled = async {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
            _ = hangup.recv() => {}
        }
        stop.cancel();
        std::future::pending().await
    };
    tokio::select! {
        outcome = serve(service, reader(), output, stop.clone()) => outcome,
        outcome = signalled => outcome,
    }
}

type Reader = Box<dyn AsyncRead + Send + Unpin>;
type Writer = Box<dyn AsyncWrite + Send + Unpin>;

/// Standard input. A pipe is opened once more, so that it can be waited for without a thread and whoever else has it notices
/// nothing of that; a read of anything else goes through one.
fn reader() -> Reader {
    let own = format!("/proc/self/fd/{}", rustix::stdio::stdin().as_raw_fd());
    match pipe::OpenOptions::new().open_receiver(own) {
        Ok(pipe) => Box::new(pipe),
        Err(_) => Box::new(tokio::io::stdin()),
    }
}

/// The same for where answers go.
fn writer(output: OwnedFd) -> Writer {
    let own = format!("/proc/self/fd/{}", output.as_raw_fd());
    match pipe::OpenOptions::new().open_sender(own) {
        Ok(pipe) => Box::new(pipe),
        Err(_) => Box::new(tokio::fs::File::from_std(std::fs::File::from(output))),
    }
}

/// A descriptor of standard output for the protocol; the well-known one becomes standard error.
fn take_standard_output() -> io::Result<OwnedFd> {
    let output = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdout(), 3)?;
    rustix::stdio::dup2_stdout(rustix::stdio::stderr())?;
    Ok(output)
}
