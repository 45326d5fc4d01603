//! Orphans: none stays a zombie, and none keeps the container from ending.

use crate::harness::{NAMES, Place, children, first, places, shell, wait_until};

/// How a name is told to adopt orphans beside its caller; catatonit always does, dumb-init never.
const ADOPTING: [(&str, &[&str]); 3] = [
    ("tini", &["-s"]),
    ("catatonit", &[]),
    ("envd-init", &["--subreaper"]),
];

/// Makes many orphans that end at once, and waits for the end of its input.
const MANY: &str = r#"
    for number in 1 2 3 4 5 6 7 8 9 10; do (
        for other in 1 2 3 4 5 6 7 8 9 10; do (exit 3) & done
    ) & done
    wait
    echo ready
    read line
    exit 4
"#;

#[test]
fn orphans_are_reaped_while_the_program_runs() {
    let beside = ADOPTING.map(|(name, options)| (Place::Beside, name, options));
    let alone = first().map(|place| NAMES.map(|name| (place, name, &[][..])));
    for (place, name, options) in beside.into_iter().chain(alone.into_iter().flatten()) {
        let mut running = shell(place, name, options, MANY);
        running.until("ready");
        wait_until("the orphans' end", || children(running.init()).len() == 1);
        running.close_input();
        assert_eq!(running.code(), 4, "{name} {place:?}");
    }
}

#[test]
fn the_programs_end_among_many_others_is_not_missed() {
    for place in places() {
        for name in NAMES {
            for _ in 0..10 {
                let script = "for n in 1 2 3 4 5 6 7 8 9 10; do (exit 3) & done; exit 9";
                let running = shell(place, name, &[], script);
                assert_eq!(running.code(), 9, "{name} {place:?}");
            }
        }
    }
}

#[test]
fn a_daemon_does_not_keep_the_container() {
    let Some(place) = first() else { return };
    for name in NAMES {
        let script = "setsid sh -c 'trap \"\" TERM HUP; while :; do sleep 0.1; done' & exit 3";
        let running = shell(place, name, &[], script);
        assert!(running.rest().is_empty(), "{name}: it has outlived PID 1");
        assert_eq!(running.code(), 3, "{name}");
    }
}

#[test]
fn orphans_are_told_of_where_asked_for() {
    for (name, options, said) in [
        ("tini", &["-s", "-w"][..], "Reaped zombie process with pid="),
        ("envd-init", &["-sw"], "was an orphan"),
    ] {
        let mut running = shell(Place::Beside, name, options, "(true &); read line");
        assert!(running.line().contains(said), "{name}");
        running.close_input();
        assert!(running.rest().is_empty(), "{name}");
    }
}

#[test]
fn tini_warns_when_orphans_go_elsewhere() {
    let said = |options: &[&str]| {
        let running = shell(Place::Beside, "tini", options, "true");
        running.rest().join("\n")
    };
    assert!(said(&[]).contains("zombie reaping won't work"));
    assert_eq!(said(&["-s"]), "");
}
