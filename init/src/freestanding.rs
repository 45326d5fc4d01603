//! What a program without a C library must bring along: a panic, and the functions that the compiler calls.

use core::{ffi::c_int, panic::PanicInfo};

use envd_init::sys;

#[panic_handler]
fn panic(_: &PanicInfo<'_>) -> ! {
    // An exit code of its own: nothing else of this program gives it.
    sys::exit(121)
}

/// memcpy(3).
///
/// # Safety
/// As of memcpy(3).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memcpy(to: *mut u8, from: *const u8, length: usize) -> *mut u8 {
    // SAFETY: as the caller says; the instruction copies `length` bytes upwards.
    unsafe {
        core::arch::asm!(
            "rep movsb",
            inout("rdi") to => _,
            inout("rsi") from => _,
            inout("rcx") length => _,
            options(nostack, preserves_flags),
        );
    }
    to
}

/// memmove(3).
///
/// # Safety
/// As of memmove(3).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memmove(to: *mut u8, from: *const u8, length: usize) -> *mut u8 {
    if (to as usize).wrapping_sub(from as usize) >= length {
        // SAFETY: copying upwards never overwrites what is still to be read.
        return unsafe { memcpy(to, from, length) };
    }
    let mut at = length;
    while at > 0 {
        at -= 1;
        // SAFETY: as the caller says; downwards for the same reason.
        unsafe { to.add(at).write_volatile(from.add(at).read_volatile()) };
    }
    to
}

/// memset(3).
///
/// # Safety
/// As of memset(3).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memset(to: *mut u8, value: c_int, length: usize) -> *mut u8 {
    // SAFETY: as the caller says; the instruction writes `length` bytes upwards.
    unsafe {
        core::arch::asm!(
            "rep stosb",
            inout("rdi") to => _,
            inout("rcx") length => _,
            in("al") value as u8,
            options(nostack, preserves_flags),
        );
    }
    to
}

/// memcmp(3).
///
/// # Safety
/// As of memcmp(3).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memcmp(one: *const u8, other: *const u8, length: usize) -> c_int {
    let mut at = 0;
    while at < length {
        // SAFETY: as the caller says. Volatile, lest the loop become a call of this very function.
        let (a, b) = unsafe { (one.add(at).read_volatile(), other.add(at).read_volatile()) };
        if a != b {
            return c_int::from(a) - c_int::from(b);
        }
        at += 1;
    }
    0
}

/// bcmp(3).
///
/// # Safety
/// As of bcmp(3).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bcmp(one: *const u8, other: *const u8, length: usize) -> c_int {
    // SAFETY: as the caller says.
    unsafe { memcmp(one, other, length) }
}

/// strlen(3).
///
/// # Safety
/// As of strlen(3).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn strlen(string: *const u8) -> usize {
    let mut length = 0;
    // SAFETY: as the caller says.
    while unsafe { string.add(length).read_volatile() } != 0 {
        length += 1;
    }
    length
}
