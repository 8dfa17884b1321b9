//! What travels through the process graph.

use std::any::Any;
use std::fmt;
use std::sync::Arc;

use records::{Annotation, Attempt, Fault, Lane, Upload, UploadId, UtcMicros};

use crate::Arm;

/// One delivery's claim: which message to acknowledge, and the permit that bounds what is in flight.
///
/// The permit returns when the last ticket of the delivery is dropped, so a ticket travels with its work to the end.
#[derive(Clone)]
pub struct Ticket {
    /// Which of the source's deliveries this is.
    pub delivery: u64,
    /// The lane of the source that it came from.
    pub lane: Lane,
    /// Returned by its own `Drop`.
    pub permit: Arc<dyn Any + Send + Sync>,
}

impl fmt::Debug for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Ticket({} {})", self.lane, self.delivery)
    }
}

/// A message from a source, not yet read.
#[derive(Clone, Debug)]
pub struct Arrival {
    /// The event's bytes.
    pub payload: Arc<[u8]>,
    /// The claim on the source.
    pub ticket: Ticket,
}

/// An upload on its way to its outcome.
#[derive(Clone, Debug)]
pub struct Flight {
    /// The event.
    pub upload: Arc<Upload>,
    /// The event's bytes, kept for a dead letter's redrive.
    pub payload: Arc<[u8]>,
    /// The claim on the source.
    pub ticket: Ticket,
    /// First admission, of this or an earlier delivery.
    pub arrived_at: UtcMicros,
    /// When this delivery came in.
    pub delivered_at: UtcMicros,
    /// Of the outcome to come.
    pub version: u32,
    /// The priority it runs under.
    pub lane: Lane,
    /// When its answer is due.
    pub deadline: UtcMicros,
    /// The experiment arm.
    pub arm: Arc<Arm>,
    /// 1 for the first round.
    pub round: u32,
    /// Every call of a model so far.
    pub attempts: Vec<Attempt>,
    /// Model time so far.
    pub inference_ms: u64,
    /// From arrival to the first model's work, known once a model answered.
    pub queued_ms: Option<u64>,
    /// The answer that the cache had, in place of a model's.
    pub cached: Option<Annotation>,
    /// The primary's answer in this round.
    pub primary: Option<Result<Annotation, Fault>>,
    /// The fallback's answer in this round.
    pub fallback: Option<Result<Annotation, Fault>>,
}

/// An upload that needs nothing more than its acknowledgement.
#[derive(Clone, Debug)]
pub struct Finished {
    /// The upload.
    pub upload_id: UploadId,
    /// The claim on the source.
    pub ticket: Ticket,
}
