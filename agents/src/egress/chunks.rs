//! The chunked transfer coding (RFC 9112, section 7.1), followed to know where a body ends.
//!
//! Only its plainest form passes, without extensions and trailers, so that what is forwarded byte for byte cannot be read
//! in two ways.

/// Why a body is not followed any further.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the chunked body is malformed, or has extensions or trailers, which are not forwarded")]
pub(super) struct ChunkError;

/// The most hexadecimal digits of a chunk's size: the size stays far from an overflow.
const MOST_DIGITS: u8 = 12;

/// Where in the body the last byte was.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Place {
    /// In a size with so many digits.
    Size { digits: u8, value: u64 },
    /// After the size's CR.
    SizeEnd { value: u64 },
    /// In data of which so much is left.
    Data { left: u64 },
    /// After the data.
    DataEnd,
    /// After the data's CR.
    DataEndLine,
    /// After the line of the last chunk.
    LastLine,
    /// After the last CR.
    Last,
    /// At the end.
    Done,
}

/// Follows a chunked body.
#[derive(Debug)]
pub(super) struct Chunks(Place);

impl Chunks {
    /// At the beginning.
    pub(super) fn new() -> Self {
        Self(Place::Size {
            digits: 0,
            value: 0,
        })
    }

    /// Whether the body is complete.
    pub(super) fn is_done(&self) -> bool {
        self.0 == Place::Done
    }

    /// Follows further bytes: how many of them belong to the body.
    pub(super) fn follow(&mut self, bytes: &[u8]) -> Result<usize, ChunkError> {
        let mut at = 0;
        while let Some(&byte) = bytes.get(at) {
            let mut step = 1;
            self.0 = match (self.0, byte) {
                (Place::Done, _) => break,
                (Place::Size { digits, value }, byte) if byte.is_ascii_hexdigit() => {
                    if digits == MOST_DIGITS {
                        return Err(ChunkError);
                    }
                    let digit = char::from(byte).to_digit(16).ok_or(ChunkError)?;
                    Place::Size {
                        digits: digits + 1,
                        value: value << 4 | u64::from(digit),
                    }
                }
                (Place::Size { digits: 1.., value }, b'\r') => Place::SizeEnd { value },
                (Place::SizeEnd { value: 0 }, b'\n') => Place::LastLine,
                (Place::SizeEnd { value }, b'\n') => Place::Data { left: value },
                (Place::Data { left }, _) => {
                    let there = (bytes.len() - at) as u64;
                    let taken = left.min(there);
                    // No more than what is there, which is a usize.
                    step = taken as usize;
                    match left - taken {
                        0 => Place::DataEnd,
                        left => Place::Data { left },
                    }
                }
                (Place::DataEnd, b'\r') => Place::DataEndLine,
                (Place::DataEndLine, b'\n') => Place::Size {
                    digits: 0,
                    value: 0,
                },
                (Place::LastLine, b'\r') => Place::Last,
                (Place::Last, b'\n') => Place::Done,
                _ => return Err(ChunkError),
            };
            at += step;
        }
        Ok(at)
    }
}
