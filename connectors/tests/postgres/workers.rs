//! Several workers on one database, each with connections of its own.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arrow::array::AsArray;
use connectors::parquet::ParquetExport;
use connectors::store::{Redriven, Store, StoreUrl};
use records::{Admitted, Lane, UploadId};

use crate::export::{files, read};
use crate::make::{START, completed, dead_lettered, id};
use crate::{admit, ending, new_database};

const WORKERS: u64 = 4;

/// Does the same on a store of each worker's own, at the same time; what each said.
async fn each<T: Send + 'static, F>(url: &StoreUrl, work: impl Fn(u64, Store) -> F) -> Vec<T>
where
    F: Future<Output = T> + Send + 'static,
{
    let mut tasks = Vec::new();
    for worker in 0..WORKERS {
        tasks.push(tokio::spawn(work(worker, Store::open(url).await.expect("opens"))));
    }
    let mut said = Vec::new();
    for task in tasks {
        said.push(task.await.expect("no panic"));
    }
    said
}

/// The numbers below `count`, in an order of the worker's own.
fn shuffled(worker: u64, count: u64) -> Vec<u64> {
    let mut numbers: Vec<u64> = (0..count).collect();
    fastrand::Rng::with_seed(worker).shuffle(&mut numbers);
    numbers
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn uploads_that_all_admit_at_once_have_one_arrival() {
    let url = new_database();
    let known = each(&url, |worker, store| async move {
        let mut known = BTreeMap::new();
        for group in shuffled(worker, 400).chunks(40) {
            let at = START.plus_ms(worker);
            let uploads: Vec<_> = group.iter().map(|number| (id(*number), Lane::Low, at)).collect();
            let admitted = store.admit(&uploads).await.expect("admitted");
            known.extend(group.iter().copied().zip(admitted));
        }
        known
    })
    .await;
    assert_eq!(known[0].len(), 400);
    assert!(known.iter().all(|others| *others == known[0]), "all are told the same");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_all_that_commit_an_upload_one_wins_and_the_others_are_told() {
    let url = new_database();
    admit(&Store::open(&url).await.expect("opens"), 0..400).await;
    let written = each(&url, |worker, store| async move {
        let mut won = Vec::new();
        for group in shuffled(worker, 400).chunks(16) {
            let endings: Vec<_> =
                group.iter().map(|number| ending(*number, completed(*number, 1, START.plus_ms(worker)))).collect();
            let written = store.commit(&endings).await.expect("committed");
            won.extend(group.iter().copied().zip(written).filter(|(_, written)| *written).map(|(number, _)| number));
        }
        won
    })
    .await;
    let mut winners: Vec<(u64, u64)> =
        (0..).zip(&written).flat_map(|(worker, won)| won.iter().map(move |number| (*number, worker))).collect();
    winners.sort_unstable();
    assert_eq!(winners.iter().map(|(number, _)| *number).collect::<Vec<_>>(), (0..400).collect::<Vec<_>>());
    let store = Store::open(&url).await.expect("opens");
    for (number, worker) in winners {
        let stands = store.outcome(&id(number)).await.expect("read");
        assert_eq!(stands, Some(completed(number, 1, START.plus_ms(worker))), "the winner's");
    }
}

/// Commits the worker's share of `count` uploads in small groups.
async fn commit_share(worker: u64, store: &Store, count: u64) {
    let numbers: Vec<u64> = (worker * count..(worker + 1) * count).collect();
    for group in numbers.chunks(3) {
        admit(store, group.iter().copied()).await;
        let endings: Vec<_> = group.iter().map(|number| ending(*number, completed(*number, 1, START))).collect();
        assert_eq!(store.commit(&endings).await.expect("committed"), vec![true; group.len()]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn who_follows_the_log_while_all_commit_misses_nothing() {
    let url = new_database();
    let done = Arc::new(AtomicBool::new(false));
    let (reader, ended) = (Store::open(&url).await.expect("opens"), Arc::clone(&done));
    let following = tokio::spawn(async move {
        let (mut seen, mut after) = (Vec::new(), 0);
        loop {
            let last = ended.load(Ordering::SeqCst);
            let page = reader.outcomes_after(after, 1_000).await.expect("read");
            after = page.last().map_or(after, |(seq, _)| *seq);
            let is_end = page.is_empty() && last;
            seen.extend(page);
            if is_end {
                return seen;
            }
        }
    });
    each(&url, |worker, store| async move { commit_share(worker, &store, 300).await }).await;
    done.store(true, Ordering::SeqCst);
    let seen = following.await.expect("no panic");
    assert_eq!(seen.len() as u64, WORKERS * 300);
    let log = Store::open(&url).await.expect("opens").outcomes_after(0, usize::MAX).await.expect("read");
    assert_eq!(seen, log, "what was read while it grew is what is there");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn exports_of_all_while_all_commit_write_each_outcome_once() {
    let (url, folder) = (new_database(), tempfile::tempdir().expect("a folder"));
    let root = folder.path().to_owned();
    each(&url, |worker, store| {
        let export = ParquetExport::new(store.clone(), &root.join(worker.to_string()));
        async move {
            let committing = tokio::spawn(async move { commit_share(worker, &store, 150).await });
            while !committing.is_finished() {
                export.export(START).await.expect("exported");
            }
            committing.await.expect("no panic");
            export.export(START).await.expect("exported");
        }
    })
    .await;
    let mut exported: Vec<UploadId> = Vec::new();
    for batch in files(folder.path()).iter().flat_map(|file| read(file)) {
        let ids = batch.column(0).as_string::<i32>().iter().flatten().map(str::to_owned);
        exported.extend(ids.map(|id| UploadId::try_from(id).expect("an id")));
    }
    exported.sort_unstable();
    let mut expected: Vec<UploadId> = (0..WORKERS * 150).map(id).collect();
    expected.sort_unstable();
    assert_eq!(exported, expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_dead_letter_that_all_redrive_is_sent_round_once() {
    let url = new_database();
    let store = Store::open(&url).await.expect("opens");
    admit(&store, 0..100).await;
    let endings: Vec<_> = (0..100).map(|number| ending(number, dead_lettered(number, 1, START))).collect();
    store.commit(&endings).await.expect("committed");
    let answers = each(&url, |worker, store| async move {
        let mut answers = Vec::new();
        for group in shuffled(worker, 100).chunks(7) {
            let ids: Vec<_> = group.iter().map(|number| id(*number)).collect();
            answers.extend(store.redrive(&ids, START).await.expect("redriven"));
        }
        answers
    })
    .await;
    let requeued = answers.iter().flatten().filter(|it| **it == Redriven::Requeued { version: 2 }).count();
    assert_eq!(requeued, 100);
    assert!(answers.iter().flatten().all(|it| matches!(it, Redriven::Requeued { .. } | Redriven::AlreadyRequeued)));
    let waiting: u64 = [store.pending(Lane::High, START).await, store.pending(Lane::Low, START).await]
        .map(|pending| pending.expect("counted").ready)
        .iter()
        .sum();
    assert_eq!(waiting, 100, "each is in the spool once");
    let open = Admitted::Open { arrived_at: START, version: 2 };
    assert_eq!(admit(&store, 0..100).await, vec![open; 100]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn leases_that_run_out_acknowledged_late_and_extended_meanwhile_end_each_message_once() {
    let url = new_database();
    let store = Store::open(&url).await.expect("opens");
    let messages: Vec<_> = (0..300).map(|number: u64| (Lane::Low, number.to_be_bytes())).collect();
    store.enqueue(&messages, START).await.expect("enqueued");
    each(&url, |worker, store| async move {
        let mut dice = fastrand::Rng::with_seed(worker);
        for now in (0..).map(|ms| START.plus_ms(ms)) {
            // Every lease has run out when the next one looks.
            let leased = store.lease(Lane::Low, 20, now.plus_ms(1), now).await.expect("leased");
            let leases: Vec<_> = leased.iter().map(|delivery| delivery.lease).collect();
            store.extend(&leases, now.plus_ms(1)).await.expect("extended");
            let (done, back) = leases.split_at(dice.usize(0..=leases.len()));
            store.acknowledge(done).await.expect("acknowledged");
            store.release(back).await.expect("released");
            let pending = store.pending(Lane::Low, now).await.expect("counted");
            if pending.ready + pending.leased == 0 {
                return;
            }
        }
    })
    .await;
    assert_eq!(store.pending(Lane::Low, START).await.expect("counted"), Default::default());
}
