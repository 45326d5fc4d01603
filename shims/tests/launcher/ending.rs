//! Whatever ends an environment leaves nothing of it.

use std::{
    fs,
    process::{Child, Stdio},
    time::Duration,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::harness::{Place, callers, eventually, unique};

/// Processes that do not want to end, under a name to find them by.
fn stubborn(mark: &str) -> String {
    format!(
        "MARK={mark}; export MARK
        (trap '' TERM HUP INT QUIT; setsid sh -c 'trap \"\" TERM HUP; sleep 1000; : {mark}') &
        (setsid setsid sh -c '(sleep 1000; : {mark}) & sleep 1000; : {mark}' &) &
        sleep 1000; : {mark}"
    )
}

/// Every process that has the mark in its command line or its environment. The launcher and PID 1 have it by the plan's
/// name, the others by their own.
fn marked(mark: &str) -> Vec<(i32, String)> {
    let own = std::process::id() as i32;
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let Some(pid) = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok())
        else {
            continue;
        };
        let read = |name: &str| fs::read(entry.path().join(name)).unwrap_or_default();
        let text =
            String::from_utf8_lossy(&[read("cmdline"), read("environ")].concat()).into_owned();
        if pid != own && text.contains(mark) {
            found.push((pid, text.replace('\0', " ")));
        }
    }
    found
}

fn start(place: &Place, mark: &str) -> Child {
    let mut command = place.launcher(&place.shell(&stubborn(mark)));
    command.env("MARK", mark).arg0_mark(mark);
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// PID 1 of the environment that a launcher has started, if it has come so far.
fn init_of(launcher: &Child) -> Option<i32> {
    let children = format!("/proc/{0}/task/{0}/children", launcher.id());
    fs::read_to_string(children).ok()?.trim().parse().ok()
}

trait Arg0Mark {
    fn arg0_mark(&mut self, mark: &str) -> &mut Self;
}

impl Arg0Mark for std::process::Command {
    /// Names the process after the mark: PID 1 is a copy of the launcher and is found by it, too.
    fn arg0_mark(&mut self, mark: &str) -> &mut Self {
        std::os::unix::process::CommandExt::arg0(self, format!("launch-{mark}"))
    }
}

fn mounts() -> usize {
    fs::read_to_string("/proc/self/mountinfo")
        .unwrap()
        .lines()
        .count()
}

#[test]
fn a_killed_caller_leaves_nothing_at_whatever_moment() {
    for caller in callers() {
        let place = Place::new(caller);
        let before = mounts();
        for moment in 0..40 {
            let mark = format!("envd-mark-{}-", unique());
            let mut launcher = start(&place, &mark);
            std::thread::sleep(Duration::from_micros(400 * moment));
            launcher.kill().unwrap();
            launcher.wait().unwrap();
            eventually(&format!("all are gone: {:?}", marked(&mark)), || {
                marked(&mark).is_empty()
            });
        }
        assert_eq!(mounts(), before);
    }
}

#[test]
fn a_killed_pid_1_leaves_nothing() {
    for caller in callers() {
        let place = Place::new(caller);
        for moment in 0..15 {
            let mark = format!("envd-mark-{}-", unique());
            let mut launcher = start(&place, &mark);
            let mut init = None;
            eventually("PID 1 exists", || {
                init = init_of(&launcher);
                init.is_some()
            });
            std::thread::sleep(Duration::from_millis(2 * moment));
            kill(Pid::from_raw(init.unwrap()), Signal::SIGKILL).unwrap();
            assert!(!launcher.wait().unwrap().success());
            eventually(&format!("all are gone: {:?}", marked(&mark)), || {
                marked(&mark).is_empty()
            });
        }
    }
}

#[test]
fn stubborn_descendants_end_with_the_command() {
    for caller in callers() {
        let place = Place::new(caller);
        let mark = format!("envd-mark-{}-", unique());
        let mut launcher = start(&place, &mark);
        eventually("all have started", || marked(&mark).len() >= 4);
        // The command itself ends by the signal that is relayed to it; its descendants ignore it or never see it.
        kill(Pid::from_raw(launcher.id() as i32), Signal::SIGTERM).unwrap();
        assert_eq!(launcher.wait().unwrap().code(), Some(143));
        assert_eq!(marked(&mark), []);
    }
}

#[test]
fn a_stopped_caller_that_is_killed_leaves_nothing() {
    for caller in callers() {
        let place = Place::new(caller);
        let mark = format!("envd-mark-{}-", unique());
        let mut launcher = start(&place, &mark);
        eventually("all have started", || marked(&mark).len() >= 4);
        let pid = Pid::from_raw(launcher.id() as i32);
        kill(pid, Signal::SIGSTOP).unwrap();
        kill(pid, Signal::SIGKILL).unwrap();
        launcher.wait().unwrap();
        eventually("all are gone", || marked(&mark).is_empty());
    }
}
