//! The whole output of a command, in a file that has no name any more.

use std::{
    fs::{File, OpenOptions},
    io,
    os::unix::fs::{FileExt as _, OpenOptionsExt as _},
    path::Path,
    sync::{Mutex, MutexGuard, PoisonError},
};

use envd_agents::service::{
    ResourceUri,
    command::Stretch,
    excerpt::{Collector, Excerpt, whole_characters},
};

/// Bytes that are kept of one output. What comes after is counted and let go.
const MOST: u64 = 1 << 30;
/// Bytes that are read at a time.
const PIECE: usize = 64 * 1024;

/// An output: written at its end, read anywhere.
#[derive(Debug)]
pub(super) struct Spool {
    file: File,
    length: Mutex<Length>,
}

#[derive(Clone, Copy, Default, Debug)]
struct Length {
    kept: u64,
    total: u64,
}

impl Spool {
    /// An empty one, in a file that was made at `path` for a moment.
    pub(super) fn make(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path)?;
        std::fs::remove_file(path)?;
        Ok(Self {
            file,
            length: Mutex::default(),
        })
    }

    fn length(&self) -> MutexGuard<'_, Length> {
        self.length.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Bytes there were.
    pub(super) fn total(&self) -> u64 {
        self.length().total
    }

    /// Bytes that are kept.
    pub(super) fn kept(&self) -> u64 {
        self.length().kept
    }

    /// Adds to it. A full disk loses the rest of the output and says so by its length.
    pub(super) fn push(&self, bytes: &[u8]) {
        let mut length = self.length();
        let room = usize::try_from(MOST - length.kept).unwrap_or(usize::MAX);
        let kept = &bytes[..bytes.len().min(room)];
        // Only as long as nothing is missing before it.
        if length.kept == length.total && self.file.write_all_at(kept, length.kept).is_ok() {
            length.kept += kept.len() as u64;
        }
        length.total += bytes.len() as u64;
    }

    /// Bytes from an offset on, at most so many.
    pub(super) fn read(&self, offset: u64, limit: u64) -> io::Result<Vec<u8>> {
        let kept = self.length().kept;
        let count = kept.saturating_sub(offset).min(limit);
        let mut bytes = vec![0; usize::try_from(count).unwrap_or(usize::MAX)];
        self.file.read_exact_at(&mut bytes, offset)?;
        Ok(bytes)
    }

    /// What fits into an answer.
    pub(super) fn excerpt(&self, limit: u64, resource: ResourceUri) -> io::Result<Excerpt> {
        let Length { kept, total } = *self.length();
        let mut collector = Collector::new(usize::try_from(limit).unwrap_or(usize::MAX));
        let mut offset = 0;
        if kept / 2 > limit {
            collector.push(&self.read(0, limit)?);
            collector.skip(kept - 2 * limit);
            offset = kept - limit;
        }
        while offset < kept {
            let piece = self.read(offset, (kept - offset).min(PIECE as u64))?;
            collector.push(&piece);
            offset += piece.len() as u64;
        }
        let mut excerpt = collector.finish(Some(resource));
        excerpt.omitted_bytes += total - kept;
        excerpt.total_bytes = total;
        Ok(excerpt)
    }

    /// A stretch for a poll, which begins and ends with a whole character where it can.
    pub(super) fn stretch(&self, offset: u64, limit: u64) -> io::Result<Stretch> {
        let total = self.total();
        let offset = offset.min(total);
        let mut bytes = self.read(offset, limit)?;
        let whole = whole_characters(&bytes);
        if whole > 0 {
            bytes.truncate(whole);
        }
        Ok(Stretch {
            text: String::from_utf8_lossy(&bytes).into_owned(),
            offset,
            next_offset: offset + bytes.len() as u64,
            total_bytes: total,
        })
    }
}

#[cfg(test)]
mod tests {
    use envd_agents::service::{CommandId, Stream};

    use super::*;

    fn spool() -> Spool {
        let directory = tempfile::tempdir().unwrap();
        let spool = Spool::make(&directory.path().join("output")).unwrap();
        let left = std::fs::read_dir(directory.path()).unwrap().count();
        assert_eq!(left, 0, "it has no name");
        spool
    }

    #[test]
    fn the_middle_is_left_out_of_an_excerpt_and_kept() {
        let spool = spool();
        let line = "0123456789".repeat(100);
        for _ in 0..200 {
            spool.push(line.as_bytes());
        }
        spool.push(b"the end");
        let resource = ResourceUri::Output {
            command: CommandId::random(),
            stream: Stream::Stdout,
        };
        let excerpt = spool.excerpt(90, resource).unwrap();
        assert_eq!(excerpt.total_bytes, 200_007);
        assert!(excerpt.tail.ends_with("the end") && excerpt.omitted_bytes > 199_000);
        assert_eq!(spool.read(100_000, 10).unwrap(), b"0123456789");
        assert_eq!(spool.read(300_000, 10).unwrap(), b"");
    }

    #[test]
    fn a_stretch_goes_on_where_the_last_one_ended() {
        let spool = spool();
        spool.push("a€€b".as_bytes());
        let first = spool.stretch(0, 5).unwrap();
        assert_eq!((&*first.text, first.next_offset), ("a€", 4));
        let second = spool.stretch(first.next_offset, 100).unwrap();
        assert_eq!((&*second.text, second.next_offset), ("€b", 8));
    }
}
