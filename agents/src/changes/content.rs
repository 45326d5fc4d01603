//! Contents: compared, hashed and judged in one reading.

use std::{
    fs::File,
    io::{self, Read},
};

use envd_store::{Digest, Hasher};

/// How much of a file says whether it is text: as in git.
const LOOKED_AT: usize = 8000;

/// Whether a content that begins so is no text.
pub(super) fn is_binary(beginning: &[u8]) -> bool {
    beginning[..beginning.len().min(LOOKED_AT)].contains(&0)
}

/// What reading a session's file tells.
pub(super) struct Content {
    pub(super) digest: Digest,
    pub(super) size: u64,
    pub(super) binary: bool,
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

/// Whether a file of the project is no text.
pub(super) fn is_binary_file(file: &mut File) -> io::Result<bool> {
    let mut beginning = [0; LOOKED_AT];
    let count = read_full(file, &mut beginning)?;
    Ok(is_binary(&beginning[..count]))
}

/// A whole file that has `size` bytes. `None` where it has more by now, or more than `limit`.
pub(super) fn read_whole(file: &mut File, size: u64, limit: u64) -> io::Result<Option<Vec<u8>>> {
    let Some(room) = usize::try_from(size.min(limit))
        .ok()
        .and_then(|room| room.checked_add(1))
    else {
        return Ok(None);
    };
    let mut bytes = vec![0; room];
    let count = read_full(file, &mut bytes)?;
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
