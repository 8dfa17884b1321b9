//! Tidemark: audio uploads in, trustworthy metadata out.
//!
//! [`process`] is the graph, [`worker`] joins it to the world, [`config`] says how. [`report`] is the graph of the report.

pub mod clock;
pub mod config;
pub mod drain;
pub mod gateway;
pub mod health;
pub mod metrics;
pub mod process;
mod pull;
pub mod report;
pub mod worker;
