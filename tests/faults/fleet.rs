//! Three workers on one Postgres behind a wire that can be cut, with uploads to do; and what has to be true at the end.

use std::collections::BTreeSet;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use connectors::store::{Store, StoreUrl};
use records::{Lane, Outcome, Status, UtcMicros};

use crate::database::Database;
use crate::harness::{Home, ROOT, event};
use crate::proxy::Proxy;

const WORKERS: usize = 3;

/// Every so many uploads one has no audio in its file, and deserves to be dead-lettered.
const BAD: usize = 50;

/// How long a worker that vanished keeps its uploads from the others.
pub(crate) const LEASE: Duration = Duration::from_secs(3);

/// After this long without an outcome the test gives up.
const PATIENCE: Duration = Duration::from_secs(120);

pub(crate) struct Fleet {
    pub(crate) database: Database,
    pub(crate) proxy: Proxy,
    pub(crate) dice: fastrand::Rng,
    pub(crate) uploads: usize,
    seed: u64,
    address: String,
    homes: Vec<Home>,
    workers: Vec<Child>,
    /// How often each was started.
    starts: Vec<usize>,
    key: Option<String>,
    store: Store,
    began: Instant,
    recovered: Vec<Duration>,
}

/// A number of the environment.
fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable).map_or(default, |text| text.parse().expect("a number"))
}

impl Fleet {
    /// The fleet at work on `copies` messages of each upload, in an order of the dice. `config` is added to every worker's
    /// configuration; a `key` lets it ask the paid model.
    pub(crate) async fn start(copies: usize, config: &str, key: Option<&str>) -> Self {
        let (uploads, seed) = (number("UPLOADS", 2000) as usize, number("SEED", 1));
        let (database, address) = Database::start();
        let (proxy, through) = Proxy::start(&address).await;
        let store = Store::open(address.parse::<StoreUrl>().expect("an address")).await.expect("opens");
        let homes: Vec<Home> = (0..WORKERS).map(|_| Home::new()).collect();
        let text = configuration(&through, config);
        homes.iter().for_each(|home| drop(home.write("tidemark.toml", &text)));
        let mut fleet = Self {
            database,
            proxy,
            dice: fastrand::Rng::with_seed(seed),
            uploads,
            seed,
            address,
            homes,
            workers: Vec::new(),
            starts: vec![1; WORKERS],
            key: key.map(str::to_owned),
            store,
            began: Instant::now(),
            recovered: Vec::new(),
        };
        fleet.enqueue(copies).await;
        fleet.began = Instant::now();
        fleet.workers = (0..WORKERS).map(|worker| fleet.spawn(worker)).collect();
        fleet
    }

    async fn enqueue(&mut self, copies: usize) {
        let good = Path::new(ROOT).join("tests/fixtures/qwen2_audio/tiny-a/audio/chirp_500ms.wav");
        let bad = self.homes[0].write("bad.wav", b"no sound");
        let tiers = ["enterprise", "pro", "free"];
        let mut messages = Vec::new();
        for number in 0..self.uploads {
            let audio = if number % BAD == 0 { &bad } else { &good };
            let (tier, lane) = (tiers[number % 3], if number % 3 == 0 { Lane::High } else { Lane::Low });
            let message = (lane, event(&format!("u{number}"), tier, audio).into_bytes());
            messages.extend(std::iter::repeat_n(message, copies));
        }
        self.dice.shuffle(&mut messages);
        self.store.enqueue(&messages, UtcMicros(1)).await.expect("enqueued");
    }

    fn spawn(&self, worker: usize) -> Child {
        let home = &self.homes[worker];
        let config = home.path("tidemark.toml");
        let arguments = ["serve", "--listen", "127.0.0.1:0", "--config", config.to_str().expect("UTF-8")];
        let mut command = home.command(&arguments);
        let (user, _) = self.address.split_once('@').expect("an address with a user");
        command.env("PGPASSWORD", user.rsplit_once(':').expect("an address with a password").1);
        command.envs(self.key.as_ref().map(|key| ("OPENAI_API_KEY", key)));
        let log = File::create(self.log(worker)).expect("a log");
        command.stdout(Stdio::null()).stderr(log).spawn().expect("starts")
    }

    /// Sends a signal to a worker.
    pub(crate) fn signal(&self, worker: usize, signal: &str) {
        let id = self.workers[worker].id().to_string();
        assert!(Command::new("kill").args([signal, &id]).status().expect("kill runs").success(), "{signal} {worker}");
    }

    /// Waits for a worker that was told to end, and starts another one in its place.
    pub(crate) fn replace(&mut self, worker: usize) {
        self.workers[worker].wait().expect("ended");
        self.starts[worker] += 1;
        self.workers[worker] = self.spawn(worker);
    }

    /// Where the database is, past the wire.
    pub(crate) fn address(&self) -> String {
        self.address.clone()
    }

    /// One of the workers.
    pub(crate) fn any(&mut self) -> usize {
        self.dice.usize(0..WORKERS)
    }

    /// Committed outcomes; `None` while the database is away.
    async fn outcomes(&self) -> Option<usize> {
        let tally = self.store.tally().await.ok()?;
        Some(tally.iter().map(|(.., uploads)| *uploads as usize).sum())
    }

    /// Waits until this part of the uploads has its outcome.
    pub(crate) async fn until(&self, part: f64) {
        self.until_more_than((self.uploads as f64 * part) as usize).await;
    }

    async fn until_more_than(&self, count: usize) {
        let (mut seen, mut since) = (None, Instant::now());
        loop {
            let outcomes = self.outcomes().await;
            if outcomes.is_some_and(|outcomes| outcomes > count) {
                return;
            }
            if outcomes != seen {
                (seen, since) = (outcomes, Instant::now());
            }
            assert!(since.elapsed() < PATIENCE, "stuck at {seen:?} outcomes; SEED={}: {}", self.seed, self.logs());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Notes how long it takes from here to the next outcome: the fault is over.
    pub(crate) async fn recovers(&mut self) {
        let over = Instant::now();
        let before = loop {
            if let Some(outcomes) = self.outcomes().await {
                break outcomes;
            }
            assert!(over.elapsed() < PATIENCE, "the database is away; SEED={}", self.seed);
            tokio::time::sleep(Duration::from_millis(20)).await;
        };
        if before < self.uploads {
            self.until_more_than(before).await;
        }
        self.recovered.push(over.elapsed());
    }

    /// Leads to the database where it runs at present.
    pub(crate) async fn moves_to(&mut self, address: String) {
        let (_, place) = address.rsplit_once('@').expect("an address");
        self.proxy.leads_to(place.split_once('/').expect("a database").0);
        self.store = Store::open(address.parse::<StoreUrl>().expect("an address")).await.expect("opens");
        self.address = address;
    }

    /// What a worker said since its last start.
    fn log(&self, worker: usize) -> PathBuf {
        self.homes[worker].path(&format!("log-{}", self.starts[worker]))
    }

    /// The ends of the workers' logs.
    fn logs(&self) -> String {
        let end = |worker| {
            let log = std::fs::read_to_string(self.log(worker)).unwrap_or_default();
            log.lines().rev().take(5).map(|line| format!("\n  {line}")).collect::<String>()
        };
        (0..WORKERS).map(end).collect()
    }

    /// Waits until a worker that was started last is past its start, in which a signal just ends it.
    async fn until_it_serves(&self, worker: usize) {
        let begun = Instant::now();
        loop {
            if std::fs::read_to_string(self.log(worker)).is_ok_and(|log| log.contains(" serving ")) {
                return;
            }
            assert!(begun.elapsed() < PATIENCE, "a worker does not start: {}", self.logs());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Waits for the last upload, drains the workers, and looks at what is there: one outcome each, dead letters only where
    /// they are deserved, and nothing left in the queue. Prints the fault's row; the outcomes.
    #[expect(clippy::print_stdout, reason = "the row is what the run is for")]
    pub(crate) async fn finish(mut self, fault: &str) -> Vec<Outcome> {
        self.until_more_than(self.uploads - 1).await;
        let took = self.began.elapsed();
        for lane in Lane::ALL {
            let begun = Instant::now();
            loop {
                let pending = self.store.pending(lane, UtcMicros(0)).await.expect("counted");
                if pending.ready + pending.leased == 0 {
                    break;
                }
                assert!(begun.elapsed() < PATIENCE, "{pending:?} are never acknowledged: {}", self.logs());
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
        for worker in 0..WORKERS {
            self.until_it_serves(worker).await;
            self.signal(worker, "-TERM");
        }
        let workers = std::mem::take(&mut self.workers);
        let drained = workers.into_iter().all(|mut worker| worker.wait().expect("ended").success());
        assert!(drained, "every worker drains: {}", self.logs());

        let log = self.store.outcomes_after(0, usize::MAX).await.expect("read");
        let outcomes: Vec<Outcome> = log.into_iter().map(|(_, outcome)| outcome).collect();
        let ids: BTreeSet<&str> = outcomes.iter().map(|outcome| outcome.upload_id.as_str()).collect();
        let dead: Vec<&Outcome> = outcomes.iter().filter(|outcome| outcome.status == Status::DeadLettered).collect();
        let deserved =
            |outcome: &&Outcome| outcome.upload_id.as_str()[1..].parse::<usize>().is_ok_and(|n| n % BAD == 0);
        assert_eq!((outcomes.len(), ids.len()), (self.uploads, self.uploads), "one outcome each; SEED={}", self.seed);
        assert!(dead.iter().all(deserved), "a dead letter that deserves it not; SEED={}: {dead:#?}", self.seed);
        assert_eq!(dead.len(), self.uploads.div_ceil(BAD), "every one that deserves it; SEED={}", self.seed);
        let slowest = self.recovered.iter().max().map_or("-".to_owned(), |it| format!("{:.1} s", it.as_secs_f64()));
        println!(
            "| {fault} | {} | {} | {} | {} | {} | {slowest} | {:.0} s |",
            self.uploads,
            outcomes.len(),
            outcomes.len() - ids.len(),
            dead.len(),
            self.recovered.len(),
            took.as_secs_f64()
        );
        outcomes
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        for worker in &mut self.workers {
            worker.kill().ok();
            worker.wait().ok();
        }
    }
}

/// The password is in nobody's file.
fn configuration(address: &str, more: &str) -> String {
    let (user, place) = address.split_once('@').expect("an address with a user");
    let (user, _) = user.rsplit_once(':').expect("an address with a password");
    let checkpoint = Path::new(ROOT).join("tests/fixtures/qwen2_audio/tiny-a");
    format!(
        "drain_timeout_s = 1\n[model]\ncheckpoint = {checkpoint:?}\n[store]\nurl = \"{user}@{place}\"\n\
         [spool]\nlease_ms = {}\n[cache]\nenabled = false\n[retry]\nbase_ms = 100\n[lanes.high]\nmax_in_flight = 16\n[lanes.low]\nmax_in_flight = 16\n\
         {more}",
        LEASE.as_millis()
    )
}
