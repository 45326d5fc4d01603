//! Text of a bounded length that ends in a zero byte.

use core::ffi::CStr;

/// The longest path, with its zero byte (PATH_MAX).
pub(crate) const LONGEST_PATH: usize = 4096;

/// A path that is put together.
pub(crate) struct Path {
    bytes: [u8; LONGEST_PATH],
    length: usize,
}

impl Path {
    /// Of parts, one after the other; `None` if it were too long or contained a zero byte.
    pub(crate) fn of(parts: &[&[u8]]) -> Option<Self> {
        let mut path = Path {
            bytes: [0; LONGEST_PATH],
            length: 0,
        };
        for part in parts {
            let end = path.length + part.len();
            if end >= LONGEST_PATH || part.contains(&0) {
                return None;
            }
            path.bytes[path.length..end].copy_from_slice(part);
            path.length = end;
        }
        Some(path)
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }

    pub(crate) fn as_c_str(&self) -> &CStr {
        // There is a zero byte after the text, and none in it.
        CStr::from_bytes_until_nul(&self.bytes).unwrap_or_default()
    }
}

/// Bytes that are collected in memory of a fixed size.
pub(crate) struct Collected<'c> {
    bytes: &'c mut [u8],
    length: usize,
    overflown: bool,
}

impl<'c> Collected<'c> {
    pub(crate) fn new(bytes: &'c mut [u8]) -> Self {
        Collected {
            bytes,
            length: 0,
            overflown: false,
        }
    }

    /// What was collected; `None` if it did not fit.
    pub(crate) fn finish(self) -> Option<&'c [u8]> {
        let Collected {
            bytes,
            length,
            overflown,
        } = self;
        (!overflown).then(|| &bytes[..length])
    }
}

impl envd_init::program::Sink for Collected<'_> {
    fn put(&mut self, more: &[u8]) {
        let end = self.length + more.len();
        match self.bytes.get_mut(self.length..end) {
            Some(place) if !self.overflown => {
                place.copy_from_slice(more);
                self.length = end;
            }
            _ => self.overflown = true,
        }
    }
}
