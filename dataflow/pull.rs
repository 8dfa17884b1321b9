//! Feeds the graph from a source: as much as each lane's permits allow, and no more.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use connectors::source::{Lease, Source};
use operators::bridge::Sender;
use operators::{Arrival, Ticket};
use records::Lane;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::Instant;

use crate::health::Health;

/// What is not ready where a source fails, by lane.
const PULL: [&str; 2] = ["pull the high lane from the source", "pull the low lane from the source"];
/// How soon an empty lane is looked at again.
const POLL: Duration = Duration::from_millis(20);
/// How soon a source that failed is tried again.
const PAUSE: Duration = Duration::from_millis(500);
/// The most uploads that go together: from the source, and in a transaction.
const GROUP: usize = 256;
/// As many low-priority ones where high-priority ones come, which wait for such a transaction wherever they go; and how many
/// groups are so small after each of those.
const SMALL_GROUP: usize = 24;
const SMALL_GROUPS: usize = 1000;
/// How long low-priority ones stand back, wherever they are about to go to the store, while a high-priority one is in flight;
/// and how soon they see that none is any more. Where one always is, bulk goes on by a small group each time.
pub(crate) const STAND_BACK: Duration = Duration::from_millis(20);
pub(crate) const LOOK: Duration = Duration::from_millis(1);

/// The leases of all that is in flight.
#[derive(Default)]
pub(crate) struct Held(Mutex<Leases>);

#[derive(Default)]
struct Leases {
    /// By delivery.
    held: BTreeMap<u64, (Lane, Lease)>,
    deliveries: u64,
    /// How many are of the high lane.
    high: usize,
    /// How many more groups of the low lane are small.
    small_groups: usize,
}

impl Held {
    fn lock(&self) -> MutexGuard<'_, Leases> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn take(&self, lane: Lane, lease: Lease) -> u64 {
        let mut leases = self.lock();
        leases.deliveries += 1;
        let delivery = leases.deliveries;
        leases.held.insert(delivery, (lane, lease));
        if lane == Lane::High {
            leases.high += 1;
            leases.small_groups = SMALL_GROUPS;
        }
        delivery
    }

    pub(crate) fn lease(&self, delivery: u64) -> Option<Lease> {
        self.lock().held.get(&delivery).map(|(_, lease)| *lease)
    }

    pub(crate) fn let_go(&self, delivery: u64) {
        let mut leases = self.lock();
        if let Some((Lane::High, _)) = leases.held.remove(&delivery) {
            leases.high -= 1;
        }
    }

    /// How many of these leases are still worked under.
    fn count(&self, asked: &[Lease]) -> u64 {
        let leases = self.lock();
        let is_held = |lease: &&Lease| leases.held.values().any(|(_, held)| held == *lease);
        asked.iter().filter(is_held).count() as u64
    }

    pub(crate) fn leases(&self) -> Vec<Lease> {
        self.lock().held.values().map(|(_, lease)| *lease).collect()
    }

    /// Whether a high-priority upload is in flight.
    pub(crate) fn has_high(&self) -> bool {
        self.lock().high > 0
    }

    /// How many uploads of a lane may go together now.
    pub(crate) fn group(&self, lane: Lane) -> usize {
        let mut leases = self.lock();
        if lane == Lane::High || (leases.high == 0 && leases.small_groups == 0) {
            return GROUP;
        }
        leases.small_groups = leases.small_groups.saturating_sub(1);
        SMALL_GROUP
    }
}

/// What feeds the graph.
#[derive(Clone)]
pub(crate) struct Pull {
    pub(crate) source: Arc<dyn Source>,
    pub(crate) health: Arc<Health>,
    pub(crate) arrivals: Sender<Arrival>,
    pub(crate) held: Arc<Held>,
    pub(crate) stopped: watch::Receiver<bool>,
}

impl Pull {
    /// One task a lane, so that neither waits for the other, and one that keeps the leases alive.
    pub(crate) fn start(self, max_in_flight: [usize; 2]) {
        for lane in Lane::ALL {
            let permits = Arc::new(Semaphore::new(max_in_flight[lane as usize]));
            tokio::spawn(self.clone().lane(lane, permits));
        }
        tokio::spawn(keep(self.source, Arc::downgrade(&self.held)));
    }

    async fn lane(mut self, lane: Lane, permits: Arc<Semaphore>) {
        while !*self.stopped.borrow() {
            let permit = tokio::select! {
                _ = self.stopped.changed() => break,
                permit = Arc::clone(&permits).acquire_owned() => permit.expect("the lane's permits are never closed"),
            };
            if lane == Lane::Low {
                self.stand_back().await;
            }
            // Not to be cut short: what the source leased has to reach the graph.
            let Some(pause) = self.round(lane, permit, &permits).await else { continue };
            tokio::select! {
                _ = self.stopped.changed() => break,
                () = tokio::time::sleep(pause) => {}
            }
        }
        tracing::info!(%lane, "pulls nothing further");
    }

    /// Lets a high-priority upload end first, for a while.
    async fn stand_back(&self) {
        let until = Instant::now() + STAND_BACK;
        while self.held.has_high() && Instant::now() < until {
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Brings what is ready and permitted into the graph; how long to wait where nothing was.
    async fn round(&self, lane: Lane, permit: OwnedSemaphorePermit, permits: &Arc<Semaphore>) -> Option<Duration> {
        let (mut free, most) = (vec![permit], self.held.group(lane));
        while free.len() < most
            && let Ok(permit) = Arc::clone(permits).try_acquire_owned()
        {
            free.push(permit);
        }
        let deliveries = match self.source.pull(lane, free.len()).await {
            Ok(deliveries) => {
                self.health.works(PULL[lane as usize]);
                deliveries
            }
            Err(error) => {
                self.health.failed(PULL[lane as usize], &error);
                tracing::warn!(%lane, %error, "the source cannot be pulled; trying again");
                return Some(PAUSE);
            }
        };
        let found_nothing = deliveries.is_empty();
        for (delivery, permit) in deliveries.into_iter().zip(free) {
            let ticket = Ticket { delivery: self.held.take(lane, delivery.lease), lane, permit: Arc::new(permit) };
            if !self.arrivals.send(Arrival { payload: delivery.payload, ticket }) {
                return Some(PAUSE);
            }
        }
        found_nothing.then_some(POLL)
    }
}

/// Extends what is held, until the worker is gone.
async fn keep(source: Arc<dyn Source>, held: std::sync::Weak<Held>) {
    let mut ticks = tokio::time::interval(Duration::from_millis(source.lease_ms() / 3));
    loop {
        ticks.tick().await;
        let Some(held) = held.upgrade() else { return };
        let leases = held.leases();
        match source.extend(&leases).await {
            Ok(extended) => {
                // Those acknowledged meanwhile are no loss.
                let lost = held.count(&leases).saturating_sub(extended);
                if lost > 0 {
                    tracing::warn!(
                        lost,
                        "leases ran out while the work goes on; these uploads are delivered twice and end once"
                    );
                }
            }
            Err(error) => {
                tracing::warn!(%error, "leases cannot be extended; what runs out will be delivered twice and counted once");
            }
        }
    }
}
