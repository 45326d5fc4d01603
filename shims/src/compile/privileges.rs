//! What the command may do, as operations: Landlock, capabilities, system calls. In this order, for each is an obstacle to
//! those before it.

use std::os::unix::ffi::OsStrExt;

use envd_init::program::Operation;

use super::{Compiler, text};
use crate::{
    Errno,
    error::{LaunchError, SetupError},
    privileges::{capabilities::Kept, landlock::Domain},
    seccomp,
};

/// System calls that succeed without effect while ownership is recorded. The bare `setgroups` of programs that give up
/// privileges fails in a map of one group, and has nothing to give up. Nothing waits for the disk, since what is on it is
/// read back at once and kept elsewhere: dpkg would wait some sixty times.
const PRETENDED: &[libc::c_long] = &[
    libc::SYS_setgroups,
    libc::SYS_fsync,
    libc::SYS_fdatasync,
    libc::SYS_sync,
    libc::SYS_syncfs,
    libc::SYS_sync_file_range,
];

/// System calls the recorder answers.
#[cfg(target_arch = "x86_64")]
const RECORDED: &[libc::c_long] = &[
    libc::SYS_chown,
    libc::SYS_lchown,
    libc::SYS_fchown,
    libc::SYS_fchownat,
    libc::SYS_mknod,
    libc::SYS_mknodat,
    libc::SYS_setxattr,
    libc::SYS_lsetxattr,
    libc::SYS_fsetxattr,
    crate::recorder::SETXATTRAT,
];
#[cfg(target_arch = "aarch64")]
const RECORDED: &[libc::c_long] = &[
    libc::SYS_fchown,
    libc::SYS_fchownat,
    libc::SYS_mknodat,
    libc::SYS_setxattr,
    libc::SYS_lsetxattr,
    libc::SYS_fsetxattr,
    crate::recorder::SETXATTRAT,
];

impl Compiler<'_> {
    pub(super) fn privileges(&mut self) -> Result<(), LaunchError> {
        self.confine()?;
        self.restrict()
    }

    /// What commands keep of capabilities. PID 1 itself keeps what it needs.
    pub(super) fn confine(&mut self) -> Result<(), LaunchError> {
        let kept = Kept::parse(&self.plan.privileges.capabilities)?;
        let origin = SetupError::Capabilities {
            what: "bounding, inheritable or ambient set".to_owned(),
            source: Errno(0),
        };
        let operation = Operation::Confine {
            kept: kept.mask(),
            last: Kept::last(),
            secure_bits: kept.secure_bits(self.plan.ids.uid),
        };
        self.push(operation, origin);
        Ok(())
    }

    /// After which nothing can be mounted any more.
    pub(super) fn restrict(&mut self) -> Result<(), LaunchError> {
        let privileges = &self.plan.privileges;
        let domain = privileges.landlock.as_ref().and_then(|landlock| {
            let (domain, missing) = Domain::new(landlock);
            self.downgrades.extend(missing);
            domain
        });
        let ruleset = match &domain {
            None => None,
            Some(domain) => Some(self.ruleset(domain)?),
        };
        let origin = SetupError::Protect {
            call: "PR_SET_NO_NEW_PRIVS".to_owned(),
            source: Errno(0),
        };
        self.push(Operation::Protect {}, origin);
        if let Some(ruleset) = ruleset {
            self.push(
                Operation::LandlockEnter { ruleset },
                landlock_error("entering"),
            );
        }
        self.filter()
    }

    fn ruleset(&mut self, domain: &Domain) -> Result<envd_init::program::Slot, LaunchError> {
        let ruleset = self.slot();
        let operation = Operation::LandlockRuleset {
            to: ruleset,
            files: domain.files(),
            scoped: domain.scopes(),
        };
        self.push(operation, landlock_error("making its rules"));
        for rule in domain.rules() {
            let path = std::ffi::CString::new(rule.path.as_os_str().as_bytes());
            let path = path.or_else(|_| text(&rule.path.to_string_lossy()))?;
            let operation = Operation::LandlockAllow {
                ruleset,
                path: &path,
                access: rule.access,
                file_access: rule.file_access,
            };
            self.push(operation, landlock_error(&rule.path.display().to_string()));
        }
        Ok(ruleset)
    }

    fn filter(&mut self) -> Result<(), LaunchError> {
        let privileges = &self.plan.privileges;
        let listen = privileges.record_ownership;
        let (recorded, pretended): (&[_], &[_]) = if listen {
            (RECORDED, PRETENDED)
        } else {
            (&[], &[])
        };
        let filter = seccomp::compile(privileges.seccomp, recorded, pretended)
            .map_err(|error| LaunchError::Plan(error.to_string()))?;
        let Some(filter) = filter else {
            return Ok(());
        };
        // `struct sock_filter`: a u16, two u8 and a u32.
        let instructions: Vec<u8> = filter
            .iter()
            .flat_map(|instruction| {
                let [code_low, code_high] = instruction.code.to_ne_bytes();
                let [a, b, c, d] = instruction.k.to_ne_bytes();
                [
                    code_low,
                    code_high,
                    instruction.jt,
                    instruction.jf,
                    a,
                    b,
                    c,
                    d,
                ]
            })
            .collect();
        let operation = Operation::Filter {
            instructions: &instructions,
            listen,
            root: self.root,
        };
        self.push(operation, SetupError::Filter { source: Errno(0) });
        Ok(())
    }
}

fn landlock_error(what: &str) -> SetupError {
    SetupError::Landlock {
        what: what.to_owned(),
        source: Errno(0),
    }
}
