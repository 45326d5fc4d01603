//! What is started, and when.

use std::time::Duration;

use envd_supervision::{Action, Policy, Readiness, Restart, Service, Supervisor};

use super::{Play, name, ready_by, service};

#[test]
fn what_is_needed_is_up_first_and_the_rest_side_by_side() {
    let mut play = Play::new([
        ready_by(Readiness::Tcp(80), service("web", &["db", "cache"])),
        ready_by(Readiness::Notify, service("db", &[])),
        ready_by(Readiness::Descriptor(3), service("cache", &[])),
        service("other", &[]),
    ]);
    play.play(&[
        (0, "want web", "start cache, start db"),
        (1, "started db", ""),
        (2, "started cache", ""),
        (3, "says db READY=1", ""),
        (4, "ready cache", "start web"),
        (5, "started web", "probe web"),
        (6, "unready web", ""),
        (7, "tick", ""),
        (26, "tick", "probe web"),
        (27, "ready web", ""),
    ]);
    assert_eq!(play.state("web"), "ready: ready after 23 ms");
    assert_eq!(play.state("other"), "stopped: nobody has asked for it");
}

#[test]
fn a_task_is_up_when_it_has_succeeded_and_is_not_done_twice() {
    let mut play = Play::new([
        ready_by(Readiness::Exit, service("migrate", &[])),
        service("web", &["migrate"]),
    ]);
    play.play(&[
        (0, "want web", "start migrate"),
        (1, "started migrate", ""),
        (900, "exit migrate 0", "start web"),
        (901, "started web", ""),
        (902, "want web", ""),
        (903, "want migrate", ""),
    ]);
    assert_eq!(play.state("migrate"), "done: done after 900 ms");
}

#[test]
fn after_waits_only_for_what_is_on_its_way() {
    let ordered = |after: &str| Service {
        after: vec![name(after)],
        ..service("web", &[])
    };
    let mut alone = Play::new([ordered("cache"), service("cache", &[])]);
    alone.play(&[(0, "want web", "start web")]);
    let mut both = Play::new([
        ordered("cache"),
        ready_by(Readiness::Notify, service("cache", &[])),
    ]);
    both.play(&[
        (0, "want web cache", "start cache"),
        (1, "started cache", ""),
        // A crash is no reason to wait any longer: it is not needed.
        (2, "exit cache 1", "start web"),
    ]);
}

#[test]
fn only_its_own_kind_of_readiness_counts() {
    for (readiness, deaf_to) in [
        (Readiness::Notify, "ready x"),
        (Readiness::Tcp(1), "says x READY=1"),
        (Readiness::Command, "says x READY=1"),
        (Readiness::Exit, "ready x"),
        (Readiness::Exit, "says x READY=1"),
        (Readiness::Descriptor(3), "says x READY=1"),
    ] {
        let mut play = Play::new([ready_by(readiness, service("x", &[]))]);
        play.tell(0, "want x");
        play.tell(1, "started x");
        play.tell(2, deaf_to);
        assert!(play.state("x").starts_with("starting"), "{readiness:?}");
    }
}

#[test]
fn what_an_earlier_life_says_is_not_believed() {
    let mut play = Play::new([ready_by(Readiness::Notify, service("db", &[]))]);
    play.play(&[
        (0, "want db", "start db"),
        (1, "started db#1", ""),
        (2, "exit db#1 1", ""),
        (202, "tick", "start db"),
        (203, "started db#2", ""),
        (204, "says db#1 READY=1", ""),
        (205, "exit db#1 1", ""),
    ]);
    assert!(play.state("db").starts_with("starting"));
    play.tell(206, "says db#2 READY=1\nMAINPID=12\nSTATUS=fine");
    let status = play.supervisor.status_of("db").unwrap();
    assert_eq!(
        (status.pid, status.main_pid, status.text.as_deref()),
        (Some(7), Some(12), Some("fine"))
    );
}

#[test]
fn a_service_that_is_asked_for_while_it_ends_comes_back() {
    let mut play = Play::new([service("db", &[]), service("web", &["db"])]);
    play.play(&[
        (0, "want web", "start db"),
        (1, "started db", "start web"),
        (2, "started web", ""),
        (3, "stop db 9000", "SIGTERM web"),
        // The database has not been told yet, so it simply stays.
        (4, "want web", "finished"),
        (5, "exit web#1 0", "start web"),
    ]);
    assert_eq!(play.state("db"), "ready: started");
}

#[test]
fn sets_that_cannot_work_are_refused_with_the_chain() {
    let restart = Restart {
        policy: Policy::Always,
        ..Restart::default()
    };
    let twice = vec![service("a", &[]), service("a", &[])];
    let cycle = vec![
        service("a", &["b"]),
        Service {
            after: vec![name("c")],
            ..service("b", &[])
        },
        service("c", &["a"]),
    ];
    let endless = Service {
        restart,
        ..ready_by(Readiness::Exit, service("a", &[]))
    };
    for (services, message) in [
        (twice, "there are two services `a`; rename one"),
        (cycle, "each needs the next: a → b → c → a"),
        (vec![service("a", &["a"])], "`a` needs itself"),
        (
            vec![service("a", &["b"])],
            "`a` needs `b`, which is not there",
        ),
        (
            vec![endless],
            "the service `a` cannot be: it is ready when it ends, and is to be started again whenever it ends; use another restart policy",
        ),
        (
            vec![ready_by(Readiness::Descriptor(2), service("a", &[]))],
            "the service `a` cannot be: its readiness descriptor is one of its standard ones; use 3 or above",
        ),
    ] {
        let error = Supervisor::new(services).err().expect("refused");
        assert_eq!(error.to_string(), message);
    }
}

#[test]
fn who_is_slow_to_be_ready_is_asked_less_and_less_often() {
    let mut play = Play::new([ready_by(Readiness::Tcp(80), service("web", &[]))]);
    play.tell(0, "want web");
    play.tell(0, "started web");
    let mut now = 0;
    let mut pauses = Vec::new();
    for _ in 0..8 {
        let actions = play.tell(now, "unready web");
        let next = actions.iter().find_map(|action| match action {
            Action::ArmTimer(at) => Some(at.as_millis() as u64),
            _ => None,
        });
        let next = next.expect("a timer");
        pauses.push(next - now);
        now = next;
        play.play(&[(now, "tick", "probe web")]);
    }
    assert_eq!(pauses, [20, 40, 80, 160, 320, 500, 500, 500]);
}

#[test]
fn the_timer_is_set_to_what_comes_next() {
    let mut play = Play::new([ready_by(Readiness::Notify, service("db", &[]))]);
    let timer = |actions: Vec<Action>| {
        actions.into_iter().rev().find_map(|action| match action {
            Action::ArmTimer(at) => Some(at),
            _ => None,
        })
    };
    let minute = Some(Duration::from_secs(60));
    assert_eq!(timer(play.tell(0, "want db")), minute);
    assert_eq!(timer(play.tell(1, "started db")), None, "as it is");
    // Woken too early: it is set again.
    assert_eq!(timer(play.tell(2, "tick")), minute);
    assert_eq!(
        timer(play.tell(3, "stop db 40000")),
        Some(Duration::from_millis(10_003))
    );
}
