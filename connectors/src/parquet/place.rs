//! Where the files go: a folder, or a bucket. A file is there as a whole or not at all.

use std::fs::{self, File, TryLockError};
use std::io::{self, Read, Seek};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ::parquet::errors::ParquetError;
use bytes::Bytes;
use futures::TryStreamExt;
use object_store::path::Path as Key;
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt};
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
    /// The folder of a name below `url`.
    pub(super) fn open(objects: &Objects, url: &str, name: &str) -> Result<Self, String> {
        let (store, prefix) = objects.open_folder(url)?;
        let (url, staging) = (format!("{}/{name}", url.trim_end_matches('/')), objects.folder().to_owned());
        Ok(Self { store, prefix: prefix.join(name), url, staging })
    }

    /// The key of a file.
    pub(super) fn key(&self, partition: &str, name: &str) -> Key {
        self.prefix.clone().join(partition).join(name)
    }

    /// Its address in an error's words.
    pub(super) fn failed(&self, partition: &str, name: &str) -> impl Fn(object_store::Error) -> ExportError + use<> {
        let url = format!("{}/{partition}/{name}", self.url);
        move |source| ExportError::Object { url: url.clone(), source }
    }

    /// A file of this machine, to be put there when it is whole.
    pub(super) fn stage(&self) -> Result<(Temporary, File), ExportError> {
        Temporary::create(&self.staging).map_err(|fault| at(&self.staging)(ParquetError::External(fault.into())))
    }
}

/// A file that is there.
#[derive(Clone, Debug)]
pub(super) struct Found {
    pub(super) name: String,
    pub(super) bytes: u64,
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

    /// The partitions that there are.
    pub(super) fn partitions(&self, runtime: &Handle) -> Result<Vec<String>, ExportError> {
        match self {
            Self::Folder(folder) => {
                let entries = fs::read_dir(folder).and_then(Iterator::collect::<Result<Vec<_>, _>>);
                let folders = entries.map_err(at(folder))?.into_iter().filter(|entry| entry.path().is_dir());
                Ok(folders.filter_map(|entry| entry.file_name().into_string().ok()).collect())
            }
            Self::Bucket(bucket) => {
                let listed = runtime.block_on(bucket.store.list_with_delimiter(Some(&bucket.prefix)));
                let folders = listed.map_err(bucket.failed("", ""))?.common_prefixes;
                Ok(folders.iter().filter_map(|folder| folder.filename().map(str::to_owned)).collect())
            }
        }
    }

    /// The files of a partition that readers see.
    pub(super) fn files(&self, runtime: &Handle, partition: &str) -> Result<Vec<Found>, ExportError> {
        let found = match self {
            Self::Folder(folder) => {
                let folder = folder.join(partition);
                let each = |entry: io::Result<fs::DirEntry>| {
                    let entry = entry?;
                    Ok((entry.file_name().into_string(), entry.metadata()?.len()))
                };
                let entries = match fs::read_dir(&folder) {
                    Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
                    entries => entries.and_then(|entries| entries.map(each).collect::<io::Result<Vec<_>>>()),
                };
                let named = entries.map_err(at(&folder))?.into_iter();
                named.filter_map(|(name, bytes)| Some(Found { name: name.ok()?, bytes })).collect::<Vec<_>>()
            }
            Self::Bucket(bucket) => {
                let folder = bucket.prefix.clone().join(partition);
                let listed = runtime.block_on(bucket.store.list(Some(&folder)).try_collect::<Vec<_>>());
                let objects = listed.map_err(bucket.failed(partition, ""))?.into_iter();
                let named = |it: ObjectMeta| Some(Found { name: it.location.filename()?.to_owned(), bytes: it.size });
                objects.filter_map(named).collect()
            }
        };
        Ok(found.into_iter().filter(|file| !file.name.starts_with('.')).collect())
    }

    /// What a file holds.
    pub(super) fn read(&self, runtime: &Handle, partition: &str, name: &str) -> Result<Bytes, ExportError> {
        match self {
            Self::Folder(folder) => {
                let path = folder.join(partition).join(name);
                fs::read(&path).map(Bytes::from).map_err(at(&path))
            }
            Self::Bucket(bucket) => {
                let key = bucket.key(partition, name);
                let read = async { bucket.store.get(&key).await?.bytes().await };
                runtime.block_on(read).map_err(bucket.failed(partition, name))
            }
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
                let (staged, file) = bucket.stage()?;
                let key = bucket.key(partition, name);
                let url = format!("{}/{partition}/{name}", bucket.url);
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
pub(super) async fn put(store: &dyn ObjectStore, key: &Key, mut file: File) -> object_store::Result<()> {
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
