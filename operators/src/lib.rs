//! Tidemark's stream transformations on timely dataflow, one a file, in the order of the process graph.
//!
//! Each is an extension trait on a timely stream and usable alone; [`compare`] is the statistics of experiments, [`alerts`] the
//! states of alerts. Nothing here does I/O, spawns a thread or reads a clock: slow work is asked for through [`bridge`], and the
//! clock is handed in.

mod admit;
mod partition;
mod assign;
mod infer;
mod split;
mod fallback;
mod retry;
mod commit;
mod ack;

pub mod alerts;
pub mod bridge;
pub mod compare;
pub mod windows;
mod clock;
mod conclude;
mod flight;
mod hash;
mod in_work;

pub use ack::Acknowledge;
pub use admit::{Admission, Admit};
pub use assign::{Arm, Assign, CurrentExperiment, Experiment, Unit};
pub use clock::{Clock, SharedClock};
pub use commit::{Commit, Ending, Write};
pub use conclude::{Conclusion, conclude};
pub use fallback::Fallback;
pub use flight::{Arrival, Finished, Flight, Ticket};
pub use hash::fraction;
pub use in_work::InWork;
pub use infer::{Answer, Infer, Question};
pub use partition::{LaneRules, Partition};
pub use retry::{Retry, RetryPolicy};
pub use split::Split;
