//! A plan in two parts: what can be made before it is known what for, and the rest.
//!
//! Most of what an environment costs does not depend on what is written in it: its namespaces, its root, its `/dev` and `/proc`.
//! So one can be made ahead and wait, with PID 1 still outside of its root and nothing else in it, until it is told what
//! else its overlays consist of, if anything.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use envd_init::program::{CONTINUED, Operation, Slot};

use super::{Caller, Compiler, Program, Stage, c_path, check, mounts::Source, namespaces};
use crate::{
    Errno,
    error::{LaunchError, SetupError},
    plan::{Mount, Plan},
};

/// The first part of a plan, with all that is needed to compile the second.
#[derive(Debug)]
pub struct Begun {
    program: Program,
    plan: Plan,
    /// Where layers that are told later are, and what opens it.
    within: (PathBuf, Slot),
    /// What opens the lowers of each overlay, by its number in the plan.
    lowers: BTreeMap<usize, Vec<Slot>>,
    slots: u16,
    root: Slot,
    stage: Option<Stage>,
    fresh: BTreeMap<PathBuf, Option<(Slot, PathBuf)>>,
}

/// Compiles the first part of a plan for the calling process's user: all but that PID 1 enters the root and confines itself. Layers
/// that are told later lie in the directory `within`.
pub fn begin(plan: &Plan, within: &Path) -> Result<Begun, LaunchError> {
    check(plan)?;
    let mut compiler = Compiler::new(plan, Caller::current(), namespaces(plan), CONTINUED)?;
    // Before something covers it.
    let place = compiler.open_directory(within, Path::new("/"))?;
    let mut opened = BTreeMap::new();
    for (mount, source) in compiler.root()? {
        if let (Mount::Overlay { .. }, Source::Layers { lowers, .. }) = (mount, &source) {
            let mut numbered = plan.mounts.iter();
            let number = numbered.position(|other| std::ptr::eq(other, mount));
            opened.extend(number.map(|number| (number, lowers.clone())));
        }
        compiler.mount(mount, source)?;
    }
    compiler.names_and_network()?;
    compiler.confine()?;
    let (slots, root) = (compiler.slots, compiler.root);
    let (stage, fresh) = (compiler.stage, std::mem::take(&mut compiler.fresh));
    Ok(Begun {
        program: compiler.program(),
        plan: plan.clone(),
        within: (within.to_owned(), place),
        lowers: opened,
        slots,
        root,
        stage,
        fresh,
    })
}

impl Begun {
    /// The first part.
    pub fn program(&self) -> &Program {
        &self.program
    }

    /// The plan that it is of.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// The second part. `overlays` ([`Mount::Overlay`]) are mounted over those of the plan with the same targets. Their layers are
    /// those, or lie in the directory that the first part was given. Files that the plan puts into what is covered are put
    /// there again, while what is mounted below it has to be told, too.
    pub fn rest(&self, overlays: &[Mount]) -> Result<Program, LaunchError> {
        let mut compiler = Compiler {
            plan: &self.plan,
            caller: Caller::current(),
            terminal: None,
            bytes: Vec::with_capacity(8192),
            origins: Vec::new(),
            downgrades: Vec::new(),
            slots: self.slots,
            root: self.root,
            stage: self.stage,
            fresh: self.fresh.clone(),
        };
        let is_there = |overlay: &&Mount| {
            let mut numbers = self.lowers.keys();
            numbers.any(|number| self.plan.mounts[*number].target() == overlay.target())
        };
        if let Some(other) = overlays.iter().find(|overlay| !is_there(overlay)) {
            return Err(LaunchError::Plan(format!(
                "there is no overlay on {} to mount another one over",
                other.target().display()
            )));
        }
        // In the order of the plan: what lies below something else comes after it.
        let mut covered: Vec<&Path> = Vec::new();
        for (number, mount) in self.plan.mounts.iter().enumerate() {
            let target = mount.target();
            let told = overlays.iter().find(|overlay| overlay.target() == target);
            let is_covered = covered.iter().any(|above| target.starts_with(above));
            match (mount, told, self.lowers.get(&number)) {
                (Mount::Overlay { lowers, .. }, Some(overlay), Some(slots)) => {
                    let known = lowers.iter().zip(slots.iter().copied()).collect();
                    let source = self.open(&mut compiler, overlay, &known)?;
                    compiler.mount(overlay, source)?;
                    covered.push(target);
                }
                _ if !is_covered => {}
                (Mount::File { .. } | Mount::Directory { .. } | Mount::Symlink { .. }, ..) => {
                    compiler.mount(mount, Source::None)?;
                }
                _ => {
                    return Err(LaunchError::Plan(format!(
                        "{} would be covered by what is mounted later",
                        target.display()
                    )));
                }
            }
        }
        compiler.enter();
        compiler.restrict()?;
        Ok(compiler.program())
    }

    /// Opens the layers of an overlay.
    fn open(
        &self,
        compiler: &mut Compiler<'_>,
        overlay: &Mount,
        known: &BTreeMap<&PathBuf, Slot>,
    ) -> Result<Source, LaunchError> {
        let Mount::Overlay {
            lowers,
            upper,
            work,
            target,
        } = overlay
        else {
            let target = overlay.target().display();
            return Err(LaunchError::Plan(format!("{target} is no overlay")));
        };
        let (within, place) = &self.within;
        let mut open = |path: &PathBuf| -> Result<Slot, LaunchError> {
            if let Some(opened) = known.get(path) {
                return Ok(*opened);
            }
            let below = path.strip_prefix(within).map_err(|_| {
                LaunchError::Plan(format!(
                    "the layer {} is not in {}",
                    path.display(),
                    within.display()
                ))
            })?;
            let to = compiler.slot();
            let operation = Operation::OpenBelow {
                to,
                parent: *place,
                path: &c_path(below)?,
            };
            let origin = SetupError::Source {
                path: path.clone(),
                target: target.clone(),
                source: Errno(0),
            };
            compiler.push(operation, origin);
            Ok(to)
        };
        Ok(Source::Layers {
            lowers: lowers.iter().map(&mut open).collect::<Result<_, _>>()?,
            upper: open(upper)?,
            work: open(work)?,
        })
    }
}
