//! Google Cloud Pub/Sub, as a source, as a sink, and what has to be there for both.
//!
//! - [`PubSub`]: a source with one subscription a lane, by streaming pull.
//! - [`PubSubSink`]: topics of outcomes and dead letters.
//! - [`setup`]: makes topics and subscriptions, as often as it is called.

mod connection;
mod held;
mod lane;
mod setup;
mod sink;
mod source;

pub use connection::Connection;
pub use setup::{Found, Layout, setup};
pub use sink::PubSubSink;
pub use source::{LaneOptions, PubSub, PubSubOptions};
