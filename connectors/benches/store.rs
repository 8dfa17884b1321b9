//! How fast the store is: `cargo bench -p connectors`, with `-- postgres://…` on a database that is empty. Every figure
//! includes the commits' fsyncs.

#![expect(clippy::print_stdout, reason = "a benchmark's table is its answer")]

#[path = "../tests/store/make.rs"]
mod make;

use std::time::{Duration, Instant};

use connectors::parquet::ParquetExport;
use connectors::store::{Store, StoreUrl, Write};
use make::{START, attempts, completed, dead_lettered, payload};
use records::{Lane, UploadId, UtcMicros};

/// Long enough for the file's indexes to be deeper than a cache line's worth of pages.
const UPLOADS: u64 = 100_000;
const QUEUED: u64 = 1_000_000;

#[tokio::main]
async fn main() {
    let folder = tempfile::tempdir().expect("a folder");
    let address = std::env::args().find(|argument| argument.starts_with("postgres"));
    let url = match &address {
        Some(address) => address.parse::<StoreUrl>().expect("an address"),
        None => StoreUrl::Sqlite(folder.path().join("tidemark.db")),
    };
    let store = Store::open(url).await.expect("a store");
    println!("{:<58} {:>12}", "operation", "a second");
    queue_and_take(&store).await;
    for group in [256, 1024] {
        admit_and_commit(&store, group).await;
    }
    export(&store, folder.path()).await;
    take_past_a_full_lane(&store).await;
}

async fn queue_and_take(store: &Store) {
    let messages: Vec<_> = (0..UPLOADS).map(|number| (Lane::Low, payload(number))).collect();
    let begun = Instant::now();
    for group in messages.chunks(1024) {
        store.enqueue(group, START).await.expect("enqueued");
    }
    report("enqueue, groups of 1024", UPLOADS, begun.elapsed());
    let begun = Instant::now();
    loop {
        let deliveries = store.lease(Lane::Low, 256, START.plus_ms(60_000), START).await.expect("leased");
        let leases: Vec<_> = deliveries.iter().map(|delivery| delivery.lease).collect();
        if leases.is_empty() {
            break;
        }
        store.acknowledge(&leases).await.expect("acknowledged");
    }
    report("lease and acknowledge, groups of 256", UPLOADS, begun.elapsed());
}

/// Ids are spread over the index, as hashes are, which is the worst case; 1 in 100 is dead-lettered after 3 attempts.
async fn admit_and_commit(store: &Store, size: usize) {
    let spread = |number: u64| {
        let id = format!("{:016x}-{size}", number.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        UploadId::try_from(id).expect("in the alphabet")
    };
    let uploads: Vec<_> = (0..UPLOADS).map(|number| (spread(number), Lane::Low, START)).collect();
    let begun = Instant::now();
    for group in uploads.chunks(size) {
        store.admit(group).await.expect("admitted");
    }
    report(&format!("admit, groups of {size}"), UPLOADS, begun.elapsed());

    let ending = |number: u64| {
        let mut outcome = completed(number, 1, START);
        if number.is_multiple_of(100) {
            outcome = dead_lettered(number, 1, START);
            outcome.attempts = 3;
        }
        outcome.upload_id = spread(number);
        (outcome.clone(), attempts(&outcome), payload(number).into())
    };
    let endings: Vec<Write> = (0..UPLOADS).map(ending).collect();
    let begun = Instant::now();
    for group in endings.chunks(size) {
        store.commit(group).await.expect("committed");
    }
    report(&format!("commit, groups of {size}"), UPLOADS, begun.elapsed());
}

async fn export(store: &Store, folder: &std::path::Path) {
    let begun = Instant::now();
    let exported = ParquetExport::new(store.clone(), folder).export(START).await.expect("exported");
    report("export to Parquet", exported.rows, begun.elapsed());
}

async fn take_past_a_full_lane(store: &Store) {
    let messages: Vec<_> = (0..QUEUED).map(|number| (Lane::Low, payload(number))).collect();
    for full in [false, true] {
        if full {
            for group in messages.chunks(10_000) {
                store.enqueue(group, START).await.expect("enqueued");
            }
        }
        let urgent: Vec<_> = (0..16 * 200).map(|number| (Lane::High, payload(number))).collect();
        store.enqueue(&urgent, START).await.expect("enqueued");
        let mut taken = Vec::new();
        for _ in 0..200 {
            let begun = Instant::now();
            let until = UtcMicros(START.0 + 1);
            assert_eq!(store.lease(Lane::High, 16, until, START).await.expect("leased").len(), 16);
            taken.push(begun.elapsed());
        }
        taken.sort_unstable();
        let beside = if full { "1,000,000 low messages" } else { "an empty low lane" };
        println!("lease of 16 high beside {beside}: median {:?}, 99th percentile {:?}", taken[100], taken[198]);
    }
    let begun = Instant::now();
    let pending = store.pending(Lane::Low, START).await.expect("counted");
    println!("pending of {} messages: {:?}", pending.ready, begun.elapsed());
}

fn report(what: &str, items: u64, taken: Duration) {
    println!("{what:<58} {:>12.0}", items as f64 / taken.as_secs_f64());
}
