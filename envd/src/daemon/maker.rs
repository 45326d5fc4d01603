//! What makes environments: the launcher, or in tests something that needs no namespaces.

use std::{
    cell::{OnceCell, RefCell},
    os::fd::BorrowedFd,
    path::{Path, PathBuf},
};

use envd_shims::{LaunchError, Launcher, Plan, Program, Resident, compile_joining, compile_on};

use super::skeletons::Skeletons;

/// A plan, and what was made of it once for all.
#[derive(Debug)]
pub struct Blueprint {
    /// The plan.
    pub plan: Plan,
    /// The name of the terminal that its command has, where that is one.
    terminal: Option<PathBuf>,
    program: OnceCell<Program>,
    joining: OnceCell<Program>,
}

impl Blueprint {
    /// Of a plan.
    pub fn new(plan: Plan) -> Self {
        Self::on(plan, None)
    }

    /// Of a plan whose command has this terminal.
    pub fn on(plan: Plan, terminal: Option<PathBuf>) -> Self {
        Self {
            plan,
            terminal,
            program: OnceCell::new(),
            joining: OnceCell::new(),
        }
    }

    /// What makes such an environment, with a layer that it shares with others.
    fn program(&self, skeletons: &Skeletons) -> Result<&Program, LaunchError> {
        once(&self.program, || {
            compile_on(&skeletons.plan(&self.plan), self.terminal.as_deref())
        })
    }

    /// What somebody gives up who joins such an environment.
    pub fn joining(&self) -> Result<&Program, LaunchError> {
        once(&self.joining, || compile_joining(&self.plan))
    }

    /// The namespaces of such an environment, as flags of clone3(2).
    pub fn namespaces(&self) -> u64 {
        envd_shims::namespaces(&self.plan)
    }
}

fn once(
    cell: &OnceCell<Program>,
    make: impl FnOnce() -> Result<Program, LaunchError>,
) -> Result<&Program, LaunchError> {
    if let Some(program) = cell.get() {
        return Ok(program);
    }
    let program = make()?;
    Ok(cell.get_or_init(|| program))
}

/// Makes environments.
pub trait Maker {
    /// An environment in which nothing runs yet.
    fn make(&self, blueprint: &Blueprint) -> Result<Box<dyn Environment>, LaunchError>;
}

/// An environment. Dropping it ends it and everything in it, without waiting for that.
pub trait Environment: Send + Sync {
    /// Its PID 1, as the daemon counts.
    fn pid(&self) -> u32;

    /// Readable once nothing of it is left.
    fn pidfd(&self) -> BorrowedFd<'_>;

    /// Whether it is past use, though something of it may be left for a moment.
    fn has_ended(&self) -> bool;

    /// What the plan asked for and this host cannot do.
    fn downgrades(&self) -> Vec<String>;

    /// Starts a command (see [`envd_init::request`]), `more` being its descriptors from 3 on; what becomes of it is said on `connection`. When the other end of that
    /// closes, the command is ended.
    fn execute(
        &self,
        request: &[u8],
        standard: [BorrowedFd<'_>; 3],
        connection: BorrowedFd<'_>,
        more: &[BorrowedFd<'_>],
    ) -> Result<(), LaunchError>;

    /// Has descriptors of these of its namespaces sent on `connection` (see [`envd_init::protocol::JOIN`]).
    fn hand_namespaces(
        &self,
        namespaces: u64,
        connection: BorrowedFd<'_>,
    ) -> Result<(), LaunchError>;
}

/// Makes environments by a launcher, which is replaced should it die.
#[derive(Debug)]
pub struct Launching {
    launcher: RefCell<Launcher>,
    /// After the launcher, whose environments have them.
    skeletons: Skeletons,
}

impl Launching {
    /// With a launcher of its own, and the store in which there is room for what environments share.
    pub fn start(store: &Path) -> Result<Self, LaunchError> {
        Ok(Self {
            launcher: RefCell::new(Launcher::start()?),
            skeletons: Skeletons::new(store),
        })
    }
}

impl Maker for Launching {
    fn make(&self, blueprint: &Blueprint) -> Result<Box<dyn Environment>, LaunchError> {
        let program = blueprint.program(&self.skeletons)?;
        let made = self.launcher.borrow().launch_program(program);
        let resident = match made {
            // Its end of the socket is closed: it is gone, and so is all that it made.
            Err(LaunchError::Wait(_) | LaunchError::Vanished) => {
                tracing::warn!("the launcher is gone; another one is started");
                let launcher = Launcher::start()?;
                let made = launcher.launch_program(program);
                self.launcher.replace(launcher);
                made?
            }
            made => made?,
        };
        Ok(Box::new(resident))
    }
}

impl Environment for Resident {
    fn pid(&self) -> u32 {
        Resident::pid(self)
    }

    fn pidfd(&self) -> BorrowedFd<'_> {
        Resident::pidfd(self)
    }

    fn has_ended(&self) -> bool {
        Resident::has_ended(self)
    }

    fn downgrades(&self) -> Vec<String> {
        let downgrades = Resident::downgrades(self).iter();
        downgrades.map(ToString::to_string).collect()
    }

    fn execute(
        &self,
        request: &[u8],
        standard: [BorrowedFd<'_>; 3],
        connection: BorrowedFd<'_>,
        more: &[BorrowedFd<'_>],
    ) -> Result<(), LaunchError> {
        self.execute_encoded(request, standard, connection, more)
    }

    fn hand_namespaces(
        &self,
        namespaces: u64,
        connection: BorrowedFd<'_>,
    ) -> Result<(), LaunchError> {
        Resident::hand_namespaces(self, namespaces, connection)
    }
}
