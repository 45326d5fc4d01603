//! A shell on a pseudoterminal, and a hand on its keyboard: job control as people have it.

use std::{
    fs::File,
    io::{Read, Write},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use nix::{
    fcntl::{FcntlArg, OFlag, fcntl},
    pty::{Winsize, openpty},
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::sandbox::Sandbox;

/// How long something that is bound to appear may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// What the shell asks with.
pub const PROMPT: &str = "PROMPT> ";

/// A terminal on which a shell runs, with job control, in a sandbox's project. Needs bash and setsid(1).
#[derive(Debug)]
pub struct Screen {
    shell: Child,
    keyboard: File,
    seen: String,
}

impl Screen {
    /// Starts one. What `envd` is called in it is the binary that is tested.
    pub fn start(sandbox: &Sandbox) -> Self {
        let size = Winsize {
            ws_row: 24,
            ws_col: 80,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        let pair = openpty(Some(&size), None).expect("a pseudoterminal");
        // setsid(1) makes the terminal the shell's controlling one.
        let mut command = sandbox.command("setsid");
        let shell = [
            "--ctty",
            "bash",
            "--norc",
            "--noprofile",
            "--noediting",
            "-i",
        ];
        let envd = sandbox.envd_command(&[]);
        let slave = || Stdio::from(pair.slave.try_clone().expect("a descriptor"));
        command
            .args(shell)
            .env("PS1", PROMPT)
            .env("HISTFILE", "/dev/null")
            .env("ENVD", envd.get_program())
            .stdin(slave())
            .stdout(slave())
            .stderr(slave());
        let shell = command.spawn().expect("bash and setsid");
        let flags = FcntlArg::F_SETFL(OFlag::O_NONBLOCK);
        fcntl(&pair.master, flags).expect("a terminal");
        let mut screen = Self {
            shell,
            keyboard: File::from(pair.master),
            seen: String::new(),
        };
        screen.expect(PROMPT);
        screen.press("envd() { \"$ENVD\" \"$@\"; }; stty -echo\n");
        screen.expect(PROMPT);
        screen
    }

    /// Presses keys.
    pub fn press(&mut self, keys: &str) {
        self.keyboard.write_all(keys.as_bytes()).expect("room");
    }

    /// Gives the window another size.
    pub fn resize(&self, rows: u16, columns: u16) {
        let size = format!("rows {rows} cols {columns}");
        let status = Command::new("stty")
            .args(size.split(' '))
            .stdin(self.keyboard.try_clone().expect("a descriptor"))
            .status();
        assert!(status.expect("stty").success());
    }

    /// Waits until a text has appeared, and gives everything up to it, which is forgotten.
    #[track_caller]
    pub fn expect(&mut self, text: &str) -> String {
        let start = Instant::now();
        loop {
            if let Some(at) = self.seen.find(text) {
                return self.seen.drain(..at + text.len()).collect();
            }
            let mut bytes = [0; 4096];
            match self.keyboard.read(&mut bytes) {
                Ok(length) if length > 0 => {
                    let text = String::from_utf8_lossy(&bytes[..length]);
                    self.seen.push_str(&text);
                }
                _ => std::thread::sleep(Duration::from_millis(5)),
            }
            assert!(start.elapsed() < PATIENCE, "no {text:?} in {:?}", self.seen);
        }
    }

    /// The shell's children.
    pub fn jobs(&self) -> Vec<Pid> {
        let children = format!("/proc/{0}/task/{0}/children", self.shell.id());
        let children = std::fs::read_to_string(children).unwrap_or_default();
        let pids = children.split_whitespace().map(|pid| pid.parse());
        pids.map(|pid| Pid::from_raw(pid.expect("a number")))
            .collect()
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // Jobs first: a stopped or background one outlives its shell.
        for job in self.jobs() {
            let _ = kill(job, Signal::SIGKILL);
        }
        let _ = self.shell.kill();
        let _ = self.shell.wait();
    }
}
