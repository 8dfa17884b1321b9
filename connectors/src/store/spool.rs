//! The spool: a durable queue for each lane, the source that needs no broker.
//!
//! What is put in is on the disk. Who has a message, and that it is done with, may be forgotten where the machine dies: then it
//! is delivered again, as after any death, and the upload's outcome, which is on the disk, still stands once.

use std::sync::Arc;

use records::{Lane, Operation, UtcMicros};
use serde_json::json;

use super::database::Transaction;
use super::rows::{moment, unsigned};
use super::values::{Row, Value, list};
use super::{Store, StoreError};

/// One delivery of a message, to be acknowledged, released or extended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Lease {
    /// The message.
    pub message: u64,
    /// Which delivery of it this is: 1 for the first. A message that keeps killing its process shows here.
    pub delivery: u32,
}

/// A message that nobody else gets while the lease holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// The claim on it.
    pub lease: Lease,
    /// The event's bytes.
    pub payload: Arc<[u8]>,
    /// When it came into the spool.
    pub enqueued_at: UtcMicros,
}

/// What a lane of the spool holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pending {
    /// Messages that a lease would give out, those with a lease that ran out among them.
    pub ready: u64,
    /// Messages under a lease.
    pub leased: u64,
    /// The oldest ready message's.
    pub oldest_enqueued_at: Option<UtcMicros>,
}

/// Gives the lane's messages back whose lease ran out.
const EXPIRE: &str = "UPDATE messages SET leased_until = NULL WHERE id IN
    (SELECT id FROM messages WHERE lane = $1 AND leased_until <= $2 [FOR UPDATE SKIP LOCKED])";

const LEASE: &str = "WITH ready AS MATERIALIZED
    (SELECT id FROM messages WHERE lane = $1 AND leased_until IS NULL ORDER BY id LIMIT $2 [FOR UPDATE SKIP LOCKED])
    UPDATE messages SET leased_until = $3, deliveries = deliveries + 1 WHERE id IN (SELECT id FROM ready)
    RETURNING id, deliveries, payload, enqueued_at";

const EXTEND: &str = "WITH held AS MATERIALIZED
    (SELECT m.id FROM json_each($1) AS lease CROSS JOIN messages AS m
        WHERE m.id = CAST(lease.value ->> 0 AS BIGINT) AND m.deliveries = CAST(lease.value ->> 1 AS BIGINT)
        AND m.leased_until IS NOT NULL [ORDER BY m.id FOR UPDATE OF m])
    UPDATE messages SET leased_until = $2 WHERE id IN (SELECT id FROM held)";

const RELEASE: &str = "WITH held AS MATERIALIZED
    (SELECT m.id FROM json_each($1) AS lease CROSS JOIN messages AS m
        WHERE m.id = CAST(lease.value ->> 0 AS BIGINT) AND m.deliveries = CAST(lease.value ->> 1 AS BIGINT)
        [ORDER BY m.id FOR UPDATE OF m])
    UPDATE messages SET leased_until = NULL WHERE id IN (SELECT id FROM held)";

const ACKNOWLEDGE: &str = "WITH done AS MATERIALIZED
    (SELECT m.id FROM json_each($1) AS lease CROSS JOIN messages AS m
        WHERE m.id = CAST(lease.value ->> 0 AS BIGINT) [ORDER BY m.id FOR UPDATE OF m])
    DELETE FROM messages WHERE id IN (SELECT id FROM done)";

const PENDING: &str = "SELECT
    (SELECT count(*) FROM messages WHERE lane = $1 AND leased_until IS NULL) AS waiting,
    (SELECT count(*) FROM messages WHERE lane = $1 AND leased_until <= $2) AS expired,
    (SELECT count(*) FROM messages WHERE lane = $1 AND leased_until > $2) AS leased,
    (SELECT enqueued_at FROM messages WHERE lane = $1 AND leased_until IS NULL ORDER BY id LIMIT 1) AS oldest_waiting,
    (SELECT min(enqueued_at) FROM messages WHERE lane = $1 AND leased_until <= $2) AS oldest_expired";

const IS_READY: &str = "SELECT
    EXISTS (SELECT 1 FROM messages WHERE lane = $1 AND leased_until IS NULL)
    OR EXISTS (SELECT 1 FROM messages WHERE lane = $1 AND leased_until <= $2) AS ready";

impl Store {
    /// Puts messages into their lanes, all or none, and gives their ids.
    ///
    /// # Errors
    /// [`StoreError`]. After an indeterminate one the messages may be there; enqueued again, the same upload is
    /// admitted once.
    pub async fn enqueue<P: AsRef<[u8]>>(
        &self,
        messages: &[(Lane, P)],
        now: UtcMicros,
    ) -> Result<Vec<u64>, StoreError> {
        let lane = messages.iter().map(|(lane, _)| *lane).min().unwrap_or(Lane::Low);
        let mut transaction = self.database.begin_for(lane).await?;
        let ids = put(&mut transaction, messages, now).await?;
        transaction.commit().await?;
        Ok(ids)
    }

    /// As [`Self::enqueue`], on somebody's word: with a row in the audit log.
    ///
    /// # Errors
    /// As [`Self::enqueue`].
    pub async fn enqueue_audited<P: AsRef<[u8]>>(
        &self,
        messages: &[(Lane, P)],
        now: UtcMicros,
    ) -> Result<Vec<u64>, StoreError> {
        let mut transaction = self.database.begin_in_turn().await?;
        let ids = put(&mut transaction, messages, now).await?;
        if !ids.is_empty() {
            let detail = json!({ "uploads": ids.len() });
            self.audit(&mut transaction, (Operation::Enqueue, "queue", &detail), now).await?;
        }
        transaction.commit().await?;
        Ok(ids)
    }

    /// Takes up to `max` messages of the lane, the oldest first, that nobody else gets before `until`.
    ///
    /// # Errors
    /// [`StoreError`]. After an indeterminate one they may be leased to nobody, until the lease runs out.
    pub async fn lease(
        &self,
        lane: Lane,
        max: usize,
        until: UtcMicros,
        now: UtcMicros,
    ) -> Result<Vec<Delivery>, StoreError> {
        let mut transaction = self.database.begin_relaxed(lane).await?;
        transaction.execute(EXPIRE, &[lane.as_str().into(), now.0.into()]).await?;
        let rows = transaction.fetch(LEASE, &[lane.as_str().into(), max.into(), until.0.into()]).await?;
        transaction.commit().await?;
        let mut deliveries = rows.iter().map(delivery).collect::<Result<Vec<_>, _>>()?;
        // RETURNING promises no order.
        deliveries.sort_unstable_by_key(|delivery| delivery.lease.message);
        Ok(deliveries)
    }

    /// Prolongs leases, and tells how many still held: the others ran out and were given to somebody, or were given
    /// back.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn extend(&self, leases: &[Lease], until: UtcMicros) -> Result<u64, StoreError> {
        self.note(EXTEND, &[pairs(leases), until.0.into()]).await
    }

    /// Removes messages whose upload has its outcome. A lease that ran out removes its message too, whoever has it by
    /// now: the outcome is durable, so the other delivery has nothing to add. Ids are never used again, so nothing else
    /// is hit.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn acknowledge(&self, leases: &[Lease]) -> Result<(), StoreError> {
        self.note(ACKNOWLEDGE, &[pairs(leases)]).await.map(drop)
    }

    /// Gives messages back at once. A lease that somebody else has by now stays his.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn release(&self, leases: &[Lease]) -> Result<(), StoreError> {
        self.note(RELEASE, &[pairs(leases)]).await.map(drop)
    }

    /// Whether a lease would give something out.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn is_ready(&self, lane: Lane, now: UtcMicros) -> Result<bool, StoreError> {
        let rows = self.database.read(IS_READY, &[lane.as_str().into(), now.0.into()]).await?;
        rows.iter().try_fold(false, |ready, row| Ok(ready || row.get("ready")?))
    }

    /// What the lane holds.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn pending(&self, lane: Lane, now: UtcMicros) -> Result<Pending, StoreError> {
        let rows = self.database.read(PENDING, &[lane.as_str().into(), now.0.into()]).await?;
        let Some(row) = rows.first() else { return Ok(Pending::default()) };
        let oldest = [row.get::<Option<i64>>("oldest_waiting")?, row.get("oldest_expired")?];
        let oldest = oldest.into_iter().flatten().min().map(|at| unsigned("enqueued_at", at)).transpose()?;
        Ok(Pending {
            ready: row.unsigned::<u64>("waiting")? + row.unsigned::<u64>("expired")?,
            leased: row.unsigned("leased")?,
            oldest_enqueued_at: oldest.map(UtcMicros),
        })
    }

    /// One statement about leases; how many messages it touched.
    async fn note(&self, statement: &str, values: &[Value<'_>]) -> Result<u64, StoreError> {
        let mut transaction = self.database.begin_relaxed(Lane::Low).await?;
        let touched = transaction.execute(statement, values).await?;
        transaction.commit().await?;
        Ok(touched)
    }

    /// Ends all leases: their holders are dead.
    pub(super) async fn give_back_all(&self) -> Result<(), StoreError> {
        for lane in Lane::ALL {
            self.note(EXPIRE, &[lane.as_str().into(), u64::MAX.into()]).await?;
        }
        Ok(())
    }
}

async fn put<P: AsRef<[u8]>>(
    transaction: &mut Transaction,
    messages: &[(Lane, P)],
    now: UtcMicros,
) -> Result<Vec<u64>, StoreError> {
    let ids = transaction.new_ids("messages", "id", messages.len()).await?;
    let numbered = ids.iter().zip(messages);
    let rows: Vec<Vec<Value<'_>>> = numbered
        .map(|(id, (lane, payload))| vec![(*id).into(), lane.as_str().into(), payload.as_ref().into(), now.0.into()])
        .collect();
    transaction.insert("messages (id, lane, payload, enqueued_at)", &rows, "").await?;
    Ok(ids)
}

fn pairs(leases: &[Lease]) -> Value<'static> {
    list(leases.iter().map(|lease| (lease.message, lease.delivery)))
}

fn delivery(row: &Row) -> Result<Delivery, StoreError> {
    Ok(Delivery {
        lease: Lease { message: row.unsigned("id")?, delivery: row.unsigned("deliveries")? },
        payload: row.get::<&[u8]>("payload")?.into(),
        enqueued_at: moment(row, "enqueued_at")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_lease_touches_only_the_messages_that_it_gives_whatever_the_other_lane_holds() {
        let folder = tempfile::tempdir().expect("a folder");
        let store = Store::open(&folder.path().join("tidemark.db")).await.expect("opens");
        let by_lane = "messages_by_lane (lane=? AND leased_until";
        for (statement, finds_by) in [
            (EXPIRE, by_lane),
            (LEASE, by_lane),
            (EXTEND, "PRIMARY KEY (rowid=?)"),
            (RELEASE, "PRIMARY KEY (rowid=?)"),
            (ACKNOWLEDGE, "PRIMARY KEY (rowid=?)"),
        ] {
            let plan = store.database.read(&format!("EXPLAIN QUERY PLAN {statement}"), &[]).await.expect("a plan");
            let steps: Vec<String> = plan.iter().map(|row| row.get("detail").expect("text")).collect();
            let slow = |step: &String| step.contains("SCAN m") || step.contains("TEMP B-TREE");
            assert!(!steps.iter().any(slow), "{statement}: {steps:?}");
            assert!(steps.iter().any(|step| step.contains(finds_by)), "{statement}: {steps:?}");
        }
    }
}
