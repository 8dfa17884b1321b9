//! What a service says that an object's bytes add up to.
//!
//! Google Cloud Storage tells the CRC32C of the whole object with every answer, in a header that the client library passes
//! over; so it is noted here, where answers come in. S3 tells one only to who asks under a signature that the library does
//! not give, and its ETag is the MD5 of some objects only: there the length and the ETag itself have to do.

use std::future::Future;
use std::pin::Pin;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use crc_fast::{CrcAlgorithm, Digest};
use object_store::client::{
    ClientOptions, HttpClient, HttpConnector, HttpError, HttpRequest, HttpResponse, HttpService, ReqwestConnector,
};

/// CRC32C of all of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Crc32c(u32);

/// The sum of what came.
pub(super) struct Sum(Digest);

impl Sum {
    pub(super) fn new() -> Self {
        Self(Digest::new(CrcAlgorithm::Crc32Iscsi))
    }

    pub(super) fn add(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    pub(super) fn end(&self) -> Crc32c {
        Crc32c(self.0.finalize() as u32)
    }
}

/// `crc32c=` of the values of the header `x-goog-hash`: the big-endian bytes in Base64.
fn read<'a>(mut hashes: impl Iterator<Item = &'a str>) -> Option<Crc32c> {
    let text = hashes.find_map(|it| it.split(',').find_map(|hash| hash.trim().strip_prefix("crc32c=")))?;
    let bytes: [u8; 4] = STANDARD.decode(text).ok()?.try_into().ok()?;
    Some(Crc32c(u32::from_be_bytes(bytes)))
}

/// Connects as usual, and notes each answer's checksum beside it.
#[derive(Debug)]
pub(super) struct NotingConnector;

impl HttpConnector for NotingConnector {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(HttpClient::new(Noting(ReqwestConnector::default().connect(options)?)))
    }
}

#[derive(Debug)]
struct Noting(HttpClient);

type Answer<'a> = Pin<Box<dyn Future<Output = Result<HttpResponse, HttpError>> + Send + 'a>>;

impl HttpService for Noting {
    fn call<'s, 'a>(&'s self, request: HttpRequest) -> Answer<'a>
    where
        's: 'a,
        Self: 'a,
    {
        Box::pin(async move {
            let mut answer = self.0.execute(request).await?;
            let headers = answer.headers();
            // The sum is of the bytes as they are stored.
            let is_as_stored = headers.get("x-goog-stored-content-encoding").is_none_or(|it| it == "identity");
            let sum = read(headers.get_all("x-goog-hash").iter().filter_map(|value| value.to_str().ok()));
            if let Some(sum) = sum.filter(|_| is_as_stored) {
                answer.extensions_mut().insert(sum);
            }
            Ok(answer)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sum_is_that_of_the_header() {
        let mut sum = Sum::new();
        sum.add(b"1234");
        sum.add(b"56789");
        // The check value of CRC-32/ISCSI is e3069283.
        assert_eq!(sum.end(), Crc32c(0xe306_9283));
        for header in [&["crc32c=4waSgw=="][..], &["md5=AAAA", "crc32c=4waSgw=="], &["crc32c=4waSgw==,md5=AAAA"]] {
            assert_eq!(read(header.iter().copied()), Some(sum.end()));
        }
    }

    #[test]
    fn without_a_sum_there_is_none() {
        for header in [&[][..], &["md5=AAAA"], &["crc32c=no"], &["crc32c="]] {
            assert_eq!(read(header.iter().copied()), None);
        }
    }
}
