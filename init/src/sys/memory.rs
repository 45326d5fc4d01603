//! Memory, and lists of strings as the kernel takes them.

use core::{
    ffi::{CStr, c_char},
    marker::PhantomData,
    ptr, slice,
};

use super::{Descriptor, Errno, call, constant::*};

const PROT_READ: i32 = 1;
const PROT_WRITE: i32 = 2;
const MAP_PRIVATE: i32 = 2;
const MAP_ANONYMOUS: i32 = 0x20;

/// A mapping of its own, zeroed or a file's content; given back when dropped.
#[derive(Debug)]
pub struct Region {
    start: *mut u8,
    length: usize,
}

impl Region {
    /// Zeroes.
    pub fn new(length: usize) -> Result<Self, Errno> {
        Self::map(length, -1, MAP_PRIVATE | MAP_ANONYMOUS)
    }

    /// A private copy of the first `length` bytes of a file, which must be that long and must not be cut short while this
    /// lives: touching what is not there any more ends the process.
    pub fn of_file(file: Descriptor, length: usize) -> Result<Self, Errno> {
        Self::map(length, file, MAP_PRIVATE)
    }

    fn map(length: usize, file: Descriptor, flags: i32) -> Result<Self, Errno> {
        if length == 0 {
            return Err(Errno(EINVAL));
        }
        let protection = PROT_READ | PROT_WRITE;
        // SAFETY: a mapping at a place of the kernel's choice, of which nothing else knows.
        let start = unsafe { call!(MMAP, 0usize, length, protection, flags, file, 0) }?;
        Ok(Region {
            start: ptr::with_exposed_provenance_mut(start),
            length,
        })
    }

    /// Its bytes.
    pub fn bytes(&self) -> &[u8] {
        // SAFETY: the mapping is readable, initialised by the kernel, and this value's alone.
        unsafe { slice::from_raw_parts(self.start, self.length) }
    }

    /// Its bytes, to change.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above, and borrowed exclusively.
        unsafe { slice::from_raw_parts_mut(self.start, self.length) }
    }

    /// Its upper end, as the start of a stack.
    pub(super) fn top(&mut self) -> *mut u8 {
        // SAFETY: one past the end of the mapping; lengths given by this crate are multiples of a page.
        unsafe { self.start.add(self.length) }
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        // SAFETY: nothing borrows from it any more.
        let _ = unsafe { call!(MUNMAP, self.start, self.length) };
    }
}

/// Strings as exec wants them: pointers, and a null pointer at the end.
#[derive(Debug)]
pub struct Vector<'s> {
    pointers: *const *const c_char,
    /// The mapping that holds the pointers, if they were collected here.
    _region: Option<Region>,
    strings: PhantomData<&'s CStr>,
}

impl<'s> Vector<'s> {
    /// Collects pointers to strings.
    pub fn new(strings: impl Iterator<Item = &'s CStr> + Clone) -> Result<Self, Errno> {
        let bytes = Self::bytes_for(strings.clone().count());
        let mut region = Region::new(bytes.next_multiple_of(4096))?;
        let pointers = Self::collect(strings, region.bytes_mut());
        Ok(Vector {
            pointers: pointers.ok_or(Errno(ENOMEM))?,
            _region: Some(region),
            strings: PhantomData,
        })
    }

    /// The same in memory that there is; `None` where it does not suffice.
    pub fn within(
        strings: impl Iterator<Item = &'s CStr> + Clone,
        memory: &'s mut [u8],
    ) -> Option<Self> {
        Some(Vector {
            pointers: Self::collect(strings, memory)?,
            _region: None,
            strings: PhantomData,
        })
    }

    /// Bytes of memory for so many strings.
    pub fn bytes_for(count: usize) -> usize {
        (count + 2) * size_of::<usize>()
    }

    fn collect(
        strings: impl Iterator<Item = &'s CStr>,
        memory: &mut [u8],
    ) -> Option<*const *const c_char> {
        // SAFETY: pointers are plain numbers, of which all bit patterns are valid, and are given away as raw ones only.
        let (_, places, _) = unsafe { memory.align_to_mut::<*const c_char>() };
        let mut used = 0;
        for string in strings {
            *places.get_mut(used)? = string.as_ptr();
            used += 1;
        }
        *places.get_mut(used)? = ptr::null();
        Some(places.as_ptr())
    }

    /// A list that the kernel made at the start of the program.
    ///
    /// # Safety
    /// `pointers` must point to an array of pointers to strings, all unchanged while `'s` lasts, that ends in a null pointer.
    pub(super) unsafe fn from_raw(pointers: *const *const c_char) -> Self {
        Vector {
            pointers,
            _region: None,
            strings: PhantomData,
        }
    }

    pub(super) fn as_ptr(&self) -> *const *const c_char {
        self.pointers
    }

    /// The strings.
    pub fn iter(&self) -> Strings<'s> {
        Strings {
            next: self.pointers,
            strings: PhantomData,
        }
    }
}

/// The strings of a [`Vector`].
#[derive(Clone, Debug)]
pub struct Strings<'s> {
    next: *const *const c_char,
    strings: PhantomData<&'s CStr>,
}

impl<'s> Iterator for Strings<'s> {
    type Item = &'s CStr;

    fn next(&mut self) -> Option<&'s CStr> {
        // SAFETY: the array ends in a null pointer, beyond which this never steps; the strings live for `'s`.
        unsafe {
            let pointer = *self.next;
            if pointer.is_null() {
                return None;
            }
            self.next = self.next.add(1);
            Some(CStr::from_ptr(pointer))
        }
    }
}
