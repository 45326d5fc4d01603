//! What an error number means at a certain step, where it misleads by itself.

use std::{fs, path::Path};

use crate::errno::Errno;

/// Why user namespaces, or mounts in one, may be refused here, as the end of a message.
pub(crate) fn restricted(errno: Errno) -> String {
    let reason = reason(errno);
    reason.map_or_else(String::new, |reason| {
        format!(" ({reason}; `envd doctor` lists what works)")
    })
}

/// Why, and what to do. `None` when the number says enough.
pub(crate) fn reason(errno: Errno) -> Option<String> {
    let switch = |path: &str, bad: &str| {
        let value = fs::read_to_string(Path::new("/proc/sys").join(path)).ok()?;
        (value.trim() == bad).then(|| path.replace('/', "."))
    };
    let reason = match errno.0 {
        libc::EPERM | libc::EACCES => {
            if let Some(name) = switch("kernel/unprivileged_userns_clone", "0") {
                format!("this host allows user namespaces to root only; as root: sysctl -w {name}=1")
            } else if let Some(name) = switch("kernel/apparmor_restrict_unprivileged_userns", "1") {
                format!("AppArmor restricts user namespaces on this host; as root: sysctl -w {name}=0, or install an AppArmor profile that grants userns to envd")
            } else if let Some(name) = switch("user/max_user_namespaces", "0") {
                format!("user namespaces are switched off on this host; as root: sysctl -w {name}=28633")
            } else {
                "inside a container its seccomp profile may forbid it, and inside a chroot the kernel does".to_owned()
            }
        }
        libc::ENOSPC => match switch("user/max_user_namespaces", "0") {
            Some(name) => format!("user namespaces are switched off on this host; as root: sysctl -w {name}=28633"),
            None => "a limit on namespaces is reached: see sysctl user.max_user_namespaces and its neighbours, or 32 namespaces are nested already".to_owned(),
        },
        libc::EUSERS => "32 user namespaces are nested already".to_owned(),
        libc::EAGAIN => "the limit on processes is reached (ulimit -u, or the control group's pids.max)".to_owned(),
        libc::EINVAL => "the kernel lacks one of the namespaces".to_owned(),
        libc::ENOSYS => "the kernel is older than 5.3, or a container's seccomp profile hides clone3".to_owned(),
        _ => return None,
    };
    Some(reason)
}

/// The lowers of an overlay that was refused, and why that may be.
pub(crate) fn lowers(lowers: &[std::path::PathBuf], errno: Errno) -> String {
    let first = lowers
        .first()
        .map_or_else(|| "nothing".to_owned(), |path| path.display().to_string());
    let more = match lowers.len() {
        0 | 1 => String::new(),
        count => format!(" and {} more", count - 1),
    };
    let why = match errno.0 {
        libc::EINVAL => {
            "; the kernel may be older than 5.11, the lowers may lie on too many stacked overlays, or the upper on a file system without extended attributes"
        }
        libc::EBUSY => "; another overlay uses the same upper or work directory",
        libc::EPERM => "; overlays in user namespaces need Linux 5.11",
        libc::ENODEV => "; the kernel has no overlayfs: modprobe overlay",
        libc::E2BIG => {
            "; the list of lower directories does not fit the kernel's page: flatten some"
        }
        libc::ELOOP | libc::EOVERFLOW => "; its files belong to ids that are not mapped",
        _ => "",
    };
    format!("{first}{more}{why}")
}

pub(crate) fn target(errno: Errno) -> &'static str {
    match errno.0 {
        libc::EROFS => ": what it lies in is read-only",
        libc::ENOTDIR => ": something on the way is a file",
        libc::ELOOP => ": too many symbolic links, or one into procfs, on the way",
        libc::EOVERFLOW => ": its place belongs to an id that is not mapped",
        _ => "",
    }
}

pub(crate) fn mount(what: &str, errno: Errno) -> &'static str {
    match (what, errno.0) {
        ("proc", libc::EPERM) => {
            ": the host's own /proc is covered in places, as containers do; run the container with an unmasked /proc (docker: --security-opt systempaths=unconfined)"
        }
        (_, libc::ENOTDIR) => ": one is a file, the other a directory",
        (_, libc::ENOSPC) => ": the limit on mounts is reached (sysctl fs.mount-max)",
        _ => "",
    }
}

pub(crate) fn limit(errno: Errno) -> &'static str {
    match errno.0 {
        libc::EPERM => ": above the caller's own hard limit",
        _ => "",
    }
}

pub(crate) fn missing(searched: Option<&str>, interpreter: bool) -> String {
    match (interpreter, searched) {
        (true, _) => {
            "the file is there, but the interpreter it names (after #!, or its dynamic loader) is not".to_owned()
        }
        (false, Some(path)) => format!("no such program in PATH={path} inside"),
        (false, None) => "no such file inside".to_owned(),
    }
}

pub(crate) fn exec(errno: Errno) -> &'static str {
    match errno.0 {
        libc::EACCES => " (no execute permission, a directory, or not allowed by the policy)",
        libc::ENOEXEC => " (built for another machine?)",
        libc::E2BIG => " (arguments and environment are too long)",
        _ => "",
    }
}
