//! Moments as RFC 3339 writes them, in UTC and with microseconds: texts that sort as the moments do.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

const DAY: u64 = 86_400;

/// A moment from 1970 to 9999; one before is the first, one after the last.
pub fn timestamp(moment: SystemTime) -> String {
    let since = moment.duration_since(UNIX_EPOCH).unwrap_or_default();
    let seconds = since.as_secs().min(253_402_300_799);
    let (days, second) = (seconds / DAY, seconds % DAY);
    // Years that begin in March have their leap day at the end; 400 of them have 146,097 days, the first began in the year 0.
    let shifted = days + 719_468;
    let (era, day) = (shifted / 146_097, shifted % 146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day_of_year = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day_of_month = day_of_year - (153 * month + 2) / 5 + 1;
    let (month, next) = if month < 10 {
        (month + 3, 0)
    } else {
        (month - 9, 1)
    };
    let year = era * 400 + year + next;
    format!(
        "{year:04}-{month:02}-{day_of_month:02}T{:02}:{:02}:{:02}.{:06}Z",
        second / 3600,
        second / 60 % 60,
        second % 60,
        since.subsec_micros()
    )
}

/// The moment that a text of the form `2026-11-26`, `2026-11-26T18:45:55Z` or with a fraction of a second says, in UTC.
pub fn utc(text: &str) -> Option<SystemTime> {
    let (date, time) = match text.split_once('T') {
        None => (text, "00:00:00"),
        Some((date, time)) => (date, time.strip_suffix('Z')?),
    };
    let (time, fraction) = time.split_once('.').unwrap_or((time, "0"));
    let numbers = |text: &str, separator: char, lengths: [usize; 3]| -> Option<[u64; 3]> {
        let mut parts = text.split(separator);
        let mut numbers = [0; 3];
        for (number, length) in numbers.iter_mut().zip(lengths) {
            let part = parts.next().filter(|part| part.len() == length)?;
            if !part.bytes().all(|byte| byte.is_ascii_digit()) {
                return None;
            }
            *number = part.parse().ok()?;
        }
        parts.next().is_none().then_some(numbers)
    };
    let [year, month, day] = numbers(date, '-', [4, 2, 2])?;
    let [hour, minute, second] = numbers(time, ':', [2, 2, 2])?;
    let plain = !fraction.is_empty() && fraction.bytes().all(|byte| byte.is_ascii_digit());
    if !plain || hour > 23 || minute > 59 || second > 59 || !(1970..=9999).contains(&year) {
        return None;
    }
    let shifted = if month > 2 { month - 3 } else { month + 9 };
    let year = if month > 2 { year } else { year - 1 };
    let day_of_year = (153 * shifted + 2) / 5 + day.checked_sub(1)?;
    let days = year * 365 + year / 4 - year / 100 + year / 400 + day_of_year;
    let seconds = days.checked_sub(719_468)? * DAY + hour * 3600 + minute * 60 + second;
    let micros: u64 = format!("{fraction:0<6}").get(..6)?.parse().ok()?;
    let moment = UNIX_EPOCH + Duration::from_secs(seconds) + Duration::from_micros(micros);
    // The thirtieth of February is a day of March.
    timestamp(moment).starts_with(date).then_some(moment)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_written_and_read() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00.000000Z"),
            (951_782_400, "2000-02-29T00:00:00.000000Z"),
            (1_789_199_741, "2026-09-12T07:55:41.000000Z"),
            (1_709_164_800, "2024-02-29T00:00:00.000000Z"),
            (4_107_542_399, "2100-02-28T23:59:59.000000Z"),
            (4_107_542_400, "2100-03-01T00:00:00.000000Z"),
        ] {
            let moment = UNIX_EPOCH + Duration::from_secs(seconds);
            assert_eq!(timestamp(moment), text);
            assert_eq!(utc(text), Some(moment));
        }
        let moment = UNIX_EPOCH + Duration::from_micros(1_789_199_741_000_042);
        assert_eq!(timestamp(moment), "2026-09-12T07:55:41.000042Z");
        assert_eq!(utc("2026-09-12T07:55:41.000042Z"), Some(moment));
        assert_eq!(utc("2026-09-12"), utc("2026-09-12T00:00:00Z"));
    }

    #[test]
    fn what_is_no_moment_is_not_read() {
        for text in [
            "",
            "now",
            "2026",
            "2026-13-01",
            "2026-02-30",
            "2026-00-10",
            "2026-01-00",
            "2026-1-1",
            "2026-01-01T24:00:00Z",
            "2026-01-01T10:00:00",
            "2026-01-01T10:00Z",
            "2026-01-01T10:00:00.Z",
            "2026-01-01T10:00:00+01:00",
            "1969-12-31",
            "+026-01-01",
        ] {
            assert_eq!(utc(text), None, "{text:?}");
        }
    }
}
