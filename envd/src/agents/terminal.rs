//! A pseudoterminal from the environment's own devpts, so that `tty` inside names it and nothing of the machine's terminals is
//! there; and what a command reads from and writes to, be it that or pipes.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::Arc,
};

use envd_agents::service::command::TerminalSize;
use rustix::{
    io::Errno,
    pty::{OpenptFlags, ioctl_tiocgptpeer, unlockpt},
    termios::{SpecialCodeIndex, Winsize, tcgetattr, tcsetwinsize},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, Interest, unix::AsyncFd},
    net::unix::pipe::{Receiver, Sender},
};

use super::inside::Inside;
use crate::daemon::watched::watched;

/// The outer side of one. When its last holder lets go of it, the kernel hangs up: who still has it inside gets SIGHUP.
#[derive(Clone, Debug)]
pub(super) struct Terminal(Arc<AsyncFd<OwnedFd>>);

impl Terminal {
    /// Makes one of this size; with it the inner side, which becomes a command's standard descriptors.
    pub(super) fn make(inside: &Inside<'_>, size: TerminalSize) -> io::Result<(Self, OwnedFd)> {
        let outer = inside.multiplexer()?;
        unlockpt(&outer)?;
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let inner = ioctl_tiocgptpeer(&outer, flags)?;
        let terminal = Self(Arc::new(watched(
            outer,
            Interest::READABLE | Interest::WRITABLE,
        )?));
        terminal.resize(size)?;
        Ok((terminal, inner))
    }

    /// Gives it another size, of which who is in the foreground hears by SIGWINCH.
    pub(super) fn resize(&self, size: TerminalSize) -> io::Result<()> {
        let size = Winsize {
            ws_row: size.rows,
            ws_col: size.columns,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        Ok(tcsetwinsize(&*self.0, size)?)
    }

    /// The character that means the end of the input, as somebody inside may have changed it.
    fn end_of_input(&self) -> u8 {
        tcgetattr(&*self.0).map_or(4, |settings| settings.special_codes[SpecialCodeIndex::VEOF])
    }

    async fn write(&self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let mut ready = self.0.writable().await?;
            // Else its queue is full: who is inside reads nothing.
            if let Ok(written) = ready.try_io(|outer| Ok(rustix::io::write(outer, bytes)?)) {
                bytes = &bytes[written?..];
            }
        }
        Ok(())
    }

    async fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let mut ready = self.0.readable().await?;
            let read = ready.try_io(|terminal| match rustix::io::read(terminal, &mut *buffer) {
                // Nobody has the inner side any more.
                Err(Errno::IO) => Ok(0),
                read => Ok(read?),
            });
            if let Ok(read) = read {
                return read;
            }
        }
    }
}

/// Where output comes from.
#[derive(Debug)]
pub(super) enum Outlet {
    Pipe(Receiver),
    Terminal(Terminal),
}

impl Outlet {
    /// Waits for more; 0 is the end.
    pub(super) async fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Pipe(pipe) => pipe.read(buffer).await,
            Self::Terminal(terminal) => terminal.read(buffer).await,
        }
    }

    /// Whether what is still written after the command's end is of interest.
    pub(super) fn outlasts(&self) -> bool {
        matches!(self, Self::Pipe(_))
    }
}

impl AsFd for Outlet {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Pipe(pipe) => pipe.as_fd(),
            Self::Terminal(terminal) => terminal.0.get_ref().as_fd(),
        }
    }
}

/// Where input goes.
#[derive(Debug)]
pub(super) enum Inlet {
    Pipe(Sender),
    Terminal {
        terminal: Terminal,
        /// Whether a line has begun and not ended.
        is_within_line: bool,
    },
}

impl Inlet {
    pub(super) fn of(terminal: &Terminal) -> Self {
        Self::Terminal {
            terminal: terminal.clone(),
            is_within_line: false,
        }
    }

    pub(super) async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Pipe(pipe) => pipe.write_all(bytes).await,
            Self::Terminal {
                terminal,
                is_within_line,
            } => {
                if let Some(last) = bytes.last() {
                    *is_within_line = *last != b'\n';
                }
                terminal.write(bytes).await
            }
        }
    }

    /// Ends the input. A terminal stays; who reads it sees an end of file, as after Ctrl-D: within a line, the first one only ends
    /// that.
    pub(super) async fn close(self) {
        if let Self::Terminal {
            terminal,
            is_within_line,
        } = self
        {
            let end = [terminal.end_of_input(); 2];
            let count = if is_within_line { 2 } else { 1 };
            let _ = terminal.write(&end[..count]).await;
        }
    }
}
