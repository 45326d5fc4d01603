//! The commits that a session made in its copy of a repository, brought into the owner's: objects and a branch, nothing else.
//!
//! The session's `.git` is hostile in all its parts, and git is never run in it. Of it two things are taken: the name of a
//! commit, and the files in its directory of objects that are named as git names them. They go to a repository of our own
//! that has neither configuration nor hooks; what is new there is packed, and the owner's `git index-pack --strict` reads the
//! pack as it would a stranger's: every object is hashed and checked anew. The branch comes last, once everything that
//! its commit needs is in the owner's repository.
//!
//! Where the history is kept is the owner's to say: `.git` of the project, or the repository elsewhere that it is a work tree of. What
//! the inside makes of the files that say so leads nowhere. A submodule is a repository of its own, and is brought in the same way.

mod links;
mod objects;
mod submodules;

use std::{
    collections::BTreeSet,
    ffi::OsString,
    fs::{self, File, OpenOptions},
    io::{self, Read},
    path::{Path, PathBuf},
    process::{ChildStdout, Command, Stdio},
    str::FromStr,
};

use envd_store::TreePath;

use super::{Layers, escape, git};

pub use submodules::{Find, Submodule};

/// Commits that are brought at a time.
const MOST_COMMITS: usize = 10_000;
/// Bytes that git may print of names: of the commits, and of the owner's references.
const MOST_PRINTED: u64 = 64 << 20;
/// Bytes of git's own words that are told.
const MOST_SAID: u64 = 4096;
/// What the pack is called in our own repository.
const PACK: &str = "taken.pack";

/// Why commits were not brought.
#[derive(Debug, thiserror::Error)]
pub enum CommitsError {
    /// The project has no repository of its own.
    #[error("{} is not the top of a git repository", .0.display())]
    NoRepository(PathBuf),
    /// A repository whose references are not files.
    #[error("the references of the repository {} are kept in a reftable", .0.display())]
    Reftable(PathBuf),
    /// Its history is elsewhere or incomplete inside.
    #[error("the environment's .git/objects is no directory")]
    NoObjects,
    /// Git refused.
    #[error("git {step} failed: {said}")]
    Git {
        /// Its subcommand.
        step: String,
        /// What it said.
        said: String,
    },
    /// The commit of the session is not among its objects.
    #[error("the commit {0} is not among the environment's objects")]
    Missing(ObjectName),
    /// A commit of a submodule is recorded, and the owner has no repository to bring it to.
    #[error("the commit {commit} of the submodule {} has no repository in the project to come to", escape::name(path.as_bytes()))]
    NoSubmodule {
        /// Where the submodule is.
        path: TreePath,
        /// The commit.
        commit: ObjectName,
    },
    /// The commits of a submodule cannot be brought.
    #[error("in the submodule {}", escape::name(path.as_bytes()))]
    Submodule {
        /// Where it is.
        path: TreePath,
        /// Why.
        #[source]
        source: Box<CommitsError>,
    },
    /// More than is brought at a time.
    #[error("the environment has more than {limit} {what}")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// How many there may be.
        limit: u64,
    },
    /// The branch cannot be moved there.
    #[error("the branch {branch} {problem}")]
    Branch {
        /// Its name.
        branch: String,
        /// Why.
        problem: &'static str,
    },
    /// Files failed.
    #[error("cannot {step}")]
    Io {
        /// What was tried.
        step: &'static str,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
}

fn failed(step: &'static str) -> impl FnOnce(io::Error) -> CommitsError {
    move |source| CommitsError::Io { step, source }
}

/// The name of an object: 40 or 64 hexadecimal digits.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct ObjectName(String);

/// A text that names no object.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("it is no name of an object")]
pub struct NoObjectName;

impl FromStr for ObjectName {
    type Err = NoObjectName;

    fn from_str(text: &str) -> Result<Self, NoObjectName> {
        match matches!(text.len(), 40 | 64) && is_hexadecimal(text.as_bytes()) {
            true => Ok(Self(text.to_owned())),
            false => Err(NoObjectName),
        }
    }
}

impl std::fmt::Display for ObjectName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

fn is_hexadecimal(bytes: &[u8]) -> bool {
    bytes
        .iter()
        .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// The owner's repository.
#[derive(Debug)]
pub struct Repository {
    program: PathBuf,
    project: PathBuf,
    /// What all its work trees have in common.
    common: PathBuf,
    objects: PathBuf,
    shallow: PathBuf,
    /// `sha1` or `sha256`.
    format: String,
}

/// Where a session wrote the objects that it added to a repository.
#[derive(Debug)]
pub struct Written<'a> {
    /// The layers.
    pub layers: &'a Layers,
    /// The directory of objects in each of them.
    pub objects: TreePath,
}

/// Commits in a repository of our own, packed and not brought yet.
#[derive(Debug)]
pub struct Taken {
    place: PathBuf,
    tip: ObjectName,
    /// Those that the owner does not have, oldest first.
    pub commits: Vec<ObjectName>,
}

/// A branch and where it is; `None` where there is none yet.
#[derive(Debug)]
pub struct Branch {
    /// Its name.
    pub name: String,
    at: Option<ObjectName>,
}

impl Repository {
    /// The one of the project whose history its owner keeps in the directory `common`: its `.git`, or the repository that it is a
    /// linked work tree of. Both are absolute and without links on the way. `program` is git's own absolute path.
    pub fn open(program: &Path, project: &Path, common: &Path) -> Result<Self, CommitsError> {
        let none = || CommitsError::NoRepository(project.to_owned());
        if !common.is_dir() || !project.join(".git").exists() {
            return Err(none());
        }
        let repository = Self::at(program, project)?;
        match repository.common == common {
            true => Ok(repository),
            false => Err(none()),
        }
    }

    /// The one that git finds in a work tree, at whose top there is a `.git`.
    fn at(program: &Path, project: &Path) -> Result<Self, CommitsError> {
        let words = [
            "rev-parse",
            "--path-format=absolute",
            "--show-object-format",
            "--git-path",
            "objects",
            "--git-path",
            "shallow",
            "--git-common-dir",
            // What git does not know, it says as it is.
            "--show-ref-format",
        ];
        let mut asked = git::command(program, project);
        let reftable = || CommitsError::Reftable(project.to_owned());
        let printed = match run(asked.args(words), Stdio::null(), MOST_SAID) {
            // A git that knows no reftables calls them an extension.
            Err(CommitsError::Git { said, .. }) if said.contains("refstorage") => {
                return Err(reftable());
            }
            printed => text(printed?),
        };
        let mut lines = printed.lines();
        let mut next = || lines.next().unwrap_or_default().to_owned();
        let repository = Self {
            program: program.to_owned(),
            project: project.to_owned(),
            format: next(),
            objects: next().into(),
            shallow: next().into(),
            common: next().into(),
        };
        match next().as_str() {
            "reftable" => Err(reftable()),
            _ => Ok(repository),
        }
    }

    /// Its directory of objects, as git says it: absolute.
    pub fn objects(&self) -> &Path {
        &self.objects
    }

    fn git(&self) -> Command {
        git::command(&self.program, &self.project)
    }

    /// Git in a repository of our own.
    fn git_at(&self, place: &Path) -> Command {
        let mut command = git::command(&self.program, place);
        command.arg("--git-dir=.");
        command
    }

    /// Packs the commits behind `tip` that the owner does not have, in the new and empty directory `place`. Nothing is changed
    /// in the owner's repository.
    pub fn take(
        &self,
        written: &[Written<'_>],
        tip: &ObjectName,
        place: &Path,
    ) -> Result<Taken, CommitsError> {
        self.make(place)?;
        objects::copy(written, &place.join("objects"))?;
        for pack in packs(&place.join("objects/pack"))? {
            let words = [OsString::from("index-pack"), "--strict".into(), pack.into()];
            run(self.git_at(place).args(words), Stdio::null(), MOST_SAID)?;
        }
        let commit = format!("{tip}^{{commit}}");
        let there = ["cat-file", "-e", &commit];
        run(self.git_at(place).args(there), Stdio::null(), 0)
            .map_err(|_| CommitsError::Missing(tip.clone()))?;

        let revisions = self.revisions(tip)?;
        let list = place.join("revisions");
        fs::write(&list, &revisions).map_err(failed("write down what is new"))?;
        let reading = || File::open(&list).map_err(failed("read what is new"));
        let most = format!("--max-count={}", MOST_COMMITS + 1);
        let words = ["rev-list", "--topo-order", &most, "--stdin"];
        let printed = run(
            self.git_at(place).args(words),
            reading()?.into(),
            MOST_PRINTED,
        )?;
        let mut commits = names(&printed);
        if commits.len() > MOST_COMMITS {
            return Err(CommitsError::TooMany {
                what: "new commits",
                limit: MOST_COMMITS as u64,
            });
        }
        commits.reverse();
        if !commits.is_empty() {
            let pack = place.join(PACK);
            let output = OpenOptions::new().write(true).create_new(true).open(&pack);
            let output = output.map_err(failed("make a file for the pack"))?;
            let words = ["pack-objects", "--revs", "--stdout", "--quiet"];
            let mut packing = self.git_at(place);
            packing.args(words).stdout(output);
            run(&mut packing, reading()?.into(), 0)?;
            // What the owner's git would refuse is known before anything is brought.
            let words = ["index-pack", "--strict", "-o", "taken.idx", PACK];
            run(self.git_at(place).args(words), Stdio::null(), MOST_SAID)?;
        }
        Ok(Taken {
            place: place.to_owned(),
            tip: tip.clone(),
            commits,
        })
    }

    /// A repository without configuration, hooks and references that sees the owner's objects.
    fn make(&self, place: &Path) -> Result<(), CommitsError> {
        let format = format!("--object-format={}", self.format);
        let words = ["init", "--quiet", "--bare", "--template=", &format];
        run(
            git::command(&self.program, place).args(words),
            Stdio::null(),
            MOST_SAID,
        )?;
        let information = place.join("objects/info");
        fs::create_dir_all(&information).map_err(failed("make a repository"))?;
        let mut line = self.objects.as_os_str().as_encoded_bytes().to_vec();
        if line.contains(&b'\n') || line.contains(&b'"') {
            return Err(CommitsError::NoRepository(self.project.clone()));
        }
        line.push(b'\n');
        fs::write(information.join("alternates"), line).map_err(failed("make a repository"))?;
        match fs::copy(&self.shallow, place.join("shallow")) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(failed("read where the history is cut")(error))
            }
            _ => Ok(()),
        }
    }

    /// The tip, and all that the owner has of it: as rev-list reads it.
    fn revisions(&self, tip: &ObjectName) -> Result<Vec<u8>, CommitsError> {
        let words = ["for-each-ref", "--format=%(objectname)"];
        let references = run(self.git().args(words), Stdio::null(), MOST_PRINTED)?;
        let words = ["rev-parse", "--verify", "--quiet", "HEAD^{commit}"];
        // Of a repository without a commit there is none.
        let head = run(self.git().args(words), Stdio::null(), MOST_SAID).unwrap_or_default();
        let known: BTreeSet<_> = names(&references).into_iter().chain(names(&head)).collect();
        let mut revisions = format!("{tip}\n").into_bytes();
        for name in known {
            revisions.extend_from_slice(format!("^{name}\n").as_bytes());
        }
        Ok(revisions)
    }

    /// Whether a branch can be moved to what was taken.
    pub fn branch(&self, name: &str, taken: &Taken) -> Result<Branch, CommitsError> {
        let refused = |problem| CommitsError::Branch {
            branch: name.to_owned(),
            problem,
        };
        let full = format!("refs/heads/{name}");
        run(
            self.git().args(["check-ref-format", &full]),
            Stdio::null(),
            MOST_SAID,
        )
        .map_err(|_| refused("has a name that git does not take"))?;
        let format = "--format=%(objectname) %(worktreepath)";
        let words = ["for-each-ref", format, &full];
        let printed = text(run(self.git().args(words), Stdio::null(), MOST_PRINTED)?);
        // Branches below one of that name are listed, too, and there can be none then.
        let mut lines = printed.lines();
        let (at, checked_out) = match lines.next().and_then(|line| line.split_once(' ')) {
            None => (None, ""),
            Some((at, checked_out)) => (at.parse::<ObjectName>().ok(), checked_out),
        };
        if !checked_out.is_empty() {
            return Err(refused(
                "is checked out: its files would no longer be those of its commit",
            ));
        }
        if let Some(at) = &at {
            let words = ["merge-base", "--is-ancestor", &at.0, &taken.tip.0];
            run(
                self.git_at(&taken.place).args(words),
                Stdio::null(),
                MOST_SAID,
            )
            .map_err(|_| refused("has commits that the environment's does not have"))?;
        }
        Ok(Branch {
            name: name.to_owned(),
            at,
        })
    }

    /// Reads the pack into the owner's objects, as a stranger's. As long as no branch leads there, nobody sees them.
    pub fn receive(&self, taken: &Taken) -> Result<(), CommitsError> {
        if taken.commits.is_empty() {
            return Ok(());
        }
        let pack = File::open(taken.place.join(PACK)).map_err(failed("open the pack"))?;
        let most = format!("--max-input-size={}", objects::MOST_BYTES);
        let words = ["index-pack", "--strict", "--stdin", &most];
        run(self.git().args(words), pack.into(), MOST_SAID)?;
        // By the owner's own objects alone: all that the commit needs is there, and is what its name says.
        let words = [
            "rev-list",
            "--objects",
            "--quiet",
            &taken.tip.0,
            "--not",
            "--all",
        ];
        run(self.git().args(words), Stdio::null(), MOST_SAID).map(drop)
    }

    /// Moves the branch, if nobody else has meanwhile. Neither HEAD nor the index is touched, and no hook is run.
    pub fn move_branch(&self, branch: &Branch, taken: &Taken) -> Result<(), CommitsError> {
        let full = format!("refs/heads/{}", branch.name);
        let none = "0".repeat(taken.tip.0.len());
        let before = branch.at.as_ref().map_or(&none, |at| &at.0);
        let words = [
            "update-ref",
            "-m",
            "envd: commits of an environment",
            &full,
            &taken.tip.0,
            before,
        ];
        run(self.git().args(words), Stdio::null(), MOST_SAID).map(drop)
    }
}

fn packs(directory: &Path) -> Result<Vec<PathBuf>, CommitsError> {
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(failed("list packs"))?,
    };
    let paths = entries.flatten().map(|entry| entry.path());
    Ok(paths
        .filter(|path| path.extension().is_some_and(|ending| ending == "pack"))
        .collect())
}

fn names(printed: &[u8]) -> Vec<ObjectName> {
    let lines = printed.split(|byte| *byte == b'\n');
    lines
        .filter_map(|line| std::str::from_utf8(line).ok()?.trim().parse().ok())
        .collect()
}

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8_lossy(&bytes).into_owned()
}

/// What git prints, at most so many bytes, if it succeeds.
fn run(command: &mut Command, input: Stdio, limit: u64) -> Result<Vec<u8>, CommitsError> {
    let step = subcommand(command);
    let (printed, whole) = listen(command, input, |printed| read(printed, limit))?;
    match whole {
        true => Ok(printed),
        false => Err(CommitsError::Git {
            step,
            said: "it printed more than can be".to_owned(),
        }),
    }
}

/// What is heard in all that git prints, if it succeeds.
fn listen<T>(
    command: &mut Command,
    input: Stdio,
    hear: impl FnOnce(Option<ChildStdout>) -> T,
) -> Result<T, CommitsError> {
    let step = subcommand(command);
    let start = |source| CommitsError::Io {
        step: "start git",
        source,
    };
    let mut child = command
        .stdin(input)
        .stderr(Stdio::piped())
        .spawn()
        .map_err(start)?;
    // Its own copies of what it writes to would keep them open.
    command.stdin(Stdio::null()).stdout(Stdio::null());
    let errors = child.stderr.take();
    let listening = std::thread::spawn(move || read(errors, MOST_SAID).0);
    let heard = hear(child.stdout.take());
    let status = child.wait().map_err(start)?;
    let said = listening.join().unwrap_or_default();
    match status.success() {
        true => Ok(heard),
        false => Err(CommitsError::Git {
            step,
            said: String::from_utf8_lossy(&said).trim().to_owned(),
        }),
    }
}

/// The first bytes of what a child writes, all of which is read. Whether there were no more.
fn read(from: Option<impl Read>, limit: u64) -> (Vec<u8>, bool) {
    let mut bytes = Vec::new();
    let Some(mut from) = from else {
        return (bytes, true);
    };
    let _ = from.by_ref().take(limit).read_to_end(&mut bytes);
    let more = io::copy(&mut from, &mut io::sink()).unwrap_or(0);
    (bytes, more == 0)
}

fn subcommand(command: &Command) -> String {
    let known = [
        "init",
        "rev-parse",
        "rev-list",
        "index-pack",
        "pack-objects",
        "cat-file",
        "for-each-ref",
        "check-ref-format",
        "merge-base",
        "update-ref",
        "diff-tree",
        "ls-tree",
        "ls-files",
    ];
    let mut words = command.get_args().filter_map(|word| word.to_str());
    words
        .find(|word| known.contains(word))
        .unwrap_or_default()
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_commit_has_a_name_of_digits_and_no_other() {
        let name = "0123456789abcdef0123456789abcdef01234567";
        assert_eq!(
            name.parse::<ObjectName>().map(|name| name.0),
            Ok(name.to_owned())
        );
        for wrong in [
            "",
            "HEAD",
            "--upload-pack=x",
            "0123456789ABCDEF0123456789abcdef01234567",
            "0123456789abcdef0123456789abcdef0123456",
            "0123456789abcdef0123456789abcdef01234567 ",
        ] {
            assert!(wrong.parse::<ObjectName>().is_err(), "{wrong}");
        }
    }
}
