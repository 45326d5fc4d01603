//! The directories of an environment that can be frozen, forked and put back: each an overlay with an upper directory of its
//! own over frozen ones, which environments share.

use std::{
    ffi::CString,
    fs::{DirBuilder, File, Permissions},
    io,
    os::{
        fd::AsFd as _,
        unix::{
            ffi::OsStrExt as _,
            fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _, chown},
        },
    },
    path::{Path, PathBuf},
    sync::Arc,
};

use envd_agents::changes::{self, Size};
use envd_shims::plan::Mount;

use super::pairs::{NAMES, Owned, Pair};

/// Frozen directories on top of each other. The kernel takes 500 (Documentation/filesystems/overlayfs.rst), and each costs
/// every look-up of what is not there.
pub(super) const MOST_FROZEN: usize = 100;

/// So much is copied to be frozen while the environment goes on.
const SMALL: Size = Size {
    entries: 16,
    bytes: 64 * 1024,
};

/// One directory inside that keeps what is written to it.
#[derive(Debug)]
pub(super) struct Layered {
    /// Where it is inside.
    target: PathBuf,
    /// What it is an overlay of.
    base: PathBuf,
    /// Holds `upper` and `work`.
    own: Pair,
    /// Frozen upper directories, the topmost first.
    frozen: Vec<Arc<Owned>>,
}

impl Layered {
    /// One over `base`, and over what was frozen before, which writes to empty directories. `mode` where it is not to be that of
    /// the base.
    fn over(
        own: Pair,
        target: PathBuf,
        base: PathBuf,
        frozen: Vec<Arc<Owned>>,
        mode: Option<u32>,
    ) -> io::Result<Self> {
        let layered = Self {
            target,
            base,
            own,
            frozen,
        };
        layered.dress(mode)?;
        Ok(layered)
    }

    /// Makes its upper directory look like what is below it.
    fn dress(&self, mode: Option<u32>) -> io::Result<()> {
        let below = self.frozen.first().map_or(&*self.base, |top| top.path());
        let meta = std::fs::metadata(below)?;
        // The top of the overlay has the owner and mode of its upper directory.
        let upper = self.own.path().join("upper");
        let made = std::fs::metadata(&upper)?;
        let (owner, owned) = ((meta.uid(), meta.gid()), (made.uid(), made.gid()));
        if rustix::process::geteuid().is_root() && owner != owned {
            chown(&upper, Some(owner.0), Some(owner.1))?;
        }
        let mode = mode.unwrap_or(meta.mode() & 0o7777);
        if mode != made.mode() & 0o7777 {
            std::fs::set_permissions(&upper, Permissions::from_mode(mode))?;
        }
        Ok(())
    }

    /// What it is an overlay of.
    pub(super) fn base(&self) -> &Path {
        &self.base
    }

    /// As a plan has it.
    pub(super) fn mount(&self) -> Mount {
        let frozen = self.frozen.iter().map(|frozen| frozen.path().to_owned());
        Mount::Overlay {
            lowers: frozen.chain([self.base.clone()]).collect(),
            upper: self.own.path().join("upper"),
            work: self.own.path().join("work"),
            target: self.target.clone(),
        }
    }

    /// The directories that hold what was written, the topmost first.
    pub(super) fn uppers(&self) -> Vec<PathBuf> {
        let frozen = self.frozen.iter().map(|frozen| frozen.path().to_owned());
        std::iter::once(self.own.path().join("upper"))
            .chain(frozen)
            .collect()
    }

    /// Whether anything was written since it was frozen last.
    fn is_written(&self) -> io::Result<bool> {
        let upper = self.own.path().join("upper");
        Ok(std::fs::read_dir(upper)?.next().is_some())
    }

    /// Copies what was written so far to a frozen layer, kept as `to`, and goes on as it is. Nothing may write to it meanwhile.
    fn copy(&self, to: PathBuf) -> io::Result<Vec<Arc<Owned>>> {
        let upper = File::open(self.own.path().join("upper"))?;
        let mut frozen = self.frozen.clone();
        if self.is_written()? {
            let copied = Owned::make(to)?;
            let target = File::open(copied.path())?;
            changes::copy_tree(upper.as_fd(), target.as_fd())?;
            frozen.insert(0, Arc::new(copied));
        }
        Ok(frozen)
    }

    /// Makes what was written so far a frozen layer, kept as `to`, which leaves nothing to write to. Nothing may have it mounted.
    fn freeze(&mut self, to: PathBuf) -> io::Result<Vec<Arc<Owned>>> {
        if self.is_written()? {
            let own = File::open(self.own.path())?;
            let (Some(place), Some(name)) = (to.parent(), to.file_name()) else {
                return Err(io::ErrorKind::InvalidInput.into());
            };
            let (place, name) = (File::open(place)?, CString::new(name.as_bytes())?);
            changes::set_aside(own.as_fd(), NAMES.upper, (place.as_fd(), &name))
                .map_err(io::Error::other)?;
            self.frozen.insert(0, Arc::new(Owned::found(to)));
        }
        Ok(self.frozen.clone())
    }

    /// Makes it ready to be mounted once more, as it was.
    fn renew(&self) -> io::Result<()> {
        let own = File::open(self.own.path())?;
        changes::renew_work(own.as_fd(), NAMES.work).map_err(io::Error::other)?;
        let upper = self.own.path().join("upper");
        if !upper.exists() {
            // It was frozen, and not all of the environment was.
            DirBuilder::new().mode(0o700).create(upper)?;
            self.dress(None)?;
        }
        Ok(())
    }
}

/// All of an environment.
#[derive(Debug)]
pub(super) struct Layers {
    /// Its project, if it has one.
    pub(super) project: Option<Layered>,
    /// The repository of its project, where that is a linked work tree or a submodule: git keeps its history there.
    pub(super) repository: Option<Layered>,
    /// Its home directory.
    pub(super) home: Layered,
    /// Its `/tmp`.
    pub(super) tmp: Layered,
    /// What is mounted below them, where nobody sees it.
    _covered: Vec<Pair>,
}

/// What was frozen of an environment.
#[derive(Clone, Default, Debug)]
pub(super) struct Frozen {
    project: Vec<Arc<Owned>>,
    repository: Vec<Arc<Owned>>,
    home: Vec<Arc<Owned>>,
    tmp: Vec<Arc<Owned>>,
}

impl Frozen {
    /// Whether there is nothing in it.
    pub(super) fn is_empty(&self) -> bool {
        let all = [&self.project, &self.repository, &self.home, &self.tmp];
        all.into_iter().all(Vec::is_empty)
    }
}

/// Where the directories of an environment are inside.
#[derive(Clone, Copy, Debug)]
pub(super) struct Targets<'a> {
    /// The project's, which is its path outside, too.
    pub(super) project: Option<&'a Path>,
    /// That of the repository which the project is a linked work tree of; the same outside, too. Never below the project.
    pub(super) repository: Option<&'a Path>,
    /// The home directory's.
    pub(super) home: &'a Path,
}

/// The directories that an environment begins with.
#[derive(Debug)]
pub(super) struct Bed {
    project: Option<Layered>,
    repository: Option<Layered>,
    more: Option<Pair>,
    home: Layered,
    tmp: Layered,
}

const HOME_MODE: u32 = 0o700;
const TMP_MODE: u32 = 0o1777;

impl Bed {
    /// Makes them. `new` gives pairs, `empty` is an empty directory. They begin over what was frozen. `more` is for what may be
    /// mounted over its project later.
    pub(super) fn make(
        targets: Targets<'_>,
        empty: &Path,
        new: &dyn Fn() -> io::Result<Pair>,
        frozen: Frozen,
        more: Option<Pair>,
    ) -> io::Result<Self> {
        let own = |target: &Path, frozen, mode| {
            let (target, base) = (target.to_owned(), empty.to_owned());
            Layered::over(new()?, target, base, frozen, Some(mode))
        };
        let outside = |path: Option<&Path>, frozen| {
            let Some(path) = path else { return Ok(None) };
            let (target, base) = (path.to_owned(), path.to_owned());
            Layered::over(new()?, target, base, frozen, None).map(Some)
        };
        Ok(Self {
            project: outside(targets.project, frozen.project)?,
            repository: outside(targets.repository, frozen.repository)?,
            more,
            home: own(targets.home, frozen.home, HOME_MODE)?,
            tmp: own(Path::new("/tmp"), frozen.tmp, TMP_MODE)?,
        })
    }

    /// What is mounted of it.
    pub(super) fn mounts(&self) -> Vec<Mount> {
        let own = [&self.home, &self.tmp].into_iter();
        let outside = self.project.iter().chain(&self.repository);
        own.chain(outside).map(Layered::mount).collect()
    }

    /// The layers of an environment that begins with them.
    pub(super) fn lay(self) -> Laid {
        let layers = Layers {
            project: self.project,
            repository: self.repository,
            home: self.home,
            tmp: self.tmp,
            _covered: Vec::new(),
        };
        Laid {
            layers,
            mounts: Vec::new(),
            more: self.more,
        }
    }

    /// The layers of an environment that begins over what was frozen, where these began over nothing.
    pub(super) fn over(
        self,
        targets: Targets<'_>,
        frozen: Frozen,
        new: &dyn Fn() -> io::Result<Pair>,
    ) -> io::Result<Laid> {
        let mut mounts = Vec::new();
        let mut covered = Vec::new();
        let mut more = self.more;
        let is_tmp_new = !frozen.tmp.is_empty();
        // What lies below something that is mounted later would be covered.
        let is_in_tmp = |target: &Path| is_tmp_new && target.starts_with(&self.tmp.target);
        let is_home_new = !frozen.home.is_empty() || is_in_tmp(targets.home);
        let is_hidden =
            |path: &Path| is_in_tmp(path) || is_home_new && path.starts_with(targets.home);
        let is_repository_new =
            !frozen.repository.is_empty() || targets.repository.is_some_and(is_hidden);
        // A bare repository may hold its work trees.
        let is_in_repository = |project: &Path| {
            is_repository_new
                && targets
                    .repository
                    .is_some_and(|above| project.starts_with(above))
        };
        let is_project_new = !frozen.project.is_empty()
            || targets
                .project
                .is_some_and(|project| is_hidden(project) || is_in_repository(project));
        let mut own = |ready: Layered, frozen: Vec<_>, mode, more: Option<Pair>| {
            let Layered {
                target, base, own, ..
            } = ready;
            covered.push(own);
            let own = match more {
                Some(more) => more,
                None => new()?,
            };
            let layered = Layered::over(own, target, base, frozen, mode)?;
            mounts.push(layered.mount());
            io::Result::Ok(layered)
        };
        let project = match self.project {
            Some(ready) if is_project_new => Some(own(ready, frozen.project, None, more.take())?),
            project => project,
        };
        let repository = match self.repository {
            Some(ready) if is_repository_new => Some(own(ready, frozen.repository, None, None)?),
            repository => repository,
        };
        let home = match is_home_new {
            true => own(self.home, frozen.home, Some(HOME_MODE), None)?,
            false => self.home,
        };
        let tmp = match is_tmp_new {
            true => own(self.tmp, frozen.tmp, Some(TMP_MODE), None)?,
            false => self.tmp,
        };
        let layers = Layers {
            project,
            repository,
            home,
            tmp,
            _covered: covered,
        };
        Ok(Laid {
            layers,
            mounts,
            more,
        })
    }

    /// The same where an environment goes on with the layers that it had.
    pub(super) fn again(self, mut layers: Layers) -> io::Result<Laid> {
        for layered in layers.all() {
            layered.renew()?;
        }
        let mounts = layers.all().map(Layered::mount).collect();
        let own = [self.home, self.tmp].into_iter();
        let outside = self.project.into_iter().chain(self.repository);
        layers._covered = own.chain(outside).map(|layered| layered.own).collect();
        Ok(Laid {
            layers,
            mounts,
            more: self.more,
        })
    }
}

/// The layers of an environment that is about to begin.
#[derive(Debug)]
pub(super) struct Laid {
    pub(super) layers: Layers,
    /// What of them is still to be mounted.
    pub(super) mounts: Vec<Mount>,
    /// What was not needed.
    pub(super) more: Option<Pair>,
}

impl Layers {
    /// Whether another layer would be too many.
    pub(super) fn is_deep(&self) -> bool {
        self.all()
            .any(|layered| layered.frozen.len() >= MOST_FROZEN)
    }

    /// All, in any order.
    pub(super) fn all(&self) -> impl Iterator<Item = &Layered> {
        let outside = self.project.iter().chain(&self.repository);
        [&self.home, &self.tmp].into_iter().chain(outside)
    }

    /// Whether a copy of what was written takes less than to end it and have another go on with it.
    pub(super) fn is_small(&self) -> io::Result<bool> {
        let mut left = SMALL;
        for layered in self.all() {
            let upper = File::open(layered.own.path().join("upper"))?;
            if !changes::fits(upper.as_fd(), &mut left)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// What was frozen of it, if nothing was written since. Nothing may write to it meanwhile.
    pub(super) fn unwritten(&self) -> io::Result<Option<Frozen>> {
        for layered in self.all() {
            if layered.is_written()? {
                return Ok(None);
            }
        }
        let frozen = |layered: &Layered| layered.frozen.clone();
        Ok(Some(Frozen {
            project: self.project.as_ref().map(frozen).unwrap_or_default(),
            repository: self.repository.as_ref().map(frozen).unwrap_or_default(),
            home: frozen(&self.home),
            tmp: frozen(&self.tmp),
        }))
    }

    /// Copies all that was written. Nothing may write to it meanwhile.
    pub(super) fn copy(&self, new: &dyn Fn() -> PathBuf) -> io::Result<Frozen> {
        let outside = |layered: &Option<Layered>| match layered {
            Some(layered) => layered.copy(new()),
            None => Ok(Vec::new()),
        };
        Ok(Frozen {
            project: outside(&self.project)?,
            repository: outside(&self.repository)?,
            home: self.home.copy(new())?,
            tmp: self.tmp.copy(new())?,
        })
    }

    /// Freezes all that was written. Nothing may have them mounted; what goes on begins over what this gives.
    pub(super) fn freeze(&mut self, new: &dyn Fn() -> PathBuf) -> io::Result<Frozen> {
        let outside = |layered: &mut Option<Layered>| match layered {
            Some(layered) => layered.freeze(new()),
            None => Ok(Vec::new()),
        };
        Ok(Frozen {
            project: outside(&mut self.project)?,
            repository: outside(&mut self.repository)?,
            home: self.home.freeze(new())?,
            tmp: self.tmp.freeze(new())?,
        })
    }
}
