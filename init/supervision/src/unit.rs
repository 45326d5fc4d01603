//! A service and where it is in its life.

use std::time::Duration;

use crate::{Run, Service, State, Status, restart::History};

/// A service as the supervisor keeps it.
pub(crate) struct Unit {
    pub service: Service,
    /// Places of what it needs, of what it is only after, of those that need it, and of those that stop before it does.
    pub needs: Vec<usize>,
    pub after: Vec<usize>,
    pub needed_by: Vec<usize>,
    pub followers: Vec<usize>,
    /// Whether it should be up.
    pub wanted: bool,
    /// Why it counts as failed, not as stopped, when it has come to rest.
    pub verdict: Option<String>,
    pub phase: Phase,
    /// Its latest life.
    pub run: u64,
    pub pid: Option<u32>,
    pub main_pid: Option<u32>,
    pub text: Option<String>,
    pub reloading: bool,
    pub history: History,
    pub restarts: u32,
    pub since: Duration,
    pub reason: String,
}

/// Where a service is in its life.
pub(crate) enum Phase {
    Stopped,
    /// For others, or for its turn.
    Waiting,
    /// The driver was told to start it.
    Launching(Attempt),
    /// It runs and is not ready.
    Starting(Attempt),
    Ready {
        since: Duration,
        /// When it must have said that it is alive.
        watchdog: Option<Duration>,
    },
    /// It ended, and is started again then.
    Pausing {
        until: Duration,
    },
    /// It was sent a signal.
    Ending(Ending),
    Done,
    Ended,
    Failed,
}

/// An attempt to become ready.
pub(crate) struct Attempt {
    pub began: Duration,
    /// When it is given up.
    pub deadline: Option<Duration>,
    /// When to look next whether it is ready.
    pub probe: Option<Duration>,
    /// The pause before the look after that.
    pub pause: Duration,
    /// Why the last look failed.
    pub failure: Option<String>,
}

/// The end that was asked for.
pub(crate) struct Ending {
    pub asked: Duration,
    /// When it is killed; `None` once it was.
    pub kill: Option<Duration>,
    /// What the service was asked with, for people: `SIGTERM`.
    pub with: String,
    /// What it had done wrong; nothing when it is only to stop.
    pub fault: Option<String>,
    /// How long it had been ready before.
    pub ready: Duration,
}

impl Unit {
    pub fn new(service: Service) -> Self {
        Self {
            service,
            needs: Vec::new(),
            after: Vec::new(),
            needed_by: Vec::new(),
            followers: Vec::new(),
            wanted: false,
            verdict: None,
            phase: Phase::Stopped,
            run: 0,
            pid: None,
            main_pid: None,
            text: None,
            reloading: false,
            history: History::default(),
            restarts: 0,
            since: Duration::ZERO,
            reason: "nobody has asked for it".to_owned(),
        }
    }

    /// Its present life.
    pub fn run(&self) -> Run {
        Run {
            service: self.service.name.clone(),
            number: self.run,
        }
    }

    pub fn state(&self) -> State {
        match self.phase {
            Phase::Stopped => State::Stopped,
            Phase::Waiting => State::Waiting,
            Phase::Launching(_) | Phase::Starting(_) => State::Starting,
            Phase::Ready { .. } if self.reloading => State::Reloading,
            Phase::Ready { .. } => State::Ready,
            Phase::Pausing { .. } => State::Pausing,
            Phase::Ending(_) => State::Stopping,
            Phase::Done => State::Done,
            Phase::Ended => State::Ended,
            Phase::Failed => State::Failed,
        }
    }

    pub fn is_up(&self) -> bool {
        matches!(self.phase, Phase::Ready { .. } | Phase::Done)
    }

    /// Whether it has a process, or is about to.
    pub fn is_alive(&self) -> bool {
        matches!(
            self.phase,
            Phase::Launching(_) | Phase::Starting(_) | Phase::Ready { .. } | Phase::Ending(_)
        )
    }

    /// Whether others that are only after it have to wait. One that fails again and again does not hold them up for ever.
    pub fn is_on_its_way(&self) -> bool {
        self.wanted && !self.is_up() && !matches!(self.phase, Phase::Pausing { .. })
    }

    /// When something has to be done about it, unless something happens before.
    pub fn timers(&self) -> impl Iterator<Item = Duration> {
        let (first, second) = match &self.phase {
            Phase::Launching(attempt) | Phase::Starting(attempt) => {
                (attempt.deadline, attempt.probe)
            }
            Phase::Ready { watchdog, .. } => (*watchdog, None),
            Phase::Pausing { until } => (Some(*until), None),
            Phase::Ending(ending) => (ending.kill, None),
            _ => (None, None),
        };
        first.into_iter().chain(second)
    }

    pub fn status(&self) -> Status {
        Status {
            service: self.service.name.clone(),
            state: self.state(),
            since: self.since,
            reason: self.reason.clone(),
            pid: self.pid,
            main_pid: self.main_pid,
            text: self.text.clone(),
            restarts: self.restarts,
        }
    }
}
