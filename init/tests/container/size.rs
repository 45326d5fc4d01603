//! Small and silent: what every container of a host pays.

use std::{fs, thread, time::Duration};

use crate::harness::{NAMES, fields, first, shell};

#[test]
fn the_file_is_small() {
    let size = envd_init::BINARY.len();
    assert!(size <= 48 * 1024, "{size} bytes");
}

#[test]
fn so_is_what_it_keeps_in_memory() {
    let Some(place) = first() else { return };
    for name in NAMES {
        let running = shell(place, name, &[], "echo ready; exec sleep 1000");
        running.until("ready");
        let text = fs::read_to_string(format!("/proc/{}/smaps_rollup", running.init()));
        let text = text.expect("Linux 4.14");
        let kilobytes: u32 = fields(&text)["Rss"]
            .trim_end_matches(" kB")
            .parse()
            .expect("a number");
        assert!(kilobytes <= 64, "{name}: {text}");
    }
}

#[test]
fn it_sleeps_until_something_comes() {
    for name in NAMES {
        let running = shell(
            crate::harness::Place::Beside,
            name,
            &[],
            "echo ready; exec sleep 1000",
        );
        running.until("ready");
        let switches = || {
            let text = fs::read_to_string(format!("/proc/{}/status", running.init())).unwrap();
            fields(&text)["voluntary_ctxt_switches"].to_owned()
        };
        crate::harness::wait_until("sleep", || {
            crate::harness::stat(running.init()).is_some_and(|stat| stat.state == 'S')
        });
        let before = switches();
        thread::sleep(Duration::from_millis(1500));
        assert_eq!(switches(), before, "{name} wakes up without a reason");
    }
}
