//! What an experiment is: a TOML file, which the store keeps as JSON.

use std::path::Path;

use connectors::store::{ArmStop, StoredExperiment};
use operators::compare::{ALPHA, Entrant, Guardrail, Metric, Sequence};
use operators::{Arm, Experiment, Unit};
use records::UtcMicros;
use serde::{Deserialize, Serialize};

use super::ExperimentError;
use crate::config::{ArmConfig, Config, ConfigError, UnitChoice, at_its_key};

/// An experiment as its author wrote it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Definition {
    /// Unique for ever; outcomes carry it.
    pub name: String,
    /// What is drawn into an arm as one.
    #[serde(default = "customer")]
    pub unit: UnitChoice,
    /// Another salt draws anew; without one, the name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub salt: Option<String>,
    /// When it begins (RFC 3339); without it, when it is started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub starts_at: Option<UtcMicros>,
    /// When it ends; without it, when it is stopped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ends_at: Option<UtcMicros>,
    /// The metric that decides.
    #[serde(default = "success_rate", with = "metric_name")]
    pub metric: Metric,
    /// The smallest difference of that metric that is of interest, in its unit: 0.03 is 3 points of a rate.
    pub smallest_difference: f64,
    /// The uploads of the control and one other arm together at which intervals are to be tightest. They hold at all others.
    #[serde(default = "expected_uploads")]
    pub expected_uploads: u64,
    /// The control, and what is compared with it.
    pub arms: Vec<ArmConfig>,
    /// What describes the control's uploads once more, for the report alone.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub shadows: Vec<ShadowConfig>,
    /// What stops an arm.
    #[serde(default)]
    pub guardrails: Vec<GuardrailConfig>,
}

/// `[[shadows]]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ShadowConfig {
    /// Its name, which no arm has.
    pub name: String,
    /// The share of the control's uploads that it describes; in (0, 1].
    #[serde(default = "all")]
    pub share: f64,
    /// As in an arm.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// As in an arm.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prompt: Option<String>,
    /// As in an arm.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub threshold: Option<f64>,
}

fn all() -> f64 {
    1.0
}

/// A shadow as it is asked.
#[derive(Clone, Debug)]
pub(super) struct Shadow {
    /// What is asked.
    pub(super) arm: Arm,
    /// The arm whose uploads it describes.
    pub(super) control: String,
    /// Which of these.
    pub(super) share: f64,
    pub(super) salt: String,
}

/// `[[guardrails]]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GuardrailConfig {
    /// The metric; whether higher or lower is worse follows from it.
    #[serde(with = "metric_name")]
    pub metric: Metric,
    /// How much worse than the control an arm may be, in the metric's unit.
    #[serde(default)]
    pub limit: f64,
}

fn customer() -> UnitChoice {
    UnitChoice::Customer
}

fn success_rate() -> Metric {
    Metric::SuccessRate
}

fn expected_uploads() -> u64 {
    10_000
}

/// A metric as its name.
mod metric_name {
    use operators::compare::Metric;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(metric: &Metric, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(metric.as_str())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Metric, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

impl Definition {
    /// Reads a definition from a file.
    ///
    /// # Errors
    /// [`ConfigError`], which names the file and the key.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path).map_err(|error| ConfigError::Read { path: path.to_owned(), error })?;
        Self::parse(&text).map_err(|reason| ConfigError::Invalid { path: path.to_owned(), reason })
    }

    fn parse(text: &str) -> Result<Self, String> {
        let definition: Self = toml::from_str(text).map_err(|error| at_its_key(text, &error))?;
        definition.check().map(|()| definition)
    }

    /// Reads a definition from the store.
    ///
    /// # Errors
    /// [`ExperimentError::Definition`].
    pub fn of(stored: &StoredExperiment) -> Result<Self, ExperimentError> {
        let cannot = |reason: String| ExperimentError::Definition { name: stored.name.clone(), reason };
        let definition: Self = serde_json::from_str(&stored.definition).map_err(|error| cannot(error.to_string()))?;
        definition.check().map_err(cannot)?;
        Ok(definition)
    }

    fn check(&self) -> Result<(), String> {
        let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        if !(1..=64).contains(&self.name.len()) || !self.name.chars().all(is_plain) {
            return Err(format!("name {:?} must be 1 to 64 characters of A-Z a-z 0-9 . _ -", self.name));
        }
        if self.arms.is_empty() || self.arms.len() + self.shadows.len() < 2 {
            return Err("arms: an experiment has a control, and at least one other arm or a shadow".into());
        }
        for (place, shadow) in self.shadows.iter().enumerate() {
            let ShadowConfig { name, share, threshold, .. } = shadow;
            let before = self.arms.iter().map(|arm| &arm.name).chain(self.shadows[..place].iter().map(|it| &it.name));
            if before.into_iter().any(|other| other == name) {
                return Err(format!("shadows: two arms or shadows are called {name}"));
            }
            if !(*share > 0.0 && *share <= 1.0) {
                return Err(format!("shadows: the share of {name} is {share}, and must be above 0 and at most 1"));
            }
            if let Some(threshold) = threshold.filter(|threshold| !(0.0..=1.0).contains(threshold)) {
                return Err(format!("shadows: the threshold of {name} is {threshold}, and a confidence is in [0, 1]"));
            }
        }
        for (place, arm) in self.arms.iter().enumerate() {
            if arm.weight == 0 {
                return Err(format!("arms: {} has the weight 0: leave it out, or give it a weight", arm.name));
            }
            if self.arms[..place].iter().any(|other| other.name == arm.name) {
                return Err(format!("arms: two are called {}", arm.name));
            }
            if let Some(threshold) = arm.threshold.filter(|threshold| !(0.0..=1.0).contains(threshold)) {
                return Err(format!(
                    "arms: the threshold of {} is {threshold}, and a confidence is in [0, 1]",
                    arm.name
                ));
            }
        }
        if !(self.smallest_difference > 0.0 && self.smallest_difference.is_finite()) {
            return Err(format!("smallest_difference must be more than 0, not {}", self.smallest_difference));
        }
        if self.expected_uploads == 0 {
            return Err("expected_uploads must be at least 1".into());
        }
        if let Some(bad) = self.guardrails.iter().find(|it| !(it.limit >= 0.0 && it.limit.is_finite())) {
            return Err(format!("guardrails: the limit of {} must be at least 0, not {}", bad.metric, bad.limit));
        }
        match (self.starts_at, self.ends_at) {
            (Some(start), Some(end)) if end <= start => Err(format!("ends_at {end} is not after starts_at {start}")),
            _ => Ok(()),
        }
    }

    /// What is put into the store.
    ///
    /// # Errors
    /// In words, where it would be over before it begins.
    pub fn to_store(&self, now: UtcMicros) -> Result<StoredExperiment, String> {
        if let Some(end) = self.ends_at.filter(|end| *end <= now) {
            return Err(format!("ends_at {end} is over: set a later one, or leave it out"));
        }
        Ok(StoredExperiment {
            name: self.name.clone(),
            definition: serde_json::to_string(self).expect("names and finite numbers are JSON"),
            starts_at: self.starts_at.unwrap_or(now).max(now),
            ends_at: self.ends_at,
            stopped_at: None,
            stops: Vec::new(),
        })
    }

    /// How uploads are drawn. The shares never change, so nobody changes arms: whoever is drawn into a stopped arm gets what
    /// the control gets, and does not count in the experiment.
    ///
    /// # Errors
    /// In words, where an arm's model is none of the configuration's.
    pub fn experiment(&self, config: &Config, stops: &[ArmStop]) -> Result<Experiment, String> {
        let arm = |arm: &ArmConfig| {
            if stops.iter().any(|stop| stop.arm == arm.name) {
                Ok(Arm { weight: arm.weight, ..config.arm(&self.arms[0], None)? })
            } else {
                config.arm(arm, Some(&self.name))
            }
        };
        let salt = self.salt.as_ref().unwrap_or(&self.name).clone();
        Experiment::new(salt, self.unit.into(), self.arms.iter().map(arm).collect::<Result<_, _>>()?)
    }

    /// Whether every model that is asked is one of a configuration.
    ///
    /// # Errors
    /// In words, where one is not.
    pub fn models_are_in(&self, config: &Config) -> Result<(), String> {
        self.experiment(config, &[])?;
        self.shadows(config).map(drop)
    }

    /// The shadows.
    ///
    /// # Errors
    /// In words, where a shadow's model is none of the configuration's.
    pub(super) fn shadows(&self, config: &Config) -> Result<Vec<Shadow>, String> {
        let shadow = |it: &ShadowConfig| {
            let ShadowConfig { name, model, prompt, threshold, .. } = it.clone();
            let arm = ArmConfig { name, weight: 1, model, prompt, threshold };
            Ok(Shadow { arm: config.arm(&arm, Some(&self.name))?, ..self.shadow(it) })
        };
        self.shadows.iter().map(shadow).collect()
    }

    /// A shadow, without what it is asked.
    pub(super) fn shadow(&self, shadow: &ShadowConfig) -> Shadow {
        Shadow {
            arm: Arm { name: shadow.name.clone(), ..Arm::default() },
            control: self.arms[0].name.clone(),
            share: shadow.share,
            salt: format!("{} {}", self.salt.as_ref().unwrap_or(&self.name), shadow.name),
        }
    }

    /// What is drawn as one.
    pub fn unit(&self) -> Unit {
        self.unit.into()
    }

    /// The arms as a comparison takes them, the control first.
    pub fn entrants(&self, stops: &[ArmStop]) -> Vec<Entrant> {
        let entrant = |arm: &ArmConfig| Entrant {
            name: arm.name.clone(),
            weight: arm.weight,
            stopped_at: stops.iter().find(|stop| stop.arm == arm.name).map(|stop| stop.stopped_at),
        };
        self.arms.iter().map(entrant).collect()
    }

    /// How intervals are made: where several arms and shadows are compared with the control, all of them together are wrong
    /// in 5 of 100 experiments at most.
    pub fn sequence(&self) -> Sequence {
        let compared = self.arms.len() - 1 + self.shadows.len();
        Sequence::new(ALPHA / compared as f64, self.expected_uploads)
    }

    /// How guardrails are judged: all of them, over all arms, stop a good arm in 5 of 100 experiments at most.
    pub fn guardrail_sequence(&self) -> Sequence {
        let watched = (self.guardrails.len() * (self.arms.len() - 1)).max(1);
        Sequence::new(ALPHA / watched as f64, self.expected_uploads)
    }

    /// What stops an arm.
    pub fn guardrails(&self) -> impl Iterator<Item = Guardrail> {
        self.guardrails.iter().map(|it| Guardrail { metric: it.metric, limit: it.limit })
    }
}

#[cfg(test)]
mod tests {
    use records::Upload;

    use super::*;

    const TEXT: &str = r#"
        name = "prompt-2"
        smallest_difference = 0.03
        [[arms]]
        name = "control"
        weight = 50
        [[arms]]
        name = "short"
        weight = 30
        prompt = "Short."
        [[arms]]
        name = "strict"
        weight = 20
        threshold = 0.9
        [[shadows]]
        name = "beside"
        share = 0.25
        [[guardrails]]
        metric = "error_rate"
        limit = 0.02
    "#;

    #[test]
    fn a_definition_comes_out_of_the_store_as_it_went_in() {
        let definition = Definition::parse(TEXT).expect("valid");
        let stored = definition.to_store(UtcMicros(7)).expect("not over");
        assert_eq!((Definition::of(&stored).expect("valid"), stored.starts_at), (definition, UtcMicros(7)));
    }

    #[test]
    fn what_cannot_be_an_experiment_is_refused_by_key() {
        for (good, bad, names) in [
            ("prompt-2", "prompt 2", "name"),
            ("weight = 30", "weight = 0", "short has the weight 0"),
            ("\"strict\"", "\"short\"", "two are called short"),
            ("0.9", "1.9", "1.9"),
            ("= 0.03", "= 0.0", "smallest_difference"),
            ("error_rate", "beauty", "success_rate, error_rate"),
            ("0.02", "-0.02", "limit"),
            ("[[guardrails]]", "[[guards]]", "guards"),
            ("\"beside\"", "\"short\"", "are called short"),
            ("0.25", "0.0", "share of beside"),
            ("share = 0.25", "threshold = 2.0", "threshold of beside"),
            (
                "name = \"prompt-2\"",
                "name = \"p\"\nends_at = \"1970-01-01T00:00:00Z\"\nstarts_at = \"1970-01-02T00:00:00Z\"",
                "ends_at",
            ),
        ] {
            let error = Definition::parse(&TEXT.replacen(good, bad, 1)).expect_err(bad);
            assert!(error.contains(names), "{bad}: {error}");
        }
    }

    #[test]
    fn a_control_and_a_shadow_are_an_experiment_and_a_model_that_is_missing_is_named() {
        let alone = "name = \"e\"\nsmallest_difference = 0.1\n[[arms]]\nname = \"control\"\nweight = 1\n";
        assert!(Definition::parse(alone).is_err_and(|error| error.contains("or a shadow")));
        let shadow = format!("{alone}[[shadows]]\nname = \"beside\"\nmodel = \"tuned\"\n");
        let definition = Definition::parse(&shadow).expect("valid");
        let mut config = Config::default();
        let error = definition.models_are_in(&config).expect_err("it is missing");
        assert!(error.contains("beside") && error.contains("[models.tuned]"), "{error}");
        config.models.insert("tuned".into(), Default::default());
        assert_eq!(definition.models_are_in(&config), Ok(()));
    }

    #[test]
    fn an_arm_that_is_stopped_moves_nobody_else_and_its_own_leave_the_experiment() {
        let (definition, config) = (Definition::parse(TEXT).expect("valid"), Config::default());
        let stop = ArmStop { arm: "short".into(), stopped_at: UtcMicros(5), reason: "errors".into() };
        let before = definition.experiment(&config, &[]).expect("arms");
        let after = definition.experiment(&config, &[stop]).expect("arms");
        let mut left = 0;
        for customer in 0..1000 {
            let event = format!(r#"{{"upload_id":"u","customer_id":"{customer}","tier":"pro","audio_uri":"/a.wav"}}"#);
            let upload = Upload::from_event(event.as_bytes()).expect("valid");
            let (before, after) = (before.arm(&upload), after.arm(&upload));
            assert_eq!(before.experiment.as_deref(), Some("prompt-2"));
            if before.name == "short" {
                left += 1;
                let served = (after.experiment.as_deref(), after.name.as_str(), &*after.prompt);
                assert_eq!(served, (None, "control", config.model.prompt.as_str()));
            } else {
                assert_eq!(before, after);
            }
        }
        assert!((250..350).contains(&left), "{left}");
    }
}
