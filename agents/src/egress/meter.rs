//! How much passed, when something last did, and whether the environment may transfer more.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::time::Instant;

use super::event::Ending;

/// What is left of the bytes that an environment may transfer.
#[derive(Debug)]
pub(super) struct Budget(Option<AtomicU64>);

impl Budget {
    pub(super) fn new(total: Option<u64>) -> Self {
        Self(total.map(AtomicU64::new))
    }

    /// Whether nothing is left.
    pub(super) fn is_spent(&self) -> bool {
        self.0.as_ref().is_some_and(|left| left.load(Relaxed) == 0)
    }

    /// Takes `bytes` off; false where less was left, which is then gone.
    fn spend(&self, bytes: u64) -> bool {
        let Some(left) = &self.0 else { return true };
        left.fetch_update(Relaxed, Relaxed, |left| Some(left.saturating_sub(bytes)))
            .is_ok_and(|before| before >= bytes)
    }
}

/// Which way bytes go.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Direction {
    /// From the environment.
    Out,
    /// Into it.
    In,
}

/// One connection's counters.
#[derive(Debug)]
pub(super) struct Meter {
    accepted: Instant,
    sent: AtomicU64,
    received: AtomicU64,
    /// Milliseconds after `accepted`.
    last: AtomicU64,
    budget: Arc<Budget>,
}

impl Meter {
    pub(super) fn new(budget: Arc<Budget>) -> Self {
        Self {
            accepted: Instant::now(),
            sent: AtomicU64::new(0),
            received: AtomicU64::new(0),
            last: AtomicU64::new(0),
            budget,
        }
    }

    /// Bytes from the environment and into it.
    pub(super) fn counted(&self) -> (u64, u64) {
        (self.sent.load(Relaxed), self.received.load(Relaxed))
    }

    /// Since the connection was accepted.
    pub(super) fn age(&self) -> Duration {
        self.accepted.elapsed()
    }

    /// Notes that something happened.
    pub(super) fn touch(&self) {
        let now = u64::try_from(self.age().as_millis()).unwrap_or(u64::MAX);
        self.last.store(now, Relaxed);
    }

    /// Counts bytes that are about to be passed on; an error where they may not be.
    pub(super) fn count(&self, direction: Direction, bytes: usize) -> Result<(), Ending> {
        let bytes = bytes as u64;
        if !self.budget.spend(bytes) {
            return Err(Ending::Budget);
        }
        match direction {
            Direction::Out => self.sent.fetch_add(bytes, Relaxed),
            Direction::In => self.received.fetch_add(bytes, Relaxed),
        };
        self.touch();
        Ok(())
    }

    /// Returns once nothing was counted for `limit`.
    pub(super) async fn idle(&self, limit: Duration) {
        loop {
            let last = Duration::from_millis(self.last.load(Relaxed));
            // A limit beyond the clock's end is none.
            let Some(end) = self.accepted.checked_add(last.saturating_add(limit)) else {
                return std::future::pending().await;
            };
            if Instant::now() >= end {
                return;
            }
            tokio::time::sleep_until(end).await;
        }
    }
}
