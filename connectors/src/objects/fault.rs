//! What an object store's error means for an upload.

use object_store::Error;
use records::{ErrorType, Fault};

/// What is told of an error, which may quote a page of the service.
const LONGEST: usize = 300;

/// What is said where it is not the object that is refused.
const CREDENTIALS: [&str; 3] = ["token request", "ExpiredToken", "RequestTimeTooSkewed"];

/// The fault of an object that could not be had: permanent where the service says that it will not be.
pub(super) fn of(uri: &str, error: &Error) -> Fault {
    let permanent = |message: String| Fault::permanent(ErrorType::AudioUnreachable, message);
    let text = error.to_string();
    match error {
        // The library makes one kind of error of what the object's service says, and of what the service of tokens says.
        _ if CREDENTIALS.iter().any(|it| text.contains(it)) => Fault::retryable(
            ErrorType::AudioUnreachable,
            format!("{uri} cannot be read at present: this worker's credentials fail: {}", short(&text)),
        ),
        Error::NotFound { .. } if text.contains("NoSuchBucket") => {
            permanent(format!("{uri} cannot be read: there is no such bucket: correct audio_uri, or make the bucket"))
        }
        Error::NotFound { .. } => permanent(format!(
            "{uri} cannot be read: there is no such object, or no such bucket: upload it, or correct audio_uri"
        )),
        Error::PermissionDenied { .. } | Error::Unauthenticated { .. } => permanent(format!(
            "{uri} cannot be read: access is denied: let this worker's account read the bucket's objects \
             (storage.objects.get, s3:GetObject), or give it other credentials"
        )),
        Error::InvalidPath { .. } | Error::NotSupported { .. } | Error::NotImplemented { .. } => {
            permanent(format!("{uri} cannot be read: {}", short(&text)))
        }
        _ if text.contains("non-partial response") => permanent(format!(
            "{uri} cannot be read in pieces: store it without Content-Encoding, or in a service that knows ranges"
        )),
        // The library calls an answer without an address a redirect of that kind.
        _ if text.contains("redirect without") || status(error).is_some_and(|it| (300..=399).contains(&it)) => {
            permanent(format!(
                "{uri} cannot be read: the service points elsewhere: is AWS_REGION the bucket's region, and the endpoint right?"
            ))
        }
        error => match status(error) {
            Some(status) if (400..=499).contains(&status) && !matches!(status, 408 | 429) => {
                permanent(format!("{uri} cannot be read: the service refuses ({status}): {}", short(&text)))
            }
            _ => Fault::retryable(
                ErrorType::AudioUnreachable,
                format!("{uri} cannot be read at present: {}: is the service reached from here?", short(&text)),
            ),
        },
    }
}

/// The status of the answer that the library made an error of. Its type is not to be had from outside the library.
pub(super) fn status(error: &Error) -> Option<u16> {
    let text = error.to_string();
    let (_, status) = text.split_once("status code: ")?;
    status.get(..3)?.parse().ok()
}

fn short(text: &str) -> String {
    let line = text.lines().next().unwrap_or_default();
    line.chars().take(LONGEST).collect()
}

#[cfg(test)]
mod tests {
    use records::FaultClass;

    use super::*;

    fn generic(text: &str) -> Error {
        Error::Generic { store: "GCS", source: text.into() }
    }

    #[test]
    fn only_what_the_service_will_never_give_is_permanent_and_each_names_the_object() {
        let path = || "song.wav".to_owned();
        let refused = |status: &str| generic(&format!("Server returned non-2xx status code: {status}: <Error/>"));
        for (error, class, names) in [
            (Error::NotFound { path: path(), source: "404".into() }, FaultClass::Permanent, "no such object"),
            (
                Error::NotFound { path: path(), source: "<Code>NoSuchBucket</Code>".into() },
                FaultClass::Permanent,
                "there is no such bucket",
            ),
            (Error::PermissionDenied { path: path(), source: "403".into() }, FaultClass::Permanent, "denied"),
            (Error::Unauthenticated { path: path(), source: "401".into() }, FaultClass::Permanent, "credentials"),
            (refused("400 Bad Request"), FaultClass::Permanent, "400"),
            (refused("301 Moved Permanently"), FaultClass::Permanent, "AWS_REGION"),
            (generic("Received redirect without LOCATION"), FaultClass::Permanent, "AWS_REGION"),
            (refused("429 Too Many Requests"), FaultClass::Retryable, "429"),
            (refused("408 Request Timeout"), FaultClass::Retryable, "408"),
            (refused("503 Service Unavailable"), FaultClass::Retryable, "503"),
            (generic("HTTP error: error sending request"), FaultClass::Retryable, "reached"),
            (generic("Error performing token request: status code: 404"), FaultClass::Retryable, "credentials"),
            (refused("400 Bad Request: <Code>ExpiredToken</Code>"), FaultClass::Retryable, "credentials"),
            (refused("503 for gs://b/non-partial-mix.wav"), FaultClass::Retryable, "503"),
            (generic("Received non-partial response when range requested"), FaultClass::Permanent, "ranges"),
        ] {
            let fault = of("gs://audio/song.wav", &error);
            assert_eq!((fault.class, fault.error_type), (class, ErrorType::AudioUnreachable), "{fault}");
            assert!(fault.message.contains(names) && fault.message.contains("gs://audio/song.wav"), "{fault}");
        }
    }

    #[test]
    fn a_page_of_the_service_is_not_told_whole() {
        let fault = of("gs://a/b", &generic(&"x".repeat(100_000)));
        assert!(fault.message.len() < 500, "{} bytes", fault.message.len());
    }
}
