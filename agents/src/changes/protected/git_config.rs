//! Programs that a repository's configuration runs from inside its own project (git-config(1)).
//!
//! A hook path or filter that points to a file of the project is the owner's, but the file is one that a session can change: it
//! is as protected as the configuration that names it.

use envd_store::TreePath;

/// Paths in the project that the configuration has git run: directories of hooks and single programs.
pub fn programs(configuration: &[u8]) -> Vec<TreePath> {
    let text = String::from_utf8_lossy(configuration);
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

/// A relative path as one in the project; programs are run at its top.
fn inside(text: &str) -> Option<TreePath> {
    if text.starts_with(['/', '~']) {
        return None;
    }
    let names = text
        .split('/')
        .filter(|name| !name.is_empty() && *name != ".");
    let path = names.collect::<Vec<_>>().join("/");
    TreePath::new(path.as_bytes()).ok()
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
"#;
        let found: Vec<_> = programs(text)
            .iter()
            .map(|path| path.as_bytes().to_owned())
            .collect();
        let expected = [
            ".config/hooks",
            "tools/clean.sh",
            "tools/do.sh",
            "tools/show",
            "tools/watch.sh",
        ];
        assert_eq!(found, expected.map(|path| path.as_bytes().to_owned()));
        assert!(programs(b"[core\nx\n]=\n\"").is_empty());
    }
}
