//! Where a project's daemon is reached: the runtime directory, and the names in it.

use std::{
    fs::{self, DirBuilder},
    io,
    os::unix::{
        ffi::OsStrExt as _,
        fs::{DirBuilderExt as _, MetadataExt as _},
    },
    path::{Path, PathBuf},
};

use super::household::Places;
use crate::settings::Settings;

/// Bytes of a socket's path at most: what `struct sockaddr_un` has room for, without the zero byte (unix(7)).
const PATH_MAX: usize = 107;

/// The place of one project's daemon.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Place {
    directory: PathBuf,
    key: String,
    uid: u32,
}

/// A runtime directory that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PlaceError {
    /// It cannot be made or looked at.
    #[error("cannot use the runtime directory {}", directory.display())]
    Io {
        /// The directory.
        directory: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It is a file or a link.
    #[error("the runtime directory {} is no directory", directory.display())]
    NoDirectory {
        /// The directory.
        directory: PathBuf,
    },
    /// Somebody else made it.
    #[error("the runtime directory {} belongs to another user (uid {owner})", directory.display())]
    Foreign {
        /// The directory.
        directory: PathBuf,
        /// Whose it is.
        owner: u32,
    },
    /// Others may look into it.
    #[error("the runtime directory {} is open to others (mode {mode:o})", directory.display())]
    Open {
        /// The directory.
        directory: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The kernel has no room for the socket's path.
    #[error("the path of the daemon's socket is {length} bytes long, and {PATH_MAX} are possible: {}", path.display())]
    Long {
        /// The path.
        path: PathBuf,
        /// Its length.
        length: usize,
    },
}

impl PlaceError {
    /// What to do next.
    pub fn help(&self) -> String {
        match self {
            Self::Io { .. } | Self::Long { .. } => {
                "set XDG_RUNTIME_DIR to a directory of yours with a short path and mode 700"
                    .to_owned()
            }
            Self::NoDirectory { directory } | Self::Foreign { directory, .. } => {
                format!(
                    "remove {}, or set XDG_RUNTIME_DIR to a directory of yours",
                    directory.display()
                )
            }
            Self::Open { directory, .. } => format!("chmod 700 {}", directory.display()),
        }
    }
}

impl Place {
    /// The place of a project's daemon. `project` is absolute and without symbolic links.
    pub fn of(settings: &Settings, uid: u32, project: &Path) -> Self {
        Self {
            directory: runtime_directory(settings.runtime_directory.as_deref(), uid, &owner),
            key: key(&settings.store, project),
            uid,
        }
    }

    /// The runtime directory of a user: where all of its daemons' places are.
    pub fn runtime(settings: &Settings, uid: u32) -> PathBuf {
        runtime_directory(settings.runtime_directory.as_deref(), uid, &owner)
    }

    /// The directory.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The socket.
    pub fn socket(&self) -> PathBuf {
        self.file("sock")
    }

    /// What the daemon says of itself.
    pub fn log(&self) -> PathBuf {
        self.file("log")
    }

    /// The file that the one daemon has locked.
    pub fn lock(&self) -> PathBuf {
        self.file("lock")
    }

    /// Where the project's services keep things.
    pub fn services(&self, store: &Path) -> Places {
        Places::of(store, &self.directory, &self.key)
    }

    fn file(&self, ending: &str) -> PathBuf {
        self.directory.join(format!("{}.{ending}", self.key))
    }

    /// Makes the directory if it is not there, and refuses one that others could have a hand in.
    pub fn make(&self) -> Result<(), PlaceError> {
        let made = DirBuilder::new().mode(0o700).create(&self.directory);
        match made {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(self.io(error));
            }
            _ => {}
        }
        self.check()?;
        self.short()
    }

    /// Whether the directory is there. One that others could have a hand in is an error.
    pub fn check(&self) -> Result<bool, PlaceError> {
        let meta = match fs::symlink_metadata(&self.directory) {
            Ok(meta) => meta,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(self.io(error)),
        };
        let directory = || self.directory.clone();
        if !meta.is_dir() {
            return Err(PlaceError::NoDirectory {
                directory: directory(),
            });
        }
        if meta.uid() != self.uid {
            return Err(PlaceError::Foreign {
                directory: directory(),
                owner: meta.uid(),
            });
        }
        match meta.mode() & 0o777 {
            0o700 => Ok(true),
            mode => Err(PlaceError::Open {
                directory: directory(),
                mode,
            }),
        }
    }

    fn short(&self) -> Result<(), PlaceError> {
        let path = self.socket();
        match path.as_os_str().len() {
            length if length > PATH_MAX => Err(PlaceError::Long { path, length }),
            _ => Ok(()),
        }
    }

    fn io(&self, source: io::Error) -> PlaceError {
        PlaceError::Io {
            directory: self.directory.clone(),
            source,
        }
    }
}

/// What tells the daemons of a user apart.
fn key(store: &Path, project: &Path) -> String {
    let (store, project) = (store.as_os_str(), project.as_os_str());
    let digits = envd_trampoline::key::daemon(store.as_bytes(), project.as_bytes());
    String::from_utf8_lossy(&digits).into_owned()
}

/// What tells this build of envd from others; it stays the same when the file that this process was started from is replaced.
pub fn build() -> u64 {
    use envd_init::sys::{constant::AT_FDCWD, status_at};
    // Without /proc there is no daemon that could differ: it is started from there.
    status_at(AT_FDCWD, c"/proc/self/exe", true)
        .map_or(0, |file| envd_trampoline::key::build(&file))
}

fn owner(path: &Path) -> Option<u32> {
    let meta = fs::metadata(path).ok()?;
    meta.is_dir().then(|| meta.uid())
}

/// The first that there is: what XDG_RUNTIME_DIR names, the directory that logging in makes, and what is always possible.
/// One that belongs to somebody else (sudo keeps the variable) is not ours to write to.
fn runtime_directory(
    variable: Option<&Path>,
    uid: u32,
    owner: &dyn Fn(&Path) -> Option<u32>,
) -> PathBuf {
    let ours = |path: &Path| owner(path) == Some(uid);
    if let Some(path) = variable.filter(|path| ours(path)) {
        return path.join("envd");
    }
    let login = PathBuf::from(format!("/run/user/{uid}"));
    if ours(&login) {
        return login.join("envd");
    }
    match uid {
        0 => "/run/envd".into(),
        _ => format!("/tmp/envd-{uid}").into(),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    fn uid() -> u32 {
        rustix::process::getuid().as_raw()
    }

    fn place(directory: PathBuf) -> Place {
        Place {
            directory,
            key: "0011223344556677".to_owned(),
            uid: uid(),
        }
    }

    /// Other programs find the socket by it.
    #[test]
    fn the_key_is_the_documented_one() {
        assert_eq!(key(Path::new("foo"), Path::new("bar")).len(), 16);
        assert_ne!(
            key(Path::new("/s"), Path::new("/p")),
            key(Path::new("/s/"), Path::new("p"))
        );
        assert_ne!(build(), 0);
    }

    #[test]
    fn the_directory_is_the_sessions_then_the_logins_then_one_of_our_own() {
        let owners = |owned: &'static [(&'static str, u32)]| {
            move |path: &Path| {
                let found = owned.iter().find(|(name, _)| Path::new(name) == path);
                found.map(|(_, uid)| *uid)
            }
        };
        let of = |variable: Option<&str>, uid, owned| {
            runtime_directory(variable.map(Path::new), uid, &owners(owned))
        };
        assert_eq!(of(Some("/x"), 7, &[("/x", 7)]), Path::new("/x/envd"));
        assert_eq!(
            of(Some("/x"), 7, &[("/x", 8), ("/run/user/7", 7)]),
            Path::new("/run/user/7/envd"),
            "what is somebody else's is left alone"
        );
        assert_eq!(of(Some("/x"), 7, &[]), Path::new("/tmp/envd-7"));
        assert_eq!(of(None, 0, &[]), Path::new("/run/envd"));
    }

    #[test]
    fn it_is_made_for_its_owner_alone_whatever_the_umask() {
        let directory = tempfile::tempdir().unwrap();
        let place = place(directory.path().join("envd"));
        assert!(!place.check().unwrap());
        place.make().unwrap();
        place.make().unwrap();
        assert!(place.check().unwrap());
    }

    /// A daemon in a directory that others can write to would answer whoever put a socket there.
    #[test]
    fn a_directory_that_others_have_a_hand_in_is_refused_by_name() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("envd");
        symlink("/tmp", &path).unwrap();
        let error = place(path.clone()).make().unwrap_err();
        assert!(matches!(error, PlaceError::NoDirectory { .. }), "{error}");
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o770)).unwrap();
        let error = place(path.clone()).make().unwrap_err();
        assert!(error.to_string().contains(path.to_str().unwrap()));
        assert!(matches!(error, PlaceError::Open { mode: 0o770, .. }));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).unwrap();
        let mut foreign = place(path);
        foreign.uid += 1;
        assert!(matches!(foreign.check(), Err(PlaceError::Foreign { .. })));
    }

    #[test]
    fn a_path_that_the_kernel_has_no_room_for_is_said_with_the_way_out() {
        let directory = tempfile::tempdir().unwrap();
        let error = place(directory.path().join("x".repeat(100)))
            .make()
            .unwrap_err();
        assert!(matches!(error, PlaceError::Long { .. }), "{error}");
        assert!(error.help().contains("XDG_RUNTIME_DIR"));
    }
}
