//! Generations: each root that a project's lock was realised to, kept by a root of its own with the texts that it came of (`store/FORMAT.md`,
//! "Roots"), so that the way back needs nothing but the store.
//!
//! The same root is the same generation: a lock that only names newer indexes, or one that came back from a branch, makes no new one.

use std::path::PathBuf;

use envd_store::{Digest, Root, RootKind, RootState, Session, Store, TreeId};

use super::{Local, documents, locking, realising, shimming};
use crate::{
    cli::{Failure, Kind, generations as answer, rollback},
    config::{Manifest, NAME, Source, write_over},
    lock::{Lock, Moment},
    project::{LOCK_NAME, Project},
};

/// How many are kept unless somebody asks for fewer.
const KEPT: usize = 10;

/// A generation as the store has it.
struct Generation {
    number: u32,
    root: Root,
}

impl Generation {
    /// A root that is one of this project's, whose own root has this name.
    fn of(root: Root, project: &str) -> Option<Self> {
        let number = root.name.strip_prefix(project)?.strip_prefix('-')?;
        let number = number.parse().ok()?;
        (root.kind == RootKind::Generation).then_some(Self { number, root })
    }

    /// The environment's root tree.
    fn tree(&self) -> Option<TreeId> {
        self.root.trees.iter().rev().nth(1).copied()
    }

    /// The tree of its documents.
    fn documents(&self) -> Result<TreeId, Failure> {
        self.root
            .trees
            .last()
            .copied()
            .ok_or_else(|| self.damaged())
    }

    /// What keeps the environment: all but the documents.
    fn environment(&self) -> &[TreeId] {
        let trees = &self.root.trees;
        &trees[..trees.len().saturating_sub(1)]
    }

    fn lock(&self, store: &Store) -> Result<Lock, Failure> {
        let documents = self.documents()?;
        let text = documents::read(store, &documents, LOCK_NAME)?.ok_or_else(|| self.damaged())?;
        Ok(Lock::parse(
            &text,
            &store.path("roots").join(&self.root.name),
        )?)
    }

    fn manifest(&self, store: &Store) -> Result<Option<String>, Failure> {
        documents::read(store, &self.documents()?, NAME)
    }

    fn damaged(&self) -> Failure {
        Failure::new(
            Kind::Store,
            format!("generation {} has lost its lock", self.number),
        )
        .help("choose another one of `envd generations`")
    }
}

/// A project's generations, the first first.
fn all(store: &Store, project: &Project) -> Result<Vec<Generation>, Failure> {
    let name = realising::root_name(project);
    let roots = store.roots()?.into_iter();
    let mut all: Vec<_> = roots
        .filter_map(|state| Generation::of(state.root, &name))
        .collect();
    all.sort_by_key(|generation| generation.number);
    Ok(all)
}

/// Notes that the lock was realised, out of `trees`, of which the root is the last.
pub(super) fn record(
    local: &Local,
    session: &Session,
    project: &Project,
    manifest: &Manifest,
    lock: &Lock,
    trees: &[TreeId],
) -> Result<(), Failure> {
    let all = all(session.store(), project)?;
    let agrees = lock.is_current_for(&locking::Wanted::of(&manifest.environment)?.inputs()?);
    let known = all
        .iter()
        .rev()
        .find(|generation| generation.tree().as_ref() == trees.last());
    let (number, created) = match known {
        // Of a rollback that envd.toml did not follow: what it came of is known better already.
        Some(_) if !agrees => return Ok(()),
        Some(known) => (known.number, known.root.created),
        None => {
            let last = all.last().map_or(0, |generation| generation.number);
            (last.saturating_add(1), local.seconds())
        }
    };
    let text = lock.to_text();
    let mut texts = vec![(LOCK_NAME, &*text)];
    texts.extend(agrees.then(|| (NAME, manifest.text())));
    let mut trees = trees.to_vec();
    trees.push(documents::keep(session, &texts)?);
    session.set_root(&Root {
        name: format!("{}-{number:08}", realising::root_name(project)),
        kind: RootKind::Generation,
        path: Some(project.root.clone()),
        lock: Some(Digest::of(text.as_bytes())),
        trees,
        fetch: Vec::new(),
        created,
    })?;
    let others = all.iter().filter(|other| other.number != number);
    for old in others.rev().skip(KEPT - 1) {
        session.store().remove_root(&old.root.name)?;
    }
    Ok(())
}

/// `envd generations`.
pub(super) fn list(local: &Local, project: &Project) -> Result<Vec<answer::Generation>, Failure> {
    let store = local.store()?;
    let present = locking::existing(project).ok().flatten();
    let present = present.and_then(|lock| lock.root);
    let mut list = Vec::new();
    let mut before: Option<Lock> = None;
    for generation in all(&store, project)? {
        let lock = generation.lock(&store)?;
        let size = match generation.tree() {
            Some(tree) => store.tree(&tree)?.total_size(),
            None => 0,
        };
        list.push(answer::Generation {
            number: generation.number,
            date: date(generation.root.created),
            size,
            packages: lock.artifacts.len(),
            current: present.is_some() && present == generation.tree(),
            changes: before.map(|before| locking::changes(&before, &lock)),
        });
        before = Some(lock);
    }
    Ok(list)
}

/// As in RFC 3339.
fn date(seconds: u64) -> String {
    let moment = i64::try_from(seconds)
        .ok()
        .and_then(|seconds| Moment::from_unix(seconds).ok());
    let Some(stamp) = moment.map(|moment| moment.to_string()) else {
        return seconds.to_string();
    };
    let (day, time) = stamp.split_at(8);
    let (year, day) = day.split_at(4);
    let (month, day) = day.split_at(2);
    let time = &time[1..7];
    format!(
        "{year}-{month}-{day}T{}:{}:{}Z",
        &time[..2],
        &time[2..4],
        &time[4..]
    )
}

/// `envd rollback`.
pub(super) fn rollback(
    local: &Local,
    project: &Project,
    request: rollback::Request,
) -> Result<rollback::Report, Failure> {
    let session = local.session()?;
    let store = session.store();
    let all = all(store, project)?;
    // Whatever is wrong with the lock that is there, this is a way out.
    let old = locking::existing(project).ok().flatten();
    let tree = old.as_ref().and_then(|lock| lock.root);
    let numbers: Vec<u32> = all.iter().map(|generation| generation.number).collect();
    let present = all
        .iter()
        .find(|generation| tree.is_some() && generation.tree() == tree)
        .map(|generation| generation.number);
    let number = chosen(&numbers, present, request.number)?;
    let Some(chosen) = all.iter().find(|generation| generation.number == number) else {
        return Err(none(&numbers, number));
    };
    let lock = chosen.lock(store)?;
    let root = chosen.tree().ok_or_else(|| chosen.damaged())?;
    let view = session.view(&root)?;

    let path = project.manifest();
    let text = Source::load(&path)?.text;
    let restored = match request.manifest {
        false => None,
        true => Some(chosen.manifest(store)?.ok_or_else(|| no_manifest(number))?),
    };
    let restored = restored.filter(|restored| **restored != *text);
    let wanted = inputs_of(restored.as_deref().unwrap_or(&text), &path);

    // First what keeps it and what says that it is ready, whichever of the two files is there in the end.
    let lock_text = lock.to_text();
    session.set_root(&Root {
        name: realising::root_name(project),
        kind: RootKind::Project,
        path: Some(project.root.clone()),
        lock: Some(Digest::of(lock_text.as_bytes())),
        trees: chosen.environment().to_vec(),
        fetch: Vec::new(),
        created: local.seconds(),
    })?;
    for inputs in [Some(lock.inputs), inputs_of(&text, &path)]
        .into_iter()
        .flatten()
    {
        let key = realising::key_of(project, &inputs, lock_text.as_bytes());
        session.set_memo(&key, &root)?;
    }
    lock.save(&project.lock())?;
    let kept = match &restored {
        Some(restored) => {
            let kept = keep_aside(store, project, &all, &text)?;
            write_over(&path, restored)?;
            kept
        }
        None => None,
    };
    shimming::follow(project, &view);
    Ok(rollback::Report {
        from: present,
        to: number,
        changes: old.map_or_else(Vec::new, |old| locking::changes(&old, &lock)),
        agrees: wanted == Some(lock.inputs),
        manifest: restored.is_some(),
        kept,
    })
}

/// What a manifest asks for, if it can be read.
fn inputs_of(text: &str, path: &std::path::Path) -> Option<Digest> {
    let source = Source {
        path: path.to_owned(),
        text: text.into(),
    };
    let manifest = Manifest::parse(source).ok()?;
    let wanted = locking::Wanted::of(&manifest.environment).ok()?;
    Some(wanted.inputs().ok()?.digest())
}

/// Puts a manifest that no generation has beside itself: somebody wrote it.
fn keep_aside(
    store: &Store,
    project: &Project,
    all: &[Generation],
    text: &str,
) -> Result<Option<PathBuf>, Failure> {
    for generation in all {
        if generation.manifest(store)?.as_deref() == Some(text) {
            return Ok(None);
        }
    }
    let aside = project.root.join(format!("{NAME}.before-rollback"));
    write_over(&aside, text)?;
    Ok(Some(aside))
}

/// The generation to go back to.
fn chosen(numbers: &[u32], present: Option<u32>, asked: Option<u32>) -> Result<u32, Failure> {
    let before = |present| {
        numbers
            .iter()
            .copied()
            .filter(move |number| *number < present)
    };
    match (asked, present, numbers.last()) {
        (_, _, None) => Err(Failure::new(
            Kind::Usage,
            "there is no generation of this project to go back to",
        )
        .help("each lock that `envd run` realises becomes one")),
        (Some(asked), _, _) if numbers.contains(&asked) => Ok(asked),
        (Some(asked), _, _) => Err(none(numbers, asked)),
        (None, Some(present), _) => before(present).next_back().ok_or_else(|| {
            Failure::new(
                Kind::Usage,
                format!("generation {present} is the first that is kept"),
            )
            .help("`envd generations` lists them; `envd rollback N` goes to any")
        }),
        // The lock that is there was never realised, so the last that was is the one before it.
        (None, None, Some(last)) => Ok(*last),
    }
}

fn none(numbers: &[u32], asked: u32) -> Failure {
    let numbers: Vec<String> = numbers.iter().map(u32::to_string).collect();
    Failure::new(Kind::Usage, format!("there is no generation {asked}"))
        .help(format!("there are {}", numbers.join(", ")))
}

fn no_manifest(number: u32) -> Failure {
    Failure::new(
        Kind::Usage,
        format!("generation {number} was realised while {NAME} asked for something else, so there is none to put back"),
    )
    .help("leave out --manifest")
}

/// The names of the generations that go when so many of each project are kept. The present one stays, and so does whatever is of a project out
/// of reach.
pub(super) fn to_forget(roots: &[RootState], keep: usize) -> Vec<String> {
    let projects = roots
        .iter()
        .filter(|state| state.root.kind == RootKind::Project && !state.unreachable);
    let mut forget = Vec::new();
    for RootState { root: project, .. } in projects {
        let mut generations: Vec<Generation> = roots
            .iter()
            .filter_map(|state| Generation::of(state.root.clone(), &project.name))
            .collect();
        generations.sort_by_key(|generation| generation.number);
        let old = generations.into_iter().rev().skip(keep);
        let past = old.filter(|old| old.tree().as_ref() != project.trees.last());
        forget.extend(past.map(|old| old.root.name));
    }
    forget
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(text: &str) -> TreeId {
        TreeId(Digest::of(text.as_bytes()))
    }

    fn state(name: &str, kind: RootKind, root: &str, unreachable: bool) -> RootState {
        let mut trees = vec![tree(root)];
        if kind == RootKind::Generation {
            trees.push(tree("documents"));
        }
        let root = Root {
            name: name.to_owned(),
            kind,
            path: Some("/p".into()),
            lock: None,
            trees,
            fetch: Vec::new(),
            created: 0,
        };
        RootState { root, unreachable }
    }

    #[test]
    fn the_way_back_is_the_one_before_and_any_that_is_named() {
        let to = |present, asked| chosen(&[3, 4, 7], present, asked).ok();
        assert_eq!(to(Some(7), None), Some(4));
        assert_eq!(to(Some(4), None), Some(3));
        assert_eq!(to(Some(3), None), None, "the first has none before it");
        assert_eq!(to(None, None), Some(7), "what is there was never realised");
        assert_eq!(to(Some(3), Some(7)), Some(7), "and forth");
        assert_eq!(to(Some(7), Some(5)), None);
        assert!(chosen(&[], None, None).is_err());
    }

    /// What is dropped is gone for good, so neither the present one nor what only seems to be deserted goes.
    #[test]
    fn of_many_generations_the_latest_and_the_present_one_stay() {
        use RootKind::{Generation, Project};
        let mut roots = vec![
            state("project-a", Project, "two", false),
            state("project-a-00000001", Generation, "one", false),
            state("project-a-00000002", Generation, "two", false),
            state("project-a-00000003", Generation, "three", false),
            state("project-a-00000010", Generation, "ten", false),
            state("project-ab-00000001", Generation, "one", false),
        ];
        assert_eq!(
            to_forget(&roots, 1),
            ["project-a-00000003", "project-a-00000001"]
        );
        assert_eq!(to_forget(&roots, 3), ["project-a-00000001"]);
        assert!(to_forget(&roots, 4).is_empty());
        for root in &mut roots {
            root.unreachable = true;
        }
        assert!(to_forget(&roots, 0).is_empty());
    }

    #[test]
    fn dates_are_as_machines_and_people_read_them() {
        assert_eq!(date(1_788_250_354), "2026-09-01T08:12:34Z");
    }
}
