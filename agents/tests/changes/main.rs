//! What a session changed and what of it comes back, with real overlays and with upper directories that no honest session
//! leaves. Each test of the second sort says what an attacker would gain.

mod applying;
mod conflicts;
mod protecting;
mod racing;
mod reading;
mod removing;
mod round_trip;
mod session;

use std::{fs, os::unix::process::CommandExt, process::Command};

/// An id that no account has.
const ORDINARY: u32 = 54_321;

/// All of this must hold for people who are not root, and the tests are run by either.
#[test]
fn all_of_this_holds_for_an_ordinary_user() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let place = tempfile::tempdir().unwrap();
    session::set_mode(place.path(), 0o755);
    // Where an ordinary user can reach them.
    let (tests, launcher) = (place.path().join("tests"), place.path().join("launch"));
    fs::copy(std::env::current_exe().unwrap(), &tests).unwrap();
    fs::copy(session::launcher(), &launcher).unwrap();
    let output = Command::new(tests)
        .args(["--skip", "ordinary_user", "--test-threads", "2"])
        .env(session::LAUNCHER, launcher)
        .current_dir("/")
        .uid(ORDINARY)
        .gid(ORDINARY)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}");
    assert!(!text.contains(" 0 passed"), "{text}");
}
