//! An upload's address, taken apart: a file of this machine, or an object in a bucket.

use std::path::PathBuf;

use object_store::path::Path;
use records::{ErrorType, Fault};

/// A service that keeps objects in buckets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Service {
    /// Google Cloud Storage, `gs://`.
    Gcs,
    /// Amazon S3, or what speaks its protocol, `s3://`.
    S3,
}

/// Where audio lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Address {
    /// A file.
    File(PathBuf),
    /// An object.
    Object { service: Service, bucket: String, key: Path },
}

impl Address {
    /// Reads an `audio_uri`: an absolute or relative path, a `file://` address, `gs://BUCKET/NAME` or `s3://BUCKET/KEY`, the
    /// name as it is, without percent signs for anything.
    ///
    /// # Errors
    /// A permanent [`Fault`] for an address of another kind.
    pub(super) fn parse(audio_uri: &str) -> Result<Self, Fault> {
        let unreachable = |reason: String| Fault::permanent(ErrorType::AudioUnreachable, reason);
        let service = match audio_uri.split_once("://") {
            None => return Ok(Self::File(PathBuf::from(audio_uri))),
            Some(("file", rest)) => {
                let path = rest.strip_prefix("localhost").unwrap_or(rest);
                let decoded = percent_decoded(path).filter(|path| path.starts_with('/'));
                let file = decoded.map(|path| Self::File(path.into()));
                return file.ok_or_else(|| unreachable(format!("{audio_uri} is no file:///path address")));
            }
            Some(("gs", _)) => Service::Gcs,
            Some(("s3", _)) => Service::S3,
            Some((scheme, _)) => {
                return Err(unreachable(format!(
                    "audio at {scheme}:// cannot be read: give a path, or a file://, gs:// or s3:// address"
                )));
            }
        };
        let (bucket, key) = bucket_and_key(audio_uri)
            .map_err(|reason| unreachable(format!("{audio_uri} names no object: {reason}")))?;
        if key.as_ref().is_empty() {
            return Err(unreachable(format!("{audio_uri} names a bucket and no object in it")));
        }
        Ok(Self::Object { service, bucket, key })
    }
}

/// The file behind an address, for who takes files of this machine only.
///
/// # Errors
/// A permanent [`Fault`] for an object, and for an address of another kind.
pub fn local_path(audio_uri: &str) -> Result<PathBuf, Fault> {
    match Address::parse(audio_uri)? {
        Address::File(path) => Ok(path),
        Address::Object { .. } => {
            let message = format!("{audio_uri} is not on this machine: copy it here, and name the file");
            Err(Fault::permanent(ErrorType::AudioUnreachable, message))
        }
    }
}

/// The two parts of `scheme://BUCKET/KEY`; the key may be empty.
pub(super) fn bucket_and_key(url: &str) -> Result<(String, Path), String> {
    let (_, rest) = url.split_once("://").ok_or("it has no scheme")?;
    let (bucket, key) = rest.split_once('/').unwrap_or((rest, ""));
    let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if bucket.is_empty() || !bucket.chars().all(is_name) {
        return Err(format!("{bucket:?} is no bucket's name, of a-z, 0-9, '.', '_' and '-'"));
    }
    // What the client would strip silently would be another object's name.
    if key.starts_with('/') || key.ends_with('/') {
        return Err("a name that begins or ends with / cannot be asked for: rename the object".into());
    }
    let key = Path::parse(key).map_err(|error| format!("{error}: rename the object"))?;
    Ok((bucket.to_owned(), key))
}

fn percent_decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            let digits = [rest.next()?, rest.next()?];
            bytes.push(u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?);
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_and_file_addresses_are_files() {
        for (uri, path) in [
            ("/a b/c.wav", "/a b/c.wav"),
            ("clips/c.wav", "clips/c.wav"),
            ("file:///a%20b/%C3%BC.wav", "/a b/ü.wav"),
            ("file://localhost/c.wav", "/c.wav"),
        ] {
            assert_eq!(Address::parse(uri).expect("a file"), Address::File(path.into()));
        }
    }

    #[test]
    fn a_bucket_and_a_name_are_an_object() {
        for (uri, service, bucket, key) in [
            ("gs://audio/c.wav", Service::Gcs, "audio", "c.wav"),
            ("gs://my.bucket_1/a b/ü%20.wav", Service::Gcs, "my.bucket_1", "a b/ü%20.wav"),
            ("s3://audio/2026/c.wav", Service::S3, "audio", "2026/c.wav"),
        ] {
            let Address::Object { service: found, bucket: of, key: named } = Address::parse(uri).expect("an object")
            else {
                panic!("{uri} is an object")
            };
            assert_eq!((found, of.as_str(), named.as_ref()), (service, bucket, key));
        }
    }

    #[test]
    fn another_scheme_or_a_broken_address_can_never_work_and_says_why() {
        for (uri, names) in [
            ("ftp://host/c.wav", "ftp://"),
            ("file://host/c.wav", "file://host"),
            ("file:///%zz", "%zz"),
            ("gs://bucket", "gs://bucket"),
            ("gs:///c.wav", "bucket's name"),
            ("s3://bucket@host/c.wav", "bucket@host"),
            ("gs://bucket/a//b.wav", "rename"),
            ("gs://bucket//b.wav", "rename"),
            ("gs://bucket/../b.wav", "rename"),
        ] {
            let fault = Address::parse(uri).expect_err("no file");
            assert!(fault.message.contains(names), "{fault}");
            assert_eq!((fault.class, fault.error_type), (records::FaultClass::Permanent, ErrorType::AudioUnreachable));
        }
    }
}
