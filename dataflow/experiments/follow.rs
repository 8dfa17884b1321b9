//! Keeps a worker to the experiment that runs.

use std::time::Duration;

use connectors::store::{Store, StoredExperiment};
use operators::CurrentExperiment;
use records::UtcMicros;

use super::{Definition, ExperimentError};
use crate::config::Config;

/// From a start or a stop to the first upload that is drawn so.
const INTERVAL: Duration = Duration::from_secs(1);

/// Lets the experiment of the store run that runs at `now`, else the configuration's; `before` is what ran so far, and what
/// runs is given back. What did not change is left alone.
///
/// # Errors
/// [`ExperimentError`]; then all is as before.
pub(super) async fn take_up(
    store: &Store,
    config: &Config,
    current: &CurrentExperiment,
    before: Option<StoredExperiment>,
    now: UtcMicros,
) -> Result<Option<StoredExperiment>, ExperimentError> {
    let running = store.experiments().await?.into_iter().find(|stored| stored.runs(now));
    if running == before {
        return Ok(running);
    }
    let cannot = |name: &str, reason| ExperimentError::Lacks { name: name.to_owned(), reason };
    let experiment = match &running {
        Some(stored) => {
            Definition::of(stored)?.experiment(config, &stored.stops).map_err(|reason| cannot(&stored.name, reason))?
        }
        None => config.experiment().map_err(|reason| cannot("configuration", reason))?,
    };
    current.replace(experiment);
    match &running {
        Some(stored) => {
            let stopped: Vec<&str> = stored.stops.iter().map(|stop| stop.arm.as_str()).collect();
            tracing::info!(experiment = stored.name, ?stopped, "uploads are drawn into the experiment");
        }
        None => tracing::info!("no experiment runs: uploads are drawn as the configuration says"),
    }
    Ok(running)
}

/// Does so every second, for ever.
pub(super) async fn follow(
    store: Store,
    config: Config,
    current: CurrentExperiment,
    mut running: Option<StoredExperiment>,
    clock: fn() -> UtcMicros,
) {
    let mut looks = tokio::time::interval(INTERVAL);
    looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        looks.tick().await;
        match take_up(&store, &config, &current, running.clone(), clock()).await {
            Ok(runs) => running = runs,
            Err(error) => tracing::warn!(%error, "cannot see which experiment runs; uploads are drawn as before"),
        }
    }
}
