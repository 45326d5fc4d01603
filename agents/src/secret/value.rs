//! A value that no log shows.

use std::{ffi::OsString, fmt, os::unix::ffi::OsStringExt as _};

use zeroize::Zeroizing;

/// Bytes of which `Debug` says only that there are some, which nothing serialises, and which are overwritten when they are
/// dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(pub(super) Zeroizing<Vec<u8>>);

impl Secret {
    /// Takes a value.
    pub fn new(value: impl Into<Vec<u8>>) -> Self {
        Self(Zeroizing::new(value.into()))
    }

    /// The value, for the few places that hand it on.
    pub fn reveal(&self) -> &[u8] {
        &self.0
    }

    /// The value as a variable of a command's environment.
    pub fn variable(&self) -> OsString {
        OsString::from_vec(self.0.to_vec())
    }

    /// Overwrites what [`Secret::variable`] gave.
    pub fn forget(variable: OsString) {
        drop(Zeroizing::new(variable.into_vec()));
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[secret]")
    }
}
