//! Packets on a socket of type SOCK_SEQPACKET: bytes and descriptors that arrive together or not at all.

use std::{
    io::{self, IoSlice, IoSliceMut},
    mem::MaybeUninit,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::Path,
};

use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags,
    SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags, SocketType,
};

/// Bytes of a packet at most. A longer one is not taken.
pub const LONGEST: usize = 128 * 1024;
/// Descriptors of a packet at most.
const DESCRIPTORS: usize = 8;
/// Connections that wait to be taken.
const BACKLOG: i32 = 1024;

/// A packet.
#[derive(Debug)]
pub struct Packet {
    /// Its bytes, the first of them if it was too long.
    pub bytes: Vec<u8>,
    /// Its descriptors.
    pub descriptors: Vec<OwnedFd>,
    /// Whether this is all of it.
    pub whole: bool,
}

/// Takes the next packet; `None` at the end of the connection. `buffer` is room of at least [`LONGEST`] bytes.
pub fn receive(socket: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<Option<Packet>> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let received = loop {
        let flags = RecvFlags::CMSG_CLOEXEC;
        let mut parts = [IoSliceMut::new(buffer)];
        match rustix::net::recvmsg(socket, &mut parts, &mut ancillary, flags) {
            // The latter: whoever was there has gone without reading all that was said. It is told once, before what they said
            // last.
            Err(rustix::io::Errno::INTR | rustix::io::Errno::CONNRESET) => {}
            other => break other?,
        }
    };
    let rights = ancillary.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(descriptors) => Some(descriptors),
        _ => None,
    });
    let descriptors: Vec<OwnedFd> = rights.flatten().collect();
    if received.bytes == 0 && descriptors.is_empty() {
        return Ok(None);
    }
    Ok(Some(Packet {
        bytes: buffer[..received.bytes.min(buffer.len())].to_vec(),
        descriptors,
        whole: !received
            .flags
            .intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC),
    }))
}

/// Sends a packet.
pub fn send(
    socket: BorrowedFd<'_>,
    bytes: &[u8],
    descriptors: &[BorrowedFd<'_>],
) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() {
        ancillary.push(SendAncillaryMessage::ScmRights(descriptors));
    }
    let parts = [IoSlice::new(bytes)];
    rustix::io::retry_on_intr(|| {
        rustix::net::sendmsg(socket, &parts, &mut ancillary, SendFlags::NOSIGNAL)
    })?;
    Ok(())
}

/// A socket that listens at `path`, where there must be nothing. It never blocks.
pub fn listen(path: &Path) -> io::Result<OwnedFd> {
    let socket = socket(SocketFlags::CLOEXEC | SocketFlags::NONBLOCK)?;
    rustix::net::bind(&socket, &SocketAddrUnix::new(path)?)?;
    rustix::net::listen(&socket, BACKLOG)?;
    Ok(socket)
}

/// A connection to whoever listens at `path`.
pub fn connect(path: &Path) -> io::Result<OwnedFd> {
    let socket = socket(SocketFlags::CLOEXEC)?;
    rustix::io::retry_on_intr(|| rustix::net::connect(&socket, &SocketAddrUnix::new(path)?))?;
    Ok(socket)
}

/// The user that made the other end.
pub fn peer(socket: BorrowedFd<'_>) -> io::Result<u32> {
    use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
    Ok(getsockopt(&socket.as_fd(), PeerCredentials)?.uid())
}

fn socket(flags: SocketFlags) -> rustix::io::Result<OwnedFd> {
    rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
        let (kind, flags) = (SocketType::SEQPACKET, SocketFlags::CLOEXEC);
        Ok(rustix::net::socketpair(
            AddressFamily::UNIX,
            kind,
            flags,
            None,
        )?)
    }

    #[test]
    fn bytes_and_descriptors_arrive_together() {
        let (one, other) = pair().unwrap();
        let file = std::fs::File::open("/dev/null").unwrap();
        send(one.as_fd(), b"abc", &[file.as_fd(), one.as_fd()]).unwrap();
        drop(one);
        let mut buffer = vec![0; LONGEST];
        let packet = receive(other.as_fd(), &mut buffer).unwrap().unwrap();
        assert_eq!((&*packet.bytes, packet.whole), (&b"abc"[..], true));
        assert_eq!(packet.descriptors.len(), 2);
        drop(packet);
        assert!(receive(other.as_fd(), &mut buffer).unwrap().is_none());
    }

    #[test]
    fn what_was_said_last_is_heard_though_not_all_was_read() {
        let (one, other) = pair().unwrap();
        send(one.as_fd(), b"too late", &[]).unwrap();
        send(other.as_fd(), b"last", &[]).unwrap();
        drop(other);
        let mut buffer = vec![0; LONGEST];
        let packet = receive(one.as_fd(), &mut buffer).unwrap().unwrap();
        assert_eq!(packet.bytes, b"last");
        assert!(receive(one.as_fd(), &mut buffer).unwrap().is_none());
    }

    #[test]
    fn what_is_too_much_is_known_to_be_cut() {
        let (one, other) = pair().unwrap();
        let mut buffer = vec![0; LONGEST];
        send(one.as_fd(), &vec![7; LONGEST + 1], &[]).unwrap();
        let packet = receive(other.as_fd(), &mut buffer).unwrap().unwrap();
        assert_eq!((packet.bytes.len(), packet.whole), (LONGEST, false));
        send(one.as_fd(), &vec![7; LONGEST], &[]).unwrap();
        assert!(receive(other.as_fd(), &mut buffer).unwrap().unwrap().whole);
    }
}
