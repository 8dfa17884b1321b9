//! Acknowledges what is finished.

use std::sync::mpsc::{SyncSender, TrySendError};

use timely::dataflow::StreamVec;
use timely::dataflow::operators::core::Inspect;
use timely::progress::Timestamp;

use crate::{Finished, InWork, Ticket};

/// Acknowledges uploads at their source.
pub trait Acknowledge {
    /// Hands each finished upload's tickets, those of its further deliveries included, back to the source, which
    /// acknowledges the deliveries and drops the permits. An acknowledgement that is lost costs a redelivery, which
    /// admission answers; so nothing waits for it here.
    fn acknowledge(self, in_work: InWork, source: SyncSender<Ticket>);
}

impl<T: Timestamp> Acknowledge for StreamVec<'_, T, Finished> {
    fn acknowledge(self, in_work: InWork, source: SyncSender<Ticket>) {
        self.inspect(move |finished| {
            for ticket in std::iter::once(finished.ticket.clone()).chain(in_work.leave(&finished.upload_id)) {
                match source.try_send(ticket) {
                    Ok(()) => {}
                    Err(TrySendError::Full(_)) => panic!("more tickets come back than permits were given"),
                    Err(TrySendError::Disconnected(_)) => panic!("the source died with deliveries unacknowledged"),
                }
            }
        });
    }
}
