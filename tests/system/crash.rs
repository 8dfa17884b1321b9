//! `serve` killed with -9 at random moments: at the end one outcome each, and never an acknowledgement before its commit.

use std::io::{BufRead, BufReader};
use std::process::Child;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use connectors::store::Store;
use records::{Lane, UtcMicros};

use crate::harness::{Home, clip, event};

fn number(variable: &str, default: usize) -> usize {
    std::env::var(variable).map_or(default, |text| text.parse().expect("a number"))
}

/// The lines of a process's log; closed when it has ended.
pub(crate) fn log(child: &mut Child) -> Receiver<String> {
    let stderr = child.stderr.take().expect("piped");
    let (sender, lines) = channel();
    std::thread::spawn(move || {
        for line in BufReader::new(stderr).lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    lines
}

/// Acknowledged uploads, and outcomes.
async fn look(home: &Home, uploads: usize) -> (usize, usize) {
    let store = Store::open(&home.path("data").join("tidemark.db")).await.expect("the store opens after a crash");
    let mut left = 0;
    for lane in Lane::ALL {
        let pending = store.pending(lane, UtcMicros(0)).await.expect("the spool");
        left += usize::try_from(pending.ready + pending.leased).expect("small");
    }
    let outcomes = store.tally().await.expect("outcomes").iter().map(|(_, _, count)| *count as usize).sum();
    store.close().await;
    (uploads - left, outcomes)
}

#[tokio::test]
async fn a_crash_at_any_moment_loses_nothing_and_doubles_nothing() {
    let (uploads, crashes) = (number("UPLOADS", 80), number("CRASHES", 5));
    let seed = number("SEED", 1) as u64;
    let mut dice = fastrand::Rng::with_seed(seed);
    let home = Home::new();
    let clips = ["rock-e-minor-120.wav", "waltz-g-major-180.flac", "swing-f-major-160.ogg", "country-d-major-126.mp3"];
    let tiers = ["enterprise", "pro", "free"];
    let events: Vec<String> =
        (0..uploads).map(|n| event(&format!("u{n}"), tiers[n % 3], &clip(clips[n % clips.len()]))).collect();
    home.enqueue_events(&events.join("\n"));

    let (mut killed, mut killed_at_work) = (0, 0);
    loop {
        let arguments: &[&str] = if killed < crashes { &[] } else { &["--until-idle"] };
        let mut serve = home.serve(arguments);
        let lines = log(&mut serve);
        if killed == crashes {
            let log: Vec<String> = lines.iter().collect();
            assert!(serve.wait().expect("ended").success(), "the last run drains the queue; SEED={seed}: {log:#?}");
            break;
        }
        let (_, before) = look(&home, uploads).await;
        // One in four is killed while it starts, the others a moment after some uploads more have ended.
        let longest_ms = if dice.u64(0..4) == 0 {
            1_000
        } else {
            let ended = |line: &String| line.contains("completed");
            let seen = lines.iter().filter(ended).take(1 + dice.usize(0..uploads / crashes / 4)).count();
            assert!(seen > 0, "serve ended by itself; SEED={seed}");
            50
        };
        let until = Instant::now() + Duration::from_millis(dice.u64(0..longest_ms));
        loop {
            match lines.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(_) => {}
                Err(RecvTimeoutError::Timeout) => break,
                Err(RecvTimeoutError::Disconnected) => panic!("serve ended by itself; SEED={seed}"),
            }
        }
        serve.kill().expect("killed with SIGKILL");
        serve.wait().expect("ended");
        killed += 1;
        let (acknowledged, outcomes) = look(&home, uploads).await;
        assert!(acknowledged <= outcomes, "{acknowledged} acknowledged, {outcomes} committed; SEED={seed}");
        assert!(outcomes <= uploads, "{outcomes} outcomes of {uploads} uploads; SEED={seed}");
        killed_at_work += usize::from(outcomes > before && outcomes < uploads);
    }
    let mut ids: Vec<String> =
        home.outcomes().iter().map(|outcome| outcome["upload_id"].as_str().expect("an id").to_owned()).collect();
    assert_eq!(ids.len(), uploads, "one outcome each; SEED={seed}");
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), uploads, "no upload has two outcomes; SEED={seed}");
    assert_eq!(look(&home, uploads).await, (uploads, uploads));
    println!(
        "{uploads} uploads, {killed} kills, {killed_at_work} of them between the first and the last commit; seed {seed}"
    );
    assert!(killed_at_work > 0, "no kill came while uploads were being committed");
}
