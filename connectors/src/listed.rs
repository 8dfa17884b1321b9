//! A source that is a list: uploads named on a command line.

use std::collections::{BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::FutureExt;
use futures::future::{BoxFuture, ready};
use records::{Fault, Lane};

use crate::source::{Delivery, Lease, Pending, Source};

/// Events in memory, delivered once each in the high lane.
pub struct Listed {
    left: Mutex<Left>,
}

struct Left {
    events: VecDeque<(u64, Arc<[u8]>)>,
    leased: BTreeSet<u64>,
}

impl Listed {
    /// A source of these events.
    pub fn new(events: Vec<Arc<[u8]>>) -> Self {
        Self { left: Mutex::new(Left { events: (1..).zip(events).collect(), leased: BTreeSet::new() }) }
    }

    fn left(&self) -> MutexGuard<'_, Left> {
        self.left.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Source for Listed {
    fn pull(&self, lane: Lane, max: usize) -> BoxFuture<'_, Result<Vec<Delivery>, Fault>> {
        let mut left = self.left();
        let count = if lane == Lane::High { max.min(left.events.len()) } else { 0 };
        let taken: Vec<_> = left.events.drain(..count).collect();
        left.leased.extend(taken.iter().map(|(message, _)| message));
        let delivery = |(message, payload)| Delivery { lease: Lease::Held(message), payload };
        ready(Ok(taken.into_iter().map(delivery).collect())).boxed()
    }

    fn extend<'a>(&'a self, leases: &'a [Lease]) -> BoxFuture<'a, Result<u64, Fault>> {
        ready(Ok(leases.len() as u64)).boxed()
    }

    fn acknowledge<'a>(&'a self, leases: &'a [Lease]) -> BoxFuture<'a, Result<(), Fault>> {
        let mut left = self.left();
        for lease in leases {
            if let Lease::Held(message) = lease {
                left.leased.remove(message);
            }
        }
        ready(Ok(())).boxed()
    }

    /// Whoever listed the uploads sees that they have no outcome.
    fn release<'a>(&'a self, _: &'a [Lease]) -> BoxFuture<'a, Result<(), Fault>> {
        ready(Ok(())).boxed()
    }

    fn pending(&self, lane: Lane) -> BoxFuture<'_, Result<Pending, Fault>> {
        let left = self.left();
        let pending = match lane {
            Lane::High => {
                Pending { ready: left.events.len() as u64, leased: left.leased.len() as u64, ..Pending::default() }
            }
            Lane::Low => Pending::default(),
        };
        ready(Ok(pending)).boxed()
    }

    fn lease_ms(&self) -> u64 {
        u64::from(u32::MAX)
    }
}
