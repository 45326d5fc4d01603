//! Files of an environment, seen from inside it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{CommandId, EnvironmentId, Failure};

/// How a content is written in JSON.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Encoding {
    /// As text.
    #[default]
    Utf8,
    /// As base64, for what is no text.
    Base64,
}

/// Read a file.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FileRead {
    /// The environment.
    pub environment: EnvironmentId,
    /// Absolute, or relative to the environment's directory.
    pub path: String,
    /// First line to read, from 1.
    #[serde(default = "first")]
    pub first_line: u64,
    /// Most lines to read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lines: Option<u64>,
}

fn first() -> u64 {
    1
}

/// Most bytes of a file in one answer.
pub const MOST_FILE_BYTES: u64 = 256 * 1024;

/// What is in a file.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct FileContent {
    /// The file.
    pub path: String,
    /// Its content, or the lines that were asked for.
    pub content: String,
    /// How the content is written here: base64 when the file is not UTF-8.
    pub encoding: Encoding,
    /// The line with which the content begins, from 1.
    pub first_line: u64,
    /// Lines in the file; 0 when it is no text.
    pub total_lines: u64,
    /// Bytes in the file.
    pub size_bytes: u64,
    /// Whether there is more after the content.
    pub more: bool,
}

/// Write a file whole.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FileWrite {
    /// The environment.
    pub environment: EnvironmentId,
    /// Absolute, or relative to the environment's directory. Directories above are made.
    pub path: String,
    /// The whole new content.
    pub content: String,
    /// How the content is written here.
    #[serde(default)]
    pub encoding: Encoding,
    /// Whether the file is to be executable. Left out: as it is, or not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub executable: Option<bool>,
}

/// A file that was written.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct FileWritten {
    /// The file.
    pub path: String,
    /// Bytes in it now.
    pub size_bytes: u64,
    /// Whether it is new.
    pub created: bool,
}

/// One replacement in a text.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Edit {
    /// The text to replace, exactly as it is in the file, with enough around it to be there once.
    pub old: String,
    /// What to put there.
    pub new: String,
    /// Whether every occurrence is to be replaced.
    #[serde(default)]
    pub all: bool,
}

/// Replace text in a file. All edits are made, in order, or none.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FileEdit {
    /// The environment.
    pub environment: EnvironmentId,
    /// Absolute, or relative to the environment's directory.
    pub path: String,
    /// The replacements.
    pub edits: Vec<Edit>,
}

/// A file that was edited.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct FileEdited {
    /// The file.
    pub path: String,
    /// How many places were replaced.
    pub replaced: u64,
    /// Bytes in it now.
    pub size_bytes: u64,
}

/// Makes all edits in order; returns the new text and how many places were replaced.
pub fn edited(path: &str, text: &str, edits: &[Edit]) -> Result<(String, u64), Failure> {
    let mut text = text.to_owned();
    let mut replaced = 0;
    for (index, edit) in edits.iter().enumerate() {
        if edit.old.is_empty() {
            return Err(Failure::Invalid {
                field: "edits".to_owned(),
                problem: format!("the old text of edit {} is empty", index + 1),
                expected: "the text to replace, or use file_write for a whole file".to_owned(),
            });
        }
        let found = text.matches(&edit.old).count();
        if found == 0 || (found > 1 && !edit.all) {
            return Err(Failure::EditMismatch {
                path: path.to_owned(),
                edit: index + 1,
                found,
            });
        }
        text = text.replace(&edit.old, &edit.new);
        replaced += found as u64;
    }
    Ok((text, replaced))
}

/// The lines that were asked for, cut at [`MOST_FILE_BYTES`]: content, lines in all, whether there is more.
pub fn lines(text: &str, first_line: u64, count: Option<u64>) -> (String, u64, bool) {
    let all: Vec<&str> = text.split_inclusive('\n').collect();
    let total = all.len() as u64;
    let skip = first_line.saturating_sub(1);
    let mut content = String::new();
    let mut taken = 0;
    for line in all.iter().skip(usize::try_from(skip).unwrap_or(usize::MAX)) {
        if count.is_some_and(|count| taken >= count) {
            break;
        }
        if content.len() + line.len() > MOST_FILE_BYTES as usize {
            // A single line longer than an answer: its beginning is better than nothing.
            if content.is_empty() {
                let mut end = MOST_FILE_BYTES as usize;
                while !line.is_char_boundary(end) {
                    end -= 1;
                }
                content.push_str(&line[..end]);
            }
            return (content, total, true);
        }
        content.push_str(line);
        taken += 1;
    }
    (content, total, skip.saturating_add(taken) < total)
}

/// List a directory.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FileList {
    /// The environment.
    pub environment: EnvironmentId,
    /// Absolute, or relative to the environment's directory, which is the default.
    #[serde(default = "here")]
    pub path: String,
    /// How many levels deep, 1 unless stated, 64 at most.
    #[serde(default = "one_level")]
    pub depth: u32,
    /// Most entries in the answer.
    #[serde(default = "many")]
    pub limit: u32,
}

fn here() -> String {
    ".".to_owned()
}

fn one_level() -> u32 {
    1
}

fn many() -> u32 {
    1000
}

/// What a path is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum FileKind {
    /// A file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink,
    /// A pipe, socket or device.
    Special,
}

/// One entry of a directory.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct FileEntry {
    /// Its path below the listed directory.
    pub path: String,
    /// What it is.
    pub kind: FileKind,
    /// Bytes in it, for a file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size_bytes: Option<u64>,
    /// Whether it can be executed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub executable: bool,
    /// Where a symbolic link points.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
}

/// A directory's entries, sorted by path.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct FileEntries {
    /// The directory.
    pub path: String,
    /// Its entries.
    pub entries: Vec<FileEntry>,
    /// Whether there are more than the limit.
    pub more: bool,
}

/// Search files, or the kept output of a command, for a regular expression.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FileSearch {
    /// The environment.
    pub environment: EnvironmentId,
    /// A regular expression, matched in each line; in a very long line only in its beginning.
    pub pattern: String,
    /// File or directory to search, absolute or relative to the environment's directory, which is the default.
    #[serde(default = "here")]
    pub path: String,
    /// Only files whose path matches this, for instance `**/*.rs`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub glob: Option<String>,
    /// Searches the kept output of this command instead of files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<CommandId>,
    /// Whether capitals and small letters are the same.
    #[serde(default)]
    pub ignore_case: bool,
    /// Most matches in the answer.
    #[serde(default = "hundred")]
    pub limit: u32,
}

fn hundred() -> u32 {
    100
}

/// A line that matches.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct FileMatch {
    /// The file, or `stdout` or `stderr`.
    pub path: String,
    /// The line's number, from 1.
    pub line: u64,
    /// The line, cut when it is very long.
    pub text: String,
}

/// Lines that match.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct FileMatches {
    /// The matches.
    pub matches: Vec<FileMatch>,
    /// Whether there are more than the limit.
    pub more: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn edit(old: &str, new: &str, all: bool) -> Edit {
        Edit {
            old: old.to_owned(),
            new: new.to_owned(),
            all,
        }
    }

    #[test]
    fn edits_follow_one_another() {
        let edits = [edit("one", "two", false), edit("two", "three", true)];
        assert_eq!(
            edited("f", "one two", &edits),
            Ok(("three three".to_owned(), 3))
        );
    }

    #[test]
    fn an_ambiguous_edit_changes_nothing_and_says_how_often() {
        let failure = edited("f", "a a", &[edit("a", "b", false)]).expect_err("twice there");
        assert!(matches!(
            failure,
            Failure::EditMismatch {
                found: 2,
                edit: 1,
                ..
            }
        ));
    }

    #[test]
    fn an_empty_old_text_is_refused() {
        assert!(edited("f", "abc", &[edit("", "x", true)]).is_err());
    }

    #[test]
    fn lines_are_counted_from_one_and_more_is_said() {
        let text = "a\nb\nc";
        assert_eq!(lines(text, 1, None), ("a\nb\nc".to_owned(), 3, false));
        assert_eq!(lines(text, 2, Some(1)), ("b\n".to_owned(), 3, true));
        assert_eq!(lines(text, 9, None), (String::new(), 3, false));
    }

    #[test]
    fn a_line_longer_than_an_answer_is_cut_and_said() {
        let long = "€".repeat(200_000);
        let (content, total, more) = lines(&long, 1, None);
        assert!(content.len() as u64 <= MOST_FILE_BYTES && !content.is_empty());
        assert_eq!((total, more), (1, true));
    }
}
