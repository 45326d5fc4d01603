//! What a task's inputs are at this moment, as one digest: path, type, executable bit and content of each.
//!
//! Nothing outside of the project is ever looked at. A symbolic link is its target's text, and the target's content as well when that
//! is a file of the project; a link that is found and leads elsewhere is not followed, one that is named as an input and leads elsewhere is an error.

use std::{
    collections::BTreeMap,
    ffi::OsStr,
    fs::File,
    io::{self, Read as _},
    os::{
        fd::{AsFd as _, OwnedFd},
        unix::ffi::{OsStrExt as _, OsStringExt as _},
    },
    path::{Path, PathBuf},
    sync::atomic::{AtomicUsize, Ordering},
};

use envd_store::{Digest, Hasher};
use rustix::{
    fs::{Dir, FileType, Mode, OFlags, ResolveFlags, fstat, open, openat2, readlinkat},
    io::Errno,
};

use crate::{
    config::{Pattern, pattern::Match},
    realise::key::KeyHasher,
};

/// Files, directories and links that a task's inputs may have. More are a mistake, such as a home directory.
const ENTRIES_MAX: usize = 1_000_000;
/// Directories that change with every command and belong to no task, unless they are named.
const PASSED_OVER: [&str; 2] = [".git", ".envd"];
/// Threads that read files. More gain nothing: the disk, or the memory's bandwidth, is the limit.
const THREADS_MAX: usize = 8;

/// Inputs that cannot be looked at.
#[derive(Debug, thiserror::Error)]
pub enum InputsError {
    /// There is none of this name.
    #[error("the input `{0}` does not exist; create it, or correct `inputs`")]
    Absent(String),
    /// It leads out of the project.
    #[error(
        "the input `{0}` leads out of the project by a symbolic link; what lies outside cannot be an input"
    )]
    Outside(String),
    /// There are too many.
    #[error(
        "the inputs are more than {ENTRIES_MAX} files and directories; name them more narrowly"
    )]
    TooMany,
    /// Something cannot be read.
    #[error("cannot read the input {}", path.display())]
    Read {
        /// The path.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// What an entry is, as far as it can be seen from its directory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    Directory,
    File,
    Link,
    Special,
}

/// The digest of all files of `project` that the patterns mean, without those at or below `outputs`.
pub(super) fn digest(
    project: &Path,
    patterns: &[&Pattern],
    outputs: &[String],
) -> Result<Digest, InputsError> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = open(project, flags, Mode::empty()).map_err(|e| read_error(project, e))?;
    let mut walk = Walk {
        project,
        root,
        outputs,
        found: BTreeMap::new(),
    };
    let mut wild = Vec::new();
    for pattern in patterns {
        match pattern.literal() {
            Some(path) => walk.literal(pattern, &path)?,
            None => wild.push(*pattern),
        }
    }
    if !wild.is_empty() {
        walk.tree(PathBuf::new(), &wild, outputs)?;
    }
    let entries: Vec<(PathBuf, Kind)> = std::mem::take(&mut walk.found).into_iter().collect();
    let contents = walk.contents(&entries)?;
    let mut hasher = KeyHasher::new("envd-inputs 1");
    for ((path, _), content) in entries.iter().zip(contents) {
        hasher.word(path.as_os_str().as_bytes());
        hasher.word(&content);
    }
    Ok(hasher.finish())
}

struct Walk<'a> {
    project: &'a Path,
    root: OwnedFd,
    outputs: &'a [String],
    found: BTreeMap<PathBuf, Kind>,
}

impl Walk<'_> {
    /// A path that is named, and all below it.
    fn literal(&mut self, pattern: &Pattern, path: &str) -> Result<(), InputsError> {
        let named = if path.is_empty() { "." } else { path };
        let real = match self.resolve(Path::new(named)) {
            Ok(Some(real)) => real,
            Ok(None) => return Err(InputsError::Outside(pattern.to_string())),
            Err(Errno::NOENT | Errno::NOTDIR) => {
                return Err(InputsError::Absent(pattern.to_string()));
            }
            Err(error) => return Err(read_error(Path::new(named), error)),
        };
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let it = self.open(&real, flags).map_err(|e| read_error(&real, e))?;
        let kind = kind_of(&it).map_err(|e| read_error(&real, e))?;
        // An output that is named as an input is one: a task may change a file in its place.
        let outputs = match is_below(&real, self.outputs) {
            true => &[],
            false => self.outputs,
        };
        if kind == Kind::Directory {
            self.tree(real, &[], outputs)
        } else {
            self.add(real, kind)
        }
    }

    /// Where a path of the project really is, or `None` when that is outside.
    fn resolve(&self, path: &Path) -> Result<Option<PathBuf>, Errno> {
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        let beneath = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
        match openat2(&self.root, path, flags, Mode::empty(), beneath) {
            // Absolute links may lead back into the project.
            Ok(_) | Err(Errno::XDEV) => {}
            Err(error) => return Err(error),
        }
        let canonical = |path: &Path| {
            std::fs::canonicalize(path)
                .map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))
        };
        let (top, real) = (
            canonical(self.project)?,
            canonical(&self.project.join(path))?,
        );
        Ok(real.strip_prefix(&top).ok().map(Path::to_owned))
    }

    /// Opens a path without any symbolic link in it; the empty one is the project.
    fn open(&self, path: &Path, flags: OFlags) -> Result<OwnedFd, Errno> {
        let path = if path.as_os_str().is_empty() {
            Path::new(".")
        } else {
            path
        };
        let strict = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        openat2(&self.root, path, flags, Mode::empty(), strict)
    }

    /// A directory and what is below it, without `outputs`; of that what matches one of `patterns`, or all when there are none. One
    /// directory is open at a time, however deep they are.
    fn tree(
        &mut self,
        top: PathBuf,
        patterns: &[&Pattern],
        outputs: &[String],
    ) -> Result<(), InputsError> {
        if patterns.is_empty() && !top.as_os_str().is_empty() {
            self.add(top.clone(), Kind::Directory)?;
        }
        // A directory, and whether all of it is meant.
        let mut open = vec![(top, patterns.is_empty())];
        while let Some((directory, whole)) = open.pop() {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let listing = match self.open(&directory, flags) {
                // Gone since it was seen, or another thing by now: the next run will see.
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => continue,
                listing => listing.map_err(|e| read_error(&directory, e))?,
            };
            for (name, kind) in list(listing, &directory)? {
                let path = directory.join(&name);
                let is_passed_over = PASSED_OVER
                    .iter()
                    .any(|other| name.as_bytes() == other.as_bytes());
                if is_passed_over || is_below(&path, outputs) {
                    continue;
                }
                let matched = match whole {
                    true => Match::Yes,
                    false => best_match(patterns, &path),
                };
                // A directory that is made for an output is as little an input.
                let holds_output = kind == Kind::Directory
                    && outputs
                        .iter()
                        .any(|output| Path::new(output).starts_with(&path));
                if matched == Match::Yes && !holds_output {
                    self.add(path.clone(), kind)?;
                }
                if kind == Kind::Directory && matched != Match::No {
                    open.push((path, matched == Match::Yes));
                }
            }
        }
        Ok(())
    }

    fn add(&mut self, path: PathBuf, kind: Kind) -> Result<(), InputsError> {
        self.found.insert(path, kind);
        match self.found.len() > ENTRIES_MAX {
            true => Err(InputsError::TooMany),
            false => Ok(()),
        }
    }

    /// What each entry contains, in a form that is digested. Read by several threads.
    fn contents(&self, entries: &[(PathBuf, Kind)]) -> Result<Vec<Vec<u8>>, InputsError> {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let threads = threads.min(THREADS_MAX).min(entries.len() / 64 + 1);
        let next = AtomicUsize::new(0);
        let work = || -> Result<Vec<(usize, Vec<u8>)>, InputsError> {
            let mut buffer = vec![0; 64 * 1024];
            let mut done = Vec::new();
            loop {
                let index = next.fetch_add(1, Ordering::Relaxed);
                let Some((path, kind)) = entries.get(index) else {
                    return Ok(done);
                };
                let content = self.content(path, *kind, &mut buffer);
                done.push((
                    index,
                    content.map_err(|e| InputsError::Read {
                        path: path.clone(),
                        source: e,
                    })?,
                ));
            }
        };
        let mut contents = vec![Vec::new(); entries.len()];
        std::thread::scope(|scope| {
            let others: Vec<_> = (1..threads).map(|_| scope.spawn(work)).collect();
            let mut results = vec![work()];
            // A thread that panics has found a mistake of ours, which must be seen.
            results.extend(others.into_iter().map(|other| match other.join() {
                Ok(result) => result,
                Err(panic) => std::panic::resume_unwind(panic),
            }));
            for result in results {
                for (index, content) in result? {
                    contents[index] = content;
                }
            }
            Ok(contents)
        })
    }

    fn content(&self, path: &Path, kind: Kind, buffer: &mut [u8]) -> io::Result<Vec<u8>> {
        match kind {
            Kind::Directory => Ok(b"directory".to_vec()),
            Kind::Special => Ok(b"special".to_vec()),
            Kind::File => self.file(path, buffer),
            Kind::Link => {
                let target = match self.readlink(path) {
                    Err(Errno::NOENT | Errno::INVAL) => return Ok(b"gone".to_vec()),
                    target => target?,
                };
                let mut content = b"link ".to_vec();
                content.extend_from_slice(&target);
                // What it leads to counts when it is a file of the project.
                if let Ok(Some(real)) = self.resolve(path) {
                    let flags = OFlags::PATH | OFlags::CLOEXEC;
                    let it = self.open(&real, flags);
                    if it.is_ok_and(|it| kind_of(&it) == Ok(Kind::File)) {
                        content.push(0);
                        content.extend(self.file(&real, buffer)?);
                    }
                }
                Ok(content)
            }
        }
    }

    fn readlink(&self, path: &Path) -> Result<Vec<u8>, Errno> {
        let directory = path.parent().unwrap_or(Path::new(""));
        let directory = self.open(
            directory,
            OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
        )?;
        let name = path.file_name().unwrap_or(OsStr::new(""));
        Ok(readlinkat(directory, name, Vec::new())?.into_bytes())
    }

    fn file(&self, path: &Path, buffer: &mut [u8]) -> io::Result<Vec<u8>> {
        // Not blocking: it may be a pipe by now.
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = match self.open(path, flags) {
            // Gone since it was seen: the next run will see.
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(b"gone".to_vec()),
            file => file?,
        };
        let stat = fstat(&file)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Ok(b"special".to_vec());
        }
        let mut file = File::from(file);
        let mut hasher = Hasher::default();
        loop {
            match file.read(buffer) {
                Ok(0) => break,
                Ok(length) => hasher.update(&buffer[..length]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        let mut content = match stat.st_mode & 0o111 {
            0 => b"file ".to_vec(),
            _ => b"program ".to_vec(),
        };
        content.extend_from_slice(hasher.finish().0.as_bytes());
        Ok(content)
    }
}

/// Whether a path is one of `tops` or below one.
fn is_below(path: &Path, tops: &[String]) -> bool {
    tops.iter().any(|top| path.starts_with(top))
}

/// The best that any of these patterns says.
fn best_match(patterns: &[&Pattern], path: &Path) -> Match {
    let mut best = Match::No;
    for pattern in patterns {
        match pattern.matches(path) {
            Match::Yes => return Match::Yes,
            Match::Below => best = Match::Below,
            Match::No => {}
        }
    }
    best
}

fn list(directory: OwnedFd, path: &Path) -> Result<Vec<(std::ffi::OsString, Kind)>, InputsError> {
    let failed = |error| read_error(path, error);
    let mut names = Vec::new();
    for entry in Dir::read_from(&directory).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let name = entry.file_name().to_bytes();
        if name == b"." || name == b".." {
            continue;
        }
        let kind = match entry.file_type() {
            FileType::Unknown => {
                let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let strict = ResolveFlags::BENEATH;
                match openat2(
                    directory.as_fd(),
                    entry.file_name(),
                    flags,
                    Mode::empty(),
                    strict,
                ) {
                    Err(Errno::NOENT) => continue,
                    it => kind_of(&it.map_err(failed)?).map_err(failed)?,
                }
            }
            known => kind(known),
        };
        names.push((std::ffi::OsString::from_vec(name.to_vec()), kind));
    }
    Ok(names)
}

fn kind_of(descriptor: &OwnedFd) -> Result<Kind, Errno> {
    fstat(descriptor).map(|stat| kind(FileType::from_raw_mode(stat.st_mode)))
}

fn kind(file_type: FileType) -> Kind {
    match file_type {
        FileType::Directory => Kind::Directory,
        FileType::RegularFile => Kind::File,
        FileType::Symlink => Kind::Link,
        _ => Kind::Special,
    }
}

fn read_error(path: &Path, error: Errno) -> InputsError {
    InputsError::Read {
        path: path.to_owned(),
        source: error.into(),
    }
}

/// Whether a path of the project is there, whatever it is. Links are not followed.
pub(super) fn is_there(project: &Path, path: &str) -> bool {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    open(
        project,
        OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )
    .and_then(|root| openat2(root, path, flags, Mode::empty(), ResolveFlags::BENEATH))
    .is_ok()
}
