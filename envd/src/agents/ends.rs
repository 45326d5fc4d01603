//! The ends of a command's standard descriptors: pipes, a terminal, a client's own pipes.

use std::{io, os::fd::OwnedFd};

use envd_agents::service::{Stream, command::TerminalSize};
use rustix::{
    fs::{FileType, OFlags, fcntl_getfl, fstat},
    pipe::{PipeFlags, pipe_with},
};
use tokio::net::unix::pipe::{Receiver, Sender};

use super::{
    inside::Inside,
    live::Live,
    terminal::{Inlet, Outlet, Terminal},
};

/// The ends of a client's own pipes: its input comes from one, its outputs go to two as they come. A client that reads slowly
/// has the command wait, so that it misses nothing.
#[derive(Debug)]
pub struct Pipes {
    /// Read by the command itself.
    input: OwnedFd,
    output: Sender,
    error: Sender,
}

impl Pipes {
    /// From the reading end of one pipe and the writing ends of two. Nothing else is taken: through a file the command would
    /// reach what it was opened from.
    pub fn new(input: OwnedFd, output: OwnedFd, error: OwnedFd) -> io::Result<Self> {
        let kind = FileType::from_raw_mode(fstat(&input)?.st_mode);
        if kind != FileType::Fifo || fcntl_getfl(&input)?.intersects(OFlags::RDWR | OFlags::WRONLY)
        {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        Ok(Self {
            input,
            output: Sender::from_owned_fd(output)?,
            error: Sender::from_owned_fd(error)?,
        })
    }
}

/// Our ends of a command's standard descriptors.
#[derive(Debug, Default)]
pub(super) struct Ends {
    pub(super) input: Option<Inlet>,
    /// With where a copy of what comes goes, if anywhere.
    pub(super) outlets: Vec<(Outlet, Stream, Option<Sender>)>,
    pub(super) terminal: Option<Terminal>,
}

impl Ends {
    /// Makes pipes, and one for the input where something is to come in; gives the other ends.
    pub(super) fn pipes(&mut self, live: &Live, fed: bool) -> io::Result<[OwnedFd; 3]> {
        let pipe = || pipe_with(PipeFlags::CLOEXEC);
        let (stdout, stdout_end) = pipe()?;
        let (stderr, stderr_end) = pipe()?;
        for (pipe, stream) in [(stdout, Stream::Stdout), (stderr, Stream::Stderr)] {
            let pipe = Receiver::from_owned_fd(pipe)?;
            self.outlets.push((Outlet::Pipe(pipe), stream, None));
        }
        let stdin_end = if fed {
            let (read, write) = pipe()?;
            self.input = Some(Inlet::Pipe(Sender::from_owned_fd(write)?));
            read
        } else {
            Inside::new(&live.root).null()?
        };
        Ok([stdin_end, stdout_end, stderr_end])
    }

    /// Makes pipes from which a client's own are fed; its input is the command's.
    pub(super) fn piped(&mut self, live: &Live, pipes: Pipes) -> io::Result<[OwnedFd; 3]> {
        let [_, stdout_end, stderr_end] = self.pipes(live, false)?;
        let copies = [pipes.output, pipes.error];
        for ((.., copy), pipe) in self.outlets.iter_mut().zip(copies) {
            *copy = Some(pipe);
        }
        Ok([pipes.input, stdout_end, stderr_end])
    }

    /// Makes a terminal; gives its inner side.
    pub(super) fn terminal(&mut self, live: &Live, size: TerminalSize) -> io::Result<[OwnedFd; 3]> {
        let (terminal, inner) = Terminal::make(&Inside::new(&live.root), size)?;
        self.input = Some(Inlet::of(&terminal));
        let outlet = Outlet::Terminal(terminal.clone());
        self.outlets.push((outlet, Stream::Stdout, None));
        self.terminal = Some(terminal);
        Ok([inner.try_clone()?, inner.try_clone()?, inner])
    }
}
