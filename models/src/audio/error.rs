//! Why a file gives the model nothing to hear.

use std::io::{Error, ErrorKind};
use std::path::{Path, PathBuf};
use std::time::Duration;

use records::{ErrorType, Fault};

/// Why a file cannot be heard. Each message names the file and, where something can be done, what.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AudioError {
    /// The file is not there, may not be read, or the system failed to read it.
    #[error("cannot read {}: {reason}", path.display())]
    Unreachable {
        /// The file.
        path: PathBuf,
        /// The system's kind of failure.
        kind: ErrorKind,
        /// What the system says.
        reason: String,
    },
    /// The bytes are no audio, or only a part of it.
    #[error("cannot decode {}: {reason}", path.display())]
    Undecodable {
        /// The file.
        path: PathBuf,
        /// What is wrong, and the mend.
        reason: String,
    },
    /// The sound is longer than it may be.
    #[error("{} is longer than the {} s that are accepted: upload it in parts", path.display(), longest.as_secs_f64())]
    TooLong {
        /// The file.
        path: PathBuf,
        /// The longest that is accepted.
        longest: Duration,
    },
    /// The sound is too short for the model to hear anything.
    #[error("{} holds {samples} samples at 16 kHz, and nothing is heard below {}", path.display(), super::SHORTEST)]
    TooShort {
        /// The file.
        path: PathBuf,
        /// Its length at 16 kHz.
        samples: usize,
    },
}

impl AudioError {
    pub(super) fn unreachable(path: &Path, error: &Error) -> Self {
        Self::Unreachable { path: path.to_owned(), kind: error.kind(), reason: error.to_string() }
    }

    pub(super) fn undecodable(path: &Path, reason: impl Into<String>) -> Self {
        Self::Undecodable { path: path.to_owned(), reason: reason.into() }
    }
}

impl From<AudioError> for Fault {
    /// Permanent, but for a failure of the system to read a file that is there.
    fn from(error: AudioError) -> Self {
        let message = error.to_string();
        let error_type = match error {
            AudioError::Unreachable { kind, .. } => {
                return match kind {
                    ErrorKind::NotFound
                    | ErrorKind::PermissionDenied
                    | ErrorKind::IsADirectory
                    | ErrorKind::NotADirectory
                    | ErrorKind::InvalidInput => Self::permanent(ErrorType::AudioUnreachable, message),
                    _ => Self::retryable(ErrorType::AudioUnreachable, message),
                };
            }
            AudioError::Undecodable { .. } => ErrorType::AudioUndecodable,
            AudioError::TooLong { .. } => ErrorType::AudioTooLong,
            AudioError::TooShort { .. } => ErrorType::AudioTooShort,
        };
        Self::permanent(error_type, message)
    }
}

#[cfg(test)]
mod tests {
    use records::FaultClass;

    use super::*;

    #[test]
    fn only_a_failing_read_of_a_file_that_is_there_is_worth_another_try() {
        let path = PathBuf::from("a.wav");
        let io = |kind: ErrorKind| AudioError::unreachable(&path, &Error::from(kind));
        for (error, class, error_type) in [
            (io(ErrorKind::NotFound), FaultClass::Permanent, ErrorType::AudioUnreachable),
            (io(ErrorKind::PermissionDenied), FaultClass::Permanent, ErrorType::AudioUnreachable),
            (io(ErrorKind::TimedOut), FaultClass::Retryable, ErrorType::AudioUnreachable),
            (AudioError::undecodable(&path, "text"), FaultClass::Permanent, ErrorType::AudioUndecodable),
            (
                AudioError::TooLong { path: path.clone(), longest: Duration::from_secs(60) },
                FaultClass::Permanent,
                ErrorType::AudioTooLong,
            ),
            (AudioError::TooShort { path: path.clone(), samples: 3 }, FaultClass::Permanent, ErrorType::AudioTooShort),
        ] {
            let fault = Fault::from(error);
            assert_eq!((fault.class, fault.error_type), (class, error_type), "{fault}");
            assert!(fault.message.contains("a.wav"), "{fault}");
        }
    }
}
