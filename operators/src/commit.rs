//! Makes endings durable: the only commit point.

use std::sync::Arc;

use records::{Attempt, Outcome};
use timely::dataflow::StreamVec;
use timely::order::TotalOrder;
use timely::progress::Timestamp;

use crate::bridge::{Link, bridge};
use crate::{Finished, Ticket};

/// An upload's end, to be written in one transaction.
#[derive(Clone, Debug)]
pub struct Ending {
    /// The one row.
    pub outcome: Outcome,
    /// Every call of a model.
    pub attempts: Vec<Attempt>,
    /// The event's bytes, kept where it is dead-lettered.
    pub payload: Arc<[u8]>,
    /// The claim on the source.
    pub ticket: Ticket,
}

/// What the store is asked to write. It answers once it is durable; until then it tries again itself.
pub type Write = (Outcome, Vec<Attempt>, Arc<[u8]>);

/// Commits endings.
pub trait Commit<'scope, T: Timestamp> {
    /// Each upload whose outcome is durable, and not before.
    fn commit(self, store: Link<Write, ()>) -> StreamVec<'scope, T, Finished>;
}

impl<'scope, T: Timestamp + TotalOrder> Commit<'scope, T> for StreamVec<'scope, T, Box<Ending>> {
    fn commit(self, store: Link<Write, ()>) -> StreamVec<'scope, T, Finished> {
        bridge(
            self,
            "Commit",
            store,
            |_, ending| {
                let Ending { outcome, attempts, payload, ticket } = *ending;
                let finished = Finished { upload_id: outcome.upload_id.clone(), ticket };
                ((outcome, attempts, payload), finished)
            },
            |finished, ()| finished,
        )
    }
}
