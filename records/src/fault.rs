//! What can go wrong at a seam, typed by what may be done about it.

use serde::{Deserialize, Serialize};

use crate::MicroUsd;

/// Whether trying again can help, and whether it is safe.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FaultClass {
    /// Can never work: dead letter at once.
    Permanent,
    /// Did not happen: back off and try again.
    Retryable,
    /// May have happened: try again only under the same idempotency key.
    Indeterminate,
}

crate::upload::text_form!(FaultClass {
    Permanent = "permanent",
    Retryable = "retryable",
    Indeterminate = "indeterminate"
});

/// What failed; the label of error metrics and of dead-letter analytics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorType {
    /// The event is no valid upload.
    InvalidEvent,
    /// The audio is not there, or may not be read.
    AudioUnreachable,
    /// The bytes are not audio that can be decoded.
    AudioUndecodable,
    /// Longer than the configured limit.
    AudioTooLong,
    /// Too short to give the model anything.
    AudioTooShort,
    /// The model failed, or its answer was unusable.
    Model,
    /// The service limited the rate of calls.
    RateLimited,
    /// No answer in time.
    Timeout,
    /// The request would not be done by its deadline.
    WouldMissDeadline,
    /// The service cannot be reached, or fails.
    Unavailable,
    /// The service refused the request itself.
    Refused,
}

crate::upload::text_form!(ErrorType {
    InvalidEvent = "invalid_event",
    AudioUnreachable = "audio_unreachable",
    AudioUndecodable = "audio_undecodable",
    AudioTooLong = "audio_too_long",
    AudioTooShort = "audio_too_short",
    Model = "model",
    RateLimited = "rate_limited",
    Timeout = "timeout",
    WouldMissDeadline = "would_miss_deadline",
    Unavailable = "unavailable",
    Refused = "refused"
});

/// A failure at a seam.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct Fault {
    /// What may be done about it.
    pub class: FaultClass,
    /// What failed.
    pub error_type: ErrorType,
    /// The thing that failed, and what to do, in words. Never audio, never a key.
    pub message: String,
    /// What was paid all the same; the attempt that failed keeps it.
    #[serde(skip)]
    pub cost: MicroUsd,
}

impl Fault {
    fn free(class: FaultClass, error_type: ErrorType, message: String) -> Self {
        Self { class, error_type, message, cost: MicroUsd(0) }
    }

    /// The same failure, of a call that was paid for.
    pub fn costing(self, cost: MicroUsd) -> Self {
        Self { cost, ..self }
    }

    /// A failure that no repetition mends.
    pub fn permanent(error_type: ErrorType, message: impl Into<String>) -> Self {
        Self::free(FaultClass::Permanent, error_type, message.into())
    }

    /// A failure that certainly had no effect.
    pub fn retryable(error_type: ErrorType, message: impl Into<String>) -> Self {
        Self::free(FaultClass::Retryable, error_type, message.into())
    }

    /// A failure that may have had its effect.
    pub fn indeterminate(error_type: ErrorType, message: impl Into<String>) -> Self {
        Self::free(FaultClass::Indeterminate, error_type, message.into())
    }
}
