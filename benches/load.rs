//! A worker without a model's work: how many uploads a second it ends durably, in how much memory, and what a long queue of
//! bulk uploads costs the urgent ones. `cargo bench --bench load -- [UPLOADS] [postgres://…]`.

#![expect(clippy::print_stdout, reason = "a benchmark's table is its answer")]

#[path = "support/scripted.rs"]
mod scripted;

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use connectors::source::{Delivery, Lease, Pending, Source};
use connectors::spool::Spool;
use connectors::store::{Store, StoreUrl};
use futures::future::BoxFuture;
use records::{Fault, Lane, UtcMicros};
use scripted::{event, spool, worker};
use tidemark::clock::now;

/// What waits in the low lane while urgent uploads come.
const BACKLOGS: [u64; 3] = [0, 10_000, 1_000_000];
/// Urgent uploads, and how far apart they come.
const URGENT: u64 = 500;
const APART: Duration = Duration::from_millis(10);

/// The queue, which notes when messages are done with: their outcomes are durable then.
struct Noting {
    spool: Spool,
    done: Mutex<HashMap<u64, UtcMicros>>,
}

impl Source for Noting {
    fn pull(&self, lane: Lane, max: usize) -> BoxFuture<'_, Result<Vec<Delivery>, Fault>> {
        self.spool.pull(lane, max)
    }

    fn extend<'a>(&'a self, leases: &'a [Lease]) -> BoxFuture<'a, Result<u64, Fault>> {
        self.spool.extend(leases)
    }

    fn acknowledge<'a>(&'a self, leases: &'a [Lease]) -> BoxFuture<'a, Result<(), Fault>> {
        let message = |lease: &Lease| match lease {
            Lease::Spool(lease) => (lease.message, now()),
            Lease::Held(_) => unreachable!("the queue's leases are rows"),
        };
        self.done.lock().expect("no panic").extend(leases.iter().map(message));
        self.spool.acknowledge(leases)
    }

    fn release<'a>(&'a self, leases: &'a [Lease]) -> BoxFuture<'a, Result<(), Fault>> {
        self.spool.release(leases)
    }

    fn pending(&self, lane: Lane) -> BoxFuture<'_, Result<Pending, Fault>> {
        self.spool.pending(lane)
    }

    fn lease_ms(&self) -> u64 {
        self.spool.lease_ms()
    }
}

async fn enqueue(store: &Store, lane: Lane, prefix: &str, count: u64) {
    let tier = if lane == Lane::High { "enterprise" } else { "free" };
    let numbers: Vec<u64> = (0..count).collect();
    for numbers in numbers.chunks(10_000) {
        let messages: Vec<_> =
            numbers.iter().map(|number| (lane, event(&format!("{prefix}-{number}"), tier))).collect();
        store.enqueue(&messages, now()).await.expect("enqueued");
    }
}

/// Waits until a lane has nothing left, acknowledged to the last; `look` is called with what is left.
async fn idle(store: &Store, lane: Lane, mut look: impl FnMut(u64)) {
    loop {
        let begun = Instant::now();
        let pending = store.pending(lane, now()).await.expect("counted");
        let left = pending.ready + pending.leased;
        look(left);
        if left == 0 {
            return;
        }
        // A long queue takes long to count: a tenth of the time is spent on that at most.
        tokio::time::sleep(Duration::from_millis(100).max(10 * begun.elapsed())).await;
    }
}

/// MiB of this process that are in memory.
fn resident_mb() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a line");
    line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") / 1024
}

/// Seconds of a core that this process has used.
fn cpu_s() -> f64 {
    let status = std::fs::read_to_string("/proc/self/stat").expect("Linux");
    let (_, fields) = status.rsplit_once(") ").expect("a name");
    // User and system time, in hundredths.
    fields.split(' ').skip(11).take(2).map(|field| field.parse::<f64>().expect("a number") / 100.0).sum()
}

async fn throughput(store: &Store, uploads: u64) {
    enqueue(store, Lane::Low, "bulk", uploads).await;
    let (mut worker, _) = worker(Arc::new(spool(store)), store);
    let (begun, cpu) = (Instant::now(), cpu_s());
    let mut next = uploads;
    idle(store, Lane::Low, |left| {
        if left <= next {
            println!("{:>10} uploads ended {:>6} MiB", uploads - left, resident_mb());
            next = left.saturating_sub(uploads / 10);
        }
    })
    .await;
    let rate = uploads as f64 / begun.elapsed().as_secs_f64();
    let cpu = 1e6 * (cpu_s() - cpu) / uploads as f64;
    worker.stop();
    worker.ended().await.expect("ended");
    let outcomes: u64 = store.tally().await.expect("counted").iter().map(|(.., uploads)| uploads).sum();
    assert_eq!(outcomes, uploads, "one outcome each");
    println!(
        "{uploads} uploads: {rate:.0} a second from the queue to their durable outcomes, {cpu:.0} us of a core each"
    );
}

/// Urgent uploads from the moment they are enqueued to their durable outcome, beside what waits in the low lane.
async fn backlog(store: &Store) {
    for waiting in BACKLOGS {
        let name = format!("beside{waiting}");
        enqueue(store, Lane::Low, &name, waiting).await;
        let source = Arc::new(Noting { spool: spool(store), done: Mutex::default() });
        let (mut worker, _) = worker(Arc::clone(&source) as Arc<dyn Source>, store);
        let mut enqueued = HashMap::new();
        for number in 0..URGENT {
            let (at, upload) = (now(), format!("{name}-urgent-{number}"));
            let ids = store.enqueue(&[(Lane::High, event(&upload, "enterprise"))], at).await.expect("enqueued");
            enqueued.insert(ids[0], at);
            tokio::time::sleep(APART).await;
        }
        idle(store, Lane::High, |_| ()).await;
        let done = source.done.lock().expect("no panic").clone();
        let mut taken: Vec<f64> = enqueued.iter().map(|(id, at)| (done[id].0 - at.0) as f64 / 1000.0).collect();
        taken.sort_unstable_by(f64::total_cmp);
        let (median, high) = (taken[taken.len() / 2], taken[taken.len() * 99 / 100]);
        let left = store.pending(Lane::Low, now()).await.expect("counted");
        let left = left.ready + left.leased;
        println!(
            "urgent beside {waiting:>8} bulk uploads ({left} left): median {median:.1} ms, 99th percentile {high:.1} ms"
        );
        worker.stop();
        worker.ended().await.expect("ended");
        // What is left is nobody's concern.
        let rest = store.lease(Lane::Low, usize::MAX >> 1, now().plus_ms(1000), now()).await.expect("leased");
        let leases: Vec<_> = rest.iter().map(|delivery| delivery.lease).collect();
        store.acknowledge(&leases).await.expect("acknowledged");
    }
}

#[tokio::main]
async fn main() {
    let uploads = std::env::args().find_map(|argument| argument.parse().ok()).unwrap_or(200_000);
    let folder = tempfile::tempdir().expect("a folder");
    let url = match std::env::args().find(|argument| argument.starts_with("postgres")) {
        Some(address) => address.parse::<StoreUrl>().expect("an address"),
        None => StoreUrl::Sqlite(folder.path().join("tidemark.db")),
    };
    let store = Store::open(url).await.expect("a store");
    throughput(&store, uploads).await;
    backlog(&store).await;
}
