//! What services write: a file for each, bounded, with the time of each line.
//!
//! A line is `2026-09-01T08:12:34.567Z | text`, or with `*` instead of `|` where envd says what became of the service. Lines longer
//! than [`LINE_MAX`] are cut into several. When `NAME.log` has [`FILE_MAX`] bytes it becomes `NAME.log.1`, in place of the one before.

mod pump;
mod reader;

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
    time::{SystemTime, UNIX_EPOCH},
};

use envd_supervision::Name;
use tokio::sync::watch;

pub(super) use pump::pump;
pub use reader::{Line, LogReader, Origin};

use crate::lock::Moment;

/// Bytes of a file, about, before it is put aside.
pub const FILE_MAX: u64 = 1024 * 1024;
/// Bytes of a line.
pub const LINE_MAX: usize = 8 * 1024;

/// The log of one service.
#[derive(Debug)]
pub(super) struct Log {
    path: PathBuf,
    open: Mutex<Option<Open>>,
    /// Told after each addition.
    grown: watch::Sender<()>,
}

#[derive(Debug)]
struct Open {
    file: File,
    length: u64,
}

impl Log {
    /// The log of `service` in a directory. The file is made when there is something to write.
    pub fn new(directory: &Path, service: &Name) -> Self {
        Self {
            path: path(directory, service),
            open: Mutex::new(None),
            grown: watch::Sender::new(()),
        }
    }

    /// Adds a line of envd's own. What cannot be written is lost: a full disk must not stop a service.
    pub fn say(&self, text: &str) {
        self.add(&line(Origin::Envd, text.as_bytes()));
    }

    /// Adds whole lines.
    fn add(&self, lines: &[u8]) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if self.write(&mut open, lines).is_err() {
            // Perhaps it can be opened again when there is more to say.
            *open = None;
        }
        drop(open);
        self.grown.send_replace(());
    }

    fn write(&self, open: &mut Option<Open>, lines: &[u8]) -> io::Result<()> {
        if open.as_ref().is_some_and(|open| open.length >= FILE_MAX) {
            *open = None;
            fs::rename(&self.path, put_aside(&self.path))?;
        }
        let open = match open {
            Some(open) => open,
            None => {
                let mut options = OpenOptions::new();
                let file = options
                    .create(true)
                    .append(true)
                    .mode(0o600)
                    .open(&self.path)?;
                let length = file.metadata()?.size();
                open.insert(Open { file, length })
            }
        };
        open.file.write_all(lines)?;
        open.length += lines.len() as u64;
        Ok(())
    }

    /// Reads it from its beginning, and learns when there is more.
    pub fn reader(&self) -> (LogReader, watch::Receiver<()>) {
        let grown = self.grown.subscribe();
        (LogReader::at(self.path.clone()), grown)
    }
}

fn path(directory: &Path, service: &Name) -> PathBuf {
    directory.join(format!("{service}.log"))
}

/// Where a full file goes.
fn put_aside(path: &Path) -> PathBuf {
    path.with_extension("log.1")
}

/// A line as it is in the file, with the present time.
fn line(origin: Origin, text: &[u8]) -> Vec<u8> {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    let mut line = stamp(since.as_secs(), since.subsec_millis()).into_bytes();
    line.extend_from_slice(match origin {
        Origin::Service => b" | ",
        Origin::Envd => b" * ",
    });
    // A report of ours is one line whatever is in it.
    line.extend(
        text.iter()
            .map(|byte| if *byte == b'\n' { b' ' } else { *byte }),
    );
    line.push(b'\n');
    line
}

/// A time as RFC 3339 has it.
fn stamp(seconds: u64, milliseconds: u32) -> String {
    let moment = i64::try_from(seconds)
        .ok()
        .and_then(|seconds| Moment::from_unix(seconds).ok());
    let compact = moment.map(|moment| moment.to_string());
    let t = compact.as_deref().unwrap_or("19700101T000000Z");
    format!(
        "{}-{}-{}T{}:{}:{}.{milliseconds:03}Z",
        &t[..4],
        &t[4..6],
        &t[6..8],
        &t[9..11],
        &t[11..13],
        &t[13..15]
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_for_people_and_sort_as_text() {
        assert_eq!(stamp(0, 7), "1970-01-01T00:00:00.007Z");
        assert_eq!(stamp(1_788_250_354, 567), "2026-09-01T08:12:34.567Z");
    }

    #[test]
    fn a_log_is_bounded_and_its_end_is_kept() {
        let directory = tempfile::tempdir().unwrap();
        let log = Log::new(directory.path(), &"db".parse().unwrap());
        let text = "x".repeat(1000);
        for number in 0..4000 {
            log.say(&format!("{number} {text}"));
        }
        let sizes: u64 = fs::read_dir(directory.path())
            .unwrap()
            .map(|entry| entry.unwrap().metadata().unwrap().len())
            .sum();
        assert!(sizes < 2 * FILE_MAX + 4000, "{sizes}");
        let mut reader = log.reader().0;
        let mut numbers = Vec::new();
        while let Some(line) = reader.next_line().unwrap() {
            let text = String::from_utf8(line.text).unwrap();
            numbers.push(text.split(' ').next().unwrap().parse::<u32>().unwrap());
        }
        assert_eq!(numbers.last(), Some(&3999));
        assert!(numbers.len() > 1000 && numbers.windows(2).all(|pair| pair[0] + 1 == pair[1]));
    }

    #[test]
    fn what_cannot_be_written_is_lost_and_no_more() {
        let directory = tempfile::tempdir().unwrap();
        let log = Log::new(&directory.path().join("absent"), &"db".parse().unwrap());
        log.say("lost");
        fs::create_dir(directory.path().join("absent")).unwrap();
        log.say("kept");
        let line = log.reader().0.next_line().unwrap().unwrap();
        assert_eq!((line.origin, &*line.text), (Origin::Envd, &b"kept"[..]));
    }
}
