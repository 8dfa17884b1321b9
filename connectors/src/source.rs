//! What every source of uploads can do: deliver under a lease, and take an acknowledgement.

use std::sync::Arc;

use futures::FutureExt;
use futures::future::BoxFuture;
use records::{Fault, Lane};

use crate::store;
pub use crate::store::Pending;

/// The claim on one delivery, to be acknowledged, released or extended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Lease {
    /// A message of the store's queue.
    Spool(store::Lease),
    /// A message that the source itself holds, under a number that it never gives out again.
    Held(u64),
}

/// A message that nobody else gets while the lease holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// The claim on it.
    pub lease: Lease,
    /// The event's bytes.
    pub payload: Arc<[u8]>,
}

/// A source of uploads with a high and a low lane. Every call may fail and be repeated.
pub trait Source: Send + Sync {
    /// At most `max` messages of a lane, oldest first, each leased; none where nothing is ready.
    fn pull(&self, lane: Lane, max: usize) -> BoxFuture<'_, Result<Vec<Delivery>, Fault>>;

    /// Holds messages for longer, because the work goes on; how many of the leases still held.
    fn extend<'a>(&'a self, leases: &'a [Lease]) -> BoxFuture<'a, Result<u64, Fault>>;

    /// Ends messages: their outcomes are durable.
    fn acknowledge<'a>(&'a self, leases: &'a [Lease]) -> BoxFuture<'a, Result<(), Fault>>;

    /// Gives messages back, to be delivered to somebody else at once.
    fn release<'a>(&'a self, leases: &'a [Lease]) -> BoxFuture<'a, Result<(), Fault>>;

    /// What a lane has that is not acknowledged, as far as the source can tell.
    fn pending(&self, lane: Lane) -> BoxFuture<'_, Result<Pending, Fault>>;

    /// How long a lease holds; whoever holds one extends it well before.
    fn lease_ms(&self) -> u64;

    /// Messages of a lane so far that were about something else than an upload, and were acknowledged unseen.
    fn skipped(&self, _lane: Lane) -> u64 {
        0
    }

    /// Takes nothing further, gives back what nobody pulled, and waits until every message that somebody did is ended and the
    /// system was told of it.
    fn close(&self) -> BoxFuture<'_, ()> {
        futures::future::ready(()).boxed()
    }
}
