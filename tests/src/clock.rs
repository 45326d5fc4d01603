//! Moments as a Debian archive writes them, in UTC.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A day.
pub const DAY: Duration = Duration::from_secs(86_400);

/// Year, month, day, hour, minute, second, and the day of the week counted from Thursday.
fn civil(moment: SystemTime) -> ([u64; 6], usize) {
    let seconds = moment
        .duration_since(UNIX_EPOCH)
        .expect("after 1970")
        .as_secs();
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    // Days to a date in the proleptic Gregorian calendar, years beginning in March so that the leap day comes last.
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 {
        march_month + 3
    } else {
        march_month - 9
    };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    (
        [
            year,
            month,
            day,
            second / 3_600,
            second / 60 % 60,
            second % 60,
        ],
        (days % 7) as usize,
    )
}

/// As `Date` and `Valid-Until` of a Release file have it: `Sat, 12 Sep 2026 07:55:41 UTC`.
pub fn release_date(moment: SystemTime) -> String {
    const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
    const MONTHS: [&str; 12] = [
        "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
    ];
    let ([year, month, day, hour, minute, second], weekday) = civil(moment);
    format!(
        "{}, {day:02} {} {year} {hour:02}:{minute:02}:{second:02} UTC",
        DAYS[weekday],
        MONTHS[month as usize - 1]
    )
}

/// As snapshot.debian.org names a moment: `20260912T075541Z`.
pub fn stamp(moment: SystemTime) -> String {
    let ([year, month, day, hour, minute, second], _) = civil(moment);
    format!("{year:04}{month:02}{day:02}T{hour:02}{minute:02}{second:02}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A Date that the product reads differently would make every expiry test lie.
    #[test]
    fn moments_are_written_as_debian_writes_them() {
        let moment = UNIX_EPOCH + Duration::from_secs(1_789_199_741);
        assert_eq!(release_date(moment), "Sat, 12 Sep 2026 07:55:41 UTC");
        assert_eq!(stamp(moment), "20260912T075541Z");
        let leap = UNIX_EPOCH + Duration::from_secs(1_709_164_800);
        assert_eq!(stamp(leap), "20240229T000000Z");
    }
}
