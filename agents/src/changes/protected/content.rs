//! Rules that ask what a file says, not only where it is.

use toml::{Table, Value};

/// Whether two `.gitattributes` set the same drivers. Lines about anything else (line ends, export) may differ.
pub(super) fn same_git_drivers(old: &[u8], new: &[u8]) -> bool {
    drivers(old) == drivers(new)
}

/// The lines that set a driver or define a macro, in their order: later ones win.
fn drivers(attributes: &[u8]) -> Vec<&[u8]> {
    let sets_driver = |word: &[u8]| {
        let word = word
            .strip_prefix(b"-")
            .or(word.strip_prefix(b"!"))
            .unwrap_or(word);
        let name = word.split(|&b| b == b'=').next().unwrap_or(word);
        matches!(
            name,
            b"filter" | b"diff" | b"merge" | b"working-tree-encoding"
        )
    };
    attributes
        .split(|&b| b == b'\n' || b == b'\r')
        .filter(|line| {
            let mut words = line
                .split(u8::is_ascii_whitespace)
                .filter(|word| !word.is_empty());
            match words.next() {
                Some(first) if first.starts_with(b"#") => false,
                Some(first) => {
                    first.starts_with(b"[attr]")
                        || first.starts_with(b"\"")
                        || words.any(sets_driver)
                }
                None => false,
            }
        })
        .collect()
}

/// Whether two `envd.toml` say the same about agents. A file that cannot be read as TOML says nothing that can be compared.
pub(super) fn same_agent_section(old: &[u8], new: &[u8]) -> bool {
    match (agent_section(old), agent_section(new)) {
        (Some(old), Some(new)) => old == new,
        _ => false,
    }
}

fn agent_section(text: &[u8]) -> Option<Option<Value>> {
    let mut table: Table = std::str::from_utf8(text).ok()?.parse().ok()?;
    Some(table.remove("agent"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An attacker would have the owner's `git add` run a filter on a file that they chose.
    #[test]
    fn a_driver_cannot_be_set_and_line_ends_can() {
        let old = b"*.png filter=lfs\n# filter=x\n";
        assert!(same_git_drivers(
            old,
            b"*.png filter=lfs\n*.txt text eol=lf\n"
        ));
        assert!(same_git_drivers(old, b"# filter=y\n*.png filter=lfs\n"));
        for new in [
            &b"*.png filter=lfs\n*.c filter=other\n"[..],
            b"*.png filter=lfs\n*.c diff=gpg\n",
            b"*.png filter=lfs\n[attr]text filter=evil\n",
            b"*.png -filter\n",
            b"",
            b"x\r*.c merge=z\n",
        ] {
            assert!(!same_git_drivers(old, new), "{new:?}");
        }
    }

    /// An attacker would give the next session the network.
    #[test]
    fn the_agent_section_cannot_change_and_the_rest_can() {
        let old = b"[env]\npackages = []\n[agent]\nnetwork = []\n";
        assert!(same_agent_section(
            old,
            b"[agent]\nnetwork = []\n[env]\npackages = ['gcc']\n"
        ));
        for new in [
            &b"[env]\npackages = []\n"[..],
            b"[agent]\nnetwork = 'host'\n",
            b"agent.network = 'host'\n",
            b"'agent' = { network = 'host' }\n",
            b"[agent\n",
            b"\xff",
        ] {
            assert!(!same_agent_section(old, new), "{new:?}");
        }
        assert!(same_agent_section(b"", b"[env]\n"));
    }
}
