//! The store's outcomes and window rows as Parquet files, in Hive partitions by the UTC day of arrival.
//!
//! `FOLDER/outcomes/day=2026-09-21/000000000001-000000000500.parquet` holds those of the log's first 500 outcomes that
//! arrived on that day, `FOLDER/windows` in the same way those of windows that begin on it. A range is recorded in the store before its first byte is written and ended after its last file
//! is durable, outcomes never change, and a file's name follows from its range: so an export that was cut off writes
//! the same files again.

use std::fs::{self, File, TryLockError};

use std::path::{Path, PathBuf};
use std::sync::Arc;

use ::parquet::arrow::ArrowWriter;
use ::parquet::basic::{Compression, ZstdLevel};
use ::parquet::errors::ParquetError;
use ::parquet::file::properties::WriterProperties;
use records::{UtcMicros, WindowRow, outcome_schema, window_batch, window_schema};
use tokio::runtime::Handle;
use tokio::task::spawn_blocking;

use crate::store::{Batch, Log, Store, StoreError};

/// Rows of a batch: what one file holds at most.
const ROWS_PER_BATCH: u32 = 50_000;

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
    /// Outcomes, or rows of windows.
    pub rows: u64,
    /// Files.
    pub files: u64,
}

/// Writes a store's outcomes, or its rows of windows, into a folder.
#[derive(Clone, Debug)]
pub struct ParquetExport {
    store: Store,
    log: Log,
    folder: PathBuf,
    rows_per_batch: u32,
    rows_per_page: u32,
}

impl ParquetExport {
    /// An export into `FOLDER/outcomes`, which is created where it is not there. Workers of one store take turns. Where
    /// they have folders of their own, a batch is in one of them, unless its worker died while it wrote: then whoever goes
    /// on writes all of it again, to the same names.
    pub fn new(store: Store, folder: &Path) -> Self {
        Self::of(Log::Outcomes, store, folder)
    }

    /// An export of window rows into `FOLDER/windows`, in the same way.
    pub fn windows(store: Store, folder: &Path) -> Self {
        Self::of(Log::Windows, store, folder)
    }

    fn of(log: Log, store: Store, folder: &Path) -> Self {
        let folder = folder.join(log.name());
        Self { store, log, folder, rows_per_batch: ROWS_PER_BATCH, rows_per_page: ROWS_PER_PAGE }
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
        let _turn = runtime.block_on(self.store.claim_export(&format!("parquet {}", self.log.name())))?;
        fs::create_dir_all(&self.folder).map_err(at(&self.folder))?;
        let _lock = lock(&self.folder)?;
        let mut exported = Exported::default();
        while let Some(batch) = runtime.block_on(self.store.begin_export(self.log, self.rows_per_batch, now))? {
            reached()?;
            for day in runtime.block_on(self.store.days_of(self.log, batch))? {
                exported.rows += self.write_day(runtime, batch, day, reached)?;
                exported.files += 1;
            }
            runtime.block_on(self.store.end_export(self.log, batch, now))?;
            reached()?;
        }
        Ok(exported)
    }

    /// Writes the file of one day of a batch; how many rows it holds.
    fn write_day(&self, runtime: &Handle, batch: Batch, day: UtcMicros, reached: Reached) -> Result<u64, ExportError> {
        let folder = self.folder.join(format!("day={}", day.day()));
        fs::create_dir_all(&folder).map_err(at(&folder))?;
        let name = format!("{:012}-{:012}.parquet", batch.first_seq, batch.last_seq);
        // Readers pass over names that begin with a dot. The name is fixed, so a leftover is overwritten.
        let unfinished = folder.join(format!(".{name}.unfinished"));
        let file = File::create(&unfinished).map_err(at(&unfinished))?;
        reached()?;

        let schema = match self.log {
            Log::Outcomes => outcome_schema(),
            Log::Windows => window_schema(),
        };
        let mut writer = ArrowWriter::try_new(file, Arc::new(schema), Some(zstd())).map_err(at(&unfinished))?;
        let (mut rest, mut rows) = (batch, 0);
        while let Some((last_seq, columns)) =
            runtime.block_on(self.store.columns_of_day(self.log, rest, day, self.rows_per_page))?
        {
            rest.first_seq = last_seq + 1;
            rows += columns.num_rows() as u64;
            writer.write(&columns).map_err(at(&unfinished))?;
            reached()?;
        }
        let file = writer.into_inner().map_err(at(&unfinished))?;
        reached()?;
        file.sync_all().map_err(at(&unfinished))?;
        reached()?;
        fs::rename(&unfinished, folder.join(name)).map_err(at(&unfinished))?;
        reached()?;
        // The file's name is durable in its folder, and a new folder's in the one above.
        for folder in folder.ancestors().take(3) {
            File::open(folder).and_then(|folder| folder.sync_all()).map_err(at(folder))?;
        }
        reached()?;
        Ok(rows)
    }
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
        let mut writer = ArrowWriter::try_new(file, Arc::new(window_schema()), Some(zstd())).map_err(at(&path))?;
        writer.write(&window_batch(rows).map_err(at(&path))?).map_err(at(&path))?;
        writer.into_inner().map_err(at(&path))?.sync_all().map_err(at(&path))?;
    }
    Ok(())
}

fn zstd() -> WriterProperties {
    WriterProperties::builder().set_compression(Compression::ZSTD(ZstdLevel::default())).build()
}

type Reached<'a> = &'a mut dyn FnMut() -> Result<(), ExportError>;

/// Keeps other exports out of the folder until it is dropped or the process dies.
fn lock(folder: &Path) -> Result<File, ExportError> {
    let opened = File::open(folder).map_err(at(folder))?;
    match opened.try_lock() {
        Ok(()) => Ok(opened),
        Err(TryLockError::WouldBlock) => Err(ExportError::Held { path: folder.to_owned() }),
        Err(TryLockError::Error(error)) => Err(at(folder)(error)),
    }
}

fn at<E: Into<ParquetError>>(path: &Path) -> impl Fn(E) -> ExportError {
    let path = path.to_owned();
    move |error| ExportError::File { path: path.clone(), source: error.into() }
}

#[cfg(test)]
mod tests;
