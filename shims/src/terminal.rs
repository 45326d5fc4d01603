//! The caller's side of job control.
//!
//! The command has a process group of its own in the terminal's foreground, so that Ctrl-C and Ctrl-Z are the command's
//! alone. To the shell that started it, though, the caller's process group is the job: when the command stops, the caller
//! stops too, and when the shell continues the caller, the caller continues the command.

use nix::sys::signal::{SigSet, Signal};
use rustix::process::Pid;

/// The terminal on standard input, while a command has it.
#[derive(Debug)]
pub(crate) struct Terminal {
    /// The caller's process group.
    group: Pid,
    /// Whether the job, that is the command or the caller, is in the foreground.
    foreground: bool,
}

impl Terminal {
    /// The terminal, if standard input is one and it is the caller's to give.
    pub(crate) fn held() -> Option<Self> {
        // 0 in a PID namespace that the group was not made in: then there is nothing to take the terminal back to.
        let group = Pid::from_raw(nix::unistd::getpgrp().as_raw())?;
        let holder = rustix::termios::tcgetpgrp(std::io::stdin()).ok()?;
        (holder == group).then_some(Terminal {
            group,
            foreground: true,
        })
    }

    /// Takes the terminal back from the command. SIGTTOU must be blocked.
    pub(crate) fn take_back(&mut self) {
        if self.foreground {
            // A terminal that has hung up belongs to nobody.
            let _ = rustix::termios::tcsetpgrp(std::io::stdin(), self.group);
        }
        self.foreground = false;
    }

    /// Stops the caller as the command was stopped, and comes back when it is continued.
    ///
    /// SIGTSTP goes to the whole job, as a terminal would send it, and does nothing where no shell is there to continue
    /// it (an orphaned process group).
    pub(crate) fn stop(&mut self, signal: i32) {
        self.take_back();
        if signal == libc::SIGSTOP {
            let _ = nix::sys::signal::kill(nix::unistd::Pid::this(), Signal::SIGSTOP);
        } else {
            stop(nix::unistd::Pid::from_raw(0));
        }
    }

    /// Whether the shell has put the job into the foreground; notes it.
    pub(crate) fn continued(&mut self) -> bool {
        let holder = rustix::termios::tcgetpgrp(std::io::stdin());
        if holder == Ok(self.group) {
            self.foreground = true;
        }
        self.foreground
    }
}

/// Stops this process as SIGTSTP does, which is blocked, and comes back when it is continued: at once where no shell is there to
/// do that (an orphaned process group).
pub fn stop_this_process() {
    stop(nix::unistd::Pid::this());
}

fn stop(whom: nix::unistd::Pid) {
    let signal = SigSet::from(Signal::SIGTSTP);
    let _ = nix::sys::signal::kill(whom, Signal::SIGTSTP);
    let _ = signal.thread_unblock();
    let _ = signal.thread_block();
}
