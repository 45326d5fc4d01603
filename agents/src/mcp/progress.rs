//! From events of a call to progress notifications: few, bounded, in order, none after the answer.

use std::{
    pin::pin,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use rmcp::{
    RoleServer,
    model::{ProgressNotificationParam, ProgressToken},
    service::Peer,
};
use tokio::sync::Notify;

use crate::service::{Event, Listener};

/// Least time between two notifications of a call: enough for an eye, not a burden for a client.
const PAUSE: Duration = Duration::from_millis(100);
/// Most bytes of output in one notification.
const MOST_OUTPUT: usize = 2048;

/// What was heard and not yet told.
#[derive(Default)]
struct Notes {
    /// Progress of steps that are over. The protocol wants a number that only grows, across all steps of a call.
    before: u64,
    step: String,
    done: u64,
    total: Option<u64>,
    output: Vec<u8>,
    output_cut: bool,
    told: Option<u64>,
}

impl Notes {
    fn begin(&mut self, step: &str) {
        if self.step != step {
            // Beginning counts as one, so that the number grows though nothing of the step is done yet.
            self.before += self.done + 1;
            self.done = 0;
            self.step.clear();
            self.step.push_str(step);
        }
    }

    fn hear(&mut self, event: Event<'_>) {
        match event {
            Event::Step {
                message,
                done,
                total,
            } => {
                self.begin(message);
                self.done = self.done.max(done);
                self.total = total;
            }
            Event::Output { bytes, .. } => {
                self.begin("output");
                self.done += bytes.len() as u64;
                self.total = None;
                self.output
                    .extend_from_slice(&bytes[bytes.len().saturating_sub(MOST_OUTPUT)..]);
                let excess = self.output.len().saturating_sub(MOST_OUTPUT);
                self.output_cut |= excess > 0 || bytes.len() > MOST_OUTPUT;
                self.output.drain(..excess);
            }
        }
    }

    /// What is to be told now, if it is news.
    fn take(&mut self, token: &ProgressToken) -> Option<ProgressNotificationParam> {
        let progress = self.before + self.done;
        if self.told.is_some_and(|told| told >= progress) || self.step.is_empty() {
            return None;
        }
        self.told = Some(progress);
        let message = if self.output.is_empty() {
            self.step.clone()
        } else {
            let mark = if self.output_cut { "[...] " } else { "" };
            self.output_cut = false;
            let output = std::mem::take(&mut self.output);
            format!("{mark}{}", String::from_utf8_lossy(&output))
        };
        let mut notification =
            ProgressNotificationParam::new(token.clone(), progress as f64).with_message(message);
        if let Some(total) = self.total {
            notification = notification.with_total((self.before + total) as f64);
        }
        Some(notification)
    }
}

/// Hears a call's events and holds what is to be told.
#[derive(Default)]
pub struct Board {
    notes: Mutex<Notes>,
    news: Notify,
}

impl Board {
    fn notes(&self) -> MutexGuard<'_, Notes> {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Listener for Board {
    fn hear(&self, event: Event<'_>) {
        self.notes().hear(event);
        self.news.notify_one();
    }
}

/// Carries out `work`, telling the peer what the board hears meanwhile.
pub async fn telling<T>(
    work: impl Future<Output = T>,
    board: &Board,
    token: &ProgressToken,
    peer: &Peer<RoleServer>,
) -> T {
    let mut work = pin!(work);
    loop {
        tokio::select! {
            biased;
            result = &mut work => return result,
            () = board.news.notified() => {}
        }
        let Some(notification) = board.notes().take(token) else {
            continue;
        };
        let mut telling = pin!(peer.notify_progress(notification));
        // A notification on its way is waited for even when the work is done: none may come after the answer.
        tokio::select! {
            biased;
            result = &mut work => {
                let _ = telling.await;
                return result;
            }
            _ = &mut telling => {}
        }
        tokio::select! {
            biased;
            result = &mut work => return result,
            () = tokio::time::sleep(PAUSE) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::Stream;

    fn token() -> ProgressToken {
        ProgressToken(rmcp::model::NumberOrString::Number(1))
    }

    fn step(message: &str, done: u64, total: u64) -> Event<'_> {
        Event::Step {
            message,
            done,
            total: Some(total),
        }
    }

    #[test]
    fn progress_only_grows_over_all_steps() {
        let mut notes = Notes::default();
        let mut numbers = Vec::new();
        for event in [
            step("downloading", 0, 10),
            step("downloading", 5, 10),
            step("downloading", 5, 10),
            step("unpacking", 0, 3),
            step("unpacking", 3, 3),
            Event::Output {
                stream: Stream::Stdout,
                bytes: b"hello",
            },
        ] {
            notes.hear(event);
            numbers.extend(notes.take(&token()).map(|told| told.progress));
        }
        assert_eq!(numbers.len(), 5);
        assert!(
            numbers.windows(2).all(|pair| pair[0] < pair[1]),
            "{numbers:?}"
        );
    }

    #[test]
    fn a_flood_of_output_is_told_by_its_end() {
        let mut notes = Notes::default();
        for _ in 0..1000 {
            notes.hear(Event::Output {
                stream: Stream::Stdout,
                bytes: &[b'x'; 5000],
            });
        }
        notes.hear(Event::Output {
            stream: Stream::Stdout,
            bytes: b"the end",
        });
        assert!(notes.output.len() <= MOST_OUTPUT);
        let message = notes
            .take(&token())
            .and_then(|told| told.message)
            .expect("there is news");
        assert!(message.starts_with("[...] ") && message.ends_with("the end"));
        assert!(notes.take(&token()).is_none(), "told twice");
    }
}
