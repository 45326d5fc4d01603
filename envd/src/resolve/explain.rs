//! Why nothing fits, in package names.
//!
//! The solver says only *that* it failed. What a person needs is the least that shows it, so the question is asked again
//! with less and less of the archives:
//!
//! 1. Only candidates up to a depth below the request speak up, for the least depth that still fails: no chain that shows
//!    the failure is shorter.
//! 2. Of the facts the solver looked at there, Junker's QuickXplain keeps a set of which none can be left out, those
//!    near to the request first.
//!
//! Facts are then told from the request downwards, a line each.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    fmt,
};

use resolvo::{NameId, Requirement as Need, SolvableId};

use super::{
    Explanation, Requirement,
    solver::{Fact, Question, Scope},
    space::{Origin, Space},
};
use crate::provider::debian::dependency;

/// More lines than this explain nothing to anyone.
const MOST_LINES: usize = 24;

/// Why a root is one.
#[derive(Clone, Debug)]
pub(super) enum Asked {
    /// Someone asked for it, and for this package by that.
    Requirement(Requirement, String),
    /// The first channel marks this package Essential.
    Essential(String),
}

impl fmt::Display for Asked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Requirement(requirement, name) if requirement.name == *name => {
                write!(f, "{requirement} is asked for")
            }
            Self::Requirement(requirement, name) => {
                write!(f, "{requirement} is asked for, which stands for {name}")
            }
            Self::Essential(name) => write!(f, "{name} is Essential"),
        }
    }
}

/// The line for a requirement whose package exists, though in no version that will do.
pub(super) fn absent(
    space: &Space<'_>,
    asked: &Requirement,
    requirement: &Requirement,
    channels: &[String],
) -> String {
    let mut by_channel: BTreeMap<usize, Vec<&str>> = BTreeMap::new();
    for id in space.candidates(space.name(&requirement.name)).iter() {
        let solvable = space.solvable(*id);
        by_channel
            .entry(solvable.candidate.channel)
            .or_default()
            .push(solvable.candidate.version);
    }
    let has: Vec<String> = by_channel
        .into_iter()
        .map(|(channel, versions)| format!("{} has {}", channels[channel], some(&versions)))
        .collect();
    let asked = Asked::Requirement(asked.clone(), requirement.name.clone());
    match has.is_empty() {
        true => format!("{asked}; it is only provided by others, in no such version"),
        false => format!("{asked}; {}", has.join(", ")),
    }
}

/// The first few of many.
fn some(items: &[impl AsRef<str>]) -> String {
    let shown: Vec<&str> = items.iter().take(4).map(AsRef::as_ref).collect();
    match items.len() - shown.len() {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

/// The first few of many, the last of them joined by a word.
fn listed(items: &[String], word: &str) -> String {
    match items {
        [most @ .., last] if (1..4).contains(&most.len()) => {
            format!("{} {word} {last}", most.join(", "))
        }
        items => some(items),
    }
}

/// Explains why `question`, which has no answer, has none.
pub(super) fn explain(
    question: &Question<'_, '_>,
    asked: &[Asked],
    channels: &[String],
) -> Explanation {
    let facts = least(question);
    let mut teller = Teller {
        space: question.space,
        roots: question.roots,
        asked,
        channels,
        facts: &facts,
        told: HashSet::new(),
        lines: Vec::new(),
    };
    teller.tell();
    let mut lines = teller.lines;
    if lines.len() > MOST_LINES {
        let more = lines.len() - MOST_LINES;
        lines.truncate(MOST_LINES);
        lines.push(format!("and {more} more facts of this kind"));
    }
    Explanation { lines }
}

/// A set of facts that contradict each other, none of which can be left out.
fn least(question: &Question<'_, '_>) -> BTreeSet<Fact> {
    let space = question.space;
    let (depths, seen) = shallowest(question);
    let mut nearest_first: Vec<SolvableId> = seen.into_iter().collect();
    nearest_first.sort_by_key(|id| (depths[id], *id));
    let roots = (0..question.roots.len()).map(|at| vec![Fact::Root(at)]);
    let candidates = nearest_first.into_iter().map(|id| {
        let lowered = space.lowered(id);
        let needs = (0..lowered.needs.len()).map(|at| Fact::Needs(id, at));
        let clashes = (0..lowered.clashes.len()).map(|at| Fact::Clashes(id, at));
        let broken = lowered.broken.iter().map(|_| Fact::Broken(id));
        needs.chain(clashes).chain(broken).collect()
    });
    // Candidates as wholes first, since there are fewer of them than of facts.
    let whole: Vec<Vec<Fact>> = roots.chain(candidates).collect();
    let coarse = quick_xplain(question, &whole);
    let fine: Vec<Vec<Fact>> = coarse
        .into_iter()
        .flatten()
        .map(|fact| vec![fact])
        .collect();
    quick_xplain(question, &fine)
        .into_iter()
        .flatten()
        .collect()
}

/// The least depth at which the question fails: the depths of the candidates down to there, and those looked at.
fn shallowest(question: &Question<'_, '_>) -> (HashMap<SolvableId, usize>, BTreeSet<SolvableId>) {
    let space = question.space;
    let mut depths: HashMap<SolvableId, usize> = HashMap::new();
    let mut speaking: HashSet<SolvableId> = HashSet::new();
    let mut next: Vec<SolvableId> = question
        .roots
        .iter()
        .flat_map(|need| space.options(*need))
        .collect();
    let mut depth = 0;
    loop {
        match question.solve(Scope::Of(&speaking)) {
            Err(contradiction) => {
                let mut seen = contradiction.seen;
                seen.retain(|id| speaking.contains(id));
                return (depths, seen);
            }
            // Everything speaks already: the caller's question has an answer after all, and there is nothing to tell.
            Ok(_) if next.is_empty() => return (depths, BTreeSet::new()),
            Ok(_) => {}
        }
        depth += 1;
        let layer = std::mem::take(&mut next);
        for id in layer {
            if speaking.insert(id) {
                depths.insert(id, depth);
                for (_, need) in &space.lowered(id).needs {
                    next.extend(space.options(*need));
                }
            }
        }
        next.retain(|id| !speaking.contains(id));
        next.sort_unstable();
        next.dedup();
    }
}

/// Junker's QuickXplain over groups of facts: a least set of groups that fails, the earlier ones preferred.
fn quick_xplain(question: &Question<'_, '_>, groups: &[Vec<Fact>]) -> Vec<Vec<Fact>> {
    fn narrow<'g>(
        question: &Question<'_, '_>,
        background: &[&'g Vec<Fact>],
        grown: bool,
        groups: &[&'g Vec<Fact>],
    ) -> Vec<&'g Vec<Fact>> {
        if grown && fails(question, background) {
            return Vec::new();
        }
        if groups.len() <= 1 {
            return groups.to_vec();
        }
        let (first, second) = groups.split_at(groups.len() / 2);
        let with_first = [background, first].concat();
        let kept_second = narrow(question, &with_first, !first.is_empty(), second);
        let with_second = [background, &kept_second[..]].concat();
        let kept_first = narrow(question, &with_second, !kept_second.is_empty(), first);
        [kept_first, kept_second].concat()
    }
    let groups: Vec<&Vec<Fact>> = groups.iter().collect();
    narrow(question, &[], false, &groups)
        .into_iter()
        .cloned()
        .collect()
}

fn fails(question: &Question<'_, '_>, groups: &[&Vec<Fact>]) -> bool {
    let facts: HashSet<Fact> = groups
        .iter()
        .flat_map(|group| group.iter().copied())
        .collect();
    question.solve(Scope::Facts(&facts)).is_err()
}

/// Who wants something: a requirement of the request, or a package in whatever version.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Speaker {
    Request(usize),
    Package(NameId),
}

/// Tells facts from the request downwards.
struct Teller<'t, 'u> {
    space: &'t Space<'u>,
    roots: &'t [Need],
    asked: &'t [Asked],
    channels: &'t [String],
    facts: &'t BTreeSet<Fact>,
    told: HashSet<NameId>,
    lines: Vec<String>,
}

impl<'u> Teller<'_, 'u> {
    fn tell(&mut self) {
        for fact in self.facts {
            if let Fact::Root(at) = fact {
                self.lines.push(self.asked[*at].to_string());
                self.tell_below(self.roots[*at]);
            }
        }
        self.tell_of_all(|fact| matches!(fact, Fact::Broken(_)));
        self.tell_of_all(|fact| matches!(fact, Fact::Clashes(..)));
        self.tell_single_versions();
    }

    /// The needs of the packages that a need leads to, and what they lead to.
    fn tell_below(&mut self, need: Need) {
        let mut names = Vec::new();
        for id in self.space.options(need) {
            let name = self.space.solvable(id).name;
            if self.told.insert(name) {
                names.push(name);
            }
        }
        for name in names {
            let needs: Vec<Fact> = self
                .facts
                .iter()
                .copied()
                .filter(|fact| matches!(fact, Fact::Needs(id, _) if self.space.solvable(*id).name == name))
                .collect();
            self.tell_grouped(&needs);
            for fact in needs {
                if let Some((_, need)) = self.need_of(fact) {
                    self.tell_below(need);
                }
            }
        }
    }

    fn tell_of_all(&mut self, which: impl Fn(&Fact) -> bool) {
        let facts: Vec<Fact> = self.facts.iter().copied().filter(which).collect();
        self.tell_grouped(&facts);
    }

    /// One line for all versions of a package of which the same is so.
    fn tell_grouped(&mut self, facts: &[Fact]) {
        let mut groups: Vec<(NameId, [String; 2], Vec<SolvableId>)> = Vec::new();
        for fact in facts {
            let (Fact::Needs(id, _) | Fact::Clashes(id, _) | Fact::Broken(id)) = *fact else {
                continue;
            };
            let name = self.space.solvable(id).name;
            let said = self.said_of(*fact);
            match groups.iter_mut().find(|(n, s, _)| *n == name && *s == said) {
                Some((_, _, ids)) if ids.contains(&id) => {}
                Some((_, _, ids)) => ids.push(id),
                None => groups.push((name, said, vec![id])),
            }
        }
        for (name, [one, several], mut ids) in groups {
            ids.sort_unstable();
            let versions: Vec<String> = ids.iter().map(|id| self.version(*id)).collect();
            let said = if ids.len() == 1 { one } else { several };
            let name = self.space.name_text(name);
            let versions = listed(&versions, "and");
            self.lines.push(format!("{name} {versions} {said}"));
        }
    }

    /// What is so of one package, and of several.
    fn said_of(&self, fact: Fact) -> [String; 2] {
        match fact {
            Fact::Root(_) => [String::new(), String::new()],
            Fact::Needs(..) => {
                let Some((origin, need)) = self.need_of(fact) else {
                    return [String::new(), String::new()];
                };
                let tail = match self.space.options(need).is_empty() {
                    true => format!("{}; {}", origin.text, self.what_exists(origin)),
                    false => origin.text.to_owned(),
                };
                [format!("needs {tail}"), format!("need {tail}")]
            }
            Fact::Clashes(id, at) => {
                let lowered = self.space.lowered(id);
                let (origin, _) = lowered.clashes[at];
                // One Conflicts with a virtual package excludes each of its providers.
                let hit: BTreeSet<SolvableId> = self
                    .facts
                    .iter()
                    .filter_map(|fact| match *fact {
                        Fact::Clashes(by, at) if by == id => Some(lowered.clashes[at]),
                        _ => None,
                    })
                    .filter(|(same, _)| *same == origin)
                    .flat_map(|(_, set)| {
                        let possible = self.space.members(set);
                        let mut hit = self.mentioned(self.space.set_name(set));
                        hit.retain(|id| !possible.contains(id));
                        hit
                    })
                    .collect();
                let hit: Vec<String> = hit
                    .into_iter()
                    .map(|id| {
                        format!(
                            "{} {}",
                            self.space.solvable(id).candidate.name,
                            self.version(id)
                        )
                    })
                    .collect();
                let [one, several] = match origin.field {
                    "Breaks" => ["breaks", "break"],
                    _ => ["conflicts with", "conflict with"],
                };
                let plain = hit
                    .iter()
                    .all(|h| h.starts_with(&format!("{} ", origin.text)));
                let text = match (hit.is_empty(), plain) {
                    (true, _) => origin.text.to_owned(),
                    // A plain name, hit by itself, needs no more than the version.
                    (false, true) => listed(&hit, "and"),
                    (false, false) => format!("{}, that is {}", origin.text, listed(&hit, "and")),
                };
                [format!("{one} {text}"), format!("{several} {text}")]
            }
            Fact::Broken(id) => {
                let lowered = self.space.lowered(id);
                let problem = lowered
                    .broken
                    .as_ref()
                    .map(ToString::to_string)
                    .unwrap_or_default();
                let said = format!("cannot be used: {problem}");
                [said.clone(), said]
            }
        }
    }

    fn need_of(&self, fact: Fact) -> Option<(Origin<'u>, Need)> {
        match fact {
            Fact::Needs(id, at) => Some(self.space.lowered(id).needs[at]),
            _ => None,
        }
    }

    /// What there is of the packages that a clause nothing satisfies names.
    fn what_exists(&self, origin: Origin<'_>) -> String {
        let alternatives = dependency::parse_clause(origin.field, origin.text).unwrap_or_default();
        let said: Vec<String> = alternatives
            .iter()
            .map(|alternative| {
                let ids = self.space.candidates(self.space.name(alternative.name));
                let there: Vec<String> = ids
                    .iter()
                    .map(|id| {
                        let solvable = self.space.solvable(*id);
                        let channel = &self.channels[solvable.candidate.channel];
                        format!("{} {} ({channel})", alternative.name, solvable.version)
                    })
                    .collect();
                match there.len() {
                    0 if self.space.is_known(alternative.name) => {
                        format!("{} is only provided, in no such version", alternative.name)
                    }
                    0 => format!("{} does not exist", alternative.name),
                    1 => format!("only {} exists", there[0]),
                    _ => format!("only {} exist", some(&there)),
                }
            })
            .collect();
        said.join(", ")
    }

    /// The candidates of a package that the facts' needs lead to.
    fn mentioned(&self, name: NameId) -> BTreeSet<SolvableId> {
        self.needs()
            .flat_map(|need| self.space.options(need))
            .filter(|id| self.space.solvable(*id).name == name)
            .collect()
    }

    fn needs(&self) -> impl Iterator<Item = Need> {
        self.facts.iter().filter_map(|fact| match *fact {
            Fact::Root(at) => Some(self.roots[at]),
            fact => self.need_of(fact).map(|(_, need)| need),
        })
    }

    /// Packages of which the facts want versions that have nothing in common.
    fn tell_single_versions(&mut self) {
        // What each speaker's needs leave of a package, then of what any version of the speaker leaves.
        let mut left: BTreeMap<
            (Speaker, NameId),
            BTreeMap<Option<SolvableId>, BTreeSet<SolvableId>>,
        > = BTreeMap::new();
        for fact in self.facts {
            let (speaker, version, need) = match *fact {
                Fact::Root(at) => (Speaker::Request(at), None, self.roots[at]),
                Fact::Needs(id, at) => {
                    let need = self.space.lowered(id).needs[at].1;
                    (
                        Speaker::Package(self.space.solvable(id).name),
                        Some(id),
                        need,
                    )
                }
                Fact::Clashes(..) | Fact::Broken(_) => continue,
            };
            let mut by_name: BTreeMap<NameId, BTreeSet<SolvableId>> = BTreeMap::new();
            for id in self.space.options(need) {
                by_name
                    .entry(self.space.solvable(id).name)
                    .or_default()
                    .insert(id);
            }
            for (name, ids) in by_name {
                left.entry((speaker, name))
                    .or_default()
                    .entry(version)
                    .and_modify(|before| before.retain(|id| ids.contains(id)))
                    .or_insert(ids);
            }
        }
        let mut wanted: BTreeMap<NameId, (BTreeSet<SolvableId>, BTreeSet<SolvableId>)> =
            BTreeMap::new();
        for ((_, name), by_version) in left {
            let any: BTreeSet<SolvableId> = by_version.into_values().flatten().collect();
            wanted
                .entry(name)
                .and_modify(|(common, all)| {
                    common.retain(|id| any.contains(id));
                    all.extend(&any);
                })
                .or_insert_with(|| (any.clone(), any));
        }
        for (name, (common, all)) in wanted {
            if common.is_empty() {
                let versions: Vec<String> = all.into_iter().map(|id| self.version(id)).collect();
                let name = self.space.name_text(name);
                let versions = listed(&versions, "or");
                self.lines.push(format!(
                    "only one version of {name} can be there: {versions}"
                ));
            }
        }
    }

    /// The version, with its channel where there are several to tell apart.
    fn version(&self, id: SolvableId) -> String {
        let solvable = self.space.solvable(id);
        match self.channels {
            [_] => solvable.candidate.version.to_owned(),
            channels => format!(
                "{} ({})",
                solvable.version, channels[solvable.candidate.channel]
            ),
        }
    }
}
