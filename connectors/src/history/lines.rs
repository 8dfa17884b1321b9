//! Outcomes as JSON, one a line.

use std::fs::File;
use std::io::{BufRead, BufReader, Seek, SeekFrom};
use std::ops::Range;
use std::path::Path;

use records::Measured;

use super::{HistoryError, at};

/// Bytes of a piece: a line is read with the piece in which it begins.
pub(super) const PIECE: u64 = 16 << 20;

const BUFFER: usize = 1 << 20;

/// Reads the lines that begin in `range`.
pub(super) fn read(path: &Path, range: Range<u64>, mut each: impl FnMut(&Measured<'_>)) -> Result<u64, HistoryError> {
    let mut file = File::open(path).map_err(at(path))?;
    // The byte before tells whether the first one begins a line.
    let mut offset = range.start.saturating_sub(1);
    file.seek(SeekFrom::Start(offset)).map_err(at(path))?;
    let mut file = BufReader::with_capacity(BUFFER, file);
    let mut line = Vec::new();
    if range.start > 0 {
        offset += file.read_until(b'\n', &mut line).map_err(at(path))? as u64;
    }
    let mut count = 0;
    while offset < range.end {
        line.clear();
        let length = file.read_until(b'\n', &mut line).map_err(at(path))?;
        if length == 0 {
            break;
        }
        if !line.trim_ascii().is_empty() {
            let outcome = serde_json::from_slice(&line).map_err(|error| HistoryError::Line {
                path: path.to_owned(),
                offset,
                reason: error.to_string(),
            })?;
            each(&outcome);
            count += 1;
        }
        offset += length as u64;
    }
    Ok(count)
}
