//! What `envd x` runs: the command that was given; the first package's own program where none was; and for a script whose
//! first line names `envd x`, the package's interpreter on that script.
//!
//! The kernel starts such a script as `envd x PACKAGE -- /path/to/script ARGUMENTS…`. Running that path as a command would
//! look for envd inside, so the script goes to the interpreter instead.

use std::{
    ffi::OsString,
    fs,
    io::Read as _,
    path::{Path, PathBuf},
};

use super::{Failure, Kind};
use crate::{
    config::package_name,
    environment::{RootFacts, Workplace},
};

/// Bytes of a first line that the kernel reads (BINPRM_BUF_SIZE).
const FIRST_LINE_MAX: u64 = 256;
/// Packages whose program is named otherwise.
const PROGRAMS: [(&str, &str); 13] = [
    ("cc", "gcc"),
    ("default-jdk", "java"),
    ("default-jdk-headless", "java"),
    ("default-jre", "java"),
    ("default-jre-headless", "java"),
    ("ghc", "runghc"),
    ("golang-go", "go"),
    ("nodejs", "node"),
    ("php-cli", "php"),
    ("python3-minimal", "python3"),
    ("r-base-core", "Rscript"),
    ("ripgrep", "rg"),
    ("tcl", "tclsh"),
];

/// A script that was started by its first line.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Script {
    /// Absolute.
    path: PathBuf,
}

/// The script that a command is, if it is one.
pub(super) fn named_by(command: &[OsString], directory: &Path) -> Option<Script> {
    let first = Path::new(command.first()?);
    // A bare word is a program of the environment.
    if first.components().count() < 2 && !first.is_absolute() {
        return None;
    }
    // Without the `.` of `./script`, so that the interpreter names it as people do.
    let path: PathBuf = directory.join(first).components().collect();
    let line = first_line(&path)?;
    let mut words = line.strip_prefix("#!")?.split_whitespace();
    let names_envd = |word: &str| {
        Path::new(word)
            .file_name()
            .is_some_and(|name| name == "envd")
    };
    let asks = words.any(names_envd) && words.any(|word| word == "x");
    asks.then_some(Script { path })
}

fn first_line(path: &Path) -> Option<String> {
    if !fs::metadata(path).ok()?.is_file() {
        return None;
    }
    let mut bytes = Vec::new();
    fs::File::open(path)
        .ok()?
        .take(FIRST_LINE_MAX)
        .read_to_end(&mut bytes)
        .ok()?;
    let line = bytes.split(|&b| b == b'\n').next().unwrap_or_default();
    String::from_utf8(line.to_vec()).ok()
}

impl Script {
    /// What has to be bound for it to be seen inside: its directory, for what it imports, or itself alone where that
    /// directory is not to be shown.
    pub fn seen_from(&self, workplace: &Workplace, home: &Path) -> Vec<PathBuf> {
        if workplace.shows(&self.path) {
            return Vec::new();
        }
        let shown = match self
            .path
            .parent()
            .map(|parent| Workplace::current(parent, home))
        {
            Some(Workplace::Bound(parent)) => parent,
            _ => self.path.clone(),
        };
        vec![shown]
    }
}

/// What to run.
pub(super) fn command(
    root: &RootFacts,
    package: &str,
    given: &[OsString],
    script: Option<&Script>,
) -> Result<Vec<OsString>, Failure> {
    let package = package_name(package);
    match (script, given) {
        (Some(script), [_, arguments @ ..]) => {
            let interpreter = program_of(root, package).ok_or_else(|| {
                Failure::new(
                    Kind::Usage,
                    format!(
                        "`{package}` has no program of its name to run {} with",
                        script.path.display()
                    ),
                )
                .help("name it in the first line: `envd x PACKAGE -- PROGRAM`")
            })?;
            let mut command = vec![interpreter, script.path.clone().into_os_string()];
            command.extend_from_slice(arguments);
            Ok(command)
        }
        (_, []) => match program_of(root, package) {
            Some(program) => Ok(vec![program]),
            None => Err(Failure::new(
                Kind::Usage,
                format!("`{package}` has no program of its name"),
            )
            .help(format!("say what to run: `envd x {package} -- PROGRAM`"))),
        },
        (None, given) => Ok(given.to_vec()),
    }
}

/// The program that a package is used by.
fn program_of(root: &RootFacts, package: &str) -> Option<OsString> {
    let renamed = PROGRAMS
        .iter()
        .find(|(name, _)| *name == package)
        .map(|(_, program)| *program);
    renamed
        .into_iter()
        .chain([package])
        .find_map(|name| root.program(name))
        .map(PathBuf::into_os_string)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(words: &[&str]) -> Vec<OsString> {
        words.iter().map(OsString::from).collect()
    }

    fn root(programs: &[&str]) -> (tempfile::TempDir, RootFacts) {
        let view = tempfile::tempdir().unwrap();
        fs::create_dir_all(view.path().join("usr/bin")).unwrap();
        for program in programs {
            fs::write(view.path().join("usr/bin").join(program), "").unwrap();
        }
        let facts = RootFacts::of(view.path()).unwrap();
        (view, facts)
    }

    #[test]
    fn a_script_is_run_by_its_package_with_its_arguments() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("tool");
        fs::write(
            &path,
            "#!/usr/bin/env -S envd x python3@3.13 --\nprint(1)\n",
        )
        .unwrap();
        let (_view, root) = root(&["python3"]);
        for given in [path.to_str().unwrap(), "./tool"] {
            let given = words(&[given, "-v", "x"]);
            let script = named_by(&given, directory.path());
            assert!(script.is_some(), "{given:?}");
            let command = command(&root, "python3@3.13", &given, script.as_ref()).unwrap();
            let shown: Vec<_> = command.iter().map(|w| w.to_str().unwrap()).collect();
            assert_eq!(
                (shown[0], &shown[2..]),
                ("/usr/bin/python3", &["-v", "x"][..])
            );
            assert_eq!(Path::new(shown[1]), path);
        }
    }

    #[test]
    fn other_commands_stay_as_they_are() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("plain"), "#!/bin/sh\n").unwrap();
        fs::write(directory.path().join("tool"), "#!/usr/bin/env envd-x\n").unwrap();
        for given in [
            words(&["python3", "main.py"]),
            words(&["./plain"]),
            words(&["./tool"]),
            words(&["tool"]),
            words(&["./absent"]),
        ] {
            assert_eq!(named_by(&given, directory.path()), None, "{given:?}");
            let (_view, root) = root(&[]);
            assert_eq!(command(&root, "python3", &given, None).unwrap(), given);
        }
    }

    #[test]
    fn without_a_command_the_packages_own_program_is_meant() {
        let (_view, root) = root(&["hello", "node"]);
        assert_eq!(
            command(&root, "hello", &[], None).unwrap(),
            words(&["/usr/bin/hello"])
        );
        assert_eq!(
            command(&root, "nodejs@20", &[], None).unwrap(),
            words(&["/usr/bin/node"])
        );
        let failure = command(&root, "libssl3", &[], None).unwrap_err();
        assert_eq!(
            failure.help.as_deref(),
            Some("say what to run: `envd x libssl3 -- PROGRAM`")
        );
    }

    #[test]
    fn a_script_is_seen_and_no_more_than_it_needs() {
        let at = |path: &str| Script { path: path.into() };
        let (home, here) = (
            Path::new("/home/ada"),
            Workplace::Bound("/home/ada/app".into()),
        );
        assert!(at("/home/ada/app/tool").seen_from(&here, home).is_empty());
        assert_eq!(
            at("/home/ada/scripts/tool").seen_from(&here, home),
            [Path::new("/home/ada/scripts")]
        );
        assert_eq!(
            at("/home/ada/tool").seen_from(&Workplace::Nothing, home),
            [Path::new("/home/ada/tool")]
        );
        assert_eq!(
            at("/usr/bin/tool").seen_from(&here, home),
            [Path::new("/usr/bin/tool")]
        );
    }
}
