//! Job control on a real pseudo-terminal, with a real shell around.

use std::{
    fs::File,
    io::{Read, Write},
    os::fd::OwnedFd,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use envd_shims::plan::Plan;
use nix::{
    pty::{Winsize, openpty},
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::harness::{Caller, Place, callers};

/// A shell on a terminal, and a hand on its keyboard.
struct Screen {
    shell: Child,
    keyboard: File,
    seen: String,
    place: Place,
}

const SIZE: Winsize = Winsize {
    ws_row: 24,
    ws_col: 80,
    ws_xpixel: 0,
    ws_ypixel: 0,
};

impl Screen {
    fn new(caller: Caller) -> Self {
        let place = Place::new(caller);
        let pair = openpty(Some(&SIZE), None).unwrap();
        // setsid(1) makes the terminal the shell's controlling one.
        let mut command = Command::new("setsid");
        command.args([
            "--ctty",
            "bash",
            "--norc",
            "--noprofile",
            "--noediting",
            "-i",
        ]);
        command.env("PS1", "PROMPT> ").env("HISTFILE", "/dev/null");
        let slave = || Stdio::from(pair.slave.try_clone().unwrap());
        command.stdin(slave()).stdout(slave()).stderr(slave());
        place.impersonate(&mut command);
        let shell = command.spawn().unwrap();
        rustix::io::ioctl_fionbio(&pair.master, true).unwrap();
        let mut screen = Screen {
            shell,
            keyboard: File::from(pair.master),
            seen: String::new(),
            place,
        };
        screen.expect("PROMPT> ");
        screen
    }

    /// The shell's children.
    fn jobs(&self) -> Vec<i32> {
        let children = format!("/proc/{0}/task/{0}/children", self.shell.id());
        let children = std::fs::read_to_string(children).unwrap_or_default();
        children
            .split_whitespace()
            .map(|pid| pid.parse().unwrap())
            .collect()
    }

    fn press(&mut self, keys: &str) {
        self.keyboard.write_all(keys.as_bytes()).unwrap();
    }

    /// Starts a plan as a job of the shell.
    fn launch(&mut self, plan: &Plan, suffix: &str) {
        let command = self.place.launcher(plan);
        let program = command.get_program().to_str().unwrap().to_owned();
        let file = command
            .get_args()
            .next()
            .unwrap()
            .to_str()
            .unwrap()
            .to_owned();
        self.press(&format!("{program} {file}{suffix}\n"));
    }

    /// Waits until a text has appeared, and forgets everything up to it.
    fn expect(&mut self, text: &str) {
        let start = Instant::now();
        loop {
            if let Some(at) = self.seen.find(text) {
                self.seen.drain(..at + text.len());
                return;
            }
            let mut bytes = [0; 4096];
            match self.keyboard.read(&mut bytes) {
                Ok(length) if length > 0 => {
                    self.seen
                        .push_str(&String::from_utf8_lossy(&bytes[..length]));
                }
                _ => std::thread::sleep(Duration::from_millis(5)),
            }
            assert!(
                start.elapsed() < Duration::from_secs(20),
                "no {text:?} in {:?}",
                self.seen
            );
        }
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // Jobs first: a stopped or background one outlives its shell.
        for job in self.jobs() {
            let _ = kill(Pid::from_raw(job), Signal::SIGKILL);
        }
        let _ = self.shell.kill();
        let _ = self.shell.wait();
    }
}

#[test]
fn ctrl_c_is_the_commands_and_the_shell_has_the_terminal_afterwards() {
    for caller in callers() {
        let mut screen = Screen::new(caller);
        let plan = screen.place.shell(
            "trap 'echo interrupted once; exit 42' INT; echo rea''dy; while :; do sleep 0.05; done",
        );
        screen.launch(&plan, "");
        screen.expect("ready");
        screen.press("\x03");
        screen.expect("interrupted once");
        screen.expect("PROMPT> ");
        screen.press("echo code=$? tty=$(ps -o stat= -p $$)\n");
        screen.expect("code=42 tty=Ss+");
    }
}

#[test]
fn ctrl_z_stops_the_job_and_fg_continues_it() {
    for caller in callers() {
        let mut screen = Screen::new(caller);
        let plan = screen
            .place
            .shell("echo rea''dy; while read line; do echo \"got<$line>\"; done; echo end");
        screen.launch(&plan, "");
        screen.expect("ready");
        for round in ["one", "two"] {
            screen.press("\x1a");
            screen.expect("Stopped");
            screen.expect("PROMPT> ");
            screen.press("echo shell is $((40+2))\n");
            screen.expect("shell is 42");
            screen.press("fg\n");
            screen.expect("launch");
            screen.press(&format!("{round}\n"));
            screen.expect(&format!("got<{round}>"));
        }
        screen.press("\x04");
        screen.expect("end");
        screen.expect("PROMPT> ");
    }
}

#[test]
fn a_job_goes_on_in_the_background_and_comes_back() {
    for caller in callers() {
        let mut screen = Screen::new(caller);
        // No shell loop: dash starts its commands by vfork, and one that is stopped in between never gets to stop itself.
        let program = "$| = 1; $SIG{USR1} = sub { $go = 1 }; print qq(ready\\n);
            while (1) {
                select(undef, undef, undef, 0.05);
                if ($go) { $go = 0; $line = <STDIN>; chomp $line; print qq(got<$line>\\n) }
            }";
        let plan = screen.place.plan("perl", &["-e", program]);
        screen.launch(&plan, "");
        screen.expect("ready");
        for key in ["read", "stop"] {
            screen.press("\x1a");
            screen.expect("Stopped");
            screen.expect("PROMPT> ");
            screen.press("bg\n");
            screen.expect("PROMPT> ");
            screen.press("jobs\n");
            screen.expect("Running");
            screen.expect("PROMPT> ");
            // The shell tells a running job nothing when it gives it the terminal.
            screen.press("fg\n");
            screen.expect("launch");
            screen.expect("\n");
            std::thread::sleep(Duration::from_millis(200));
            if key == "read" {
                let job = Pid::from_raw(screen.jobs()[0]);
                kill(job, Signal::SIGUSR1).unwrap();
                std::thread::sleep(Duration::from_millis(200));
                screen.press("a line\n");
                screen.expect("got<a line>");
            }
        }
        screen.press("\x1a");
        screen.expect("Stopped");
        screen.expect("PROMPT> ");
        screen.press("kill -9 %1; wait; echo all $((1+1)) gone\n");
        screen.expect("all 2 gone");
    }
}

#[test]
fn a_stop_from_inside_stops_the_job() {
    for caller in callers() {
        let mut screen = Screen::new(caller);
        let plan = screen
            .place
            .shell("echo rea''dy; kill -STOP $$; echo continued; exit 4");
        screen.launch(&plan, "");
        screen.expect("ready");
        screen.expect("Stopped");
        screen.press("fg; echo code=$?\n");
        screen.expect("continued");
        screen.expect("code=4");
    }
}

#[test]
fn a_resized_window_is_noticed() {
    for caller in callers() {
        let mut screen = Screen::new(caller);
        let plan = screen
            .place
            .shell("trap 'stty size; exit' WINCH; stty size; while :; do sleep 0.05; done");
        screen.launch(&plan, "");
        screen.expect("24 80");
        let master: OwnedFd = screen.keyboard.try_clone().unwrap().into();
        let size = rustix::termios::Winsize {
            ws_row: 33,
            ws_col: 99,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        rustix::termios::tcsetwinsize(master, size).unwrap();
        screen.expect("33 99");
    }
}

#[test]
fn a_shell_inside_has_job_control_and_a_named_terminal() {
    for caller in callers() {
        let mut screen = Screen::new(caller);
        let mut plan = screen
            .place
            .plan("bash", &["--norc", "--noprofile", "--noediting", "-i"]);
        plan.command
            .environment
            .insert("PS1".to_owned(), "INSIDE> ".into());
        screen.launch(&plan, "");
        screen.expect("INSIDE> ");
        assert!(!screen.seen.contains("no job control"), "{}", screen.seen);
        screen.press("tty; test -t 0 && : < /dev/tty && echo terminal $((1+2))\n");
        screen.expect("/dev/console");
        screen.expect("terminal 3");
        screen.press("sleep 1000\n");
        std::thread::sleep(Duration::from_millis(200));
        screen.press("\x1a");
        screen.expect("Stopped");
        screen.expect("INSIDE> ");
        screen.press("fg\n");
        screen.expect("sleep 1000");
        std::thread::sleep(Duration::from_millis(200));
        screen.press("\x03");
        screen.expect("INSIDE> ");
        screen.press("exit 6\n");
        screen.expect("PROMPT> ");
        screen.press("echo code=$?\n");
        screen.expect("code=6");
    }
}

#[test]
fn a_killed_command_gives_the_terminal_back() {
    for caller in callers() {
        let mut screen = Screen::new(caller);
        let plan = screen.place.shell("echo rea''dy; kill -KILL $$");
        screen.launch(&plan, "; echo code=$?");
        screen.expect("code=137");
        screen.expect("PROMPT> ");
        screen.press("cat\n");
        screen.press("typed\n");
        screen.expect("typed\r\ntyped");
        screen.press("\x04");
    }
}

#[test]
fn a_killed_caller_gives_the_terminal_back() {
    for caller in callers() {
        let mut screen = Screen::new(caller);
        let plan = screen
            .place
            .shell("trap '' HUP TERM; echo rea''dy; sleep 1000");
        screen.launch(&plan, "");
        screen.expect("ready");
        let jobs = screen.jobs();
        assert_eq!(jobs.len(), 1);
        kill(Pid::from_raw(jobs[0]), Signal::SIGKILL).unwrap();
        screen.expect("PROMPT> ");
        screen.press("echo still $((2+2))\n");
        screen.expect("still 4");
    }
}
