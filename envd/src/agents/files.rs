//! The file tools: each a function from a request and an environment's root to an answer.

use std::{
    io::{self, Write as _},
    path::Path,
    time::{Duration, Instant},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use envd_agents::secret::Patterns;
use envd_agents::service::{
    Failure,
    file::{
        self, Encoding, FileContent, FileEdit, FileEdited, FileEntries, FileEntry, FileKind,
        FileList, FileMatch, FileMatches, FileRead, FileSearch, FileWrite, FileWritten,
        MOST_FILE_BYTES,
    },
};
use regex_lite::{Regex, RegexBuilder};
use rustix::{
    fs::{FileType, Mode, OFlags, fchmod},
    io::Errno,
};

use super::{
    failure,
    inside::{Found, Inside, Walk},
};
use crate::config::{Pattern, pattern::Match};

/// Bytes of a text that is edited or searched as a whole.
pub(super) const MOST_TEXT: u64 = 16 << 20;
/// Bytes of a matching line in an answer.
const MOST_LINE: usize = 500;
/// Bytes of a line that a pattern is looked for in, and bytes that a pattern may come to: together what cannot be interrupted.
const MOST_MATCHED: usize = 16 << 10;
const MOST_PATTERN: usize = 128 << 10;
/// How deep a list and a search go: each level takes a descriptor and a part of the stack.
const DEPTH: u32 = 64;
/// Entries of a list.
const MOST_ENTRIES: usize = 100_000;
/// How long a search may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// A path as the calls below take it: absolute, without a NUL.
pub(super) fn absolute(directory: &str, path: &str) -> Result<String, Failure> {
    if path.is_empty() || path.contains('\0') {
        return Err(Failure::Invalid {
            field: "path".to_owned(),
            problem: "it is no path".to_owned(),
            expected: "a path inside the environment".to_owned(),
        });
    }
    Ok(match path.starts_with('/') {
        true => path.to_owned(),
        false => format!("{directory}/{path}"),
    })
}

/// Takes secrets out of what a file holds, where a command wrote one into it.
pub(super) fn scrub(content: &mut FileContent, patterns: &Patterns) {
    match content.encoding {
        Encoding::Utf8 => patterns.scrub_text(&mut content.content),
        Encoding::Base64 => {
            let bytes = STANDARD.decode(&content.content).unwrap_or_default();
            if patterns.occurs(&bytes) {
                content.content = STANDARD.encode(patterns.scrub(&bytes));
            }
        }
    }
}

fn find(inside: &Inside<'_>, given: &str, path: &str) -> Result<Found, Failure> {
    inside
        .find(path)
        .map_err(|error| refused(given, error.into()))
}

/// What a system call's refusal means for a path.
fn refused(path: &str, error: io::Error) -> Failure {
    let wrong = |found: &str, expected: &str| Failure::WrongKind {
        path: path.to_owned(),
        found: found.to_owned(),
        expected: expected.to_owned(),
    };
    match Errno::from_io_error(&error) {
        Some(Errno::NOENT) => Failure::NoSuchFile {
            path: path.to_owned(),
        },
        Some(Errno::ISDIR) => wrong("directory", "file"),
        Some(Errno::NOTDIR) => wrong("file", "directory"),
        Some(Errno::INVAL) => wrong("pipe, socket or device", "file"),
        Some(Errno::LOOP) => wrong("link of procfs, or to itself", "file"),
        Some(Errno::ACCESS | Errno::PERM | Errno::ROFS) => Failure::Unsupported {
            what: format!(
                "open {path}: its permissions forbid it, or it is none of the environment's own files"
            ),
            fix: "Look at it with a command inside, such as ls -l or cat.".to_owned(),
        },
        _ => failure::internal(&format!("opening {path}"), &error),
    }
}

/// `file_read`
pub(super) fn read(
    inside: &Inside<'_>,
    directory: &str,
    request: &FileRead,
) -> Result<FileContent, Failure> {
    let given = &request.path;
    let found = find(inside, given, &absolute(directory, given)?)?;
    let content = found
        .content(MOST_TEXT)
        .map_err(|error| refused(given, error))?;
    let Some(bytes) = content else {
        return Err(Failure::LimitReached {
            limit: format!("the size of a file that file_read takes ({given})"),
            value: format!("{MOST_TEXT} bytes; read a part with a command, such as head or sed"),
        });
    };
    let size_bytes = bytes.len() as u64;
    Ok(match String::from_utf8(bytes) {
        Ok(text) => {
            let first_line = request.first_line.max(1);
            let (content, total_lines, more) = file::lines(&text, first_line, request.lines);
            FileContent {
                path: given.clone(),
                content,
                encoding: Encoding::Utf8,
                first_line,
                total_lines,
                size_bytes,
                more,
            }
        }
        Err(error) => {
            let bytes = error.into_bytes();
            let shown = bytes.len().min(MOST_FILE_BYTES as usize);
            FileContent {
                path: given.clone(),
                content: STANDARD.encode(&bytes[..shown]),
                encoding: Encoding::Base64,
                first_line: 1,
                total_lines: 0,
                size_bytes,
                more: shown < bytes.len(),
            }
        }
    })
}

/// `file_write`
pub(super) fn write(
    inside: &Inside<'_>,
    directory: &str,
    request: &FileWrite,
) -> Result<FileWritten, Failure> {
    let bytes = match request.encoding {
        Encoding::Utf8 => request.content.clone().into_bytes(),
        Encoding::Base64 => {
            STANDARD
                .decode(&request.content)
                .map_err(|error| Failure::Invalid {
                    field: "content".to_owned(),
                    problem: error.to_string(),
                    expected: "base64, or encoding utf8 and the text itself".to_owned(),
                })?
        }
    };
    let given = &request.path;
    let path = absolute(directory, given)?;
    let created =
        put(inside, &path, &bytes, request.executable).map_err(|error| refused(given, error))?;
    Ok(FileWritten {
        path: given.clone(),
        size_bytes: bytes.len() as u64,
        created,
    })
}

/// Writes a file whole. Whether it is new.
fn put(
    inside: &Inside<'_>,
    path: &str,
    bytes: &[u8],
    executable: Option<bool>,
) -> io::Result<bool> {
    let (mut file, created) = match inside.find(path) {
        Ok(found) => (found.open_file(OFlags::WRONLY | OFlags::TRUNC)?, false),
        Err(Errno::NOENT) => match inside.make(path)? {
            Some(file) => (file, true),
            // Made meanwhile, or a link that leads nowhere.
            None => {
                let found = inside.find(path)?;
                (found.open_file(OFlags::WRONLY | OFlags::TRUNC)?, false)
            }
        },
        Err(error) => return Err(error.into()),
    };
    file.write_all(bytes)?;
    if let Some(executable) = executable {
        let mode = rustix::fs::fstat(&file)?.st_mode & 0o777;
        // Who may read it may execute it.
        let mode = match executable {
            true => mode | (mode & 0o444) >> 2,
            false => mode & !0o111,
        };
        fchmod(&file, Mode::from_raw_mode(mode))?;
    }
    Ok(created)
}

/// `file_edit`
pub(super) fn edit(
    inside: &Inside<'_>,
    directory: &str,
    request: &FileEdit,
) -> Result<FileEdited, Failure> {
    let given = &request.path;
    let path = absolute(directory, given)?;
    let content = find(inside, given, &path)?
        .content(MOST_TEXT)
        .map_err(|error| refused(given, error))?;
    let text = content.and_then(|bytes| String::from_utf8(bytes).ok());
    let Some(text) = text else {
        return Err(Failure::WrongKind {
            path: given.clone(),
            found: format!("file that is no text or has more than {MOST_TEXT} bytes"),
            expected: "text file".to_owned(),
        });
    };
    let (text, replaced) = file::edited(given, &text, &request.edits)?;
    put(inside, &path, text.as_bytes(), None).map_err(|error| refused(given, error))?;
    Ok(FileEdited {
        path: given.clone(),
        replaced,
        size_bytes: text.len() as u64,
    })
}

/// `file_list`
pub(super) fn list(
    inside: &Inside<'_>,
    directory: &str,
    request: &FileList,
) -> Result<FileEntries, Failure> {
    let given = &request.path;
    let found = find(inside, given, &absolute(directory, given)?)?;
    let mut entries = Vec::new();
    let mut more = false;
    let most = MOST_ENTRIES.min(request.limit as usize);
    found
        .walk(request.depth.clamp(1, DEPTH), &mut |met| {
            if entries.len() >= most {
                more = true;
                return Walk::Stop;
            }
            let kind = FileType::from_raw_mode(met.stat.st_mode);
            let level = met.path.matches('/').count() + 1;
            more |= kind.is_dir() && level == DEPTH as usize && request.depth > DEPTH;
            entries.push(FileEntry {
                path: met.path.to_owned(),
                kind: match kind {
                    FileType::RegularFile => FileKind::File,
                    FileType::Directory => FileKind::Directory,
                    FileType::Symlink => FileKind::Symlink,
                    _ => FileKind::Special,
                },
                size_bytes: kind.is_file().then(|| met.stat.st_size.unsigned_abs()),
                executable: kind.is_file() && met.stat.st_mode & 0o111 != 0,
                target: kind.is_symlink().then(|| met.target()).flatten(),
            });
            Walk::On
        })
        .map_err(|error| refused(given, error.into()))?;
    Ok(FileEntries {
        path: given.clone(),
        entries,
        more,
    })
}

/// What a search looks for, and what it has found.
pub(super) struct Search {
    pattern: Regex,
    limit: usize,
    matches: Vec<FileMatch>,
    more: bool,
    end: Instant,
}

impl Search {
    /// Nothing found yet.
    pub(super) fn new(request: &FileSearch) -> Result<Self, Failure> {
        let pattern = RegexBuilder::new(&request.pattern)
            .case_insensitive(request.ignore_case)
            .size_limit(MOST_PATTERN)
            .build()
            .map_err(|error| Failure::Invalid {
                field: "pattern".to_owned(),
                problem: error.to_string(),
                expected: "a regular expression without look-around or back-references".to_owned(),
            })?;
        Ok(Self {
            pattern,
            limit: request.limit as usize,
            matches: Vec::new(),
            more: false,
            end: Instant::now() + PATIENCE,
        })
    }

    /// Whether it has taken so long that it is given up.
    fn is_over(&mut self) -> bool {
        let over = Instant::now() > self.end;
        self.more |= over;
        over
    }

    /// Looks through a text, `first` being the number of its first line. Whether there is room for more.
    pub(super) fn look(&mut self, path: &str, first: u64, text: &str) -> bool {
        for (number, line) in (first..).zip(text.lines()) {
            if self.is_over() {
                return false;
            }
            let looked_at = &line[..line.floor_char_boundary(MOST_MATCHED)];
            self.more |= looked_at.len() < line.len();
            if !self.pattern.is_match(looked_at) {
                continue;
            }
            if self.matches.len() >= self.limit {
                self.more = true;
                return false;
            }
            self.matches.push(FileMatch {
                path: path.to_owned(),
                line: number,
                text: line[..line.floor_char_boundary(MOST_LINE)].to_owned(),
            });
        }
        true
    }

    pub(super) fn finish(self) -> FileMatches {
        FileMatches {
            matches: self.matches,
            more: self.more,
        }
    }
}

/// `file_search`, of files.
pub(super) fn search(
    inside: &Inside<'_>,
    directory: &str,
    request: &FileSearch,
) -> Result<FileMatches, Failure> {
    let given = &request.path;
    let found = find(inside, given, &absolute(directory, given)?)?;
    let mut search = Search::new(request)?;
    let glob = request.glob.as_deref().map(Pattern::parse).transpose();
    let glob = glob.map_err(|error| Failure::Invalid {
        field: "glob".to_owned(),
        problem: error.to_string(),
        expected: "a pattern such as **/*.rs".to_owned(),
    })?;
    if found.kind() == FileType::RegularFile {
        let content = found
            .content(MOST_TEXT)
            .map_err(|error| refused(given, error))?;
        if let Some(text) = content.as_deref().and_then(text) {
            search.look(given, 1, text);
        }
        return Ok(search.finish());
    }
    found
        .walk(DEPTH, &mut |met| {
            if search.is_over() {
                return Walk::Stop;
            }
            let kind = FileType::from_raw_mode(met.stat.st_mode);
            if kind.is_dir() {
                let own = met.path == ".git" || met.path.ends_with("/.git");
                return if own { Walk::Past } else { Walk::On };
            }
            let wanted = glob.as_ref().is_none_or(|glob| is_match(glob, met.path));
            if !kind.is_file() || !wanted {
                return Walk::On;
            }
            let content = met
                .found()
                .map_err(io::Error::from)
                .and_then(|found| found.content(MOST_TEXT));
            // What cannot be read, or is no text, has no line that matches.
            let content = content.ok().flatten();
            match content.as_deref().and_then(text) {
                Some(text) if !search.look(met.path, 1, text) => Walk::Stop,
                _ => Walk::On,
            }
        })
        .map_err(|error| refused(given, error.into()))?;
    Ok(search.finish())
}

fn text(bytes: &[u8]) -> Option<&str> {
    std::str::from_utf8(bytes).ok()
}

/// A pattern without a slash is about names, wherever they are.
fn is_match(glob: &Pattern, path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path);
    glob.matches(Path::new(path)) == Match::Yes || glob.matches(Path::new(name)) == Match::Yes
}
