//! What a daemon says of itself, in a file that does not grow without end.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read as _, Seek as _, SeekFrom, Write},
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
};

/// Bytes of the file at most. Of a full one the later half is kept.
const MOST: u64 = 512 * 1024;

/// The file.
#[derive(Debug)]
pub struct Log {
    file: File,
    size: u64,
    most: u64,
}

impl Log {
    /// Goes on with the file at `path`, or makes it for its owner alone.
    pub fn open(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new()
            .read(true)
            .append(true)
            .create(true)
            .mode(0o600)
            .open(path)?;
        Ok(Self {
            size: file.metadata()?.len(),
            file,
            most: MOST,
        })
    }

    /// Drops the older half, up to the end of a line.
    fn halve(&mut self) -> io::Result<()> {
        let mut kept = Vec::new();
        self.file.seek(SeekFrom::Start(self.size / 2))?;
        self.file.read_to_end(&mut kept)?;
        let start = kept.iter().position(|byte| *byte == b'\n');
        let kept = &kept[start.map_or(kept.len(), |at| at + 1)..];
        self.file.set_len(0)?;
        self.file.write_all(kept)?;
        self.size = kept.len() as u64;
        Ok(())
    }
}

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.size + bytes.len() as u64 > self.most {
            self.halve()?;
        }
        let written = self.file.write(bytes)?;
        self.size += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_one_keeps_its_last_lines_whole() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        let mut log = Log::open(&path).unwrap();
        log.most = 1000;
        for number in 0..1000 {
            writeln!(log, "line {number}").unwrap();
            assert!(std::fs::metadata(&path).unwrap().len() <= 1000);
        }
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.ends_with("line 998\nline 999\n"));
        assert!(text.lines().all(|line| line.starts_with("line ")));
        assert!(text.lines().count() > 20, "half of it is kept");
        let again = Log::open(&path).unwrap();
        assert_eq!(again.size, text.len() as u64);
    }
}
