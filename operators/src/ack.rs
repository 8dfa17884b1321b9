//! Acknowledges what is finished.

use std::sync::mpsc::{SyncSender, TrySendError};

use timely::dataflow::StreamVec;
use timely::dataflow::operators::core::Inspect;
use timely::progress::Timestamp;

use crate::{Finished, Ticket};

/// Acknowledges uploads at their source.
pub trait Acknowledge {
    /// Hands each finished upload's ticket back to the source, which acknowledges the delivery and drops the permit. An
    /// acknowledgement that is lost costs a redelivery, which admission answers; so nothing waits for it here.
    fn acknowledge(self, source: SyncSender<Ticket>);
}

impl<T: Timestamp> Acknowledge for StreamVec<'_, T, Finished> {
    fn acknowledge(self, source: SyncSender<Ticket>) {
        self.inspect(move |finished| match source.try_send(finished.ticket.clone()) {
            Ok(()) => {}
            Err(TrySendError::Full(_)) => panic!("more tickets come back than permits were given"),
            Err(TrySendError::Disconnected(_)) => panic!("the source died with deliveries unacknowledged"),
        });
    }
}
