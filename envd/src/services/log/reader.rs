//! Reading a log while it grows, and while its files take each other's place.

use std::{
    fs::File,
    io::{self, BufRead as _, BufReader},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use envd_supervision::Name;

use super::{path, put_aside};

/// Who wrote a line.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Origin {
    /// The service.
    Service,
    /// envd, about the service.
    Envd,
}

/// A line of a log.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Line {
    /// When it was written: `2026-09-01T08:12:34.567Z`. Empty if somebody else wrote to the file.
    pub time: String,
    /// Who wrote it.
    pub origin: Origin,
    /// What, without its end. Any bytes: whoever shows it on a terminal has to make it harmless.
    pub text: Vec<u8>,
}

/// Reads a service's log from the oldest line that is kept. Works beside a running service, and long after it.
#[derive(Debug)]
pub struct LogReader {
    path: PathBuf,
    open: Option<Open>,
    /// A line whose end has not been written yet.
    begun: Vec<u8>,
}

#[derive(Debug)]
struct Open {
    file: BufReader<File>,
    /// What tells it from the file that takes its place.
    inode: u64,
}

impl LogReader {
    /// The log of `service` in a directory of logs, if there is one or not.
    pub fn new(directory: &Path, service: &Name) -> Self {
        Self::at(path(directory, service))
    }

    pub(super) fn at(path: PathBuf) -> Self {
        Self {
            path,
            open: None,
            begun: Vec::new(),
        }
    }

    /// The next line, or `None` when there is none yet. Asked again later, it goes on.
    pub fn next_line(&mut self) -> io::Result<Option<Line>> {
        loop {
            if self.open.is_none() {
                self.open = match open(&put_aside(&self.path))? {
                    Some(older) => Some(older),
                    None => open(&self.path)?,
                };
            }
            let Some(present) = &mut self.open else {
                return Ok(None);
            };
            if let Some(line) = read(&mut present.file, &mut self.begun)? {
                return Ok(Some(line));
            }
            let inode = present.inode;
            let Some(next) = self.successor(inode)? else {
                return Ok(None);
            };
            // Something may have been added before its place was taken.
            let last = match &mut self.open {
                Some(present) => read(&mut present.file, &mut self.begun)?,
                None => None,
            };
            if last.is_some() {
                return Ok(last);
            }
            self.begun.clear();
            self.open = Some(next);
        }
    }

    /// Passes over all but the last `count` of the lines that there are.
    pub fn skip_to_last(&mut self, count: usize) -> io::Result<Vec<Line>> {
        let mut last = std::collections::VecDeque::new();
        while let Some(line) = self.next_line()? {
            last.push_back(line);
            if last.len() > count {
                last.pop_front();
            }
        }
        Ok(last.into())
    }

    /// The file after the one with this inode, if there is one.
    fn successor(&self, inode: u64) -> io::Result<Option<Open>> {
        let Some(newest) = open(&self.path)?.filter(|newest| newest.inode != inode) else {
            return Ok(None);
        };
        match open(&put_aside(&self.path))? {
            // So slow that a whole file was missed, or more.
            Some(older) if older.inode != inode => Ok(Some(older)),
            _ => Ok(Some(newest)),
        }
    }
}

fn open(path: &Path) -> io::Result<Option<Open>> {
    match File::open(path) {
        Ok(file) => Ok(Some(Open {
            inode: file.metadata()?.ino(),
            file: BufReader::new(file),
        })),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// The next whole line of a file.
fn read(file: &mut BufReader<File>, begun: &mut Vec<u8>) -> io::Result<Option<Line>> {
    file.read_until(b'\n', begun)?;
    if begun.last() != Some(&b'\n') {
        return Ok(None);
    }
    begun.pop();
    let line = std::mem::take(begun);
    let space = line.iter().position(|byte| *byte == b' ');
    let parts = space.and_then(|space| {
        let time = std::str::from_utf8(&line[..space]).ok()?;
        let (origin, text) = match line.get(space..space + 3)? {
            b" | " => (Origin::Service, &line[space + 3..]),
            b" * " => (Origin::Envd, &line[space + 3..]),
            _ => return None,
        };
        Some(Line {
            time: time.to_owned(),
            origin,
            text: text.to_owned(),
        })
    });
    Ok(Some(parts.unwrap_or(Line {
        time: String::new(),
        origin: Origin::Service,
        text: line,
    })))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn texts(reader: &mut LogReader) -> Vec<String> {
        let mut texts = Vec::new();
        while let Some(line) = reader.next_line().unwrap() {
            texts.push(String::from_utf8(line.text).unwrap());
        }
        texts
    }

    #[test]
    fn a_follower_sees_every_line_once_across_a_change_of_files() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("db.log");
        let mut reader = LogReader::at(path.clone());
        assert!(texts(&mut reader).is_empty(), "there is none yet");
        fs::write(&path, "t | a\nt | b").unwrap();
        assert_eq!(texts(&mut reader), ["a"], "b has no end yet");
        fs::write(&path, "t | a\nt | bc\n").unwrap();
        assert_eq!(texts(&mut reader), ["bc"]);
        fs::rename(&path, put_aside(&path)).unwrap();
        assert!(texts(&mut reader).is_empty());
        fs::write(&path, "t * d\nodd\n").unwrap();
        assert_eq!(texts(&mut reader), ["d", "odd"]);
        let mut late = LogReader::at(path);
        assert_eq!(texts(&mut late), ["a", "bc", "d", "odd"]);
    }

    #[test]
    fn only_the_last_ones_on_request() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("db.log");
        fs::write(&path, "t | a\nt | b\nt | c\n").unwrap();
        let last = LogReader::at(path).skip_to_last(2).unwrap();
        assert_eq!(last.len(), 2);
        assert_eq!(last[0].text, b"b");
    }
}
