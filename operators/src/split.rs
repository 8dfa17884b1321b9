//! Splits uploads by what the primary said.

use records::{ErrorType, Fault, FaultClass};
use timely::dataflow::StreamVec;
use timely::dataflow::operators::core::OkErr;
use timely::progress::Timestamp;

use crate::Flight;

/// Splits uploads by confidence.
pub trait Split: Sized {
    /// The settled (sure enough, answered from the cache, or audio that no model can have) and the doubtful (not sure enough, or the primary
    /// failed), which go to the fallback.
    fn split(self) -> (Self, Self);
}

impl<T: Timestamp> Split for StreamVec<'_, T, Box<Flight>> {
    fn split(self) -> (Self, Self) {
        self.ok_err(|flight: Box<Flight>| if is_settled(&flight) { Ok(flight) } else { Err(flight) })
    }
}

fn is_settled(flight: &Flight) -> bool {
    if flight.cached.is_some() {
        return true;
    }
    match &flight.primary {
        Some(Ok(annotation)) => annotation.confidence.is_some_and(|sure| sure.get() >= flight.arm.threshold),
        // What could not be fetched now, the other model would not have either.
        Some(Err(fault)) => is_hopeless(fault) || fault.error_type == ErrorType::AudioUnreachable,
        None => panic!("split stands behind infer, which answers every upload"),
    }
}

/// Whether no model and no repetition can help: the audio itself is at fault.
pub(crate) fn is_hopeless(fault: &Fault) -> bool {
    match fault.error_type {
        ErrorType::InvalidEvent
        | ErrorType::AudioUnreachable
        | ErrorType::AudioUndecodable
        | ErrorType::AudioTooLong
        | ErrorType::AudioTooShort => fault.class == FaultClass::Permanent,
        ErrorType::Model
        | ErrorType::RateLimited
        | ErrorType::Timeout
        | ErrorType::WouldMissDeadline
        | ErrorType::Unavailable
        | ErrorType::Refused => false,
    }
}
