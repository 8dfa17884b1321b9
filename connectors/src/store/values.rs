//! The values and rows that both databases have.

use std::borrow::Cow;
use std::fmt::Display;

use serde::Serialize;
use sqlx::postgres::PgRow;
use sqlx::query::Query;
use sqlx::sqlite::SqliteRow;
use sqlx::{Decode, Encode, Postgres, Row as _, Sqlite, Type};

use super::{StoreError, rows};

/// A value of a statement, of a type that both databases have.
#[derive(Clone, Debug)]
pub(super) enum Value<'q> {
    Integer(i64),
    Real(Option<f64>),
    Bool(bool),
    Text(Option<Cow<'q, str>>),
    Bytes(&'q [u8]),
}

impl From<i64> for Value<'_> {
    fn from(value: i64) -> Self {
        Self::Integer(value)
    }
}

impl From<u32> for Value<'_> {
    fn from(value: u32) -> Self {
        Self::Integer(value.into())
    }
}

impl From<u64> for Value<'_> {
    /// What does not fit a signed integer is as good as endless.
    fn from(value: u64) -> Self {
        Self::Integer(i64::try_from(value).unwrap_or(i64::MAX))
    }
}

impl From<usize> for Value<'_> {
    fn from(value: usize) -> Self {
        Self::from(value as u64)
    }
}

impl From<Option<f64>> for Value<'_> {
    fn from(value: Option<f64>) -> Self {
        Self::Real(value)
    }
}

impl From<bool> for Value<'_> {
    fn from(value: bool) -> Self {
        Self::Bool(value)
    }
}

impl<'q> From<Option<&'q str>> for Value<'q> {
    fn from(value: Option<&'q str>) -> Self {
        Self::Text(value.map(without_nul))
    }
}

impl<'q> From<&'q str> for Value<'q> {
    fn from(value: &'q str) -> Self {
        Self::from(Some(value))
    }
}

impl<'q> From<&'q String> for Value<'q> {
    fn from(value: &'q String) -> Self {
        Self::from(value.as_str())
    }
}

impl From<String> for Value<'_> {
    fn from(value: String) -> Self {
        Self::Text(Some(Cow::Owned(without_nul(&value).into_owned())))
    }
}

impl<'q> From<&'q [u8]> for Value<'q> {
    fn from(value: &'q [u8]) -> Self {
        Self::Bytes(value)
    }
}

/// Postgres refuses a NUL in a text, and an event that names its customer so must not be in the way of all others.
fn without_nul(text: &str) -> Cow<'_, str> {
    if text.contains('\0') { Cow::Owned(text.replace('\0', "\u{fffd}")) } else { Cow::Borrowed(text) }
}

/// A list as the JSON text that `json_each` takes apart, each item an array: one parameter and one statement for any
/// number of items.
pub(super) fn list<T: Serialize>(items: impl IntoIterator<Item = T>) -> Value<'static> {
    let items: Vec<T> = items.into_iter().collect();
    serde_json::to_string(&items).expect("names and numbers are JSON").into()
}

/// A row of an answer.
pub(super) enum Row {
    Sqlite(SqliteRow),
    Postgres(PgRow),
}

/// A type that columns of both databases can be read as.
pub(super) trait Column<'r>: Decode<'r, Sqlite> + Type<Sqlite> + Decode<'r, Postgres> + Type<Postgres> {}

impl<'r, T: Decode<'r, Sqlite> + Type<Sqlite> + Decode<'r, Postgres> + Type<Postgres>> Column<'r> for T {}

impl Row {
    /// A column's value.
    pub(super) fn get<'r, T: Column<'r>>(&'r self, name: &str) -> Result<T, StoreError> {
        Ok(match self {
            Self::Sqlite(row) => row.try_get(name)?,
            Self::Postgres(row) => row.try_get(name)?,
        })
    }

    /// A column's number, which is never negative.
    pub(super) fn unsigned<T: TryFrom<i64, Error: Display>>(&self, name: &str) -> Result<T, StoreError> {
        rows::unsigned(name, self.get(name)?)
    }
}

/// The statement with its values.
pub(super) fn query<'q, D: sqlx::Database>(
    statement: &'q str,
    values: &'q [Value<'q>],
) -> Query<'q, D, D::Arguments<'q>>
where
    i64: Encode<'q, D> + Type<D>,
    Option<f64>: Encode<'q, D> + Type<D>,
    bool: Encode<'q, D> + Type<D>,
    Option<&'q str>: Encode<'q, D> + Type<D>,
    &'q [u8]: Encode<'q, D> + Type<D>,
{
    values.iter().fold(sqlx::query(statement), |query, value| match value {
        Value::Integer(value) => query.bind(*value),
        Value::Real(value) => query.bind(*value),
        Value::Bool(value) => query.bind(*value),
        Value::Text(value) => query.bind(value.as_deref()),
        Value::Bytes(value) => query.bind(*value),
    })
}
