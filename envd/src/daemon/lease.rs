//! What ends before its client does: a deadline, an owner, or both.

use std::{future, io, os::fd::OwnedFd, time::Duration};

use tokio::{
    io::{Interest, unix::AsyncFd},
    time::{Instant, sleep_until},
};

use super::{message::Ending, watched::watched};

/// The longest time that is counted; what is longer has no end.
const LONGEST: Duration = Duration::from_secs(10 * 365 * 86400);

/// Terms of what is lent. The default has none.
#[derive(Default)]
pub struct Lease {
    deadline: Option<Instant>,
    owner: Option<AsyncFd<OwnedFd>>,
}

impl Lease {
    /// For so long, and as long as the process of this pidfd lives.
    pub fn new(time: Option<Duration>, owner: Option<OwnedFd>) -> io::Result<Self> {
        let time = time.filter(|time| *time < LONGEST);
        let owner = owner.map(|owner| watched(owner, Interest::READABLE));
        Ok(Self {
            deadline: time.map(|time| Instant::now() + time),
            owner: owner.transpose()?,
        })
    }

    /// Waits for the end; for ever, where there are no terms.
    pub async fn ended(&self) -> Ending {
        let time = async {
            match self.deadline {
                Some(deadline) => sleep_until(deadline).await,
                None => future::pending().await,
            }
        };
        let owner = async {
            match &self.owner {
                // An error is no sign of life either.
                Some(owner) => drop(owner.readable().await),
                None => future::pending().await,
            }
        };
        tokio::select! {
            () = time => Ending::Time,
            () = owner => Ending::Owner,
        }
    }
}
