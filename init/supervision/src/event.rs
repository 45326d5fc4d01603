//! What a supervisor is told, and what it tells.

use std::{fmt, time::Duration};

use crate::{ExitStatus, Name, Report, notify::Notice};

/// One life of a service, from its start to its end. What is said of an earlier life is ignored.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Run {
    /// Which service.
    pub service: Name,
    /// Counted from 1 for each service.
    pub number: u64,
}

/// What has happened.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Event {
    /// Somebody wants these services, and so all that they need.
    StartWanted(Vec<Name>),
    /// Somebody wants these services no longer, and so nothing that needs them either.
    StopWanted {
        /// Which; names of no service are ignored.
        services: Vec<Name>,
        /// How long all of that may take.
        within: Duration,
    },
    /// Everything has to end, and nothing is started any more.
    Shutdown {
        /// How long it may take.
        within: Duration,
    },
    /// What [`Action::Start`] asked for has been done.
    Started {
        /// Of which life.
        run: Run,
        /// The process, for people.
        pid: u32,
    },
    /// It could not be done.
    StartFailed {
        /// Of which life.
        run: Run,
        /// Why, in words.
        why: String,
    },
    /// A probe succeeded, or the readiness descriptor was written to.
    Ready {
        /// Of which life.
        run: Run,
    },
    /// A probe did not succeed.
    ProbeFailed {
        /// Of which life.
        run: Run,
        /// Why, in words.
        why: String,
    },
    /// The service has said something on its notification socket.
    Notified {
        /// Of which life.
        run: Run,
        /// What.
        notices: Vec<Notice>,
    },
    /// The process has ended.
    Exited {
        /// Of which life.
        run: Run,
        /// How.
        status: ExitStatus,
    },
    /// Time has passed. Harmless at any moment.
    Tick,
}

/// What to do.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Action {
    /// Start the service's process, and say [`Event::Started`] or [`Event::StartFailed`], later [`Event::Exited`].
    Start(Run),
    /// Find out once whether the service accepts connections, or its command succeeds, and say [`Event::Ready`] or
    /// [`Event::ProbeFailed`].
    Probe(Run),
    /// Send the signal to the service's process, and to what it has started as far as that is one group.
    Signal {
        /// Of which life.
        run: Run,
        /// Which.
        signal: crate::Signal,
    },
    /// End the process and all that it has started, without asking it. One that is still being started must not come up.
    Kill(Run),
    /// Say [`Event::Tick`] when it is this time. There is one timer: the last call holds.
    ArmTimer(Duration),
    /// Tell people.
    Report(Report),
    /// All that was to stop has stopped, or its time is over.
    StopFinished {
        /// Those that were killed or are still there.
        slow: Vec<Slow>,
    },
}

/// A service that took too long to end.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Slow {
    /// Which.
    pub service: Name,
    /// In words: `did not end within 10 s of SIGTERM and was killed`.
    pub reason: String,
    /// Whether it has ended by now. One that has not is stuck in the kernel, or its driver is.
    pub ended: bool,
}

impl fmt::Display for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}#{}", self.service, self.number)
    }
}
