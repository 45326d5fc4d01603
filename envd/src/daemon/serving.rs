//! The daemon as a process: one for a place, found by its socket, and with nothing left of it when it ends.

use std::{
    fs::{self, File},
    io,
    os::{fd::OwnedFd, unix::fs::MetadataExt as _},
    rc::Rc,
    sync::Mutex,
};

use rustix::{
    fs::{FlockOperation, Mode, flock},
    process::{Pid, Resource, Rlimit},
};
use tokio::{
    signal::unix::{SignalKind, signal},
    task::LocalSet,
};
use tracing_subscriber::EnvFilter;

use super::{
    log::Log,
    packet,
    place::{Place, PlaceError},
    server::Daemon,
};

/// A place that is this process's.
#[derive(Debug)]
pub struct Held {
    place: Place,
    _lock: File,
}

/// A daemon that cannot be.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// Its directory.
    #[error(transparent)]
    Place(#[from] PlaceError),
    /// There is one.
    #[error("there is a daemon for this project already")]
    Taken,
    /// A file of its.
    #[error("cannot use {}", path.display())]
    File {
        /// Which.
        path: std::path::PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The runtime.
    #[error("cannot wait for clients")]
    Wait(#[source] io::Error),
}

impl Held {
    /// Takes a place, if there is no daemon.
    pub fn take(place: Place) -> Result<Self, ServeError> {
        place.make()?;
        let path = place.lock();
        let failed = |source| ServeError::File {
            path: path.clone(),
            source,
        };
        loop {
            let mut options = File::options();
            std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
            let lock = options.write(true).create(true).truncate(false).open(&path);
            let lock = lock.map_err(failed)?;
            match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => {}
                Err(rustix::io::Errno::WOULDBLOCK) => return Err(ServeError::Taken),
                Err(error) => return Err(failed(error.into())),
            }
            // The daemon before may have removed it between the two.
            let ours = lock.metadata().map_err(failed)?.ino();
            if fs::metadata(&path).is_ok_and(|there| there.ino() == ours) {
                return Ok(Self { place, _lock: lock });
            }
        }
    }

    /// Logs to the place's file from now on, as `filter` says.
    pub fn log(&self, filter: Option<&str>) -> Result<(), ServeError> {
        let path = self.place.log();
        let log = Log::open(&path).map_err(|source| ServeError::File { path, source })?;
        let filter = filter.and_then(|filter| EnvFilter::try_new(filter).ok());
        let filter = filter.unwrap_or_else(|| EnvFilter::new("info"));
        // Somebody else's, in a test, is as good.
        let _ = tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_writer(Mutex::new(log))
            .with_ansi(false)
            .try_init();
        Ok(())
    }

    /// Listens. The socket of a daemon that is dead is replaced.
    pub fn listen(&self) -> Result<OwnedFd, ServeError> {
        let path = self.place.socket();
        let listened = match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => {
                let before = rustix::process::umask(Mode::RWXG | Mode::RWXO);
                let listened = packet::listen(&path);
                rustix::process::umask(before);
                listened
            }
        };
        listened.map_err(|source| ServeError::File { path, source })
    }

    /// Serves until the end, and removes every trace.
    pub fn serve(self, daemon: &Rc<Daemon>, listener: OwnedFd) -> Result<(), ServeError> {
        let runtime = runtime().map_err(ServeError::Wait)?;
        let local = LocalSet::new();
        let served = local.block_on(&runtime, async {
            let served = daemon.serve(listener, asked_to_end()).await;
            // Before clients hear that it is over: whoever then starts another finds nothing of this one.
            for path in [self.place.socket(), self.place.log(), self.place.lock()] {
                let _ = fs::remove_file(path);
            }
            served
        });
        drop(local);
        // What was being made for somebody who is gone by now ends with this process.
        runtime.shutdown_background();
        served.map_err(ServeError::Wait)
    }
}

/// One thread: that is all it takes, and the least of memory.
fn runtime() -> io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
}

/// Waits for a signal that asks a process to end.
async fn asked_to_end() {
    let (Ok(mut terminate), Ok(mut interrupt)) = (
        signal(SignalKind::terminate()),
        signal(SignalKind::interrupt()),
    ) else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}

/// As many descriptors as there may be: two an environment and one a client. What is started from here on inherits this, so
/// a launcher must be there before, or have the limit [put back](DescriptorLimit::give).
pub fn raise_descriptor_limit() -> DescriptorLimit {
    let limit = rustix::process::getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        ..limit
    };
    let _ = rustix::process::setrlimit(Resource::Nofile, raised);
    DescriptorLimit(limit)
}

/// The limit as it was.
#[derive(Clone, Debug)]
pub struct DescriptorLimit(Rlimit);

impl DescriptorLimit {
    /// Gives it to a process that was started since: programs are used to this one.
    pub fn give(&self, pid: u32) {
        let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
        let limit = self.0;
        if let Err(error) = rustix::process::prlimit(pid, Resource::Nofile, limit) {
            tracing::warn!("a limit cannot be put back: {error}");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::settings::{HostVariables, Settings};

    fn place(directory: &Path) -> Place {
        let text = directory.to_str().unwrap();
        let variables: HostVariables = [("XDG_RUNTIME_DIR", text), ("HOME", text)]
            .into_iter()
            .collect();
        let uid = rustix::process::getuid().as_raw();
        let settings = Settings::load(&variables, uid).unwrap();
        Place::of(&settings, uid, Path::new("/project"))
    }

    #[test]
    fn there_is_one_daemon_for_a_place_and_a_dead_ones_socket_is_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let place = place(directory.path());
        let held = Held::take(place.clone()).unwrap();
        let dead = held.listen().unwrap();
        assert!(matches!(Held::take(place.clone()), Err(ServeError::Taken)));
        packet::connect(&place.socket()).unwrap();
        drop((held, dead));
        assert!(place.socket().exists(), "as after kill -9");
        assert!(packet::connect(&place.socket()).is_err());
        let held = Held::take(place.clone()).unwrap();
        let _alive = held.listen().unwrap();
        packet::connect(&place.socket()).unwrap();
    }

    #[test]
    fn a_lock_that_was_removed_while_it_was_taken_does_not_count() {
        let directory = tempfile::tempdir().unwrap();
        let place = place(directory.path());
        let first = Held::take(place.clone()).unwrap();
        fs::remove_file(place.lock()).unwrap();
        let second = Held::take(place.clone()).unwrap();
        assert!(matches!(Held::take(place), Err(ServeError::Taken)));
        drop((first, second));
    }
}
