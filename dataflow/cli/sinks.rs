//! What runs beside a worker and carries committed outcomes out of the store: Parquet files, topics of a
//! broker, and BigQuery.

use std::sync::Arc;
use std::time::Duration;

use connectors::bigquery::BigQuery;
use connectors::parquet::{ExportError, Exported, ParquetExport};
use connectors::sink::Sink;
use connectors::store::Store;
use tidemark::bigquery::Warehouse;
use tidemark::clock::now;
use tidemark::config::Config;
use tidemark::health::Health;
use tidemark::publish::publish;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::start;

/// How often a topic gets what was committed.
const PUBLISH: Duration = Duration::from_millis(200);
/// How long a topic that cannot be published to is left alone at most.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// All of them, at work.
pub(super) struct Sinks {
    end: watch::Sender<bool>,
    exporting: JoinHandle<Result<Exported, ExportError>>,
    publishing: Vec<JoinHandle<()>>,
}

impl Sinks {
    /// Starts what the configuration names.
    pub(super) async fn start(
        config: &Config,
        store: &Store,
        outcomes: ParquetExport,
        health: &Arc<Health>,
    ) -> anyhow::Result<Self> {
        let (end, ending) = watch::channel(false);
        let mut publishing: Vec<_> = start::sinks(config)
            .await?
            .into_iter()
            .map(|sink| tokio::spawn(publish_often(store.clone(), sink, Arc::clone(health), ending.clone())))
            .collect();
        if let Some(to) = config.bigquery.destination() {
            let warehouse = Warehouse {
                store: store.clone(),
                bigquery: BigQuery::connect(to).await?,
                method: config.bigquery.write,
                interval: Duration::from_secs(config.bigquery.interval_s),
                health: Arc::clone(health),
                clock: now,
            };
            publishing.push(tokio::spawn(warehouse.carry(ending.clone())));
        }
        let exporting = tokio::spawn(export_often(outcomes, Duration::from_secs(config.parquet.interval_s), ending));
        Ok(Self { end, exporting, publishing })
    }

    /// Lets each carry out what is left, and ends it; what was written to files in all.
    pub(super) async fn finish(self) -> anyhow::Result<Exported> {
        self.end.send_replace(true);
        for published in self.publishing {
            published.await?;
        }
        Ok(self.exporting.await??)
    }
}

/// Exports now and then, and a last time when it is `ending`.
async fn export_often(
    export: ParquetExport,
    interval: Duration,
    mut ending: watch::Receiver<bool>,
) -> Result<Exported, ExportError> {
    let mut ticks = tokio::time::interval(interval);
    let mut all = Exported::default();
    loop {
        let last = tokio::select! {
            _ = ticks.tick() => false,
            _ = ending.wait_for(|ending| *ending) => true,
        };
        match export.export(now()).await {
            Ok(written) => {
                all.rows += written.rows;
                all.files += written.files;
                // Not at the end: nobody waits for that.
                if !last && let Err(error) = export.compact(now()).await {
                    tracing::warn!(%error, "cannot compact Parquet files; trying again in a while");
                }
            }
            Err(error) if last => return Err(error),
            Err(error) => tracing::warn!(%error, "cannot write Parquet files; trying again in a while"),
        }
        if last {
            return Ok(all);
        }
    }
}

/// Publishes what was committed, until it is `ending` and the last of it is published or cannot be.
async fn publish_often(store: Store, sink: Arc<dyn Sink>, health: Arc<Health>, mut ending: watch::Receiver<bool>) {
    let what = format!("publish to {}", sink.name());
    let mut pause = PUBLISH;
    loop {
        let last = tokio::time::timeout(pause, ending.wait_for(|ending| *ending)).await.is_ok();
        match publish(&store, &*sink).await {
            Ok(_) => {
                health.works(&what);
                pause = PUBLISH;
            }
            Err(error) => {
                health.failed(&what, &error);
                // What of a page was taken is published again at each try.
                pause = LONGEST_PAUSE.min(pause * 2);
                tracing::warn!(%error, "cannot {what}; the next process or the next try goes on where this one was");
            }
        }
        if last {
            return;
        }
    }
}
