//! What every command is given: settings, the caller's place and variables, and how to print.

use std::{path::PathBuf, time::SystemTime};

use super::{Display, Failure, Global, Kind, Output};
use crate::{
    config::Manifest,
    project::Project,
    settings::{HostVariables, Settings},
};

/// Everything that was read once, at the entry point.
#[derive(Clone, Debug)]
pub struct Context {
    /// What holds for every command of this user.
    pub settings: Settings,
    /// The caller's environment variables.
    pub variables: HostVariables,
    /// The current directory, without symbolic links.
    pub directory: PathBuf,
    /// The caller.
    pub uid: u32,
    /// When the command began to look at files.
    pub started: SystemTime,
    /// How to print.
    pub output: Output,
    /// How much to log: 0 is nothing.
    pub verbosity: u8,
    project: Option<PathBuf>,
}

impl Context {
    /// Reads the settings and where we are.
    pub fn new(global: Global, variables: HostVariables, output: Output) -> Result<Self, Failure> {
        let started = SystemTime::now();
        let uid = rustix::process::getuid().as_raw();
        let mut settings = Settings::load(&variables, uid)?;
        settings.offline |= global.offline;
        let directory = std::env::current_dir().map_err(|e| {
            Failure::of(Kind::Usage, &e)
                .help("the current directory is gone: change to one that is there")
        })?;
        Ok(Self {
            settings,
            variables,
            directory,
            uid,
            started,
            output,
            verbosity: global.verbose,
            project: global.project,
        })
    }

    /// The project that is meant: the one named, or the nearest above.
    pub fn project(&self) -> Result<Project, Failure> {
        Ok(match &self.project {
            Some(directory) => Project::at(&self.directory.join(directory))?,
            None => Project::find(&self.directory, self.uid)?,
        })
    }

    /// The same for a command in the directory of a project.
    pub fn at(&self, project: &Project) -> Self {
        Self {
            directory: project.root.clone(),
            project: Some(project.root.clone()),
            ..self.clone()
        }
    }

    /// The project that is meant, if there is one, and what its file says.
    pub fn project_if_any(&self) -> Result<Option<(Project, Manifest)>, Failure> {
        use crate::project::ProjectError::NotFound;
        let project = match &self.project {
            Some(_) => self.project()?,
            None => match Project::find(&self.directory, self.uid) {
                Err(NotFound { .. }) => return Ok(None),
                other => other?,
            },
        };
        let manifest = self.manifest(&project)?;
        Ok(Some((project, manifest)))
    }

    /// What a project's file says.
    pub fn manifest(&self, project: &Project) -> Result<Manifest, Failure> {
        let path = project.manifest();
        // Messages name the file as its author would.
        let shown = path.strip_prefix(&self.directory).unwrap_or(&path);
        Ok(Manifest::parse(crate::config::Source {
            path: shown.to_owned(),
            text: crate::config::Source::load(&path)?.text,
        })?)
    }

    /// Where a new project would be.
    pub fn new_project_root(&self) -> PathBuf {
        match &self.project {
            Some(directory) => self.directory.join(directory),
            None => self.directory.clone(),
        }
    }

    /// Someone to tell how far the work is.
    pub fn progress(&self) -> Display {
        Display::new(self.output)
    }
}
