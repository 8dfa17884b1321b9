//! Experiments: their definitions, which of them runs, what comes of them, and when an arm has to be stopped.
//!
//! A definition is a TOML file that `tidemark experiment start` puts into the store. Serving workers look there every second
//! ([`start`]), so an experiment begins and ends without a restart. A [`Report`] is worked out of the log of outcomes
//! whenever one is asked for; workers do so now and then ([`look`]), stop arms that break a guardrail, and keep reports.
//! [`Shadows`] describe the control's uploads once more, for the report alone.

mod definition;
mod follow;
mod guard;
pub mod plot;
mod report;
mod shadow;
mod snapshot;

use connectors::store::{Store, StoreError};
use operators::CurrentExperiment;
use records::UtcMicros;
use tokio::task::JoinSet;

use crate::config::Config;

pub use definition::{Definition, GuardrailConfig, ShadowConfig};
pub use guard::look;
pub use report::{Comparison, Report, Row, ShadowReport, report};
pub use shadow::Shadows;
pub use snapshot::keep_report;

/// What can go wrong with experiments in the store.
#[derive(Debug, thiserror::Error)]
pub enum ExperimentError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A definition cannot be read.
    #[error("the experiment {name} has a definition that this Tidemark cannot read ({reason}): use a newer one")]
    Definition {
        /// The experiment.
        name: String,
        /// What is wrong with it.
        reason: String,
    },
    /// An experiment asks for what the configuration lacks.
    #[error("the experiment {name} cannot run on this worker: {reason}")]
    Lacks {
        /// The experiment.
        name: String,
        /// What is lacking, and the mend.
        reason: String,
    },
}

/// Lets the experiment of the store run, keeps to it from here on, and looks at how it goes, until what is given back is
/// dropped.
///
/// # Errors
/// [`ExperimentError`], where it cannot be seen which experiment runs.
pub async fn start(
    store: &Store,
    config: &Config,
    current: &CurrentExperiment,
    clock: fn() -> UtcMicros,
) -> Result<JoinSet<()>, ExperimentError> {
    let running = follow::take_up(store, config, current, None, clock()).await?;
    let mut tasks = JoinSet::new();
    tasks.spawn(follow::follow(store.clone(), config.clone(), current.clone(), running, clock));
    tasks.spawn(guard::guard(store.clone(), clock));
    Ok(tasks)
}
