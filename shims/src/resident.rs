//! Environments that wait for commands, made by a small process that stays.
//!
//! A copy of a large process costs a hundred times that of a small one, and one with threads must not be copied at all. So
//! whoever makes environments again and again keeps a [`Launcher`]: the program without a C library that is in
//! [`envd_init::LAUNCHER`], connected by a socket. When it ends, or its owner does, every environment that it made ends.

use std::{
    collections::BTreeMap,
    io::{self, IoSlice, IoSliceMut, Write as _},
    mem::MaybeUninit,
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
        unix::process::CommandExt as _,
    },
    process::{Child, Stdio},
    time::Duration,
};

use envd_init::protocol::{
    self, AMEND, AMEND_FILE, CONTINUE, CONTINUE_FILE, EXECUTE, EXECUTE_FILE, Failure, LAUNCH,
    LAUNCH_FILE, LAUNCHED, LONGEST_PACKET, Report,
};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags,
    sockopt::{Timeout, set_socket_timeout},
};

use crate::{
    cgroup::Group,
    compile::{Begun, Program, compile},
    errno::Errno,
    error::LaunchError,
    failure,
    launch::connection,
    plan::{Command, Limit, Plan},
    request,
    running::Downgrade,
};

/// Descriptors that one packet carries at most.
const MOST_DESCRIPTORS: usize = envd_init::sys::MOST_DESCRIPTORS;

/// A process that makes environments.
#[derive(Debug)]
pub struct Launcher {
    process: Child,
    socket: OwnedFd,
}

impl Launcher {
    /// Starts one. Works in a process with threads, too.
    pub fn start() -> Result<Self, LaunchError> {
        let failed = |error: io::Error| LaunchError::Launcher(error);
        let file = program_file().map_err(failed)?;
        let (socket, theirs) = connection()?;
        let process = std::process::Command::new(format!("/proc/self/fd/{}", file.as_raw_fd()))
            .arg0("envd-launcher")
            .env_clear()
            .current_dir("/")
            .stdin(theirs)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .map_err(failed)?;
        Ok(Launcher { process, socket })
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Makes an environment. What the plan says of a command is not looked at.
    pub fn launch(&self, plan: &Plan) -> Result<Resident, LaunchError> {
        self.launch_program(&compile(plan)?)
    }

    /// The same from a compiled plan, which may be used again and again.
    pub fn launch_program(&self, program: &Program) -> Result<Resident, LaunchError> {
        self.launch_in(program, None)
    }

    /// The same, made in a control group.
    pub fn launch_in(
        &self,
        program: &Program,
        group: Option<&Group>,
    ) -> Result<Resident, LaunchError> {
        let mut resident = self.start_process(program, group)?;
        resident.await_ready(program)?;
        Ok(resident)
    }

    /// Begins to make an environment of which the rest is told later. Answers when there is a process, which may not be
    /// through with what it has to do.
    pub fn begin(&self, begun: Begun, group: Option<&Group>) -> Result<Halfway, LaunchError> {
        let resident = self.start_process(begun.program(), group)?;
        Ok(Halfway {
            resident,
            begun,
            waits: false,
        })
    }

    fn start_process(
        &self,
        program: &Program,
        group: Option<&Group>,
    ) -> Result<Resident, LaunchError> {
        let (ours, theirs) = connection()?;
        let mut descriptors = vec![theirs.as_fd()];
        descriptors.extend(group.map(AsFd::as_fd));
        let (pid, pidfd) = self.ask((LAUNCH, LAUNCH_FILE), program, &descriptors)?;
        Ok(Resident {
            pid: pid.unsigned_abs(),
            pidfd,
            control: ours,
            downgrades: program.downgrades().to_vec(),
            listening: None,
            root: None,
        })
    }

    /// Changes what is seen in an environment whose namespaces of users and of mounts these are ([`Resident::namespaces`]), by a
    /// program of [`crate::compile_amendment`]. Commands that run in it go on.
    pub fn amend(&self, program: &Program, namespaces: &[OwnedFd]) -> Result<(), LaunchError> {
        let (ours, theirs) = bounded_connection()?;
        let mut descriptors = vec![theirs.as_fd()];
        descriptors.extend(namespaces.iter().map(AsFd::as_fd));
        self.ask((AMEND, AMEND_FILE), program, &descriptors)?;
        drop(theirs);
        let (packet, _) = receive(ours.as_fd()).map_err(LaunchError::Wait)?;
        match Report::decode(&packet) {
            Some(Report::Started(_)) => Ok(()),
            _ => Err(refused(&packet, program)),
        }
    }

    /// Has it make a process; gives its number, and a pidfd.
    fn ask(
        &self,
        tags: (u32, u32),
        program: &Program,
        descriptors: &[BorrowedFd<'_>],
    ) -> Result<(i32, OwnedFd), LaunchError> {
        send(self.socket.as_fd(), tags, program.bytes(), descriptors).map_err(LaunchError::Wait)?;
        let (packet, descriptors) = receive(self.socket.as_fd()).map_err(LaunchError::Wait)?;
        match (protocol::tag(&packet), descriptors.into_iter().next()) {
            (Some(LAUNCHED), Some(pidfd)) => {
                let pid = packet.get(4..8).and_then(|bytes| bytes.try_into().ok());
                Ok((pid.map_or(0, i32::from_ne_bytes), pidfd))
            }
            _ => Err(refused(&packet, program)),
        }
    }
}

impl Drop for Launcher {
    /// Ends it, and every environment that it made, and waits for it.
    fn drop(&mut self) {
        let _ = rustix::net::shutdown(&self.socket, rustix::net::Shutdown::Both);
        let _ = self.process.wait();
    }
}

/// An environment of which the first part is made, or about to be. Dropping it ends it, as it does a [`Resident`].
#[derive(Debug)]
pub struct Halfway {
    resident: Resident,
    begun: Begun,
    /// The first part is made.
    waits: bool,
}

impl Halfway {
    /// Readable when it is gone.
    pub fn pidfd(&self) -> BorrowedFd<'_> {
        self.resident.pidfd()
    }

    /// Whether it has ended or is ending (see [`Resident::has_ended`]).
    pub fn has_ended(&self) -> bool {
        self.resident.has_ended()
    }

    /// What it is the first part of.
    pub fn begun(&self) -> &Begun {
        &self.begun
    }

    /// Waits until its first part is made.
    pub fn wait(&mut self) -> Result<(), LaunchError> {
        if !self.waits {
            self.resident.hear(self.begun.program(), true)?;
            self.waits = true;
        }
        Ok(())
    }

    /// Has the rest made ([`Begun::rest`]), whether or not the first part is through.
    pub fn finish(self, rest: &Program) -> Result<Resident, LaunchError> {
        let Self {
            mut resident,
            begun,
            waits,
        } = self;
        let tags = (CONTINUE, CONTINUE_FILE);
        let sent = send(resident.control.as_fd(), tags, rest.bytes(), &[]);
        // One that has ended has said why.
        let is_gone = |error: &Errno| matches!(error.0, libc::EPIPE | libc::ECONNRESET);
        if let Err(error) = sent
            && !is_gone(&error)
        {
            return Err(LaunchError::Wait(error));
        }
        if !waits {
            resident.hear(begun.program(), true)?;
        }
        resident.downgrades.extend_from_slice(rest.downgrades());
        resident.await_ready(rest)?;
        Ok(resident)
    }
}

/// An environment that waits for commands. Dropping it ends it: the kernel ends every process in it and takes its mounts and
/// memory back, which takes a moment and is over when [`Resident::pidfd`] is readable.
#[derive(Debug)]
pub struct Resident {
    pid: u32,
    pidfd: OwnedFd,
    pub(crate) control: OwnedFd,
    downgrades: Vec<Downgrade>,
    listening: Option<OwnedFd>,
    root: Option<OwnedFd>,
}

impl Resident {
    /// Its PID 1, as the caller counts.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Readable when it is gone.
    pub fn pidfd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }

    /// Whether its PID 1 has ended or is ending. A killed one closes its connection first, and its pidfd is readable only when the
    /// kernel has taken everything in its namespace away.
    pub fn has_ended(&self) -> bool {
        use rustix::event::{PollFd, PollFlags, Timespec, poll};
        let mut polled = [
            // A hang-up is told unasked.
            PollFd::new(&self.control, PollFlags::empty()),
            PollFd::new(&self.pidfd, PollFlags::IN),
        ];
        poll(&mut polled, Some(&Timespec::default())) != Ok(0)
    }

    /// What the plan asks for and this host cannot do.
    pub fn downgrades(&self) -> &[Downgrade] {
        &self.downgrades
    }

    /// The socket that listens in its network namespace, if the plan has one; once.
    pub fn take_listening(&mut self) -> Option<OwnedFd> {
        self.listening.take()
    }

    /// Its root, if the plan hands it out; once. To be looked into with openat2(2) and `RESOLVE_IN_ROOT` only: whoever lives
    /// in it made what is there.
    pub fn take_root(&mut self) -> Option<OwnedFd> {
        self.root.take()
    }

    /// Starts a command. `standard` becomes its standard input, output and error, `more` its descriptors from 3 on. On
    /// `connection`, PID 1's end of a [`connection`], it is told how that went, and how the command ends.
    pub fn execute(
        &self,
        command: &Command,
        limits: &BTreeMap<Limit, u64>,
        standard: [BorrowedFd<'_>; 3],
        connection: BorrowedFd<'_>,
        more: &[BorrowedFd<'_>],
    ) -> Result<(), LaunchError> {
        let request = request::encode(command, limits, false)?;
        self.execute_encoded(&request, standard, connection, more)
    }

    /// The same, for a command that is killed with all its descendants: by the order to kill it, and when its connection closes.
    pub fn execute_tree(
        &self,
        command: &Command,
        limits: &BTreeMap<Limit, u64>,
        standard: [BorrowedFd<'_>; 3],
        connection: BorrowedFd<'_>,
    ) -> Result<(), LaunchError> {
        let mut request = request::encode(command, limits, false)?;
        request::kill_as_tree(&mut request);
        self.execute_encoded(&request, standard, connection, &[])
    }

    /// Has PID 1 send descriptors of the environment's `namespaces` (see [`crate::namespaces`]) on `connection`, its end of a
    /// [`connection`]: for [`crate::join`].
    pub fn hand_namespaces(
        &self,
        namespaces: u64,
        connection: BorrowedFd<'_>,
    ) -> Result<(), LaunchError> {
        let flags = namespaces.to_ne_bytes();
        // Somebody inside may hold PID 1 up, which the daemon is not to wait for.
        let how = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
        let control = self.control.as_fd();
        send_packet(control, protocol::JOIN, &flags, &[connection], how).map_err(vanished)
    }

    /// Descriptors of the environment's namespaces of users and of mounts, in this order.
    pub fn namespaces(&self) -> Result<Vec<OwnedFd>, LaunchError> {
        use envd_init::sys::constant::{CLONE_NEWNS, CLONE_NEWUSER};
        let (ours, theirs) = bounded_connection()?;
        self.hand_namespaces(CLONE_NEWUSER | CLONE_NEWNS, theirs.as_fd())?;
        drop(theirs);
        take_namespaces(ours.as_fd())
    }

    /// Stops every process inside. They go on when what this gives is dropped.
    pub fn freeze(&self) -> Result<Frozen<'_>, FreezeError> {
        self.tell(protocol::FREEZE).map_err(FreezeError::Vanished)?;
        let (packet, _) = receive(self.control.as_fd()).map_err(FreezeError::Vanished)?;
        let moving = packet.get(4..8).and_then(|bytes| bytes.try_into().ok());
        match (protocol::tag(&packet), moving.map(u32::from_ne_bytes)) {
            (Some(protocol::FROZEN), Some(0)) => Ok(Frozen(self)),
            (Some(protocol::FROZEN), Some(moving)) => Err(FreezeError::Moving(moving)),
            _ => Err(FreezeError::Vanished(Errno(libc::ECONNRESET))),
        }
    }

    /// Kills every process inside but its PID 1.
    pub fn kill_all(&self) {
        // One that is gone has none.
        let _ = self.tell(protocol::KILL);
    }

    fn tell(&self, tag: u32) -> Result<(), Errno> {
        let flags = SendFlags::NOSIGNAL;
        rustix::net::send(&self.control, &tag.to_ne_bytes(), flags)?;
        Ok(())
    }

    /// The same from a request that is encoded already (see [`envd_init::request`]).
    pub fn execute_encoded(
        &self,
        request: &[u8],
        standard: [BorrowedFd<'_>; 3],
        connection: BorrowedFd<'_>,
        more: &[BorrowedFd<'_>],
    ) -> Result<(), LaunchError> {
        let [input, output, error] = standard;
        let mut descriptors = vec![input, output, error, connection];
        descriptors.extend_from_slice(more);
        if descriptors.len() >= MOST_DESCRIPTORS {
            let message = format!(
                "a command takes at most {} descriptors",
                MOST_DESCRIPTORS - 2
            );
            return Err(LaunchError::Plan(message));
        }
        send(
            self.control.as_fd(),
            (EXECUTE, EXECUTE_FILE),
            request,
            &descriptors,
        )
        .map_err(vanished)
    }

    fn await_ready(&mut self, program: &Program) -> Result<(), LaunchError> {
        self.hear(program, false)
    }

    /// Takes what it says until it is ready, or until the first part of what is continued is made.
    fn hear(&mut self, program: &Program, first: bool) -> Result<(), LaunchError> {
        loop {
            let (packet, mut descriptors) =
                receive(self.control.as_fd()).map_err(LaunchError::Wait)?;
            if packet.is_empty() {
                return Err(LaunchError::Vanished);
            }
            if protocol::tag(&packet) == Some(protocol::DESCRIPTORS) {
                self.listening = descriptors.pop();
            } else if protocol::tag(&packet) == Some(protocol::ROOT) {
                self.root = descriptors.pop();
            } else if first && protocol::tag(&packet) == Some(protocol::HALFWAY) {
                return Ok(());
            } else if let Some(Report::Started(_)) = Report::decode(&packet) {
                return Ok(());
            } else {
                return Err(refused(&packet, program));
            }
        }
    }
}

/// How long an answer is waited for that somebody inside may be in the way of.
const PATIENCE: Duration = Duration::from_secs(10);

/// A [`connection`] on which nothing is waited for any longer.
fn bounded_connection() -> Result<(OwnedFd, OwnedFd), LaunchError> {
    let (ours, theirs) = connection()?;
    let bound = set_socket_timeout(&ours, Timeout::Recv, Some(PATIENCE));
    bound.map_err(|error| LaunchError::Connection(error.into()))?;
    Ok((ours, theirs))
}

fn vanished(error: Errno) -> LaunchError {
    match error.0 {
        libc::EPIPE | libc::ECONNRESET => LaunchError::Vanished,
        _ => LaunchError::Wait(error),
    }
}

/// The namespaces that PID 1 was asked for, from our end of the connection that it was given.
pub fn take_namespaces(connection: BorrowedFd<'_>) -> Result<Vec<OwnedFd>, LaunchError> {
    let (packet, descriptors) = receive(connection).map_err(LaunchError::Wait)?;
    match (protocol::tag(&packet), Failure::decode(&packet)) {
        (Some(protocol::NAMESPACES), _) => Ok(descriptors),
        (_, Some(failure)) => Err(failure::launch_error(&failure, None, None)),
        _ => Err(LaunchError::Vanished),
    }
}

/// An environment whose processes stand still as long as this is there.
#[derive(Debug)]
pub struct Frozen<'r>(&'r Resident);

impl Drop for Frozen<'_> {
    fn drop(&mut self) {
        let _ = self.0.tell(protocol::THAW);
    }
}

/// Why an environment goes on.
#[derive(Debug, thiserror::Error)]
pub enum FreezeError {
    /// A process inside, by its number there, waits for something that cannot be interrupted.
    #[error("process {0} inside does not stop: it waits for a device or a file system")]
    Moving(u32),
    /// It has ended meanwhile.
    #[error("the environment has ended")]
    Vanished(#[source] Errno),
}

/// What a command's connection says.
#[derive(Debug)]
pub enum Said {
    /// It has started, stopped or ended.
    Report(Report),
    /// It could not be started.
    Failed(LaunchError),
    /// PID 1 is gone, and with it the environment.
    Gone,
}

impl Said {
    /// From a packet that was read off a connection; an empty one is its end. `command` is the one it is about.
    pub fn of(packet: &[u8], command: &Command) -> Self {
        if let Some(report) = Report::decode(packet) {
            return Said::Report(report);
        }
        match Failure::decode(packet) {
            Some(failure) => Said::Failed(failure::launch_error(&failure, None, Some(command))),
            None => Said::Gone,
        }
    }
}

fn refused(packet: &[u8], program: &Program) -> LaunchError {
    match Failure::decode(packet) {
        Some(failure) => failure::launch_error(&failure, Some(program), None),
        None => LaunchError::Vanished,
    }
}

/// The launcher's program as a file to execute, in memory. Sealed: a command can have PID 1 execute `/proc/self/exe`, and what is
/// written to that file then is the program of the launcher outside, too (CVE-2019-5736). That a program that runs cannot be
/// written to is not so on every kernel.
fn program_file() -> io::Result<OwnedFd> {
    use rustix::fs::{MemfdFlags, SealFlags};
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let file = rustix::fs::memfd_create("envd-launcher", flags)?;
    let mut file = std::fs::File::from(file);
    file.write_all(envd_init::LAUNCHER)?;
    let seals = SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL;
    rustix::fs::fcntl_add_seals(&file, seals)?;
    Ok(file.into())
}

/// Sends a body under the first tag, or in a file under the second where it is too long for a packet.
fn send(
    socket: BorrowedFd<'_>,
    (tag, file_tag): (u32, u32),
    body: &[u8],
    descriptors: &[BorrowedFd<'_>],
) -> Result<(), Errno> {
    let flags = SendFlags::NOSIGNAL;
    if body.len() + 4 <= LONGEST_PACKET {
        return send_packet(socket, tag, body, descriptors, flags);
    }
    let kind = rustix::fs::MemfdFlags::CLOEXEC;
    let mut file = std::fs::File::from(rustix::fs::memfd_create("envd-request", kind)?);
    file.write_all(body)?;
    let length = u32::try_from(body.len()).map_err(|_| Errno(libc::EMSGSIZE))?;
    let mut all = descriptors.to_vec();
    all.push(file.as_fd());
    send_packet(socket, file_tag, &length.to_ne_bytes(), &all, flags)
}

pub(crate) fn send_packet(
    socket: BorrowedFd<'_>,
    tag: u32,
    body: &[u8],
    descriptors: &[BorrowedFd<'_>],
    flags: SendFlags,
) -> Result<(), Errno> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_DESCRIPTORS))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() {
        ancillary.push(SendAncillaryMessage::ScmRights(descriptors));
    }
    let tag = tag.to_ne_bytes();
    let parts = [IoSlice::new(&tag), IoSlice::new(body)];
    loop {
        match rustix::net::sendmsg(socket, &parts, &mut ancillary, flags) {
            Err(rustix::io::Errno::INTR) => {}
            other => return other.map(drop).map_err(Errno::from),
        }
    }
}

/// Waits for the next packet of a launcher or of PID 1, all of which are short.
pub(crate) fn receive(socket: BorrowedFd<'_>) -> Result<(Vec<u8>, Vec<OwnedFd>), Errno> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_DESCRIPTORS))];
    let mut buffer = [0; 256];
    loop {
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let mut parts = [IoSliceMut::new(&mut buffer)];
        let flags = RecvFlags::CMSG_CLOEXEC;
        let length = match rustix::net::recvmsg(socket, &mut parts, &mut ancillary, flags) {
            // The latter is told once, before what was said last: something has come too late to be read.
            Err(rustix::io::Errno::INTR | rustix::io::Errno::CONNRESET) => continue,
            other => other?.bytes,
        };
        let rights = ancillary.drain().filter_map(|message| match message {
            RecvAncillaryMessage::ScmRights(descriptors) => Some(descriptors),
            _ => None,
        });
        return Ok((buffer[..length].to_vec(), rights.flatten().collect()));
    }
}
