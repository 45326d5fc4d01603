//! How a command ended, as an exit code and in words.

use std::str::FromStr as _;

use envd_agents::service::command::{State, Status};
use nix::sys::signal::Signal;

/// The exit code when the time is over, as timeout(1) has it.
pub(super) const TIME_OVER: u8 = 124;
/// The exit code of what SIGKILL ended.
const KILLED: u8 = 137;

/// As shells count: the code, or 128 and the signal's number. 0 of one that runs.
pub(super) fn exit_code(status: &Status) -> u8 {
    match status.state {
        State::Running => 0,
        State::Exited => status.exit_code.unwrap_or_default() as u8,
        State::Signalled => {
            let name = status.signal.as_deref().unwrap_or_default();
            let number = match name.strip_prefix("signal ") {
                Some(number) => number.parse().ok(),
                None => Signal::from_str(name).ok().map(|signal| signal as i32),
            };
            number.map_or(KILLED, |number| 128_u8.wrapping_add(number as u8))
        }
        State::TimedOut => TIME_OVER,
        State::OutOfMemory | State::OutOfSpace => KILLED,
    }
}

/// For people.
pub(super) fn words(status: &Status) -> String {
    match status.state {
        State::Running => "running".to_owned(),
        State::Exited => format!("exited with {}", status.exit_code.unwrap_or_default()),
        State::Signalled => {
            let signal = status.signal.as_deref().unwrap_or("a signal");
            format!("ended by {signal}")
        }
        State::TimedOut => "killed: its time was over".to_owned(),
        State::OutOfMemory => "killed: out of memory".to_owned(),
        State::OutOfSpace => "killed: out of disk space".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_an_exit_code_as_shells_have_it() {
        assert_eq!(exit_code(&Status::exited(3)), 3);
        assert_eq!(exit_code(&Status::signalled("SIGTERM")), 143);
        assert_eq!(exit_code(&Status::signalled("SIGKILL")), 137);
        assert_eq!(exit_code(&Status::signalled("signal 40")), 168);
        assert_eq!(exit_code(&Status::signalled("SIGSTRANGE")), 137);
        let over = Status {
            state: State::TimedOut,
            ..Status::RUNNING
        };
        assert_eq!(exit_code(&over), 124);
    }
}
