//! Compares the arms of an experiment, at any time and as often as one likes.
//!
//! [`ArmSums`] adds up an arm's outcomes in integers, by unit: whoever was drawn as one is one observation, so a customer
//! with a thousand uploads is no thousand customers. [`Sequence`] gives the difference of two arms with an interval that
//! holds at all times together, [`mismatch`] says whether the split is what was asked, [`Design`] how long an experiment
//! takes, [`Guardrail`] when an arm has to be stopped, and [`Verdict`] all of it in words. [`Paired`] is for the same uploads
//! twice.
//!
//! Everything is pure: no stream, no clock. The sums do not depend on the order of the outcomes, and neither does what
//! follows from them.

mod guardrail;
mod metric;
mod mismatch;
mod normal;
mod paired;
mod power;
mod sequence;
mod sums;
mod tally;
#[cfg(test)]
mod trial;
mod verdict;

pub use guardrail::Guardrail;
pub use metric::{Better, Metric};
pub use mismatch::{MISMATCH_ALPHA, mismatch};
pub use paired::Paired;
pub use power::Design;
pub use sequence::{ALPHA, FEWEST, Interval, Sequence, TooEarly};
pub use sums::{ArmSums, Sums};
pub use tally::{Entrant, Pair, Point, Tally};
pub use verdict::{Case, Verdict, span};
