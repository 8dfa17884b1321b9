//! Adds a page of outcomes up by window and key, so that the graph gets a change for each of these and not for each outcome.

use std::collections::HashMap;

use records::{Lane, Measured, Tier, UtcMicros, WindowKey};

use super::totals::{PLACES, each_addend};
use super::{Cell, Totals};

/// A page in the making.
#[derive(Debug)]
pub struct Tally {
    width_us: u64,
    names: Names,
    places: HashMap<Place, usize>,
    cells: Vec<(Cell, Sums)>,
}

/// A cell by numbers: its window's first moment, experiment, arm, model and region, its lane and tier.
type Place = (u64, [u32; 4], Lane, Option<Tier>);

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
        let names = [&outcome.experiment, &outcome.arm, &outcome.model, &outcome.region]
            .map(|name| self.names.number(name.as_deref()));
        let place = (start, names, outcome.lane, outcome.tier);
        let index = *self.places.entry(place).or_insert_with(|| {
            self.cells.push(((UtcMicros(start), key(outcome)), Sums::default()));
            self.cells.len() - 1
        });
        let sums = &mut self.cells[index].1;
        each_addend(outcome, |place, addend| sums.add(place, addend * times));
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
        self.cells.drain(..).map(|(cell, sums)| (cell, sums.totals())).collect()
    }
}

fn key(outcome: &Measured<'_>) -> WindowKey {
    WindowKey {
        experiment: outcome.experiment.as_deref().map(str::to_owned),
        arm: outcome.arm.as_deref().map(str::to_owned),
        model: outcome.model.as_deref().map(str::to_owned),
        lane: outcome.lane,
        tier: outcome.tier,
        region: outcome.region.as_deref().map(str::to_owned),
    }
}

/// The sums of a cell in the making.
#[derive(Debug, Default)]
struct Sums {
    /// The first addends as they came: in a page without order most cells have few.
    few: Vec<(u16, i64)>,
    /// Further ones at their places, by the places' higher and lower half.
    many: [Vec<i64>; 4],
}

/// Above this, looking for equal places costs more than a sum for each.
const FEW: usize = 256;

impl Sums {
    fn add(&mut self, place: u16, addend: i64) {
        if self.few.len() < FEW {
            self.few.push((place, addend));
            return;
        }
        let sums = &mut self.many[usize::from(place / PLACES)];
        let at = usize::from(place % PLACES);
        if at >= sums.len() {
            sums.resize(at + 1, 0);
        }
        sums[at] += addend;
    }

    fn totals(mut self) -> Totals {
        for (first, sums) in (0..).step_by(usize::from(PLACES)).zip(&self.many) {
            self.few.extend((first..).zip(sums).filter(|(_, sum)| **sum != 0).map(|(place, sum)| (place, *sum)));
        }
        Totals::of(&mut self.few)
    }
}

/// Numbers in place of texts. There are few, so that looking at each is quick.
#[derive(Debug, Default)]
struct Names(Vec<String>);

impl Names {
    /// 0 for none.
    fn number(&mut self, name: Option<&str>) -> u32 {
        let Some(name) = name else { return 0 };
        let found = self.0.iter().position(|other| other == name).unwrap_or_else(|| {
            self.0.push(name.to_owned());
            self.0.len() - 1
        });
        found as u32 + 1
    }
}
