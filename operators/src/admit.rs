//! Reads each arrival's event and writes its admission before any work begins.

use std::sync::Arc;

use records::{Admitted, InvalidEvent, Lane, Upload, UploadId, UtcMicros};
use timely::dataflow::StreamVec;
use timely::dataflow::operators::core::OkErr;
use timely::dataflow::operators::vec::Map;

use crate::bridge::{Link, bridge};
use crate::commit::Ending;
use crate::conclude::rejected;
use crate::{Arm, Arrival, Finished, Flight, InWork, SharedClock, Ticket};

/// What to write for one arrival.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admission {
    /// The upload.
    pub upload_id: UploadId,
    /// The source's lane.
    pub lane: Lane,
    /// Its arrival, where this is its first admission.
    pub arrived_at: UtcMicros,
}

struct Candidate {
    event: Result<Arc<Upload>, InvalidEvent>,
    payload: Arc<[u8]>,
    ticket: Ticket,
    delivered_at: UtcMicros,
}

impl Candidate {
    fn upload_id(&self) -> &UploadId {
        match &self.event {
            Ok(upload) => &upload.upload_id,
            Err(invalid) => &invalid.upload_id,
        }
    }
}

/// A stream of which each item has its arrival as its time, in microseconds.
type ByArrival<'scope, D> = StreamVec<'scope, u64, D>;

/// Admits arrivals.
pub trait Admit<'scope> {
    /// Lets one delivery of each upload through at a time; further ones wait in `in_work` for that one's end. Gives the
    /// uploads to work on, the invalid ones as they end (dead-lettered, never tried), and the redelivered ones
    /// that only want their acknowledgement. An event that cannot be read is admitted too, so that its redelivery is known.
    fn admit(
        self,
        in_work: InWork,
        store: Link<Admission, Admitted>,
        clock: SharedClock,
    ) -> (ByArrival<'scope, Box<Flight>>, ByArrival<'scope, Box<Ending>>, ByArrival<'scope, Finished>);
}

impl<'scope> Admit<'scope> for StreamVec<'scope, u64, Arrival> {
    fn admit(
        self,
        in_work: InWork,
        store: Link<Admission, Admitted>,
        clock: SharedClock,
    ) -> (ByArrival<'scope, Box<Flight>>, ByArrival<'scope, Box<Ending>>, ByArrival<'scope, Finished>) {
        let time = SharedClock::clone(&clock);
        let candidates = self.flat_map(move |arrival| {
            let candidate = Candidate {
                event: Upload::from_event(&arrival.payload).map(Arc::new),
                payload: arrival.payload,
                ticket: arrival.ticket,
                delivered_at: time.now(),
            };
            in_work.enter(candidate.upload_id(), &candidate.ticket).then_some(candidate)
        });
        let known = bridge(
            candidates,
            "Admit",
            store,
            |time, candidate: Candidate| {
                let upload_id = candidate.upload_id().clone();
                let admission = Admission { upload_id, lane: candidate.ticket.lane, arrived_at: UtcMicros(*time) };
                (admission, candidate)
            },
            |candidate, admitted| (candidate, admitted),
        );
        let (open, finished): (StreamVec<_, (Candidate, UtcMicros, u32)>, _) =
            known.ok_err(|(candidate, admitted)| match admitted {
                Admitted::Open { arrived_at, version } => Ok((candidate, arrived_at, version)),
                Admitted::Finished => {
                    Err(Finished { upload_id: candidate.upload_id().clone(), ticket: candidate.ticket })
                }
            });
        let no_arm = Arc::new(Arm::default());
        let (flights, invalid) = open.ok_err(move |(candidate, arrived_at, version)| match candidate.event {
            Ok(upload) => Ok(Box::new(Flight {
                upload,
                payload: candidate.payload,
                lane: candidate.ticket.lane,
                ticket: candidate.ticket,
                arrived_at,
                version,
                delivered_at: candidate.delivered_at,
                deadline: candidate.delivered_at,
                arm: Arc::clone(&no_arm),
                round: 1,
                attempts: Vec::new(),
                inference_ms: 0,
                queued_ms: None,
                cached: None,
                primary: None,
                fallback: None,
            })),
            Err(invalid) => {
                Err(rejected(&invalid, candidate.payload, candidate.ticket, arrived_at, version, clock.now()))
            }
        });
        (flights, invalid, finished)
    }
}
