//! What each column means: the descriptions that analysts see in BigQuery, in deploy/bigquery/README.md and in SCHEMA.md.

/// Of `outcomes`.
pub static OUTCOMES: [(&str, &str); 27] = [
    ("upload_id", "the upload"),
    ("version", "1, and one more after each redrive; of an upload's rows, the largest version stands"),
    ("customer_id", "whose upload it was; null where the event could not be read"),
    ("source", "where its audio is; null where the event could not be read"),
    ("lane", "the priority it ran under: high or low"),
    ("tier", "its customer's: enterprise, pro or free; null where the event could not be read"),
    ("region", "where the platform took it in; null where its event does not say so"),
    ("status", "completed or dead_lettered"),
    ("branch", "whose answer this is: primary, fallback or cache; null without an answer"),
    (
        "fallback_reason",
        "why the paid model was asked in the round that ended it: unsure, or the primary's error; null where it was not",
    ),
    ("model", "the model whose answer this is; null without one"),
    ("experiment", "the experiment that it counts in; null where none ran, or its arm had been stopped"),
    ("arm", "the experiment arm; null where the event could not be read"),
    ("confidence", "how sure the answering model was, from 0 to 1; null without a measure"),
    ("below_threshold", "whether the primary's answer was kept although it was less sure than the threshold"),
    ("metadata", "the answer, a JSON object as text; empty without one"),
    ("field_confidence", "how sure the model was of each field, a JSON object as text"),
    ("attempts", "rounds that were begun; 0 where nothing was asked of a model"),
    ("error", "why it was dead-lettered, in words"),
    ("error_type", "why it was dead-lettered, as a type"),
    (
        "queued_ms",
        "from arrival to the first work of a model that answered, or to the end of the first call that failed",
    ),
    ("inference_ms", "models' work on answers, all attempts together"),
    ("total_ms", "from arrival to this outcome"),
    ("cost_micro_usd", "spent on calls, all attempts together, in millionths of a US dollar"),
    ("arrived_at", "first admission; a redriven upload keeps it"),
    ("completed_at", "when this outcome was made"),
    ("training_consent", "whether models may learn from the upload"),
];

/// Of `attempts`.
pub static ATTEMPTS: [(&str, &str); 16] = [
    ("upload_id", "the upload"),
    ("version", "of the outcome that the call led to"),
    ("position", "from 0, in the order in which the outcome's calls were made"),
    ("customer_id", "whose upload it was"),
    ("lane", "the priority it ran under: high or low"),
    ("tier", "its customer's: enterprise, pro or free"),
    ("arm", "the experiment arm"),
    ("round", "from 1; a primary's call and the fallback's after it share it"),
    ("branch", "primary or fallback"),
    ("model", "the model that was asked"),
    ("started_at", "when it was asked"),
    ("duration_ms", "how long it took, waiting for its turn included"),
    ("cost_micro_usd", "what it cost, in millionths of a US dollar"),
    ("error_type", "why it failed, as a type; null where it answered"),
    ("error_class", "whether trying again can help: permanent, retryable or indeterminate; null where it answered"),
    ("error", "why it failed, in words; null where it answered"),
];

/// Of `dead_letters`.
pub static DEAD_LETTERS: [(&str, &str); 15] = [
    ("upload_id", "the upload"),
    ("version", "of the outcome; a larger one in `outcomes` is what became of it when it was redriven"),
    ("customer_id", "whose upload it was; null where the event could not be read"),
    ("source", "where its audio is; null where the event could not be read"),
    ("lane", "the priority it ran under: high or low"),
    ("tier", "its customer's: enterprise, pro or free; null where the event could not be read"),
    ("arm", "the experiment arm; null where the event could not be read"),
    ("error_type", "why it died, as a type"),
    ("error", "why it died, in words"),
    ("attempts", "rounds that were begun; 0 where nothing was asked of a model"),
    ("last_branch", "of the last call: primary or fallback; null where nothing was asked"),
    ("last_model", "of the last call; null where nothing was asked"),
    ("cost_micro_usd", "spent on it all the same, in millionths of a US dollar"),
    ("arrived_at", "first admission; a redriven upload keeps it"),
    ("died_at", "when it was dead-lettered"),
];

/// Of `windows`.
pub static WINDOWS: [(&str, &str); 35] = [
    ("kind", "arrival: a window holds the uploads that arrived in it, slow and failed ones included"),
    ("start", "the window's first moment"),
    ("end", "the first moment behind it"),
    ("width_s", "from start to end, in seconds"),
    ("experiment", "the experiment that the arm is of; null outside of experiments"),
    ("arm", "the experiment arm; null where the event could not be read"),
    ("model", "the model whose answers these are; null for those without one"),
    ("lane", "the priority they ran under: high or low"),
    ("tier", "their customers': enterprise, pro or free; null where the event could not be read"),
    ("region", "where the platform took them in; null where their events do not say so"),
    ("version", "1, and one more each time that the row is corrected; the largest version stands"),
    ("requests", "uploads: completed and dead-lettered"),
    ("completed", "those that have metadata"),
    ("dead_lettered", "those that have none"),
    ("errors", "why those have none, counted by type, a JSON object as text"),
    ("fallbacks", "those that have the paid model's answer"),
    ("fallback_reasons", "why those were asked of the paid model, counted by reason, a JSON object as text"),
    ("cache_hits", "those that have an earlier answer to the same audio"),
    ("below_threshold", "those that have the primary's answer although it was less sure than the threshold"),
    (
        "queued_p50_ms",
        "from arrival to the first work of a model: half waited no longer; redriven uploads do not count here",
    ),
    ("queued_p90_ms", "90 in 100 waited no longer"),
    ("queued_p95_ms", "95 in 100 waited no longer"),
    ("queued_p99_ms", "99 in 100 waited no longer"),
    ("inference_p50_ms", "models' work on an upload with an answer of its own: half took no longer"),
    ("inference_p90_ms", "90 in 100 took no longer"),
    ("inference_p95_ms", "95 in 100 took no longer"),
    ("inference_p99_ms", "99 in 100 took no longer"),
    ("total_p50_ms", "from arrival to outcome: half took no longer; redriven uploads do not count here"),
    ("total_p90_ms", "90 in 100 took no longer"),
    ("total_p95_ms", "95 in 100 took no longer"),
    ("total_p99_ms", "99 in 100 took no longer"),
    ("confidence_histogram", "uploads by confidence in 20 bins of equal width from 0 to 1, a JSON array as text"),
    ("confidence_mean", "of those in the histogram, from 0 to 1; null without any"),
    ("cost_micro_usd", "spent on calls, in millionths of a US dollar"),
    ("cost_per_request_micro_usd", "the same by upload; null without any"),
];

/// Of `experiment_reports`.
pub static EXPERIMENT_REPORTS: [(&str, &str); 21] = [
    ("reported_at", "when the report was made; the same in all rows of one"),
    ("complete_until", "what arrived before has its outcome and counts; what arrived later does not yet"),
    ("experiment", "the experiment, as in outcomes"),
    ("arm", "the arm that is compared"),
    ("control", "the arm that it is compared with"),
    (
        "metric",
        "what is compared: success_rate, error_rate, fallback_rate, confidence (shares of 1), inference_ms, total_ms, or cost \
         (US dollars by upload)",
    ),
    ("is_decisive", "whether the verdict is about this metric"),
    ("arm_units", "of the arm: what was drawn as one, customers or uploads"),
    ("control_units", "of the control"),
    ("arm_uploads", "uploads of the arm"),
    ("control_uploads", "uploads of the control"),
    ("arm_value", "the arm's mean; null where no upload has a value"),
    ("control_value", "the control's mean; null where no upload has a value"),
    ("difference", "the arm less the control; null where it is too early to tell"),
    ("low", "the lower end of the difference's interval, which holds at all looks together"),
    ("high", "the upper end of it"),
    ("confidence_level", "how sure the interval is: 0.95 with two arms"),
    ("verdict", "what may be said of the arm: better, worse, alike, undecided, too_early or mismatch"),
    ("mismatch_p_value", "the p-value of the split being what was asked for"),
    ("stopped_at", "when the arm was stopped before its experiment's end; null where it was not"),
    ("stop_reason", "why it was stopped, in words; null where it was not"),
];

/// Of `alerts`.
pub static ALERTS: [(&str, &str); 8] = [
    ("name", "the alert's name in the configuration"),
    ("phase", "what it became: firing or resolved"),
    ("since", "when it became so; rises with each change of an alert"),
    ("starts_at", "when it began to fire, the same in the row of its end"),
    ("ends_at", "when it was resolved; null while it fires"),
    ("severity", "how much it matters: critical, warning or info"),
    ("labels", "what it is about, such as its lane or arm, a JSON object as text"),
    ("annotations", "its summary and the value that was read, a JSON object as text"),
];

/// Of `audit`.
pub static AUDIT: [(&str, &str); 5] = [
    ("done_at", "when it was done"),
    ("actor", "who did it: user@host of the process, or guardrail"),
    (
        "operation",
        "what was done: enqueue, process, redrive, purge, forget_cached, start_experiment, stop_experiment, stop_arm or new_stream",
    ),
    ("target", "to what: queue, uploads or dead_letters, or the name of an experiment, a customer or a table"),
    ("detail", "the particulars, such as how many uploads and which, a JSON object as text"),
];

/// Of a replay's `pairs.parquet`; `original_…` is the outcome of the past, `replay_…` the one of the replay.
pub static PAIRS: [(&str, &str); 29] = [
    ("upload_id", "the upload"),
    ("customer_id", "whose upload it was; null where the event could not be read"),
    ("tier", "its customer's: enterprise, pro or free; null where the event could not be read"),
    ("source", "where its audio is; null where the event could not be read"),
    ("arrived_at", "first admission, in the past"),
    ("state", "compared, open (not replayed yet), audio_gone, or no_event (it could not be read in the past)"),
    ("same_answer", "whether both answers are equal as they stand; null where one has none"),
    ("original_status", "completed or dead_lettered"),
    ("original_branch", "whose answer it was: primary, fallback or cache; null without an answer"),
    ("original_model", "the model whose answer it was; null without one"),
    ("original_confidence", "how sure that model was, from 0 to 1; null without a measure"),
    ("original_below_threshold", "whether the answer was kept although it was less sure than the threshold"),
    ("original_metadata", "the answer, a JSON object as text; empty without one"),
    ("original_field_confidence", "how sure the model was of each field, a JSON object as text"),
    ("original_inference_ms", "models' work on answers"),
    ("original_cost_micro_usd", "spent on calls, in millionths of a US dollar"),
    ("original_error_type", "why it was dead-lettered, as a type; null where it was not"),
    ("original_error", "why it was dead-lettered, in words; null where it was not"),
    ("replay_status", "completed or dead_lettered; this and what follows is null while the replay has no outcome"),
    ("replay_branch", "whose answer it is: primary or fallback; null without an answer"),
    ("replay_model", "the model whose answer it is; null without one"),
    ("replay_confidence", "how sure that model was, from 0 to 1; null without a measure"),
    ("replay_below_threshold", "whether the answer was kept although it was less sure than the threshold"),
    ("replay_metadata", "the answer, a JSON object as text; empty without one"),
    ("replay_field_confidence", "how sure the model was of each field, a JSON object as text"),
    ("replay_inference_ms", "models' work on answers"),
    ("replay_cost_micro_usd", "spent on calls, in millionths of a US dollar"),
    ("replay_error_type", "why it was dead-lettered, as a type; null where it was not"),
    ("replay_error", "why it was dead-lettered, in words; null where it was not"),
];

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use arrow::datatypes::{DataType, Schema};

    use super::*;
    use crate::{
        alert_schema, attempt_schema, audit_schema, dead_letter_schema, experiment_report_schema, outcome_schema,
        pair_schema, window_schema,
    };

    type Meanings = &'static [(&'static str, &'static str)];

    /// Each schema with where it is met, and its columns' meanings.
    fn schemas() -> [(&'static str, &'static str, Schema, Meanings); 8] {
        [
            ("outcome_schema", "`outcomes/` in Parquet, `outcomes` in BigQuery", outcome_schema(), &OUTCOMES),
            ("window_schema", "`windows/` in Parquet, `windows` in BigQuery", window_schema(), &WINDOWS),
            ("pair_schema", "`pairs.parquet` of a replay", pair_schema(), &PAIRS),
            ("attempt_schema", "`attempts` in BigQuery", attempt_schema(), &ATTEMPTS),
            ("dead_letter_schema", "`dead_letters` in BigQuery", dead_letter_schema(), &DEAD_LETTERS),
            (
                "experiment_report_schema",
                "`experiment_reports` in BigQuery",
                experiment_report_schema(),
                &EXPERIMENT_REPORTS,
            ),
            ("alert_schema", "`alerts` in BigQuery", alert_schema(), &ALERTS),
            ("audit_schema", "`audit` in BigQuery", audit_schema(), &AUDIT),
        ]
    }

    fn kind(of: &DataType) -> String {
        match of {
            DataType::List(item) => format!("List<{}>", item.data_type()),
            other => other.to_string(),
        }
    }

    #[test]
    fn every_column_of_every_schema_is_described_in_its_order() {
        for (name, _, schema, meanings) in schemas() {
            let names: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
            let described: Vec<&str> = meanings.iter().map(|(name, _)| *name).collect();
            assert_eq!(names, described, "{name}");
            assert!(meanings.iter().all(|(_, meaning)| meaning.len() > 8 && !meaning.contains('|')), "{name}");
        }
    }

    #[test]
    fn the_documented_schemas_are_those_of_the_code() {
        let mut expected = String::new();
        for (name, place, schema, meanings) in schemas() {
            write!(expected, "\n## `{name}`: {place}\n\n| column | type | null | meaning |\n|---|---|---|---|\n")
                .expect("text takes all");
            for (field, (_, meaning)) in schema.fields().iter().zip(meanings) {
                let null = if field.is_nullable() { "may be" } else { "" };
                writeln!(expected, "| `{}` | {} | {null} | {meaning} |", field.name(), kind(field.data_type()))
                    .expect("text takes all");
            }
        }
        let documented = include_str!("../SCHEMA.md");
        assert!(documented.ends_with(&expected), "SCHEMA.md has to end in:\n{expected}");
    }
}
