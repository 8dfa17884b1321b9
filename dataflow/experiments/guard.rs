//! Stops arms that break a guardrail.

use std::time::{Duration, Instant};

use connectors::store::{ArmStop, Store, StoreError};
use operators::compare::{Better, Guardrail, Interval};
use records::UtcMicros;

use super::{Definition, ExperimentError, report};

/// The shortest pause between two looks.
const INTERVAL: Duration = Duration::from_secs(5);

/// A pause is at least so many times the look before it, as each reads the whole experiment.
const PAUSES_A_LOOK: u32 = 10;

/// Looks now and then, for ever; of all workers of a store one at a time.
pub(super) async fn guard(store: Store, clock: fn() -> UtcMicros) {
    loop {
        let begun = Instant::now();
        match look(&store, clock()).await {
            Ok(()) => {}
            // Another worker looks.
            Err(ExperimentError::Store(StoreError::Held { .. })) => {}
            Err(error) => tracing::warn!(%error, "cannot check the guardrails; trying again in a while"),
        }
        tokio::time::sleep(INTERVAL.max(begun.elapsed() * PAUSES_A_LOOK)).await;
    }
}

/// Looks at the experiment that runs, and stops the arms that break a guardrail.
async fn look(store: &Store, now: UtcMicros) -> Result<(), ExperimentError> {
    let Some(running) = store.experiments().await?.into_iter().find(|stored| stored.runs(now)) else { return Ok(()) };
    let definition = Definition::of(&running)?;
    let is_stopped = |name: &str| running.stops.iter().any(|stop| stop.arm == name);
    if definition.guardrails.is_empty() || definition.arms[1..].iter().all(|arm| is_stopped(&arm.name)) {
        return Ok(());
    }
    let _turn = store.claim_export("experiments").await?;
    let report = report(store, &running, now).await?;
    for comparison in report.comparisons.iter().filter(|comparison| comparison.stop.is_none()) {
        let breach = comparison.guardrails.iter().find_map(|(guardrail, breach)| Some((guardrail, breach.as_ref()?)));
        if let Some((guardrail, breach)) = breach {
            let stop = ArmStop { arm: comparison.arm.clone(), stopped_at: now, reason: reason(guardrail, breach) };
            if store.stop_arm(&running.name, &stop).await? {
                tracing::warn!(experiment = running.name, arm = stop.arm, stop.reason, "stopped an arm");
            }
        }
    }
    Ok(())
}

fn reason(guardrail: &Guardrail, breach: &Interval) -> String {
    let metric = guardrail.metric;
    let (least, most) = match metric.better() {
        Better::Higher => (-breach.high, -breach.low),
        Better::Lower => (breach.low, breach.high),
    };
    let limit = metric.show_size(guardrail.limit);
    format!(
        "worse in {metric} by {} to {}, and at most {limit} are allowed",
        metric.number(least),
        metric.show_size(most)
    )
}
