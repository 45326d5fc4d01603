//! Commits that were made inside, on their way to the project's repository.

use std::path::Path;

use envd_agents::{
    changes::{self, Branch, CommitsError, ObjectName, Repository, Taken},
    service::Failure,
};

use super::{
    checkout, failure,
    inside::Inside,
    layers::Owned,
    live::{Lent, Live},
};

/// Bytes of a file that names a commit.
const MOST_NAME: u64 = 1024;
/// Bytes of the file with all other names.
const MOST_NAMES: u64 = 16 << 20;
/// Bytes of a branch's own name at most.
const LONGEST: usize = 100;
/// Below which all branches are that come from an environment: none of them is taken for anything else.
const BRANCHES: &str = "envd/";

/// Commits that are ready to be brought.
pub(super) struct Commits {
    repository: Repository,
    taken: Taken,
    branch: Branch,
    /// Our own repository, gone with this.
    _place: Owned,
}

impl Commits {
    /// Takes those behind the environment's HEAD that the project does not have.
    pub(super) fn take(
        live: &Live,
        lent: &Lent,
        layers: &changes::Layers,
        project: &Path,
        branch: Option<&str>,
        place: Owned,
    ) -> Result<Self, Failure> {
        let name = branch_name(lent, branch)?;
        let Some(program) = checkout::program() else {
            return Err(Failure::Unsupported {
                what: "bring commits without git".to_owned(),
                fix: "Have the user install git on this machine (/usr/bin/git); the files themselves can be applied without `git`.".to_owned(),
            });
        };
        let repository = Repository::open(program, project).map_err(refused)?;
        let tip = head(&Inside::new(&live.root), &lent.directory)?;
        let taken = repository
            .take(layers, &tip, place.path())
            .map_err(refused)?;
        let branch = repository.branch(&name, &taken).map_err(refused)?;
        Ok(Self {
            repository,
            taken,
            branch,
            _place: place,
        })
    }

    /// Their names, oldest first.
    pub(super) fn names(&self) -> Vec<String> {
        let commits = self.taken.commits.iter();
        commits.map(ToString::to_string).collect()
    }

    /// The branch that they come to, if there are any.
    pub(super) fn branch(&self) -> Option<String> {
        (!self.taken.commits.is_empty()).then(|| self.branch.name.clone())
    }

    /// Brings the objects. Nobody sees them yet.
    pub(super) fn receive(&self) -> Result<(), Failure> {
        self.repository.receive(&self.taken).map_err(refused)
    }

    /// Has the branch lead to them.
    pub(super) fn finish(&self) -> Result<(), Failure> {
        if self.taken.commits.is_empty() {
            return Ok(());
        }
        let moved = self.repository.move_branch(&self.branch, &self.taken);
        moved.map_err(refused)
    }
}

/// `envd/` and the name that was asked for, the environment's, or the beginning of its handle.
fn branch_name(lent: &Lent, wished: Option<&str>) -> Result<String, Failure> {
    let handle = lent.id.as_str();
    let own = match lent.name.as_deref() {
        Some(name) if is_name(name) => name,
        _ => &handle[..16.min(handle.len())],
    };
    let wished = wished.map(|name| name.strip_prefix(BRANCHES).unwrap_or(name));
    match wished {
        Some(name) if !is_name(name) => Err(Failure::Invalid {
            field: "branch".to_owned(),
            problem: format!("{name:?} is no name for a branch below {BRANCHES}"),
            expected: "letters, digits, `.`, `_`, `-` and `/`, such as \"fix-12\"".to_owned(),
        }),
        _ => Ok(format!("{BRANCHES}{}", wished.unwrap_or(own))),
    }
}

fn is_name(name: &str) -> bool {
    let known = |c: char| c.is_ascii_alphanumeric() || "._-/".contains(c);
    let part = |part: &str| {
        part.starts_with(|c: char| c.is_ascii_alphanumeric())
            && !part.ends_with('.')
            && !part.ends_with(".lock")
    };
    name.len() <= LONGEST
        && name.chars().all(known)
        && !name.contains("..")
        && name.split('/').all(part)
}

/// The commit that is checked out inside, by the files that git keeps it in.
fn head(inside: &Inside<'_>, directory: &str) -> Result<ObjectName, Failure> {
    let read = |name: &str, limit| {
        let found = inside.find(&format!("{directory}/.git/{name}")).ok()?;
        let bytes = found.content(limit).ok()??;
        String::from_utf8(bytes).ok()
    };
    let none = || Failure::Invalid {
        field: "git".to_owned(),
        problem: "no commit is checked out inside".to_owned(),
        expected: "an environment whose project is a git repository with a commit on its branch"
            .to_owned(),
    };
    let head = read("HEAD", MOST_NAME).ok_or_else(none)?;
    let head = head.trim();
    let Some(reference) = head.strip_prefix("ref:").map(str::trim) else {
        return head.parse().map_err(|_| none());
    };
    if !reference.starts_with("refs/") {
        return Err(none());
    }
    if let Some(text) = read(reference, MOST_NAME) {
        return text.trim().parse().map_err(|_| none());
    }
    let packed = read("packed-refs", MOST_NAMES).ok_or_else(none)?;
    let of_reference = |line: &str| {
        let (name, known) = line.split_once(' ')?;
        (known == reference).then(|| name.parse().ok())?
    };
    packed.lines().find_map(of_reference).ok_or_else(none)
}

fn refused(error: CommitsError) -> Failure {
    let expected = match &error {
        CommitsError::NoRepository(_) => {
            "`git` left out: commits can only be brought to a repository whose top the project is"
        }
        CommitsError::NoObjects | CommitsError::Missing(_) => {
            "an environment whose commits are in its own .git/objects, without alternates and links"
        }
        CommitsError::TooMany { .. } => "fewer or smaller commits",
        CommitsError::Branch { .. } => "another `branch`",
        CommitsError::Git { .. } | CommitsError::Io { .. } => {
            return failure::internal("bringing commits", &error);
        }
    };
    Failure::Invalid {
        field: "git".to_owned(),
        problem: error.to_string(),
        expected: expected.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_branch_is_named_so_that_git_and_people_take_it_for_nothing_else() {
        for name in ["fix-12", "a/b", "v1.2", "0"] {
            assert!(is_name(name), "{name}");
        }
        let long = "x".repeat(101);
        for wrong in [
            "", "/", "a/", "/a", "a//b", ".a", "-a", "a..b", "a.", "a.lock", "a b", "a~1", "a^",
            "a:b", "a\\b", "a@{1}", "ä", "a\n", "a/.b", &long,
        ] {
            assert!(!is_name(wrong), "{wrong:?}");
        }
    }
}
