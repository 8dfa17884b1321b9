//! Promise 5: the same outcomes give the same rows, byte for byte, whatever the workers and the order.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use connectors::parquet::write_windows;
use parquet::arrow::ArrowWriter;
use records::{Outcome, WindowRow, outcome_batch, outcome_schema};
use tidemark::report::replay::Replay;

use crate::make::{START, completed, dead_lettered};

/// Of several windows; some dead, some of these redriven, in a random order of their own.
fn outcomes(seed: u64) -> Vec<Outcome> {
    let mut outcomes = Vec::new();
    for number in 0..4_000_u64 {
        let arrived_at = START.plus_ms(number * 61);
        if number % 9 == 0 {
            outcomes.push(dead_lettered(number, 1, arrived_at));
            if number % 2 == 0 {
                outcomes.push(dead_lettered(number, 2, arrived_at));
                outcomes.push(completed(number, 3, arrived_at));
            }
        } else {
            outcomes.push(completed(number, 1, arrived_at));
        }
    }
    fastrand::Rng::with_seed(seed).shuffle(&mut outcomes);
    outcomes
}

fn write(folder: &Path, outcomes: &[Outcome]) {
    for (number, part) in outcomes.chunks(700).enumerate() {
        if number % 2 == 0 {
            let file = File::create(folder.join(format!("{number}.parquet"))).expect("made");
            let mut writer = ArrowWriter::try_new(file, Arc::new(outcome_schema()), None).expect("a writer");
            writer.write(&outcome_batch(part).expect("a batch")).expect("written");
            writer.close().expect("whole");
        } else {
            let mut file = File::create(folder.join(format!("{number}.ndjson"))).expect("made");
            for outcome in part {
                writeln!(file, "{}", serde_json::to_string(outcome).expect("JSON")).expect("written");
            }
        }
    }
}

/// The bytes of a replay: its Parquet file, and its rows as JSON.
fn replay(outcomes: &[Outcome], workers: usize) -> (Vec<u8>, String, Vec<WindowRow>) {
    let folder = tempfile::tempdir().expect("a folder");
    write(folder.path(), outcomes);
    let replay = Replay::new(&[folder.path().to_owned()], 60).expect("found");
    let replayed = replay.run(workers, |_| {}).expect("read");
    assert_eq!(replayed.outcomes, outcomes.len() as u64);
    let out: PathBuf = folder.path().join("out");
    write_windows(&out, &replayed.rows).expect("written");
    let bytes = fs::read(out.join("day=2026-09-21/windows.parquet")).expect("there is one");
    let lines: Vec<String> = replayed.rows.iter().map(|row| serde_json::to_string(row).expect("JSON")).collect();
    (bytes, lines.join("\n"), replayed.rows)
}

#[test]
fn workers_and_order_make_no_difference_to_a_byte() {
    let first = replay(&outcomes(0), 1);
    let uploads: u64 = first.2.iter().map(|row| row.requests).sum();
    assert_eq!(uploads, 4_000, "each upload counts once");
    let dead: u64 = first.2.iter().map(|row| row.dead_lettered).sum();
    assert_eq!(dead, 222, "and as it ended at last");
    for (workers, seed) in [(1, 1), (2, 2), (4, 3), (4, 4)] {
        assert!(replay(&outcomes(seed), workers) == first, "{workers} workers, order {seed}");
    }
}
