//! Where a report may say that all is there: it is, and nothing comes behind its back.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use connectors::store::{Progress, Store, StoreError, Walk, WrittenWindow};
use records::{Admitted, Lane, MicroUsd, UtcMicros, WindowKey, WindowKind, WindowRow};
use tokio::sync::watch;

use crate::make::{START, completed, dead_lettered, id};
use crate::{Fixture, admit, ending, fixture};

/// Admits and commits uploads whose clock is now ahead, now behind, in groups. Waits now and then until somebody has closed
/// from beginning to end meanwhile, however slow the machine is.
async fn work(store: Store, numbers: std::ops::Range<u64>, mut closed: watch::Receiver<u64>) {
    let mut dice = fastrand::Rng::with_seed(numbers.start);
    let numbers: Vec<u64> = numbers.collect();
    for (step, group) in (0..).zip(numbers.chunks(3)) {
        let at = |dice: &mut fastrand::Rng| START.plus_ms(step * 10 + dice.u64(0..40));
        let uploads: Vec<_> = group.iter().map(|number| (id(*number), Lane::Low, at(&mut dice))).collect();
        let admitted = store.admit(&uploads).await.expect("admitted");
        let ended = group.iter().zip(admitted).map(|(number, admitted)| match admitted {
            Admitted::Open { arrived_at, .. } => ending(*number, completed(*number, 1, arrived_at)),
            Admitted::Finished => panic!("{number} was never admitted before"),
        });
        store.commit(&ended.collect::<Vec<_>>()).await.expect("committed");
        if step % 10 == 0 {
            let begun = *closed.borrow();
            closed.wait_for(|rounds| *rounds >= begun + 2).await.expect("it goes on");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_was_closed_has_all_its_outcomes_in_the_log_and_gets_no_further_ones() {
    let Fixture { store, folder: _folder } = fixture().await;
    let done = Arc::new(AtomicBool::new(false));
    let (closing, ended) = (Store::open(store.url()).await.expect("opens"), Arc::clone(&done));
    let (round, rounds) = watch::channel(0);
    // Closes while the others work: each moment with the end of the log as it was read after that.
    let closing = tokio::spawn(async move {
        let (mut walk, mut closed, mut ahead) = (Walk::default(), Vec::new(), 0);
        while !ended.load(Ordering::SeqCst) {
            ahead += 7;
            let sealed = closing.seal_arrivals(START.plus_ms(ahead)).await.expect("sealed");
            let until = closing.closed_until(&mut walk, sealed).await.expect("walked");
            let log = closing.outcomes_after(0, usize::MAX).await.expect("read");
            closed.push((until, log.last().map_or(0, |(seq, _)| *seq)));
            round.send_modify(|rounds| *rounds += 1);
        }
        closed
    });
    let mut workers = Vec::new();
    for worker in 0..4 {
        let store = Store::open(store.url()).await.expect("opens");
        workers.push(tokio::spawn(work(store, worker * 300..(worker + 1) * 300, rounds.clone())));
    }
    for worker in workers {
        worker.await.expect("no panic");
    }
    done.store(true, Ordering::SeqCst);
    let closed = closing.await.expect("no panic");
    let log = store.outcomes_after(0, usize::MAX).await.expect("read");
    assert_eq!(log.len(), 1200);
    for (until, end) in &closed {
        let late = log.iter().find(|(seq, outcome)| seq > end && outcome.arrived_at < *until);
        assert_eq!(late, None, "closed until {until} with a log that ended at {end}");
    }
    let moments = closed.iter().map(|(until, _)| *until).filter(|until| *until > START);
    assert!(moments.collect::<std::collections::BTreeSet<_>>().len() > 3, "it went on meanwhile: {closed:?}");
}

#[tokio::test]
async fn a_redrive_opens_nothing_that_was_closed() {
    let Fixture { store, folder: _folder } = fixture().await;
    admit(&store, [1]).await;
    let sealed = store.seal_arrivals(START.plus_ms(5)).await.expect("sealed");
    let closed = || async { store.closed_until(&mut Walk::default(), sealed).await.expect("walked") };
    assert_eq!(closed().await, START, "it is open");
    store.commit(&[ending(1, dead_lettered(1, 1, START))]).await.expect("committed");
    assert_eq!(closed().await, sealed);
    store.redrive(&[id(1)], START).await.expect("redriven");
    assert_eq!(closed().await, sealed, "and stays so");
}

#[tokio::test]
async fn a_walk_over_many_that_arrived_at_once_ends() {
    let Fixture { store, folder: _folder } = fixture().await;
    admit(&store, 0..2_500).await;
    let group: Vec<_> = (0..2_500).map(|number| ending(number, completed(number, 1, START))).collect();
    let (first, last) = group.split_at(2_499);
    store.commit(first).await.expect("committed");
    let sealed = store.seal_arrivals(START.plus_ms(1)).await.expect("sealed");
    let mut walk = Walk::default();
    assert_eq!(store.closed_until(&mut walk, sealed).await.expect("walked"), START);
    store.commit(last).await.expect("committed");
    assert_eq!(store.closed_until(&mut walk, sealed).await.expect("walked"), sealed);
}

fn window(start: u64, arm: Option<&str>, version: u32) -> WrittenWindow {
    let row = serde_json::json!({
        "kind": WindowKind::Arrival, "start": UtcMicros(start), "end": UtcMicros(start + 60), "width_s": 60, "experiment": null, "arm": arm,
        "model": null, "lane": Lane::Low, "tier": null, "region": null, "version": version, "requests": 1, "completed": 1,
        "dead_lettered": 0, "errors": {}, "fallbacks": 0, "cache_hits": 0, "below_threshold": 0,
        "confidence_histogram": [1], "confidence_mean": 0.25, "cost_micro_usd": MicroUsd(3),
    });
    WrittenWindow { row: serde_json::from_value(row).expect("a row"), totals: format!("[[0,{version}]]") }
}

#[tokio::test]
async fn rows_are_written_once_and_the_last_version_stands() {
    let Fixture { store, folder: _folder } = fixture().await;
    let nothing = Progress::default();
    assert_eq!(store.report_progress(60).await.expect("read"), nothing);
    let first = Progress { written_until: UtcMicros(120), applied_seq: 9, resume_seq: 7 };
    let windows = [window(0, Some("a"), 1), window(0, None, 1), window(60, Some("a"), 1)];
    store.write_windows(60, &windows, nothing, first).await.expect("written");
    let again = store.write_windows(60, &windows, nothing, first).await.expect_err("it is further by now");
    assert!(matches!(again, StoreError::Held { .. }), "{again:?}");
    assert_eq!(store.report_progress(60).await.expect("read"), first);
    assert_eq!(store.report_progress(5).await.expect("read"), nothing, "another width is another report");

    let corrected = window(0, None, 2);
    let second = Progress { applied_seq: 10, ..first };
    store.write_windows(60, std::slice::from_ref(&corrected), first, second).await.expect("written");
    let cells: Vec<(UtcMicros, WindowKey)> =
        [&windows[1], &windows[0]].map(|it| (it.row.start, it.row.key.clone())).to_vec();
    assert_eq!(store.last_windows(60, &cells).await.expect("read"), [corrected.clone(), windows[0].clone()]);
    let log: Vec<WindowRow> = store.windows_after(0, 10).await.expect("read").into_iter().map(|(_, row)| row).collect();
    let rows = windows.each_ref().map(|it| it.row.clone());
    assert_eq!(log, [&rows[..], std::slice::from_ref(&corrected.row)].concat());
    let newest = store.newest_windows(UtcMicros(0), 10).await.expect("read");
    assert_eq!(newest, [rows[2].clone(), rows[0].clone(), corrected.row.clone()]);
    assert_eq!(store.newest_windows(UtcMicros(1), 10).await.expect("read"), [rows[2].clone()]);
}
