//! A broker that goes away, refuses, or answers nonsense.

use connectors::kafka::KafkaSink;
use connectors::sink::{Message, Sink, Topic};
use connectors::source::Source;
use rdkafka::mocking::MockCluster;
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};
use records::{FaultClass, Lane};

use crate::broker::{Broker, broker};
use crate::{counted, events, eventually, leases, options, pull, start, topics};

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_goes_away_is_told_and_the_lane_goes_on_when_it_is_back() {
    let folder = tempfile::tempdir().expect("a folder");
    let broker = Broker::start(Some((folder.path(), "0")));
    let options = topics(&broker, "away", 2).await;
    broker.send(&options.low_topic, &events(0..50, 2)).await;
    let source = start(&options);
    let mut done = pull(&source, Lane::Low, 30).await;
    source.acknowledge(&leases(&done[..10])).await.expect("committed");
    broker.stop();
    eventually("the trouble is told", async || {
        // What was read before is given out before.
        match source.pull(Lane::Low, 1).await {
            Ok(more) => {
                done.extend(more);
                false
            }
            Err(fault) => fault.class == FaultClass::Retryable && fault.message.contains("no broker"),
        }
    })
    .await;
    let back = Broker::start(Some((folder.path(), broker.port())));
    eventually("it is over", async || source.pull(Lane::Low, 0).await.is_ok()).await;
    eventually("what ended is committed", async || source.acknowledge(&leases(&done)).await.is_ok()).await;
    back.send(&options.low_topic, &events(50..100, 2)).await;
    eventually("all is done", async || {
        let pulled = source.pull(Lane::Low, 100).await.unwrap_or_default();
        source.acknowledge(&leases(&pulled)).await.is_ok_and(|()| {
            done.extend(pulled);
            counted(&done).len() == 100
        })
    })
    .await;
    let twice = done.len() - 100;
    println!("100 messages, the broker was restarted among them: {twice} were delivered twice");
    assert_eq!(back.committed("away-low", &options.low_topic, 2), [50; 2]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_is_not_there_is_named_with_its_mend_and_read_once_it_is() {
    let broker = broker();
    let options = options(&broker.address, "missing");
    let source = start(&options);
    eventually("the topic is named", async || {
        source.pull(Lane::High, 1).await.is_err_and(|fault| {
            fault.message.contains(&options.high_topic) && fault.message.contains("create the topic")
        })
    })
    .await;
    let fault = source.pending(Lane::High).await.expect_err("there is nothing to count");
    assert!(fault.message.contains("create the topic"), "{fault}");
    broker.topic(&options.high_topic, 1).await;
    broker.send(&options.high_topic, &events(0..3, 1)).await;
    assert_eq!(pull(&source, Lane::High, 3).await.len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_that_fails_is_told_and_can_be_repeated() {
    let mock = MockCluster::new(1).expect("a cluster");
    let options = options(&mock.bootstrap_servers(), "mock");
    mock.create_topic(&options.high_topic, 1, 1).expect("made");
    mock.create_topic(&options.low_topic, 1, 1).expect("made");
    let sink = KafkaSink::new(&connectors::kafka::KafkaOptions {
        results_topic: Some(options.low_topic.clone()),
        ..options.clone()
    });
    let message = |number: usize| Message {
        topic: Topic::Results,
        key: number.to_string(),
        payload: number.to_string().into_bytes(),
        attributes: Vec::new(),
    };
    let messages: Vec<_> = (0..20).map(message).collect();
    sink.expect("options that can work").publish(&messages).await.expect("published");
    let source = start(&options);
    let pulled = pull(&source, Lane::Low, 20).await;
    mock.request_errors(RDKafkaApiKey::OffsetCommit, &[RDKafkaRespErr::RD_KAFKA_RESP_ERR_GROUP_AUTHORIZATION_FAILED]);
    let fault = source.acknowledge(&leases(&pulled)).await.expect_err("refused");
    assert!(fault.class == FaultClass::Retryable && fault.message.contains("READ on the groups"), "{fault}");
    source.acknowledge(&leases(&pulled)).await.expect("the same again");
    eventually("nothing is pending", async || {
        source.pending(Lane::Low).await.is_ok_and(|pending| pending.ready + pending.leased == 0)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_is_too_large_is_named_with_its_mend() {
    let broker = broker();
    let mut options = options(&broker.address, "large");
    options.results_topic = Some("large-results".to_owned());
    broker.topic("large-results", 1).await;
    let sink = KafkaSink::new(&options).expect("options that can work");
    let message =
        Message { topic: Topic::Results, key: "u1".into(), payload: vec![b'x'; 3 << 20], attributes: Vec::new() };
    let fault = sink.publish(&[message]).await.expect_err("too large");
    assert!(fault.class == FaultClass::Permanent && fault.message.contains("u1"), "{fault}");
    assert!(fault.message.contains("message.max.bytes"), "{fault}");
}
