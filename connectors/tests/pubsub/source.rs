//! What the source promises where nothing fails: flow control, leases, order, and what is given back.

use std::collections::BTreeSet;
use std::time::Duration;

use connectors::pubsub::Layout;
use connectors::source::{Lease, Source};
use records::Lane;

use crate::emulator::{Event, emulator, layout, plain};
use crate::{event, id, nothing_is_left, open, pull, until};

fn events(prefix: &str, count: usize) -> Vec<Event> {
    (0..count).map(|n| plain(event(&format!("{prefix}-{n}")))).collect()
}

#[tokio::test]
async fn each_message_of_both_lanes_is_given_out_under_a_lease_and_gone_once_acknowledged() {
    // Side by side, as each waits for leases to run out.
    futures::join!(each_message(false), each_message(true));
}

async fn each_message(exactly_once: bool) {
    let project = emulator().new_project();
    project.set_up(&Layout { exactly_once, ..layout() }).await;
    let source = open(&project, 50).await;
    for lane in Lane::ALL {
        let mut seen = BTreeSet::new();
        // As many as may be held: what the emulator sends beyond that comes again a lease later, or two.
        for group in 0..6 {
            project.publish(&format!("uploads-{lane}"), events(&format!("{lane}-{group}"), 50)).await;
            let deliveries = pull(&source, lane, 50).await;
            let leases: Vec<Lease> = deliveries.iter().map(|delivery| delivery.lease).collect();
            assert_eq!(source.extend(&leases).await, Ok(50), "the leases hold");
            assert!(deliveries.iter().all(|delivery| seen.insert(id(delivery))), "none comes twice");
            source.acknowledge(&leases).await.expect("acknowledged");
            assert_eq!(source.extend(&leases).await, Ok(0), "and then no longer");
            source.acknowledge(&leases).await.expect("a second time is no error");
        }
        assert_eq!(seen.len(), 300);
    }
    source.close().await;
    drop(source);
    nothing_is_left(&project, &Lane::ALL).await;
}

#[tokio::test]
async fn no_more_is_held_than_may_be() {
    let project = emulator().new_project();
    project.set_up(&layout()).await;
    let greedy = open(&project, 10).await;
    project.publish("uploads-low", events("u", 100)).await;
    let mut held = pull(&greedy, Lane::Low, 10).await;
    // The emulator knows no flow control and has sent everything; it is left on the wire until there is room.
    for _ in 0..20 {
        assert_eq!(greedy.pull(Lane::Low, 100).await, Ok(Vec::new()), "it holds what it may");
        greedy.acknowledge(&[held.remove(0).lease]).await.expect("acknowledged");
        held.extend(pull(&greedy, Lane::Low, 1).await);
        let pending = greedy.pending(Lane::Low).await.expect("counted");
        assert_eq!((pending.ready, pending.leased), (0, 10));
    }
}

#[tokio::test]
async fn what_is_released_or_never_pulled_goes_to_others() {
    let project = emulator().new_project();
    project.set_up(&layout()).await;
    let first = open(&project, 40).await;
    project.publish("uploads-high", events("u", 40)).await;
    let done = pull(&first, Lane::High, 20).await;
    let leases: Vec<Lease> = done.iter().map(|delivery| delivery.lease).collect();
    let (ended, given_back) = leases.split_at(10);
    first.acknowledge(ended).await.expect("acknowledged");
    let closing = async {
        tokio::join!(first.close(), async {
            first.release(given_back).await.expect("released");
        });
    };
    tokio::time::timeout(Duration::from_secs(5), closing).await.expect("closes once all is ended");
    assert_eq!(first.pull(Lane::High, 10).await, Ok(Vec::new()), "a closed source has nothing");
    let second = open(&project, 40).await;
    // The emulator goes on delivering to a stream that is closed: it can take a lease or two.
    let rest = pull(&second, Lane::High, 30).await;
    let ended: BTreeSet<String> = done[..10].iter().map(id).collect();
    let rest: BTreeSet<String> = rest.iter().map(id).collect();
    assert!(rest.len() == 30 && rest.is_disjoint(&ended), "{rest:?}");
}

#[tokio::test]
async fn a_lease_is_extended_for_as_long_as_the_work_goes_on() {
    let project = emulator().new_project();
    project.set_up(&layout()).await;
    let source = open(&project, 1).await;
    project.publish("uploads-low", events("long", 1)).await;
    let at_work = pull(&source, Lane::Low, 1).await;
    // A client that stops extending is the clock: when its message comes again, a lease of ten seconds has run out.
    project.publish("uploads-low", events("clock", 1)).await;
    let mut forgetful = project.stream("tidemark-low", Duration::from_secs(1)).await;
    let (first, forgotten) = forgetful.next().await;
    let (again, _handler) = forgetful.next().await;
    assert_eq!((&first.data, &again.data), (&event("clock-0").into(), &event("clock-0").into()));
    drop(forgotten);
    assert_eq!(source.extend(&[at_work[0].lease]).await, Ok(1));
    source.acknowledge(&[at_work[0].lease]).await.expect("acknowledged");
}

#[tokio::test]
async fn messages_of_one_key_are_given_out_in_their_order_and_given_back_together() {
    let project = emulator().new_project();
    project.set_up(&Layout { ordering: true, ..layout() }).await;
    let keyed = |key: &str| -> Vec<Event> {
        (0..20).map(|n| (event(&format!("{key}-{n}")), Vec::new(), key.to_owned())).collect()
    };
    project.publish("uploads-low", keyed("a").into_iter().chain(keyed("b"))).await;
    let source = open(&project, 100).await;
    let all = pull(&source, Lane::Low, 40).await;
    for key in ["a", "b"] {
        let of_key: Vec<String> = all.iter().map(id).filter(|id| id.starts_with(key)).collect();
        let wanted: Vec<String> = (0..20).map(|n| format!("{key}-{n}")).collect();
        assert_eq!(of_key, wanted);
    }
    project.publish("uploads-high", keyed("a").into_iter().chain(keyed("b"))).await;
    let waiting = async |count| source.pending(Lane::High).await.expect("counted").ready == count;
    until("all are here", async || waiting(40).await).await;
    let first = pull(&source, Lane::High, 1).await;
    source.release(&[first[0].lease]).await.expect("released");
    assert!(waiting(20).await, "those behind it are given back with it, or they would be done before it");
}

#[tokio::test]
async fn a_message_about_something_else_is_acknowledged_and_counted() {
    let project = emulator().new_project();
    project.set_up(&layout()).await;
    let notification = |kind: &str, name: &str| -> Event {
        let attributes = [("eventType", kind), ("bucketId", "audio"), ("objectId", name), ("objectGeneration", "1")];
        let attributes = attributes.map(|(key, value)| (key.to_owned(), value.to_owned()));
        (Vec::new(), attributes.to_vec(), String::new())
    };
    let events = [
        notification("OBJECT_DELETE", "acme/old.mp3"),
        notification("OBJECT_METADATA_UPDATE", "acme/song.mp3"),
        notification("OBJECT_FINALIZE", "acme/"),
        notification("OBJECT_FINALIZE", "acme/song.mp3"),
    ];
    project.publish("uploads-low", events).await;
    let source = open(&project, 1).await;
    let delivery = pull(&source, Lane::Low, 1).await.remove(0);
    let upload = records::Upload::from_event(&delivery.payload).expect("an upload");
    assert_eq!((upload.audio_uri.as_str(), upload.customer_id.as_str()), ("gs://audio/acme/song.mp3", "acme"));
    source.acknowledge(&[delivery.lease]).await.expect("acknowledged");
    until("the others are counted", async || source.skipped(Lane::Low) >= 3).await;
    source.close().await;
    assert_eq!((source.skipped(Lane::Low), source.skipped(Lane::High)), (3, 0));
    drop(source);
    nothing_is_left(&project, &[Lane::Low]).await;
}
