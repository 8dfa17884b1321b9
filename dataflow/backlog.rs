//! What waits in a source: asked for by one task, for all who want to know.

use std::sync::Arc;
use std::time::{Duration, Instant};

use connectors::source::{Pending, Source};
use records::Lane;
use tokio::sync::watch;

use crate::metrics::Metrics;

/// How often it is asked for.
const LOOK: Duration = Duration::from_secs(1);
/// How much longer than a look nobody looks again at least: a long queue takes long to count.
const REST: u32 = 10;

/// What each lane holds: high, low. `None` where the source does not say.
pub type Backlog = watch::Receiver<Option<[Pending; 2]>>;

/// How long to wait after a look that took so long, where it is otherwise `at_least` that.
pub fn rest(at_least: Duration, took: Duration) -> Duration {
    at_least.max(took * REST)
}

/// Looks about once a second, and shows it in the metrics as well; on a task that lives as long as the runtime.
pub fn follow(source: Arc<dyn Source>, broker: Option<Arc<dyn Source>>, metrics: Arc<Metrics>) -> Backlog {
    let (known, backlog) = watch::channel(None);
    tokio::spawn(async move {
        loop {
            let begun = Instant::now();
            if let Some(broker) = &broker {
                Lane::ALL.into_iter().for_each(|lane| metrics.skipped(lane, broker.skipped(lane)));
            }
            known.send_replace(look(&*source, &metrics).await);
            tokio::time::sleep(rest(LOOK, begun.elapsed())).await;
        }
    });
    backlog
}

async fn look(source: &dyn Source, metrics: &Metrics) -> Option<[Pending; 2]> {
    let mut found = Vec::new();
    for lane in Lane::ALL {
        match source.pending(lane).await {
            Ok(pending) => {
                metrics.backlog(lane, pending.ready, pending.leased);
                found.push(pending);
            }
            Err(error) => tracing::warn!(%error, %lane, "cannot see the backlog"),
        }
    }
    found.try_into().ok()
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use connectors::source::{Delivery, Lease};
    use futures::FutureExt;
    use futures::future::{BoxFuture, ready};
    use records::{ErrorType, Fault};

    use super::*;

    /// A source that holds as much as it was asked for, and whose low lane says nothing at first.
    #[derive(Default)]
    struct Asked(AtomicU64);

    impl Source for Asked {
        fn pull(&self, _: Lane, _: usize) -> BoxFuture<'_, Result<Vec<Delivery>, Fault>> {
            unreachable!("nobody pulls")
        }
        fn extend<'a>(&'a self, _: &'a [Lease]) -> BoxFuture<'a, Result<u64, Fault>> {
            unreachable!("nothing is leased")
        }
        fn acknowledge<'a>(&'a self, _: &'a [Lease]) -> BoxFuture<'a, Result<(), Fault>> {
            unreachable!("nothing is leased")
        }
        fn release<'a>(&'a self, _: &'a [Lease]) -> BoxFuture<'a, Result<(), Fault>> {
            unreachable!("nothing is leased")
        }
        fn pending(&self, _: Lane) -> BoxFuture<'_, Result<Pending, Fault>> {
            let asked = self.0.fetch_add(1, Ordering::Relaxed) + 1;
            let told = match asked {
                2 => Err(Fault::retryable(ErrorType::Unavailable, "not at present")),
                asked => Ok(Pending { ready: asked, leased: 0, oldest_enqueued_at: None }),
            };
            ready(told).boxed()
        }
        fn lease_ms(&self) -> u64 {
            1
        }
    }

    #[tokio::test]
    async fn all_who_want_to_know_read_what_one_look_found() {
        let (source, metrics) = (Arc::new(Asked::default()), Arc::new(Metrics::new()));
        let mut backlog = follow(Arc::clone(&source) as Arc<dyn Source>, None, Arc::clone(&metrics));
        backlog.changed().await.expect("it looks");
        assert_eq!(*backlog.borrow_and_update(), None, "half a look is none");
        backlog.changed().await.expect("it looks again");
        let readers = [backlog.clone(), backlog];
        for reader in &readers {
            assert_eq!(reader.borrow().map(|lanes| lanes.map(|lane| lane.ready)), Some([3, 4]));
        }
        assert_eq!(source.0.load(Ordering::Relaxed), 4, "once a lane and look, however many read it");
        for (lane, ready) in [("high", 3), ("low", 4)] {
            let shown = format!("{{lane=\"{lane}\",state=\"ready\"}} {ready}");
            assert!(metrics.text().contains(&shown), "{shown}: {}", metrics.text());
        }
    }

    #[test]
    fn looks_take_an_eleventh_of_the_time_at_most() {
        let ms = Duration::from_millis;
        assert_eq!(rest(ms(1000), ms(20)), ms(1000));
        assert_eq!(rest(ms(1000), ms(130)), ms(1300));
    }
}
