//! What a proxy refused, counted until somebody writes it down.

use std::sync::{Mutex, PoisonError};

use super::Refused;
use crate::egress::Event;

/// Most that are told apart. An agent may ask for a million names.
const MOST: usize = 16;

/// Refusals since they were last taken.
#[derive(Debug, Default)]
pub struct Tally(Mutex<Vec<Refused>>);

impl Tally {
    /// Takes note of what the proxy decided.
    pub fn note(&self, event: &Event) {
        let Event::Refused {
            name,
            port,
            refusal,
            ..
        } = event
        else {
            return;
        };
        self.count(Refused {
            host: name.as_ref().map(ToString::to_string),
            port: *port,
            reason: refusal.reason().to_owned(),
            count: 1,
        });
    }

    /// Adds some.
    pub fn count(&self, refused: Refused) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let same = |one: &&mut Refused| {
            (&one.host, one.port, &one.reason) == (&refused.host, refused.port, &refused.reason)
        };
        if let Some(one) = all.iter_mut().find(same) {
            one.count += refused.count;
        } else if all.len() < MOST {
            all.push(refused);
        } else {
            let rest = Refused {
                host: None,
                port: None,
                reason: "others".to_owned(),
                count: refused.count,
            };
            match all.iter_mut().find(|one| one.reason == rest.reason) {
                Some(one) => one.count += rest.count,
                None => all.push(rest),
            }
        }
    }

    /// What there is, which then is told.
    pub fn take(&self) -> Vec<Refused> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_of_names_is_counted_and_does_not_grow() {
        let tally = Tally::default();
        for number in 0..1000 {
            tally.count(Refused {
                host: Some(format!("n{}.example.org", number % 500)),
                port: Some(443),
                reason: "not-listed".to_owned(),
                count: 1,
            });
        }
        let all = tally.take();
        assert_eq!(all.len(), MOST + 1);
        assert_eq!(all.iter().map(|one| one.count).sum::<u64>(), 1000);
        assert_eq!(all[0].count, 2);
        assert!(tally.take().is_empty());
    }
}
