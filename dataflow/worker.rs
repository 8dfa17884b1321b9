//! A worker: the process graph on a thread of its own, joined to a source, a store and models.
//!
//! Every seam has a named thread that takes requests as they come; those of the store take what waits in groups. Calls of models
//! are tasks on the runtime.

use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use backon::{ExponentialBuilder, Retryable};
use connectors::objects::{Audio, Objects};
use connectors::source::Source;
use connectors::store::{CacheEntry, Store};
use futures::FutureExt;
use models::{Annotator, Late, Request};
use operators::bridge::{Port, inlet, link};
use operators::{Admission, Answer, Arm, Question, Ticket, Write};
use records::{Admitted, Annotation, Branch, ErrorType, Fault, FaultClass, Outcome, UtcMicros};
use timely::WorkerConfig;
use timely::communication::Allocator;
use tokio::runtime::Handle;
use tokio::sync::{oneshot, watch};

use crate::audio::AudioInWork;
use crate::cache::Cache;
use crate::clock::SystemClock;
use crate::groups::Groups;
use crate::health::Health;
use crate::metrics::Metrics;
use crate::process::{Rules, Seams, process};
use crate::pull::{Held, Pull};

/// What is not ready where audio cannot be had.
const FETCH: &str = "fetch audio";

/// What a worker is joined to.
#[derive(Clone)]
pub struct Parts {
    /// Where uploads come from.
    pub source: Arc<dyn Source>,
    /// Where outcomes go.
    pub store: Store,
    /// Where audio comes from.
    pub objects: Arc<Objects>,
    /// The self-hosted models.
    pub primary: ByArm,
    /// The paid model, where there is one.
    pub fallback: Option<ByArm>,
    /// Answers that are given again, where they are.
    pub cache: Option<Arc<Cache>>,
    /// What the graph decides by.
    pub rules: Rules,
    /// Uploads in flight, by lane: high, low.
    pub max_in_flight: [usize; 2],
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// Where lasting trouble is noted.
    pub health: Arc<Health>,
    /// The time of day.
    pub clock: fn() -> UtcMicros,
}

/// Models of one kind, of which an arm says which one is asked.
#[derive(Clone)]
pub struct ByArm {
    /// The usual one.
    pub usual: Arc<dyn Annotator>,
    /// Others, by name.
    pub named: BTreeMap<String, Arc<dyn Annotator>>,
}

impl ByArm {
    /// One for all arms.
    pub fn one(model: Arc<dyn Annotator>) -> Self {
        Self { usual: model, named: BTreeMap::new() }
    }

    pub(crate) fn of(&self, arm: &Arm) -> &Arc<dyn Annotator> {
        let named = |name| self.named.get(name).expect("an arm's model is one of the configuration, as was checked");
        arm.model.as_ref().map_or(&self.usual, named)
    }
}

/// A worker that runs.
pub struct Worker {
    source: Arc<dyn Source>,
    held: Arc<Held>,
    stop: watch::Sender<bool>,
    ended: oneshot::Receiver<()>,
    threads: Vec<JoinHandle<()>>,
}

/// The graph, or a thread at one of its seams, panicked. What was not acknowledged comes back.
#[derive(Debug, thiserror::Error)]
#[error("the worker died of a broken invariant; the log says which. Unfinished uploads will be delivered again")]
pub struct WorkerDied;

impl Worker {
    /// Starts the graph and what feeds it, on threads and on the runtime that this is called on.
    pub fn start(parts: &Parts) -> std::io::Result<Self> {
        let runtime = Handle::current();
        let capacity = parts.max_in_flight.iter().sum();
        let (arrivals, arrivals_inlet) = inlet(capacity);
        let (admissions, admissions_port) = link(capacity);
        let (primary, primary_port) = link(capacity);
        let (fallback, fallback_port) = link(capacity);
        let (outcomes, outcomes_port) = link(capacity);
        let (acknowledge, acknowledgements) = sync_channel(capacity);
        let seams = Seams {
            arrivals: arrivals_inlet,
            admissions,
            primary,
            fallback: parts.fallback.is_some().then_some(fallback),
            outcomes,
            acknowledgements: acknowledge,
        };
        let held = Arc::new(Held::default());
        let (stop, stopped) = watch::channel(false);

        let mut threads = Vec::new();
        let mut thread = |name: &str, run: Box<dyn FnOnce() + Send>| -> std::io::Result<()> {
            threads.push(std::thread::Builder::new().name(name.to_owned()).spawn(run)?);
            Ok(())
        };
        let (at, with, of) = (runtime.clone(), parts.clone(), Arc::clone(&held));
        thread("admit", Box::new(move || admit(&admissions_port, &with, &of, &at)))?;
        let audio = Arc::new(AudioInWork::new(Arc::clone(&parts.objects)));
        let (at, with, of, sound) = (runtime.clone(), parts.clone(), Arc::clone(&held), Arc::clone(&audio));
        thread("commit", Box::new(move || commit(&outcomes_port, &with, (&of, &sound), &at)))?;
        let (at, with, of) = (runtime.clone(), parts.clone(), Arc::clone(&held));
        thread("ack", Box::new(move || acknowledge_all(&acknowledgements, &with, &of, &at)))?;
        let late = if parts.fallback.is_some() { Late::Refuse } else { Late::Answer };
        let (models, cache, clock) = (parts.primary.clone(), parts.cache.clone(), parts.clock);
        let health = || Arc::clone(&parts.health);
        let branch = Branch::Primary;
        let asked = Asked { branch, models, cache, audio: Arc::clone(&audio), health: health(), clock, late };
        let at = runtime.clone();
        thread("ask-primary", Box::new(move || ask(&primary_port, &asked, &at)))?;
        if let Some(models) = parts.fallback.clone() {
            let (branch, late, at) = (Branch::Fallback, Late::Answer, runtime.clone());
            let asked = Asked { branch, models, cache: None, audio, health: health(), clock, late };
            thread("ask-fallback", Box::new(move || ask(&fallback_port, &asked, &at)))?;
        }
        let (end, ended) = oneshot::channel();
        let (rules, clock) = (parts.rules.clone(), parts.clock);
        thread("timely", Box::new(move || run_graph(seams, rules, clock, end)))?;

        let (source, health) = (Arc::clone(&parts.source), Arc::clone(&parts.health));
        let pull = Pull { source, health, arrivals, held: Arc::clone(&held), stopped };
        pull.start(parts.max_in_flight);
        Ok(Self { source: Arc::clone(&parts.source), held, stop, ended, threads })
    }

    /// Pulls nothing further. What is in flight goes on to its outcome.
    pub fn stop(&self) {
        self.stop.send_replace(true);
    }

    /// Waits until the graph has ended: after [`Self::stop`], when everything in flight has its outcome.
    ///
    /// # Errors
    /// [`WorkerDied`].
    pub async fn ended(&mut self) -> Result<(), WorkerDied> {
        (&mut self.ended).await.map_err(|_| WorkerDied)?;
        let threads = std::mem::take(&mut self.threads);
        let joined = tokio::task::spawn_blocking(move || threads.into_iter().all(|thread| thread.join().is_ok()));
        if joined.await.unwrap_or(false) { Ok(()) } else { Err(WorkerDied) }
    }

    /// Gives back what is in flight, for others to do; how many uploads that were. The worker is not to be used after.
    ///
    /// # Errors
    /// The source's; then the leases run out by themselves.
    pub async fn give_back(&self) -> Result<usize, Fault> {
        let leases = self.held.leases();
        self.source.release(&leases).await.map(|()| leases.len())
    }
}

fn run_graph(seams: Seams, rules: Rules, clock: fn() -> UtcMicros, end: oneshot::Sender<()>) {
    let allocator = Allocator::Thread(Default::default());
    let mut worker = timely::worker::Worker::new(WorkerConfig::default(), allocator, Some(Instant::now()));
    worker.dataflow(|scope| process(scope, seams, rules, Rc::new(SystemClock(clock))));
    while worker.has_dataflows() {
        worker.step_or_park(None);
    }
    // Nobody listens where the worker was dropped.
    end.send(()).ok();
}

/// After how long what failed is tried again.
fn pauses() -> ExponentialBuilder {
    ExponentialBuilder::default().with_max_delay(Duration::from_secs(5)).without_max_times().with_jitter()
}

/// Repeats work that may be repeated until it is done: nothing can go on without it, and what waits stays bounded.
fn until_done<T, E: std::fmt::Display, F: Future<Output = Result<T, E>>>(
    runtime: &Handle,
    health: &Health,
    what: &str,
    work: impl FnMut() -> F,
) -> T {
    let done = work.retry(pauses()).notify(|error, pause| {
        health.failed(what, error);
        tracing::warn!(%error, ?pause, "cannot {what}; trying again");
    });
    match runtime.block_on(done.into_future()) {
        Ok(done) => {
            health.works(what);
            done
        }
        Err(error) => panic!("{what}: gave up although it never should: {error}"),
    }
}

fn admit(port: &Port<Admission, Admitted>, parts: &Parts, held: &Held, runtime: &Handle) {
    for group in Groups::of(&port.requests, |(_, admission)| admission.lane, held) {
        let (numbers, admissions): (Vec<u64>, Vec<_>) =
            group.into_iter().map(|(number, a)| (number, (a.upload_id, a.lane, a.arrived_at))).unzip();
        let known = until_done(runtime, &parts.health, "write admissions", || parts.store.admit(&admissions));
        for ((number, known), (upload_id, lane, _)) in numbers.into_iter().zip(known).zip(&admissions) {
            if known == Admitted::Finished {
                parts.metrics.redelivered(*lane);
                tracing::info!(%upload_id, %lane, "has its outcome already: a redelivery is acknowledged");
            }
            port.answers.send((number, known));
        }
    }
}

/// One line for each upload that ends; never what was answered.
fn log(outcome: &Outcome) {
    let (upload_id, lane, total_ms, attempts) = (&outcome.upload_id, outcome.lane, outcome.total_ms, outcome.attempts);
    match (&outcome.error, outcome.error_type) {
        (Some(error), Some(error_type)) => {
            tracing::warn!(%upload_id, %lane, total_ms, attempts, %error_type, error, "dead-lettered");
        }
        _ => {
            let branch = outcome.branch.map_or("none", |branch| branch.as_str());
            tracing::info!(%upload_id, %lane, total_ms, attempts, branch, "completed");
        }
    }
}

fn commit(port: &Port<Write, ()>, parts: &Parts, (held, audio): (&Held, &AudioInWork), runtime: &Handle) {
    for group in Groups::of(&port.requests, |(_, (outcome, ..))| outcome.lane, held) {
        let (numbers, writes): (Vec<u64>, Vec<Write>) = group.into_iter().unzip();
        let entry = |(outcome, ..): &Write| parts.cache.as_ref()?.entry(outcome, &*audio.known(&outcome.upload_id)?);
        let entries: Vec<CacheEntry> = writes.iter().filter_map(entry).collect();
        let mut tries = 0;
        let written = until_done(runtime, &parts.health, "commit outcomes", || {
            tries += 1;
            parts.store.commit_and_cache(&writes, &entries)
        });
        for ((number, (outcome, attempts, _)), written) in numbers.into_iter().zip(&writes).zip(written) {
            // A repeated commit may find what the first try wrote.
            if written || tries > 1 {
                parts.metrics.committed(outcome, attempts);
                log(outcome);
            }
            audio.let_go(&outcome.upload_id);
            port.answers.send((number, ()));
        }
    }
}

fn acknowledge_all(tickets: &Receiver<Ticket>, parts: &Parts, held: &Held, runtime: &Handle) {
    for tickets in Groups::of(tickets, |ticket| ticket.lane, held) {
        let leases: Vec<_> = tickets.iter().filter_map(|ticket| held.lease(ticket.delivery)).collect();
        until_done(runtime, &parts.health, "acknowledge", || parts.source.acknowledge(&leases));
        tickets.iter().for_each(|ticket| held.let_go(ticket.delivery));
    }
}

/// Models, how they are asked, and the cache that is looked into before.
#[derive(Clone)]
struct Asked {
    branch: Branch,
    models: ByArm,
    cache: Option<Arc<Cache>>,
    audio: Arc<AudioInWork>,
    health: Arc<Health>,
    clock: fn() -> UtcMicros,
    late: Late,
}

fn ask(port: &Port<Question, Answer>, asked: &Asked, runtime: &Handle) {
    while let Ok((number, question)) = port.requests.recv() {
        let (answers, asked) = (port.answers.clone(), asked.clone());
        runtime.spawn(async move {
            let (asked_at, model) = ((asked.clock)(), asked.models.of(&question.arm).model());
            let answer = AssertUnwindSafe(asked.answer(&question)).catch_unwind().await;
            let (branch, result) = answer.unwrap_or_else(|_| {
                let message = format!("{model} panicked; the log says why");
                (asked.branch, Err(Fault::indeterminate(ErrorType::Model, message)))
            });
            if let Err(fault) = &result {
                let (upload_id, lane) = (&question.upload.upload_id, question.lane);
                tracing::warn!(%upload_id, %lane, model, error_type = %fault.error_type, "{fault}");
            }
            let (model, answered_at) = (model.to_owned(), (asked.clock)());
            answers.send((number, Answer { branch, model, asked_at, answered_at, result }));
        });
    }
}

impl Asked {
    async fn answer(&self, question: &Question) -> (Branch, Result<Annotation, Fault>) {
        match self.audio(question).await {
            Ok(audio) => match self.cached(question, &audio).await {
                Some(annotation) => (Branch::Cache, Ok(annotation)),
                None => (self.branch, self.annotate(question, &audio).await),
            },
            Err(fault) => (self.branch, Err(fault)),
        }
    }

    /// The upload's audio. What cannot be fetched at present is tried again until the answer is due: rounds are few and soon
    /// over, and a service that is away for a while would make dead letters of all that comes.
    async fn audio(&self, question: &Question) -> Result<Arc<Audio>, Fault> {
        let fetch = || self.audio.of(&question.upload, question.lane);
        let again = |fault: &Fault| fault.class == FaultClass::Retryable && (self.clock)() < question.deadline;
        let fetched = fetch.retry(pauses()).when(again).notify(|fault, _| self.health.failed(FETCH, fault)).await;
        if fetched.is_ok() {
            self.health.works(FETCH);
        }
        fetched
    }

    /// The cache's answer. It is asked once: what it does not know, it will not know in the next round.
    async fn cached(&self, question: &Question, audio: &Audio) -> Option<Annotation> {
        let (cache, id) = (self.cache.as_ref()?, &question.upload.upload_id);
        if self.audio.known(id).is_some() {
            return None;
        }
        let (known, answer) = cache.look(question, audio.path(), (self.clock)()).await?;
        self.audio.note(id, known);
        answer
    }

    async fn annotate(&self, question: &Question, audio: &Audio) -> Result<Annotation, Fault> {
        let answer = self.models.of(&question.arm).annotate(request(question, audio, self.late)).await;
        answer.map_err(|fault| {
            // A file that was fetched has a name that says nothing to whoever reads of it.
            let message = fault.message.replace(&*audio.path().to_string_lossy(), &question.upload.audio_uri);
            Fault { message, ..fault }
        })
    }
}

fn request(question: &Question, audio: &Audio, late: Late) -> Request {
    Request {
        upload_id: question.upload.upload_id.clone(),
        audio: audio.path().to_owned(),
        lane: question.lane,
        deadline: question.deadline,
        prompt: Arc::clone(&question.arm.prompt),
        // Where the other model has failed as well, a late answer is better than a dead letter.
        late: if question.round == 1 { late } else { Late::Answer },
    }
}
