//! Upper directories to changes.

use std::{
    ffi::OsStr,
    fs,
    os::unix::{ffi::OsStrExt, fs::symlink},
};

use envd_agents::changes::{
    ChangeKind, ChangesError, Kind, Layers, Limits, Reason, Rendering, Scope,
};
use rustix::fs::{CWD, FileType, Mode, XattrFlags, mknodat, setxattr};

use crate::session::{Session, path, set_mode};

#[test]
fn what_was_done_inside_is_what_is_told() {
    let session = Session::new();
    session
        .write("kept", "same\n")
        .write("changed", "one\n")
        .write("touched", "same\n")
        .write("gone", "x\n")
        .write("mode", "x\n")
        .write("kind", "x\n")
        .write("old/a", "a\n")
        .write("old/b/c", "c\n")
        .write("remade/a", "a\n")
        .write("remade/b", "b\n")
        .write("moved/a", "a\n");
    session.inside(
        "echo two >> changed; touch touched; cp touched x; cat x > touched; rm x gone
         chmod 755 mode; rm kind; ln -s changed kind
         rm -r old; rm -r remade; mkdir remade; echo a > remade/a; echo c > remade/c
         mv moved moved2; mkdir -p new/deep; echo n > new/deep/file",
    );
    assert_eq!(
        session.summary(),
        [
            "~ changed",
            "- gone",
            "t kind",
            "m mode",
            "- moved",
            "- moved/a",
            "+ moved2",
            "+ moved2/a",
            "+ new",
            "+ new/deep",
            "+ new/deep/file",
            "- old",
            "- old/a",
            "- old/b",
            "- old/b/c",
            "- remade/b",
            "+ remade/c",
        ]
    );
    let changes = session.changes();
    let link = changes.get(&path("kind")).unwrap().new.clone().unwrap();
    assert_eq!(
        (link.kind, link.target.as_deref()),
        (Kind::Symlink, Some(&b"changed"[..]))
    );
    assert_eq!(changes.at_and_below(&path("old")).len(), 4);
}

#[test]
fn snapshots_below_add_up() {
    let mut session = Session::new();
    session
        .write("a", "1\n")
        .write("b", "1\n")
        .write("d/x", "x\n")
        .write("d/y", "y\n")
        .write("e/z", "z\n");
    session.inside("echo 2 > a; rm b; rm -r d; mkdir d; echo n > d/n; rm e/z; echo s > s");
    session.freeze();
    session.inside("echo 1 > a; echo 1 > b; rm s; echo y > d/y; echo z > e/z; echo t > t");
    // Back to what they were: a, b, d/y and e/z. A file of the snapshot that is gone again: s.
    assert_eq!(session.summary(), ["+ d/n", "- d/x", "+ t"]);
}

#[test]
fn a_diff_reads_as_one_of_git_and_json_has_the_same() {
    let session = Session::new();
    session.write("src/main.c", "int main()\n{\n\treturn 1;\n}\n");
    session.write("blob", b"\0\x01");
    session.inside(
        r"sed -i s/1/0/ src/main.c; printf '\0\2' > blob; printf 'n' > new; ln -s new link
          chmod 755 new; rm -f none; mkdir empty",
    );
    let layers = session.layers();
    let changes = session.changes();
    let report = layers.report(&changes, &Rendering::default());
    assert_eq!(
        report.unified(),
        "diff --git a/blob b/blob\n\
         Binary files a/blob and b/blob differ\n\
         diff --git a/empty b/empty\n\
         new file mode 040755\n\
         diff --git a/link b/link\n\
         new file mode 120000\n\
         --- /dev/null\n+++ b/link\n@@ -0,0 +1 @@\n+new\n\\ No newline at end of file\n\
         diff --git a/new b/new\n\
         new file mode 100755\n\
         --- /dev/null\n+++ b/new\n@@ -0,0 +1 @@\n+n\n\\ No newline at end of file\n\
         diff --git a/src/main.c b/src/main.c\n\
         --- a/src/main.c\n+++ b/src/main.c\n@@ -1,4 +1,4 @@\n int main()\n {\n-\treturn 1;\n+\treturn 0;\n }\n"
    );
    let json = serde_json::to_value(&report).unwrap();
    assert_eq!(json["files"][4]["path"], "src/main.c");
    assert_eq!(json["files"][4]["change"], "modified");
    assert_eq!(json["files"][4]["hunks"][0]["lines"][2], "-\treturn 1;");
    assert_eq!(json["files"][0]["binary"], true);
    assert_eq!(json["files"][2]["new"]["target"], "new");
    assert_eq!((report.added_lines, report.deleted_lines), (3, 1));
}

#[test]
fn only_what_was_asked_for_is_told() {
    let session = Session::new();
    session
        .write("a/b/c", "1")
        .write("a/d", "1")
        .write("e", "1");
    session.inside("echo 2 > a/b/c; echo 2 > a/d; echo 2 > e");
    let scope = Scope {
        only: vec![path("a/b"), path("e")],
        ..Scope::default()
    };
    let changes = session.layers().changes(&scope).unwrap();
    assert_eq!(crate::session::summary(&changes), ["~ a/b/c", "~ e"]);
}

#[test]
fn git_s_own_files_are_left_out_unless_asked_for() {
    let session = Session::new();
    session.write(".git/index", "1").write("a", "1");
    session.inside("echo 2 > .git/index; mkdir -p sub/.git; echo x > sub/.git/config; echo 2 > a");
    let changes = session.changes();
    assert_eq!(crate::session::summary(&changes), ["~ a", "+ sub"]);
    assert_eq!(changes.left_out, [path(".git"), path("sub/.git")]);
    let scope = Scope {
        git: true,
        ..Scope::default()
    };
    let all = session.layers().changes(&scope).unwrap();
    assert!(all.get(&path("sub/.git/config")).is_some() && all.left_out.is_empty());
}

/// An attacker would stop whoever looks for ever (FIFO), or make them read what is not the session's (links).
#[test]
fn special_files_are_named_and_never_opened() {
    let session = Session::new();
    session.write("file", "x\n").write("dir/file", "x\n");
    session.inside(
        "mkfifo fifo; rm file; mkfifo file; ln -s /etc/shadow link; rm -r dir; ln -s /etc dir",
    );
    let changes = session.changes();
    let kind = |name: &str| changes.get(&path(name)).unwrap().new.as_ref().unwrap().kind;
    assert_eq!(kind("fifo"), Kind::Fifo);
    assert_eq!(kind("file"), Kind::Fifo);
    assert_eq!(kind("link"), Kind::Symlink);
    assert_eq!(kind("dir"), Kind::Symlink);
    let deleted = changes.get(&path("dir/file")).unwrap();
    assert_eq!(deleted.kind, ChangeKind::Deleted);
    let report = session.layers().report(&changes, &Rendering::default());
    assert!(report.unified().contains("+/etc/shadow"));
}

/// An attacker would have the daemon read a host file through a path whose directory is a link in the upper layer.
#[test]
fn a_link_in_the_upper_directory_is_not_gone_through() {
    let session = Session::new();
    session.write("dir/hosts", "x\n");
    fs::create_dir(session.at("elsewhere")).unwrap();
    fs::write(session.at("elsewhere/secret"), "of the host").unwrap();
    symlink(session.at("elsewhere"), session.upper("dir")).unwrap();
    assert_eq!(session.summary(), ["t dir", "- dir/hosts"]);
}

/// An attacker would steer the terminal of whoever lists the changes, or hide a name from them.
#[test]
fn hostile_names_come_out_quoted_and_go_back_in() {
    let session = Session::new();
    let names: [&[u8]; 5] = [
        b"a\nb",
        b"\x1b[2J",
        b"\xff\xfe",
        "x\u{202e}y".as_bytes(),
        b"-rf \"q",
    ];
    for name in names {
        let at = session.at("upper").join(OsStr::from_bytes(name));
        fs::write(at, "\x1b]0;owned\x07\r").unwrap();
    }
    let changes = session.changes();
    assert_eq!(changes.entries.len(), names.len());
    let report = session.layers().report(&changes, &Rendering::default());
    let text = report.unified();
    assert!(
        text.chars().all(|c| c == '\n' || !c.is_control()),
        "{text:?}"
    );
    assert!(!text.contains('\u{202e}'));
    for file in &report.files {
        let bytes = envd_agents::changes::escape::parse_name(&file.path).unwrap();
        assert!(changes.get(&path(bytes)).is_some());
        assert!(file.escaped);
    }
}

/// An attacker would show another file's content as changed, or a directory of the lower layers elsewhere.
#[test]
fn overlay_marks_that_lead_elsewhere_are_not_obeyed() {
    let session = Session::new();
    session.write("secret", "s\n").write("d/x", "x\n");
    session.plant("file", "").plant("e/y", "y\n");
    let mark = |name: &str, mark: &str, value: &str| {
        let at = session.upper(name);
        setxattr(at, mark, value.as_bytes(), XattrFlags::empty()).unwrap();
    };
    mark("file", "user.overlay.metacopy", "");
    mark("file", "user.overlay.redirect", "/secret");
    mark("e", "user.overlay.redirect", "/d");
    let changes = session.changes();
    assert_eq!(crate::session::summary(&changes), ["+ e"]);
    let reasons: Vec<_> = changes
        .skipped
        .iter()
        .map(|skipped| (skipped.path.clone(), skipped.reason.clone()))
        .collect();
    assert_eq!(
        reasons,
        [
            (path("e"), Reason::Mark("user.overlay.redirect")),
            (path("file"), Reason::Mark("user.overlay.metacopy")),
        ]
    );
}

/// A layer copied with its attributes has whiteouts in the form of files; taking them for files would bring back as empty what
/// was deleted.
#[test]
fn whiteouts_count_in_both_forms() {
    let session = Session::new();
    session
        .write("d/a", "a\n")
        .write("d/b", "b\n")
        .write("c", "c\n");
    session.plant("d/a", "").plant("d/b", "");
    let attribute = |at: &str, name: &str, value: &str| {
        setxattr(
            session.upper(at),
            name,
            value.as_bytes(),
            XattrFlags::empty(),
        )
        .unwrap();
    };
    attribute("d", "user.overlay.opaque", "x");
    attribute("d/a", "user.overlay.whiteout", "y");
    mknodat(
        CWD,
        session.upper("c"),
        FileType::CharacterDevice,
        Mode::empty(),
        0,
    )
    .unwrap();
    // A whiteout of what is not there is nothing.
    mknodat(
        CWD,
        session.upper("z"),
        FileType::CharacterDevice,
        Mode::empty(),
        0,
    )
    .unwrap();
    assert_eq!(session.summary(), ["- c", "- d/a", "~ d/b"]);
}

/// An attacker would fill the daemon's memory or time.
#[test]
fn more_than_allowed_is_an_error_that_says_where() {
    let session = Session::new();
    for n in 0..20 {
        session.plant(&format!("many/{n}"), "");
    }
    let limited = |limits| {
        let scope = Scope {
            limits,
            ..Scope::default()
        };
        session.layers().changes(&scope)
    };
    let error = limited(Limits {
        entries: 15,
        ..Limits::default()
    });
    let Err(ChangesError::TooMany { path: Some(at), .. }) = error else {
        panic!("{error:?}");
    };
    assert_eq!(at, path("many"));

    // A terabyte without a block: it is skipped by its size and not read.
    let sparse = fs::File::create(session.upper("sparse")).unwrap();
    sparse.set_len(1 << 40).unwrap();
    let changes = session.changes();
    let skipped = &changes.skipped[0];
    assert_eq!(skipped.path, path("sparse"));
    assert!(matches!(skipped.reason, Reason::TooLarge { .. }));
    sparse.set_len(1000).unwrap();
    let error = limited(Limits {
        bytes: 999,
        ..Limits::default()
    });
    assert!(
        matches!(error, Err(ChangesError::TooMuch { .. })),
        "{error:?}"
    );
}

/// An attacker would fill a model's context, or a terminal, until what matters is out of sight. What is left out is counted.
#[test]
fn a_long_report_says_what_it_leaves_out() {
    let session = Session::new();
    for n in 0..8 {
        session.plant(&format!("f{n}"), "line\n".repeat(100));
    }
    let rendering = Rendering {
        files: 6,
        lines: 50,
        bytes: 1000,
        ..Rendering::default()
    };
    let report = session.layers().report(&session.changes(), &rendering);
    assert_eq!((report.files.len(), report.more_files), (6, 2));
    assert_eq!(report.files[0].left_out_lines, 50);
    let noted = report.files.iter().filter(|file| file.note.is_some());
    assert!(noted.count() >= 2, "{report:?}");
    let shown: usize = report
        .files
        .iter()
        .flat_map(|file| &file.hunks)
        .flat_map(|hunk| &hunk.lines)
        .map(String::len)
        .sum();
    assert!(shown <= 1000, "{shown}");
    assert!(report.unified().contains("# 2 more files are left out"));
}

/// An attacker would exhaust the stack or the descriptors, or stay unseen below where paths end.
#[test]
fn what_lies_too_deep_is_skipped_and_said() {
    let session = Session::new();
    session.inside(
        "mkdir deep; cd deep; i=0; while [ $i -lt 300 ]; do mkdir d; cd -P d; i=$((i+1)); done
         echo x > bottom; cd /; n=$(printf '%0250d' 0)
         mkdir long; cd long; i=0; while [ $i -lt 20 ]; do mkdir $n; cd -P $n; i=$((i+1)); done",
    );
    let changes = session.changes();
    let skipped: Vec<_> = changes
        .skipped
        .iter()
        .map(|skipped| &skipped.reason)
        .collect();
    assert_eq!(skipped, [&Reason::TooDeep, &Reason::TooDeep]);
    assert!(changes.entries.len() > 200);
}

/// Something unreadable must not make all the rest unreadable, nor go unmentioned.
#[test]
fn what_cannot_be_read_is_said() {
    let session = Session::new();
    session.write("kept", "x\n");
    session.inside("echo x > closed; chmod 000 closed; mkdir cell; echo x > cell/in; chmod 000 cell; echo y > kept");
    let changes = session.changes();
    if rustix::process::geteuid().is_root() {
        assert_eq!(
            crate::session::summary(&changes),
            ["+ cell", "+ cell/in", "+ closed", "~ kept"]
        );
    } else {
        assert_eq!(crate::session::summary(&changes), ["+ cell", "~ kept"]);
        let skipped: Vec<_> = changes
            .skipped
            .iter()
            .map(|skipped| &skipped.path)
            .collect();
        assert_eq!(skipped, [&path("cell"), &path("closed")]);
    }
    set_mode(&session.upper("cell"), 0o700);
}

/// What is shown is what was judged: else an attacker would show one text and have another applied.
#[test]
fn what_changed_since_it_was_looked_at_is_shown_as_that() {
    let session = Session::new();
    session.write("a", "1\n").write("b", "1\n");
    session.inside("echo 2 > a; echo 2 > b");
    let changes = session.changes();
    fs::write(session.upper("a"), "3\n").unwrap();
    fs::write(session.project("b"), "4\n").unwrap();
    let report = session.layers().report(&changes, &Rendering::default());
    assert_eq!(
        report.files[0].note,
        Some("changed in the session since it was looked at")
    );
    assert_eq!(
        report.files[1].note,
        Some("changed in the project since it was looked at")
    );
    assert!(report.files.iter().all(|file| file.hunks.is_empty()));
}

#[test]
fn a_missing_directory_is_named() {
    let session = Session::new();
    let error = Layers::open([session.at("nowhere")], session.at("project")).unwrap_err();
    assert!(error.to_string().contains("nowhere"), "{error}");
}
