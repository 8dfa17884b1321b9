//! Where audio lies: an upload's address as a file that a model can open.
//!
//! A file of this machine is taken where it is. An object at `gs://` or `s3://` is fetched into a temporary file, piece by
//! piece and never as a whole in memory, checked, and deleted when nobody needs it any more. What a killed process left
//! behind is deleted by [`Objects::clean`].

mod address;
mod checksum;
mod fault;
mod fetch;
mod list;
mod options;
mod service;
mod temporary;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use object_store::ObjectStore;
use records::{ErrorType, Fault, Lane, UtcMicros};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use address::Address;
use fetch::{Opened, first_piece};
use service::Buckets;

pub(crate) use address::Service;
pub use address::local_path;
pub use options::ObjectsOptions;
pub(crate) use temporary::Temporary;

/// An upload's audio as a file. Where it was fetched, the file is deleted when this is dropped.
#[derive(Debug)]
pub struct Audio {
    path: PathBuf,
    _fetched: Option<Fetched>,
}

/// In the order in which they go: the room on the disk is free once the file is gone.
#[derive(Debug)]
struct Fetched {
    _file: Temporary,
    _room: OwnedSemaphorePermit,
}

impl Audio {
    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// What a lane may have at a time, so that neither is in the other's way.
#[derive(Debug)]
struct Room {
    fetches: Arc<Semaphore>,
    disk_mb: Arc<Semaphore>,
}

/// Fetches audio.
#[derive(Debug)]
pub struct Objects {
    options: ObjectsOptions,
    folder: PathBuf,
    buckets: Buckets,
    rooms: [Room; 2],
}

impl Objects {
    /// Fetches into files in `folder`, which is made when it is needed. Credentials are the environment's: those of
    /// `GOOGLE_APPLICATION_CREDENTIALS` or the machine's account, and `AWS_ACCESS_KEY_ID` and its like.
    pub fn new(options: ObjectsOptions, folder: PathBuf) -> Self {
        let permits = |count: usize| Arc::new(Semaphore::new(count.min(Semaphore::MAX_PERMITS)));
        let room = || Room { fetches: permits(options.max_fetches), disk_mb: permits(options.max_disk_mb as usize) };
        let (rooms, buckets) = ([room(), room()], Buckets::new(&options));
        Self { options, folder, buckets, rooms }
    }

    /// The audio at an address: an absolute or relative path, a `file://` address, `gs://BUCKET/NAME` or `s3://BUCKET/KEY`.
    /// Waits for its lane's turn to fetch, and for room on the disk.
    ///
    /// # Errors
    /// A [`Fault`] of the type `audio_unreachable`: permanent where there is no such object, it may not be read, or it is
    /// too large; retryable where the service is not reached, fails, or is silent.
    pub async fn fetch(&self, audio_uri: &str, lane: Lane) -> Result<Audio, Fault> {
        match Address::parse(audio_uri)? {
            Address::File(path) => Ok(Audio { path, _fetched: None }),
            Address::Object { service, bucket, key } => {
                let room = &self.rooms[lane as usize];
                let _turn = room.fetches.acquire().await.expect("it is never closed");
                let store = self.buckets.open(service, &bucket).map_err(|error| fault::of(audio_uri, &error))?;
                self.fetch_object(audio_uri, &*store, &key, room).await
            }
        }
    }

    async fn fetch_object(
        &self,
        uri: &str,
        store: &dyn ObjectStore,
        key: &object_store::path::Path,
        room: &Room,
    ) -> Result<Audio, Fault> {
        let first = self.in_time(uri, first_piece(uri, store, key)).await?;
        let largest = u64::from(self.options.largest_mb) << 20;
        if first.size() > largest {
            return Err(unreachable(format!(
                "{uri} has {} bytes, and {} MiB are accepted (objects.largest_mb): upload it in parts",
                first.size(),
                self.options.largest_mb
            )));
        }
        let megabytes = u32::try_from(first.size().div_ceil(1 << 20)).unwrap_or(u32::MAX);
        let (opened, room) = match Arc::clone(&room.disk_mb).try_acquire_many_owned(megabytes) {
            Ok(room) => (first, room),
            Err(_) => {
                // Nobody keeps a connection open for as long as this may take.
                let closed: Opened = first.close();
                let room = Arc::clone(&room.disk_mb).acquire_many_owned(megabytes).await;
                (closed, room.expect("it is never closed"))
            }
        };
        let (file, written) = Temporary::create(&self.folder)?;
        let into = (written, file.path());
        self.in_time(uri, opened.write_to(uri, store, key, into)).await?;
        Ok(Audio { path: file.path().to_owned(), _fetched: Some(Fetched { _file: file, _room: room }) })
    }

    async fn in_time<T>(&self, uri: &str, work: impl Future<Output = Result<T, Fault>>) -> Result<T, Fault> {
        let limit = Duration::from_millis(self.options.timeout_ms);
        timeout(limit, work).await.unwrap_or_else(|_| {
            let message = format!("{uri}: it was not fetched within {limit:?} (objects.timeout_ms)");
            Err(Fault::retryable(ErrorType::AudioUnreachable, message))
        })
    }

    /// Deletes what killed processes left behind more than 24 hours ago; how many files that were.
    ///
    /// # Errors
    /// The system's, where the folder cannot be listed or a file not be deleted.
    pub fn clean(&self, now: UtcMicros) -> std::io::Result<u64> {
        temporary::clean(&self.folder, now)
    }

    /// Where temporary files are.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// A bucket, and the folder in it.
    ///
    /// # Errors
    /// In words, where `url` is none, or its credentials cannot be read.
    pub(crate) fn open_folder(&self, url: &str) -> Result<(Arc<dyn ObjectStore>, object_store::path::Path), String> {
        let service = match url.split_once("://") {
            Some(("gs", _)) => Service::Gcs,
            Some(("s3", _)) => Service::S3,
            _ => return Err(format!("{url} is no gs:// or s3:// address")),
        };
        let (bucket, prefix) = address::bucket_and_key(url.trim_end_matches('/'))?;
        let store = self.buckets.open(service, &bucket).map_err(|error| error.to_string())?;
        Ok((store, prefix))
    }
}

fn unreachable(message: String) -> Fault {
    Fault::permanent(ErrorType::AudioUnreachable, message)
}
