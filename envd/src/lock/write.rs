//! The one text of a lock.

use std::fmt::Write;

use super::{Lock, LockedArtifact, LockedChannel, VERSION};

const HEADER: &str = "\
# What envd.toml came to, file by file. Written by envd: review it, commit it, do not edit it.
";

impl Lock {
    /// The lock's text: the same lock is the same text.
    pub fn to_text(&self) -> String {
        // Some 700 bytes a package.
        let mut text = String::with_capacity(1024 + self.artifacts.len() * 768);
        text.push_str(HEADER);
        line(&mut text, "version", VERSION);
        string(&mut text, "architecture", self.architecture.as_str());
        string(&mut text, "inputs", &self.inputs.to_string());
        if let Some(root) = self.root {
            string(&mut text, "root", &root.to_string());
        }
        for channel in &self.channels {
            write_channel(&mut text, channel);
        }
        for artifact in &self.artifacts {
            write_artifact(&mut text, artifact);
        }
        text
    }
}

fn write_channel(text: &mut String, channel: &LockedChannel) {
    text.push_str("\n[[channel]]\n");
    string(text, "name", &channel.channel.to_string());
    for suite in &channel.suites {
        text.push_str("\n[[channel.suite]]\n");
        string(text, "name", &suite.name);
        string(text, "base", &suite.base);
        string(text, "date", &suite.date.to_string());
        string(text, "in-release", &suite.in_release.to_string());
        for (component, digest) in &suite.packages {
            string(
                text,
                &format!("packages.{}", quoted(component)),
                &digest.to_string(),
            );
        }
    }
}

fn write_artifact(text: &mut String, locked: &LockedArtifact) {
    let artifact = &locked.artifact;
    text.push_str("\n[[artifact]]\n");
    string(text, "name", &artifact.name);
    string(text, "version", &artifact.version);
    string(text, "architecture", &artifact.architecture);
    string(text, "channel", &locked.channel.to_string());
    string(text, "suite", &locked.suite);
    string(text, "path", &artifact.path);
    line(text, "size", artifact.size);
    string(text, "sha256", &artifact.sha256.to_string());
    let requested: Vec<String> = locked.requested.iter().map(ToString::to_string).collect();
    list(text, "requested", &requested);
    if locked.essential {
        line(text, "essential", true);
    }
    list(text, "needs", &locked.needs);
}

fn line(text: &mut String, key: &str, value: impl std::fmt::Display) {
    // Writing to a String cannot fail.
    let _ = writeln!(text, "{key} = {value}");
}

fn string(text: &mut String, key: &str, value: &str) {
    line(text, key, quoted(value));
}

/// An item a line, so that one more is one line more. Nothing at all for none.
fn list(text: &mut String, key: &str, items: &[String]) {
    if items.is_empty() {
        return;
    }
    let _ = writeln!(text, "{key} = [");
    for item in items {
        let _ = writeln!(text, "    {},", quoted(item));
    }
    text.push_str("]\n");
}

/// A TOML basic string.
fn quoted(value: &str) -> String {
    let mut quoted = String::with_capacity(value.len() + 2);
    quoted.push('"');
    for c in value.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            c if c.is_control() => {
                let _ = write!(quoted, "\\u{:04X}", u32::from(c));
            }
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}
