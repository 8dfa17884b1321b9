//! Outcomes from files to rows of windows: how many a second, from Parquet and from lines, on one worker and on two.
//!
//! `cargo bench --workspace --bench windows -- 4 FOLDER` makes 4 million outcomes from a fixed seed in a folder (about 0.2 GB of Parquet
//! and 2.9 GB of lines), and reads each kind three times; the best one counts. `benches/windows.sh` puts others beside it.

#[path = "support/outcomes.rs"]
mod outcomes;

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use connectors::parquet::layout;
use parquet::arrow::ArrowWriter;
use records::{Outcome, outcome_batch, outcome_schema};
use tidemark::report::replay::Replay;

/// As many as `serve` puts into a file at most.
const FILE: usize = 50_000;

/// Writes the outcomes both ways.
fn make(folder: &Path, count: usize) -> [PathBuf; 2] {
    let [parquet, lines] = ["parquet", "lines"].map(|name| folder.join(name));
    std::fs::create_dir_all(&parquet).expect("made");
    std::fs::create_dir_all(&lines).expect("made");
    let mut dice = fastrand::Rng::with_seed(1);
    let mut out = BufWriter::with_capacity(1 << 20, File::create(lines.join("outcomes.ndjson")).expect("made"));
    let mut numbers = 0..count as u64;
    for file in 0..count.div_ceil(FILE) {
        let outcomes: Vec<Outcome> =
            numbers.by_ref().take(FILE).map(|number| outcomes::outcome(number, &mut dice)).collect();
        let path = File::create(parquet.join(format!("{file:06}.parquet"))).expect("made");
        let mut writer = ArrowWriter::try_new(path, Arc::new(outcome_schema()), Some(layout())).expect("a writer");
        writer.write(&outcome_batch(&outcomes).expect("a batch")).expect("written");
        writer.close().expect("whole");
        for outcome in &outcomes {
            serde_json::to_writer(&mut out, outcome).expect("JSON");
            out.write_all(b"\n").expect("written");
        }
    }
    out.flush().expect("written");
    [parquet, lines]
}

#[expect(clippy::print_stdout, reason = "a benchmark's table is its answer")]
fn main() {
    let mut arguments = std::env::args().skip(1).filter(|argument| !argument.starts_with("--"));
    let (Some(Ok(millions)), Some(folder)) = (arguments.next().map(|it| it.parse::<f64>()), arguments.next()) else {
        println!("usage: cargo bench --workspace --bench windows -- MILLIONS FOLDER");
        return;
    };
    let [parquet, lines] = make(Path::new(&folder), (millions * 1e6) as usize);
    let mut first = None;
    for (name, path) in [("Parquet", parquet), ("lines", lines)] {
        for workers in [1, 2] {
            let mut best = f64::MAX;
            for _ in 0..3 {
                let begun = Instant::now();
                let replay = Replay::new(std::slice::from_ref(&path), 60).expect("it was just written");
                let replayed = replay.run(workers, |_| {}).expect("it was just written");
                best = best.min(begun.elapsed().as_secs_f64() / replayed.outcomes as f64);
                let same = first.get_or_insert_with(|| replayed.rows.clone());
                assert_eq!(*same, replayed.rows, "all ways give the same rows");
            }
            println!("Tidemark\t{name}\t{workers}\t{:.0}\t{}", 1.0 / best, first.as_ref().map_or(0, Vec::len));
        }
    }
}
