//! Changes into the project.

use std::{
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt, symlink},
};

use envd_agents::changes::{ApplyError, Chosen, Guard, NoBaseContent, OfRefused, Refusal};

use crate::session::{Session, path, refused, set_mode, tree};

fn text(session: &Session, name: &str) -> String {
    fs::read_to_string(session.project(name)).unwrap()
}

/// Nothing of ours stays at the top of the project.
fn assert_no_stage(session: &Session) {
    for entry in fs::read_dir(session.at("project")).unwrap() {
        let name = entry.unwrap().file_name();
        assert!(!name.to_string_lossy().starts_with(".envd"), "{name:?}");
    }
}

#[test]
fn all_kinds_of_changes_come_back() {
    let session = Session::new();
    session
        .write("changed", "one\n")
        .write("gone", "x\n")
        .write("mode", "x\n")
        .write("file-to-link", "x\n")
        .write("file-to-directory", "x\n")
        .write("directory-to-file/a/b", "x\n")
        .write("directory-to-link/a", "x\n")
        .write("old/a/b", "x\n");
    session.inside(
        "echo two >> changed; rm gone; chmod 755 mode; ln -sf changed file-to-link
         rm file-to-directory; mkdir -p file-to-directory/deep; echo y > file-to-directory/deep/f
         rm -r directory-to-file; echo y > directory-to-file
         rm -r directory-to-link; ln -s old2 directory-to-link
         rm -r old; mkdir -m 750 new; echo y > new/f; chmod 600 new/f; ln -s ../changed new/l",
    );
    let applied = session.apply(&Guard::default()).unwrap();
    assert!(applied.refused.is_empty() && applied.leftover.is_none());
    assert_eq!(text(&session, "changed"), "one\ntwo\n");
    assert!(!session.project("gone").exists() && !session.project("old").exists());
    let mode = |name: &str| session.project(name).symlink_metadata().unwrap().mode() & 0o7777;
    assert_eq!(
        (mode("mode"), mode("new"), mode("new/f")),
        (0o755, 0o750, 0o600)
    );
    let link = |name: &str| fs::read_link(session.project(name)).unwrap();
    assert_eq!(link("file-to-link").to_str(), Some("changed"));
    assert_eq!(link("directory-to-link").to_str(), Some("old2"));
    assert_eq!(link("new/l").to_str(), Some("../changed"));
    assert_eq!(text(&session, "file-to-directory/deep/f"), "y\n");
    assert_eq!(text(&session, "directory-to-file"), "y\n");
    assert_eq!(session.summary(), Vec::<String>::new());
    assert_no_stage(&session);
}

#[test]
fn only_what_was_chosen_comes_back_with_the_directories_it_needs() {
    let session = Session::new();
    session
        .write("a", "1")
        .write("b", "1")
        .write("d/x", "1")
        .write("d/y", "1");
    session.inside("echo 2 > a; echo 2 > b; rm d/x; mkdir -p n/m; echo 2 > n/m/f; echo 2 > n/g");
    let chosen = Chosen::Paths(vec![path("b"), path("n/m/f"), path("d")]);
    let applied = session.apply_chosen(&chosen, &Guard::default()).unwrap();
    let paths: Vec<_> = applied.paths.iter().map(|(path, _)| path.clone()).collect();
    assert_eq!(
        paths,
        [
            path("b"),
            path("d/x"),
            path("n"),
            path("n/m"),
            path("n/m/f")
        ]
    );
    assert_eq!(session.summary(), ["~ a", "+ n/g"]);
}

#[test]
fn what_is_not_there_to_be_chosen_is_an_error() {
    let session = Session::new();
    session.write("a", "1").write("f", "1");
    session.inside("echo 2 > a; rm f; mkdir f; echo 1 > f/x");
    let chosen = Chosen::Paths(vec![path("a"), path("nothing")]);
    let refused = refused(session.apply_chosen(&chosen, &Guard::default()));
    assert_eq!(
        refused,
        [Refusal::NotChanged {
            path: path("nothing")
        }]
    );
    assert_eq!(text(&session, "a"), "1");
    // A file's place is taken only when that was asked for.
    let chosen = Chosen::Paths(vec![path("f/x")]);
    let refused = crate::session::refused(session.apply_chosen(&chosen, &Guard::default()));
    let other = path("f");
    assert_eq!(
        refused,
        [Refusal::Needs {
            path: path("f/x"),
            other
        }]
    );
}

#[test]
fn when_one_change_fails_all_go_back() {
    if rustix::process::geteuid().is_root() {
        // No mode stops root. This is run again as somebody else, and the rest is tested beside the code.
        return;
    }
    let session = Session::new();
    session
        .write("a", "1")
        .write("b/c", "1")
        .write("gone/x", "1")
        .write("last/z", "1");
    session.inside(
        "echo 2 > a; echo 2 > b/c; rm -r gone; mkdir n; echo 2 > n/f; ln -s a l; echo 2 > last/z",
    );
    let before = tree(&session.at("project"));
    // The last of the renames cannot be done, which nothing before could know.
    set_mode(&session.project("last"), 0o555);
    let result = session.apply_chosen(&Chosen::All, &Guard::default());
    set_mode(&session.project("last"), 0o755);
    let Err(ApplyError::Undone { path: at, .. }) = result else {
        panic!("{result:?}");
    };
    assert_eq!(at, path("last/z"));
    assert_eq!(tree(&session.at("project")), before);
    assert_no_stage(&session);
}

#[test]
fn applying_twice_and_going_on_in_between_works() {
    let session = Session::new();
    session.write("a", "1\n").write("d/b", "1\n");
    let mut base = session.begin();
    session.inside("echo 2 > a; echo 2 > d/n");
    for expected in ["2\n", "3\n", "4\n"] {
        let applied = session
            .layers()
            .apply(
                &session.changes(),
                &Chosen::All,
                &Guard::default(),
                &base,
                &NoBaseContent,
            )
            .unwrap();
        base.record(&applied);
        assert_eq!(text(&session, "a"), expected);
        assert_eq!(text(&session, "d/n"), expected);
        let json = serde_json::to_string(&base).unwrap();
        assert_eq!(
            serde_json::from_str::<envd_agents::changes::Base>(&json).unwrap(),
            base
        );
        session
            .inside("n=$(($(cat a) + 1)); echo $n > a; echo $n > d/n; mv d/b d/c 2>/dev/null || :");
    }
}

/// A file of the project that has another name outside must not change there: an attacker would reach, through a hard link that
/// they did not even make, into a shared cache of packages.
#[test]
fn hard_links_out_of_the_project_are_not_written_through() {
    let session = Session::new();
    session.write("content", "1").write("mode", "1");
    for name in ["content", "mode"] {
        fs::hard_link(
            session.project(name),
            session.at(&format!("outside-{name}")),
        )
        .unwrap();
    }
    session.inside("echo 2 > content; chmod 777 mode");
    session.apply(&Guard::default()).unwrap();
    assert_eq!(
        fs::read_to_string(session.at("outside-content")).unwrap(),
        "1"
    );
    let outside = fs::metadata(session.at("outside-mode")).unwrap();
    assert_eq!(outside.permissions().mode() & 0o777, 0o644);
    assert_eq!(session.summary(), Vec::<String>::new());
}

/// An attacker would have a file written wherever a link of theirs, or one put there meanwhile, points.
#[test]
fn nothing_is_written_through_a_link() {
    let session = Session::new();
    session.write("d/f", "1");
    fs::create_dir(session.at("outside")).unwrap();
    session.inside("echo 2 > d/f; echo 2 > d/n; mkdir e; echo 2 > e/f");
    let (changes, base) = (session.changes(), session.begin());
    fs::remove_dir_all(session.project("d")).unwrap();
    symlink(session.at("outside"), session.project("d")).unwrap();
    symlink(session.at("outside"), session.project("e")).unwrap();
    let result = session.layers().apply(
        &changes,
        &Chosen::All,
        &Guard::default(),
        &base,
        &NoBaseContent,
    );
    let refused: Vec<_> = refused(result)
        .iter()
        .map(|refusal| refusal.path().clone())
        .collect();
    assert!(
        refused.contains(&path("d/f")) && refused.contains(&path("e")),
        "{refused:?}"
    );
    assert_eq!(fs::read_dir(session.at("outside")).unwrap().count(), 0);
}

/// An attacker would gain a link that tools of the owner follow: to a secret that gets published, to a file that gets
/// overwritten.
#[test]
fn links_that_lead_out_are_refused() {
    let session = Session::new();
    session.inside(
        "ln -s /etc/passwd absolute; ln -s ../x out; mkdir d; ln -s ../../x d/out
         ln -s d/../../x through; ln -s up/../../x d/round; ln -s .. d/up; ln -s ../absolute d/in; ln -s ./d//f in",
    );
    let refusals = session.refusals(&Guard::default());
    let names = |refusals: &[String]| -> Vec<String> {
        let first = |line: &String| line.split(' ').next().unwrap().to_owned();
        refusals.iter().map(first).collect()
    };
    assert_eq!(
        names(&refusals),
        ["absolute", "d/out", "d/round", "out", "through"]
    );
    let guard = Guard {
        refused: OfRefused::LeaveOut,
        ..Guard::default()
    };
    let applied = session.apply(&guard).unwrap();
    assert_eq!(applied.refused.len(), 5);
    assert!(session.project("d/up").is_symlink() && session.project("in").is_symlink());
    let guard = Guard {
        outside_links: true,
        ..Guard::default()
    };
    session.apply(&guard).unwrap();
    assert_eq!(session.summary(), Vec::<String>::new());
}

/// An attacker would gain root (set-user-ID, were the owner root), a program of the owner that hangs (FIFO), a device.
#[test]
fn what_is_no_plain_file_is_refused() {
    let session = Session::new();
    session.inside("mkfifo fifo; echo x > suid; chmod 4755 suid; echo x > sgid; chmod 2755 sgid; mkdir -m 1777 t");
    let refusals = session.refusals(&Guard::default());
    assert_eq!(refusals.len(), 3, "{refusals:?}");
    assert!(refusals[0].starts_with("fifo is a FIFO"), "{refusals:?}");
    assert!(
        refusals[1].starts_with("sgid is set-user-ID or"),
        "{refusals:?}"
    );
    // Put beside a set-user-ID bit that the project has already, a new content would run with it.
    let session = Session::new();
    session.write("tool", "1");
    set_mode(&session.project("tool"), 0o4755);
    session.inside("echo 2 > tool");
    let new = session.changes().entries[0].new.clone().unwrap();
    if new.mode & 0o4000 == 0 {
        session.apply(&Guard::default()).unwrap();
        let mode = fs::metadata(session.project("tool")).unwrap().mode();
        assert_eq!(mode & 0o7777, 0o755);
    }
}

/// An attacker would have something applied that the owner has not seen.
#[test]
fn what_changed_since_it_was_looked_at_is_not_applied() {
    let session = Session::new();
    session.write("a", "1\n").write("b", "1\n");
    session.inside("echo 2 > a; echo 2 > b; echo 2 > c");
    let (changes, base) = (session.changes(), session.begin());
    let before = tree(&session.at("project"));
    let apply = || {
        session.layers().apply(
            &changes,
            &Chosen::All,
            &Guard::default(),
            &base,
            &NoBaseContent,
        )
    };
    // Same size, same times: only the content tells.
    let times = fs::metadata(session.upper("b"))
        .unwrap()
        .modified()
        .unwrap();
    fs::write(session.upper("b"), "3\n").unwrap();
    fs::File::options()
        .write(true)
        .open(session.upper("b"))
        .unwrap()
        .set_modified(times)
        .unwrap();
    let error = apply().unwrap_err();
    assert!(
        matches!(&error, ApplyError::Stage { path: at, .. } if *at == path("b")),
        "{error:?}"
    );
    assert_eq!(tree(&session.at("project")), before);
    // A FIFO or a link in its place is neither waited for nor followed.
    fs::remove_file(session.upper("b")).unwrap();
    symlink("/etc/passwd", session.upper("b")).unwrap();
    assert!(matches!(apply(), Err(ApplyError::Stage { .. })));
    fs::remove_file(session.upper("b")).unwrap();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        session.upper("b"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RWXU,
        0,
    )
    .unwrap();
    assert!(matches!(apply(), Err(ApplyError::Stage { .. })));
    assert_eq!(tree(&session.at("project")), before);
    assert_no_stage(&session);
}

/// What root applies belongs to whom the project belongs to.
#[test]
fn new_files_belong_to_the_project_s_owner() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let session = Session::new();
    session.write("a", "1");
    session.inside("echo 2 > a; mkdir d; echo 2 > d/n; ln -s a l");
    for name in ["", "a"] {
        std::os::unix::fs::chown(session.project(name), Some(1234), Some(1235)).unwrap();
    }
    session.apply(&Guard::default()).unwrap();
    for name in ["a", "d", "d/n", "l"] {
        let stat = session.project(name).symlink_metadata().unwrap();
        assert_eq!((stat.uid(), stat.gid()), (1234, 1235), "{name}");
    }
}
