//! A git work tree made by `git worktree` keeps its history outside of itself, in the repository that it was made from; one that is
//! a submodule, in its superproject's. To commit inside, that repository has to be seen inside.
//!
//! The file `.git` that leads there comes with the project, whoever wrote that; it alone must not open a directory of the
//! machine. Git writes the way back, too, into the repository: only what confirms the way is believed.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// A work tree whose repository is elsewhere, as its owner has it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Linked {
    /// The repository, which it has in common with other work trees.
    pub repository: PathBuf,
    /// What of that is this work tree's own: `worktrees/NAME` in it, or a submodule's all.
    pub administration: PathBuf,
}

/// The repository that a work tree at `root`, made by `git worktree`, belongs to.
///
/// It is what people's commands may write to. Of a submodule it is not: its repository lies in what the superproject's commands
/// may write to, who could have something else there.
pub fn repository_of_worktree(root: &Path) -> Option<PathBuf> {
    let linked = linked(root)?;
    (linked.administration != linked.repository).then_some(linked.repository)
}

/// What the work tree at `root` is linked to, if it is.
pub fn linked(root: &Path) -> Option<Linked> {
    let link = root.join(".git");
    if !fs::symlink_metadata(&link).ok()?.is_file() {
        return None;
    }
    let text = small(&link)?;
    let administration = root.join(text.strip_prefix("gitdir:")?.trim());
    let administration = fs::canonicalize(administration).ok()?;
    let repository = match administration.parent()? {
        // <repository>/worktrees/<name>
        worktrees if worktrees.ends_with("worktrees") => {
            common(&link, &administration, worktrees.parent()?)?
        }
        _ => {
            let back = work_tree(&administration)?;
            let is_back = fs::canonicalize(back).ok()? == fs::canonicalize(root).ok()?;
            is_back.then(|| administration.clone())?
        }
    };
    let is_repository = repository.join("HEAD").is_file() && repository.join("objects").is_dir();
    (is_repository && !repository.starts_with(root)).then_some(Linked {
        repository,
        administration,
    })
}

/// The repository of a linked work tree, whose `.git` is `link`, if what git wrote there confirms it.
fn common(link: &Path, administration: &Path, repository: &Path) -> Option<PathBuf> {
    let leads_to = |name: &str, there: &Path| {
        let written = small(&administration.join(name))?;
        let found = fs::canonicalize(administration.join(written.trim())).ok()?;
        (found == fs::canonicalize(there).ok()?).then_some(())
    };
    leads_to("gitdir", link)?;
    leads_to("commondir", repository)?;
    Some(repository.to_owned())
}

/// The work tree that a submodule's repository says is its own (`core.worktree`, git-config(1)).
fn work_tree(repository: &Path) -> Option<PathBuf> {
    let config = small(&repository.join("config"))?;
    let mut section = "";
    let values = config.lines().map(str::trim).filter_map(|line| {
        if line.starts_with('[') {
            section = line;
        }
        let (name, value) = line.split_once('=')?;
        let is_ours = section == "[core]" && name.trim() == "worktree";
        is_ours.then(|| value.trim().trim_matches('"'))
    });
    // Git writes it so; what has escapes is not looked into.
    let value = values.last().filter(|value| !value.contains('\\'))?;
    Some(repository.join(value))
}

fn small(path: &Path) -> Option<String> {
    let meta = fs::metadata(path).ok()?;
    (meta.is_file() && meta.len() < 64 * 1024).then(|| fs::read_to_string(path).ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A repository with a work tree as git lays them out.
    fn worktree(directory: &Path) -> (PathBuf, PathBuf) {
        let directory = fs::canonicalize(directory).unwrap();
        let (repository, tree) = (directory.join("main/.git"), directory.join("tree"));
        fs::create_dir_all(repository.join("worktrees/tree")).unwrap();
        fs::create_dir_all(repository.join("objects")).unwrap();
        fs::create_dir_all(&tree).unwrap();
        fs::write(repository.join("HEAD"), "ref: refs/heads/main\n").unwrap();
        let administration = repository.join("worktrees/tree");
        fs::write(
            administration.join("gitdir"),
            format!("{}\n", tree.join(".git").display()),
        )
        .unwrap();
        fs::write(administration.join("commondir"), "../..\n").unwrap();
        fs::write(
            tree.join(".git"),
            format!("gitdir: {}\n", administration.display()),
        )
        .unwrap();
        (repository, tree)
    }

    #[test]
    fn a_linked_work_tree_finds_its_repository() {
        let directory = tempfile::tempdir().unwrap();
        let (repository, tree) = worktree(directory.path());
        assert_eq!(repository_of_worktree(&tree), Some(repository.clone()));
        let found = linked(&tree).unwrap();
        assert_eq!(found.administration, repository.join("worktrees/tree"));
        assert_eq!(
            repository_of_worktree(&directory.path().join("main")),
            None,
            "it holds its own history"
        );
    }

    /// Git reads its objects and configuration where that file says.
    #[test]
    fn a_repository_that_is_elsewhere_is_not_taken_for_the_one_above() {
        let directory = tempfile::tempdir().unwrap();
        let (repository, tree) = worktree(directory.path());
        let common = repository.join("worktrees/tree/commondir");
        fs::write(&common, "../../..\n").unwrap();
        assert_eq!(linked(&tree), None);
        fs::remove_file(&common).unwrap();
        assert_eq!(linked(&tree), None);
    }

    #[test]
    fn a_submodule_finds_its_repository_if_that_knows_it() {
        let directory = tempfile::tempdir().unwrap();
        let above = fs::canonicalize(directory.path()).unwrap();
        let (repository, tree) = (above.join(".git/modules/lib"), above.join("lib"));
        fs::create_dir_all(repository.join("objects")).unwrap();
        fs::create_dir(&tree).unwrap();
        fs::write(repository.join("HEAD"), "ref: refs/heads/main\n").unwrap();
        fs::write(tree.join(".git"), "gitdir: ../.git/modules/lib\n").unwrap();
        let config = repository.join("config");
        for (text, is_its) in [
            ("[core]\n\tbare = false\n\tworktree = ../../../lib\n", true),
            (
                "[core]\n\tworktree = \"../../../lib\"\n[a]\n\tb = c\n",
                true,
            ),
            (
                "[core]\n\tworktree = ../../../lib\n\tworktree = ../../..\n",
                false,
            ),
            ("[other]\n\tworktree = ../../../lib\n", false),
            ("[core]\n\tbare = false\n", false),
        ] {
            fs::write(&config, text).unwrap();
            let expected = is_its.then(|| Linked {
                repository: repository.clone(),
                administration: repository.clone(),
            });
            assert_eq!(linked(&tree), expected, "{text}");
        }
        fs::write(&config, "[core]\n\tworktree = ../../../lib\n").unwrap();
        assert_eq!(
            repository_of_worktree(&tree),
            None,
            "people's commands do not write to it"
        );
        fs::remove_file(&config).unwrap();
        assert_eq!(linked(&tree), None);
    }

    #[test]
    fn a_forged_link_opens_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let (repository, _) = worktree(directory.path());
        let evil = fs::canonicalize(directory.path()).unwrap().join("evil");
        fs::create_dir(&evil).unwrap();
        for target in [
            repository.join("worktrees/tree"),
            repository.clone(),
            directory.path().to_owned(),
            "/etc".into(),
        ] {
            fs::write(evil.join(".git"), format!("gitdir: {}\n", target.display())).unwrap();
            assert_eq!(repository_of_worktree(&evil), None, "{}", target.display());
        }
    }
}
