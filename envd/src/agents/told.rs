//! How far realising is, told to a call's listener.

use envd_agents::service::{Event, Listener};

use crate::progress::{Phase, Progress};

/// Tells a call's listener how far realising is.
pub(super) struct Told<'a>(pub(super) &'a dyn Listener);

impl Told<'_> {
    fn step(&self, phase: Phase, done: u64, total: Option<u64>) {
        let message = match phase {
            Phase::Index => "reading the lists of packages",
            Phase::Download => "fetching packages",
            Phase::Unpack => "unpacking packages",
            Phase::Configure => "configuring packages",
            Phase::Finish => "finishing",
        };
        self.0.hear(Event::Step {
            message,
            done,
            total,
        });
    }
}

impl Progress for Told<'_> {
    fn started(&self, phase: Phase, total: u64) {
        self.step(phase, 0, Some(total));
    }

    fn advance(&self, _: Phase, _: u64) {}

    fn finished(&self, _: Phase) {}
}
