//! The recorder of ownership: what root would have done to files, noted instead of done.
//!
//! Maintainer scripts give files to users, make device nodes and set capabilities. An ordinary user cannot, root can, and
//! the result must be the same for both. So both run in a user namespace with a single id, every such system call is
//! stopped by a seccomp filter (seccomp_unotify(2)), and the launching process answers it: it notes what was asked for
//! the inode in question and says that it was done. The notes go into the tree's manifest, which knows owners.
//!
//! | call | answer |
//! |---|---|
//! | chown and its kin | success, noted; set-user-id bits stay, as the scripts mean them to |
//! | mknod of a device | success; an empty file stands for it, noted |
//! | other mknod | done by the kernel |
//! | setxattr of `security.capability` | success, noted |
//! | other setxattr | EOPNOTSUPP: programs then take their way for file systems without (success would leave files that `cp -p` makes at mode 600) |
//! | setgroups | success, without effect: there are no groups to give up |
//! | fsync and its kin | success, without effect: what comes of the run is read at once, and kept elsewhere |
//! | setuid and its kin | the kernel's own answer: pretending would make what the script does next unsafe |

mod calls;
mod locate;
mod notes;

use std::{
    io,
    os::fd::{AsFd, AsRawFd},
    path::{Path, PathBuf},
};

use rustix::process::{Resource, Rlimit};

pub use notes::{DeviceKind, DeviceNode, OwnershipNote};

use crate::{
    Plan,
    error::LaunchError,
    launch::launch_any,
    running::{Downgrade, Exit, Recorder},
};

/// Since Linux 6.13; the numbers of new calls are the same everywhere.
pub(crate) const SETXATTRAT: libc::c_long = 463;

/// A recorded run.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Recorded {
    /// How the command ended.
    pub exit: Exit,
    /// What was noted about files that still exist.
    pub notes: Vec<OwnershipNote>,
    /// System calls that were answered.
    pub calls: u64,
    /// What the host could not do.
    pub downgrades: Vec<Downgrade>,
}

/// Looks at the root that a recorded command has left, and at what was noted.
pub type Inspect<'i> = dyn FnMut(&Path, &[OwnershipNote]) -> io::Result<()> + 'i;

/// Runs the command of a plan with `record_ownership`, then shows `inspect` what it left.
///
/// `inspect` is given a path to the merged root, valid during the call, and the notes, ordered by path. No process of the
/// environment is left by then, and nothing is mounted below the root any more. A note's device and inode are what
/// lstat(2) gives for the file below that path.
pub fn run_recorded(plan: &Plan, inspect: &mut Inspect<'_>) -> Result<Recorded, LaunchError> {
    if !plan.privileges.record_ownership {
        let message = "run_recorded takes a plan that records ownership".to_owned();
        return Err(LaunchError::Plan(message));
    }
    let mut running = launch_any(plan, true)?;
    let downgrades = running.downgrades().to_vec();
    let (listener, root) = running.take_recording().ok_or(LaunchError::Recorder {
        step: "get its listener",
        source: io::ErrorKind::NotFound.into(),
    })?;
    let _limit = MoreDescriptors::allow();
    let mut notes = notes::Notes::new(root.as_fd()).map_err(failed("look at the root"))?;
    let mut calls = 0;
    running.relay(Some(Recorder {
        listener: listener.as_fd(),
        handle: &mut || {
            let answered = calls::answer(listener.as_fd(), &mut notes);
            calls += u64::from(answered.map_err(failed("answer a system call"))?);
            Ok(())
        },
    }))?;
    let exit = running.finish()?;
    let notes = notes.finish().map_err(failed("collect its notes"))?;
    let path = PathBuf::from(format!("/proc/self/fd/{}", root.as_raw_fd()));
    inspect(&path, &notes).map_err(LaunchError::Inspect)?;
    Ok(Recorded {
        exit,
        notes,
        calls,
        downgrades,
    })
}

fn failed(step: &'static str) -> impl Fn(io::Error) -> LaunchError {
    move |source| LaunchError::Recorder { step, source }
}

/// As many descriptors as the hard limit allows, until dropped: each noted file is held open.
struct MoreDescriptors(Rlimit);

impl MoreDescriptors {
    fn allow() -> Self {
        let before = rustix::process::getrlimit(Resource::Nofile);
        let more = Rlimit {
            current: before.maximum,
            maximum: before.maximum,
        };
        // Without, a run that notes more files than the soft limit fails by name.
        let _ = rustix::process::setrlimit(Resource::Nofile, more);
        MoreDescriptors(before)
    }
}

impl Drop for MoreDescriptors {
    fn drop(&mut self) {
        let _ = rustix::process::setrlimit(Resource::Nofile, self.0);
    }
}
