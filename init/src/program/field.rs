//! Values in a program: numbers in the machine's byte order, strings and byte strings with their length before them.

use core::ffi::CStr;

use super::Malformed;

/// Where bytes are written to.
pub trait Sink {
    /// Appends.
    fn put(&mut self, bytes: &[u8]);
}

impl<F: FnMut(&[u8])> Sink for F {
    fn put(&mut self, bytes: &[u8]) {
        self(bytes);
    }
}

/// Bytes that are read from the front.
#[derive(Clone, Copy, Debug)]
pub struct Reader<'p>(&'p [u8]);

impl<'p> Reader<'p> {
    /// Over these.
    pub fn new(bytes: &'p [u8]) -> Self {
        Reader(bytes)
    }

    /// Whether nothing is left.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What is left.
    pub fn rest(self) -> &'p [u8] {
        self.0
    }

    /// The next `length` bytes.
    pub fn take(&mut self, length: usize) -> Result<&'p [u8], Malformed> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or(Malformed)?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        self.take(N)?.try_into().map_err(|_| Malformed)
    }
}

/// A value that a program can contain. Reading is no part of what is to be quick, and is called from a hundred places of a
/// program whose size is a promise: hence the calls that are never inlined.
pub trait Field<'p>: Sized {
    /// From the front of a reader.
    fn read(reader: &mut Reader<'p>) -> Result<Self, Malformed>;
    /// To a sink, as [`Field::read`] takes it.
    fn write(&self, sink: &mut dyn Sink);
}

macro_rules! numbers {
    ($($kind:ty),*) => {$(
        impl<'p> Field<'p> for $kind {
            #[inline(never)]
            fn read(reader: &mut Reader<'p>) -> Result<Self, Malformed> {
                reader.array().map(<$kind>::from_ne_bytes)
            }
            fn write(&self, sink: &mut dyn Sink) {
                sink.put(&self.to_ne_bytes());
            }
        }
    )*};
}
numbers!(u8, u16, u32, u64, i32);

impl<'p> Field<'p> for bool {
    fn read(reader: &mut Reader<'p>) -> Result<Self, Malformed> {
        match u8::read(reader)? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(Malformed),
        }
    }

    fn write(&self, sink: &mut dyn Sink) {
        u8::from(*self).write(sink);
    }
}

impl<'p> Field<'p> for &'p [u8] {
    #[inline(never)]
    fn read(reader: &mut Reader<'p>) -> Result<Self, Malformed> {
        let length = u32::read(reader)?;
        reader.take(length as usize)
    }

    fn write(&self, sink: &mut dyn Sink) {
        (self.len() as u32).write(sink);
        sink.put(self);
    }
}

/// With its zero byte, so that it is given to the kernel where it lies.
impl<'p> Field<'p> for &'p CStr {
    #[inline(never)]
    fn read(reader: &mut Reader<'p>) -> Result<Self, Malformed> {
        CStr::from_bytes_with_nul(<&[u8]>::read(reader)?).map_err(|_| Malformed)
    }

    fn write(&self, sink: &mut dyn Sink) {
        self.to_bytes_with_nul().write(sink);
    }
}

/// A place for a descriptor while a program is carried out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Slot(pub u16);

impl<'p> Field<'p> for Slot {
    fn read(reader: &mut Reader<'p>) -> Result<Self, Malformed> {
        u16::read(reader).map(Slot)
    }

    fn write(&self, sink: &mut dyn Sink) {
        self.0.write(sink);
    }
}

/// Several places, packed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Slots<'p>(pub &'p [u8]);

impl<'p> Slots<'p> {
    /// One by one.
    pub fn iter(&self) -> impl Iterator<Item = Slot> + use<'p> {
        let pairs = self.0.chunks_exact(2);
        pairs.map(|pair| Slot(u16::from_ne_bytes([pair[0], pair[1]])))
    }
}

impl<'p> Field<'p> for Slots<'p> {
    fn read(reader: &mut Reader<'p>) -> Result<Self, Malformed> {
        let bytes = <&[u8]>::read(reader)?;
        if bytes.len() % 2 == 0 {
            Ok(Slots(bytes))
        } else {
            Err(Malformed)
        }
    }

    fn write(&self, sink: &mut dyn Sink) {
        self.0.write(sink);
    }
}
