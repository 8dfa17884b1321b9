//! The time of day, handed in so that a simulator can own it.

use std::rc::Rc;
use std::time::Duration;

use records::UtcMicros;
use timely::scheduling::Activator;

/// What operators know of time.
pub trait Clock {
    /// The time of day.
    fn now(&self) -> UtcMicros;

    /// Schedules an operator once it is `due`.
    fn wake_at(&self, due: UtcMicros, operator: &Activator) {
        operator.activate_after(Duration::from_micros(due.0.saturating_sub(self.now().0)));
    }
}

/// A clock that the operators of one thread share.
pub type SharedClock = Rc<dyn Clock>;
