//! Experiments: which one runs, which of its arms were stopped, and the outcomes that count in it.

use records::{Operation, Outcome, UtcMicros};
use serde_json::{Value as Json, json};

use super::rows::{moment, outcome, unsigned};
use super::values::Row;
use super::{Store, StoreError};

/// An experiment as it was started. The store does not look into its definition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredExperiment {
    /// Unique for ever.
    pub name: String,
    /// A JSON object.
    pub definition: String,
    /// Uploads are drawn into it from here on.
    pub starts_at: UtcMicros,
    /// And until here; `None`: until it is stopped.
    pub ends_at: Option<UtcMicros>,
    /// When it was stopped by hand.
    pub stopped_at: Option<UtcMicros>,
    /// Its arms that were stopped, in the order of their names.
    pub stops: Vec<ArmStop>,
}

impl StoredExperiment {
    /// Whether it is over, by its end or by hand.
    pub fn is_over(&self, now: UtcMicros) -> bool {
        self.stopped_at.is_some() || self.ends_at.is_some_and(|end| end <= now)
    }

    /// Whether uploads are drawn into it.
    pub fn runs(&self, now: UtcMicros) -> bool {
        self.starts_at <= now && !self.is_over(now)
    }

    /// Until when uploads are drawn into it, as far as that is known.
    pub fn end(&self) -> Option<UtcMicros> {
        [self.ends_at, self.stopped_at].into_iter().flatten().min()
    }
}

/// An arm that gets nothing further.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArmStop {
    /// The arm.
    pub arm: String,
    /// Since when.
    pub stopped_at: UtcMicros,
    /// Why, in words.
    pub reason: String,
}

/// What became of the wish to start an experiment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Started {
    /// It is in the store, and workers take it up.
    Started,
    /// An earlier experiment had that name.
    NameTaken,
    /// Another one is not over yet: its name.
    Running(String),
}

const UNDER_WAY: &str = "SELECT name FROM experiments
    WHERE stopped_at IS NULL AND (ends_at IS NULL OR ends_at > $1) ORDER BY starts_at LIMIT 1";

const TAKEN: &str = "SELECT name FROM experiments WHERE name = $1";

/// 0 stands for no end.
const START: &str = "INSERT INTO experiments (name, definition, starts_at, ends_at) VALUES ($1, $2, $3, NULLIF($4, 0))";

const STOP: &str = "UPDATE experiments SET stopped_at = $2
    WHERE name = $1 AND stopped_at IS NULL AND (ends_at IS NULL OR ends_at > $2)";

const STOP_ARM: &str = "INSERT INTO experiment_stops (experiment, arm, stopped_at, reason) VALUES ($1, $2, $3, $4)
    ON CONFLICT (experiment, arm) DO NOTHING";

const ALL: &str = "SELECT * FROM experiments ORDER BY starts_at DESC, name";

const STOPS: &str = "SELECT * FROM experiment_stops ORDER BY experiment, arm";

/// Of an upload's outcomes in the experiment the last one counts: what is redriven later, outside of it, changes nothing.
const COUNTED: &str = "SELECT o.* FROM outcomes AS o WHERE o.experiment = $1 AND o.seq > $2
    AND NOT EXISTS (SELECT 1 FROM outcomes AS later WHERE later.upload_id = o.upload_id
        AND later.version > o.version AND later.experiment = o.experiment)
    ORDER BY o.seq LIMIT $3";

const OPEN: &str = "SELECT a.arrived_at FROM admissions AS a WHERE a.arrived_at >= $1
    AND NOT EXISTS (SELECT 1 FROM outcomes AS o WHERE o.upload_id = a.upload_id) ORDER BY a.arrived_at LIMIT 1";

impl Store {
    /// Starts an experiment, unless another one is not over yet: an upload counts in one at most.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn start_experiment(&self, new: &StoredExperiment, now: UtcMicros) -> Result<Started, StoreError> {
        let mut transaction = self.database.begin_in_turn().await?;
        if !transaction.fetch(TAKEN, &[(&new.name).into()]).await?.is_empty() {
            return Ok(Started::NameTaken);
        }
        if let Some(row) = transaction.fetch(UNDER_WAY, &[now.0.into()]).await?.first() {
            return Ok(Started::Running(row.get("name")?));
        }
        let end = new.ends_at.map_or(0, |end| end.0);
        let values = [(&new.name).into(), (&new.definition).into(), new.starts_at.0.into(), end.into()];
        transaction.execute(START, &values).await?;
        let definition: Json = serde_json::from_str(&new.definition)
            .map_err(|error| StoreError::Damaged(format!("the definition of {}: {error}", new.name)))?;
        self.audit(&mut transaction, (Operation::StartExperiment, &new.name, &definition), now).await?;
        transaction.commit().await?;
        Ok(Started::Started)
    }

    /// Stops an experiment; `false` where none of that name is under way.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn stop_experiment(&self, name: &str, now: UtcMicros) -> Result<bool, StoreError> {
        let mut transaction = self.database.begin_in_turn().await?;
        let is_stopped = transaction.execute(STOP, &[name.into(), now.0.into()]).await? == 1;
        if is_stopped {
            self.audit(&mut transaction, (Operation::StopExperiment, name, &json!({})), now).await?;
        }
        transaction.commit().await?;
        Ok(is_stopped)
    }

    /// Stops an arm; `false` where it was stopped already, whose time and reason then stay.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn stop_arm(&self, experiment: &str, stop: &ArmStop) -> Result<bool, StoreError> {
        let values = [experiment.into(), (&stop.arm).into(), stop.stopped_at.0.into(), (&stop.reason).into()];
        let mut transaction = self.database.begin_in_turn().await?;
        let is_stopped = transaction.execute(STOP_ARM, &values).await? == 1;
        if is_stopped {
            let detail = json!({ "arm": stop.arm, "reason": stop.reason });
            self.audit(&mut transaction, (Operation::StopArm, experiment, &detail), stop.stopped_at).await?;
        }
        transaction.commit().await?;
        Ok(is_stopped)
    }

    /// All experiments, the last one first.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn experiments(&self) -> Result<Vec<StoredExperiment>, StoreError> {
        let mut stops = Vec::new();
        for row in self.database.read(STOPS, &[]).await? {
            let (arm, reason) = (row.get("arm")?, row.get("reason")?);
            let stop = ArmStop { arm, stopped_at: moment(&row, "stopped_at")?, reason };
            stops.push((row.get::<String>("experiment")?, stop));
        }
        let rows = self.database.read(ALL, &[]).await?;
        rows.iter().map(|row| experiment(row, &stops)).collect()
    }

    /// The outcomes that count in an experiment, after a place in the log, with their places: one for each of its uploads.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn outcomes_of(
        &self,
        experiment: &str,
        seq: u64,
        limit: usize,
    ) -> Result<Vec<(u64, Outcome)>, StoreError> {
        let rows = self.database.read(COUNTED, &[experiment.into(), seq.into(), limit.into()]).await?;
        rows.iter().map(|row| Ok((row.unsigned("seq")?, outcome(row)?))).collect()
    }

    /// The first arrival from a moment on of an upload that has no outcome at all; `None` where each has one. What arrived
    /// between is complete in a log that is read afterwards.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn oldest_open(&self, from: UtcMicros) -> Result<Option<UtcMicros>, StoreError> {
        let rows = self.database.read(OPEN, &[from.0.into()]).await?;
        rows.first().map_or(Ok(None), |row| optional(row, "arrived_at"))
    }
}

fn experiment(row: &Row, stops: &[(String, ArmStop)]) -> Result<StoredExperiment, StoreError> {
    let name: String = row.get("name")?;
    Ok(StoredExperiment {
        definition: row.get("definition")?,
        starts_at: moment(row, "starts_at")?,
        ends_at: optional(row, "ends_at")?,
        stopped_at: optional(row, "stopped_at")?,
        stops: stops.iter().filter(|(of, _)| *of == name).map(|(_, stop)| stop.clone()).collect(),
        name,
    })
}

fn optional(row: &Row, column: &str) -> Result<Option<UtcMicros>, StoreError> {
    let micros: Option<i64> = row.get(column)?;
    micros.map(|micros| unsigned(column, micros).map(UtcMicros)).transpose()
}
