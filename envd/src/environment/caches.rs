//! Tool caches persist, files do not: which directories of the store are bound into a home, by `caches.toml`.

use std::{
    fs::DirBuilder,
    io,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
};

use super::RootFacts;

const TABLE: &str = include_str!("caches.toml");

/// One entry of the table.
#[derive(PartialEq, Eq, Debug)]
struct Rule {
    name: &'static str,
    tools: Vec<&'static str>,
    path: &'static str,
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
        .filter(|rule| rule.tools.iter().any(|tool| root.has_tool(tool)))
        .map(|rule| Cache {
            directory: caches.join(rule.name),
            below_home: rule.path.into(),
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

/// The table. It is of one simple form, and read on every run: by the line this takes 2 µs, by a TOML parser 140.
/// A test holds the two to the same result.
fn rules() -> Vec<Rule> {
    let mut rules = Vec::new();
    for line in TABLE.lines() {
        if let Some(name) = line.strip_prefix('[') {
            rules.push(Rule {
                name: name.trim_end_matches(']'),
                tools: Vec::new(),
                path: "",
            });
        }
        let (Some((key, value)), Some(rule)) = (line.split_once(" = "), rules.last_mut()) else {
            continue;
        };
        // What stands between quotes is every second part.
        let mut texts = value.split('"').skip(1).step_by(2);
        match key {
            "tools" => rule.tools = texts.collect(),
            _ => rule.path = texts.next().unwrap_or_default(),
        }
    }
    rules
}

#[cfg(test)]
mod tests {
    use std::path::Component;

    use super::*;

    #[test]
    fn the_table_is_read_as_toml_reads_it() {
        let table: toml::Table = TABLE.parse().unwrap();
        assert_eq!(table.len(), rules().len());
        for rule in rules() {
            let entry = table[rule.name].as_table().unwrap();
            let tools: Vec<&str> = entry["tools"]
                .as_array()
                .unwrap()
                .iter()
                .map(|t| t.as_str().unwrap())
                .collect();
            assert_eq!(
                (rule.tools, rule.path),
                (tools, entry["path"].as_str().unwrap())
            );
            assert_eq!(entry.len(), 2, "{} has no other key", rule.name);
        }
    }

    #[test]
    fn the_table_is_sound() {
        let rules = rules();
        assert!(rules.len() > 15);
        for Rule { name, tools, path } in &rules {
            let path = Path::new(path);
            assert!(
                name.bytes().all(|b| b.is_ascii_lowercase() || b == b'-'),
                "{name}"
            );
            assert!(!tools.is_empty(), "{name} belongs to a tool");
            let plain = path.components().all(|c| matches!(c, Component::Normal(_)));
            assert!(
                plain && path.components().count() >= 2,
                "{name} stays below the home"
            );
            for other in rules.iter().filter(|other| other.name != *name) {
                assert!(
                    !path.starts_with(other.path),
                    "{name} lies in {}",
                    other.name
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
