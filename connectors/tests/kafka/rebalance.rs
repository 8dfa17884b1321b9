//! Workers that come and go: partitions move, nothing is lost, and hardly anything is done twice.

use std::time::Instant;

use connectors::kafka::KafkaOptions;
use connectors::source::{Delivery, Source};
use rdkafka::mocking::MockCluster;
use records::Lane;

use crate::broker::{Broker, broker};
use crate::{counted, end, events, eventually, leases, number, options, pull, start, topics};

const PARTITIONS: usize = 4;
/// What the first worker has in hand.
const IN_WORK: usize = 64;

/// A second worker joins while the first one has work in hand; how many messages were done twice.
async fn joins(broker: &Broker, options: &KafkaOptions) -> usize {
    broker.send(&options.low_topic, &events(0..4000, PARTITIONS)).await;
    let first = start(options);
    let mut done: Vec<Delivery> = Vec::new();
    let mut in_work = pull(&first, Lane::Low, IN_WORK).await;
    let second = start(options);
    let mut of_second = 0;
    // The first one has work in hand all the time, and ends the oldest quarter of it at once.
    eventually("all is done", async || {
        let ended: Vec<_> = in_work.drain(..in_work.len().min(IN_WORK / 4)).collect();
        end(&first, &ended).await;
        done.extend(ended);
        in_work.extend(first.pull(Lane::Low, IN_WORK - in_work.len()).await.unwrap_or_default());
        let others = second.pull(Lane::Low, 16).await.unwrap_or_default();
        end(&second, &others).await;
        of_second += others.len();
        done.extend(others);
        in_work.is_empty() && counted(&done).len() == 4000
    })
    .await;
    let twice = done.len() - counted(&done).len();
    assert!(of_second > 0, "it has its part");
    assert_eq!(broker.committed(&format!("{}-low", options.group), &options.low_topic, 4), [1000; 4]);
    twice
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_joins_gets_its_part_and_nothing_is_done_twice() {
    // As Kafka does, this one hears what is committed by a member that does not know yet that another one joins.
    let mock = MockCluster::new(1).expect("a cluster");
    let mut twice = Vec::new();
    // It lets members wait all their session but a second, and throws out who is late then, as one is on a busy machine.
    while !twice.contains(&0) {
        let options = options(&mock.bootstrap_servers(), &format!("joins-{}", twice.len()));
        mock.create_topic(&options.high_topic, PARTITIONS as i32, 1).expect("made");
        mock.create_topic(&options.low_topic, PARTITIONS as i32, 1).expect("made");
        twice.push(joins(&Broker::at(mock.bootstrap_servers()), &options).await);
        assert!(twice.len() < 6 && twice.last() <= Some(&IN_WORK), "{twice:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_is_thrown_out_when_another_joins_does_no_more_twice_than_it_has_in_hand() {
    // This one refuses such a commit, which ends the membership.
    let broker = broker();
    let options = topics(broker, "joins", PARTITIONS as i32).await;
    assert!(joins(broker, &options).await <= IN_WORK);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partition_does_not_wait_for_ever_and_a_late_end_commits_nothing_of_somebody_else_s() {
    let broker = broker();
    let options = topics(broker, "slow", 2).await;
    broker.send(&options.low_topic, &events(0..100, 2)).await;
    let slow = start(&options);
    let held = pull(&slow, Lane::Low, 60).await;
    let second = start(&options);
    let begun = Instant::now();
    let moved = pull(&second, Lane::Low, 50).await;
    println!("a partition with unfinished work moved after {:?}", begun.elapsed());
    let partition = number(&moved[0]) % 2;
    assert!(moved.iter().all(|delivery| number(delivery) % 2 == partition), "all of one partition");
    assert_eq!(counted(&moved).len(), 50, "from what was committed: nothing");
    let still_held = slow.extend(&leases(&held)).await.expect("told");
    let of_it = |deliveries: &[Delivery]| deliveries.iter().filter(|it| number(it) % 2 == partition).count() as u64;
    assert_eq!(still_held, 60 - of_it(&held), "the leases of what moved are lost");

    end(&slow, &held).await;
    let committed = broker.committed("slow-low", &options.low_topic, 2);
    assert_eq!(committed[partition], 0, "what moved is the other's to commit");
    end(&second, &moved).await;
    assert_eq!(broker.committed("slow-low", &options.low_topic, 2)[partition], 50);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_leaves_gives_its_partitions_up_at_once() {
    let broker = broker();
    let options = topics(broker, "leaves", 2).await;
    broker.send(&options.high_topic, &events(0..40, 2)).await;
    let first = start(&options);
    let pulled = pull(&first, Lane::High, 30).await;
    let (ended, left) = pulled.split_at(20);
    end(&first, ended).await;
    first.release(&leases(left)).await.expect("taken back");
    let begun = Instant::now();
    first.close().await;
    let closed = begun.elapsed();
    assert!(first.pull(Lane::High, 1).await.expect("no trouble").is_empty(), "nothing is given out any more");
    let second = start(&options);
    let committed: i64 = broker.committed("leaves-high", &options.high_topic, 2).iter().sum();
    let rest = pull(&second, Lane::High, 40 - committed as usize).await;
    println!("left the group in {closed:?}; another had its messages after {:?}", begun.elapsed());
    assert!(begun.elapsed().as_secs() < 5, "long before the session of a dead one would end");
    let again: Vec<_> = rest.iter().chain(ended).cloned().collect();
    assert_eq!(counted(&again).len(), 40, "nothing is lost");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_no_room_answers_the_group_all_the_same() {
    let broker = broker();
    let options = topics(broker, "no-room", 2).await;
    broker.send(&options.low_topic, &events(0..6000, 2)).await;
    let full = start(&options);
    let held = pull(&full, Lane::Low, 8).await;
    end(&full, &held).await;
    // Nobody pulls from here on: its room fills, and the second gets a partition all the same.
    let second = start(&options);
    let mut done = held;
    let mut others = pull(&second, Lane::Low, 1000).await;
    end(&second, &others).await;
    done.append(&mut others);
    eventually("all is done", async || {
        for source in [&full, &second] {
            let pulled = source.pull(Lane::Low, 256).await.unwrap_or_default();
            end(source, &pulled).await;
            done.extend(pulled);
        }
        counted(&done).len() == 6000
    })
    .await;
    assert_eq!(done.len(), 6000, "nothing is done twice");
}
