//! Commits that were made inside, on their way to the project's repository.

use std::path::Path;

use envd_agents::{
    changes::{
        self, Branch, CommitsError, ObjectName, Repository, Submodule, Taken, Written,
        escape::name as shown,
    },
    service::{Failure, changes::SubmoduleCommits},
};
use envd_store::TreePath;

use super::{
    checkout, failure,
    inside::Inside,
    live::{Lent, Live},
    pairs::Owned,
};
use crate::environment::git;

/// Bytes of a file that names a commit.
const MOST_NAME: u64 = 1024;
/// Bytes of the file with all other names.
const MOST_NAMES: u64 = 16 << 20;
/// Bytes of a branch's own name at most.
const LONGEST: usize = 100;
/// What HEAD says where references are kept in a reftable (gitformat-reftable(5)).
const REFTABLE: &str = "refs/heads/.invalid";
/// Below which all branches are that come from an environment: none of them is taken for anything else.
const BRANCHES: &str = "envd/";

/// Commits that are ready to be brought.
pub(super) struct Commits {
    own: Part,
    /// What is within another comes before it.
    submodules: Vec<(TreePath, Part)>,
    /// Our own repositories, gone with this.
    _place: Owned,
}

/// Those of one repository.
struct Part {
    repository: Repository,
    taken: Taken,
    branch: Branch,
}

impl Part {
    fn new(repository: Repository, taken: Taken, branch: &str) -> Result<Self, CommitsError> {
        let branch = repository.branch(branch, &taken)?;
        Ok(Self {
            repository,
            taken,
            branch,
        })
    }

    fn names(&self) -> Vec<String> {
        let commits = self.taken.commits.iter();
        commits.map(ToString::to_string).collect()
    }
}

impl Commits {
    /// Takes those behind the environment's HEAD that the project does not have, and those of submodules that they record.
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
        // As the owner has it now, which must be what the environment was given. The inside is not asked.
        let linked = live.parts.ground.blueprint.linked();
        if git::linked(project).as_ref() != linked {
            return Err(Failure::Invalid {
                field: "git".to_owned(),
                problem: format!(
                    "the history of {} is not kept where it was when the environment began",
                    project.display()
                ),
                expected: "`git` left out, or an environment that was created since".to_owned(),
            });
        }
        let own = project.join(".git");
        let common = linked.map_or(&own, |linked| &linked.repository);
        let repository = Repository::open(program, project, common).map_err(refused)?;
        let names = match linked {
            None => Names::plain(&lent.directory),
            Some(linked) => Names::linked(linked)?,
        };
        let tip = head(&Inside::new(&live.root), &names)?;

        let history = live.parts.layers.repository.as_ref();
        let history = history.map(|layered| {
            let opened = changes::Layers::open(layered.uppers(), layered.base());
            let failed = |error| failure::internal("opening the environment's repository", &error);
            opened
                .map(|layers| (layered.base(), layers))
                .map_err(failed)
        });
        let history = history.transpose()?;
        let history = history.as_ref().map(|(base, layers)| (*base, layers));
        let place_of = |objects: &Path| written(objects, [Some((project, layers)), history]);
        let missing = || refused(CommitsError::NoRepository(project.to_owned()));
        let found = place_of(repository.objects()).ok_or_else(missing)?;
        let find = |objects: &Path, path: &TreePath| {
            let Some(found) = place_of(objects) else {
                return Vec::new();
            };
            // Git leaves a repository that is made a submodule where it is; the owner may have its git keep it elsewhere.
            let cloned = path.join(b".git/objects").ok();
            let cloned = cloned.filter(|objects| *objects != found.objects);
            let cloned = cloned.map(|objects| Written { layers, objects });
            [found].into_iter().chain(cloned).collect()
        };
        let directory = |name: &str| {
            let path = place.path().join(name);
            let made = std::fs::create_dir(&path);
            made.map_err(|error| failure::internal("making a place for commits", &error))?;
            Ok::<_, Failure>(path)
        };
        let taken = repository
            .take(&[found], &tip, &directory("project")?)
            .map_err(refused)?;
        let submodules = repository
            .take_submodules(&taken, &find, &directory("submodules")?)
            .map_err(refused)?;
        let submodules = submodules.into_iter().map(|submodule| {
            let Submodule {
                path,
                repository,
                taken,
            } = submodule;
            let part = Part::new(repository, taken, &name);
            let part = part.map_err(|source| CommitsError::Submodule {
                path: path.clone(),
                source: Box::new(source),
            });
            Ok((path, part?))
        });
        let submodules = submodules.collect::<Result<_, _>>().map_err(refused)?;
        Ok(Self {
            own: Part::new(repository, taken, &name).map_err(refused)?,
            submodules,
            _place: place,
        })
    }

    /// Their names, oldest first.
    pub(super) fn names(&self) -> Vec<String> {
        self.own.names()
    }

    /// The branch that they come to, if there are any.
    pub(super) fn branch(&self) -> Option<String> {
        let is_any = !self.own.taken.commits.is_empty();
        is_any.then(|| self.own.branch.name.clone())
    }

    /// What comes of submodules.
    pub(super) fn submodules(&self) -> Vec<SubmoduleCommits> {
        let told = |(path, part): &(TreePath, Part)| SubmoduleCommits {
            path: shown(path.as_bytes()),
            commits: part.names(),
            branch: part.branch.name.clone(),
        };
        self.submodules.iter().map(told).collect()
    }

    /// What is needed by others first.
    fn parts(&self) -> impl Iterator<Item = &Part> {
        let submodules = self.submodules.iter().map(|(_, part)| part);
        submodules.chain([&self.own])
    }

    /// Brings the objects. Nobody sees them yet.
    pub(super) fn receive(&self) -> Result<(), Failure> {
        let received = self
            .parts()
            .try_for_each(|part| part.repository.receive(&part.taken));
        received.map_err(refused)
    }

    /// Has the branches lead to them.
    pub(super) fn finish(&self) -> Result<(), Failure> {
        let moved = self
            .parts()
            .filter(|part| !part.taken.commits.is_empty())
            .try_for_each(|part| part.repository.move_branch(&part.branch, &part.taken));
        moved.map_err(refused)
    }
}

/// Where what was added to an owner's directory of objects is in the layers that its place is in.
fn written<'a>(
    objects: &Path,
    layers: [Option<(&Path, &'a changes::Layers)>; 2],
) -> Option<Written<'a>> {
    let within = layers.into_iter().flatten().filter_map(|(base, layers)| {
        let below = objects.strip_prefix(base).ok()?;
        let objects = TreePath::new(below.as_os_str().as_encoded_bytes()).ok()?;
        Some(Written { layers, objects })
    });
    // A repository may hold its work trees: what is mounted below is the nearer one.
    within.min_by_key(|written| written.objects.as_bytes().len())
}

/// Paths inside of what says which commit is checked out.
struct Names {
    /// The directory that has HEAD.
    head: String,
    /// The one that has references.
    references: String,
}

impl Names {
    fn plain(directory: &str) -> Self {
        let git = format!("{directory}/.git");
        Self {
            head: git.clone(),
            references: git,
        }
    }

    fn linked(linked: &git::Linked) -> Result<Self, Failure> {
        let name = |path: &Path| path.to_str().map(str::to_owned).ok_or_else(no_commit);
        Ok(Self {
            head: name(&linked.administration)?,
            references: name(&linked.repository)?,
        })
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

fn no_commit() -> Failure {
    Failure::Invalid {
        field: "git".to_owned(),
        problem: "no commit is checked out inside".to_owned(),
        expected: "an environment whose project is a git repository with a commit on its branch"
            .to_owned(),
    }
}

/// The commit that is checked out inside, by the files that git keeps it in.
fn head(inside: &Inside<'_>, names: &Names) -> Result<ObjectName, Failure> {
    let read = |directory: &str, name: &str, limit| {
        let found = inside.find(&format!("{directory}/{name}")).ok()?;
        let bytes = found.content(limit).ok()??;
        String::from_utf8(bytes).ok()
    };
    let head = read(&names.head, "HEAD", MOST_NAME).ok_or_else(no_commit)?;
    let head = head.trim();
    let Some(reference) = head.strip_prefix("ref:").map(str::trim) else {
        return head.parse().map_err(|_| no_commit());
    };
    if reference == REFTABLE {
        return Err(Failure::Invalid {
            field: "git".to_owned(),
            problem: "the references inside are kept in a reftable, which is not read".to_owned(),
            expected: "`git refs migrate --ref-format=files` inside, before".to_owned(),
        });
    }
    if !reference.starts_with("refs/") {
        return Err(no_commit());
    }
    if let Some(text) = read(&names.references, reference, MOST_NAME) {
        return text.trim().parse().map_err(|_| no_commit());
    }
    let packed = read(&names.references, "packed-refs", MOST_NAMES).ok_or_else(no_commit)?;
    let of_reference = |line: &str| {
        let (name, known) = line.split_once(' ')?;
        (known == reference).then(|| name.parse().ok())?
    };
    packed.lines().find_map(of_reference).ok_or_else(no_commit)
}

fn refused(error: CommitsError) -> Failure {
    let (reason, problem) = match &error {
        CommitsError::Submodule { source, .. } => (&**source, format!("{error}: {source}")),
        other => (other, error.to_string()),
    };
    let expected = match reason {
        CommitsError::NoRepository(_) => {
            "`git` left out: commits can only be brought to a repository whose top the project is"
        }
        CommitsError::Reftable(_) => {
            "`git refs migrate --ref-format=files` there by the user, or `git` left out"
        }
        CommitsError::NoObjects | CommitsError::Missing(_) => {
            "an environment whose commits are among its own repository's objects, without alternates and links"
        }
        CommitsError::NoSubmodule { .. } => {
            "a project in which the user has that submodule checked out, by `git submodule update --init` or, where it is a new one, `git submodule add`"
        }
        CommitsError::TooMany { .. } => "fewer or smaller commits",
        CommitsError::Branch { .. } => "another `branch`",
        CommitsError::Submodule { .. } | CommitsError::Git { .. } | CommitsError::Io { .. } => {
            return failure::internal("bringing commits", &error);
        }
    };
    Failure::Invalid {
        field: "git".to_owned(),
        problem,
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
