//! How soon the report knows: from an outcome's commit to the live gauges of `/metrics`, and from the moment at which a window is
//! provably complete to the file that holds its rows. `cargo bench --workspace --bench report -- [SECONDS]`.
//!
//! A worker whose model knows its answer gets 100 uploads a second for so long, in windows of a second; its store is SQLite, its
//! files are in a folder.

#![expect(clippy::print_stdout, reason = "a benchmark's table is its answer")]

#[path = "support/scripted.rs"]
mod scripted;

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arrow::array::AsArray;
use arrow::datatypes::TimestampMicrosecondType;
use connectors::parquet::ParquetExport;
use connectors::store::Store;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use records::{Lane, UtcMicros};
use scripted::{PROBE, event, spool, worker};
use tidemark::clock::now;
use tidemark::metrics::Metrics;
use tidemark::report::service;

/// How wide windows are.
const WIDTH_S: u32 = 1;
/// How long after a window's end no arrival of a worker whose clock is behind is waited for.
const GRACE_MS: u64 = 1_000;
/// From one upload to the next; each tenth is told apart in the metrics.
const APART: Duration = Duration::from_millis(10);
const PROBES: u64 = 10;
/// How often the metrics and the folder are looked at.
const LOOK: Duration = Duration::from_millis(2);

/// When each probe was first in the gauges of the live view.
fn watch_metrics(metrics: &Metrics, ended: &AtomicBool) -> HashMap<String, UtcMicros> {
    let mut seen = HashMap::new();
    while !ended.load(Ordering::Relaxed) {
        let text = metrics.text();
        let at = now();
        for line in text.lines().filter(|line| line.starts_with("tidemark_window_requests{")) {
            if let Some((_, rest)) = line.split_once(&format!("model=\"{PROBE}")) {
                let number = rest.split('"').next().unwrap_or_default();
                seen.entry(format!("{PROBE}{number}")).or_insert(at);
            }
        }
        std::thread::park_timeout(LOOK);
    }
    seen
}

/// When each window, by its start, first had a row in a file.
fn watch_files(folder: &Path, ended: &AtomicBool) -> BTreeMap<u64, UtcMicros> {
    let (mut known, mut seen) = (Vec::new(), BTreeMap::new());
    while !ended.load(Ordering::Relaxed) {
        for path in files(folder) {
            // A file that another one has replaced meanwhile has no windows of its own.
            if let (false, Ok(file)) = (known.contains(&path), File::open(&path)) {
                let at = now();
                let rows = ParquetRecordBatchReaderBuilder::try_new(file).and_then(|file| file.build());
                for rows in rows.expect("a whole file").map(|rows| rows.expect("read")) {
                    let starts =
                        rows.column_by_name("start").expect("a column").as_primitive::<TimestampMicrosecondType>();
                    for start in starts.values() {
                        seen.entry(start.unsigned_abs()).or_insert(at);
                    }
                }
                known.push(path);
            }
        }
        std::thread::park_timeout(LOOK);
    }
    seen
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let paths = |folder: &Path| std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let files = paths(folder).flat_map(|day| paths(&day).collect::<Vec<_>>());
    files.filter(|path| path.file_name().is_some_and(|name| !name.to_string_lossy().starts_with('.'))).collect()
}

fn show(what: &str, mut took_ms: Vec<f64>) {
    took_ms.sort_unstable_by(f64::total_cmp);
    let count = took_ms.len();
    let (median, high, most) = (took_ms[count / 2], took_ms[count * 99 / 100], took_ms[count - 1]);
    println!("{what}: median {median:.0} ms, 99th percentile {high:.0} ms, longest {most:.0} ms, of {count}");
}

#[tokio::main]
async fn main() {
    let seconds: u64 = std::env::args().find_map(|argument| argument.parse().ok()).unwrap_or(120);
    let home = tempfile::tempdir().expect("a folder");
    let store = Store::open(&home.path().join("tidemark.db")).await.expect("a store");
    let (mut worker, metrics) = worker(Arc::new(spool(&store)), &store);
    let export = ParquetExport::windows(store.clone(), home.path());
    let report = service::start(store.clone(), export, WIDTH_S, Arc::clone(&metrics), now).expect("a thread");
    let ended = Arc::new(AtomicBool::new(false));
    let (of, until) = (metrics, Arc::clone(&ended));
    let gauges = std::thread::spawn(move || watch_metrics(&of, &until));
    let (folder, until) = (home.path().join("windows"), Arc::clone(&ended));
    let in_files = std::thread::spawn(move || watch_files(&folder, &until));

    let mut ticks = tokio::time::interval(APART);
    for number in 0..seconds * 1_000 / APART.as_millis() as u64 {
        ticks.tick().await;
        let name = if number % PROBES == 0 { PROBE } else { "other-" };
        let event = event(&format!("{name}{number}"), "enterprise");
        store.enqueue(&[(Lane::High, event)], now()).await.expect("enqueued");
    }
    // What came last is in a window that is closed two seconds later.
    tokio::time::sleep(Duration::from_secs(4)).await;
    ended.store(true, Ordering::Relaxed);
    let (gauges, in_files) = (gauges.join().expect("watched"), in_files.join().expect("watched"));
    report.end().await;
    worker.stop();
    worker.ended().await.expect("ended");

    let width_us = u64::from(WIDTH_S) * 1_000_000;
    let mut complete: BTreeMap<u64, UtcMicros> = BTreeMap::new();
    let mut to_gauges = Vec::new();
    for (_, outcome) in store.outcomes_after(0, usize::MAX >> 1).await.expect("read") {
        let start = outcome.arrived_at.0 / width_us * width_us;
        let at = complete.entry(start).or_insert(UtcMicros(start + width_us).plus_ms(GRACE_MS));
        *at = outcome.completed_at.max(*at);
        if outcome.upload_id.as_str().starts_with(PROBE) {
            let seen = gauges.get(outcome.upload_id.as_str()).expect("every probe is seen");
            to_gauges.push(seen.0.saturating_sub(outcome.completed_at.0) as f64 / 1e3);
        }
    }
    let wait = |(start, at): (u64, UtcMicros)| {
        in_files.get(&start).expect("every window is closed").0.saturating_sub(at.0) as f64 / 1e3
    };
    show("from an outcome's completion to the live gauges", to_gauges);
    show("from a complete window to its file", complete.into_iter().map(wait).collect());
}
