//! Gives each upload its lane and its deadline.

use records::{Lane, Mode, Tier};
use timely::dataflow::StreamVec;
use timely::dataflow::operators::vec::Map;
use timely::progress::Timestamp;

use crate::Flight;

/// Who is served first, and by when each lane is served.
#[derive(Clone, Debug)]
pub struct LaneRules {
    /// Tiers of the high lane.
    pub high_tiers: Vec<Tier>,
    /// Modes of the high lane.
    pub high_modes: Vec<Mode>,
    /// From arrival to outcome in the high lane.
    pub high_slo_ms: u64,
    /// From arrival to outcome in the low lane.
    pub low_slo_ms: u64,
}

impl LaneRules {
    /// The lane of an upload.
    pub fn lane(&self, tier: Tier, mode: Mode) -> Lane {
        if self.high_tiers.contains(&tier) || self.high_modes.contains(&mode) { Lane::High } else { Lane::Low }
    }

    /// The promise of a lane.
    pub fn slo_ms(&self, lane: Lane) -> u64 {
        match lane {
            Lane::High => self.high_slo_ms,
            Lane::Low => self.low_slo_ms,
        }
    }
}

/// Partitions uploads by priority.
pub trait Partition {
    /// Stamps each upload with its lane and its deadline, which is its delivery and the lane's promise: were it the first
    /// arrival, what is redriven or redelivered late would stand before everybody. The lanes stay in one stream: they share
    /// the model, which serves the earliest deadline first.
    fn partition(self, rules: LaneRules) -> Self;
}

impl<T: Timestamp> Partition for StreamVec<'_, T, Box<Flight>> {
    fn partition(self, rules: LaneRules) -> Self {
        self.map(move |mut flight| {
            flight.lane = rules.lane(flight.upload.tier, flight.upload.mode);
            flight.deadline = flight.delivered_at.plus_ms(rules.slo_ms(flight.lane));
            flight
        })
    }
}
