//! A command that runs in an environment of the daemon, seen from its client: signals go in, its end comes out.

use std::{
    ffi::OsString,
    io::{self, IsTerminal as _},
    os::{
        fd::{AsFd, OwnedFd},
        unix::process::ExitStatusExt as _,
    },
    process::ExitStatus,
};

use envd_init::{
    inherited::Inherited,
    protocol::{Order, Report},
};
use envd_shims::{Exit, LaunchError, Said, connection, plan::Command, request};
use nix::sys::{
    signal::{SigSet, SigmaskHow, Signal},
    signalfd::{SfdFlags, SignalFd},
};
use rustix::event::{PollFd, PollFlags};

use super::{
    client::{Client, ClientError},
    handing, joining,
    message::{Answer, Ending, Event, Refusal},
    order::{self, INLINE, Way},
    packet, place,
};
use crate::cli::{Failure, Kind};

/// What is passed on to the command.
const RELAYED: [Signal; 10] = [
    Signal::SIGHUP,
    Signal::SIGINT,
    Signal::SIGQUIT,
    Signal::SIGTERM,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
    Signal::SIGALRM,
    Signal::SIGWINCH,
    Signal::SIGTSTP,
    Signal::SIGCONT,
];

/// A command to run.
#[derive(Debug)]
pub struct Job<'a> {
    /// How it gets in.
    pub way: Way,
    /// Bits of [`order`]: what is inside.
    pub inside: u32,
    /// Extra variables, in order.
    pub extra: &'a [(String, OsString)],
    /// The command, with the caller's variables and directory.
    pub command: &'a Command,
}

/// What became of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// It has ended.
    Exit(Exit),
    /// The daemon did not start it.
    Refused(Refusal),
    /// It was ended because the lease was over.
    Ended(Ending),
}

impl Job<'_> {
    /// Hands this process's standard descriptors over with the command, and waits for its end. `told` hears what else the
    /// daemon says.
    pub fn run(&self, client: &Client, told: &mut dyn FnMut(&Event)) -> Result<Outcome, Failure> {
        if self.way == Way::Join {
            return joining::join(self, client, told);
        }
        // From here on nothing that is meant for the command ends this process instead.
        let signals = Relayed::hold().map_err(|error| failed("hold signals back", &error))?;
        let (ours, theirs) = connection()?;
        self.hand_over(client, theirs)?;
        let mut running = Running {
            client,
            connection: ours,
            signals,
            daemon_is_gone: false,
            ended: None,
        };
        running.wait(self.command, told)
    }

    pub(super) fn hand_over(&self, client: &Client, theirs: OwnedFd) -> Result<(), Failure> {
        let request = request::encode_as_child(self.command, &Inherited::of_this_process())?;
        let (mut head, tail) =
            order::write(place::build(), self.way, self.inside, self.extra, &request);
        let (input, output, error) = (io::stdin(), io::stdout(), io::stderr());
        let mut descriptors = vec![input.as_fd(), output.as_fd(), error.as_fd(), theirs.as_fd()];
        let memory;
        if tail.len() > INLINE {
            memory = handing::in_memory(&tail).map_err(|e| failed("write to memory", &e))?;
            descriptors.push(memory.as_fd());
        } else {
            head.extend_from_slice(&tail);
        }
        match client.send(&head, &descriptors) {
            // What it said before it hung up is read with everything else.
            Ok(()) | Err(ClientError::Ended) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

struct Running<'c> {
    client: &'c Client,
    connection: OwnedFd,
    signals: Relayed,
    daemon_is_gone: bool,
    ended: Option<Ending>,
}

impl Running<'_> {
    fn wait(
        &mut self,
        command: &Command,
        told: &mut dyn FnMut(&Event),
    ) -> Result<Outcome, Failure> {
        loop {
            let ready = self.poll().map_err(|error| failed("wait", &error))?;
            if ready.daemon
                && let Some(refusal) = self.listen(told)?
            {
                return Ok(Outcome::Refused(refusal));
            }
            if ready.signals {
                self.relay();
            }
            if !ready.connection {
                continue;
            }
            let mut packet = [0; 64];
            let length = match rustix::net::recv(
                &self.connection,
                &mut packet[..],
                rustix::net::RecvFlags::empty(),
            ) {
                Ok((length, _)) => length,
                // The latter is told once, before what was said last, where an order has come too late to be read.
                Err(rustix::io::Errno::INTR | rustix::io::Errno::CONNRESET) => continue,
                Err(error) => return Err(failed("wait", &error.into())),
            };
            match Said::of(&packet[..length], command) {
                Said::Report(Report::Ended(status)) => {
                    return Ok(Outcome::Exit(exit(ExitStatus::from_raw(status))));
                }
                Said::Report(_) => {}
                Said::Failed(error) => return refused(error),
                Said::Gone => return self.gone(told),
            }
        }
    }

    /// The environment is gone before the command has ended: the daemon knows why, unless it is gone, too.
    fn gone(&mut self, told: &mut dyn FnMut(&Event)) -> Result<Outcome, Failure> {
        while self.ended.is_none() && !self.daemon_is_gone {
            if let Some(refusal) = self.listen(told)? {
                return Ok(Outcome::Refused(refusal));
            }
        }
        match self.ended {
            Some(why) => Ok(Outcome::Ended(why)),
            None => Err(vanished()),
        }
    }

    fn listen(&mut self, told: &mut dyn FnMut(&Event)) -> Result<Option<Refusal>, Failure> {
        match self.client.answer()? {
            Some(Answer::Error(refusal)) => return Ok(Some(refusal)),
            Some(Answer::Event(Event::Ended { why })) => self.ended = Some(why),
            Some(Answer::Event(event)) => told(&event),
            Some(Answer::Ok(_)) => {}
            None => self.daemon_is_gone = true,
        }
        Ok(None)
    }

    fn poll(&self) -> io::Result<Ready> {
        let mut polled = vec![
            PollFd::new(&self.connection, PollFlags::IN),
            PollFd::from_borrowed_fd(self.signals.descriptor.as_fd(), PollFlags::IN),
        ];
        if !self.daemon_is_gone {
            polled.push(PollFd::new(self.client, PollFlags::IN));
        }
        match rustix::event::poll(&mut polled, None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let ready = |at: usize| polled.get(at).is_some_and(|fd| !fd.revents().is_empty());
        Ok(Ready {
            connection: ready(0),
            signals: ready(1),
            daemon: ready(2),
        })
    }

    fn relay(&self) {
        while let Ok(Some(received)) = self.signals.descriptor.read_signal() {
            let Ok(signal) = Signal::try_from(received.ssi_signo as i32) else {
                continue;
            };
            if signal != Signal::SIGTSTP {
                self.order(signal);
                continue;
            }
            // In its session nobody could continue the command, so the kernel would not let it stop itself. It is stopped,
            // and so are we, until whoever stopped us continues us.
            self.order(Signal::SIGSTOP);
            envd_shims::stop_this_process();
            self.order(Signal::SIGCONT);
        }
    }

    fn order(&self, signal: Signal) {
        let order = Order::Signal(signal as i32).encode();
        let _ = packet::send(self.connection.as_fd(), &order, &[]);
    }
}

struct Ready {
    connection: bool,
    signals: bool,
    daemon: bool,
}

/// Signals held back, until dropped.
struct Relayed {
    descriptor: SignalFd,
    before: SigSet,
}

impl Relayed {
    fn hold() -> io::Result<Self> {
        let mut held: SigSet = RELAYED.into_iter().collect();
        // Whoever has this process not stop by it has the command not stop either.
        if envd_init::sys::is_ignored(Signal::SIGTSTP as i32) {
            held.remove(Signal::SIGTSTP);
        }
        let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
        let descriptor = SignalFd::with_flags(&held, flags)?;
        let before = held.thread_swap_mask(SigmaskHow::SIG_BLOCK)?;
        Ok(Self { descriptor, before })
    }
}

impl Drop for Relayed {
    fn drop(&mut self) {
        let _ = self.before.thread_set_mask();
    }
}

/// The daemon is gone, and everything with it.
pub(super) fn vanished() -> Failure {
    Failure::from(LaunchError::Vanished)
        .help("the daemon was ended; `envd daemon logs` may have what it said last")
}

/// A program that is not there or cannot be executed is an exit, as in shells.
pub(super) fn refused(error: LaunchError) -> Result<Outcome, Failure> {
    match (error.exec_code(), std::error::Error::source(&error)) {
        (Some(code), Some(source)) => {
            eprintln!("envd: {source}");
            Ok(Outcome::Exit(Exit::Code(code)))
        }
        _ => Err(error.into()),
    }
}

fn exit(status: ExitStatus) -> Exit {
    match (status.signal(), status.code()) {
        (Some(signal), _) => Exit::Signal(signal),
        (None, code) => Exit::Code(code.unwrap_or_default() as u8),
    }
}

/// How a command of this process gets in: a terminal is joined, so that it stays the command's.
pub fn way() -> Way {
    match io::stdin().is_terminal() {
        true => Way::Join,
        false => Way::Run,
    }
}

pub(super) fn failed(step: &str, error: &io::Error) -> Failure {
    Failure::new(Kind::Host, format!("cannot {step}: {error}"))
}
