//! Processes: making, becoming, waiting, ending.

use core::{
    ffi::CStr,
    sync::atomic::{AtomicI32, AtomicU32, Ordering},
};

use super::{Descriptor, Errno, Lasting, Pid, Region, Vector, arch, call, constant::*};

/// This process's id.
pub fn own_pid() -> Pid {
    // SAFETY: touches no memory and always succeeds.
    unsafe { call!(GETPID) }.unwrap_or(0) as Pid
}

/// Its parent's; 0 when that is outside the PID namespace.
pub fn parent_pid() -> Pid {
    // SAFETY: touches no memory and always succeeds.
    unsafe { call!(GETPPID) }.unwrap_or(0) as Pid
}

/// Real and effective user and group id.
pub fn ids() -> (u32, u32, u32, u32) {
    // SAFETY: these touch no memory and always succeed.
    let ids = unsafe { [call!(GETUID), call!(GETEUID), call!(GETGID), call!(GETEGID)] };
    let [uid, euid, gid, egid] = ids.map(|id| id.unwrap_or(0) as u32);
    (uid, euid, gid, egid)
}

/// Which of two processes one is after [`copy`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Side {
    /// The new process.
    Child,
    /// The one that there was.
    Parent {
        /// The new process's id.
        pid: Pid,
        /// A pidfd of it.
        pidfd: Descriptor,
    },
}

/// Makes a copy of this process, in the new namespaces that `flags` name (clone3(2)), and in the control group whose directory
/// `group` is. SIGCHLD tells of its end.
///
/// The process must have one thread: in a copy of several, locks that another thread held stay locked.
pub fn copy(flags: u64, group: Option<Descriptor>) -> Result<Side, Errno> {
    /// `struct clone_args`, third version.
    #[repr(C, align(8))]
    #[derive(Default)]
    struct Arguments {
        flags: u64,
        pidfd: u64,
        child_tid: u64,
        parent_tid: u64,
        exit_signal: u64,
        stack: u64,
        stack_size: u64,
        tls: u64,
        set_tid: u64,
        set_tid_size: u64,
        cgroup: u64,
    }
    /// Bytes of the first version, all that older kernels know.
    const FIRST: usize = 64;
    let (into, size) = match group {
        Some(_) => (CLONE_INTO_CGROUP, size_of::<Arguments>()),
        None => (0, FIRST),
    };
    let mut pidfd: Descriptor = -1;
    let arguments = Arguments {
        flags: flags | CLONE_PIDFD | into,
        pidfd: (&raw mut pidfd).expose_provenance() as u64,
        exit_signal: SIGCHLD as u64,
        cgroup: group.unwrap_or(0) as u64,
        ..Arguments::default()
    };
    // SAFETY: without CLONE_VM the child has its own copy of all memory and goes on on its own copy of this stack, as after
    // fork(2); the kernel writes the one place that is named, which outlives the call.
    let pid = unsafe { call!(CLONE3, &raw const arguments, size) }?;
    Ok(if pid == 0 {
        Side::Child
    } else {
        Side::Parent {
            pid: pid as Pid,
            pidfd,
        }
    })
}

/// Makes a process that shares this one's memory, in the new namespaces that `flags` name, and runs `child` in it. SIGCHLD tells
/// of its end. Gives its id and a pidfd.
///
/// Nothing is copied, neither now nor when either side writes; that saves a tenth of a millisecond. Both run at once, so `child`
/// has nothing that is borrowed from a stack, and the memory that it gets at is never given back. `stack` is all its own;
/// what it needs of it is not checked.
pub fn share<C: FnOnce() -> i32 + Send + 'static>(
    flags: u64,
    stack: Region,
    child: C,
) -> Result<(Pid, Descriptor), Errno> {
    extern "C" fn enter<C: FnOnce() -> i32>(argument: usize) -> i32 {
        // SAFETY: the address of the closure below, which was put there for this one call.
        let child: C = unsafe { core::ptr::with_exposed_provenance_mut::<C>(argument).read() };
        child()
    }
    // The closure lies at the upper end of the stack, which goes on below it.
    let room = size_of::<C>().next_multiple_of(16);
    const { assert!(align_of::<C>() <= 16) };
    if room >= stack.bytes().len() {
        return Err(Errno(ENOMEM));
    }
    let stack = stack.last();
    // SAFETY: the region is longer than `room` and its end a page's, so that this is within it and aligned to 16 bytes.
    let place = unsafe { stack.top().sub(room) };
    // SAFETY: as above; nobody else has the region.
    unsafe { place.cast::<C>().write(child) };
    let mut pidfd: Descriptor = -1;
    let flags = (flags | CLONE_PIDFD) as usize | CLONE_VM as usize | SIGCHLD as usize;
    let argument = place.expose_provenance();
    // SAFETY: the stack is the child's alone and never unmapped; what the closure holds is its own or lives for ever, and may
    // be used beside this process (`Send`, `'static`); the kernel writes `pidfd` before the call ends.
    let pid = unsafe { arch::spawn_sharing(flags, place, enter::<C>, argument, &raw mut pidfd, 0) };
    super::answer(pid).map(|pid| (pid as Pid, pidfd))
}

/// Starts a child that shares this process's memory until it executes a program (vfork(2), on a stack of its own), and
/// runs `child` in it. `child` leaves by exec; when it returns instead, the process ends with the status it gives.
///
/// What `child` writes is seen here afterwards: that is how it says why it failed. It must not unwind.
///
/// `stack` is that stack, to be used from its upper end. What `child` needs of it is not checked: the crate gives 128 KiB, of
/// which it uses a few.
pub fn spawn(stack: &mut Region, child: &mut dyn FnMut() -> i32) -> Result<Pid, Errno> {
    extern "C" fn enter(argument: usize) -> i32 {
        let child = core::ptr::with_exposed_provenance_mut::<&mut dyn FnMut() -> i32>(argument);
        // SAFETY: the address of `child` below, which outlives this call: the parent is suspended.
        unsafe { (*child)() }
    }
    let mut child = child;
    let flags = (CLONE_VM | CLONE_VFORK) as usize | SIGCHLD as usize;
    let argument = (&raw mut child).expose_provenance();
    // SAFETY: CLONE_VFORK suspends this process until the child is out of the shared memory, so that the two never run in
    // it at once; the stack is the child's alone, its top is aligned, and stays borrowed meanwhile.
    let pid = unsafe {
        arch::spawn_sharing(
            flags,
            stack.top(),
            enter,
            argument,
            core::ptr::null_mut(),
            0,
        )
    };
    super::answer(pid).map(|pid| pid as Pid)
}

/// What a process that looks after a command shares with the one that started it, at the lower end of its stack's memory.
#[repr(C)]
struct Head {
    /// [`BEGUN`], then [`READY`]; 0 once it has ended, which the kernel writes.
    word: AtomicU32,
    /// The command's process id.
    command: AtomicI32,
    /// The command's status, once it has ended.
    status: AtomicI32,
    /// 1 then.
    ended: AtomicU32,
}

/// How often a keeper is waited for that does not say that it is ready, 20 ms each.
const MOST_WAITS: u32 = 50;

const BEGUN: u32 = 1;
const READY: u32 = 2;

/// A keeper that was started.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Kept {
    /// The keeper.
    pub keeper: Pid,
    /// The command, which is the keeper's child. `None` when it was not started; the keeper is gone by then.
    pub command: Option<Pid>,
}

/// Starts a *keeper*: a process that shares this one's memory and descriptors, starts a command, and from then on does nothing
/// but reap until the command has ended. All that the command leaves behind falls to the keeper and not to PID 1, so that as
/// long as it lives the command and its descendants are exactly what is below it.
///
/// `start` runs in the keeper and starts the command; this process goes on when it is through. ESRCH: the command has killed the
/// keeper at once, and runs below PID 1. `memory` is the keeper's stack
/// and what it leaves ([`kept_status`]): nothing else may use it until
/// the keeper has been reaped.
pub fn keep(memory: Lasting, start: &mut dyn FnMut() -> Option<Pid>) -> Result<Kept, Errno> {
    struct Task<'t> {
        head: &'static Head,
        start: &'t mut dyn FnMut() -> Option<Pid>,
    }
    extern "C" fn enter(argument: usize) -> i32 {
        let task = core::ptr::with_exposed_provenance_mut::<Task<'_>>(argument);
        // SAFETY: the address of `task` below, which outlives this use of it: the parent waits for READY.
        let head = unsafe {
            let _ = super::mask_signals(super::Mask::Set, super::SignalSet::ALL);
            let _ = become_subreaper();
            let head = (*task).head;
            let command = ((*task).start)();
            head.command.store(command.unwrap_or(0), Ordering::Relaxed);
            head
        };
        head.word.store(READY, Ordering::Release);
        wake(&head.word);
        let command = head.command.load(Ordering::Relaxed);
        if command == 0 {
            return 0;
        }
        // The command is a child of this process, and cannot go unseen.
        loop {
            let mut status: i32 = 0;
            // SAFETY: `status` is a valid place for the result.
            match unsafe { call!(WAIT4, -1, &raw mut status, 0, 0usize) } {
                Ok(pid) if pid as Pid == command => {
                    head.status.store(status, Ordering::Relaxed);
                    head.ended.store(1, Ordering::Release);
                    return 0;
                }
                Ok(_) | Err(Errno(EINTR)) => {}
                Err(_) => return 1,
            }
        }
    }
    let head = head(memory);
    head.command.store(0, Ordering::Relaxed);
    head.status.store(0, Ordering::Relaxed);
    head.ended.store(0, Ordering::Relaxed);
    head.word.store(BEGUN, Ordering::Relaxed);
    let mut task = Task { head, start };
    let flags = (CLONE_VM | CLONE_FILES | CLONE_CHILD_CLEARTID) as usize | SIGCHLD as usize;
    let argument = (&raw mut task).expose_provenance();
    let word = (&raw const head.word).expose_provenance();
    // SAFETY: the stack's memory is never given back and, by this function's contract, the keeper's alone; its top is aligned.
    // The keeper uses `task` only until it has said so, for which this process waits.
    let keeper = unsafe {
        let none = core::ptr::null_mut();
        arch::spawn_sharing(flags, memory.top(), enter, argument, none, word)
    };
    let keeper = super::answer(keeper)? as Pid;
    // The command runs before the keeper does again, and may stop it. It does not hold this process up.
    let mut waits = 0;
    while head.word.load(Ordering::Acquire) == BEGUN {
        wait_while(&head.word, BEGUN);
        if head.word.load(Ordering::Acquire) == BEGUN {
            waits += 1;
            let signal = if waits < MOST_WAITS { SIGCONT } else { SIGKILL };
            let _ = super::kill(keeper, signal);
        }
    }
    let word = head.word.load(Ordering::Acquire);
    match head.command.load(Ordering::Relaxed) {
        0 => {
            if word == READY {
                // It has nothing left to do, and may have been stopped from inside.
                let _ = super::kill(keeper, SIGKILL);
            }
            let status = wait_for(keeper)?;
            // Killed before it could say what it has started.
            if word != READY && status != 0 {
                return Err(Errno(ESRCH));
            }
            Ok(Kept {
                keeper,
                command: None,
            })
        }
        command => Ok(Kept {
            keeper,
            command: Some(command),
        }),
    }
}

/// The status of a kept command that has ended; `None` as long as it has not.
pub fn kept_status(memory: Lasting) -> Option<i32> {
    let head = head(memory);
    match head.ended.load(Ordering::Acquire) {
        0 => None,
        _ => Some(head.status.load(Ordering::Relaxed)),
    }
}

fn head(memory: Lasting) -> &'static Head {
    // SAFETY: a mapping of some pages, aligned to one, and never given back; any bytes are a `Head`, and all access to them is
    // atomic.
    unsafe { &*memory.start().cast::<Head>() }
}

/// Sleeps as long as a word has this value, 20 ms at most (futex(2)). May come back early.
fn wait_while(word: &AtomicU32, value: u32) {
    const FUTEX_WAIT: i32 = 0;
    let time = [0i64, 20_000_000];
    // SAFETY: the word and the time, two numbers, are only read.
    let _ = unsafe {
        call!(
            FUTEX,
            word.as_ptr().cast_const(),
            FUTEX_WAIT,
            value,
            time.as_ptr()
        )
    };
}

/// Wakes who sleeps there.
fn wake(word: &AtomicU32) {
    const FUTEX_WAKE: i32 = 1;
    // SAFETY: the word is not even read.
    let _ = unsafe { call!(FUTEX, word.as_ptr().cast_const(), FUTEX_WAKE, 1) };
}

/// Executes a program: comes back only when that fails.
pub fn execute(program: &CStr, arguments: &Vector<'_>, environment: &Vector<'_>) -> Errno {
    // SAFETY: the path ends in a zero byte, both vectors end in a null pointer and point to strings that live.
    let result = unsafe { call!(EXECVE, program, arguments.as_ptr(), environment.as_ptr()) };
    result.err().unwrap_or(Errno(EIO))
}

/// How a child changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Wait {
    /// Stopped by this signal.
    Stopped(i32),
    /// Ended with this status, as waitpid(2) gives it.
    Ended(i32),
}

/// The next child that ended, or (when `stops`) stopped; `None` when there is none at the moment.
pub fn wait_child(stops: bool) -> Option<(Pid, Wait)> {
    wait_any(stops).ok().flatten()
}

/// The same, with ECHILD when there are no children at all.
pub fn wait_any(stops: bool) -> Result<Option<(Pid, Wait)>, Errno> {
    let options = WNOHANG | if stops { WUNTRACED } else { 0 };
    let mut status: i32 = 0;
    // SAFETY: `status` is a valid place for the result.
    let pid = unsafe { call!(WAIT4, -1, &raw mut status, options, 0usize) }?;
    Ok((pid != 0).then(|| {
        let change = if status & 0xff == 0x7f {
            Wait::Stopped(status >> 8 & 0xff)
        } else {
            Wait::Ended(status)
        };
        (pid as Pid, change)
    }))
}

/// Waits for one child's end and gives its status.
pub fn wait_for(child: Pid) -> Result<i32, Errno> {
    let mut status: i32 = 0;
    loop {
        // SAFETY: `status` is a valid place for the result.
        match unsafe { call!(WAIT4, child, &raw mut status, 0, 0usize) } {
            Err(Errno(EINTR)) => {}
            other => return other.map(|_| status),
        }
    }
}

/// A status as shells count: the code, or 128 and the signal's number.
pub const fn shell_code(status: i32) -> i32 {
    match status & 0x7f {
        0 => status >> 8 & 0xff,
        signal => 128 + signal,
    }
}

/// Ends the process.
pub fn exit(code: i32) -> ! {
    loop {
        // SAFETY: touches no memory and does not come back.
        let _ = unsafe { call!(EXIT_GROUP, code) };
    }
}

/// Makes a session, and a process group in it, of which this process is the leader.
pub fn new_session() -> Result<(), Errno> {
    // SAFETY: touches no memory.
    unsafe { call!(SETSID) }.map(drop)
}

/// Whether this process is the leader of its session.
pub fn leads_session() -> bool {
    // SAFETY: touches no memory.
    let session = unsafe { call!(GETSID, 0) };
    session == Ok(own_pid() as usize)
}

/// Makes a process group of this process alone.
pub fn new_group() -> Result<(), Errno> {
    // SAFETY: touches no memory.
    unsafe { call!(SETPGID, 0, 0) }.map(drop)
}

/// This process's group.
pub fn own_group() -> Pid {
    // SAFETY: touches no memory and always succeeds.
    unsafe { call!(GETPGID, 0) }.unwrap_or(0) as Pid
}

/// Makes a process group a terminal's foreground. A terminal that has hung up is found out by those who read it.
pub fn give_terminal(terminal: Descriptor, group: Pid) -> Result<(), Errno> {
    // SAFETY: the request reads one number.
    unsafe { call!(IOCTL, terminal, TIOCSPGRP, &raw const group) }.map(drop)
}

/// A terminal's foreground process group; an error where it is no terminal of this session.
pub fn terminal_group(terminal: Descriptor) -> Result<Pid, Errno> {
    let mut group: Pid = 0;
    // SAFETY: the request writes one number.
    unsafe { call!(IOCTL, terminal, TIOCGPGRP, &raw mut group) }.map(|_| group)
}

/// Whether a descriptor is a terminal.
pub fn is_terminal(descriptor: Descriptor) -> bool {
    // `struct termios` of the kernel has 36 bytes; room for more does no harm.
    let mut settings = [0u8; 64];
    // SAFETY: the request writes at most as many bytes as `settings` has.
    unsafe { call!(IOCTL, descriptor, TCGETS, settings.as_mut_ptr()) }.is_ok()
}

/// Makes a terminal the session's controlling one, taking it from another session if `steal`.
pub fn take_terminal(terminal: Descriptor, steal: bool) -> Result<(), Errno> {
    // SAFETY: touches no memory.
    unsafe { call!(IOCTL, terminal, TIOCSCTTY, i32::from(steal)) }.map(drop)
}

/// Gives the controlling terminal up. A session's leader sends SIGHUP and SIGCONT to the foreground group by that.
pub fn leave_terminal(terminal: Descriptor) -> Result<(), Errno> {
    // SAFETY: touches no memory.
    unsafe { call!(IOCTL, terminal, TIOCNOTTY, 0) }.map(drop)
}

/// What `ps` shows; 15 bytes of it count.
pub fn set_name(name: &CStr) -> Result<(), Errno> {
    let mut padded = [0u8; 16];
    let length = name.to_bytes().len().min(15);
    padded[..length].copy_from_slice(&name.to_bytes()[..length]);
    // SAFETY: the request reads 16 bytes.
    unsafe { call!(PRCTL, PR_SET_NAME, padded.as_ptr(), 0, 0, 0) }.map(drop)
}

/// Has the kernel send this process a signal when the thread that made it ends; 0 for none.
pub fn set_parent_death_signal(signal: i32) -> Result<(), Errno> {
    // SAFETY: touches no memory.
    unsafe { call!(PRCTL, PR_SET_PDEATHSIG, signal, 0, 0, 0) }.map(drop)
}

/// Makes this process the one that orphans among its descendants fall to.
pub fn become_subreaper() -> Result<(), Errno> {
    // SAFETY: touches no memory.
    unsafe { call!(PRCTL, PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) }.map(drop)
}

/// Whether it is.
pub fn is_subreaper() -> Result<bool, Errno> {
    let mut answer: i32 = 0;
    // SAFETY: the request writes one number.
    unsafe { call!(PRCTL, PR_GET_CHILD_SUBREAPER, &raw mut answer, 0, 0, 0) }?;
    Ok(answer != 0)
}

/// A resource limit (prlimit(2)), soft and hard.
pub fn limit(resource: u32) -> Result<(u64, u64), Errno> {
    let mut limit = [0u64; 2];
    // SAFETY: the kernel writes two numbers of 64 bits, for which there is room.
    unsafe { call!(PRLIMIT64, 0, resource, 0usize, limit.as_mut_ptr()) }?;
    Ok((limit[0], limit[1]))
}

/// Sets a resource limit (prlimit(2)), soft and hard.
pub fn set_limit(resource: u32, soft: u64, hard: u64) -> Result<(), Errno> {
    let limit = [soft, hard];
    // SAFETY: the request reads two numbers.
    unsafe { call!(PRLIMIT64, 0, resource, limit.as_ptr(), 0usize) }.map(drop)
}

/// How nice this process is: -20 (has its way) to 19.
pub fn niceness() -> Result<i32, Errno> {
    const PRIO_PROCESS: i32 = 0;
    // SAFETY: touches no memory.
    unsafe { call!(GETPRIORITY, PRIO_PROCESS, 0) }.map(|priority| 20 - priority as i32)
}

/// Makes this process so nice.
pub fn set_niceness(niceness: i32) -> Result<(), Errno> {
    const PRIO_PROCESS: i32 = 0;
    // SAFETY: touches no memory.
    unsafe { call!(SETPRIORITY, PRIO_PROCESS, 0, niceness) }.map(drop)
}

/// Enters the namespace that a descriptor leads to (setns(2)); one of processes is its children's only.
pub fn enter_namespace(namespace: Descriptor) -> Result<(), Errno> {
    // SAFETY: touches no memory. What it may make invalid, none of this crate relies on.
    unsafe { call!(SETNS, namespace, 0) }.map(drop)
}

/// Has this process in new namespaces, copies of those that it is in.
pub fn unshare(namespaces: u64) -> Result<(), Errno> {
    // SAFETY: touches no memory. What it may make invalid, none of this crate relies on.
    unsafe { call!(UNSHARE, namespaces) }.map(drop)
}

/// Sets the host name of the UTS namespace.
pub fn set_host_name(name: &[u8]) -> Result<(), Errno> {
    // SAFETY: the pointer and the length describe `name`.
    unsafe { call!(SETHOSTNAME, name.as_ptr(), name.len()) }.map(drop)
}
