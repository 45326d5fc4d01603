//! Short names: what people call a tool, where the archive calls it otherwise.
//!
//! The names are data, `short-names.toml`, kept by hand and never inferred. A package of the archive that has the name
//! itself goes first, always.

use std::{collections::BTreeMap, sync::OnceLock};

/// Short names and the packages that they stand for.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Catalogue {
    names: BTreeMap<String, Vec<String>>,
}

/// A catalogue that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum CatalogueError {
    /// Not a table of lists of names.
    #[error("short names: {0}")]
    Toml(#[from] toml::de::Error),
    /// A name that stands for nothing.
    #[error("short names: {name:?} stands for no package")]
    Empty {
        /// The name.
        name: String,
    },
}

impl Catalogue {
    /// envd's own.
    pub fn builtin() -> &'static Self {
        static BUILTIN: OnceLock<Catalogue> = OnceLock::new();
        BUILTIN.get_or_init(|| {
            Self::parse(include_str!("short-names.toml")).expect("the tests read the same text")
        })
    }

    /// Reads `NAME = ["package", …]` lines.
    pub fn parse(text: &str) -> Result<Self, CatalogueError> {
        let names: BTreeMap<String, Vec<String>> = toml::from_str(text)?;
        match names.iter().find(|(_, packages)| packages.is_empty()) {
            Some((name, _)) => Err(CatalogueError::Empty { name: name.clone() }),
            None => Ok(Self { names }),
        }
    }

    /// The packages that a short name stands for: the tool itself, then what it is hardly used without. A version that
    /// is asked for is the first one's.
    pub fn packages(&self, name: &str) -> Option<&[String]> {
        self.names.get(name).map(Vec::as_slice)
    }

    /// All short names, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.names.keys().map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provider::debian::dependency::is_package_name;

    #[test]
    fn our_own_names_are_readable_and_sorted() {
        let catalogue = Catalogue::parse(include_str!("short-names.toml")).unwrap();
        for name in catalogue.names() {
            assert!(is_package_name(name), "{name} cannot be asked for");
            for package in catalogue.packages(name).unwrap() {
                assert!(is_package_name(package), "{name} stands for {package}");
                assert_ne!(package, name, "{name} needs no entry");
                assert_eq!(
                    catalogue.packages(package),
                    None,
                    "{name} stands for the short name {package}"
                );
            }
        }
        let written: Vec<&str> = include_str!("short-names.toml")
            .lines()
            .filter(|line| !line.starts_with('#'))
            .filter_map(|line| {
                line.split_once(" = ")
                    .map(|(name, _)| name.trim_matches('"'))
            })
            .collect();
        assert_eq!(written, catalogue.names().collect::<Vec<_>>());
    }

    #[test]
    fn a_name_for_nothing_is_refused() {
        let error = Catalogue::parse("a = []").unwrap_err().to_string();
        assert!(error.contains("\"a\""), "{error}");
        assert!(Catalogue::parse("a = 1").is_err());
    }
}
