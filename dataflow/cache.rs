//! The cache at the primary's door: an upload whose audio was described before, for the same tenant and in the same way, is
//! given the same answer, and no model is asked.
//!
//! The same audio is the same bytes, or a recording that sounds the same from one end to the other. A cache that fails is a
//! miss: nothing depends on it.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use connectors::store::{CacheEntry, CacheKey, Sound, Store, Tenant};
use models::audio::Fingerprint;
use operators::Question;
use records::{Annotation, Branch, Lane, Outcome, Status, UtcMicros};
use sha2::{Digest, Sha256};
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;

use crate::metrics::{CacheLookup, Metrics};

/// Recordings that sound somewhat alike, of which the copy is sought.
const CANDIDATES: usize = 4;

/// How the cache works.
#[derive(Clone, Debug)]
pub struct CacheRules {
    /// Whose answers an upload may be given.
    pub sharing: Sharing,
    /// How long an answer is given again, in milliseconds.
    pub ttl_ms: u64,
    /// All that answers depend on beside the audio and the arm, by the arm's model: weights, schema, calibration, the
    /// fallback's model.
    pub models: BTreeMap<Option<String>, Vec<u8>>,
    /// Longer audio has no answer that could be kept.
    pub longest_audio: Duration,
}

/// Whose answers an upload may be given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sharing {
    /// Its customer's.
    WithinCustomer,
    /// Everybody's.
    BetweenCustomers,
}

/// Answers that are given again.
pub struct Cache {
    store: Store,
    metrics: Arc<Metrics>,
    rules: CacheRules,
    /// Files that are heard at a time.
    turns: Semaphore,
}

/// What an upload asks, and what its audio is.
#[derive(Clone, Debug)]
pub(crate) struct Known {
    key: CacheKey,
    sound: Sound,
}

impl Cache {
    /// A cache in `store`.
    pub fn new(store: Store, metrics: Arc<Metrics>, rules: CacheRules) -> Self {
        let turns = std::thread::available_parallelism().map_or(1, usize::from);
        Self { store, metrics, rules, turns: Semaphore::new(turns) }
    }

    /// Looks for an answer, first to the same bytes, then, for the low lane, to the same sound. `None` where this upload has no place in the
    /// cache: its file cannot be read, or its customer's name not be kept.
    pub(crate) async fn look(
        &self,
        question: &Question,
        audio: &Path,
        now: UtcMicros,
    ) -> Option<(Known, Option<Annotation>)> {
        let tenant = match self.rules.sharing {
            Sharing::WithinCustomer => Tenant::customer(&question.upload.customer_id)?,
            Sharing::BetweenCustomers => Tenant::everybody(),
        };
        let path = audio.to_owned();
        let content = spawn_blocking(move || content(&path)).await.ok()?.ok()?;
        let key = CacheKey { tenant, question: self.asked(question), content };
        if let Some(answer) = found("same bytes", self.store.cached(&key, now).await).flatten() {
            self.metrics.cache_lookup(CacheLookup::Content);
            return Some((Known { key, sound: Sound::default() }, Some(answer)));
        }
        // Who waits is not made to wait for being heard twice.
        if question.lane == Lane::High {
            self.metrics.cache_lookup(CacheLookup::Miss);
            return Some((Known { key, sound: Sound::default() }, None));
        }
        let fingerprint = self.fingerprint(audio.to_owned()).await;
        let answer = match &fingerprint {
            Some(fingerprint) => self.alike(&key, fingerprint, now).await,
            None => None,
        };
        self.metrics.cache_lookup(if answer.is_some() { CacheLookup::Fingerprint } else { CacheLookup::Miss });
        Some((Known { key, sound: fingerprint.map(sound).unwrap_or_default() }, answer))
    }

    /// A hash of what is asked: the models, and what the arm makes of them.
    fn asked(&self, question: &Question) -> String {
        let arm = &question.arm;
        let mut hash = Sha256::new();
        // An experiment is a question of its own: were its control's answers known from before, arms would not be alike.
        let experiment = arm.experiment.as_deref().unwrap_or_default();
        let models = &self.rules.models[&question.arm.model][..];
        for part in [models, arm.prompt.as_bytes(), &arm.threshold.to_le_bytes(), experiment.as_bytes()] {
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part);
        }
        hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
    }

    async fn fingerprint(&self, path: PathBuf) -> Option<Fingerprint> {
        let _turn = self.turns.acquire().await.expect("it is never closed");
        let longest = self.rules.longest_audio;
        // What cannot be heard, the model refuses with the reason.
        spawn_blocking(move || Fingerprint::of(&path, longest)).await.ok()?.ok()?
    }

    async fn alike(&self, key: &CacheKey, fingerprint: &Fingerprint, now: UtcMicros) -> Option<Annotation> {
        let (sketch, of) = (fingerprint.sketch(), (&key.tenant, key.question.as_str()));
        let candidates = found("alike sounds", self.store.cached_alike(of, &sketch, CANDIDATES, now).await)?;
        let _turn = self.turns.acquire().await.expect("it is never closed");
        let fingerprint = fingerprint.clone();
        let copy = move || {
            let is_copy = |Sound { fingerprint: values, length_ms, .. }: Sound| {
                fingerprint.is_copy_of(&Fingerprint { values, length_ms })
            };
            candidates.into_iter().find_map(|(answer, sound)| is_copy(sound).then_some(answer))
        };
        // Of long recordings that takes a while.
        spawn_blocking(copy).await.ok()?
    }

    /// What to keep of an upload that ended: a model's answer that was accepted.
    pub(crate) fn entry(&self, outcome: &Outcome, known: &Known) -> Option<CacheEntry> {
        let is_accepted = match outcome.branch? {
            Branch::Primary => !outcome.below_threshold,
            Branch::Fallback => true,
            Branch::Cache => false,
        };
        (is_accepted && outcome.status == Status::Completed).then_some(())?;
        Some(CacheEntry {
            key: known.key.clone(),
            customer_id: outcome.customer_id.clone()?,
            answer: Annotation {
                model: outcome.model.clone()?,
                metadata: outcome.metadata.clone(),
                confidence: outcome.confidence,
                field_confidence: outcome.field_confidence.clone(),
                inference_ms: 0,
                cost: records::MicroUsd(0),
            },
            sound: known.sound.clone(),
            created_at: outcome.completed_at,
            expires_at: outcome.completed_at.plus_ms(self.rules.ttl_ms),
        })
    }
}

fn sound(fingerprint: Fingerprint) -> Sound {
    let sketch = fingerprint.sketch();
    Sound { fingerprint: fingerprint.values, length_ms: fingerprint.length_ms, sketch }
}

/// What the store found; nothing where it failed.
fn found<T, E: std::fmt::Display>(what: &str, found: Result<T, E>) -> Option<T> {
    found.inspect_err(|error| tracing::warn!(%error, "the cache cannot be asked for {what}; a model is asked")).ok()
}

/// SHA-256 of a file's bytes.
fn content(path: &Path) -> std::io::Result<[u8; 32]> {
    let (mut file, mut hash) = (File::open(path)?, Sha256::new());
    let mut piece = vec![0; 64 << 10];
    loop {
        match file.read(&mut piece)? {
            0 => return Ok(hash.finalize().into()),
            count => hash.update(&piece[..count]),
        }
    }
}
