//! Programs that a repository's configuration runs from inside its own project (git-config(1)).
//!
//! A hook path or filter that points to a file of the project is the owner's, but the file is one that a session can change: it
//! is as protected as the configuration that names it.

use std::{
    ffi::OsStr,
    os::unix::ffi::OsStrExt as _,
    path::{Component, Path, PathBuf},
};

use envd_store::TreePath;

/// Paths in the project that the configuration has git run: directories of hooks and single programs. Git runs them at the `top` of the
/// work tree, which is the project or above it. Both are absolute.
pub fn programs(configuration: &[u8], top: &Path, project: &Path) -> Vec<TreePath> {
    let text = String::from_utf8_lossy(configuration);
    let inside = |text: &str| inside(text, top, project);
    let mut found = Vec::new();
    for setting in settings(&text) {
        let section = setting.section.as_str();
        let key = setting.key.as_str();
        match (section, key) {
            ("core", "hookspath" | "attributesfile") => found.extend(inside(&setting.value)),
            (
                "core",
                "fsmonitor"
                | "sshcommand"
                | "editor"
                | "pager"
                | "askpass"
                | "gitproxy"
                | "alternaterefscommand",
            )
            | ("filter", "clean" | "smudge" | "process")
            | ("diff", "command" | "textconv" | "external")
            | ("merge", "driver")
            | ("credential", "helper")
            | ("gpg", "program")
            | ("sequence", "editor")
            | ("alias" | "pager" | "mergetool" | "difftool" | "interactive" | "trailer", _) => {
                // The words of a command line that are paths.
                let words = setting
                    .value
                    .split(|c: char| c.is_whitespace() || "\"'!;&|()".contains(c));
                found.extend(words.filter(|word| word.contains('/')).filter_map(inside));
            }
            ("include" | "includeif", "path") => found.extend(inside(&setting.value)),
            _ => {}
        }
    }
    found.sort();
    found.dedup();
    found
}

/// A path as one in the project, if it leads there by its names.
fn inside(text: &str, top: &Path, project: &Path) -> Option<TreePath> {
    if text.starts_with('~') {
        return None;
    }
    let mut path = PathBuf::new();
    for component in top.join(OsStr::from_bytes(text.as_bytes())).components() {
        match component {
            Component::ParentDir => drop(path.pop()),
            other => path.push(other),
        }
    }
    let below = path.strip_prefix(project).ok()?;
    TreePath::new(below.as_os_str().as_bytes()).ok()
}

struct Setting {
    section: String,
    key: String,
    value: String,
}

/// The settings of a configuration file. What is no setting is passed over: git would refuse the file.
fn settings(text: &str) -> Vec<Setting> {
    let mut found = Vec::new();
    let mut section = String::new();
    let joined = text.replace("\\\r\n", "").replace("\\\n", "");
    for line in joined.lines() {
        let mut line = line.trim();
        if let Some(rest) = line.strip_prefix('[') {
            let Some((head, after)) = rest.split_once(']') else {
                continue;
            };
            // Subsections do not matter here: [filter "x"], and the older [filter.x].
            let name = head.split(|c: char| c.is_whitespace() || c == '.').next();
            section = name.unwrap_or_default().to_ascii_lowercase();
            line = after.trim();
        }
        let (key, value) = line.split_once('=').unwrap_or((line, ""));
        let key = key.trim();
        if key.is_empty() || key.starts_with(['#', ';']) {
            continue;
        }
        found.push(Setting {
            section: section.clone(),
            key: key.to_ascii_lowercase(),
            value: unquoted(value.trim()),
        });
    }
    found
}

/// A value without its quotes, escapes and comment.
fn unquoted(value: &str) -> String {
    let mut out = String::new();
    let mut quoted = false;
    let mut characters = value.chars();
    while let Some(c) = characters.next() {
        match c {
            '"' => quoted = !quoted,
            '\\' => out.extend(characters.next()),
            '#' | ';' if !quoted => break,
            c => out.push(c),
        }
    }
    out.trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_in_the_project_are_found() {
        let text = br#"
[core]
	bare = false
	hooksPath = .config/hooks ; ours
	fsmonitor = "tools/watch.sh"
	pager = less
[filter "x"]
	clean = sh ./tools/clean.sh %f
	smudge = cat
[diff.y] textconv = tools/show \
  --all
[alias]
	st = status
	do = "!sh tools/do.sh"
[core] hookspath = /etc/hooks
[core] hookspath = /top/project/absolute
[core] attributesFile = ../elsewhere
[core] sshCommand = sub/../tools/../../project/ssh
"#;
        let project = Path::new("/top/project");
        let found = |top| {
            let found = programs(text, Path::new(top), project);
            let bytes = found.iter().map(|path| path.as_bytes().to_owned());
            bytes.collect::<Vec<_>>()
        };
        let expected = [
            ".config/hooks",
            "absolute",
            "ssh",
            "tools/clean.sh",
            "tools/do.sh",
            "tools/show",
            "tools/watch.sh",
        ];
        assert_eq!(
            found("/top/project"),
            expected.map(|path| path.as_bytes().to_owned())
        );
        // Where the repository is around the project, what it runs is beside it.
        assert_eq!(
            found("/top"),
            ["absolute"].map(|path| path.as_bytes().to_owned())
        );
        assert!(programs(b"[core\nx\n]=\n\"", project, project).is_empty());
    }
}
