//! The commits of submodules that the session's commits record: brought to the owner's own repositories of these submodules, where
//! the owner has checked them out. One that has nowhere to come to holds everything up: the branch would lead to what nobody has.

use std::{
    ffi::OsStr,
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
    process::Stdio,
};

use envd_store::TreePath;

use super::{
    super::beneath::Directory, CommitsError, MOST_PRINTED, Repository, Taken, Written, failed, run,
};

/// Submodules within each other.
const DEEPEST: usize = 16;

/// Commits of one submodule that are ready to be brought.
#[derive(Debug)]
pub struct Submodule {
    /// Where it is, from the top of the project.
    pub path: TreePath,
    /// The owner's repository of it.
    pub repository: Repository,
    /// The commits.
    pub taken: Taken,
}

/// Where a session may have written what it added to an owner's directory of objects, which is that of the submodule at a path of the
/// project. Nothing where the owner keeps it in a place that the session has nothing of.
pub type Find<'a> = dyn Fn(&Path, &TreePath) -> Vec<Written<'a>> + 'a;

impl Repository {
    /// Takes what the commits that were taken record of submodules, in new directories below `place`. What is within another one
    /// comes before it.
    pub fn take_submodules(
        &self,
        taken: &Taken,
        find: &Find<'_>,
        place: &Path,
    ) -> Result<Vec<Submodule>, CommitsError> {
        let mut taking = Taking {
            find,
            place,
            places: 0,
            submodules: Vec::new(),
        };
        taking.below(self, taken, None, 0)?;
        Ok(taking.submodules)
    }

    /// The owner's repository of a submodule that the owner's index has and that is checked out.
    fn submodule(&self, path: &TreePath) -> Result<Option<Self>, CommitsError> {
        let name = OsStr::from_bytes(path.as_bytes());
        let words = ["ls-files", "--stage", "-z", "--"].map(OsStr::new);
        let mut asked = self.git();
        asked.args(words).arg(name);
        let printed = match run(&mut asked, Stdio::null(), MOST_PRINTED) {
            Ok(printed) => printed,
            // What is within another submodule of the owner's is none of this repository's.
            Err(CommitsError::Git { .. }) => return Ok(None),
            Err(error) => return Err(error),
        };
        if !printed.starts_with(b"160000 ") {
            return Ok(None);
        }
        let step = "look for a submodule in the project";
        let look = |path: &[u8]| {
            let found = Directory::open(&self.project).and_then(|top| top.look(path));
            // Through a link or in another file system is not in the project.
            match found {
                Err(rustix::io::Errno::XDEV) => Ok(None),
                found => found.map_err(|error| failed(step)(error.into())),
            }
        };
        let is_directory = look(path.as_bytes())?.is_some_and(|found| found.kind().is_dir());
        let git = look(&[path.as_bytes(), b"/.git"].concat())?;
        let is_checked_out = git.is_some_and(|found| {
            let kind = found.kind();
            kind.is_dir() || kind.is_file()
        });
        match is_directory && is_checked_out {
            true => Self::at(&self.program, &self.project.join(name)).map(Some),
            false => Ok(None),
        }
    }
}

struct Taking<'t, 'a> {
    find: &'t Find<'a>,
    place: &'t Path,
    /// Directories that were made in it.
    places: usize,
    submodules: Vec<Submodule>,
}

impl Taking<'_, '_> {
    fn below(
        &mut self,
        superproject: &Repository,
        taken: &Taken,
        above: Option<&TreePath>,
        depth: usize,
    ) -> Result<(), CommitsError> {
        for link in superproject.links(taken)? {
            let path = match above {
                None => Ok(link.path.clone()),
                Some(above) => above.join(link.path.as_bytes()),
            };
            let path =
                path.map_err(|error| failed("name a submodule")(std::io::Error::other(error)))?;
            let within = |source| match source {
                // Named already.
                CommitsError::NoSubmodule { .. } | CommitsError::Submodule { .. } => source,
                source => CommitsError::Submodule {
                    path: path.clone(),
                    source: Box::new(source),
                },
            };
            if depth == DEEPEST {
                return Err(within(CommitsError::TooMany {
                    what: "submodules within each other",
                    limit: DEEPEST as u64,
                }));
            }
            let nowhere = || CommitsError::NoSubmodule {
                path: path.clone(),
                commit: link.commit.clone(),
            };
            let repository = superproject.submodule(&link.path).map_err(within)?;
            let repository = repository.ok_or_else(nowhere)?;
            let written = (self.find)(repository.objects(), &path);
            if written.is_empty() {
                return Err(nowhere());
            }
            let place = self.new_place().map_err(within)?;
            let taken = repository
                .take(&written, &link.commit, &place)
                .map_err(within)?;
            self.below(&repository, &taken, Some(&path), depth + 1)?;
            if !taken.commits.is_empty() {
                self.submodules.push(Submodule {
                    path,
                    repository,
                    taken,
                });
            }
        }
        Ok(())
    }

    fn new_place(&mut self) -> Result<PathBuf, CommitsError> {
        let place = self.place.join(self.places.to_string());
        self.places += 1;
        std::fs::create_dir(&place).map_err(failed("make a repository"))?;
        Ok(place)
    }
}
