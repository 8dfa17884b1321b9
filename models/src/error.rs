//! What can go wrong with a checkpoint or with a model that runs.

use std::path::{Path, PathBuf};

use records::{ErrorType, Fault};

/// Why a checkpoint cannot be loaded, or why a model gave no answer. `Clone`, because one failed step fails every row of
/// its batch.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ModelError {
    /// A file cannot be opened or read.
    #[error("cannot read {}: {reason}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        reason: String,
    },
    /// A file cannot be written.
    #[error("cannot write {}: {reason}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system says.
        reason: String,
    },
    /// A file was read, and its content is not what it has to be.
    #[error("{} is not usable: {reason}", path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// What is wrong in it.
        reason: String,
    },
    /// The configuration asks for a tensor that no file holds.
    #[error("tensor {name} of shape {expected:?} is missing in {}", file.display())]
    MissingTensor {
        /// The tensor.
        name: String,
        /// Where it should be: a weight file, or the index that does not list it.
        file: PathBuf,
        /// The shape the configuration asks for.
        expected: Vec<usize>,
    },
    /// A file holds a tensor that the configuration has no place for.
    #[error("tensor {name} of shape {found:?} in {} has no place in this model: config.json expects no such tensor", file.display())]
    ExtraTensor {
        /// The tensor.
        name: String,
        /// The weight file.
        file: PathBuf,
        /// Its shape.
        found: Vec<usize>,
    },
    /// A tensor has another shape than the configuration asks for.
    #[error("tensor {name} in {} has shape {found:?}, but config.json asks for {expected:?}", file.display())]
    TensorShape {
        /// The tensor.
        name: String,
        /// The weight file.
        file: PathBuf,
        /// Its shape.
        found: Vec<usize>,
        /// The shape the configuration asks for.
        expected: Vec<usize>,
    },
    /// One request cannot be answered by this model, whatever is tried: its audio or its prompt does not fit.
    #[error("this request does not fit the model: {0}")]
    Request(String),
    /// The model's output for one row has no number in it, so nothing can be chosen.
    #[error("the model gave NaN for token {token} of the answer")]
    NotANumber {
        /// Which token of the answer, from 0.
        token: usize,
    },
    /// The grammar that steers an answer cannot be built or was broken.
    #[error("grammar: {0}")]
    Grammar(String),
    /// An option of the OpenAI client cannot be what it is.
    #[error("openai: {0}")]
    OpenAi(String),
    /// Labels allow no calibration.
    #[error("no calibration: {0}")]
    Calibration(String),
    /// Training cannot begin or go on.
    #[error("training: {0}")]
    Training(String),
    /// libtorch failed, for want of memory among others.
    #[error("libtorch: {0}")]
    Torch(String),
}

impl ModelError {
    pub(crate) fn read(path: &Path, error: &std::io::Error) -> Self {
        Self::Read { path: path.to_owned(), reason: error.to_string() }
    }

    pub(crate) fn invalid(path: &Path, reason: impl std::fmt::Display) -> Self {
        Self::Invalid { path: path.to_owned(), reason: reason.to_string() }
    }
}

impl From<ModelError> for Fault {
    /// Retryable where libtorch failed, which may have been for want of memory; all else comes back on every try.
    fn from(error: ModelError) -> Self {
        let message = error.to_string();
        match error {
            ModelError::Torch(_) => Self::retryable(ErrorType::Model, message),
            ModelError::Read { .. }
            | ModelError::Write { .. }
            | ModelError::Invalid { .. }
            | ModelError::MissingTensor { .. }
            | ModelError::ExtraTensor { .. }
            | ModelError::TensorShape { .. }
            | ModelError::Request(_)
            | ModelError::NotANumber { .. }
            | ModelError::Grammar(_)
            | ModelError::OpenAi(_)
            | ModelError::Calibration(_)
            | ModelError::Training(_) => Self::permanent(ErrorType::Model, message),
        }
    }
}

impl From<tch::TchError> for ModelError {
    /// libtorch puts a C++ stack trace below its first line; only that line says anything.
    fn from(error: tch::TchError) -> Self {
        Self::Torch(error.to_string().lines().next().unwrap_or_default().to_owned())
    }
}
