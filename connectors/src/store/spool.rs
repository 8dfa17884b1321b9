//! The spool: a durable queue for each lane, the source that needs no broker.

use std::sync::Arc;

use records::{Lane, UtcMicros};
use sqlx::sqlite::SqliteRow;
use sqlx::{QueryBuilder, Row};

use super::rows::{micros, moment, unsigned};
use super::{ROWS_PER_INSERT, Store, StoreError, finish, last_id, list};

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
const EXPIRE: &str = "UPDATE messages SET leased_until = NULL WHERE lane = ?1 AND leased_until <= ?2";

const LEASE: &str = "UPDATE messages SET leased_until = ?3, deliveries = deliveries + 1
    WHERE id IN (SELECT id FROM messages WHERE lane = ?1 AND leased_until IS NULL ORDER BY id LIMIT ?2)
    RETURNING id, deliveries, payload, enqueued_at";

const EXTEND: &str = "UPDATE messages SET leased_until = ?2 FROM json_each(?1) AS held
    WHERE messages.id = held.value ->> 0 AND deliveries = held.value ->> 1 AND leased_until IS NOT NULL";

const RELEASE: &str = "UPDATE messages SET leased_until = NULL FROM json_each(?1) AS held
    WHERE messages.id = held.value ->> 0 AND deliveries = held.value ->> 1";

const ACKNOWLEDGE: &str = "DELETE FROM messages WHERE id IN (SELECT value ->> 0 FROM json_each(?1))";

const PENDING: &str = "SELECT
    (SELECT count(*) FROM messages WHERE lane = ?1 AND leased_until IS NULL) AS waiting,
    (SELECT count(*) FROM messages WHERE lane = ?1 AND leased_until <= ?2) AS expired,
    (SELECT count(*) FROM messages WHERE lane = ?1 AND leased_until > ?2) AS leased,
    (SELECT enqueued_at FROM messages WHERE lane = ?1 AND leased_until IS NULL ORDER BY id LIMIT 1) AS oldest_waiting,
    (SELECT min(enqueued_at) FROM messages WHERE lane = ?1 AND leased_until <= ?2) AS oldest_expired";

const IS_READY: &str = "SELECT
    EXISTS (SELECT 1 FROM messages WHERE lane = ?1 AND leased_until IS NULL)
    OR EXISTS (SELECT 1 FROM messages WHERE lane = ?1 AND leased_until <= ?2)";

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
        let mut transaction = self.begin().await?;
        let first = last_id(&mut transaction, "messages").await? + 1;
        let ids: Vec<u64> = (first..).take(messages.len()).collect();
        let numbered: Vec<_> = ids.iter().zip(messages).collect();
        for chunk in numbered.chunks(ROWS_PER_INSERT) {
            let mut insert = QueryBuilder::new("INSERT INTO messages (id, lane, payload, enqueued_at) ");
            insert.push_values(chunk, |mut row, (id, (lane, payload))| {
                row.push_bind(**id as i64).push_bind(lane.as_str()).push_bind(payload.as_ref()).push_bind(micros(now));
            });
            insert.build().execute(&mut *transaction).await?;
        }
        finish(transaction).await?;
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
        let mut transaction = self.begin().await?;
        sqlx::query(EXPIRE).bind(lane.as_str()).bind(micros(now)).execute(&mut *transaction).await?;
        let rows = sqlx::query(LEASE)
            .bind(lane.as_str())
            .bind(i64::try_from(max).unwrap_or(i64::MAX))
            .bind(micros(until))
            .fetch_all(&mut *transaction)
            .await?;
        finish(transaction).await?;
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
        let extend = sqlx::query(EXTEND).bind(pairs(leases)).bind(micros(until));
        self.write_one(extend).await
    }

    /// Removes messages whose upload has its outcome. A lease that ran out removes its message too, whoever has it by
    /// now: the outcome is durable, so the other delivery has nothing to add. Ids are never used again, so nothing else
    /// is hit.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn acknowledge(&self, leases: &[Lease]) -> Result<(), StoreError> {
        self.write_one(sqlx::query(ACKNOWLEDGE).bind(pairs(leases))).await.map(drop)
    }

    /// Gives messages back at once. A lease that somebody else has by now stays his.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn release(&self, leases: &[Lease]) -> Result<(), StoreError> {
        self.write_one(sqlx::query(RELEASE).bind(pairs(leases))).await.map(drop)
    }

    /// Whether a lease would give something out.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn is_ready(&self, lane: Lane, now: UtcMicros) -> Result<bool, StoreError> {
        let is_ready = sqlx::query_scalar(IS_READY).bind(lane.as_str()).bind(micros(now));
        Ok(is_ready.fetch_one(&self.readers).await?)
    }

    /// What the lane holds.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn pending(&self, lane: Lane, now: UtcMicros) -> Result<Pending, StoreError> {
        let row = sqlx::query(PENDING).bind(lane.as_str()).bind(micros(now)).fetch_one(&self.readers).await?;
        let count = |name: &str| unsigned(name, row.try_get::<i64, _>(name)?);
        let oldest = [row.try_get::<Option<i64>, _>("oldest_waiting")?, row.try_get("oldest_expired")?];
        Ok(Pending {
            ready: count("waiting")? + count("expired")?,
            leased: count("leased")?,
            oldest_enqueued_at: oldest.into_iter().flatten().min().map(|at| moment("enqueued_at", at)).transpose()?,
        })
    }

    /// Ends all leases: their holders are dead.
    pub(super) async fn give_back_all(&self) -> Result<(), StoreError> {
        for lane in Lane::ALL {
            self.write_one(sqlx::query(EXPIRE).bind(lane.as_str()).bind(i64::MAX)).await?;
        }
        Ok(())
    }
}

fn pairs(leases: &[Lease]) -> String {
    list(leases.iter().map(|lease| (lease.message, lease.delivery)))
}

fn delivery(row: &SqliteRow) -> Result<Delivery, StoreError> {
    Ok(Delivery {
        lease: Lease { message: unsigned("id", row.try_get("id")?)?, delivery: row.try_get("deliveries")? },
        payload: row.try_get::<&[u8], _>("payload")?.into(),
        enqueued_at: moment("enqueued_at", row.try_get("enqueued_at")?)?,
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
            let plan = sqlx::query(&format!("EXPLAIN QUERY PLAN {statement}")).fetch_all(&store.readers).await;
            let steps: Vec<String> = plan.expect("a plan").iter().map(|row| row.get("detail")).collect();
            let slow = |step: &String| step.contains("SCAN messages") || step.contains("TEMP B-TREE");
            assert!(!steps.iter().any(slow), "{statement}: {steps:?}");
            assert!(steps.iter().any(|step| step.contains(finds_by)), "{statement}: {steps:?}");
        }
    }
}
