//! What Debian's stable releases carry. A release's versions do not move once it is out, so they may be written down here;
//! they steer a guess only, the archive decides when locking.

use super::Language;
use crate::provider::Channel;

/// A release and its versions.
#[derive(Debug)]
pub struct Suite {
    /// Its code name.
    pub name: &'static str,
    python: &'static [u32],
    node: &'static [u32],
    go: &'static [u32],
    rust: &'static [u32],
    ruby: &'static [u32],
    php: &'static [u32],
    java: &'static [u32],
}

/// The releases to choose from, newest first. The first is the default.
pub const STABLE: [Suite; 2] = [
    Suite {
        name: "trixie",
        python: &[3, 13],
        node: &[20, 19],
        go: &[1, 24],
        rust: &[1, 85],
        ruby: &[3, 3],
        php: &[8, 4],
        java: &[21],
    },
    Suite {
        name: "bookworm",
        python: &[3, 11],
        node: &[18, 20],
        go: &[1, 19],
        rust: &[1, 63],
        ruby: &[3, 1],
        php: &[8, 2],
        java: &[17],
    },
];

impl Suite {
    /// The version it has, as far as projects care.
    pub fn version(&self, language: Language) -> &'static [u32] {
        match language {
            Language::Python => self.python,
            Language::Node => self.node,
            Language::Go => self.go,
            Language::Rust => self.rust,
            Language::Ruby => self.ruby,
            Language::Php => self.php,
            Language::Java => self.java,
        }
    }

    /// As a channel.
    pub fn channel(&self) -> Channel {
        Channel {
            provider: "debian".to_owned(),
            suite: self.name.to_owned(),
            snapshot: None,
        }
    }
}
