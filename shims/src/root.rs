//! The root of the new mount namespace: assembled beside the host's, then put in its place.

use std::{
    ffi::CString,
    fmt::Write,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
    path::{Path, PathBuf},
};

use rustix::{
    fs::{Mode, OFlags},
    io::Errno,
    mount::{
        MountAttrFlags, MountFlags, MountPropagationFlags, MoveMountFlags, OpenTreeFlags,
        UnmountFlags,
    },
};

use crate::{
    error::SetupError,
    plan::{Mount, Root, Upper},
    plant::plant,
    sys,
    target::Inside,
};

/// Where the root is assembled: any directory that every host has will do. What it held is covered, in this namespace
/// only; the plan's sources are opened before.
const STAGE: &str = "/tmp";

/// The kernel reads mount options from one page.
const LONGEST_OPTIONS: usize = 4095;

/// A host directory or file to be mounted: a detached copy of its mounts.
pub(crate) type Tree = OwnedFd;

/// Cuts the namespace off from the host's, so that what is mounted on either side stays there.
pub(crate) fn make_private() -> Result<(), SetupError> {
    let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    rustix::mount::mount_change("/", private).map_err(|source| SetupError::Propagation {
        source: source.into(),
    })
}

/// Copies the mounts at `path`, and all below, without attaching them anywhere.
pub(crate) fn copy_tree(path: &Path) -> Result<Tree, Errno> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_RECURSIVE;
    rustix::mount::open_tree(rustix::fs::CWD, path, flags)
}

/// Copies the mount at a name in an opened directory.
pub(crate) fn copy_part(directory: &OwnedFd, name: &str) -> Result<Tree, Errno> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    rustix::mount::open_tree(directory, name, flags)
}

/// Mounts a detached tree on an opened place.
pub(crate) fn attach(tree: BorrowedFd<'_>, target: BorrowedFd<'_>) -> Result<(), Errno> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    rustix::mount::move_mount(tree, "", target, "", flags)
}

/// Mounts a detached tree on a name in an opened directory.
pub(crate) fn attach_at(
    tree: BorrowedFd<'_>,
    directory: BorrowedFd<'_>,
    name: &str,
) -> Result<(), Errno> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
    rustix::mount::move_mount(tree, "", directory, name, flags)
}

/// Attributes of mounts of the host: none of its privileges come along.
pub(crate) fn attributes(read_only: bool, devices: bool) -> u64 {
    let mut attributes = MountAttrFlags::MOUNT_ATTR_NOSUID;
    attributes.set(MountAttrFlags::MOUNT_ATTR_NODEV, !devices);
    attributes.set(MountAttrFlags::MOUNT_ATTR_RDONLY, read_only);
    attributes.bits().into()
}

/// Opens a directory as a mere reference to it.
pub(crate) fn open_directory(path: &Path) -> Result<OwnedFd, Errno> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty())
}

/// The host's directories of a root, opened before anything covers them.
pub(crate) enum Sources {
    Overlay {
        lowers: Vec<OwnedFd>,
        /// Upper and work, when they are directories of the host.
        upper: Option<(OwnedFd, OwnedFd)>,
    },
    ReadOnly(Tree),
}

impl Sources {
    pub(crate) fn open(root: &Root) -> Result<Self, SetupError> {
        let open = |path: &PathBuf| {
            open_directory(path).map_err(|source| SetupError::Source {
                path: path.clone(),
                target: "/".into(),
                source: source.into(),
            })
        };
        Ok(match root {
            Root::Overlay { lowers, upper } => Sources::Overlay {
                lowers: lowers.iter().map(open).collect::<Result<_, _>>()?,
                upper: match upper {
                    Upper::Tmpfs { .. } => None,
                    Upper::Directory { upper, work } => Some((open(upper)?, open(work)?)),
                },
            },
            Root::ReadOnly { directory } => {
                Sources::ReadOnly(copy_tree(directory).map_err(|source| {
                    SetupError::ReadOnlyRoot {
                        directory: directory.clone(),
                        source: source.into(),
                    }
                })?)
            }
        })
    }
}

/// The tmpfs that holds the upper layers made for this environment, if any is needed.
pub(crate) struct Stage {
    directory: OwnedFd,
    /// What it may hold is for the root alone.
    limited: bool,
    /// Directories made.
    count: u32,
}

impl Stage {
    /// Mounts it. Must come after all sources are opened.
    pub(crate) fn mount(size: Option<u64>) -> Result<Self, SetupError> {
        let staging = |what: &str, source: Errno| SetupError::Staging {
            what: what.to_owned(),
            source: source.into(),
        };
        let options = match size {
            Some(size) => format!("mode=0755,size={size}"),
            None => "mode=0755".to_owned(),
        };
        let options = CString::new(options).unwrap_or_default();
        let flags = MountFlags::NOSUID | MountFlags::NODEV;
        rustix::mount::mount("tmpfs", STAGE, "tmpfs", flags, options.as_c_str())
            .map_err(|source| staging("a tmpfs on /tmp", source))?;
        let directory =
            open_directory(Path::new(STAGE)).map_err(|source| staging("/tmp", source))?;
        Ok(Stage {
            directory,
            limited: size.is_some(),
            count: 0,
        })
    }

    /// Makes a pair of upper and work directories. `mode` is what the overlay's root will have.
    pub(crate) fn pair(&mut self, mode: Mode) -> Result<(OwnedFd, OwnedFd), Errno> {
        let mut open = |name, mode| {
            let name = self.directory(name, mode)?;
            let flags = OFlags::PATH | OFlags::CLOEXEC;
            rustix::fs::openat(&self.directory, &*name, flags, Mode::empty())
        };
        Ok((open("upper", mode)?, open("work", Mode::RWXU)?))
    }

    /// A new directory of it as a mount of its own, with its flags (nosuid, nodev). Costs less than a tmpfs more, most of
    /// all at the end. `None` where the root's limit would become that of both.
    pub(crate) fn tree(&mut self, mode: Mode) -> Result<Option<Tree>, Errno> {
        if self.limited {
            return Ok(None);
        }
        let name = self.directory("tree", mode)?;
        copy_part(&self.directory, &name).map(Some)
    }

    fn directory(&mut self, name: &str, mode: Mode) -> Result<String, Errno> {
        let name = format!("{name}{}", self.count);
        self.count += 1;
        rustix::fs::mkdirat(&self.directory, &*name, mode)?;
        Ok(name)
    }
}

/// Whether what is written to an overlay must outlast a power cut.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kept {
    /// When the overlay goes, all that is dirty on the whole file system of its upper directory is written first.
    Safely,
    /// Nothing waits for the disk. The directories serve no second overlay.
    Volatile,
}

/// Mounts an overlay on the current directory's `target`.
///
/// Directories are named by their descriptors, relative to `/proc/self/fd`: no path needs quoting, hundreds fit into the
/// kernel's page, and what is shown inside (/proc/self/mountinfo) tells nothing about the host.
pub(crate) fn mount_overlay(
    lowers: &[BorrowedFd<'_>],
    upper: BorrowedFd<'_>,
    work: BorrowedFd<'_>,
    target: impl rustix::path::Arg,
    kept: Kept,
) -> Result<(), Errno> {
    let mut options = String::from(match kept {
        Kept::Safely => "userxattr,lowerdir=",
        Kept::Volatile => "userxattr,volatile,lowerdir=",
    });
    for (index, lower) in lowers.iter().enumerate() {
        let separator = if index == 0 { "" } else { ":" };
        let _ = write!(options, "{separator}{}", lower.as_raw_fd());
    }
    let (upper, work) = (upper.as_raw_fd(), work.as_raw_fd());
    let _ = write!(options, ",upperdir={upper},workdir={work}");
    if options.len() > LONGEST_OPTIONS {
        return Err(Errno::TOOBIG);
    }
    rustix::process::chdir("/proc/self/fd")?;
    let options = CString::new(options).unwrap_or_default();
    rustix::mount::mount(
        "overlay",
        target,
        "overlay",
        MountFlags::empty(),
        options.as_c_str(),
    )
}

/// Mounts the root of the plan where the host's `/tmp` was and gives it, not yet entered; and which of `mounts` are done
/// with already.
pub(crate) fn assemble(
    root: &Root,
    sources: &Sources,
    mounts: &[Mount],
    stage: &mut Option<Stage>,
    kept: Kept,
) -> Result<(Inside, Vec<bool>), SetupError> {
    let mut planted = vec![false; mounts.len()];
    match (sources, root) {
        (Sources::Overlay { lowers, upper }, Root::Overlay { lowers: paths, .. }) => {
            let overlay = |source: Errno| SetupError::Overlay {
                target: "/".into(),
                lowers: paths.clone(),
                source: source.into(),
            };
            let made;
            let (upper, work) = match (upper, stage) {
                (Some(pair), _) => (&pair.0, &pair.1),
                (None, Some(stage)) => {
                    made = stage.pair(Mode::from_raw_mode(0o755)).map_err(overlay)?;
                    if let [lower] = &lowers[..] {
                        planted = plant(mounts, lower.as_fd(), made.0.as_fd());
                    }
                    (&made.0, &made.1)
                }
                // A plan with neither has been given a stage.
                (None, None) => return Err(overlay(Errno::INVAL)),
            };
            let lowers: Vec<_> = lowers.iter().map(AsFd::as_fd).collect();
            mount_overlay(&lowers, upper.as_fd(), work.as_fd(), STAGE, kept).map_err(overlay)?;
        }
        (Sources::ReadOnly(tree), Root::ReadOnly { directory }) => {
            let failed = |source: crate::Errno| SetupError::ReadOnlyRoot {
                directory: directory.clone(),
                source,
            };
            sys::set_mount_attributes(tree.as_fd(), attributes(true, false))
                .map_err(|error| failed(error.into()))?;
            let place = open_directory(Path::new(STAGE)).map_err(|error| failed(error.into()))?;
            attach(tree.as_fd(), place.as_fd()).map_err(|error| failed(error.into()))?;
        }
        _ => unreachable!("the sources were opened for this root"),
    }
    open_directory(Path::new(STAGE))
        .map(|root| (Inside::new(root), planted))
        .map_err(|source| SetupError::Staging {
            what: "the new root".to_owned(),
            source: source.into(),
        })
}

/// Makes the assembled root the root, and lets go of the host's.
pub(crate) fn enter(inside: &Inside) -> Result<(), SetupError> {
    let pivot = |call: &str| {
        let call = call.to_owned();
        move |source: Errno| SetupError::Pivot {
            call,
            source: source.into(),
        }
    };
    rustix::process::fchdir(inside.root()).map_err(pivot("fchdir"))?;
    // Both names are the same: the old root ends up on top of the new one and is taken off from there.
    rustix::process::pivot_root(".", ".").map_err(pivot("pivot_root"))?;
    rustix::mount::unmount(".", UnmountFlags::DETACH).map_err(pivot("umount2"))?;
    rustix::process::chdir("/").map_err(pivot("chdir"))
}
