//! What the graph asks of a store, for tests.

use connectors::store::{Store, StoreUrl, Write};
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

/// Opens a store that is not there yet in many tasks at once, which all must get the same.
pub(crate) async fn all_open_one_store(url: &StoreUrl) {
    let open = |_| {
        let url = url.clone();
        tokio::spawn(async move { Store::open(url).await })
    };
    let opened: Vec<_> = (0..12).map(open).collect();
    for (number, store) in opened.into_iter().enumerate() {
        let store = store.await.expect("no panic").expect("opens");
        let ids = store.enqueue(&[(Lane::High, b"event")], START).await.expect("works");
        assert_eq!(ids, [number as u64 + 1], "all are one store");
    }
}
