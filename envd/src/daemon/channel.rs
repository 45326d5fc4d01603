//! One client's connection, in the daemon: never blocks, and takes no memory while nothing is said.

use std::{
    cell::{Cell, RefCell},
    io,
    os::fd::{AsFd as _, BorrowedFd, OwnedFd},
    time::Duration,
};

use tokio::io::{Interest, unix::AsyncFd};

use super::{
    message,
    packet::{self, LONGEST, Packet},
    watched::watched,
};

/// How long a client may leave what it is told unread.
const PATIENCE: Duration = Duration::from_secs(5);

thread_local! {
    /// Where packets are read into. Every connection uses the same: nothing waits between reading and taking out.
    static BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// A connection.
pub struct Channel {
    socket: AsyncFd<OwnedFd>,
    /// Nothing was read yet: whoever connects has mostly asked by the time that it is let in.
    fresh: Cell<bool>,
}

impl Channel {
    /// Of a socket.
    pub fn new(socket: OwnedFd) -> io::Result<Self> {
        rustix::io::ioctl_fionbio(&socket, true)?;
        Ok(Self {
            socket: watched(socket, Interest::READABLE | Interest::WRITABLE)?,
            fresh: Cell::new(true),
        })
    }

    /// The user at the other end.
    pub fn peer(&self) -> io::Result<u32> {
        packet::peer(self.socket.as_fd())
    }

    /// The next packet; `None` at the end.
    pub async fn receive(&self) -> io::Result<Option<Packet>> {
        let read = |socket: &AsyncFd<OwnedFd>| {
            BUFFER.with_borrow_mut(|buffer| {
                buffer.resize(LONGEST, 0);
                packet::receive(socket.as_fd(), buffer)
            })
        };
        if self.fresh.replace(false) {
            match read(&self.socket) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                received => return received,
            }
        }
        loop {
            let mut ready = self.socket.readable().await?;
            let received = ready.try_io(read);
            if let Ok(received) = received {
                return received;
            }
        }
    }

    /// Says something. A client that does not listen is given up.
    pub async fn send(&self, bytes: &[u8]) -> io::Result<()> {
        let (bytes, memory) = message::fitting(bytes)?;
        let descriptors: Vec<_> = memory.iter().map(|memory| memory.as_fd()).collect();
        self.send_packet(&bytes, &descriptors).await
    }

    /// Sends a packet as it is.
    pub async fn send_packet(
        &self,
        bytes: &[u8],
        descriptors: &[BorrowedFd<'_>],
    ) -> io::Result<()> {
        let sent = async {
            loop {
                let mut ready = self.socket.writable().await?;
                let sent = ready.try_io(|socket| packet::send(socket.as_fd(), bytes, descriptors));
                if let Ok(sent) = sent {
                    return sent;
                }
            }
        };
        match tokio::time::timeout(PATIENCE, sent).await {
            Ok(sent) => sent,
            Err(_) => Err(io::ErrorKind::TimedOut.into()),
        }
    }

    /// Waits for the client to hang up.
    pub async fn hung_up(&self) {
        use rustix::net::{RecvFlags, recv};
        loop {
            let Ok(mut ready) = self.socket.readable().await else {
                return;
            };
            let looked = ready.try_io(|socket| {
                let mut byte = [0];
                let (length, _) = recv(socket, &mut byte[..], RecvFlags::PEEK)?;
                Ok(length)
            });
            match looked {
                // It has more to ask, and waits for its turn.
                Ok(Ok(1..)) => std::future::pending().await,
                Ok(_) => return,
                Err(_) => {}
            }
        }
    }

    /// Says something if the client has room for it.
    pub fn try_send(&self, bytes: &[u8]) {
        let _ = packet::send(self.socket.as_fd(), bytes, &[]);
    }
}
