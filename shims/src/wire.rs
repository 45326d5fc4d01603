//! Packets from the new process to the launching one, beyond what PID 1 itself says ([`envd_init::protocol`]): why there
//! is no environment, and descriptors.

use std::{
    io::{IoSlice, IoSliceMut},
    mem::MaybeUninit,
    os::fd::{BorrowedFd, OwnedFd},
};

use envd_init::protocol::{self, Report};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags,
};

use crate::{errno::Errno, error::SetupError};

/// More than any error needs: it names a handful of paths.
const LONGEST: usize = 64 * 1024;

/// What the launching process reads.
#[derive(Debug)]
pub(crate) enum Packet {
    Report(Report),
    Failed(SetupError),
    /// The listener of the recorder, then the new root.
    Descriptors(Vec<OwnedFd>),
    /// The new process is gone.
    End,
}

/// Says why there will be no environment. Nobody may be left to hear it.
pub(crate) fn send_failure(control: BorrowedFd<'_>, error: &SetupError) {
    let mut packet = protocol::FAILED.to_ne_bytes().to_vec();
    if serde_json::to_writer(&mut packet, error).is_ok() {
        packet.truncate(LONGEST);
        let _ = rustix::net::send(control, &packet, SendFlags::NOSIGNAL);
    }
}

/// Hands descriptors over.
pub(crate) fn send_descriptors(
    control: BorrowedFd<'_>,
    descriptors: &[BorrowedFd<'_>],
) -> Result<(), Errno> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    ancillary.push(SendAncillaryMessage::ScmRights(descriptors));
    let packet = protocol::DESCRIPTORS.to_ne_bytes();
    rustix::net::sendmsg(
        control,
        &[IoSlice::new(&packet)],
        &mut ancillary,
        SendFlags::NOSIGNAL,
    )?;
    Ok(())
}

/// Waits for the next packet.
pub(crate) fn receive(control: BorrowedFd<'_>) -> Result<Packet, Errno> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
    let mut short = [0; 1024];
    loop {
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        // Looked at first, taken afterwards: errors may be long, and everything else is a few bytes.
        let peeked = rustix::net::recv(control, &mut short[..], RecvFlags::PEEK | RecvFlags::TRUNC);
        let length = match peeked {
            Err(rustix::io::Errno::INTR) => continue,
            Err(rustix::io::Errno::CONNRESET) => return Ok(Packet::End),
            other => other?.1,
        };
        let mut packet = vec![0; length];
        rustix::net::recvmsg(
            control,
            &mut [IoSliceMut::new(&mut packet)],
            &mut ancillary,
            RecvFlags::CMSG_CLOEXEC,
        )?;
        if packet.is_empty() {
            return Ok(Packet::End);
        }
        match protocol::tag(&packet) {
            Some(protocol::FAILED) => {
                return serde_json::from_slice(&packet[4..])
                    .map(Packet::Failed)
                    .map_err(|_| Errno(libc::EBADMSG));
            }
            Some(protocol::DESCRIPTORS) => {
                let rights = ancillary.drain().filter_map(|message| match message {
                    RecvAncillaryMessage::ScmRights(descriptors) => Some(descriptors),
                    _ => None,
                });
                return Ok(Packet::Descriptors(rights.flatten().collect()));
            }
            _ => {
                return Report::decode(&packet)
                    .map(Packet::Report)
                    .ok_or(Errno(libc::EBADMSG));
            }
        }
    }
}
