//! Environments of which the rest is told when they are used.

use std::os::fd::OwnedFd;

use envd_shims::{LaunchError, Launcher, begin, plan::Mount};

use crate::{
    harness::Place,
    resident::{Started, command, gone, plan},
};

/// An overlay of which everything but the lowest layer is in `place`.
fn layers(place: &Place, name: &str, lowers: Vec<std::path::PathBuf>, target: &str) -> Mount {
    Mount::Overlay {
        lowers,
        upper: place.directory(&format!("later/{name}-upper")),
        work: place.directory(&format!("later/{name}-work")),
        target: target.into(),
    }
}

/// An environment that is made ahead sees what is there when it is used, and the layers that it is given then: below what
/// it waited with, in its place, and with the files that the plan puts into that.
#[test]
fn the_rest_of_an_environment_is_told_when_it_is_used() {
    for is_awaited in [true, false] {
        let (place, mut plan) = plan();
        let project = place.directory("project");
        let (within, empty) = (place.directory("later"), place.directory("later/empty"));
        let frozen = place.directory("later/frozen");
        plan.mounts.extend([
            layers(&place, "home", vec![empty.clone()], "/home/dev"),
            Mount::File {
                target: "/home/dev/settings".into(),
                content: "of the plan".to_owned(),
                mode: 0o644,
            },
            layers(&place, "unused", vec![project.clone()], "/home/dev/project"),
        ]);
        let launcher = Launcher::start().unwrap();
        let mut halfway = launcher
            .begin(begin(&plan, &within).unwrap(), None)
            .unwrap();
        if is_awaited {
            halfway.wait().unwrap();
        }
        std::fs::write(project.join("kept"), "by now").unwrap();
        std::fs::write(frozen.join("earlier"), "from a snapshot").unwrap();
        let before = layers(&place, "before", vec![frozen, empty], "/home/dev");
        let told = layers(&place, "project", vec![project], "/home/dev/project");
        let Mount::Overlay { upper, .. } = &told else {
            unreachable!();
        };
        let rest = halfway.begun().rest(&[told.clone(), before]).unwrap();
        let resident = halfway.finish(&rest).unwrap();
        let script = "cd /home/dev && cat earlier settings project/kept && echo new > project/made";
        let started = Started::new(&resident, command(&plan, &["sh", "-c", script]));
        assert_eq!(started.status(), 0, "{}", started.text());
        assert_eq!(started.text(), "from a snapshotof the planby now");
        assert_eq!(
            std::fs::read_to_string(upper.join("made")).unwrap(),
            "new\n"
        );
        gone(resident);
    }
}

/// What lies elsewhere or would be hidden is refused before anything is done; what cannot be opened is said by its name.
#[test]
fn layers_that_are_told_later_are_mounted_over_those_of_the_plan() {
    let (place, mut plan) = plan();
    let (project, within) = (place.directory("project"), place.directory("later"));
    plan.mounts.extend([
        layers(&place, "first", vec![project.clone()], "/project"),
        layers(&place, "below", vec![project.clone()], "/project/below"),
    ]);
    let launcher = Launcher::start().unwrap();
    let begun = || begin(&plan, &within).unwrap();
    let refused = |overlays: &[Mount]| matches!(begun().rest(overlays), Err(LaunchError::Plan(_)));
    let below = layers(&place, "new-below", vec![project.clone()], "/project/below");
    let elsewhere = vec![place.directory("elsewhere"), project.clone()];
    assert!(refused(&[
        layers(&place, "a", elsewhere, "/project"),
        below.clone()
    ]));
    assert!(refused(&[layers(
        &place,
        "b",
        vec![project.clone()],
        "/other"
    )]));
    // It would hide what is below it.
    assert!(refused(&[layers(
        &place,
        "c",
        vec![project.clone()],
        "/project"
    )]));
    let missing = vec![within.join("missing"), project];
    let overlay = layers(&place, "d", missing, "/project");
    let halfway = launcher.begin(begun(), None).unwrap();
    let rest = halfway.begun().rest(&[overlay, below]).unwrap();
    let error = halfway.finish(&rest).unwrap_err();
    let said = std::error::Error::source(&error).unwrap().to_string();
    assert!(said.contains("later/missing"), "{said}");
}

/// One that is not used ends with who has it, and when it is dropped.
#[test]
fn an_environment_that_waits_for_its_rest_ends_with_its_owner() {
    let (place, plan) = plan();
    let within = place.directory("later");
    let launcher = Launcher::start().unwrap();
    let waiting = || {
        let begun = begin(&plan, &within).unwrap();
        let mut halfway = launcher.begin(begun, None).unwrap();
        halfway.wait().unwrap();
        halfway
    };
    let ended = |pidfd: OwnedFd| {
        let mut ready = [rustix::event::PollFd::new(
            &pidfd,
            rustix::event::PollFlags::IN,
        )];
        let patience = rustix::event::Timespec {
            tv_sec: 10,
            tv_nsec: 0,
        };
        assert_eq!(rustix::event::poll(&mut ready, Some(&patience)), Ok(1));
    };
    let dropped = waiting();
    let pidfd = dropped.pidfd().try_clone_to_owned().unwrap();
    drop(dropped);
    ended(pidfd);
    let orphaned = waiting();
    let pidfd = orphaned.pidfd().try_clone_to_owned().unwrap();
    drop(launcher);
    ended(pidfd);
}
