//! Stops asking a service that keeps failing, and finds out by one call at a time whether it is back.

use std::sync::{Mutex, MutexGuard};

use records::UtcMicros;

/// When to stop asking, and for how long.
#[derive(Clone, Copy, Debug)]
pub struct BreakerRules {
    /// This many failures in a row open the breaker; at least 1.
    pub failures: u32,
    /// How long it stays open before one call may try.
    pub pause_ms: u64,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum State {
    /// Everybody passes.
    Closed { failures: u32 },
    /// Nobody passes before `until`; then one does.
    Open { until: UtcMicros },
    /// One call is out to try; nobody else passes.
    HalfOpen,
}

/// A circuit breaker. Who wants to call asks for a [`Pass`] and gives it back with the verdict.
#[derive(Debug)]
pub struct Breaker {
    rules: BreakerRules,
    state: Mutex<State>,
}

impl Breaker {
    /// A closed breaker.
    pub fn new(rules: BreakerRules) -> Self {
        Self { rules, state: Mutex::new(State::Closed { failures: 0 }) }
    }

    /// Leave to make one call; `None` while the breaker is open, or while another call tries.
    pub fn pass(&self, now: UtcMicros) -> Option<Pass<'_>> {
        let mut state = self.state();
        let probe = match *state {
            State::Closed { .. } => false,
            State::Open { until } if now >= until => true,
            State::Open { .. } | State::HalfOpen => return None,
        };
        if probe {
            *state = State::HalfOpen;
        }
        Some(Pass { breaker: self, probe })
    }

    /// Whether a call is, or may be, on its way: only an open breaker whose pause is not over is not available.
    pub fn is_available(&self, now: UtcMicros) -> bool {
        match *self.state() {
            State::Closed { .. } | State::HalfOpen => true,
            State::Open { until } => now >= until,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nothing panics while it holds the state")
    }
}

/// Leave to make one call. Dropped without a verdict (the caller gave up), it says nothing about the service.
#[must_use]
#[derive(Debug)]
pub struct Pass<'a> {
    breaker: &'a Breaker,
    probe: bool,
}

impl Pass<'_> {
    /// The service answered.
    pub fn succeeded(mut self) {
        let mut state = self.breaker.state();
        if self.probe || matches!(*state, State::Closed { .. }) {
            *state = State::Closed { failures: 0 };
        }
        self.probe = false;
    }

    /// The service failed. `true` where this opened the breaker. A call from before it opened changes nothing.
    pub fn failed(mut self, now: UtcMicros) -> bool {
        let mut state = self.breaker.state();
        let failures = match *state {
            State::Closed { failures } => failures + 1,
            State::HalfOpen if self.probe => self.breaker.rules.failures,
            State::Open { .. } | State::HalfOpen => return false,
        };
        self.probe = false;
        let opens = failures >= self.breaker.rules.failures;
        *state = match opens {
            true => State::Open { until: now.plus_ms(self.breaker.rules.pause_ms) },
            false => State::Closed { failures },
        };
        opens
    }
}

impl Drop for Pass<'_> {
    /// A try that was given up leaves its turn to the next caller, else nobody would ever try again.
    fn drop(&mut self) {
        if self.probe {
            *self.breaker.state() = State::Open { until: UtcMicros(0) };
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const RULES: BreakerRules = BreakerRules { failures: 3, pause_ms: 10 };

    fn open(now: UtcMicros) -> Breaker {
        let breaker = Breaker::new(RULES);
        for nth in 1..=RULES.failures {
            let opened = breaker.pass(now).expect("closed").failed(now);
            assert_eq!(opened, nth == RULES.failures);
        }
        breaker
    }

    #[test]
    fn failures_in_a_row_open_it_and_after_the_pause_one_call_at_a_time_may_try() {
        let start = UtcMicros(0);
        let breaker = open(start);
        assert!(breaker.pass(start.plus_ms(9)).is_none());
        assert!(!breaker.is_available(start.plus_ms(9)));

        let probe = breaker.pass(start.plus_ms(10)).expect("the pause is over");
        assert!(breaker.pass(start.plus_ms(10)).is_none(), "a second call passed beside the first try");
        assert!(probe.failed(start.plus_ms(11)), "a failed try opens it again");
        assert!(breaker.pass(start.plus_ms(20)).is_none());

        breaker.pass(start.plus_ms(21)).expect("the second pause is over").succeeded();
        breaker.pass(start.plus_ms(21)).expect("closed again").succeeded();
    }

    #[test]
    fn a_success_between_failures_keeps_it_closed() {
        let breaker = Breaker::new(RULES);
        for _ in 0..5 {
            assert!(!breaker.pass(UtcMicros(0)).expect("closed").failed(UtcMicros(0)));
            assert!(!breaker.pass(UtcMicros(0)).expect("closed").failed(UtcMicros(0)));
            breaker.pass(UtcMicros(0)).expect("closed").succeeded();
        }
    }

    #[test]
    fn a_try_that_is_given_up_leaves_its_turn_to_the_next() {
        let breaker = open(UtcMicros(0));
        let later = UtcMicros(0).plus_ms(RULES.pause_ms);
        drop(breaker.pass(later).expect("the pause is over"));
        breaker.pass(later).expect("the turn is free again").succeeded();
        assert!(breaker.is_available(later));
    }

    #[derive(Clone, Debug)]
    enum Step {
        Ask,
        Succeed(usize),
        Fail(usize),
        GiveUp(usize),
        Wait(u64),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            4 => Just(Step::Ask),
            1 => any::<usize>().prop_map(Step::Succeed),
            4 => any::<usize>().prop_map(Step::Fail),
            1 => any::<usize>().prop_map(Step::GiveUp),
            2 => (0u64..15).prop_map(Step::Wait),
        ];
        prop::collection::vec(step, 0..200)
    }

    proptest! {
        #[test]
        fn whatever_happens_it_rests_its_pause_tries_one_at_a_time_and_is_never_stuck(steps in steps()) {
            let breaker = Breaker::new(RULES);
            let mut now = UtcMicros(0);
            let mut out: Vec<Pass<'_>> = Vec::new();
            let mut opened_at = None;
            for step in steps {
                match step {
                    Step::Ask => if let Some(pass) = breaker.pass(now) {
                        let resting = opened_at.is_some_and(|at: UtcMicros| now < at.plus_ms(RULES.pause_ms));
                        prop_assert!(!resting, "passed at {now} though opened at {opened_at:?}");
                        out.push(pass);
                    },
                    Step::Wait(ms) => now = now.plus_ms(ms),
                    _ if out.is_empty() => {}
                    Step::Succeed(which) => out.swap_remove(which % out.len()).succeeded(),
                    Step::GiveUp(which) => drop(out.swap_remove(which % out.len())),
                    Step::Fail(which) => if out.swap_remove(which % out.len()).failed(now) {
                        opened_at = Some(now);
                    },
                }
                prop_assert!(out.iter().filter(|pass| pass.probe).count() <= 1);
            }
            out.clear();
            let later = now.plus_ms(RULES.pause_ms);
            prop_assert!(breaker.is_available(later) && breaker.pass(later).is_some(), "stuck: {breaker:?}");
        }
    }
}
