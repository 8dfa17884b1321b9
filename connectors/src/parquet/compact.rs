//! Makes few files of many small ones, a day at a time: neighbours in the log become one file, which is named after what they hold
//! together. Rows are copied as they are, in their order.
//!
//! Only what lies side by side in the log is joined: a file's name says that it has every row of its range and day, also where
//! workers have folders of their own.

use std::collections::BTreeSet;
use std::sync::Arc;

use ::parquet::arrow::ArrowWriter;
use ::parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use records::UtcMicros;
use tokio::runtime::Handle;
use tokio::task::spawn_blocking;

use super::place::Found;
use super::replace::Replacing;
use super::{ExportError, ParquetExport, Reached, at, layout};
use crate::store::Batch;

/// When neighbours become one file.
#[derive(Clone, Copy, Debug)]
pub(super) struct Due {
    /// Where there are so many,
    pub(super) files: usize,
    /// or so many bytes of them. A file of half of that is not small any more.
    pub(super) bytes: u64,
}

/// A day that is over has up to 63 small files and those of 32 to 96 MiB. What is small is copied again with its next 63
/// neighbours, up to 32 MiB of it: at 30 s from export to export, that is two seconds' work every half hour at most.
pub(super) const DUE: Due = Due { files: 64, bytes: 64 << 20 };

/// Which partitions may have small files.
#[derive(Debug, Default)]
pub(super) enum Partitions {
    /// What earlier processes left is not known.
    #[default]
    All,
    /// Those that were written to since they were looked at.
    Written(BTreeSet<String>),
}

impl Partitions {
    pub(super) fn written(&mut self, partition: String) {
        if let Self::Written(partitions) = self {
            partitions.insert(partition);
        }
    }
}

/// A file that is one of ours by its name.
#[derive(Clone, Debug)]
struct Part {
    range: Batch,
    file: Found,
}

/// What a join came to.
enum Joined {
    Done,
    /// This file is of another version's columns.
    HasOther(String),
}

/// The name of the file of a range.
pub(super) fn name(range: Batch) -> String {
    format!("{:012}-{:012}.parquet", range.first_seq, range.last_seq)
}

/// The range that a file's name tells of.
pub(super) fn range(name: &str) -> Option<Batch> {
    let (first, last) = name.strip_suffix(".parquet")?.split_once('-')?;
    let range = Batch { first_seq: first.parse().ok()?, last_seq: last.parse().ok()? };
    (self::name(range) == name && range.first_seq <= range.last_seq).then_some(range)
}

impl ParquetExport {
    /// Joins small files, where there are many of a day: of days that this has written to, and the first time of all. In a folder
    /// a reader who lists a day sees either all of the small files or the one of them all; whoever listed before and opens after
    /// finds no such file. In a bucket both are there for a moment, and longer where this dies in it, until the next one goes on.
    /// Tells how many files became fewer.
    ///
    /// # Errors
    /// [`ExportError`]. Rows are where they were, and the next one goes on.
    pub async fn compact(&self, now: UtcMicros) -> Result<u64, ExportError> {
        let export = self.clone();
        let runtime = Handle::current();
        let work = spawn_blocking(move || export.run_compaction(&runtime, now, &mut || Ok(())));
        work.await.expect("a compaction is not cancelled, and a panic in it goes on here")
    }

    /// `reached` is as in [`Self::run`].
    pub(super) fn run_compaction(
        &self,
        runtime: &Handle,
        now: UtcMicros,
        reached: Reached,
    ) -> Result<u64, ExportError> {
        let _turn = runtime.block_on(self.store.claim_export(self.sink))?;
        let _lock = self.place.claim()?;
        self.end_compactions(runtime, reached)?;
        // Files of a batch that is not ended may be written again.
        if runtime.block_on(self.store.is_exporting(self.sink))? {
            return Ok(0);
        }
        let (mut fewer, written) = (0, self.take_partitions(runtime)?);
        for partition in &written {
            let looked_at = self.compact_partition(runtime, partition, now, reached);
            if looked_at.is_err() {
                written.iter().for_each(|partition| self.partitions().written(partition.clone()));
            }
            fewer += looked_at?;
        }
        Ok(fewer)
    }

    fn take_partitions(&self, runtime: &Handle) -> Result<BTreeSet<String>, ExportError> {
        let is_all = matches!(*self.partitions(), Partitions::All);
        let all = if is_all { self.place.partitions(runtime)? } else { Vec::new() };
        match std::mem::replace(&mut *self.partitions(), Partitions::Written(BTreeSet::new())) {
            Partitions::All => Ok(all.into_iter().collect()),
            Partitions::Written(partitions) => Ok(partitions),
        }
    }

    fn compact_partition(
        &self,
        runtime: &Handle,
        partition: &str,
        now: UtcMicros,
        reached: Reached,
    ) -> Result<u64, ExportError> {
        let midnight = partition.strip_prefix("day=").map(|day| format!("\"{day}T00:00:00.000000Z\""));
        let Some(day) = midnight.and_then(|text| serde_json::from_str(&text).ok()) else { return Ok(0) };
        let (mut fewer, mut others) = (0, BTreeSet::new());
        while let Some(parts) = self.due(runtime, partition, day, &others)? {
            match self.join(runtime, partition, &parts, now, reached)? {
                Joined::Done => fewer += parts.len() as u64 - 1,
                Joined::HasOther(name) => drop(others.insert(name)),
            }
        }
        Ok(fewer)
    }

    /// The first small files of a partition that are neighbours and are to become one; not `others`.
    fn due(
        &self,
        runtime: &Handle,
        partition: &str,
        day: UtcMicros,
        others: &BTreeSet<String>,
    ) -> Result<Option<Vec<Part>>, ExportError> {
        let found = self.place.files(runtime, partition)?;
        let mut parts: Vec<Part> =
            found.into_iter().filter_map(|file| Some(Part { range: range(&file.name)?, file })).collect();
        parts.sort_by_key(|part| (part.range.first_seq, part.range.last_seq));
        let is_small = |part: &Part| part.file.bytes < self.due.bytes / 2 && !others.contains(&part.file.name);
        let (mut run, mut bytes): (Vec<Part>, u64) = (Vec::new(), 0);
        let small = parts.iter().filter(|part| is_small(part));
        if small.clone().count() < self.due.files && small.map(|part| part.file.bytes).sum::<u64>() < self.due.bytes {
            return Ok(None);
        }
        for part in parts {
            let follows = match run.last() {
                Some(last) => self.follows(runtime, last.range, part.range, day)?,
                None => true,
            };
            if !(follows && is_small(&part)) {
                if run.len() >= self.due.files {
                    break;
                }
                (run, bytes) = (Vec::new(), 0);
            }
            if is_small(&part) {
                bytes += part.file.bytes;
                run.push(part);
            }
            if bytes >= self.due.bytes && run.len() > 1 {
                return Ok(Some(run));
            }
        }
        Ok((run.len() >= self.due.files).then_some(run))
    }

    /// Whether a day has no row between two ranges.
    fn follows(&self, runtime: &Handle, one: Batch, next: Batch, day: UtcMicros) -> Result<bool, ExportError> {
        let between = Batch { first_seq: one.last_seq + 1, last_seq: next.first_seq.saturating_sub(1) };
        if next.first_seq <= one.last_seq || between.first_seq > between.last_seq {
            return Ok(next.first_seq == one.last_seq + 1);
        }
        Ok(runtime.block_on(self.store.columns_of_day(self.log, between, day, 1))?.is_none())
    }

    /// Writes one file of these, and puts it in their place.
    fn join(
        &self,
        runtime: &Handle,
        partition: &str,
        parts: &[Part],
        now: UtcMicros,
        reached: Reached,
    ) -> Result<Joined, ExportError> {
        let whole = Batch {
            first_seq: parts[0].range.first_seq,
            last_seq: parts.last().expect("there are two at least").range.last_seq,
        };
        let (replacing, file) = Replacing::begin(&self.place, partition, &name(whole))?;
        reached()?;
        let path = replacing.path();
        let schema = Arc::new(self.log.schema());
        let mut writer = ArrowWriter::try_new(file, Arc::clone(&schema), Some(layout())).map_err(at(&path))?;
        let (mut expected, mut copied) = (0, 0);
        for part in parts {
            let bytes = self.place.read(runtime, partition, &part.file.name)?;
            let reader = ParquetRecordBatchReaderBuilder::try_new(bytes).map_err(at(part.file.name.as_ref()))?;
            if reader.schema().fields() != schema.fields() {
                return Ok(Joined::HasOther(part.file.name.clone()));
            }
            expected += reader.metadata().file_metadata().num_rows() as usize;
            let rows = reader.with_batch_size(self.rows_per_page as usize).build();
            for rows in rows.map_err(at(part.file.name.as_ref()))? {
                let rows = rows.map_err(at(part.file.name.as_ref()))?;
                copied += rows.num_rows();
                writer.write(&rows).map_err(at(&path))?;
            }
            reached()?;
        }
        assert_eq!(copied, expected, "every row is copied");
        let file = writer.into_inner().map_err(at(&path))?;
        reached()?;
        let names: Vec<&str> = parts.iter().map(|part| part.file.name.as_str()).collect();
        replacing.finish(file, &names, (&self.store, whole, now), runtime, reached)?;
        Ok(Joined::Done)
    }
}
