//! Git in a test: the host's, run as a project's owner, and the same program as a package, to be run inside.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use crate::{
    archive::Archive,
    deb::{Compression, Deb},
    programs::small_archive,
    requirement,
    sandbox::{Outcome, Sandbox, finish},
    world::World,
};
use serde_json::Value;

/// Who commits, as variables.
const IDENTITY: [(&str, &str); 4] = [
    ("GIT_AUTHOR_NAME", "a"),
    ("GIT_AUTHOR_EMAIL", "a@b"),
    ("GIT_COMMITTER_NAME", "a"),
    ("GIT_COMMITTER_EMAIL", "a@b"),
];

/// The host's git in a directory, not yet started.
pub fn command(sandbox: &Sandbox, directory: &Path, words: &[&str]) -> Command {
    let mut command = sandbox.command("git");
    command.current_dir(directory).envs(IDENTITY).args(words);
    command
}

/// The same to its end: what it prints, without the line's end.
#[track_caller]
pub fn git(sandbox: &Sandbox, directory: &Path, words: &[&str]) -> String {
    let outcome = finish(&mut command(sandbox, directory, words)).ok();
    outcome.stdout.trim_end().to_owned()
}

/// Makes a repository of a directory, with all that is in it as its first commit.
#[track_caller]
pub fn make_repository(sandbox: &Sandbox, directory: &Path, message: &str) {
    let init = ["init", "--quiet", "--initial-branch=main"];
    git(sandbox, directory, &init);
    git(sandbox, directory, &["add", "."]);
    git(sandbox, directory, &["commit", "--quiet", "-m", message]);
}

/// The beginning of a shell line in which git knows who commits, and leaves nothing running behind a commit.
pub fn identity() -> String {
    let variables = IDENTITY.map(|(name, value)| format!("{name}={value}"));
    let no_upkeep = "GIT_CONFIG_COUNT=1 GIT_CONFIG_KEY_0=maintenance.auto GIT_CONFIG_VALUE_0=false";
    format!("export {} {no_upkeep}; ", variables.join(" "))
}

/// All files of a repository's directory but objects, with their contents.
pub fn state(directory: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    fn collect(directory: &Path, files: &mut BTreeMap<PathBuf, Vec<u8>>) {
        for entry in std::fs::read_dir(directory).expect("readable").flatten() {
            let path = entry.path();
            if path.file_name().is_some_and(|name| name == "objects") {
                continue;
            }
            match entry.file_type().expect("readable").is_dir() {
                true => collect(&path, files),
                false => drop(files.insert(path.clone(), std::fs::read(&path).unwrap_or_default())),
            }
        }
    }
    let mut files = BTreeMap::new();
    collect(directory, &mut files);
    files
}

/// [`World::small`] whose `trixie` has `git`, too.
pub fn world() -> Option<World> {
    let mut archive: Archive = small_archive()?;
    archive.trixie().add(package()?);
    Some(World::around(archive))
}

/// The host's git, what it loads and what it runs of its own, as a package; `None` where there is none and tests may skip.
pub fn package() -> Option<Deb> {
    if !requirement::program("git") || !requirement::program("ldd") {
        return None;
    }
    let said = |program: &str, words: &[&str]| {
        let output = Command::new(program)
            .args(words)
            .stdin(Stdio::null())
            .output()
            .expect("it is on the machine");
        String::from_utf8(output.stdout).expect("text")
    };
    let own = PathBuf::from(said("git", &["--exec-path"]).trim());
    let program = own.join("git");
    let mut files: BTreeSet<PathBuf> = ["git-submodule", "git-sh-setup", "git-sh-i18n"]
        .iter()
        .map(|name| own.join(name))
        .collect();
    let printed = said("ldd", &[&program.to_string_lossy()]);
    // NAME => PATH (ADDRESS), and the loader's own path alone.
    let loaded = printed
        .split_whitespace()
        .filter(|word| word.starts_with('/'));
    files.extend(loaded.map(PathBuf::from));
    let bytes = |path: &Path| std::fs::read(path).expect("readable");
    let deb = Deb::new("git", "2.47")
        .compression(Compression::Zst)
        .program("usr/bin/git", bytes(&program))
        // What a clone of a directory runs.
        .symlink("usr/bin/git-upload-pack", "git");
    let git = own.join("git");
    let deb = deb.symlink(below_usr(&git).to_str().expect("text"), "/usr/bin/git");
    Some(files.iter().fold(deb, |deb, path| {
        deb.program(below_usr(path).to_str().expect("text"), bytes(path))
    }))
}

/// Where a file of the host's is in a root with a merged `/usr`.
fn below_usr(path: &Path) -> PathBuf {
    let path = path.strip_prefix("/").expect("absolute");
    match path.starts_with("usr") {
        true => path.to_owned(),
        false => Path::new("usr").join(path),
    }
}

/// A directory that is a project, and the daemon that may be its.
#[derive(Debug)]
pub struct Project<'s> {
    sandbox: &'s Sandbox,
    /// Where it is.
    pub path: PathBuf,
}

impl Drop for Project<'_> {
    fn drop(&mut self) {
        self.envd(&["daemon", "stop"]);
    }
}

impl<'s> Project<'s> {
    /// The one at a path.
    pub fn at(sandbox: &'s Sandbox, path: PathBuf) -> Self {
        Self { sandbox, path }
    }

    /// The sandbox's own, a repository with a commit.
    pub fn repository(sandbox: &'s Sandbox) -> Self {
        sandbox.wants(&["git"]);
        sandbox.write("file", "one\n");
        let project = Self::at(sandbox, sandbox.project());
        // Which completes the lock, before it is committed.
        project.envd(&["run", "--", "true"]).ok();
        make_repository(sandbox, &project.path, "first");
        project
    }

    /// A work tree of it that `git worktree` made.
    pub fn linked(&self, path: PathBuf) -> Project<'s> {
        let words = ["worktree", "add", "--quiet", path.to_str().unwrap()];
        self.git(&words);
        Self::at(self.sandbox, path)
    }

    /// `envd` for it, to its end.
    pub fn envd(&self, words: &[&str]) -> Outcome {
        let path = self.path.to_str().unwrap();
        self.sandbox.envd(&[&["--project", path], words].concat())
    }

    /// `envd agent` for it.
    pub fn agent(&self, words: &[&str]) -> Outcome {
        self.envd(&[&["agent"], words].concat())
    }

    /// What is brought.
    #[track_caller]
    pub fn applied(&self, words: &[&str]) -> Value {
        let outcome = self.agent(&[&["--json", "apply"], words].concat()).ok();
        serde_json::from_str(&outcome.stdout).unwrap()
    }

    /// A line inside, in which git knows who commits. What it prints.
    #[track_caller]
    pub fn sh(&self, environment: &str, line: &str) -> String {
        let line = format!("{}set -e; {line}", identity());
        let run = ["run", environment, "--", "sh", "-c", &line];
        self.agent(&run).ok().stdout
    }

    /// The host's git.
    #[track_caller]
    pub fn git(&self, words: &[&str]) -> String {
        git(self.sandbox, &self.path, words)
    }

    /// A file of its.
    pub fn text(&self, path: &str) -> String {
        std::fs::read_to_string(self.path.join(path)).unwrap()
    }

    /// The owner's next commands run nothing that was planted.
    #[track_caller]
    pub fn runs_nothing(&self, marker: &Path) {
        for words in [
            &["status"][..],
            &["diff"],
            &["log", "--all", "--stat"],
            &["branch", "--list"],
            &["worktree", "list"],
            &["submodule", "status"],
        ] {
            self.git(words);
        }
        assert!(!marker.exists(), "something of the inside was run");
    }
}

/// How many there are in a list, which may be missing.
pub fn count(value: &Value) -> usize {
    value.as_array().map_or(0, Vec::len)
}

/// What makes git run a program, planted in all the places of the repository that a line inside can reach; `$c` is that.
pub fn plant(marker: &Path) -> String {
    let evil = format!("touch {}", marker.display());
    let hooks = "for h in pre-commit post-commit reference-transaction post-checkout post-index-change; do \
                 printf '#!/bin/sh\\n%s\\n' \"$evil\" > $c/hooks/$h; chmod +x $c/hooks/$h; done";
    format!(
        "evil='{evil}'; mkdir -p $c/hooks $c/info; {hooks}; git config core.fsmonitor \"$evil; false\"; \
         git config core.sshCommand \"$evil\"; git config core.pager \"$evil\"; git config alias.status \"!$evil\"; \
         git config filter.evil.clean \"$evil; cat\"; git config extensions.worktreeConfig true; \
         git config --worktree diff.external \"$evil\"; echo '* filter=evil' > $c/info/attributes"
    )
}

/// All that is in a repository beside its objects is as it was but for one branch.
#[track_caller]
pub fn only_a_branch_is_new(before: &BTreeMap<PathBuf, Vec<u8>>, directory: &Path, branch: &str) {
    let after = state(directory);
    for (path, content) in before {
        assert!(after.get(path) == Some(content), "{}", path.display());
    }
    let new: Vec<_> = after
        .keys()
        .filter(|path| !before.contains_key(*path) && !path.ends_with(branch))
        .collect();
    assert!(new.is_empty(), "{new:?}");
}
