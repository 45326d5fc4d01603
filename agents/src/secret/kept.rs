//! Where a secret's value comes from, and what it may be used for.

use std::{
    ffi::{OsStr, OsString},
    fmt,
    io::{self, Read as _},
    os::unix::ffi::OsStringExt as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use zeroize::Zeroizing;

use super::Secret;
use crate::egress::HostName;

/// The longest value, in bytes: far below what a variable of a command's environment can have (execve(2)), and enough for keys.
const LONGEST: usize = 16 * 1024;
/// The shortest value. What is shorter cannot be told from ordinary text when it is to be taken out of an output.
const SHORTEST: usize = 8;
/// How long a command has to print a value. It may ask a person.
const PATIENCE: Duration = Duration::from_secs(60);

/// A secret as the user keeps it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Kept {
    /// Where its value comes from.
    pub origin: Origin,
    /// The header that the proxy makes of it. Without one it is for commands.
    pub header: Option<Header>,
}

/// Where a value comes from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Origin {
    /// An environment variable of whoever starts the server.
    Variable(String),
    /// A file. Absolute.
    File(PathBuf),
    /// What a command prints. Its first word is looked up in the PATH.
    Command(Vec<String>),
}

/// A header of requests to one host.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Header {
    /// The host.
    pub host: HostName,
    /// The port that clients inside ask for.
    pub port: u16,
    /// The header's name.
    pub name: String,
    /// What comes before the value.
    pub before: String,
    /// What comes after the value.
    pub after: String,
    /// Whether the proxy speaks TLS to the host.
    pub upgrade: bool,
}

/// A text that is no header with a place for a value.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{0:?} is no header with a place for the value, such as \"Authorization: Bearer {{}}\"")]
pub struct HeaderError(String);

impl Header {
    /// Reads `NAME: TEXT {} TEXT`.
    pub fn parse(
        text: &str,
        host: HostName,
        port: u16,
        upgrade: bool,
    ) -> Result<Self, HeaderError> {
        let wrong = || HeaderError(text.to_owned());
        let (name, value) = text.split_once(':').ok_or_else(wrong)?;
        let (before, after) = value.trim().split_once("{}").ok_or_else(wrong)?;
        let header = Self {
            host,
            port,
            name: name.to_owned(),
            before: before.to_owned(),
            after: after.to_owned(),
            upgrade,
        };
        // A value that can be anywhere shows that the rest is as it must be.
        let sample = Secret::new("x");
        crate::egress::SecretHeader::of(&header, &sample).map_err(|_| wrong())?;
        Ok(header)
    }
}

impl fmt::Display for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.origin {
            Origin::Variable(name) => write!(f, "the variable {name}")?,
            Origin::File(path) => write!(f, "the file {}", path.display())?,
            Origin::Command(words) => write!(f, "what `{}` prints", words.join(" "))?,
        }
        let Some(header) = &self.header else {
            return Ok(());
        };
        let scheme = if header.upgrade {
            "https"
        } else {
            "http, in the clear"
        };
        write!(f, ", as {} to {}", header.name, header.host)?;
        if header.port != 80 {
            write!(f, ":{}", header.port)?;
        }
        write!(f, " ({scheme})")
    }
}

/// Why a value cannot be had. It is not repeated.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The variable is not set.
    #[error("the variable {0} is not set where the server was started")]
    Unset(String),
    /// The file cannot be read.
    #[error("cannot read {}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The command cannot be run.
    #[error("cannot run {program}")]
    Command {
        /// Its program.
        program: String,
        /// Why.
        source: io::Error,
    },
    /// The command failed.
    #[error("{program} failed ({status})")]
    Failed {
        /// Its program.
        program: String,
        /// How it ended.
        status: String,
    },
    /// No secret can have this value.
    #[error(
        "its value has {0} bytes; it must have {SHORTEST} to {LONGEST}, or it could not be told from ordinary text"
    )]
    Length(usize),
    /// No variable can have this value.
    #[error("its value has a NUL character")]
    Nul,
    /// No header can have this value.
    #[error("its value has characters that a header cannot have")]
    NotAHeader,
}

impl Kept {
    /// Reads the value: one line break at its end is not part of it. Blocks, as long as a command takes that asks a person.
    pub fn read<'v>(
        &self,
        variable: impl Fn(&str) -> Option<&'v OsStr>,
        directory: &Path,
    ) -> Result<Secret, ReadError> {
        let mut bytes = match &self.origin {
            Origin::Variable(name) => {
                let value = variable(name).ok_or_else(|| ReadError::Unset(name.clone()))?;
                Zeroizing::new(OsString::into_vec(value.to_owned()))
            }
            Origin::File(path) => {
                let cannot = |source| ReadError::File {
                    path: path.clone(),
                    source,
                };
                bounded(std::fs::File::open(path).map_err(cannot)?).map_err(cannot)?
            }
            Origin::Command(words) => printed(words, directory)?,
        };
        if !matches!(self.origin, Origin::Variable(_)) && bytes.ends_with(b"\n") {
            bytes.pop();
            if bytes.ends_with(b"\r") {
                bytes.pop();
            }
        }
        if !(SHORTEST..=LONGEST).contains(&bytes.len()) {
            return Err(ReadError::Length(bytes.len()));
        }
        if bytes.contains(&0) {
            return Err(ReadError::Nul);
        }
        Ok(Secret(bytes))
    }
}

fn bounded(from: impl io::Read) -> io::Result<Zeroizing<Vec<u8>>> {
    // All at once: a vector that grows leaves copies behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(LONGEST + 3));
    from.take(LONGEST as u64 + 3).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn printed(words: &[String], directory: &Path) -> Result<Zeroizing<Vec<u8>>, ReadError> {
    let program = words.first().cloned().unwrap_or_default();
    let cannot = |source| ReadError::Command {
        program: program.clone(),
        source,
    };
    let mut child = Command::new(&program)
        .args(words.get(1..).unwrap_or_default())
        .current_dir(directory)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .map_err(cannot)?;
    let output = child.stdout.take();
    // Read beside waiting, so that neither can hold up the other for longer than its time.
    let (sender, receiver) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let _ = sender.send(output.map(bounded));
    });
    let read = receiver.recv_timeout(PATIENCE);
    if read.is_err() {
        let _ = child.kill();
    }
    let status = child.wait().map_err(cannot)?;
    let bytes = match read {
        Ok(Some(bytes)) => bytes.map_err(cannot)?,
        Ok(None) => Zeroizing::new(Vec::new()),
        Err(_) => {
            return Err(ReadError::Failed {
                program,
                status: format!("no answer in {} s", PATIENCE.as_secs()),
            });
        }
    };
    if !status.success() {
        let status = status.to_string();
        return Err(ReadError::Failed { program, status });
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(origin: Origin) -> Result<Secret, ReadError> {
        let kept = Kept {
            origin,
            header: None,
        };
        let variable = |name: &str| match name {
            "SET" => Some(OsStr::new("hush hush\n")),
            "SHORT" => Some(OsStr::new("hush")),
            _ => None,
        };
        kept.read(variable, Path::new("/"))
    }

    fn command(words: &[&str]) -> Result<Secret, ReadError> {
        read(Origin::Command(
            words.iter().map(|&word| word.to_owned()).collect(),
        ))
    }

    #[test]
    fn a_value_comes_from_where_the_user_keeps_it() {
        let variable = |name: &str| read(Origin::Variable(name.to_owned()));
        assert_eq!(variable("SET").unwrap().reveal(), b"hush hush\n");
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("token");
        std::fs::write(&file, "from a file\r\n").unwrap();
        assert_eq!(read(Origin::File(file)).unwrap().reveal(), b"from a file");
        assert_eq!(
            command(&["printf", "from a command\n\n"]).unwrap().reveal(),
            b"from a command\n"
        );
    }

    #[test]
    fn what_cannot_be_a_secret_is_refused_without_being_repeated() {
        let directory = tempfile::tempdir().unwrap();
        let large = directory.path().join("large");
        std::fs::write(&large, vec![b'x'; LONGEST + 10]).unwrap();
        for (result, part) in [
            (
                read(Origin::Variable("UNSET".to_owned())),
                "UNSET is not set",
            ),
            (read(Origin::Variable("SHORT".to_owned())), "4 bytes"),
            (read(Origin::File(large)), "bytes"),
            (read(Origin::File("/nonexistent".into())), "/nonexistent"),
            (command(&["printf", "hush\\0hush"]), "NUL"),
            (
                command(&["sh", "-c", "echo hush hush; exit 3"]),
                "exit status: 3",
            ),
            (command(&["no-such-program"]), "no-such-program"),
        ] {
            let error = result.unwrap_err();
            assert!(error.to_string().contains(part), "{error}");
            assert!(!format!("{error:?}").contains("hush"), "{error:?}");
        }
    }

    #[test]
    fn a_header_has_one_place_for_the_value_and_a_usable_name() {
        let host: HostName = "api.example.org".parse().unwrap();
        let parse = |text| Header::parse(text, host.clone(), 80, true);
        let header = parse("Authorization: Bearer {}").unwrap();
        assert_eq!(
            (&*header.name, &*header.before, &*header.after),
            ("Authorization", "Bearer ", "")
        );
        for text in [
            "Authorization",
            "Authorization: x",
            ": {}",
            "Host: {}",
            "a b: {}",
            "A: x\r\n{}",
        ] {
            assert!(parse(text).is_err(), "{text:?}");
        }
    }
}
