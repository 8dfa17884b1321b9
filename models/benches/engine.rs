//! Measures the engine on a checkpoint of `benches/peers/make_checkpoint.py`: clips a second by batch, length and
//! precision, in the cells of `benches/peers/transformers_generate.py`.
//!
//! Columns: who, precision, batch, seconds of each clip, clips a second, CPU seconds a clip (which is what to compare where
//! others share the machine).
//!
//! `cargo bench -p models --bench engine -- FOLDER [THREADS [CELL]]`, where a cell is as in the columns: `bf16/16/5,10,30,10`.

#![allow(clippy::print_stdout, reason = "its output is its purpose")]
#![allow(clippy::disallowed_methods, reason = "it measures time")]

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use models::Greedy;
use models::engine::generate;
use models::qwen2_audio::{Mel, Qwen2Audio, Row};
use tch::{Device, Kind};

const NEW_TOKENS: usize = 64;

/// A clip of noise.
fn row(seconds: usize) -> Row {
    let frames = 100 * seconds;
    let columns = (frames + 8).min(3000);
    let mut random = fastrand::Rng::with_seed(seconds as u64);
    let data = (0..128 * columns).map(|_| random.f32() - 0.5).collect();
    Row { mels: vec![Mel { data, bins: 128, columns, frames }], question: "Describe this audio as JSON.".into() }
}

/// Clips a second and CPU seconds a clip, of the best of three runs.
fn throughput(model: &Qwen2Audio, batch: usize, seconds: &[usize]) -> (f64, f64) {
    let rows: Vec<Row> = (0..batch).map(|n| row(seconds[n % seconds.len()])).collect();
    let run = |_| {
        let choosers = rows.iter().map(|_| Greedy { eos: Arc::new([]), max_new_tokens: NEW_TOKENS }).collect();
        let (started, cpu) = (Instant::now(), cpu_seconds());
        let answers = generate(model, &rows, choosers);
        let took = (started.elapsed().as_secs_f64(), cpu_seconds() - cpu);
        assert!(answers.iter().all(|answer| answer.as_ref().is_ok_and(|answer| answer.tokens.len() == NEW_TOKENS)));
        took
    };
    let least = |(a, b): (f64, f64), (c, d): (f64, f64)| (a.min(c), b.min(d));
    let (wall, cpu) = (0..3).map(run).fold((f64::INFINITY, f64::INFINITY), least);
    (batch as f64 / wall, cpu / batch as f64)
}

/// What this process has used of the processor, in hundredths of a second.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").expect("Linux");
    let fields: Vec<f64> = stat.split(' ').skip(13).take(2).map(|ticks| ticks.parse().expect("a number")).collect();
    fields.iter().sum::<f64>() / 100.0
}

fn main() {
    let mut arguments = std::env::args().skip(1).filter(|argument| !argument.starts_with("--"));
    let Some(folder) = arguments.next() else {
        println!("usage: cargo bench -p models --bench engine -- FOLDER [THREADS [CELL]]");
        return;
    };
    let threads = arguments.next().and_then(|threads| threads.parse().ok());
    tch::set_num_threads(threads.unwrap_or_else(tch::get_num_threads));
    let wanted = arguments.next();
    for (name, kind) in [("f32", Kind::Float), ("bf16", Kind::BFloat16)] {
        let model = Qwen2Audio::load(Path::new(&folder), Device::Cpu, kind).expect("a checkpoint");
        for batch in [1, 4, 16] {
            for seconds in [&[5][..], &[10], &[30], &[5, 10, 30, 10]] {
                let lengths: Vec<String> = seconds.iter().map(ToString::to_string).collect();
                let lengths = lengths.join(",");
                let is_wanted = |cell: &String| *cell == format!("{name}/{batch}/{lengths}");
                if seconds.len() <= batch && wanted.as_ref().is_none_or(is_wanted) {
                    let (rate, cpu) = throughput(&model, batch, seconds);
                    println!("tidemark\t{name}\t{batch}\t{lengths}\t{rate:.3}\t{cpu:.3}");
                }
            }
        }
    }
}
