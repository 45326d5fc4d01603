//! Contents: compared, hashed and judged in one reading.

use std::{
    fs::File,
    io::{self, Read},
};

use envd_store::{Digest, Hasher};

/// How much of a file says whether it is text: as in git.
const LOOKED_AT: usize = 8000;

/// Texts of up to this many bytes are kept once they have been read.
pub(super) const SMALL: u64 = 32 * 1024;

/// Whether a content that begins so is no text.
pub(super) fn is_binary(beginning: &[u8]) -> bool {
    beginning[..beginning.len().min(LOOKED_AT)].contains(&0)
}

/// What reading a session's file tells.
pub(super) struct Content {
    pub(super) digest: Digest,
    pub(super) size: u64,
    pub(super) binary: bool,
    /// The whole, if it is small.
    pub(super) text: Option<Box<[u8]>>,
}

/// Reads the session's file to its end and, beside it, the project's as long as they are the same. Gives what the first is and
/// whether both are the same.
pub(super) fn read_beside(
    new: &mut File,
    mut old: Option<&mut File>,
    limit: u64,
    buffers: &mut Buffers,
) -> io::Result<(Content, bool)> {
    let mut hasher = Hasher::default();
    let mut same = old.is_some();
    let mut binary = false;
    let mut text = None;
    let mut first = true;
    let mut left = limit;
    loop {
        let part = usize::try_from(left)
            .unwrap_or(usize::MAX)
            .min(buffers.new.len());
        let count = read_full(new, &mut buffers.new[..part])?;
        let chunk = &buffers.new[..count];
        if first {
            binary = is_binary(chunk);
            text = (limit <= SMALL && !binary).then(|| chunk.into());
            first = false;
        }
        hasher.update(chunk);
        if let (true, Some(old)) = (same, old.as_deref_mut()) {
            // One byte more than expected, so that a longer file shows.
            let wanted = if count < part { count + 1 } else { count };
            let other = read_full(old, &mut buffers.old[..wanted])?;
            same = buffers.old[..other] == *chunk;
        }
        left -= count as u64;
        if count < part || left == 0 {
            break;
        }
    }
    let (digest, size) = hasher.finish();
    let read = Content {
        digest,
        size,
        binary,
        text: text.filter(|_| !same),
    };
    Ok((read, same))
}

/// Memory that is used for one file after the other.
pub(super) struct Buffers {
    new: Vec<u8>,
    old: Vec<u8>,
}

impl Default for Buffers {
    fn default() -> Self {
        let size = 64 * 1024;
        Self {
            new: vec![0; size],
            old: vec![0; size + 1],
        }
    }
}

/// Whether a file of the project with `size` bytes is no text; and the whole, if it is a small one.
pub(super) fn read_old(file: &mut File, size: u64) -> io::Result<(bool, Option<Box<[u8]>>)> {
    if size <= SMALL
        && let Some(bytes) = read_whole(file, size, SMALL)?
    {
        let binary = is_binary(&bytes);
        return Ok((binary, (!binary).then(|| bytes.into())));
    }
    let mut beginning = [0; LOOKED_AT];
    let count = read_full(file, &mut beginning)?;
    Ok((is_binary(&beginning[..count]), None))
}

/// A whole file that has `size` bytes. `None` where it has more by now, or more than `limit`.
pub(super) fn read_whole(file: &mut File, size: u64, limit: u64) -> io::Result<Option<Vec<u8>>> {
    let room = usize::try_from(size)
        .ok()
        .and_then(|size| size.checked_add(1));
    let Some(room) = room.filter(|_| size <= limit) else {
        return Ok(None);
    };
    let mut bytes = vec![0; room];
    let mut count = 0;
    // With one byte of room left all is there: a longer file would have given that, too.
    while count + 1 < room {
        match file.read(&mut bytes[count..]) {
            Ok(0) => break,
            Ok(n) => count += n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    bytes.truncate(count);
    Ok((count < room).then_some(bytes))
}

/// Reads until the buffer is full or the file ends.
fn read_full(file: &mut File, buffer: &mut [u8]) -> io::Result<usize> {
    let mut count = 0;
    while count < buffer.len() {
        match file.read(&mut buffer[count..]) {
            Ok(0) => break,
            Ok(n) => count += n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(count)
}
