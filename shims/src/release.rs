//! The kernel's version, for the few things that it does not tell in another way.

/// As `uname -r` has it.
pub(crate) fn of_kernel() -> String {
    rustix::system::uname()
        .release()
        .to_string_lossy()
        .into_owned()
}

/// Whether a release is this version or a later one. One that cannot be read is not.
pub(crate) fn is_from(release: &str, major: u32, minor: u32) -> bool {
    let mut numbers = release
        .split(|c: char| !c.is_ascii_digit())
        .map(|number| number.parse::<u32>().unwrap_or(0));
    let found = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    found >= (major, minor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_as_numbers() {
        for (release, later) in [
            ("6.14.0-rc1", true),
            ("6.18.44-fc-v595", true),
            ("7.0", true),
            ("6.2.0", false),
            ("5.19.17+deb", false),
            ("", false),
            ("unknown", false),
        ] {
            assert_eq!(is_from(release, 6, 14), later, "{release}");
        }
    }
}
