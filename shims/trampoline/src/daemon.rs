//! Asking the project's daemon to run a command (`envd/src/daemon/PROTOCOL.md`, the packet RUN).

use core::ffi::CStr;

use envd_init::{
    inherited::Inherited,
    program::Field,
    protocol::LONGEST_PACKET,
    request,
    sys::{self, Descriptor, Region, Start as Process},
};

use crate::{
    arguments::Invocation,
    place::{self, Place},
    relay::{self, Held, Outcome},
    text::{Collected, Path},
};

/// Tag of a packet that asks for a command to be run.
const RUN: u32 = 65;

/// Connects to the project's daemon, if one runs that is the user's own.
pub(crate) fn connect(process: &Process, store: &Path, place: &Place) -> Option<Descriptor> {
    let sockets = place::sockets(&process.environment.iter(), store, &place.project);
    let mut sockets = sockets.iter().flatten();
    let socket = sockets.find_map(|path| sys::connect_packets(path.as_c_str()).ok())?;
    let (uid, ..) = sys::ids();
    match sys::peer_user(socket) {
        Ok(peer) if peer == uid => Some(socket),
        _ => {
            sys::close(socket);
            None
        }
    }
}

/// Has a command run; `None` if the daemon would not, and nothing has been done.
pub(crate) fn run(
    daemon: Descriptor,
    invocation: &Invocation<'_>,
    place: &Place,
    process: &Process,
    build: u64,
) -> Option<i32> {
    let mut region = Region::new(LONGEST_PACKET).ok()?;
    let packet = encode(region.bytes_mut(), invocation, place, process, build)?;
    let (ours, theirs) = sys::packet_pair().ok()?;
    let Some(held) = Held::new() else {
        sys::close(ours);
        sys::close(theirs);
        return None;
    };
    let sent = sys::send(daemon, packet, &[0, 1, 2, theirs]);
    sys::close(theirs);
    let outcome = match sent {
        Ok(()) => relay::wait(ours, &held, daemon, true),
        Err(_) => Outcome::Failed,
    };
    sys::close(ours);
    match outcome {
        Outcome::Ended(status) => Some(sys::shell_code(status)),
        Outcome::Gone => {
            let _ = sys::write_all(
                2,
                b"envd: the environment, or its daemon, ended before the command did\n",
            );
            Some(125)
        }
        Outcome::Failed => {
            held.release();
            None
        }
    }
}

fn encode<'r>(
    bytes: &'r mut [u8],
    invocation: &Invocation<'_>,
    place: &Place,
    process: &Process,
    build: u64,
) -> Option<&'r [u8]> {
    let mut sink = Collected::new(bytes);
    let variables = invocation.variables.iter().flatten();
    let length: usize = variables
        .clone()
        .map(|variable| variable.to_bytes_with_nul().len())
        .sum();
    RUN.write(&mut sink);
    build.write(&mut sink);
    invocation.inside.write(&mut sink);
    (variables.clone().count() as u32).write(&mut sink);
    (length as u32).write(&mut sink);
    for variable in variables {
        envd_init::program::Sink::put(&mut sink, variable.to_bytes_with_nul());
    }
    let program: &CStr = invocation.command.clone().next()?;
    let inherited = Inherited::of_this_process();
    let draft = request::Draft {
        flags: request::SESSION,
        umask: Some(inherited.umask),
        niceness: inherited.niceness,
        ignored: inherited.ignored,
        limits: inherited.limits(),
        arguments: invocation.command.clone(),
        environment: process.environment.iter(),
    };
    draft.write(place.directory.as_c_str(), program, &mut sink);
    sink.finish()
}
