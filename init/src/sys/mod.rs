//! System calls, without a C library: raw numbers and pointers below, safe functions above. All unsafe code of the crate is
//! in this directory; what differs between machines is in one file each.
//!
//! Descriptors are plain numbers: the programs of this crate live in processes that hold a handful of them, close what they
//! do not need in one call, and end by exit or exec.

#[cfg(target_arch = "x86_64")]
#[path = "x86_64.rs"]
pub mod arch;
pub mod constant;
mod descriptors;
mod files;
mod memory;
mod mounts;
mod process;
mod security;
mod signals;
mod sockets;
mod stack;
mod start;

use arch::number;
pub use descriptors::{
    Interest, close, close_all_but, close_from, close_on_exec_from, duplicate_to, move_above, nap,
    poll, read, read_at, read_directory, write, write_all,
};
pub use files::*;
pub use memory::{Lasting, Region, Strings, Vector};
pub use mounts::*;
pub use process::*;
pub use security::*;
pub use signals::*;
pub use sockets::*;
pub use stack::{Once, STACK, shed, take_own_stack};
pub use start::Start;

/// An open file, as the process knows it.
pub type Descriptor = i32;

/// A process id as this PID namespace counts.
pub type Pid = i32;

/// What a system call failed with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Errno(pub i32);

/// An argument as the kernel takes it.
trait Word {
    fn word(self) -> usize;
}

macro_rules! words {
    ($($kind:ty),*) => {$(
        impl Word for $kind {
            #[inline]
            fn word(self) -> usize {
                // Sign-extended where it has a sign, as the kernel's ABI wants it (AT_FDCWD is negative).
                self as isize as usize
            }
        }
    )*};
}
words!(i32, u32, usize, isize, u64, i64);

impl<T> Word for *const T {
    #[inline]
    fn word(self) -> usize {
        self.expose_provenance()
    }
}

impl<T> Word for *mut T {
    #[inline]
    fn word(self) -> usize {
        self.expose_provenance()
    }
}

impl Word for &core::ffi::CStr {
    #[inline]
    fn word(self) -> usize {
        self.as_ptr().expose_provenance()
    }
}

/// A number in decimal digits.
pub fn decimal(mut number: u32, digits: &mut [u8; 12]) -> &[u8] {
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            return &digits[at..];
        }
    }
}

/// What the kernel answered.
#[inline]
fn answer(result: isize) -> Result<usize, Errno> {
    if result < 0 {
        Err(Errno(-result as i32))
    } else {
        Ok(result as usize)
    }
}

/// `call!(NUMBER, argument, …)`: a system call, as a `Result`. Unsafe as [`arch::call1`] and the others are.
macro_rules! call {
    ($number:ident $(,)?) => { call!(@ call0 $number) };
    ($number:ident, $a:expr $(,)?) => { call!(@ call1 $number, $a) };
    ($number:ident, $a:expr, $b:expr $(,)?) => { call!(@ call2 $number, $a, $b) };
    ($number:ident, $a:expr, $b:expr, $c:expr $(,)?) => { call!(@ call3 $number, $a, $b, $c) };
    ($number:ident, $a:expr, $b:expr, $c:expr, $d:expr $(,)?) => {
        call!(@ call4 $number, $a, $b, $c, $d)
    };
    ($number:ident, $a:expr, $b:expr, $c:expr, $d:expr, $e:expr $(,)?) => {
        call!(@ call5 $number, $a, $b, $c, $d, $e)
    };
    ($number:ident, $a:expr, $b:expr, $c:expr, $d:expr, $e:expr, $f:expr $(,)?) => {
        call!(@ call6 $number, $a, $b, $c, $d, $e, $f)
    };
    (@ $call:ident $number:ident $(, $argument:expr)*) => {
        $crate::sys::answer($crate::sys::arch::$call(
            $crate::sys::number::$number,
            $($crate::sys::Word::word($argument)),*
        ))
    };
}
use call;

#[cfg(test)]
mod tests;
