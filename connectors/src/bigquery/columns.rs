//! What each column means: the descriptions that analysts see in BigQuery and in deploy/bigquery/README.md.

/// Of `outcomes`.
pub(super) static OUTCOMES: [(&str, &str); 25] = [
    ("upload_id", "the upload"),
    ("version", "1, and one more after each redrive; of an upload's rows, the largest version stands"),
    ("customer_id", "whose upload it was; null where the event could not be read"),
    ("source", "where its audio is; null where the event could not be read"),
    ("lane", "the priority it ran under: high or low"),
    ("tier", "its customer's: enterprise, pro or free; null where the event could not be read"),
    ("status", "completed or dead_lettered"),
    ("branch", "whose answer this is: primary, fallback or cache; null without an answer"),
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
pub(super) static ATTEMPTS: [(&str, &str); 16] = [
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
pub(super) static DEAD_LETTERS: [(&str, &str); 15] = [
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
