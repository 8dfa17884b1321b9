//! A source that gives out no more than so many messages a second.

use std::str::FromStr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::FutureExt;
use futures::future::BoxFuture;
use records::{Fault, Lane, UtcMicros};

use crate::source::{Delivery, Lease, Pending, Source};

const SECOND_US: u64 = 1_000_000;

/// So many a second, as in `5/s` or `0.5/s`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    interval_us: u64,
}

impl FromStr for Rate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let a_second = text.strip_suffix("/s").and_then(|number| number.parse::<f64>().ok());
        match a_second.map(|number| SECOND_US as f64 / number) {
            Some(interval) if (1.0..1e12).contains(&interval) => Ok(Self { interval_us: interval.round() as u64 }),
            _ => Err("is no rate like 5/s or 0.5/s".into()),
        }
    }
}

/// Another source at a rate, both lanes together. What was not asked for in time is made up for within a second, and then
/// given up.
pub struct Paced {
    source: Arc<dyn Source>,
    rate: Rate,
    now: fn() -> UtcMicros,
    /// When the next message is due.
    due: Mutex<UtcMicros>,
}

impl Paced {
    /// `source` at a rate by the clock `now`.
    pub fn new(source: Arc<dyn Source>, rate: Rate, now: fn() -> UtcMicros) -> Self {
        Self { source, rate, now, due: Mutex::new(now()) }
    }

    fn due(&self) -> MutexGuard<'_, UtcMicros> {
        self.due.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the turns of at most `max` messages that are due.
    fn take(&self, max: usize) -> usize {
        let (now, interval) = ((self.now)().0, self.rate.interval_us);
        let mut due = self.due();
        let oldest = due.0.max(now.saturating_sub(SECOND_US));
        let ready = now.checked_sub(oldest).map_or(0, |late| 1 + late / interval);
        let taken = max.min(usize::try_from(ready).unwrap_or(usize::MAX));
        if taken > 0 {
            due.0 = oldest + interval * taken as u64;
        }
        taken
    }

    /// Gives turns back for which there was no message.
    fn put_back(&self, turns: usize) {
        let mut due = self.due();
        due.0 = due.0.saturating_sub(self.rate.interval_us * turns as u64);
    }
}

impl Source for Paced {
    fn pull(&self, lane: Lane, max: usize) -> BoxFuture<'_, Result<Vec<Delivery>, Fault>> {
        async move {
            let turns = self.take(max);
            if turns == 0 {
                return Ok(Vec::new());
            }
            let pulled = self.source.pull(lane, turns).await;
            self.put_back(turns - pulled.as_ref().map_or(0, Vec::len));
            pulled
        }
        .boxed()
    }

    fn extend<'a>(&'a self, leases: &'a [Lease]) -> BoxFuture<'a, Result<u64, Fault>> {
        self.source.extend(leases)
    }

    fn acknowledge<'a>(&'a self, leases: &'a [Lease]) -> BoxFuture<'a, Result<(), Fault>> {
        self.source.acknowledge(leases)
    }

    fn release<'a>(&'a self, leases: &'a [Lease]) -> BoxFuture<'a, Result<(), Fault>> {
        self.source.release(leases)
    }

    fn pending(&self, lane: Lane) -> BoxFuture<'_, Result<Pending, Fault>> {
        self.source.pending(lane)
    }

    fn lease_ms(&self) -> u64 {
        self.source.lease_ms()
    }

    fn skipped(&self, lane: Lane) -> u64 {
        self.source.skipped(lane)
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        self.source.close()
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use proptest::prelude::*;

    use super::*;
    use crate::listed::Listed;

    thread_local! {
        static NOW: Cell<u64> = const { Cell::new(0) };
    }

    fn now() -> UtcMicros {
        UtcMicros(NOW.get())
    }

    fn pulled(source: &Paced, lane: Lane, max: usize) -> u64 {
        let pulled = source.pull(lane, max).now_or_never().expect("a list answers at once");
        pulled.expect("it has no faults").len() as u64
    }

    proptest! {
        #[test]
        fn no_stretch_of_time_has_more_than_its_rate_and_a_second_and_who_asks_often_gets_all_of_it(
            a_second in 1u64..200,
            steps in proptest::collection::vec((0u64..700_000, 1usize..300, any::<bool>()), 1..60),
        ) {
            NOW.set(5 * SECOND_US);
            let listed = Arc::new(Listed::new(vec![Arc::from(&b"event"[..]); 20_000]));
            let rate: Rate = format!("{a_second}/s").parse().expect("a rate");
            let source = Paced::new(listed, rate, now);
            let (mut given, mut asked_for_all) = (vec![(now().0, pulled(&source, Lane::High, 300))], true);
            for (pause, max, of_the_empty_lane) in steps {
                NOW.set(NOW.get() + pause);
                // A lane that has nothing takes nobody's turn.
                if of_the_empty_lane {
                    prop_assert_eq!(pulled(&source, Lane::Low, max), 0);
                }
                let got = pulled(&source, Lane::High, max);
                asked_for_all &= got < max as u64;
                given.push((now().0, got));
            }
            for (first, (begin, _)) in given.iter().enumerate() {
                let mut sum = 0;
                for (end, got) in &given[first..] {
                    sum += got;
                    let most = (end - begin + SECOND_US) / rate.interval_us + 1;
                    prop_assert!(sum <= most, "{sum} in {} us, and {most} are allowed", end - begin);
                }
            }
            let sum: u64 = given.iter().map(|(_, got)| got).sum();
            let least = (now().0 - 5 * SECOND_US) / rate.interval_us;
            prop_assert!(!asked_for_all || sum >= least, "{sum} of {least}");
        }
    }

    #[test]
    fn a_rate_is_a_number_a_second() {
        assert_eq!("2.5/s".parse(), Ok(Rate { interval_us: 400_000 }));
        for wrong in ["", "5", "5/m", "0/s", "-1/s", "nan/s", "inf/s", "1e9/s"] {
            assert!(wrong.parse::<Rate>().is_err(), "{wrong} was taken");
        }
    }
}
