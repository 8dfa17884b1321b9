//! How a worker comes to its end: nothing is left to do, or somebody says stop.

use std::time::{Duration, Instant};

use connectors::source::Source;
use records::Lane;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::backlog::rest;
use crate::worker::{Worker, WorkerDied};

/// How often somebody who waits for the end looks.
const LOOK: Duration = Duration::from_millis(100);

/// Ctrl-C and SIGTERM.
pub struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    /// Takes both signals over: from here on they do not end the process.
    ///
    /// # Errors
    /// The system's.
    pub fn listen() -> std::io::Result<Self> {
        Ok(Self { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    /// Waits for one of them.
    pub async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

/// Waits until `source` has nothing left, acknowledged to the last; tells how much is left each time it looks.
pub async fn idle(source: &dyn Source, mut left: impl FnMut(u64)) {
    loop {
        let begun = Instant::now();
        let mut open = 0;
        for lane in Lane::ALL {
            match source.pending(lane).await {
                Ok(pending) => open += pending.ready + pending.leased,
                Err(error) => {
                    tracing::warn!(%error, "cannot see what is left in the source");
                    open = u64::MAX;
                    break;
                }
            }
        }
        left(open);
        if open == 0 {
            return;
        }
        tokio::time::sleep(rest(LOOK, begun.elapsed())).await;
    }
}

/// How a drain ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Drained {
    /// Everything that was in flight has its outcome.
    Finished,
    /// What was in flight was left to others. The worker may go on with it, for nobody.
    GivenBack,
}

/// Pulls nothing further and waits until what is in flight has its outcome. What is not done after `timeout`, or at a
/// second signal, is given back; where that fails, its leases run out by themselves.
///
/// # Errors
/// [`WorkerDied`].
pub async fn drain(worker: &mut Worker, timeout: Duration, signals: &mut Signals) -> Result<Drained, WorkerDied> {
    worker.stop();
    tokio::select! {
        ended = worker.ended() => return ended.map(|()| Drained::Finished),
        () = tokio::time::sleep(timeout) => tracing::warn!(?timeout, "what is in flight did not end in time"),
        () = signals.next() => tracing::warn!("told to stop a second time"),
    }
    match worker.give_back().await {
        Ok(uploads) => tracing::warn!(uploads, "gave back what was in flight"),
        Err(error) => tracing::warn!(%error, "could not give back what is in flight; its leases will run out"),
    }
    Ok(Drained::GivenBack)
}
