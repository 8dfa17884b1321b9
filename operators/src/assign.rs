//! Puts each upload into an arm of the experiment.

use std::sync::{Arc, PoisonError, RwLock};

use records::Upload;
use timely::dataflow::StreamVec;
use timely::dataflow::operators::vec::Map;
use timely::progress::Timestamp;

use crate::Flight;
use crate::hash::fraction;

/// One side of an experiment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Arm {
    /// The experiment's name in outcomes; `None` where none runs, or the upload counts in none.
    pub experiment: Option<String>,
    /// Its name in outcomes.
    pub name: String,
    /// Its share, relative to the other arms' weights.
    pub weight: u32,
    /// The self-hosted model that is asked, by its name in the configuration; `None` for the usual one.
    pub model: Option<String>,
    /// The question that is asked.
    pub prompt: Arc<str>,
    /// Below this confidence the fallback is asked.
    pub threshold: f64,
}

/// What is assigned as one: everything of a customer, or each upload by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// All uploads of a customer are in one arm.
    Customer,
    /// Each upload is drawn by itself.
    Upload,
}

/// Arms and how uploads are drawn into them.
#[derive(Clone, Debug)]
pub struct Experiment {
    salt: String,
    unit: Unit,
    arms: Vec<Arc<Arm>>,
}

impl Experiment {
    /// An experiment over `arms`. Another salt draws anew; the same salt draws the same, on every worker, for ever.
    ///
    /// # Errors
    /// In words, where the weights add up to nothing.
    pub fn new(salt: String, unit: Unit, arms: Vec<Arm>) -> Result<Self, String> {
        if arms.iter().all(|arm| arm.weight == 0) {
            return Err("the arms' weights add up to 0: give at least one arm a weight".to_string());
        }
        Ok(Self { salt, unit, arms: arms.into_iter().map(Arc::new).collect() })
    }

    /// The arm of an upload.
    pub fn arm(&self, upload: &Upload) -> &Arc<Arm> {
        let unit = match self.unit {
            Unit::Customer => upload.customer_id.as_str(),
            Unit::Upload => upload.upload_id.as_str(),
        };
        let total: f64 = self.arms.iter().map(|arm| f64::from(arm.weight)).sum();
        let mut draw = fraction(&self.salt, unit) * total;
        let drawn = self.arms.iter().find(|arm| {
            draw -= f64::from(arm.weight);
            draw < 0.0
        });
        drawn.or(self.arms.last()).expect("an experiment has at least one arm")
    }
}

/// The experiment that runs, which may be replaced while the graph works. Clones share it.
#[derive(Clone, Debug)]
pub struct CurrentExperiment(Arc<RwLock<Arc<Experiment>>>);

impl From<Experiment> for CurrentExperiment {
    fn from(experiment: Experiment) -> Self {
        Self(Arc::new(RwLock::new(Arc::new(experiment))))
    }
}

impl CurrentExperiment {
    /// The experiment at this moment.
    pub fn get(&self) -> Arc<Experiment> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Lets another one run from here on. What was assigned before keeps its arm.
    pub fn replace(&self, experiment: Experiment) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(experiment);
    }
}

/// Assigns uploads to arms.
pub trait Assign {
    /// Gives each upload its arm of the experiment that runs when it comes by.
    fn assign(self, experiment: CurrentExperiment) -> Self;
}

impl<T: Timestamp> Assign for StreamVec<'_, T, Box<Flight>> {
    fn assign(self, experiment: CurrentExperiment) -> Self {
        self.map(move |mut flight| {
            flight.arm = Arc::clone(experiment.get().arm(&flight.upload));
            flight
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn upload(number: u32, customer: u32) -> Upload {
        let event = format!(r#"{{"upload_id":"u{number}","customer_id":"c{customer}","tier":"pro","audio_uri":"/a"}}"#);
        Upload::from_event(event.as_bytes()).expect("valid")
    }

    fn ninety_ten(unit: Unit) -> Experiment {
        let arm = |name: &str, weight| Arm { name: name.to_string(), weight, ..Arm::default() };
        Experiment::new("salt".to_string(), unit, vec![arm("primary", 90), arm("experimental", 10)]).expect("weights")
    }

    #[test]
    fn arms_get_their_shares() {
        let experiment = ninety_ten(Unit::Upload);
        let drawn = (0..20_000).filter(|n| experiment.arm(&upload(*n, 0)).name == "experimental").count();
        // Five standard deviations of Binomial(20,000, 0.1) are 212.
        assert!((1_788..=2_212).contains(&drawn), "{drawn} of 20,000 are not 10 %");
    }

    #[test]
    fn a_customer_stays_in_one_arm() {
        let experiment = ninety_ten(Unit::Customer);
        for customer in 0..100 {
            let first = &experiment.arm(&upload(0, customer)).name;
            assert!((1..50).all(|n| &experiment.arm(&upload(n, customer)).name == first));
        }
    }

    #[test]
    fn an_arm_without_weight_gets_nothing() {
        let arm = |name: &str, weight| Arm { name: name.to_string(), weight, ..Arm::default() };
        let experiment =
            Experiment::new("s".to_string(), Unit::Upload, vec![arm("all", 1), arm("none", 0)]).expect("weights");
        assert!((0..1000).all(|n| experiment.arm(&upload(n, 0)).name == "all"));
        assert!(Experiment::new("s".to_string(), Unit::Upload, vec![arm("none", 0)]).is_err());
    }
}
