//! What a plan puts over the root, in its order.

use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use envd_init::{
    program::{Like, Operation, Slot, Slots},
    sys::constant::*,
};

use super::{Compiler, MOUNT_POINT, c_path, text};
use crate::{
    Errno,
    error::{LaunchError, SetupError},
    plan::Mount,
    release,
    running::Downgrade,
};

/// Parts of procfs that a caller who is root outside could write to, for procfs asks who one is, not what one may do.
const PROTECTED_PROC: [&str; 8] = [
    "acpi",
    "bus",
    "dynamic_debug",
    "fs",
    "irq",
    "scsi",
    "sys",
    "sysrq-trigger",
];

/// Attributes of mounts of the host: none of its privileges come along.
pub(super) fn attributes(read_only: bool, devices: bool) -> u64 {
    let mut attributes = MOUNT_ATTR_NOSUID;
    if !devices {
        attributes |= MOUNT_ATTR_NODEV;
    }
    if read_only {
        attributes |= MOUNT_ATTR_RDONLY;
    }
    attributes
}

/// What the failure of a mount means.
pub(super) fn mount_error(what: &str, target: &Path) -> SetupError {
    SetupError::Mount {
        what: what.to_owned(),
        target: target.to_owned(),
        source: Errno(0),
    }
}

fn write_error(target: &Path) -> SetupError {
    SetupError::Write {
        target: target.to_owned(),
        source: Errno(0),
    }
}

fn source_error(path: &Path, target: &Path) -> SetupError {
    SetupError::Source {
        path: path.to_owned(),
        target: target.to_owned(),
        source: Errno(0),
    }
}

/// What of the host a mount needs, opened.
#[derive(Clone, Debug)]
pub(super) enum Source {
    None,
    /// None, and what it consists of is in a layer of the root.
    Laid,
    /// A copy of its mounts.
    Tree(Slot),
    Directory(Slot),
    Layers {
        lowers: Vec<Slot>,
        upper: Slot,
        work: Slot,
    },
}

impl Compiler<'_> {
    /// Opens what of the host the mounts need, before anything covers it.
    pub(super) fn open_sources(&mut self) -> Result<Vec<Source>, LaunchError> {
        let plan = self.plan;
        plan.mounts
            .iter()
            .map(|mount| self.open_source(mount))
            .collect()
    }

    fn open_source(&mut self, mount: &Mount) -> Result<Source, LaunchError> {
        Ok(match mount {
            Mount::Bind {
                source,
                target,
                optional,
                ..
            } => {
                let to = self.slot();
                let operation = Operation::CopyTree {
                    to,
                    path: &c_path(source)?,
                    optional: *optional,
                };
                self.push(operation, source_error(source, target));
                Source::Tree(to)
            }
            Mount::Scratch { source, target } => {
                Source::Directory(self.open_directory(source, target)?)
            }
            Mount::Overlay {
                lowers,
                upper,
                work,
                target,
            } => Source::Layers {
                lowers: lowers
                    .iter()
                    .map(|lower| self.open_directory(lower, target))
                    .collect::<Result<_, _>>()?,
                upper: self.open_directory(upper, target)?,
                work: self.open_directory(work, target)?,
            },
            _ => Source::None,
        })
    }

    pub(super) fn open_directory(
        &mut self,
        path: &Path,
        target: &Path,
    ) -> Result<Slot, LaunchError> {
        let to = self.slot();
        let operation = Operation::OpenDirectory {
            to,
            path: &c_path(path)?,
        };
        self.push(operation, source_error(path, target));
        Ok(to)
    }

    /// Puts one thing over the root.
    pub(super) fn mount(&mut self, mount: &Mount, source: Source) -> Result<(), LaunchError> {
        let root = self.root;
        self.make_way(mount)?;
        match (mount, source) {
            (
                Mount::Bind {
                    source,
                    target,
                    read_only,
                    ..
                },
                Source::Tree(tree),
            ) => self.bind(tree, source, target, *read_only),
            (Mount::Scratch { source, target }, Source::Directory(lower)) => {
                self.scratch(lower, source, target)
            }
            (
                Mount::Overlay {
                    lowers: paths,
                    target,
                    ..
                },
                Source::Layers {
                    lowers,
                    upper,
                    work,
                },
            ) => self.overlay((&lowers, upper, work), paths, target, true),
            (Mount::Bind { .. } | Mount::Scratch { .. } | Mount::Overlay { .. }, _) => {
                unreachable!("the sources were opened for these mounts")
            }
            (Mount::Tmpfs { target, mode, size }, _) => self.tmpfs(target, *mode, *size).map(drop),
            (Mount::Proc { target }, _) => self.procfs(target),
            (Mount::Devices { target }, Source::Laid) | (Mount::Nodes { target }, _) => {
                self.nodes(target)
            }
            (Mount::Devices { target }, _) => self.devices(target),
            (
                Mount::File {
                    target,
                    content,
                    mode,
                },
                _,
            ) => {
                let operation = Operation::PutFile {
                    root,
                    path: &c_path(target)?,
                    mode: *mode,
                    content: content.as_bytes(),
                };
                self.push(operation, write_error(target));
                Ok(())
            }
            (Mount::Directory { target, mode }, _) => self.directory(target, *mode),
            (Mount::Symlink { target, points_to }, _) => {
                let operation = Operation::PutLink {
                    root,
                    path: &c_path(target)?,
                    points_to: &c_path(points_to)?,
                };
                self.push(operation, write_error(target));
                Ok(())
            }
        }
    }

    /// Makes the directories that something lies in, and is mounted on, where that needs no looking; notes what is not known of
    /// them afterwards.
    fn make_way(&mut self, mount: &Mount) -> Result<(), LaunchError> {
        let target = mount.target();
        let parent = target.parent().unwrap_or(target);
        match mount {
            Mount::Directory { .. } => self.make_directories(parent),
            Mount::File { .. } | Mount::Symlink { .. } => {
                self.make_directories(parent)?;
                if let Some(parent) = self.fresh.get_mut(parent) {
                    *parent = None;
                }
                Ok(())
            }
            Mount::Bind { source, .. } if !source.is_dir() => {
                self.make_directories(parent)?;
                self.cover(target);
                Ok(())
            }
            _ => {
                self.make_directories(target)?;
                self.cover(target);
                Ok(())
            }
        }
    }

    /// Makes a directory and its parents where they are to lie in a tmpfs of our own. Anywhere else they are made by looking.
    fn make_directories(&mut self, target: &Path) -> Result<(), LaunchError> {
        let mut missing = Vec::new();
        for above in target.ancestors() {
            match self.fresh.get(above) {
                None => missing.push(above),
                Some(None) => return Ok(()),
                Some(Some(_)) => {
                    let mut missing = missing.into_iter().rev();
                    return missing
                        .try_for_each(|directory| self.directory(directory, MOUNT_POINT));
                }
            }
        }
        Ok(())
    }

    /// Something is mounted here: what is below is not what was made.
    fn cover(&mut self, target: &Path) {
        self.fresh.retain(|path, _| !path.starts_with(target));
        self.fresh.insert(target.to_owned(), None);
    }

    fn directory(&mut self, target: &Path, mode: u32) -> Result<(), LaunchError> {
        let parent = target.parent().and_then(|parent| self.fresh.get(parent));
        if let (Some(Some((tree, below))), Some(name)) = (parent, target.file_name())
            && !self.fresh.contains_key(target)
        {
            let (tree, path) = (*tree, below.join(name));
            let operation = Operation::MakeDirectory {
                parent: tree,
                path: &c_path(&path)?,
                mode,
            };
            self.push(operation, write_error(target));
            self.fresh.insert(target.to_owned(), Some((tree, path)));
            return Ok(());
        }
        let operation = Operation::PutDirectory {
            root: self.root,
            path: &c_path(target)?,
            mode,
        };
        self.push(operation, write_error(target));
        Ok(())
    }

    fn bind(
        &mut self,
        tree: Slot,
        source: &Path,
        target: &Path,
        read_only: bool,
    ) -> Result<(), LaunchError> {
        let place = self.ensure(target, Like::Tree(tree))?;
        let origin = mount_error(&source.display().to_string(), target);
        let attributes = attributes(read_only, target.starts_with("/dev"));
        self.push(
            Operation::SetAttributes { tree, attributes },
            origin.clone(),
        );
        let operation = Operation::Attach {
            tree,
            on: place,
            path: c"",
        };
        self.push(operation, origin);
        Ok(())
    }

    fn scratch(&mut self, lower: Slot, source: &Path, target: &Path) -> Result<(), LaunchError> {
        // One that cannot be looked at cannot be opened either, which is said then.
        let mode = fs::metadata(source).map_or(0o755, |found| found.mode() & 0o7777);
        let (upper, work) = self.pair(mode)?;
        // Its upper layer is in memory, where there is no disk to wait for.
        let layers = (&[lower][..], upper, work);
        self.overlay(layers, &[source.to_owned()], target, false)
    }

    fn overlay(
        &mut self,
        (lowers, upper, work): (&[Slot], Slot, Slot),
        paths: &[PathBuf],
        target: &Path,
        volatile: bool,
    ) -> Result<(), LaunchError> {
        let place = self.ensure(target, Like::Directory)?;
        let packed: Vec<u8> = lowers
            .iter()
            .flat_map(|slot| slot.0.to_ne_bytes())
            .collect();
        let operation = Operation::Overlay {
            lowers: Slots(&packed),
            upper,
            work,
            on: place,
            path: c"",
            volatile,
        };
        let origin = SetupError::Overlay {
            target: target.to_owned(),
            lowers: paths.to_vec(),
            source: Errno(0),
        };
        self.push(operation, origin);
        Ok(())
    }

    /// Mounts a fresh tmpfs, or a directory of the one there is as a mount of its own: that costs less, most of all at the
    /// end. Gives what opens it.
    pub(super) fn tmpfs(
        &mut self,
        target: &Path,
        mode: u32,
        size: Option<u64>,
    ) -> Result<Slot, LaunchError> {
        let origin = mount_error("tmpfs", target);
        if size.is_none() && self.stage.is_some() {
            let (parent, name) = self.stage_directory("tree", mode)?;
            let place = self.ensure(target, Like::Directory)?;
            let operation = Operation::Bind {
                parent,
                path: &name,
                on: place,
            };
            self.push(operation, origin);
            // By way of the new mount, for what is mounted below it.
            let tree = self.ensure(target, Like::Directory)?;
            let own = Some((tree, PathBuf::new()));
            self.fresh.insert(target.to_owned(), own);
            return Ok(tree);
        }
        let size = size.map_or_else(String::new, |size| format!(",size={size}"));
        let flags = MS_NOSUID | MS_NODEV;
        self.mount_new(c"tmpfs", target, flags, &format!("mode={mode:o}{size}"))?;
        self.ensure(target, Like::Directory)
    }

    /// Mounts a new file system on a place inside.
    fn mount_new(
        &mut self,
        kind: &std::ffi::CStr,
        target: &Path,
        flags: usize,
        options: &str,
    ) -> Result<(), LaunchError> {
        let on = self.ensure(target, Like::Directory)?;
        let operation = Operation::Mount {
            kind,
            on,
            flags: flags as u32,
            options: &text(options)?,
        };
        self.push(operation, mount_error(&kind.to_string_lossy(), target));
        Ok(())
    }

    /// Has the PID namespace give out so many numbers only. Before Linux 6.14 the setting was the machine's, which is why a kernel
    /// is not asked but told apart by its version.
    fn bound_processes(&mut self, proc: Slot) -> Result<(), LaunchError> {
        let Some(most) = self.plan.processes else {
            return Ok(());
        };
        if !release::is_from(&release::of_kernel(), 6, 14) {
            self.downgrades.push(Downgrade::Processes);
            return Ok(());
        }
        // Numbers up to 300 are used once, and never again after they have begun anew (RESERVED_PIDS).
        let content = most.saturating_add(300).min(4 << 20).to_string();
        let operation = Operation::WriteBelow {
            parent: proc,
            path: c"sys/kernel/pid_max",
            content: content.as_bytes(),
        };
        self.push(
            operation,
            write_error(Path::new("/proc/sys/kernel/pid_max")),
        );
        Ok(())
    }

    fn procfs(&mut self, target: &Path) -> Result<(), LaunchError> {
        self.mount_new(c"proc", target, MS_NOSUID | MS_NODEV | MS_NOEXEC, "")?;
        if self.caller.uid != 0 {
            return Ok(());
        }
        let proc = self.ensure(target, Like::Directory)?;
        // Before what is in it cannot be written any more.
        self.bound_processes(proc)?;
        for name in PROTECTED_PROC {
            let operation = Operation::Shield {
                parent: proc,
                path: &text(name)?,
            };
            let origin = mount_error("a read-only copy of it", &target.join(name));
            self.push(operation, origin);
        }
        Ok(())
    }
}
