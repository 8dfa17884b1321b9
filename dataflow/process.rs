//! The process graph: from a source's deliveries to one durable outcome each.
//!
//! ```text
//! source ─▶ admit ─▶ partition ─▶ assign ─▶ infer ─▶ split ─▶ fallback ─▶ retry ─▶ commit ─▶ ack
//!             │                               ▲                             │        ▲
//!             │                               └────── again, next round ────┘        │
//!             └── invalid events ────────────────────────────────────────────────────┘
//! ```
//!
//! A time is an arrival in UTC microseconds; inside the loop it is the pair of arrival and round, so the frontier that
//! leaves the loop passes an arrival only when all its rounds are over.

use std::sync::mpsc::SyncSender;

use operators::bridge::{Inlet, Link, intake};
use operators::{
    Acknowledge, Admission, Admit, Answer, Arrival, Assign, Commit, CurrentExperiment, Fallback, InWork, Infer,
    LaneRules, Partition, Question, Retry, RetryPolicy, SharedClock, Split, Ticket, Write,
};
use records::Admitted;
use timely::dataflow::Scope;
use timely::dataflow::operators::core::{Concat, ConnectLoop, Enter, Feedback, Leave};
use timely::dataflow::operators::probe::{Handle, Probe};

/// What the graph is joined to.
pub struct Seams {
    /// The source's deliveries; the graph ends when its senders are gone and everything in it has ended.
    pub arrivals: Inlet<Arrival>,
    /// The store, for admissions.
    pub admissions: Link<Admission, Admitted>,
    /// The self-hosted model.
    pub primary: Link<Question, Answer>,
    /// The paid model, where there is one.
    pub fallback: Option<Link<Question, Answer>>,
    /// The store, for outcomes.
    pub outcomes: Link<Write, ()>,
    /// The source, for acknowledgements.
    pub acknowledgements: SyncSender<Ticket>,
}

/// What the graph decides by.
#[derive(Clone, Debug)]
pub struct Rules {
    /// Who is served first.
    pub lanes: LaneRules,
    /// Who gets which arm.
    pub experiment: CurrentExperiment,
    /// How often to try.
    pub retry: RetryPolicy,
}

/// Builds the process graph. The probe shows the arrival up to which every upload has its outcome and is acknowledged.
pub fn process(scope: Scope<'_, u64>, seams: Seams, rules: Rules, clock: SharedClock) -> Handle<u64> {
    let in_work = InWork::default();
    let arrivals = intake(scope, "Source", seams.arrivals, SharedClock::clone(&clock));
    let (uploads, invalid, redelivered) = arrivals.admit(in_work.clone(), seams.admissions, SharedClock::clone(&clock));
    let uploads = uploads.partition(rules.lanes).assign(rules.experiment);

    let ended = scope.scoped::<(u64, u32), _, _>("Rounds", |rounds| {
        let (again, next_round) = rounds.feedback((0, 1));
        let (settled, doubtful) = uploads.enter(rounds).concat(next_round).infer(seams.primary).split();
        let (ended, failed) =
            settled.concat(doubtful.fallback(seams.fallback)).retry(rules.retry, SharedClock::clone(&clock));
        failed.connect_loop(again);
        ended.leave(scope)
    });

    let finished = ended.concat(invalid).commit(seams.outcomes).concat(redelivered);
    let (probe, finished) = finished.probe();
    finished.acknowledge(in_work, seams.acknowledgements);
    probe
}
