//! What PID 1 is asked to execute, as bytes: a fixed head, limits, then strings that end in zero bytes.
//!
//! ```text
//! u32 flags · u32 umask (all ones: as it is) · u32 priority (all ones: as it is)
//! u32 limits · u32 arguments · u32 variables · u32 bytes of strings · u64 signals that are ignored, 1 << number - 1 each
//! limits × (u32 resource of setrlimit(2) · u32 0 · u64 soft · u64 hard)
//! working directory · program · arguments (the name first) · variables (NAME=VALUE)
//! ```

use core::ffi::CStr;

use crate::{
    program::{Field, Malformed, Reader, Sink},
    sys::SignalSet,
};

/// The longest request that is taken, in bytes: what execve(2) takes, and room.
pub const LONGEST: usize = 4 << 20;

/// A session of its own, without a controlling terminal.
pub const SESSION: u32 = 1;
/// With `SESSION`: standard input becomes its controlling terminal.
pub const TERMINAL: u32 = 2;
/// A process group of its own in the foreground of the terminal on standard input, whose session it stays in.
pub const FOREGROUND: u32 = 4;
/// It goes on when the connection closes.
pub const LINGER: u32 = 8;
/// With `SESSION`: what is left of its process group is killed when it ends.
pub const GROUP: u32 = 16;
/// It is killed with all its descendants, whatever sessions they have and whoever their parents were.
pub const TREE: u32 = 32;

/// A program to execute, and how.
#[derive(Clone, Copy, Debug)]
pub struct Request<'r> {
    /// [`SESSION`] and the others.
    pub flags: u32,
    /// Permission bits that files are made without; as PID 1 was started with, when absent.
    pub umask: Option<u32>,
    /// The niceness, which can be raised only; as PID 1's, when absent.
    pub niceness: Option<i32>,
    /// Signals that it starts with ignored.
    pub ignored: SignalSet,
    /// Resource limits.
    pub limits: Limits<'r>,
    /// The working directory.
    pub directory: &'r CStr,
    /// The program: a path, or a name to look for in the environment's PATH.
    pub program: &'r CStr,
    /// The arguments, the program's name first.
    pub arguments: Strings<'r>,
    /// The whole environment.
    pub environment: Strings<'r>,
}

/// A resource limit.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limit {
    /// Which, as setrlimit(2) counts.
    pub resource: u32,
    /// What holds.
    pub soft: u64,
    /// What the soft one can be raised to.
    pub hard: u64,
}

impl Limit {
    /// Soft and hard alike.
    pub fn both(resource: u32, value: u64) -> Self {
        Limit {
            resource,
            soft: value,
            hard: value,
        }
    }

    /// Writes it, as [`Limits`] reads it.
    pub fn write(&self, sink: &mut dyn Sink) {
        self.resource.write(sink);
        0u32.write(sink);
        self.soft.write(sink);
        self.hard.write(sink);
    }
}

/// Bytes of a limit.
const LIMIT: usize = 24;

/// The niceness from which the kernel counts priorities downwards (getpriority(2)).
const PRIORITY: i32 = 20;

/// Limits, packed.
#[derive(Clone, Copy, Debug, Default)]
pub struct Limits<'r>(&'r [u8]);

impl<'r> Limits<'r> {
    /// As in a request: a u32, a u32 that is 0, and two u64 each.
    pub fn new(bytes: &'r [u8]) -> Self {
        Limits(bytes)
    }

    /// One by one.
    pub fn iter(&self) -> impl Iterator<Item = Limit> + Clone + use<'r> {
        self.0.chunks_exact(LIMIT).filter_map(|bytes| {
            let mut reader = Reader::new(bytes);
            let resource = u32::read(&mut reader).ok()?;
            u32::read(&mut reader).ok()?;
            Some(Limit {
                resource,
                soft: u64::read(&mut reader).ok()?,
                hard: u64::read(&mut reader).ok()?,
            })
        })
    }
}

/// Strings that follow each other, each with its zero byte.
#[derive(Clone, Copy, Debug, Default)]
pub struct Strings<'r> {
    bytes: &'r [u8],
}

impl<'r> Strings<'r> {
    /// Over these bytes, up to the last zero byte.
    pub fn new(bytes: &'r [u8]) -> Self {
        Strings { bytes }
    }
}

impl<'r> Iterator for Strings<'r> {
    type Item = &'r CStr;

    fn next(&mut self) -> Option<&'r CStr> {
        let string = CStr::from_bytes_until_nul(self.bytes).ok()?;
        self.bytes = &self.bytes[string.to_bytes_with_nul().len()..];
        Some(string)
    }
}

impl<'r> Request<'r> {
    /// Reads and checks it.
    pub fn parse(bytes: &'r [u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(bytes);
        let mut number = || u32::read(&mut reader);
        let (flags, umask, priority) = (number()?, number()?, number()?);
        let (limits, arguments, variables, length) = (number()?, number()?, number()?, number()?);
        let ignored = SignalSet(u64::read(&mut reader)?);
        let niceness = match priority {
            u32::MAX => None,
            1..=40 => Some(PRIORITY - priority as i32),
            _ => return Err(Malformed),
        };
        let limits = reader.take((limits as usize).checked_mul(LIMIT).ok_or(Malformed)?)?;
        let mut strings = reader.take(length as usize)?;
        if !reader.is_empty() || arguments == 0 {
            return Err(Malformed);
        }
        let mut take = |count: u32| -> Result<Strings<'r>, Malformed> {
            let mut after = Strings { bytes: strings };
            for _ in 0..count {
                after.next().ok_or(Malformed)?;
            }
            let taken = &strings[..strings.len() - after.bytes.len()];
            strings = after.bytes;
            Ok(Strings { bytes: taken })
        };
        let request = Request {
            flags,
            umask: (umask != u32::MAX).then_some(umask),
            niceness,
            ignored,
            limits: Limits(limits),
            directory: take(1)?.next().ok_or(Malformed)?,
            program: take(1)?.next().ok_or(Malformed)?,
            arguments: take(arguments)?,
            environment: take(variables)?,
        };
        if strings.is_empty() {
            Ok(request)
        } else {
            Err(Malformed)
        }
    }
}

/// A request to be written: the same, with strings from anywhere.
#[derive(Clone, Debug)]
pub struct Draft<L, A, E> {
    /// See [`Request::flags`].
    pub flags: u32,
    /// See [`Request::umask`].
    pub umask: Option<u32>,
    /// See [`Request::niceness`].
    pub niceness: Option<i32>,
    /// See [`Request::ignored`].
    pub ignored: SignalSet,
    /// See [`Request::limits`].
    pub limits: L,
    /// See [`Request::arguments`].
    pub arguments: A,
    /// See [`Request::environment`].
    pub environment: E,
}

impl<'s, L, A, E> Draft<L, A, E>
where
    L: Iterator<Item = Limit> + Clone,
    A: Iterator<Item = &'s CStr> + Clone,
    E: Iterator<Item = &'s CStr> + Clone,
{
    /// Writes it, as [`Request::parse`] reads it.
    pub fn write(&self, directory: &CStr, program: &CStr, sink: &mut dyn Sink) {
        let bytes = |string: &CStr| string.to_bytes_with_nul().len() as u32;
        let strings = self.arguments.clone().chain(self.environment.clone());
        let length = bytes(directory) + bytes(program) + strings.clone().map(bytes).sum::<u32>();
        self.flags.write(sink);
        self.umask.unwrap_or(u32::MAX).write(sink);
        let priority = |niceness: i32| (PRIORITY - niceness).clamp(1, 40) as u32;
        self.niceness.map_or(u32::MAX, priority).write(sink);
        (self.limits.clone().count() as u32).write(sink);
        (self.arguments.clone().count() as u32).write(sink);
        (self.environment.clone().count() as u32).write(sink);
        length.write(sink);
        self.ignored.0.write(sink);
        self.limits.clone().for_each(|limit| limit.write(sink));
        sink.put(directory.to_bytes_with_nul());
        sink.put(program.to_bytes_with_nul());
        strings.for_each(|string| sink.put(string.to_bytes_with_nul()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITED: Limit = Limit {
        resource: 7,
        soft: 512,
        hard: 1024,
    };

    fn written() -> Vec<u8> {
        let mut bytes = Vec::new();
        let draft = Draft {
            flags: SESSION,
            umask: None,
            niceness: Some(-3),
            ignored: SignalSet(5),
            limits: [LIMITED].into_iter(),
            arguments: [c"sh", c"-c", c""].into_iter(),
            environment: [c"A=1"].into_iter(),
        };
        draft.write(c"/work", c"sh", &mut |more: &[u8]| {
            bytes.extend_from_slice(more)
        });
        bytes
    }

    #[test]
    fn what_is_asked_is_understood() {
        let bytes = written();
        let request = Request::parse(&bytes).unwrap();
        assert_eq!((request.flags, request.umask), (SESSION, None));
        assert_eq!((request.niceness, request.ignored.0), (Some(-3), 5));
        assert_eq!(request.limits.iter().collect::<Vec<_>>(), [LIMITED]);
        assert_eq!((request.directory, request.program), (c"/work", c"sh"));
        assert!(request.arguments.eq([c"sh", c"-c", c""]));
        assert!(request.environment.eq([c"A=1"]));
    }

    /// PID 1 reads this from a socket: no length in it may be believed.
    #[test]
    fn a_request_that_is_cut_or_says_more_than_it_has_is_refused() {
        let whole = written();
        for length in 0..whole.len() {
            assert!(Request::parse(&whole[..length]).is_err(), "{length}");
        }
        for place in 8..28 {
            let mut wrong = whole.clone();
            wrong[place] = 0xff;
            assert!(Request::parse(&wrong).is_err(), "{place}");
        }
        let mut longer = whole;
        longer.push(0);
        assert!(Request::parse(&longer).is_err());
    }
}
