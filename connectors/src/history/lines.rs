//! Outcomes as JSON, one a line.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom};
use std::ops::Range;
use std::path::Path;

use records::Measured;

use super::{HistoryError, at};

/// Bytes of a piece: a line is read with the piece in which it begins.
pub(super) const PIECE: u64 = 16 << 20;

/// Reads the lines that begin in `range`.
pub(super) fn read(path: &Path, range: Range<u64>, mut each: impl FnMut(&Measured<'_>)) -> Result<u64, HistoryError> {
    let (first, bytes) = whole_lines(path, range).map_err(at(path))?;
    let refused = |offset: usize, reason: String| HistoryError::Line {
        path: path.to_owned(),
        offset: first + offset as u64,
        reason,
    };
    // At once for all lines: the parser need not look at each text again.
    let text = std::str::from_utf8(&bytes).map_err(|error| refused(error.valid_up_to(), error.to_string()))?;
    let (mut offset, mut count) = (0, 0);
    for line in text.split('\n') {
        if !line.trim_ascii().is_empty() {
            each(&serde_json::from_str(line).map_err(|error| refused(offset, error.to_string()))?);
            count += 1;
        }
        offset += line.len() + 1;
    }
    Ok(count)
}

/// The lines that begin in `range`, and where the first one does.
fn whole_lines(path: &Path, range: Range<u64>) -> std::io::Result<(u64, Vec<u8>)> {
    let mut file = File::open(path)?;
    // The byte before tells whether the first one begins a line.
    let mut first = range.start.saturating_sub(1);
    file.seek(SeekFrom::Start(first))?;
    let mut file = BufReader::new(file);
    if range.start > 0 {
        first += file.skip_until(b'\n')? as u64;
    }
    let mut bytes = Vec::new();
    if first < range.end {
        file.by_ref().take(range.end - first).read_to_end(&mut bytes)?;
        if bytes.last() != Some(&b'\n') {
            file.read_until(b'\n', &mut bytes)?;
        }
    }
    Ok((first, bytes))
}
