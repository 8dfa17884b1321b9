//! Alerts: what is read is what ended, and each change is told once, whatever dies between deciding, writing, sending and
//! acknowledging.

use std::collections::VecDeque;
use std::sync::Mutex;

use connectors::sink::{Message, Sink, Topic};
use connectors::store::{Store, StoreError};
use futures::FutureExt;
use futures::future::BoxFuture;
use operators::alerts::{Filter, Limit, Rule};
use proptest::prelude::*;
use records::{AlertPhase, ErrorType, Fault, Lane, Notice, Outcome, Severity, Status, UtcMicros};
use tempfile::TempDir;
use tidemark::alerts::tell::tell;
use tidemark::alerts::watch::Watch;

use crate::make::{START, attempts, completed, dead_lettered, payload};

fn rule(name: &str, metric: &str, limit: f64) -> Rule {
    Rule {
        name: name.into(),
        metric: metric.parse().expect("a metric"),
        filter: Filter::default(),
        limit: Limit::Above(limit),
        window_s: 5,
        hold_s: 2,
        severity: Severity::Warning,
    }
}

async fn new_store() -> (Store, TempDir) {
    let folder = tempfile::tempdir().expect("a folder");
    (Store::open(&folder.path().join("tidemark.db")).await.expect("a store"), folder)
}

fn in_a_runtime<T>(run: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime").block_on(run)
}

/// A receiver that takes what it is sent, or not, or takes it and is not heard.
#[derive(Default)]
struct Receiver {
    taken: Mutex<Vec<Vec<(&'static str, String)>>>,
    answers: Mutex<VecDeque<Answer>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    Takes,
    IsAway,
    IsLost,
    Refuses,
}

impl Sink for Receiver {
    fn name(&self) -> &str {
        "receiver"
    }

    fn takes(&self, topic: Topic) -> bool {
        topic == Topic::Alerts
    }

    fn publish<'a>(&'a self, messages: &'a [Message]) -> BoxFuture<'a, Result<(), Fault>> {
        let answer = self.answers.lock().expect("no panic").pop_front().unwrap_or(Answer::Takes);
        if matches!(answer, Answer::Takes | Answer::IsLost) {
            self.taken.lock().expect("no panic").extend(messages.iter().map(|message| message.attributes.clone()));
        }
        let answered = match answer {
            Answer::Takes => Ok(()),
            Answer::IsAway => Err(Fault::retryable(ErrorType::Unavailable, "away")),
            Answer::IsLost => Err(Fault::indeterminate(ErrorType::Timeout, "no answer")),
            Answer::Refuses => Err(Fault::permanent(ErrorType::Refused, "refused")),
        };
        async move { answered }.boxed()
    }
}

/// What tells notices of an alert apart.
fn name(notice: &Notice) -> (String, AlertPhase, String) {
    (notice.fingerprint(), notice.phase(), notice.starts_at.to_string())
}

#[derive(Clone, Debug)]
enum Step {
    Queue([u64; 2]),
    Wait {
        ms: u64,
    },
    Look,
    /// Dies once it has decided.
    DecideAndDie,
    /// Dies once its changes are written.
    LookAndDie,
    /// Somebody else, who believes to have the turn, makes the same changes first.
    LookSecond,
    /// Tells, and dies where the target did not say that it has taken a notice.
    Tell(Vec<Answer>),
}

fn step() -> impl Strategy<Value = Step> {
    let waiting = || prop_oneof![0_u64..10, 10_u64..20];
    let answer = prop_oneof![
        4 => Just(Answer::Takes),
        1 => Just(Answer::IsAway),
        1 => Just(Answer::IsLost),
        1 => Just(Answer::Refuses),
    ];
    prop_oneof![
        6 => (waiting(), waiting()).prop_map(|(high, low)| Step::Queue([high, low])),
        4 => (1_u64..3000).prop_map(|ms| Step::Wait { ms }),
        8 => Just(Step::Look),
        2 => Just(Step::DecideAndDie),
        2 => Just(Step::LookAndDie),
        2 => Just(Step::LookSecond),
        4 => prop::collection::vec(answer, 0..4).prop_map(Step::Tell),
    ]
}

/// A history with deaths in it, and the same one without.
struct History {
    rules: Vec<Rule>,
    store: Store,
    watch: Watch,
    calm: Store,
    calm_watch: Watch,
    receiver: Receiver,
    now: UtcMicros,
    queue: [u64; 2],
    lost: usize,
}

impl History {
    async fn open(store: Store, calm: Store) -> Self {
        let high = Filter { lane: Some(Lane::High), ..Filter::default() };
        let rules = vec![rule("all", "queue", 15.0), Rule { filter: high, hold_s: 0, ..rule("high", "queue", 9.0) }];
        let watch = Watch::open(store.clone(), rules.clone(), START).await.expect("opens");
        let calm_watch = Watch::open(calm.clone(), rules.clone(), START).await.expect("opens");
        let receiver = Receiver::default();
        Self { rules, store, watch, calm, calm_watch, receiver, now: START, queue: [0; 2], lost: 0 }
    }

    async fn take(&mut self, step: Step) {
        match step {
            Step::Queue(queue) => self.queue = queue,
            Step::Wait { ms } => self.now = self.now.plus_ms(ms),
            Step::Look => self.look().await,
            Step::DecideAndDie => {
                self.watch.decide(Some(self.queue), self.now).await.expect("decided");
                self.restart().await;
            }
            Step::LookAndDie => {
                self.look().await;
                self.restart().await;
            }
            Step::LookSecond => {
                let mut other = Watch::open(self.store.clone(), self.rules.clone(), self.now).await.expect("opens");
                let changes = other.decide(Some(self.queue), self.now).await.expect("decided");
                let is_change = !changes.is_empty();
                self.look().await;
                match other.make(changes, &targets()).await {
                    Ok(()) => assert!(!is_change, "a change is made once"),
                    Err(error) => assert!(is_change && matches!(error, StoreError::Held { .. }), "{error:?}"),
                }
            }
            Step::Tell(answers) => {
                let taken = self.taken().len();
                *self.receiver.answers.lock().expect("no panic") = answers.into();
                let told = tell(&self.store, &self.receiver).await;
                let is_lost = told.is_err_and(|error| error.error_type == ErrorType::Timeout);
                assert!(!is_lost || self.taken().len() > taken);
                self.lost += usize::from(is_lost);
                self.receiver.answers.lock().expect("no panic").clear();
                self.restart().await;
            }
        }
    }

    async fn look(&mut self) {
        for watch in [&mut self.watch, &mut self.calm_watch] {
            let changes = watch.decide(Some(self.queue), self.now).await.expect("decided");
            watch.make(changes, &targets()).await.expect("made");
        }
    }

    async fn restart(&mut self) {
        self.watch = Watch::open(self.store.clone(), self.rules.clone(), self.now).await.expect("opens");
    }

    fn taken(&self) -> Vec<Vec<(&'static str, String)>> {
        self.receiver.taken.lock().expect("no panic").clone()
    }

    /// What the receiver has taken, by alert, is what a history without deaths tells, but for what was repeated as its answer was
    /// lost.
    async fn check(&mut self) {
        tell(&self.store, &self.receiver).await.expect("all is taken at last");
        assert!(self.store.untold("receiver", 0, 9).await.expect("read").is_empty(), "nothing is left");
        let told = self.calm.untold("receiver", 0, usize::MAX).await.expect("read");
        let taken = self.taken();
        assert_eq!(taken.len(), told.len() + self.lost, "repeated only where an answer was lost");
        for rule in &self.rules {
            let expected: Vec<_> =
                told.iter().filter(|it| it.1.label("alertname") == rule.name).map(|it| name(&it.1)).collect();
            let of = |it: &[(&str, String)], key: &str| {
                it.iter().find(|(name, _)| *name == key).map(|(_, text)| text.clone()).expect("an attribute")
            };
            let taken = taken.iter().filter(|it| of(it, "alert") == rule.name);
            let mut taken: Vec<_> = taken
                .map(|it| (of(it, "fingerprint"), of(it, "status").parse().expect("a phase"), of(it, "starts_at")))
                .collect();
            taken.dedup();
            assert_eq!(taken, expected, "each change once, in their order");
        }
    }
}

fn targets() -> Vec<String> {
    vec!["receiver".to_owned()]
}

/// An outcome that ended at a moment: dead, or as slow as its number.
fn ended(number: u64, status: Status, now: UtcMicros) -> Outcome {
    let arrived_at = UtcMicros(now.0 - 50_000);
    let outcome = match status {
        Status::Completed => completed(number, 1, arrived_at),
        Status::DeadLettered => dead_lettered(number, 1, arrived_at),
    };
    Outcome { completed_at: now, ..outcome }
}

async fn commit(store: &Store, outcome: &Outcome) {
    store.admit(&[(outcome.upload_id.clone(), outcome.lane, outcome.arrived_at)]).await.expect("admitted");
    let write = (outcome.clone(), attempts(outcome), payload(0).into());
    assert_eq!(store.commit(&[write]).await.expect("committed"), [true]);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn each_change_is_told_once_whoever_dies_and_whatever_is_lost(steps in prop::collection::vec(step(), 1..80)) {
        in_a_runtime(async {
            let ((store, _folder), (calm, _other)) = (new_store().await, new_store().await);
            let mut history = History::open(store, calm).await;
            for step in steps {
                history.take(step).await;
            }
            history.check().await;
        });
    }

    #[test]
    fn what_is_read_is_what_ended_lately(
        steps in prop::collection::vec((0_u64..2_500, any::<bool>(), 0_usize..4), 1..40)
    ) {
        in_a_runtime(async {
            let (store, _folder) = new_store().await;
            let high = Filter { lane: Some(Lane::High), ..Filter::default() };
            let wide = Rule { window_s: 11, ..rule("dead", "dead_lettered", 0.0) };
            let rules = vec![rule("errors", "error_rate", 0.0), wide, Rule { filter: high, ..rule("slow", "total_p99_ms", 0.0) }];
            let mut watch = Watch::open(store.clone(), rules, START).await.expect("opens");
            let (mut now, mut all) = (START, Vec::new());
            for (ms, is_dead, uploads) in steps {
                now = now.plus_ms(ms);
                let status = if is_dead { Status::DeadLettered } else { Status::Completed };
                for _ in 0..uploads {
                    let outcome = ended(all.len() as u64, status, now);
                    commit(&store, &outcome).await;
                    all.push(outcome);
                }
                // A second stays until all of it is as old as the window is wide.
                let lately = |width_s: u64| {
                    let until = move |it: &&Outcome| (it.completed_at.0 / 1_000_000 + 1 + width_s) * 1_000_000;
                    all.iter().filter(move |it| until(it) > now.0).collect::<Vec<&Outcome>>()
                };
                let dead = |of: &[&Outcome]| of.iter().filter(|it| it.status == Status::DeadLettered).count() as f64;
                let five = lately(5);
                let errors = (!five.is_empty()).then(|| dead(&five) / five.len() as f64);
                let slow = five.iter().filter(|it| it.lane == Lane::High).map(|it| it.total_ms as f64).reduce(f64::max);
                let expected = [errors, Some(dead(&lately(11))), slow];
                let read = watch.read(None, now).await.expect("read");
                let values: Vec<_> = read.iter().map(|(.., reading)| reading.expect("known").value).collect();
                // Fewer than 100 are not above their 99th percentile; below 128 ms it is exact.
                prop_assert_eq!(&values[..2], &expected[..2]);
                let near = values[2].zip(expected[2]).is_none_or(|(found, exact)| (found - exact).abs() <= 0.01 * exact);
                prop_assert!(near && values[2].is_some() == expected[2].is_some(), "{:?} {:?}", values[2], expected[2]);
                assert_eq!(read[0].2.expect("known").requests, five.len() as u64);
            }
            Ok(())
        })?;
    }
}

#[tokio::test]
async fn an_alert_whose_rule_is_gone_is_resolved_by_the_next_process() {
    let (store, _folder) = new_store().await;
    let rules = vec![Rule { hold_s: 0, ..rule("queue", "queue", 0.0) }];
    let mut watch = Watch::open(store.clone(), rules, START).await.expect("opens");
    let changes = watch.decide(Some([1, 0]), START).await.expect("decided");
    watch.make(changes, &targets()).await.expect("made");
    let mut watch = Watch::open(store.clone(), Vec::new(), START.plus_ms(1)).await.expect("opens");
    let changes = watch.decide(Some([1, 0]), START.plus_ms(1)).await.expect("decided");
    watch.make(changes, &targets()).await.expect("made");
    let told: Vec<_> =
        store.untold("receiver", 0, 9).await.expect("read").into_iter().map(|(_, it)| it.phase()).collect();
    assert_eq!(told, [AlertPhase::Firing, AlertPhase::Resolved]);
    assert!(watch.decide(Some([1, 0]), START.plus_ms(2)).await.expect("decided").is_empty());
}

#[tokio::test]
async fn however_many_notices_wait_all_are_told_and_refused_ones_hold_up_nobody_behind_them() {
    let (store, _folder) = new_store().await;
    let rules = ["a", "b"].map(|name| Rule { hold_s: 0, ..rule(name, "queue", 0.0) }).to_vec();
    let mut watch = Watch::open(store.clone(), rules, START).await.expect("opens");
    let [a, b] = watch.decide(Some([1, 0]), START).await.expect("decided").try_into().expect("both fire");
    watch.make(vec![a], &vec!["receiver".to_owned(); 1200]).await.expect("made");
    watch.make(vec![b], &targets()).await.expect("made");
    let receiver = Receiver { answers: Mutex::new([Answer::Refuses].into()), ..Receiver::default() };
    tell(&store, &receiver).await.expect_err("one was refused");
    let taken = || receiver.taken.lock().expect("no panic").len();
    assert_eq!(taken(), 1, "the other alert's");
    tell(&store, &receiver).await.expect("all are taken");
    assert_eq!(taken(), 1201);
    assert!(store.untold("receiver", 0, 1).await.expect("read").is_empty());
}

#[tokio::test]
async fn a_queue_that_nobody_sees_changes_nothing() {
    let (store, _folder) = new_store().await;
    let mut watch =
        Watch::open(store, vec![Rule { hold_s: 0, ..rule("q", "queue", 0.0) }], START).await.expect("opens");
    let changes = watch.decide(Some([1, 0]), START).await.expect("decided");
    watch.make(changes, &targets()).await.expect("made");
    assert!(watch.decide(None, START.plus_ms(1)).await.expect("decided").is_empty(), "it fires on");
    assert_eq!(watch.decide(Some([0, 0]), START.plus_ms(2)).await.expect("decided").len(), 1);
}
