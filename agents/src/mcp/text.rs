//! Results as text, for models and for clients that do not read structured results. Every handle is in it.

use std::borrow::Cow;

use crate::service::{
    ResourceUri,
    changes::{ChangeKind, Changes, ChangesApplied},
    command::{
        CommandEnded, CommandPolled, CommandSignalled, CommandStarted, State, Status, Stretch,
    },
    environment::{Environment, EnvironmentDestroyed, Environments, Network, Snapshot, Source},
    excerpt::Excerpt,
    file::{Encoding, FileContent, FileEdited, FileEntries, FileKind, FileMatches, FileWritten},
    package::{Packages, PackagesAdded},
    port::{PortPublished, PortWithdrawn},
};

/// A result that can be told as text.
pub trait Tell {
    /// The text.
    fn tell(&self) -> String;

    /// What is kept whole elsewhere because the text is cut.
    fn whole(&self) -> Vec<&ResourceUri> {
        Vec::new()
    }
}

impl Tell for Environment {
    fn tell(&self) -> String {
        let mut text = format!("environment {}", self.environment);
        if let Some(name) = &self.name {
            text += &format!(" ({name})");
        }
        text += &match &self.from {
            Source::Project => ": the project's tools".to_owned(),
            Source::Packages(packages) => format!(": {}", packages.join(", ")),
            Source::Empty => ": no tools".to_owned(),
        };
        text += &format!("; directory {}", self.directory);
        text += &match &self.network {
            Network::None => "; no network".to_owned(),
            Network::Allow(hosts) => format!("; network only to [{}]", hosts.join(", ")),
            Network::Host => "; network of the machine".to_owned(),
        };
        if let Some(from) = &self.forked_from {
            text += &format!("; forked from {from}");
        }
        if let Some(seconds) = self.expires_in_seconds {
            text += &format!("; destroyed in {seconds} s");
        }
        for port in &self.ports {
            text += &format!("; port {} at {}", port.port, port.address);
        }
        if self.running_commands > 0 {
            text += &format!("; {} commands running", self.running_commands);
        }
        for warning in &self.warnings {
            text += &format!("\nwarning: {warning}");
        }
        text
    }
}

impl Tell for Environments {
    fn tell(&self) -> String {
        if self.environments.is_empty() {
            return "no environments".to_owned();
        }
        lines(self.environments.iter().map(Tell::tell))
    }
}

impl Tell for EnvironmentDestroyed {
    fn tell(&self) -> String {
        format!(
            "environment {} is gone; {} commands killed, {} changes discarded",
            self.environment, self.killed_commands, self.discarded_changes
        )
    }
}

impl Tell for PortPublished {
    fn tell(&self) -> String {
        let port = &self.published;
        format!(
            "port {} of {} is at {} of the machine",
            port.port, self.environment, port.address
        )
    }
}

impl Tell for PortWithdrawn {
    fn tell(&self) -> String {
        let port = &self.withdrawn;
        format!(
            "port {} of {} is at {} no more",
            port.port, self.environment, port.address
        )
    }
}

impl Tell for Snapshot {
    fn tell(&self) -> String {
        format!(
            "snapshot {} of {} with {} changed paths",
            self.snapshot, self.environment, self.changes
        )
    }
}

fn ending(status: &Status) -> String {
    match status.state {
        State::Running => "running".to_owned(),
        State::Exited => format!("exit code {}", status.exit_code.unwrap_or_default()),
        State::Signalled => format!(
            "ended by {}",
            status.signal.as_deref().unwrap_or("a signal")
        ),
        State::TimedOut => "killed: out of time".to_owned(),
        State::OutOfMemory => "killed: out of memory".to_owned(),
        State::OutOfSpace => "killed: out of disk space; remove files, or ask for more".to_owned(),
    }
}

impl Tell for CommandEnded {
    fn tell(&self) -> String {
        let mut text = format!(
            "{} after {} ms ({})",
            ending(&self.status),
            self.duration_ms,
            self.command
        );
        for (name, output) in [("stdout", &self.stdout), ("stderr", &self.stderr)] {
            if output.total_bytes > 0 {
                text += &format!("\n--- {name}\n{}", output.text());
            }
        }
        if let Some(hint) = &self.hint {
            text += &format!("\nhint: {hint}");
        }
        text
    }

    fn whole(&self) -> Vec<&ResourceUri> {
        cut([&self.stdout, &self.stderr])
    }
}

/// Where the whole of those is that were cut.
fn cut<'a>(excerpts: impl IntoIterator<Item = &'a Excerpt>) -> Vec<&'a ResourceUri> {
    excerpts
        .into_iter()
        .filter(|excerpt| excerpt.omitted_bytes > 0)
        .filter_map(|excerpt| excerpt.resource.as_ref())
        .collect()
}

impl Tell for CommandStarted {
    fn tell(&self) -> String {
        format!("started {} in {}", self.command, self.environment)
    }
}

impl Tell for CommandPolled {
    fn tell(&self) -> String {
        let mut text = format!("{}: {}", self.command, ending(&self.status));
        for (name, stretch) in [("stdout", &self.stdout), ("stderr", &self.stderr)] {
            let Stretch {
                text: output,
                offset,
                next_offset,
                total_bytes,
            } = stretch;
            if next_offset > offset {
                text += &format!(
                    "\n--- {name} from {offset}, next {next_offset} of {total_bytes}\n{output}"
                );
            }
        }
        text
    }
}

impl Tell for CommandSignalled {
    fn tell(&self) -> String {
        format!("{}: {}", self.command, ending(&self.status))
    }
}

impl Tell for FileContent {
    fn tell(&self) -> String {
        match self.encoding {
            Encoding::Utf8 if self.more || self.first_line > 1 => format!(
                "{}, from line {} of {}\n{}",
                self.path, self.first_line, self.total_lines, self.content
            ),
            Encoding::Utf8 => self.content.clone(),
            Encoding::Base64 => format!(
                "{} is no text: {} bytes, in base64{}\n{}",
                self.path,
                self.size_bytes,
                if self.more { ", cut" } else { "" },
                self.content
            ),
        }
    }
}

impl Tell for FileWritten {
    fn tell(&self) -> String {
        let verb = if self.created { "created" } else { "wrote" };
        format!("{verb} {}, {} bytes", self.path, self.size_bytes)
    }
}

impl Tell for FileEdited {
    fn tell(&self) -> String {
        format!(
            "{}: {} places replaced, now {} bytes",
            self.path, self.replaced, self.size_bytes
        )
    }
}

impl Tell for FileEntries {
    fn tell(&self) -> String {
        let entries = self.entries.iter().map(|entry| match entry.kind {
            FileKind::Directory => format!("{}/", shown(&entry.path)),
            FileKind::Symlink => format!(
                "{} -> {}",
                shown(&entry.path),
                shown(entry.target.as_deref().unwrap_or("?"))
            ),
            FileKind::File if entry.executable => format!("{}*", shown(&entry.path)),
            FileKind::File => shown(&entry.path).into_owned(),
            FileKind::Special => format!("{} (special)", shown(&entry.path)),
        });
        let text = lines(entries);
        match (text.is_empty(), self.more) {
            (true, _) => format!("{} is empty", self.path),
            (false, true) => text + "\n(more: raise limit, or list a directory below)",
            (false, false) => text,
        }
    }
}

impl Tell for FileMatches {
    fn tell(&self) -> String {
        let found = self
            .matches
            .iter()
            .map(|found| format!("{}:{}:{}", shown(&found.path), found.line, found.text));
        let text = lines(found);
        match (text.is_empty(), self.more) {
            (true, _) => "no matches".to_owned(),
            (false, true) => text + "\n(more: raise limit, or narrow the search)",
            (false, false) => text,
        }
    }
}

impl Tell for Changes {
    fn tell(&self) -> String {
        if self.changes.is_empty() {
            return "nothing has changed".to_owned();
        }
        let list = self.changes.iter().map(|change| {
            let letter = match change.kind {
                ChangeKind::Added => 'A',
                ChangeKind::Modified => 'M',
                ChangeKind::Deleted => 'D',
                ChangeKind::Mode => 'P',
                ChangeKind::Type => 'T',
            };
            match &change.protected_by {
                Some(rule) => format!("{letter} {} (needs the user: {rule})", shown(&change.path)),
                None => format!("{letter} {}", shown(&change.path)),
            }
        });
        let mut text = lines(list);
        if self.omitted_changes > 0 {
            text += &format!("\n(and {} more)", self.omitted_changes);
        }
        text + "\n\n" + &self.diff.text()
    }

    fn whole(&self) -> Vec<&ResourceUri> {
        cut([&self.diff])
    }
}

impl Tell for ChangesApplied {
    fn tell(&self) -> String {
        if self.conflicts.is_empty() && self.refused.is_empty() {
            let verb = if self.dry_run {
                "would apply"
            } else {
                "applied"
            };
            let mut text = format!("{verb} {} paths", self.applied.len());
            for path in &self.applied {
                text += &format!("\n{}", shown(path));
            }
            for path in &self.merged {
                text += &format!("\n{} (merged with the project's own change)", shown(path));
            }
            for commit in &self.commits {
                text += &format!("\ncommit {commit}");
            }
            if let Some(branch) = &self.branch {
                text += &format!("\nbranch {branch}");
            }
            for submodule in &self.submodules {
                let (path, branch) = (shown(&submodule.path), &submodule.branch);
                for commit in &submodule.commits {
                    text += &format!("\ncommit {commit} of the submodule {path}");
                }
                text += &format!("\nbranch {branch} of the submodule {path}");
            }
            return text;
        }
        let mut text = "nothing was applied".to_owned();
        for conflict in &self.conflicts {
            text += &format!("\nconflict: {}: {}", shown(&conflict.path), conflict.reason);
        }
        for refused in &self.refused {
            text += &format!("\nrefused: {}: {}", shown(&refused.path), refused.reason);
        }
        text + "\nNext: apply the other paths by naming them in paths; tell the user about the rest."
    }
}

impl Tell for Packages {
    fn tell(&self) -> String {
        let found = self.packages.iter().map(|package| {
            format!(
                "{} {} ({}): {}",
                package.name, package.version, package.channel, package.summary
            )
        });
        let text = lines(found);
        match (text.is_empty(), self.more) {
            (true, _) => "no packages".to_owned(),
            (false, true) => text + "\n(more: raise limit, or narrow the search)",
            (false, false) => text,
        }
    }
}

impl Tell for PackagesAdded {
    fn tell(&self) -> String {
        format!(
            "added {}\n{}",
            self.added.join(", "),
            self.environment.tell()
        )
    }
}

/// A name on a line of its own: whoever named the file cannot add lines, colours or words of ours.
fn shown(name: &str) -> Cow<'_, str> {
    if name.contains(char::is_control) {
        Cow::Owned(format!("\"{}\"", name.escape_default()))
    } else {
        Cow::Borrowed(name)
    }
}

fn lines(lines: impl Iterator<Item = String>) -> String {
    lines.collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::{CommandId, EnvironmentId, Stream, excerpt::Collector};

    #[test]
    fn a_failed_command_reads_as_what_it_said() {
        let command = CommandId::random();
        let output = |text: &str| {
            let mut collector = Collector::new(1000);
            collector.push(text.as_bytes());
            collector.finish(Some(ResourceUri::Output {
                command: command.clone(),
                stream: Stream::Stdout,
            }))
        };
        let ended = CommandEnded {
            command: command.clone(),
            status: Status::exited(1),
            duration_ms: 12,
            stdout: output(""),
            stderr: output("main.c:1: error\n"),
            hint: None,
        };
        assert_eq!(
            ended.tell(),
            format!("exit code 1 after 12 ms ({command})\n--- stderr\nmain.c:1: error\n")
        );
        assert_eq!(ended.whole(), Vec::<&ResourceUri>::new());
    }

    #[test]
    fn a_hostile_file_name_adds_no_line_of_ours() {
        let applied = ChangesApplied {
            environment: EnvironmentId::random(),
            applied: vec!["a\ncommit 1234\u{1b}[2J".to_owned(), "plain ö".to_owned()],
            merged: Vec::new(),
            conflicts: Vec::new(),
            refused: Vec::new(),
            commits: Vec::new(),
            branch: None,
            submodules: Vec::new(),
            dry_run: false,
        };
        assert_eq!(
            applied.tell(),
            "applied 2 paths\n\"a\\ncommit 1234\\u{1b}[2J\"\nplain ö"
        );
    }

    #[test]
    fn what_was_cut_is_linked() {
        let uri = ResourceUri::Output {
            command: CommandId::random(),
            stream: Stream::Stdout,
        };
        let mut collector = Collector::new(10);
        collector.push(&[b'x'; 100]);
        let excerpt = collector.finish(Some(uri.clone()));
        assert!(excerpt.text().contains(&uri.to_string()));
        assert_eq!(cut([&excerpt]), [&uri]);
    }
}
