//! Places inside the new root that a plan may name. They are resolved beneath it by [`envd_init`], which follows neither `..`
//! nor a symbolic link out of it.

use std::path::{Component, Path};

/// Whether `path` can be a target: absolute, below the root, and without `..`.
pub(crate) fn is_target(path: &Path) -> bool {
    path.is_absolute()
        && path.file_name().is_some()
        && path
            .components()
            .all(|component| matches!(component, Component::RootDir | Component::Normal(_)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_absolute_and_plain() {
        for good in ["/proc", "/home/me/project", "/a//b"] {
            assert!(is_target(Path::new(good)), "{good}");
        }
        for bad in ["", "/", "proc", "/a/../../etc", "/.."] {
            assert!(!is_target(Path::new(bad)), "{bad}");
        }
    }
}
