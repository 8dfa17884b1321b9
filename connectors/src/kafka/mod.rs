//! Kafka, through librdkafka: uploads from topics, outcomes to topics.
//!
//! An upload's offset is committed after its acknowledgement, and only up to the lowest message of its partition that is not
//! finished; so whatever crashes, a message that has no outcome is read again. A partition that moves to another worker waits
//! up to 5 s for what is in work of it; what takes longer is done by both, and the store lets it end once.

mod consumer;
mod fault;
mod inbox;
mod offsets;
mod options;
mod sink;
mod source;

pub use options::{KafkaOptions, OptionsError, Setting};
pub use sink::KafkaSink;
pub use source::KafkaSource;
