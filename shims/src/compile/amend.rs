//! What is seen in an environment, changed while commands run in it.
//!
//! Its root cannot be replaced: running processes would keep theirs, and Landlock's rules are about the directories of that one. But
//! something can be mounted on its directories. So another root is made of what is to be seen, outside and as any other is, and
//! its parts are mounted on those of the environment's root of the same name. Each takes the other's place in one step, and who has
//! a file of that open keeps it. What the environment writes to (its project, its home, `/tmp`) and the kernel's file systems stay.

use std::{
    collections::BTreeSet,
    ffi::OsString,
    fs, io,
    path::{Path, PathBuf},
};

use envd_init::{
    program::{Like, Operation},
    sys::constant::CLONE_NEWNS,
};

use super::{Caller, Compiler, Program, c_path, check, mounts::mount_error};
use crate::{
    error::{LaunchError, SetupError},
    plan::{Mount, Plan, Root},
};

/// Compiles what makes the root of `plan` seen in an environment that has the root `before`. What is at `kept` or below stays as it
/// is, as do all places of the plan but those that get a file, a link or something of the host's.
pub fn compile_amendment(
    plan: &Plan,
    before: &Path,
    kept: &[&Path],
) -> Result<Program, LaunchError> {
    check(plan)?;
    let view = match &plan.root {
        Root::Overlay { lowers, .. } if lowers.len() == 1 => lowers[0].clone(),
        _ => {
            let message = "the root of what is added is one directory under an overlay";
            return Err(LaunchError::Plan(message.to_owned()));
        }
    };
    let is_replaced = |mount: &Mount| {
        matches!(
            mount,
            Mount::File { .. } | Mount::Symlink { .. } | Mount::Bind { .. }
        )
    };
    let places = plan.mounts.iter().filter(|mount| !is_replaced(mount));
    let mut stays: Vec<&Path> = places.map(Mount::target).collect();
    stays.extend(kept);
    let does_stay = |path: &Path| stays.iter().any(|place| path.starts_with(place));
    let replaced = |mount: &&Mount| is_replaced(mount) && !does_stay(mount.target());
    let new = Plan {
        mounts: plan.mounts.iter().filter(replaced).cloned().collect(),
        ..plan.clone()
    };
    let mut parts = Parts {
        view: &view,
        stays: &stays,
        placed: new.mounts.iter().map(Mount::target).collect(),
        trees: Vec::new(),
        links: Vec::new(),
    };
    parts.gather(Path::new("/")).map_err(|source| {
        LaunchError::Plan(format!("{} cannot be listed: {source}", view.display()))
    })?;

    let mut compiler = Compiler::new(&new, Caller::current(), CLONE_NEWNS, 0)?;
    // The first: it is given.
    let namespace = compiler.slot();
    for (mount, source) in compiler.root()? {
        compiler.mount(mount, source)?;
    }
    let made = compiler.root;
    let mut copies = Vec::new();
    for path in parts.trees {
        let to = compiler.slot();
        let operation = Operation::Copy {
            to,
            parent: made,
            path: &c_path(path.strip_prefix("/").unwrap_or(&path))?,
        };
        compiler.push(operation, mount_error("what is added", &path));
        copies.push((path, to));
    }
    let origin = SetupError::Propagation {
        source: crate::Errno(0),
    };
    compiler.push(Operation::Enter { namespace }, origin);
    compiler.root = compiler.open_directory(Path::new("/"), Path::new("/"))?;
    for (path, tree) in copies {
        let on = compiler.ensure(&path, Like::Tree(tree))?;
        let operation = Operation::Attach {
            tree,
            on,
            path: c"",
        };
        compiler.push(operation, mount_error("what is added", &path));
    }
    for (target, points_to) in parts.links {
        let relative = target.strip_prefix("/").unwrap_or(&target);
        if fs::read_link(before.join(relative)).is_ok_and(|there| there == points_to) {
            continue;
        }
        let link = Mount::Symlink { target, points_to };
        compiler.mount(&link, super::Source::None)?;
    }
    Ok(compiler.program())
}

/// The parts of a root that take the place of others: as few and as large as what stays allows.
struct Parts<'p> {
    view: &'p Path,
    stays: &'p [&'p Path],
    /// What the plan puts into the root.
    placed: Vec<&'p Path>,
    /// Directories and files.
    trees: Vec<PathBuf>,
    /// Links, and what they point to.
    links: Vec<(PathBuf, PathBuf)>,
}

impl Parts<'_> {
    fn gather(&mut self, directory: &Path) -> io::Result<()> {
        let below = |path: &Path| self.view.join(path.strip_prefix("/").unwrap_or(path));
        let mut names: BTreeSet<OsString> = match fs::read_dir(below(directory)) {
            Ok(entries) => entries
                .map(|entry| Ok(entry?.file_name()))
                .collect::<io::Result<_>>()?,
            // Only the plan has it.
            Err(error) if error.kind() == io::ErrorKind::NotFound => BTreeSet::new(),
            Err(error) => return Err(error),
        };
        let placed = self.placed.iter();
        let placed = placed.filter_map(|path| path.strip_prefix(directory).ok()?.iter().next());
        names.extend(placed.map(OsString::from));
        for name in names {
            let path = directory.join(name);
            let is_link = below(&path).is_symlink();
            let is_above = |place: &&Path| place.starts_with(&path);
            if self.stays.iter().any(|place| path.starts_with(place)) {
                continue;
            } else if is_link {
                let points_to = fs::read_link(below(&path))?;
                self.links.push((path, points_to));
            } else if self.stays.iter().any(is_above) {
                self.gather(&path)?;
            } else {
                self.trees.push(path);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_as_large_as_what_stays_allows() {
        let view = tempfile::tempdir().unwrap();
        for directory in ["usr/bin", "etc", "var/lib/dpkg", "var/log", "home", "tmp"] {
            fs::create_dir_all(view.path().join(directory)).unwrap();
        }
        std::os::unix::fs::symlink("usr/bin", view.path().join("bin")).unwrap();
        let stays = ["/tmp", "/home/ada", "/var/lib/ada/project", "/proc"].map(Path::new);
        let mut parts = Parts {
            view: view.path(),
            stays: &stays,
            placed: vec![Path::new("/etc/passwd"), Path::new("/opt/only/here")],
            trees: Vec::new(),
            links: Vec::new(),
        };
        parts.gather(Path::new("/")).unwrap();
        let expected = ["/etc", "/opt", "/usr", "/var/lib/dpkg", "/var/log"].map(PathBuf::from);
        assert_eq!(parts.trees, expected);
        assert_eq!(parts.links, [("/bin".into(), "usr/bin".into())]);
    }
}
