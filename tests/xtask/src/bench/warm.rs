//! A project whose daemon runs.

use std::{
    path::PathBuf,
    process::{Command, Stdio},
};

use super::{entry, world::World};
use crate::measure::{Result, time};

/// The project of [`entry`], and its daemon until this is dropped.
pub struct Warm<'w> {
    world: &'w World,
    /// The project's directory.
    pub project: PathBuf,
    /// Its store.
    pub store: PathBuf,
}

impl<'w> Warm<'w> {
    /// Starts the daemon, and none that an earlier run has left is taken for it.
    pub fn start(world: &'w World) -> Result<Self> {
        let (project, store) = entry::realised(world)?;
        let warm = Self {
            world,
            project,
            store,
        };
        time(&mut warm.envd(&["daemon", "stop"]))?;
        time(&mut warm.envd(&["daemon", "start"]))?;
        Ok(warm)
    }

    /// `envd` in the project.
    pub fn envd(&self, arguments: &[&str]) -> Command {
        self.world.envd(&self.project, &self.store, arguments)
    }

    /// Any other program in the project, which finds the daemon as envd does.
    pub fn program(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new(program);
        command
            .current_dir(&self.project)
            .env("ENVD_STORE", &self.store);
        command
    }

    /// The directory that is the environment's lower layer.
    pub fn view(&self) -> Result<String> {
        entry::view_of(self.world, &self.project, &self.store)
    }

    /// The daemon's process.
    pub fn pid(&self) -> Result<u32> {
        let output = self.envd(&["--json", "daemon", "status"]).output()?;
        let text = String::from_utf8(output.stdout)?;
        let number = text.split("\"pid\":").nth(1).map(str::trim_start);
        number
            .and_then(|rest| rest.split(|c: char| !c.is_ascii_digit()).next())
            .and_then(|digits| digits.parse().ok())
            .ok_or_else(|| format!("no daemon runs: {text}").into())
    }
}

impl Drop for Warm<'_> {
    fn drop(&mut self) {
        let mut stop = self.envd(&["daemon", "stop"]);
        let _ = stop.stdout(Stdio::null()).stderr(Stdio::null()).status();
    }
}
