//! What an environment changed in its project, and bringing it back.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use envd_agents::{
    changes::{
        self, ApplyError, ChangeKind as Kind, Changes as Found, Chosen, Guard, Refusal,
        RefusalKind, RefusalReport, Rendering, Report, Scope, protected::Protected,
    },
    secret::Patterns,
    service::{
        Failure, Owner, ResourceUri,
        changes::{
            Change, ChangeKind, Changes, ChangesApplied, ChangesApply, ChangesDiff, MOST_CHANGES,
            NotApplied,
        },
        excerpt::Collector,
    },
};
use envd_store::TreePath;

use super::{
    ChangesReport, Shared, blocking,
    commits::Commits,
    failure,
    live::{Beginning, Lent, Live},
    pairs::Owned,
    programs,
};
use crate::settings::HostVariables;

/// The directories of an environment's project: its own, and those that hold what was written.
fn directories(live: Option<&Live>) -> Option<(Vec<PathBuf>, PathBuf)> {
    let project = live?.parts.layers.project.as_ref()?;
    Some((project.uppers(), project.base().to_owned()))
}

fn no_project() -> Failure {
    Failure::Unsupported {
        what: "tell changes of an environment without a project".to_owned(),
        fix:
            "Create the environment with `project`, the directory whose files are to be worked on."
                .to_owned(),
    }
}

/// Opens the layers and scans them.
fn scan(
    (uppers, project): &(Vec<PathBuf>, PathBuf),
    only: Vec<TreePath>,
) -> Result<(changes::Layers, Found), Failure> {
    let step = "looking for changes";
    let layers =
        changes::Layers::open(uppers, project).map_err(|error| failure::internal(step, &error))?;
    let scope = Scope {
        only,
        ..Scope::default()
    };
    let found = layers
        .changes(&scope)
        .map_err(|error| failure::internal(step, &error))?;
    Ok((layers, found))
}

fn paths(texts: &[String]) -> Result<Vec<TreePath>, Failure> {
    let read = |text: &String| {
        let relative = text.strip_prefix("./").unwrap_or(text);
        TreePath::new(relative.trim_end_matches('/').as_bytes()).map_err(|error| Failure::Invalid {
            field: "paths".to_owned(),
            problem: format!("{text:?}: {error}"),
            expected: "paths relative to the project, as changes_diff gives them".to_owned(),
        })
    };
    texts.iter().filter(|text| *text != ".").map(read).collect()
}

/// Changed paths in an environment. 0 where that cannot be told.
pub(super) async fn count(lent: &Lent) -> u64 {
    let Some(directories) = directories(lent.live.read().await.as_ref()) else {
        return 0;
    };
    let counted = blocking(move || Ok(scan(&directories, Vec::new())?.1.entries.len()));
    counted.await.map_or(0, |count| count as u64)
}

/// The whole unified diff.
pub(super) async fn whole(shared: &Shared, lent: &Lent) -> Result<String, Failure> {
    let patterns = shared.keyring.patterns();
    let directories = directories(lent.live.read().await.as_ref()).ok_or_else(no_project)?;
    blocking(move || {
        let (layers, found) = scan(&directories, Vec::new())?;
        Ok(scrubbed(
            &patterns,
            layers.report(&found, &Rendering::default()).unified(),
        ))
    })
    .await
}

/// Everything that was changed, with all lines, for a person who has asked to see it.
pub(super) async fn report(
    shared: &Shared,
    owner: &Owner,
    request: ChangesReport,
) -> Result<Report, Failure> {
    let lent = shared.environment(owner, &request.environment)?;
    let directories = directories(lent.live.read().await.as_ref()).ok_or_else(no_project)?;
    let only = paths(&request.paths)?;
    blocking(move || {
        let (layers, found) = scan(&directories, only)?;
        Ok(layers.report(&found, &WHOLE))
    })
    .await
}

/// What a person can still have a program look through.
const WHOLE: Rendering = Rendering {
    context: 3,
    files: 1_000_000,
    file: 16 << 20,
    lines: 1_000_000,
    bytes: 24 << 20,
    effort: Duration::from_millis(500),
    whole_effort: Duration::from_secs(10),
};

/// A text without secrets that somebody wrote into the project.
fn scrubbed(patterns: &Patterns, mut text: String) -> String {
    patterns.scrub_text(&mut text);
    text
}

/// What may not be changed in a project: by the rules, by the policy, and because the owner's git runs it.
fn protected(variables: &HostVariables, lent: &Lent, project: &Path) -> Protected {
    let programs = programs::of_git(project, variables);
    lent.protected().with_programs(&programs)
}

/// `changes_diff`
pub(super) async fn diff(
    shared: &Shared,
    owner: &Owner,
    request: ChangesDiff,
) -> Result<Changes, Failure> {
    let lent = shared.environment(owner, &request.environment)?;
    let directories = directories(lent.live.read().await.as_ref()).ok_or_else(no_project)?;
    let only = paths(&request.paths)?;
    let patterns = shared.keyring.patterns();
    let variables = shared.context.variables.clone();
    blocking(move || {
        let (layers, found) = scan(&directories, only)?;
        let text = scrubbed(
            &patterns,
            layers.report(&found, &Rendering::default()).unified(),
        );
        let limit = usize::try_from(request.diff_bytes).unwrap_or(usize::MAX);
        let mut collector = Collector::new(limit);
        collector.push(text.as_bytes());
        let protected = protected(&variables, &lent, &directories.1);
        let shown = found.entries.iter().take(MOST_CHANGES);
        let changes = shown.map(|change| told(change, &protected)).collect();
        Ok(Changes {
            changes,
            omitted_changes: found.entries.len().saturating_sub(MOST_CHANGES) as u64,
            diff: collector.finish(Some(ResourceUri::Changes {
                environment: request.environment.clone(),
            })),
            environment: request.environment,
        })
    })
    .await
}

fn told(change: &changes::Change, protected: &Protected) -> Change {
    let is_binary = |state: &Option<changes::State>| state.as_ref().is_some_and(|s| s.binary);
    Change {
        path: changes::escape::name(change.path.as_bytes()),
        kind: match change.kind {
            Kind::Added => ChangeKind::Added,
            Kind::Modified => ChangeKind::Modified,
            Kind::Deleted => ChangeKind::Deleted,
            Kind::ModeChanged => ChangeKind::Mode,
            Kind::TypeChanged => ChangeKind::Type,
        },
        binary: is_binary(&change.old) || is_binary(&change.new),
        protected_by: protected.about(&change.path).map(|rule| rule.name.clone()),
    }
}

/// `changes_apply`
pub(super) async fn apply(
    shared: &Shared,
    owner: &Owner,
    request: ChangesApply,
) -> Result<ChangesApplied, Failure> {
    let lent = shared.environment(owner, &request.environment)?;
    let chosen = match &request.paths[..] {
        [] => Chosen::All,
        given => match paths(given)? {
            all if all.is_empty() => Chosen::All,
            paths => Chosen::Paths(paths),
        },
    };
    // Alone: two that apply at once would each take the other's for the project's own changes.
    let mut slot = lent.live.clone().write_owned().await;
    let place = shared.fresh("commits");
    let variables = shared.context.variables.clone();
    blocking(move || {
        let directories = directories(slot.as_ref()).ok_or_else(no_project)?;
        let Some(live) = slot.as_mut() else {
            return Err(no_project());
        };
        let (layers, found) = scan(&directories, Vec::new())?;
        let mut commits = None;
        if request.git || request.commits_only {
            let place = Owned::make(place)
                .map_err(|error| failure::internal("making a place for commits", &error))?;
            let branch = request.branch.as_deref();
            let taken = Commits::take(live, &lent, &layers, &directories.1, branch, place)?;
            if !request.dry_run {
                taken.receive()?;
            }
            commits = Some(taken);
        }
        let found = match request.commits_only {
            true => Found::default(),
            false => found,
        };
        let Beginning { base, checkout } = &mut live.parts.beginning;
        let guard = Guard {
            protected: protected(&variables, &lent, &directories.1),
            ..Guard::default()
        };
        let applied = if request.dry_run {
            layers.judge(&found, &chosen, &guard, base, checkout)
        } else {
            let applied = layers.apply(&found, &chosen, &guard, base, checkout);
            applied.inspect(|applied| base.record(applied))
        };
        let mut answer = ChangesApplied {
            environment: request.environment,
            applied: Vec::new(),
            merged: Vec::new(),
            conflicts: Vec::new(),
            refused: Vec::new(),
            commits: Vec::new(),
            branch: None,
            submodules: Vec::new(),
            dry_run: request.dry_run,
        };
        let mut is_applied = true;
        match applied {
            Ok(applied) => {
                let report = applied.report();
                for path in report.applied {
                    if path.merged {
                        answer.merged.push(path.path.clone());
                    }
                    answer.applied.push(path.path);
                }
                sort(&mut answer, &applied.refused);
            }
            Err(ApplyError::Refused(refused)) => {
                is_applied = false;
                sort(&mut answer, &refused);
            }
            Err(error) => return Err(failure::internal("applying the changes", &error)),
        }
        if let Some(commits) = commits.filter(|_| is_applied) {
            if !request.dry_run {
                commits.finish()?;
            }
            answer.branch = commits.branch();
            answer.commits = commits.names();
            answer.submodules = commits.submodules();
        }
        Ok(answer)
    })
    .await
}

/// Tells conflicts from everything else.
fn sort(answer: &mut ChangesApplied, refused: &[Refusal]) {
    for refusal in refused {
        let report = RefusalReport::from(refusal);
        let entry = NotApplied {
            path: report.path,
            reason: report.message,
        };
        match report.kind {
            RefusalKind::Conflict => answer.conflicts.push(entry),
            _ => answer.refused.push(entry),
        }
    }
}
