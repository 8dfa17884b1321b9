//! Alerts beside a worker: on a thread of their own, in one process of those that share a store.

use std::sync::Arc;
use std::time::Duration;

use connectors::sink::Sink;
use connectors::store::{Store, StoreError};
use futures::future::{join, join_all};
use operators::alerts::Rule;
use records::UtcMicros;
use tokio::sync::watch;

use super::tell::tell;
use super::watch::Watch;
use crate::backlog::Backlog;
use crate::beside::{Beside, Stopped};
use crate::health::Health;
use crate::metrics::Metrics;

/// How often rules are read.
const LOOK: Duration = Duration::from_secs(1);
/// How soon somebody who failed, or has not the turn, tries again.
const PAUSE: Duration = Duration::from_secs(2);
/// How soon a target that took nothing is told again: at first, and at most.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// What alerts are joined to.
pub struct Alerting {
    /// Where outcomes are, and how alerts stand.
    pub store: Store,
    /// What is watched.
    pub rules: Vec<Rule>,
    /// Who is told, by their names.
    pub targets: Vec<Arc<dyn Sink>>,
    /// What waits.
    pub backlog: Backlog,
    /// Where what fires is shown.
    pub metrics: Arc<Metrics>,
    /// Where trouble with targets shows.
    pub health: Arc<Health>,
    /// The time of day.
    pub clock: fn() -> UtcMicros,
}

impl Alerting {
    /// Starts the thread. Where it is told to end, it looks a last time, and tells each target once of what is left.
    ///
    /// # Errors
    /// The system's, where it gives no thread.
    pub fn start(self) -> std::io::Result<Beside> {
        Beside::start("alerts", move |stopped| self.run(stopped))
    }

    async fn run(self, mut stopped: Stopped) {
        loop {
            match self.work(stopped.clone()).await {
                Ok(()) => return,
                // Somebody else's turn is no trouble.
                Err(StoreError::Held { .. }) => {}
                Err(error) => tracing::warn!(%error, "cannot watch for alerts; trying again in a while"),
            }
            // Who does not watch does not know what fires.
            self.metrics.forget_alerts();
            if stopped.is_so_within(PAUSE).await {
                return;
            }
        }
    }

    /// Watches and tells until it is told to stop.
    async fn work(&self, mut stopped: Stopped) -> Result<(), StoreError> {
        let _turn = tokio::select! {
            turn = self.store.claim_export("alerts") => turn?,
            () = stopped.wait() => return Ok(()),
        };
        let watch = Watch::open(self.store.clone(), self.rules.clone(), (self.clock)()).await?;
        // Targets are told when something was written, and a last time when nothing further will be.
        let (written, news) = watch::channel(());
        let telling = join_all(self.targets.iter().map(|target| self.keep_telling(&**target, news.clone())));
        join(self.keep_watching(watch, stopped, written), telling).await.0
    }

    async fn keep_watching(
        &self,
        mut watch: Watch,
        mut stopped: Stopped,
        written: watch::Sender<()>,
    ) -> Result<(), StoreError> {
        let targets: Vec<String> = self.targets.iter().map(|target| target.name().to_owned()).collect();
        loop {
            let is_last = stopped.is_so();
            let queue = self.backlog.borrow().map(|lanes| lanes.map(|pending| pending.ready));
            let changes = watch.decide(queue, (self.clock)()).await?;
            let is_told = changes.iter().any(|change| change.after.phase.is_told());
            watch.make(changes, &targets).await?;
            self.metrics.alerts(watch.alerts());
            if is_told {
                written.send_replace(());
            }
            if is_last {
                return Ok(());
            }
            stopped.is_so_within(LOOK).await;
        }
    }

    async fn keep_telling(&self, target: &dyn Sink, mut news: watch::Receiver<()>) {
        let what = format!("tell {} of alerts", target.name());
        // What an earlier process left.
        let (mut pause, mut is_last) = (FIRST_PAUSE, false);
        loop {
            let told = tell(&self.store, target).await;
            match &told {
                Ok(()) => {
                    self.health.works(&what);
                    pause = FIRST_PAUSE;
                }
                Err(error) => {
                    self.health.failed(&what, error);
                    tracing::warn!(%error, "cannot {what}; trying again, or the next process does");
                }
            }
            if is_last {
                return;
            }
            is_last = tokio::select! {
                changed = news.changed() => changed.is_err(),
                () = tokio::time::sleep(pause), if told.is_err() => false,
            };
            pause = LONGEST_PAUSE.min(pause * 2);
        }
    }
}
