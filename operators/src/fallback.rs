//! Asks the paid model about what the primary was not sure of.

use timely::dataflow::StreamVec;
use timely::order::TotalOrder;
use timely::progress::Timestamp;

use crate::Flight;
use crate::bridge::{Link, bridge};
use crate::infer::{Answer, Question, question, record};

/// Asks the fallback model.
pub trait Fallback {
    /// Each doubtful upload with the fallback's answer. Without a fallback they pass as they are.
    fn fallback(self, model: Option<Link<Question, Answer>>) -> Self;
}

impl<T: Timestamp + TotalOrder> Fallback for StreamVec<'_, T, Box<Flight>> {
    fn fallback(self, model: Option<Link<Question, Answer>>) -> Self {
        let Some(model) = model else { return self };
        bridge(
            self,
            "Fallback",
            model,
            |_, flight| (question(&flight), flight),
            |mut flight: Box<Flight>, answer| {
                flight.fallback = Some(record(&mut flight, answer));
                flight
            },
        )
    }
}
