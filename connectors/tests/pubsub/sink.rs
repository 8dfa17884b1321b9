//! Topics of outcomes: everything arrives with its attributes, and what does not is told.

use connectors::pubsub::PubSubSink;
use connectors::sink::{Message, Sink, Topic};
use records::FaultClass;

use crate::emulator::{Emulator, Project, emulator, layout};

async fn sink(project: &Project, ordered: bool) -> PubSubSink {
    let topics = [(Topic::Results, "results".to_owned()), (Topic::DeadLetters, "dead-letters".to_owned())];
    PubSubSink::open(&project.connection(), topics, ordered).await.expect("opens")
}

fn message(topic: Topic, n: usize) -> Message {
    let attributes = vec![("upload_id", format!("u-{n}")), ("version", "1".to_owned())];
    Message { topic, key: format!("u-{n}"), payload: format!("{{\"n\":{n}}}").into_bytes(), attributes }
}

#[tokio::test]
async fn every_message_arrives_at_its_topic_with_its_attributes() {
    for ordered in [false, true] {
        let project = emulator().new_project();
        project.set_up(&layout()).await;
        let (mut results, mut letters) = (project.watch("results").await, project.watch("dead-letters").await);
        let sink = sink(&project, ordered).await;
        assert!(sink.takes(Topic::Results) && sink.takes(Topic::DeadLetters));
        let mut messages: Vec<Message> = (0..300).map(|n| message(Topic::Results, n)).collect();
        messages.push(message(Topic::DeadLetters, 7));
        sink.publish(&messages).await.expect("published");
        let seen = results.uploads(300).await;
        assert!(seen.values().all(|copies| copies.len() == 1), "each once");
        let [one] = &seen["u-17"][..] else { panic!("each once") };
        assert_eq!((&one.data[..], one.attributes["version"].as_str()), (&b"{\"n\":17}"[..], "1"));
        assert_eq!(one.ordering_key, if ordered { "u-17" } else { "" });
        assert_eq!(letters.uploads(1).await.keys().collect::<Vec<_>>(), ["u-7"]);
    }
}

#[tokio::test]
async fn what_pub_sub_would_refuse_for_ever_is_made_to_fit() {
    let project = emulator().new_project();
    project.set_up(&layout()).await;
    let mut watch = project.watch("dead-letters").await;
    let mut huge = message(Topic::DeadLetters, 1);
    huge.payload = vec![b'x'; 10_500_000];
    huge.attributes.push(("last_error", "é".repeat(2_000)));
    sink(&project, false).await.publish(&[huge]).await.expect("published");
    let (seen, _handler) = watch.next().await;
    assert_eq!((seen.data.len(), seen.attributes["payload_omitted_bytes"].as_str()), (0, "10500000"));
    assert_eq!(seen.attributes["last_error"].len(), 1024);
}

#[tokio::test]
async fn a_topic_that_is_not_there_is_told_with_its_mend_and_works_once_it_is() {
    let project = emulator().new_project();
    let sink = sink(&project, true).await;
    let error = sink.publish(&[message(Topic::Results, 1)]).await.expect_err("no topic");
    assert_eq!(error.class, FaultClass::Permanent);
    assert!(error.message.contains("topics/results") && error.message.contains("tidemark pubsub setup"), "{error}");
    project.set_up(&layout()).await;
    let mut watch = project.watch("results").await;
    sink.publish(&[message(Topic::Results, 1)]).await.expect("its key is no longer held back");
    assert_eq!(watch.uploads(1).await.len(), 1);
}

#[tokio::test]
async fn an_emulator_that_is_gone_is_a_failure_that_may_be_repeated() {
    let emulator = Emulator::start(None);
    let project = emulator.new_project();
    project.set_up(&layout()).await;
    let sink = sink(&project, false).await;
    sink.publish(&[message(Topic::Results, 1)]).await.expect("published");
    let emulator = {
        let address = emulator.killed();
        let error = sink.publish(&[message(Topic::Results, 2)]).await.expect_err("nobody is there");
        assert_eq!(error.class, FaultClass::Retryable, "{error}");
        Emulator::start(address.rsplit_once(':').map(|(_, port)| port))
    };
    project.set_up(&layout()).await;
    let mut watch = project.watch("results").await;
    sink.publish(&[message(Topic::Results, 2)]).await.expect("published");
    assert!(watch.uploads(1).await.contains_key("u-2"));
    drop(emulator);
}
