//! The time of day and its passing, handed in so that a test can own both.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use records::UtcMicros;

/// A clock, and a way to wait by it.
#[derive(Clone)]
pub struct Time {
    /// The time of day.
    pub now: Arc<dyn Fn() -> UtcMicros + Send + Sync>,
    /// Ends when this much time has passed.
    pub sleep: Arc<dyn Fn(Duration) -> BoxFuture<'static, ()> + Send + Sync>,
}

impl Time {
    /// The clock `now` and tokio's timer.
    pub fn real(now: fn() -> UtcMicros) -> Self {
        Self { now: Arc::new(now), sleep: Arc::new(|duration| tokio::time::sleep(duration).boxed()) }
    }
}

impl fmt::Debug for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Time({})", (self.now)())
    }
}
