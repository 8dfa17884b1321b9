//! Works the queue of a replay, and tells how far it is.

use std::io::IsTerminal;
use std::sync::Arc;
use std::time::Duration;

use anyhow::bail;
use connectors::paced::{Paced, Rate};
use connectors::source::Source;
use connectors::spool::Spool;
use connectors::store::Store;
use indicatif::{HumanDuration, ProgressBar, ProgressDrawTarget, ProgressStyle};
use tidemark::clock::now;
use tidemark::config::Config;
use tidemark::drain::{self, Drained, Signals};
use tidemark::replay::{Run, left};
use tidemark::worker::Worker;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::cli::start::Models;
use crate::cli::{serve, start};

/// How often it is told how far a replay is where no terminal shows it.
const TOLD: Duration = Duration::from_secs(10);

/// Works the run's queue until it is empty or somebody says stop; how what was in work ended.
pub(super) async fn work(
    run: &Run,
    store: &Store,
    config: &Config,
    models: &Models,
    rate: Option<Rate>,
) -> anyhow::Result<Drained> {
    let spool: Arc<dyn Source> = Arc::new(Spool::new(store.clone(), config.spool.lease_ms, now));
    let source = match rate {
        Some(rate) => Arc::new(Paced::new(spool, rate, now)),
        None => spool,
    };
    let objects = start::objects(config, run.folder());
    let parts = start::parts(config, Arc::clone(&source), store, &objects, models)?;
    let mut signals = Signals::listen()?;
    let mut worker = Worker::start(&parts)?;
    let uploads = run.uploads()?.unwrap_or_default();
    let (progress, _telling) = progress(uploads, left(store, now()).await?);
    tokio::select! {
        () = drain::idle(&*source, |left| progress.set_position(uploads.saturating_sub(left))) => {}
        () = signals.next() => {}
        died = worker.ended() => died?,
        died = serve::death(models), if models.usual.fallback.is_none() => {
            worker.stop();
            let given_back = worker.give_back().await?;
            bail!("the model {died} died; {given_back} uploads were given back");
        }
    }
    progress.finish_and_clear();
    Ok(drain::drain(&mut worker, Duration::from_secs(config.drain_timeout_s), &mut signals).await?)
}

/// How far the work is: on a terminal a bar, else a line now and then, until what tells it is dropped.
fn progress(uploads: u64, open: u64) -> (ProgressBar, JoinSet<()>) {
    let mut telling = JoinSet::new();
    let done = uploads.saturating_sub(open);
    if std::io::stderr().is_terminal() {
        let style = ProgressStyle::with_template("{bar:40} {pos}/{len} replayed, {per_sec}, {eta} left");
        let bar = ProgressBar::new(uploads).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        return (begun_at(bar, done), telling);
    }
    let bar = begun_at(ProgressBar::with_draw_target(Some(uploads), ProgressDrawTarget::hidden()), done);
    let told = bar.clone();
    telling.spawn(async move {
        let mut ticks = tokio::time::interval_at(Instant::now() + TOLD, TOLD);
        loop {
            ticks.tick().await;
            let (replayed, a_second, left) = (told.position(), told.per_sec(), HumanDuration(told.eta()));
            eprintln!("{replayed} of {uploads} replayed, {a_second:.1} a second, {left} left");
        }
    });
    (bar, telling)
}

/// What was done before says nothing about how fast it goes.
fn begun_at(bar: ProgressBar, done: u64) -> ProgressBar {
    let bar = bar.with_position(done);
    bar.reset_eta();
    bar
}
