//! Tidemark: audio uploads in, trustworthy metadata out.
//!
//! [`process`] is the graph, [`worker`] joins it to the world, [`config`] says how. [`report`] is the graph of the report,
//! [`experiments`] compares arms, [`replay`] goes through uploads of the past again, [`alerts`] tells of trouble.

/// What an upload needs is allocated on one thread and freed on another all the time, which costs glibc a fifth of the processor.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

pub mod alerts;
mod audio;
pub mod backlog;
pub mod beside;
pub mod bigquery;
pub mod cache;
pub mod clock;
pub mod config;
pub mod drain;
pub mod experiments;
pub mod gateway;
mod groups;
pub mod health;
pub mod metrics;
pub mod process;
pub mod publish;
mod pull;
pub mod replay;
pub mod report;
pub mod take_over;
pub mod worker;
