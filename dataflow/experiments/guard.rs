//! Looks at experiments now and then: stops arms that break a guardrail, and keeps reports of how each experiment goes.

use std::time::{Duration, Instant};

use connectors::store::{ArmStop, Store, StoreError, StoredExperiment};
use operators::compare::{Better, Guardrail, Interval};
use records::UtcMicros;

use super::{Definition, ExperimentError, Report, report};

/// The shortest pause between two looks.
const INTERVAL: Duration = Duration::from_secs(5);

/// A pause is at least so many times the look before it, as each reads the whole experiment.
const PAUSES_A_LOOK: u32 = 10;

/// How often a report is kept.
const KEEP_MS: u64 = 10 * 60 * 1000;

/// Workers hear of an experiment's end a second later or so, and what they draw till then counts as well.
const LATE_MS: u64 = 5_000;

/// Who stops arms, in the audit log.
const ACTOR: &str = "guardrail";

/// Looks now and then, for ever; of all workers of a store one at a time.
pub(super) async fn guard(store: Store, clock: fn() -> UtcMicros) {
    loop {
        let begun = Instant::now();
        match look(&store, clock()).await {
            Ok(()) => {}
            // Another worker looks.
            Err(ExperimentError::Store(StoreError::Held { .. })) => {}
            Err(error) => tracing::warn!(%error, "cannot look at the experiments; trying again in a while"),
        }
        tokio::time::sleep(INTERVAL.max(begun.elapsed() * PAUSES_A_LOOK)).await;
    }
}

/// Stops the arms that break a guardrail, and keeps reports: every ten minutes, when an arm is stopped, and a last one when an
/// experiment is over and everything in it has its outcome.
///
/// # Errors
/// [`ExperimentError`]; the next look makes up for it.
pub async fn look(store: &Store, now: UtcMicros) -> Result<(), ExperimentError> {
    if wanted(store, now).await?.is_empty() {
        return Ok(());
    }
    let _turn = store.claim_export("experiments").await?;
    // Another worker may have looked meanwhile.
    for Wanted { stored, is_due, is_guarded } in wanted(store, now).await? {
        let mut report = report(store, &stored, now).await?;
        let is_stopped = is_guarded && stop_arms(store, &mut report, now).await?;
        if is_due || is_stopped || is_last(&stored, report.complete_until, now) {
            store.add_experiment_report(&report.rows(now)).await?;
        }
    }
    Ok(())
}

/// An experiment that has to be looked at.
struct Wanted {
    stored: StoredExperiment,
    is_due: bool,
    is_guarded: bool,
}

async fn wanted(store: &Store, now: UtcMicros) -> Result<Vec<Wanted>, ExperimentError> {
    let mut wanted = Vec::new();
    for stored in store.experiments().await?.into_iter().filter(|stored| stored.starts_at <= now) {
        let last = store.last_experiment_report(&stored.name).await?;
        if last.as_ref().is_some_and(|last| is_last(&stored, last.complete_until, now)) {
            continue;
        }
        let definition = Definition::of(&stored)?;
        // Shadows alone change nothing for anybody, and are reported when somebody asks.
        if definition.arms.len() == 1 {
            continue;
        }
        let is_stopped = |name: &str| stored.stops.iter().any(|stop| stop.arm == name);
        let is_guarded = stored.runs(now)
            && !definition.guardrails.is_empty()
            && !definition.arms[1..].iter().all(|arm| is_stopped(&arm.name));
        let is_due = now.ms_since(last.map_or(stored.starts_at, |last| last.reported_at)) >= KEEP_MS;
        if is_due || is_guarded || stored.is_over(now) {
            wanted.push(Wanted { stored, is_due, is_guarded });
        }
    }
    Ok(wanted)
}

/// Whether nothing can follow a report that is complete up to a moment.
fn is_last(stored: &StoredExperiment, complete_until: UtcMicros, now: UtcMicros) -> bool {
    stored.is_over(now) && stored.end().is_some_and(|end| complete_until >= end.plus_ms(LATE_MS))
}

/// Stops the arms that break a guardrail; whether there were any.
async fn stop_arms(store: &Store, report: &mut Report, now: UtcMicros) -> Result<bool, ExperimentError> {
    let (store, experiment) = (store.acting_as(ACTOR), &report.definition.name);
    let mut is_stopped = false;
    for comparison in report.comparisons.iter_mut().filter(|comparison| comparison.stop.is_none()) {
        let breach = comparison.guardrails.iter().find_map(|(guardrail, breach)| Some((guardrail, breach.as_ref()?)));
        if let Some((guardrail, breach)) = breach {
            let stop = ArmStop { arm: comparison.arm.clone(), stopped_at: now, reason: reason(guardrail, breach) };
            if store.stop_arm(experiment, &stop).await? {
                tracing::warn!(experiment, arm = stop.arm, stop.reason, "stopped an arm");
                comparison.stop = Some(stop);
                is_stopped = true;
            }
        }
    }
    Ok(is_stopped)
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
