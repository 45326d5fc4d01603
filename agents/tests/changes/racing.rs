//! Names that change what they are while they are looked at.

use std::{
    fs,
    os::unix::fs::symlink,
    path::PathBuf,
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use envd_agents::changes::{Chosen, Guard, NoBaseContent, OfRefused, Rendering, Scope};
use rustix::fs::{CWD, FileType, Mode, RenameFlags, mknodat, renameat_with};

use crate::session::{Session, tree};

/// How often each side looks.
const ROUNDS: usize = 150;

/// Does `body` while pairs of paths change places all the time.
fn while_swapping(pairs: &[(PathBuf, PathBuf)], body: impl FnOnce()) {
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                for (one, other) in pairs {
                    renameat_with(CWD, one, CWD, other, RenameFlags::EXCHANGE).unwrap();
                }
            }
        });
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(body));
        stop.store(true, Ordering::Relaxed);
        if let Err(panic) = result {
            std::panic::resume_unwind(panic);
        }
    });
}

/// A directory outside with what an attacker wants to read, or to have written to.
fn outside(session: &Session) -> PathBuf {
    let outside = session.at("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("f"), "SECRET\n").unwrap();
    outside
}

/// An attacker would have the daemon read a file of the host for them, or wait for ever on a FIFO.
#[test]
fn links_and_fifos_swapped_into_the_upper_directory_are_not_followed() {
    let session = Session::new();
    let outside = outside(&session);
    session
        .write("d/f", "1\n")
        .write("x", "1\n")
        .write("y", "1\n");
    session
        .plant("d/f", "2\n")
        .plant("x", "2\n")
        .plant("y", "2\n");
    let aside = |name: &str| session.at(name);
    symlink(&outside, aside("d-link")).unwrap();
    symlink(outside.join("f"), aside("x-link")).unwrap();
    mknodat(CWD, aside("y-fifo"), FileType::Fifo, Mode::RWXU, 0).unwrap();
    let guard = Guard {
        refused: OfRefused::LeaveOut,
        durable: false,
        ..Guard::default()
    };
    let pairs = [
        (session.upper("d"), aside("d-link")),
        (session.upper("x"), aside("x-link")),
        (session.upper("y"), aside("y-fifo")),
    ];
    while_swapping(&pairs, || {
        for round in 0..ROUNDS {
            let layers = session.layers();
            let changes = layers.changes(&Scope::default()).unwrap();
            let text = layers.report(&changes, &Rendering::default()).unified();
            assert!(!text.contains("SECRET"), "{text}");
            if round % 10 == 0 {
                let base = session.begin();
                let _ = layers.apply(&changes, &Chosen::All, &guard, &base, &NoBaseContent);
            }
        }
    });
    for (path, (_, content)) in tree(&session.at("project")) {
        assert_ne!(content, b"SECRET\n", "{}", path.display());
    }
}

/// An attacker with a helper outside, or the owner's own tools, would have a file written or removed outside the project.
#[test]
fn links_swapped_into_the_project_are_not_written_through() {
    let session = Session::new();
    let outside = outside(&session);
    session.write("d/f", "1\n").write("d/g", "1\n");
    session.plant("d/f", "2\n").plant("d/n", "2\n");
    mknodat(
        CWD,
        session.upper("d/g"),
        FileType::CharacterDevice,
        Mode::empty(),
        0,
    )
    .unwrap();
    symlink(&outside, session.at("d-link")).unwrap();
    let before = tree(&outside);
    let (changes, base) = (session.changes(), session.begin());
    let guard = Guard {
        durable: false,
        ..Guard::default()
    };
    let pairs = [(session.project("d"), session.at("d-link"))];
    while_swapping(&pairs, || {
        for _ in 0..ROUNDS {
            // Whether it succeeds is a matter of luck.
            let layers = session.layers();
            let _ = layers.apply(&changes, &Chosen::All, &guard, &base, &NoBaseContent);
        }
    });
    assert_eq!(tree(&outside), before);
}
