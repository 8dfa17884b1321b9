//! Adds outcomes up by window and key, on differential dataflow.
//!
//! What is known of a window is its difference, [`Totals`]: so the state of a window does not grow with its outcomes, their
//! order does not matter, and an outcome that was replaced or erased is taken away by its negation. A [`Tally`] adds a page of
//! outcomes up before it enters the graph.
//!
//! ```
//! use differential_dataflow::input::Input;
//! use operators::windows::{Expire, Tally, Windows};
//! use records::{Measured, Outcome};
//!
//! # fn outcomes() -> Vec<Outcome> { Vec::new() }
//! timely::execute_directly(|worker| {
//!     let mut input = worker.dataflow::<u64, _, _>(|scope| {
//!         let (input, outcomes) = scope.new_collection();
//!         // A window is known at its end, and forgotten a moment later.
//!         let windows = outcomes.expire(|_, end| end + 1).windows();
//!         windows.inspect(|((window, totals), end, change)| println!("{window:?} {totals:?} {end} {change}"));
//!         input
//!     });
//!     let mut minutes = Tally::new(60_000_000);
//!     outcomes().iter().for_each(|outcome| minutes.add(outcome.arrived_at, &Measured::from(outcome), 1));
//!     for (window, totals) in minutes.take() {
//!         let end = window.0.0 + 60_000_000;
//!         input.update_at(window, end, totals);
//!     }
//! });
//! ```

mod buckets;
mod tally;
pub(crate) mod totals;

use differential_dataflow::difference::{Abelian, Semigroup};
use differential_dataflow::operators::CountTotal;
use differential_dataflow::{AsCollection, Data, ExchangeData, VecCollection};
use records::{UtcMicros, WindowKey};
use timely::dataflow::operators::vec::Map;

pub use tally::Tally;
pub use totals::Totals;

/// A window under one key, by its first moment.
pub type Cell = (UtcMicros, WindowKey);

/// Adds up by window.
pub trait Windows<'scope> {
    /// The totals of each window under each key, as they change.
    fn windows(self) -> VecCollection<'scope, u64, (Cell, Totals), isize>;
}

impl<'scope> Windows<'scope> for VecCollection<'scope, u64, Cell, Totals> {
    fn windows(self) -> VecCollection<'scope, u64, (Cell, Totals), isize> {
        self.count_total()
    }
}

/// Forgets.
pub trait Expire<D> {
    /// Takes each change back at the later time that `end` gives for it, so that nothing is kept for longer.
    fn expire(self, end: impl Fn(&D, &u64) -> u64 + 'static) -> Self;
}

impl<D: Data, R: Abelian + 'static> Expire<D> for VecCollection<'_, u64, D, R> {
    fn expire(self, end: impl Fn(&D, &u64) -> u64 + 'static) -> Self {
        let both = self.inner.flat_map(move |(data, time, change)| {
            let expires = end(&data, &time);
            assert!(expires > time, "what is known at {time} cannot be forgotten at {expires}");
            let mut back = change.clone();
            back.negate();
            [(data.clone(), time, change), (data, expires, back)]
        });
        both.as_collection()
    }
}

/// Replaced outcomes.
pub trait Latest<'scope, D, R> {
    /// Of all that an upload has, by version, the value of the largest one, as a change of its key.
    fn latest(self) -> VecCollection<'scope, u64, D, R>;
}

impl<'scope, D, R> Latest<'scope, D, R> for VecCollection<'scope, u64, (String, (u32, D, R)), isize>
where
    D: ExchangeData,
    R: ExchangeData + Semigroup + differential_dataflow::difference::Multiply<isize, Output = R>,
{
    fn latest(self) -> VecCollection<'scope, u64, D, R> {
        let latest = self.reduce(|_, versions, latest| {
            // They are sorted, by version first.
            if let Some(((_, data, change), _)) = versions.last() {
                latest.push(((data.clone(), change.clone()), 1_isize));
            }
        });
        latest.explode(|(_, (data, change))| Some((data, change)))
    }
}

#[cfg(test)]
mod tests;
