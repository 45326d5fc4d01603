//! An environment that runs, seen from its owner.

use std::{
    fmt,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use envd_init::protocol::{Failure, Order, Report};
use nix::sys::signal::Signal;
use rustix::{
    event::{PollFd, PollFlags},
    net::SendFlags,
    process::{Pid, WaitId, WaitIdOptions},
};

use crate::{
    compile::Program,
    errno::Errno,
    error::LaunchError,
    failure,
    launch::RelayedSignals,
    plan::Command,
    terminal::{Terminal, stop_this_process},
    wire::{self, Packet},
};

/// How a command ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Exit {
    /// With this code.
    Code(u8),
    /// By this signal.
    Signal(i32),
}

impl Exit {
    /// As shells count: the code, or 128 and the signal's number.
    pub fn shell_code(self) -> u8 {
        match self {
            Exit::Code(code) => code,
            Exit::Signal(signal) => 128u8.wrapping_add(signal as u8),
        }
    }

    fn from_status(status: i32) -> Self {
        if libc::WIFSIGNALED(status) {
            Exit::Signal(libc::WTERMSIG(status))
        } else {
            Exit::Code(libc::WEXITSTATUS(status) as u8)
        }
    }
}

impl From<Exit> for std::process::ExitCode {
    fn from(exit: Exit) -> Self {
        exit.shell_code().into()
    }
}

/// Something the plan asks for that this host cannot do and that was left out. Never silent: show it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Downgrade {
    /// Only the caller's own ids are mapped: others appear as 65534 inside.
    Ids,
    /// A part of the Landlock domain is not enforced.
    Landlock {
        /// The kernel's Landlock version; 0 is none.
        version: i32,
        /// What goes unrestricted.
        unenforced: String,
    },
    /// The number of processes is not limited.
    Processes,
}

impl fmt::Display for Downgrade {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Downgrade::Ids => formatter.write_str(
                "only your own user and group ids are mapped: files of others appear as nobody's",
            ),
            Downgrade::Processes => formatter.write_str(
                "the number of processes is not limited: rlimits do not hold root, and a kernel before Linux 6.14 has no limit of \
                 a PID namespace's own; delegate a control group with the pids controller, or run as an ordinary user",
            ),
            Downgrade::Landlock {
                version: 0,
                unenforced,
            } => write!(
                formatter,
                "this kernel has no Landlock: {unenforced} are not restricted by it"
            ),
            Downgrade::Landlock {
                version,
                unenforced,
            } => write!(
                formatter,
                "version {version} of Landlock, as this kernel has it, does not restrict {unenforced}"
            ),
        }
    }
}

/// A running environment. Dropping it ends the environment and waits until nothing of it is left.
#[derive(Debug)]
pub struct Running {
    pid: Pid,
    pidfd: OwnedFd,
    /// `None` once closed, which ends the environment.
    control: Option<OwnedFd>,
    terminal: Option<Terminal>,
    command: Command,
    program: Program,
    /// The recorder's listener and the environment's root.
    recording: Option<(OwnedFd, OwnedFd)>,
    exit: Option<Exit>,
    reaped: bool,
    /// Restored last.
    signals: RelayedSignals,
}

impl Running {
    pub(crate) fn new(
        pid: Pid,
        pidfd: OwnedFd,
        control: OwnedFd,
        signals: RelayedSignals,
        terminal: Option<Terminal>,
        command: Command,
        program: Program,
    ) -> Self {
        Running {
            pid,
            pidfd,
            control: Some(control),
            terminal,
            command,
            program,
            recording: None,
            exit: None,
            reaped: false,
            signals,
        }
    }

    /// PID 1 of the environment, as the caller counts.
    pub fn init_pid(&self) -> u32 {
        self.pid.as_raw_nonzero().get() as u32
    }

    /// A pidfd of PID 1; it becomes readable when the environment is gone.
    pub fn pidfd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }

    /// What the plan asks for and this host cannot do.
    pub fn downgrades(&self) -> &[Downgrade] {
        self.program.downgrades()
    }

    pub(crate) fn control(&self) -> BorrowedFd<'_> {
        // Only closed by `end`, after which nothing asks for it.
        self.control.as_ref().unwrap_or(&self.pidfd).as_fd()
    }

    /// Reads until the command runs, or until it is known why it does not.
    pub(crate) fn await_start(&mut self) -> Result<(), LaunchError> {
        loop {
            match wire::receive(self.control()).map_err(LaunchError::Wait)? {
                Packet::Report(Report::Started(_)) => return Ok(()),
                Packet::Descriptors(descriptors) => {
                    if let Ok([listener, root]) = <[OwnedFd; 2]>::try_from(descriptors) {
                        self.recording = Some((listener, root));
                    }
                }
                Packet::Failed(error) => return Err(self.failed(&error)),
                Packet::Report(_) | Packet::End => return Err(LaunchError::Vanished),
            }
        }
    }

    /// Relays signals and the terminal until the command has ended, then waits until nothing of the environment is left.
    pub fn wait(mut self) -> Result<Exit, LaunchError> {
        self.relay(None)?;
        self.finish()
    }

    /// Relays until the command has ended.
    pub(crate) fn relay(&mut self, mut recorder: Option<Recorder<'_>>) -> Result<(), LaunchError> {
        loop {
            let listener = recorder.as_ref().map(|recorder| recorder.listener);
            let ready = self.poll(listener).map_err(LaunchError::Wait)?;
            if let (true, Some(recorder)) = (ready.listener, &mut recorder) {
                (recorder.handle)()?;
            }
            if ready.signals {
                self.relay_signals();
            }
            if ready.control {
                match wire::receive(self.control()).map_err(LaunchError::Wait)? {
                    Packet::Report(Report::Ended(status)) => {
                        self.exit = Some(Exit::from_status(status));
                        return Ok(());
                    }
                    Packet::Report(Report::Stopped(signal)) => self.stop(signal),
                    Packet::End => return Ok(()),
                    // Where it was not waited for, this is where it shows that nothing started.
                    Packet::Failed(error) => return Err(self.failed(&error)),
                    Packet::Report(Report::Started(_)) | Packet::Descriptors(_) => {}
                }
            }
        }
    }

    fn poll(&self, listener: Option<BorrowedFd<'_>>) -> Result<Ready, Errno> {
        let control = self.control();
        let mut polled = vec![
            PollFd::from_borrowed_fd(control, PollFlags::IN),
            PollFd::from_borrowed_fd(self.signals.descriptor.as_fd(), PollFlags::IN),
        ];
        polled.extend(listener.map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)));
        match rustix::event::poll(&mut polled, None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        Ok(Ready {
            control: !polled[0].revents().is_empty(),
            signals: !polled[1].revents().is_empty(),
            // A hang-up means that nobody is left who could ask; the connection tells the rest.
            listener: polled
                .get(2)
                .is_some_and(|fd| fd.revents().contains(PollFlags::IN)),
        })
    }

    fn relay_signals(&mut self) {
        while let Ok(Some(received)) = self.signals.descriptor.read_signal() {
            let Ok(signal) = Signal::try_from(received.ssi_signo as i32) else {
                continue;
            };
            if signal == Signal::SIGCONT && self.terminal.is_some() {
                self.resume();
                continue;
            }
            // What the terminal sends, it sends to its whole foreground process group. Where the command is in ours, it
            // has had it already; where it has a group or session of its own, we were in the foreground without it.
            let from_terminal = received.ssi_code == libc::SI_KERNEL;
            let reached = from_terminal && self.terminal.is_none() && !self.command.new_session;
            if signal == Signal::SIGTSTP && self.terminal.is_none() {
                self.stop_with_command(reached);
                continue;
            }
            if reached {
                continue;
            }
            let Some(signal) = rustix::process::Signal::from_named_raw(signal as i32) else {
                continue;
            };
            let _ = rustix::process::pidfd_send_signal(&self.pidfd, signal);
        }
    }

    /// Stops the command, unless that has been `reached` already, and this process, until that is continued.
    fn stop_with_command(&self, reached: bool) {
        let order = |signal| {
            let order = Order::Signal(signal).encode();
            let _ = rustix::net::send(self.control(), &order, SendFlags::NOSIGNAL);
        };
        if !reached {
            // Not SIGTSTP: in a session of its own nobody could continue the command, so the kernel would not let it stop.
            order(libc::SIGSTOP);
        }
        stop_this_process();
        if !reached {
            order(libc::SIGCONT);
        }
    }

    fn stop(&mut self, signal: i32) {
        if let Some(terminal) = &mut self.terminal {
            // A shell brings a job that runs in the background to the foreground without a signal. That it has, shows
            // when the command misses the terminal.
            let wants_terminal = [libc::SIGTTIN, libc::SIGTTOU].contains(&signal);
            if !(wants_terminal && terminal.continued()) {
                terminal.stop(signal);
            }
            self.resume();
        }
    }

    fn resume(&mut self) {
        if let Some(terminal) = &mut self.terminal {
            let order = Order::Resume(terminal.continued());
            let _ = rustix::net::send(self.control(), &order.encode(), SendFlags::NOSIGNAL);
        }
    }

    /// Waits until the kernel has taken everything away.
    pub(crate) fn finish(mut self) -> Result<Exit, LaunchError> {
        self.end().map_err(LaunchError::Wait)?;
        self.exit.ok_or(LaunchError::Vanished)
    }

    /// Why there is no environment, or no command in it.
    fn failed(&self, failure: &Failure) -> LaunchError {
        failure::launch_error(failure, Some(&self.program), Some(&self.command))
    }

    pub(crate) fn take_recording(&mut self) -> Option<(OwnedFd, OwnedFd)> {
        self.recording.take()
    }

    /// Closes the connection, upon which PID 1 ends if it has not yet, and reaps it.
    fn end(&mut self) -> Result<(), Errno> {
        if self.reaped {
            return Ok(());
        }
        self.reaped = true;
        self.control = None;
        let waited = loop {
            let id = WaitId::PidFd(self.pidfd.as_fd());
            match rustix::process::waitid(id, WaitIdOptions::EXITED) {
                Err(rustix::io::Errno::INTR) => {}
                other => break other,
            }
        };
        if let Some(terminal) = &mut self.terminal {
            terminal.take_back();
        }
        waited.map(drop).map_err(Errno::from)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.end();
    }
}

/// Who answers the notifications of the recorder.
pub(crate) struct Recorder<'r> {
    pub(crate) listener: BorrowedFd<'r>,
    pub(crate) handle: &'r mut dyn FnMut() -> Result<(), LaunchError>,
}

struct Ready {
    control: bool,
    signals: bool,
    listener: bool,
}
