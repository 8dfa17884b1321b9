//! What every source of uploads can do: deliver under a lease, and take an acknowledgement.

use futures::future::BoxFuture;
use records::{Fault, Lane};

pub use crate::store::{Delivery, Lease, Pending};

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

    /// What a lane has that is not acknowledged.
    fn pending(&self, lane: Lane) -> BoxFuture<'_, Result<Pending, Fault>>;

    /// How long a lease holds; whoever holds one extends it well before.
    fn lease_ms(&self) -> u64;
}
