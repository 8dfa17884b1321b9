//! Puts the uploads of a run in its queue, each once, and says what is left to do.

use std::path::Path;

use connectors::history::pieces;
use connectors::store::Store;
use records::{Lane, Outcome, UtcMicros};
use tokio::runtime::Handle;

use super::ReplayError;

/// The sink under whose name the run's store keeps how many rows of the file were put in the queue.
const FED: &str = "replay";

/// Puts what of `original` is not in the queue yet there; tells `reached` after each step that a crash may follow. A page that
/// was put there by a process that died before it noted so is put there again, and answered as redeliveries are.
///
/// # Errors
/// [`ReplayError`], and that of `reached`. The next call goes on from there.
pub fn feed(
    store: &Store,
    original: &Path,
    now: fn() -> UtcMicros,
    runtime: &Handle,
    reached: &mut dyn FnMut() -> Result<(), ReplayError>,
) -> Result<(), ReplayError> {
    let fed = runtime.block_on(store.sink_position(FED))?;
    let mut row = 0;
    for piece in pieces(&[original.to_owned()])? {
        let behind = row + piece.rows().unwrap_or_default();
        if behind <= fed {
            row = behind;
            continue;
        }
        piece.outcomes(|page| -> Result<(), ReplayError> {
            row += page.len() as u64;
            if row <= fed {
                return Ok(());
            }
            // Pages are always cut alike, so this one was not put there, or not noted.
            let messages: Vec<_> = page.iter().filter_map(event).map(|event| (Lane::Low, event)).collect();
            runtime.block_on(store.enqueue(&messages, now()))?;
            reached()?;
            runtime.block_on(store.advance_sink(FED, row))?;
            reached()
        })?;
    }
    Ok(())
}

/// The event of an upload; `None` where that could not be read in the past.
fn event(outcome: &Outcome) -> Option<Vec<u8>> {
    outcome.upload().map(|upload| serde_json::to_vec(&upload).expect("an upload is JSON"))
}

/// How many uploads of a run that was fed have no outcome yet, or none that was acknowledged.
///
/// # Errors
/// [`ReplayError`].
pub async fn left(store: &Store, now: UtcMicros) -> Result<u64, ReplayError> {
    let mut left = 0;
    for lane in Lane::ALL {
        let pending = store.pending(lane, now).await?;
        left += pending.ready + pending.leased;
    }
    Ok(left)
}
