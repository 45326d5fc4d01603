//! What people want.

use std::time::Duration;

use super::Supervisor;
use crate::{
    Name,
    clock::Clock,
    restart::History,
    unit::{Phase, Unit},
};

impl Supervisor {
    pub(super) fn start_wanted(&mut self, names: &[Name]) {
        if self.closing {
            return;
        }
        for place in self.closure(names, |unit| &unit.needs) {
            let unit = &mut self.units[place];
            if !unit.wanted {
                unit.history = History::default();
                unit.restarts = 0;
            }
            unit.wanted = true;
            unit.verdict = None;
            if matches!(unit.phase, Phase::Stopped | Phase::Ended | Phase::Failed) {
                self.set(place, Phase::Waiting, "wanted".to_owned());
            }
        }
    }

    pub(super) fn stop_wanted(&mut self, names: &[Name], within: Duration) {
        for place in self.closure(names, |unit| &unit.needed_by) {
            self.want_no_longer(place);
        }
        let clock = Clock::new(self.now, within);
        // Whoever stops one thing more does not cut short the time that others were given, except in a shutdown, whose end holds.
        if self
            .clock
            .is_none_or(|present| present.ends_before(&clock) && !self.closing)
        {
            self.clock = Some(clock);
        }
    }

    pub(super) fn shutdown(&mut self, within: Duration) {
        for place in 0..self.units.len() {
            self.want_no_longer(place);
        }
        let clock = Clock::new(self.now, within);
        if self
            .clock
            .is_none_or(|present| clock.ends_before(&present) || !self.closing)
        {
            self.clock = Some(clock);
        }
        self.closing = true;
    }

    pub(super) fn want_no_longer(&mut self, place: usize) {
        let unit = &mut self.units[place];
        unit.wanted = false;
        unit.verdict = None;
        if matches!(unit.phase, Phase::Done | Phase::Ended | Phase::Failed) {
            self.set(place, Phase::Stopped, "stopped".to_owned());
        }
    }

    /// These services and all that `edges` lead to from them.
    pub(super) fn closure(
        &self,
        names: &[Name],
        edges: impl Fn(&Unit) -> &Vec<usize>,
    ) -> Vec<usize> {
        let mut seen = vec![false; self.units.len()];
        let mut open: Vec<usize> = names
            .iter()
            .filter_map(|n| self.places.get(n))
            .copied()
            .collect();
        while let Some(place) = open.pop() {
            if !std::mem::replace(&mut seen[place], true) {
                open.extend(edges(&self.units[place]));
            }
        }
        (0..seen.len()).filter(|place| seen[*place]).collect()
    }
}
