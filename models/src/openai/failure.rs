//! How a call can fail, and what each failure means for the upload, for a repeat and for the breaker.

use std::time::Duration;

use async_openai::error::OpenAIError;
use records::{ErrorType, Fault};
use serde_json::Value;

/// Words of the service in a fault's message, at most.
const LONGEST_MESSAGE: usize = 300;

/// Why a call gave no chat completion.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    /// The request did not leave.
    #[error("OpenAI cannot be reached: {0}")]
    Unreachable(String),
    /// The request left, and no whole answer came back.
    #[error("the connection to OpenAI broke before the answer was complete: {0}")]
    Broken(String),
    /// An answer came that is none of this interface.
    #[error("OpenAI answered with something that is no chat completion")]
    Garbled,
    /// The request left, and no answer came in time.
    #[error("OpenAI gave no answer within {} ms", .0.as_millis())]
    TimedOut(Duration),
    /// The service said no.
    #[error("OpenAI answered {status}: {message}{}", advice(*status, code))]
    Status {
        /// The HTTP status.
        status: u16,
        /// What the service says.
        message: String,
        /// The service's own name for the error; empty without one.
        code: String,
        /// The `Retry-After` header.
        retry_after: Option<String>,
    },
}

/// What on-call should do, where the mend is theirs.
fn advice(status: u16, code: &str) -> &'static str {
    match (status, code) {
        (401 | 403, _) => " (set OPENAI_API_KEY to a key that may use this model)",
        (402, _) | (_, "insufficient_quota") => " (the account has no credit left)",
        (404, _) => " (check base_url and model)",
        _ => "",
    }
}

impl Failure {
    /// Reads an error answer: `{"error": {"message": …, "code": …, "type": …}}`, or whatever else came.
    pub(super) fn status(status: u16, retry_after: Option<String>, body: &[u8]) -> Self {
        let json: Value = serde_json::from_slice(body).unwrap_or_default();
        let text = |name: &str| json["error"][name].as_str().map(str::to_owned);
        let message = text("message").unwrap_or_else(|| String::from_utf8_lossy(body).into_owned());
        let code = text("code").or_else(|| text("type")).unwrap_or_default();
        Self::Status { status, message, code, retry_after }
    }

    /// Whether the service certainly did nothing and may do it if asked again. What may have been billed is not asked
    /// for again within the call, because OpenAI does not promise to honour the idempotency key.
    pub(super) fn is_worth_repeating(&self) -> bool {
        match self {
            Self::Unreachable(_) => true,
            Self::Broken(_) | Self::Garbled | Self::TimedOut(_) => false,
            Self::Status { code, .. } if code == "insufficient_quota" => false,
            Self::Status { status, .. } => matches!(status, 408 | 409 | 429 | 500..),
        }
    }

    /// Whether the model does not take a `response_format`, as none of OpenAI's audio models does.
    pub(super) fn is_about_response_format(&self) -> bool {
        matches!(self, Self::Status { status: 400, message, .. } if message.contains("response_format"))
    }

    /// Whether the service, and not this one request, is at fault.
    pub(super) fn is_outage(&self) -> bool {
        match self {
            Self::Unreachable(_) | Self::Broken(_) | Self::Garbled | Self::TimedOut(_) => true,
            Self::Status { .. } => !self.is_about_the_request(),
        }
    }

    /// How long the service asks to be left alone.
    pub(super) fn retry_after(&self) -> Option<&str> {
        match self {
            Self::Status { retry_after, .. } => retry_after.as_deref(),
            _ => None,
        }
    }

    /// What this means for the upload. A key, a quota or an address that is wrong is the operator's to mend and no fault
    /// of the upload: retryable, so that it does not end in the dead letters at once.
    pub(super) fn fault(&self, key: &str) -> Fault {
        // The service may repeat the key to us: first take it out, then shorten, else half of it could stay.
        let message: String = self.to_string().replace(key, "[key]").chars().take(LONGEST_MESSAGE).collect();
        match self {
            Self::Unreachable(_) => Fault::retryable(ErrorType::Unavailable, message),
            Self::Broken(_) | Self::Garbled => Fault::indeterminate(ErrorType::Unavailable, message),
            Self::TimedOut(_) => Fault::indeterminate(ErrorType::Timeout, message),
            Self::Status { status, .. } => match status {
                429 => Fault::retryable(ErrorType::RateLimited, message),
                408 | 409 | 500.. => Fault::retryable(ErrorType::Unavailable, message),
                _ if self.is_about_the_request() => Fault::permanent(ErrorType::Refused, message),
                _ => Fault::retryable(ErrorType::Refused, message),
            },
        }
    }

    fn is_about_the_request(&self) -> bool {
        matches!(self, Self::Status { status: 400 | 413 | 415 | 422, .. })
    }
}

/// The way of a failure through async-openai and back.
impl From<Failure> for OpenAIError {
    fn from(failure: Failure) -> Self {
        Self::Boxed(Box::new(failure))
    }
}

impl From<OpenAIError> for Failure {
    fn from(error: OpenAIError) -> Self {
        match error {
            OpenAIError::Boxed(boxed) => {
                boxed.downcast().map_or_else(|other| Self::Unreachable(other.to_string()), |failure| *failure)
            }
            // Nothing but building the request is left to async-openai, so nothing was sent. Its text could hold an answer.
            _ => Self::Unreachable("the request cannot be built".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use records::FaultClass::{Indeterminate, Permanent, Retryable};

    use super::*;

    fn status(status: u16) -> Failure {
        Failure::status(status, None, br#"{"error":{"message":"no","code":null,"type":"t"}}"#)
    }

    #[test]
    fn each_failure_is_typed_by_what_may_be_done_about_it() {
        for (failure, class, error_type, repeat, outage) in [
            (Failure::Unreachable("refused".into()), Retryable, ErrorType::Unavailable, true, true),
            (Failure::Broken("reset".into()), Indeterminate, ErrorType::Unavailable, false, true),
            (Failure::Garbled, Indeterminate, ErrorType::Unavailable, false, true),
            (Failure::TimedOut(Duration::from_secs(1)), Indeterminate, ErrorType::Timeout, false, true),
            (status(400), Permanent, ErrorType::Refused, false, false),
            (status(413), Permanent, ErrorType::Refused, false, false),
            (status(401), Retryable, ErrorType::Refused, false, true),
            (status(403), Retryable, ErrorType::Refused, false, true),
            (status(404), Retryable, ErrorType::Refused, false, true),
            (status(302), Retryable, ErrorType::Refused, false, true),
            (status(408), Retryable, ErrorType::Unavailable, true, true),
            (status(429), Retryable, ErrorType::RateLimited, true, true),
            (status(500), Retryable, ErrorType::Unavailable, true, true),
            (status(529), Retryable, ErrorType::Unavailable, true, true),
        ] {
            let fault = failure.fault("sk-1");
            assert_eq!((fault.class, fault.error_type), (class, error_type), "{failure}");
            assert_eq!((failure.is_worth_repeating(), failure.is_outage()), (repeat, outage), "{failure}");
        }
    }

    #[test]
    fn an_empty_account_is_not_asked_again_within_the_call_and_on_call_is_told() {
        let body = br#"{"error":{"message":"You exceeded your quota","code":"insufficient_quota"}}"#;
        let failure = Failure::status(429, Some("1".into()), body);
        assert!(!failure.is_worth_repeating());
        assert!(failure.fault("sk-1").message.contains("no credit left"), "{failure}");
        assert!(status(401).fault("sk-1").message.contains("OPENAI_API_KEY"));
    }

    #[test]
    fn a_fault_never_holds_the_key_nor_half_of_it() {
        let key = "sk-0123456789";
        for padding in 0..LONGEST_MESSAGE {
            let body = format!("{}{key}{}", "x".repeat(padding), "y".repeat(LONGEST_MESSAGE));
            let message = Failure::status(500, None, body.as_bytes()).fault(key).message;
            assert!(!message.contains("sk-"), "{message}");
            assert!(message.chars().count() <= LONGEST_MESSAGE);
        }
    }
}
