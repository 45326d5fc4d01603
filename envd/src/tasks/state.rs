//! What is remembered of tasks: `STATE.md` beside this file has the format.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs, io,
    io::Write as _,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use envd_supervision::Name;

use super::key::Record;

const VERSION: &str = "envd-tasks 1";
/// Bytes of a file that are read: far more than any project has tasks.
const SIZE_MAX: u64 = 16 * 1024 * 1024;

/// The records of the tasks that have succeeded.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct State {
    pub records: BTreeMap<Name, Record>,
}

impl State {
    /// What a file remembers. One that is not there or not whole remembers nothing.
    pub fn load(path: &Path) -> io::Result<Self> {
        let text = match fs::File::open(path) {
            Ok(file) => {
                let mut text = Vec::new();
                io::Read::read_to_end(&mut io::Read::take(file, SIZE_MAX), &mut text)?;
                text
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(error),
        };
        let text = String::from_utf8(text).ok();
        Ok(text.and_then(|text| Self::parse(&text)).unwrap_or_default())
    }

    /// Replaces a file.
    pub fn save(&self, path: &Path) -> io::Result<()> {
        let mut new = path.as_os_str().to_owned();
        new.push(format!(".{}", std::process::id()));
        let new = PathBuf::from(new);
        let mut options = fs::OpenOptions::new();
        options.write(true).create(true).truncate(true).mode(0o600);
        let written = options
            .open(&new)
            .and_then(|mut file| file.write_all(self.text().as_bytes()))
            .and_then(|()| fs::rename(&new, path));
        if written.is_err() {
            let _ = fs::remove_file(&new);
        }
        written
    }

    fn parse(text: &str) -> Option<Self> {
        let mut lines = text.strip_suffix('\n')?.split('\n');
        if lines.next() != Some(VERSION) {
            return None;
        }
        let mut records = BTreeMap::new();
        for line in lines {
            let mut words = line.split(' ');
            let name: Name = words.next()?.parse().ok()?;
            let mut digest = || words.next()?.parse().ok();
            let record = Record {
                definition: digest()?,
                lock: digest()?,
                needs: digest()?,
                inputs: digest()?,
            };
            let is_next = records
                .last_key_value()
                .is_none_or(|(last, _)| *last < name);
            if words.next().is_some() || !is_next {
                return None;
            }
            records.insert(name, record);
        }
        Some(Self { records })
    }

    fn text(&self) -> String {
        let mut text = format!("{VERSION}\n");
        for (name, record) in &self.records {
            let [definition, lock, needs, inputs] = record.parts();
            // Writing to a string does not fail.
            let _ = writeln!(text, "{name} {definition} {lock} {needs} {inputs}");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use envd_store::Digest;
    use proptest::prelude::*;

    use super::*;

    fn state(names: &[&str]) -> State {
        let record = |seed: &str| Record {
            definition: Digest::of(seed.as_bytes()),
            lock: Digest::of(b"lock"),
            needs: Digest::of(b"needs"),
            inputs: Digest::of(b"inputs"),
        };
        State {
            records: names
                .iter()
                .map(|name| (name.parse().unwrap(), record(name)))
                .collect(),
        }
    }

    #[test]
    fn the_format_is_as_its_specification_says() {
        let golden = include_str!("golden-v1.txt");
        assert_eq!(state(&["build", "test"]).text(), golden);
        assert_eq!(State::parse(golden).unwrap(), state(&["build", "test"]));
    }

    #[test]
    fn what_is_not_whole_is_nothing() {
        let golden = include_str!("golden-v1.txt");
        // Whole lines that are missing cannot be seen, and mean only that tasks run again.
        for length in 1..golden.len() {
            let part = &golden[..length];
            assert!(
                State::parse(part).is_none() || part.ends_with('\n'),
                "{part:?}"
            );
        }
        for other in [
            "",
            "envd-tasks 2\n",
            "envd-tasks 1\nx\n",
            "envd-tasks 1\n\n",
        ] {
            assert!(State::parse(other).is_none(), "{other:?}");
        }
        let twice = format!("{golden}{}\n", golden.lines().nth(1).unwrap());
        assert!(State::parse(&twice).is_none());
    }

    #[test]
    fn a_file_is_replaced_whole() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("tasks");
        assert_eq!(State::load(&path).unwrap(), State::default());
        state(&["a"]).save(&path).unwrap();
        state(&["b"]).save(&path).unwrap();
        assert_eq!(State::load(&path).unwrap(), state(&["b"]));
        fs::write(&path, [0xff; 10]).unwrap();
        assert_eq!(State::load(&path).unwrap(), State::default());
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }

    proptest! {
        #[test]
        fn any_text_is_answered(text in ".{0,200}") {
            let _ = State::parse(&format!("{VERSION}\n{text}\n"));
        }
    }
}
