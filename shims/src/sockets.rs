//! Sockets of an environment's network namespace, to connect to what listens inside.
//!
//! A socket keeps the namespace in which it was made. PID 1 makes one and hands it out, and whoever has it connects it to
//! the environment's loopback, from outside: nothing inside forwards a byte, could be stopped or listen in, and whatever is
//! inside cannot have such a socket lead anywhere else than into its own namespace, for that is the only one there is for it.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use envd_init::protocol::{self, Failure};
use rustix::net::{AddressFamily, SendFlags, SocketType, sockopt};

use crate::{
    launch::connection,
    resident::{Resident, receive, send_packet},
};

/// A version of the Internet Protocol.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum IpVersion {
    /// 127.0.0.1
    Four,
    /// ::1
    Six,
}

/// A socket that PID 1 was asked for. Readable when it has answered, or is gone.
#[derive(Debug)]
pub struct AskedSocket {
    connection: OwnedFd,
    version: IpVersion,
}

impl AsFd for AskedSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.connection.as_fd()
    }
}

impl Resident {
    /// Asks for a TCP socket of its network namespace, connected to nothing.
    ///
    /// An environment that shares the machine's network would give one that leads to the machine's own servers: not to be
    /// asked then.
    pub fn ask_for_socket(&self, version: IpVersion) -> io::Result<AskedSocket> {
        let (ours, theirs) = connection().map_err(io::Error::other)?;
        rustix::io::ioctl_fionbio(&ours, true)?;
        let number: u32 = match version {
            IpVersion::Four => 4,
            IpVersion::Six => 6,
        };
        send_packet(
            self.control.as_fd(),
            protocol::SOCKET,
            &number.to_ne_bytes(),
            &[theirs.as_fd()],
            // Somebody inside may hold PID 1 up, which nobody here is to wait for.
            SendFlags::NOSIGNAL | SendFlags::DONTWAIT,
        )
        .map_err(|error| io::Error::from_raw_os_error(error.0))?;
        Ok(AskedSocket {
            connection: ours,
            version,
        })
    }
}

impl AskedSocket {
    /// The socket. `WouldBlock` as long as PID 1 has not answered.
    pub fn take(&self) -> io::Result<OwnedFd> {
        let received = receive(self.connection.as_fd());
        let (packet, mut descriptors) =
            received.map_err(|error| io::Error::from_raw_os_error(error.0))?;
        if let Some(failure) = Failure::decode(&packet) {
            return Err(io::Error::from_raw_os_error(failure.errno));
        }
        let socket = match (protocol::tag(&packet), descriptors.pop()) {
            (Some(protocol::DESCRIPTORS), Some(socket)) => socket,
            _ => return Err(io::ErrorKind::ConnectionReset.into()),
        };
        let family = match self.version {
            IpVersion::Four => AddressFamily::INET,
            IpVersion::Six => AddressFamily::INET6,
        };
        let is_asked_for = sockopt::socket_domain(&socket)? == family
            && sockopt::socket_type(&socket)? == SocketType::STREAM;
        if !is_asked_for {
            return Err(io::ErrorKind::InvalidData.into());
        }
        Ok(socket)
    }
}
