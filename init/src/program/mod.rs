//! A program: what is to happen between a new process and the environment it is PID 1 of, as a flat list of operations.
//!
//! The launcher in `envd-shims` compiles a plan into one; [`crate::apply`] carries it out, without memory to allocate or
//! anything to look up. `PROGRAM.md` beside this file describes the bytes.

mod field;
mod operation;

use core::ffi::CStr;

pub use field::{Field, Reader, Sink, Slot, Slots};
pub use operation::{Like, Operation};

/// The first four bytes: the format and its version.
pub const MAGIC: u32 = u32::from_le_bytes(*b"EDP4");

/// The longest program that is taken, in bytes.
pub const LONGEST: usize = 4 << 20;

/// The id maps are written by the parent, which lets the child go on with one packet of one byte.
pub const MAPS_FROM_OUTSIDE: u32 = 1;
/// setgroups(2) stays allowed.
pub const GROUPS_ALLOWED: u32 = 2;
/// More operations come from the owner, once it asks for them ([`crate::protocol::CONTINUE`]).
pub const CONTINUED: u32 = 4;

/// The beginning of a program: what is needed to make the process that carries it out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Header<'p> {
    /// Flags of clone3(2): the namespaces.
    pub namespaces: u64,
    /// [`MAPS_FROM_OUTSIDE`], [`GROUPS_ALLOWED`], [`CONTINUED`].
    pub flags: u32,
    /// What is written to `uid_map`.
    pub uid_map: &'p CStr,
    /// What is written to `gid_map`.
    pub gid_map: &'p CStr,
}

/// A program, as bytes.
#[derive(Clone, Copy, Debug)]
pub struct Program<'p> {
    /// Its beginning.
    pub header: Header<'p>,
    operations: &'p [u8],
}

/// The bytes are no program of this version.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Malformed;

impl<'p> Program<'p> {
    /// Reads the beginning. The operations are looked at one by one, as they are carried out.
    pub fn parse(bytes: &'p [u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(bytes);
        if u32::read(&mut reader)? != MAGIC {
            return Err(Malformed);
        }
        let header = Header {
            namespaces: u64::read(&mut reader)?,
            flags: u32::read(&mut reader)?,
            uid_map: <&CStr>::read(&mut reader)?,
            gid_map: <&CStr>::read(&mut reader)?,
        };
        Ok(Program {
            header,
            operations: reader.rest(),
        })
    }

    /// The operations, in order.
    pub fn operations(&self) -> Operations<'p> {
        Operations(Reader::new(self.operations))
    }
}

impl Header<'_> {
    /// Writes it.
    pub fn write(&self, sink: &mut dyn Sink) {
        MAGIC.write(sink);
        self.namespaces.write(sink);
        self.flags.write(sink);
        self.uid_map.write(sink);
        self.gid_map.write(sink);
    }
}

/// An iterator over the operations of a program; it ends with the first that is malformed.
#[derive(Clone, Debug)]
pub struct Operations<'p>(Reader<'p>);

impl<'p> Operations<'p> {
    /// Those that follow a program without being in it.
    pub fn of(bytes: &'p [u8]) -> Self {
        Operations(Reader::new(bytes))
    }
}

impl<'p> Iterator for Operations<'p> {
    type Item = Result<Operation<'p>, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let read = Operation::read(&mut self.0);
        if read.is_err() {
            self.0 = Reader::new(&[]);
        }
        Some(read)
    }
}

#[cfg(test)]
mod tests;
