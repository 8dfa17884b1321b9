//! How far each partition may be committed: up to the lowest message that is not finished, and never past it.

use std::collections::{BTreeMap, BTreeSet, HashMap};

#[cfg(test)]
mod tests;

/// What one consumer has given out, by partition. Messages finish in any order; offsets may have gaps, as compaction and
/// transactions leave them.
#[derive(Debug)]
pub(super) struct Offsets<P> {
    partitions: BTreeMap<i32, Partition>,
    leases: HashMap<u64, Leased<P>>,
    assignments: u64,
}

#[derive(Debug)]
struct Partition {
    /// Tells this assignment of the partition from earlier ones.
    assignment: u64,
    /// Given out and not finished.
    unfinished: BTreeSet<i64>,
    /// Behind everything that was given out.
    next: i64,
    /// What the broker is known to have.
    committed: i64,
}

#[derive(Debug)]
struct Leased<P> {
    place: Place,
    assignment: u64,
    payload: P,
}

/// Where a message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) partition: i32,
    pub(super) offset: i64,
}

/// Everything below an offset is finished.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Commit {
    pub(super) partition: i32,
    pub(super) offset: i64,
    assignment: u64,
}

impl<P> Default for Offsets<P> {
    fn default() -> Self {
        Self { partitions: BTreeMap::new(), leases: HashMap::new(), assignments: 0 }
    }
}

impl<P> Offsets<P> {
    /// The partition is ours from here on; whatever was known of it is of somebody else's time.
    pub(super) fn assign(&mut self, partition: i32) {
        self.revoke(partition);
        self.assignments += 1;
        let assignment = self.assignments;
        let fresh = Partition { assignment, unfinished: BTreeSet::new(), next: i64::MIN, committed: i64::MIN };
        self.partitions.insert(partition, fresh);
    }

    /// The partition is somebody else's: its leases are lost, and nothing of it is committed any more.
    pub(super) fn revoke(&mut self, partition: i32) {
        if self.partitions.remove(&partition).is_some() {
            self.leases.retain(|_, leased| leased.place.partition != partition);
        }
    }

    /// Whether the partition is ours.
    pub(super) fn owns(&self, partition: i32) -> bool {
        self.partitions.contains_key(&partition)
    }

    /// Gives a message out under a lease; `false` where its partition is not ours. What a consumer that was reset reads again
    /// is unfinished again.
    pub(super) fn give(&mut self, lease: u64, place: Place, payload: P) -> bool {
        let Some(partition) = self.partitions.get_mut(&place.partition) else { return false };
        partition.unfinished.insert(place.offset);
        partition.next = partition.next.max(place.offset + 1);
        self.leases.insert(lease, Leased { place, assignment: partition.assignment, payload });
        true
    }

    /// The message is finished. A lease that is lost says nothing.
    pub(super) fn finish(&mut self, lease: u64) {
        if let Some(Leased { place, assignment, .. }) = self.leases.remove(&lease)
            && let Some(partition) = self.partitions.get_mut(&place.partition)
            && partition.assignment == assignment
        {
            partition.unfinished.remove(&place.offset);
        }
    }

    /// Takes a message back, to be given out again: it is as unfinished as before. `None` where the lease is lost.
    pub(super) fn take_back(&mut self, lease: u64) -> Option<(Place, P)> {
        self.leases.remove(&lease).map(|leased| (leased.place, leased.payload))
    }

    /// Whether the lease still holds.
    pub(super) fn holds(&self, lease: u64) -> bool {
        self.leases.contains_key(&lease)
    }

    /// How many leases hold.
    pub(super) fn leased(&self) -> usize {
        self.leases.len()
    }

    /// What may be committed, and the broker does not have yet.
    pub(super) fn uncommitted(&self) -> Vec<Commit> {
        let commit = |(number, it): (&i32, &Partition)| {
            let commit = Commit { partition: *number, offset: it.lowest(), assignment: it.assignment };
            (it.lowest() > it.committed).then_some(commit)
        };
        self.partitions.iter().filter_map(commit).collect()
    }

    /// The broker has these.
    pub(super) fn committed(&mut self, commits: &[Commit]) {
        for commit in commits {
            if let Some(partition) = self.partitions.get_mut(&commit.partition)
                && partition.assignment == commit.assignment
            {
                partition.committed = partition.committed.max(commit.offset);
            }
        }
    }

    /// Whether all that was given out of the partition is finished, and the broker knows.
    pub(super) fn is_settled(&self, partition: i32) -> bool {
        self.partitions.get(&partition).is_none_or(|it| it.unfinished.is_empty() && it.next <= it.committed)
    }
}

impl Partition {
    fn lowest(&self) -> i64 {
        self.unfinished.first().copied().unwrap_or(self.next)
    }
}
