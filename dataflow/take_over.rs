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
/// How soon it is tried again after a failure.
const PAUSE: Duration = Duration::from_millis(500);

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
        let mut stopped = stopped.clone();
        tokio::spawn(async move {
            while !*stopped.borrow() {
                let pause = match round(&*broker, &store, lane, clock).await {
                    Ok(taken) => {
                        health.works(TAKE_OVER[lane as usize]);
                        if taken > 0 { Duration::ZERO } else { POLL }
                    }
                    Err(error) => {
                        health.failed(TAKE_OVER[lane as usize], &error);
                        tracing::warn!(%lane, %error, "cannot take over from the source; trying again");
                        PAUSE
                    }
                };
                tokio::select! {
                    _ = stopped.changed() => {}
                    () = tokio::time::sleep(pause) => {}
                }
            }
        });
    }
}

/// One transaction's messages; how many.
async fn round(broker: &dyn Source, store: &Store, lane: Lane, clock: fn() -> UtcMicros) -> Result<usize, Fault> {
    let deliveries = broker.pull(lane, BATCH).await?;
    if deliveries.is_empty() {
        return Ok(0);
    }
    let leases: Vec<_> = deliveries.iter().map(|delivery| delivery.lease).collect();
    let messages: Vec<_> = deliveries.iter().map(|delivery| (lane, &delivery.payload[..])).collect();
    if let Err(error) = store.enqueue(&messages, clock()).await {
        broker.release(&leases).await?;
        return Err(fault(error));
    }
    broker.acknowledge(&leases).await?;
    Ok(leases.len())
}

#[cfg(test)]
mod tests {
    use connectors::listed::Listed;

    use super::*;

    const UPLOADS: usize = 600;

    #[tokio::test]
    async fn a_message_is_durable_in_the_queue_before_it_is_acknowledged() {
        let folder = tempfile::tempdir().expect("a folder");
        let store = Store::open(&folder.path().join("tidemark.db")).await.expect("a store");
        let events: Vec<Arc<[u8]>> = (0..UPLOADS).map(|number| number.to_string().into_bytes().into()).collect();
        let broker = Listed::new(events.clone());
        let now = || UtcMicros(1);
        let mut taken = 0;
        loop {
            let before = store.pending(Lane::High, UtcMicros(2)).await.expect("counted").ready as usize;
            assert_eq!(before, taken, "what was taken is in the queue");
            match round(&broker, &store, Lane::High, now).await.expect("taken over") {
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
        let broker = Listed::new(vec![b"1".as_slice().into()]);
        let fault = round(&broker, &store, Lane::High, || UtcMicros(1)).await.expect_err("the store is closed");
        assert!(!fault.message.is_empty());
        assert_eq!(broker.pending(Lane::High).await.expect("counted").leased, 1, "nobody ended it");
    }
}
