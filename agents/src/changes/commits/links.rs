//! Commits of submodules that commits of their superproject record (gitmodules(5), "gitlinks").

use std::{
    collections::BTreeSet,
    fs::File,
    io::{BufRead, BufReader},
    process::{ChildStdout, Command, Stdio},
};

use envd_store::TreePath;

use super::{CommitsError, ObjectName, Repository, Taken, failed, listen};

/// Such commits that are looked at.
const MOST_LINKS: usize = 10_000;
/// The mode of an entry that is one.
const LINK: &str = "160000";

/// A submodule's place and the commit that is recorded for it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Link {
    pub(super) path: TreePath,
    pub(super) commit: ObjectName,
}

impl Repository {
    /// Those of the last commit that was taken which are new with what was taken: a merge makes none new.
    pub(super) fn links(&self, taken: &Taken) -> Result<Vec<Link>, CommitsError> {
        if taken.commits.is_empty() {
            return Ok(Vec::new());
        }
        let list = taken.place.join("commits");
        let lines: String = taken
            .commits
            .iter()
            .map(|name| format!("{name}\n"))
            .collect();
        std::fs::write(&list, lines).map_err(failed("write down what is new"))?;
        let input = File::open(&list).map_err(failed("read what is new"))?;
        let words = [
            "diff-tree",
            "--stdin",
            "-r",
            "-c",
            "--root",
            "--raw",
            "-z",
            "--no-abbrev",
            "--no-commit-id",
            "--no-renames",
            "--ignore-submodules=none",
        ];
        let mut asked = self.git_at(&taken.place);
        let new = collect(asked.args(words), input.into(), differing)?;
        if new.is_empty() {
            return Ok(Vec::new());
        }
        let words = ["ls-tree", "-r", "-z", "--full-tree", &taken.tip.0];
        let mut asked = self.git_at(&taken.place);
        let there = collect(asked.args(words), Stdio::null(), standing)?;
        Ok(new.intersection(&there).cloned().collect())
    }
}

/// What `read` makes of what git prints, piece by piece.
fn collect(
    command: &mut Command,
    input: Stdio,
    read: fn(&mut Pieces<BufReader<ChildStdout>>) -> BTreeSet<Link>,
) -> Result<BTreeSet<Link>, CommitsError> {
    let found = listen(command, input, |printed| {
        let mut pieces = Pieces(printed.map(BufReader::new));
        let found = read(&mut pieces);
        // What is not heard out is stopped.
        while pieces.next().is_some() {}
        found
    })?;
    match found.len() > MOST_LINKS {
        true => Err(CommitsError::TooMany {
            what: "new commits of submodules",
            limit: MOST_LINKS as u64,
        }),
        false => Ok(found),
    }
}

/// What ends with a NUL.
struct Pieces<R>(Option<R>);

impl<R: BufRead> Iterator for Pieces<R> {
    type Item = Vec<u8>;

    fn next(&mut self) -> Option<Vec<u8>> {
        let mut piece = Vec::new();
        let read = self.0.as_mut()?.read_until(0, &mut piece);
        read.ok().filter(|count| *count > 0)?;
        piece.pop_if(|last| *last == 0);
        Some(piece)
    }
}

fn link(mode: &str, commit: &str, path: &[u8]) -> Option<Link> {
    let path = TreePath::new(path).ok()?;
    let commit = commit.parse().ok()?;
    (mode == LINK).then_some(Link { path, commit })
}

/// diff-tree(1): modes of all sides and of what they became, names of the same, and letters; then the path, a piece of its own.
fn differing<R: BufRead>(pieces: &mut Pieces<R>) -> BTreeSet<Link> {
    let mut found = BTreeSet::new();
    while let (Some(words), Some(path)) = (pieces.next(), pieces.next()) {
        let words = String::from_utf8_lossy(&words);
        let words: Vec<&str> = words.trim_start_matches(':').split(' ').collect();
        let sides = words.len() / 2;
        let mode = words
            .get(sides.wrapping_sub(1))
            .copied()
            .unwrap_or_default();
        let commit = words.iter().rev().nth(1).copied().unwrap_or_default();
        found.extend(link(mode, commit, &path).filter(|_| found.len() <= MOST_LINKS));
    }
    found
}

/// ls-tree(1): mode, type and name, a tab, and the path.
fn standing<R: BufRead>(pieces: &mut Pieces<R>) -> BTreeSet<Link> {
    let read = |piece: Vec<u8>| {
        let tab = piece.iter().position(|byte| *byte == b'\t')?;
        let (words, path) = piece.split_at(tab);
        let words = std::str::from_utf8(words).ok()?;
        let (mode, commit) = (words.split(' ').next()?, words.rsplit(' ').next()?);
        link(mode, commit, &path[1..])
    };
    pieces.filter_map(read).take(MOST_LINKS + 1).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAMES: [&str; 3] = [
        "1111111111111111111111111111111111111111",
        "2222222222222222222222222222222222222222",
        "3333333333333333333333333333333333333333",
    ];

    fn told(found: &BTreeSet<Link>) -> Vec<(String, String)> {
        let told = |link: &Link| {
            (
                crate::changes::escape::name(link.path.as_bytes()),
                link.commit.to_string(),
            )
        };
        found.iter().map(told).collect()
    }

    #[test]
    fn links_are_told_from_files_in_all_that_git_prints() {
        let [one, two, three] = NAMES;
        let printed = format!(
            ":100644 160000 {one} {two} T\0lib\0:160000 100644 {one} {two} T\0file\0160000 160000 {two} {three} M\0a b\nc\0\
             ::160000 160000 160000 {one} {two} {three} MM\0merged\0::100644 100644 100644 {one} {two} {three} MM\0no\0\
             :160000 000000 {one} {two} D\0gone\0nonsense\0x\0\0y\0:160000 160000 {one} short M\0z\0"
        );
        let found = differing(&mut Pieces(Some(printed.as_bytes())));
        let expected = [("\"a b\\nc\"", three), ("lib", two), ("merged", three)];
        assert_eq!(
            told(&found),
            expected.map(|(path, name)| (path.to_owned(), name.to_owned()))
        );

        let printed = format!(
            "100644 blob {one}\tfile\0160000 commit {two}\tlib\0160000 commit {three}\t../up\0160000\0\0160000 commit\tx\0"
        );
        let found = standing(&mut Pieces(Some(printed.as_bytes())));
        assert_eq!(told(&found), [("lib".to_owned(), two.to_owned())]);
    }
}
