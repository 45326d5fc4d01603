//! A stack in the program's own memory, and leaving everything else behind.
//!
//! What a process costs while it waits is pages: its own, and those of the page tables, of which each region of memory far from the
//! others takes up to three. A copy of a program that runs on the stack that the kernel made has its memory in three such regions.
//! A copy of one that runs on this stack can do with the one that the program lies in.

use core::{
    cell::UnsafeCell,
    mem::MaybeUninit,
    sync::atomic::{AtomicBool, Ordering},
};

use super::{arch, call, memory};

/// Bytes of a stack for PID 1: it has no recursion, and a few paths of 4 KiB at a time.
pub const STACK: usize = 128 * 1024;

/// Bytes above the stack for what is carried over: no function has them.
const CARRIED: usize = 64;

const MADV_DONTNEED: i32 = 4;
const PAGE: usize = 4096;

#[repr(C, align(4096))]
struct Bytes(UnsafeCell<[u8; STACK]>);

// SAFETY: nobody gets a reference to it: it is used by way of the stack pointer, by the one thread that was started on it.
unsafe impl Sync for Bytes {}

/// Zeroes, in no file.
static OWN: Bytes = Bytes(UnsafeCell::new([0; STACK]));

// Where the program ends, as linkers call it.
unsafe extern "C" {
    #[link_name = "_end"]
    static END_OF_PROGRAM: u8;
}

/// Has mappings made beside the program from here on, and gives the upper end of the stack for it to run on (see
/// [`crate::entry_on_own_stack`]).
pub fn take_own_stack() -> *mut u8 {
    memory::place_from(end());
    // SAFETY: within it.
    unsafe { OWN.0.get().cast::<u8>().add(STACK - CARRIED) }
}

/// The first page after the program.
fn end() -> usize {
    (&raw const END_OF_PROGRAM).addr().next_multiple_of(PAGE)
}

/// What is carried over.
struct Carried<const N: usize> {
    words: [u64; N],
    then: fn([u64; N]) -> !,
}

/// Goes on in `then` with these numbers and nothing else: what this process has on its stack and in mappings of its own is given
/// back, if it was started on the stack that is here. Otherwise nothing is.
pub fn shed<const N: usize>(words: [u64; N], then: fn([u64; N]) -> !) -> ! {
    let here = (&raw const words).addr();
    let start = OWN.0.get().addr();
    if !(start..start + STACK).contains(&here) {
        then(words)
    }
    const { assert!(size_of::<Carried<N>>() <= CARRIED) };
    // SAFETY: what is above the stack, which nobody else uses.
    let place = unsafe { OWN.0.get().cast::<u8>().add(STACK - CARRIED) }.cast::<Carried<N>>();
    // SAFETY: as above, and aligned to 16 bytes.
    unsafe { place.write(Carried { words, then }) };
    // SAFETY: `land` takes what was just written. The stack below it has frames of callers, to none of which anything returns, and
    // nothing that they lent to this function is looked at again: numbers borrow nothing.
    unsafe { arch::continue_on(place.cast(), land::<N>) }
}

extern "C" fn land<const N: usize>(place: usize) -> ! {
    // SAFETY: as `shed` has written it.
    let Carried { words, then } =
        unsafe { core::ptr::with_exposed_provenance::<Carried<N>>(place).read() };
    let end = end();
    // SAFETY: all that is above the program: mappings and the first stack, to which nothing that is left refers. Should the kernel
    // refuse, they stay.
    let _ = unsafe { call!(MUNMAP, end, arch::END_OF_MEMORY - end) };
    let start = OWN.0.get();
    // The deepest that this function may be, red zone and all.
    let here = (&raw const end).addr() - 256;
    let used = here - here % PAGE;
    // SAFETY: the part of the stack below what is in use.
    let _ = unsafe { call!(MADVISE, start, used - start.addr(), MADV_DONTNEED) };
    then(words)
}

/// One value in the program's memory, given out once. One that is all zeroes takes no memory until it is written to.
pub struct Once<T> {
    taken: AtomicBool,
    value: UnsafeCell<MaybeUninit<T>>,
}

// SAFETY: the value is given to one thread only.
unsafe impl<T: Send> Sync for Once<T> {}

impl<T> Once<T> {
    /// With this value.
    pub const fn new(value: T) -> Self {
        Self {
            taken: AtomicBool::new(false),
            value: UnsafeCell::new(MaybeUninit::new(value)),
        }
    }

    /// The value, the first time.
    #[expect(clippy::mut_from_ref, reason = "it is given out once")]
    pub fn take(&'static self) -> Option<&'static mut T> {
        if self.taken.swap(true, Ordering::Relaxed) {
            return None;
        }
        // SAFETY: initialised in `new`, and given out this once.
        Some(unsafe { (*self.value.get()).assume_init_mut() })
    }
}
