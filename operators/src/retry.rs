//! Ends each round: in an outcome, or in another round after a pause.

use std::collections::BTreeMap;

use records::UtcMicros;
use timely::dataflow::StreamVec;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::Capability;
use timely::dataflow::operators::core::OkErr;
use timely::dataflow::operators::generic::Operator;
use timely::order::TotalOrder;
use timely::progress::Timestamp;

use crate::hash::fraction;
use crate::{Conclusion, Ending, Flight, SharedClock, conclude};

/// How often, and after which pauses.
#[derive(Clone, Copy, Debug)]
pub struct RetryPolicy {
    /// Rounds before the dead letter.
    pub max_attempts: u32,
    /// The pause after the first failed round; it doubles with each.
    pub base_ms: u64,
    /// The longest pause.
    pub max_ms: u64,
}

impl RetryPolicy {
    /// The pause before `flight`'s coming round: exponential, spread evenly over half to one and a half of its length by a
    /// hash of the upload, so that uploads that failed together do not come back together.
    fn pause_ms(&self, flight: &Flight) -> u64 {
        let doublings = flight.round.saturating_sub(2).min(32);
        let length = self.base_ms.saturating_mul(1 << doublings).min(self.max_ms);
        let spread = 0.5 + fraction(&flight.round.to_string(), flight.upload.upload_id.as_str());
        (length as f64 * spread) as u64
    }
}

/// Tries again.
pub trait Retry<'scope, T: Timestamp>: Sized {
    /// The uploads that have ended, and those to try again, each after its pause and under its own time: the frontier does
    /// not pass an upload that waits.
    fn retry(self, policy: RetryPolicy, clock: SharedClock) -> (StreamVec<'scope, T, Box<Ending>>, Self);
}

impl<'scope, T: Timestamp + TotalOrder> Retry<'scope, T> for StreamVec<'scope, T, Box<Flight>> {
    fn retry(self, policy: RetryPolicy, clock: SharedClock) -> (StreamVec<'scope, T, Box<Ending>>, Self) {
        let worker = self.scope().worker();
        let concluded: StreamVec<'scope, T, Conclusion> = self.unary(Pipeline, "Retry", move |_capability, info| {
            let activator = worker.activator_for(info.address);
            let mut paused: BTreeMap<(UtcMicros, u64), (Capability<T>, Box<Flight>)> = BTreeMap::new();
            let mut number = 0;
            move |input, output| {
                let now = clock.now();
                input.for_each_stamp(|capability, batches| {
                    let capability = capability.retain_least(output.output_index()).expect("each message has a time");
                    for flight in batches.flat_map(|batch| batch.drain(..)) {
                        match conclude(flight, policy.max_attempts, now) {
                            Conclusion::Again(flight) => {
                                number += 1;
                                let due = now.plus_ms(policy.pause_ms(&flight));
                                paused.insert((due, number), (capability.clone(), flight));
                            }
                            ended => output.session(&capability).give(ended),
                        }
                    }
                });
                while let Some(entry) = paused.first_entry() {
                    let due = entry.key().0;
                    if due > now {
                        clock.wake_at(due, &activator);
                        break;
                    }
                    let (capability, flight) = entry.remove();
                    output.session(&capability).give(Conclusion::Again(flight));
                }
            }
        });
        concluded.ok_err(|conclusion| match conclusion {
            Conclusion::Ended(ending) => Ok(ending),
            Conclusion::Again(flight) => Err(flight),
        })
    }
}
