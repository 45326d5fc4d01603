//! Where one is: the project, the store, the daemon's socket.

use core::ffi::CStr;

use envd_init::sys::{self, Descriptor, Strings, constant::*};

use crate::{facts, key, text::Path};

/// The project's file.
const MANIFEST: &[u8] = b"/envd.toml";

/// A project, and where what belongs to it is.
pub(crate) struct Place {
    /// Absolute, without links.
    pub(crate) project: Path,
    /// The current directory if it lies in the project, else the project.
    pub(crate) directory: Path,
}

impl Place {
    /// The project that is named, or the one at or above the current directory. `None` where there is none, or where it is
    /// not certain to be the user's own.
    pub(crate) fn find(named: Option<&CStr>) -> Option<Self> {
        let mut buffer = [0; crate::text::LONGEST_PATH];
        let current = sys::current_directory(&mut buffer).ok()?.to_bytes();
        let project = match named {
            Some(named) => {
                let directory = sys::open_at(AT_FDCWD, named, sys::DIRECTORY, 0).ok()?;
                let path = path_of(directory);
                sys::close(directory);
                let path = path?;
                is_project(path.as_bytes()).then_some(path)?
            }
            None => above(current)?,
        };
        let inside = current.strip_prefix(project.as_bytes());
        let directory = match inside {
            Some(rest) if rest.is_empty() || rest.starts_with(b"/") => Path::of(&[current])?,
            _ => Path::of(&[project.as_bytes()])?,
        };
        Some(Place { project, directory })
    }
}

/// The nearest directory with a project's file, from `start` upwards.
pub(crate) fn above(start: &[u8]) -> Option<Path> {
    let mut directory = start;
    loop {
        if is_project(directory) {
            return Path::of(&[directory]);
        }
        let slash = directory.iter().rposition(|byte| *byte == b'/')?;
        if slash == 0 {
            // A project in `/` is nobody's.
            return None;
        }
        directory = &directory[..slash];
    }
}

/// Whether there is a project's file of the user's own, in a directory that not everybody may write to.
fn is_project(directory: &[u8]) -> bool {
    let looked = || {
        let file = Path::of(&[directory, MANIFEST])?;
        let file = sys::status_at(AT_FDCWD, file.as_c_str(), true).ok()?;
        let parent = sys::status_at(AT_FDCWD, Path::of(&[directory])?.as_c_str(), true).ok()?;
        let (uid, ..) = sys::ids();
        let trusted = file.uid == uid || file.uid == 0 || parent.mode & 0o002 == 0;
        Some(file.mode & S_IFMT == S_IFREG && trusted)
    };
    looked().unwrap_or(false)
}

/// The path of an opened directory.
fn path_of(directory: Descriptor) -> Option<Path> {
    let mut digits = [0; 12];
    let number = sys::decimal(directory.unsigned_abs(), &mut digits);
    read_link(&[b"/proc/self/fd/", number])
}

/// Where a link of procfs leads to.
pub(crate) fn read_link(link: &[&[u8]]) -> Option<Path> {
    let link = Path::of(link)?;
    let mut buffer = [0; crate::text::LONGEST_PATH];
    let length = sys::read_link(link.as_c_str(), &mut buffer).ok()?;
    let target = buffer.get(..length)?;
    target
        .starts_with(b"/")
        .then(|| Path::of(&[target]))
        .flatten()
}

/// A variable that is set and not empty.
pub(crate) fn variable(variables: Strings<'static>, name: &str) -> Option<&'static [u8]> {
    let mut variables = variables;
    let value = variables.find_map(|entry| facts::value(entry, name))?;
    (!value.is_empty()).then_some(value)
}

/// The store, as far as variables and the user's id tell. A configuration file may name another one; then nothing is found in
/// this.
pub(crate) fn store(variables: &Strings<'static>) -> Option<Path> {
    let of = |name| variable(variables.clone(), name);
    let store = if let Some(store) = of("ENVD_STORE") {
        Path::of(&[store])
    } else if sys::ids().0 == 0 {
        Path::of(&[b"/var/lib/envd"])
    } else if let Some(data) = of("XDG_DATA_HOME") {
        Path::of(&[data, b"/envd"])
    } else {
        Path::of(&[of("HOME")?, b"/.local/share/envd"])
    };
    store.filter(|store| store.as_bytes().starts_with(b"/"))
}

/// The sockets at which the project's daemon may be, the likeliest first.
pub(crate) fn sockets(
    variables: &Strings<'static>,
    store: &Path,
    project: &Path,
) -> [Option<Path>; 2] {
    let name = key::daemon(store.as_bytes(), project.as_bytes());
    let (uid, ..) = sys::ids();
    let mut digits = [0; 12];
    let uid_text = sys::decimal(uid, &mut digits);
    match variable(variables.clone(), "XDG_RUNTIME_DIR") {
        Some(runtime) => [Path::of(&[runtime, b"/envd/", &name, b".sock"]), None],
        None => [
            Path::of(&[b"/run/user/", uid_text, b"/envd/", &name, b".sock"]),
            match uid {
                0 => Path::of(&[b"/run/envd/", &name, b".sock"]),
                _ => Path::of(&[b"/tmp/envd-", uid_text, b"/", &name, b".sock"]),
            },
        ],
    }
}
