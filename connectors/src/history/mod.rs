//! Outcomes of the past in files, Parquet as Tidemark writes them or JSON with one a line, read a piece at a time so that
//! several can read. Only what windows need is read.

mod lines;
mod row_group;
mod whole;

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ::parquet::arrow::arrow_reader::ArrowReaderMetadata;
use ::parquet::errors::ParquetError;
use records::Measured;

/// Why history cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum HistoryError {
    /// A file or folder cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    File {
        /// The file or folder.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// It is no Parquet file, or a damaged one.
    #[error("{} is no Parquet file that can be read: {source}", path.display())]
    Parquet {
        /// The file.
        path: PathBuf,
        /// The reader's reason.
        source: ParquetError,
    },
    /// A column is not there, or its values are no outcomes'.
    #[error("{}: the column {column} {reason}; outcomes are what `tidemark serve` exports", path.display())]
    Column {
        /// The file.
        path: PathBuf,
        /// The column.
        column: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A line is no outcome.
    #[error("{} at byte {offset}: {reason}; a line is an outcome as `tidemark outcomes --json` prints it", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// Where the line begins.
        offset: u64,
        /// What is wrong with it.
        reason: String,
    },
    /// There is nothing to read.
    #[error("{} holds no .parquet, .ndjson or .jsonl file", path.display())]
    Nothing {
        /// The folder.
        path: PathBuf,
    },
    /// It is something else.
    #[error("{} is no .parquet, .ndjson or .jsonl file", path.display())]
    Unknown {
        /// The file.
        path: PathBuf,
    },
}

/// A part of a file that is read as a whole.
#[derive(Clone, Debug)]
pub struct Piece {
    path: Arc<Path>,
    part: Part,
    bytes: u64,
}

#[derive(Clone, Debug)]
enum Part {
    RowGroup { metadata: ArrowReaderMetadata, number: usize },
    Lines { begin: u64 },
}

impl Piece {
    /// What it takes on the disk: a measure of the work.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Hands over each outcome, and tells how many there were.
    ///
    /// # Errors
    /// [`HistoryError`], which names the file and the place.
    pub fn read(&self, each: impl FnMut(&Measured<'_>)) -> Result<u64, HistoryError> {
        match &self.part {
            Part::RowGroup { metadata, number } => row_group::read(&self.path, metadata, *number, each),
            Part::Lines { begin } => lines::read(&self.path, *begin..*begin + self.bytes, each),
        }
    }
}

/// The pieces of these files, and of all files below these folders but those whose names begin with a dot.
///
/// # Errors
/// [`HistoryError`].
pub fn pieces(paths: &[PathBuf]) -> Result<Vec<Piece>, HistoryError> {
    let mut pieces = Vec::new();
    for path in paths {
        if path.is_dir() {
            let mut files = Vec::new();
            search(path, &mut files)?;
            if files.is_empty() {
                return Err(HistoryError::Nothing { path: path.clone() });
            }
            files.iter().try_for_each(|file| cut(file, &mut pieces))?;
        } else {
            cut(path, &mut pieces)?;
        }
    }
    Ok(pieces)
}

/// The pieces of a Parquet file, whatever its name.
///
/// # Errors
/// [`HistoryError`].
pub fn parquet_pieces(path: &Path) -> Result<Vec<Piece>, HistoryError> {
    let mut pieces = Vec::new();
    cut_as(Format::Parquet, path, &mut pieces)?;
    Ok(pieces)
}

#[derive(Clone, Copy)]
enum Format {
    Parquet,
    Lines,
}

fn format(path: &Path) -> Option<Format> {
    match path.extension()?.to_str()? {
        "parquet" => Some(Format::Parquet),
        "ndjson" | "jsonl" => Some(Format::Lines),
        _ => None,
    }
}

/// Every file below the folder, in the order of their names.
fn search(folder: &Path, found: &mut Vec<PathBuf>) -> Result<(), HistoryError> {
    let entries = fs::read_dir(folder).and_then(Iterator::collect::<Result<Vec<_>, _>>).map_err(at(folder))?;
    let mut paths: Vec<PathBuf> = entries.iter().map(fs::DirEntry::path).collect();
    paths.sort();
    for path in paths {
        if path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.')) {
            continue;
        }
        if path.is_dir() {
            search(&path, found)?;
        } else if format(&path).is_some() {
            found.push(path);
        }
    }
    Ok(())
}

fn cut(path: &Path, pieces: &mut Vec<Piece>) -> Result<(), HistoryError> {
    let format = format(path).ok_or_else(|| HistoryError::Unknown { path: path.to_owned() })?;
    cut_as(format, path, pieces)
}

fn cut_as(format: Format, path: &Path, pieces: &mut Vec<Piece>) -> Result<(), HistoryError> {
    let file = File::open(path).map_err(at(path))?;
    let shared: Arc<Path> = path.into();
    match format {
        Format::Parquet => {
            let metadata = row_group::metadata(path, &file)?;
            let groups = metadata.metadata().row_groups().iter().enumerate();
            pieces.extend(groups.map(|(number, group)| Piece {
                path: Arc::clone(&shared),
                part: Part::RowGroup { metadata: metadata.clone(), number },
                bytes: group.compressed_size().unsigned_abs(),
            }));
        }
        Format::Lines => {
            let length = file.metadata().map_err(at(path))?.len();
            let begins = (0..length).step_by(lines::PIECE as usize);
            pieces.extend(begins.map(|begin| Piece {
                path: Arc::clone(&shared),
                part: Part::Lines { begin },
                bytes: lines::PIECE.min(length - begin),
            }));
        }
    }
    Ok(())
}

fn at(path: &Path) -> impl Fn(std::io::Error) -> HistoryError {
    let path = path.to_owned();
    move |source| HistoryError::File { path: path.clone(), source }
}

#[cfg(test)]
mod tests;
