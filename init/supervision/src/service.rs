//! What a supervisor has to know about a service. What is run, and where, is its driver's business.

use std::time::Duration;

use crate::{Name, Restart, Signal};

/// How a service shows that it can be used.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Readiness {
    /// By having been started.
    #[default]
    Started,
    /// By `READY=1` on the socket that `NOTIFY_SOCKET` names (sd_notify(3)).
    Notify,
    /// By writing to this descriptor, or closing it. The driver watches it.
    Descriptor(u32),
    /// By accepting connections on this port of the loopback interface.
    Tcp(u16),
    /// By the success of a command that the driver runs when it is told to probe.
    Command,
    /// By ending with status 0: it is a task that others wait for, not a server.
    Exit,
}

impl Readiness {
    /// Whether the driver has to try, again and again, to find out.
    pub fn is_probed(self) -> bool {
        matches!(self, Self::Tcp(_) | Self::Command)
    }
}

/// A service.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Service {
    /// Its name.
    pub name: Name,
    /// Must be up before it is started, are started with it, and take it with them when they fail for good or are stopped.
    pub needs: Vec<Name>,
    /// Where these are on their way up, it waits for them; otherwise they do not concern it.
    pub after: Vec<Name>,
    /// How it shows that it can be used.
    pub readiness: Readiness,
    /// What happens when it ends.
    pub restart: Restart,
    /// What it is asked to end with.
    pub stop_signal: Signal,
    /// How long after that it is killed.
    pub stop_timeout: Duration,
    /// How long it may take to be ready; `None` for as long as it likes.
    pub start_timeout: Option<Duration>,
    /// Once ready, it has to say `WATCHDOG=1` at least this often.
    pub watchdog: Option<Duration>,
}

impl Service {
    /// A service of this name with the defaults: nothing needed, ready when started, started again on failure, SIGTERM, ten
    /// seconds to end, a minute to be ready.
    pub fn new(name: Name) -> Self {
        Self {
            name,
            needs: Vec::new(),
            after: Vec::new(),
            readiness: Readiness::default(),
            restart: Restart::default(),
            stop_signal: Signal::TERMINATE,
            stop_timeout: Duration::from_secs(10),
            start_timeout: Some(Duration::from_secs(60)),
            watchdog: None,
        }
    }

    /// What makes this service impossible to supervise by itself, if anything.
    pub(crate) fn problem(&self) -> Option<&'static str> {
        use crate::Policy;
        match self.readiness {
            Readiness::Descriptor(0..=2) => {
                Some("its readiness descriptor is one of its standard ones; use 3 or above")
            }
            Readiness::Tcp(0) => Some("its readiness port is 0; use 1 or above"),
            Readiness::Exit if self.restart.policy == Policy::Always => Some(
                "it is ready when it ends, and is to be started again whenever it ends; use another restart policy",
            ),
            _ if self.watchdog == Some(Duration::ZERO) => Some("its watchdog has no time at all"),
            _ => None,
        }
    }
}
