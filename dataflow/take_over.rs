//! Takes a broker's messages over into the store's queue, so that no lease of the broker has to live as long as the work.

use std::sync::Arc;
use std::time::Duration;

use connectors::source::Source;
use connectors::spool::fault;
use connectors::store::Store;
use records::{Fault, Lane, UtcMicros};
use tokio::sync::watch;

use crate::health::Health;

/// What is not ready where it fails, by lane.
const TAKE_OVER: [&str; 2] = ["take the high lane over from the source", "take the low lane over from the source"];
/// The most messages that one transaction brings.
const BATCH: usize = 256;
/// How soon an empty lane is looked at again.
const POLL: Duration = Duration::from_millis(20);
/// How soon it is tried again after a failure; the pause doubles up to the longest.
const PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// Starts one task a lane, until `stopped`. A message is acknowledged when it is durable in the store; one whose
/// acknowledgement is lost comes again, and is a redelivery of its upload.
pub fn start(
    broker: &Arc<dyn Source>,
    store: &Store,
    health: &Arc<Health>,
    clock: fn() -> UtcMicros,
    stopped: &watch::Receiver<bool>,
) {
    for lane in Lane::ALL {
        let (broker, store, health) = (Arc::clone(broker), store.clone(), Arc::clone(health));
        let mut over = TakeOver { lane, broker, store, health, clock, stopped: stopped.clone() };
        tokio::spawn(async move {
            while let Some(taken) = over.round().await {
                if taken == 0 && over.is_stopped_within(POLL).await {
                    return;
                }
            }
        });
    }
}

/// One lane's messages on their way.
struct TakeOver {
    lane: Lane,
    broker: Arc<dyn Source>,
    store: Store,
    health: Arc<Health>,
    clock: fn() -> UtcMicros,
    stopped: watch::Receiver<bool>,
}

impl TakeOver {
    /// One transaction's messages; how many, or `None` where it was told to stop.
    async fn round(&mut self) -> Option<usize> {
        if *self.stopped.borrow() {
            return None;
        }
        let (broker, store, clock) = (Arc::clone(&self.broker), self.store.clone(), self.clock);
        let deliveries = self.until_done(|| broker.pull(self.lane, BATCH)).await?;
        if deliveries.is_empty() {
            return Some(0);
        }
        let leases: Vec<_> = deliveries.iter().map(|delivery| delivery.lease).collect();
        let messages: Vec<_> = deliveries.iter().map(|delivery| (self.lane, &delivery.payload[..])).collect();
        // Given back at each failure, they would be delivered, and counted as delivered, again and again.
        let enqueue = || async { store.enqueue(&messages, clock()).await.map_err(fault) };
        if self.until_done(enqueue).await.is_none() {
            if let Err(error) = broker.release(&leases).await {
                tracing::warn!(lane = %self.lane, %error, "cannot give back what was not taken over; its leases will run out");
            }
            return None;
        }
        self.until_done(|| broker.acknowledge(&leases)).await?;
        Some(leases.len())
    }

    /// Repeats work until it is done; `None` where it failed and was told to stop.
    async fn until_done<T, F: Future<Output = Result<T, Fault>>>(&self, work: impl Fn() -> F) -> Option<T> {
        let (mut stopped, what) = (self.stopped.clone(), TAKE_OVER[self.lane as usize]);
        let mut pause = PAUSE;
        loop {
            match work().await {
                Ok(done) => {
                    self.health.works(what);
                    return Some(done);
                }
                Err(error) => {
                    self.health.failed(what, &error);
                    tracing::warn!(%error, ?pause, "cannot {what}; trying again");
                }
            }
            if tokio::time::timeout(pause, stopped.wait_for(|stopped| *stopped)).await.is_ok() {
                return None;
            }
            pause = LONGEST_PAUSE.min(pause * 2);
        }
    }

    async fn is_stopped_within(&mut self, pause: Duration) -> bool {
        tokio::time::timeout(pause, self.stopped.wait_for(|stopped| *stopped)).await.is_ok()
    }
}

#[cfg(test)]
mod tests {
    use connectors::listed::Listed;

    use super::*;

    const UPLOADS: usize = 600;

    fn taking(broker: &Arc<Listed>, store: &Store, stopped: watch::Receiver<bool>) -> TakeOver {
        let (broker, health) = (Arc::clone(broker) as Arc<dyn Source>, Arc::new(Health::default()));
        TakeOver { lane: Lane::High, broker, store: store.clone(), health, clock: || UtcMicros(1), stopped }
    }

    #[tokio::test]
    async fn a_message_is_durable_in_the_queue_before_it_is_acknowledged() {
        let folder = tempfile::tempdir().expect("a folder");
        let store = Store::open(&folder.path().join("tidemark.db")).await.expect("a store");
        let events: Vec<Arc<[u8]>> = (0..UPLOADS).map(|number| number.to_string().into_bytes().into()).collect();
        let broker = Arc::new(Listed::new(events.clone()));
        let (_stop, stopped) = watch::channel(false);
        let mut over = taking(&broker, &store, stopped);
        let mut taken = 0;
        loop {
            let before = store.pending(Lane::High, UtcMicros(2)).await.expect("counted").ready as usize;
            assert_eq!(before, taken, "what was taken is in the queue");
            match over.round().await.expect("nobody stops it") {
                0 => break,
                more => taken += more,
            }
            let open = broker.pending(Lane::High).await.expect("counted");
            assert_eq!(
                (open.ready as usize, open.leased),
                (UPLOADS - taken, 0),
                "what is in the queue is acknowledged"
            );
        }
        let queued = store.lease(Lane::High, UPLOADS + 1, UtcMicros(9), UtcMicros(2)).await.expect("leased");
        assert_eq!(queued.into_iter().map(|it| it.payload).collect::<Vec<_>>(), events, "all, once, in order");
    }

    #[tokio::test]
    async fn a_message_that_the_store_does_not_take_is_given_back_and_not_acknowledged() {
        let folder = tempfile::tempdir().expect("a folder");
        let store = Store::open(&folder.path().join("tidemark.db")).await.expect("a store");
        store.clone().close().await;
        let broker = Arc::new(Listed::new(vec![b"1".as_slice().into()]));
        let (stop, stopped) = watch::channel(false);
        let mut over = taking(&broker, &store, stopped);
        let health = Arc::clone(&over.health);
        let round = tokio::spawn(async move { over.round().await });
        while health.check().is_ok() {
            tokio::task::yield_now().await;
        }
        stop.send_replace(true);
        assert_eq!(round.await.expect("it ends"), None, "it is told to stop while the store is closed");
        assert_eq!(broker.pending(Lane::High).await.expect("counted").leased, 1, "nobody ended it");
    }
}
