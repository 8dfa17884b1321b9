//! What the graph asks of a store, for tests.

use connectors::store::{Store, Write};
use records::{Admitted, Lane, Outcome, UploadId, UtcMicros};

use crate::make::{START, attempts, id, payload};

/// What the graph hands over for an outcome.
pub(crate) fn ending(number: u64, outcome: Outcome) -> Write {
    let attempts = attempts(&outcome);
    (outcome, attempts, payload(number).into())
}

/// Admits uploads by their numbers, all arriving at [`START`].
pub(crate) async fn admit(store: &Store, numbers: impl IntoIterator<Item = u64>) -> Vec<Admitted> {
    let uploads: Vec<(UploadId, Lane, UtcMicros)> =
        numbers.into_iter().map(|number| (id(number), Lane::ALL[number as usize % 2], START)).collect();
    store.admit(&uploads).await.expect("admitted")
}
