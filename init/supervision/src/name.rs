//! Names of services.

use std::{borrow::Borrow, fmt, str::FromStr, sync::Arc};

/// Bytes that a name may have, so that it and an ending fit into a file's name and into a socket's path.
const LENGTH_MAX: usize = 48;

/// A service's name: letters, digits, `-`, `_` and `.`, a letter or digit first. Good as a file's name as it is.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(Arc<str>);

/// A text that is no service's name.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NameError(String);

impl Name {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Name {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let usable = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        let first = text.bytes().next();
        if first.is_some_and(|byte| byte.is_ascii_alphanumeric())
            && text.len() <= LENGTH_MAX
            && text.bytes().all(usable)
        {
            Ok(Self(text.into()))
        } else {
            Err(NameError(text.to_owned()))
        }
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl Borrow<str> for Name {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for NameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:?} cannot be a name: use 1 to {LENGTH_MAX} letters, digits, `-`, `_` and `.`, a letter or digit first",
            self.0
        )
    }
}

impl std::error::Error for NameError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_a_file_name_whatever_people_write() {
        for good in ["db", "a", "web-1", "x.y_z", "9"] {
            assert_eq!(good.parse::<Name>().unwrap().as_str(), good);
        }
        let long = "x".repeat(LENGTH_MAX + 1);
        for bad in ["", ".", "..", "-x", "a/b", "a b", "é", "a\n", &long] {
            assert!(bad.parse::<Name>().is_err(), "{bad:?}");
        }
    }
}
