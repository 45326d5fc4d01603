//! What PID 1 and its owner say to each other, on a socketpair of type SOCK_SEQPACKET: one message a packet.
//!
//! A packet starts with a tag, and its numbers are 32 bits wide in the machine's own byte order: both ends are always
//! the same program on the same machine. The end of the connection is a message too: whoever sees it ends.

/// Tag of a packet that is a [`Failure`].
pub const FAILED: u32 = 4;

/// Tag of a packet that carries descriptors: the recorder's listener and the new root, or one listening socket.
pub const DESCRIPTORS: u32 = 5;

/// Tag of a packet that carries one descriptor: the environment's root, for an owner that asked for it.
pub const ROOT: u32 = 6;

/// Tag of the answer to [`JOIN`]: it carries the environment's namespaces, that of users first.
pub const NAMESPACES: u32 = 7;

/// Tag of a packet that says: the first part of a program that is continued is carried out, and PID 1 waits for the second.
pub const HALFWAY: u32 = 8;

/// Tag of a packet that asks PID 1 to execute a program: a [`crate::request::Request`] follows. Its descriptors are the
/// standard input, output and error, the connection on which to report and to take orders, and any more that the program is
/// to have, from 3 on.
pub const EXECUTE: u32 = 16;

/// The same, with the request in a file, which is the last descriptor; its length follows as a u32.
pub const EXECUTE_FILE: u32 = 17;

/// Tag of a packet that asks PID 1 to stop every process of the environment. It answers with [`FROZEN`].
pub const FREEZE: u32 = 18;

/// Tag of a packet that asks PID 1 to let go on what it has stopped.
pub const THAW: u32 = 19;

/// Tag of a packet that asks PID 1 to kill every other process of the environment.
pub const KILL: u32 = 20;

/// Tag of a packet that asks PID 1 for descriptors of the environment's namespaces, for somebody outside to join it; a u64 follows,
/// the namespaces it has (flags of clone3(2)). The one descriptor is the connection that is answered on, with [`NAMESPACES`] or a
/// [`Failure`]. PID 1 is closed to ptrace(2), and so to setns(2) by its pidfd, for all who are not root outside.
pub const JOIN: u32 = 22;

/// Tag of the answer to [`FREEZE`]: a u32 follows, 0 where everything stands still, else the number of a process, as the
/// environment counts, that does not stop; then nothing is stopped.
pub const FROZEN: u32 = 21;

/// Tag of a packet that asks PID 1 for a TCP socket of its network namespace that is connected to nothing: whatever it is connected
/// to then, by whomever, is in there. A u32 follows, 4 or 6 for the version of IP. Its one descriptor is the connection on which
/// to answer, with [`DESCRIPTORS`] or a [`Failure`].
pub const SOCKET: u32 = 23;

/// Tag of a packet with the second part of a program: its operations follow. It may be sent before PID 1 waits for it.
pub const CONTINUE: u32 = 24;

/// The same, with the operations in a file, which is the one descriptor; their length follows as a u32.
pub const CONTINUE_FILE: u32 = 25;

/// Tag of a packet that asks the launcher for an environment: a [`crate::program::Program`] follows. Its first
/// descriptor is PID 1's end of the connection to its owner; the second, if there is one, the directory of the control group
/// that PID 1 is to be made in.
pub const LAUNCH: u32 = 32;

/// The same, with the program in a file, which is the last descriptor; its length follows as a u32.
pub const LAUNCH_FILE: u32 = 33;

/// Tag of a packet that asks the launcher to change what is seen in an environment: a [`crate::program::Program`] follows that ends in
/// its mount namespace. Its descriptors are an end of the connection to whoever wants to know what becomes of it, and the
/// environment's namespaces of users and of mounts.
pub const AMEND: u32 = 35;

/// The same, with the program in a file, which is the last descriptor; its length follows as a u32.
pub const AMEND_FILE: u32 = 36;

/// Tag of the launcher's answer: the process id follows, and a pidfd comes with it. Else the answer is a [`Failure`].
pub const LAUNCHED: u32 = 34;

/// The longest packet that PID 1 and the launcher take; what is longer goes into a file.
pub const LONGEST_PACKET: usize = 128 * 1024;

/// Bytes of an encoded [`Report`] or [`Order`].
pub const LENGTH: usize = 8;

/// From PID 1 to its owner.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Report {
    /// The command's program is running, as this process; 0 for PID 1 itself, which is ready for requests.
    Started(i32),
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
    /// Send this signal to the command: to its whole process group, where it has one of its own.
    Signal(i32),
}

impl Report {
    /// As a packet.
    pub fn encode(self) -> [u8; LENGTH] {
        match self {
            Report::Started(pid) => packet(1, pid),
            Report::Stopped(signal) => packet(2, signal),
            Report::Ended(status) => packet(3, status),
        }
    }

    /// From a packet; `None` when it is none of these.
    pub fn decode(packet: &[u8]) -> Option<Self> {
        match split(packet)? {
            (1, pid) => Some(Report::Started(pid)),
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
            Order::Signal(signal) => packet(2, signal),
        }
    }

    /// From a packet; `None` when it is none of these.
    pub fn decode(packet: &[u8]) -> Option<Self> {
        match split(packet)? {
            (1, 0) => Some(Order::Resume(false)),
            (1, 1) => Some(Order::Resume(true)),
            (2, signal @ 1..=64) => Some(Order::Signal(signal)),
            _ => None,
        }
    }
}

/// Why there is no environment, or no command in it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Failure {
    /// The step.
    pub stage: Stage,
    /// Which of several, as the stage counts.
    pub index: u32,
    /// What the system call failed with; 0 where none did.
    pub errno: i32,
}

/// Bytes of an encoded [`Failure`].
pub const FAILURE_LENGTH: usize = 16;

macro_rules! stages {
    ($($(#[$about:meta])* $name:ident = $number:literal,)*) => {
        /// A step that can fail.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        pub enum Stage {
            $($(#[$about])* $name = $number,)*
        }

        impl Stage {
            fn from_number(number: u32) -> Option<Self> {
                match number {
                    $($number => Some(Stage::$name),)*
                    _ => None,
                }
            }
        }
    };
}

stages! {
    /// Reading the program, or the request.
    Malformed = 1,
    /// Making the process in its namespaces.
    Clone = 2,
    /// Writing an id map: 0 is `setgroups`, 1 `uid_map`, 2 `gid_map`.
    Maps = 3,
    /// An operation of the program, counted from 0.
    Operation = 4,
    /// Protecting PID 1: 0 is its parent-death signal, 1 its name, 2 its signals, 3 its capabilities, 4 its connection.
    Protect = 5,
    /// Making the command's process.
    Spawn = 6,
    /// As many commands run as PID 1 looks after.
    TooMany = 7,
    /// Giving the command a session (0), a process group (1) or the terminal (2).
    Job = 8,
    /// Giving the command its descriptors.
    Descriptors = 9,
    /// Setting a resource limit; the index is the resource.
    Limit = 10,
    /// Giving capabilities up.
    Capabilities = 11,
    /// Entering the working directory.
    Directory = 12,
    /// The program is not there. With index 1, the file is, but not the interpreter that it names.
    Missing = 13,
    /// The program is there and cannot be executed; the index counts the directories of PATH.
    Refused = 14,
    /// Opening a namespace of the environment, or entering it; the index counts them.
    Join = 15,
    /// Making a socket; the index is the version of IP.
    Socket = 16,
}

impl Failure {
    /// At this step.
    pub fn at(stage: Stage, index: u32, errno: i32) -> Self {
        Failure {
            stage,
            index,
            errno,
        }
    }

    /// As a packet.
    pub fn encode(self) -> [u8; FAILURE_LENGTH] {
        let mut bytes = [0; FAILURE_LENGTH];
        bytes[..4].copy_from_slice(&FAILED.to_ne_bytes());
        bytes[4..8].copy_from_slice(&(self.stage as u32).to_ne_bytes());
        bytes[8..12].copy_from_slice(&self.index.to_ne_bytes());
        bytes[12..].copy_from_slice(&self.errno.to_ne_bytes());
        bytes
    }

    /// From a packet; `None` when it is none.
    pub fn decode(packet: &[u8]) -> Option<Self> {
        let number = |at: usize| Some(u32::from_ne_bytes(packet.get(at..at + 4)?.try_into().ok()?));
        if packet.len() != FAILURE_LENGTH || tag(packet)? != FAILED {
            return None;
        }
        let stage = Stage::from_number(number(4)?)?;
        Some(Failure::at(stage, number(8)?, number(12)? as i32))
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
        for report in [
            Report::Started(4),
            Report::Stopped(20),
            Report::Ended(0x0100),
        ] {
            assert_eq!(Report::decode(&report.encode()), Some(report));
        }
        for order in [Order::Resume(true), Order::Resume(false), Order::Signal(15)] {
            assert_eq!(Order::decode(&order.encode()), Some(order));
        }
        let failure = Failure::at(Stage::Operation, 12, 13);
        assert_eq!(Failure::decode(&failure.encode()), Some(failure));
    }

    #[test]
    fn anything_else_is_refused() {
        for packet in [&b""[..], b"\x01\0\0", &[0; LENGTH], &[9; LENGTH], &[1; 12]] {
            assert_eq!(Report::decode(packet), None);
            assert_eq!(Order::decode(packet), None);
        }
        let mut long = [0; LENGTH + 1];
        long[..LENGTH].copy_from_slice(&Report::Started(0).encode());
        assert_eq!(Report::decode(&long), None);
    }

    /// Of two branches that each add one, both take the next number.
    #[test]
    fn tags_differ() {
        let declared = include_str!("protocol.rs").lines().filter_map(|line| {
            let (_, value) = line.strip_prefix("pub const ")?.split_once(": u32 = ")?;
            value.trim_end_matches(';').parse::<u32>().ok()
        });
        let mut tags: Vec<_> = declared.collect();
        let count = tags.len();
        assert!(count >= 15, "{count}");
        tags.sort_unstable();
        tags.dedup();
        assert_eq!(tags.len(), count, "two packets have the same tag");
    }
}
