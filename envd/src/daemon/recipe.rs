//! What is to be made for a command: the same way from the project's files to a plan as `envd run` itself goes, walked once
//! for all commands that ask alike.

use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, HashMap},
    ffi::OsString,
    os::fd::BorrowedFd,
    path::{Path, PathBuf},
    rc::Rc,
};

use envd_shims::name_of_terminal;
use tokio::time::Instant;

use super::{
    maker::{Blueprint, Environment},
    order::{AS_ROOT, NO_NETWORK, SHELL, STRICT},
    stamp::{Identities, Stamp, Watched},
};
use crate::{
    cli::{Failure, Kind, operations::Ready},
    config::Manifest,
    environment::{
        Cache, Caller, HostFacts, Inputs, Network, RootFacts, Wanted, Workplace, caches, git, plan,
        variables, working_directory,
    },
    project,
    settings::HostVariables,
};

/// The caller's variables that decide what is made, and not only what a command is told.
const DECIDING: [&str; 7] = [
    "HOME", "SHELL", "USER", "LOGNAME", "LC_ALL", "LC_CTYPE", "LANG",
];
/// Recipes that are kept. Callers seldom differ; those that make up variables must not fill the memory.
const KEPT: usize = 8;

/// Where the project's realised environment comes from.
pub trait Source {
    /// It, and what the project's file says; `None` where it has to be realised first.
    fn ready(&self) -> Result<Option<(Ready, Manifest)>, Failure>;
}

/// What one command asks for, as far as an environment can be made before it comes.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Wish {
    inside: u32,
    deciding: [Option<OsString>; DECIDING.len()],
    terminal: Option<Terminal>,
}

/// A terminal that a command is to have.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Terminal {
    path: PathBuf,
    /// Device, inode, number, and when it was made: a pseudoterminal's name goes to the next one.
    identity: (u64, u64, u64, i64, u64),
    /// TERM.
    kind: Option<OsString>,
}

impl Terminal {
    /// The one that this descriptor leads to.
    pub fn of(descriptor: BorrowedFd<'_>, variables: &HostVariables) -> Option<Self> {
        let path = name_of_terminal(descriptor)?;
        let status = rustix::fs::fstat(descriptor).ok()?;
        let identity = (
            status.st_dev,
            status.st_ino,
            status.st_rdev,
            status.st_ctime,
            status.st_ctime_nsec,
        );
        Some(Self {
            path,
            identity,
            kind: variables.get("TERM").map(ToOwned::to_owned),
        })
    }
}

impl Wish {
    /// Of a caller with these variables.
    pub fn of(inside: u32, variables: &HostVariables) -> Self {
        Self {
            inside: inside & (NO_NETWORK | STRICT | AS_ROOT | SHELL),
            deciding: DECIDING.map(|name| variables.get(name).map(ToOwned::to_owned)),
            terminal: None,
        }
    }

    /// The same on a terminal.
    pub fn on(self, terminal: Terminal) -> Self {
        Self {
            terminal: Some(terminal),
            ..self
        }
    }
}

/// How an environment is made for one kind of caller, and those that were made and wait.
pub struct Recipe {
    /// Everything but the command.
    pub blueprint: Blueprint,
    /// Environments made from it that wait for their command.
    pub spares: RefCell<Vec<Box<dyn Environment>>>,
    /// When one was last asked for.
    pub used: Cell<Instant>,
    /// Something waits for the time to drop the spares.
    pub watched: Cell<bool>,
    /// Nothing new is made of it.
    pub retired: Cell<bool>,
    wish: Wish,
    observed: Observed,
    bound: Identities,
}

/// All that a plan depends on but the command and its variables.
struct Observed {
    inside: u32,
    terminal: bool,
    prompt: Option<String>,
    ready: Rc<Ready>,
    manifest: Rc<Manifest>,
    project: PathBuf,
    root: RootFacts,
    host: HostFacts,
    caller: Caller,
    caches: Vec<Cache>,
    workplace: Workplace,
    writable: Vec<PathBuf>,
}

impl Observed {
    fn now(
        wish: &Wish,
        ready: &Rc<Ready>,
        manifest: &Rc<Manifest>,
        project: &Path,
        variables: &HostVariables,
    ) -> Result<Self, Failure> {
        let caller = Caller::of_this_process(variables);
        let workplace = Workplace::project(project, &caller.home)?;
        let host = HostFacts::of_this_machine();
        let view = &ready.environment.view;
        let terminal = wish.terminal.is_some();
        let wanted = Wanted::of(&caller, variables, &host, terminal);
        let root = RootFacts::read(view, wanted).map_err(|e| Failure::of(Kind::Store, &e))?;
        let caches = caches::of(&root, &ready.environment.caches);
        caches::make(&caches)?;
        let prompt = (wish.inside & SHELL != 0).then(|| project::name(project));
        Ok(Self {
            inside: wish.inside,
            terminal,
            prompt,
            ready: ready.clone(),
            manifest: manifest.clone(),
            project: project.to_owned(),
            root,
            host,
            caller,
            caches,
            workplace,
            writable: git::repository_of_worktree(project).into_iter().collect(),
        })
    }

    fn bound(&self) -> Identities {
        let caches = self.caches.iter().map(|cache| &*cache.directory);
        let repositories = self.writable.iter().map(|path| &**path);
        Identities::of(caches.chain(repositories))
    }

    fn with_inputs<T>(
        &self,
        variables: &HostVariables,
        extra: &[(String, OsString)],
        of: impl FnOnce(&Inputs<'_>) -> T,
    ) -> T {
        let has = |flag| self.inside & flag != 0;
        of(&Inputs {
            root: &self.root,
            host: &self.host,
            caller: &self.caller,
            variables,
            project: Some(&self.project),
            workplace: &self.workplace,
            writable: &self.writable,
            readable: &[],
            directory: &self.project,
            manifest_variables: &self.manifest.environment.variables,
            extra_variables: extra,
            home: self.manifest.environment.home,
            caches: &self.caches,
            network: match has(NO_NETWORK) {
                true => Network::None,
                false => Network::Shared,
            },
            terminal: self.terminal,
            as_root: has(AS_ROOT),
            strict: has(STRICT),
            prompt: self.prompt.as_deref(),
            command: &[],
        })
    }
}

impl Recipe {
    fn new(wish: Wish, observed: Observed, variables: &HostVariables) -> Self {
        let terminal = wish.terminal.as_ref();
        let terminal = terminal.map(|terminal| terminal.path.clone());
        Self {
            blueprint: Blueprint::on(observed.with_inputs(variables, &[], plan), terminal),
            spares: RefCell::default(),
            used: Cell::new(Instant::now()),
            watched: Cell::new(false),
            retired: Cell::new(false),
            wish,
            bound: observed.bound(),
            observed,
        }
    }

    /// The root's view, which must be held as long as something runs in it.
    pub fn ready(&self) -> Rc<Ready> {
        self.observed.ready.clone()
    }

    /// What the project's file said.
    pub fn manifest(&self) -> Rc<Manifest> {
        self.observed.manifest.clone()
    }

    /// Whether what runs in it is not trusted.
    pub fn is_strict(&self) -> bool {
        self.wish.inside & STRICT != 0
    }

    /// The variables of one command.
    pub fn variables(
        &self,
        caller: &HostVariables,
        extra: &[(String, OsString)],
    ) -> BTreeMap<String, OsString> {
        self.observed.with_inputs(caller, extra, variables)
    }

    /// The shell, if it is what is wanted; its path inside.
    pub fn shell(&self) -> Result<Option<PathBuf>, Failure> {
        match self.wish.inside & SHELL {
            0 => Ok(None),
            _ => {
                let shell = self.observed.root.shell_to_open();
                shell.map(Some).ok_or_else(Failure::no_shell)
            }
        }
    }

    /// Where a command starts whose caller is in `current`.
    pub fn directory(&self, current: &Path) -> PathBuf {
        working_directory(current, &self.observed.project)
    }

    /// Whether the machine is still as it was observed, but for the files that are watched.
    fn is_current(&self) -> bool {
        self.observed.host.is_called_the_same() && self.bound == self.observed.bound()
    }

    fn retire(&self) {
        self.retired.set(true);
        self.spares.borrow_mut().clear();
    }
}

/// The recipes of a project, as long as its files stay as they are.
pub struct Recipes {
    project: PathBuf,
    source: Box<dyn Source>,
    watched: Watched,
    current: RefCell<Option<Generation>>,
}

/// One state of the project's files.
struct Generation {
    stamp: Stamp,
    ready: Rc<Ready>,
    manifest: Rc<Manifest>,
    recipes: HashMap<Wish, Rc<Recipe>>,
}

impl Generation {
    fn remove(&mut self, wish: &Wish) {
        if let Some(recipe) = self.recipes.remove(wish) {
            recipe.retire();
        }
    }
}

impl Recipes {
    /// Of the project at `project`. Reads nothing yet.
    pub fn new(project: &Path, source: Box<dyn Source>) -> Self {
        Self {
            project: project.to_owned(),
            source,
            watched: Watched::of(project),
            current: RefCell::default(),
        }
    }

    /// The recipe for a wish; `None` where the environment has to be realised first. When a file has changed, what was made
    /// of its old state and is not in use goes.
    pub fn get(
        &self,
        wish: &Wish,
        variables: &HostVariables,
    ) -> Result<Option<Rc<Recipe>>, Failure> {
        let mut current = self.current.borrow_mut();
        let stamp = self.watched.stamp();
        if current.as_ref().is_none_or(|known| known.stamp != stamp) {
            let old = current.take();
            let recipes = old.iter().flat_map(|known| known.recipes.values());
            recipes.for_each(|recipe| recipe.retire());
            let Some((ready, manifest)) = self.source.ready()? else {
                return Ok(None);
            };
            *current = Some(Generation {
                stamp,
                ready: Rc::new(ready),
                manifest: Rc::new(manifest),
                recipes: HashMap::new(),
            });
        }
        let Some(generation) = &mut *current else {
            return Ok(None);
        };
        if let Some(recipe) = generation.recipes.get(wish) {
            if recipe.is_current() {
                recipe.used.set(Instant::now());
                return Ok(Some(recipe.clone()));
            }
            generation.remove(&wish.clone());
        }
        if generation.recipes.len() >= KEPT {
            let oldest = generation.recipes.values().min_by_key(|r| r.used.get());
            let oldest = oldest.map(|recipe| recipe.wish.clone());
            oldest.iter().for_each(|wish| generation.remove(wish));
        }
        let (ready, manifest) = (&generation.ready, &generation.manifest);
        let observed = Observed::now(wish, ready, manifest, &self.project, variables)?;
        let recipe = Rc::new(Recipe::new(wish.clone(), observed, variables));
        generation.recipes.insert(wish.clone(), recipe.clone());
        Ok(Some(recipe))
    }

    /// Environments that wait for a command.
    pub fn spares(&self) -> Vec<u32> {
        let current = self.current.borrow();
        let recipes = current.iter().flat_map(|known| known.recipes.values());
        recipes
            .flat_map(|recipe| {
                let spares = recipe.spares.borrow();
                spares.iter().map(|spare| spare.pid()).collect::<Vec<_>>()
            })
            .collect()
    }

    /// Forgets everything; gives the environments that waited.
    pub fn clear(&self) -> Vec<Box<dyn Environment>> {
        let generation = self.current.borrow_mut().take();
        let recipes = generation.into_iter().flat_map(|known| known.recipes);
        recipes
            .flat_map(|(_, recipe)| {
                recipe.retired.set(true);
                recipe.spares.take()
            })
            .collect()
    }
}
