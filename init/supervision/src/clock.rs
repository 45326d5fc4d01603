//! The time that all who are to stop have together.

use std::time::Duration;

/// Kept back at the end for what is killed to be gone: at most this, and at most a tenth.
const RESERVE: Duration = Duration::from_secs(1);

/// The time that all who are to stop have together.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    within: Duration,
    /// From here on nobody waits for another: a service that was slow must not cost those below it their chance to end well.
    rush: Duration,
    /// Here whatever is left is killed.
    kill: Duration,
    /// Here nobody waits any longer.
    end: Duration,
    killed: bool,
}

impl Clock {
    pub fn new(now: Duration, within: Duration) -> Self {
        let end = now.saturating_add(within);
        Self {
            within,
            rush: now.saturating_add(within / 4 * 3),
            kill: end.saturating_sub(RESERVE.min(within / 10)),
            end,
            killed: false,
        }
    }

    /// How long all had.
    pub fn within(&self) -> Duration {
        self.within
    }

    pub fn ends_before(&self, other: &Self) -> bool {
        self.end < other.end
    }

    pub fn is_rushed(&self, now: Duration) -> bool {
        self.rush <= now
    }

    /// Whether it is time to kill, which is said once.
    pub fn take_kill(&mut self, now: Duration) -> bool {
        let is_time = self.kill <= now && !self.killed;
        self.killed |= is_time;
        is_time
    }

    pub fn is_over(&self, now: Duration) -> bool {
        self.end <= now
    }

    /// What is still to come of it.
    pub fn timers(&self, now: Duration) -> impl Iterator<Item = Duration> {
        [self.rush, self.kill, self.end]
            .into_iter()
            .filter(move |time| *time > now)
    }
}
