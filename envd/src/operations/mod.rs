//! The work behind the commands, on this machine's store: what [`crate::cli::operations::Operations`] asks for.

mod carrying;
mod documents;
mod entering;
mod failure;
mod generations;
mod housekeeping;
mod image;
mod indexes;
mod locking;
mod once;
mod realising;
mod shimming;
mod source;

use std::{
    cell::RefCell,
    path::{Path, PathBuf},
    time::SystemTime,
};

use envd_shims::{Exit, Plan};
use envd_store::{Hold, Session, Store, TreeId};

use crate::{
    cli::{
        Context, Failure, Kind, doctor, gc, generations as past, list, lock,
        operations::{Environment, Operations, Ready},
        rollback, search, store, uninstall, why,
    },
    config::{EnvironmentSection, Manifest},
    fetch::{FetchSettings, Fetcher},
    progress::Progress,
    project::Project,
    provider::{
        Channel,
        debian::{
            archive::{Archive, ArchiveSettings},
            trust::Keyring,
        },
    },
    settings::{self, Settings},
};

pub(crate) use entering::doctor;

/// What the configuration's child processes are started as; see [`crate::realise::configure::step`].
pub const CONFIGURE: &str = "internal-configure";

/// The operations of a user on one machine.
pub struct Local {
    settings: Settings,
    now: SystemTime,
    /// envd's own executable.
    program: PathBuf,
    store: RefCell<Option<Store>>,
    /// Views that must stay while this process lives.
    holds: RefCell<Vec<Hold>>,
}

impl Local {
    /// The operations as a command's context wants them. Touches nothing yet.
    pub fn new(context: &Context) -> Self {
        Self {
            settings: context.settings.clone(),
            now: SystemTime::now(),
            // The link, not what it points to: it leads to this very file even when that was replaced meanwhile.
            program: PathBuf::from("/proc/self/exe"),
            store: RefCell::new(None),
            holds: RefCell::new(Vec::new()),
        }
    }

    /// Packages of these channels that bring a command, the likeliest first, as far as that is known here. Offline.
    pub fn packages_with(
        &self,
        channels: &[Channel],
        command: &str,
    ) -> Result<Vec<String>, Failure> {
        carrying::packages(self, channels, command)
    }

    fn store(&self) -> Result<Store, Failure> {
        if let Some(store) = &*self.store.borrow() {
            return Ok(store.clone());
        }
        let store = Store::open(&self.settings.store)?;
        *self.store.borrow_mut() = Some(store.clone());
        Ok(store)
    }

    fn session(&self) -> Result<Session, Failure> {
        Ok(self.store()?.session()?)
    }

    /// Seconds since the epoch.
    fn seconds(&self) -> u64 {
        self.now
            .duration_since(SystemTime::UNIX_EPOCH)
            .map_or(0, |since| since.as_secs())
    }

    fn archive(&self) -> Result<Archive, Failure> {
        let settings = &self.settings;
        let changed = |value: &str, default: &str| (value != default).then(|| value.to_owned());
        let keyring = match &settings.debian_keyring {
            None => Keyring::debian(),
            Some(path) => keyring(path)?,
        };
        Ok(Archive::new(ArchiveSettings {
            mirror: changed(&settings.debian_mirror, settings::DEBIAN_MIRROR),
            security_mirror: changed(
                &settings.debian_security_mirror,
                settings::DEBIAN_SECURITY_MIRROR,
            ),
            snapshot: changed(&settings.snapshot_mirror, settings::SNAPSHOT_MIRROR),
            architecture: architecture()?.as_str().to_owned(),
            keyring,
            ..ArchiveSettings::default()
        }))
    }

    fn fetcher(&self) -> Fetcher {
        // Whatever looks a name up does so for a fetcher.
        #[cfg(envd_static)]
        envd_shims::look_names_up_without_modules();
        Fetcher::new(FetchSettings {
            offline: self.settings.offline,
            concurrency: self.settings.concurrency as usize,
            ..FetchSettings::default()
        })
    }

    /// An environment whose view is held, or `None` when gc was faster.
    fn entered(&self, root: &TreeId) -> Result<Option<Ready>, Failure> {
        let store = self.store()?;
        Ok(store.hold(root)?.map(|hold| Ready {
            environment: Environment {
                view: hold.path().to_owned(),
                caches: store.path("caches"),
            },
            hold: Some(hold),
        }))
    }

    /// Its view stays as long as this process.
    fn keep(&self, ready: Ready) -> Environment {
        self.holds.borrow_mut().extend(ready.hold);
        ready.environment
    }
}

/// The program's part as the configuration's child process.
pub fn configure(job: Option<std::ffi::OsString>) -> std::process::ExitCode {
    let job = PathBuf::from(job.unwrap_or_default());
    match crate::realise::configure::step::perform(&job) {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(error) => {
            let failure = Failure::of(Kind::Other, &*error);
            // Into the step's log, of which the parent shows the end.
            eprintln!("{}", failure.message);
            failure
                .causes
                .iter()
                .for_each(|cause| eprintln!("  {cause}"));
            std::process::ExitCode::FAILURE
        }
    }
}

fn keyring(path: &Path) -> Result<Keyring, Failure> {
    let bytes = std::fs::read(path).map_err(|e| {
        Failure::of(Kind::Usage, &e).help(format!(
            "the keyring {} of your settings cannot be read",
            path.display()
        ))
    })?;
    Keyring::parse(&bytes).map_err(|e| {
        Failure::of(Kind::Usage, &e).help(format!(
            "the keyring {} of your settings cannot be used",
            path.display()
        ))
    })
}

/// Debian's name of what this program was built for.
fn architecture() -> Result<crate::provider::debian::architecture::Architecture, Failure> {
    let name = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    name.parse().map_err(|e| Failure::of(Kind::Host, &e))
}

/// Runs something that waits for the network, on this thread.
fn block_on<T>(future: impl Future<Output = T>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| {
            Failure::of(Kind::Host, &e).help("the asynchronous runtime could not be started")
        })?;
    Ok(runtime.block_on(future))
}

impl Operations for Local {
    fn search(
        &self,
        request: &search::Request,
        progress: &dyn Progress,
    ) -> Result<Vec<search::Hit>, Failure> {
        indexes::search(self, request, progress)
    }

    fn lock(
        &self,
        project: &Project,
        manifest: &Manifest,
        request: &lock::Request,
        progress: &dyn Progress,
    ) -> Result<lock::Report, Failure> {
        locking::lock(self, project, manifest, request, progress)
    }

    fn why(
        &self,
        project: &Project,
        manifest: &Manifest,
        package: &str,
        progress: &dyn Progress,
    ) -> Result<Vec<why::Chain>, Failure> {
        locking::why(self, project, manifest, package, progress)
    }

    fn list(
        &self,
        project: &Project,
        manifest: &Manifest,
        progress: &dyn Progress,
    ) -> Result<Vec<list::Package>, Failure> {
        locking::list(self, project, manifest, progress)
    }

    fn realise(
        &self,
        project: &Project,
        manifest: &Manifest,
        progress: &dyn Progress,
    ) -> Result<Environment, Failure> {
        realising::project(self, project, manifest, progress)
    }

    fn ready(&self, project: &Project, manifest: &Manifest) -> Result<Option<Ready>, Failure> {
        realising::ready(self, project, manifest)
    }

    fn package_of(&self, project: &Project, file: &Path) -> Result<Option<String>, Failure> {
        shimming::package_of(self, project, file)
    }

    fn generations(&self, project: &Project) -> Result<Vec<past::Generation>, Failure> {
        generations::list(self, project)
    }

    fn rollback(
        &self,
        project: &Project,
        request: rollback::Request,
    ) -> Result<rollback::Report, Failure> {
        generations::rollback(self, project, request)
    }

    fn realise_once(
        &self,
        section: &EnvironmentSection,
        progress: &dyn Progress,
    ) -> Result<Environment, Failure> {
        once::realise(self, section, progress)
    }

    fn image(
        &self,
        project: &Project,
        manifest: &Manifest,
        output: &Path,
        command: &[String],
        progress: &dyn Progress,
    ) -> Result<crate::cli::image::Report, Failure> {
        image::write(self, project, manifest, output, command, progress)
    }

    fn require(&self, mechanisms: &[String]) -> Result<(), Failure> {
        entering::require(mechanisms)
    }

    fn keep_start(&self, name: &str, bytes: &[u8]) {
        let kept = self
            .store()
            .and_then(|store| Ok(store.keep_start(name, bytes)?));
        if let Err(failure) = kept {
            tracing::debug!(failure.message, "the start is not kept");
        }
    }

    fn launch(&self, plan: &Plan) -> Result<Exit, Failure> {
        entering::launch(plan)
    }

    fn store_info(&self) -> Result<store::Info, Failure> {
        housekeeping::info(self)
    }

    fn store_verify(
        &self,
        repair: bool,
        progress: &dyn Progress,
    ) -> Result<store::Verified, Failure> {
        housekeeping::verify(self, repair, progress)
    }

    fn store_du(&self) -> Result<store::Usage, Failure> {
        housekeeping::usage(self)
    }

    fn store_roots(&self) -> Result<Vec<store::Root>, Failure> {
        housekeeping::roots(self)
    }

    fn gc(&self, request: &gc::Request) -> Result<gc::Report, Failure> {
        housekeeping::gc(self, request)
    }

    fn doctor(&self) -> Result<Vec<doctor::Mechanism>, Failure> {
        doctor()
    }

    fn leftovers(&self) -> Result<Vec<uninstall::Leftover>, Failure> {
        housekeeping::leftovers(self)
    }

    fn uninstall(&self) -> Result<(), Failure> {
        housekeeping::uninstall(self)
    }
}
