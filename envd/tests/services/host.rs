//! An executor whose environment is this machine.

use std::{
    fs, io,
    os::{fd::OwnedFd, unix::process::CommandExt as _},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use envd::services::{Boxed, Control, Executor, Launch, Started};
use envd_supervision::{ExitStatus, Signal};
use rustix::process::{self, Pid, WaitId, WaitIdOptions};

/// Starts processes of this machine below a directory.
pub struct HostExecutor {
    project: PathBuf,
}

struct Group(Pid);

impl HostExecutor {
    pub fn new(project: &Path) -> Self {
        Self {
            project: project.to_owned(),
        }
    }

    fn spawn(&self, launch: Launch) -> io::Result<Started> {
        let mut take = {
            let mut descriptors = launch.descriptors;
            move |number: u32| {
                let place = descriptors.iter().position(|(own, _)| *own == number)?;
                Some(descriptors.swap_remove(place).1)
            }
        };
        let standard = |descriptor: Option<OwnedFd>| descriptor.map_or(Stdio::null(), Stdio::from);
        let (input, output, errors) = (take(0), take(1), take(2));
        let mut command = match take(3) {
            // A fourth descriptor travels as the first, and a shell puts it into its place.
            Some(extra) => {
                let mut command = Command::new("/bin/sh");
                command.args(["-c", "exec \"$@\" 3>&0 0</dev/null", "sh"]);
                command.args(&launch.arguments).stdin(extra);
                command
            }
            None => {
                let mut command = Command::new(&launch.arguments[0]);
                command.args(&launch.arguments[1..]).stdin(standard(input));
                command
            }
        };
        let mut child = command
            .stdout(standard(output))
            .stderr(standard(errors))
            .envs(&launch.variables)
            .current_dir(fs::canonicalize(self.project.join(&launch.directory))?)
            .process_group(0)
            .spawn()?;
        // It holds the descriptors otherwise.
        drop(command);
        let pid = Pid::from_child(&child);
        let ended = tokio::task::spawn_blocking(move || {
            // Its number is its own until it has been waited for, and so is its group's.
            let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
            let _ = process::waitid(WaitId::Pid(pid), options);
            let _ = process::kill_process_group(pid, process::Signal::KILL);
            let status = child.wait().expect("a child");
            let raw = std::os::unix::process::ExitStatusExt::into_raw(status);
            ExitStatus::from_wait(raw).expect("it has ended")
        });
        Ok(Started {
            pid: pid.as_raw_nonzero().get() as u32,
            control: Box::new(Group(pid)),
            ended: Box::pin(async move { ended.await.expect("no panic") }),
        })
    }
}

impl Executor for HostExecutor {
    fn start(&self, launch: Launch) -> Boxed<'_, io::Result<Started>> {
        Box::pin(async move { self.spawn(launch) })
    }
}

impl Control for Group {
    fn signal(&self, signal: Signal) -> io::Result<()> {
        let signal = process::Signal::from_named_raw(signal.number()).expect("a known signal");
        ended_is_well(process::kill_process_group(self.0, signal))
    }

    fn kill(&self) -> io::Result<()> {
        ended_is_well(process::kill_process_group(self.0, process::Signal::KILL))
    }
}

fn ended_is_well(result: rustix::io::Result<()>) -> io::Result<()> {
    match result {
        Err(rustix::io::Errno::SRCH) | Ok(()) => Ok(()),
        Err(error) => Err(error.into()),
    }
}
