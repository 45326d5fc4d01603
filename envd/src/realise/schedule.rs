//! In which order package files are unpacked, so that those that come first in configuring ([`super::strata`]) are there
//! while the others are still being unpacked. It decides when things happen, never what comes of them.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
};

/// What is to be done with a file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Turn {
    /// To look at its control data, on which its place depends, and give it [back](Schedule::looked).
    Look,
    /// To unpack it.
    Unpack,
}

/// What has just become complete.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Milestone {
    /// The first stratum.
    First,
    /// The first two.
    Second,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Rank {
    First,
    Look,
    Second,
    Last,
}

/// Files that are there and wait, and those who work on them. Files are known by their number; of equal rank the lowest
/// goes first.
#[derive(Debug)]
pub struct Schedule {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    ranks: Vec<Rank>,
    waiting: BTreeMap<(Rank, usize), PathBuf>,
    unpacked: Vec<bool>,
    /// Files that nobody has looked at yet.
    unseen: usize,
    /// Whether it is known which are second.
    sorted: bool,
    ended: bool,
}

impl Schedule {
    /// So many files, of which these are first.
    pub fn new(files: usize, first: &BTreeSet<usize>) -> Self {
        let rank = |number| {
            if first.contains(&number) {
                Rank::First
            } else {
                Rank::Look
            }
        };
        let ranks: Vec<Rank> = (0..files).map(rank).collect();
        Self {
            state: Mutex::new(State {
                unseen: ranks.iter().filter(|rank| **rank == Rank::Look).count(),
                ranks,
                waiting: BTreeMap::new(),
                unpacked: vec![false; files],
                sorted: false,
                ended: false,
            }),
            changed: Condvar::new(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A file is there.
    pub fn arrived(&self, number: usize, path: PathBuf) {
        let mut state = self.state();
        let rank = state.ranks[number];
        state.waiting.insert((rank, number), path);
        drop(state);
        self.changed.notify_one();
    }

    /// No more will come.
    pub fn end(&self) {
        self.state().ended = true;
        self.changed.notify_all();
    }

    /// What to do next, waiting for it; `None` when there is nothing and nothing will come.
    pub fn next(&self) -> Option<(Turn, usize, PathBuf)> {
        let state = self.changed.wait_while(self.state(), |state| {
            state.waiting.is_empty() && !state.ended
        });
        let mut state = state.unwrap_or_else(PoisonError::into_inner);
        let ((rank, number), path) = state.waiting.pop_first()?;
        let turn = if rank == Rank::Look {
            Turn::Look
        } else {
            Turn::Unpack
        };
        Some((turn, number, path))
    }

    /// A file was looked at and waits to be unpacked. Whether it was the last one to be looked at: then it is for the caller
    /// to say which are [second](Self::sort).
    pub fn looked(&self, number: usize, path: PathBuf) -> bool {
        let mut state = self.state();
        state.ranks[number] = Rank::Last;
        state.waiting.insert((Rank::Last, number), path);
        state.unseen -= 1;
        let all = state.unseen == 0;
        drop(state);
        self.changed.notify_one();
        all
    }

    /// These are second, the others that are not first are last.
    pub fn sort(&self, second: &BTreeSet<usize>) -> Option<Milestone> {
        let mut state = self.state();
        for &number in second {
            if state.ranks[number] != Rank::First {
                state.ranks[number] = Rank::Second;
            }
        }
        let waiting = std::mem::take(&mut state.waiting);
        let ranked = waiting
            .into_iter()
            .map(|((_, number), path)| ((state.ranks[number], number), path));
        state.waiting = ranked.collect();
        state.sorted = true;
        state.second_is_complete().then_some(Milestone::Second)
    }

    /// A file is unpacked.
    pub fn unpacked(&self, number: usize) -> Option<Milestone> {
        let mut state = self.state();
        state.unpacked[number] = true;
        match state.ranks[number] {
            Rank::First | Rank::Second if state.second_is_complete() => Some(Milestone::Second),
            Rank::First if state.is_complete(Rank::First) => Some(Milestone::First),
            _ => None,
        }
    }
}

impl State {
    fn is_complete(&self, up_to: Rank) -> bool {
        let mut files = self.ranks.iter().zip(&self.unpacked);
        files.all(|(rank, unpacked)| *unpacked || *rank > up_to)
    }

    /// Whether the first two are there, while others are not.
    fn second_is_complete(&self) -> bool {
        self.sorted && self.is_complete(Rank::Second) && !self.is_complete(Rank::Last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn next(schedule: &Schedule) -> Option<(Turn, usize)> {
        schedule.next().map(|(turn, number, _)| (turn, number))
    }

    #[test]
    fn the_first_are_unpacked_the_others_looked_at_and_sorted() {
        let schedule = Schedule::new(5, &BTreeSet::from([1]));
        (0..5).for_each(|number| schedule.arrived(number, PathBuf::new()));
        schedule.end();
        assert_eq!(next(&schedule), Some((Turn::Unpack, 1)));
        assert_eq!(schedule.unpacked(1), Some(Milestone::First));
        for number in [0, 2, 3, 4] {
            assert_eq!(next(&schedule), Some((Turn::Look, number)));
            assert_eq!(schedule.looked(number, PathBuf::new()), number == 4);
        }
        assert_eq!(schedule.sort(&BTreeSet::from([1, 2, 4])), None);
        for (number, milestone) in [
            (2, None),
            (4, Some(Milestone::Second)),
            (0, None),
            (3, None),
        ] {
            assert_eq!(next(&schedule), Some((Turn::Unpack, number)));
            assert_eq!(schedule.unpacked(number), milestone);
        }
        assert_eq!(next(&schedule), None);
    }

    /// Nothing may hang on a milestone: a closure may have nothing to run, or nothing else.
    #[test]
    fn milestones_that_lead_nowhere_are_not_told() {
        let schedule = Schedule::new(1, &BTreeSet::new());
        schedule.arrived(0, PathBuf::new());
        schedule.end();
        assert_eq!(next(&schedule), Some((Turn::Look, 0)));
        assert!(schedule.looked(0, PathBuf::new()));
        assert_eq!(schedule.sort(&BTreeSet::from([0])), None);
        assert_eq!(next(&schedule), Some((Turn::Unpack, 0)));
        assert_eq!(schedule.unpacked(0), None);
        assert_eq!(next(&schedule), None);
    }
}
