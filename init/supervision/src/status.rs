//! What is known of a service, for people.

use std::{fmt, time::Duration};

use crate::Name;

/// Where a service is in its life.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum State {
    /// Nobody wants it.
    Stopped,
    /// Wanted, and waiting for others.
    Waiting,
    /// On its way.
    Starting,
    /// Up.
    Ready,
    /// Up, and reading its configuration again.
    Reloading,
    /// Ended, to be started again after a pause.
    Pausing,
    /// Asked to end.
    Stopping,
    /// A task that has done its work.
    Done,
    /// Ended by itself, as it may.
    Ended,
    /// Not up, and nothing will be done about it until somebody asks.
    Failed,
}

impl State {
    /// Whether others that need the service can be started.
    pub fn is_up(self) -> bool {
        matches!(self, Self::Ready | Self::Reloading | Self::Done)
    }

    /// Whether nothing further will happen unless somebody asks.
    pub fn is_at_rest(self) -> bool {
        !matches!(
            self,
            Self::Waiting | Self::Starting | Self::Pausing | Self::Stopping
        )
    }

    /// Its name: a word in lower case.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stopped => "stopped",
            Self::Waiting => "waiting",
            Self::Starting => "starting",
            Self::Ready => "ready",
            Self::Reloading => "reloading",
            Self::Pausing => "pausing",
            Self::Stopping => "stopping",
            Self::Done => "done",
            Self::Ended => "ended",
            Self::Failed => "failed",
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A service has come into another state.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Report {
    /// Which.
    pub service: Name,
    /// The state.
    pub state: State,
    /// Why, in words: `ready after 0.3 s`. Never empty.
    pub reason: String,
}

/// What is known of a service.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Status {
    /// Which.
    pub service: Name,
    /// Its state.
    pub state: State,
    /// Since when, on the driver's clock.
    pub since: Duration,
    /// Why, in words.
    pub reason: String,
    /// Its process, as the driver numbers it, while there is one.
    pub pid: Option<u32>,
    /// The process that it says is its main one, as it numbers it itself. Only shown: signals go to the process that was started.
    pub main_pid: Option<u32>,
    /// What it last said of itself.
    pub text: Option<String>,
    /// How often it was started again since somebody asked for it.
    pub restarts: u32,
}

/// A time as people say it: `300 ms`, `1.5 s`, `3 min`.
pub(crate) fn spoken(time: Duration) -> String {
    let milliseconds = time.as_millis();
    match milliseconds {
        0..1000 => format!("{milliseconds} ms"),
        1000..120_000 => {
            let tenths = milliseconds / 100;
            match tenths % 10 {
                0 => format!("{} s", tenths / 10),
                rest => format!("{}.{rest} s", tenths / 10),
            }
        }
        _ => format!("{} min", milliseconds / 60_000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_said_as_people_do() {
        for (milliseconds, said) in [
            (0, "0 ms"),
            (999, "999 ms"),
            (1000, "1 s"),
            (1549, "1.5 s"),
            (90_000, "90 s"),
            (600_000, "10 min"),
        ] {
            assert_eq!(spoken(Duration::from_millis(milliseconds)), said);
        }
    }
}
