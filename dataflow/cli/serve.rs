//! `tidemark serve`: works the queue.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use connectors::parquet::{ExportError, Exported, ParquetExport};
use connectors::source::Source;
use connectors::spool::Spool;
use models::Annotator;
use models::local::LocalModel;
use records::Lane;
use tidemark::clock::now;
use tidemark::config::Config;
use tidemark::drain::{self, Drained, Signals};
use tidemark::gateway::Gateway;
use tidemark::metrics::Metrics;
use tidemark::report::service::Service;
use tidemark::worker::Worker;
use tokio::net::TcpListener;
use tokio::sync::oneshot;

use super::{Common, Exit, start};

#[derive(clap::Args)]
#[command(after_help = "\
Ctrl-C or SIGTERM: nothing further is pulled, what is in flight is finished; what is not finished after
drain_timeout_s, or at a second signal, is given back to the queue.

Examples:
  tidemark serve
  tidemark serve --until-idle --data /var/lib/tidemark")]
pub(super) struct Serve {
    /// End once the queue is empty
    #[arg(long)]
    until_idle: bool,
    /// In place of http.listen; port 0 takes any
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<SocketAddr>,
}

impl Serve {
    pub(super) async fn run(self, common: &Common) -> anyhow::Result<Exit> {
        let config = Config::load(common.config.as_deref())?;
        let store = start::store(&config, &common.data).await?;
        let _claim = store.claim().await?;
        let models = start::models(&config).await?;
        let source: Arc<dyn Source> = Arc::new(Spool::new(store.clone(), config.spool.lease_ms, now));
        let parts = start::parts(&config, Arc::clone(&source), &store, &models)?;
        let mut signals = Signals::listen()?;
        // Bound before anything is pulled: a port that is taken must not cost an upload its lease.
        let address = self.listen.unwrap_or(config.http.listen);
        let listener =
            TcpListener::bind(address).await.with_context(|| format!("cannot listen on {address} (http.listen)"))?;
        let address = listener.local_addr()?;
        let mut worker = Worker::start(&parts)?;

        let primary = Arc::clone(&models.primary);
        let health = Arc::clone(&parts.health);
        let readiness = Arc::new(move || match primary.is_healthy() {
            true => health.check(),
            false => Err(format!("the model {} does not work; the log says why", primary.model())),
        });
        Gateway { metrics: Arc::clone(&parts.metrics), readiness }.start(listener);
        let fallback =
            if models.fallback.is_some() { config.fallback.model.as_str() } else { "none: no OPENAI_API_KEY" };
        tracing::info!(model = parts.primary.model(), fallback, %address, store = %store.url(), "serving");

        watch_backlog(Arc::clone(&source), Arc::clone(&parts.metrics));
        let export = ParquetExport::new(store.clone(), &common.data);
        let metrics = Arc::clone(&parts.metrics);
        let report = Service::start(store.clone(), &common.data, config.report.window_s, metrics, now)?;
        let (end_export, ending) = oneshot::channel();
        let exporting = tokio::spawn(export_often(export, Duration::from_secs(config.parquet.interval_s), ending));
        tokio::select! {
            () = signals.next() => tracing::info!("told to stop: finishing what is in flight"),
            () = drain::idle(&*source, |_| {}), if self.until_idle => {}
            died = worker.ended() => died?,
            // With a fallback the worker is degraded, and goes on; without one every upload would fail its attempts.
            () = death(&models.primary), if models.fallback.is_none() => {
                worker.stop();
                let uploads = worker.give_back().await?;
                bail!("the model {} died; {uploads} uploads were given back", models.primary.model());
            }
        }
        let drained = drain::drain(&mut worker, Duration::from_secs(config.drain_timeout_s), &mut signals).await?;
        report.end().await;
        drop(end_export);
        let written = exporting.await??;
        tracing::info!(?drained, rows = written.rows, files = written.files, "ended; nothing is in flight");
        // A worker that goes on for nobody still holds the store, which a crash leaves whole as well.
        if drained == Drained::Finished {
            store.close().await;
        }
        Ok(Exit::Success)
    }
}

/// Ends once the model works no longer.
async fn death(model: &LocalModel) {
    let mut looks = tokio::time::interval(Duration::from_millis(100));
    while model.is_healthy() {
        looks.tick().await;
    }
}

fn watch_backlog(source: Arc<dyn Source>, metrics: Arc<Metrics>) {
    tokio::spawn(async move {
        let mut looks = tokio::time::interval(Duration::from_secs(1));
        loop {
            looks.tick().await;
            for lane in Lane::ALL {
                match source.pending(lane).await {
                    Ok(pending) => metrics.backlog(lane, pending.ready, pending.leased),
                    Err(error) => tracing::warn!(%error, %lane, "cannot see the backlog"),
                }
            }
        }
    });
}

/// Exports now and then, and a last time once `ending` is closed.
async fn export_often(
    export: ParquetExport,
    interval: Duration,
    mut ending: oneshot::Receiver<()>,
) -> Result<Exported, ExportError> {
    let mut ticks = tokio::time::interval(interval);
    let mut all = Exported::default();
    loop {
        let last = tokio::select! {
            _ = ticks.tick() => false,
            _ = &mut ending => true,
        };
        match export.export(now()).await {
            Ok(written) => {
                all.rows += written.rows;
                all.files += written.files;
            }
            Err(error) if last => return Err(error),
            Err(error) => tracing::warn!(%error, "cannot write Parquet files; trying again in a while"),
        }
        if last {
            return Ok(all);
        }
    }
}
