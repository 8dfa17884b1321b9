//! The store's outcomes and window rows as Parquet files in a folder or a bucket, in Hive partitions by UTC day.
//!
//! `PLACE/outcomes/day=2026-09-21/000000000001-000000000500.parquet` holds those of the log's first 500 outcomes that
//! arrived on that day, `PLACE/windows` in the same way the rows of windows that begin on it. A range is recorded in the store
//! before its first byte is written and ended after its last file is durable, rows never change, and a file's name follows from
//! its range: so an export that was cut off writes the same files again. `compact.rs` makes few files of many small ones.

mod compact;
mod layout;
mod place;
mod replace;
mod whole_file;

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ::parquet::arrow::ArrowWriter;
use ::parquet::errors::ParquetError;
use records::{UtcMicros, WindowRow, window_batch, window_schema};
use tokio::runtime::Handle;
use tokio::task::spawn_blocking;

use crate::objects::Objects;
use crate::store::{Batch, Log, Store, StoreError};
use compact::{DUE, Due, Partitions};
use place::{Bucket, Place};

pub use layout::layout;
pub use whole_file::WholeFile;

/// Rows of a batch: what one file holds at most.
const ROWS_PER_BATCH: u32 = 50_000;

/// Under which the store keeps what the files of outcomes and of windows have.
const OUTCOMES: &str = "parquet";
const WINDOWS: &str = "parquet windows";

/// Rows in memory at a time, beside their compressed columns.
const ROWS_PER_PAGE: u32 = 2_000;

/// Why an export stopped. The next one goes on where this one was.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A file or folder failed.
    #[error("cannot write {}: {source}", path.display())]
    File {
        /// The file or folder.
        path: PathBuf,
        /// What the system or the Parquet writer says.
        source: ParquetError,
    },
    /// An object failed.
    #[error("cannot write {url}: {source}: may this worker's account write there?")]
    Object {
        /// The object, or the bucket.
        url: String,
        /// What the service or its client says.
        source: object_store::Error,
    },
    /// Another export writes into the folder.
    #[error("another export is writing into {}: let it end", path.display())]
    Held {
        /// The folder.
        path: PathBuf,
    },
}

/// What an export wrote.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Exported {
    /// Outcomes.
    pub rows: u64,
    /// Files.
    pub files: u64,
}

/// Writes a store's outcomes, or its rows of windows, into a folder or a bucket.
#[derive(Clone, Debug)]
pub struct ParquetExport {
    store: Store,
    log: Log,
    /// Under which the store keeps what these files have.
    sink: &'static str,
    place: Place,
    rows_per_batch: u32,
    rows_per_page: u32,
    due: Due,
    /// What has to be looked at for small files.
    partitions: Arc<Mutex<Partitions>>,
}

impl ParquetExport {
    /// An export into `FOLDER/outcomes`, which is created where it is not there. Workers of one store take turns. Where
    /// they have folders of their own, a batch is in one of them, unless its worker died while it wrote: then whoever goes
    /// on writes all of it again, to the same names.
    pub fn new(store: Store, folder: &Path) -> Self {
        Self::of((Log::Outcomes, OUTCOMES), store, Place::Folder(folder.join("outcomes")))
    }

    /// An export of window rows into `FOLDER/windows`, in the same way.
    pub fn windows(store: Store, folder: &Path) -> Self {
        Self::of((Log::Windows, WINDOWS), store, Place::Folder(folder.join("windows")))
    }

    /// An export to `URL/outcomes`, `url` being `gs://BUCKET/PREFIX` or `s3://BUCKET/PREFIX`: what was said of workers and of
    /// names holds there as well. A file is written on this machine first, and put there as a whole.
    ///
    /// # Errors
    /// In words, where `url` is no such address, or its credentials cannot be read.
    pub fn into_bucket(store: Store, objects: &Objects, url: &str) -> Result<Self, String> {
        Ok(Self::of((Log::Outcomes, OUTCOMES), store, Place::Bucket(Bucket::open(objects, url, "outcomes")?)))
    }

    /// An export of window rows to `URL/windows`, in the same way.
    ///
    /// # Errors
    /// As those of [`Self::into_bucket`].
    pub fn windows_into_bucket(store: Store, objects: &Objects, url: &str) -> Result<Self, String> {
        Ok(Self::of((Log::Windows, WINDOWS), store, Place::Bucket(Bucket::open(objects, url, "windows")?)))
    }

    fn of((log, sink): (Log, &'static str), store: Store, place: Place) -> Self {
        Self {
            store,
            log,
            sink,
            place,
            rows_per_batch: ROWS_PER_BATCH,
            rows_per_page: ROWS_PER_PAGE,
            due: DUE,
            partitions: Arc::default(),
        }
    }

    /// Writes everything that is in no file yet.
    ///
    /// # Errors
    /// [`ExportError`]. What it had written stays, and the next export completes it.
    pub async fn export(&self, now: UtcMicros) -> Result<Exported, ExportError> {
        let export = self.clone();
        let runtime = Handle::current();
        let work = spawn_blocking(move || export.run(&runtime, now, &mut || Ok(())));
        work.await.expect("an export is not cancelled, and a panic in it goes on here")
    }

    /// `reached` is called at each point where a process may have died: an error ends the export there, with nothing
    /// tidied up.
    fn run(&self, runtime: &Handle, now: UtcMicros, reached: Reached) -> Result<Exported, ExportError> {
        let _turn = runtime.block_on(self.store.claim_export(self.sink))?;
        let _lock = self.place.claim()?;
        let mut exported = Exported::default();
        let what = (self.sink, self.log);
        while let Some(batch) = runtime.block_on(self.store.begin_export(what, self.rows_per_batch, now))? {
            reached()?;
            for day in runtime.block_on(self.store.days_of(self.log, batch))? {
                exported.rows += self.write_day(runtime, batch, day, reached)?;
                exported.files += 1;
            }
            runtime.block_on(self.store.end_export(self.sink, batch, now))?;
            reached()?;
        }
        Ok(exported)
    }

    /// Writes the file of one day of a batch; how many rows it holds.
    fn write_day(&self, runtime: &Handle, batch: Batch, day: UtcMicros, reached: Reached) -> Result<u64, ExportError> {
        let (partition, name) = (partition(day), compact::name(batch));
        let (begun, file) = self.place.begin(&partition, &name)?;
        reached()?;

        let path = begun.path().to_owned();
        let schema = Arc::new(self.log.schema());
        let mut writer = ArrowWriter::try_new(file, schema, Some(layout())).map_err(at(&path))?;
        let (mut rest, mut rows) = (batch, 0);
        while let Some((last_seq, columns)) =
            runtime.block_on(self.store.columns_of_day(self.log, rest, day, self.rows_per_page))?
        {
            rest.first_seq = last_seq + 1;
            rows += columns.num_rows() as u64;
            writer.write(&columns).map_err(at(&path))?;
            reached()?;
        }
        let file = writer.into_inner().map_err(at(&path))?;
        reached()?;
        begun.finish(file, runtime, reached)?;
        self.partitions().written(partition);
        Ok(rows)
    }

    fn partitions(&self) -> MutexGuard<'_, Partitions> {
        self.partitions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The folder of a day.
fn partition(day: UtcMicros) -> String {
    format!("day={}", day.day())
}

/// Writes rows of a replay, which are in the order of their windows, as `FOLDER/day=YYYY-MM-DD/windows.parquet`.
///
/// # Errors
/// [`ExportError::File`].
pub fn write_windows(folder: &Path, rows: &[WindowRow]) -> Result<(), ExportError> {
    fs::create_dir_all(folder).map_err(at(folder))?;
    for rows in rows.chunk_by(|one, other| one.start.day() == other.start.day()) {
        let folder = folder.join(format!("day={}", rows[0].start.day()));
        fs::create_dir_all(&folder).map_err(at(&folder))?;
        let path = folder.join("windows.parquet");
        let file = File::create(&path).map_err(at(&path))?;
        let mut writer = ArrowWriter::try_new(file, Arc::new(window_schema()), Some(layout())).map_err(at(&path))?;
        writer.write(&window_batch(rows).map_err(at(&path))?).map_err(at(&path))?;
        writer.into_inner().map_err(at(&path))?.sync_all().map_err(at(&path))?;
    }
    Ok(())
}

type Reached<'a> = &'a mut dyn FnMut() -> Result<(), ExportError>;

fn at<E: Into<ParquetError>>(path: &Path) -> impl Fn(E) -> ExportError {
    let path = path.to_owned();
    move |error| ExportError::File { path: path.clone(), source: error.into() }
}

#[cfg(test)]
mod tests;
