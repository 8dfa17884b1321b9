//! Uploads from Kafka and outcomes to Kafka, through the command: bad input, duplicates, workers that die and join, a broker
//! that goes away.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use connectors::store::{Store, StoreUrl};
use rdkafka::mocking::MockCluster;
use records::{Outcome, Status};

use crate::broker::{Broker, PATIENCE};
use crate::harness::{Home, ROOT, clip, event};
use crate::server::server;

const PARTITIONS: usize = 4;

/// Workers of one group, each with a data folder of its own, and of one store where that is Postgres.
struct Group<'a> {
    broker: &'a Broker,
    name: &'a str,
    database: Option<String>,
}

/// A worker, and what it said so far.
struct Serving {
    child: Child,
    said: Arc<Mutex<String>>,
    reading: JoinHandle<()>,
}

impl<'a> Group<'a> {
    async fn new(broker: &'a Broker, name: &'a str, database: Option<String>) -> Self {
        for topic in ["high", "low"] {
            broker.topic(&format!("{name}.{topic}"), PARTITIONS as i32).await;
        }
        for topic in ["results", "dead"] {
            broker.topic(&format!("{name}.{topic}"), 1).await;
        }
        Self { broker, name, database }
    }

    /// The address without its password, and the password.
    fn store(&self) -> Option<(String, String)> {
        let (user, place) = self.database.as_ref()?.split_once('@').expect("an address with a user");
        let (user, password) = user.rsplit_once(':').expect("an address with a password");
        Some((format!("{user}@{place}"), password.to_owned()))
    }

    fn worker(&self, more: &str) -> Home {
        let (home, name) = (Home::new(), self.name);
        let checkpoint = Path::new(ROOT).join("tests/fixtures/qwen2_audio/tiny-a");
        let store = self.store().map_or(String::new(), |(address, _)| format!("[store]\nurl = \"{address}\"\n"));
        let config = format!(
            "{more}\n[model]\ncheckpoint = {checkpoint:?}\n{store}[source]\nkind = \"kafka\"\n[kafka]\nbrokers = \"{}\"\n\
             group = \"{name}\"\nhigh_topic = \"{name}.high\"\nlow_topic = \"{name}.low\"\n\
             results_topic = \"{name}.results\"\ndead_letters_topic = \"{name}.dead\"\n[kafka.options]\n\
             session.timeout.ms = 6000\nmax.poll.interval.ms = 8000\nheartbeat.interval.ms = 500\n\
             [lanes.high]\nmax_in_flight = 8\n[lanes.low]\nmax_in_flight = 8\n",
            self.broker.address
        );
        home.write("tidemark.toml", config);
        home
    }

    fn start(&self, home: &Home, arguments: &[&str]) -> Child {
        let config = home.path("tidemark.toml");
        let config = ["--config", config.to_str().expect("UTF-8")];
        let serve = ["serve", "--listen", "127.0.0.1:0"];
        let mut command = home.command(&[&serve, arguments, &config].concat());
        if let Some((_, password)) = self.store() {
            command.env("PGPASSWORD", password);
        }
        command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("starts")
    }

    /// Starts a worker, and waits until `ended` uploads are described by it; what it says after is read by a thread.
    fn serve(&self, home: &Home, arguments: &[&str], ended: usize) -> Serving {
        let mut child = self.start(home, arguments);
        let mut log = BufReader::new(child.stderr.take().expect("piped"));
        let mut said = String::new();
        while said.matches("completed").count() < ended {
            assert!(log.read_line(&mut said).expect("UTF-8") > 0, "it ended: {said}");
        }
        let said = Arc::new(Mutex::new(said));
        let all = Arc::clone(&said);
        let reading = std::thread::spawn(move || {
            for line in log.lines().map_while(Result::ok) {
                *all.lock().expect("nobody panics with it") += &(line + "\n");
            }
        });
        Serving { child, said, reading }
    }

    async fn outcomes(&self) -> Vec<Outcome> {
        let url: StoreUrl = self.database.as_ref().expect("Postgres").parse().expect("an address");
        let latest = Instant::now() + PATIENCE;
        // A database that is busy with all tests at once may not answer in its time.
        loop {
            let read = async {
                let store = Store::open(&url).await?;
                let read = store.outcomes_after(0, usize::MAX).await;
                store.close().await;
                read
            };
            match read.await {
                Ok(outcomes) => return outcomes.into_iter().map(|(_, outcome)| outcome).collect(),
                Err(error) => assert!(Instant::now() < latest, "{error}"),
            }
        }
    }

    async fn send(&self, lane: &str, events: &[String]) {
        let spread = |(number, event): (usize, &String)| ((number % PARTITIONS) as i32, event.clone().into_bytes());
        let events: Vec<_> = events.iter().enumerate().map(spread).collect();
        self.broker.send(&format!("{}.{lane}", self.name), &events).await;
    }

    /// Nothing is left in either lane.
    fn assert_all_committed(&self, sent: [usize; 2]) {
        for (lane, sent) in ["high", "low"].into_iter().zip(sent) {
            let (group, topic) = (format!("{}-{lane}", self.name), format!("{}.{lane}", self.name));
            let committed = self.broker.committed(&group, &topic, PARTITIONS as i32);
            assert_eq!(committed.iter().sum::<i64>(), sent as i64, "{topic}: {committed:?}");
        }
    }
}

impl Serving {
    /// What it said so far.
    fn said(&self) -> String {
        self.said.lock().expect("nobody panics with it").clone()
    }

    /// Waits for its end; what it said.
    fn ended(mut self) -> String {
        let status = self.child.wait().expect("ended");
        self.reading.join().expect("read");
        let said = self.said.lock().expect("nobody panics with it").clone();
        assert!(status.success(), "{said}");
        said
    }

    fn signal(&self, signal: &str) {
        assert!(Command::new("kill").args([signal, &self.child.id().to_string()]).status().expect("runs").success());
    }

    fn kill(mut self) -> String {
        self.child.kill().expect("killed with SIGKILL");
        self.child.wait().expect("ended");
        self.reading.join().expect("read");
        self.said.lock().expect("nobody panics with it").clone()
    }
}

fn uploads(numbers: std::ops::Range<usize>, tier: &str) -> Vec<String> {
    let clips = ["rock-e-minor-120.wav", "waltz-g-major-180.flac", "swing-f-major-160.ogg", "country-d-major-126.mp3"];
    numbers.map(|number| event(&format!("u{number}"), tier, &clip(clips[number % clips.len()]))).collect()
}

/// Looks until it holds; now and then, as a look takes the processor from those who are looked at.
async fn eventually(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let latest = Instant::now() + PATIENCE;
    let mut looks = tokio::time::interval(Duration::from_millis(250));
    looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    while !holds().await {
        assert!(Instant::now() < latest, "in {PATIENCE:?} it did not come true that {what}");
        looks.tick().await;
    }
}

/// One outcome for each of so many uploads, all described.
fn assert_once(outcomes: &[Outcome], uploads: usize) {
    let ids: BTreeSet<&str> = outcomes.iter().map(|outcome| outcome.upload_id.as_str()).collect();
    assert_eq!((outcomes.len(), ids.len()), (uploads, uploads), "one outcome each");
    assert!(outcomes.iter().all(|outcome| outcome.status == Status::Completed), "none is dead-lettered");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_event_ends_once_and_is_published_whatever_is_wrong_with_it() {
    let broker = Broker::start(None);
    let group = Group::new(&broker, "once", None).await;
    let mut low = uploads(0..40, "free");
    // Everything comes twice, and what can never work among it.
    low.extend(low.clone());
    for (place, bad) in [(3, "this is no event"), (9, "{\"upload_id\":\"bad\"}"), (20, "\u{fffd}\0"), (21, "")] {
        low.insert(place, bad.to_owned());
    }
    low.push(event("nowhere", "free", Path::new("/no/such/file.wav")));
    low.push(event("no-sound", "free", &Path::new(ROOT).join("Cargo.toml")));
    group.send("low", &low).await;
    group.send("high", &uploads(100..120, "enterprise")).await;
    let home = group.worker("");
    let said = group.serve(&home, &["--until-idle"], 1).ended();

    let outcomes = home.outcomes();
    let by_id: BTreeMap<&str, &str> = outcomes
        .iter()
        .map(|it| (it["upload_id"].as_str().expect("an id"), it["status"].as_str().expect("one")))
        .collect();
    assert_eq!((outcomes.len(), by_id.len()), (66, 66), "40 and 20 uploads, 6 that are none: {said}");
    let dead = by_id.values().filter(|status| **status == "dead_lettered").count();
    assert_eq!((dead, by_id["bad"], by_id["nowhere"]), (6, "dead_lettered", "dead_lettered"));
    group.assert_all_committed([20, low.len()]);

    let results = broker.read("once.results", 1, 66);
    let published: Vec<&str> = results.iter().map(|found| found.key.as_str()).collect();
    let committed: Vec<&str> = outcomes.iter().rev().map(|it| it["upload_id"].as_str().expect("an id")).collect();
    assert_eq!(published, committed, "in the order of their commits");
    let letters = broker.read("once.dead", 1, 6);
    let header = |key: &str, value: &str| (key.to_owned(), value.to_owned());
    let bad = letters.iter().find(|found| found.key == "bad").expect("published");
    assert_eq!(bad.payload, b"{\"upload_id\":\"bad\"}", "the event as it came");
    assert!(bad.headers.contains(&header("reason", "invalid_event")), "{bad:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn workers_that_die_and_join_lose_nothing_and_double_nothing() {
    // The broker of the other tests never notices that a member is dead; this one does when its session ends, as Kafka does.
    let mock = MockCluster::new(1).expect("a cluster");
    for (topic, partitions) in [("high", PARTITIONS), ("low", PARTITIONS), ("results", 1), ("dead", 1)] {
        mock.create_topic(&format!("workers.{topic}"), partitions as i32, 1).expect("made");
    }
    let broker = Broker::at(mock.bootstrap_servers());
    let group = Group { broker: &broker, name: "workers", database: Some(server().new_database()) };
    group.send("high", &uploads(0..100, "enterprise")).await;
    group.send("low", &uploads(100..300, "free")).await;
    let homes = [group.worker(""), group.worker(""), group.worker("")];
    let first = group.serve(&homes[0], &[], 1);
    let doomed = group.serve(&homes[1], &[], 0);
    let mut sent = 300;
    // Uploads go on coming until each has its part.
    let feed = async |serving: &Serving, sent: &mut usize| {
        let mut often = tokio::time::interval(Duration::from_millis(250));
        let latest = Instant::now() + PATIENCE;
        while serving.said().matches("completed").count() < 10 {
            assert!(Instant::now() < latest, "it gets nothing: {}", serving.said());
            group.send("low", &uploads(*sent..*sent + 8, "free")).await;
            *sent += 8;
            often.tick().await;
        }
    };
    feed(&doomed, &mut sent).await;
    let of_doomed = doomed.kill().matches("completed").count();
    let joins = group.serve(&homes[2], &[], 0);
    feed(&joins, &mut sent).await;
    eventually(&format!("{sent} ended"), async || group.outcomes().await.len() >= sent).await;
    first.signal("-TERM");
    joins.signal("-TERM");
    let said = [first.ended(), joins.ended()];

    let outcomes = group.outcomes().await;
    assert_once(&outcomes, sent);
    group.assert_all_committed([100, sent - 100]);
    let of_others: usize = said.iter().map(|said| said.matches("completed").count()).sum();
    let again: usize = said.iter().map(|said| said.matches("redelivery is acknowledged").count()).sum();
    println!(
        "{sent} uploads: {of_doomed} by the one that was killed, {of_others} by two others; {again} were delivered again"
    );
    assert!(of_doomed >= 10 && said.iter().all(|said| said.contains("completed")), "each has its part");

    // The log, each once or, where a publisher died, a page of it twice.
    let results = broker.read("workers.results", 1, sent);
    let mut seen = BTreeSet::new();
    let firsts: Vec<&str> = results.iter().map(|it| it.key.as_str()).filter(|key| seen.insert(*key)).collect();
    let log: Vec<&str> = outcomes.iter().map(|outcome| outcome.upload_id.as_str()).collect();
    assert_eq!(firsts, log[..firsts.len()], "in the order of their commits");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_is_restarted_is_waited_for() {
    let folder = tempfile::tempdir().expect("a folder");
    let broker = Broker::start(Some((folder.path(), "0")));
    let group = Group::new(&broker, "restarted", Some(server().new_database())).await;
    group.send("low", &uploads(0..200, "free")).await;
    let home = group.worker("");
    let serving = group.serve(&home, &["--until-idle"], 20);
    broker.stop();
    let back = Broker::start(Some((folder.path(), broker.port())));
    let group = Group { broker: &back, ..group };
    group.send("high", &uploads(200..220, "enterprise")).await;
    let said = serving.ended();
    assert_once(&group.outcomes().await, 220);
    group.assert_all_committed([20, 200]);
    let again = said.matches("redelivery is acknowledged").count();
    println!("220 uploads, the broker was restarted among them: {again} were delivered again");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_is_killed_again_and_again_is_waited_for_and_nothing_ends_twice() {
    const KILLS: usize = 3;
    let folder = tempfile::tempdir().expect("a folder");
    let mut broker = Broker::start(Some((folder.path(), "0")));
    let database = Some(server().new_database());
    let group = Group::new(&broker, "killed", database.clone()).await;
    let home = group.worker("");
    group.send("low", &uploads(0..60, "free")).await;
    let serving = group.serve(&home, &[], 10);
    for kill in 1..=KILLS {
        broker.kill();
        broker = Broker::start(Some((folder.path(), broker.port())));
        let group = Group { broker: &broker, name: "killed", database: database.clone() };
        // What this broker acknowledged in its last moments is gone (benches/peers/kafka_kill.py), offsets and messages; so
        // whoever sent them sends them again.
        group.send("low", &uploads(0..60 + 20 * kill, "free")).await;
        let ended = 10 + 20 * kill;
        eventually(&format!("{ended} ended"), async || group.outcomes().await.len() >= ended).await;
    }
    let group = Group { broker: &broker, name: "killed", database };
    group.send("high", &uploads(200..220, "enterprise")).await;
    let all = 60 + 20 * KILLS + 20;
    eventually("all ended", async || group.outcomes().await.len() >= all).await;
    for lane in ["high", "low"] {
        let (name, topic, partitions) = (format!("killed-{lane}"), format!("killed.{lane}"), PARTITIONS as i32);
        eventually("all is committed", async || {
            broker.committed(&name, &topic, partitions) == broker.ends(&topic, partitions)
        })
        .await;
    }
    serving.signal("-TERM");
    let said = serving.ended();
    assert_once(&group.outcomes().await, all);
    let again = said.matches("redelivery is acknowledged").count();
    println!("{all} uploads, the broker was killed {KILLS} times among them: {again} were delivered again");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_told_to_stop_leaves_the_rest_to_others_at_once() {
    let broker = Broker::start(None);
    let group = Group::new(&broker, "stops", Some(server().new_database())).await;
    group.send("low", &uploads(0..120, "free")).await;
    let home = group.worker("drain_timeout_s = 1");
    let stopped = group.serve(&home, &[], 10);
    stopped.signal("-TERM");
    let said = stopped.ended();
    let of_first = said.matches("completed").count();
    assert!(said.contains("nothing is in flight") && of_first < 120, "{said}");
    let second = group.worker("");
    let said = group.serve(&second, &["--until-idle"], 1).ended();
    assert_once(&group.outcomes().await, 120);
    group.assert_all_committed([0, 120]);
    println!("{of_first} before the signal's end, {} after", said.matches("completed").count());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_is_away_is_what_readyz_says() {
    let folder = tempfile::tempdir().expect("a folder");
    let broker = Broker::start(Some((folder.path(), "0")));
    let group = Group::new(&broker, "ready", None).await;
    let home = group.worker("");
    let mut child = group.start(&home, &[]);
    let mut log = BufReader::new(child.stderr.take().expect("piped"));
    let mut said = String::new();
    while !said.contains("serving") {
        assert!(log.read_line(&mut said).expect("UTF-8") > 0, "it ended: {said}");
    }
    let plain: String = said.replace("\u{1b}", "");
    let address = plain.split("address=").nth(1).and_then(|rest| rest.split_whitespace().next()).expect("it is said");
    let url = format!("http://{address}/readyz");
    let ready = async || {
        let answer = reqwest::get(&url).await.expect("answered");
        (answer.status().as_u16(), answer.text().await.expect("text"))
    };
    let reading = std::thread::spawn(move || log.read_to_string(&mut said).map(|_| said));
    let wait = async |what: &str, holds: fn(&(u16, String)) -> bool| {
        let mut looks = tokio::time::interval(Duration::from_millis(50));
        let latest = Instant::now() + PATIENCE;
        loop {
            let said = ready().await;
            if holds(&said) {
                return;
            }
            assert!(Instant::now() < latest, "{what}: {said:?}");
            looks.tick().await;
        }
    };
    wait("ready", |(status, _)| *status == 200).await;
    broker.stop();
    wait("not ready", |(status, text)| *status == 503 && text.contains("no broker")).await;
    let _back = Broker::start(Some((folder.path(), broker.port())));
    wait("ready again", |(status, _)| *status == 200).await;
    assert!(Command::new("kill").args(["-TERM", &child.id().to_string()]).status().expect("runs").success());
    let said = reading.join().expect("read").expect("UTF-8");
    assert!(child.wait().expect("ended").success(), "{said}");
}
