//! Shims: files named like the tools of an environment, for editors, cron, git hooks and whatever else wants a path to one.
//!
//! All are names of one small file, the program [`envd_trampoline::shim`]. What lies where:
//!
//! ```text
//! PROJECT/.envd/.gitignore    "*"
//! PROJECT/.envd/envd          a link to the envd that starts the daemon and says what is wrong
//! PROJECT/.envd/shim          the file
//! PROJECT/.envd/bin/TOOL      hard links of it
//! PROJECT/.envd/directories   where else there are some, a line each: "made PATH" or "used PATH"
//! ELSEWHERE/TOOL              hard links of it, or of a copy on another file system
//! ELSEWHERE/.envd-project     a link to PROJECT
//! ```
//!
//! Every step is whole by itself, and done again it changes nothing, so that whoever is interrupted carries on.

pub mod editors;
mod error;
mod file;
mod plan;

use std::{
    collections::BTreeSet,
    ffi::{OsStr, OsString},
    fs, io,
    os::unix::{
        ffi::{OsStrExt as _, OsStringExt as _},
        fs::symlink,
    },
    path::{Path, PathBuf},
};

pub use error::ShimError;
use error::Step as _;
use file::{absent_is_fine, temporary};
use plan::Found;
pub use plan::Plan;

/// The project's directory for them.
const DIRECTORY: &str = ".envd";
/// In a directory elsewhere: the link to the project.
const OWNER: &str = ".envd-project";
/// What keeps git from seeing any of it.
const IGNORE: &[u8] = b"*\n";

/// The shims of a project.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Shims {
    project: PathBuf,
}

/// A directory of shims.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Directory {
    /// Where it is.
    pub path: PathBuf,
    /// Whether envd made it, and so removes it when it is empty.
    made: bool,
}

/// What became of a directory of shims.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Installed {
    /// Where it is.
    pub directory: PathBuf,
    /// How many shims it has now.
    pub commands: usize,
    /// What was done.
    pub plan: Plan,
}

impl Shims {
    /// Those of the project in this directory, which is absolute.
    pub fn of(project: &Path) -> Self {
        Self {
            project: project.to_owned(),
        }
    }

    /// Where they are unless one says otherwise.
    pub fn usual_directory(&self) -> PathBuf {
        self.at("bin")
    }

    /// `.envd`.
    pub fn home(&self) -> PathBuf {
        self.project.join(DIRECTORY)
    }

    fn at(&self, name: &str) -> PathBuf {
        self.home().join(name)
    }

    /// Whether there are any. One look at one file.
    pub fn installed(&self) -> bool {
        fs::symlink_metadata(self.at("shim")).is_ok_and(|meta| meta.is_file())
    }

    /// Where there are some.
    pub fn directories(&self) -> Result<Vec<Directory>, ShimError> {
        if !self.installed() {
            return Ok(Vec::new());
        }
        let mut all = self.elsewhere()?;
        let usual = self.usual_directory();
        if fs::symlink_metadata(&usual).is_ok_and(|meta| meta.is_dir()) {
            let made = true;
            all.insert(0, Directory { path: usual, made });
        }
        Ok(all)
    }

    fn elsewhere(&self) -> Result<Vec<Directory>, ShimError> {
        let list = self.at("directories");
        let bytes = match fs::read(&list) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            bytes => bytes.step("read", &list)?,
        };
        let directory = |line: &[u8]| {
            let (made, path) = match line.strip_prefix(b"made ") {
                Some(path) => (true, path),
                None => (false, line.strip_prefix(b"used ")?),
            };
            let path = PathBuf::from(OsString::from_vec(path.to_vec()));
            path.is_absolute().then_some(Directory { path, made })
        };
        Ok(bytes.split(|b| *b == b'\n').filter_map(directory).collect())
    }

    fn write_elsewhere(&self, all: &[Directory]) -> Result<(), ShimError> {
        let list = self.at("directories");
        let mut bytes = Vec::new();
        for Directory { path, made } in all {
            bytes.extend_from_slice(if *made { b"made " } else { b"used " });
            bytes.extend_from_slice(path.as_os_str().as_bytes());
            bytes.push(b'\n');
        }
        if bytes.is_empty() {
            return absent_is_fine(fs::remove_file(&list)).step("remove", &list);
        }
        let temporary = temporary(&list);
        fs::write(&temporary, bytes)
            .and_then(|()| fs::rename(&temporary, &list))
            .step("write", &list)
    }

    /// Makes a shim for each command, in `directory` (absolute) or the usual one, and none for any other. `envd` is the program's own path.
    pub fn install(
        &self,
        directory: Option<&Path>,
        commands: &BTreeSet<OsString>,
        envd: &Path,
    ) -> Result<Installed, ShimError> {
        make_directory(&self.home())?;
        self.ignore()?;
        self.link_to(envd)?;
        file::write(&self.at("shim"))?;
        let usual = self.usual_directory();
        let directory = match directory {
            None => usual.clone(),
            Some(directory) => self.prepare(directory)?,
        };
        if directory == usual {
            make_directory(&directory)?;
        }
        let installed = self.bring(&directory, commands)?;
        match installed.plan.foreign.first() {
            Some(name) => Err(ShimError::Foreign {
                path: directory.join(name),
            }),
            None => Ok(installed),
        }
    }

    /// Brings all directories up to what the environment offers now, as far as they are there.
    pub fn update(
        &self,
        commands: &BTreeSet<OsString>,
        envd: &Path,
    ) -> Result<Vec<Installed>, ShimError> {
        if fs::metadata(self.at("envd")).is_err() {
            self.link_to(envd)?;
        }
        file::write(&self.at("shim"))?;
        self.directories()?
            .iter()
            .filter(|directory| directory.path.is_dir())
            .map(|directory| self.bring(&directory.path, commands))
            .collect()
    }

    /// Where there are foreign files among the wanted names, those alone are left as they are.
    fn bring(
        &self,
        directory: &Path,
        commands: &BTreeSet<OsString>,
    ) -> Result<Installed, ShimError> {
        let found = file::scan(directory)?;
        let plan = Plan::between(&found, commands);
        // One that is there already is on the right file system.
        let mut there = found.iter().filter(|(_, found)| **found == Found::Current);
        let source = there
            .next()
            .map_or_else(|| self.at("shim"), |(name, _)| directory.join(name));
        file::apply(&plan, directory, &source)?;
        Ok(Installed {
            directory: directory.to_owned(),
            commands: commands.len() - plan.foreign.len(),
            plan,
        })
    }

    /// Makes a directory elsewhere ours: written down first, so that it is found when the rest fails.
    fn prepare(&self, directory: &Path) -> Result<PathBuf, ShimError> {
        self.suits(directory)?;
        let made = !directory.exists();
        if made {
            fs::create_dir_all(directory).step("create", directory)?;
        }
        // Through links it may be another one.
        let path = fs::canonicalize(directory).step("look at", directory)?;
        self.suits(&path)?;
        if path != self.usual_directory() {
            let mut all = self.elsewhere()?;
            if !all.iter().any(|known| known.path == path) {
                let path = path.clone();
                all.push(Directory { path, made });
                self.write_elsewhere(&all)?;
            }
        }
        if !path.starts_with(self.home()) {
            self.own(&path)?;
        }
        Ok(path)
    }

    /// Refuses what could not be written down, and where a shim would take itself for another project's.
    fn suits(&self, path: &Path) -> Result<(), ShimError> {
        let in_another = path.components().any(|part| part.as_os_str() == DIRECTORY)
            && !path.starts_with(self.home());
        if in_another || path.as_os_str().as_bytes().contains(&b'\n') {
            return Err(ShimError::Unsuitable {
                directory: path.to_owned(),
            });
        }
        Ok(())
    }

    /// Puts the link to the project into a directory elsewhere.
    fn own(&self, directory: &Path) -> Result<(), ShimError> {
        let link = directory.join(OWNER);
        match fs::read_link(&link) {
            Ok(project) if project == self.project => return Ok(()),
            // A project that moved away needs it no more.
            Ok(project) if project.join(crate::config::NAME).exists() => {
                return Err(ShimError::Taken {
                    directory: directory.to_owned(),
                    project,
                });
            }
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(_) => return Err(ShimError::Foreign { path: link }),
        }
        replace_link(&self.project, &link)
    }

    fn ignore(&self) -> Result<(), ShimError> {
        let path = self.at(".gitignore");
        if fs::symlink_metadata(&path).is_ok() {
            return Ok(());
        }
        fs::write(&path, IGNORE).step("write", &path)
    }

    fn link_to(&self, envd: &Path) -> Result<(), ShimError> {
        let link = self.at("envd");
        match fs::read_link(&link) {
            Ok(target) if target == envd => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
                Err(ShimError::Foreign { path: link })
            }
            _ => replace_link(envd, &link),
        }
    }

    /// Removes what [`Shims::install`] made, and nothing else: the directories that shims were removed from.
    pub fn remove(&self) -> Result<Vec<Removed>, ShimError> {
        let mut removed = Vec::new();
        for directory in self.directories()? {
            removed.push(self.clear(&directory)?);
        }
        for path in self.files()? {
            absent_is_fine(fs::remove_file(&path)).step("remove", &path)?;
        }
        remove_empty(&self.home())?;
        Ok(removed)
    }

    /// What there is in `.envd` that install made, beside the directories. While the file is there, so are the shims, and what hides them from git
    /// goes last.
    fn files(&self) -> Result<Vec<PathBuf>, ShimError> {
        let home = self.home();
        let entries = match fs::read_dir(&home) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.step("list", &home)?,
        };
        let mut files = Vec::new();
        for entry in entries {
            let name = entry.step("list", &home)?.file_name();
            let left = |of: &&str| file::is_temporary(&name, of);
            if ["directories", "envd", "shim"].iter().any(left) {
                files.push(home.join(name));
            }
        }
        let is_ignore = |path: &Path| fs::read(path).is_ok_and(|bytes| bytes == IGNORE);
        let is_shim = |path: &Path| file::kind(path).is_ok_and(|found| found != Found::Foreign);
        let at = |name| self.at(name);
        let rest = [
            Some(at("directories")).filter(|path| path.is_file()),
            Some(at("envd")).filter(|path| path.is_symlink()),
            Some(at("shim")).filter(|path| is_shim(path)),
            Some(at(".gitignore")).filter(|path| is_ignore(path)),
        ];
        files.extend(rest.into_iter().flatten());
        Ok(files)
    }

    fn clear(&self, directory: &Directory) -> Result<Removed, ShimError> {
        let path = &directory.path;
        let mut shims = 0;
        let owner = path.join(OWNER);
        let within = path.starts_with(self.home());
        // Since then it may have become another project's.
        let ours = within || fs::read_link(&owner).is_ok_and(|project| project == self.project);
        if ours {
            for (name, found) in file::scan(path)? {
                if found != Found::Foreign {
                    let path = path.join(name);
                    absent_is_fine(fs::remove_file(&path)).step("remove the shim", &path)?;
                    shims += 1;
                }
            }
            if !within {
                absent_is_fine(fs::remove_file(&owner)).step("remove", &owner)?;
            }
            if directory.made {
                remove_empty(path)?;
            }
        }
        Ok(Removed {
            directory: path.clone(),
            shims,
        })
    }

    /// The path of the shim of a tool, if there is one.
    pub fn shim_of(&self, tool: &OsStr) -> Result<Option<PathBuf>, ShimError> {
        let paths = self.directories()?.into_iter();
        Ok(paths
            .map(|directory| directory.path.join(tool))
            .find(|path| file::kind(path).is_ok_and(|found| found != Found::Foreign)))
    }
}

/// What was removed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Removed {
    /// Where.
    pub directory: PathBuf,
    /// How many shims there were.
    pub shims: usize,
}

/// A directory that is one, not a link to one.
fn make_directory(path: &Path) -> Result<(), ShimError> {
    match fs::create_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            match fs::symlink_metadata(path) {
                Ok(meta) if meta.is_dir() => Ok(()),
                _ => Err(ShimError::NoDirectory {
                    path: path.to_owned(),
                }),
            }
        }
        made => made.step("create", path),
    }
}

fn remove_empty(directory: &Path) -> Result<(), ShimError> {
    match fs::remove_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => Ok(()),
        removed => absent_is_fine(removed).step("remove", directory),
    }
}

/// A symbolic link, in the place of any that is there.
fn replace_link(target: &Path, link: &Path) -> Result<(), ShimError> {
    let temporary = temporary(link);
    absent_is_fine(fs::remove_file(&temporary))
        .and_then(|()| symlink(target, &temporary))
        .and_then(|()| fs::rename(&temporary, link))
        .step("make the link", link)
}

#[cfg(test)]
mod tests;
