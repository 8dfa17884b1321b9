//! A broker's lanes and the store's queue as one source: dead letters that are redriven wait in the queue.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures::FutureExt;
use futures::future::BoxFuture;
use records::{Fault, Lane};

use crate::source::{Delivery, Lease, Pending, Source};
use crate::spool::Spool;

/// A source that looks at both in turns: neither a long queue of redriven uploads nor a busy broker keeps the other waiting.
pub struct WithSpool {
    broker: Arc<dyn Source>,
    spool: Spool,
    /// By lane, whether the broker is looked at first.
    broker_first: [AtomicBool; 2],
}

impl WithSpool {
    /// Both as one.
    pub fn new(broker: Arc<dyn Source>, spool: Spool) -> Self {
        Self { broker, spool, broker_first: Default::default() }
    }
}

/// The leases of the queue, and the broker's.
fn parted(leases: &[Lease]) -> (Vec<Lease>, Vec<Lease>) {
    leases.iter().partition(|lease| matches!(lease, Lease::Spool(_)))
}

impl Source for WithSpool {
    fn pull(&self, lane: Lane, max: usize) -> BoxFuture<'_, Result<Vec<Delivery>, Fault>> {
        async move {
            let sources: [&dyn Source; 2] = [&*self.broker, &self.spool];
            let broker_first = self.broker_first[lane as usize].fetch_not(Ordering::Relaxed);
            let [first, second] = if broker_first { sources } else { [sources[1], sources[0]] };
            let waiting = first.pull(lane, max).await?;
            if waiting.is_empty() { second.pull(lane, max).await } else { Ok(waiting) }
        }
        .boxed()
    }

    fn extend<'a>(&'a self, leases: &'a [Lease]) -> BoxFuture<'a, Result<u64, Fault>> {
        async move {
            let (spool, broker) = parted(leases);
            let held = self.broker.extend(&broker).await?;
            Ok(held + self.spool.extend(&spool).await?)
        }
        .boxed()
    }

    fn acknowledge<'a>(&'a self, leases: &'a [Lease]) -> BoxFuture<'a, Result<(), Fault>> {
        async move {
            let (spool, broker) = parted(leases);
            self.broker.acknowledge(&broker).await?;
            self.spool.acknowledge(&spool).await
        }
        .boxed()
    }

    fn release<'a>(&'a self, leases: &'a [Lease]) -> BoxFuture<'a, Result<(), Fault>> {
        async move {
            let (spool, broker) = parted(leases);
            self.broker.release(&broker).await?;
            self.spool.release(&spool).await
        }
        .boxed()
    }

    fn pending(&self, lane: Lane) -> BoxFuture<'_, Result<Pending, Fault>> {
        async move {
            let (spool, broker) = (self.spool.pending(lane).await?, self.broker.pending(lane).await?);
            Ok(Pending {
                ready: spool.ready + broker.ready,
                leased: spool.leased + broker.leased,
                oldest_enqueued_at: spool.oldest_enqueued_at.into_iter().chain(broker.oldest_enqueued_at).min(),
            })
        }
        .boxed()
    }

    /// Whoever keeps the shorter lease alive keeps both.
    fn lease_ms(&self) -> u64 {
        self.spool.lease_ms().min(self.broker.lease_ms())
    }

    fn skipped(&self, lane: Lane) -> u64 {
        self.broker.skipped(lane)
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        self.broker.close()
    }
}
