//! Time that passes only when the simulation says so.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;

use operators::Clock;
use records::UtcMicros;
use timely::scheduling::Activator;

const START_US: u64 = 1_000_000_000_000;

/// A clock set by hand, with the operators that it is to wake.
pub(crate) struct SimulatedClock {
    now: Cell<u64>,
    alarms: RefCell<BTreeMap<u64, Vec<Activator>>>,
}

impl SimulatedClock {
    pub(crate) fn new() -> Self {
        Self { now: Cell::new(START_US), alarms: RefCell::default() }
    }

    /// Sets the time and wakes whoever was due by then.
    pub(crate) fn advance(&self, to: u64) {
        self.now.set(to);
        let mut alarms = self.alarms.borrow_mut();
        let later = alarms.split_off(&(to + 1));
        for operators in std::mem::replace(&mut *alarms, later).into_values() {
            operators.iter().for_each(Activator::activate);
        }
    }

    /// Forgets the operators of a process that crashed.
    pub(crate) fn forget(&self) {
        self.alarms.borrow_mut().clear();
    }
}

impl Clock for SimulatedClock {
    fn now(&self) -> UtcMicros {
        UtcMicros(self.now.get())
    }

    fn wake_at(&self, due: UtcMicros, operator: &Activator) {
        self.alarms.borrow_mut().entry(due.0).or_default().push(operator.clone());
    }
}
