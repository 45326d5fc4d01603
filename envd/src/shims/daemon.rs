//! Whether a project's daemon runs.

use std::{
    io,
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
};

use envd_trampoline::key;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};

use crate::settings::HostVariables;

/// Whether something listens where a shim would look for the daemon of a project that uses this store.
pub fn daemon_runs(store: &Path, project: &Path, variables: &HostVariables, uid: u32) -> bool {
    sockets(store, project, variables, uid)
        .iter()
        .any(|socket| listens(socket).unwrap_or(false))
}

/// As `shims/trampoline/src/place.rs` has them.
fn sockets(store: &Path, project: &Path, variables: &HostVariables, uid: u32) -> Vec<PathBuf> {
    let key = key::daemon(store.as_os_str().as_bytes(), project.as_os_str().as_bytes());
    let name = format!("envd/{}.sock", String::from_utf8_lossy(&key));
    match variables.set("XDG_RUNTIME_DIR") {
        Some(runtime) => vec![Path::new(runtime).join(name)],
        None => {
            let login = PathBuf::from(format!("/run/user/{uid}"));
            let own = match uid {
                0 => PathBuf::from("/run").join(&name),
                _ => PathBuf::from(format!("/tmp/envd-{uid}")).join(&name["envd/".len()..]),
            };
            vec![login.join(name), own]
        }
    }
}

fn listens(path: &Path) -> io::Result<bool> {
    let address = SocketAddrUnix::new(path)?;
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
    Ok(connect(&socket, &address).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_are_where_the_shim_looks() {
        let of = |pairs: &[(&str, &str)], uid| {
            let variables = pairs.iter().copied().collect();
            let sockets = sockets(Path::new("/s"), Path::new("/p"), &variables, uid);
            let text = |path: &PathBuf| path.display().to_string();
            sockets.iter().map(text).collect::<Vec<_>>()
        };
        let name = String::from_utf8(key::daemon(b"/s", b"/p").to_vec()).unwrap();
        assert_eq!(
            of(&[("XDG_RUNTIME_DIR", "/r")], 7),
            [format!("/r/envd/{name}.sock")]
        );
        assert_eq!(
            of(&[], 7),
            [
                format!("/run/user/7/envd/{name}.sock"),
                format!("/tmp/envd-7/{name}.sock")
            ]
        );
        assert_eq!(of(&[], 0)[1], format!("/run/envd/{name}.sock"));
    }

    #[test]
    fn nobody_listens_at_a_path_that_is_not_there() {
        assert!(!listens(Path::new("/nonexistent/socket")).unwrap_or(false));
    }
}
