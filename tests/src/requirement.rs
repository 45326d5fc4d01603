//! What a test needs of the machine. Missing, it skips with a reason on a developer's machine and fails where
//! `ENVD_TESTS_MUST_RUN=1` is set.

use std::{net::ToSocketAddrs, path::Path, process::Command, time::Duration};

/// Whether `available`; if not, says why the test does not run, or fails where it must.
pub fn met(what: &str, available: bool) -> bool {
    if available {
        return true;
    }
    let must = std::env::var_os("ENVD_TESTS_MUST_RUN").is_some_and(|value| value == "1");
    assert!(
        !must,
        "this test must run (ENVD_TESTS_MUST_RUN=1) and needs {what}"
    );
    eprintln!("skipped: needs {what}");
    false
}

/// Whether Debian's archive answers.
pub fn debian_archive() -> bool {
    let reachable = ("deb.debian.org", 80)
        .to_socket_addrs()
        .ok()
        .and_then(|mut addresses| addresses.next())
        .is_some_and(|address| {
            std::net::TcpStream::connect_timeout(&address, Duration::from_secs(5)).is_ok()
        });
    met("deb.debian.org", reachable)
}

/// Debian's own keys, as its package `debian-archive-keyring` installs them.
pub fn debian_keyring() -> Option<Vec<u8>> {
    let found = std::fs::read("/usr/share/keyrings/debian-archive-keyring.gpg").ok();
    met("debian-archive-keyring", found.is_some());
    found
}

/// Whether this program is on the machine.
pub fn program(name: &str) -> bool {
    let directories = std::env::var("PATH").unwrap_or_default();
    let found = directories
        .split(':')
        .chain(["/usr/sbin", "/sbin"])
        .any(|directory| Path::new(directory).join(name).exists());
    met(name, found)
}

/// Whether an unprivileged user namespace with a mount namespace can be made.
pub fn user_namespaces() -> bool {
    let works = Command::new("unshare")
        .args(["--user", "--map-root-user", "--mount", "true"])
        .stderr(std::process::Stdio::null())
        .status()
        .is_ok_and(|status| status.success());
    met("user namespaces", works)
}
