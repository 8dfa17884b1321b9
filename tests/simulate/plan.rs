//! What a seed decides: how many uploads, how often each seam fails, and each roll of the dice afterwards.

use std::cell::RefCell;
use std::rc::Rc;

/// How a call across a seam goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It works.
    Well,
    /// It fails before the work.
    FailsBefore,
    /// The work is done, then it fails: the answer is lost.
    FailsAfter,
}

/// The seeded fault plan.
#[derive(Clone)]
pub(crate) struct Plan {
    dice: Rc<RefCell<fastrand::Rng>>,
    pub(crate) uploads: usize,
    pub(crate) high_limit: usize,
    pub(crate) low_limit: usize,
    pub(crate) batch: usize,
    pub(crate) has_fallback: bool,
    fault_rate: f64,
    crash_rate: f64,
    duplicate_rate: f64,
    slowest_us: u64,
}

impl Plan {
    pub(crate) fn draw(seed: u64) -> Self {
        let mut dice = fastrand::Rng::with_seed(seed);
        let upper_fault_rate = [0.0, 0.1, 0.3][dice.usize(0..3)];
        Self {
            uploads: dice.usize(5..40),
            high_limit: dice.usize(1..6),
            low_limit: dice.usize(1..6),
            batch: dice.usize(1..5),
            has_fallback: dice.f64() < 0.7,
            fault_rate: dice.f64() * upper_fault_rate,
            crash_rate: [0.0, 0.002, 0.01][dice.usize(0..3)],
            duplicate_rate: [0.0, 0.05, 0.2][dice.usize(0..3)],
            slowest_us: [1_000, 300_000, 5_000_000][dice.usize(0..3)],
            dice: Rc::new(RefCell::new(dice)),
        }
    }

    pub(crate) fn chance(&self, probability: f64) -> bool {
        self.dice.borrow_mut().f64() < probability
    }

    pub(crate) fn fraction(&self) -> f64 {
        self.dice.borrow_mut().f64()
    }

    pub(crate) fn below(&self, bound: usize) -> usize {
        self.dice.borrow_mut().usize(0..bound)
    }

    pub(crate) fn delay_us(&self) -> u64 {
        self.dice.borrow_mut().u64(1..=self.slowest_us)
    }

    pub(crate) fn fate(&self) -> Fate {
        if !self.chance(self.fault_rate) {
            Fate::Well
        } else if self.chance(0.5) {
            Fate::FailsBefore
        } else {
            Fate::FailsAfter
        }
    }

    pub(crate) fn fails(&self) -> bool {
        self.chance(self.fault_rate)
    }

    pub(crate) fn crashes(&self) -> bool {
        self.chance(self.crash_rate)
    }

    pub(crate) fn duplicates(&self) -> bool {
        self.chance(self.duplicate_rate)
    }
}
