//! The socket on which a service says how it is: `NOTIFY_SOCKET`, a datagram socket in a directory that only its owner may enter.

use std::{
    io::{self, IoSliceMut},
    os::fd::{AsRawFd as _, RawFd},
    path::{Path, PathBuf},
};

use envd_supervision::notify::{self, Notice};
use nix::sys::socket::{
    ControlMessageOwned, MsgFlags, UnixAddr, recvmsg, setsockopt, sockopt::PassCred,
};
use tokio::{io::Interest, net::UnixDatagram};

/// Bytes that a socket's path may have (unix(7)), its final NUL not counted.
const PATH_MAX: usize = 107;

/// A service's notification socket. Its file goes with it.
#[derive(Debug)]
pub(super) struct Notification {
    socket: UnixDatagram,
    path: PathBuf,
    /// Whose messages are believed: our own user's. An environment has no other.
    uid: u32,
}

impl Notification {
    /// Makes the socket at `path`, in place of the one that an earlier life had.
    pub fn bind(path: PathBuf) -> io::Result<Self> {
        let length = path.as_os_str().len();
        if length > PATH_MAX {
            return Err(io::Error::other(format!(
                "the notification socket's path has {length} bytes, {PATH_MAX} are possible: {}",
                path.display()
            )));
        }
        remove(&path)?;
        let socket = UnixDatagram::bind(&path)?;
        setsockopt(&socket, PassCred, &true)?;
        let uid = rustix::process::getuid().as_raw();
        Ok(Self { socket, path, uid })
    }

    /// The path, for the service.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What the service says next.
    pub async fn next(&self) -> io::Result<Vec<Notice>> {
        loop {
            let message = self
                .socket
                .async_io(Interest::READABLE, || receive(&self.socket))
                .await?;
            let believed = message.uid.is_some_and(|uid| uid == self.uid);
            if believed {
                return Ok(notify::parse(&message.bytes));
            }
            tracing::warn!(path = %self.path.display(), uid = ?message.uid, "a stranger's notification is ignored");
        }
    }
}

impl Drop for Notification {
    fn drop(&mut self) {
        // One that somebody else removed is gone, too.
        let _ = remove(&self.path);
    }
}

fn remove(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

struct Message {
    bytes: Vec<u8>,
    /// Who sent it, as the kernel says.
    uid: Option<u32>,
}

/// Takes one message, and lets go of descriptors that came with it: nobody keeps any for a service.
fn receive(socket: &UnixDatagram) -> io::Result<Message> {
    let mut bytes = vec![0; notify::MESSAGE_MAX];
    // Room for as many descriptors as the kernel lets through (SCM_MAX_FD), so that the sender's identity is never cut off.
    let mut space = nix::cmsg_space!(nix::sys::socket::UnixCredentials, [RawFd; 253]);
    let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_CMSG_CLOEXEC;
    let (length, uid) = {
        let mut vectors = [IoSliceMut::new(&mut bytes)];
        let received =
            recvmsg::<UnixAddr>(socket.as_raw_fd(), &mut vectors, Some(&mut space), flags)?;
        let mut uid = None;
        for message in received.cmsgs()? {
            match message {
                ControlMessageOwned::ScmCredentials(credentials) => uid = Some(credentials.uid()),
                ControlMessageOwned::ScmRights(descriptors) => {
                    for descriptor in descriptors {
                        let _ = nix::unistd::close(descriptor);
                    }
                }
                _ => {}
            }
        }
        (received.bytes, uid)
    };
    bytes.truncate(length);
    Ok(Message { bytes, uid })
}

#[cfg(test)]
mod tests {
    use std::os::{fd::AsFd as _, unix::net};

    use nix::sys::socket::{ControlMessage, sendmsg};

    use super::*;

    #[tokio::test]
    async fn messages_are_heard_and_their_descriptors_closed() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("db");
        let notification = Notification::bind(path.clone()).unwrap();
        let sender = net::UnixDatagram::unbound().unwrap();
        let (reader, writer) = io::pipe().unwrap();
        let descriptors = [writer.as_fd().as_raw_fd()];
        let address = UnixAddr::new(&path).unwrap();
        sendmsg(
            sender.as_raw_fd(),
            &[io::IoSlice::new(b"READY=1\nSTATUS=up")],
            &[ControlMessage::ScmRights(&descriptors)],
            MsgFlags::empty(),
            Some(&address),
        )
        .unwrap();
        drop(writer);
        let said = notification.next().await.unwrap();
        assert_eq!(said, [Notice::Ready, Notice::Status("up".into())]);
        // Were the descriptor still open here, this would wait for ever.
        let mut rest = Vec::new();
        io::Read::read_to_end(&mut { reader }, &mut rest).unwrap();
        drop(notification);
        assert!(!path.exists(), "the socket's file goes with it");
    }

    #[tokio::test]
    async fn a_path_that_no_socket_can_have_is_refused_by_its_length() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x".repeat(120));
        let error = Notification::bind(path).unwrap_err().to_string();
        assert!(error.contains("107 are possible"), "{error}");
    }
}
