//! Serving processes on Pub/Sub, through the command, against Google's emulator.

mod alerts;
mod delivery;
mod trouble;

use std::collections::BTreeSet;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use connectors::store::{Store, StoreUrl};
use records::Outcome;

use crate::emulator::{DEADLINE, Event, Project, Watch, emulator, plain};
use crate::harness::{Home, ROOT, clip, event};
use crate::server::server;

/// A project that is set up, and where its outcomes are kept.
struct Platform {
    project: Project,
    home: Home,
    /// The address of a database with its password, or none for a file.
    database: Option<String>,
}

/// What a test sets.
#[derive(Clone, Copy)]
struct Settings {
    ack: &'static str,
    /// A killed process's messages come again after this; they are extended while a process lives. Whoever waits for one of
    /// ten minutes to run out is too late for any test.
    lease_s: u64,
    drain_timeout_s: u64,
    exactly_once_and_ordering: bool,
}

const SETTINGS: Settings =
    Settings { ack: "outcome", lease_s: 60, drain_timeout_s: 30, exactly_once_and_ordering: false };

/// A serving process, and its log.
struct Worker {
    child: Child,
    log: PathBuf,
}

impl Platform {
    /// Sets up a project by the command.
    fn new(project: Project, database: Option<String>, settings: Settings) -> Self {
        let Settings { ack, lease_s, drain_timeout_s, exactly_once_and_ordering: both } = settings;
        let checkpoint = Path::new(ROOT).join("tests/fixtures/qwen2_audio/tiny-a");
        let store = database.as_deref().map(|address| format!("[store]\nurl = \"{}\"\n", parted(address).0));
        let config = format!(
            "drain_timeout_s = {drain_timeout_s}\n[model]\ncheckpoint = {checkpoint:?}\n{}[spool]\nlease_ms = 3000\n[source]\n\
             kind = \"pubsub\"\nack = \"{ack}\"\n[lanes.high]\nmax_in_flight = 8\n[lanes.low]\nmax_in_flight = 8\n\
             [pubsub]\nproject = \"{}\"\nresults_topic = \"results\"\ndead_letters_topic = \"dead-letters\"\n\
             lease_s = {lease_s}\nexactly_once = {both}\nordering = {both}\n",
            store.unwrap_or_default(),
            project.id,
        );
        let platform = Self { project, home: Home::new(), database };
        platform.home.write("tidemark.toml", config);
        platform.set_up();
        platform
    }

    fn on_a_file(settings: Settings) -> Self {
        Self::new(emulator().new_project(), None, settings)
    }

    fn on_postgres(settings: Settings) -> Self {
        Self::new(emulator().new_project(), Some(server().new_database()), settings)
    }

    /// A command on the data folder `data`.
    fn command(&self, data: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tidemark"));
        command
            .current_dir(ROOT)
            .env_remove("OPENAI_API_KEY")
            .env_remove("RUST_LOG")
            .env("NO_COLOR", "1")
            .args(arguments);
        command.arg("--data").arg(self.path(data)).arg("--config").arg(self.path("tidemark.toml"));
        command.env("PUBSUB_EMULATOR_HOST", self.project.endpoint.trim_start_matches("http://"));
        if let Some(address) = &self.database {
            command.env("PGPASSWORD", parted(address).1);
        }
        command
    }

    fn path(&self, name: &str) -> PathBuf {
        self.home.path(name)
    }

    fn set_up(&self) -> String {
        let output = self.command("data", &["pubsub", "setup"]).output().expect("runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("UTF-8")
    }

    /// Starts a worker with a data folder of its own.
    fn serve(&self, data: &str) -> Worker {
        let log = self.path(&format!("{data}.log"));
        let mut command = self.command(data, &["serve", "--listen", "127.0.0.1:0"]);
        let file = File::options().create(true).append(true).open(&log).expect("a file for the log");
        let child = command.stdout(Stdio::null()).stderr(file).spawn().expect("starts");
        Worker { child, log }
    }

    async fn store(&self) -> Store {
        let url = match &self.database {
            Some(address) => address.parse::<StoreUrl>().expect("an address"),
            None => StoreUrl::Sqlite(self.path("data").join("tidemark.db")),
        };
        Store::open(url).await.expect("opens")
    }

    async fn outcomes(&self) -> Vec<Outcome> {
        let store = self.store().await;
        let outcomes = store.outcomes_after(0, usize::MAX).await.expect("read");
        store.close().await;
        outcomes.into_iter().map(|(_, outcome)| outcome).collect()
    }

    /// Asserts that exactly these uploads have an outcome, and one each.
    async fn has_one_outcome_each(&self, uploads: &BTreeSet<String>) {
        let outcomes = self.outcomes().await;
        let ids: BTreeSet<String> = outcomes.iter().map(|outcome| outcome.upload_id.to_string()).collect();
        assert_eq!(&ids, uploads);
        assert_eq!(outcomes.len(), uploads.len(), "one each");
    }

    /// Publishes `count` uploads, every third one urgent; their ids.
    async fn publish(&self, prefix: &str, count: usize) -> BTreeSet<String> {
        let clips =
            ["rock-e-minor-120.wav", "waltz-g-major-180.flac", "swing-f-major-160.ogg", "country-d-major-126.mp3"];
        let ids: Vec<String> = (0..count).map(|n| format!("{prefix}-{n}")).collect();
        let of = |lane: usize| -> Vec<Event> {
            let ids = ids.iter().enumerate().filter(|(n, _)| usize::from(n % 3 > 0) == lane);
            ids.map(|(n, id)| plain(event(id, ["enterprise", "free"][lane], &clip(clips[n % clips.len()])))).collect()
        };
        self.project.publish("uploads-high", of(0)).await;
        self.project.publish("uploads-low", of(1)).await;
        ids.into_iter().collect()
    }

    async fn results(&self) -> Watch {
        self.project.watch("results").await
    }
}

/// An address without its password, and the password.
fn parted(address: &str) -> (String, &str) {
    let (user, place) = address.split_once('@').expect("an address with a user");
    let (user, password) = user.rsplit_once(':').expect("an address with a password");
    (format!("{user}@{place}"), password)
}

impl Worker {
    fn said(&self) -> String {
        std::fs::read_to_string(&self.log).expect("a log")
    }

    fn count(&self, what: &str) -> usize {
        self.said().lines().filter(|line| line.contains(what)).count()
    }

    /// Waits until the log has so many lines with something.
    async fn says(&self, count: usize, what: &str) {
        until(&format!("{count} times {what:?}, but {}", self.said()), async || self.count(what) >= count).await;
    }

    fn signal(&self, signal: &str) {
        let sent = Command::new("kill").args([signal, &self.child.id().to_string()]).status().expect("kill runs");
        assert!(sent.success(), "it was running: {}", self.said());
    }

    /// Kills it with -9.
    fn kill(mut self) {
        self.signal("-9");
        self.child.wait().expect("ended");
    }

    /// Ends it by SIGTERM; its log.
    fn end(mut self) -> String {
        self.signal("-TERM");
        let status = self.child.wait().expect("ended");
        assert!(status.success(), "{status}: {}", self.said());
        self.said()
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // A test that failed leaves nobody behind.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// Looks until something is so, which has to be soon.
async fn until(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let mut looks = tokio::time::interval(Duration::from_millis(20));
    let all = async {
        while !is_so().await {
            looks.tick().await;
        }
    };
    tokio::time::timeout(DEADLINE, all).await.unwrap_or_else(|_| panic!("not in time: {what}"));
}
