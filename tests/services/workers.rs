//! Serving processes on one database, one of them killed with -9 in the middle of its work.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, ChildStderr, Stdio};
use std::sync::mpsc::channel;
use std::time::Duration;

use connectors::store::{Store, StoreUrl};
use records::{Lane, Status, UtcMicros};

use crate::harness::{Home, ROOT, clip, event, text};
use crate::server::server;

const UPLOADS: usize = 300;

/// How many uploads the one that is killed has ended by itself.
const ENDED: usize = 15;

/// Workers of one database, each with a data folder of its own. The password is in nobody's file.
struct Workers {
    homes: Vec<Home>,
    password: String,
    address: String,
}

impl Workers {
    /// With `more` in their configuration.
    fn new(count: usize, more: &str) -> Self {
        let address = server().new_database();
        let (user, place) = address.split_once('@').expect("an address with a user");
        let (user, password) = user.rsplit_once(':').expect("an address with a password");
        let checkpoint = Path::new(ROOT).join("tests/fixtures/qwen2_audio/tiny-a");
        let config = format!(
            "[model]\ncheckpoint = {checkpoint:?}\n[store]\nurl = \"{user}@{place}\"\n[spool]\nlease_ms = 3000\n\
             [lanes.high]\nmax_in_flight = 8\n[lanes.low]\nmax_in_flight = 8\n{more}"
        );
        let homes: Vec<Home> = (0..count).map(|_| Home::new()).collect();
        homes.iter().for_each(|home| drop(home.write("tidemark.toml", &config)));
        Self { homes, password: password.to_owned(), address }
    }

    fn start(&self, home: &Home, arguments: &[&str]) -> Child {
        let config = home.path("tidemark.toml");
        let config = ["--config", config.to_str().expect("UTF-8")];
        let mut command = home.command(&[arguments, &config].concat());
        command.env("PGPASSWORD", &self.password);
        command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("starts")
    }

    fn enqueue(&self, events: &[String]) {
        let home = &self.homes[0];
        let events = home.write("events.ndjson", events.join("\n"));
        let enqueued = self.start(home, &["enqueue", "--events", events.to_str().expect("UTF-8")]).wait_with_output();
        let enqueued = enqueued.expect("ended");
        assert!(enqueued.status.success(), "{}", text(&enqueued.stderr));
    }

    async fn store(&self) -> Store {
        Store::open(self.address.parse::<StoreUrl>().expect("an address")).await.expect("opens")
    }
}

fn log(child: &mut Child) -> BufReader<ChildStderr> {
    BufReader::new(child.stderr.take().expect("piped"))
}

#[tokio::test]
async fn a_worker_killed_among_three_loses_nothing_and_doubles_nothing() {
    let workers = Workers::new(3, "");
    let clips = ["rock-e-minor-120.wav", "waltz-g-major-180.flac", "swing-f-major-160.ogg", "country-d-major-126.mp3"];
    let tiers = ["enterprise", "pro", "free"];
    let events: Vec<String> =
        (0..UPLOADS).map(|n| event(&format!("u{n}"), tiers[n % 3], &clip(clips[n % clips.len()]))).collect();
    let [doomed, others @ ..] = &workers.homes[..] else { panic!("there are three") };
    workers.enqueue(&events);

    let serve = ["serve", "--until-idle", "--listen", "127.0.0.1:0"];
    let mut killed = workers.start(doomed, &serve);
    let mut surviving: Vec<(Child, std::thread::JoinHandle<String>)> = Vec::new();
    for home in others {
        let mut child = workers.start(home, &serve);
        let mut log = log(&mut child);
        let reading = std::thread::spawn(move || {
            let mut said = String::new();
            log.read_to_string(&mut said).expect("UTF-8");
            said
        });
        surviving.push((child, reading));
    }
    let mut said = log(&mut killed).lines().map_while(Result::ok);
    let ended = said.by_ref().filter(|line| line.contains("completed")).take(ENDED).count();
    killed.kill().expect("killed with SIGKILL");
    killed.wait().expect("ended");
    assert_eq!(ended, ENDED, "it was at work");

    let store = workers.store().await;
    let outcomes = store.outcomes_after(0, usize::MAX).await.expect("read").len();
    assert!((ENDED..UPLOADS).contains(&outcomes), "{outcomes} outcomes are not the middle");
    for (mut child, reading) in surviving {
        let (status, said) = (child.wait().expect("ended"), reading.join().expect("read"));
        assert!(status.success(), "the others do what it left: {said}");
        assert!(said.contains("completed"), "each has its part: {said}");
        assert!(!said.contains(&workers.password), "no password in a log");
    }
    let log = store.outcomes_after(0, usize::MAX).await.expect("read");
    let ids: BTreeSet<&str> = log.iter().map(|(_, outcome)| outcome.upload_id.as_str()).collect();
    assert_eq!((log.len(), ids.len()), (UPLOADS, UPLOADS), "one outcome each");
    assert!(log.iter().all(|(_, outcome)| outcome.status == Status::Completed), "none was a dead letter's cause");
    for lane in Lane::ALL {
        let pending = store.pending(lane, UtcMicros(0)).await.expect("counted");
        assert_eq!(pending.ready + pending.leased, 0, "everything is acknowledged");
    }
    println!("{UPLOADS} uploads, 3 workers, one killed after {outcomes} outcomes");
}

#[tokio::test]
async fn of_two_workers_one_tells_of_an_alert_and_once_it_is_dead_the_other_one_of_its_end() {
    let failing = "[[alerts]]\nname = \"failing\"\nmetric = \"error_rate\"\nabove = 0.3\nwindow_s = 600\nhold_s = 0\n";
    let workers = Workers::new(2, failing);
    let (sender, said) = channel();
    let mut children: Vec<Child> = Vec::new();
    for (number, home) in workers.homes.iter().enumerate() {
        let mut child = workers.start(home, &["serve", "--listen", "127.0.0.1:0"]);
        let (log, sender) = (log(&mut child), sender.clone());
        std::thread::spawn(move || log.lines().map_while(Result::ok).try_for_each(|line| sender.send((number, line))));
        children.push(child);
    }
    // The first who says any of these, and what it says.
    let next = |says: &[&str]| -> (usize, String) {
        loop {
            let (number, line) = said.recv_timeout(Duration::from_secs(120)).expect("somebody says it");
            if says.iter().any(|says| line.contains(says)) {
                return (number, line);
            }
        }
    };
    children.iter().for_each(|_| drop(next(&[" serving "])));
    let bad = workers.homes[0].write("bad.wav", b"no sound");
    let events = |round: &str, count: usize, audio: &Path| -> Vec<String> {
        (0..count).map(|n| event(&format!("{round}{n}"), "pro", audio)).collect()
    };
    workers.enqueue(&events("bad", 25, &bad));
    let (watcher, _) = next(&["firing: "]);
    let store = workers.store().await;
    while !store.untold("log", 0, 1).await.expect("read").is_empty() {
        tokio::task::yield_now().await;
    }
    children[watcher].kill().expect("killed with SIGKILL");
    workers.enqueue(&events("good", 60, &clip("rock-e-minor-120.wav")));
    let (other, line) = next(&["firing: ", "resolved: "]);
    assert!(other != watcher && line.contains("resolved: error_rate"), "{other} says {line}");
    for mut child in children {
        child.kill().expect("killed, or dead");
        child.wait().expect("ended");
    }
}
