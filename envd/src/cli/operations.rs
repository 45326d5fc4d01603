//! What the commands need done, as one trait: commands read arguments and print answers, and whoever implements this does
//! the work. Its answers are plain data, declared beside the command that prints them; with `--json` they are the output.

use std::path::{Path, PathBuf};

use envd_shims::{Exit, Plan};
use envd_store::Hold;

use super::{
    Failure, doctor, gc, generations, image, list, lock, rollback, search, store, uninstall, why,
};
use crate::{
    config::{EnvironmentSection, Manifest},
    progress::Progress,
    project::Project,
};

/// The work.
pub trait Operations {
    /// Packages that match, best first.
    fn search(
        &self,
        request: &search::Request,
        progress: &dyn Progress,
    ) -> Result<Vec<search::Hit>, Failure>;

    /// Chooses versions and writes the lock where it is no longer what the manifest asks for. With `request.check` nothing
    /// is written.
    fn lock(
        &self,
        project: &Project,
        manifest: &Manifest,
        request: &lock::Request,
        progress: &dyn Progress,
    ) -> Result<lock::Report, Failure>;

    /// The shortest ways from what was asked for to a package. Empty if it is not in the environment.
    fn why(
        &self,
        project: &Project,
        manifest: &Manifest,
        package: &str,
        progress: &dyn Progress,
    ) -> Result<Vec<why::Chain>, Failure>;

    /// The environment's packages, by name.
    fn list(
        &self,
        project: &Project,
        manifest: &Manifest,
        progress: &dyn Progress,
    ) -> Result<Vec<list::Package>, Failure>;

    /// The project's environment, locked and realised if it is not yet. Nearly every call finds everything in place: it is
    /// the first part of each `envd run` and should cost a few file reads then.
    fn realise(
        &self,
        project: &Project,
        manifest: &Manifest,
        progress: &dyn Progress,
    ) -> Result<Environment, Failure>;

    /// The project's environment if it is realised already: what nothing has to be shown or waited for.
    fn ready(&self, project: &Project, manifest: &Manifest) -> Result<Option<Ready>, Failure>;

    /// The package, with its version, that a file of the project's realised environment is of; nothing for what no package
    /// brought. Links are not followed.
    fn package_of(&self, project: &Project, file: &Path) -> Result<Option<String>, Failure>;

    /// What the project's environment has been, the first kept first.
    fn generations(&self, project: &Project) -> Result<Vec<generations::Generation>, Failure>;

    /// Puts a generation's lock back, and its manifest if that is asked for.
    fn rollback(
        &self,
        project: &Project,
        request: rollback::Request,
    ) -> Result<rollback::Report, Failure>;

    /// An environment of no project, kept in the store until gc.
    fn realise_once(
        &self,
        section: &EnvironmentSection,
        progress: &dyn Progress,
    ) -> Result<Environment, Failure>;

    /// The project's environment as an OCI image layout in `output`, running `command`.
    fn image(
        &self,
        project: &Project,
        manifest: &Manifest,
        output: &Path,
        command: &[String],
        progress: &dyn Progress,
    ) -> Result<image::Report, Failure>;

    /// Refuses where one of these mechanisms does not work, or is none. Asked before anything is fetched.
    fn require(&self, mechanisms: &[String]) -> Result<(), Failure>;

    /// Keeps a start (see [`envd_trampoline::start`]), so that the next run of this kind need not look at anything twice. That
    /// it cannot be kept is no reason to fail.
    fn keep_start(&self, name: &str, bytes: &[u8]);

    /// Starts the plan's command, waits, and gives how it ended.
    fn launch(&self, plan: &Plan) -> Result<Exit, Failure>;

    /// Where the store is and how much is in it.
    fn store_info(&self) -> Result<store::Info, Failure>;

    /// Reads every object and manifest again.
    fn store_verify(
        &self,
        repair: bool,
        progress: &dyn Progress,
    ) -> Result<store::Verified, Failure>;

    /// What takes how much.
    fn store_du(&self) -> Result<store::Usage, Failure>;

    /// Why things are kept.
    fn store_roots(&self) -> Result<Vec<store::Root>, Failure>;

    /// Frees what nothing keeps.
    fn gc(&self, request: &gc::Request) -> Result<gc::Report, Failure>;

    /// What this machine can do.
    fn doctor(&self) -> Result<Vec<doctor::Mechanism>, Failure>;

    /// Everything envd has made that is still there.
    fn leftovers(&self) -> Result<Vec<uninstall::Leftover>, Failure>;

    /// Removes all of that.
    fn uninstall(&self) -> Result<(), Failure>;
}

/// An environment that is there.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Environment {
    /// Its root, as a directory.
    pub view: PathBuf,
    /// The store's directory of tool caches.
    pub caches: PathBuf,
}

/// An environment that is there and stays.
#[derive(Debug)]
pub struct Ready {
    /// The environment.
    pub environment: Environment,
    /// Keeps its view from gc as long as this lives. `None` where nothing would take it.
    pub hold: Option<Hold>,
}
