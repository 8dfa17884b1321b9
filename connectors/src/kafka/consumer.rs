//! One lane's consumer. A thread of its own asks it all the time, so that the group never takes it for dead and a rebalance
//! is answered at once, whether or not anybody has room for messages.

use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::KafkaError;
use rdkafka::message::Message;
use rdkafka::types::RDKafkaRespErr;
use rdkafka::{ClientContext, Offset, TopicPartitionList};
use records::{ErrorType, Fault};

use super::fault::{fault, is_refusal, passes_by_itself};
use super::inbox::{Inbox, Trouble};
use super::offsets::Place;

/// How long the thread waits for something to happen.
const POLL: Duration = Duration::from_millis(50);
/// The most messages that are handed over at once: each hand-over wants the lock of whoever pulls.
const BATCH: usize = 256;
/// How long it waits for room before it tells the broker's clients to stop fetching.
const PATIENCE: Duration = Duration::from_millis(500);
/// How long a partition that moves waits for what is in work of it; what takes longer is done twice, and ends once.
const HAND_OVER: Duration = Duration::from_secs(5);
/// How often a broker in trouble is asked whether it is over, and how long for.
const PROBE: Duration = Duration::from_secs(1);
/// How long leaving the group may take.
const LEAVE: Duration = Duration::from_secs(5);

/// What the group tells a consumer.
pub(super) struct Group {
    inbox: Arc<Inbox>,
    /// Partitions that are to be given up, and when at the latest.
    leaving: Mutex<Option<(TopicPartitionList, Instant)>>,
}

pub(super) type GroupConsumer = BaseConsumer<Group>;

impl ClientContext for Group {
    /// Errors come out of the poll as well, and are told there.
    fn error(&self, _: KafkaError, _: &str) {}
}

impl ConsumerContext for Group {
    /// Called from within the thread's poll.
    fn rebalance(&self, consumer: &GroupConsumer, event: RDKafkaRespErr, partitions: &mut TopicPartitionList) {
        if event == RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS {
            numbers(partitions).for_each(|partition| self.inbox.assign(partition));
            self.done("take partitions", consumer.incremental_assign(partitions));
        } else if consumer.assignment_lost() || self.inbox.is_abandoned() {
            self.give_up(consumer, partitions);
        } else {
            numbers(partitions).for_each(|partition| self.inbox.leave(partition));
            self.done("pause partitions", consumer.pause(partitions));
            *self.leaving() = Some((partitions.clone(), Instant::now() + HAND_OVER));
        }
    }
}

impl Group {
    fn leaving(&self) -> std::sync::MutexGuard<'_, Option<(TopicPartitionList, Instant)>> {
        self.leaving.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn done(&self, what: &str, result: Result<(), KafkaError>) {
        if let Err(error) = result {
            self.inbox.set_trouble(Trouble { fault: fault(what, &error), until_read: false });
        }
    }

    fn give_up(&self, consumer: &GroupConsumer, partitions: &TopicPartitionList) {
        numbers(partitions).for_each(|partition| self.inbox.revoke(partition));
        // A pause outlives the assignment: a partition that comes back would never be read.
        self.done("resume partitions", consumer.resume(partitions));
        self.done("give partitions up", consumer.incremental_unassign(partitions));
    }

    /// Gives up what has to be, once nothing of it is in work any more or it has taken too long.
    fn hand_over(&self, consumer: &GroupConsumer) {
        let due = |(partitions, latest): &mut (TopicPartitionList, Instant)| {
            numbers(partitions).all(|partition| self.inbox.is_settled(partition))
                || Instant::now() >= *latest
                || consumer.assignment_lost()
                || self.inbox.is_abandoned()
        };
        let due = self.leaving().take_if(due);
        if let Some((partitions, _)) = due {
            self.give_up(consumer, &partitions);
        }
    }
}

/// The numbers of a list's partitions.
fn numbers(partitions: &TopicPartitionList) -> impl Iterator<Item = i32> {
    partitions.elements().into_iter().map(|element| element.partition()).collect::<Vec<_>>().into_iter()
}

/// Starts the consumer of `topic`, and its thread.
pub(super) fn start(
    config: &rdkafka::ClientConfig,
    topic: &str,
    inbox: &Arc<Inbox>,
) -> Result<(Arc<GroupConsumer>, JoinHandle<()>), KafkaError> {
    let group = Group { inbox: Arc::clone(inbox), leaving: Mutex::new(None) };
    let consumer: Arc<GroupConsumer> = Arc::new(config.create_with_context(group)?);
    consumer.subscribe(&[topic])?;
    let reader = Reader { consumer: Arc::clone(&consumer), inbox: Arc::clone(inbox), topic: topic.to_owned() };
    let thread = std::thread::Builder::new().name(format!("kafka-{topic}")).spawn(move || reader.run());
    let thread = thread.map_err(|error| KafkaError::ClientCreation(format!("no thread can be started: {error}")))?;
    Ok((consumer, thread))
}

impl Drop for Reader {
    /// Nobody reads any more: silence would look like an empty topic.
    fn drop(&mut self) {
        if std::thread::panicking() {
            let message = format!("nobody reads {} any more, as its thread panicked: restart", self.topic);
            let fault = Fault::permanent(ErrorType::Unavailable, message);
            self.inbox.set_trouble(Trouble { fault, until_read: true });
        }
    }
}

struct Reader {
    consumer: Arc<GroupConsumer>,
    inbox: Arc<Inbox>,
    topic: String,
}

impl Reader {
    fn run(self) {
        let mut paused = false;
        let mut probed = Instant::now();
        let mut closing = None;
        loop {
            if self.inbox.is_closing() {
                let since: &mut Instant = closing.get_or_insert_with(Instant::now);
                if self.inbox.is_idle() || self.inbox.is_abandoned() || since.elapsed() >= HAND_OVER {
                    break;
                }
            }
            if paused && !self.inbox.is_half_full() {
                self.told("resume", |all| self.consumer.resume(all));
                paused = false;
            }
            if !paused && self.inbox.is_full() && !self.inbox.wait_for_room(PATIENCE) {
                self.told("pause", |all| self.consumer.pause(all));
                paused = true;
            }
            let read = self.read();
            // A partition that came meanwhile is not paused yet.
            if read && paused {
                self.told("pause", |all| self.consumer.pause(all));
            }
            self.consumer.context().hand_over(&self.consumer);
            if probed.elapsed() >= PROBE && self.inbox.trouble().is_some_and(|trouble| !trouble.until_read) {
                self.probe();
                probed = Instant::now();
            }
        }
        self.leave();
    }

    /// Reads what lies there, or lets something happen; whether a message was read. A rebalance ends the batch, so what was read
    /// of a partition before that went is not taken for what is read once it is back.
    fn read(&self) -> bool {
        let (mut batch, mut bytes, mut timeout) = (Vec::new(), 0, POLL);
        let (messages_free, bytes_free) = self.inbox.room();
        let event = loop {
            match self.consumer.poll(timeout) {
                Some(Ok(message)) => {
                    let place = Place { partition: message.partition(), offset: message.offset() };
                    let payload: Arc<[u8]> = message.payload().unwrap_or_default().into();
                    bytes += payload.len();
                    batch.push((place, payload));
                    if batch.len() >= messages_free.min(BATCH) || bytes >= bytes_free {
                        break None;
                    }
                    timeout = Duration::ZERO;
                }
                other => break other,
            }
        };
        let read = !batch.is_empty();
        self.inbox.push(batch);
        match event {
            Some(Err(KafkaError::PartitionEOF(partition))) => self.inbox.at_end(partition),
            Some(Err(error)) => {
                let code = error.rdkafka_error_code();
                if !code.is_some_and(passes_by_itself) {
                    let until_read = code.is_some_and(is_refusal);
                    self.inbox
                        .set_trouble(Trouble { fault: fault(&format!("read {}", self.topic), &error), until_read });
                }
            }
            Some(Ok(_)) | None => {}
        }
        read
    }

    fn told(&self, what: &str, tell: impl FnOnce(&TopicPartitionList) -> Result<(), KafkaError>) {
        let told = self.consumer.assignment().and_then(|all| tell(&all));
        self.consumer.context().done(what, told);
    }

    /// Asks for the topic and for the group's offsets: where both are told, the trouble is over.
    fn probe(&self) {
        let what = format!("read {}", self.topic);
        match partitions(&self.consumer, &self.topic, PROBE).and_then(|all| self.consumer.committed_offsets(all, PROBE))
        {
            Ok(_) => self.inbox.clear_trouble(),
            Err(error) => self.inbox.set_trouble(Trouble { fault: fault(&what, &error), until_read: false }),
        }
    }

    /// Leaves the group, so that others get the partitions at once.
    fn leave(&self) {
        self.inbox.abandon();
        let latest = Instant::now() + LEAVE;
        if self.consumer.close_queue().is_ok() {
            while !self.consumer.closed() && Instant::now() < latest {
                let _event = self.consumer.poll(POLL);
            }
        }
    }
}

/// All partitions of a topic.
pub(super) fn partitions(
    consumer: &GroupConsumer,
    topic: &str,
    timeout: Duration,
) -> Result<TopicPartitionList, KafkaError> {
    let metadata = consumer.fetch_metadata(Some(topic), timeout)?;
    let mut all = TopicPartitionList::new();
    for told in metadata.topics().iter().filter(|told| told.name() == topic) {
        if let Some(error) = told.error() {
            return Err(KafkaError::MetadataFetch(error.into()));
        }
        for partition in told.partitions() {
            all.add_partition_offset(topic, partition.id(), Offset::Invalid)?;
        }
    }
    Ok(all)
}
