//! Which maintainer scripts have nothing to do in a fresh root, so that they need not be run (and so that a closure of which
//! this is true of all needs neither dpkg nor a shell).
//!
//! A script qualifies when all it does is call dpkg-maintscript-helper, whose every action concerns an older installed
//! version (dpkg-maintscript-helper(1)), or when it is one of [`UPGRADE_ONLY`].

/// Packages whose scripts concern only upgrades from older versions, checked by reading them in bullseye to sid: libc6's
/// look for an old kernel and running services to restart, libgcrypt20's and libcrypt-dev's for files that old versions left.
const UPGRADE_ONLY: [&str; 4] = ["libc6", "libcrypt-dev", "libgcrypt20", "libcrypt1"];

/// Whether this script of this package has something to do in a fresh root.
pub fn is_needed(package: &str, script: &[u8]) -> bool {
    if UPGRADE_ONLY.contains(&package) {
        return false;
    }
    let Ok(text) = std::str::from_utf8(script) else {
        return true;
    };
    if !text.starts_with("#!/bin/sh")
        && !text.starts_with("#! /bin/sh")
        && !text.starts_with("#!/bin/bash")
    {
        return true;
    }
    let joined = text.replace("\\\n", " ");
    !joined.lines().all(|line| {
        let line = line.trim();
        matches!(line, "" | "set -e" | "set -eu" | "exit 0" | ":" | "true")
            || line.starts_with('#')
            || is_helper_call(line)
    })
}

/// Whether a line is one plain call of the helper, with nothing chained to it.
fn is_helper_call(line: &str) -> bool {
    const ACTIONS: [&str; 4] = [
        "rm_conffile",
        "mv_conffile",
        "symlink_to_dir",
        "dir_to_symlink",
    ];
    line.strip_prefix("dpkg-maintscript-helper ")
        .and_then(|rest| rest.split_whitespace().next())
        .is_some_and(|action| ACTIONS.contains(&action))
        && !line.contains([';', '&', '|', '`', '>', '<'])
        && !line.contains("$(")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn helper_calls_are_for_upgrades() {
        let script = b"#!/bin/sh\nset -e\n# Automatically added\ndpkg-maintscript-helper symlink_to_dir /usr/share/doc/x \\\n  y 1:4.4 -- \"$@\"\n";
        assert!(!is_needed("x", script));
    }

    #[test]
    fn whatever_else_is_done_is_done() {
        assert!(is_needed(
            "x",
            b"#!/bin/sh\nset -e\nupdate-alternatives --install a b c 1\n"
        ));
        assert!(is_needed(
            "x",
            b"#!/bin/sh\ndpkg-maintscript-helper rm_conffile /etc/x; touch /y\n"
        ));
        assert!(is_needed("x", b"\x7fELF"));
        assert!(is_needed("x", b"#!/usr/bin/perl\n"));
    }
}
