//! Packets from PID 1 to the process that launched it for one command.

use std::{
    io::IoSliceMut,
    mem::MaybeUninit,
    os::fd::{BorrowedFd, OwnedFd},
};

use envd_init::protocol::{self, Failure, Report};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags};

use crate::errno::Errno;

/// What the launching process reads.
#[derive(Debug)]
pub(crate) enum Packet {
    Report(Report),
    Failed(Failure),
    /// The listener of the recorder, then the new root.
    Descriptors(Vec<OwnedFd>),
    /// The new process is gone.
    End,
}

/// Waits for the next packet.
pub(crate) fn receive(control: BorrowedFd<'_>) -> Result<Packet, Errno> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
    let mut buffer = [0; 64];
    let (length, descriptors) = loop {
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let mut parts = [IoSliceMut::new(&mut buffer)];
        let flags = RecvFlags::CMSG_CLOEXEC;
        let length = match rustix::net::recvmsg(control, &mut parts, &mut ancillary, flags) {
            // The latter is told once, before what was said last: something has come too late to be read.
            Err(rustix::io::Errno::INTR | rustix::io::Errno::CONNRESET) => continue,
            other => other?.bytes,
        };
        let rights = ancillary.drain().filter_map(|message| match message {
            RecvAncillaryMessage::ScmRights(descriptors) => Some(descriptors),
            _ => None,
        });
        break (length, rights.flatten().collect());
    };
    let packet = &buffer[..length];
    Ok(match protocol::tag(packet) {
        None => Packet::End,
        Some(protocol::DESCRIPTORS) => Packet::Descriptors(descriptors),
        Some(_) => match (Report::decode(packet), Failure::decode(packet)) {
            (Some(report), _) => Packet::Report(report),
            (_, Some(failure)) => Packet::Failed(failure),
            _ => return Err(Errno(libc::EBADMSG)),
        },
    })
}
