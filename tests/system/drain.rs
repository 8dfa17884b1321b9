//! SIGTERM and Ctrl-C: nothing further is pulled, what is in flight is finished or given back.

use std::io::{BufRead, BufReader};
use std::process::Command;

use crate::harness::{Home, clip, event};

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
    assert!(rest.iter().any(|line| line.contains("nothing is in flight")), "{rest:?}");

    let finished = home.outcomes().len();
    home.serve_until_idle();
    assert_eq!(home.outcomes().len(), 40, "{finished} were finished before; the others were given back at once");
}

#[test]
fn sigterm_drains() {
    drains("-TERM");
}

#[test]
fn ctrl_c_drains() {
    drains("-INT");
}
