//! Tidemark's vocabulary: what flows through the graphs, in serde and Arrow form.
//!
//! Everything here is data. Money is integer micro-dollars, time is UTC microseconds, durations carry their unit in the
//! field's name, and a value that breaks its type's rule cannot be built.

mod admitted;
mod alert;
mod alert_columns;
mod annotation;
mod attempt;
mod attempt_columns;
mod audit;
mod columns;
mod event;
mod dead_letter_columns;
mod experiment_report;
mod fallback_reason;
mod fault;
pub mod meanings;
mod measured;
mod measured_line;
mod outcome;
mod outcome_rows;
mod pair_columns;
mod time;
mod units;
mod upload;
mod window;
mod window_columns;

pub use admitted::Admitted;
pub use alert::{Alert, AlertPhase, Notice, Severity};
pub use alert_columns::{alert_batch, alert_schema};
pub use annotation::{Annotation, Metadata};
pub use attempt::Attempt;
pub use attempt_columns::{AttemptRow, attempt_batch, attempt_schema};
pub use audit::{AuditEntry, Operation, audit_batch, audit_schema};
pub use columns::{outcome_batch, outcome_schema};
pub use dead_letter_columns::{DeadLetterRow, dead_letter_batch, dead_letter_schema};
pub use event::{Announced, ObjectDefaults, announced};
pub use experiment_report::{ExperimentReport, experiment_report_batch, experiment_report_schema};
pub use fallback_reason::FallbackReason;
pub use fault::{ErrorType, Fault, FaultClass};
pub use measured::Measured;
pub use outcome::{Branch, Outcome, Status};
pub use outcome_rows::{WrongColumn, outcomes_of};
pub use pair_columns::{Pair, PairState, pair_batch, pair_schema};
pub use time::UtcMicros;
pub use units::{Confidence, MicroUsd, UploadId};
pub use upload::{InvalidEvent, Lane, Mode, Tier, Upload};
pub use window::{CONFIDENCE_BINS, WindowKey, WindowKind, WindowRow};
pub use window_columns::{window_batch, window_schema};
