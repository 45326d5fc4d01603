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

use envd_agents::changes::{self, Names};
use envd_shims::plan::Mount;

/// The names of the two directories that an overlay writes to.
const NAMES: Names<'static> = Names {
    upper: c"upper",
    work: c"work",
};

/// Frozen directories on top of each other. The kernel takes 500 (Documentation/filesystems/overlayfs.rst), and each costs
/// every look-up of what is not there.
pub(super) const MOST_FROZEN: usize = 100;

/// A directory that goes when nobody has it any more.
#[derive(Debug)]
pub(super) struct Owned(PathBuf);

impl Owned {
    /// Makes it.
    pub(super) fn make(path: PathBuf) -> io::Result<Self> {
        DirBuilder::new().mode(0o700).create(&path)?;
        Ok(Self(path))
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Owned {
    /// What is left where this fails goes with the whole place.
    fn drop(&mut self) {
        let (Some(parent), Some(name)) = (self.0.parent(), self.0.file_name()) else {
            return;
        };
        let removed = File::open(parent).and_then(|parent| {
            let name = CString::new(name.as_bytes())?;
            Ok(changes::remove_tree(parent.as_fd(), &name)?)
        });
        if let Err(error) = removed {
            tracing::warn!(directory = ?self.0, %error, "left until the server ends");
        }
    }
}

/// One directory inside that keeps what is written to it.
#[derive(Debug)]
pub(super) struct Layered {
    /// Where it is inside.
    target: PathBuf,
    /// What it is an overlay of.
    base: PathBuf,
    /// Holds `upper` and `work`.
    own: Owned,
    /// Frozen upper directories, the topmost first.
    frozen: Vec<Arc<Owned>>,
}

impl Layered {
    /// A fresh one over `base`, and over what was frozen before. `mode` where it is not to be that of the base.
    pub(super) fn make(
        own: PathBuf,
        target: PathBuf,
        base: PathBuf,
        frozen: Vec<Arc<Owned>>,
        mode: Option<u32>,
    ) -> io::Result<Self> {
        let own = Owned::make(own)?;
        let below = frozen.first().map_or(&*base, |top| top.path());
        let meta = std::fs::metadata(below)?;
        for name in ["upper", "work"] {
            DirBuilder::new()
                .mode(0o700)
                .create(own.path().join(name))?;
        }
        // The top of the overlay has the owner and mode of its upper directory.
        let upper = own.path().join("upper");
        if rustix::process::geteuid().is_root() {
            chown(&upper, Some(meta.uid()), Some(meta.gid()))?;
        }
        let mode = mode.unwrap_or(meta.mode() & 0o7777);
        std::fs::set_permissions(&upper, Permissions::from_mode(mode))?;
        Ok(Self {
            target,
            base,
            own,
            frozen,
        })
    }

    /// Where it is inside.
    pub(super) fn target(&self) -> &Path {
        &self.target
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

    /// Copies what was written so far to a frozen layer, kept as `to`, and goes on as it is. Nothing may write to it meanwhile.
    fn copy(&self, to: PathBuf) -> io::Result<Vec<Arc<Owned>>> {
        let upper = File::open(self.own.path().join("upper"))?;
        let mut frozen = self.frozen.clone();
        if std::fs::read_dir(self.own.path().join("upper"))?
            .next()
            .is_some()
        {
            let copied = Owned::make(to)?;
            let target = File::open(copied.path())?;
            changes::copy_tree(upper.as_fd(), target.as_fd())?;
            frozen.insert(0, Arc::new(copied));
        }
        Ok(frozen)
    }

    /// Makes what was written so far a frozen layer, kept as `to`. Nothing may have it mounted.
    pub(super) fn freeze(&mut self, to: PathBuf) -> io::Result<Vec<Arc<Owned>>> {
        let upper = self.own.path().join("upper");
        if std::fs::read_dir(&upper)?.next().is_some() {
            let own = File::open(self.own.path())?;
            changes::freeze(own.as_fd(), NAMES, c"frozen").map_err(io::Error::other)?;
            std::fs::rename(self.own.path().join("frozen"), &to)?;
            self.frozen.insert(0, Arc::new(Owned(to)));
        }
        Ok(self.frozen.clone())
    }
}

/// All of an environment.
#[derive(Debug)]
pub(super) struct Layers {
    /// Its project, if it has one.
    pub(super) project: Option<Layered>,
    /// Its home directory.
    pub(super) home: Layered,
    /// Its `/tmp`.
    pub(super) tmp: Layered,
}

/// What was frozen of an environment.
#[derive(Clone, Debug)]
pub(super) struct Frozen {
    project: Vec<Arc<Owned>>,
    home: Vec<Arc<Owned>>,
    tmp: Vec<Arc<Owned>>,
}

/// Where the directories of an environment are inside.
#[derive(Clone, Copy, Debug)]
pub(super) struct Targets<'a> {
    /// The project's, which is its path outside, too.
    pub(super) project: Option<&'a Path>,
    /// The home directory's.
    pub(super) home: &'a Path,
}

impl Layers {
    /// Makes them, over what was frozen. `new` gives paths that nothing else has, below the server's own directory; `empty` is
    /// an empty directory.
    pub(super) fn make(
        targets: Targets<'_>,
        frozen: Option<&Frozen>,
        empty: &Path,
        new: &dyn Fn() -> PathBuf,
    ) -> io::Result<Self> {
        let of = |part: fn(&Frozen) -> &Vec<Arc<Owned>>| frozen.map(part).cloned();
        let project = targets.project.map(|project| {
            let frozen = of(|frozen| &frozen.project).unwrap_or_default();
            Layered::make(new(), project.to_owned(), project.to_owned(), frozen, None)
        });
        let own = |target: &Path, frozen: Option<_>, mode| {
            let frozen = frozen.unwrap_or_default();
            Layered::make(
                new(),
                target.to_owned(),
                empty.to_owned(),
                frozen,
                Some(mode),
            )
        };
        Ok(Self {
            project: project.transpose()?,
            home: own(targets.home, of(|frozen| &frozen.home), 0o700)?,
            tmp: own(Path::new("/tmp"), of(|frozen| &frozen.tmp), 0o1777)?,
        })
    }

    /// Whether another layer would be too many.
    pub(super) fn is_deep(&self) -> bool {
        self.all()
            .any(|layered| layered.frozen.len() >= MOST_FROZEN)
    }

    /// All, in any order.
    pub(super) fn all(&self) -> impl Iterator<Item = &Layered> {
        [&self.home, &self.tmp].into_iter().chain(&self.project)
    }

    /// Copies all that was written. Nothing may write to it meanwhile.
    pub(super) fn copy(&self, new: &dyn Fn() -> PathBuf) -> io::Result<Frozen> {
        Ok(Frozen {
            project: match &self.project {
                Some(project) => project.copy(new())?,
                None => Vec::new(),
            },
            home: self.home.copy(new())?,
            tmp: self.tmp.copy(new())?,
        })
    }

    /// Freezes all that was written. Nothing may have them mounted.
    pub(super) fn freeze(&mut self, new: &dyn Fn() -> PathBuf) -> io::Result<Frozen> {
        Ok(Frozen {
            project: match &mut self.project {
                Some(project) => project.freeze(new())?,
                None => Vec::new(),
            },
            home: self.home.freeze(new())?,
            tmp: self.tmp.freeze(new())?,
        })
    }
}
