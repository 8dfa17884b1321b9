//! What is known of an upload when it comes in.

use crate::UtcMicros;

/// What the store knows of an upload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admitted {
    /// It has no outcome; so it is worked on.
    Open {
        /// The first admission, of this or an earlier process.
        arrived_at: UtcMicros,
        /// Of the outcome to come: 1, and one more after each redrive.
        version: u32,
    },
    /// It has its outcome: a redelivery.
    Finished,
}
