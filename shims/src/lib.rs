//! How a process gets into an environment.
//!
//! A [`Plan`] says everything that is to happen, as data; [`launch`] makes it happen. Policy is elsewhere: the launcher
//! does what the plan says and refuses what the kernel refuses, by name.
//!
//! A plan is [compiled](compile) into a list of system calls, which `envd-init` carries out: one clone3(2) makes the new
//! process in its namespaces; it assembles the root, becomes PID 1 and starts the command as its child, or waits for
//! commands ([`Resident`]). The owner keeps the other end of a connection to it. When either end goes, so does the
//! environment: nothing of it outlives its owner.

#![deny(unsafe_code)]

pub mod cgroup;
mod compile;
mod errno;
mod error;
mod explain;
mod failure;
mod ids;
mod launch;
pub mod plan;
mod privileges;
pub mod probe;
pub mod recorder;
mod release;
pub mod request;
mod resident;
mod running;
pub mod seccomp;
mod skeleton;
mod sockets;
#[allow(unsafe_code)]
mod sys;
mod target;
mod terminal;
mod text;
mod wire;

pub use compile::{
    Begun, Program, begin, compile, compile_amendment, compile_joining, compile_on,
    name_of_terminal, namespaces,
};
pub use errno::Errno;
pub use error::{LaunchError, SetupError};
pub use launch::{Joining, connection, join, launch};
pub use plan::Plan;
pub use recorder::{OwnershipNote, Recorded, run_recorded};
pub use resident::{FreezeError, Frozen, Halfway, Launcher, Resident, Said, take_namespaces};
pub use running::{Downgrade, Exit, Running};
pub use skeleton::{Planted, Skeleton, Thing};
pub use sockets::{AskedSocket, IpVersion};
pub use sys::let_go_of_code;
#[cfg(target_env = "gnu")]
pub use sys::look_names_up_without_modules;
pub use terminal::stop_this_process;

/// Launches, relays signals and the terminal, waits, and gives how the command ended.
///
/// A program that is not there or cannot be executed is an exit too (127 and 126, as in shells) and is said on standard
/// error; everything else that prevents the launch is an error. `downgraded` is told of each thing in the plan that this host
/// cannot do, before the wait.
pub fn run(plan: &Plan, downgraded: &mut dyn FnMut(&Downgrade)) -> Result<Exit, LaunchError> {
    let launched = launch::launch_unheard(plan).and_then(|running| {
        running.downgrades().iter().for_each(downgraded);
        running.wait()
    });
    match launched {
        Err(error) => match (error.exec_code(), std::error::Error::source(&error)) {
            (Some(code), Some(source)) => {
                eprintln!("envd: {source}");
                Ok(Exit::Code(code))
            }
            _ => Err(error),
        },
        exit => exit,
    }
}
