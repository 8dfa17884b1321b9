//! What keeps a process from working at present, for `/readyz`.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Troubles that last, by what cannot be done.
#[derive(Debug, Default)]
pub struct Health {
    troubles: Mutex<BTreeMap<String, String>>,
}

impl Health {
    fn troubles(&self) -> MutexGuard<'_, BTreeMap<String, String>> {
        self.troubles.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// `what` failed, and is tried again.
    pub fn failed(&self, what: &str, error: &impl std::fmt::Display) {
        self.troubles().insert(what.to_owned(), error.to_string());
    }

    /// `what` works.
    pub fn works(&self, what: &str) {
        self.troubles().remove(what);
    }

    /// `Ok`, or every trouble in words.
    ///
    /// # Errors
    /// What cannot be done, and why.
    pub fn check(&self) -> Result<(), String> {
        let troubles: Vec<_> = self.troubles().iter().map(|(what, error)| format!("cannot {what}: {error}")).collect();
        if troubles.is_empty() { Ok(()) } else { Err(troubles.join("; ")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_ready_again_once_every_trouble_is_over() {
        let health = Health::default();
        assert_eq!(health.check(), Ok(()));
        health.failed("commit", &"disk full");
        health.failed("pull", &"locked");
        health.works("commit");
        assert_eq!(health.check(), Err("cannot pull: locked".to_owned()));
        health.works("pull");
        assert_eq!(health.check(), Ok(()));
    }
}
