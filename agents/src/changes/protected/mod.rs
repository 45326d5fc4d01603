//! What of a project a session may not change: policy as data, judged when changes are applied.
//!
//! A rule has a name, a reason and paths. It is asked about the path where something is to be put, whatever that was called or
//! wherever it was moved from inside the session; about what is there now and what would be; and about what the whole would
//! look like, for a repository can be put together from innocent parts.

mod content;
mod fold;
mod git_config;
mod pattern;
mod standard;

use std::collections::{BTreeMap, BTreeSet};

use envd_store::TreePath;
use serde::{Deserialize, Serialize};

use super::{Change, ChangeKind, Kind, escape::Shown};
use pattern::{Folded, Standing};

pub use git_config::programs as programs_of_git;
pub use pattern::{Pattern, PatternError};

/// The rules.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Protected {
    /// In the order in which they are asked.
    pub rules: Vec<Rule>,
}

/// One rule.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Rule {
    /// By which denials name it.
    pub name: String,
    /// What an attacker would gain.
    pub reason: String,
    /// What about the paths is judged.
    #[serde(default)]
    pub judged: Judged,
    /// What it is about.
    pub paths: Vec<Pattern>,
}

/// What about a path is judged.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Judged {
    /// Nothing there may change.
    #[default]
    Always,
    /// `.gitattributes`: drivers must stay as they are.
    GitDrivers,
    /// `envd.toml`: the section `[agent]` must stay as it is.
    AgentSection,
}

/// A change that a rule forbids.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error(
    "{} is protected by the rule {rule}: {reason}. The owner can allow it with --allow {}",
    Shown(.path),
    Shown(.path)
)]
pub struct Denial {
    /// Where.
    pub path: TreePath,
    /// The rule's name.
    pub rule: String,
    /// The rule's reason.
    pub reason: String,
}

/// The names that make a directory a repository for git, wherever it lies (gitrepository-layout(5)).
const REPOSITORY: [&[u8]; 9] = [
    b"head",
    b"objects",
    b"refs",
    b"config",
    b"config.worktree",
    b"hooks",
    b"commondir",
    b"info",
    b"packed-refs",
];

/// Largest file whose content is judged, in bytes. A larger one is denied.
pub(super) const JUDGED_CONTENT: u64 = 1 << 20;

/// Where what a change is about can be read.
pub(super) trait Contents {
    /// The project's and the session's content of a changed file, empty where there is none. `None` where either cannot be
    /// read or is larger than [`JUDGED_CONTENT`].
    fn both(&self, change: &Change) -> Option<(Vec<u8>, Vec<u8>)>;

    /// What the project has at a path now.
    fn kind_in_project(&self, path: &[u8]) -> Option<Kind>;
}

impl Default for Protected {
    fn default() -> Self {
        Self {
            rules: standard::rules(),
        }
    }
}

impl Protected {
    /// Adds a rule for the programs that the project's own git configuration runs from inside the project.
    #[must_use]
    pub fn with_programs(mut self, programs: &[TreePath]) -> Self {
        let paths: Vec<Pattern> = programs
            .iter()
            .filter_map(|path| {
                // What a pattern cannot say, it leaves open: too much protected is better than too little.
                let ascii = |&byte: &u8| {
                    if byte.is_ascii() {
                        char::from(byte)
                    } else {
                        '*'
                    }
                };
                let text: String = path.as_bytes().iter().map(ascii).collect();
                Pattern::try_from(format!("/{text}")).ok()
            })
            .collect();
        if !paths.is_empty() {
            self.rules.push(Rule {
                name: "git-programs".to_owned(),
                reason: "the repository's configuration has git run it".to_owned(),
                judged: Judged::Always,
                paths,
            });
        }
        self
    }

    /// The rule about a path alone, as where no content is known.
    pub fn about(&self, path: &TreePath) -> Option<&Rule> {
        let folded = Folded::of(path);
        self.rules.iter().find(|rule| {
            let mut standings = rule.paths.iter().map(|pattern| pattern.standing(&folded));
            standings.any(|standing| standing == Standing::Within)
        })
    }

    /// All that these changes, made together, would do against the rules.
    pub(super) fn judge(&self, changes: &[&Change], contents: &impl Contents) -> Vec<Denial> {
        let repositories = repositories(changes, contents);
        let mut denials = Vec::new();
        for change in changes {
            let folded = Folded::of(&change.path);
            if let Some(rule) = self
                .rules
                .iter()
                .find(|rule| denies(rule, change, &folded, contents))
            {
                denials.push(Denial {
                    path: change.path.clone(),
                    rule: rule.name.clone(),
                    reason: rule.reason.clone(),
                });
            } else if in_repository(&change.path, &repositories) {
                denials.push(Denial {
                    path: change.path.clone(),
                    rule: "git-embedded-repository".to_owned(),
                    reason: "together with what is around it git takes it for a repository, and runs the hooks and programs \
                             that it names"
                        .to_owned(),
                });
            }
        }
        denials
    }
}

/// Whether a rule forbids a change.
fn denies(rule: &Rule, change: &Change, folded: &Folded, contents: &impl Contents) -> bool {
    let linked = link_target(change).map(|target| Folded::of(&target));
    for pattern in &rule.paths {
        match pattern.standing(folded) {
            Standing::Within => match rule.judged {
                Judged::Always => return true,
                Judged::GitDrivers | Judged::AgentSection => {
                    return !is_harmless(rule.judged, change, contents);
                }
            },
            // A link in the place of a directory above brings what is meant from elsewhere.
            Standing::Above => {
                let kind = change.new.as_ref().map(|new| new.kind);
                if kind.is_some_and(|kind| kind != Kind::Directory && kind != Kind::File) {
                    return true;
                }
            }
            Standing::Apart => {}
        }
        // Programs that write through the link would write what is meant.
        if let Some(linked) = &linked
            && rule.judged == Judged::Always
            && pattern.standing(linked) == Standing::Within
        {
            return true;
        }
    }
    false
}

fn is_harmless(judged: Judged, change: &Change, contents: &impl Contents) -> bool {
    let states = [&change.old, &change.new].into_iter().flatten();
    if states.clone().any(|state| state.kind != Kind::File) {
        return false;
    }
    if change.kind == ChangeKind::ModeChanged {
        return true;
    }
    match (contents.both(change), judged) {
        (None, _) => false,
        (Some((old, new)), Judged::GitDrivers) => content::same_git_drivers(&old, &new),
        (Some((old, new)), Judged::AgentSection) => content::same_agent_section(&old, &new),
        (Some(_), Judged::Always) => false,
    }
}

/// Where a relative link points to, in the project.
fn link_target(change: &Change) -> Option<TreePath> {
    let target = change.new.as_ref()?.target.as_deref()?;
    if target.starts_with(b"/") {
        return None;
    }
    let mut names: Vec<&[u8]> = change.path.as_bytes().split(|&b| b == b'/').collect();
    names.pop();
    for name in target.split(|&b| b == b'/') {
        match name {
            b"" | b"." => {}
            b".." => {
                names.pop()?;
            }
            name => names.push(name),
        }
    }
    TreePath::new(&names.join(&b'/')).ok()
}

/// The directories that git would take for repositories once these changes are made, of those the changes add to. The top is
/// the empty path.
fn repositories(changes: &[&Change], contents: &impl Contents) -> BTreeSet<Vec<u8>> {
    let mut parts: BTreeMap<Vec<u8>, BTreeSet<Vec<u8>>> = BTreeMap::new();
    for change in changes.iter().filter(|change| change.new.is_some()) {
        let folded = Folded::of(&change.path);
        let mut start = 0;
        for (name, raw) in folded
            .names()
            .iter()
            .zip(change.path.as_bytes().split(|&b| b == b'/'))
        {
            if REPOSITORY.contains(&name.as_slice()) {
                let directory = change.path.as_bytes()[..start].to_owned();
                parts.entry(directory).or_default().insert(name.clone());
            }
            start += raw.len() + 1;
        }
    }
    let mut found = BTreeSet::new();
    for (directory, names) in parts {
        let has = |folded: &[u8], name: &[u8]| {
            let there = || {
                contents
                    .kind_in_project(&[&directory, name].concat())
                    .is_some()
            };
            names.contains(folded) || there()
        };
        let whole = (has(b"objects", b"objects") && has(b"refs", b"refs"))
            || has(b"commondir", b"commondir");
        if has(b"head", b"HEAD") && whole {
            found.insert(directory);
        }
    }
    found
}

/// Whether a path is a part of one of these repositories that git reads.
fn in_repository(path: &TreePath, repositories: &BTreeSet<Vec<u8>>) -> bool {
    repositories.iter().any(|directory| {
        let Some(rest) = path.as_bytes().strip_prefix(directory.as_slice()) else {
            return false;
        };
        let first = rest.split(|&b| b == b'/').next().unwrap_or(rest);
        REPOSITORY.contains(&fold::fold(first).as_slice())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_runs_on_its_own_is_protected_and_source_code_is_not() {
        let protected = Protected::default();
        let rule = |path: &str| {
            let path = TreePath::new(path.as_bytes()).unwrap();
            protected.about(&path).map(|rule| rule.name.as_str())
        };
        for (path, name) in [
            (".git/hooks/post-checkout", "git-directory"),
            ("vendor/x/.GIT", "git-directory"),
            (".gitmodules", "git-modules"),
            (".envrc", "directory-environment"),
            ("sub/.vscode/tasks.json", "editor-settings"),
            ("a.code-workspace", "editor-settings"),
            ("CLAUDE.md", "agent-settings"),
            ("docs/AGENTS.md", "agent-settings"),
            (".mcp.json", "agent-settings"),
            (".github/workflows/ci.yml", "ci"),
            (".GitHub/WorKflows/ci.yml", "ci"),
            (".gitlab-ci.yml", "ci"),
            ("envd.toml", "envd-agent"),
            (".bashrc", "shell-settings"),
            (".husky/pre-commit", "hooks"),
        ] {
            assert_eq!(rule(path), Some(name), "{path}");
        }
        for path in [
            "Makefile",
            "src/main.rs",
            ".gitignore",
            ".github/ISSUE_TEMPLATE.md",
            "git/hooks.c",
            "package.json",
            "build.rs",
            "docs/ci.md",
            ".editorconfig",
        ] {
            assert_eq!(rule(path), None, "{path}");
        }
    }

    #[test]
    fn the_rules_are_data() {
        let json = serde_json::to_string(&Protected::default()).unwrap();
        let back: Protected = serde_json::from_str(&json).unwrap();
        assert_eq!(back, Protected::default());
    }
}
