//! Outcomes as JSON, one a line.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom};
use std::ops::Range;
use std::path::Path;

use memchr::memchr_iter;
use records::Measured;
use serde::Deserialize;

use super::{HistoryError, at};

/// Bytes of a piece: a line is read with the piece in which it begins.
pub(super) const PIECE: u64 = 16 << 20;

/// Longer than nearly all lines.
const LONG: usize = 64 << 10;

/// A line, and where it begins.
pub(super) struct Line<'a> {
    path: &'a Path,
    offset: u64,
    text: &'a str,
}

impl<'a> Line<'a> {
    /// What it says.
    pub(super) fn parse<T: Deserialize<'a>>(&self) -> Result<T, HistoryError> {
        serde_json::from_str(self.text).map_err(|error| HistoryError::Line {
            path: self.path.to_owned(),
            offset: self.offset,
            reason: error.to_string(),
        })
    }
}

/// Reads the outcomes whose lines begin in `range`.
pub(super) fn read(
    path: &Path,
    range: Range<u64>,
    mut outcome: impl FnMut(&Measured<'_>),
) -> Result<u64, HistoryError> {
    let mut count = 0;
    each(path, range, |line| -> Result<(), HistoryError> {
        let as_written = Measured::of_line(line.text);
        outcome(&as_written.map_or_else(|| line.parse(), Ok)?);
        count += 1;
        Ok(())
    })?;
    Ok(count)
}

/// Hands over the lines that begin in `range`, but empty ones.
pub(super) fn each<E: From<HistoryError>>(
    path: &Path,
    range: Range<u64>,
    mut each: impl FnMut(Line<'_>) -> Result<(), E>,
) -> Result<(), E> {
    let (mut offset, bytes) = whole_lines(path, range).map_err(at(path))?;
    // At once for all lines: the parser need not look at each text again.
    let text = std::str::from_utf8(&bytes).map_err(|error| HistoryError::Line {
        path: path.to_owned(),
        offset: offset + error.valid_up_to() as u64,
        reason: error.to_string(),
    })?;
    let mut begin = 0;
    for end in memchr_iter(b'\n', text.as_bytes()).chain([text.len()]) {
        let text = &text[begin..end];
        if !text.trim_ascii().is_empty() {
            each(Line { path, offset, text })?;
        }
        offset += (end + 1 - begin) as u64;
        begin = end + 1;
    }
    Ok(())
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
        // And room for the rest of the last line.
        bytes.reserve_exact((range.end - first) as usize + LONG);
        file.by_ref().take(range.end - first).read_to_end(&mut bytes)?;
        if bytes.last() != Some(&b'\n') {
            file.read_until(b'\n', &mut bytes)?;
        }
    }
    Ok((first, bytes))
}
