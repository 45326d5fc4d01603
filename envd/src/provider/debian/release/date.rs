//! Moments in UTC, as archives write them: `Sat, 12 Sep 2026 07:55:41 UTC` in a Release file (RFC 5322 3.3, of which
//! Debian uses this one form), `20260912T075541Z` at snapshot.debian.org.

use std::{
    fmt,
    str::FromStr,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use serde::{Deserialize, Serialize};

/// Seconds since 1970-01-01 00:00:00 UTC. Printed and serialised as `2026-09-12T07:55:41Z`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Moment(i64);

/// A text that names no moment.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error(
    "{0:?} is not a date such as \"Sat, 12 Sep 2026 07:55:41 UTC\" or \"2026-09-12T07:55:41Z\""
)]
pub struct MomentError(String);

const MONTHS: [&str; 12] = [
    "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
];
const WEEKDAYS: [&str; 7] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];

impl Moment {
    /// The moment so many seconds after 1970 began.
    pub const fn from_unix(seconds: i64) -> Self {
        Self(seconds)
    }

    /// Seconds since 1970 began.
    pub const fn unix(self) -> i64 {
        self.0
    }

    /// This moment and `duration` more.
    pub fn plus(self, duration: Duration) -> Self {
        Self(self.0.saturating_add_unsigned(duration.as_secs()))
    }

    /// Reads the form that Release files use.
    pub fn from_release(text: &str) -> Result<Self, MomentError> {
        parse_release(text).ok_or_else(|| MomentError(text.to_owned()))
    }

    /// The form that snapshot.debian.org uses in addresses.
    pub fn snapshot_stamp(self) -> String {
        self.to_string().replace(['-', ':'], "")
    }
}

impl From<SystemTime> for Moment {
    fn from(time: SystemTime) -> Self {
        Self(match time.duration_since(UNIX_EPOCH) {
            Ok(after) => i64::try_from(after.as_secs()).unwrap_or(i64::MAX),
            Err(before) => -i64::try_from(before.duration().as_secs()).unwrap_or(i64::MAX),
        })
    }
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (year, month, day) = civil_from_days(self.0.div_euclid(86_400));
        let second = self.0.rem_euclid(86_400);
        write!(
            f,
            "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z",
            second / 3600,
            second / 60 % 60,
            second % 60
        )
    }
}

impl FromStr for Moment {
    type Err = MomentError;

    fn from_str(text: &str) -> Result<Self, MomentError> {
        parse_iso(text).ok_or_else(|| MomentError(text.to_owned()))
    }
}

impl TryFrom<String> for Moment {
    type Error = MomentError;

    fn try_from(text: String) -> Result<Self, MomentError> {
        text.parse()
    }
}

impl From<Moment> for String {
    fn from(moment: Moment) -> Self {
        moment.to_string()
    }
}

fn parse_release(text: &str) -> Option<Moment> {
    let rest = match text.split_once(',') {
        Some((weekday, rest)) => {
            WEEKDAYS.contains(&weekday).then_some(())?;
            rest
        }
        None => text,
    };
    let mut words = rest.split_ascii_whitespace();
    let day = number(words.next()?, 1..=2)?;
    let name = words.next()?;
    let month = MONTHS.iter().position(|month| *month == name)? as i64 + 1;
    let year = number(words.next()?, 4..=4)?;
    let mut time = words.next()?.split(':');
    let hour = number(time.next()?, 1..=2)?;
    let minute = number(time.next()?, 2..=2)?;
    let second = number(time.next()?, 2..=2)?;
    let offset = offset(words.next()?)?;
    if time.next().is_some() || words.next().is_some() {
        return None;
    }
    assemble([year, month, day, hour, minute, second]).map(|Moment(local)| Moment(local - offset))
}

/// Reads both `2026-09-12T07:55:41Z` and `20260912T075541Z`.
fn parse_iso(text: &str) -> Option<Moment> {
    let compact: String = match text.len() {
        16 => text.to_owned(),
        20 => {
            let bytes = text.as_bytes();
            let marks = [(4, b'-'), (7, b'-'), (13, b':'), (16, b':')];
            marks
                .iter()
                .all(|&(at, mark)| bytes[at] == mark)
                .then_some(())?;
            text.replace(['-', ':'], "")
        }
        _ => return None,
    };
    let bytes = compact.as_bytes();
    if bytes.len() != 16 || !compact.is_ascii() || bytes[8] != b'T' || bytes[15] != b'Z' {
        return None;
    }
    let part = |from: usize, to: usize| number(&compact[from..to], to - from..=to - from);
    assemble([
        part(0, 4)?,
        part(4, 6)?,
        part(6, 8)?,
        part(9, 11)?,
        part(11, 13)?,
        part(13, 15)?,
    ])
}

fn number(text: &str, digits: std::ops::RangeInclusive<usize>) -> Option<i64> {
    let plain = text.bytes().all(|b| b.is_ascii_digit()) && digits.contains(&text.len());
    plain.then(|| text.parse().ok()).flatten()
}

/// Seconds east of Greenwich.
fn offset(zone: &str) -> Option<i64> {
    match zone {
        "UTC" | "GMT" | "Z" => return Some(0),
        _ => {}
    }
    let sign = match zone.as_bytes().first()? {
        b'+' => 1,
        b'-' => -1,
        _ => return None,
    };
    let digits = number(&zone[1..], 4..=4)?;
    (digits / 100 < 24 && digits % 100 < 60)
        .then_some(sign * (digits / 100 * 3600 + digits % 100 * 60))
}

fn assemble([year, month, day, hour, minute, second]: [i64; 6]) -> Option<Moment> {
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let days = match month {
        2 => 28 + i64::from(leap),
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => return None,
    };
    // A leap second counts as the first of the next minute.
    if !(1..=days).contains(&day) || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let day = days_from_civil(year, month, day);
    Some(Moment(day * 86_400 + hour * 3600 + minute * 60 + second))
}

/// Days since 1970-01-01. Years are counted from March, so that the leap day ends them.
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = year - i64::from(month <= 2);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    year * 365 + year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400) + day_of_year
        - 719_468
}

fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let month = (shifted + 2) % 12 + 1;
    let year = era * 400 + year_of_era + i64::from(month <= 2);
    (year, month, day_of_year - (153 * shifted + 2) / 5 + 1)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_release_date_is_read_and_written_in_each_form() {
        let moment = Moment::from_release("Sat, 12 Sep 2026 07:55:41 UTC").unwrap();
        assert_eq!(moment.unix(), 1_789_199_741);
        assert_eq!(moment.to_string(), "2026-09-12T07:55:41Z");
        assert_eq!(moment.snapshot_stamp(), "20260912T075541Z");
        assert_eq!("20260912T075541Z".parse(), Ok(moment));
        assert_eq!("2026-09-12T07:55:41Z".parse(), Ok(moment));
        assert_eq!(
            Moment::from_release("12 Sep 2026 09:55:41 +0200"),
            Ok(moment)
        );
        assert_eq!(
            Moment::from_release("Thu, 29 Feb 2024 0:00:00 GMT")
                .unwrap()
                .to_string(),
            "2024-02-29T00:00:00Z"
        );
    }

    #[test]
    fn what_is_no_date_is_refused() {
        for text in [
            "",
            "yesterday",
            "Sat, 31 Sep 2026 07:55:41 UTC",
            "Sat, 29 Feb 2026 07:55:41 UTC",
            "Sat, 12 Sep 2026 24:55:41 UTC",
            "Sat, 12 Sep 2026 07:55 UTC",
            "Sat, 12 Sep 2026 07:55:41",
            "Sat, 12 Sep 2026 07:55:41 UTC again",
            "Sat, 12 Sep 2026 07:55:41 +9999",
            "Sun day, 12 Sep 2026 07:55:41 UTC",
            "Sat, 12 Sep 20260 07:55:41 UTC",
            "Sat, 12 Sep 2026 07:55:41 \u{e9}00",
        ] {
            assert!(Moment::from_release(text).is_err(), "{text:?}");
        }
        for text in [
            "2026-09-12 07:55:41Z",
            "2026-13-12T07:55:41Z",
            "20260912T07554\u{e9}",
        ] {
            assert!(text.parse::<Moment>().is_err(), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn every_second_survives_the_round_trip(seconds in -62_000_000_000i64..250_000_000_000) {
            let moment = Moment::from_unix(seconds);
            prop_assert_eq!(moment.to_string().parse(), Ok(moment));
            prop_assert_eq!(moment.snapshot_stamp().parse(), Ok(moment));
        }

        #[test]
        fn no_text_panics(text in "\\PC{0,40}") {
            let _ = Moment::from_release(&text);
            let _ = text.parse::<Moment>();
        }
    }
}
