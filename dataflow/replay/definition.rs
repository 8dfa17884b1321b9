//! A run: its folder, and what was asked when it was begun.

use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use connectors::history::{Piece, pieces};
use connectors::store::Store;
use records::{Lane, Outcome, Tier, UtcMicros};
use serde::{Deserialize, Serialize};

use super::ReplayError;
use crate::config::{ArmConfig, Config};

/// The file that says what a run does.
const DEFINITION: &str = "run.json";

/// The arm of all uploads of a run.
const ARM: &str = "replay";

/// What somebody asks for: which uploads, and what is to be another way. What is not named is as the configuration says.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wanted {
    /// Files of outcomes, and folders of these; none: the store.
    pub outcomes: Vec<PathBuf>,
    /// What arrived from here on.
    pub from: Option<UtcMicros>,
    /// What arrived before.
    pub to: Option<UtcMicros>,
    /// Of this customer.
    pub customer: Option<String>,
    /// Of this tier.
    pub tier: Option<Tier>,
    /// What ran in this lane.
    pub lane: Option<Lane>,
    /// Another checkpoint.
    pub model: Option<PathBuf>,
    /// Another prompt.
    pub prompt: Option<String>,
    /// Another threshold; in [0, 1].
    pub threshold: Option<f64>,
    /// Whether the paid model is asked in doubt.
    pub fallback: bool,
}

impl Wanted {
    /// Whether an outcome of the past is of an upload that is asked for.
    pub(super) fn takes(&self, outcome: &Outcome) -> bool {
        self.from.is_none_or(|from| outcome.arrived_at >= from)
            && self.to.is_none_or(|to| outcome.arrived_at < to)
            && self.customer.as_ref().is_none_or(|customer| outcome.customer_id.as_ref() == Some(customer))
            && self.tier.is_none_or(|tier| outcome.tier == Some(tier))
            && self.lane.is_none_or(|lane| outcome.lane == lane)
    }
}

/// What a run does, written down when it is begun and never changed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Definition {
    /// When it was begun.
    pub begun_at: UtcMicros,
    /// What was asked for.
    pub wanted: Wanted,
    /// The checkpoint; `None` for nano.
    pub checkpoint: Option<PathBuf>,
    /// The prompt.
    pub prompt: String,
    /// The threshold.
    pub threshold: f64,
    /// A hash of all that answers depend on beside these: weights, schema, calibration, the paid model.
    pub models: String,
}

impl Definition {
    /// A configuration as the run wants it: its model, prompt and threshold, all uploads in one arm and in the low lane, and no
    /// answers given again.
    pub fn configure(&self, mut config: Config) -> Config {
        config.models.clear();
        config.model.checkpoint.clone_from(&self.checkpoint);
        config.model.prompt.clone_from(&self.prompt);
        config.model.threshold = self.threshold;
        config.experiment.arms =
            vec![ArmConfig { name: ARM.to_owned(), weight: 1, model: None, prompt: None, threshold: None }];
        config.lanes.high_tiers = Vec::new();
        config.lanes.high_modes = Vec::new();
        config.cache.enabled = false;
        config
    }
}

/// The folder of a run.
#[derive(Clone, Debug)]
pub struct Run {
    name: String,
    folder: PathBuf,
}

impl Run {
    /// The run of this name below a data folder, whether it is there or not.
    ///
    /// # Errors
    /// [`ReplayError::Name`].
    pub fn new(data: &Path, name: &str) -> Result<Self, ReplayError> {
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        if !(1..=64).contains(&name.len()) || !name.chars().all(allowed) || name.starts_with('.') {
            return Err(ReplayError::Name(name.to_owned()));
        }
        Ok(Self { name: name.to_owned(), folder: data.join("replays").join(name) })
    }

    /// The runs of a data folder that were begun, by name.
    pub fn names(data: &Path) -> Vec<String> {
        let entries = fs::read_dir(data.join("replays")).into_iter().flatten().flatten();
        let begun = entries.filter(|entry| entry.path().join(DEFINITION).exists());
        let mut names: Vec<String> = begun.filter_map(|entry| entry.file_name().into_string().ok()).collect();
        names.sort();
        names
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its folder, which is a data folder like any other.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The outcomes of the past that were chosen.
    pub fn original(&self) -> PathBuf {
        self.folder.join("original.parquet")
    }

    /// How many uploads were chosen; `None` where they are yet to be.
    ///
    /// # Errors
    /// [`ReplayError`].
    pub fn uploads(&self) -> Result<Option<u64>, ReplayError> {
        let file = self.original();
        if !file.exists() {
            return Ok(None);
        }
        Ok(pieces(&[file])?.iter().map(Piece::rows).sum())
    }

    /// Where the pairs go once all are there.
    pub fn pairs(&self) -> PathBuf {
        self.folder.join("pairs.parquet")
    }

    /// Opens its store, which is made where it is missing, and so is the folder.
    ///
    /// # Errors
    /// [`ReplayError`].
    pub async fn store(&self) -> Result<Store, ReplayError> {
        fs::create_dir_all(&self.folder).map_err(at(&self.folder))?;
        Ok(Store::open(&self.folder.join("tidemark.db")).await?)
    }

    /// What it does; `None` where it was never begun.
    ///
    /// # Errors
    /// [`ReplayError`].
    pub fn definition(&self) -> Result<Option<Definition>, ReplayError> {
        let path = self.folder.join(DEFINITION);
        match fs::read(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(at(&path)(error)),
            Ok(bytes) => serde_json::from_slice(&bytes)
                .map(Some)
                .map_err(|error| ReplayError::Definition { path, reason: error.to_string() }),
        }
    }

    /// Writes down what it does. When this returns, that outlives the process and the machine.
    ///
    /// # Errors
    /// [`ReplayError`].
    pub fn begin(&self, definition: &Definition) -> Result<(), ReplayError> {
        let (path, unfinished) = (self.folder.join(DEFINITION), self.folder.join(".run.json.unfinished"));
        let text = serde_json::to_vec_pretty(definition).expect("a definition is JSON");
        let write = || {
            let mut file = File::create(&unfinished)?;
            file.write_all(&text)?;
            file.sync_all()?;
            fs::rename(&unfinished, &path)?;
            File::open(&self.folder)?.sync_all()
        };
        write().map_err(at(&path))
    }
}

fn at(path: &Path) -> impl Fn(std::io::Error) -> ReplayError {
    let path = path.to_owned();
    move |source| ReplayError::File { path: path.clone(), source }
}
