//! Outcomes from files to rows of windows: how many a second, from Parquet and from lines, on one worker and on two.
//!
//! `cargo bench --workspace --bench windows -- 4 FOLDER` makes 4 million outcomes from a fixed seed in a folder (about 0.2 GB of Parquet
//! and 2.9 GB of lines), and reads each kind three times; the best one counts. `benches/windows.sh` puts others beside it.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;
use records::{
    Branch, Confidence, ErrorType, FallbackReason, Lane, MicroUsd, Outcome, Status, Tier, UploadId, UtcMicros,
};
use records::{outcome_batch, outcome_schema};
use tidemark::report::replay::Replay;

/// As many as `serve` puts into a file at most.
const FILE: usize = 50_000;

/// From one arrival to the next: 1,000 uploads a second, of which an hour is 60 windows.
const GAP_US: u64 = 1_000;

fn outcome(number: u64, dice: &mut fastrand::Rng) -> Outcome {
    let arrived_at = UtcMicros(1_790_000_000_000_000 + number * GAP_US);
    let lane = if dice.u8(0..10) == 0 { Lane::High } else { Lane::Low };
    let is_dead = dice.u8(0..100) == 0;
    let is_paid = !is_dead && dice.u8(0..10) == 0;
    // Latencies of four decades, most of them short.
    let inference_ms = (50.0 * (1.0 - dice.f64()).powf(-0.7)).min(60_000.0) as u64;
    let queued_ms = (4.0 * (1.0 - dice.f64()).powf(-1.1)).min(500_000.0) as u64;
    let confidence = Confidence::try_from(1.0 - dice.f64().powi(3)).expect("in [0, 1]");
    let genre = ["jazz", "blues", "rock", "techno", "waltz"][dice.usize(0..5)];
    let metadata = serde_json::json!({
        "genre": genre, "tempo_bpm": dice.u8(60..200), "key": "A minor", "instruments": ["piano", "double bass", "drums"],
    });
    Outcome {
        upload_id: UploadId::try_from(format!("{:016x}-{number:x}", dice.u64(..))).expect("in the alphabet"),
        version: 1,
        customer_id: Some(format!("customer-{}", dice.u16(0..2_000))),
        source: Some(format!("gs://uploads/2026/09/21/{number:09}.flac")),
        lane,
        tier: Some(if lane == Lane::High { Tier::Enterprise } else { [Tier::Pro, Tier::Free][dice.usize(0..2)] }),
        region: Some(["eu-west", "us-east"][dice.usize(0..2)].to_owned()),
        status: if is_dead { Status::DeadLettered } else { Status::Completed },
        branch: (!is_dead).then_some(if is_paid { Branch::Fallback } else { Branch::Primary }),
        fallback_reason: is_paid.then_some(FallbackReason::Unsure),
        model: (!is_dead).then(|| if is_paid { "gpt-audio-1.5" } else { "nano" }.to_owned()),
        experiment: None,
        arm: Some(if dice.u8(0..10) == 0 { "experimental" } else { "primary" }.to_owned()),
        confidence: (!is_dead).then_some(confidence),
        below_threshold: !is_dead && confidence.get() < 0.8,
        metadata: if is_dead { Default::default() } else { metadata.as_object().cloned().expect("an object") },
        field_confidence: ["genre", "instruments", "key", "tempo_bpm"]
            .map(|field| (field.to_owned(), confidence))
            .into(),
        attempts: 1,
        error: is_dead.then(|| "no answer in time".to_owned()),
        error_type: is_dead.then_some(ErrorType::Timeout),
        queued_ms,
        inference_ms,
        total_ms: queued_ms + inference_ms + 3,
        cost_micro_usd: MicroUsd(if is_paid { 1_200 + dice.u64(0..800) } else { 0 }),
        arrived_at,
        completed_at: arrived_at.plus_ms(queued_ms + inference_ms + 3),
        training_consent: false,
    }
}

/// Writes the outcomes both ways.
fn make(folder: &Path, count: usize) -> [PathBuf; 2] {
    let [parquet, lines] = ["parquet", "lines"].map(|name| folder.join(name));
    std::fs::create_dir_all(&parquet).expect("made");
    std::fs::create_dir_all(&lines).expect("made");
    let mut dice = fastrand::Rng::with_seed(1);
    let mut out = BufWriter::with_capacity(1 << 20, File::create(lines.join("outcomes.ndjson")).expect("made"));
    let mut numbers = 0..count as u64;
    for file in 0..count.div_ceil(FILE) {
        let outcomes: Vec<Outcome> = numbers.by_ref().take(FILE).map(|number| outcome(number, &mut dice)).collect();
        let zstd = WriterProperties::builder().set_compression(Compression::ZSTD(ZstdLevel::default())).build();
        let path = File::create(parquet.join(format!("{file:06}.parquet"))).expect("made");
        let mut writer = ArrowWriter::try_new(path, Arc::new(outcome_schema()), Some(zstd)).expect("a writer");
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
