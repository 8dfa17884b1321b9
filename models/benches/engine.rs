//! Measures the engine on a checkpoint of `benches/peers/make_checkpoint.py`: clips a second by batch, length and
//! precision, in the cells of `benches/peers/transformers_generate.py`; `benches/engine.sh` puts both side by side. On a GPU
//! where there is one.
//!
//! Columns: who, precision, batch, seconds of each clip, clips a second, CPU seconds a clip (which is what to compare where
//! others share the machine).
//!
//! `cargo bench --workspace --bench engine -- FOLDER THREADS CELL…`, where a cell is as in the columns: `bf16/16/5,10,30,10`.
//! Instead of cells, `grammar` measures whole answers under the grammar (with tokens and passes an answer), and `memory` what
//! rows of 30 s hold.

#![allow(clippy::print_stdout, reason = "its output is its purpose")]
#![allow(clippy::disallowed_methods, reason = "it measures time")]

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use models::Greedy;
use models::engine::{generate, row_bytes};
use models::grammar::AnswerGrammar;
use models::qwen2_audio::{Generated, Mel, Qwen2Audio, Row, cuda_memory};
use models::schema::MetadataSchema;
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
        let rows = rows.clone();
        let (started, cpu) = (Instant::now(), cpu_seconds());
        let answers = generate(model, rows, choosers);
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

/// Whole answers under the grammar: 16 clips of 5 s.
fn grammar(model: &Qwen2Audio) {
    let schema = MetadataSchema::load("music-basic").expect("built in");
    let vocab_size = model.config().text_config.vocab_size;
    let grammar =
        AnswerGrammar::new(&schema, model.tokenizer(), vocab_size, &model.eos_token_ids()).expect("a grammar");
    let rows: Vec<Row> = (0..16).map(|_| row(5)).collect();
    let run = |_| {
        let started = Instant::now();
        let answers = generate(model, rows.clone(), rows.iter().map(|_| grammar.chooser()).collect());
        let answers: Vec<_> = answers.into_iter().map(|answer| answer.expect("an answer")).collect();
        (started.elapsed().as_secs_f64(), answers)
    };
    let (took, answers) = (0..3).map(run).min_by(|a, b| a.0.total_cmp(&b.0)).expect("three runs");
    let mean = |sum: usize| sum as f64 / answers.len() as f64;
    let tokens = mean(answers.iter().map(|answer| answer.tokens.len()).sum());
    let passes = mean(answers.iter().map(Generated::passes).sum());
    println!("tidemark\tgrammar\t16\t5\t{:.3}\t{tokens:.0}\t{passes:.0}", 16.0 / took);
}

/// The most memory that was in use, in MiB: of the GPU, where there is one, since the start; else of the process, since
/// `begin_peak`.
fn peak_memory() -> f64 {
    if let Ok((free, total)) = cuda_memory() {
        // libtorch gives nothing back.
        return (total - free) as f64 / f64::from(1 << 20);
    }
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("a peak");
    line.trim().trim_end_matches(" kB").parse::<f64>().expect("a number") / 1024.0
}

fn begin_peak() {
    std::fs::write("/proc/self/clear_refs", "5").expect("Linux");
}

/// What rows of 30 s hold: the bytes that they were admitted with, and the peak of memory.
fn memory(model: &Qwen2Audio) {
    let peak = |rows: usize| {
        begin_peak();
        let choosers = (0..rows).map(|_| Greedy { eos: Arc::new([]), max_new_tokens: NEW_TOKENS }).collect();
        let answers = generate(model, vec![row(30); rows], choosers);
        assert!(answers.iter().all(Result::is_ok));
        peak_memory()
    };
    peak(2);
    println!("rows\tadmitted MiB\tpeak MiB");
    for rows in [2, 4, 8, 16, 32] {
        let admitted =
            rows as f64 * row_bytes(model, &row(30), NEW_TOKENS).expect("it fits") as f64 / f64::from(1 << 20);
        println!("{rows}\t{admitted:.0}\t{:.0}", peak(rows));
    }
}

/// The model in a precision: the one that is loaded, where it is in that.
fn load<'m>(held: &'m mut Option<(Kind, Qwen2Audio)>, folder: &str, kind: Kind) -> &'m Qwen2Audio {
    if held.as_ref().is_none_or(|(of, _)| *of != kind) {
        // Two of them may be more than the device holds.
        *held = None;
        let model = Qwen2Audio::load(Path::new(folder), Device::cuda_if_available(), kind).expect("a checkpoint");
        *held = Some((kind, model));
    }
    &held.as_ref().expect("it was just loaded").1
}

fn main() {
    let mut arguments = std::env::args().skip(1).filter(|argument| !argument.starts_with("--"));
    let (Some(folder), Some(Ok(threads))) = (arguments.next(), arguments.next().map(|threads| threads.parse())) else {
        println!("usage: cargo bench --workspace --bench engine -- FOLDER THREADS CELL… | grammar | memory");
        return;
    };
    tch::set_num_threads(threads);
    let mut held = None;
    for cell in arguments {
        match cell.split('/').collect::<Vec<_>>()[..] {
            ["grammar"] => grammar(load(&mut held, &folder, Kind::BFloat16)),
            ["memory"] => memory(load(&mut held, &folder, Kind::BFloat16)),
            [name @ ("f32" | "bf16"), batch, lengths] => {
                let kind = if name == "f32" { Kind::Float } else { Kind::BFloat16 };
                let model = load(&mut held, &folder, kind);
                let seconds: Vec<usize> = lengths.split(',').map(|length| length.parse().expect("seconds")).collect();
                let (rate, cpu) = throughput(model, batch.parse().expect("a number of clips"), &seconds);
                println!("tidemark\t{name}\t{batch}\t{lengths}\t{rate:.3}\t{cpu:.3}");
            }
            _ => println!("{cell} is no cell: bf16/16/5,10,30,10 is one"),
        }
    }
}
