//! The cache: answers that are given again where the same audio is asked about in the same way.
//!
//! The same audio is the same bytes, or a sound whose fingerprint shares numbers with this one's; whether such a sound is the
//! same is for the caller to find. A tenant is part of every key, and of every row that is read it is looked at once more.

use std::collections::BTreeMap;

use records::{Annotation, Confidence, Lane, MicroUsd, Operation, UtcMicros};
use serde_json::json as object;

use super::database::Transaction;
use super::outcomes::write_outcomes;
use super::rows::{from_json, json};
use super::values::{Row, Value, list};
use super::{Store, StoreError, Write};

/// Who may have an answer.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Tenant(String);

impl Tenant {
    /// One customer. `None` for a name that no database keeps as it is: nothing of theirs is cached.
    pub fn customer(id: &str) -> Option<Self> {
        (!id.contains('\0')).then(|| Self(format!("customer/{id}")))
    }

    /// All customers together.
    pub fn everybody() -> Self {
        Self("everybody".to_owned())
    }
}

/// What was asked about what, and for whom.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct CacheKey {
    /// Who may have the answer.
    pub tenant: Tenant,
    /// A hash of all that the answer depends on beside the audio.
    pub question: String,
    /// SHA-256 of the audio's bytes.
    pub content: [u8; 32],
}

/// What a recording sounds like.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sound {
    /// Its fingerprint; empty where it has none.
    pub fingerprint: Vec<u32>,
    /// How long it is.
    pub length_ms: u64,
    /// The numbers of the fingerprint that it is found by.
    pub sketch: Vec<u32>,
}

/// An answer to keep.
#[derive(Clone, Debug, PartialEq)]
pub struct CacheEntry {
    /// Where it is found.
    pub key: CacheKey,
    /// Whose upload was asked about.
    pub customer_id: String,
    /// The answer.
    pub answer: Annotation,
    /// What the audio sounds like.
    pub sound: Sound,
    /// When it was given.
    pub created_at: UtcMicros,
    /// From when on it is given no more.
    pub expires_at: UtcMicros,
}

const COLUMNS: &str = "cache (tenant, question, content, customer_id, model, metadata, confidence, field_confidence,
    fingerprint, length_ms, created_at, expires_at)";

/// The last answer is the one that stands. Not everybody who keeps one has heard the audio.
const REPLACE: &str = "ON CONFLICT (tenant, question, content) DO UPDATE SET customer_id = excluded.customer_id,
    model = excluded.model, metadata = excluded.metadata, confidence = excluded.confidence,
    field_confidence = excluded.field_confidence, created_at = excluded.created_at, expires_at = excluded.expires_at,
    fingerprint = CASE WHEN length(excluded.fingerprint) > 0 THEN excluded.fingerprint ELSE cache.fingerprint END,
    length_ms = CASE WHEN length(excluded.fingerprint) > 0 THEN excluded.length_ms ELSE cache.length_ms END";

const SAME: &str = "SELECT * FROM cache WHERE tenant = $1 AND question = $2 AND content = $3 AND expires_at > $4";

const SIMILAR: &str = "SELECT c.* FROM cache AS c JOIN
    (SELECT content, count(*) AS shared FROM cache_sketches WHERE tenant = $1 AND question = $2
        AND value IN (SELECT CAST(value ->> 0 AS BIGINT) FROM json_each($3)) GROUP BY content) AS s USING (content)
    WHERE c.tenant = $1 AND c.question = $2 AND c.expires_at > $4
    ORDER BY s.shared DESC, c.created_at DESC LIMIT $5";

const FORGET_CUSTOMER: &str = "DELETE FROM cache WHERE customer_id = $1";

/// Each entry takes its sketches along, and nobody commits meanwhile: so some at a time.
const FORGET_EXPIRED: &str = "DELETE FROM cache WHERE (tenant, question, content) IN
    (SELECT tenant, question, content FROM cache WHERE expires_at <= $1 ORDER BY expires_at LIMIT 500)";

impl Store {
    /// The answer to the same question about the same bytes, where one is kept that has not expired. It has cost nothing.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn cached(&self, key: &CacheKey, now: UtcMicros) -> Result<Option<Annotation>, StoreError> {
        let CacheKey { tenant, question, content } = key;
        let values = [tenant.0.as_str().into(), question.into(), content[..].into(), now.0.into()];
        let rows = self.database.read(SAME, &values).await?;
        rows.first().map(|row| answer(row, tenant)).transpose()
    }

    /// The answers to the same question about sounds that share numbers of a sketch, those that share most first, with what
    /// they sound like.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn cached_alike(
        &self,
        (tenant, question): (&Tenant, &str),
        sketch: &[u32],
        limit: usize,
        now: UtcMicros,
    ) -> Result<Vec<(Annotation, Sound)>, StoreError> {
        let sketch = list(sketch.iter().map(|value| [value]));
        let values = [tenant.0.as_str().into(), question.into(), sketch, now.0.into(), limit.into()];
        let rows = self.database.read(SIMILAR, &values).await?;
        rows.iter().map(|row| Ok((answer(row, tenant)?, sound(row)?))).collect()
    }

    /// Writes outcomes as [`Self::commit`] does, and in the same transaction the answers to keep.
    ///
    /// # Errors
    /// [`StoreError`]. Committing again is safe.
    ///
    /// # Panics
    /// As [`Self::commit`].
    pub async fn commit_and_cache(&self, group: &[Write], entries: &[CacheEntry]) -> Result<Vec<bool>, StoreError> {
        let lane = group.iter().map(|(outcome, ..)| outcome.lane).min().unwrap_or(Lane::Low);
        let mut transaction = self.database.begin_in_turn_for(lane).await?;
        let written = write_outcomes(&mut transaction, group).await?;
        keep(&mut transaction, entries).await?;
        transaction.commit().await?;
        Ok(written)
    }

    /// Deletes all answers about a customer's uploads, whoever may have them; how many.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn forget_cached(&self, customer_id: &str, now: UtcMicros) -> Result<u64, StoreError> {
        let mut transaction = self.database.begin_in_turn().await?;
        let forgotten = transaction.execute(FORGET_CUSTOMER, &[customer_id.into()]).await?;
        if forgotten > 0 {
            let detail = object!({ "answers": forgotten });
            self.audit(&mut transaction, (Operation::ForgetCached, customer_id, &detail), now).await?;
        }
        transaction.commit().await?;
        Ok(forgotten)
    }

    /// Deletes the answers that have expired; how many.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn forget_expired(&self, now: UtcMicros) -> Result<u64, StoreError> {
        let mut forgotten = 0;
        loop {
            match self.write_one(FORGET_EXPIRED, &[now.0.into()]).await? {
                0 => return Ok(forgotten),
                some => forgotten += some,
            }
        }
    }
}

async fn keep(transaction: &mut Transaction, entries: &[CacheEntry]) -> Result<(), StoreError> {
    // One statement cannot write a row twice: of the same bytes twice in a group, the last answer stands.
    let entries: BTreeMap<&CacheKey, (&CacheEntry, Vec<u8>)> =
        entries.iter().map(|entry| (&entry.key, (entry, bytes(&entry.sound.fingerprint)))).collect();
    let rows: Vec<Vec<Value<'_>>> = entries.values().map(|(entry, fingerprint)| values(entry, fingerprint)).collect();
    transaction.insert(COLUMNS, &rows, REPLACE).await?;
    let rows: Vec<Vec<Value<'_>>> = entries
        .iter()
        .flat_map(|(key, (entry, _))| entry.sound.sketch.iter().map(move |value| sketch_values(key, *value)))
        .collect();
    transaction
        .insert("cache_sketches (tenant, question, value, content)", &rows, "ON CONFLICT DO NOTHING")
        .await
        .map(drop)
}

fn sketch_values(key: &CacheKey, value: u32) -> Vec<Value<'_>> {
    vec![key.tenant.0.as_str().into(), key.question.as_str().into(), value.into(), key.content[..].into()]
}

fn values<'a>(entry: &'a CacheEntry, fingerprint: &'a [u8]) -> Vec<Value<'a>> {
    vec![
        entry.key.tenant.0.as_str().into(),
        entry.key.question.as_str().into(),
        entry.key.content[..].into(),
        entry.customer_id.as_str().into(),
        entry.answer.model.as_str().into(),
        json(&entry.answer.metadata).into(),
        entry.answer.confidence.map(Confidence::get).into(),
        json(&entry.answer.field_confidence).into(),
        fingerprint.into(),
        entry.sound.length_ms.into(),
        entry.created_at.0.into(),
        entry.expires_at.0.into(),
    ]
}

fn bytes(fingerprint: &[u32]) -> Vec<u8> {
    fingerprint.iter().flat_map(|value| value.to_le_bytes()).collect()
}

/// The row's answer, for the tenant who may have it.
fn answer(row: &Row, tenant: &Tenant) -> Result<Annotation, StoreError> {
    if row.get::<&str>("tenant")? != tenant.0 {
        return Err(StoreError::Damaged("the cache gave one tenant's answer to another".to_owned()));
    }
    let confidence: Option<f64> = row.get("confidence")?;
    Ok(Annotation {
        model: row.get("model")?,
        metadata: from_json(row, "metadata")?,
        confidence: confidence.map(Confidence::try_from).transpose().map_err(StoreError::Damaged)?,
        field_confidence: from_json(row, "field_confidence")?,
        inference_ms: 0,
        cost: MicroUsd(0),
    })
}

fn sound(row: &Row) -> Result<Sound, StoreError> {
    let (numbers, rest) = row.get::<&[u8]>("fingerprint")?.as_chunks::<4>();
    if !rest.is_empty() {
        return Err(StoreError::Damaged("fingerprint: it is cut off".to_owned()));
    }
    let fingerprint = numbers.iter().map(|number| u32::from_le_bytes(*number)).collect();
    Ok(Sound { fingerprint, length_ms: row.unsigned("length_ms")?, sketch: Vec::new() })
}
