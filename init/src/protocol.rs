//! What PID 1 and its owner say to each other, on a socketpair of type SOCK_SEQPACKET: one message a packet.
//!
//! A packet starts with a tag, and its numbers are 32 bits wide in the machine's own byte order: both ends are always
//! the same program on the same machine. The end of the connection is a message too: whoever sees it ends.

/// Tag of a packet that carries why the command could not be started; the rest belongs to the launcher.
pub const FAILED: u32 = 4;

/// Tag of a packet that carries descriptors; the rest belongs to the launcher.
pub const DESCRIPTORS: u32 = 5;

/// Bytes of an encoded [`Report`] or [`Order`].
pub const LENGTH: usize = 8;

/// From PID 1 to its owner.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Report {
    /// The command's program is running.
    Started,
    /// The command was stopped by this signal and waits for [`Order::Resume`].
    Stopped(i32),
    /// The command has ended with this status, as waitpid(2) gives it.
    Ended(i32),
}

/// From the owner to PID 1.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Order {
    /// Continue a stopped command, with the terminal (`true`) or in the background.
    Resume(bool),
}

impl Report {
    /// As a packet.
    pub fn encode(self) -> [u8; LENGTH] {
        match self {
            Report::Started => packet(1, 0),
            Report::Stopped(signal) => packet(2, signal),
            Report::Ended(status) => packet(3, status),
        }
    }

    /// From a packet; `None` when it is none of these.
    pub fn decode(packet: &[u8]) -> Option<Self> {
        match split(packet)? {
            (1, 0) => Some(Report::Started),
            (2, signal) => Some(Report::Stopped(signal)),
            (3, status) => Some(Report::Ended(status)),
            _ => None,
        }
    }
}

impl Order {
    /// As a packet.
    pub fn encode(self) -> [u8; LENGTH] {
        match self {
            Order::Resume(foreground) => packet(1, i32::from(foreground)),
        }
    }

    /// From a packet; `None` when it is none of these.
    pub fn decode(packet: &[u8]) -> Option<Self> {
        match split(packet)? {
            (1, 0) => Some(Order::Resume(false)),
            (1, 1) => Some(Order::Resume(true)),
            _ => None,
        }
    }
}

/// The tag a packet begins with.
pub fn tag(packet: &[u8]) -> Option<u32> {
    let bytes = packet.get(..4)?.try_into().ok()?;
    Some(u32::from_ne_bytes(bytes))
}

fn packet(tag: u32, value: i32) -> [u8; LENGTH] {
    let mut bytes = [0; LENGTH];
    bytes[..4].copy_from_slice(&tag.to_ne_bytes());
    bytes[4..].copy_from_slice(&value.to_ne_bytes());
    bytes
}

fn split(packet: &[u8]) -> Option<(u32, i32)> {
    let value = packet.get(4..LENGTH)?.try_into().ok()?;
    (packet.len() == LENGTH).then_some((tag(packet)?, i32::from_ne_bytes(value)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_one_end_says_the_other_understands() {
        for report in [Report::Started, Report::Stopped(20), Report::Ended(0x0100)] {
            assert_eq!(Report::decode(&report.encode()), Some(report));
        }
        for order in [Order::Resume(true), Order::Resume(false)] {
            assert_eq!(Order::decode(&order.encode()), Some(order));
        }
    }

    #[test]
    fn anything_else_is_refused() {
        for packet in [&b""[..], b"\x01\0\0", &[0; LENGTH], &[9; LENGTH], &[1; 12]] {
            assert_eq!(Report::decode(packet), None);
            assert_eq!(Order::decode(packet), None);
        }
        let mut long = [0; LENGTH + 1];
        long[..LENGTH].copy_from_slice(&Report::Started.encode());
        assert_eq!(Report::decode(&long), None);
    }
}
