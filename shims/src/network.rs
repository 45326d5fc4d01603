//! The private network namespace: a loopback device that is up.

use rustix::net::{AddressFamily, SocketFlags, SocketType};

use crate::{errno::Errno, sys};

/// Brings `lo` up. It is the only device of a new namespace, and down.
pub(crate) fn loopback_up() -> Result<(), Errno> {
    let socket = rustix::net::socket_with(
        AddressFamily::INET,
        SocketType::DGRAM,
        SocketFlags::CLOEXEC,
        None,
    )?;
    Ok(sys::loopback_up(std::os::fd::AsFd::as_fd(&socket))?)
}
