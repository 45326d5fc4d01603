//! The files: `calls.jsonl`, to which every process appends, and the older `calls.jsonl.1` and so on.
//!
//! A line is one write to a file opened with O_APPEND, so lines of several processes do not mix. Whoever finds the file full
//! moves it aside under a lock; the others see at their next line that the name leads to another file. What comes of the race
//! in between is a line in the older file.
//!
//! Blocks for the whole file are reserved when it is made, where the file system can: a disk that fills up later does not
//! silence the record at once.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, BufRead as _, BufReader, Write as _},
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use rustix::fs::{FallocateFlags, FlockOperation, OFlags, fallocate, flock};

use super::Record;

/// Bytes of a file before it is moved aside.
pub const MOST_BYTES: u64 = 8 << 20;
/// Files that are kept, the present one included.
pub const MOST_FILES: u32 = 4;
/// The present file.
const NAME: &str = "calls.jsonl";
/// Locked by whoever moves files.
const LOCK: &str = "lock";

/// The record of one store.
#[derive(Debug)]
pub struct Log {
    directory: PathBuf,
    most_bytes: u64,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    file: Option<File>,
    /// Whether the last line may be there in part.
    torn: bool,
    /// Lines that could not be written since the last that could.
    lost: u64,
}

impl Log {
    /// The record in a directory, which is made when it is not there.
    pub fn open(directory: impl Into<PathBuf>) -> io::Result<Self> {
        Self::with_files_of(directory, MOST_BYTES)
    }

    fn with_files_of(directory: impl Into<PathBuf>, most_bytes: u64) -> io::Result<Self> {
        let directory = directory.into();
        match fs::DirBuilder::new().mode(0o700).create(&directory) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        let log = Self {
            directory,
            most_bytes,
            state: Mutex::default(),
        };
        log.state().file = Some(log.present()?);
        Ok(log)
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn path(&self) -> PathBuf {
        self.directory.join(NAME)
    }

    fn older(&self, number: u32) -> PathBuf {
        self.directory.join(format!("{NAME}.{number}"))
    }

    /// Opens the present file.
    fn present(&self) -> io::Result<File> {
        let flags = (OFlags::NOFOLLOW | OFlags::CLOEXEC).bits().cast_signed();
        let file = OpenOptions::new()
            .append(true)
            .create(true)
            .mode(0o600)
            .custom_flags(flags)
            .open(self.path())?;
        if file.metadata()?.len() == 0 {
            // Not every file system can.
            let _ = fallocate(&file, FallocateFlags::KEEP_SIZE, 0, self.most_bytes);
        }
        Ok(file)
    }

    /// How many lines could not be written since the last that could. While there are such, nothing new should be begun.
    pub fn lost(&self) -> u64 {
        self.state().lost
    }

    /// Adds a line. Where that fails the next one says how many are missing.
    pub fn write(&self, record: &Record) -> io::Result<()> {
        let state = &mut *self.state();
        let written = self.append(state, record);
        match &written {
            Ok(()) => state.lost = 0,
            Err(_) => state.lost += 1,
        }
        written
    }

    fn append(&self, state: &mut State, record: &Record) -> io::Result<()> {
        let mut line = Vec::new();
        if state.torn {
            // What is there of the last one becomes a line of its own.
            line.push(b'\n');
        }
        if state.lost > 0 {
            let told = Record {
                lost: state.lost,
                ..record.clone()
            };
            line.extend(told.line());
        } else {
            line.extend(record.line());
        }
        let file = self.file_for(state, line.len() as u64)?;
        let mut file = file;
        match file.write(&line) {
            Ok(length) if length == line.len() => {
                state.torn = false;
                Ok(())
            }
            Ok(length) => {
                state.torn |= length > 0;
                Err(io::ErrorKind::StorageFull.into())
            }
            Err(error) => Err(error),
        }
    }

    /// The present file, with room for a line.
    fn file_for<'s>(&self, state: &'s mut State, length: u64) -> io::Result<&'s File> {
        let there = fs::symlink_metadata(self.path());
        let same = match (&state.file, &there) {
            (Some(file), Ok(there)) => is_same(&file.metadata()?, there),
            _ => false,
        };
        if !same {
            state.file = Some(self.present()?);
            state.torn = false;
        }
        let size = match &state.file {
            Some(file) => file.metadata()?.len(),
            None => 0,
        };
        if size > 0 && size + length > self.most_bytes {
            self.rotate(state)?;
        }
        state
            .file
            .as_ref()
            .ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    /// Moves a full file aside, unless another process was quicker.
    fn rotate(&self, state: &mut State) -> io::Result<()> {
        let lock = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(self.directory.join(LOCK))?;
        flock(&lock, FlockOperation::LockExclusive)?;
        let there = fs::symlink_metadata(self.path());
        let ours = match (&state.file, &there) {
            (Some(file), Ok(there)) => is_same(&file.metadata()?, there),
            _ => false,
        };
        if ours {
            for number in (1..MOST_FILES - 1).rev() {
                match fs::rename(self.older(number), self.older(number + 1)) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                    _ => {}
                }
            }
            fs::rename(self.path(), self.older(1))?;
            if let Some(file) = &state.file {
                // What was reserved and not used. Others that still write to it do without.
                let size = file.metadata()?.len();
                let _ = rustix::fs::ftruncate(file, size);
            }
        }
        state.file = Some(self.present()?);
        state.torn = false;
        Ok(())
    }
}

fn is_same(one: &fs::Metadata, other: &fs::Metadata) -> bool {
    (one.dev(), one.ino()) == (other.dev(), other.ino())
}

/// What is in the files.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Logged {
    /// The lines, oldest first.
    pub records: Vec<Record>,
    /// Lines that are none.
    pub unreadable: u64,
}

/// Reads the lines that `wanted` picks. A directory that is not there has none.
pub fn read(directory: &Path, wanted: impl Fn(&Record) -> bool) -> io::Result<Logged> {
    let mut logged = Logged::default();
    let older = (1..MOST_FILES)
        .rev()
        .map(|number| directory.join(format!("{NAME}.{number}")));
    for path in older.chain([directory.join(NAME)]) {
        let file = match File::open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            file => file?,
        };
        for line in BufReader::new(file).split(b'\n') {
            let line = line?;
            match serde_json::from_slice::<Record>(&line) {
                Ok(record) if wanted(&record) => logged.records.push(record),
                Ok(_) => {}
                Err(_) if line.is_empty() => {}
                Err(_) => logged.unreadable += 1,
            }
        }
    }
    // Calls of several processes end in another order than they began.
    logged
        .records
        .sort_by(|one, other| one.time.cmp(&other.time));
    Ok(logged)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn record(number: u64) -> Record {
        Record {
            time: format!("{number:010}"),
            method: "file_list".to_owned(),
            microseconds: number,
            ..Record::default()
        }
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o7777
    }

    #[test]
    fn lines_are_kept_in_order_for_nobody_else_to_read() {
        let place = tempfile::tempdir().unwrap();
        let directory = place.path().join("audit");
        let log = Log::open(&directory).unwrap();
        for number in [1, 0, 2] {
            log.write(&record(number)).unwrap();
        }
        let logged = read(&directory, |record| record.microseconds > 0).unwrap();
        let numbers: Vec<u64> = logged.records.iter().map(|one| one.microseconds).collect();
        assert_eq!((numbers, logged.unreadable), (vec![1, 2], 0));
        assert_eq!(
            (mode(&directory), mode(&directory.join(NAME))),
            (0o700, 0o600)
        );
    }

    /// Many processes write at once and rotate under one another's hands: no line is lost but the oldest, none is torn.
    #[test]
    fn files_are_rotated_whoever_writes() {
        const EACH: u64 = 400;
        let place = tempfile::tempdir().unwrap();
        let directory = place.path().join("audit");
        let size = record(0).line().len() as u64;
        // Three files' worth and a half.
        let most = EACH * 4 * size * 2 / 7;
        let logs: Vec<Log> = (0..4)
            .map(|_| Log::with_files_of(&directory, most).unwrap())
            .collect();
        std::thread::scope(|scope| {
            for (writer, log) in logs.iter().enumerate() {
                scope.spawn(move || {
                    for number in 0..EACH {
                        log.write(&record(writer as u64 * EACH + number)).unwrap();
                    }
                });
            }
        });
        let logged = read(&directory, |_| true).unwrap();
        assert_eq!(logged.unreadable, 0);
        assert_eq!(logged.records.len() as u64, 4 * EACH);
        for _ in 0..4 * EACH {
            logs[0].write(&record(7)).unwrap();
        }
        let logged = read(&directory, |_| true).unwrap();
        let kept = logged.records.len() as u64;
        assert!(
            kept * size <= most * u64::from(MOST_FILES),
            "bounded: {kept}"
        );
        let names = fs::read_dir(&directory).unwrap().count();
        assert_eq!(names, MOST_FILES as usize + 1, "four files and the lock");
    }

    #[test]
    fn what_could_not_be_written_is_counted() {
        let place = tempfile::tempdir().unwrap();
        let directory = place.path().join("audit");
        let log = Log::open(&directory).unwrap();
        log.write(&record(1)).unwrap();
        fs::remove_dir_all(&directory).unwrap();
        assert!(log.write(&record(2)).is_err());
        assert!(log.write(&record(3)).is_err());
        assert_eq!(log.lost(), 2);
        fs::create_dir(&directory).unwrap();
        log.write(&record(4)).unwrap();
        assert_eq!(log.lost(), 0);
        let logged = read(&directory, |_| true).unwrap();
        assert_eq!((logged.records.len(), logged.records[0].lost), (1, 2));
    }

    #[test]
    fn a_torn_line_spoils_no_other() {
        let place = tempfile::tempdir().unwrap();
        let log = Log::open(place.path().join("audit")).unwrap();
        log.write(&record(1)).unwrap();
        log.state()
            .file
            .as_ref()
            .unwrap()
            .write_all(b"{\"time\":\"2")
            .unwrap();
        log.state().torn = true;
        log.write(&record(3)).unwrap();
        let logged = read(&place.path().join("audit"), |_| true).unwrap();
        assert_eq!((logged.records.len(), logged.unreadable), (2, 1));
    }

    /// Whoever can plant a link there could have it written to.
    #[test]
    fn a_link_in_the_place_of_the_file_is_not_followed() {
        let place = tempfile::tempdir().unwrap();
        let target = place.path().join("target");
        fs::write(&target, "").unwrap();
        let directory = place.path().join("audit");
        fs::create_dir(&directory).unwrap();
        std::os::unix::fs::symlink(&target, directory.join(NAME)).unwrap();
        assert!(Log::open(&directory).is_err());
        assert_eq!(fs::read(&target).unwrap(), b"");
    }
}
