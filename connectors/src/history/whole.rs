//! Outcomes in full, a page at a time: for who sends their uploads in again, or puts them beside others.

use std::fs::File;
use std::path::Path;

use ::parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use records::{Outcome, outcomes_of};

use super::row_group::damaged;
use super::{HistoryError, Part, Piece, at, lines};

/// Outcomes of a page.
const PAGE: usize = 1_000;

impl Piece {
    /// How many outcomes it holds; `None` where only reading tells.
    pub fn rows(&self) -> Option<u64> {
        match &self.part {
            Part::RowGroup { metadata, number } => {
                Some(metadata.metadata().row_group(*number).num_rows().unsigned_abs())
            }
            Part::Lines { .. } => None,
        }
    }

    /// Hands over all outcomes in their order, in pages of no more than 1,000.
    ///
    /// # Errors
    /// [`HistoryError`], which names the file and the place; and what `page` ends with.
    pub fn outcomes<E: From<HistoryError>>(
        &self,
        mut page: impl FnMut(Vec<Outcome>) -> Result<(), E>,
    ) -> Result<(), E> {
        match &self.part {
            Part::RowGroup { number, .. } => row_group(&self.path, *number, page),
            Part::Lines { begin } => {
                let mut outcomes = Vec::new();
                lines::each(&self.path, *begin..*begin + self.bytes, |line| {
                    outcomes.push(line.parse::<Outcome>()?);
                    if outcomes.len() < PAGE { Ok(()) } else { page(std::mem::take(&mut outcomes)) }
                })?;
                page(outcomes)
            }
        }
    }
}

fn row_group<E: From<HistoryError>>(
    path: &Path,
    number: usize,
    mut page: impl FnMut(Vec<Outcome>) -> Result<(), E>,
) -> Result<(), E> {
    let file = File::open(path).map_err(at(path))?;
    let reader = ParquetRecordBatchReaderBuilder::try_new(file)
        .map(|reader| reader.with_row_groups(vec![number]).with_batch_size(PAGE))
        .and_then(ParquetRecordBatchReaderBuilder::build)
        .map_err(damaged(path))?;
    for batch in reader {
        let batch = batch.map_err(|error| damaged(path)(error.into()))?;
        page(outcomes_of(&batch).map_err(|wrong| HistoryError::Column {
            path: path.to_owned(),
            column: wrong.column.to_owned(),
            reason: wrong.reason,
        })?)?;
    }
    Ok(())
}
