//! A command on a terminal, which the client starts itself in an environment of the daemon: so it stays in the session whose
//! terminal that is.

use std::{
    io,
    os::fd::{AsFd as _, OwnedFd},
};

use envd_init::sys::constant::SIGKILL;
use envd_shims::{Exit, Joining, LaunchError, connection, take_namespaces};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::{
    client::{Client, ClientError},
    handing,
    message::{Answer, Ending, Event, Reason, Refusal},
    order::{JOINED, Joined, TAIL},
    packet::Packet,
    running::{Job, Outcome, failed, refused, vanished},
};
use crate::cli::Failure;

/// How long a killed command's environment is given to show that it was the one that ended.
const MOMENT: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 50_000_000,
};

/// Joins, runs the command, and waits for its end.
pub(super) fn join(
    job: &Job<'_>,
    client: &Client,
    told: &mut dyn FnMut(&Event),
) -> Result<Outcome, Failure> {
    let (ours, theirs) = connection()?;
    job.hand_over(client, theirs)?;
    let entrance = loop {
        let Some(packet) = client.packet()? else {
            return Err(ClientError::Ended.into());
        };
        if packet.bytes.starts_with(&JOINED.to_ne_bytes()) {
            break Entrance::of(packet).map_err(|error| failed("join", &error))?;
        }
        match Client::understood(packet)? {
            Answer::Error(refusal) => return Ok(Outcome::Refused(refusal)),
            Answer::Event(Event::Ended { why }) => return Ok(Outcome::Ended(why)),
            Answer::Event(event) => told(&event),
            Answer::Ok(_) => {}
        }
    };
    let joined = Joined::parse(&entrance.bytes).map_err(Refusal::from);
    let exit = take_namespaces(ours.as_fd()).and_then(|namespaces| {
        drop(ours);
        let joined = match &joined {
            Ok(joined) => *joined,
            Err(_) => return Err(LaunchError::Vanished),
        };
        let joining = Joining {
            program: joined.program,
            request: joined.request,
            namespaces: &namespaces,
            command: job.command,
        };
        envd_shims::join(&joining)?.wait()
    });
    match exit {
        Ok(Exit::Signal(SIGKILL)) => killed(client, &entrance.end, told),
        Ok(exit) => Ok(Outcome::Exit(exit)),
        // Nothing was done: whoever asked does it without the daemon.
        Err(error @ LaunchError::Join(_)) => {
            let message = Failure::from(error);
            let message = [message.message, message.causes.join(": ")].join(": ");
            Ok(Outcome::Refused(Refusal::new(Reason::Gone, message)))
        }
        Err(error) => refused(error),
    }
}

/// What PID 1 cannot send.
struct Entrance {
    bytes: Vec<u8>,
    end: OwnedFd,
}

impl Entrance {
    fn of(packet: Packet) -> io::Result<Self> {
        let mut descriptors = packet.descriptors.into_iter();
        let end = descriptors.next().ok_or(io::ErrorKind::InvalidData)?;
        let bytes = match descriptors.next() {
            Some(memory) => handing::read_memory(Some(memory), 2 * TAIL as u64)?,
            None => packet.bytes[4..].to_vec(),
        };
        Ok(Self { bytes, end })
    }
}

/// Whether the command was killed, or its environment, and then why.
fn killed(
    client: &Client,
    end: &OwnedFd,
    told: &mut dyn FnMut(&Event),
) -> Result<Outcome, Failure> {
    let mut polled = [
        PollFd::new(client, PollFlags::IN),
        PollFd::new(end, PollFlags::IN),
    ];
    let waited = poll(&mut polled, Some(&MOMENT)).map_err(|error| failed("wait", &error.into()))?;
    if waited == 0 {
        return Ok(Outcome::Exit(Exit::Signal(SIGKILL)));
    }
    let mut why: Option<Ending> = None;
    while why.is_none() {
        match client.answer()? {
            Some(Answer::Event(Event::Ended { why: told })) => why = Some(told),
            Some(Answer::Event(event)) => told(&event),
            Some(_) => {}
            None => return Err(vanished()),
        }
    }
    why.map(Outcome::Ended).ok_or_else(vanished)
}
