//! A project that has moved under the session.

use std::{fs, path::Path, process::Command};

use envd_agents::changes::{
    Applied, ApplyError, Base, BaseContent, BaseState, Chosen, ConflictKind, GitBase, Guard,
    NoBaseContent, Refusal,
};
use envd_store::TreePath;

use crate::session::{Session, path, refused, set_mode, tree};

/// Knows what one file was.
struct Was(&'static str, &'static str);

impl BaseContent for Was {
    fn content(&self, path: &TreePath, _: u64) -> BaseState {
        if path.as_bytes() == self.0.as_bytes() {
            BaseState::File(self.1.as_bytes().to_owned())
        } else {
            BaseState::Absent
        }
    }
}

fn apply(
    session: &Session,
    base: &Base,
    contents: &dyn BaseContent,
) -> Result<Applied, ApplyError> {
    session.layers().apply(
        &session.changes(),
        &Chosen::All,
        &Guard::default(),
        base,
        contents,
    )
}

/// The one conflict because of which nothing was applied.
fn conflict(
    session: &Session,
    base: &Base,
    contents: &dyn BaseContent,
) -> (TreePath, ConflictKind) {
    let before = tree(&session.at("project"));
    let refused = refused(apply(session, base, contents));
    assert_eq!(tree(&session.at("project")), before);
    match &refused[..] {
        [Refusal::Conflict(conflict)] => (conflict.path.clone(), conflict.kind.clone()),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_file_that_both_changed_is_a_conflict_that_names_both() {
    let session = Session::new();
    session.write("a", "1\n").write("b", "1\n");
    let base = session.begin();
    session.inside("echo 22 > a; echo 2 > b");
    session.write("a", "333\n");
    assert_eq!(
        conflict(&session, &base, &NoBaseContent),
        (path("a"), ConflictKind::Moved)
    );
    let refusal = refused(apply(&session, &base, &NoBaseContent))
        .remove(0)
        .to_string();
    assert!(
        refusal.contains("4 bytes") && refusal.contains("3 bytes"),
        "{refusal}"
    );
    // The owner may say that the session wins.
    let guard = Guard {
        overwrite: true,
        ..Guard::default()
    };
    session
        .layers()
        .apply(
            &session.changes(),
            &Chosen::All,
            &guard,
            &base,
            &NoBaseContent,
        )
        .unwrap();
    assert_eq!(fs::read_to_string(session.project("a")).unwrap(), "22\n");
}

#[test]
fn texts_changed_in_different_places_are_merged() {
    let session = Session::new();
    let text = "1\n2\n3\n4\n5\n";
    session.write("a", text);
    let base = session.begin();
    session.inside("sed -i s/5/five/ a");
    session.write("a", "one\n2\n3\n4\n5\n");
    let applied = apply(&session, &base, &Was("a", text)).unwrap();
    assert_eq!(applied.merged, [path("a")]);
    let merged = fs::read_to_string(session.project("a")).unwrap();
    assert_eq!(merged, "one\n2\n3\n4\nfive\n");
}

#[test]
fn texts_changed_in_the_same_place_are_a_conflict() {
    let session = Session::new();
    let text = "1\n2\n3\n";
    session.write("a", text);
    let base = session.begin();
    session.inside("sed -i s/2/two/ a");
    session.write("a", "1\nzwei\n3\n");
    assert_eq!(
        conflict(&session, &base, &Was("a", text)),
        (path("a"), ConflictKind::Lines)
    );
}

#[test]
fn a_file_that_was_only_touched_is_no_conflict() {
    let session = Session::new();
    session.write("a", "1\n").write("gone", "1\n");
    let base = session.begin();
    session.inside("echo 2 > a");
    session.write("a", "1\n");
    apply(&session, &base, &Was("a", "1\n")).unwrap();
    assert_eq!(fs::read_to_string(session.project("a")).unwrap(), "2\n");
}

#[test]
fn what_the_owner_made_meanwhile_is_neither_overwritten_nor_removed() {
    // A new file of the same name.
    let session = Session::new();
    let base = session.begin();
    session.inside("echo session > new");
    session.write("new", "owner\n");
    assert_eq!(
        conflict(&session, &base, &NoBaseContent),
        (path("new"), ConflictKind::Moved)
    );

    // A new file in a directory that the session removed.
    let session = Session::new();
    session.write("d/a", "1");
    let base = session.begin();
    session.inside("rm -r d");
    session.write("d/new", "owner\n");
    let refused = refused(apply(&session, &base, &NoBaseContent));
    assert!(
        refused
            .iter()
            .any(|refusal| *refusal.path() == path("d/new")),
        "{refused:?}"
    );
    assert!(session.project("d/new").exists() && session.project("d/a").exists());

    // The same between looking and applying.
    let session = Session::new();
    session.write("d/a", "1");
    let base = session.begin();
    session.inside("rm -r d; echo x > x");
    let changes = session.changes();
    session.write("d/new", "owner\n");
    let result = session.layers().apply(
        &changes,
        &Chosen::All,
        &Guard::default(),
        &base,
        &NoBaseContent,
    );
    let refused = crate::session::refused(result);
    let holds = ConflictKind::Holds("new".to_owned());
    assert!(
        matches!(&refused[..], [Refusal::Conflict(conflict)] if conflict.kind == holds),
        "{refused:?}"
    );
    assert!(session.project("d/a").exists() && !session.project("x").exists());
}

/// Who says that the session wins has seen over what; over anything newer it does not.
#[test]
fn what_changed_since_it_was_looked_at_is_never_overwritten() {
    let session = Session::new();
    session.write("a", "1").write("b", "1").write("d/x", "1");
    let base = session.begin();
    session.inside("echo 2 > a; rm b; echo 2 > c; chmod 700 d");
    let changes = session.changes();
    session
        .write("a", "owner")
        .write("b", "owner")
        .write("c", "owner");
    set_mode(&session.project("d"), 0o750);
    let before = tree(&session.at("project"));
    let guard = Guard {
        overwrite: true,
        ..Guard::default()
    };
    let result = session
        .layers()
        .apply(&changes, &Chosen::All, &guard, &base, &NoBaseContent);
    let kinds: Vec<_> = refused(result)
        .into_iter()
        .map(|refusal| match refusal {
            Refusal::Conflict(conflict) => conflict.kind,
            other => panic!("{other}"),
        })
        .collect();
    assert_eq!(kinds, vec![ConflictKind::MovedAgain; 4]);
    assert_eq!(tree(&session.at("project")), before);
}

#[test]
fn what_the_owner_removed_meanwhile_does_not_come_back() {
    let session = Session::new();
    session.write("d/a", "1\n").write("d/b", "1\n");
    let base = session.begin();
    session.inside("echo 2 > d/a");
    fs::remove_file(session.project("d/a")).unwrap();
    let removed = (path("d/a"), ConflictKind::Removed);
    assert_eq!(conflict(&session, &base, &NoBaseContent), removed);
    assert_eq!(conflict(&session, &base, &Was("d/a", "1\n")), removed);

    // With its directory.
    let session = Session::new();
    session.write("d/a", "1\n");
    let base = session.begin();
    session.inside("echo 2 > d/a");
    fs::remove_dir_all(session.project("d")).unwrap();
    let refused = refused(apply(&session, &base, &NoBaseContent));
    assert!(
        refused.iter().any(|refusal| *refusal.path() == path("d")),
        "{refused:?}"
    );
    assert!(!session.project("d").exists());

    // A file that the session has under a new name was not there.
    let session = Session::new();
    session.write("d/a", "1\n");
    let base = session.begin();
    session.inside("mv d/a d/b");
    apply(&session, &base, &NoBaseContent).unwrap();
    assert!(session.project("d/b").exists());
}

/// Nor do changes of a snapshot's file count as changes of one that the project had.
#[test]
fn a_snapshot_s_file_was_not_in_the_project() {
    let mut session = Session::new();
    session.write("d/a", "1\n");
    let base = session.begin();
    session.inside("echo 1 > d/n; mkdir -p e; echo 1 > e/f");
    session.freeze();
    session.inside("echo 2 >> d/n; echo 2 >> e/f");
    session.write("d/other", "owner\n");
    apply(&session, &base, &NoBaseContent).unwrap();
    assert_eq!(
        fs::read_to_string(session.project("d/n")).unwrap(),
        "1\n2\n"
    );
    assert_eq!(
        fs::read_to_string(session.project("e/f")).unwrap(),
        "1\n2\n"
    );
}

fn git(directory: &Path, words: &[&str]) {
    let output = Command::new("git")
        .args(["-c", "user.name=t", "-c", "user.email=t@example.org"])
        .args(words)
        .current_dir(directory)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
}

/// The commit of the session's beginning is what both sides are compared with, and reading it runs nothing: an attacker who could
/// have the owner's git run a program would have left the sandbox.
#[test]
fn git_knows_what_files_were_and_runs_nothing() {
    let Ok(program) = ["/usr/bin/git", "/usr/local/bin/git"]
        .iter()
        .map(Path::new)
        .find(|path| path.exists())
        .ok_or(())
    else {
        return;
    };
    let session = Session::new();
    let project = session.at("project");
    git(&project, &["init", "-q"]);
    let evil = format!("touch {}", session.at("ran").display());
    session.write(".gitattributes", "a filter=evil diff=evil\n");
    session.write("sub/a", "1\n2\n3\n4\n5\n");
    git(&project, &["add", "."]);
    git(&project, &["commit", "-qm", "first"]);
    for key in [
        "core.fsmonitor",
        "filter.evil.smudge",
        "filter.evil.clean",
        "diff.evil.textconv",
        "core.pager",
    ] {
        git(&project, &["config", key, &evil]);
    }
    let contents = GitBase::of_head(program, &project).unwrap();
    let base = session.begin();
    session.inside("sed -i s/5/five/ sub/a; echo n > sub/new");
    session.write("sub/a", "one\n2\n3\n4\n5\n");
    let applied = apply(&session, &base, &contents).unwrap();
    assert_eq!(applied.merged, [path("sub/a")]);
    assert_eq!(
        fs::read_to_string(session.project("sub/a")).unwrap(),
        "one\n2\n3\n4\nfive\n"
    );
    assert_eq!(contents.content(&path("sub/none"), 100), BaseState::Absent);
    assert_eq!(contents.content(&path("sub/a"), 3), BaseState::Unknown);
    assert!(!session.at("ran").exists());
    assert_eq!(GitBase::of_head(program, &session.at("work")), None);
}
