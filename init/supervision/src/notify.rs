//! What a service says of itself on its notification socket, as sd_notify(3) describes: assignments, one a line.

use std::time::Duration;

/// Bytes of a message that are looked at. Whoever says more is not heard to the end.
pub const MESSAGE_MAX: usize = 4096;
/// Characters of a status text that are kept.
const TEXT_MAX: usize = 200;

/// One thing that a service says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Notice {
    /// `READY=1`: it can be used; or, after `RELOADING=1`, again.
    Ready,
    /// `RELOADING=1`: it reads its configuration.
    Reloading,
    /// `STOPPING=1`: it is about to end.
    Stopping,
    /// `STATUS=…`, without control characters and cut to a line's length. Empty to take the last one back.
    Status(String),
    /// `MAINPID=…`: its main process, as it numbers it.
    MainPid(u32),
    /// `WATCHDOG=1`: it is alive.
    Alive,
    /// `WATCHDOG=trigger`: it gives itself up.
    GivesUp,
    /// `EXTEND_TIMEOUT_USEC=…`: it needs at least so long from now for what it does.
    NeedsTime(Duration),
}

/// What a message says, in its order. Whatever is not understood is passed over, as the protocol demands; no message is an
/// error.
pub fn parse(message: &[u8]) -> Vec<Notice> {
    let message = &message[..message.len().min(MESSAGE_MAX)];
    message
        .split(|byte| *byte == b'\n')
        .filter_map(assignment)
        .collect()
}

fn assignment(line: &[u8]) -> Option<Notice> {
    let equals = line.iter().position(|byte| *byte == b'=')?;
    let (key, value) = (&line[..equals], &line[equals + 1..]);
    match (key, value) {
        (b"READY", b"1") => Some(Notice::Ready),
        (b"RELOADING", b"1") => Some(Notice::Reloading),
        (b"STOPPING", b"1") => Some(Notice::Stopping),
        (b"STATUS", text) => Some(Notice::Status(one_line(text))),
        (b"MAINPID", text) => number(text)
            .and_then(|number| u32::try_from(number).ok())
            .filter(|pid| *pid > 0)
            .map(Notice::MainPid),
        (b"WATCHDOG", b"1") => Some(Notice::Alive),
        (b"WATCHDOG", b"trigger") => Some(Notice::GivesUp),
        (b"EXTEND_TIMEOUT_USEC", text) => {
            number(text).map(|time| Notice::NeedsTime(Duration::from_micros(time)))
        }
        _ => None,
    }
}

fn number(text: &[u8]) -> Option<u64> {
    let digits = text.iter().all(u8::is_ascii_digit) && !text.is_empty();
    std::str::from_utf8(text)
        .ok()
        .filter(|_| digits)?
        .parse()
        .ok()
}

/// A text that a terminal shows and does not obey.
fn one_line(text: &[u8]) -> String {
    let is_odd = |c: char| {
        c.is_control()
            || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    String::from_utf8_lossy(text)
        .chars()
        .map(|c| if is_odd(c) { '\u{fffd}' } else { c })
        .take(TEXT_MAX)
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_services_say_is_understood() {
        let said = parse(b"READY=1\nSTATUS=Serving 3 clients\nMAINPID=42\nFDSTORE=1\nWATCHDOG=1");
        assert_eq!(
            said,
            [
                Notice::Ready,
                Notice::Status("Serving 3 clients".into()),
                Notice::MainPid(42),
                Notice::Alive
            ]
        );
        assert_eq!(
            parse(b"RELOADING=1\nMONOTONIC_USEC=8\n"),
            [Notice::Reloading]
        );
        assert_eq!(
            parse(b"STOPPING=1\nEXTEND_TIMEOUT_USEC=1500000"),
            [
                Notice::Stopping,
                Notice::NeedsTime(Duration::from_millis(1500))
            ]
        );
        assert_eq!(
            parse(b"STATUS=a=b\nWATCHDOG=trigger"),
            [Notice::Status("a=b".into()), Notice::GivesUp]
        );
    }

    #[test]
    fn what_is_almost_right_means_nothing() {
        for said in [
            "READY=0",
            "READY=11",
            "ready=1",
            " READY=1",
            "READY",
            "MAINPID=0",
            "MAINPID=-3",
            "MAINPID=+3",
            "MAINPID=99999999999",
            "EXTEND_TIMEOUT_USEC=",
            "=1",
            "",
        ] {
            assert_eq!(parse(said.as_bytes()), [], "{said}");
        }
    }

    #[test]
    fn a_status_cannot_drive_the_terminal() {
        let said = parse(b"STATUS=\x1b]0;owned\x07 \xff");
        assert_eq!(
            said,
            [Notice::Status("\u{fffd}]0;owned\u{fffd} \u{fffd}".into())]
        );
    }

    proptest! {
        /// Whatever a service sends, it is answered with a bounded list of bounded notices.
        #[test]
        fn any_bytes_are_a_message(bytes in prop::collection::vec(any::<u8>(), 0..6000)) {
            for notice in parse(&bytes) {
                if let Notice::Status(text) = notice {
                    prop_assert!(text.chars().count() <= TEXT_MAX && !text.contains(char::is_control));
                }
            }
        }
    }
}
