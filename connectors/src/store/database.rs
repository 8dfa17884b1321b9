//! The two databases behind one door: their transactions, and the one text of a statement.
//!
//! A statement is one text for both. It says `$1` for a value, `json_each($1)` for a list, and `CAST(… AS BIGINT)` for a
//! number out of a list. What stands in square brackets is for Postgres alone, where writers run side by side and have to
//! say in which order they lock rows, or that they pass over those that another one has.

use records::Lane;
use sqlx::{PgPool, Postgres, Sqlite, SqlitePool};

use super::postgres::{self, within};
use super::values::{Row, Value, query};
use super::{StoreError, sqlite};

/// Rows of one multi-row insert. More gain nothing: the parameters dominate.
const ROWS_PER_INSERT: usize = 64;

/// The connections to one of them.
#[derive(Clone, Debug)]
pub(super) enum Database {
    Sqlite {
        /// One connection: SQLite has one writer at a time, and here writers wait in line for it.
        writer: sqlite::Writer,
        readers: SqlitePool,
    },
    Postgres(PgPool),
}

impl Database {
    /// Begins a transaction that writes.
    pub(super) async fn begin(&self) -> Result<Transaction, StoreError> {
        self.begin_for(Lane::Low).await
    }

    /// Begins a transaction that writes for uploads of a lane: where one writes at a time, the high lane goes first.
    pub(super) async fn begin_for(&self, lane: Lane) -> Result<Transaction, StoreError> {
        Ok(match self {
            Self::Sqlite { writer, .. } => Transaction::Sqlite(writer.begin(lane).await?),
            Self::Postgres(pool) => Transaction::Postgres(postgres::Transaction::begin(pool).await?),
        })
    }

    /// Begins a transaction for uploads of a lane that may be forgotten: its commit does not wait for the disk, and outlives
    /// the process at once, but the machine only with the next commit that waits.
    pub(super) async fn begin_relaxed(&self, lane: Lane) -> Result<Transaction, StoreError> {
        Ok(match self {
            Self::Sqlite { writer, .. } => Transaction::Sqlite(writer.begin_relaxed(lane).await?),
            Self::Postgres(pool) => Transaction::Postgres(postgres::Transaction::begin_relaxed(pool).await?),
        })
    }

    /// Begins a transaction while which no other one of this kind runs, of whatever process: those that write a log whose
    /// rows have numbers, or depend on that nobody does. On SQLite all transactions are of this kind.
    pub(super) async fn begin_in_turn(&self) -> Result<Transaction, StoreError> {
        self.begin_in_turn_for(Lane::Low).await
    }

    /// Such a transaction for uploads of a lane.
    pub(super) async fn begin_in_turn_for(&self, lane: Lane) -> Result<Transaction, StoreError> {
        Ok(match self {
            Self::Sqlite { .. } => self.begin_for(lane).await?,
            Self::Postgres(pool) => Transaction::Postgres(postgres::Transaction::begin_in_turn(pool).await?),
        })
    }

    /// Begins a transaction that admits uploads of a lane: none of those runs beside one that seals.
    pub(super) async fn begin_admitting(&self, lane: Lane) -> Result<Transaction, StoreError> {
        Ok(match self {
            Self::Sqlite { .. } => self.begin_for(lane).await?,
            Self::Postgres(pool) => Transaction::Postgres(postgres::Transaction::begin_admitting(pool).await?),
        })
    }

    /// Begins a transaction that seals arrivals: what admits waits for its end, as it waits for the end of those.
    pub(super) async fn begin_sealing(&self) -> Result<Transaction, StoreError> {
        Ok(match self {
            Self::Sqlite { .. } => self.begin().await?,
            Self::Postgres(pool) => Transaction::Postgres(postgres::Transaction::begin_sealing(pool).await?),
        })
    }

    /// The rows of a statement that writes nothing.
    pub(super) async fn read(&self, statement: &str, values: &[Value<'_>]) -> Result<Vec<Row>, StoreError> {
        match self {
            Self::Sqlite { readers, .. } => {
                let statement = for_sqlite(statement);
                let rows = query::<Sqlite>(&statement, values).fetch_all(readers).await?;
                Ok(rows.into_iter().map(Row::Sqlite).collect())
            }
            Self::Postgres(pool) => {
                let statement = for_postgres(statement);
                let mut connection = postgres::connection(pool).await?;
                let rows = within(query::<Postgres>(&statement, values).fetch_all(&mut *connection)).await;
                if matches!(rows, Err(StoreError::NoAnswer)) {
                    connection.close_on_drop();
                }
                Ok(rows?.into_iter().map(Row::Postgres).collect())
            }
        }
    }
}

/// A transaction that writes. Dropped before [`Self::commit`], it leaves nothing behind.
pub(super) enum Transaction {
    Sqlite(sqlite::Transaction),
    Postgres(postgres::Transaction),
}

impl Transaction {
    /// Runs a statement; how many rows it changed.
    pub(super) async fn execute(&mut self, statement: &str, values: &[Value<'_>]) -> Result<u64, StoreError> {
        match self {
            Self::Sqlite(transaction) => {
                let statement = for_sqlite(statement);
                Ok(query::<Sqlite>(&statement, values).execute(transaction.connection()).await?.rows_affected())
            }
            Self::Postgres(transaction) => {
                let statement = for_postgres(statement);
                let done = query::<Postgres>(&statement, values).execute(transaction.connection());
                Ok(within(done).await?.rows_affected())
            }
        }
    }

    /// Runs a statement; its rows.
    pub(super) async fn fetch(&mut self, statement: &str, values: &[Value<'_>]) -> Result<Vec<Row>, StoreError> {
        match self {
            Self::Sqlite(transaction) => {
                let statement = for_sqlite(statement);
                let rows = query::<Sqlite>(&statement, values).fetch_all(transaction.connection()).await?;
                Ok(rows.into_iter().map(Row::Sqlite).collect())
            }
            Self::Postgres(transaction) => {
                let statement = for_postgres(statement);
                let rows = within(query::<Postgres>(&statement, values).fetch_all(transaction.connection())).await?;
                Ok(rows.into_iter().map(Row::Postgres).collect())
            }
        }
    }

    /// Inserts rows: `into` names the table and its columns, of which each row has values, and `behind` follows the rows. How
    /// many were inserted.
    pub(super) async fn insert(
        &mut self,
        into: &str,
        rows: &[Vec<Value<'_>>],
        behind: &str,
    ) -> Result<u64, StoreError> {
        let mut inserted = 0;
        for chunk in rows.chunks(ROWS_PER_INSERT) {
            let mut number = 0;
            // SQLite searches a list for a parameter that has a number; one without is found by its place.
            let mut parameter = || match self {
                Self::Sqlite(_) => "?".to_owned(),
                Self::Postgres(_) => {
                    number += 1;
                    format!("${number}")
                }
            };
            let places: Vec<String> = chunk
                .iter()
                .map(|row| format!("({})", row.iter().map(|_| parameter()).collect::<Vec<_>>().join(",")))
                .collect();
            let values: Vec<Value<'_>> = chunk.iter().flatten().cloned().collect();
            inserted +=
                self.execute(&format!("INSERT INTO {into} VALUES {} {behind}", places.join(",")), &values).await?;
        }
        Ok(inserted)
    }

    /// `count` ids of a table that were never given out before, in order.
    pub(super) async fn new_ids(&mut self, table: &str, column: &str, count: usize) -> Result<Vec<u64>, StoreError> {
        match self {
            Self::Sqlite(_) => {
                let statement = "SELECT seq FROM sqlite_sequence WHERE name = $1";
                let last = self.fetch(statement, &[table.into()]).await?;
                // Ids follow the last one by one, because the write lock is held.
                let last = last.first().map_or(Ok(0), |row| row.unsigned("seq"))?;
                Ok((last + 1..).take(count).collect())
            }
            Self::Postgres(_) => {
                let statement = "SELECT nextval(pg_get_serial_sequence($1, $2)) AS id FROM generate_series(1, $3)";
                let ids = self.fetch(statement, &[table.into(), column.into(), (count as i64).into()]).await?;
                let mut ids: Vec<u64> = ids.iter().map(|row| row.unsigned("id")).collect::<Result<_, _>>()?;
                ids.sort_unstable();
                Ok(ids)
            }
        }
    }

    /// Ends it. Unless it was begun relaxed, it is on the disk when this returns.
    pub(super) async fn commit(self) -> Result<(), StoreError> {
        match self {
            Self::Sqlite(transaction) => transaction.commit().await,
            Self::Postgres(transaction) => transaction.commit().await,
        }
    }
}

fn for_postgres(statement: &str) -> String {
    statement.replace(['[', ']'], "")
}

fn for_sqlite(statement: &str) -> String {
    let mut pieces = statement.split('[');
    let first = pieces.next().unwrap_or_default().to_owned();
    pieces.fold(first, |text, piece| text + piece.split_once(']').map_or("", |(_, behind)| behind))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stands_in_brackets_is_for_postgres_alone() {
        let statement = "SELECT id FROM a LIMIT $1 [FOR UPDATE] UNION SELECT 1 [ORDER BY id]";
        assert_eq!(for_postgres(statement), "SELECT id FROM a LIMIT $1 FOR UPDATE UNION SELECT 1 ORDER BY id");
        assert_eq!(for_sqlite(statement), "SELECT id FROM a LIMIT $1  UNION SELECT 1 ");
        assert_eq!(for_sqlite("SELECT 1"), "SELECT 1");
    }
}
