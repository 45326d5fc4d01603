//! Bytes from one socket to the other, counted.
//!
//! The first of them are copied; where more come they are spliced through a pipe, which moves pages instead of bytes
//! (splice(2)) and is what keeps a large download near the speed of a direct one.

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use rustix::{
    net::Shutdown,
    pipe::{PipeFlags, SpliceFlags, fcntl_setpipe_size, pipe_with, splice},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, Interest},
    net::TcpStream,
    task::consume_budget,
};

use super::{
    chunks::Chunks,
    event::Ending,
    http::Body,
    meter::{Direction, Meter},
};
use crate::secret::{Patterns, Scrubber};

/// Bytes that are read at a time.
const BUFFER: usize = 64 << 10;
/// After so many bytes one way, a pipe pays.
const COPIED_FIRST: u64 = 256 << 10;
/// The pipe's capacity, where the kernel grants it.
const PIPE: usize = 1 << 20;

/// Any failure of a socket ends the connection in the same way.
impl From<io::Error> for Ending {
    fn from(_: io::Error) -> Self {
        Self::Broken
    }
}

/// Both ways until both are done. `early` is what the client has sent already.
pub(super) async fn tunnel(
    client: &TcpStream,
    early: &[u8],
    upstream: &TcpStream,
    meter: &Meter,
    idle: Duration,
) -> Ending {
    let out = async {
        meter.count(Direction::Out, early.len())?;
        write_all(upstream, early).await?;
        pump(client, upstream, meter, Direction::Out).await
    };
    let back = pump(upstream, client, meter, Direction::In);
    let both = async { tokio::try_join!(out, back) };
    tokio::select! {
        done = both => done.err().unwrap_or(Ending::Finished),
        () = meter.idle(idle) => Ending::Idle,
    }
}

/// One request and its response. `early` is what the client has sent after the request's head.
pub(super) async fn exchange(
    client: &TcpStream,
    early: &[u8],
    upstream: &TcpStream,
    (head, body): (&[u8], Body),
    meter: &Meter,
    idle: Duration,
) -> Ending {
    let out = async {
        meter.count(Direction::Out, head.len())?;
        write_all(upstream, head).await?;
        send_body(client, early, &mut Borrowed(upstream), body, meter).await?;
        // What comes after the body belongs to no request that was judged: it is read, and goes nowhere.
        discard(client).await?;
        shut(upstream);
        std::future::pending::<Result<(), Ending>>().await
    };
    let back = pump(upstream, client, meter, Direction::In);
    tokio::select! {
        Err(ending) = out => ending,
        done = back => done.err().unwrap_or(Ending::Finished),
        () = meter.idle(idle) => Ending::Idle,
    }
}

/// The same for a request with secrets, over TLS perhaps. Where a value comes back, asterisks take its place.
pub(super) async fn exchange_masked<U: AsyncRead + AsyncWrite>(
    client: &TcpStream,
    early: &[u8],
    (upstream, patterns): (U, &Patterns),
    (head, body): (&[u8], Body),
    meter: &Meter,
    idle: Duration,
) -> Ending {
    let (mut from, mut to) = tokio::io::split(upstream);
    let out = async {
        meter.count(Direction::Out, head.len())?;
        to.write_all(head).await?;
        send_body(client, early, &mut to, body, meter).await?;
        to.flush().await?;
        // The server hears of no end: to some, that of a TLS connection is the end of the request, too.
        discard(client).await?;
        std::future::pending::<Result<(), Ending>>().await
    };
    let back = async {
        let mut scrubber = Scrubber::masking();
        let mut buffer = vec![0; BUFFER];
        let mut clean = Vec::with_capacity(BUFFER);
        loop {
            let length = from.read(&mut buffer).await?;
            meter.count(Direction::In, length)?;
            clean.clear();
            let pass = |bytes: &[u8]| clean.extend_from_slice(bytes);
            match length {
                0 => scrubber.finish(patterns, pass),
                length => scrubber.push(patterns, &buffer[..length], pass),
            }
            write_all(client, &clean).await?;
            meter.touch();
            if length == 0 {
                shut(client);
                return Ok::<(), Ending>(());
            }
        }
    };
    tokio::select! {
        Err(ending) = out => ending,
        done = back => done.err().unwrap_or(Ending::Finished),
        () = meter.idle(idle) => Ending::Idle,
    }
}

/// Writes to a socket of which others read at the same time.
struct Borrowed<'a>(&'a TcpStream);

impl AsyncWrite for Borrowed<'_> {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.0.poll_write_ready(context))?;
            match self.0.try_write(bytes) {
                Err(problem) if problem.kind() == io::ErrorKind::WouldBlock => {}
                result => return Poll::Ready(result),
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        shut(self.0);
        Poll::Ready(Ok(()))
    }
}

/// Passes on exactly the body.
async fn send_body(
    client: &TcpStream,
    early: &[u8],
    upstream: &mut (impl AsyncWrite + Unpin),
    body: Body,
    meter: &Meter,
) -> Result<(), Ending> {
    let mut rest = Rest::new(body);
    let mut buffer = Vec::new();
    let mut fresh = early;
    loop {
        let own = rest.follow(fresh)?;
        meter.count(Direction::Out, own)?;
        upstream.write_all(&fresh[..own]).await?;
        // Kept back it would wait for more that may never come.
        upstream.flush().await?;
        if rest.is_done() {
            return Ok(());
        }
        buffer.resize(BUFFER, 0);
        let length = read(client, &mut buffer).await?;
        if length == 0 {
            return Err(Ending::Broken);
        }
        fresh = &buffer[..length];
    }
}

/// What is still to come of a body.
enum Rest {
    Length(u64),
    Chunks(Chunks),
}

impl Rest {
    fn new(body: Body) -> Self {
        match body {
            Body::Length(length) => Self::Length(length),
            Body::Chunked => Self::Chunks(Chunks::new()),
        }
    }

    fn is_done(&self) -> bool {
        match self {
            Self::Length(length) => *length == 0,
            Self::Chunks(chunks) => chunks.is_done(),
        }
    }

    /// How many of these bytes belong to the body.
    fn follow(&mut self, bytes: &[u8]) -> Result<usize, Ending> {
        match self {
            Self::Length(length) => {
                let own = usize::try_from(*length)
                    .unwrap_or(usize::MAX)
                    .min(bytes.len());
                *length -= own as u64;
                Ok(own)
            }
            Self::Chunks(chunks) => chunks.follow(bytes).map_err(|_| Ending::Malformed),
        }
    }
}

/// One way until its end, which is passed on, too.
async fn pump(
    from: &TcpStream,
    to: &TcpStream,
    meter: &Meter,
    direction: Direction,
) -> Result<(), Ending> {
    let mut buffer = vec![0; BUFFER];
    let mut copied = 0;
    loop {
        let length = read(from, &mut buffer).await?;
        if length == 0 {
            shut(to);
            return Ok(());
        }
        meter.count(direction, length)?;
        write_all(to, &buffer[..length]).await?;
        copied += length as u64;
        // Without a pipe (too many descriptors, say) copying goes on.
        if copied > COPIED_FIRST
            && let Ok(pipe) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)
        {
            drop(buffer);
            let capacity = fcntl_setpipe_size(&pipe.1, PIPE).unwrap_or(BUFFER);
            return splice_on(from, to, (pipe, capacity), meter, direction).await;
        }
    }
}

/// The rest of [`pump`], through a pipe.
async fn splice_on(
    from: &TcpStream,
    to: &TcpStream,
    ((out, into), capacity): ((OwnedFd, OwnedFd), usize),
    meter: &Meter,
    direction: Direction,
) -> Result<(), Ending> {
    loop {
        // The pipe is empty here, so "would block" can only mean the socket.
        let length = moved(from, Interest::READABLE, || piece(from, &into, capacity)).await?;
        if length == 0 {
            shut(to);
            return Ok(());
        }
        meter.count(direction, length)?;
        let mut left = length;
        while left > 0 {
            // The pipe holds something here, so again it can only mean the socket.
            let written = moved(to, Interest::WRITABLE, || piece(&out, to, left)).await?;
            if written == 0 {
                return Err(Ending::Broken);
            }
            meter.touch();
            left -= written;
        }
    }
}

fn piece(from: impl AsFd, to: impl AsFd, length: usize) -> io::Result<usize> {
    let flags = SpliceFlags::MOVE | SpliceFlags::NONBLOCK;
    Ok(splice(from, None, to, None, length, flags)?)
}

/// Repeats an operation on a socket until it does not block.
async fn moved(
    socket: &TcpStream,
    interest: Interest,
    mut operation: impl FnMut() -> io::Result<usize>,
) -> io::Result<usize> {
    loop {
        // A socket that is always ready would otherwise keep its thread from everybody else.
        consume_budget().await;
        match socket.try_io(interest, &mut operation) {
            Err(problem) if problem.kind() == io::ErrorKind::WouldBlock => {
                socket.ready(interest).await?;
            }
            Err(problem) if problem.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

/// Reads what is there; 0 at the end.
pub(super) async fn read(from: &TcpStream, buffer: &mut [u8]) -> io::Result<usize> {
    loop {
        consume_budget().await;
        match from.try_read(buffer) {
            Err(problem) if problem.kind() == io::ErrorKind::WouldBlock => from.readable().await?,
            result => return result,
        }
    }
}

/// Writes all of it.
pub(super) async fn write_all(to: &TcpStream, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        consume_budget().await;
        match to.try_write(bytes) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => bytes = &bytes[written..],
            Err(problem) if problem.kind() == io::ErrorKind::WouldBlock => to.writable().await?,
            Err(problem) => return Err(problem),
        }
    }
    Ok(())
}

/// Reads to the end.
pub(super) async fn discard(from: &TcpStream) -> io::Result<()> {
    let mut buffer = vec![0; 4 << 10];
    while read(from, &mut buffer).await? > 0 {}
    Ok(())
}

/// Says that nothing more comes. A socket that is gone already needs no telling.
pub(super) fn shut(socket: &TcpStream) {
    let _gone_already = rustix::net::shutdown(socket, Shutdown::Write);
}
