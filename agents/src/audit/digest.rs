//! Requests and answers by their SHA-256.

use std::io;

use serde_json::Value;
use sha2::{Digest as _, Sha256};

/// The digest of a value's canonical JSON: no white space, the keys of each object in the order of their bytes.
pub(super) fn of(value: &Value) -> String {
    let mut hasher = Hasher(Sha256::new());
    // The hasher takes everything, and a value has nothing that JSON cannot say.
    let _ = serde_json::to_writer(&mut hasher, value);
    hex::encode(hasher.0.finalize())
}

/// The first half of a text's digest: a name that tells it from others and gives nothing of it away.
pub(super) fn short(text: &str) -> String {
    hex::encode(&Sha256::digest(text.as_bytes())[..8])
}

struct Hasher(Sha256);

impl io::Write for Hasher {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Whoever recomputes a digest has only the document.
    #[test]
    fn the_order_in_which_keys_were_written_makes_no_difference() {
        let value: Value =
            serde_json::from_str(r#"{"b": [1, {"d": "é", "c": null}], "a": 1.5}"#).unwrap();
        let expected = Sha256::digest(r#"{"a":1.5,"b":[1,{"c":null,"d":"é"}]}"#.as_bytes());
        assert_eq!(of(&value), hex::encode(expected));
        assert_ne!(of(&json!({})), of(&json!([])));
    }
}
