//! The whole output of a command: in memory as long as it is short, then in a file that has no name any more.

use std::{
    fs::{File, OpenOptions},
    io,
    os::unix::fs::{FileExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use envd_agents::service::{
    ResourceUri,
    command::Stretch,
    excerpt::{Collector, Excerpt, whole_characters},
};

/// Bytes that are kept of one output. What comes after is counted and let go.
const MOST: u64 = 1 << 30;
/// Bytes that are kept in memory. Most outputs have no more, and a file costs as much as starting a command.
const MOST_IN_MEMORY: usize = 16 * 1024;
/// Bytes that are read at a time.
const PIECE: usize = 64 * 1024;

/// An output: written at its end, read anywhere.
#[derive(Debug)]
pub(super) struct Spool {
    /// Where a file is made for a moment, if one is.
    path: PathBuf,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    content: Content,
    length: Length,
}

#[derive(Debug)]
enum Content {
    Memory(Vec<u8>),
    File(Arc<File>),
}

#[derive(Clone, Copy, Default, Debug)]
struct Length {
    kept: u64,
    total: u64,
}

/// An empty file that was made at `path` for a moment.
fn make_file(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    std::fs::remove_file(path)?;
    Ok(file)
}

impl State {
    /// Adds bytes to what is kept.
    fn keep(&mut self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        if let Content::Memory(kept) = &mut self.content {
            if kept.len() + bytes.len() <= MOST_IN_MEMORY {
                kept.extend_from_slice(bytes);
                return Ok(());
            }
            let file = make_file(path)?;
            file.write_all_at(kept, 0)?;
            self.content = Content::File(Arc::new(file));
        }
        match &self.content {
            Content::File(file) => file.write_all_at(bytes, self.length.kept),
            Content::Memory(_) => Ok(()),
        }
    }
}

impl Spool {
    /// An empty one. Where it has to be a file, that is made at `path` for a moment.
    pub(super) fn new(path: PathBuf) -> Self {
        Self {
            path,
            state: Mutex::new(State {
                content: Content::Memory(Vec::new()),
                length: Length::default(),
            }),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn length(&self) -> Length {
        self.state().length
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
        let mut state = self.state();
        let room = usize::try_from(MOST - state.length.kept).unwrap_or(usize::MAX);
        let kept = &bytes[..bytes.len().min(room)];
        // Only as long as nothing is missing before it.
        if state.length.kept == state.length.total && state.keep(&self.path, kept).is_ok() {
            state.length.kept += kept.len() as u64;
        }
        state.length.total += bytes.len() as u64;
    }

    /// Bytes from an offset on, at most so many.
    pub(super) fn read(&self, offset: u64, limit: u64) -> io::Result<Vec<u8>> {
        let (file, kept) = {
            let state = self.state();
            match &state.content {
                Content::Memory(kept) => {
                    let from = usize::try_from(offset)
                        .unwrap_or(usize::MAX)
                        .min(kept.len());
                    let count = usize::try_from(limit).unwrap_or(usize::MAX);
                    let rest = &kept[from..];
                    return Ok(rest[..rest.len().min(count)].to_vec());
                }
                Content::File(file) => (file.clone(), state.length.kept),
            }
        };
        let count = kept.saturating_sub(offset).min(limit);
        let mut bytes = vec![0; usize::try_from(count).unwrap_or(usize::MAX)];
        file.read_exact_at(&mut bytes, offset)?;
        Ok(bytes)
    }

    /// What fits into an answer.
    pub(super) fn excerpt(&self, limit: u64, resource: ResourceUri) -> io::Result<Excerpt> {
        let Length { kept, total } = self.length();
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

    /// With the directory that its file is made in.
    fn spool() -> (Spool, tempfile::TempDir) {
        let directory = tempfile::tempdir().unwrap();
        (Spool::new(directory.path().join("output")), directory)
    }

    #[test]
    fn what_becomes_long_goes_on_in_a_file_without_a_name() {
        let (spool, directory) = spool();
        let piece = "0123456789abcdef".repeat(MOST_IN_MEMORY / 16 - 1);
        let mut whole = Vec::new();
        for part in [&*piece, "short", &piece, "the end"] {
            spool.push(part.as_bytes());
            whole.extend_from_slice(part.as_bytes());
            assert_eq!(spool.read(0, u64::MAX).unwrap(), whole);
            assert_eq!(spool.read(3, 4).unwrap(), whole[3..7]);
        }
        assert!(matches!(spool.state().content, Content::File(_)));
        let left = std::fs::read_dir(directory.path()).unwrap().count();
        assert_eq!(left, 0, "it has no name");
        assert_eq!(spool.kept(), whole.len() as u64);
    }

    #[test]
    fn what_cannot_be_kept_is_counted() {
        let (spool, directory) = spool();
        spool.push(b"kept");
        drop(directory);
        spool.push(&[0; MOST_IN_MEMORY]);
        spool.push(b"after it");
        assert_eq!(
            (spool.kept(), spool.total()),
            (4, 4 + MOST_IN_MEMORY as u64 + 8)
        );
        assert_eq!(spool.read(0, 100).unwrap(), b"kept");
    }

    #[test]
    fn the_middle_is_left_out_of_an_excerpt_and_kept() {
        let (spool, _directory) = spool();
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
        let (spool, _directory) = spool();
        spool.push("a€€b".as_bytes());
        let first = spool.stretch(0, 5).unwrap();
        assert_eq!((&*first.text, first.next_offset), ("a€", 4));
        let second = spool.stretch(first.next_offset, 100).unwrap();
        assert_eq!((&*second.text, second.next_offset), ("€b", 8));
    }
}
