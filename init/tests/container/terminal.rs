//! A terminal in front of a container: it belongs to the program.

use std::{
    fs::File,
    io::{BufRead as _, BufReader, Write as _},
    os::fd::OwnedFd,
    process::{Child, Command},
    sync::mpsc::{Receiver, channel},
    thread,
    time::Duration,
};

use nix::{
    pty::openpty,
    sys::{
        signal::Signal::{self, SIGHUP, SIGQUIT, SIGUSR1},
        wait::{WaitPidFlag, WaitStatus, waitpid},
    },
    unistd::Pid,
};

use crate::harness::{NAMES, kill_tree, parse_stat, program, send, wait_until};

/// A session with a terminal, whose leader is the command.
struct Session {
    leader: Child,
    keyboard: File,
    lines: Receiver<String>,
}

fn session(arguments: &[&str]) -> Session {
    let pair = openpty(None, None).expect("a terminal");
    let mut command = Command::new("setsid");
    command.arg("--ctty").args(arguments);
    let copy = |descriptor: &OwnedFd| descriptor.try_clone().expect("a descriptor");
    let leader = command
        .stdin(copy(&pair.slave))
        .stdout(copy(&pair.slave))
        .stderr(pair.slave)
        .spawn()
        .expect("setsid(1)");
    drop(command);
    let keyboard = File::from(copy(&pair.master));
    let screen = File::from(pair.master);
    let (sender, lines) = channel();
    thread::spawn(move || {
        for line in BufReader::new(screen).lines().map_while(Result::ok) {
            if sender.send(line.trim_end().to_owned()).is_err() {
                break;
            }
        }
    });
    Session {
        leader,
        keyboard,
        lines,
    }
}

impl Session {
    /// The next line that begins so.
    fn line(&self, begin: &str) -> String {
        loop {
            let line = self.lines.recv_timeout(Duration::from_secs(30));
            let line = line.expect("a line");
            if line.starts_with(begin) {
                return line;
            }
        }
    }

    /// The lines before the next one that contains this.
    fn until(&self, wanted: &str) -> Vec<String> {
        let lines = std::iter::repeat_with(|| self.line(""));
        lines.take_while(|line| !line.contains(wanted)).collect()
    }

    fn leader(&self) -> i32 {
        self.leader.id() as i32
    }

    fn signal(&self, signal: Signal) {
        send(self.leader(), signal);
    }

    /// Waits for the leader, which must not have been stopped.
    fn code(self) -> i32 {
        let leader = Pid::from_raw(self.leader());
        let flags = WaitPidFlag::WUNTRACED | WaitPidFlag::WNOHANG;
        let mut status = WaitStatus::StillAlive;
        wait_until("the end", || {
            status = waitpid(leader, Some(flags)).expect("our own child");
            status != WaitStatus::StillAlive
        });
        match status {
            WaitStatus::Exited(_, code) => code,
            other => panic!("{other:?}"),
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if matches!(self.leader.try_wait(), Ok(None)) {
            kill_tree(self.leader());
            let _ = self.leader.wait();
        }
    }
}

/// Prints /proc/PID/stat of itself, and each signal; ends on QUIT with code 9.
/// Not by waiting for input: a signal that comes between a shell's look for one and its reading is seen after that.
const PRINTS: &str = r#"
    exec 2>/dev/null
    trap 'echo HUP' HUP; trap 'echo CONT' CONT; trap 'echo USR1' USR1; trap 'echo INT' INT
    trap 'echo QUIT; exit 9' QUIT
    echo "$$ $(cat /proc/$$/stat)"
    echo ready
    while :; do sleep 0.01; done
"#;

#[test]
fn the_program_is_in_the_foreground() {
    for name in NAMES {
        let binary = program(name);
        let session = session(&[binary.to_str().unwrap(), "--", "sh", "-c", PRINTS]);
        let line = loop {
            let line = session.line("");
            if line.contains(") ") {
                break line;
            }
        };
        let (process, text) = line.split_once(' ').expect("two");
        let process: i32 = process.parse().expect("a number");
        let stat = parse_stat(text);
        assert_eq!(stat.group, process, "{name}");
        assert_eq!(stat.foreground, process, "{name}: not in the foreground");
        session.line("ready");
        session.signal(SIGQUIT);
        session.line("QUIT");
        assert_eq!(session.code(), 9, "{name}");
    }
}

#[test]
fn a_key_is_one_signal() {
    for (name, options) in [
        ("tini", &[][..]),
        ("dumb-init", &[]),
        ("dumb-init", &["-c"]),
        ("catatonit", &[]),
        ("envd-init", &[]),
        ("envd-init", &["--session"]),
    ] {
        let binary = program(name);
        let mut arguments = vec![binary.to_str().unwrap()];
        arguments.extend(options);
        arguments.extend(["--", "sh", "-c", PRINTS]);
        let mut session = session(&arguments);
        session.line("ready");
        session.keyboard.write_all(b"\x03").unwrap();
        // Between the key's echo and what comes next.
        let mut count = 0;
        while !session.line("").ends_with("INT") {}
        session.signal(SIGUSR1);
        loop {
            match session.line("").as_str() {
                "USR1" => break,
                line => count += usize::from(line.ends_with("INT")),
            }
        }
        assert_eq!(count, 0, "{name} {options:?}: two signals for one key");
        session.signal(SIGQUIT);
        assert_eq!(session.code(), 9, "{name} {options:?}");
    }
}

/// In one process group with the program, a key's signal has reached both.
#[test]
fn a_key_is_not_sent_on_to_who_has_it() {
    let binary = program("dumb-init");
    let options = ["-v", "-c", "--", "sh", "-c", PRINTS];
    let mut arguments = vec![binary.to_str().unwrap()];
    arguments.extend(options);
    let mut session = session(&arguments);
    session.line("ready");
    session.keyboard.write_all(b"\x03").unwrap();
    session.until("Received signal 2.");
    session.signal(SIGUSR1);
    // Whatever came of the key was told before.
    let before = session.until("Received signal 10.");
    let sent = before
        .iter()
        .find(|line| line.contains("Forwarded signal 2 "));
    assert_eq!(sent, None);
    session.signal(SIGQUIT);
    assert_eq!(session.code(), 9);
}

/// Giving the terminal up raises SIGHUP and SIGCONT; those are not meant for the program, and later ones are.
#[test]
fn handing_over_the_terminal_is_no_hang_up() {
    for (name, options) in [("dumb-init", "-v"), ("envd-init", "--session")] {
        let binary = program(name);
        let session = session(&[binary.to_str().unwrap(), options, "--", "sh", "-c", PRINTS]);
        session.line("ready");
        session.signal(SIGUSR1);
        let mut before = Vec::new();
        loop {
            match session.line("").as_str() {
                "USR1" => break,
                line => before.push(line.to_owned()),
            }
        }
        let told = before.iter().find(|line| *line == "HUP" || *line == "CONT");
        assert_eq!(told, None, "{name}");
        session.signal(SIGHUP);
        session.line("HUP");
        session.signal(SIGQUIT);
        assert_eq!(session.code(), 9, "{name}");
    }
}

#[test]
fn messages_do_not_stop_us_where_the_terminal_stops_the_background() {
    for (name, option) in [
        ("tini", "-vvvv"),
        ("dumb-init", "-v"),
        ("envd-init", "-v"),
        ("envd-init", "-vS"),
    ] {
        // Under a shell that watches its jobs: what has nobody to continue it is not stopped.
        let script = format!(
            "stty tostop; {} {option} -- sh -c 'exit 9'; exit $?",
            program(name).display()
        );
        let session = session(&["sh", "-m", "-c", &script]);
        assert_eq!(session.code(), 9, "{name} {option}");
    }
}

#[test]
fn the_foreground_is_not_taken_from_others() {
    for name in ["tini", "catatonit", "envd-init"] {
        let script = format!(
            "{} -- cat /proc/self/stat & wait; read line; exit 4",
            program(name).display()
        );
        let mut session = session(&["sh", "-m", "-c", &script]);
        let line = loop {
            let line = session.line("");
            if line.contains("(cat) ") {
                break line;
            }
        };
        let stat = parse_stat(&line);
        assert_ne!(stat.foreground, stat.group, "{name}");
        // Whoever had it can still read.
        session.keyboard.write_all(b"line\n").unwrap();
        assert_eq!(session.code(), 4, "{name}");
    }
}
