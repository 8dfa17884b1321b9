//! Shadows: uploads of an experiment's control are described once more, by another model, prompt or threshold, after they have
//! ended and for nobody but the report.
//!
//! A shadow goes through the log of outcomes and notes how far it is, so it leaves nothing out whoever dies, and hours behind
//! it is only late. It is asked in the low lane with a deadline far away: whatever else waits for its model goes first. Of the
//! workers of a store one at a time asks for a shadow.

use std::sync::Arc;
use std::time::Duration;

use backon::{ExponentialBuilder, Retryable};
use connectors::objects::Objects;
use connectors::store::{Store, StoreError, StoredExperiment};
use futures::{StreamExt, TryStreamExt, stream};
use models::{Late, Request};
use operators::fraction;
use records::{Annotation, Branch, Fault, FaultClass, Lane, MicroUsd, Outcome, Status, Upload, UtcMicros};

use super::ExperimentError;
use super::definition::{Definition, Shadow};
use crate::config::Config;
use crate::worker::ByArm;

/// How often it is looked whether something ended.
const INTERVAL: Duration = Duration::from_secs(1);

/// Uploads that are asked about before it is noted how far a shadow is.
const PAGE: usize = 64;

/// How long a shadow's answer may take: longer than anybody else's, so that it never goes first.
const PATIENCE_MS: u64 = 24 * 60 * 60 * 1000;

/// After its end an experiment is not looked at any more.
const FOLLOWED_MS: u64 = 7 * 24 * 60 * 60 * 1000;

/// How often an upload is tried.
const TRIES: usize = 3;

/// What asks the shadows of whichever experiments there are.
pub struct Shadows {
    /// Where the outcomes are.
    pub store: Store,
    /// What arms have that say nothing of their own.
    pub config: Config,
    /// The self-hosted models.
    pub models: ByArm,
    /// Where audio comes from.
    pub objects: Arc<Objects>,
    /// The time of day.
    pub clock: fn() -> UtcMicros,
}

impl Shadow {
    /// Whether it is asked about an upload of its experiment that ended so: the control's, once, and not where the control
    /// had an earlier answer from the cache.
    pub(super) fn takes(&self, outcome: &Outcome) -> bool {
        outcome.arm.as_deref() == Some(&self.control)
            && outcome.version == 1
            && outcome.branch != Some(Branch::Cache)
            && outcome.upload().is_some()
            && fraction(&self.salt, outcome.upload_id.as_str()) < self.share
    }
}

impl Shadows {
    /// Looks every second, for ever, and at once again while there is more to ask.
    pub async fn follow(self) {
        loop {
            match self.look().await {
                Ok(true) => continue,
                Ok(false) => {}
                Err(error) => tracing::warn!(%error, "cannot ask the shadows of experiments; trying again in a while"),
            }
            tokio::time::sleep(INTERVAL).await;
        }
    }

    /// Asks each shadow about a page of what it was not asked about yet; whether there was anything.
    ///
    /// # Errors
    /// [`ExperimentError`]; the next look goes on from there.
    pub async fn look(&self) -> Result<bool, ExperimentError> {
        let (now, mut any) = ((self.clock)(), false);
        let is_followed = |stored: &StoredExperiment| {
            stored.starts_at <= now && stored.end().is_none_or(|end| now.ms_since(end) < FOLLOWED_MS)
        };
        for stored in self.store.experiments().await?.into_iter().filter(is_followed) {
            let cannot = |reason| ExperimentError::Lacks { name: stored.name.clone(), reason };
            for shadow in Definition::of(&stored)?.shadows(&self.config).map_err(cannot)? {
                any |= self.ask_page(&stored.name, &shadow).await?;
            }
        }
        Ok(any)
    }

    async fn ask_page(&self, experiment: &str, shadow: &Shadow) -> Result<bool, StoreError> {
        let (store, name) = (&self.store, shadow.arm.name.as_str());
        let sink = format!("shadow {experiment} {name}");
        let position = store.sink_position(&sink).await?;
        if store.outcomes_of(experiment, position, 1).await?.is_empty() {
            return Ok(false);
        }
        let _turn = match store.claim_export(&sink).await {
            Err(StoreError::Held { .. }) => return Ok(false),
            turn => turn?,
        };
        // Another worker may have asked meanwhile.
        let position = store.sink_position(&sink).await?;
        let page = store.outcomes_of(experiment, position, PAGE).await?;
        let Some((last, _)) = page.last() else { return Ok(false) };
        let last = *last;
        let asked: Vec<(u64, Outcome)> = page.into_iter().filter(|(_, outcome)| shadow.takes(outcome)).collect();
        let asked =
            stream::iter(asked).map(|(seq, outcome)| async move { Ok((seq, self.ask(shadow, outcome).await?)) });
        let said: Vec<_> = match asked.buffer_unordered(self.config.model.max_batch.get()).try_collect().await {
            Ok(said) => said,
            // A model that is dead, or a bucket that is away, says nothing about the shadow: the page is asked about later.
            Err(fault) => {
                let fault: Fault = fault;
                tracing::warn!(experiment, shadow = name, %fault, "a shadow cannot answer at present");
                return Ok(false);
            }
        };
        store.add_shadow_outcomes(experiment, name, &said).await?;
        store.advance_sink(&sink, last).await?;
        Ok(true)
    }

    /// What the shadow says of an upload, as an outcome; the fault where it may say something later.
    async fn ask(&self, shadow: &Shadow, original: Outcome) -> Result<Outcome, Fault> {
        let upload = original.upload().expect("what a shadow takes has an event");
        let begun_at = (self.clock)();
        let pauses = ExponentialBuilder::default().with_max_times(TRIES - 1).with_jitter();
        let said = (|| self.annotate(shadow, &upload)).retry(pauses);
        let said = said.when(|fault: &Fault| fault.class == FaultClass::Retryable).await;
        let now = (self.clock)();
        let blank = Outcome {
            lane: Lane::Low,
            status: Status::DeadLettered,
            branch: None,
            fallback_reason: None,
            model: None,
            arm: Some(shadow.arm.name.clone()),
            confidence: None,
            below_threshold: false,
            metadata: Default::default(),
            field_confidence: Default::default(),
            attempts: 1,
            error: None,
            error_type: None,
            queued_ms: 0,
            inference_ms: 0,
            total_ms: now.ms_since(begun_at),
            cost_micro_usd: MicroUsd(0),
            completed_at: now,
            ..original
        };
        Ok(match said {
            Ok(answer) => Outcome {
                status: Status::Completed,
                branch: Some(Branch::Primary),
                model: Some(answer.model),
                below_threshold: answer.confidence.is_none_or(|sure| sure.get() < shadow.arm.threshold),
                confidence: answer.confidence,
                metadata: answer.metadata,
                field_confidence: answer.field_confidence,
                inference_ms: answer.inference_ms,
                ..blank
            },
            Err(fault) if fault.class == FaultClass::Retryable => return Err(fault),
            Err(fault) => Outcome { error: Some(fault.message), error_type: Some(fault.error_type), ..blank },
        })
    }

    async fn annotate(&self, shadow: &Shadow, upload: &Upload) -> Result<Annotation, Fault> {
        let audio = self.objects.fetch(&upload.audio_uri, Lane::Low).await?;
        let request = Request {
            upload_id: upload.upload_id.clone(),
            audio: audio.path().to_owned(),
            lane: Lane::Low,
            deadline: (self.clock)().plus_ms(PATIENCE_MS),
            prompt: Arc::clone(&shadow.arm.prompt),
            late: Late::Answer,
        };
        self.models.of(&shadow.arm).annotate(request).await
    }
}
