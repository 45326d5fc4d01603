//! How a process ended.

use std::fmt;

use crate::Signal;

/// How a process ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ExitStatus {
    /// By itself, with this code.
    Code(u8),
    /// By this signal.
    Signal(Signal),
}

impl ExitStatus {
    /// Whether all was well.
    pub fn success(self) -> bool {
        self == Self::Code(0)
    }

    /// From the status that wait(2) gives. `None` when the process has stopped or continued, not ended.
    pub fn from_wait(status: i32) -> Option<Self> {
        match status & 0x7f {
            0 => Some(Self::Code((status >> 8) as u8)),
            0x7f => None,
            signal => Signal::from_number(signal).map(Self::Signal),
        }
    }
}

impl fmt::Display for ExitStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code(code) => write!(f, "exit status {code}"),
            Self::Signal(signal) => write!(f, "ended by {signal}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_wait_says_is_understood() {
        assert_eq!(ExitStatus::from_wait(0x0700), Some(ExitStatus::Code(7)));
        assert_eq!(
            ExitStatus::from_wait(9),
            Some(ExitStatus::Signal(Signal::KILL))
        );
        // With a core.
        assert_eq!(
            ExitStatus::from_wait(6 | 0x80),
            Some(ExitStatus::Signal(Signal::ABORT))
        );
        assert_eq!(ExitStatus::from_wait(0x137f), None, "stopped");
        assert_eq!(ExitStatus::from_wait(0xffff), None, "continued");
    }
}
