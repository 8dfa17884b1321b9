//! A worker without a model's work, for benchmarks.

use std::collections::BTreeMap;
use std::sync::Arc;

use connectors::objects::{Objects, ObjectsOptions};
use connectors::source::Source;
use connectors::spool::Spool;
use connectors::store::Store;
use futures::FutureExt;
use futures::future::{BoxFuture, ready};
use models::{Annotator, Request};
use records::{Annotation, Confidence, Fault, Metadata, MicroUsd};
use tidemark::clock::now;
use tidemark::config::Config;
use tidemark::health::Health;
use tidemark::metrics::Metrics;
use tidemark::worker::{ByArm, Parts, Worker};

/// Uploads of each lane that the worker may have in flight.
const IN_FLIGHT: [usize; 2] = [256, 4096];

/// What the names of uploads begin with whose answers have a model of their name, so that a label of the metrics tells of each.
pub(crate) const PROBE: &str = "probe-";

/// A model that knows its answer.
struct Scripted;

impl Annotator for Scripted {
    fn model(&self) -> &str {
        "scripted"
    }

    fn annotate(&self, request: Request) -> BoxFuture<'_, Result<Annotation, Fault>> {
        let sure = Confidence::try_from(0.9).expect("in [0, 1]");
        let mut metadata = Metadata::new();
        metadata.insert("genre".to_owned(), "jazz".into());
        metadata.insert("tempo_bpm".to_owned(), 120.into());
        let annotation = Annotation {
            model: if request.upload_id.as_str().starts_with(PROBE) {
                request.upload_id.to_string()
            } else {
                "scripted".to_owned()
            },
            metadata,
            confidence: Some(sure),
            field_confidence: BTreeMap::from([("genre".to_owned(), sure), ("tempo_bpm".to_owned(), sure)]),
            inference_ms: 1,
            cost: MicroUsd(0),
        };
        ready(Ok(annotation)).boxed()
    }
}

/// An upload event.
pub(crate) fn event(name: &str, tier: &str) -> Vec<u8> {
    let event =
        serde_json::json!({ "upload_id": name, "customer_id": "c", "tier": tier, "audio_uri": "/audio/clip.wav" });
    event.to_string().into_bytes()
}

/// A store's queue as a source.
pub(crate) fn spool(store: &Store) -> Spool {
    Spool::new(store.clone(), 60_000, now)
}

/// A worker, and its metrics.
pub(crate) fn worker(source: Arc<dyn Source>, store: &Store) -> (Worker, Arc<Metrics>) {
    let parts = Parts {
        source,
        store: store.clone(),
        primary: ByArm::one(Arc::new(Scripted)),
        objects: Arc::new(Objects::new(ObjectsOptions::default(), std::env::temp_dir())),
        fallback: None,
        cache: None,
        rules: Config::default().rules().expect("valid"),
        max_in_flight: IN_FLIGHT,
        metrics: Arc::new(Metrics::new()),
        health: Arc::new(Health::default()),
        clock: now,
    };
    (Worker::start(&parts).expect("starts"), parts.metrics)
}
