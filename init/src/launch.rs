//! From a program to an environment: one process made into its namespaces, which becomes their PID 1.

use core::ffi::CStr;

use crate::{
    apply::{self, Maps},
    execute::{self, Given, Scratch},
    program::{GROUPS_ALLOWED, MAPS_FROM_OUTSIDE, Program},
    protocol::{Failure, Report, Stage},
    request::{FOREGROUND, Request},
    serve::{self, Duty},
    sys::{self, Descriptor, Disposition, Errno, Pid, Region, Side, SignalSet, constant::*},
};

/// A new environment, seen from the process that made it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Launched {
    /// Its PID 1.
    pub pid: Pid,
    /// A pidfd of it, closed at exec.
    pub pidfd: Descriptor,
}

/// The command that an environment is made for.
#[derive(Clone, Copy, Debug)]
pub struct First<'f> {
    /// What to execute, on the standard descriptors of the process that launches.
    pub request: Request<'f>,
    /// Signals that it starts with blocked.
    pub mask: SignalSet,
    /// Whether the owner is told when it has started.
    pub announced: bool,
}

/// Makes an environment. `owner` is PID 1's end of the connection to its owner, and `owners_end` the other one where this
/// process holds it: the new process must not.
///
/// With `first`, PID 1 ends with that command, which reports on the owner's connection; without, it takes requests from it
/// (and says [`Report::Started`] when it does). What goes wrong in the new process is said there, too, as a [`Failure`].
///
/// `group` is the directory of the control group that PID 1 is made in; without, it is the launching process's.
///
/// The calling process must have one thread. The new one has a copy of its memory, and never comes back here.
pub fn launch(
    program: &Program<'_>,
    first: Option<&First<'_>>,
    owner: Descriptor,
    owners_end: Option<Descriptor>,
    group: Option<Descriptor>,
) -> Result<Launched, Failure> {
    let go = Go::new(program)?;
    let theirs = go.theirs();
    match sys::copy(program.header.namespaces, group) {
        Ok(Side::Child) => {
            leave(owners_end);
            leave(go.ours());
            become_first(program, first, owner, theirs)
        }
        Ok(Side::Parent { pid, pidfd }) => go.give(program, pid, pidfd),
        Err(error) => Err(go.withdraw(error)),
    }
}

/// Joins an environment that somebody else owns, for one command: as with `first` above, but that the new process is in the
/// namespaces (see [`crate::protocol::JOIN`]) from outside and not their PID 1. What it starts is killed with the environment, and
/// not by its own end. `program` says what is given up on the way, and makes nothing.
///
/// A process that a PID 1 starts belongs to another session. This one's command stays in the session of who joins, and so has its
/// terminal.
pub fn join(
    program: &Program<'_>,
    first: &First<'_>,
    owner: Descriptor,
    owners_end: Option<Descriptor>,
    namespaces: &[Descriptor],
) -> Result<Launched, Failure> {
    match sys::copy(0, None) {
        Ok(Side::Child) => {
            leave(owners_end);
            for (index, namespace) in namespaces.iter().enumerate() {
                if let Err(error) = sys::enter_namespace(*namespace) {
                    let failure = Failure::at(Stage::Join, index as u32, error.0);
                    let _ = sys::send(owner, &failure.encode(), &[]);
                    sys::exit(125)
                }
            }
            become_first(program, Some(first), owner, None)
        }
        Ok(Side::Parent { pid, pidfd }) => Ok(Launched { pid, pidfd }),
        Err(error) => Err(Failure::at(Stage::Clone, 0, error.0)),
    }
}

/// Changes what is seen in an environment, whether or not anything runs in it: a process that is in its namespace of users, `users`,
/// and at first in a copy of this one's mounts, carries out a program that finds the environment's namespace of mounts in its first
/// slot and ends there. Nobody inside sees this process, which says on `owner`'s connection that it is done ([`Report::Started`]), or
/// what went wrong.
pub fn amend(
    program: &Program<'_>,
    owner: Descriptor,
    users: Descriptor,
    mounts: Descriptor,
) -> Result<Launched, Failure> {
    match sys::copy(0, None) {
        Ok(Side::Child) => match change(program, owner, users, mounts) {
            Ok(()) => {
                let _ = sys::send(owner, &Report::Started(0).encode(), &[]);
                sys::exit(0)
            }
            Err(failure) => {
                let _ = sys::send(owner, &failure.encode(), &[]);
                sys::exit(125)
            }
        },
        Ok(Side::Parent { pid, pidfd }) => Ok(Launched { pid, pidfd }),
        Err(error) => Err(Failure::at(Stage::Clone, 0, error.0)),
    }
}

fn change(
    program: &Program<'_>,
    owner: Descriptor,
    users: Descriptor,
    mounts: Descriptor,
) -> Result<(), Failure> {
    let failed = |stage, index| move |error: Errno| Failure::at(stage, index, error.0);
    sys::set_umask(0);
    sys::enter_namespace(users).map_err(failed(Stage::Join, 0))?;
    // Which other credentials would clear.
    sys::set_parent_death_signal(SIGKILL).map_err(failed(Stage::Protect, 0))?;
    sys::unshare(program.header.namespaces).map_err(failed(Stage::Join, 1))?;
    apply::apply(program, owner, Maps::awaited(None), &[mounts]).map(drop)
}

/// As [`launch`] for one command, where both processes share all memory: what is given lives as long as either.
pub fn launch_sharing(
    program: Program<'static>,
    first: First<'static>,
    owner: Descriptor,
    owners_end: Option<Descriptor>,
) -> Result<Launched, Failure> {
    let stack = Region::new(sys::STACK).map_err(|error| Failure::at(Stage::Clone, 0, error.0))?;
    let go = Go::new(&program)?;
    let (ours, theirs) = (go.ours(), go.theirs());
    let child = move || {
        leave(owners_end);
        leave(ours);
        become_first(&program, Some(&first), owner, theirs)
    };
    match sys::share(program.header.namespaces, stack, child) {
        Ok((pid, pidfd)) => go.give(&program, pid, pidfd),
        Err(error) => Err(go.withdraw(error)),
    }
}

fn leave(descriptor: Option<Descriptor>) {
    if let Some(descriptor) = descriptor {
        sys::close(descriptor);
    }
}

/// The word that lets a new process go on when its id maps are written, where that is for this process to do: our end of a
/// connection, and its.
struct Go(Option<(Descriptor, Descriptor)>);

impl Go {
    fn new(program: &Program<'_>) -> Result<Self, Failure> {
        if program.header.flags & MAPS_FROM_OUTSIDE == 0 {
            return Ok(Go(None));
        }
        let pair = sys::packet_pair();
        let pair = pair.map_err(|error| Failure::at(Stage::Clone, 0, error.0))?;
        Ok(Go(Some(pair)))
    }

    fn ours(&self) -> Option<Descriptor> {
        self.0.map(|(ours, _)| ours)
    }

    fn theirs(&self) -> Option<Descriptor> {
        self.0.map(|(_, theirs)| theirs)
    }

    /// There is no new process.
    fn withdraw(self, error: Errno) -> Failure {
        leave(self.ours());
        leave(self.theirs());
        Failure::at(Stage::Clone, 0, error.0)
    }

    fn give(self, program: &Program<'_>, pid: Pid, pidfd: Descriptor) -> Result<Launched, Failure> {
        let launched = Launched { pid, pidfd };
        let Some((ours, theirs)) = self.0 else {
            return Ok(launched);
        };
        sys::close(theirs);
        let mapped = write_maps(program, Some(pid)).and_then(|()| {
            sys::send(ours, b"!", &[]).map_err(|error| Failure::at(Stage::Protect, 4, error.0))
        });
        // Without its word, the new process ends.
        sys::close(ours);
        mapped.map(|()| launched).inspect_err(|_| {
            let _ = sys::wait_for(pid);
            sys::close(pidfd);
        })
    }
}

/// Writes the id maps of a process, or its own.
fn write_maps(program: &Program<'_>, of: Option<Pid>) -> Result<(), Failure> {
    let header = &program.header;
    let put = |index: u32, name: &[u8], content: &CStr| {
        let mut path = [0; 48];
        let mut end = 0;
        let mut digits = [0; 12];
        let process = match of {
            Some(pid) => sys::decimal(pid.unsigned_abs(), &mut digits),
            None => b"self",
        };
        for part in [b"/proc/", process, b"/", name] {
            path[end..end + part.len()].copy_from_slice(part);
            end += part.len();
        }
        let failed = |error: Errno| Failure::at(Stage::Maps, index, error.0);
        let path = CStr::from_bytes_until_nul(&path).map_err(|_| failed(Errno(EINVAL)))?;
        let file = sys::open_at(AT_FDCWD, path, O_WRONLY, 0).map_err(failed)?;
        // The kernel takes a map in one write only.
        let written = sys::write(file, content.to_bytes());
        sys::close(file);
        written.map(drop).map_err(failed)
    };
    if header.flags & GROUPS_ALLOWED == 0 {
        put(0, b"setgroups", c"deny")?;
    }
    put(1, b"uid_map", header.uid_map)?;
    put(2, b"gid_map", header.gid_map)
}

/// In the new process.
fn become_first(
    program: &Program<'_>,
    first: Option<&First<'_>>,
    owner: Descriptor,
    go: Option<Descriptor>,
) -> ! {
    match start(program, first, owner, go) {
        Ok(duty) => {
            match first {
                Some(_) => {
                    let terminal = duty.terminal.unwrap_or(duty.owner);
                    sys::close_all_but(&mut [duty.owner, duty.signals, terminal]);
                }
                // Requests come with descriptors; that these places are taken keeps them out of the command's way.
                None => {
                    sys::close_all_but(&mut [0, 1, 2, duty.owner, duty.signals]);
                    let (owner, signals) = (duty.owner as u64, duty.signals as u64);
                    sys::shed([owner, signals, duty.kept, duty.umask.into()], wait)
                }
            }
            serve::serve(duty)
        }
        Err(failure) => {
            let _ = sys::send(owner, &failure.encode(), &[]);
            sys::exit(125)
        }
    }
}

/// PID 1 of an environment that waits for commands, with nothing left of what it was made with.
fn wait([owner, signals, kept, umask]: [u64; 4]) -> ! {
    serve::serve(Duty {
        owner: owner as Descriptor,
        signals: signals as Descriptor,
        command: None,
        terminal: None,
        kept,
        umask: umask as u32,
    })
}

/// Assembles the environment, and starts the command that it is for.
fn start(
    program: &Program<'_>,
    first: Option<&First<'_>>,
    owner: Descriptor,
    go: Option<Descriptor>,
) -> Result<Duty, Failure> {
    let protect = |index| move |error: Errno| Failure::at(Stage::Protect, index, error.0);
    // Should the launching process be gone already, the closed connection says so.
    sys::set_parent_death_signal(SIGKILL).map_err(protect(0))?;
    // What `ps` shows; the command line remains that of the launching process.
    sys::set_name(c"envd-init").map_err(protect(1))?;
    // The launcher lets its children's ends pass; this process must see them.
    sys::set_disposition(SIGCHLD, Disposition::Default).map_err(protect(2))?;
    let umask = sys::set_umask(0);
    // One that has joined an environment has the maps of that.
    if go.is_none() && program.header.namespaces & CLONE_NEWUSER != 0 {
        write_maps(program, None)?;
    }
    let applied = apply::apply(program, owner, Maps::awaited(go), &[])?;
    let signals = serve::block_signals().map_err(protect(2))?;
    let mut duty = Duty {
        owner,
        signals,
        command: None,
        terminal: None,
        kept: applied.kept,
        umask,
    };
    if let Some(first) = first {
        let given = Given {
            kept: applied.kept,
            mask: first.mask,
            umask,
            descriptors: &[],
        };
        let mut scratch = Scratch::new()?;
        let command = execute::execute(&first.request, &given, &mut scratch)?;
        // Not given back: there is one command only, and where memory is shared every processor is interrupted for that.
        core::mem::forget(scratch);
        duty.command = Some(command);
        duty.terminal = (first.request.flags & FOREGROUND != 0).then_some(0);
        // Out of the caller's process group, whose signals are for the command alone.
        let _ = sys::new_group();
        if first.announced {
            let _ = sys::send(owner, &Report::Started(command).encode(), &[]);
        }
    } else {
        sys::new_session().map_err(protect(4))?;
        let _ = sys::send(owner, &Report::Started(0).encode(), &[]);
    }
    serve::settle(applied.kept).map_err(protect(3))?;
    Ok(duty)
}
