//! What is planted in a run, and what a run went through.

/// A mistake planted to see that it is caught.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bug {
    AcknowledgeBeforeCommit,
    NoUniqueKey,
    FirstComeFirstServed,
    NoPermits,
}

/// What a run went through.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Summary {
    pub(crate) uploads: usize,
    pub(crate) completed: usize,
    pub(crate) dead_lettered: usize,
    pub(crate) fallbacks: usize,
    pub(crate) below_threshold: usize,
    pub(crate) cached: usize,
    pub(crate) retried: usize,
    pub(crate) crashes: usize,
    pub(crate) redeliveries: usize,
    pub(crate) lost_answers: usize,
}

impl Summary {
    pub(crate) fn add(&mut self, other: &Self) {
        self.uploads += other.uploads;
        self.completed += other.completed;
        self.dead_lettered += other.dead_lettered;
        self.fallbacks += other.fallbacks;
        self.below_threshold += other.below_threshold;
        self.cached += other.cached;
        self.retried += other.retried;
        self.crashes += other.crashes;
        self.redeliveries += other.redeliveries;
        self.lost_answers += other.lost_answers;
    }

    pub(crate) fn saw_everything(&self) -> bool {
        let Self {
            uploads,
            completed,
            dead_lettered,
            fallbacks,
            below_threshold,
            cached,
            retried,
            crashes,
            redeliveries,
            lost_answers,
        } = self;
        let counts = [uploads, completed, dead_lettered, fallbacks, below_threshold, cached, retried, crashes];
        counts.iter().chain(&[redeliveries, lost_answers]).all(|count| **count > 0)
    }
}
