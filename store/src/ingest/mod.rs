//! How things become trees: [archives](tar), [directories](directory), and [what a process changed](overlay_upper).
//!
//! Contents go straight into the object store; nothing is ever unpacked to where a name in the input says.

mod directory;
mod error;
mod member;
mod ownership;
mod tar;
mod upper;
mod walk;
mod xattr;

use std::io::{self, Read, Write};

pub use directory::{DirectoryOptions, directory};
pub use error::IngestError;
pub use ownership::{Note, Ownership};
pub use tar::{Limits, tar};
pub use upper::overlay_upper;

use crate::{Digest, Session, StoreError};

/// Contents up to this length, in bytes, are hashed in memory first, so that what the store has already is not written.
const SMALL: usize = 256 * 1024;

/// Why a content could not be taken in.
enum ContentError {
    Read(io::Error),
    Short,
    Store(StoreError),
}

/// Takes in the content of a file, exactly `size` bytes of `reader`, through a buffer that is reused.
fn content(
    session: &Session,
    reader: &mut impl Read,
    size: u64,
    mode: u16,
    buffer: &mut Vec<u8>,
) -> Result<(Digest, u64), ContentError> {
    buffer.resize(SMALL, 0);
    if let Some(small) = usize::try_from(size).ok().filter(|&size| size <= SMALL) {
        fill(reader, &mut buffer[..small])?;
        return session
            .put(&buffer[..small], mode)
            .map_err(ContentError::Store);
    }
    let mut writer = session.object_writer(mode).map_err(ContentError::Store)?;
    let mut left = size;
    while left > 0 {
        let part = usize::try_from(left).unwrap_or(SMALL).min(SMALL);
        fill(reader, &mut buffer[..part])?;
        writer
            .write_all(&buffer[..part])
            .map_err(|source| ContentError::Store(session.write_error(source)))?;
        left -= part as u64;
    }
    writer.finish().map_err(ContentError::Store)
}

fn fill(reader: &mut impl Read, buffer: &mut [u8]) -> Result<(), ContentError> {
    reader
        .read_exact(buffer)
        .map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => ContentError::Short,
            _ => ContentError::Read(error),
        })
}
