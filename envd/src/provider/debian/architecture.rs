//! Debian's names for machines.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, de};

/// The architecture that an environment's packages are built for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(into = "String")]
pub struct Architecture(&'static str);

/// A text that names no architecture of the archive.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is not an architecture that Debian is built for; known are {known}", known = KNOWN.join(", "))]
pub struct ArchitectureError(String);

/// The release architectures of the suites that envd reads, all of them Linux.
const KNOWN: [&str; 10] = [
    "amd64", "arm64", "armel", "armhf", "i386", "loong64", "mips64el", "ppc64el", "riscv64",
    "s390x",
];

impl Architecture {
    /// 64-bit PC.
    pub const AMD64: Self = Self("amd64");
    /// 64-bit Arm.
    pub const ARM64: Self = Self("arm64");

    /// Debian's spelling.
    pub fn as_str(self) -> &'static str {
        self.0
    }

    /// Whether a file for architecture `built_for` serves here: one of this architecture, or of all.
    pub fn takes(self, built_for: &str) -> bool {
        built_for == self.0 || built_for == "all"
    }

    /// Whether one word of a restriction list, `amd64` or a wildcard such as `linux-any`, means this one (Policy 11.1).
    pub fn is_named_by(self, word: &str) -> bool {
        match word.rsplit_once('-') {
            None => word == "any" || word == self.0,
            Some((system, machine)) => {
                let system = system.rsplit('-').next().unwrap_or(system);
                matches!(system, "any" | "linux" | "gnu") && (machine == "any" || machine == self.0)
            }
        }
    }
}

impl FromStr for Architecture {
    type Err = ArchitectureError;

    fn from_str(text: &str) -> Result<Self, ArchitectureError> {
        match KNOWN.iter().find(|known| **known == text) {
            Some(known) => Ok(Self(known)),
            None => Err(ArchitectureError(text.to_owned())),
        }
    }
}

// By hand: the derive takes the reference inside for one into the input.
impl<'de> Deserialize<'de> for Architecture {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}

impl From<Architecture> for String {
    fn from(architecture: Architecture) -> Self {
        architecture.0.to_owned()
    }
}

impl fmt::Display for Architecture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl fmt::Debug for Architecture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Architecture({})", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wildcards_name_the_machines_they_cover() {
        for word in [
            "any",
            "amd64",
            "linux-any",
            "any-amd64",
            "linux-amd64",
            "gnu-linux-any",
        ] {
            assert!(Architecture::AMD64.is_named_by(word), "{word}");
        }
        for word in [
            "i386",
            "hurd-any",
            "kfreebsd-amd64",
            "linux-arm64",
            "any-i386",
            "all",
        ] {
            assert!(!Architecture::AMD64.is_named_by(word), "{word}");
        }
    }

    #[test]
    fn an_unknown_machine_is_refused_with_the_known_ones() {
        let error = "x86_64".parse::<Architecture>().unwrap_err().to_string();
        assert!(
            error.contains("\"x86_64\"") && error.contains("amd64, arm64"),
            "{error}"
        );
    }
}
