//! Memory, and lists of strings as the kernel takes them.

use core::{
    ffi::{CStr, c_char},
    marker::PhantomData,
    ptr, slice,
    sync::atomic::{AtomicUsize, Ordering},
};

use super::{Errno, call, constant::*};

const PROT_READ: i32 = 1;
const PROT_WRITE: i32 = 2;
const MAP_PRIVATE: i32 = 2;
const MAP_ANONYMOUS: i32 = 0x20;

/// Where the next mapping is to be, if that matters.
static NEXT: AtomicUsize = AtomicUsize::new(0);

/// Has mappings made one after the other from here on, where there is room, so that they share page tables.
pub(super) fn place_from(start: usize) {
    NEXT.store(start, Ordering::Relaxed);
}

/// A wish for the place of a mapping; 0 for none.
fn place(length: usize) -> usize {
    match NEXT.load(Ordering::Relaxed) {
        0 => 0,
        _ => NEXT.fetch_add(length.next_multiple_of(4096), Ordering::Relaxed),
    }
}

/// A mapping of its own, zeroed; given back when dropped.
#[derive(Debug)]
pub struct Region {
    start: *mut u8,
    length: usize,
}

impl Region {
    /// Zeroes.
    pub fn new(length: usize) -> Result<Self, Errno> {
        if length == 0 {
            return Err(Errno(EINVAL));
        }
        let (protection, flags) = (PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS);
        let wish = place(length);
        // SAFETY: a mapping where nothing is, at a place of the kernel's choice, of which nothing else knows.
        let start = unsafe { call!(MMAP, wish, length, protection, flags, -1, 0) }?;
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

    /// The same, as numbers of a pointer's size.
    pub fn words_mut(&mut self) -> &mut [usize] {
        let count = self.length / size_of::<usize>();
        // SAFETY: as above; a mapping is aligned to a page.
        unsafe { slice::from_raw_parts_mut(self.start.cast(), count) }
    }

    /// Keeps it for good.
    pub fn last(self) -> Lasting {
        let kept = core::mem::ManuallyDrop::new(self);
        Lasting {
            start: kept.start,
            length: kept.length,
        }
    }

    /// Its bytes, never given back.
    pub fn leak(self) -> &'static mut [u8] {
        let region = core::mem::ManuallyDrop::new(self);
        // SAFETY: as in `bytes_mut`, and never unmapped.
        unsafe { slice::from_raw_parts_mut(region.start, region.length) }
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

/// A mapping that is never given back, for what another process shares.
#[derive(Clone, Copy, Debug)]
pub struct Lasting {
    start: *mut u8,
    length: usize,
}

impl Lasting {
    /// One of the equal parts that it consists of, each some pages long.
    pub fn part(self, index: usize, length: usize) -> Self {
        let at = (index * length).min(self.length.saturating_sub(length));
        Lasting {
            // SAFETY: within the mapping.
            start: unsafe { self.start.add(at) },
            length: length.min(self.length),
        }
    }

    /// Where it begins.
    pub(super) fn start(self) -> *mut u8 {
        self.start
    }

    /// Its upper end, as the start of a stack.
    pub(super) fn top(self) -> *mut u8 {
        // SAFETY: one past the end of the mapping; lengths given by this crate are multiples of a page.
        unsafe { self.start.add(self.length) }
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
        let bytes = (strings.clone().count() + 1) * size_of::<usize>();
        let mut region = Region::new(bytes.next_multiple_of(4096))?;
        let pointers = Self::collect(region.words_mut(), strings)?;
        Ok(Vector {
            pointers,
            _region: Some(region),
            strings: PhantomData,
        })
    }

    /// Collects pointers to strings in memory that is there already; E2BIG when they and the null pointer do not fit.
    pub fn within(
        room: &'s mut [usize],
        strings: impl Iterator<Item = &'s CStr>,
    ) -> Result<Self, Errno> {
        Ok(Vector {
            pointers: Self::collect(room, strings)?,
            _region: None,
            strings: PhantomData,
        })
    }

    fn collect(
        room: &mut [usize],
        strings: impl Iterator<Item = &'s CStr>,
    ) -> Result<*const *const c_char, Errno> {
        let mut places = room.iter_mut();
        for string in strings {
            *places.next().ok_or(Errno(E2BIG))? = string.as_ptr().expose_provenance();
        }
        *places.next().ok_or(Errno(E2BIG))? = 0;
        Ok(room.as_ptr().cast())
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
