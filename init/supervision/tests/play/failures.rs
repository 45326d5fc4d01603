//! What becomes of services that fail, and of those that need them.

use std::time::Duration;

use envd_supervision::{Limit, Policy, Readiness, Restart, Service, State};

use super::{Play, ready_by, service};

fn policy(policy: Policy, service: Service) -> Service {
    let restart = Restart {
        policy,
        ..service.restart
    };
    Service { restart, ..service }
}

#[test]
fn the_policy_says_what_is_started_again() {
    for (kind, exit, state) in [
        (Policy::Never, "0", State::Ended),
        (Policy::Never, "1", State::Failed),
        (Policy::Never, "SIGSEGV", State::Failed),
        (Policy::OnFailure, "0", State::Ended),
        (Policy::OnFailure, "1", State::Pausing),
        (Policy::OnFailure, "SIGKILL", State::Pausing),
        (Policy::Always, "0", State::Pausing),
        (Policy::Always, "1", State::Pausing),
    ] {
        let mut play = Play::new([policy(kind, service("x", &[]))]);
        play.tell(0, "want x");
        play.tell(1, "started x");
        play.tell(2, &format!("exit x#1 {exit}"));
        let found = play.supervisor.status_of("x").unwrap().state;
        assert_eq!(found, state, "{kind:?} {exit}");
    }
}

#[test]
fn a_crash_is_followed_by_a_pause_and_those_that_need_it_stay() {
    let mut play = Play::new([service("db", &[]), service("web", &["db"])]);
    play.play(&[
        (0, "want web", "start db"),
        (1, "started db", "start web"),
        (2, "started web", ""),
        (1000, "exit db SIGSEGV", ""),
        (1199, "tick", ""),
        (1200, "tick", "start db"),
        (1201, "started db#2", ""),
    ]);
    assert_eq!(play.state("web"), "ready: started");
    play.tell(2000, "exit db#2 1");
    assert_eq!(
        play.state("db"),
        "pausing: exit status 1 after 799 ms; started again in 400 ms"
    );
}

#[test]
fn who_fails_for_good_takes_along_who_needs_it_and_says_so() {
    let restart = Restart {
        limit: Some(Limit {
            count: 1,
            window: Duration::from_secs(60),
        }),
        ..Restart::default()
    };
    let db = Service {
        restart,
        ..service("db", &[])
    };
    let mut play = Play::new([
        db,
        service("web", &["db"]),
        service("proxy", &["web"]),
        service("apart", &[]),
    ]);
    play.play(&[
        (0, "want proxy apart", "start apart, start db"),
        (1, "started apart", ""),
        (2, "started db", "start web"),
        (3, "started web", "start proxy"),
        (4, "started proxy", ""),
        (5, "exit db#1 1", ""),
        (205, "tick", "start db"),
        (206, "started db#2", ""),
        (207, "exit db#2 3", "SIGTERM proxy"),
        (208, "exit proxy#1 0", "SIGTERM web"),
        (209, "exit web#1 SIGTERM", ""),
    ]);
    assert_eq!(
        play.state("db"),
        "failed: exit status 3 after 1 ms; given up after 1 restarts within 60 s"
    );
    assert_eq!(play.state("web"), "failed: it needs `db`, which has failed");
    assert_eq!(
        play.state("proxy"),
        "failed: it needs `web`, which cannot be"
    );
    assert_eq!(play.state("apart"), "ready: started");
    // Asked for again, it gets the same chances as at first.
    play.play(&[
        (300, "want web", "start db"),
        (301, "started db#3", "start web"),
        (302, "exit db#3 1", ""),
    ]);
    assert!(play.state("db").starts_with("pausing"));
}

#[test]
fn who_waits_for_a_failure_fails_at_once() {
    let mut play = Play::new([
        policy(
            Policy::Never,
            ready_by(Readiness::Exit, service("migrate", &[])),
        ),
        service("web", &["migrate"]),
    ]);
    play.play(&[
        (0, "want web", "start migrate"),
        (1, "started migrate", ""),
        (2, "exit migrate 1", ""),
    ]);
    assert_eq!(play.state("migrate"), "failed: exit status 1");
    assert_eq!(
        play.state("web"),
        "failed: it needs `migrate`, which has failed"
    );
}

#[test]
fn who_cannot_be_started_or_ends_too_early_has_failed() {
    let mut play = Play::new([policy(
        Policy::Never,
        ready_by(Readiness::Notify, service("db", &[])),
    )]);
    play.tell(0, "want db");
    play.tell(1, "failed db");
    assert_eq!(
        play.state("db"),
        "failed: cannot be started: no such program"
    );
    play.tell(2, "want db");
    play.tell(3, "started db#2");
    play.tell(4, "exit db#2 0");
    assert_eq!(
        play.state("db"),
        "failed: exit status 0 after 2 ms, before it was ready"
    );
}

#[test]
fn who_is_never_ready_is_ended_and_the_last_reason_told() {
    let db = Service {
        start_timeout: Some(Duration::from_millis(100)),
        stop_timeout: Duration::from_millis(50),
        ..ready_by(Readiness::Tcp(5432), service("db", &[]))
    };
    let mut play = Play::new([policy(Policy::Never, db)]);
    play.play(&[
        (0, "want db", "start db"),
        (1, "started db", "probe db"),
        (2, "unready db", ""),
        (22, "tick", "probe db"),
        (23, "unready db", ""),
        (63, "tick", "probe db"),
        (100, "tick", "SIGTERM db"),
        // Too late.
        (101, "ready db", ""),
        (150, "tick", "kill db"),
        (151, "exit db SIGKILL", ""),
    ]);
    assert_eq!(
        play.state("db"),
        "failed: not ready after 100 ms: connection refused"
    );
}

#[test]
fn who_needs_time_and_says_so_gets_it() {
    let db = Service {
        start_timeout: Some(Duration::from_millis(100)),
        ..ready_by(Readiness::Notify, service("db", &[]))
    };
    let mut play = Play::new([db]);
    play.play(&[
        (0, "want db", "start db"),
        (1, "started db", ""),
        (90, "says db EXTEND_TIMEOUT_USEC=200000", ""),
        (100, "tick", ""),
        (289, "tick", ""),
        (290, "tick", "SIGTERM db"),
        // Not for ever, though.
        (291, "says db EXTEND_TIMEOUT_USEC=99999999999999", ""),
        (3_600_290, "tick", "kill db"),
    ]);
}

#[test]
fn who_stops_saying_that_it_is_alive_is_aborted_and_started_again() {
    let db = Service {
        watchdog: Some(Duration::from_millis(100)),
        ..ready_by(Readiness::Notify, service("db", &[]))
    };
    let mut play = Play::new([db]);
    play.play(&[
        (0, "want db", "start db"),
        (1, "started db", ""),
        (500, "says db READY=1", ""),
        (580, "says db WATCHDOG=1", ""),
        (600, "tick", ""),
        (680, "tick", "SIGABRT db"),
        (681, "exit db SIGABRT", ""),
        (881, "tick", "start db"),
        (882, "started db#2", ""),
        (883, "says db#2 READY=1", ""),
        (884, "says db#2 WATCHDOG=trigger", "SIGABRT db"),
    ]);
}

#[test]
fn who_reads_its_configuration_again_is_still_up() {
    let mut play = Play::new([
        ready_by(Readiness::Notify, service("db", &[])),
        service("web", &["db"]),
    ]);
    play.play(&[
        (0, "want db", "start db"),
        (1, "started db", ""),
        (2, "says db READY=1", ""),
        (3, "says db RELOADING=1", ""),
        (4, "want web", "start web"),
    ]);
    assert!(play.state("db").starts_with("reloading"));
    play.tell(5, "says db READY=1");
    assert_eq!(play.state("db"), "ready: has read its configuration again");
}
