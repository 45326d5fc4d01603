//! `envd init`: guesses what a project needs from the files it has, and says what it guessed and from what.
//!
//! A version that a project asks for becomes a constraint only where the channel can plausibly meet it; where it cannot,
//! the package is left unconstrained and the file says so. Nothing is run and nothing outside the project is read.

mod range;
mod signs;
mod suites;

use std::{fmt::Write as _, fs, io::Read as _, path::Path};

use range::Range;
pub use suites::Suite;

use crate::provider::Channel;

/// Bytes read of a file that is looked at.
const READ_MAX: u64 = 256 * 1024;

/// A package that the project seems to need.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Guess {
    /// Its name in the archive.
    pub package: String,
    /// What goes behind the @, if anything.
    pub constraint: Option<String>,
    /// Why it was guessed.
    pub why: String,
}

/// What was found in a project.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Detection {
    /// The channel that meets most of what is asked for.
    pub channel: Channel,
    /// Packages, in the order to write them. No name twice.
    pub guesses: Vec<Guess>,
    /// What was asked for and could not be met, and the choice of an older channel.
    pub notes: Vec<String>,
}

/// What one file asks for, before a channel is chosen.
struct Wish {
    package: &'static str,
    /// The language whose version a suite's table knows, and what is wanted of it.
    version: Option<(Language, Range)>,
    why: String,
}

/// Something whose version differs from suite to suite and is asked for by projects.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Language {
    /// python3
    Python,
    /// nodejs
    Node,
    /// golang-go
    Go,
    /// rustc and cargo
    Rust,
    /// ruby
    Ruby,
    /// php-cli
    Php,
    /// default-jdk
    Java,
}

/// Looks at the files of `root`. With `channel` that one is taken, else the newest stable that meets all versions asked for.
pub fn detect(root: &Path, channel: Option<Channel>) -> Detection {
    let wishes = signs::read_all(root);
    let meets_all = |suite: &Suite| {
        wishes.iter().all(|wish| match &wish.version {
            Some((language, range)) => range.allows(suite.version(*language)),
            None => true,
        })
    };
    let mut notes = Vec::new();
    let default = &suites::STABLE[0];
    let (channel, suite) = match channel {
        Some(channel) => {
            let suite = suites::STABLE.iter().find(|s| s.name == channel.suite);
            (channel, suite)
        }
        None => {
            let suite = suites::STABLE
                .iter()
                .find(|s| meets_all(s))
                .unwrap_or(default);
            if suite.name != default.name {
                notes.push(format!(
                    "{} is older than {}, and the newest that has every version this project asks for",
                    suite.name, default.name
                ));
            }
            (suite.channel(), Some(suite))
        }
    };
    let mut guesses: Vec<Guess> = Vec::new();
    for wish in wishes {
        let constraint = match (&wish.version, suite) {
            (Some((language, range)), Some(suite)) => {
                let has = suite.version(*language);
                if range.allows(has) {
                    range.constraint().and_then(|c| language.spelling(c))
                } else {
                    notes.push(format!(
                        "{} has {} {}, and {}: no constraint was written",
                        suite.name,
                        wish.package,
                        range::dotted(has),
                        wish.why,
                    ));
                    None
                }
            }
            _ => None,
        };
        match guesses.iter_mut().find(|g| g.package == wish.package) {
            Some(guess) => {
                // The first file to pin a version wins; a second one says the same or is weaker.
                if guess.constraint.is_none() && constraint.is_some() {
                    guess.constraint = constraint;
                    guess.why = wish.why;
                }
            }
            None => guesses.push(Guess {
                package: wish.package.to_owned(),
                constraint,
                why: wish.why,
            }),
        }
    }
    Detection {
        channel,
        guesses,
        notes,
    }
}

impl Detection {
    /// The text of an `envd.toml` that says all this.
    pub fn manifest(&self) -> String {
        let mut text = String::from(
            "# Written by `envd init`. Edit it as you like: `envd add NAME` keeps your comments.\n[env]\n",
        );
        for note in &self.notes {
            let _ = writeln!(text, "# {}", one_line(note));
        }
        let _ = writeln!(text, "channels = [\"{}\"]", self.channel);
        if self.guesses.is_empty() {
            text.push_str(
                "packages = [] # nothing was recognised here; `envd search WORD` finds packages\n",
            );
            return text;
        }
        text.push_str("packages = [\n");
        let width = self.guesses.iter().map(|g| g.requirement().len()).max();
        for guess in &self.guesses {
            let quoted = format!("\"{}\",", guess.requirement());
            let width = width.unwrap_or(0) + 3;
            let _ = writeln!(text, "    {quoted:width$} # {}", one_line(&guess.why));
        }
        text.push_str("]\n");
        text
    }
}

impl Guess {
    /// As it is written in the file.
    pub fn requirement(&self) -> String {
        match &self.constraint {
            Some(constraint) => format!("{}@{constraint}", self.package),
            None => self.package.clone(),
        }
    }
}

impl Language {
    /// A constraint as this language's packages need it.
    fn spelling(self, constraint: String) -> Option<String> {
        match self {
            // Its packages' versions are not Java's: default-jdk 2:1.21-76 is Java 21. The wish chooses the suite only.
            Self::Java => None,
            // Debian's Go is `2:1.24~2`, which sorts below 1.24; `1.24~` sorts below that.
            Self::Go if constraint.starts_with(">=") && !constraint.contains(',') => {
                Some(format!("{constraint}~"))
            }
            _ => Some(constraint),
        }
    }
}

/// Text of the project's files that is fit for a comment and for a terminal.
fn one_line(text: &str) -> String {
    let plain = |c: char| if c.is_control() { ' ' } else { c };
    text.chars().map(plain).take(200).collect()
}

/// The start of a regular file. A pipe or a device of that name would block or never end.
fn read(path: &Path) -> Option<String> {
    if !fs::metadata(path).ok()?.is_file() {
        return None;
    }
    let mut bytes = Vec::new();
    fs::File::open(path)
        .ok()?
        .take(READ_MAX)
        .read_to_end(&mut bytes)
        .ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Manifest, Source};

    /// What is guessed for a directory of these files.
    fn guessed(files: &[(&str, &str)]) -> Detection {
        let root = tempfile::tempdir().unwrap();
        for (name, content) in files {
            let path = root.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        let detection = detect(root.path(), None);
        let text = detection.manifest();
        let source = Source {
            path: "envd.toml".into(),
            text: text.as_str().into(),
        };
        let manifest = Manifest::parse(source).unwrap_or_else(|e| panic!("{text}\n{e}"));
        let written: Vec<&String> = manifest
            .environment
            .packages
            .iter()
            .map(|p| p.get_ref())
            .collect();
        let meant: Vec<String> = detection.guesses.iter().map(Guess::requirement).collect();
        assert_eq!(
            written,
            meant.iter().collect::<Vec<_>>(),
            "the file says what was guessed"
        );
        detection
    }

    fn packages(files: &[(&str, &str)]) -> Vec<String> {
        guessed(files)
            .guesses
            .iter()
            .map(Guess::requirement)
            .collect()
    }

    #[test]
    fn rust_by_its_manifest_and_toolchain_file() {
        let plain = ("Cargo.toml", "[package]\nname = \"x\"\n");
        assert_eq!(packages(&[plain]), ["cargo", "rustc", "ca-certificates"]);
        let versioned = ("Cargo.toml", "[package]\nrust-version = \"1.80\"\n");
        assert_eq!(
            packages(&[versioned]),
            ["cargo@>=1.80", "rustc@>=1.80", "ca-certificates"]
        );
        let toolchain = ("rust-toolchain.toml", "[toolchain]\nchannel = \"1.85.0\"\n");
        assert_eq!(
            packages(&[plain, toolchain])[..2],
            ["cargo@1.85", "rustc@1.85"]
        );
        assert_eq!(
            packages(&[plain, ("rust-toolchain", "1.85\n")])[..2],
            ["cargo@1.85", "rustc@1.85"]
        );
        assert_eq!(
            packages(&[plain, ("rust-toolchain", "nightly\n")])[..2],
            ["cargo", "rustc"]
        );
    }

    #[test]
    fn a_workspace_says_its_version_in_another_table() {
        let workspace = (
            "Cargo.toml",
            "[workspace.package]\nrust-version = \"1.70\"\n",
        );
        assert_eq!(packages(&[workspace])[0], "cargo@>=1.70");
    }

    #[test]
    fn python_by_each_of_its_files() {
        let project = (
            "pyproject.toml",
            "[project]\nrequires-python = \">=3.10,<4\"\n",
        );
        assert_eq!(
            packages(&[project]),
            ["python3@>=3.10,<4", "python3-venv", "python3-pip"]
        );
        assert_eq!(
            packages(&[(".python-version", "3.13.2\n")]),
            ["python3@3.13"]
        );
        assert_eq!(packages(&[("main.py", "print(1)")]), ["python3"]);
        assert_eq!(
            packages(&[("requirements.txt", "x")]),
            ["python3", "python3-venv", "python3-pip"]
        );
    }

    #[test]
    fn an_older_channel_is_taken_where_only_it_has_the_version() {
        let detection = guessed(&[(".python-version", "3.11")]);
        assert_eq!(detection.channel.to_string(), "debian:bookworm");
        assert_eq!(detection.guesses[0].requirement(), "python3@3.11");
        assert!(
            detection
                .manifest()
                .contains("# bookworm is older than trixie")
        );
    }

    #[test]
    fn a_version_that_no_channel_has_is_left_out_and_said() {
        let detection = guessed(&[(".python-version", "3.8.1\n")]);
        assert_eq!(detection.channel.to_string(), "debian:trixie");
        assert_eq!(detection.guesses[0].requirement(), "python3");
        let text = detection.manifest();
        assert!(
            text.contains("# trixie has python3 3.13, and .python-version says 3.8.1"),
            "{text}"
        );
    }

    #[test]
    fn node_by_engines_and_by_version_file() {
        let with = |engines: &str| {
            let json = format!("{{\"engines\": {{\"node\": \"{engines}\"}}}}");
            packages(&[("package.json", &json)])
        };
        assert_eq!(with(">=18"), ["nodejs@>=18", "npm"]);
        assert_eq!(with("^20.1"), ["nodejs@>=20.1,<21", "npm"]);
        assert_eq!(
            with("^18 || ^20 || >=22"),
            ["nodejs", "npm"],
            "alternatives are no constraint of ours"
        );
        assert_eq!(with("20.x"), ["nodejs@20", "npm"]);
        assert_eq!(
            packages(&[("package.json", "{}"), (".nvmrc", "v20\n")]),
            ["nodejs@20", "npm"]
        );
        assert_eq!(
            packages(&[("package.json", "{}"), (".nvmrc", "lts/*\n")]),
            ["nodejs", "npm"]
        );
        assert_eq!(packages(&[("package.json", "not json")]), ["nodejs", "npm"]);
    }

    #[test]
    fn go_with_the_tilde_that_debian_needs() {
        assert_eq!(
            packages(&[("go.mod", "module x\n\ngo 1.24\n")]),
            ["golang-go@>=1.24~", "ca-certificates"]
        );
        assert_eq!(
            packages(&[("go.mod", "module x\n")]),
            ["golang-go", "ca-certificates"]
        );
    }

    #[test]
    fn c_needs_its_headers_and_makefiles_need_make() {
        assert_eq!(
            packages(&[("Makefile", "all:"), ("src/main.c", "")]),
            ["make", "gcc", "libc6-dev"]
        );
        assert_eq!(packages(&[("a.cpp", "")]), ["g++"]);
        assert_eq!(
            packages(&[("CMakeLists.txt", "project(x LANGUAGES C)")]),
            ["cmake", "make", "gcc", "libc6-dev"]
        );
        assert_eq!(
            packages(&[("CMakeLists.txt", "project(x)")]),
            ["cmake", "make", "gcc", "libc6-dev", "g++"]
        );
        assert_eq!(
            packages(&[("meson.build", "project('x', 'c')")]),
            ["meson", "gcc", "libc6-dev"]
        );
    }

    #[test]
    fn ruby_php_java_and_a_tool_versions_file() {
        assert_eq!(
            packages(&[("Gemfile", "source 'x'\nruby \"~> 3.1\"\n")]),
            ["ruby@>=3.1,<4", "ruby-dev", "bundler"]
        );
        assert_eq!(
            packages(&[("composer.json", "{\"require\":{\"php\":\"^8.1\"}}")]),
            ["php-cli@>=8.1,<9", "composer"]
        );
        assert_eq!(
            packages(&[("pom.xml", "<project/>")]),
            ["maven", "default-jdk-headless"]
        );
        assert_eq!(
            packages(&[(
                ".tool-versions",
                "# ours\nnodejs 20.11.0\npython 3.13.0 # main\n"
            )]),
            ["nodejs@20", "python3@3.13"]
        );
    }

    #[test]
    fn nothing_recognised_is_said() {
        let detection = guessed(&[("README", "hello")]);
        assert!(
            detection
                .manifest()
                .contains("packages = [] # nothing was recognised")
        );
    }

    #[test]
    fn hostile_files_neither_block_nor_write_toml() {
        let root = tempfile::tempdir().unwrap();
        let pipe = root.path().join(".nvmrc");
        rustix::fs::mknodat(
            rustix::fs::CWD,
            &pipe,
            rustix::fs::FileType::Fifo,
            0o600.into(),
            0,
        )
        .unwrap();
        assert_eq!(detect(root.path(), None).guesses, []);
        let evil = (
            "package.json",
            "{\"engines\":{\"node\":\">=99\\n[env]\\npackages=[\\\"x\\\"]\"}}",
        );
        assert_eq!(packages(&[evil]), ["nodejs", "npm"]);
    }
}
