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
pub mod openai;
pub mod queue;
pub mod qwen2_audio;
pub mod schema;
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
