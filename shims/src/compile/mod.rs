//! From a plan to a program: everything that can be decided before there is a process is decided here, so that what is left
//! ([`envd_init::program`]) is a list of system calls with their operands.
//!
//! The program depends on the plan but for its command, on the caller's ids, on the root's own directories and links, and on
//! the kernel's Landlock; not on the command, its environment or the current directory. So one can be kept and used again.

mod amend;
mod begun;
mod devices;
mod mounts;
mod plant;
mod privileges;

pub use devices::name_of_terminal;
pub(crate) use plant::{Done, bed};

use std::{
    collections::BTreeMap,
    ffi::CString,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

use envd_init::program::{
    Field, GROUPS_ALLOWED, Header, Like, MAPS_FROM_OUTSIDE, Operation, Slot, Slots,
};

pub use amend::compile_amendment;
pub use begun::{Begun, begin};

use crate::{
    error::{LaunchError, SetupError},
    ids::{Caller, Existing, Maps},
    plan::{Mount, Plan, Root, Seccomp, Upper},
    running::Downgrade,
    target,
};
use mounts::Source;

/// Where the root is assembled: any directory that every host has will do. What it held is covered, in the new namespace
/// only; the plan's sources are opened before.
const STAGE: &str = "/tmp";

/// The mode of a directory that is only made to mount something on it, and of its parents.
const MOUNT_POINT: u32 = 0o755;

/// A plan, ready to be carried out any number of times.
#[derive(Clone, Debug)]
pub struct Program {
    /// As `init/src/program/PROGRAM.md` has it.
    bytes: Vec<u8>,
    /// For each operation, what its failure means.
    origins: Vec<SetupError>,
    /// What this host cannot do of the plan.
    downgrades: Vec<Downgrade>,
}

impl Program {
    /// In the place of one that was compiled elsewhere: what its failures mean is not known here.
    pub(crate) fn of_others() -> Self {
        Program {
            bytes: Vec::new(),
            origins: Vec::new(),
            downgrades: Vec::new(),
        }
    }

    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// What of the plan this host cannot do, and the program so leaves out.
    pub fn downgrades(&self) -> &[Downgrade] {
        &self.downgrades
    }

    /// What the failure of an operation means, by its number.
    pub(crate) fn origin(&self, index: u32) -> Option<&SetupError> {
        self.origins.get(index as usize)
    }
}

/// Compiles a plan for the calling process's user, and for the terminal on its standard input, if that is one.
pub fn compile(plan: &Plan) -> Result<Program, LaunchError> {
    compile_on(plan, devices::terminal().as_deref())
}

/// The same for the terminal with this name on the host.
pub fn compile_on(plan: &Plan, terminal: Option<&Path>) -> Result<Program, LaunchError> {
    check(plan)?;
    let mut compiler = Compiler::new(plan, Caller::current(), namespaces(plan), 0)?;
    compiler.terminal = terminal;
    let mounts = compiler.root()?;
    for (mount, source) in mounts {
        compiler.mount(mount, source)?;
    }
    compiler.names_and_network()?;
    compiler.enter();
    compiler.privileges()?;
    Ok(compiler.program())
}

/// Compiles what a process gives up that joins an environment of this plan, so that it may do there what those may that were
/// started in it.
pub fn compile_joining(plan: &Plan) -> Result<Program, LaunchError> {
    check(plan)?;
    let mut compiler = Compiler::new(plan, Caller::current(), 0, 0)?;
    compiler.privileges()?;
    Ok(compiler.program())
}

struct Compiler<'p> {
    plan: &'p Plan,
    caller: Caller,
    terminal: Option<&'p Path>,
    bytes: Vec<u8>,
    origins: Vec<SetupError>,
    downgrades: Vec<Downgrade>,
    slots: u16,
    /// The new root, once it is assembled.
    root: Slot,
    stage: Option<Stage>,
    /// Directories inside that are there by now. With what opens the tmpfs of our own that each lies in, and its path there, as
    /// long as all that is in it is known: then nobody else can have put a link there, and more is made in it without looking.
    fresh: BTreeMap<PathBuf, Option<(Slot, PathBuf)>>,
}

/// The tmpfs that holds the upper layers and small file systems made for this environment.
#[derive(Clone, Copy, Debug)]
struct Stage {
    directory: Slot,
    /// Directories made.
    count: u32,
}

impl<'p> Compiler<'p> {
    /// With these namespaces, and these flags of a program beside those that follow from the plan.
    fn new(
        plan: &'p Plan,
        caller: Caller,
        namespaces: u64,
        flags: u32,
    ) -> Result<Self, LaunchError> {
        let mut downgrades = Vec::new();
        let (maps, outside) = maps(plan, caller, &mut downgrades);
        let (uid_map, gid_map) = (text(&maps.uid)?, text(&maps.gid)?);
        let mut flags = flags;
        if outside {
            flags |= MAPS_FROM_OUTSIDE;
        }
        if maps.setgroups {
            flags |= GROUPS_ALLOWED;
        }
        let mut bytes = Vec::with_capacity(8192);
        Header {
            namespaces,
            flags,
            uid_map: &uid_map,
            gid_map: &gid_map,
        }
        .write(&mut |more: &[u8]| bytes.extend_from_slice(more));
        Ok(Compiler {
            plan,
            caller,
            terminal: None,
            bytes,
            origins: Vec::new(),
            downgrades,
            slots: 0,
            root: Slot(0),
            stage: None,
            fresh: BTreeMap::new(),
        })
    }

    /// A slot that nothing else uses.
    fn slot(&mut self) -> Slot {
        self.slots += 1;
        Slot(self.slots - 1)
    }

    /// Adds an operation; `origin` is what its failure means, but for the error number.
    fn push(&mut self, operation: Operation<'_>, origin: SetupError) {
        operation.write(&mut |more: &[u8]| self.bytes.extend_from_slice(more));
        self.origins.push(origin);
    }

    fn program(self) -> Program {
        Program {
            bytes: self.bytes,
            origins: self.origins,
            downgrades: self.downgrades,
        }
    }

    /// Opens all sources and assembles the root; gives what is still to be mounted, in order.
    fn root(&mut self) -> Result<Vec<(&'p Mount, Source)>, LaunchError> {
        let plan = self.plan;
        self.push(
            Operation::MakePrivate {},
            SetupError::Propagation {
                source: crate::Errno(0),
            },
        );
        let sources = self.open_root()?;
        let opened = self.open_sources()?;
        self.make_stage()?;
        let planted = self.assemble(&sources)?;
        let sourced = plan.mounts.iter().zip(opened).zip(planted);
        let left = sourced.filter_map(|((mount, source), done)| match done {
            Done::Nothing => Some((mount, source)),
            Done::Laid => Some((mount, Source::Laid)),
            Done::All => None,
        });
        Ok(left.collect())
    }

    /// The host name, and what there is of a network.
    fn names_and_network(&mut self) -> Result<(), LaunchError> {
        let plan = self.plan;
        let none = crate::Errno(0);
        if plan.namespaces.uts && !plan.hostname.is_empty() {
            let name = text(&plan.hostname)?;
            let origin = SetupError::HostName {
                name: plan.hostname.clone(),
                source: none,
            };
            self.push(Operation::HostName { name: &name }, origin);
        }
        if plan.namespaces.net {
            self.push(
                Operation::Loopback {},
                SetupError::Loopback { source: none },
            );
        }
        if let Some(port) = plan.listen {
            let origin = SetupError::Listen { port, source: none };
            self.push(Operation::Listen { port }, origin);
        }
        Ok(())
    }

    /// Makes the root `/`, after which nothing of the host can be opened any more.
    fn enter(&mut self) {
        let none = crate::Errno(0);
        let pivot = SetupError::Pivot {
            call: "pivot_root".to_owned(),
            source: none,
        };
        self.push(Operation::Pivot { root: self.root }, pivot);
        if self.plan.hand_root {
            let root = self.root;
            self.push(
                Operation::HandRoot { root },
                SetupError::HandRoot { source: none },
            );
        }
    }

    fn open_root(&mut self) -> Result<Sources, LaunchError> {
        let plan = self.plan;
        let origin = |path: &Path| SetupError::Source {
            path: path.to_owned(),
            target: "/".into(),
            source: crate::Errno(0),
        };
        let mut open = |path: &PathBuf| -> Result<Slot, LaunchError> {
            let to = self.slot();
            let operation = Operation::OpenDirectory {
                to,
                path: &c_path(path)?,
            };
            self.push(operation, origin(path));
            Ok(to)
        };
        Ok(match &plan.root {
            Root::Overlay { lowers, upper } => Sources::Overlay {
                lowers: lowers.iter().map(&mut open).collect::<Result<_, _>>()?,
                upper: match upper {
                    Upper::Tmpfs { .. } => None,
                    Upper::Directory { upper, work } => Some((open(upper)?, open(work)?)),
                },
            },
            Root::ReadOnly { directory } => {
                let to = self.slot();
                let operation = Operation::CopyTree {
                    to,
                    path: &c_path(directory)?,
                    optional: false,
                };
                self.push(operation, read_only_root(directory));
                Sources::ReadOnly(to)
            }
        })
    }

    /// Must come after all sources are opened: it covers a directory of the host's.
    fn make_stage(&mut self) -> Result<(), LaunchError> {
        let scratch = |mount: &Mount| matches!(mount, Mount::Scratch { .. });
        let (size, inodes) = match &self.plan.root {
            Root::Overlay {
                upper: Upper::Tmpfs { size, inodes },
                ..
            } => (*size, *inodes),
            _ if self.plan.mounts.iter().any(scratch) => (None, None),
            _ => return Ok(()),
        };
        let mut options = "mode=0755".to_owned();
        for (name, value) in [("size", size), ("nr_inodes", inodes)] {
            if let Some(value) = value {
                options += &format!(",{name}={value}");
            }
        }
        let to = self.slot();
        let operation = Operation::Stage {
            to,
            path: &text(STAGE)?,
            options: &text(&options)?,
        };
        self.push(operation, staging("a tmpfs on /tmp"));
        self.stage = Some(Stage {
            directory: to,
            count: 0,
        });
        Ok(())
    }

    /// Makes a directory on the stage; gives its name.
    fn stage_directory(&mut self, name: &str, mode: u32) -> Result<(Slot, CString), LaunchError> {
        let stage = self.stage.as_mut().ok_or_else(|| {
            LaunchError::Plan("there is no tmpfs to make directories on".to_owned())
        })?;
        let name = text(&format!("{name}{}", stage.count))?;
        stage.count += 1;
        let parent = stage.directory;
        let operation = Operation::MakeDirectory {
            parent,
            path: &name,
            mode,
        };
        self.push(operation, staging("directories"));
        Ok((parent, name))
    }

    /// An upper and a work directory on the stage. `mode` is what the overlay's root will have.
    fn pair(&mut self, mode: u32) -> Result<(Slot, Slot), LaunchError> {
        let mut made = [Slot(0); 2];
        for (place, (name, mode)) in made.iter_mut().zip([("upper", mode), ("work", 0o700)]) {
            let (parent, name) = self.stage_directory(name, mode)?;
            *place = self.open_below(parent, &name, staging("directories"));
        }
        Ok((made[0], made[1]))
    }

    fn open_below(&mut self, parent: Slot, path: &std::ffi::CStr, origin: SetupError) -> Slot {
        let to = self.slot();
        self.push(Operation::OpenBelow { to, parent, path }, origin);
        to
    }

    /// Mounts the root on the stage; says how much of each of the plan's mounts is done with already.
    fn assemble(&mut self, sources: &Sources) -> Result<Vec<Done>, LaunchError> {
        let mut planted = vec![Done::Nothing; self.plan.mounts.len()];
        let stage = text(STAGE)?;
        match (sources, &self.plan.root) {
            (Sources::Overlay { lowers, upper }, Root::Overlay { lowers: paths, .. }) => {
                let (upper, work) = match upper {
                    Some(pair) => *pair,
                    None => {
                        let made = self.pair(0o755)?;
                        if let [lower] = &paths[..] {
                            planted = self.plant(lower, made.0)?;
                        }
                        made
                    }
                };
                let packed: Vec<u8> = lowers
                    .iter()
                    .flat_map(|slot| slot.0.to_ne_bytes())
                    .collect();
                let origin = SetupError::Overlay {
                    target: "/".into(),
                    lowers: paths.clone(),
                    source: crate::Errno(0),
                };
                let operation = Operation::Overlay {
                    lowers: Slots(&packed),
                    upper,
                    work,
                    on: Slot(0),
                    path: &stage,
                    // What a recorded command leaves is read as soon as it ends, and kept elsewhere.
                    volatile: self.plan.privileges.record_ownership,
                };
                self.push(operation, origin);
            }
            (Sources::ReadOnly(tree), Root::ReadOnly { directory }) => {
                let place = self.slot();
                let attributes = mounts::attributes(true, false);
                for operation in [
                    Operation::SetAttributes {
                        tree: *tree,
                        attributes,
                    },
                    Operation::OpenDirectory {
                        to: place,
                        path: &stage,
                    },
                    Operation::Attach {
                        tree: *tree,
                        on: place,
                        path: c"",
                    },
                ] {
                    self.push(operation, read_only_root(directory));
                }
            }
            _ => unreachable!("the sources were opened for this root"),
        }
        self.root = self.slot();
        let operation = Operation::OpenDirectory {
            to: self.root,
            path: &stage,
        };
        self.push(operation, staging("the new root"));
        Ok(planted)
    }

    /// A place inside, made where it is missing.
    fn ensure(&mut self, target: &Path, like: Like) -> Result<Slot, LaunchError> {
        let to = self.slot();
        let operation = Operation::Ensure {
            to,
            root: self.root,
            path: &c_path(target)?,
            like,
        };
        self.push(
            operation,
            SetupError::Target {
                target: target.to_owned(),
                source: crate::Errno(0),
            },
        );
        Ok(to)
    }
}

/// The host's directories of a root.
enum Sources {
    Overlay {
        lowers: Vec<Slot>,
        /// Upper and work, when they are directories of the host.
        upper: Option<(Slot, Slot)>,
    },
    ReadOnly(Slot),
}

fn staging(what: &str) -> SetupError {
    SetupError::Staging {
        what: what.to_owned(),
        source: crate::Errno(0),
    }
}

fn read_only_root(directory: &Path) -> SetupError {
    SetupError::ReadOnlyRoot {
        directory: directory.to_owned(),
        source: crate::Errno(0),
    }
}

fn text(text: &str) -> Result<CString, LaunchError> {
    CString::new(text).map_err(|_| LaunchError::Plan(format!("{text:?} contains a zero byte")))
}

fn c_path(path: &Path) -> Result<CString, LaunchError> {
    CString::new(path.as_os_str().as_bytes())
        .map_err(|_| LaunchError::Plan(format!("{path:?} contains a zero byte")))
}

/// The namespaces that environments of a plan have, as flags of clone3(2).
pub fn namespaces(plan: &Plan) -> u64 {
    use envd_init::sys::constant::*;
    let wanted = plan.namespaces;
    let mut flags = CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWPID;
    for (wanted, flag) in [
        (wanted.ipc, CLONE_NEWIPC),
        (wanted.uts, CLONE_NEWUTS),
        (wanted.net, CLONE_NEWNET),
        (wanted.cgroup, CLONE_NEWCGROUP),
    ] {
        if wanted {
            flags |= flag;
        }
    }
    flags
}

/// The recorder's runs have one id whoever runs them, so that their results are the same.
fn maps(plan: &Plan, caller: Caller, downgrades: &mut Vec<Downgrade>) -> (Maps, bool) {
    let all = plan.ids.all && !plan.privileges.record_ownership;
    if all && caller.uid == 0 {
        let all = Maps::all(&plan.ids, caller, &Existing::current());
        return match all {
            Some(maps) => (maps, true),
            // Root of a user namespace with this one id: its own are all there are.
            None => (Maps::own(&plan.ids, caller), false),
        };
    }
    if all {
        downgrades.push(Downgrade::Ids);
    }
    (Maps::own(&plan.ids, caller), false)
}

/// What can be known to be wrong before anything happens.
fn check(plan: &Plan) -> Result<(), LaunchError> {
    let wrong = |message: String| Err(LaunchError::Plan(message));
    for mount in &plan.mounts {
        let target = mount.target();
        if !target::is_target(target) {
            return wrong(format!(
                "{} cannot be mounted on: a target is an absolute path below / without ..",
                target.display()
            ));
        }
        if let Mount::Bind { source, .. } | Mount::Scratch { source, .. } = mount
            && !source.is_absolute()
        {
            return wrong(format!("the source {} is not absolute", source.display()));
        }
    }
    let mut lowers = match &plan.root {
        Root::Overlay { lowers, .. } => lowers.iter(),
        Root::ReadOnly { .. } => [].iter(),
    };
    if plan.listen.is_some() && !plan.namespaces.net {
        return wrong("a port is listened on in a network namespace of its own only".to_owned());
    }
    if let Some(lower) = lowers.find(|lower| !lower.is_absolute()) {
        return wrong(format!("the lower {} is not absolute", lower.display()));
    }
    if plan.privileges.record_ownership && plan.privileges.seccomp == Seccomp::Strict {
        return wrong(
            "ownership is recorded for trusted maintainer scripts, which Strict would break"
                .to_owned(),
        );
    }
    Ok(())
}
