//! Chooses the uploads of a run, once: what is written down here is what is replayed, whatever ends meanwhile.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use connectors::history::{HistoryError, Piece, parquet_pieces, pieces};
use connectors::objects::Objects;
use connectors::parquet::WholeFile;
use connectors::store::Store;
use records::{Lane, Outcome, UploadId, outcome_batch, outcome_schema};
use tokio::runtime::Handle;

use super::{ReplayError, Wanted};

/// Outcomes that are read of a store at once.
const PAGE: usize = 1_000;

/// Where outcomes of the past are. They are only read.
#[derive(Clone, Debug)]
pub enum Past {
    /// The log of a store.
    Store(Store),
    /// Files, and where to fetch Parquet files in buckets.
    Files(Arc<Objects>, Vec<PastFile>),
}

/// A file of outcomes.
#[derive(Clone, Debug)]
pub enum PastFile {
    /// A part of one on this machine.
    Here(Piece),
    /// The address of one in a bucket, which is here while it is read.
    InBucket(String),
}

impl Past {
    /// The outcomes in these files and folders, and below these addresses of buckets: `gs://BUCKET/PREFIX`, `s3://BUCKET/PREFIX`.
    ///
    /// # Errors
    /// [`ReplayError`], where there is nothing to read.
    pub async fn files(paths: &[PathBuf], objects: Arc<Objects>) -> Result<Self, ReplayError> {
        let mut files = Vec::new();
        for path in paths {
            match path.to_str().filter(|path| path.contains("://")) {
                None => files.extend(pieces(std::slice::from_ref(path))?.into_iter().map(PastFile::Here)),
                Some(url) => {
                    let addresses = objects.list(url, ".parquet").await?;
                    if addresses.is_empty() {
                        return Err(HistoryError::Nothing { path: path.clone() }.into());
                    }
                    files.extend(addresses.into_iter().map(PastFile::InBucket));
                }
            }
        }
        Ok(Self::Files(objects, files))
    }

    /// Lets go of it.
    pub async fn close(self) {
        if let Self::Store(store) = self {
            store.close().await;
        }
    }

    /// Hands over all outcomes, page by page.
    fn each(
        &self,
        runtime: &Handle,
        mut page: impl FnMut(Vec<Outcome>) -> Result<(), ReplayError>,
    ) -> Result<(), ReplayError> {
        match self {
            Self::Files(objects, files) => files.iter().try_for_each(|file| match file {
                PastFile::Here(piece) => piece.outcomes(&mut page),
                PastFile::InBucket(address) => {
                    let fetched = runtime.block_on(objects.fetch(address, Lane::Low))?;
                    parquet_pieces(fetched.path())?.iter().try_for_each(|piece| piece.outcomes(&mut page))
                }
            }),
            Self::Store(store) => {
                let mut after = 0;
                loop {
                    let found = runtime.block_on(store.outcomes_after(after, PAGE))?;
                    let Some((last, _)) = found.last() else { return Ok(()) };
                    after = *last;
                    page(found.into_iter().map(|(_, outcome)| outcome).collect())?;
                }
            }
        }
    }
}

/// Writes the outcomes of the uploads that are wanted to a file, one an upload: of one that was redriven, the last. The past
/// is gone through twice, and memory is that of the uploads' ids. Tells how many there are.
///
/// # Errors
/// [`ReplayError`]. Then there is no file.
///
/// # Panics
/// On a thread of the runtime's own.
pub fn choose(past: &Past, wanted: &Wanted, file: &Path, runtime: &Handle) -> Result<u64, ReplayError> {
    let mut last: HashMap<UploadId, u32> = HashMap::new();
    past.each(runtime, |outcomes| {
        for outcome in outcomes.into_iter().filter(|outcome| wanted.takes(outcome)) {
            let version = last.entry(outcome.upload_id).or_default();
            *version = outcome.version.max(*version);
        }
        Ok(())
    })?;
    if last.is_empty() {
        return Err(ReplayError::Nothing);
    }
    let uploads = last.len() as u64;
    let mut writer = WholeFile::begin(file, outcome_schema())?;
    past.each(runtime, |mut outcomes| {
        outcomes.retain(|outcome| {
            let is_last = wanted.takes(outcome) && last.get(&outcome.upload_id) == Some(&outcome.version);
            // What stands in two files counts once.
            is_last && last.remove(&outcome.upload_id).is_some()
        });
        Ok(writer.write(outcome_batch(&outcomes))?)
    })?;
    assert!(last.is_empty(), "the past does not change while it is read");
    writer.finish()?;
    Ok(uploads)
}
