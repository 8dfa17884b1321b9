//! How objects are fetched.

use serde::Deserialize;

/// `[objects]` in the configuration.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ObjectsOptions {
    /// In place of Google's address, as `STORAGE_EMULATOR_HOST` is, which it goes before. One of `http://` is an emulator,
    /// and is sent no credentials.
    pub gcs_endpoint: Option<String>,
    /// In place of Amazon's address, as `AWS_ENDPOINT_URL` is, which it goes before.
    pub s3_endpoint: Option<String>,
    /// A larger object is refused, in MiB.
    pub largest_mb: u32,
    /// Objects that a lane fetches at a time.
    pub max_fetches: usize,
    /// What a lane's fetched objects may take on the disk together, in MiB.
    pub max_disk_mb: u32,
    /// For an object's first piece, and again for all the rest; repeats and pauses included.
    pub timeout_ms: u64,
}

impl Default for ObjectsOptions {
    fn default() -> Self {
        Self {
            gcs_endpoint: None,
            s3_endpoint: None,
            largest_mb: 2_048,
            max_fetches: 16,
            max_disk_mb: 8_192,
            timeout_ms: 120_000,
        }
    }
}

impl ObjectsOptions {
    /// Looks for values that cannot be.
    ///
    /// # Errors
    /// In words, with the key.
    pub fn check(&self) -> Result<(), String> {
        for (key, endpoint) in [("gcs_endpoint", &self.gcs_endpoint), ("s3_endpoint", &self.s3_endpoint)] {
            if let Some(url) =
                endpoint.as_ref().filter(|url| !url.starts_with("http://") && !url.starts_with("https://"))
            {
                return Err(format!("{key} is {url:?}, and must begin with http:// or https://"));
            }
            // It would be quoted where a call fails.
            if endpoint.as_ref().is_some_and(|url| url.contains('@')) {
                return Err(format!("{key} has a user or password in it: credentials come from the environment"));
            }
        }
        if self.largest_mb == 0 || self.max_fetches == 0 || self.timeout_ms == 0 {
            return Err("largest_mb, max_fetches and timeout_ms must be at least 1".into());
        }
        if self.max_disk_mb < self.largest_mb {
            return Err(format!("max_disk_mb must hold one object of largest_mb, {}", self.largest_mb));
        }
        Ok(())
    }
}
