//! Measures the engine under a mixed load: how long urgent uploads take beside bulk ones that fill it, and what bulk loses
//! by them; then the same with one queue in order of arrival, as most servers have it.
//!
//! Every upload is one real clip, from the file to its metadata under the grammar. Bulk uploads are asked as fast as they are
//! answered. Urgent ones come at random (exponential gaps) a tenth as often as bulk ones are answered where nothing else is.
//!
//! `cargo bench --workspace --bench lanes -- FOLDER CLIP [THREADS [URGENT [ROWS]]]`: with so many urgent uploads, and rows at once.

#![allow(clippy::print_stdout, reason = "its output is its purpose")]
#![allow(clippy::disallowed_methods, reason = "it measures time")]

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use models::local::{Clock, Device, Dtype, LocalModel, LocalOptions, has_cuda};
use models::schema::MetadataSchema;
use models::{Annotator, Late, Request};
use records::{Lane, UploadId, UtcMicros};

/// From arrival to deadline.
const URGENT: u64 = 1_000_000;
const BULK: u64 = 600_000_000;

struct Bench {
    model: LocalModel,
    clip: PathBuf,
    clock: Clock,
    rows: usize,
    asked: AtomicU64,
}

impl Bench {
    /// Seconds until the answer.
    async fn ask(&self, lane: Lane, within: u64) -> f64 {
        let number = self.asked.fetch_add(1, Ordering::Relaxed);
        let request = Request {
            upload_id: UploadId::try_from(format!("upload-{number}")).expect("letters and digits"),
            audio: self.clip.clone(),
            lane,
            deadline: UtcMicros((self.clock)().0 + within),
            prompt: "Describe this audio as JSON.".into(),
            late: Late::Answer,
        };
        let asked = Instant::now();
        self.model.annotate(request).await.expect("an answer");
        asked.elapsed().as_secs_f64()
    }

    /// Bulk uploads, as many at once as keep the engine full, until `done`; how many were answered a second.
    async fn bulk(&self, done: &AtomicBool) -> f64 {
        let begun = Instant::now();
        let one_by_one = async || {
            let mut answered = 0;
            while !done.load(Ordering::Relaxed) {
                self.ask(Lane::Low, BULK).await;
                answered += usize::from(!done.load(Ordering::Relaxed));
            }
            (answered, begun.elapsed())
        };
        let all = futures::future::join_all((0..2 * self.rows).map(|_| one_by_one())).await;
        let answered: usize = all.iter().map(|(answered, _)| answered).sum();
        let until = all.iter().map(|(_, until)| until.as_secs_f64()).fold(f64::INFINITY, f64::min);
        answered as f64 / until
    }

    /// So many urgent uploads at random, `rate` a second; the seconds that each took, the shortest first.
    async fn urgent(&self, rate: f64, count: usize, (lane, within): (Lane, u64)) -> Vec<f64> {
        let mut random = fastrand::Rng::with_seed(7);
        let mut at = 0.0;
        let begun = tokio::time::Instant::now();
        let arrivals = (0..count).map(|_| {
            at -= random.f64().max(1e-9).ln() / rate;
            let at = begun + Duration::from_secs_f64(at);
            async move {
                tokio::time::sleep_until(at).await;
                self.ask(lane, within).await
            }
        });
        let mut seconds = futures::future::join_all(arrivals).await;
        seconds.sort_by(f64::total_cmp);
        seconds
    }

    /// Both at once: seconds of the urgent ones, and bulk answers a second.
    async fn both(&self, rate: f64, count: usize, urgent: (Lane, u64)) -> (Vec<f64>, f64) {
        let done = AtomicBool::new(false);
        let timed = async {
            let seconds = self.urgent(rate, count, urgent).await;
            done.store(true, Ordering::Relaxed);
            seconds
        };
        futures::join!(timed, self.bulk(&done))
    }
}

fn quantile(sorted: &[f64], share: f64) -> f64 {
    sorted[((sorted.len() as f64 * share).ceil() as usize).clamp(1, sorted.len()) - 1]
}

async fn measure(bench: &Bench, count: usize) {
    println!("load\turgent p50 s\turgent p99 s\tbulk clips/s");
    let mut alone = Vec::new();
    for _ in 0..count {
        alone.push(bench.ask(Lane::High, URGENT).await);
    }
    alone.sort_by(f64::total_cmp);
    println!("urgent alone\t{:.3}\t{:.3}\t", quantile(&alone, 0.5), quantile(&alone, 0.99));
    let done = AtomicBool::new(false);
    let pause = async {
        tokio::time::sleep(Duration::from_secs(30)).await;
        done.store(true, Ordering::Relaxed);
    };
    let (full, ()) = futures::join!(bench.bulk(&done), pause);
    println!("bulk alone\t\t\t{full:.3}");
    for (name, urgent) in
        [("both, by lane and deadline", (Lane::High, URGENT)), ("both, in one queue", (Lane::Low, BULK))]
    {
        let (seconds, bulk) = bench.both(full / 10.0, count, urgent).await;
        println!("{name}\t{:.3}\t{:.3}\t{bulk:.3}", quantile(&seconds, 0.5), quantile(&seconds, 0.99));
    }
}

fn main() {
    let mut arguments = std::env::args().skip(1).filter(|argument| !argument.starts_with("--"));
    let (Some(checkpoint), Some(clip)) = (arguments.next(), arguments.next()) else {
        println!("usage: cargo bench --workspace --bench lanes -- FOLDER CLIP [THREADS [URGENT [ROWS]]]");
        return;
    };
    let mut number = |default: usize| arguments.next().and_then(|number| number.parse().ok()).unwrap_or(default);
    let (threads, count, rows) = (number(2), number(100), number(8));
    let begun = Instant::now();
    let clock: Clock = Arc::new(move || UtcMicros(begun.elapsed().as_micros() as u64));
    let at_least_one = |number: usize| NonZeroUsize::new(number).expect("at least one");
    let options = LocalOptions {
        checkpoint: checkpoint.into(),
        name: None,
        device: if has_cuda() { Device::Cuda } else { Device::Cpu },
        dtype: Dtype::Bf16,
        schema: Arc::new(MetadataSchema::load("music-basic").expect("built in")),
        max_batch: at_least_one(rows),
        kv_bytes: None,
        max_segments: at_least_one(1),
        longest_audio: Duration::from_secs(300),
        threads: at_least_one(threads),
    };
    let model = LocalModel::start_raw(options, Arc::clone(&clock)).expect("a checkpoint");
    let bench = Bench { model, clip: clip.into(), clock, rows, asked: AtomicU64::new(0) };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    runtime.block_on(measure(&bench, count));
}
