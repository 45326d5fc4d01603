//! Whether a service that has ended is started again, and after what pause.

use std::{collections::VecDeque, time::Duration};

/// When a service is started again.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Policy {
    /// Never.
    Never,
    /// When it ended with another status than 0, by a signal, too slowly to be ready, or could not be started.
    #[default]
    OnFailure,
    /// Whenever it ended.
    Always,
}

/// So many restarts in so long a time are one too many.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limit {
    /// Restarts that are allowed.
    pub count: u32,
    /// Within this time.
    pub window: Duration,
}

/// How a service is started again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Restart {
    /// When.
    pub policy: Policy,
    /// The first pause. Each one after it is twice as long.
    pub first: Duration,
    /// The longest pause.
    pub longest: Duration,
    /// After being ready for so long, a service is as good as new: pauses begin from the first again.
    pub settled: Duration,
    /// When to give up; `None` for never.
    pub limit: Option<Limit>,
}

impl Default for Restart {
    fn default() -> Self {
        Self {
            policy: Policy::default(),
            first: Duration::from_millis(200),
            longest: Duration::from_secs(30),
            settled: Duration::from_secs(60),
            limit: Some(Limit {
                count: 5,
                window: Duration::from_secs(60),
            }),
        }
    }
}

impl Restart {
    /// The pause before a restart that `streak` others came before, without a settled time between them.
    pub fn pause(&self, streak: u32) -> Duration {
        let factor = 1_u32.checked_shl(streak).unwrap_or(u32::MAX);
        self.first.saturating_mul(factor).min(self.longest)
    }
}

/// What a service's restarts have been.
#[derive(Clone, Debug, Default)]
pub(crate) struct History {
    /// When, the latest last, no more than the limit counts.
    times: VecDeque<Duration>,
    streak: u32,
}

/// What follows a service's end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Verdict {
    /// Start it again then.
    At(Duration),
    /// The limit is reached.
    TooOften(Limit),
}

impl History {
    /// A service that had been ready for `ready` has ended and is to be started again.
    pub fn next(&mut self, now: Duration, ready: Duration, restart: &Restart) -> Verdict {
        if ready >= restart.settled {
            self.streak = 0;
        }
        if let Some(limit) = restart.limit {
            let recent = |time: &Duration| now.saturating_sub(*time) < limit.window;
            self.times.retain(recent);
            if self.times.len() >= limit.count as usize {
                return Verdict::TooOften(limit);
            }
            self.times.push_back(now);
        }
        let pause = restart.pause(self.streak);
        self.streak = self.streak.saturating_add(1);
        Verdict::At(now.saturating_add(pause))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn second(count: u64) -> Duration {
        Duration::from_secs(count)
    }

    #[test]
    fn a_service_that_keeps_crashing_is_given_up() {
        let restart = Restart::default();
        let mut history = History::default();
        let mut now = Duration::ZERO;
        let mut pauses = Vec::new();
        let given_up = loop {
            match history.next(now, Duration::ZERO, &restart) {
                Verdict::At(at) => {
                    pauses.push((at - now).as_millis());
                    now = at;
                }
                Verdict::TooOften(limit) => break limit,
            }
        };
        assert_eq!(pauses, [200, 400, 800, 1600, 3200]);
        assert_eq!(Some(given_up), restart.limit);
    }

    #[test]
    fn one_that_crashes_once_an_hour_is_started_at_once_each_time() {
        let mut history = History::default();
        for hour in 0..100 {
            let now = second(hour * 3600);
            let verdict = history.next(now, second(3599), &Restart::default());
            assert_eq!(verdict, Verdict::At(now + Duration::from_millis(200)));
        }
    }

    proptest! {
        /// A pause never shrinks while a service does not settle, and never exceeds the longest.
        #[test]
        fn pauses_grow_and_are_bounded(first in 0_u64..5000, longest in 0_u64..100_000, streak in 0_u32..200) {
            let restart = Restart {
                first: Duration::from_millis(first),
                longest: Duration::from_millis(longest),
                ..Restart::default()
            };
            prop_assert!(restart.pause(streak) <= restart.pause(streak + 1));
            prop_assert!(restart.pause(streak) <= restart.longest);
        }

        /// However a service crashes, no window holds more restarts than the limit allows.
        #[test]
        fn the_limit_holds_in_every_window(
            lives in prop::collection::vec((0_u64..40_000, any::<bool>()), 1..200),
            count in 1_u32..6,
            window in 1_u64..120_000,
        ) {
            let limit = Limit { count, window: Duration::from_millis(window) };
            let restart = Restart { limit: Some(limit), ..Restart::default() };
            let mut history = History::default();
            let mut now = Duration::ZERO;
            let mut starts = Vec::new();
            for (life, ready) in lives {
                let life = Duration::from_millis(life);
                now += life;
                match history.next(now, if ready { life } else { Duration::ZERO }, &restart) {
                    Verdict::At(at) => {
                        starts.push(now);
                        now = at;
                    }
                    Verdict::TooOften(_) => break,
                }
            }
            for (index, start) in starts.iter().enumerate() {
                let inside = starts[index..].iter().filter(|other| **other - *start < limit.window);
                prop_assert!(inside.count() <= count as usize);
            }
        }
    }
}
