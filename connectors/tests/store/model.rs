//! The store and its model side by side, over random histories.

use connectors::store::{Lease, Store, Walk, Write};
use proptest::prelude::*;
use proptest::sample::{Index, select};
use records::{Lane, Outcome, Status, UtcMicros};

use crate::make::{START, attempts, completed, dead_lettered, id, payload};
use crate::memory::Model;
use crate::{HISTORIES, ending, fixture};

/// Few uploads, so that they meet again and again.
const UPLOADS: std::ops::Range<u64> = 0..5;

#[derive(Clone, Debug)]
enum Step {
    Enqueue(Vec<(Lane, u64)>),
    Lease { lane: Lane, max: usize, hold: u64 },
    Extend { which: Vec<Index>, hold: u64 },
    Acknowledge(Vec<Index>),
    Release(Vec<Index>),
    Admit(Vec<(u64, Lane)>),
    Commit(Vec<(u64, Status, Index)>),
    Redrive(Vec<u64>),
    Purge(Vec<u64>),
    PurgeBefore,
    Seal { ahead: u64 },
    Wait(u64),
    Reopen,
}

fn step() -> impl Strategy<Value = Step> {
    let lane = || select(&Lane::ALL[..]);
    let status = select(&[Status::Completed, Status::DeadLettered, Status::DeadLettered][..]);
    let which = || prop::collection::vec(any::<Index>(), 0..3);
    let uploads = || prop::collection::vec(UPLOADS, 0..3);
    prop_oneof![
        2 => prop::collection::vec((lane(), UPLOADS), 0..4).prop_map(Step::Enqueue),
        4 => (lane(), 0_usize..4, 1_u64..4).prop_map(|(lane, max, hold)| Step::Lease { lane, max, hold }),
        1 => (which(), 1_u64..4).prop_map(|(which, hold)| Step::Extend { which, hold }),
        1 => which().prop_map(Step::Acknowledge),
        1 => which().prop_map(Step::Release),
        2 => prop::collection::vec((UPLOADS, lane()), 0..4).prop_map(Step::Admit),
        4 => prop::collection::vec((UPLOADS, status, any::<Index>()), 0..4).prop_map(Step::Commit),
        2 => uploads().prop_map(Step::Redrive),
        1 => uploads().prop_map(Step::Purge),
        1 => Just(Step::PurgeBefore),
        2 => (0_u64..4).prop_map(|ahead| Step::Seal { ahead }),
        2 => (1_u64..4).prop_map(Step::Wait),
        1 => Just(Step::Reopen),
    ]
}

/// A history in the making: both sides, the clock, and every lease that was ever given.
struct History {
    store: Store,
    model: Model,
    now: UtcMicros,
    leases: Vec<Lease>,
    walk: Walk,
}

impl History {
    fn pick(&self, which: &[Index]) -> Vec<Lease> {
        if self.leases.is_empty() { Vec::new() } else { which.iter().map(|index| *index.get(&self.leases)).collect() }
    }

    /// Takes a step on both sides, which must answer alike.
    async fn take(&mut self, step: Step) {
        let now = self.now;
        match step {
            Step::Enqueue(messages) => {
                let messages: Vec<_> = messages.into_iter().map(|(lane, upload)| (lane, payload(upload))).collect();
                let ids = self.store.enqueue(&messages, now).await.expect("enqueued");
                let model = messages.into_iter().map(|(lane, payload)| self.model.enqueue(lane, payload, now));
                assert_eq!(ids, model.collect::<Vec<_>>());
            }
            Step::Lease { lane, max, hold } => {
                let until = UtcMicros(now.0 + hold);
                let deliveries = self.store.lease(lane, max, until, now).await.expect("leased");
                assert_eq!(deliveries, self.model.lease(lane, max, until, now));
                self.leases.extend(deliveries.iter().map(|delivery| delivery.lease));
            }
            Step::Extend { which, hold } => {
                let (leases, until) = (self.pick(&which), UtcMicros(now.0 + hold));
                let held = self.store.extend(&leases, until).await.expect("extended");
                assert_eq!(held, self.model.set_lease(&leases, Some(until)));
            }
            Step::Acknowledge(which) => {
                let leases = self.pick(&which);
                self.store.acknowledge(&leases).await.expect("acknowledged");
                self.model.acknowledge(&leases);
            }
            Step::Release(which) => {
                let leases = self.pick(&which);
                self.store.release(&leases).await.expect("released");
                self.model.set_lease(&leases, None);
            }
            Step::Seal { ahead } => {
                let until = UtcMicros(now.0 + ahead);
                self.model.sealed = self.model.sealed.max(until);
                assert_eq!(self.store.seal_arrivals(until).await.expect("sealed"), self.model.sealed);
            }
            Step::Wait(micros) => self.now = UtcMicros(now.0 + micros),
            Step::Reopen => {
                // A clean end and a crash are alike to the next process; the crash is tested with a real one.
                let url = self.store.url().clone();
                self.store.clone().close().await;
                self.store = Store::open(url).await.expect("opens again");
                self.walk = Walk::default();
            }
            step => self.take_upload_step(step).await,
        }
    }

    async fn take_upload_step(&mut self, step: Step) {
        let now = self.now;
        let ids = |numbers: Vec<u64>| numbers.into_iter().map(id).collect::<Vec<_>>();
        match step {
            Step::Admit(uploads) => {
                let uploads: Vec<_> = uploads.into_iter().map(|(number, lane)| (id(number), lane, now)).collect();
                let admitted = self.store.admit(&uploads).await.expect("admitted");
                uploads.iter().for_each(|(id, lane, at)| self.model.admit(id.clone(), *lane, *at));
                assert_eq!(admitted, uploads.iter().map(|(id, ..)| self.model.admitted(id)).collect::<Vec<_>>());
            }
            Step::Commit(endings) => {
                let group: Vec<Write> = endings.into_iter().filter_map(|ending| self.group_member(ending)).collect();
                let written = self.store.commit(&group).await.expect("committed");
                assert_eq!(written, group.iter().map(|write| self.model.commit(write)).collect::<Vec<_>>());
            }
            Step::Redrive(numbers) => {
                let ids = ids(numbers);
                let answers = self.store.redrive(&ids, now).await.expect("redriven");
                assert_eq!(answers, self.model.redrive(&ids, now));
            }
            Step::Purge(numbers) => {
                let ids = ids(numbers);
                let purged = self.store.purge(&ids, now).await.expect("purged");
                assert_eq!(purged, self.model.purge(|id, _| ids.contains(id)));
            }
            Step::PurgeBefore => {
                let purged = self.store.purge_before(now, now).await.expect("purged");
                let ended = |outcome: &Outcome| (outcome.upload_id.clone(), outcome.version, outcome.completed_at);
                let old: Vec<_> = self.model.log.iter().map(ended).filter(|(.., ended)| *ended < now).collect();
                let purged_by_model =
                    self.model.purge(|id, version| old.iter().any(|(other, at, _)| (other, *at) == (id, version)));
                assert_eq!(purged, purged_by_model);
            }
            other => unreachable!("{other:?} is a step of the spool"),
        }
    }

    /// An outcome of the upload's version or an earlier one; none where it was never admitted.
    fn group_member(&self, (number, status, version): (u64, Status, Index)) -> Option<Write> {
        let admission = self.model.admissions.get(&id(number))?;
        let version = version.index(admission.version as usize) as u32 + 1;
        let outcome = match status {
            Status::Completed => completed(number, version, admission.arrived_at),
            Status::DeadLettered => dead_lettered(number, version, admission.arrived_at),
        };
        Some(ending(number, Outcome { completed_at: self.now, ..outcome }))
    }

    /// Everything that can be read must be alike.
    async fn compare(&mut self) {
        let (store, model) = (&self.store, &self.model);
        let closed = store.closed_until(&mut self.walk, model.sealed).await.expect("walked");
        assert_eq!(closed, model.closed_until());
        for lane in Lane::ALL {
            assert_eq!(store.pending(lane, self.now).await.expect("counted"), model.pending(lane, self.now));
        }
        let log = store.outcomes_after(0, usize::MAX).await.expect("read");
        assert_eq!(log.into_iter().map(|(_, outcome)| outcome).collect::<Vec<_>>(), model.log);
        for id in UPLOADS.map(id) {
            assert_eq!(store.outcome(&id).await.expect("read").as_ref(), model.outcome(&id));
            let of_id = |outcome: &&Outcome| outcome.upload_id == id;
            let mut versions: Vec<_> = model.log.iter().filter(of_id).collect();
            versions.sort_by_key(|outcome| outcome.version);
            let tried =
                |outcome: &&Outcome| attempts(outcome).into_iter().map(|it| (outcome.version, it)).collect::<Vec<_>>();
            assert_eq!(store.attempts(&id).await.expect("read"), versions.iter().flat_map(tried).collect::<Vec<_>>());
        }
        let waiting = model.log.iter().rev().filter(|outcome| {
            let kept = model.dead_letters.get(&(outcome.upload_id.clone(), outcome.version));
            kept.is_some_and(|(_, redriven)| !redriven)
        });
        let letters = store.dead_letters(usize::MAX).await.expect("read");
        assert_eq!(letters.iter().map(|letter| &letter.outcome).collect::<Vec<_>>(), waiting.collect::<Vec<_>>());
        let standing = UPLOADS.filter(|number| model.outcome(&id(*number)).is_some()).count() as u64;
        let tally = store.tally().await.expect("counted");
        assert_eq!(tally.iter().map(|(.., uploads)| uploads).sum::<u64>(), standing);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: HISTORIES, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_store_answers_as_its_model_over_any_history(steps in prop::collection::vec(step(), 1..60)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let fixture = fixture().await;
            let mut history =
                History { store: fixture.store, model: Model::default(), now: START, leases: Vec::new(), walk: Walk::default() };
            for step in steps {
                history.take(step).await;
                history.compare().await;
            }
        });
    }
}
