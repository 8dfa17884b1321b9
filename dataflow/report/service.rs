//! The report beside a worker: on a thread of its own, in one process of those that share a store.

use std::sync::Arc;
use std::time::Duration;

use connectors::parquet::ParquetExport;
use connectors::store::{Store, StoreError};
use records::UtcMicros;
use tokio::sync::watch;

use super::closing::Closing;
use super::live::Live;
use crate::beside::{Beside, Stopped};
use crate::metrics::Metrics;

/// How often the log is looked at.
const LOOK: Duration = Duration::from_millis(200);
/// How soon a report that failed, or that another process writes, is tried again.
const PAUSE: Duration = Duration::from_secs(2);

/// What a report is joined to.
struct Reporting {
    store: Store,
    width_s: u32,
    export: ParquetExport,
    metrics: Arc<Metrics>,
    clock: fn() -> UtcMicros,
    stopped: Stopped,
}

/// Starts the report. Rows of closed windows are in the store, then in the files of `export`; the live view is in the metrics.
/// Where it is told to end, it looks at the log a last time.
///
/// # Errors
/// The system's, where it gives no thread.
pub fn start(
    store: Store,
    export: ParquetExport,
    width_s: u32,
    metrics: Arc<Metrics>,
    clock: fn() -> UtcMicros,
) -> std::io::Result<Beside> {
    Beside::start("report", move |stopped| Reporting { store, width_s, export, metrics, clock, stopped }.run())
}

impl Reporting {
    async fn run(mut self) {
        loop {
            match self.report().await {
                Ok(()) => return,
                // Somebody else's turn is no trouble.
                Err(StoreError::Held { .. }) => {}
                Err(error) => tracing::warn!(%error, "cannot write the report; trying again in a while"),
            }
            // Who writes no report shows no live view.
            self.metrics.windows(&[], UtcMicros(0));
            if self.stopped.is_so_within(PAUSE).await {
                return;
            }
        }
    }

    /// Writes the report until told to stop.
    async fn report(&self) -> Result<(), StoreError> {
        let mut stopped = self.stopped.clone();
        let _claim = tokio::select! {
            claim = self.store.claim_report() => claim?,
            () = stopped.wait() => return Ok(()),
        };
        let mut closing = Closing::open(self.store.clone(), self.width_s).await?;
        let mut live = Live::new(self.width_s);
        closing.rewind(live.begin(&self.store, (self.clock)()).await?);
        let (written, mut rows_written) = watch::channel(());
        // Files are written beside, so that a bucket that is slow holds up neither the live view nor the store's rows.
        let export = async {
            loop {
                self.export().await;
                if rows_written.changed().await.is_err() {
                    return;
                }
            }
        };
        let look = async {
            let written = written;
            loop {
                let is_last = stopped.is_so();
                let now = (self.clock)();
                let rows = closing.advance(now, |outcome| live.add(outcome, now)).await?;
                self.metrics.windows(&live.rows((self.clock)()), closing.closed_until());
                if !rows.is_empty() {
                    written.send_replace(());
                }
                if is_last {
                    return Ok(());
                }
                stopped.is_so_within(LOOK).await;
            }
        };
        futures::join!(export, look).1
    }

    async fn export(&self) {
        let exported = self.export.export((self.clock)()).await;
        if let Err(error) = exported {
            tracing::warn!(%error, "cannot write Parquet files of windows; trying again with the next ones");
        } else if let Err(error) = self.export.compact((self.clock)()).await {
            tracing::warn!(%error, "cannot compact Parquet files of windows; trying again with the next ones");
        }
    }
}
