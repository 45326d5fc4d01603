//! Realising: from a list of locked artifacts to one root tree in the store and a view of it.
//!
//! Every stage is a function of trees with a key, so what was done for one project is not done again for another:
//! package files become package trees ([`packages`]), these are sorted into [`strata`], which are merged ([`compose`]) and
//! configured ([`configure`]) one upon the other, and the layers of that applied to the whole. The result's digest depends on
//! the artifacts and nothing else.

pub mod compose;
pub mod configure;
pub mod key;
pub mod packages;
mod schedule;
pub mod status;
pub mod strata;

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    sync::mpsc,
    time::Instant,
};

use envd_store::{Session, TreeId, TreePath};

use self::{
    compose::{Known, Package},
    configure::{Ahead, Configuration, Root, Scratch},
    packages::packages,
};
use crate::{progress::Progress, provider::Artifact};

/// Where package files come from.
pub trait Source {
    /// Fetches each file into `directory/<sha256>` unless it is there, checked against its digest, and reports it as soon
    /// as it is by its number in `wanted`. A report that answers `false` means that the rest is not wanted any more.
    fn fetch_all(
        &self,
        wanted: &[&Artifact],
        directory: &Path,
        progress: &dyn Progress,
        arrived: &(dyn Fn(usize, PathBuf) -> bool + Sync),
    ) -> Result<(), Box<dyn std::error::Error + Send + Sync>>;
}

/// Why something could not be realised.
#[derive(Debug, thiserror::Error)]
pub enum RealiseError {
    /// A download failed.
    #[error(transparent)]
    Fetch(Box<dyn std::error::Error + Send + Sync>),
    /// A package file was refused.
    #[error("package {name} {version} is refused")]
    Unpack {
        /// Its name.
        name: String,
        /// Its version.
        version: String,
        /// Why.
        #[source]
        source: Box<crate::provider::debian::deb::DebError>,
    },
    /// A package is not what the lock says.
    #[error(
        "the lock names {locked}, but the file it points to is {found}; run \"envd update\" to lock anew"
    )]
    Mislabelled {
        /// As locked.
        locked: String,
        /// As found.
        found: String,
    },
    /// A package's control data cannot be used.
    #[error("the package in tree {tree} cannot be used: {problem}")]
    Control {
        /// Its tree.
        tree: TreeId,
        /// What is wrong.
        problem: String,
    },
    /// A package makes no valid tree.
    #[error("the files of package {name} make no valid tree")]
    Package {
        /// Its name.
        name: String,
        /// Why.
        #[source]
        source: envd_store::tree::TreeError,
    },
    /// Two packages claim one path.
    #[error("the packages do not fit together")]
    Merge(#[source] envd_store::tree::MergeError),
    /// Layers do not fit on the tree below.
    #[error("the configured root makes no valid tree")]
    Tree(#[source] envd_store::tree::TreeError),
    /// A script of a package needs a shell or dpkg that the closure does not have.
    #[error(
        "{names} must be configured by scripts, which needs dpkg and a shell; add \"essential = true\" under [env] in envd.toml"
    )]
    NoShell {
        /// The packages.
        names: String,
    },
    /// A step of the configuration failed.
    #[error(transparent)]
    Step(configure::step::StepError),
    /// The store refused a step.
    #[error(transparent)]
    Store(#[from] envd_store::StoreError),
    /// An object's content could not be read.
    #[error("cannot read the content of {path} from the store")]
    Read {
        /// Where it is in its tree.
        path: TreePath,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Something another process removed while it was needed.
    #[error("the tree of package {name} vanished while it was needed; run the command again")]
    Vanished {
        /// The package.
        name: String,
    },
}

/// What was realised.
pub struct Realised {
    /// The root's tree.
    pub root: TreeId,
    /// Its view: a directory.
    pub view: PathBuf,
    /// All trees that the result was made of: packages, the composed tree, layers.
    pub trees: Vec<TreeId>,
}

/// What is to be realised.
pub struct Request<'a> {
    /// The files of a closure.
    pub artifacts: &'a [Artifact],
    /// The names of those that are likely to be configured first: they are unpacked before the others, and configured
    /// meanwhile. The result does not depend on it.
    pub ahead: &'a BTreeSet<String>,
}

/// Realises the artifacts. `program` is envd's own executable, for the configuration's child processes.
pub fn realise(
    session: &Session,
    request: &Request<'_>,
    source: &dyn Source,
    program: &Path,
    progress: &dyn Progress,
) -> Result<Realised, RealiseError> {
    let stage = Instant::now();
    let configuration = Configuration {
        session,
        program,
        progress,
    };
    let (ready, when_ready) = mpsc::channel();
    let (packages, ahead) = std::thread::scope(|scope| {
        let ahead = scope.spawn(move || {
            let told = when_ready.into_iter();
            told.fold(None, |before, artifacts: Vec<Artifact>| {
                ahead(&configuration, &artifacts, before)
            })
        });
        let packages = packages(session, request, source, progress, ready);
        tracing::debug!(elapsed = ?stage.elapsed(), "packages are unpacked");
        // An ended thread is as good as one that did nothing: whatever it found is found again.
        packages.map(|packages| {
            compose::prepare(&packages);
            (packages, ahead.join().ok().flatten())
        })
    })?;
    tracing::debug!(packages = packages.len(), elapsed = ?stage.elapsed(), "packages are in the store");

    let stage = Instant::now();
    let mut trees: Vec<TreeId> = packages.iter().map(|package| package.id).collect();
    let Root {
        tree,
        kept,
        scratch,
    } = root(&configuration, &packages, ahead)?;
    trees.extend(kept);
    let id = session.add_tree(&tree)?;
    trees.push(id);
    tracing::debug!(entries = tree.len(), elapsed = ?stage.elapsed(), "configured");

    let stage = Instant::now();
    let view = match scratch {
        Some(Scratch { directory, shown }) => session.transform_view(&directory, &shown, &tree),
        None => session.view(&id),
    }?;
    tracing::debug!(elapsed = ?stage.elapsed(), "view is there");
    Ok(Realised {
        root: id,
        view,
        trees,
    })
}

/// Configures the first strata while other packages are still being unpacked. Errors are left to whoever does it again.
fn ahead(
    configuration: &Configuration<'_>,
    artifacts: &[Artifact],
    before: Option<Ahead>,
) -> Option<Ahead> {
    let stage = Instant::now();
    let packages = packages::load_all(configuration.session, artifacts).ok()?;
    let strata = strata::strata(&packages);
    let ahead = configuration.ahead(&packages, &strata, before).ok()?;
    tracing::debug!(packages = packages.len(), elapsed = ?stage.elapsed(), "configured ahead");
    Some(ahead)
}

fn root(
    configuration: &Configuration<'_>,
    packages: &[Package],
    ahead: Option<Ahead>,
) -> Result<Root, RealiseError> {
    if !packages.iter().any(|p| p.preinst || p.postinst) {
        let whole: Vec<&Package> = packages.iter().collect();
        return Ok(Root {
            tree: compose::compose(configuration.session, &whole, &Known::default())?,
            kept: Vec::new(),
            scratch: None,
        });
    }
    require_shell(packages)?;
    configuration.root(packages, &strata::strata(packages), ahead)
}

/// Scripts can only run where there is something to run them.
fn require_shell(packages: &[Package]) -> Result<(), RealiseError> {
    if strata::has_shell(packages.iter()) {
        return Ok(());
    }
    let scripted: Vec<&str> = packages
        .iter()
        .filter(|p| p.preinst || p.postinst)
        .map(|p| p.name.as_str())
        .collect();
    Err(RealiseError::NoShell {
        names: scripted.join(", "),
    })
}

/// A path of this program's own constants.
fn checked(path: &str) -> TreePath {
    TreePath::new(path.as_bytes()).expect("a constant path is well formed")
}
