//! Kafka as a source: a topic and a consumer for each lane, so that neither waits for the other.

use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use futures::FutureExt;
use futures::future::{BoxFuture, ready};
use rdkafka::consumer::{CommitMode, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::{Offset, TopicPartitionList};
use records::{ErrorType, Fault, Lane};

use super::consumer::{self, GroupConsumer, partitions};
use super::fault::fault;
use super::inbox::{Inbox, lane_of};
use super::offsets::Commit;
use super::options::{KafkaOptions, OptionsError};
use crate::source::{Delivery, Lease, Pending, Source};

/// How long a question to the broker may take.
const TIMEOUT: Duration = Duration::from_secs(5);
/// A lease lives as long as the partition is ours; there is nothing to extend.
const LEASE_MS: u64 = 30_000;

/// Uploads from two topics.
pub struct KafkaSource {
    lanes: [Arc<Reading>; 2],
}

/// A lane that is read.
struct Reading {
    topic: String,
    inbox: Arc<Inbox>,
    consumer: Arc<GroupConsumer>,
    /// Commits go one after another, so that none is overtaken by an earlier one.
    committing: Mutex<()>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl KafkaSource {
    /// Joins the lanes' groups; to be used on a runtime of several threads. A broker that is away is no error: pulls tell of it,
    /// until it is back.
    ///
    /// # Errors
    /// [`OptionsError`], where something in the options can never work.
    pub fn start(options: &KafkaOptions) -> Result<Self, OptionsError> {
        options.check()?;
        let [high, low] = Lane::ALL.map(|lane| Reading::start(options, lane));
        Ok(Self { lanes: [Arc::new(high?), Arc::new(low?)] })
    }

    /// Work that waits for the broker, away from the threads that must not wait.
    async fn blocking<T: Send + 'static>(
        &self,
        lane: Lane,
        work: impl FnOnce(&Reading) -> Result<T, Fault> + Send + 'static,
    ) -> Result<T, Fault> {
        let lane = Arc::clone(&self.lanes[lane as usize]);
        let done = tokio::task::spawn_blocking(move || work(&lane)).await;
        done.unwrap_or_else(|error| Err(Fault::indeterminate(ErrorType::Unavailable, format!("Kafka: {error}"))))
    }
}

impl Drop for KafkaSource {
    /// The threads leave their groups, and nobody waits for them.
    fn drop(&mut self) {
        self.lanes.iter().for_each(|lane| lane.inbox.abandon());
    }
}

/// The numbers of a lane's leases; there are no others here.
fn of_lane(leases: &[Lease], lane: Lane) -> Vec<u64> {
    let number = |lease: &Lease| match lease {
        Lease::Held(number) => *number,
        Lease::Spool(row) => panic!("{row:?} is of another source"),
    };
    leases.iter().map(number).filter(|number| lane_of(*number) == lane).collect()
}

impl Source for KafkaSource {
    fn pull(&self, lane: Lane, max: usize) -> BoxFuture<'_, Result<Vec<Delivery>, Fault>> {
        ready(self.lanes[lane as usize].inbox.pull(max)).boxed()
    }

    fn extend<'a>(&'a self, leases: &'a [Lease]) -> BoxFuture<'a, Result<u64, Fault>> {
        let held = |lane: Lane| self.lanes[lane as usize].inbox.held(&of_lane(leases, lane));
        ready(Ok(Lane::ALL.into_iter().map(held).sum())).boxed()
    }

    fn acknowledge<'a>(&'a self, leases: &'a [Lease]) -> BoxFuture<'a, Result<(), Fault>> {
        async move {
            let mut done = Ok(());
            for lane in Lane::ALL {
                let leases = of_lane(leases, lane);
                // A lane whose group is in trouble does not keep the other one's commit.
                if !leases.is_empty() {
                    // On this thread: to change it and back takes about as long as the broker does.
                    done = done.and(tokio::task::block_in_place(|| self.lanes[lane as usize].acknowledge(&leases)));
                }
            }
            done
        }
        .boxed()
    }

    /// Kafka takes no single message back: it waits here for whoever pulls next, and its offset is not committed, so that it
    /// is others' when this source is closed.
    fn release<'a>(&'a self, leases: &'a [Lease]) -> BoxFuture<'a, Result<(), Fault>> {
        for lane in Lane::ALL {
            self.lanes[lane as usize].inbox.take_back(&of_lane(leases, lane));
        }
        ready(Ok(())).boxed()
    }

    fn pending(&self, lane: Lane) -> BoxFuture<'_, Result<Pending, Fault>> {
        self.blocking(lane, Reading::pending).boxed()
    }

    fn lease_ms(&self) -> u64 {
        LEASE_MS
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        async move {
            self.lanes.iter().for_each(|lane| lane.inbox.close());
            for lane in &self.lanes {
                let thread = lane.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
                // A thread that panicked has left its group to the broker's patience.
                tokio::task::spawn_blocking(move || thread.map(JoinHandle::join)).await.ok();
            }
        }
        .boxed()
    }
}

impl Reading {
    fn start(options: &KafkaOptions, lane: Lane) -> Result<Self, OptionsError> {
        let (topic, inbox) = (options.topic(lane).to_owned(), Arc::new(Inbox::new(lane)));
        let (consumer, thread) = consumer::start(&options.consumer(lane)?, &topic, &inbox)?;
        Ok(Self { topic, inbox, consumer, committing: Mutex::default(), thread: Mutex::new(Some(thread)) })
    }

    fn acknowledge(&self, leases: &[u64]) -> Result<(), Fault> {
        let _turn = self.committing.lock().unwrap_or_else(PoisonError::into_inner);
        let commits = self.inbox.finish(leases);
        if commits.is_empty() {
            return Ok(());
        }
        match self.list(&commits).and_then(|list| self.consumer.commit(&list, CommitMode::Sync)) {
            Ok(()) => {
                self.inbox.committed(&commits);
                Ok(())
            }
            Err(error) => {
                self.inbox.committed(&[]);
                Err(fault(&format!("commit offsets of {}", self.topic), &error))
            }
        }
    }

    fn list(&self, commits: &[Commit]) -> Result<TopicPartitionList, KafkaError> {
        let mut list = TopicPartitionList::with_capacity(commits.len());
        for commit in commits {
            list.add_partition_offset(&self.topic, commit.partition, Offset::Offset(commit.offset))?;
        }
        Ok(list)
    }

    /// What lies between the committed offsets and the ends of all partitions, whoever of the group reads them. What was
    /// compacted away counts, unless it is known that nothing is left.
    fn pending(&self) -> Result<Pending, Fault> {
        let lag = self.lag().map_err(|error| fault(&format!("see how much {} holds", self.topic), &error))?;
        let leased = self.inbox.in_work();
        Ok(Pending { ready: lag.saturating_sub(leased), leased, oldest_enqueued_at: None })
    }

    fn lag(&self) -> Result<u64, KafkaError> {
        let mut all = partitions(&self.consumer, &self.topic, TIMEOUT)?;
        let committed = self.consumer.committed_offsets(all.clone(), TIMEOUT)?;
        all.set_all_offsets(Offset::End)?;
        let ends = self.consumer.offsets_for_times(all.clone(), TIMEOUT)?;
        all.set_all_offsets(Offset::Beginning)?;
        let begins = self.consumer.offsets_for_times(all, TIMEOUT)?;
        let mut lag = 0;
        for element in ends.elements() {
            let partition = element.partition();
            let at = |list: &TopicPartitionList| match list.find_partition(&self.topic, partition)?.offset() {
                Offset::Offset(offset) => Some(offset),
                _ => None,
            };
            let begin = at(&committed).into_iter().chain(at(&begins)).max().unwrap_or(0);
            if !self.inbox.is_done(partition) {
                lag += at(&ends).map_or(0, |end| end.saturating_sub(begin).max(0)) as u64;
            }
        }
        Ok(lag)
    }
}
