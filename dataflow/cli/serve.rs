//! `tidemark serve`: works the queue.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use connectors::objects::Objects;
use connectors::source::Source;
use connectors::spool::Spool;
use connectors::store::Store;
use connectors::with_spool::WithSpool;
use models::Annotator;
use tidemark::alerts::service::Alerting;
use tidemark::backlog;
use tidemark::clock::now;
use tidemark::config::{AckChoice, Config, SourceChoice};
use tidemark::drain::{self, Drained, Signals};
use tidemark::experiments::{self, Shadows};
use tidemark::gateway::Gateway;
use tidemark::report;
use tidemark::take_over;
use tidemark::worker::Worker;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::sinks::Sinks;
use super::start::Models;
use super::{Common, Exit, start};

/// How long a broker is waited for once everything has ended.
const CLOSE: Duration = Duration::from_secs(5);

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
        if self.until_idle && config.source.kind == SourceChoice::PubSub {
            bail!("--until-idle wants source.kind = \"spool\": Pub/Sub does not say whether it has anything left");
        }
        if self.until_idle && config.source.ack == AckChoice::Admission {
            bail!(
                "--until-idle wants source.ack = \"outcome\": the queue is empty before anything is taken over into it"
            );
        }
        let targets = start::alert_targets(&config).await?;
        let models = start::models(&config).await?;
        let mut signals = Signals::listen()?;
        // Bound before a broker delivers anything: a port that is taken must not cost an upload its lease.
        let address = self.listen.unwrap_or(config.http.listen);
        let listener =
            TcpListener::bind(address).await.with_context(|| format!("cannot listen on {address} (http.listen)"))?;
        let address = listener.local_addr()?;
        let spool = Spool::new(store.clone(), config.spool.lease_ms, now);
        let broker = start::broker(&config).await?;
        let source: Arc<dyn Source> = match (&broker, config.source.ack) {
            (Some(broker), AckChoice::Outcome) => Arc::new(WithSpool::new(Arc::clone(broker), spool)),
            (Some(_), AckChoice::Admission) | (None, _) => Arc::new(spool),
        };
        let objects = start::objects(&config, &common.data);
        let parts = start::parts(&config, Arc::clone(&source), &store, &objects, &models)?;
        let mut experiments = experiments::start(&store, &config, &parts.rules.experiment, now).await?;
        let shadows = Shadows {
            store: store.clone(),
            config: config.clone(),
            models: parts.primary.clone(),
            objects: Arc::clone(&objects),
            clock: now,
        };
        experiments.spawn(shadows.follow());
        let (outcomes, windows) = start::parquet(&config, &store, (&objects, &common.data))?;
        let sinks = Sinks::start(&config, &store, outcomes, &parts.health).await?;
        let mut worker = Worker::start(&parts)?;
        let (stop_taking_over, stopped) = watch::channel(false);
        if let (Some(broker), AckChoice::Admission) = (&broker, config.source.ack) {
            take_over::start(broker, &store, &parts.health, now, &stopped);
        }

        let models = Arc::new(models);
        let (all, health) = (Arc::clone(&models), Arc::clone(&parts.health));
        let readiness = Arc::new(move || match all.broken() {
            None => health.check(),
            Some(model) => Err(format!("the model {} does not work; the log says why", model.model())),
        });
        Gateway { metrics: Arc::clone(&parts.metrics), readiness }.start(listener);
        let fallback =
            if models.usual.fallback.is_some() { config.fallback.model.as_str() } else { "none: no OPENAI_API_KEY" };
        tracing::info!(model = models.usual.primary.model(), others = ?models.named.keys(), fallback, %address, store = %store.url(), "serving");

        clean_hourly(Arc::clone(&objects), store.clone());
        let backlog = backlog::follow(Arc::clone(&source), broker.clone(), Arc::clone(&parts.metrics));
        let metrics = Arc::clone(&parts.metrics);
        let report = report::service::start(store.clone(), windows, config.report.window_s, metrics, now)?;
        let alerting = Alerting {
            store: store.clone(),
            rules: config.alert_rules().map_err(anyhow::Error::msg)?,
            targets,
            backlog,
            metrics: Arc::clone(&parts.metrics),
            health: Arc::clone(&parts.health),
            clock: now,
        };
        let alerts = alerting.start()?;
        tokio::select! {
            () = signals.next() => tracing::info!("told to stop: finishing what is in flight"),
            () = drain::idle(&*source, |_| {}), if self.until_idle => {}
            died = worker.ended() => died?,
            // With a fallback the worker is degraded, and goes on; without one every upload would fail its attempts.
            died = death(&models), if models.usual.fallback.is_none() => {
                worker.stop();
                let uploads = worker.give_back().await?;
                told(close(broker)).await;
                bail!("the model {died} died; {uploads} uploads were given back");
            }
        }
        stop_taking_over.send_replace(true);
        experiments.shutdown().await;
        let closing = close(broker);
        let drained = drain::drain(&mut worker, Duration::from_secs(config.drain_timeout_s), &mut signals).await?;
        told(closing).await;
        report.end().await;
        alerts.end().await;
        let written = sinks.finish().await?;
        tracing::info!(?drained, rows = written.rows, files = written.files, "ended; nothing is in flight");
        // A worker that goes on for nobody still holds the store, which a crash leaves whole as well.
        if drained == Drained::Finished {
            store.close().await;
        }
        Ok(Exit::Success)
    }
}

/// Ends once a self-hosted model works no longer, and says which.
pub(super) async fn death(models: &Models) -> String {
    let mut looks = tokio::time::interval(Duration::from_millis(100));
    loop {
        if let Some(model) = models.broken() {
            return model.model().to_owned();
        }
        looks.tick().await;
    }
}

/// Gives back at once what nobody pulled, so that others have it while this process ends.
fn close(broker: Option<Arc<dyn Source>>) -> Option<JoinHandle<()>> {
    broker.map(|broker| tokio::spawn(async move { broker.close().await }))
}

/// Waits until a broker that closes was told of everything.
async fn told(closing: Option<JoinHandle<()>>) {
    if let Some(closing) = closing
        && tokio::time::timeout(CLOSE, closing).await.is_err()
    {
        tracing::warn!("the source could not be told of everything; what it has not heard of is delivered again");
    }
}

/// Deletes what killed processes left of fetched audio, and the cache's answers that have expired, now and then.
fn clean_hourly(objects: Arc<Objects>, store: Store) {
    tokio::spawn(async move {
        let mut hours = tokio::time::interval(Duration::from_secs(60 * 60));
        loop {
            hours.tick().await;
            let objects = Arc::clone(&objects);
            match tokio::task::spawn_blocking(move || objects.clean(now())).await {
                Ok(Ok(0)) => {}
                Ok(Ok(files)) => tracing::info!(files, "deleted audio that was left behind a day ago and more"),
                Ok(Err(error)) => tracing::warn!(%error, "cannot clean the folder of fetched audio"),
                Err(error) => tracing::error!(%error, "cleaning the folder of fetched audio failed"),
            }
            match store.forget_expired(now()).await {
                Ok(0) => {}
                Ok(answers) => tracing::info!(answers, "deleted answers of the cache that have expired"),
                Err(error) => tracing::warn!(%error, "cannot delete what has expired in the cache"),
            }
        }
    });
}
