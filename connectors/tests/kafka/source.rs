//! A consumer alone: what it delivers, how far it commits, what it gives back.

use connectors::source::Source;
use records::Lane;

use crate::broker::broker;
use crate::{counted, end, events, eventually, leases, number, pull, start, topics};

const PARTITIONS: usize = 3;

#[tokio::test(flavor = "multi_thread")]
async fn each_lane_reads_its_topic_once_and_commits_all_of_it() {
    let broker = broker();
    let options = topics(broker, "each-lane", PARTITIONS as i32).await;
    broker.send(&options.high_topic, &events(0..100, PARTITIONS)).await;
    broker.send(&options.low_topic, &events(0..3000, PARTITIONS)).await;
    let source = start(&options);
    for (lane, count) in [(Lane::High, 100), (Lane::Low, 3000)] {
        let mut pulled = pull(&source, lane, count).await;
        let pending = source.pending(lane).await.expect("counted");
        assert_eq!((pending.ready, pending.leased), (0, count as u64));
        assert_eq!(source.extend(&leases(&pulled)).await, Ok(count as u64), "all leases hold");
        fastrand::Rng::with_seed(7).shuffle(&mut pulled);
        for some in pulled.chunks(64) {
            end(&source, some).await;
        }
        assert_eq!(counted(&pulled), (0..count).map(|number| (number, 1)).collect());
        let pending = source.pending(lane).await.expect("counted");
        assert_eq!((pending.ready, pending.leased), (0, 0));
    }
    let ends = [34, 33, 33];
    assert_eq!(broker.committed("each-lane-high", &options.high_topic, 3), ends);
    assert_eq!(broker.committed("each-lane-low", &options.low_topic, 3), [1000; 3]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_dies_leaves_every_unfinished_message_to_the_next() {
    let broker = broker();
    let options = topics(broker, "dies", PARTITIONS as i32).await;
    broker.send(&options.low_topic, &events(0..600, PARTITIONS)).await;
    let mut dice = fastrand::Rng::with_seed(11);
    let mut finished = std::collections::BTreeSet::new();
    let mut times = 0;
    for _ in 0..4 {
        let source = start(&options);
        let pulled = pull(&source, Lane::Low, 90).await;
        let mut some: Vec<_> = pulled.iter().filter(|_| dice.u8(0..10) < 7).cloned().collect();
        dice.shuffle(&mut some);
        for group in some.chunks(5) {
            end(&source, group).await;
            finished.extend(group.iter().map(number));
            for (partition, committed) in broker.committed("dies-low", &options.low_topic, 3).iter().enumerate() {
                let passed = (0..*committed as usize).map(|offset| offset * PARTITIONS + partition);
                let unfinished: Vec<_> = passed.filter(|number| !finished.contains(number)).collect();
                assert!(unfinished.is_empty(), "{committed} of partition {partition} passes {unfinished:?}");
            }
        }
        times += pulled.len();
        drop(source);
        eventually("it has left its group", async || broker.members("dies-low") == 0).await;
    }
    let source = start(&options);
    eventually("nothing is left", async || {
        let pulled = source.pull(Lane::Low, 100).await.unwrap_or_default();
        end(&source, &pulled).await;
        finished.extend(pulled.iter().map(number));
        times += pulled.len();
        pulled.is_empty() && finished.len() == 600
    })
    .await;
    eventually("all is committed", async || broker.committed("dies-low", &options.low_topic, 3) == [200; 3]).await;
    println!("600 messages, 4 deaths: {times} deliveries");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_given_back_comes_again_and_is_not_committed() {
    let broker = broker();
    let options = topics(broker, "given-back", 1).await;
    broker.send(&options.high_topic, &events(0..20, 1)).await;
    let source = start(&options);
    let pulled = pull(&source, Lane::High, 10).await;
    source.release(&leases(&pulled[3..7])).await.expect("taken back");
    end(&source, &pulled[..3]).await;
    end(&source, &pulled[7..]).await;
    assert_eq!(broker.committed("given-back-high", &options.high_topic, 1), [3]);
    let again = pull(&source, Lane::High, 14).await;
    let numbers: Vec<_> = again.iter().map(number).collect();
    assert_eq!(numbers, [3, 4, 5, 6].into_iter().chain(10..20).collect::<Vec<_>>(), "the oldest first");
    assert_eq!(source.extend(&leases(&pulled)).await, Ok(0), "the old leases are over");
    end(&source, &again).await;
    assert_eq!(broker.committed("given-back-high", &options.high_topic, 1), [20]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_transaction_aborted_is_not_read_and_its_marks_are_no_backlog() {
    let broker = broker();
    let options = topics(broker, "transactions", 1).await;
    broker.send_in_transaction(&options.low_topic, &events(0..5, 1), true).await;
    broker.send_in_transaction(&options.low_topic, &events(5..10, 1), false).await;
    broker.send(&options.low_topic, &events(10..12, 1)).await;
    broker.send_in_transaction(&options.low_topic, &events(12..14, 1), true).await;
    let source = start(&options);
    let pulled = pull(&source, Lane::Low, 9).await;
    let numbers: Vec<_> = pulled.iter().map(number).collect();
    assert_eq!(numbers, [0, 1, 2, 3, 4, 10, 11, 12, 13]);
    end(&source, &pulled).await;
    eventually("nothing is pending", async || {
        source.pending(Lane::Low).await.is_ok_and(|pending| pending.ready + pending.leased == 0)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_without_a_body_is_an_event_that_is_empty() {
    let broker = broker();
    let options = topics(broker, "empty", 1).await;
    broker.send(&options.low_topic, &[(0, Vec::new()), (0, b"1".to_vec())]).await;
    let source = start(&options);
    let pulled = pull(&source, Lane::Low, 2).await;
    assert_eq!([&*pulled[0].payload, &*pulled[1].payload], [b"".as_slice(), b"1"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_producer_compressed_is_read() {
    let broker = broker();
    let options = topics(broker, "codecs", 1).await;
    let codecs = ["none", "gzip", "snappy", "lz4"];
    for (turn, codec) in codecs.into_iter().enumerate() {
        broker.send_compressed(&options.low_topic, codec, &events(turn * 100..turn * 100 + 100, 1)).await;
    }
    let source = start(&options);
    let numbers: Vec<_> = pull(&source, Lane::Low, 400).await.iter().map(number).collect();
    assert_eq!(numbers, (0..400).collect::<Vec<_>>());
}
