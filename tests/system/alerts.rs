//! Alerts through the command: uploads that fail, a receiver that is told, a process that dies between, and recovery.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::Child;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::post;
use connectors::store::Store;
use serde_json::{Value, json};

use crate::harness::{Home, clip, event, json_lines};

/// In the address, where nobody but the receiver may see it.
const SECRET: &str = "hidden-5d41";

/// More than an upload, a look and a hold take on the busiest machine.
const PATIENCE: Duration = Duration::from_secs(120);

/// What a receiver does: it takes what it is sent once it has refused so many.
#[derive(Clone)]
struct Hook {
    taken: Arc<Mutex<Sender<Value>>>,
    refuses: Arc<AtomicUsize>,
}

async fn hook(State(hook): State<Hook>, body: String) -> StatusCode {
    if hook.refuses.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok() {
        return StatusCode::SERVICE_UNAVAILABLE;
    }
    let body = serde_json::from_str(&body).expect("JSON");
    hook.taken.lock().expect("no panic").send(body).expect("the test listens");
    StatusCode::OK
}

/// A receiver that refuses at first; its address, and what it takes.
async fn receiver(refuses: usize) -> (String, Receiver<Value>) {
    let (taken, told) = channel();
    let state = Hook { taken: Arc::new(Mutex::new(taken)), refuses: Arc::new(AtomicUsize::new(refuses)) };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = format!("http://{}/{SECRET}", listener.local_addr().expect("bound"));
    let router = Router::new().route(&format!("/{SECRET}"), post(hook)).with_state(state);
    tokio::spawn(async move { axum::serve(listener, router).await });
    (address, told)
}

/// A serving process: its address, and what it logs until it ends.
struct Serving {
    process: Child,
    address: String,
    log: std::thread::JoinHandle<String>,
}

fn serve(home: &Home) -> Serving {
    let mut process = home.serve(&[]);
    let mut lines = BufReader::new(process.stderr.take().expect("piped")).lines().map_while(Result::ok);
    let line = lines.find(|line| line.contains("serving")).expect("it serves");
    let address = line.split("address=").nth(1).and_then(|rest| rest.split_whitespace().next()).expect("an address");
    let address = address.to_owned();
    Serving { process, address, log: std::thread::spawn(move || lines.collect::<Vec<_>>().join("\n")) }
}

impl Serving {
    fn metrics(&self) -> String {
        let mut stream = TcpStream::connect(&self.address).expect("connected");
        write!(stream, "GET /metrics HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n").expect("sent");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        answer
    }

    /// Ends it by a signal; what it logged.
    fn end(mut self, signal: &str) -> String {
        let sent = std::process::Command::new("kill").args([signal, &self.process.id().to_string()]).status();
        assert!(sent.expect("kill runs").success());
        self.process.wait().expect("ended");
        self.log.join().expect("no panic")
    }
}

fn enqueue(home: &Home, round: &str, uploads: usize, audio: &std::path::Path) {
    let events: Vec<String> = (0..uploads).map(|n| event(&format!("{round}{n}"), "pro", audio)).collect();
    home.enqueue_events(&events.join("\n"));
}

fn state(home: &Home, name: &str) -> Value {
    let alerts = json_lines(&home.succeed(&["alerts", "--json"]));
    alerts.into_iter().find(|alert| alert["name"] == name).expect("it is defined")
}

/// Waits until it is noted that every target has what it was told: who dies before tells it again.
async fn acknowledged(home: &Home) {
    let store = Store::open(&home.path("data").join("tidemark.db")).await.expect("opens");
    for target in ["log", "webhook desk"] {
        while !store.untold(target, 0, 1).await.expect("read").is_empty() {
            tokio::task::yield_now().await;
        }
    }
    store.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn failing_uploads_fire_an_alert_that_a_restart_neither_repeats_nor_forgets_and_recovery_resolves() {
    let (home, (address, told)) = (Home::new(), receiver(2).await);
    let quick = std::fs::read_to_string(home.path("quick.toml")).expect("it is there");
    let alerts = "[[alerts]]\nname = \"failing\"\nmetric = \"error_rate\"\nabove = 0.3\nwindow_s = 600\nhold_s = 1\n\
                  severity = \"critical\"\n[[alerts]]\nname = \"calm\"\nmetric = \"queue\"\nabove = 100_000\n";
    home.write("quick.toml", format!("{quick}{alerts}[alert_webhooks]\ndesk = {address:?}\n"));
    let serving = serve(&home);
    enqueue(&home, "bad", 25, &home.write("bad.wav", b"no sound"));
    let firing = told.recv_timeout(PATIENCE).expect("the receiver is told, though it refused at first");
    assert_eq!((&firing["version"], &firing["status"]), (&json!("4"), &json!("firing")), "{firing}");
    let labels = json!({"alertname": "failing", "severity": "critical"});
    assert_eq!((&firing["commonLabels"], &firing["alerts"][0]["labels"]), (&labels, &labels));
    assert_eq!(firing["alerts"][0]["endsAt"], "0001-01-01T00:00:00Z");
    assert!(serving.metrics().contains("tidemark_alerts_firing{alert=\"failing\",severity=\"critical\"} 1"));
    assert!(serving.metrics().contains("tidemark_alerts_firing{alert=\"calm\",severity=\"warning\"} 0"));
    let shown = state(&home, "failing");
    assert_eq!((&shown["state"], &shown["value"]), (&json!("firing"), &json!(1.0)));
    assert!(shown["requests"].as_u64().is_some_and(|requests| (20..=25).contains(&requests)), "{shown}");
    assert_eq!(shown["since"], firing["alerts"][0]["startsAt"]);
    assert_eq!(state(&home, "calm")["state"], "inactive");
    acknowledged(&home).await;
    let mut log = serving.end("-KILL");

    let serving = serve(&home);
    enqueue(&home, "good", 60, &clip("rock-e-minor-120.wav"));
    let resolved = told.recv_timeout(PATIENCE).expect("the receiver is told");
    assert_eq!(resolved["status"], "resolved", "it fired once, and a restart does not repeat it: {resolved}");
    for same in ["fingerprint", "startsAt", "labels"] {
        assert_eq!(resolved["alerts"][0][same], firing["alerts"][0][same], "{same}");
    }
    let value = resolved["alerts"][0]["annotations"]["value"].as_str().and_then(|value| value.parse::<f64>().ok());
    assert!(value.is_some_and(|value| value > 0.2), "those that failed before the restart still count: {resolved}");
    let end = resolved["alerts"][0]["endsAt"].as_str().expect("a moment");
    assert!(end > resolved["alerts"][0]["startsAt"].as_str().expect("a moment"));
    assert_eq!(state(&home, "failing")["state"], "resolved");
    let table = home.succeed(&["alerts"]);
    assert!(table.contains("error_rate above 0.3 over 600 s") && table.contains("resolved"), "{table}");
    log += &serving.end("-TERM");
    assert!(told.try_recv().is_err(), "nothing further is told");
    assert_eq!(
        (log.matches("firing: error_rate").count(), log.matches("resolved: error_rate").count()),
        (1, 1),
        "{log}"
    );
    assert!(log.contains("webhook desk: answers 503") && !log.contains(SECRET), "{log}");
}

#[test]
fn an_alert_that_cannot_be_is_refused_at_the_start_with_its_key() {
    let home = Home::new();
    let quick = std::fs::read_to_string(home.path("quick.toml")).expect("it is there");
    for (wrong, names) in [
        ("[[alerts]]\nname = \"a\"\nmetric = \"error_rate\"\nabove = 5", "a: above is 5"),
        ("[alert_webhooks]\ndesk = \"hidden-5d41\"", "alert_webhooks.desk must be an address"),
        ("[alert_webhooks]\ndesk = { env = \"TIDEMARK_NO_SUCH\" }", "alert_webhooks.desk wants TIDEMARK_NO_SUCH"),
    ] {
        home.write("quick.toml", format!("{quick}{wrong}\n"));
        let error = home.fail(&["serve", "--until-idle", "--listen", "127.0.0.1:0"]);
        assert!(error.contains(names) && !error.contains(SECRET), "{error}");
    }
}
