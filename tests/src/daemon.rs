//! A project's daemon in a test: started, looked at, spoken to in raw packets, and gone at the end whatever happens.

use std::{
    io::{IoSlice, IoSliceMut},
    os::fd::{AsFd, AsRawFd, OwnedFd, RawFd},
    path::PathBuf,
    time::{Duration, Instant},
};

use nix::{
    cmsg_space,
    sys::{
        signal::{Signal, kill},
        socket::{
            AddressFamily, ControlMessage, MsgFlags, SockFlag, SockType, UnixAddr, connect,
            recvmsg, sendmsg, setsockopt, socket, sockopt::ReceiveTimeout,
        },
        time::TimeVal,
    },
    unistd::Pid,
};
use serde_json::Value;

use crate::sandbox::{PATIENCE, Sandbox};

/// Tag of packets with JSON.
pub const JSON: u32 = 64;
/// Tag of packets that run something.
pub const RUN: u32 = 65;
/// Tag of packets that run something in an environment that was opened.
const EXECUTE: u32 = 66;
/// Tag of packets that ask to join an environment with a terminal.
const JOIN: u32 = 68;
/// Tag of PID 1's packet: the command runs.
const STARTED: i32 = 1;
/// Tag of PID 1's packet: the command has ended.
const ENDED: i32 = 3;

/// A daemon that runs.
#[derive(Debug)]
pub struct Daemon<'s> {
    sandbox: &'s Sandbox,
}

impl<'s> Daemon<'s> {
    /// Starts one for the sandbox's project.
    pub fn start(sandbox: &'s Sandbox) -> Self {
        sandbox.envd(&["daemon", "start"]).ok();
        Self { sandbox }
    }

    /// Looks after one that a command may have started.
    pub fn of(sandbox: &'s Sandbox) -> Self {
        Self { sandbox }
    }

    /// What it says of itself; `None` if there is none.
    pub fn status(&self) -> Option<Value> {
        let outcome = self.sandbox.envd(&["--json", "daemon", "status"]);
        let status: Value = serde_json::from_str(&outcome.stdout).ok()?;
        status.is_object().then_some(status)
    }

    /// Its process.
    pub fn pid(&self) -> Pid {
        let status = self.status().expect("a daemon");
        Pid::from_raw(status["pid"].as_i64().expect("a number") as i32)
    }

    /// How many descriptors it has open.
    pub fn descriptors(&self) -> usize {
        let directory = format!("/proc/{}/fd", self.pid());
        std::fs::read_dir(directory).expect("it lives").count()
    }

    /// The sockets in the runtime directory.
    pub fn sockets(&self) -> Vec<PathBuf> {
        let directory = self.sandbox.path("run").join("envd");
        let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
        let paths = entries.map(|entry| entry.path());
        paths
            .filter(|path| path.extension().is_some_and(|ending| ending == "sock"))
            .collect()
    }

    /// A connection in which every packet is the test's own.
    pub fn connect(&self) -> Raw {
        let sockets = self.sockets();
        assert_eq!(sockets.len(), 1, "{sockets:?}");
        Raw::to(&sockets[0])
    }

    /// Kills it.
    pub fn kill(&self) {
        let pid = self.pid();
        kill(pid, Signal::SIGKILL).expect("ours");
        until("the daemon is dead", || kill(pid, None).is_err());
    }
}

impl Drop for Daemon<'_> {
    fn drop(&mut self) {
        let _ = self.sandbox.envd(&["daemon", "stop"]);
    }
}

/// Waits for something that is bound to happen.
#[track_caller]
pub fn until(what: &str, happened: impl Fn() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !happened() {
        assert!(Instant::now() < end, "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A connection of the test's own.
#[derive(Debug)]
pub struct Raw {
    socket: OwnedFd,
}

impl Raw {
    fn to(path: &std::path::Path) -> Self {
        let socket = socket(
            AddressFamily::Unix,
            SockType::SeqPacket,
            SockFlag::SOCK_CLOEXEC,
            None,
        )
        .expect("a socket");
        connect(
            socket.as_raw_fd(),
            &UnixAddr::new(path).expect("a short path"),
        )
        .expect("somebody listens");
        let patience = TimeVal::new(PATIENCE.as_secs() as i64, 0);
        setsockopt(&socket, ReceiveTimeout, &patience).expect("a timeout");
        Self { socket }
    }

    /// Sends a packet.
    pub fn send(&self, bytes: &[u8], descriptors: &[RawFd]) {
        let rights = [ControlMessage::ScmRights(descriptors)];
        let rights: &[_] = if descriptors.is_empty() { &[] } else { &rights };
        let flags = MsgFlags::MSG_NOSIGNAL;
        let parts = [IoSlice::new(bytes)];
        sendmsg::<()>(self.socket.as_raw_fd(), &parts, rights, flags, None).expect("room");
    }

    /// Sends a question as JSON text.
    pub fn ask(&self, text: &str) {
        self.send(&[&JSON.to_ne_bytes(), text.as_bytes()].concat(), &[]);
    }

    /// The next answer; `None` when the daemon has hung up.
    pub fn answer(&self) -> Option<Value> {
        let mut buffer = vec![0; 128 * 1024];
        let mut space = cmsg_space!([RawFd; 4]);
        let mut parts = [IoSliceMut::new(&mut buffer)];
        let received = recvmsg::<()>(
            self.socket.as_raw_fd(),
            &mut parts,
            Some(&mut space),
            MsgFlags::empty(),
        );
        let length = match received {
            Ok(received) => received.bytes,
            Err(nix::errno::Errno::ECONNRESET) => 0,
            Err(error) => panic!("no answer: {error}"),
        };
        if length == 0 {
            return None;
        }
        assert_eq!(buffer[..4], JSON.to_ne_bytes());
        Some(serde_json::from_slice(&buffer[4..length]).expect("JSON"))
    }

    /// The kind of error of the next answer, after which the daemon may have hung up.
    pub fn error(&self) -> String {
        let answer = self.answer().expect("an answer");
        let kind = &answer["error"]["kind"];
        kind.as_str()
            .unwrap_or_else(|| panic!("{answer}"))
            .to_owned()
    }
}

impl AsFd for Raw {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// The build that the daemon is of, in its own spelling.
pub fn build(status: &Value) -> u64 {
    let text = status["build"].as_str().expect("digits");
    u64::from_str_radix(text, 16).expect("digits")
}

/// A packet that runs a command, as a client that is written from PROTOCOL.md alone makes it.
pub fn run_packet(build: u64, words: &[&str]) -> Vec<u8> {
    packet(&RUN.to_ne_bytes(), build, words)
}

/// A packet that asks to join an environment for a command.
pub fn join_packet(build: u64, words: &[&str]) -> Vec<u8> {
    packet(&JOIN.to_ne_bytes(), build, words)
}

/// A packet that executes a command in an environment that was opened.
pub fn execute_packet(handle: u64, build: u64, words: &[&str]) -> Vec<u8> {
    let tag = [&EXECUTE.to_ne_bytes()[..], &handle.to_ne_bytes()].concat();
    packet(&tag, build, words)
}

fn packet(tag: &[u8], build: u64, words: &[&str]) -> Vec<u8> {
    let mut strings = b"/\0".to_vec();
    for word in words.iter().take(1).chain(words) {
        strings.extend_from_slice(word.as_bytes());
        strings.push(0);
    }
    let mut packet = tag.to_vec();
    packet.extend_from_slice(&build.to_ne_bytes());
    let (arguments, length) = (words.len() as u32, strings.len() as u32);
    // Of the packet, then of the command, which ignores no signal.
    for number in [
        0,
        0,
        0,
        0,
        u32::MAX,
        u32::MAX,
        0,
        arguments,
        0,
        length,
        0,
        0,
    ] {
        packet.extend_from_slice(&number.to_ne_bytes());
    }
    packet.extend_from_slice(&strings);
    packet
}

/// A connection on which PID 1 says what becomes of one command.
#[derive(Debug)]
pub struct Command {
    ours: OwnedFd,
}

impl Command {
    /// Sends a packet of [`run_packet`] or [`execute_packet`] with these standard descriptors.
    pub fn start(raw: &Raw, packet: &[u8], standard: [RawFd; 3]) -> Self {
        let (ours, theirs) = nix::sys::socket::socketpair(
            AddressFamily::Unix,
            SockType::SeqPacket,
            None,
            SockFlag::SOCK_CLOEXEC,
        )
        .expect("descriptors");
        let [input, output, error] = standard;
        raw.send(packet, &[input, output, error, theirs.as_raw_fd()]);
        Self { ours }
    }

    /// Waits for its end: the status that wait(2) gives; `None` when it was not started, or its environment is gone.
    pub fn status(&self) -> Option<i32> {
        loop {
            let mut packet = [0; 64];
            let length =
                nix::sys::socket::recv(self.ours.as_raw_fd(), &mut packet, MsgFlags::empty())
                    .expect("a packet, or the end");
            let number = |at: usize| {
                packet[at..at + 4]
                    .try_into()
                    .map(i32::from_ne_bytes)
                    .expect("four bytes")
            };
            match (length, number(0)) {
                (8, STARTED) => {}
                (8, ENDED) => return Some(number(4)),
                _ => return None,
            }
        }
    }
}
