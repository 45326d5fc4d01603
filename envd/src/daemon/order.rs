//! The packets that have something run: no JSON, since this is the way of every `envd run`. PROTOCOL.md has the layout.

use std::{
    ffi::{OsStr, OsString},
    os::unix::ffi::{OsStrExt as _, OsStringExt as _},
};

/// The build of a client that gets on with every daemon.
pub const ANY_BUILD: u64 = 0;
/// Tag of a packet that runs a command in an environment of its own.
pub const RUN: u32 = 65;
/// Tag of a packet that runs a command in an environment that was opened.
pub const EXECUTE: u32 = 66;
/// Tag of a packet that asks to join an environment of a command's own.
pub const JOIN: u32 = 68;
/// Tag of the answer to that.
pub const JOINED: u32 = 69;

pub use envd_trampoline::arguments::{AS_ROOT, NO_NETWORK, STRICT};

/// The command is the environment's shell, whatever the words say.
pub const SHELL: u32 = 8;
/// The client has an ear for what the daemon says before the command runs. Without it, something that it would be told of is a
/// reason not to run it.
pub const LISTENS: u32 = 0x4000_0000;
/// What follows the head is in a memfd, the packet's last descriptor.
pub const IN_MEMORY: u32 = 0x8000_0000;

/// Bytes of the head of [`RUN`], tag included.
const HEAD: usize = 24;
/// From this size on what follows the head goes through memory.
pub const INLINE: usize = 96 * 1024;
/// Bytes that follow a head at most: what execve(2) takes, and room.
pub const TAIL: usize = 4 << 20;

/// A name and its value.
pub type Variable = (String, OsString);

/// How a command comes into an environment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Way {
    /// PID 1 of one of its own starts it.
    Run,
    /// PID 1 of this one starts it, which was opened.
    Execute(u64),
    /// The client starts it, in one of its own, and has it keep the client's terminal.
    Join,
}

/// The fixed part.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Head {
    /// The asking program's build.
    pub build: u64,
    /// What is to be done.
    pub way: Way,
    /// [`NO_NETWORK`] and the others.
    pub inside: u32,
    /// How many extra variables there are, and their bytes.
    variables: (u32, u32),
}

/// A packet that says one thing and holds another.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("a command to run that is cut or says more than it has")]
pub struct Malformed;

/// Whether a packet is one of these.
pub fn is_order(packet: &[u8]) -> bool {
    [RUN, EXECUTE, JOIN]
        .iter()
        .any(|tag| packet.starts_with(&tag.to_ne_bytes()))
}

impl Head {
    /// Reads a packet's head; gives what follows it.
    pub fn parse(packet: &[u8]) -> Result<(Self, &[u8]), Malformed> {
        let mut rest = packet;
        let way = match u32::from_ne_bytes(take(&mut rest)?) {
            RUN => Way::Run,
            EXECUTE => Way::Execute(u64::from_ne_bytes(take(&mut rest)?)),
            JOIN => Way::Join,
            _ => return Err(Malformed),
        };
        let build = u64::from_ne_bytes(take(&mut rest)?);
        let mut number = || take(&mut rest).map(u32::from_ne_bytes);
        let head = Self {
            build,
            way,
            inside: number()?,
            variables: (number()?, number()?),
        };
        Ok((head, rest))
    }

    /// Splits what follows the head: extra variables in order, and the request as PID 1 reads it.
    pub fn split<'p>(&self, tail: &'p [u8]) -> Result<(Vec<Variable>, &'p [u8]), Malformed> {
        let (count, length) = self.variables;
        let (strings, request) = tail.split_at_checked(length as usize).ok_or(Malformed)?;
        let mut variables = Vec::new();
        if let Some(strings) = strings.strip_suffix(b"\0") {
            for entry in strings.split(|byte| *byte == 0) {
                let at = entry
                    .iter()
                    .position(|byte| *byte == b'=')
                    .ok_or(Malformed)?;
                let name = std::str::from_utf8(&entry[..at]).map_err(|_| Malformed)?;
                if name.is_empty() {
                    return Err(Malformed);
                }
                variables.push((
                    name.to_owned(),
                    OsString::from_vec(entry[at + 1..].to_vec()),
                ));
            }
        } else if !strings.is_empty() {
            return Err(Malformed);
        }
        match variables.len() == count as usize {
            true => Ok((variables, request)),
            false => Err(Malformed),
        }
    }
}

/// A packet's head and what follows it, apart: together they may be too long for a packet.
pub fn write(
    build: u64,
    way: Way,
    inside: u32,
    variables: &[(String, OsString)],
    request: &[u8],
) -> (Vec<u8>, Vec<u8>) {
    let mut tail = Vec::with_capacity(request.len() + 64);
    for (name, value) in variables {
        tail.extend_from_slice(name.as_bytes());
        tail.push(b'=');
        tail.extend_from_slice(OsStr::as_bytes(value));
        tail.push(0);
    }
    let length = tail.len() as u32;
    tail.extend_from_slice(request);
    let mut head = Vec::with_capacity(HEAD + 8 + tail.len());
    match way {
        Way::Run => head.extend_from_slice(&RUN.to_ne_bytes()),
        Way::Execute(handle) => {
            head.extend_from_slice(&EXECUTE.to_ne_bytes());
            head.extend_from_slice(&handle.to_ne_bytes());
        }
        Way::Join => head.extend_from_slice(&JOIN.to_ne_bytes()),
    }
    let through_memory = if tail.len() > INLINE { IN_MEMORY } else { 0 };
    head.extend_from_slice(&build.to_ne_bytes());
    head.extend_from_slice(&(inside | LISTENS | through_memory).to_ne_bytes());
    head.extend_from_slice(&(variables.len() as u32).to_ne_bytes());
    head.extend_from_slice(&length.to_ne_bytes());
    (head, tail)
}

/// The answer to [`JOIN`], but for its tag: what is given up on the way in, and the command as it is inside.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Joined<'j> {
    /// A program (see [`envd_init::program`]).
    pub program: &'j [u8],
    /// A request (see [`envd_init::request`]).
    pub request: &'j [u8],
}

impl<'j> Joined<'j> {
    /// Reads it.
    pub fn parse(bytes: &'j [u8]) -> Result<Self, Malformed> {
        let mut rest = bytes;
        let length = u32::from_ne_bytes(take(&mut rest)?);
        let (program, request) = rest.split_at_checked(length as usize).ok_or(Malformed)?;
        Ok(Self { program, request })
    }

    /// Writes it.
    pub fn bytes(&self) -> Vec<u8> {
        let length = (self.program.len() as u32).to_ne_bytes();
        [&length, self.program, self.request].concat()
    }
}

fn take<const N: usize>(rest: &mut &[u8]) -> Result<[u8; N], Malformed> {
    let (first, after) = rest.split_first_chunk().ok_or(Malformed)?;
    *rest = after;
    Ok(*first)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variables() -> Vec<(String, OsString)> {
        vec![
            ("A".to_owned(), "1=2".into()),
            ("B".to_owned(), OsString::from_vec(vec![0xff])),
            ("A".to_owned(), "".into()),
        ]
    }

    fn written(way: Way) -> Vec<u8> {
        let (mut head, tail) = write(77, way, STRICT, &variables(), b"request");
        head.extend_from_slice(&tail);
        head
    }

    #[test]
    fn what_is_written_is_read() {
        for way in [Way::Run, Way::Execute(5), Way::Join] {
            let packet = written(way);
            assert!(is_order(&packet));
            let (head, tail) = Head::parse(&packet).unwrap();
            let inside = STRICT | LISTENS;
            assert_eq!((head.build, head.way, head.inside), (77, way, inside));
            let (read, request) = head.split(tail).unwrap();
            assert_eq!((read, request), (variables(), &b"request"[..]));
        }
    }

    #[test]
    fn the_answer_to_who_joins_is_understood_and_never_read_beyond() {
        let joined = Joined {
            program: b"program",
            request: b"request",
        };
        let bytes = joined.bytes();
        assert_eq!(Joined::parse(&bytes), Ok(joined));
        for length in 0..11 {
            assert_eq!(Joined::parse(&bytes[..length]), Err(Malformed));
        }
    }

    /// The front of `envd run` writes this without any of this code.
    #[test]
    fn the_layout_is_the_documented_one() {
        let (head, tail) = write(1, Way::Run, 0, &[], b"r");
        assert_eq!(head.len(), HEAD);
        assert_eq!(head[..4], 65u32.to_ne_bytes());
        assert_eq!(head[4..12], 1u64.to_ne_bytes());
        assert_eq!(head[12..16], LISTENS.to_ne_bytes());
        assert_eq!(head[16..], [0; 8]);
        assert_eq!(tail, b"r");
        let (head, _) = write(1, Way::Run, 0, &[], &[0; INLINE + 1]);
        assert_eq!(head[12..16], (LISTENS | IN_MEMORY).to_ne_bytes());
    }

    #[test]
    fn what_is_cut_or_lies_is_refused() {
        let packet = written(Way::Run);
        for length in 0..HEAD {
            assert_eq!(Head::parse(&packet[..length]), Err(Malformed));
        }
        for place in 16..HEAD {
            let mut wrong = packet.clone();
            wrong[place] ^= 0x41;
            let (head, tail) = Head::parse(&wrong).unwrap();
            assert_eq!(head.split(tail), Err(Malformed), "{place}");
        }
        for entry in [&b"=x\0"[..], b"x\0", b"\xff=1\0"] {
            let head = Head {
                build: 0,
                way: Way::Run,
                inside: 0,
                variables: (1, entry.len() as u32),
            };
            assert_eq!(head.split(entry), Err(Malformed), "{entry:?}");
        }
    }
}
