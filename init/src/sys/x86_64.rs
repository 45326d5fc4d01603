//! x86-64: how a system call is made, what the calls are numbered, and where a program starts. One more machine is one more
//! file like this.

use core::arch::asm;

/// Bits of the numbers that differ between machines (linux/fcntl.h, asm/fcntl.h).
pub mod flags {
    /// Fail unless it is a directory.
    pub const O_DIRECTORY: i32 = 0o200_000;
    /// Fail on a symbolic link at the end.
    pub const O_NOFOLLOW: i32 = 0o400_000;
}

/// Declares a function for system calls of so many arguments: registers that a call does not read are not set for it, which
/// adds up in a program whose size is a promise.
macro_rules! calls {
    ($($name:ident($($argument:ident in $register:tt),*);)*) => {$(
        /// Makes a system call. What it means, and whether it is sound, is all in its number and arguments.
        ///
        /// # Safety
        /// As of the call: every pointer must be valid for what the kernel does with it.
        #[inline]
        pub unsafe fn $name(number: usize, $($argument: usize),*) -> isize {
            let result: isize;
            // SAFETY: the convention of syscall(2) for this machine: rcx and r11 are clobbered, memory only as the caller
            // allows.
            unsafe {
                asm!(
                    "syscall",
                    inlateout("rax") number as isize => result,
                    $(in($register) $argument,)*
                    lateout("rcx") _,
                    lateout("r11") _,
                    options(nostack),
                );
            }
            result
        }
    )*};
}

calls! {
    call0();
    call1(a in "rdi");
    call2(a in "rdi", b in "rsi");
    call3(a in "rdi", b in "rsi", c in "rdx");
    call4(a in "rdi", b in "rsi", c in "rdx", d in "r10");
    call5(a in "rdi", b in "rsi", c in "rdx", d in "r10", e in "r8");
    call6(a in "rdi", b in "rsi", c in "rdx", d in "r10", e in "r8", f in "r9");
}

/// Starts a child on a stack of its own that shares this process's memory. The child runs `enter(argument)` and ends with what
/// that returns. With CLONE_PIDFD, a pidfd of it is written to `pidfd`; with CLONE_CHILD_CLEARTID, the kernel writes 0 to `word`
/// when it ends, and wakes who waits there.
///
/// # Safety
/// `stack` must be the 16-byte aligned upper end of a writable mapping that nothing else uses as long as the child runs in it,
/// `argument` what `enter` takes, and `pidfd` and `word` valid where they are used. `flags` must contain CLONE_VM and nothing
/// that takes further arguments.
#[inline]
pub unsafe fn spawn_sharing(
    flags: usize,
    stack: *mut u8,
    enter: extern "C" fn(usize) -> i32,
    argument: usize,
    pidfd: *mut i32,
    word: usize,
) -> isize {
    let result: isize;
    // SAFETY: the child starts with the parent's registers and the new stack; it calls `enter`, which was given for this,
    // and never comes back here. The parent sees an ordinary call; callee-saved registers are kept by the kernel.
    unsafe {
        asm!(
            "syscall",
            "test rax, rax",
            "jnz 2f",
            "xor ebp, ebp",
            "mov rdi, r12",
            "call r13",
            "mov edi, eax",
            "mov eax, 60",
            "syscall",
            "ud2",
            "2:",
            inlateout("rax") number::CLONE as isize => result,
            in("rdi") flags,
            in("rsi") stack,
            in("rdx") pidfd,
            in("r10") word,
            in("r8") 0usize,
            in("r12") argument,
            in("r13") enter,
            lateout("rcx") _,
            lateout("r11") _,
        );
    }
    result
}

/// Goes on in `then(argument)` on the stack below `argument`, for good.
///
/// # Safety
/// `argument` must be aligned to 16 bytes, what is below it a stack that nothing else uses, and it what `then` takes. Nothing of this
/// process may rely on its stack so far.
pub unsafe fn continue_on(argument: *mut u8, then: extern "C" fn(usize) -> !) -> ! {
    // SAFETY: as the caller says; the call leaves the stack as the convention wants it on entry.
    unsafe {
        asm!(
            "mov rsp, rdi",
            "xor ebp, ebp",
            "call {then}",
            "ud2",
            then = in(reg) then,
            in("rdi") argument,
            options(noreturn),
        );
    }
}

/// Where the memory of a process ends (TASK_SIZE_MAX).
pub const END_OF_MEMORY: usize = (1 << 47) - 4096;

/// Makes `_start`, where a program without a C library starts, call a function of type `fn(&Start) -> i32` and exit with what
/// it gives.
#[macro_export]
macro_rules! entry {
    ($main:path) => {
        core::arch::global_asm!(
            ".globl _start",
            "_start:",
            "xor ebp, ebp",
            "mov rdi, rsp",
            "and rsp, -16",
            "call {main}",
            "ud2",
            main = sym start_of_program,
        );

        $crate::start_of_program!($main);
    };
}

/// The same, on the stack in the program's own memory (see `sys/stack.rs`).
#[macro_export]
macro_rules! entry_on_own_stack {
    ($main:path) => {
        core::arch::global_asm!(
            ".globl _start",
            "_start:",
            "xor ebp, ebp",
            "mov rbx, rsp",
            "and rsp, -16",
            "call {top}",
            "mov rdi, rbx",
            "mov rsp, rax",
            "call {main}",
            "ud2",
            top = sym top_of_stack,
            main = sym start_of_program,
        );

        extern "C" fn top_of_stack() -> *mut u8 {
            $crate::sys::take_own_stack()
        }

        $crate::start_of_program!($main);
    };
}

/// What `_start` calls.
#[macro_export]
#[doc(hidden)]
macro_rules! start_of_program {
    ($main:path) => {
        unsafe extern "C" fn start_of_program(stack: *const usize) -> ! {
            // SAFETY: the stack as the kernel prepared it.
            let start = unsafe { $crate::sys::Start::from_stack(stack) };
            $crate::sys::exit($main(&start))
        }
    };
}

/// Makes a symbol that may be the entry point of a program with a C library: it calls a function of type
/// `fn(&Start) -> Option<i32>`, exits with what that gives, and where it gives nothing goes on to `_start`, which is the C
/// library's, as if nothing had been.
#[macro_export]
macro_rules! front {
    ($symbol:literal, $main:path) => {
        core::arch::global_asm!(
            concat!(".globl ", $symbol),
            concat!($symbol, ":"),
            "xor ebp, ebp",
            "mov rdi, rsp",
            // Kept across the call: the stack, and what the kernel has put into rdx for the C library.
            "mov rbx, rsp",
            "mov r12, rdx",
            "and rsp, -16",
            "call {main}",
            "mov rsp, rbx",
            "mov rdx, r12",
            "xor ebx, ebx",
            "xor r12d, r12d",
            "jmp _start",
            main = sym front_of_program,
        );

        unsafe extern "C" fn front_of_program(stack: *const usize) {
            // SAFETY: the stack as the kernel prepared it.
            let start = unsafe { $crate::sys::Start::from_stack(stack) };
            if let Some(code) = $main(&start) {
                $crate::sys::exit(code)
            }
        }
    };
}

/// System call numbers (asm/unistd_64.h). Those from 424 on are the same everywhere.
pub mod number {
    #![allow(missing_docs)]
    pub const READ: usize = 0;
    pub const WRITE: usize = 1;
    pub const CLOSE: usize = 3;
    pub const LSEEK: usize = 8;
    pub const MMAP: usize = 9;
    pub const MUNMAP: usize = 11;
    pub const MADVISE: usize = 28;
    pub const RT_SIGACTION: usize = 13;
    pub const RT_SIGPROCMASK: usize = 14;
    pub const IOCTL: usize = 16;
    pub const PREAD64: usize = 17;
    pub const DUP2: usize = 33;
    pub const GETPID: usize = 39;
    pub const SOCKET: usize = 41;
    pub const CONNECT: usize = 42;
    pub const SENDTO: usize = 44;
    pub const RECVFROM: usize = 45;
    pub const SENDMSG: usize = 46;
    pub const RECVMSG: usize = 47;
    pub const BIND: usize = 49;
    pub const LISTEN: usize = 50;
    pub const GETSOCKNAME: usize = 51;
    pub const SOCKETPAIR: usize = 53;
    pub const SETSOCKOPT: usize = 54;
    pub const GETSOCKOPT: usize = 55;
    pub const CLONE: usize = 56;
    pub const EXECVE: usize = 59;
    pub const WAIT4: usize = 61;
    pub const KILL: usize = 62;
    pub const FCNTL: usize = 72;
    pub const UNAME: usize = 63;
    pub const FLOCK: usize = 73;
    pub const GETCWD: usize = 79;
    pub const CHDIR: usize = 80;
    pub const FCHDIR: usize = 81;
    pub const UMASK: usize = 95;
    pub const GETUID: usize = 102;
    pub const GETGID: usize = 104;
    pub const GETEUID: usize = 107;
    pub const GETEGID: usize = 108;
    pub const SETPGID: usize = 109;
    pub const GETPPID: usize = 110;
    pub const SETSID: usize = 112;
    pub const GETPGID: usize = 121;
    pub const GETSID: usize = 124;
    pub const CAPGET: usize = 125;
    pub const CAPSET: usize = 126;
    pub const GETPRIORITY: usize = 140;
    pub const SETPRIORITY: usize = 141;
    pub const PIVOT_ROOT: usize = 155;
    pub const PRCTL: usize = 157;
    pub const MOUNT: usize = 165;
    pub const UMOUNT2: usize = 166;
    pub const SETHOSTNAME: usize = 170;
    pub const GETTID: usize = 186;
    pub const FUTEX: usize = 202;
    pub const GETDENTS64: usize = 217;
    pub const EXIT_GROUP: usize = 231;
    pub const WAITID: usize = 247;
    pub const OPENAT: usize = 257;
    pub const MKDIRAT: usize = 258;
    pub const MKNODAT: usize = 259;
    pub const NEWFSTATAT: usize = 262;
    pub const UNLINKAT: usize = 263;
    pub const SYMLINKAT: usize = 266;
    pub const FCHMOD: usize = 91;
    pub const READLINKAT: usize = 267;
    pub const PPOLL: usize = 271;
    pub const UNSHARE: usize = 272;
    pub const SIGNALFD4: usize = 289;
    pub const PRLIMIT64: usize = 302;
    pub const SETNS: usize = 308;
    pub const SECCOMP: usize = 317;
    pub const MEMFD_CREATE: usize = 319;
    pub const EXECVEAT: usize = 322;
    pub const STATX: usize = 332;
    pub const PIDFD_SEND_SIGNAL: usize = 424;
    pub const IO_URING_SETUP: usize = 425;
    pub const IO_URING_REGISTER: usize = 427;
    pub const OPEN_TREE: usize = 428;
    pub const MOVE_MOUNT: usize = 429;
    pub const CLONE3: usize = 435;
    pub const CLOSE_RANGE: usize = 436;
    pub const OPENAT2: usize = 437;
    pub const FACCESSAT2: usize = 439;
    pub const MOUNT_SETATTR: usize = 442;
    pub const LANDLOCK_CREATE_RULESET: usize = 444;
    pub const LANDLOCK_ADD_RULE: usize = 445;
    pub const LANDLOCK_RESTRICT_SELF: usize = 446;
}
