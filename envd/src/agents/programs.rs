//! Programs of a project that its owner's git runs, by the owner's configuration: hooks in a directory of the project, filters,
//! monitors. Whoever changes one of these has it run at the owner's next git command.

use std::{
    fs,
    path::{Path, PathBuf},
};

use envd_agents::changes::protected::programs_of_git;
use envd_store::TreePath;

use crate::{
    environment::{Caller, git},
    settings::HostVariables,
};

/// Bytes of a file of configuration that is read.
const MOST: u64 = 1 << 20;

/// Those that the files of configuration name now; what they include is protected itself where it lies in the project.
pub(super) fn of_git(project: &Path, variables: &HostVariables) -> Vec<TreePath> {
    let is_top = |directory: &&Path| fs::symlink_metadata(directory.join(".git")).is_ok();
    let Some(top) = project.ancestors().find(is_top) else {
        return Vec::new();
    };
    let directories = match git::linked(top) {
        Some(linked) => vec![linked.repository, linked.administration],
        None => vec![top.join(".git")],
    };
    let names = ["config", "config.worktree"];
    let own = directories
        .iter()
        .flat_map(|directory| names.map(|name| directory.join(name)));
    let found = own
        .chain(of_user(variables))
        .filter_map(|path| small(&path));
    let mut programs: Vec<_> = found
        .flat_map(|text| programs_of_git(&text, top, project))
        .collect();
    programs.sort();
    programs.dedup();
    programs
}

/// git-config(1), FILES. What is the machine's names nothing in a project.
fn of_user(variables: &HostVariables) -> [PathBuf; 2] {
    let home = Caller::of_this_process(variables).home;
    let own = variables.set("XDG_CONFIG_HOME").map(PathBuf::from);
    let own = own.unwrap_or_else(|| home.join(".config"));
    [home.join(".gitconfig"), own.join("git/config")]
}

fn small(path: &Path) -> Option<Vec<u8>> {
    let meta = fs::metadata(path).ok()?;
    (meta.is_file() && meta.len() <= MOST).then(|| fs::read(path).ok())?
}
