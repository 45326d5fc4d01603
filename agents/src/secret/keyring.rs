//! The values that a server has read. Each is read once, when it is first needed, and kept until the server ends.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError, RwLock},
};

use super::{Kept, Patterns, ReadError, Secret};

/// Values by where they come from.
#[derive(Debug, Default)]
pub struct Keyring {
    values: Mutex<BTreeMap<String, (Kept, Arc<Secret>)>>,
    patterns: RwLock<Arc<Patterns>>,
}

impl Keyring {
    /// The value of a secret, which `read` gives when it is not known yet. From now on it is taken out of outputs.
    pub fn value(
        &self,
        name: &str,
        kept: &Kept,
        read: impl FnOnce() -> Result<Secret, ReadError>,
    ) -> Result<Arc<Secret>, ReadError> {
        let mut values = self.values.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((origin, value)) = values.get(name)
            && origin == kept
        {
            return Ok(value.clone());
        }
        let value = Arc::new(read()?);
        values.insert(name.to_owned(), (kept.clone(), value.clone()));
        let known = values.iter().map(|(name, (_, value))| (&**name, &**value));
        let patterns = Arc::new(Patterns::of(known));
        *self
            .patterns
            .write()
            .unwrap_or_else(PoisonError::into_inner) = patterns;
        Ok(value)
    }

    /// What is to be taken out of outputs now.
    pub fn patterns(&self) -> Arc<Patterns> {
        self.patterns
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}
