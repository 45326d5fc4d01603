//! How far the work is: bars on a terminal, lines of JSON for machines, nothing otherwise.
//!
//! Bars are drawn when something is told and never from a thread of their own: the launcher needs a process with one
//! thread. An interrupt leaves them where they are, and a started download in the store for the next time.

use std::{
    collections::BTreeMap,
    io::IsTerminal as _,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::json;

use super::Output;
use crate::progress::{Phase, Progress};

/// Time between two lines of JSON about a phase.
const INTERVAL: Duration = Duration::from_millis(200);
/// The order in which bars stand, whichever begins first.
const ORDER: [Phase; 5] = [
    Phase::Index,
    Phase::Download,
    Phase::Unpack,
    Phase::Configure,
    Phase::Finish,
];

/// Shows progress.
pub struct Display {
    output: Output,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// `None` until something begins: finding out about the terminal is put off until then.
    audience: Option<Audience>,
    phases: BTreeMap<usize, Stand>,
}

enum Audience {
    Nobody,
    Machine,
    People(MultiProgress),
}

/// Where a phase stands.
struct Stand {
    done: u64,
    total: u64,
    bar: Option<ProgressBar>,
    told: Instant,
}

impl Display {
    /// For this output.
    pub fn new(output: Output) -> Self {
        Self {
            output,
            state: Mutex::default(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A thread that panicked left numbers, no invariant.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self, phase: Phase, stand: &Stand, state: &str) {
        self.output.event(&json!({
            "event": "progress",
            "phase": name(phase),
            "state": state,
            "done": stand.done,
            "total": stand.total,
            "unit": if is_bytes(phase) { "bytes" } else { unit(phase) },
        }));
    }
}

impl Progress for Display {
    fn started(&self, phase: Phase, total: u64) {
        let mut state = self.state();
        let output = self.output;
        let audience = state.audience.get_or_insert_with(|| audience(output));
        let people = match audience {
            Audience::Nobody => return,
            Audience::Machine => None,
            Audience::People(bars) => Some(bars.clone()),
        };
        let place = place(phase);
        let above = state
            .phases
            .range(..place)
            .filter(|(_, stand)| stand.bar.is_some())
            .count();
        let stand = state.phases.entry(place).or_insert_with(|| Stand {
            done: 0,
            total,
            bar: None,
            told: Instant::now(),
        });
        stand.total = total;
        match people {
            Some(bars) => {
                let bar = stand.bar.get_or_insert_with(|| {
                    bars.insert(
                        above,
                        ProgressBar::new(total)
                            .with_style(style(phase))
                            .with_prefix(name(phase)),
                    )
                });
                bar.set_length(total);
            }
            None => self.tell(phase, stand, "running"),
        }
    }

    fn advance(&self, phase: Phase, amount: u64) {
        let mut state = self.state();
        let Some(stand) = state.phases.get_mut(&place(phase)) else {
            return;
        };
        stand.done += amount;
        match &stand.bar {
            Some(bar) => bar.set_position(stand.done),
            None if stand.told.elapsed() >= INTERVAL => {
                stand.told = Instant::now();
                self.tell(phase, stand, "running");
            }
            None => {}
        }
    }

    fn finished(&self, phase: Phase) {
        let mut state = self.state();
        let Some(stand) = state.phases.remove(&place(phase)) else {
            return;
        };
        match (&stand.bar, &state.audience) {
            // What is done makes room: the tool's own output follows.
            (Some(bar), Some(Audience::People(bars))) => {
                bar.finish_and_clear();
                bars.remove(bar);
            }
            _ => self.tell(phase, &stand, "finished"),
        }
    }
}

impl Drop for Display {
    /// A failure leaves phases unfinished; its message does not share the screen with their bars.
    fn drop(&mut self) {
        if let Some(Audience::People(bars)) = &self.state().audience {
            let _ = bars.clear();
        }
    }
}

fn audience(output: Output) -> Audience {
    if output.json {
        Audience::Machine
    } else if output.quiet || !std::io::stderr().is_terminal() {
        Audience::Nobody
    } else {
        Audience::People(MultiProgress::with_draw_target(
            ProgressDrawTarget::stderr_with_hz(12),
        ))
    }
}

fn place(phase: Phase) -> usize {
    ORDER
        .iter()
        .position(|p| *p == phase)
        .unwrap_or(ORDER.len())
}

/// As it stands before a bar and in JSON.
fn name(phase: Phase) -> &'static str {
    match phase {
        Phase::Index => "index",
        Phase::Download => "download",
        Phase::Unpack => "unpack",
        Phase::Configure => "configure",
        Phase::Finish => "finish",
    }
}

fn unit(phase: Phase) -> &'static str {
    match phase {
        Phase::Finish => "commands",
        _ => "packages",
    }
}

fn is_bytes(phase: Phase) -> bool {
    matches!(phase, Phase::Index | Phase::Download | Phase::Unpack)
}

fn style(phase: Phase) -> ProgressStyle {
    let template = if is_bytes(phase) {
        "{prefix:>10} {bar:24} {binary_bytes} of {binary_total_bytes}  {binary_bytes_per_sec}"
            .to_owned()
    } else {
        format!(
            "{{prefix:>10}} {{bar:24}} {{pos}} of {{len}} {}",
            unit(phase)
        )
    };
    // The templates are constants; were one wrong, a plain bar does as well.
    ProgressStyle::with_template(&template)
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .progress_chars("━╸─")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_phase_has_its_place_and_a_template_that_is_one() {
        for phase in ORDER {
            assert!(place(phase) < ORDER.len());
            let shown = format!("{:?}", name(phase));
            assert!(!shown.is_empty());
            style(phase);
        }
    }

    #[test]
    fn what_was_never_started_is_ignored() {
        let output = Output::new(
            &crate::cli::Global {
                quiet: true,
                ..Default::default()
            },
            &Default::default(),
        );
        let display = Display::new(output);
        display.advance(Phase::Download, 3);
        display.finished(Phase::Download);
        display.started(Phase::Download, 10);
        display.advance(Phase::Download, 3);
        assert!(display.state().phases.is_empty(), "nobody watches");
    }
}
