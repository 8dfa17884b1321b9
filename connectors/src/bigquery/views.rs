//! The views of the dataset, in the order in which they look at each other.

/// Name, what it shows, and query, which names tables as `tidemark.outcomes`.
pub(super) static VIEWS: [(&str, &str, &str); 5] = [
    (
        "standing_outcomes",
        "How each upload stands: the outcome of its largest version.",
        include_str!("../../../deploy/bigquery/views/standing_outcomes.sql"),
    ),
    (
        "daily_quality",
        "How good a day's uploads were described, by arm, model and lane.",
        include_str!("../../../deploy/bigquery/views/daily_quality.sql"),
    ),
    (
        "fallback_calls",
        "Every call of the paid model, with what led to it.",
        include_str!("../../../deploy/bigquery/views/fallback_calls.sql"),
    ),
    (
        "fallback_cost",
        "What the paid model cost, by day, customer and model.",
        include_str!("../../../deploy/bigquery/views/fallback_cost.sql"),
    ),
    (
        "standing_windows",
        "How each window stands: its rows in their largest versions.",
        include_str!("../../../deploy/bigquery/views/standing_windows.sql"),
    ),
];
