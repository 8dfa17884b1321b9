//! Pub/Sub as a source: one subscription a lane.

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::{BoxFuture, join_all};
use google_cloud_pubsub::subscriber::handler::Handler;
use records::{ErrorType, Fault, FaultClass, Lane, ObjectDefaults};
use tokio::sync::{Mutex, watch};
use tokio::task::JoinSet;

use super::connection::Connection;
use super::held::Held;
use super::lane::{LaneReader, look};
use crate::source::{Delivery, Lease, Pending, Source};

/// How long the confirmation of an acknowledgement is waited for.
const CONFIRM: Duration = Duration::from_secs(10);

/// A lane's subscription.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LaneOptions {
    /// Its name, or full name.
    pub subscription: String,
    /// The most messages that are held at once, pulled or not.
    pub max_outstanding: usize,
}

/// How a source reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PubSubOptions {
    /// By lane: high, low.
    pub lanes: [LaneOptions; 2],
    /// How long a message stays with a process that died, from 10 to 600 s; it is extended while the message is held.
    pub lease_s: u64,
    /// What objects of buckets are taken for.
    pub objects: ObjectDefaults,
}

/// Two subscriptions of Pub/Sub.
///
/// Each is read by streaming pull, with Pub/Sub's flow control set to what the lane may hold. What nobody pulled yet is held
/// as well. The client extends every lease until it is ended here. An acknowledgement is sent within 100 ms; only on a
/// subscription with exactly-once delivery is it confirmed, and waited for. Messages of one ordering key are given out in
/// their order.
pub struct PubSub {
    held: Arc<Held>,
    lease_ms: u64,
    close: watch::Sender<bool>,
    readers: Mutex<JoinSet<()>>,
}

impl PubSub {
    /// Opens both subscriptions, on tasks of the runtime that this is called on.
    ///
    /// # Errors
    /// Permanent ones alone: a subscription that is not there, credentials that are none. Where Pub/Sub cannot be reached it
    /// is tried until it can.
    pub async fn open(connection: &Connection, options: PubSubOptions) -> Result<Self, Fault> {
        let admin = connection.subscriptions().await?;
        let held = Arc::new(Held::default());
        let (close, closing) = watch::channel(false);
        let mut readers = JoinSet::new();
        for (lane, LaneOptions { subscription, max_outstanding }) in Lane::ALL.into_iter().zip(options.lanes) {
            let subscription = connection.subscription(&subscription);
            if let Err(fault) = look(&admin, &subscription).await {
                if fault.class == FaultClass::Permanent {
                    return Err(fault);
                }
                held.note(lane, Some(fault));
            }
            let reader = LaneReader {
                lane,
                subscription,
                most: max_outstanding,
                lease: Duration::from_secs(options.lease_s),
                connection: connection.clone(),
                admin: admin.clone(),
                objects: options.objects.clone(),
                held: Arc::clone(&held),
                closing: closing.clone(),
            };
            readers.spawn(reader.run());
        }
        Ok(Self { held, lease_ms: options.lease_s * 1000, close, readers: Mutex::new(readers) })
    }
}

impl Source for PubSub {
    fn pull(&self, lane: Lane, max: usize) -> BoxFuture<'_, Result<Vec<Delivery>, Fault>> {
        async move { self.held.take(lane, max) }.boxed()
    }

    /// The client extends by itself; whether it could is known to Pub/Sub alone.
    fn extend<'a>(&'a self, leases: &'a [Lease]) -> BoxFuture<'a, Result<u64, Fault>> {
        async move { Ok(self.held.count(leases)) }.boxed()
    }

    fn acknowledge<'a>(&'a self, leases: &'a [Lease]) -> BoxFuture<'a, Result<(), Fault>> {
        async move {
            let mut confirmations = Vec::new();
            for ended in self.held.end(leases) {
                match ended.handler {
                    Handler::ExactlyOnce(handler) => confirmations.push(handler.confirmed_ack()),
                    handler => handler.ack(),
                }
            }
            // Of a stream that fell silent nothing is confirmed for ten minutes.
            let Ok(confirmed) = tokio::time::timeout(CONFIRM, join_all(confirmations)).await else {
                let message = "Pub/Sub does not confirm: uploads that ended may be delivered again, and end once";
                return Err(Fault::indeterminate(ErrorType::Timeout, message));
            };
            let refused: Vec<_> = confirmed.into_iter().filter_map(Result::err).collect();
            // Told once: these leases are over, and the next call has nothing left to do.
            match refused.first() {
                None => Ok(()),
                Some(error) => Err(Fault::indeterminate(
                    ErrorType::Unavailable,
                    format!("{} uploads that ended may be delivered again, and end once: {error}", refused.len()),
                )),
            }
        }
        .boxed()
    }

    fn release<'a>(&'a self, leases: &'a [Lease]) -> BoxFuture<'a, Result<(), Fault>> {
        async move {
            self.held.settled().await;
            self.held.give_back(leases);
            Ok(())
        }
        .boxed()
    }

    /// What this process holds. How much waits in the subscription is a metric of Google's monitoring, and not to be asked
    /// here.
    fn pending(&self, lane: Lane) -> BoxFuture<'_, Result<Pending, Fault>> {
        async move { Ok(self.held.pending(lane)) }.boxed()
    }

    fn lease_ms(&self) -> u64 {
        self.lease_ms
    }

    fn skipped(&self, lane: Lane) -> u64 {
        self.held.skipped_so_far(lane)
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        async move {
            self.held.stop();
            self.close.send_replace(true);
            let mut readers = self.readers.lock().await;
            while readers.join_next().await.is_some() {}
        }
        .boxed()
    }
}
