//! Nothing is held that is the program's: a pipe's end must come when the program closes it.

use std::{
    fs,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use crate::harness::{NAMES, Place, kill_tree, program, start, wait_until};

fn open(process: i32) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(format!("/proc/{process}/fd"))
        .expect("our own process")
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect();
    names.sort();
    names
}

#[test]
fn inherited_descriptors_are_closed_here_and_kept_there() {
    for name in NAMES {
        let script = format!(
            "exec 7</dev/null 9</dev/null; exec {} -- sh -c 'echo ready; read line; test -e /proc/self/fd/9'",
            program(name).display()
        );
        let mut command = Command::new("sh");
        command.args(["-c", &script]);
        let mut running = start(Place::Beside, command);
        running.until("ready");
        let init = running.init();
        wait_until("the closing", || {
            let open = open(init);
            !open.contains(&"7".to_owned()) && !open.contains(&"9".to_owned())
        });
        // The three, which others write to by way of /proc/1/fd, and the one that signals are read from.
        let open = open(init);
        assert_eq!(open.len(), 4, "{name}: {open:?}");
        assert_eq!(open[..3], ["0", "1", "2"], "{name}");
        running.close_input();
        assert_eq!(
            running.code(),
            0,
            "{name}: the program lost its descriptors"
        );
    }
}

/// A log collector that has gone must not take the program with it, by way of the SIGPIPE of our own messages.
#[test]
fn a_reader_of_messages_that_goes_away_is_no_matter_of_the_programs() {
    for (name, option) in [("tini", "-vvv"), ("dumb-init", "-v"), ("envd-init", "-v")] {
        // The messages go to a pipe that nobody reads.
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        let other = writer.try_clone().expect("a descriptor");
        let script = "exec 2>/dev/null; trap 'exit 6' PIPE; kill -WINCH $PPID; sleep 0.1; exit 3";
        let mut command = Command::new(program(name));
        command.args([option, "--", "sh", "-c", script]);
        let child = command.stdout(writer).stderr(other).spawn();
        let mut child = child.expect("it starts");
        let mut status = None;
        let end = Instant::now() + Duration::from_secs(30);
        while status.is_none() && Instant::now() < end {
            status = child.try_wait().expect("our own child");
            thread::sleep(Duration::from_millis(5));
        }
        if status.is_none() {
            kill_tree(child.id() as i32);
        }
        let _ = child.wait();
        assert_eq!(status.and_then(|status| status.code()), Some(3), "{name}");
    }
}
