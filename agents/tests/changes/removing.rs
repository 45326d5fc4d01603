//! Taking away what a session left, which somebody made to stay.

use std::{
    ffi::CString,
    fs,
    os::{
        fd::AsFd,
        unix::fs::{PermissionsExt, symlink},
    },
    path::Path,
};

use envd_agents::changes::{Names, freeze, remove_tree};

use crate::session::{Session, set_mode};

fn remove(directory: &Path, name: &str) {
    let opened = fs::File::open(directory).unwrap();
    remove_tree(opened.as_fd(), &CString::new(name).unwrap()).unwrap();
    assert!(directory.join(name).symlink_metadata().is_err());
}

/// An attacker would fill the store with what nobody can take away.
#[test]
fn closed_and_deep_directories_go() {
    let session = Session::new();
    session.inside(
        "mkdir -p a/b/c; echo x > a/b/c/f; chmod 000 a/b/c; chmod 000 a/b; chmod 000 a
         mkdir deep; cd deep; i=0; n=$(printf '%0200d' 0)
         while [ $i -lt 200 ]; do mkdir $n; echo x > f; mkdir deep-$i; echo x > deep-$i/f; cd -P $n; i=$((i+1)); done
         cd /; mkfifo fifo; mkdir closed; ln closed/x y 2>/dev/null || :",
    );
    remove(&session.at("."), "upper");
    remove(&session.at("."), "work");
    fs::create_dir(session.at("upper")).unwrap();
    remove(&session.at("."), "nothing");
}

/// An attacker would have a directory of the host emptied, or opened to everybody.
#[test]
fn links_are_removed_and_not_followed() {
    let session = Session::new();
    let outside = session.at("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("f"), "x").unwrap();
    set_mode(&outside, 0o555);
    symlink(&outside, session.upper("link")).unwrap();
    symlink(&outside, session.at("itself")).unwrap();
    remove(&session.at("."), "upper");
    remove(&session.at("."), "itself");
    assert!(outside.join("f").exists());
    let mode = fs::metadata(&outside).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o555);
    set_mode(&outside, 0o755);
}

#[test]
fn a_frozen_upper_directory_is_one_more_layer_and_the_new_one_is_empty() {
    let mut session = Session::new();
    session.write("a", "1\n");
    set_mode(&session.at("upper"), 0o750);
    session.inside("echo 2 > a; echo n > n");
    session.freeze();
    assert_eq!(fs::read_dir(session.at("upper")).unwrap().count(), 0);
    let mode = fs::metadata(session.at("upper"))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o750);
    assert_eq!(session.inside("cat a n"), "2\nn\n");
    assert_eq!(session.summary(), ["~ a", "+ n"]);
    // A name that is taken is no harm done.
    let directory = fs::File::open(session.at(".")).unwrap();
    let names = Names {
        upper: c"upper",
        work: c"work",
    };
    let error = freeze(directory.as_fd(), names, c"frozen-0").unwrap_err();
    assert!(error.to_string().contains("frozen-0"), "{error}");
    assert!(session.at("upper").exists());
}
