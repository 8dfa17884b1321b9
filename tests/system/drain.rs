//! SIGTERM and Ctrl-C: nothing further is pulled, what is in flight is finished or given back.

use std::io::{BufRead, BufReader};
use std::process::Command;

use connectors::store::Store;
use records::{Lane, UtcMicros};

use crate::harness::{Home, ROOT, clip, event};

fn drains(signal: &str) {
    let home = Home::new();
    let events: Vec<String> = (0..40).map(|n| event(&format!("u{n}"), "free", &clip("rock-e-minor-120.wav"))).collect();
    home.enqueue_events(&events.join("\n"));
    let mut serve = home.serve(&[]);
    let mut log = BufReader::new(serve.stderr.take().expect("piped")).lines().map_while(Result::ok);
    assert!(log.any(|line| line.contains("serving")), "serve starts");
    let sent = Command::new("kill").args([signal, &serve.id().to_string()]).status().expect("kill runs");
    assert!(sent.success());
    let rest: Vec<String> = log.collect();
    assert!(serve.wait().expect("ended").success(), "a drain is no failure: {rest:?}");
    let is_finished = |line: &String| line.contains("nothing is in flight") && line.contains("Finished");
    assert!(rest.iter().any(is_finished), "{rest:?}");

    let finished = home.outcomes().len();
    home.serve_until_idle();
    assert_eq!(home.outcomes().len(), 40, "{finished} were finished before; the others were given back at once");
}

#[tokio::test]
async fn what_is_not_done_in_time_is_given_back_at_once() {
    let home = Home::new();
    let checkpoint = std::path::Path::new(ROOT).join("tests/fixtures/qwen2_audio/tiny-a");
    let text = format!("drain_timeout_s = 0\n[model]\ncheckpoint = {checkpoint:?}\n");
    let config = home.write("tidemark.toml", text);
    let events: Vec<String> =
        (0..200).map(|n| event(&format!("u{n}"), "free", &clip("country-d-major-126.mp3"))).collect();
    home.enqueue_events(&events.join("\n"));
    let mut serve = home.serve(&["--config", config.to_str().expect("UTF-8")]);
    let mut log = BufReader::new(serve.stderr.take().expect("piped")).lines().map_while(Result::ok);
    assert!(log.any(|line| line.contains("completed")), "an upload is finished, and others are in work");
    let sent = Command::new("kill").args(["-TERM", &serve.id().to_string()]).status().expect("kill runs");
    assert!(sent.success());
    let rest: Vec<String> = log.collect();
    assert!(serve.wait().expect("ended").success(), "{rest:?}");
    assert!(rest.iter().any(|line| line.contains("gave back what was in flight")), "{rest:?}");
    let store = Store::open(&home.path("data").join("tidemark.db")).await.expect("the store");
    let pending = store.pending(Lane::Low, UtcMicros(0)).await.expect("the spool");
    store.close().await;
    assert_eq!(pending.leased, 0, "nothing is left in the hands of a process that is gone");
    assert!(pending.ready > 0, "not all were done in time");
    home.serve_until_idle();
    assert_eq!(home.outcomes().len(), 200);
}

#[test]
fn sigterm_drains() {
    drains("-TERM");
}

#[test]
fn ctrl_c_drains() {
    drains("-INT");
}
