//! Tool caches persist, files do not: which directories of the store are bound into a home, by `caches.toml`.

use std::{
    collections::BTreeMap,
    fs::DirBuilder,
    io,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
};

use serde::Deserialize;

use super::RootFacts;

const TABLE: &str = include_str!("caches.toml");

/// One entry of the table.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Rule {
    tools: Vec<String>,
    path: PathBuf,
}

/// A cache that an environment is given.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Cache {
    /// Its directory in the store.
    pub directory: PathBuf,
    /// Where it goes, relative to the home directory.
    pub below_home: PathBuf,
}

/// A cache's directory that could not be made.
#[derive(Debug, thiserror::Error)]
#[error("cannot make the tool cache {}", directory.display())]
pub struct CacheError {
    directory: PathBuf,
    #[source]
    source: io::Error,
}

/// The caches of the tools that an environment has, below `caches`, the store's directory of them.
pub fn of(root: &RootFacts, caches: &Path) -> Vec<Cache> {
    rules()
        .into_iter()
        .filter(|(_, rule)| rule.tools.iter().any(|tool| root.has_tool(tool)))
        .map(|(name, rule)| Cache {
            directory: caches.join(name),
            below_home: rule.path,
        })
        .collect()
}

/// Makes the directories of caches that are not there yet, for their owner only.
pub fn make(caches: &[Cache]) -> Result<(), CacheError> {
    for cache in caches {
        let directory = &cache.directory;
        let made = DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory);
        made.map_err(|source| CacheError {
            directory: directory.clone(),
            source,
        })?;
    }
    Ok(())
}

fn rules() -> BTreeMap<String, Rule> {
    match toml::from_str(TABLE) {
        Ok(rules) => rules,
        Err(e) => unreachable!("caches.toml is checked by a test: {e}"),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Component;

    use super::*;

    #[test]
    fn the_table_is_sound() {
        let rules = rules();
        assert!(rules.len() > 15);
        for (name, rule) in &rules {
            assert!(
                name.bytes().all(|b| b.is_ascii_lowercase() || b == b'-'),
                "{name}"
            );
            assert!(!rule.tools.is_empty(), "{name} belongs to a tool");
            let plain = rule
                .path
                .components()
                .all(|c| matches!(c, Component::Normal(_)));
            assert!(
                plain && rule.path.components().count() >= 2,
                "{name} stays below the home"
            );
            let others = rules.iter().filter(|(other, _)| *other != name);
            for (other, rule_of_other) in others {
                assert!(
                    !rule.path.starts_with(&rule_of_other.path),
                    "{name} lies in {other}"
                );
            }
        }
    }

    #[test]
    fn only_the_tools_that_are_there_get_their_caches() {
        let view = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(view.path().join("usr/bin")).unwrap();
        std::fs::write(view.path().join("usr/bin/cargo"), "").unwrap();
        let facts = RootFacts::of(view.path()).unwrap();
        let caches = of(&facts, Path::new("/store/caches"));
        let names: Vec<_> = caches
            .iter()
            .map(|c| c.directory.to_str().unwrap())
            .collect();
        assert_eq!(
            names,
            ["/store/caches/cargo-git", "/store/caches/cargo-registry"]
        );
        assert_eq!(caches[1].below_home, Path::new(".cargo/registry"));
    }

    #[test]
    fn directories_are_made_once_and_for_their_owner() {
        use std::os::unix::fs::PermissionsExt as _;
        let store = tempfile::tempdir().unwrap();
        let cache = Cache {
            directory: store.path().join("caches/pip"),
            below_home: ".cache/pip".into(),
        };
        make(std::slice::from_ref(&cache)).unwrap();
        make(std::slice::from_ref(&cache)).unwrap();
        let mode = std::fs::metadata(&cache.directory)
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o700);
    }
}
