//! Bytes from one socket to the other, counted.
//!
//! The first of them are copied; where more come they are spliced through a pipe, which moves pages instead of bytes
//! (splice(2)) and is what keeps a large download near the speed of a direct one.

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
    time::Duration,
};

use rustix::{
    net::Shutdown,
    pipe::{PipeFlags, SpliceFlags, fcntl_setpipe_size, pipe_with, splice},
};
use tokio::{io::Interest, net::TcpStream, task::consume_budget};

use super::{
    chunks::Chunks,
    event::Ending,
    http::Body,
    meter::{Direction, Meter},
};

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
        send_body(client, early, upstream, body, meter).await?;
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

/// Passes on exactly the body.
async fn send_body(
    client: &TcpStream,
    early: &[u8],
    upstream: &TcpStream,
    body: Body,
    meter: &Meter,
) -> Result<(), Ending> {
    let mut rest = Rest::new(body);
    let mut buffer = Vec::new();
    let mut fresh = early;
    loop {
        let own = rest.follow(fresh)?;
        meter.count(Direction::Out, own)?;
        write_all(upstream, &fresh[..own]).await?;
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
