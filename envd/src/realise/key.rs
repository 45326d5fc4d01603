//! Keys of results that are kept by their inputs.

use envd_store::{Digest, Hasher, Node, Tree};

/// A digest of words, each with its length, so that no two lists of words are alike.
pub(crate) struct KeyHasher(Hasher);

impl KeyHasher {
    pub(crate) fn new(kind: &str) -> Self {
        let mut hasher = Self(Hasher::default());
        hasher.word(kind.as_bytes());
        hasher
    }

    pub(crate) fn word(&mut self, word: &[u8]) {
        self.0.update(&(word.len() as u64).to_le_bytes());
        self.0.update(word);
    }

    pub(crate) fn finish(self) -> Digest {
        self.0.finish().0
    }
}

/// The key of a cached result with these inputs.
pub fn memo_key(words: &[&str]) -> Digest {
    let mut hasher = KeyHasher::new("envd-memo 1");
    for word in words {
        hasher.word(word.as_bytes());
    }
    hasher.finish()
}

/// The digest of one path of a tree and all below it.
pub(crate) fn subtree(tree: &Tree, at: &str) -> Digest {
    let mut hasher = KeyHasher::new("subtree");
    if let Ok(at) = envd_store::TreePath::new(at.trim_end_matches('/').as_bytes()) {
        let top = tree.get(&at).map(|entry| (&at, entry));
        for (path, entry) in top.into_iter().chain(tree.below(&at)) {
            hasher.word(path.as_bytes());
            hasher.word(&entry.meta.mode.to_le_bytes());
            match &entry.node {
                Node::Directory => hasher.word(b"d"),
                Node::File { digest, .. } => hasher.word(digest.as_bytes()),
                Node::Symlink { target } => hasher.word(target),
                Node::HardLink { target } => hasher.word(target.as_bytes()),
                Node::Whiteout => hasher.word(b"w"),
            }
        }
    }
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_tell_words_apart() {
        assert_ne!(memo_key(&["ab", "c"]), memo_key(&["a", "bc"]));
    }
}
