//! Descriptors that are waited for.

use std::{io, os::fd::OwnedFd};

use tokio::io::{Interest, unix::AsyncFd};

/// Waits for a descriptor that is owned.
///
/// Its maker is deprecated because it takes anything that has a number, whether or not the descriptor behind it stays open.
/// One that is owned does.
#[expect(deprecated, reason = "an owned descriptor stays open")]
pub fn watched(descriptor: OwnedFd, interest: Interest) -> io::Result<AsyncFd<OwnedFd>> {
    AsyncFd::with_interest(descriptor, interest)
}
