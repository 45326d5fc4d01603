//! A start: everything that a run of one project comes to, for one caller, ready to be carried out, and what it depends on.
//!
//! `START.md` beside this file describes the bytes. The whole of envd writes one after a run that anyone can repeat; it is used
//! while every file that was read for it is still the same one (device, inode, size and both times), the caller's
//! [facts](crate::facts) are the same, and the machine has not been started anew.

use core::ffi::CStr;

use envd_init::{
    program::{Field, Malformed, Reader, Sink},
    request::Strings,
    sys::Status,
};

/// The first four bytes: the format and its version.
pub const MAGIC: u32 = u32::from_le_bytes(*b"EDS2");

/// The longest start that is taken, in bytes.
pub const LONGEST: usize = 1 << 20;

/// The command has a session of its own.
pub const NEW_SESSION: u32 = 1;

/// A start, read from its bytes.
#[derive(Clone, Copy, Debug)]
pub struct Start<'s> {
    /// See [`crate::facts`].
    pub facts: &'s [u8],
    /// Flags of [`crate::arguments`].
    pub inside: u32,
    /// The project's directory.
    pub project: &'s CStr,
    /// The directory that is the root, to be held against the garbage collector.
    pub view: &'s CStr,
    /// `uname -n` of the machine.
    pub hostname: &'s CStr,
    /// `/proc/sys/kernel/random/boot_id`.
    pub boot: &'s [u8],
    /// [`NEW_SESSION`].
    pub flags: u32,
    /// Resource limits, as in a request.
    pub limits: &'s [u8],
    /// What was read for it: [`Check`]s, one after the other (see [`Start::checks`]).
    pub check_bytes: &'s [u8],
    /// The variables inside, `NAME=VALUE` with a zero byte each (see [`Start::environment`]).
    pub variables: &'s [u8],
    /// The program (see [`envd_init::program`]).
    pub program: &'s [u8],
}

/// A file that a start depends on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Check<'s> {
    /// Where.
    pub path: &'s CStr,
    /// Whether a link at the end is looked through.
    pub follow: bool,
    /// What was there; `None` for nothing.
    pub found: Option<Status>,
}

impl<'s> Field<'s> for Check<'s> {
    fn read(reader: &mut Reader<'s>) -> Result<Self, Malformed> {
        let path = <&CStr>::read(reader)?;
        let follow = bool::read(reader)?;
        let mut number = || u64::read(reader);
        let present = number()? != 0;
        let (kind, inode, size) = (number()?, number()?, number()?);
        let (major, minor) = (number()?, number()?);
        let modified = (number()? as i64, number()? as u32);
        let changed = (number()? as i64, number()? as u32);
        let found = present.then_some(Status {
            mode: kind as u32,
            uid: (kind >> 32) as u32,
            inode,
            device: (major as u32, minor as u32),
            size,
            modified,
            changed,
        });
        Ok(Check {
            path,
            follow,
            found,
        })
    }

    fn write(&self, sink: &mut dyn Sink) {
        self.path.write(sink);
        self.follow.write(sink);
        let found = self.found.unwrap_or_default();
        for number in [
            u64::from(self.found.is_some()),
            u64::from(found.mode) | u64::from(found.uid) << 32,
            found.inode,
            found.size,
            found.device.0.into(),
            found.device.1.into(),
            found.modified.0 as u64,
            found.modified.1.into(),
            found.changed.0 as u64,
            found.changed.1.into(),
        ] {
            number.write(sink);
        }
    }
}

impl<'s> Start<'s> {
    /// Reads it.
    pub fn parse(bytes: &'s [u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(bytes);
        let reader = &mut reader;
        if u32::read(reader)? != MAGIC {
            return Err(Malformed);
        }
        let start = Start {
            facts: Field::read(reader)?,
            inside: Field::read(reader)?,
            project: Field::read(reader)?,
            view: Field::read(reader)?,
            hostname: Field::read(reader)?,
            boot: Field::read(reader)?,
            flags: Field::read(reader)?,
            limits: Field::read(reader)?,
            check_bytes: Field::read(reader)?,
            variables: Field::read(reader)?,
            program: Field::read(reader)?,
        };
        if reader.is_empty() {
            Ok(start)
        } else {
            Err(Malformed)
        }
    }

    /// Writes it, as [`Start::parse`] reads it.
    pub fn write(&self, sink: &mut dyn Sink) {
        MAGIC.write(sink);
        self.facts.write(sink);
        self.inside.write(sink);
        self.project.write(sink);
        self.view.write(sink);
        self.hostname.write(sink);
        self.boot.write(sink);
        self.flags.write(sink);
        self.limits.write(sink);
        self.check_bytes.write(sink);
        self.variables.write(sink);
        self.program.write(sink);
    }

    /// What it depends on.
    pub fn checks(&self) -> impl Iterator<Item = Result<Check<'s>, Malformed>> + use<'s> {
        let mut reader = Reader::new(self.check_bytes);
        core::iter::from_fn(move || {
            if reader.is_empty() {
                return None;
            }
            let read = Check::read(&mut reader);
            if read.is_err() {
                reader = Reader::new(&[]);
            }
            Some(read)
        })
    }

    /// The variables inside, `NAME=VALUE` each.
    pub fn environment(&self) -> Strings<'s> {
        Strings::new(self.variables)
    }
}

#[cfg(test)]
mod tests;
