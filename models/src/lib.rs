//! Models that annotate audio: Qwen2-Audio in libtorch and the OpenAI client, with the audio front end and the confidence
//! that go with them.

mod chooser;
mod error;
mod exit;

pub use chooser::{Chosen, Greedy, TokenChooser};
pub use error::ModelError;
pub use exit::exit_now;

pub mod audio;
pub mod breaker;
pub mod calibration;
pub mod confidence;
pub mod engine;
pub mod grammar;
pub mod local;
pub mod measure;
pub mod nano;
pub mod openai;
pub mod queue;
pub mod qwen2_audio;
pub mod schema;
pub mod training;
pub mod verify;

use std::path::PathBuf;
use std::sync::Arc;

use futures::future::BoxFuture;
use records::{Annotation, Fault, Lane, UploadId, UtcMicros};

/// One upload for a model to describe.
#[derive(Clone, Debug)]
pub struct Request {
    /// The upload; also the idempotency key of a paid call.
    pub upload_id: UploadId,
    /// The audio, as a local file.
    pub audio: PathBuf,
    /// Its priority.
    pub lane: Lane,
    /// When the answer is due; requests are served earliest deadline first.
    pub deadline: UtcMicros,
    /// The question, of the upload's experiment arm.
    pub prompt: Arc<str>,
    /// What to do where the answer would come after the deadline.
    pub late: Late,
}

/// What a model does with a request whose deadline it foresees to miss.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Late {
    /// It answers all the same: nobody else will, so a late answer is better than none.
    Answer,
    /// It refuses at once, so that another model can answer in time. A deadline that has passed is no reason: nobody can
    /// meet it any more.
    Refuse,
}

/// A model that annotates audio.
pub trait Annotator: Send + Sync {
    /// The model's name in outcomes.
    fn model(&self) -> &str;

    /// Describes one upload. Dropping the future gives the request up.
    ///
    /// # Errors
    /// A [`Fault`]: permanent where this audio can never work, retryable or indeterminate where the model failed.
    fn annotate(&self, request: Request) -> BoxFuture<'_, Result<Annotation, Fault>>;
}
