//! Alerts, pure: what a rule reads off the windows of the live view ([`Rule`]), and what becomes of an alert by that ([`next`]).

mod metric;
mod rule;
mod state;

pub use metric::{Kind, Metric};
pub use rule::{Filter, LEAST_REQUESTS, Limit, Reading, Rule};
pub use state::{end, next};
