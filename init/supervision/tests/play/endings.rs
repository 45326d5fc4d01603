//! How services are stopped, and who is said to be slow.

use std::time::Duration;

use envd_supervision::{Service, Signal};

use super::{Play, service};

fn three() -> Play {
    let mut play = Play::new([
        service("db", &[]),
        service("web", &["db"]),
        service("proxy", &["web"]),
    ]);
    play.play(&[
        (0, "want proxy", "start db"),
        (1, "started db", "start web"),
        (2, "started web", "start proxy"),
        (3, "started proxy", ""),
    ]);
    play
}

#[test]
fn the_order_is_that_of_starting_backwards() {
    let mut play = three();
    play.play(&[
        (10, "shutdown 10000", "SIGTERM proxy"),
        (11, "exit proxy 0", "SIGTERM web"),
        (12, "exit web 0", "SIGTERM db"),
        (13, "exit db 0", "finished"),
        // And nothing comes up any more.
        (14, "want web", ""),
    ]);
    assert_eq!(play.state("db"), "stopped: exit status 0");
}

#[test]
fn stopping_one_stops_those_that_need_it_and_no_other() {
    let mut play = three();
    play.play(&[
        (10, "stop web 10000", "SIGTERM proxy"),
        (11, "exit proxy SIGTERM", "SIGTERM web"),
        (12, "exit web SIGTERM", "finished"),
        (20, "want proxy", "start web"),
    ]);
    assert_eq!(play.state("db"), "ready: started");
}

#[test]
fn its_own_signal_and_time_then_it_is_killed() {
    let db = Service {
        stop_signal: "SIGINT".parse::<Signal>().unwrap(),
        stop_timeout: Duration::from_secs(2),
        ..service("db", &[])
    };
    let mut play = Play::new([db]);
    play.play(&[
        (0, "want db", "start db"),
        (1, "started db", ""),
        (10, "stop db 10000", "SIGINT db"),
        (2009, "tick", ""),
        (2010, "tick", "kill db"),
        (
            2011,
            "exit db SIGKILL",
            "finished: db did not end within 2 s of SIGINT and was killed",
        ),
    ]);
}

#[test]
fn one_slow_service_does_not_cost_the_others_their_chance_and_is_named() {
    let mut play = three();
    play.play(&[
        (1000, "shutdown 8000", "SIGTERM proxy"),
        (6999, "tick", ""),
        // Three quarters are over: order is given up.
        (7000, "tick", "SIGTERM db, SIGTERM web"),
        (7001, "exit db 0", ""),
        (7002, "exit web 0", ""),
        // The last tenth, at most a second, is for the dead to be collected.
        (8200, "tick", "kill proxy"),
        (
            8201,
            "exit proxy SIGKILL",
            "finished: proxy did not end within 7.2 s of SIGTERM and was killed: all had 8 s together",
        ),
    ]);
}

#[test]
fn who_does_not_even_die_is_waited_for_no_longer_than_the_deadline() {
    let mut play = three();
    play.tell(1000, "shutdown 8000");
    play.tell(7000, "tick");
    play.tell(8200, "tick");
    play.tell(8300, "exit proxy SIGKILL");
    play.tell(8300, "exit web SIGKILL");
    let finished = concat!(
        "finished",
        ": db did not end within 1.2 s of SIGTERM and was killed: all had 8 s together, and is still there",
        ": web did not end within 1.2 s of SIGTERM and was killed: all had 8 s together",
        ": proxy did not end within 7.2 s of SIGTERM and was killed: all had 8 s together",
    );
    play.play(&[(9000, "tick", finished)]);
}

#[test]
fn what_is_still_being_started_is_ended_when_it_is_there_or_when_time_is_over() {
    let mut play = Play::new([service("db", &[])]);
    play.play(&[
        (0, "want db", "start db"),
        (1, "stop db 5000", ""),
        (2, "started db", "SIGTERM db"),
        (3, "exit db 0", "finished"),
        (10, "want db", "start db"),
        (11, "shutdown 5000", ""),
        (4511, "tick", "kill db"),
        (
            4512,
            "failed db#2",
            "finished: db was killed: all had 5 s together",
        ),
    ]);
}

#[test]
fn a_second_stop_does_not_shorten_the_first_but_a_shutdown_does() {
    let mut play = three();
    play.play(&[
        (10, "stop proxy 20000", "SIGTERM proxy"),
        (11, "stop web 1000", ""),
        (950, "tick", ""),
        (1000, "shutdown 1000", ""),
        // Another stop has no say any more.
        (1001, "stop db 60000", ""),
        (1750, "tick", "SIGTERM db, SIGTERM web"),
        (1900, "tick", "kill db, kill web, kill proxy"),
    ]);
}

#[test]
fn the_first_shutdown_sets_the_time_and_a_second_one_only_shortens_it() {
    let mut play = three();
    play.play(&[
        (10, "stop proxy 1000", "SIGTERM proxy"),
        (20, "shutdown 8000", ""),
        (1010, "tick", ""),
        (1020, "shutdown 60000", ""),
        (6020, "tick", "SIGTERM db, SIGTERM web"),
        (6030, "shutdown 100", ""),
        (6120, "tick", "kill db, kill web, kill proxy"),
    ]);
}

#[test]
fn when_there_is_nothing_to_stop_it_has_been_stopped() {
    let mut play = Play::new([service("db", &[])]);
    play.play(&[
        (0, "stop db 1000", "finished"),
        (1, "stop nobody 1000", "finished"),
        (2, "shutdown 1000", "finished"),
    ]);
}

#[test]
fn a_pause_ends_with_the_wish() {
    let mut play = Play::new([service("db", &[])]);
    play.play(&[
        (0, "want db", "start db"),
        (1, "started db", ""),
        (2, "exit db 1", ""),
        (3, "stop db 1000", "finished"),
        (1000, "tick", ""),
    ]);
    assert_eq!(play.state("db"), "stopped: stopped");
}
