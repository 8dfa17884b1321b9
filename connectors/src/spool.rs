//! The store's queue as a source.

use futures::FutureExt;
use futures::future::BoxFuture;
use records::{ErrorType, Fault, FaultClass, Lane, UtcMicros};

use crate::source::{Delivery, Lease, Pending, Source};
use crate::store::{self, Store, StoreError};

/// The embedded source: leases are rows, so that they outlive whoever took them.
pub struct Spool {
    store: Store,
    lease_ms: u64,
    now: fn() -> UtcMicros,
}

impl Spool {
    /// The spool in `store`, with leases of `lease_ms` milliseconds by the clock `now`.
    pub fn new(store: Store, lease_ms: u64, now: fn() -> UtcMicros) -> Self {
        Self { store, lease_ms, now }
    }

    fn until(&self) -> UtcMicros {
        (self.now)().plus_ms(self.lease_ms)
    }
}

impl Source for Spool {
    fn pull(&self, lane: Lane, max: usize) -> BoxFuture<'_, Result<Vec<Delivery>, Fault>> {
        async move {
            let now = (self.now)();
            // A look is cheap; taking the writer's turn for nothing would make commits wait.
            if !self.store.is_ready(lane, now).await.map_err(fault)? {
                return Ok(Vec::new());
            }
            let leased = self.store.lease(lane, max, self.until(), now).await.map_err(fault)?;
            let delivery = |it: store::Delivery| Delivery { lease: Lease::Spool(it.lease), payload: it.payload };
            Ok(leased.into_iter().map(delivery).collect())
        }
        .boxed()
    }

    fn extend<'a>(&'a self, leases: &'a [Lease]) -> BoxFuture<'a, Result<u64, Fault>> {
        async move { self.store.extend(&rows(leases), self.until()).await.map_err(fault) }.boxed()
    }

    fn acknowledge<'a>(&'a self, leases: &'a [Lease]) -> BoxFuture<'a, Result<(), Fault>> {
        async move { self.store.acknowledge(&rows(leases)).await.map_err(fault) }.boxed()
    }

    fn release<'a>(&'a self, leases: &'a [Lease]) -> BoxFuture<'a, Result<(), Fault>> {
        async move { self.store.release(&rows(leases)).await.map_err(fault) }.boxed()
    }

    fn pending(&self, lane: Lane) -> BoxFuture<'_, Result<Pending, Fault>> {
        async move { self.store.pending(lane, (self.now)()).await.map_err(fault) }.boxed()
    }

    fn lease_ms(&self) -> u64 {
        self.lease_ms
    }
}

/// The queue's own leases; there are no others here.
fn rows(leases: &[Lease]) -> Vec<store::Lease> {
    let row = |lease: &Lease| match lease {
        Lease::Spool(row) => *row,
        Lease::Held(number) => panic!("lease {number} is of another source"),
    };
    leases.iter().map(row).collect()
}

/// A failure of the store as a fault.
pub fn fault(error: StoreError) -> Fault {
    let (unavailable, message) = (ErrorType::Unavailable, error.to_string());
    match error.class() {
        FaultClass::Permanent => Fault::permanent(unavailable, message),
        FaultClass::Retryable => Fault::retryable(unavailable, message),
        FaultClass::Indeterminate => Fault::indeterminate(unavailable, message),
    }
}
