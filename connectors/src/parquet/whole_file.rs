//! A Parquet file that is there as a whole or not at all.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ::parquet::arrow::ArrowWriter;
use arrow::datatypes::Schema;
use arrow::error::ArrowError;
use arrow::record_batch::RecordBatch;

use super::{ExportError, at, layout};

/// A file that is being written, beside its place. Where it is not finished, what was at its place stays there.
pub struct WholeFile {
    unfinished: PathBuf,
    finished: PathBuf,
    writer: ArrowWriter<File>,
}

impl WholeFile {
    /// Begins a file at `path`, whose folder is there, with these columns.
    ///
    /// # Errors
    /// [`ExportError::File`].
    ///
    /// # Panics
    /// Where `path` ends in no file's name.
    pub fn begin(path: &Path, schema: Schema) -> Result<Self, ExportError> {
        let name = path.file_name().expect("it is a file's path").to_string_lossy();
        // Readers pass over names that begin with a dot. The name is fixed, so a leftover is overwritten.
        let unfinished = path.with_file_name(format!(".{name}.unfinished"));
        let file = File::create(&unfinished).map_err(at(&unfinished))?;
        let writer = ArrowWriter::try_new(file, Arc::new(schema), Some(layout())).map_err(at(&unfinished))?;
        Ok(Self { unfinished, finished: path.to_owned(), writer })
    }

    /// Adds rows, as `records` makes them.
    ///
    /// # Errors
    /// [`ExportError::File`].
    pub fn write(&mut self, rows: Result<RecordBatch, ArrowError>) -> Result<(), ExportError> {
        let rows = rows.map_err(at(&self.unfinished))?;
        self.writer.write(&rows).map_err(at(&self.unfinished))
    }

    /// Gives the file its name. When this returns, it outlives the process and the machine.
    ///
    /// # Errors
    /// [`ExportError::File`].
    pub fn finish(self) -> Result<(), ExportError> {
        let file = self.writer.into_inner().map_err(at(&self.unfinished))?;
        file.sync_all().map_err(at(&self.unfinished))?;
        fs::rename(&self.unfinished, &self.finished).map_err(at(&self.finished))?;
        let folder = self.finished.parent().unwrap_or(Path::new("."));
        File::open(folder).and_then(|folder| folder.sync_all()).map_err(at(folder))
    }
}
