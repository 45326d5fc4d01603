//! Running a command in a ready environment: by the daemon, or by carrying out a start.

use core::ffi::CStr;

use envd_init::{
    launch::{self, First},
    program::Program,
    request::{self, Request},
    sys::{self, Descriptor, Region, SignalSet, Start as Process, constant::*},
};

use crate::{
    arguments::Invocation,
    daemon, facts, key,
    place::{self, Place},
    relay::{self, Held, Outcome},
    start::{self, Start},
    text::{Collected, Path},
};

/// Bytes of all variables that matter, at most.
const LONGEST_FACTS: usize = 16 * 1024;

/// What stands for any version of the daemon.
const ANY_BUILD: u64 = 0;

/// Runs it: its exit code. `None` if that cannot be done quickly; then nothing has been done at all.
pub(crate) fn attempt(invocation: &Invocation<'_>, process: &Process) -> Option<i32> {
    let place = plain(invocation)?;
    let store = place::store(&process.environment.iter())?;
    if invocation.daemon
        && let Some(daemon) = daemon::connect(process, &store, &place)
    {
        let executable = sys::status_at(AT_FDCWD, c"/proc/self/exe", true).ok()?;
        let code = daemon::run(daemon, invocation, &place, process, key::build(&executable));
        sys::close(daemon);
        return code;
    }
    carry_out(invocation, &place, &store, process)
}

/// Has the daemon run it, if there is one, whatever version it is: its exit code.
pub(crate) fn by_daemon(invocation: &Invocation<'_>, process: &Process) -> Option<i32> {
    let place = plain(invocation)?;
    let store = place::store(&process.environment.iter())?;
    let daemon = daemon::connect(process, &store, &place)?;
    let code = daemon::run(daemon, invocation, &place, process, ANY_BUILD);
    sys::close(daemon);
    code
}

/// Where it is to run, if nothing about that is out of the ordinary.
fn plain(invocation: &Invocation<'_>) -> Option<Place> {
    // A terminal is handed over by the whole of envd, and a missing standard descriptor would become some other file.
    if sys::is_terminal(0) || !(0..3).all(|standard| sys::status_at(standard, c"", true).is_ok()) {
        return None;
    }
    Place::find(invocation.project)
}

/// Carries out the start that an earlier run has left, if there is one and it still holds.
fn carry_out(
    invocation: &Invocation<'_>,
    place: &Place,
    store: &Path,
    process: &Process,
) -> Option<i32> {
    let mut region = Region::new(LONGEST_FACTS).ok()?;
    let facts = {
        let mut sink = Collected::new(region.bytes_mut());
        let (uid, _, gid, _) = sys::ids();
        facts::write((uid, gid), process.environment.iter(), &mut sink);
        sink.finish()?
    };
    let name = key::start(place.project.as_bytes(), invocation.inside, facts);
    let path = Path::of(&[store.as_bytes(), b"/starts/", &name])?;
    let start = Start::parse(read(path.as_c_str())?.leak()).ok()?;
    let same = start.facts == facts
        && start.inside == invocation.inside
        && start.project.to_bytes() == place.project.as_bytes();
    if !same || !machine_is_the_same(&start) {
        return None;
    }
    // Held from here on: the garbage collector leaves it alone.
    let view = sys::open_at(AT_FDCWD, start.view, sys::arch::flags::O_DIRECTORY, 0).ok()?;
    let held = sys::share_lock(view).is_ok() && checks_hold(&start);
    let code = if held {
        run(&start, invocation, place)
    } else {
        None
    };
    match code {
        // The process ends, and all that it has with it: nothing is given back piece by piece.
        Some(_) => core::mem::forget(region),
        None => sys::close(view),
    }
    code
}

/// A file that is one's own.
fn read(path: &CStr) -> Option<Region> {
    let file = sys::open_at(AT_FDCWD, path, sys::arch::flags::O_NOFOLLOW, 0).ok()?;
    let read = || {
        let status = sys::status_at(file, c"", true).ok()?;
        let (uid, ..) = sys::ids();
        let length = usize::try_from(status.size).ok()?;
        let own = status.uid == uid && status.mode & 0o022 == 0 && status.mode & S_IFMT == S_IFREG;
        if !own || length == 0 || length > start::LONGEST {
            return None;
        }
        let mut region = Region::new(length).ok()?;
        let read = sys::read(file, region.bytes_mut()).ok()?;
        (read == length).then_some(region)
    };
    let region = read();
    sys::close(file);
    region
}

fn machine_is_the_same(start: &Start<'_>) -> bool {
    let mut names = [0; 390];
    if sys::host_name(&mut names) != Ok(start.hostname) {
        return false;
    }
    let mut boot = [0; 64];
    let Ok(file) = sys::open_at(AT_FDCWD, c"/proc/sys/kernel/random/boot_id", 0, 0) else {
        return false;
    };
    let length = sys::read(file, &mut boot).unwrap_or(0);
    sys::close(file);
    boot.get(..length) == Some(start.boot)
}

fn checks_hold(start: &Start<'_>) -> bool {
    start.checks().all(|check| {
        check.is_ok_and(
            |check| match sys::status_at(AT_FDCWD, check.path, check.follow) {
                Ok(found) => check.found == Some(found),
                Err(sys::Errno(ENOENT | ENOTDIR)) => check.found.is_none(),
                Err(_) => false,
            },
        )
    })
}

fn run(start: &Start<'static>, invocation: &Invocation<'_>, place: &Place) -> Option<i32> {
    let program = Program::parse(start.program).ok()?;
    let room = Region::new(request::LONGEST).ok()?.leak();
    let request = encode(room, start, invocation, place)?;
    let (ours, theirs) = sys::packet_pair().ok()?;
    let held = Held::new();
    let code = held.and_then(|held| {
        let first = First {
            request,
            mask: held.before,
            announced: false,
        };
        launch(program, start, first, &held, ours, theirs).or_else(|| {
            held.release();
            None
        })
    });
    sys::close(ours);
    code
}

fn launch(
    program: Program<'static>,
    start: &Start<'_>,
    first: First<'static>,
    held: &Held,
    ours: Descriptor,
    theirs: Descriptor,
) -> Option<i32> {
    let dumpable = sys::is_dumpable();
    let launched = launch::launch_sharing(program, first, theirs, Some(ours));
    sys::close(theirs);
    let launched = launched.ok()?;
    // Where the kernel does not, this process waits for it a little longer.
    let _ = sys::keep_mounts(launched.pidfd);
    let apart = start.flags & start::NEW_SESSION != 0;
    let outcome = relay::wait(ours, held, -1, apart);
    // Until the kernel has taken everything away.
    let waited = sys::wait_for(launched.pid);
    // PID 1 closed the memory that it shared with this process, which may go on as the whole of envd.
    if dumpable {
        let _ = sys::set_dumpable();
    }
    sys::close(launched.pidfd);
    match outcome {
        Outcome::Ended(status) => Some(sys::shell_code(status)),
        // Nothing ran: whatever is wrong, the whole of envd says it in words.
        Outcome::Failed => None,
        Outcome::Gone => match waited {
            Ok(status) if status & 0x7f == 0 && status >> 8 == 125 => None,
            _ => {
                let _ = sys::write_all(2, b"envd: the environment's PID 1 ended unexpectedly\n");
                Some(125)
            }
        },
    }
}

fn encode<'r>(
    bytes: &'r mut [u8],
    start: &Start<'_>,
    invocation: &Invocation<'_>,
    place: &Place,
) -> Option<Request<'r>> {
    let given = invocation.variables.iter().flatten().copied();
    let name = |entry: &CStr| {
        let bytes = entry.to_bytes();
        bytes
            .iter()
            .position(|byte| *byte == b'=')
            .unwrap_or(bytes.len())
    };
    // One of the command line takes the place of the one of the same name.
    let overridden = {
        let given = given.clone();
        move |entry: &&CStr| {
            let bytes = entry.to_bytes();
            !given
                .clone()
                .any(|other| other.to_bytes()[..name(other)] == bytes[..name(entry)])
        }
    };
    let environment = start.environment().filter(overridden).chain(given);
    let mut sink = Collected::new(bytes);
    let flags = match start.flags & start::NEW_SESSION {
        0 => 0,
        _ => request::SESSION,
    };
    let draft = request::Draft {
        flags,
        umask: None,
        niceness: None,
        ignored: SignalSet(0),
        limits: request::Limits::new(start.limits).iter(),
        arguments: invocation.command.clone(),
        environment,
    };
    let program = invocation.command.clone().next()?;
    draft.write(place.directory.as_c_str(), program, &mut sink);
    Request::parse(sink.finish()?).ok()
}
