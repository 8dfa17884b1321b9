//! Where the files go: a folder, or a bucket. A file is there as a whole or not at all.

use std::fs::{self, File, TryLockError};
use std::io::{Read, Seek};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ::parquet::errors::ParquetError;
use object_store::path::Path as Key;
use object_store::{ObjectStore, ObjectStoreExt};
use tokio::runtime::Handle;

use super::{ExportError, Reached, at};
use crate::objects::{Objects, Temporary};

/// What is put at once; a larger file is put in parts of this size, which the service joins at the end.
const PART: u64 = 16 << 20;

/// Where the files go.
#[derive(Clone, Debug)]
pub(super) enum Place {
    /// A folder of this machine.
    Folder(PathBuf),
    /// A bucket.
    Bucket(Bucket),
}

/// A folder in a bucket.
#[derive(Clone, Debug)]
pub(super) struct Bucket {
    pub(super) store: Arc<dyn ObjectStore>,
    /// In the bucket.
    pub(super) prefix: Key,
    /// What all names begin with for whoever reads them.
    pub(super) url: String,
    /// Where files are before they are put there.
    pub(super) staging: PathBuf,
}

impl Bucket {
    pub(super) fn open(objects: &Objects, url: &str) -> Result<Self, String> {
        let (store, prefix) = objects.open_folder(url)?;
        let (url, staging) = (format!("{}/outcomes", url.trim_end_matches('/')), objects.folder().to_owned());
        Ok(Self { store, prefix: prefix.join("outcomes"), url, staging })
    }
}

/// A file that is being written.
pub(super) enum Begun {
    InFolder { unfinished: PathBuf, finished: PathBuf },
    ForBucket { staged: Temporary, bucket: Bucket, key: Key, url: String },
}

impl Place {
    /// Keeps other exports out of the folder until it is dropped or the process dies. Into a bucket exports whoever has the
    /// store's turn.
    pub(super) fn claim(&self) -> Result<Option<File>, ExportError> {
        let Self::Folder(folder) = self else { return Ok(None) };
        fs::create_dir_all(folder).map_err(at(folder))?;
        let opened = File::open(folder).map_err(at(folder))?;
        match opened.try_lock() {
            Ok(()) => Ok(Some(opened)),
            Err(TryLockError::WouldBlock) => Err(ExportError::Held { path: folder.clone() }),
            Err(TryLockError::Error(error)) => Err(at(folder)(error)),
        }
    }

    /// Begins a file, of a partition, with a name.
    pub(super) fn begin(&self, partition: &str, name: &str) -> Result<(Begun, File), ExportError> {
        match self {
            Self::Folder(folder) => {
                let folder = folder.join(partition);
                fs::create_dir_all(&folder).map_err(at(&folder))?;
                // Readers pass over names that begin with a dot. The name is fixed, so a leftover is overwritten.
                let unfinished = folder.join(format!(".{name}.unfinished"));
                let file = File::create(&unfinished).map_err(at(&unfinished))?;
                Ok((Begun::InFolder { unfinished, finished: folder.join(name) }, file))
            }
            Self::Bucket(bucket) => {
                let (staged, file) = Temporary::create(&bucket.staging)
                    .map_err(|fault| at(&bucket.staging)(ParquetError::External(fault.into())))?;
                let (key, url) =
                    (bucket.prefix.clone().join(partition).join(name), format!("{}/{partition}/{name}", bucket.url));
                Ok((Begun::ForBucket { staged, bucket: bucket.clone(), key, url }, file))
            }
        }
    }
}

impl Begun {
    /// What is written to.
    pub(super) fn path(&self) -> &Path {
        match self {
            Self::InFolder { unfinished, .. } => unfinished,
            Self::ForBucket { staged, .. } => staged.path(),
        }
    }

    /// Gives the file its name. When this returns, it outlives the process and the machine.
    pub(super) fn finish(self, mut file: File, runtime: &Handle, reached: Reached) -> Result<(), ExportError> {
        match self {
            Self::InFolder { unfinished, finished } => {
                file.sync_all().map_err(at(&unfinished))?;
                reached()?;
                fs::rename(&unfinished, &finished).map_err(at(&unfinished))?;
                reached()?;
                // The file's name is durable in its folder, and a new folder's in the two above.
                for folder in finished.ancestors().skip(1).take(3) {
                    File::open(folder).and_then(|folder| folder.sync_all()).map_err(at(folder))?;
                }
            }
            Self::ForBucket { staged, bucket, key, url } => {
                file.rewind().map_err(at(staged.path()))?;
                let put = put(&*bucket.store, &key, file);
                runtime.block_on(put).map_err(|source| ExportError::Object { url, source })?;
            }
        }
        reached()
    }
}

/// Puts a file under a name, in place of what was there. Whoever reads sees the one or the other, and nothing between.
async fn put(store: &dyn ObjectStore, key: &Key, mut file: File) -> object_store::Result<()> {
    let unreadable = |error: std::io::Error| object_store::Error::Generic { store: "file", source: error.into() };
    let size = file.metadata().map_err(unreadable)?.len();
    let mut next = || {
        let mut part = Vec::new();
        (&mut file).take(PART).read_to_end(&mut part).map(|_| part).map_err(unreadable)
    };
    if size <= PART {
        return store.put(key, next()?.into()).await.map(drop);
    }
    let mut upload = store.put_multipart(key).await?;
    let parts = async {
        for _ in 0..size.div_ceil(PART) {
            upload.put_part(next()?.into()).await?;
        }
        upload.complete().await
    };
    match parts.await {
        Ok(_) => Ok(()),
        Err(error) => {
            // Parts that stay behind are in nobody's way; a lifecycle rule of the bucket deletes them.
            upload.abort().await.ok();
            Err(error)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use object_store::memory::InMemory;

    use super::*;

    #[tokio::test]
    async fn a_file_of_any_size_is_put_as_it_is() {
        for size in [0, 1, PART, PART + 1, 2 * PART + 7] {
            let bytes: Vec<u8> = (0..size).map(|place| (place / 1000) as u8).collect();
            let mut file = tempfile::tempfile().expect("a file");
            file.write_all(&bytes).and_then(|()| file.rewind()).expect("written");
            let store = InMemory::new();
            put(&store, &Key::from("a/b"), file).await.expect("put");
            let found = store.get(&Key::from("a/b")).await.expect("there").bytes().await.expect("read");
            assert!(found == bytes, "{size} bytes became {}", found.len());
        }
    }
}
