//! Changes as people and programs read them: one report, printed as a unified diff or as JSON.
//!
//! What is shown of the session's files is what was judged: each content is checked against the digest in the list of
//! changes, and a file that has changed since is shown as that.

use std::{
    fmt::Write,
    time::{Duration, Instant},
};

use schemars::JsonSchema;
use serde::Serialize;

use super::{
    Change, ChangeKind, Changes, Kind, Layers, Stamp, State, escape,
    hunks::{self, Bounds, Difference, Hunk},
    spread::each,
};

/// Files whose lines are looked for at once. What all of them show may be in memory beyond what is kept.
const BATCH: usize = 256;

const TOO_LONG: &str = "left out because the whole is too long";

/// How much a report shows.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Rendering {
    /// Unchanged lines around changed ones.
    pub context: usize,
    /// Files; the others are counted.
    pub files: usize,
    /// Bytes of the largest file whose lines are shown.
    pub file: u64,
    /// Lines of one file.
    pub lines: usize,
    /// Bytes of all lines together.
    pub bytes: usize,
    /// How long one file's shortest difference is looked for. After that any will do.
    pub effort: Duration,
    /// The same for all files together.
    pub whole_effort: Duration,
}

impl Default for Rendering {
    fn default() -> Self {
        Self {
            context: 3,
            files: 20_000,
            file: 1 << 20,
            lines: 2000,
            bytes: 4 << 20,
            effort: Duration::from_millis(100),
            whole_effort: Duration::from_secs(3),
        }
    }
}

/// All changes, as they are shown.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, JsonSchema)]
pub struct Report {
    /// Sorted by path.
    pub files: Vec<FileReport>,
    /// Files that are not among them because there are too many.
    #[serde(skip_serializing_if = "is_zero")]
    pub more_files: usize,
    /// What could not be judged, with the reason.
    pub skipped: Vec<SkippedReport>,
    /// Git's own directories that were not looked into.
    pub left_out: Vec<String>,
    /// Lines that only the session has, of all texts.
    pub added_lines: usize,
    /// Lines that only the project has.
    pub deleted_lines: usize,
}

/// One change.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, JsonSchema)]
pub struct FileReport {
    /// Where: as it is when plain, else in double quotes with C escapes, as git writes it.
    pub path: String,
    /// In which way it differs.
    pub change: ChangeKind,
    /// What the project has.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub old: Option<SideReport>,
    /// What the session has.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub new: Option<SideReport>,
    /// Whether either side is no text.
    pub binary: bool,
    /// Lines that only the session has.
    pub added_lines: usize,
    /// Lines that only the project has.
    pub deleted_lines: usize,
    /// The changed lines. None of binary files, directories and what is too large.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub hunks: Vec<Hunk>,
    /// Lines that are not shown because there are too many.
    #[serde(skip_serializing_if = "is_zero")]
    pub left_out_lines: usize,
    /// Whether control characters are shown as visible signs.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub escaped: bool,
    /// Why no lines are shown where one would expect some.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<&'static str>,
}

/// One side of a change.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, JsonSchema)]
pub struct SideReport {
    /// Its type.
    pub kind: Kind,
    /// Permission bits in octal.
    pub mode: String,
    /// Bytes of a file.
    pub size: u64,
    /// Where a symbolic link points, written as paths are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
}

/// A path that could not be judged.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, JsonSchema)]
pub struct SkippedReport {
    /// Where.
    pub path: String,
    /// Why.
    pub reason: String,
}

fn is_zero(count: &usize) -> bool {
    *count == 0
}

impl From<&State> for SideReport {
    fn from(state: &State) -> Self {
        Self {
            kind: state.kind,
            mode: format!("{:04o}", state.mode),
            size: state.size,
            target: state.target.as_deref().map(escape::name),
        }
    }
}

impl Layers {
    /// Reads what is needed to show `changes`, which must be those of these layers.
    pub fn report(&self, changes: &Changes, rendering: &Rendering) -> Report {
        let count = changes.entries.len().min(rendering.files);
        let (shown, more) = changes.entries.split_at(count);
        let mut report = Report {
            files: Vec::with_capacity(count),
            more_files: more.len(),
            skipped: Vec::new(),
            left_out: Vec::new(),
            added_lines: 0,
            deleted_lines: 0,
        };
        let mut bytes = rendering.bytes;
        let end = Instant::now().checked_add(rendering.whole_effort);
        for batch in shown.chunks(BATCH) {
            let allowed = bytes;
            for mut shown in each(batch, |change| self.file(change, rendering, allowed, end)) {
                let length = shown.length();
                if length > bytes {
                    shown.hunks.clear();
                    shown.note = Some(TOO_LONG);
                } else {
                    bytes -= length;
                }
                report.added_lines += shown.added_lines;
                report.deleted_lines += shown.deleted_lines;
                report.files.push(shown);
            }
        }
        report
            .skipped
            .extend(changes.skipped.iter().map(|skipped| SkippedReport {
                path: escape::name(skipped.path.as_bytes()),
                reason: skipped.reason.to_string(),
            }));
        let left_out = changes.left_out.iter();
        report
            .left_out
            .extend(left_out.map(|path| escape::name(path.as_bytes())));
        report
    }

    fn file(
        &self,
        change: &Change,
        rendering: &Rendering,
        bytes: usize,
        end: Option<Instant>,
    ) -> FileReport {
        let side = |state: &Option<State>| state.as_ref().map(SideReport::from);
        let mut shown = FileReport {
            path: escape::name(change.path.as_bytes()),
            change: change.kind,
            old: side(&change.old),
            new: side(&change.new),
            binary: [&change.old, &change.new]
                .into_iter()
                .flatten()
                .any(|state| state.binary),
            added_lines: 0,
            deleted_lines: 0,
            hunks: Vec::new(),
            left_out_lines: 0,
            escaped: false,
            note: None,
        };
        match self.lines(change, rendering, bytes, end) {
            Ok(difference) => {
                shown.added_lines = difference.added;
                shown.deleted_lines = difference.deleted;
                shown.escaped = difference.escaped;
                shown.left_out_lines = difference.left_out;
                shown.hunks = difference.hunks;
            }
            Err(note) => shown.note = note,
        }
        shown
    }

    /// The changed lines, or why there are none.
    fn lines(
        &self,
        change: &Change,
        rendering: &Rendering,
        bytes: usize,
        end: Option<Instant>,
    ) -> Result<Difference, Option<&'static str>> {
        let sides = [&change.old, &change.new].into_iter().flatten();
        if change.kind == ChangeKind::ModeChanged
            || !sides
                .clone()
                .any(|state| matches!(state.kind, Kind::File | Kind::Symlink))
        {
            return Err(None);
        }
        if sides.clone().any(|state| state.binary) {
            return Err(Some("binary"));
        }
        if sides.clone().any(|state| state.size > rendering.file) {
            return Err(Some("too large to be shown"));
        }
        if bytes == 0 {
            return Err(Some(TOO_LONG));
        }
        let old = self.old_text(change, rendering.file)?;
        let new = self.new_text(change, rendering.file)?;
        let bounds = Bounds {
            context: rendering.context,
            lines: rendering.lines,
            bytes,
        };
        let own = Instant::now().checked_add(rendering.effort);
        let deadline = [own, end].into_iter().flatten().min();
        Ok(hunks::difference(&old, &new, bounds, deadline))
    }

    fn old_text(&self, change: &Change, limit: u64) -> Result<Vec<u8>, Option<&'static str>> {
        let changed = Some("changed in the project since it was looked at");
        let Some(state) = &change.old else {
            return Ok(Vec::new());
        };
        match (state.kind, &state.target) {
            (Kind::File, _) => {}
            (_, target) => return Ok(target.as_deref().unwrap_or_default().to_owned()),
        }
        let found = self.project.look(change.path.as_bytes());
        let found = found.ok().flatten().ok_or(changed)?;
        if Stamp::of(&found.stat) != state.stamp {
            return Err(changed);
        }
        let bytes = found.content(limit).map_err(|_| Some("cannot be read"))?;
        bytes.ok_or(changed)
    }

    fn new_text(&self, change: &Change, limit: u64) -> Result<Vec<u8>, Option<&'static str>> {
        let Some(state) = &change.new else {
            return Ok(Vec::new());
        };
        match (state.kind, &state.target) {
            (Kind::File, _) => self
                .new_content(change, limit)
                .ok_or(Some("changed in the session since it was looked at")),
            (_, target) => Ok(target.as_deref().unwrap_or_default().to_owned()),
        }
    }

    /// The content of one of the session's files, if it still is the one that was judged and has at most `limit` bytes.
    pub(super) fn new_content(&self, change: &Change, limit: u64) -> Option<Vec<u8>> {
        let found = self.find(change.layer?, &change.path).ok()??;
        let bytes = found.content(limit).ok()??;
        let digest = change.new.as_ref()?.digest?;
        (envd_store::Digest::of(&bytes) == digest).then_some(bytes)
    }
}

impl Report {
    /// As a unified diff in git's manner, for people: names are quoted and control characters are made visible, so that it is
    /// not always a patch. What could not be judged is said in lines that begin with `#`.
    pub fn unified(&self) -> String {
        let mut out = String::new();
        for file in &self.files {
            file.unified(&mut out);
        }
        if self.more_files > 0 {
            let _ = writeln!(out, "# {} more files are left out", self.more_files);
        }
        for skipped in &self.skipped {
            let _ = writeln!(out, "# {} {}", skipped.path, skipped.reason);
        }
        for path in &self.left_out {
            let _ = writeln!(out, "# {path} was changed and is left out: it is git's own");
        }
        out
    }
}

impl FileReport {
    /// Bytes of the lines that are shown.
    fn length(&self) -> usize {
        let lines = self.hunks.iter().flat_map(|hunk| &hunk.lines);
        lines.map(String::len).sum()
    }

    fn unified(&self, out: &mut String) {
        let old = prefixed("a/", &self.path);
        let new = prefixed("b/", &self.path);
        let _ = writeln!(out, "diff --git {old} {new}");
        let mode = |side: &SideReport| {
            let permissions = u32::from_str_radix(&side.mode, 8).unwrap_or(0);
            let permissions = if side.kind == Kind::Symlink {
                0
            } else {
                permissions
            };
            format!("{:06o}", side.kind.bits() | permissions)
        };
        match (&self.old, &self.new) {
            (None, Some(side)) => {
                let _ = writeln!(out, "new file mode {}", mode(side));
            }
            (Some(side), None) => {
                let _ = writeln!(out, "deleted file mode {}", mode(side));
            }
            (Some(before), Some(after)) if mode(before) != mode(after) => {
                let _ = writeln!(out, "old mode {}\nnew mode {}", mode(before), mode(after));
            }
            _ => {}
        }
        if self.binary {
            let _ = writeln!(out, "Binary files {old} and {new} differ");
        } else if let Some(note) = self.note {
            let _ = writeln!(out, "# {note}");
        }
        if self.escaped {
            out.push_str("# control characters are shown as signs\n");
        }
        if !self.hunks.is_empty() {
            let side = |present: bool, name: &str| match present {
                true => name.to_owned(),
                false => "/dev/null".to_owned(),
            };
            let _ = writeln!(out, "--- {}", side(self.old.is_some(), &old));
            let _ = writeln!(out, "+++ {}", side(self.new.is_some(), &new));
        }
        for hunk in &self.hunks {
            let range = |start: usize, lines: usize| match lines {
                1 => start.to_string(),
                lines => format!("{start},{lines}"),
            };
            let _ = writeln!(
                out,
                "@@ -{} +{} @@",
                range(hunk.old_start, hunk.old_lines),
                range(hunk.new_start, hunk.new_lines)
            );
            for line in &hunk.lines {
                out.push_str(line);
                out.push('\n');
            }
        }
        if self.left_out_lines > 0 {
            let _ = writeln!(out, "# {} more lines are left out", self.left_out_lines);
        }
    }
}

/// A shown name with a directory before it, inside the quotes if there are any.
fn prefixed(prefix: &str, shown: &str) -> String {
    match shown.strip_prefix('"') {
        Some(rest) => format!("\"{prefix}{rest}"),
        None => format!("{prefix}{shown}"),
    }
}
