//! What a child would have of this process without being told: for a command that another process starts on its behalf.

use crate::{
    request::Limit,
    sys::{self, SignalSet, constant::*},
};

/// Resources of setrlimit(2).
pub const RESOURCES: u32 = 16;

/// Signals whose being ignored means something to a command: nohup(1), a shell's jobs in the background. What a runtime does to
/// SIGPIPE of its own accord is undone in every command.
const TELLING: [i32; 12] = [
    SIGHUP, SIGINT, SIGQUIT, SIGUSR1, SIGUSR2, SIGALRM, SIGTERM, SIGTSTP, SIGTTIN, SIGTTOU,
    SIGXCPU, SIGXFSZ,
];

/// It.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Inherited {
    /// Permission bits that files are made without.
    pub umask: u32,
    /// See [`sys::niceness`].
    pub niceness: Option<i32>,
    /// Signals that are ignored.
    pub ignored: SignalSet,
    limits: [Option<Limit>; RESOURCES as usize],
}

impl Inherited {
    /// Of this process, which must have one thread: there is no way to ask for the umask but to set it.
    pub fn of_this_process() -> Self {
        let umask = sys::set_umask(0);
        sys::set_umask(umask);
        let ignored = TELLING
            .into_iter()
            .filter(|signal| sys::is_ignored(*signal));
        let mut limits = [None; RESOURCES as usize];
        for (resource, limit) in (0..RESOURCES).zip(&mut limits) {
            let found = sys::limit(resource).ok();
            *limit = found.map(|(soft, hard)| Limit {
                resource,
                soft,
                hard,
            });
        }
        Inherited {
            umask,
            niceness: sys::niceness().ok(),
            ignored: ignored.fold(SignalSet(0), SignalSet::with),
            limits,
        }
    }

    /// The resource limits.
    pub fn limits(&self) -> impl Iterator<Item = Limit> + Clone {
        self.limits.iter().flatten().copied()
    }
}
