//! Adds a page of outcomes up by window and key, so that the graph gets a change for each of these and not for each outcome.

use std::collections::HashMap;

use records::{Lane, Measured, Tier, UtcMicros, WindowKey};

use super::totals::each_addend;
use super::{Cell, Totals};

/// Addends of a cell that wait to be added up.
const PENDING: usize = 4096;

/// A page in the making.
#[derive(Debug)]
pub struct Tally {
    width_us: u64,
    names: Names,
    places: HashMap<Place, usize>,
    cells: Vec<(Cell, Vec<(u16, i64)>)>,
}

/// A cell by numbers: its window's first moment, arm, model, lane and tier.
type Place = (u64, u32, u32, Lane, Option<Tier>);

impl Tally {
    /// With windows of a width that follow one another from 1970 on.
    ///
    /// # Panics
    /// Where the width is 0.
    pub fn new(width_us: u64) -> Self {
        assert!(width_us > 0, "a window has a width");
        Self { width_us, names: Names::default(), places: HashMap::new(), cells: Vec::new() }
    }

    /// Adds an outcome to the window of `moment`, so many times: -1 takes it away.
    pub fn add(&mut self, moment: UtcMicros, outcome: &Measured<'_>, times: i64) {
        let start = moment.0 - moment.0 % self.width_us;
        let (arm, model) = (self.names.number(outcome.arm.as_deref()), self.names.number(outcome.model.as_deref()));
        let place = (start, arm, model, outcome.lane, outcome.tier);
        let index = *self.places.entry(place).or_insert_with(|| {
            self.cells.push(((UtcMicros(start), key(outcome)), Vec::new()));
            self.cells.len() - 1
        });
        let addends = &mut self.cells[index].1;
        each_addend(outcome, |place, addend| addends.push((place, addend * times)));
        if addends.len() >= PENDING {
            *addends = Totals::of(addends).into_addends();
        }
    }

    /// Cells in the page.
    pub fn len(&self) -> usize {
        self.cells.len()
    }

    /// Whether nothing was added since the last time.
    pub fn is_empty(&self) -> bool {
        self.cells.is_empty()
    }

    /// What was added since the last time, by cell.
    pub fn take(&mut self) -> Vec<(Cell, Totals)> {
        self.places.clear();
        self.cells.drain(..).map(|(cell, mut addends)| (cell, Totals::of(&mut addends))).collect()
    }
}

fn key(outcome: &Measured<'_>) -> WindowKey {
    WindowKey {
        arm: outcome.arm.as_deref().map(str::to_owned),
        model: outcome.model.as_deref().map(str::to_owned),
        lane: outcome.lane,
        tier: outcome.tier,
    }
}

/// Numbers in place of texts.
#[derive(Debug, Default)]
struct Names(HashMap<String, u32>);

impl Names {
    /// 0 for none.
    fn number(&mut self, name: Option<&str>) -> u32 {
        let Some(name) = name else { return 0 };
        if let Some(number) = self.0.get(name) {
            return *number;
        }
        let number = self.0.len() as u32 + 1;
        self.0.insert(name.to_owned(), number);
        number
    }
}
