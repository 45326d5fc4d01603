//! What services need of an environment: that it starts processes.

use std::{
    collections::BTreeMap, ffi::OsString, future::Future, io, net::Ipv4Addr, net::Ipv6Addr,
    os::fd::OwnedFd, path::PathBuf, pin::Pin, time::Duration,
};

use envd_supervision::{ExitStatus, Signal};
use tokio::net::TcpStream;

/// A future behind a pointer, so that [`Executor`] can be one, too.
pub type Boxed<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// How long a connection to a port of this machine may take.
const CONNECT_MAX: Duration = Duration::from_secs(1);

/// Starts processes in an environment.
pub trait Executor: Send + Sync + 'static {
    /// Starts a process. The future is polled to its end, whatever happens meanwhile.
    fn start(&self, launch: Launch) -> Boxed<'_, io::Result<Started>>;

    /// Connects to a port of the environment's loopback interface and hangs up. The default is for environments that share the
    /// machine's network.
    fn connect(&self, port: u16) -> Boxed<'_, io::Result<()>> {
        Box::pin(connect_here(port))
    }
}

/// A process to be started.
#[derive(Debug)]
pub struct Launch {
    /// The program, to be looked up in the environment's PATH, and its arguments. Never empty.
    pub arguments: Vec<OsString>,
    /// Variables on top of those of the environment.
    pub variables: BTreeMap<OsString, OsString>,
    /// Where it runs; relative to the project.
    pub directory: PathBuf,
    /// Its descriptors by number, 0, 1 and 2 among them, none above [`crate::config::service::DESCRIPTOR_MAX`]. It has no others.
    pub descriptors: Vec<(u32, OwnedFd)>,
}

/// A process that has been started.
pub struct Started {
    /// Its number, for people to see.
    pub pid: u32,
    /// Its reins.
    pub control: Box<dyn Control>,
    /// How it ended, once it has. What is left of its process group is gone by then. A process that is lost track of was ended by SIGKILL.
    pub ended: Boxed<'static, ExitStatus>,
}

/// The reins of a process. A process that has ended already is no error.
pub trait Control: Send + Sync {
    /// Signals the process and the rest of its process group: a shell that runs a line would not pass the signal on.
    fn signal(&self, signal: Signal) -> io::Result<()>;

    /// Ends the process and all of its process group by SIGKILL.
    fn kill(&self) -> io::Result<()>;
}

async fn connect_here(port: u16) -> io::Result<()> {
    let attempt = async {
        // Whoever listens on one of the two is there.
        match TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await {
            Ok(_) => Ok(()),
            Err(error) => TcpStream::connect((Ipv6Addr::LOCALHOST, port))
                .await
                .map(drop)
                .map_err(|_| error),
        }
    };
    match tokio::time::timeout(CONNECT_MAX, attempt).await {
        Ok(result) => result,
        Err(_) => Err(io::ErrorKind::TimedOut.into()),
    }
}
