//! Whatever is done inside, applying what changed gives the same project: on a real overlay, beside a plain copy in which the
//! same is done.

use std::{fs, path::Path, process::Command};

use envd_agents::changes::Guard;
use proptest::{prelude::*, test_runner::Config};

use crate::session::{Session, tree};

/// Paths that meet each other often.
fn place() -> impl Strategy<Value = String> {
    proptest::collection::vec(prop_oneof!["a", "b", "c"], 1..4).prop_map(|names| names.join("/"))
}

/// One command of a shell. One that fails inside fails outside, too.
fn edit() -> impl Strategy<Value = String> {
    let text = "[xy]{0,3}";
    prop_oneof![
        4 => (place(), text).prop_map(|(at, text)| format!("echo {text} > {at}")),
        2 => (place(), text).prop_map(|(at, text)| format!("echo {text} >> {at}")),
        3 => place().prop_map(|at| format!("mkdir -p {at}")),
        2 => place().prop_map(|at| format!("rm -rf {at}")),
        1 => place().prop_map(|at| format!("rm -f {at}")),
        2 => (place(), place()).prop_map(|(from, to)| format!("mv -T {from} {to}")),
        1 => (place(), place()).prop_map(|(from, to)| format!("cp {from} {to}")),
        2 => (place(), place()).prop_map(|(to, at)| format!("ln -sfn {to} {at}")),
        1 => (place(), place()).prop_map(|(from, to)| format!("ln {from} {to}")),
        1 => place().prop_map(|at| format!("chmod 700 {at}")),
        1 => place().prop_map(|at| format!("touch {at}")),
    ]
}

fn script(edits: &[String]) -> String {
    let lines: String = edits.iter().map(|edit| format!("{edit} || :\n")).collect();
    format!("exec 2>/dev/null\n{lines}")
}

fn run(edits: &[String], directory: &Path) {
    let status = Command::new("sh")
        .arg("-c")
        .arg(format!("umask 022\n{}", script(edits)))
        .current_dir(directory)
        .status()
        .unwrap();
    assert!(status.success());
}

proptest! {
    #![proptest_config(Config { cases: 40, failure_persistence: None, ..Config::default() })]

    #[test]
    fn applying_what_changed_gives_what_is_inside(
        before in proptest::collection::vec(edit(), 0..12),
        first in proptest::collection::vec(edit(), 0..8),
        second in proptest::collection::vec(edit(), 0..8),
    ) {
        let mut session = Session::new();
        let copy = session.at("copy");
        fs::create_dir(&copy).unwrap();
        run(&before, &session.at("project"));
        run(&before, &copy);
        session.inside(&script(&first));
        session.freeze();
        session.inside(&script(&second));
        run(&first, &copy);
        run(&second, &copy);

        let guard = Guard { outside_links: true, durable: false, ..Guard::default() };
        let changes = session.changes();
        prop_assert!(changes.skipped.is_empty(), "{changes:?}");
        let applied = session.apply(&guard);
        prop_assert!(applied.is_ok(), "{applied:?}");
        let mut project = tree(&session.at("project"));
        project.retain(|path, _| path.starts_with("a") || path.starts_with("b") || path.starts_with("c"));
        prop_assert_eq!(project, tree(&copy));
        prop_assert_eq!(session.summary(), Vec::<String>::new());
    }
}
