//! Doors to outside systems, one a file.
//!
//! - [`store`]: admissions, outcomes, dead letters and the spool, in an SQLite file or a Postgres database. The only commit
//!   point.
//! - [`source`]: what every source of uploads can do; [`spool`] is the store's queue, [`listed`] a list in memory,
//!   [`with_spool`] a broker and the queue as one, [`paced`] another one at a rate.
//! - [`kafka`]: Kafka as a source and as a sink.
//! - [`sink`]: what every sink of messages can do.
//! - [`pubsub`]: Google Cloud Pub/Sub, as both.
//! - [`history`]: outcomes in files, for who replays them.
//! - [`objects`]: where audio lies.
//! - [`bigquery`]: the store's outcomes, attempts and dead letters in BigQuery, each exactly once.
//! - [`parquet`]: the store's outcomes as Parquet files, each exactly once.
//! - [`webhook`]: an address that alerts are sent to.
//! - [`tls`]: the cryptography that all of them share.
//!
//! Nothing here reads a clock: moments are handed in. Nothing here knows of timely or of a model.

pub mod bigquery;
pub mod history;
pub mod kafka;
pub mod listed;
pub mod objects;
pub mod paced;
pub mod parquet;
pub mod pubsub;
pub mod sink;
pub mod source;
pub mod spool;
pub mod store;
pub mod tls;
pub mod webhook;
pub mod with_spool;

#[cfg(test)]
#[path = "../tests/store/make.rs"]
mod make;
