//! Messages that go out: each where it belongs, with what it says, in order.

use connectors::kafka::KafkaSink;
use connectors::sink::{Message, Sink, Topic};

use crate::broker::broker;
use crate::options;

fn message(topic: Topic, number: usize) -> Message {
    Message {
        topic,
        key: format!("u{number}"),
        payload: number.to_string().into_bytes(),
        attributes: vec![("upload_id", format!("u{number}")), ("version", "1".to_owned())],
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_are_there_when_publish_returns_in_order_with_key_and_headers() {
    let broker = broker();
    broker.topic("results", 1).await;
    let mut options = options(&broker.address, "sink");
    options.results_topic = Some("results".to_owned());
    let sink = KafkaSink::new(&options).expect("options that can work");
    assert!(sink.takes(Topic::Results) && !sink.takes(Topic::DeadLetters));
    let messages: Vec<_> = (0..500).map(|number| message(Topic::Results, number)).collect();
    for page in messages.chunks(100) {
        sink.publish(page).await.expect("published");
    }
    sink.publish(&[message(Topic::DeadLetters, 1)]).await.expect("what it does not take is passed over");
    let found = broker.read("results", 1, 500);
    for (found, sent) in found.iter().zip(&messages) {
        assert_eq!((&found.key, &found.payload), (&sent.key, &sent.payload));
        let headers: Vec<_> = found.headers.iter().map(|(key, value)| (key.as_str(), value.clone())).collect();
        assert_eq!(headers, sent.attributes);
    }
}
