//! Names that people give to environments and snapshots.

use std::{fmt, str::FromStr};

/// Bytes of a name at most.
const LONGEST: usize = 64;

/// A name. It reads like a word of a command line, and never like a handle.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Name(String);

/// A text that is no name.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error(
    "a name has letters, digits, `.`, `_` and `-`, {LONGEST} of them at most, begins with a letter or a digit, and not as handles do (env_, snap_, cmd_)"
)]
pub struct NoName;

impl Name {
    /// As text.
    pub(super) fn text(&self) -> String {
        self.0.clone()
    }
}

impl FromStr for Name {
    type Err = NoName;

    fn from_str(text: &str) -> Result<Self, NoName> {
        let known = |c: char| c.is_ascii_alphanumeric() || ".-_".contains(c);
        let handle = ["env_", "snap_", "cmd_"];
        let sound = text.len() <= LONGEST
            && text.starts_with(|c: char| c.is_ascii_alphanumeric())
            && text.chars().all(known)
            && !handle.iter().any(|prefix| text.starts_with(prefix));
        match sound {
            true => Ok(Self(text.to_owned())),
            false => Err(NoName),
        }
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_a_word_and_no_handle() {
        for name in ["try", "2", "Fix-12.3_b"] {
            assert!(name.parse::<Name>().is_ok(), "{name}");
        }
        let long = "x".repeat(65);
        for wrong in [
            "", "-a", ".a", "a b", "a/b", "ä", "a\n", "env_x", "snap_1", &long,
        ] {
            assert!(wrong.parse::<Name>().is_err(), "{wrong}");
        }
    }
}
