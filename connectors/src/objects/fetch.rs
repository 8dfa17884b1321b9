//! An object, piece by piece, into a file.
//!
//! The first piece tells how large the object is and pins it: an object that was overwritten on the way is noticed by its
//! ETag, its generation or its size, whether the service heeds `If-Match` or not. A piece that breaks off goes on from where
//! it was.

use std::fs::File;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::BoxStream;
use object_store::path::Path;
use object_store::{Error, GetOptions, GetRange, GetResult, ObjectMeta, ObjectStore};
use records::{ErrorType, Fault, FaultClass};
use tokio::io::AsyncWriteExt;
use tokio::time::sleep;

use super::checksum::{Crc32c, Sum};
use super::{fault, temporary};

/// Bytes that are asked for at a time.
const PIECE: u64 = 8 << 20;

/// How often in a row a piece may break off without a byte, behind what the library repeats itself.
const FAILURES: u32 = 3;
const PAUSE: Duration = Duration::from_millis(100);

/// An object whose first piece has been asked for.
pub(super) struct Opened {
    size: u64,
    e_tag: Option<String>,
    version: Option<String>,
    sum: Option<Crc32c>,
    /// Where the first piece comes from; nothing of it was read.
    stream: Option<BoxStream<'static, object_store::Result<bytes::Bytes>>>,
}

/// Asks for an object's beginning.
pub(super) async fn first_piece(uri: &str, store: &dyn ObjectStore, key: &Path) -> Result<Opened, Fault> {
    match store.get_opts(key, piece_from(0, None)).await {
        Ok(answer) => {
            let ObjectMeta { size, e_tag, version, .. } = answer.meta.clone();
            let sum = answer.extensions.get::<Crc32c>().copied();
            Ok(Opened { size, e_tag, version, sum, stream: Some(answer.into_stream()) })
        }
        // An empty object has no first byte.
        Err(error) if fault::status(&error) == Some(416) => {
            Ok(Opened { size: 0, e_tag: None, version: None, sum: None, stream: None })
        }
        Err(error) => Err(fault::of(uri, &error)),
    }
}

fn piece_from(start: u64, if_match: Option<String>) -> GetOptions {
    GetOptions { range: Some(GetRange::Bounded(start..start + PIECE)), if_match, ..GetOptions::default() }
}

/// Why a piece is not all there.
enum Broken {
    /// It may go on from where it is.
    Piece(Fault),
    /// All of it is at an end.
    Whole(Fault),
}

impl Opened {
    /// Of all of it, in bytes.
    pub(super) fn size(&self) -> u64 {
        self.size
    }

    /// Lets go of the connection. The object stays pinned.
    pub(super) fn close(self) -> Self {
        Self { stream: None, ..self }
    }

    /// Writes all of the object into `file`, which is empty.
    pub(super) async fn write_to(
        mut self,
        uri: &str,
        store: &dyn ObjectStore,
        key: &Path,
        file: (File, &std::path::Path),
    ) -> Result<(), Fault> {
        let (file, path) = file;
        let mut into = Into { file: file.into(), path, sum: Sum::new(), bytes: 0 };
        let mut failures = 0;
        while into.bytes < self.size {
            let before = into.bytes;
            let broken = match self.piece(uri, store, key, &mut into).await {
                Ok(()) if into.bytes > before => None,
                Ok(()) => Some(retryable(format!("{uri} gave nothing more after {before} of {} bytes", self.size))),
                Err(Broken::Piece(fault)) => Some(fault),
                Err(Broken::Whole(fault)) => return Err(fault),
            };
            if into.bytes > before {
                failures = 0;
            }
            let Some(fault) = broken else { continue };
            failures += 1;
            if failures > FAILURES || fault.class == FaultClass::Permanent {
                return Err(fault);
            }
            sleep(PAUSE * 2_u32.pow(failures)).await;
        }
        into.file.flush().await.map_err(|error| temporary::fault(path, &error))?;
        match self.sum {
            Some(sum) if sum != into.sum.end() => {
                Err(retryable(format!("{uri} came with other bytes than its CRC32C says")))
            }
            _ => Ok(()),
        }
    }

    /// The piece from where the file ends.
    async fn piece(
        &mut self,
        uri: &str,
        store: &dyn ObjectStore,
        key: &Path,
        into: &mut Into<'_>,
    ) -> Result<(), Broken> {
        let mut stream = match self.stream.take() {
            Some(stream) => stream,
            None => {
                let answer = store.get_opts(key, piece_from(into.bytes, self.e_tag.clone())).await;
                self.check(uri, answer)?.into_stream()
            }
        };
        while let Some(bytes) = stream.next().await {
            let bytes = bytes.map_err(|error| Broken::Piece(fault::of(uri, &error)))?;
            if into.bytes + bytes.len() as u64 > self.size {
                return Err(Broken::Whole(retryable(format!("{uri} gave more than its {} bytes", self.size))));
            }
            into.write(&bytes).await.map_err(Broken::Whole)?;
        }
        Ok(())
    }

    /// Whether this is still the object whose first piece was asked for.
    fn check(&self, uri: &str, answer: object_store::Result<GetResult>) -> Result<GetResult, Broken> {
        let overwritten = || Broken::Whole(retryable(format!("{uri} was overwritten or deleted while it was fetched")));
        match answer {
            Ok(answer) => {
                let meta = &answer.meta;
                let is_same = (meta.size, &meta.e_tag, &meta.version) == (self.size, &self.e_tag, &self.version);
                if is_same { Ok(answer) } else { Err(overwritten()) }
            }
            Err(Error::Precondition { .. } | Error::NotFound { .. }) => Err(overwritten()),
            Err(error) => Err(Broken::Piece(fault::of(uri, &error))),
        }
    }
}

fn retryable(message: String) -> Fault {
    Fault::retryable(ErrorType::AudioUnreachable, message)
}

/// The file that is written, and how far it is.
struct Into<'a> {
    file: tokio::fs::File,
    path: &'a std::path::Path,
    sum: Sum,
    bytes: u64,
}

impl Into<'_> {
    async fn write(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        self.file.write_all(bytes).await.map_err(|error| temporary::fault(self.path, &error))?;
        self.sum.add(bytes);
        self.bytes += bytes.len() as u64;
        Ok(())
    }
}
