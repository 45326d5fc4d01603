//! The client's side: to find a daemon, to start one, and to ask it.

use std::{
    cell::RefCell,
    ffi::OsString,
    fs::File,
    io::{self, Read as _},
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::process::CommandExt as _,
    },
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use rustix::fs::{FlockOperation, flock};
use serde_json::Value;

use super::{
    message::{self, Answer, Event, Question, Reason, Refusal, Request},
    packet::{self, LONGEST, Packet},
    place::{self, Place, PlaceError},
    server::Status,
};
use crate::{
    cli::{Failure, Kind},
    settings::{HostVariables, Settings, variable},
};

/// What a daemon says on its standard output once it can be reached.
pub const READY: &str = "ready\n";

/// The caller's variables that a daemon is started with: who the caller is, where things are, and the way out.
const TAKEN: [&str; 14] = [
    "HOME",
    "LANG",
    "LOGNAME",
    "NO_PROXY",
    "PATH",
    "SHELL",
    "TMPDIR",
    "TZ",
    "USER",
    "all_proxy",
    "http_proxy",
    "https_proxy",
    "no_proxy",
    "HTTP_PROXY",
];
/// And those whose names begin so.
const TAKEN_FAMILIES: [&str; 3] = ["ENVD_", "XDG_", "LC_"];

/// A daemon that is not reached, or does not do what it is asked.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Its place cannot be used.
    #[error(transparent)]
    Place(#[from] PlaceError),
    /// The connection failed.
    #[error("cannot talk to the daemon at {}", path.display())]
    Socket {
        /// The socket.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Somebody else listens there.
    #[error("the daemon at {} is another user's (uid {owner})", path.display())]
    Foreign {
        /// The socket.
        path: PathBuf,
        /// Whose it is.
        owner: u32,
    },
    /// The daemon was gone before it answered.
    #[error("the daemon ended before it answered")]
    Ended,
    /// What it answered makes no sense.
    #[error("the daemon's answer cannot be understood: {0}")]
    Answer(String),
    /// It was started and ended.
    #[error("the daemon could not be started: {0}")]
    Start(String),
    /// It is of another build, and something runs in it.
    #[error("the daemon of this project is envd {0}, and something runs in it")]
    Version(String),
    /// It said no.
    #[error("{}", .0.message)]
    Refused(Refusal),
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        let help = match &error {
            ClientError::Place(place) => place.help(),
            ClientError::Refused(refusal) => return refusal.clone().into(),
            ClientError::Version(_) => {
                "`envd daemon stop` ends it and what runs in it; or leave it: --no-daemon"
                    .to_owned()
            }
            ClientError::Foreign { path, .. } => format!("remove {}", path.display()),
            _ => "`envd daemon logs` has what it said last".to_owned(),
        };
        Self::of(Kind::Host, &error).help(help)
    }
}

/// A connection to a daemon.
#[derive(Debug)]
pub struct Client {
    socket: OwnedFd,
    path: PathBuf,
    buffer: RefCell<Vec<u8>>,
}

impl AsFd for Client {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Client {
    /// A connection, if a daemon is there.
    pub fn connect(place: &Place) -> Result<Option<Self>, ClientError> {
        match place.check()? {
            true => Self::at(place.socket()),
            false => Ok(None),
        }
    }

    /// A connection to whoever listens at `path`, in a directory that is the user's own.
    fn at(path: PathBuf) -> Result<Option<Self>, ClientError> {
        let socket = match packet::connect(&path) {
            Ok(socket) => socket,
            // None was ever started, or it is dead.
            Err(error)
                if [io::ErrorKind::NotFound, io::ErrorKind::ConnectionRefused]
                    .contains(&error.kind()) =>
            {
                return Ok(None);
            }
            Err(source) => return Err(ClientError::Socket { path, source }),
        };
        let own = rustix::process::getuid().as_raw();
        match packet::peer(socket.as_fd()) {
            Ok(owner) if owner == own => Ok(Some(Self {
                socket,
                path,
                buffer: RefCell::default(),
            })),
            Ok(owner) => Err(ClientError::Foreign { path, owner }),
            Err(source) => Err(ClientError::Socket { path, source }),
        }
    }

    /// Asks, and waits for the answer.
    pub fn ask(&self, request: Request) -> Result<Value, ClientError> {
        self.ask_with(request, &[])
    }

    /// Asks something that descriptors belong to.
    pub fn ask_with(
        &self,
        request: Request,
        descriptors: &[BorrowedFd<'_>],
    ) -> Result<Value, ClientError> {
        self.converse(request, descriptors, &mut |_| {})
    }

    /// Asks, and hears what happens until the answer is there.
    pub fn ask_and_hear(
        &self,
        request: Request,
        told: &mut dyn FnMut(&Event),
    ) -> Result<Value, ClientError> {
        self.converse(request, &[], told)
    }

    fn converse(
        &self,
        request: Request,
        descriptors: &[BorrowedFd<'_>],
        told: &mut dyn FnMut(&Event),
    ) -> Result<Value, ClientError> {
        self.begin(request, descriptors)?;
        self.conclude(told)
    }

    /// Asks, and does not wait for the answer.
    pub fn begin(
        &self,
        request: Request,
        descriptors: &[BorrowedFd<'_>],
    ) -> Result<(), ClientError> {
        let question = Question {
            version: message::VERSION,
            build: format!("{:016x}", place::build()),
            request,
        };
        let packet = message::packet(&question);
        let (bytes, memory) = message::fitting(&packet).map_err(|source| self.failed(source))?;
        let mut descriptors = descriptors.to_vec();
        descriptors.extend(memory.iter().map(|memory| memory.as_fd()));
        self.send(&bytes, &descriptors)
    }

    /// Hears what happens until the answer to [`Client::begin`] is there.
    pub fn conclude(&self, told: &mut dyn FnMut(&Event)) -> Result<Value, ClientError> {
        loop {
            match self.answer()? {
                Some(Answer::Ok(value)) => return Ok(value),
                Some(Answer::Error(refusal)) => return Err(ClientError::Refused(refusal)),
                Some(Answer::Event(event)) => told(&event),
                None => return Err(ClientError::Ended),
            }
        }
    }

    /// Has nothing more to say and hears nothing more.
    pub fn hang_up(&self) {
        let _ = rustix::net::shutdown(&self.socket, rustix::net::Shutdown::Both);
    }

    /// The same for another thread, while this one waits for an answer.
    pub fn hanging_up(&self) -> io::Result<impl Fn() + Send + 'static> {
        let socket = self.socket.try_clone()?;
        Ok(move || {
            let _ = rustix::net::shutdown(&socket, rustix::net::Shutdown::Both);
        })
    }

    /// Sends a packet as it is.
    pub fn send(&self, bytes: &[u8], descriptors: &[BorrowedFd<'_>]) -> Result<(), ClientError> {
        match packet::send(self.socket.as_fd(), bytes, descriptors) {
            Ok(()) => Ok(()),
            // It may have said why.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => match self.answer() {
                Ok(Some(Answer::Error(refusal))) => Err(ClientError::Refused(refusal)),
                _ => Err(ClientError::Ended),
            },
            Err(source) => Err(self.failed(source)),
        }
    }

    /// Waits for the next answer; `None` when the daemon is gone.
    pub fn answer(&self) -> Result<Option<Answer>, ClientError> {
        match self.packet()? {
            Some(packet) => Self::understood(packet).map(Some),
            None => Ok(None),
        }
    }

    /// Waits for the next packet; `None` when the daemon is gone.
    pub(super) fn packet(&self) -> Result<Option<Packet>, ClientError> {
        let mut buffer = self.buffer.borrow_mut();
        buffer.resize(LONGEST, 0);
        let received = packet::receive(self.socket.as_fd(), &mut buffer);
        received.map_err(|source| self.failed(source))
    }

    /// The answer in a packet.
    pub(super) fn understood(mut packet: Packet) -> Result<Answer, ClientError> {
        message::json_of(&mut packet).map_err(|error| ClientError::Answer(error.to_string()))
    }

    /// How the daemon is.
    pub fn status(&self) -> Result<Status, ClientError> {
        let value = self.ask(Request::Status)?;
        serde_json::from_value(value).map_err(|error| ClientError::Answer(error.to_string()))
    }

    /// Has the daemon end, and waits until it has.
    pub fn stop(self, if_idle: bool) -> Result<(), ClientError> {
        self.ask(Request::Stop { if_idle })?;
        while self.answer()?.is_some() {}
        Ok(())
    }

    fn failed(&self, source: io::Error) -> ClientError {
        ClientError::Socket {
            path: self.path.clone(),
            source,
        }
    }
}

/// The daemons of a store, each with its socket. What dead ones have left is removed on the way.
pub fn of_store(settings: &Settings, uid: u32) -> Vec<(PathBuf, Client)> {
    let directory = Place::runtime(settings, uid);
    let entries = std::fs::read_dir(&directory)
        .into_iter()
        .flatten()
        .flatten();
    let sockets = entries
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|ending| ending == "sock"));
    let store = settings.store.display().to_string();
    let mut found = Vec::new();
    for path in sockets {
        match Client::at(path.clone()) {
            Ok(Some(client)) => {
                if client
                    .status()
                    .is_ok_and(|status| status.identity.store == store)
                {
                    found.push((path, client));
                }
            }
            Ok(None) => {
                for ending in ["sock", "log", "lock"] {
                    let _ = std::fs::remove_file(path.with_extension(ending));
                }
                let _ = std::fs::remove_dir_all(path.with_extension("notify"));
            }
            Err(_) => {}
        }
    }
    found
}

/// What a daemon is started with.
#[derive(Debug)]
pub struct Starter<'a> {
    /// Where it will be.
    pub place: &'a Place,
    /// Its project.
    pub project: &'a Path,
    /// Its store.
    pub store: &'a Path,
    /// The caller's variables.
    pub variables: &'a HostVariables,
}

impl Starter<'_> {
    /// A connection to the daemon, which is started if there is none. One of another build is replaced when nothing runs in it.
    pub fn connect(&self) -> Result<Client, ClientError> {
        if let Some(client) = self.connect_to_ours()? {
            return Ok(client);
        }
        self.place.make()?;
        // One starts, and whoever else comes waits for that one.
        let directory = File::open(self.place.directory()).map_err(|e| self.failed(e))?;
        rustix::io::retry_on_intr(|| flock(&directory, FlockOperation::LockExclusive))
            .map_err(|e| self.failed(e.into()))?;
        if let Some(client) = Client::connect(self.place)? {
            return Ok(client);
        }
        self.start()?;
        Client::connect(self.place)?.ok_or(ClientError::Ended)
    }

    /// A connection to a daemon of this build, if there is one. One of another is stopped, when nothing runs in it.
    fn connect_to_ours(&self) -> Result<Option<Client>, ClientError> {
        let Some(client) = Client::connect(self.place)? else {
            return Ok(None);
        };
        let identity = client.status()?.identity;
        if identity.build == place::build() {
            return Ok(Some(client));
        }
        match client.stop(true) {
            Ok(()) => Ok(None),
            Err(ClientError::Refused(refusal)) if refusal.kind == Reason::Busy => {
                Err(ClientError::Version(identity.version))
            }
            Err(error) => Err(error),
        }
    }

    fn start(&self) -> Result<(), ClientError> {
        let mut command = Command::new("/proc/self/exe");
        command
            .arg0("envd")
            .args(["daemon", "serve", "--project"])
            .arg(self.project)
            .current_dir("/")
            .env_clear()
            .envs(taken(self.variables))
            .env(variable::ENVD_STORE, self.store)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        let mut child = command.spawn().map_err(|e| self.failed(e))?;
        let mut said = String::new();
        if let Some(mut output) = child.stdout.take() {
            output
                .read_to_string(&mut said)
                .map_err(|e| self.failed(e))?;
        }
        if said == READY {
            return Ok(());
        }
        // It has ended, or is about to.
        let _ = child.wait();
        match serde_json::from_str::<Refusal>(&said) {
            Ok(refusal) => Err(ClientError::Refused(refusal)),
            Err(_) => Err(ClientError::Start("it ended and said nothing".to_owned())),
        }
    }

    fn failed(&self, source: io::Error) -> ClientError {
        ClientError::Socket {
            path: self.place.socket(),
            source,
        }
    }
}

fn taken(variables: &HostVariables) -> Vec<(OsString, OsString)> {
    let wanted = |name: &str| {
        TAKEN.contains(&name) || TAKEN_FAMILIES.iter().any(|family| name.starts_with(family))
    };
    variables
        .iter()
        .filter(|(name, _)| name.to_str().is_some_and(wanted))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}
