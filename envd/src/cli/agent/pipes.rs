//! The pipes between a command in an environment and this process. The command never has our own descriptors: through a
//! terminal or a file it could do more than read and write.

use std::{
    fs::File,
    io::{self, IsTerminal as _, Read as _, Write as _},
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    thread::JoinHandle,
};

use rustix::{
    event::{PollFd, PollFlags, poll},
    pipe::{PipeFlags, pipe_with},
};

use super::terminal::Plain;

/// The ends that go to the daemon, and who serves the others.
pub(super) struct Pipes {
    theirs: [OwnedFd; 3],
    outputs: [JoinHandle<()>; 2],
}

impl Pipes {
    /// From our input and to our outputs; or, where they are `kept` for the answer, to nowhere.
    pub(super) fn open(kept: bool) -> io::Result<Self> {
        let pipe = || pipe_with(PipeFlags::CLOEXEC);
        let ((input, feed), (drain, output), (drain_error, error)) = (pipe()?, pipe()?, pipe()?);
        if has_input() {
            let ours = io::stdin().as_fd().try_clone_to_owned()?;
            // It ends with the process: a read of standard input cannot be interrupted.
            std::thread::spawn(move || pour(File::from(ours), File::from(feed)));
        }
        let to = |own: BorrowedFd<'_>, terminal: bool| -> io::Result<Target> {
            Ok(match kept {
                true => Target::Nowhere,
                false => Target::To(
                    File::from(own.try_clone_to_owned()?),
                    terminal.then(Plain::default),
                ),
            })
        };
        let (stdout, stderr) = (io::stdout(), io::stderr());
        let outputs = [
            (drain, to(stdout.as_fd(), stdout.is_terminal())?),
            (drain_error, to(stderr.as_fd(), stderr.is_terminal())?),
        ];
        let outputs = outputs.map(|(from, mut to)| {
            std::thread::spawn(move || {
                // A reader of ours that is gone closes the pipe, and so the command learns of it.
                let _ = copy(File::from(from), &mut to);
            })
        });
        Ok(Self {
            theirs: [input, output, error],
            outputs,
        })
    }

    /// What the daemon is given.
    pub(super) fn theirs(&self) -> [BorrowedFd<'_>; 3] {
        self.theirs.each_ref().map(AsFd::as_fd)
    }

    /// The daemon has its own by now: ours would keep the pipes open.
    pub(super) fn sent(self) -> Outputs {
        Outputs(self.outputs)
    }
}

/// Outputs that are passed on.
pub(super) struct Outputs([JoinHandle<()>; 2]);

impl Outputs {
    /// Waits until all that was written has been passed on. The daemon must have answered, or be gone.
    pub(super) fn finish(self) {
        for output in self.0 {
            let _ = output.join();
        }
    }
}

/// Whether there is an input to pass on. A process in the background would be stopped for reading the terminal.
fn has_input() -> bool {
    let input = io::stdin();
    !input.is_terminal()
        || rustix::termios::tcgetpgrp(&input).is_ok_and(|group| group == rustix::process::getpgrp())
}

fn pour(mut from: File, mut to: File) {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        match from.read(&mut buffer) {
            Ok(count @ 1..) => {
                if to.write_all(&buffer[..count]).is_err() {
                    return;
                }
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                wait(&from, PollFlags::IN);
            }
            Ok(0) | Err(_) => return,
        }
    }
}

enum Target {
    To(File, Option<Plain>),
    Nowhere,
}

fn copy(mut from: File, to: &mut Target) -> io::Result<()> {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let count = match from.read(&mut buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            read => read?,
        };
        match to {
            Target::Nowhere => {}
            Target::To(file, None) => write(file, &buffer[..count])?,
            Target::To(file, Some(plain)) => {
                let shown = match count {
                    0 => plain.finish(),
                    _ => plain.push(&buffer[..count]),
                };
                write(file, &shown)?;
            }
        }
        if count == 0 {
            return Ok(());
        }
    }
}

/// Writes all of it, also to what somebody else has made non-blocking.
fn write(file: &mut File, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match file.write(bytes) {
            Ok(count) => bytes = &bytes[count..],
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => wait(file, PollFlags::OUT),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn wait(file: &File, flags: PollFlags) {
    let _ = poll(&mut [PollFd::new(file, flags)], None);
}
