//! Where audio lies: an upload's address as something that can be opened.

use std::path::PathBuf;

use records::{ErrorType, Fault};

/// The file behind an upload's `audio_uri`: an absolute or relative path, or a `file://` address.
///
/// # Errors
/// A permanent [`Fault`] for an address of another kind.
pub fn local_path(audio_uri: &str) -> Result<PathBuf, Fault> {
    let unreachable = |reason: String| Fault::permanent(ErrorType::AudioUnreachable, reason);
    match audio_uri.split_once("://") {
        None => Ok(PathBuf::from(audio_uri)),
        Some(("file", rest)) => {
            let path = rest.strip_prefix("localhost").unwrap_or(rest);
            let decoded = percent_decoded(path).filter(|path| path.starts_with('/'));
            decoded.map(PathBuf::from).ok_or_else(|| unreachable(format!("{audio_uri} is no file:///path address")))
        }
        Some((scheme, _)) => Err(unreachable(format!(
            "audio at {scheme}:// cannot be read: give a path, or a file:// address, that this machine can open"
        ))),
    }
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
            assert_eq!(local_path(uri).expect("a file"), PathBuf::from(path));
        }
    }

    #[test]
    fn another_scheme_or_a_broken_address_can_never_work_and_says_why() {
        for (uri, names) in
            [("gs://bucket/c.wav", "gs://"), ("file://host/c.wav", "file://host"), ("file:///%zz", "%zz")]
        {
            let fault = local_path(uri).expect_err("no file");
            assert!(fault.message.contains(names), "{fault}");
            assert_eq!(fault.class, records::FaultClass::Permanent);
        }
    }
}
