//! Offsets against a broker in memory: whatever order messages finish in, and whatever is lost on the way.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use proptest::prelude::*;

use super::*;

const PARTITIONS: i32 = 3;

/// A step of a consumer's life; numbers pick among what there is.
#[derive(Clone, Copy, Debug)]
enum Step {
    Append(usize, u8),
    Give(usize),
    Finish(usize),
    TakeBack(usize),
    Commit { answered: bool },
    LateCommit,
    Revoke(usize),
    Assign(usize),
    Reset(usize),
}

fn step() -> impl Strategy<Value = Step> {
    let pick = 0..64usize;
    prop_oneof![
        3 => (pick.clone(), 1..4u8).prop_map(|(at, gap)| Step::Append(at, gap)),
        6 => pick.clone().prop_map(Step::Give),
        6 => pick.clone().prop_map(Step::Finish),
        1 => pick.clone().prop_map(Step::TakeBack),
        3 => any::<bool>().prop_map(|answered| Step::Commit { answered }),
        1 => Just(Step::LateCommit),
        1 => pick.clone().prop_map(Step::Revoke),
        2 => pick.clone().prop_map(Step::Assign),
        1 => pick.prop_map(Step::Reset),
    ]
}

/// The broker, and what is around the offsets.
#[derive(Default)]
struct World {
    log: BTreeMap<i32, Vec<i64>>,
    committed: BTreeMap<i32, i64>,
    /// Read and not given out, as a consumer delivers it.
    unread: BTreeMap<i32, VecDeque<i64>>,
    leases: Vec<(u64, Place)>,
    numbers: u64,
    finished: BTreeSet<(i32, i64)>,
    /// What was on its way when the last commit was made.
    on_the_way: Vec<Commit>,
    offsets: Offsets<i64>,
}

impl World {
    fn left_of(&self, partition: i32) -> VecDeque<i64> {
        let from = self.committed.get(&partition).copied().unwrap_or(0);
        self.log.get(&partition).into_iter().flatten().copied().filter(|offset| *offset >= from).collect()
    }

    fn give(&mut self, partition: i32) {
        if let Some(offset) = self.unread.get_mut(&partition).and_then(VecDeque::pop_front) {
            self.numbers += 1;
            let place = Place { partition, offset };
            assert!(self.offsets.give(self.numbers, place, offset), "what is read is ours");
            self.leases.push((self.numbers, place));
        }
    }

    fn finish(&mut self, at: usize) {
        if !self.leases.is_empty() {
            let (lease, place) = self.leases.remove(at % self.leases.len());
            self.finished.insert((place.partition, place.offset));
            self.offsets.finish(lease);
        }
    }

    fn take_back(&mut self, at: usize) {
        if !self.leases.is_empty() {
            let (lease, place) = self.leases.remove(at % self.leases.len());
            if let Some((same, payload)) = self.offsets.take_back(lease) {
                assert_eq!((same, payload), (place, place.offset));
                self.unread.entry(place.partition).or_default().push_front(place.offset);
            }
        }
    }

    fn commit(&mut self, answered: bool) {
        self.on_the_way = self.offsets.uncommitted();
        for commit in &self.on_the_way {
            self.committed.insert(commit.partition, commit.offset);
        }
        if answered {
            self.offsets.committed(&self.on_the_way);
            assert!(self.offsets.uncommitted().is_empty(), "a commit that was answered is not repeated");
        }
    }

    fn step(&mut self, step: Step) {
        let partition = |at: usize| at as i32 % PARTITIONS;
        match step {
            Step::Append(at, gap) => {
                let log = self.log.entry(partition(at)).or_default();
                let offset = log.last().map_or(0, |last| last + i64::from(gap));
                log.push(offset);
                if let Some(unread) = self.unread.get_mut(&partition(at)) {
                    unread.push_back(offset);
                }
            }
            Step::Give(at) => self.give(partition(at)),
            Step::Finish(at) => self.finish(at),
            Step::TakeBack(at) => self.take_back(at),
            Step::Commit { answered } => self.commit(answered),
            // The answer to an earlier commit arrives only now, whatever happened meanwhile.
            Step::LateCommit => self.offsets.committed(&self.on_the_way),
            Step::Revoke(at) => {
                self.offsets.revoke(partition(at));
                self.unread.remove(&partition(at));
            }
            Step::Assign(at) => {
                self.offsets.assign(partition(at));
                self.unread.insert(partition(at), self.left_of(partition(at)));
            }
            // The consumer goes back to what is committed, under the same assignment.
            Step::Reset(at) => {
                if let Some(unread) = self.unread.get(&partition(at))
                    && unread.is_empty()
                {
                    self.unread.insert(partition(at), self.left_of(partition(at)));
                }
            }
        }
        for (partition, committed) in &self.committed {
            let log = self.log.get(partition).into_iter().flatten();
            for offset in log.filter(|offset| *offset < committed) {
                assert!(self.finished.contains(&(*partition, *offset)), "{partition}: {committed} passes {offset}");
            }
        }
    }

    /// Works all that is left.
    fn drain(&mut self) {
        for partition in 0..PARTITIONS {
            if !self.unread.contains_key(&partition) {
                self.step(Step::Assign(partition as usize));
            }
        }
        while self.unread.values().any(|unread| !unread.is_empty()) || !self.leases.is_empty() {
            (0..PARTITIONS).for_each(|partition| self.step(Step::Give(partition as usize)));
            self.step(Step::Finish(7));
        }
        self.step(Step::Commit { answered: true });
        for (partition, log) in &self.log {
            let read = self.offsets.partitions.get(partition).is_some_and(|it| it.next > i64::MIN);
            assert!(self.offsets.is_settled(*partition) || !read, "nothing is left");
            let behind = log.last().map_or(0, |last| last + 1);
            assert_eq!(self.committed.get(partition), Some(&behind), "{partition}: all is committed in the end");
        }
        assert_eq!(self.offsets.leased(), 0);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn a_commit_never_passes_an_unfinished_message_and_comes_to_the_end(
        steps in proptest::collection::vec(step(), 0..120)
    ) {
        let mut world = World::default();
        for step in steps {
            world.step(step);
        }
        world.drain();
    }
}

#[test]
fn what_finishes_out_of_order_waits_for_the_lowest() {
    let mut offsets = Offsets::default();
    offsets.assign(0);
    for (lease, offset) in [(1, 10), (2, 12), (3, 13)] {
        assert!(offsets.give(lease, Place { partition: 0, offset }, ()));
    }
    let at = |offsets: &Offsets<()>| offsets.uncommitted().first().map(|commit| commit.offset);
    assert_eq!(at(&offsets), Some(10), "what is below the first one is nobody's");
    offsets.finish(3);
    offsets.finish(2);
    assert_eq!(at(&offsets), Some(10));
    offsets.finish(1);
    assert_eq!(at(&offsets), Some(14));
    offsets.committed(&offsets.uncommitted());
    assert!(offsets.is_settled(0) && at(&offsets).is_none());
}

#[test]
fn a_lease_of_a_revoked_partition_is_lost_and_commits_nothing() {
    let mut offsets = Offsets::default();
    offsets.assign(0);
    assert!(offsets.give(1, Place { partition: 0, offset: 5 }, ()));
    let late = offsets.uncommitted();
    offsets.revoke(0);
    assert!(!offsets.holds(1) && offsets.take_back(1).is_none());
    offsets.finish(1);
    assert!(offsets.uncommitted().is_empty());
    offsets.assign(0);
    offsets.committed(&late);
    assert!(!offsets.give(9, Place { partition: 1, offset: 3 }, ()), "a partition of somebody else");
    assert!(offsets.give(2, Place { partition: 0, offset: 3 }, ()));
    offsets.finish(2);
    assert_eq!(offsets.uncommitted().len(), 1, "an answer of an earlier assignment says nothing about this one");
    assert!(offsets.give(3, Place { partition: 0, offset: 4 }, ()));
    offsets.assign(0);
    assert!(!offsets.holds(3), "nor has it the earlier one's leases");
}
