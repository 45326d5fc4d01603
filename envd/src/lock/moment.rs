//! A moment in UTC, to the second, in the form that snapshot.debian.org has in its addresses: `20260901T081234Z`.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

const DAY: i64 = 86_400;

/// See the module. Ordered by time.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Moment {
    /// Seconds since 1970, of a year with four digits.
    seconds: i64,
}

/// A text or a number that is no such moment.
#[derive(Debug, thiserror::Error)]
#[error("{0} is not a moment between the years 1970 and 9999, written like 20260901T081234Z")]
pub struct MomentError(String);

impl Moment {
    /// From seconds since 1970.
    pub fn from_unix(seconds: i64) -> Result<Self, MomentError> {
        match seconds {
            0..253_402_300_800 => Ok(Self { seconds }),
            _ => Err(MomentError(seconds.to_string())),
        }
    }

    /// Seconds since 1970.
    pub fn to_unix(self) -> i64 {
        self.seconds
    }
}

impl FromStr for Moment {
    type Err = MomentError;

    fn from_str(text: &str) -> Result<Self, MomentError> {
        let refuse = || MomentError(format!("{text:?}"));
        let bytes = text.as_bytes();
        let punctuated = bytes.len() == 16 && bytes[8] == b'T' && bytes[15] == b'Z';
        if !punctuated {
            return Err(refuse());
        }
        let number = |range: std::ops::Range<usize>| {
            bytes[range].iter().try_fold(0_i64, |sum, b| {
                b.is_ascii_digit()
                    .then(|| sum * 10 + i64::from(b - b'0'))
                    .ok_or_else(refuse)
            })
        };
        let (year, month, day) = (number(0..4)?, number(4..6)?, number(6..8)?);
        let (hour, minute, second) = (number(9..11)?, number(11..13)?, number(13..15)?);
        let moment = Self {
            seconds: days_before(year, month, day) * DAY + hour * 3600 + minute * 60 + second,
        };
        // What is out of range (month 13, February 30, hour 24) comes back as another date.
        if year >= 1970 && moment.to_string() == text {
            Ok(moment)
        } else {
            Err(refuse())
        }
    }
}

/// Days from 1970-01-01 to a date of the Gregorian calendar, counting years from March so that leap days come last.
fn days_before(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let month_from_march = (month + 9) % 12;
    let day_of_year = (153 * month_from_march + 2) / 5 + day - 1;
    let leap_days = year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    year * 365 + leap_days + day_of_year - 719_468
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let days = self.seconds.div_euclid(DAY);
        let second = self.seconds.rem_euclid(DAY);
        // The year that the day is in, then the month: search downwards from an estimate that is never too low.
        let mut year = 1970 + days / 365;
        while days_before(year, 1, 1) > days {
            year -= 1;
        }
        let mut month = 12;
        while days_before(year, month, 1) > days {
            month -= 1;
        }
        let day = days - days_before(year, month, 1) + 1;
        write!(
            f,
            "{year:04}{month:02}{day:02}T{:02}{:02}{:02}Z",
            second / 3600,
            second / 60 % 60,
            second % 60
        )
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn known_moments_are_where_date_puts_them() {
        for (seconds, text) in [
            (0, "19700101T000000Z"),
            (951_782_400, "20000229T000000Z"),
            (1_788_250_354, "20260901T081234Z"),
            (4_107_542_400, "21000301T000000Z"),
            (253_402_300_799, "99991231T235959Z"),
        ] {
            assert_eq!(Moment::from_unix(seconds).unwrap().to_string(), text);
            assert_eq!(text.parse::<Moment>().unwrap().to_unix(), seconds);
        }
    }

    #[test]
    fn dates_that_never_were_are_refused() {
        for text in [
            "20260230T000000Z",
            "20261301T000000Z",
            "20260001T000000Z",
            "20260901T240000Z",
            "20260901T006000Z",
            "19691231T235959Z",
            "2026-09-01T000Z",
            "20260901T081234",
            "２0260901T08123Z",
            "+0260901T081234Z",
            "",
        ] {
            let error = text.parse::<Moment>().unwrap_err().to_string();
            assert!(error.contains(text), "{error}");
        }
        assert!(Moment::from_unix(-1).is_err());
        assert!(Moment::from_unix(253_402_300_800).is_err());
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back(seconds in 0..253_402_300_800_i64) {
            let moment = Moment::from_unix(seconds).unwrap();
            prop_assert_eq!(moment.to_string().parse::<Moment>().unwrap(), moment);
        }
    }
}
