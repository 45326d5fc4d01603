//! Privileges: capabilities, no_new_privs, seccomp, Landlock.

use super::{Descriptor, Errno, call, constant::*};

/// Sets of capabilities, a bit each by its number in capabilities(7).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Capabilities {
    /// What is in force.
    pub effective: u64,
    /// What may be put in force.
    pub permitted: u64,
    /// What may be kept across exec.
    pub inheritable: u64,
}

/// _LINUX_CAPABILITY_VERSION_3: sets of 64 bits.
const CAPABILITY_VERSION: u32 = 0x2008_0522;

/// Sets this process's capabilities (capset(2)).
pub fn set_capabilities(sets: Capabilities) -> Result<(), Errno> {
    let header: [u32; 2] = [CAPABILITY_VERSION, 0];
    let low = |set: u64| set as u32;
    let high = |set: u64| (set >> 32) as u32;
    let data: [u32; 6] = [
        low(sets.effective),
        low(sets.permitted),
        low(sets.inheritable),
        high(sets.effective),
        high(sets.permitted),
        high(sets.inheritable),
    ];
    // SAFETY: of this version the header has two numbers and the data two times three; both are only read.
    unsafe { call!(CAPSET, header.as_ptr(), data.as_ptr()) }.map(drop)
}

/// This process's capabilities (capget(2)).
pub fn own_capabilities() -> Result<Capabilities, Errno> {
    let header: [u32; 2] = [CAPABILITY_VERSION, 0];
    let mut data: [u32; 6] = [0; 6];
    // SAFETY: of this version the header has two numbers and the data two times three, which are written.
    unsafe { call!(CAPGET, header.as_ptr(), data.as_mut_ptr()) }?;
    let set = |at: usize| u64::from(data[at]) | u64::from(data[at + 3]) << 32;
    Ok(Capabilities {
        effective: set(0),
        permitted: set(1),
        inheritable: set(2),
    })
}

/// Takes a capability out of the bounding set; `Ok(false)` where the kernel does not know it.
pub fn drop_from_bounding_set(capability: u32) -> Result<bool, Errno> {
    // SAFETY: these touch no memory.
    unsafe {
        match call!(PRCTL, PR_CAPBSET_DROP, capability, 0, 0, 0) {
            Ok(_) => Ok(true),
            // Not asked first whether it is there, for that doubles the calls.
            Err(error) => match call!(PRCTL, PR_CAPBSET_READ, capability, 0, 0, 0) {
                Ok(1) => Err(error),
                _ => Ok(false),
            },
        }
    }
}

/// Puts a capability that is permitted and inheritable into the ambient set.
pub fn raise_ambient(capability: u32) -> Result<(), Errno> {
    // SAFETY: touches no memory.
    unsafe {
        call!(
            PRCTL,
            PR_CAP_AMBIENT,
            PR_CAP_AMBIENT_RAISE,
            capability,
            0,
            0
        )
    }
    .map(drop)
}

/// Sets the securebits (capabilities(7)).
pub fn set_secure_bits(bits: u32) -> Result<(), Errno> {
    // SAFETY: touches no memory.
    unsafe { call!(PRCTL, PR_SET_SECUREBITS, bits, 0, 0, 0) }.map(drop)
}

/// No program executed from here on gains privileges by its file.
pub fn set_no_new_privileges() -> Result<(), Errno> {
    // SAFETY: touches no memory.
    unsafe { call!(PRCTL, PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) }.map(drop)
}

/// Closes this process's files in /proc and ptrace to all but the host's root.
pub fn set_not_dumpable() -> Result<(), Errno> {
    // SAFETY: touches no memory.
    unsafe { call!(PRCTL, PR_SET_DUMPABLE, 0, 0, 0, 0) }.map(drop)
}

/// Whether this process can be traced and read by its user's others (PR_GET_DUMPABLE).
pub fn is_dumpable() -> bool {
    // SAFETY: touches no memory.
    let dumpable = unsafe { call!(PRCTL, PR_GET_DUMPABLE, 0, 0, 0, 0) };
    dumpable == Ok(1)
}

/// Makes it so that it can.
pub fn set_dumpable() -> Result<(), Errno> {
    // SAFETY: touches no memory.
    unsafe { call!(PRCTL, PR_SET_DUMPABLE, 1, 0, 0, 0) }.map(drop)
}

/// Installs a system call filter: instructions of 8 bytes in the kernel's layout (`struct sock_filter`). With `listen`,
/// gives the descriptor that its notifications are read from.
pub fn install_filter(program: &[u8], listen: bool) -> Result<Option<Descriptor>, Errno> {
    #[repr(C)]
    struct Program {
        length: u16,
        instructions: *const u8,
    }
    const SET_MODE_FILTER: u32 = 1;
    const NEW_LISTENER: u64 = 8;
    const WAIT_KILLABLE_RECV: u64 = 32;
    let filter = Program {
        length: u16::try_from(program.len() / 8).map_err(|_| Errno(EINVAL))?,
        instructions: program.as_ptr(),
    };
    let install = |flags: u64| {
        // SAFETY: `filter` describes `program`, which the kernel copies (from any alignment) and checks.
        unsafe { call!(SECCOMP, SET_MODE_FILTER, flags, &raw const filter) }
    };
    if !listen {
        return install(0).map(|_| None);
    }
    // Once a notification is being handled only a fatal signal interrupts the caller: without (before Linux 5.19) a signal
    // restarts the call, and it is recorded twice, which is harmless.
    let listener = match install(NEW_LISTENER | WAIT_KILLABLE_RECV) {
        Err(Errno(EINVAL)) => install(NEW_LISTENER)?,
        other => other?,
    };
    Ok(Some(listener as Descriptor))
}

/// Makes a Landlock ruleset (landlock_create_ruleset(2)). `scoped` needs version 6 of Landlock, and is not told to older ones
/// when it is 0.
pub fn landlock_ruleset(files: u64, scoped: u64) -> Result<Descriptor, Errno> {
    let attributes: [u64; 3] = [files, 0, scoped];
    let size = if scoped == 0 { 8 } else { 24usize };
    // SAFETY: the size is at most that of `attributes`, which is only read.
    unsafe { call!(LANDLOCK_CREATE_RULESET, attributes.as_ptr(), size, 0) }
        .map(|fd| fd as Descriptor)
}

/// Allows `access` below an opened directory or file.
pub fn landlock_allow(ruleset: Descriptor, below: Descriptor, access: u64) -> Result<(), Errno> {
    #[repr(C, packed)]
    struct Beneath {
        access: u64,
        parent: i32,
    }
    const PATH_BENEATH: u32 = 1;
    let rule = Beneath {
        access,
        parent: below,
    };
    // SAFETY: of this type the rule has this layout, and is only read.
    unsafe { call!(LANDLOCK_ADD_RULE, ruleset, PATH_BENEATH, &raw const rule, 0) }.map(drop)
}

/// Enters a domain for good.
pub fn landlock_enter(ruleset: Descriptor) -> Result<(), Errno> {
    // SAFETY: touches no memory.
    unsafe { call!(LANDLOCK_RESTRICT_SELF, ruleset, 0) }.map(drop)
}
