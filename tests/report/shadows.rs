//! Shadows of experiments: each upload of the control is described once more, whoever dies, and only the report hears of it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use connectors::objects::{Objects, ObjectsOptions};
use connectors::store::{Store, StoredExperiment};
use futures::FutureExt;
use futures::future::{BoxFuture, pending};
use models::{Annotator, Request};
use records::{Annotation, Branch, ErrorType, Fault, MicroUsd, Outcome, PairState, UtcMicros};
use tempfile::TempDir;
use tidemark::config::Config;
use tidemark::experiments::{Shadows, report};
use tidemark::worker::ByArm;
use tokio::sync::Notify;

use crate::make::{START, attempts, completed, payload};

const UPLOADS: u64 = 300;

fn now() -> UtcMicros {
    START.plus_ms(60_000)
}

/// Answers so many requests and hangs from there on, as a process that dies.
struct Mortal {
    name: &'static str,
    left: AtomicU64,
    asked: AtomicU64,
    died: Notify,
}

impl Mortal {
    fn new(name: &'static str, left: u64) -> Arc<Self> {
        Arc::new(Self { name, left: AtomicU64::new(left), asked: AtomicU64::new(0), died: Notify::new() })
    }
}

impl Annotator for Mortal {
    fn model(&self) -> &str {
        self.name
    }

    fn annotate(&self, request: Request) -> BoxFuture<'_, Result<Annotation, Fault>> {
        async move {
            if self.left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_err() {
                self.died.notify_one();
                return pending().await;
            }
            self.asked.fetch_add(1, Ordering::SeqCst);
            if request.upload_id.as_str().ends_with('7') {
                return Err(Fault::permanent(ErrorType::Model, "it says nothing"));
            }
            let metadata = [("genre".to_owned(), request.prompt.as_ref().into())].into_iter().collect();
            Ok(Annotation {
                model: self.name.to_owned(),
                metadata,
                confidence: None,
                field_confidence: BTreeMap::new(),
                inference_ms: 5,
                cost: MicroUsd(0),
            })
        }
        .boxed()
    }
}

struct World {
    store: Store,
    config: Config,
    folder: TempDir,
}

impl World {
    async fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let store = Store::open(&folder.path().join("tidemark.db")).await.expect("a store");
        let definition = r#"{"name":"e","smallest_difference":0.03,"arms":[{"name":"control","weight":1},{"name":"b","weight":1}],
            "shadows":[{"name":"all","prompt":"And now?"},{"name":"half","share":0.5,"model":"other"}]}"#;
        let experiment = StoredExperiment {
            name: "e".into(),
            definition: definition.into(),
            starts_at: START,
            ends_at: None,
            stopped_at: None,
            stops: Vec::new(),
        };
        store.start_experiment(&experiment, START).await.expect("started");
        let mut config = Config::default();
        config.models.insert("other".into(), Default::default());
        Self { store, config, folder }
    }

    /// Uploads of both arms, some of them answered from the cache.
    async fn fill(&self) -> Vec<Outcome> {
        let audio = self.folder.path().join("audio.wav");
        std::fs::write(&audio, b"a file").expect("written");
        let outcome = |number: u64| Outcome {
            customer_id: Some(format!("customer-{number}")),
            source: Some(audio.to_str().expect("UTF-8").to_owned()),
            experiment: Some("e".into()),
            arm: Some(["control", "b"][(number % 3 == 2) as usize].into()),
            below_threshold: false,
            branch: Some(if number % 10 == 4 { Branch::Cache } else { Branch::Primary }),
            ..completed(number, 1, START.plus_ms(number))
        };
        let outcomes: Vec<Outcome> = (0..UPLOADS).map(outcome).collect();
        let admissions: Vec<_> = outcomes.iter().map(|it| (it.upload_id.clone(), it.lane, it.arrived_at)).collect();
        self.store.admit(&admissions).await.expect("admitted");
        let writes: Vec<_> = outcomes.iter().map(|it| (it.clone(), attempts(it), payload(0).into())).collect();
        self.store.commit(&writes).await.expect("committed");
        outcomes
    }

    fn shadows(&self, usual: &Arc<Mortal>, other: &Arc<Mortal>) -> Shadows {
        let named = BTreeMap::from([("other".to_owned(), Arc::clone(other) as Arc<dyn Annotator>)]);
        Shadows {
            store: self.store.clone(),
            config: self.config.clone(),
            models: ByArm { usual: Arc::clone(usual) as Arc<dyn Annotator>, named },
            objects: Arc::new(Objects::new(ObjectsOptions::default(), self.folder.path().join("tmp"))),
            clock: now,
        }
    }

    async fn said(&self, arm: &str) -> Vec<(u64, Outcome)> {
        let all = self.store.shadow_outcomes("e", 0..=u64::MAX >> 1).await.expect("read");
        all.into_iter().filter(|(_, outcome)| outcome.arm.as_deref() == Some(arm)).collect()
    }
}

#[tokio::test]
async fn each_upload_of_the_control_is_described_once_whoever_dies() {
    let world = World::new().await;
    let outcomes = world.fill().await;
    let mut dice = fastrand::Rng::with_seed(3);
    let (mut deaths, mut done) = (0, false);
    while !done {
        let left = dice.u64(0..150);
        let (usual, other) = (Mortal::new("usual", left), Mortal::new("other", left));
        let shadows = world.shadows(&usual, &other);
        // Who hangs is dropped with all that it had in hand.
        let looks = async { while shadows.look().await.expect("looked") {} };
        done = tokio::select! {
            () = looks => true,
            () = usual.died.notified() => false,
            () = other.died.notified() => false,
        };
        deaths += u32::from(!done);
    }
    assert!(deaths > 1, "somebody died");

    let takes = |it: &&Outcome| it.arm.as_deref() == Some("control") && it.branch != Some(Branch::Cache);
    let controls: BTreeSet<_> = outcomes.iter().filter(takes).map(|it| it.upload_id.clone()).collect();
    let said = world.said("all").await;
    let ids: BTreeSet<_> = said.iter().map(|(_, outcome)| outcome.upload_id.clone()).collect();
    assert_eq!((said.len(), &ids), (controls.len(), &controls));
    for (seq, outcome) in &said {
        assert_eq!(outcome.upload_id, outcomes[*seq as usize - 1].upload_id, "beside its own outcome");
        let is_mute = outcome.upload_id.as_str().ends_with('7');
        let answer = outcome.metadata.get("genre").and_then(|genre| genre.as_str());
        assert_eq!((answer, outcome.error.is_some()), ((!is_mute).then_some("And now?"), is_mute));
    }
    let half = world.said("half").await;
    assert!(half.iter().all(|(_, outcome)| controls.contains(&outcome.upload_id)));
    assert!(half.iter().filter_map(|(_, outcome)| outcome.model.as_deref()).all(|model| model == "other"));
    // Five standard deviations of Binomial(180, 0.5) are 34.
    let middle = controls.len() / 2;
    assert!(half.len().abs_diff(middle) < 34, "{} of {}", half.len(), controls.len());

    let log = world.store.outcomes_after(0, usize::MAX).await.expect("read");
    assert_eq!(log.into_iter().map(|(_, outcome)| outcome).collect::<Vec<_>>(), outcomes, "nobody else hears of it");
}

#[tokio::test]
async fn the_report_has_the_shadow_beside_the_control_over_the_same_uploads() {
    let world = World::new().await;
    let outcomes = world.fill().await;
    let (usual, other) = (Mortal::new("usual", u64::MAX), Mortal::new("other", u64::MAX));
    let shadows = world.shadows(&usual, &other);
    assert!(shadows.look().await.expect("looked"));
    let stored = world.store.experiments().await.expect("read").remove(0);
    let controls =
        outcomes.iter().filter(|it| it.arm.as_deref() == Some("control") && it.branch != Some(Branch::Cache));
    let controls = controls.count() as u64;
    for is_whole in [false, true] {
        let report = report(&world.store, &stored, now()).await.expect("reported");
        let [all, half] = &report.shadows[..] else { panic!("two: {:?}", report.shadows) };
        let count = |state| all.difference.uploads(state);
        assert_eq!(count(PairState::Compared) + count(PairState::Open), controls);
        assert_eq!(count(PairState::Open) == 0, is_whole, "{}", count(PairState::Open));
        assert_eq!((all.name.as_str(), half.name.as_str(), report.comparisons.len()), ("all", "half", 1));
        let accepted = all.difference.measures().find(|row| row.name == "accepted").expect("it is compared");
        assert_eq!((accepted.uploads, accepted.means), (count(PairState::Compared), Some([1.0, 0.0])));
        while shadows.look().await.expect("looked") {}
    }
    let asked = usual.asked.load(Ordering::SeqCst);
    assert_eq!(asked, controls, "and about each once");
    assert!(!shadows.look().await.expect("looked"), "there is nothing left");
}
