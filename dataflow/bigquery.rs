//! Carries committed rows into BigQuery beside a worker, table by table, now and then.

use std::sync::Arc;
use std::time::Duration;

use connectors::bigquery::{BigQuery, BigQueryError, Limits, TableExport};
use connectors::store::{Store, StoreError, WriteMethod};
use records::UtcMicros;
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;

use crate::health::Health;

/// How long a worker that ends waits for the last of it. What is left goes with the next one.
const LAST: Duration = Duration::from_secs(30);

/// What goes where, how, and how often.
pub struct Warehouse {
    /// Where rows come from.
    pub store: Store,
    /// Where they go.
    pub bigquery: BigQuery,
    /// How.
    pub method: WriteMethod,
    /// How often.
    pub interval: Duration,
    /// Where trouble shows.
    pub health: Arc<Health>,
    /// The time of day.
    pub clock: fn() -> UtcMicros,
}

impl Warehouse {
    /// Carries until it is `ending`, and then once more.
    pub async fn carry(self, mut ending: watch::Receiver<bool>) {
        let mut exports = Vec::new();
        let mut ticks = tokio::time::interval(self.interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let last = tokio::select! {
                _ = ticks.tick() => false,
                _ = ending.wait_for(|ending| *ending) => true,
            };
            if last {
                if tokio::time::timeout(LAST, self.round(&mut exports)).await.is_err() {
                    tracing::warn!("BigQuery takes long; the next worker goes on where this one was");
                }
                return;
            }
            self.round(&mut exports).await;
        }
    }

    /// One round: the tables, if they were not seen yet, and each table's rows. A table in trouble does not hold up the others.
    async fn round(&self, exports: &mut Vec<TableExport>) {
        if exports.is_empty() {
            let prepared = self.bigquery.setup().await.map(|(ready, made)| {
                made.iter().for_each(|line| tracing::info!("made in BigQuery: {line}"));
                *exports = TableExport::all(&self.store, &ready, self.method, Limits::default());
            });
            self.tell("prepare BigQuery's tables", prepared);
        }
        for export in exports.iter() {
            let written = export.export((self.clock)()).await;
            self.tell(&format!("write to BigQuery's table {}", export.table()), written.map(drop));
        }
    }

    fn tell(&self, what: &str, done: Result<(), BigQueryError>) {
        match done {
            // Another worker writes.
            Ok(()) | Err(BigQueryError::Store(StoreError::Held { .. })) => self.health.works(what),
            Err(error) => {
                self.health.failed(what, &error);
                tracing::warn!(%error, "cannot {what}; trying again in a while");
            }
        }
    }
}
