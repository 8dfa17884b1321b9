//! The uploads of a run, each outcome of the past beside that of the replay.

use std::path::Path;

use connectors::history::pieces;
use connectors::parquet::WholeFile;
use connectors::store::Store;
use records::{Outcome, Pair, pair_batch, pair_schema};
use tokio::runtime::Handle;

use super::{ReplayError, Run};

/// The only version there is in the run's store: nothing is redriven in it.
const VERSION: u32 = 1;

/// Hands over the pairs, page by page, in the order in which the uploads were chosen.
///
/// # Errors
/// [`ReplayError`], and that of `page`.
///
/// # Panics
/// On a thread of the runtime's own.
pub fn pairs(
    run: &Run,
    store: &Store,
    runtime: &Handle,
    mut page: impl FnMut(Vec<Pair>) -> Result<(), ReplayError>,
) -> Result<(), ReplayError> {
    for piece in pieces(&[run.original()])? {
        piece.outcomes(|originals| {
            let asked: Vec<_> = originals.iter().map(|original| (&original.upload_id, VERSION)).collect();
            let mut found = runtime.block_on(store.versions(&asked))?;
            let pair = |original: Outcome| {
                let replay = found.remove(&(original.upload_id.clone(), VERSION));
                Pair { original, replay }
            };
            page(originals.into_iter().map(pair).collect())
        })?;
    }
    Ok(())
}

/// Writes the pairs to a file, a row each.
///
/// # Errors
/// [`ReplayError`]. Then what was at the file's place is still there.
///
/// # Panics
/// On a thread of the runtime's own.
pub fn write_pairs(run: &Run, store: &Store, runtime: &Handle, file: &Path) -> Result<(), ReplayError> {
    let mut writer = WholeFile::begin(file, pair_schema())?;
    pairs(run, store, runtime, |page| Ok(writer.write(pair_batch(&page))?))?;
    Ok(writer.finish()?)
}
