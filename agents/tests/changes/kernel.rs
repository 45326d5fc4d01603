//! The kernel's view of upper directories is ours: whatever lies in them, what is seen inside is what applying all changes gives.
//! Were it not, an owner would review one thing and a session have tested another.

use std::{fs, path::Path, process::Command};

use envd_agents::changes::Guard;
use proptest::{prelude::*, test_runner::Config};
use rustix::fs::{CWD, FileType, Mode, XattrFlags, mknodat, setxattr};

use crate::session::Session;

/// Something in an upper directory, put there by hand.
#[derive(Clone, Debug)]
enum Thing {
    File(String),
    Directory,
    /// A directory that hides what the layers below have.
    Opaque,
    /// A directory that lists no whiteouts in the form of files.
    WithWhiteoutFiles,
    Whiteout,
    /// An empty file with an attribute.
    WhiteoutFile,
    Link,
}

fn thing() -> impl Strategy<Value = Thing> {
    prop_oneof![
        3 => "[xy]{0,2}".prop_map(Thing::File),
        3 => Just(Thing::Directory),
        2 => Just(Thing::Opaque),
        1 => Just(Thing::WithWhiteoutFiles),
        3 => Just(Thing::Whiteout),
        1 => Just(Thing::WhiteoutFile),
        1 => Just(Thing::Link),
    ]
}

fn layer(most: usize) -> impl Strategy<Value = Vec<(String, Thing)>> {
    let place = proptest::collection::vec(prop_oneof!["a", "b", "c"], 1..4)
        .prop_map(|names| names.join("/"));
    proptest::collection::vec((place, thing()), 0..most)
}

/// Puts things below `top`. What does not fit to what is there already is left out.
fn make(top: &Path, things: &[(String, Thing)], marks: bool) {
    for (name, thing) in things {
        let at = top.join(name);
        let parent = at.parent().unwrap();
        if fs::create_dir_all(parent).is_err() || at.symlink_metadata().is_ok() {
            continue;
        }
        let mark = |name: &str, value: &str| {
            setxattr(&at, name, value.as_bytes(), XattrFlags::empty()).unwrap();
        };
        match thing {
            Thing::File(text) => fs::write(&at, text).unwrap(),
            Thing::Link => std::os::unix::fs::symlink("a", &at).unwrap(),
            Thing::Directory => fs::create_dir(&at).unwrap(),
            _ if !marks => {}
            Thing::Opaque => {
                fs::create_dir(&at).unwrap();
                mark("user.overlay.opaque", "y");
            }
            Thing::WithWhiteoutFiles => {
                fs::create_dir(&at).unwrap();
                mark("user.overlay.opaque", "x");
            }
            Thing::Whiteout => {
                mknodat(CWD, &at, FileType::CharacterDevice, Mode::empty(), 0).unwrap();
            }
            Thing::WhiteoutFile => {
                fs::write(&at, "").unwrap();
                mark("user.overlay.whiteout", "y");
            }
        }
    }
}

/// Everything below a, b and c, one line each. A whiteout in the form of a file may be listed, but is not there.
const LIST: &str = "find a b c -printf '%y %m %p %l\\n' 2>/dev/null | sort
find a b c -type f 2>/dev/null | sort | while read -r name; do
if [ -f \"$name\" ]; then echo \"$name: $(cat \"$name\")\"; fi; done";

proptest! {
    #![proptest_config(Config { cases: 40, failure_persistence: None, ..Config::default() })]

    #[test]
    fn what_the_kernel_shows_is_what_is_applied(
        project in layer(8),
        frozen in layer(8),
        upper in layer(8),
    ) {
        let mut session = Session::new();
        fs::create_dir(session.at("frozen")).unwrap();
        make(&session.at("project"), &project, false);
        make(&session.at("frozen"), &frozen, true);
        make(&session.at("upper"), &upper, true);
        session.frozen.push("frozen".to_owned());
        let inside = session.inside(LIST);

        let guard = Guard { durable: false, ..Guard::default() };
        let applied = session.apply(&guard);
        prop_assert!(applied.is_ok(), "{applied:?}");
        let output = Command::new("sh")
            .args(["-c", LIST])
            .current_dir(session.at("project"))
            .output()
            .unwrap();
        prop_assert_eq!(String::from_utf8(output.stdout).unwrap(), inside);
    }
}
