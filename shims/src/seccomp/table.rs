//! What the filters refuse, a row each. Everything else is allowed: the namespaces, the bounding set and no_new_privs
//! are the walls, and this closes what they leave open.

use libc::c_long;

use crate::plan::Seccomp;

/// One refused system call, or one use of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Row {
    /// Its number on this machine.
    pub number: c_long,
    /// The mildest profile that refuses it.
    pub from: Seccomp,
    /// Which uses.
    pub when: When,
    /// What it is answered with.
    pub refusal: Refusal,
    /// Why.
    pub reason: &'static str,
}

/// Which uses of a system call a row is about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum When {
    /// All.
    Always,
    /// The low 32 bits of the argument with this index are this. The kernel looks at no more of it, so a filter that
    /// compared all 64 could be passed by setting a higher one (CVE-2019-10063).
    Low32(u8, u32),
    /// The argument with this index has these bits.
    Bits(u8, u64),
    /// The low 32 bits of the argument with this index are none of these.
    NoneOf(u8, &'static [u32]),
}

/// What a refused call is answered with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// EPERM.
    Denied,
    /// ENOSYS: programs take another way, as on a kernel without it.
    Unknown,
}

const fn row(from: Seccomp, number: c_long, refusal: Refusal, reason: &'static str) -> Row {
    Row {
        number,
        from,
        when: When::Always,
        refusal,
        reason,
    }
}

const fn when(row: Row, when: When) -> Row {
    Row { when, ..row }
}

use Refusal::{Denied, Unknown};
use Seccomp::{Lenient, Strict};

const TERMINAL: &str =
    "writes into the terminal's input, to be read by the caller's shell (CVE-2017-5226)";
const KEYRING: &str = "keyrings are not namespaced: the caller's keys would be within reach";
const KERNEL: &str = "replaces the running kernel or parts of it";
const HANDLE: &str = "opens files by handle, past every mount";
const ATTACK: &str = "large kernel attack surface that builds and tests do without";
const NAMESPACE: &str =
    "user namespaces give capabilities, and with them the kernel's least tested paths";
const MOUNT: &str = "changes what the plan has mounted, where capabilities were kept";
const OTHERS: &str = "reaches into other processes";
const FAMILY: &str = "an address family that network namespaces do not confine (vsock), or that loads rarely tested modules";

/// Address families that programs need: Unix, IPv4, IPv6, netlink.
const FAMILIES: &[u32] = &[
    libc::AF_UNIX as u32,
    libc::AF_INET as u32,
    libc::AF_INET6 as u32,
    libc::AF_NETLINK as u32,
];

/// The table. `personality`, `chroot` and the like are absent on purpose: debuggers and builds use them, and without
/// capabilities they give nothing.
pub const TABLE: &[Row] = &[
    when(
        row(Lenient, libc::SYS_ioctl, Denied, TERMINAL),
        When::Low32(1, libc::TIOCSTI as u32),
    ),
    when(
        row(Lenient, libc::SYS_ioctl, Denied, TERMINAL),
        When::Low32(1, libc::TIOCLINUX as u32),
    ),
    row(Lenient, libc::SYS_add_key, Unknown, KEYRING),
    row(Lenient, libc::SYS_request_key, Unknown, KEYRING),
    row(Lenient, libc::SYS_keyctl, Unknown, KEYRING),
    row(Lenient, libc::SYS_kexec_load, Denied, KERNEL),
    row(Lenient, libc::SYS_kexec_file_load, Denied, KERNEL),
    row(Lenient, libc::SYS_init_module, Denied, KERNEL),
    row(Lenient, libc::SYS_finit_module, Denied, KERNEL),
    row(Lenient, libc::SYS_delete_module, Denied, KERNEL),
    row(Lenient, libc::SYS_open_by_handle_at, Denied, HANDLE),
    row(Strict, libc::SYS_bpf, Denied, ATTACK),
    row(Strict, libc::SYS_perf_event_open, Denied, ATTACK),
    row(Strict, libc::SYS_userfaultfd, Denied, ATTACK),
    row(Strict, libc::SYS_io_uring_setup, Unknown, ATTACK),
    row(Strict, libc::SYS_io_uring_enter, Unknown, ATTACK),
    row(Strict, libc::SYS_io_uring_register, Unknown, ATTACK),
    row(Strict, libc::SYS_fanotify_init, Denied, ATTACK),
    row(Strict, libc::SYS_quotactl, Denied, ATTACK),
    row(Strict, libc::SYS_acct, Denied, ATTACK),
    row(Strict, libc::SYS_swapon, Denied, ATTACK),
    row(Strict, libc::SYS_swapoff, Denied, ATTACK),
    row(
        Strict,
        libc::SYS_syslog,
        Denied,
        "the kernel's log tells addresses",
    ),
    #[cfg(target_arch = "x86_64")]
    row(Strict, libc::SYS_modify_ldt, Denied, ATTACK),
    #[cfg(target_arch = "x86_64")]
    row(Strict, libc::SYS_iopl, Denied, KERNEL),
    #[cfg(target_arch = "x86_64")]
    row(Strict, libc::SYS_ioperm, Denied, KERNEL),
    // Its flags lie in memory, where a filter cannot look; the C library then falls back on clone.
    row(Strict, libc::SYS_clone3, Unknown, NAMESPACE),
    when(
        row(Strict, libc::SYS_clone, Denied, NAMESPACE),
        When::Bits(0, libc::CLONE_NEWUSER as u64),
    ),
    when(
        row(Strict, libc::SYS_unshare, Denied, NAMESPACE),
        When::Bits(0, libc::CLONE_NEWUSER as u64),
    ),
    row(Strict, libc::SYS_setns, Denied, NAMESPACE),
    row(Strict, libc::SYS_mount, Denied, MOUNT),
    row(Strict, libc::SYS_umount2, Denied, MOUNT),
    row(Strict, libc::SYS_pivot_root, Denied, MOUNT),
    row(Strict, libc::SYS_move_mount, Denied, MOUNT),
    row(Strict, libc::SYS_open_tree, Denied, MOUNT),
    row(Strict, OPEN_TREE_ATTR, Denied, MOUNT),
    row(Strict, libc::SYS_fsopen, Denied, MOUNT),
    row(Strict, libc::SYS_fsconfig, Denied, MOUNT),
    row(Strict, libc::SYS_fsmount, Denied, MOUNT),
    row(Strict, libc::SYS_fspick, Denied, MOUNT),
    row(Strict, libc::SYS_mount_setattr, Denied, MOUNT),
    // Tracing one's own children (TRACEME) stays, and with it gdb and strace of what they start.
    when(
        row(Strict, libc::SYS_ptrace, Denied, OTHERS),
        When::Low32(0, libc::PTRACE_ATTACH),
    ),
    when(
        row(Strict, libc::SYS_ptrace, Denied, OTHERS),
        When::Low32(0, libc::PTRACE_SEIZE),
    ),
    row(Strict, libc::SYS_process_vm_readv, Denied, OTHERS),
    row(Strict, libc::SYS_process_vm_writev, Denied, OTHERS),
    row(Strict, libc::SYS_pidfd_getfd, Denied, OTHERS),
    row(Strict, libc::SYS_kcmp, Denied, OTHERS),
    when(
        row(Strict, libc::SYS_socket, Denied, FAMILY),
        When::NoneOf(0, FAMILIES),
    ),
];

/// Since Linux 6.15; the numbers of new calls are the same everywhere.
const OPEN_TREE_ATTR: c_long = 467;
