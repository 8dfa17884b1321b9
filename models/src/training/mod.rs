//! Training: the serving network, put together anew for each step from variables that have gradients.
//!
//! A [manifest] says which audio a network learns from. Its spectrograms are kept on disk, changed each time they are
//! heard, and read by the very code that serves; the loss is the answer's, and that of helper heads on the encoder.
//! Everything that a run does follows from its options and the number of its step, so a run that was killed goes on from
//! its last checkpoint as if nothing had happened.

mod answer;
mod augment;
mod batches;
mod checkpoint;
mod curve;
mod export;
mod front;
mod heads;
mod init;
mod lora;
pub mod manifest;
mod mels;
mod network;
mod optimizer;
mod positional;
mod score;
mod step;
mod targets;
mod trainer;
mod validate;
mod variables;
mod vocabulary;

pub use curve::Point;
pub use network::Start;
pub use score::{Note, Score};
pub use trainer::{Ended, Event, Go, Options, train};
