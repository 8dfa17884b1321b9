//! Leases: one holder at a time, the oldest first, lanes apart.

use std::collections::BTreeSet;

use connectors::store::{Delivery, Lease, Pending, Store};
use records::{Lane, UtcMicros};

use crate::make::{START, payload};
use crate::{Fixture, fixture};

const UNTIL: UtcMicros = UtcMicros(START.0 + 1_000);

async fn filled(lane: Lane, count: u64) -> Fixture {
    let fixture = fixture().await;
    let messages: Vec<_> = (0..count).map(|number| (lane, payload(number))).collect();
    let ids = fixture.store.enqueue(&messages, START).await.expect("enqueued");
    assert_eq!(ids, (1..=count).collect::<Vec<_>>());
    fixture
}

async fn lease(store: &Store, lane: Lane, max: usize, now: UtcMicros) -> Vec<Delivery> {
    store.lease(lane, max, UtcMicros(now.0 + 1_000), now).await.expect("leased")
}

fn leases(deliveries: &[Delivery]) -> Vec<Lease> {
    deliveries.iter().map(|delivery| delivery.lease).collect()
}

#[tokio::test]
async fn the_oldest_are_leased_first_with_the_bytes_that_were_enqueued() {
    let Fixture { store, folder: _folder } = filled(Lane::Low, 200).await;
    let first = lease(&store, Lane::Low, 150, START).await;
    let rest = lease(&store, Lane::Low, 150, START).await;
    assert_eq!((first.len(), rest.len()), (150, 50));
    for (number, delivery) in (0..).zip(first.iter().chain(&rest)) {
        let lease = Lease { message: number + 1, delivery: 1 };
        assert_eq!(*delivery, Delivery { lease, payload: payload(number).into(), enqueued_at: START });
    }
    assert_eq!(lease(&store, Lane::Low, 1, START).await, [], "all are leased");
}

#[tokio::test]
async fn a_lane_never_gives_the_other_lanes_messages() {
    let Fixture { store, folder: _folder } = filled(Lane::Low, 3).await;
    assert_eq!(lease(&store, Lane::High, 9, START).await, []);
    store.enqueue(&[(Lane::High, b"urgent")], START).await.expect("enqueued");
    let high = lease(&store, Lane::High, 9, START).await;
    assert_eq!(high.iter().map(|delivery| &delivery.payload[..]).collect::<Vec<_>>(), [b"urgent"]);
    assert_eq!(lease(&store, Lane::Low, 9, START).await.len(), 3);
}

#[tokio::test]
async fn a_lease_that_ran_out_is_given_to_the_next_and_its_old_holder_can_only_acknowledge() {
    let Fixture { store, folder: _folder } = filled(Lane::High, 1).await;
    let old = leases(&lease(&store, Lane::High, 1, START).await);
    assert_eq!(lease(&store, Lane::High, 1, UtcMicros(UNTIL.0 - 1)).await, [], "it holds to its last microsecond");
    let new = leases(&lease(&store, Lane::High, 1, UNTIL).await);
    assert_eq!(new, [Lease { message: 1, delivery: 2 }]);

    assert_eq!(store.extend(&old, UNTIL.plus_ms(9)).await.expect("no error"), 0, "the old lease is no lease");
    store.release(&old).await.expect("no error");
    assert_eq!(lease(&store, Lane::High, 1, UNTIL).await, [], "the new holder still has it");
    store.acknowledge(&old).await.expect("acknowledged");
    let later = UNTIL.plus_ms(60_000);
    assert_eq!(store.pending(Lane::High, later).await.expect("counted"), Pending::default(), "the work is done");
    store.acknowledge(&new).await.expect("twice is no error");
}

#[tokio::test]
async fn an_extended_lease_holds_and_a_released_message_is_ready_at_once() {
    let Fixture { store, folder: _folder } = filled(Lane::High, 2).await;
    let held = leases(&lease(&store, Lane::High, 2, START).await);
    assert_eq!(store.extend(&held, UNTIL.plus_ms(9)).await.expect("extended"), 2);
    assert_eq!(lease(&store, Lane::High, 2, UNTIL).await, []);
    store.release(&held[1..]).await.expect("released");
    assert_eq!(store.extend(&held[1..], UNTIL.plus_ms(9)).await.expect("no error"), 0, "what was given back is gone");
    assert_eq!(leases(&lease(&store, Lane::High, 2, START).await), [Lease { message: 2, delivery: 2 }]);
}

#[tokio::test]
async fn pending_counts_what_is_ready_and_what_is_leased_and_how_old_it_is() {
    let Fixture { store, folder: _folder } = filled(Lane::Low, 5).await;
    store.enqueue(&[(Lane::Low, b"late")], START.plus_ms(7)).await.expect("enqueued");
    lease(&store, Lane::Low, 5, START).await;
    let at = |now| store.pending(Lane::Low, now);
    let pending = |ready, leased, oldest_enqueued_at| Pending { ready, leased, oldest_enqueued_at };
    assert_eq!(at(START).await.expect("counted"), pending(1, 5, Some(START.plus_ms(7))));
    assert_eq!(at(UNTIL).await.expect("counted"), pending(6, 0, Some(START)), "the leases ran out");
    assert_eq!(store.pending(Lane::High, START).await.expect("counted"), Pending::default());
}

#[tokio::test]
async fn an_id_is_never_given_to_a_second_message() {
    let Fixture { store, folder: _folder } = filled(Lane::High, 3).await;
    let all = leases(&lease(&store, Lane::High, 3, START).await);
    store.acknowledge(&all).await.expect("acknowledged");
    assert_eq!(store.enqueue(&[(Lane::High, b"next")], START).await.expect("enqueued"), [4]);
    store.acknowledge(&all).await.expect("late, and again");
    assert_eq!(store.pending(Lane::High, START).await.expect("counted").ready, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn two_processes_with_many_tasks_share_a_spool_and_no_message_goes_to_two() {
    let Fixture { store, folder: _folder } = filled(Lane::Low, 1_000).await;
    let other = Store::open(store.url()).await.expect("opens");
    let tasks: Vec<_> = (0..8)
        .map(|task| {
            let store = if task % 2 == 0 { store.clone() } else { other.clone() };
            tokio::spawn(async move {
                let mut mine = Vec::new();
                loop {
                    let batch = leases(&lease(&store, Lane::Low, 17, START).await);
                    if batch.is_empty() {
                        return mine;
                    }
                    // A part is finished at once, a part stays leased to the end.
                    store.acknowledge(&batch[..batch.len() / 2]).await.expect("acknowledged");
                    mine.extend(batch);
                }
            })
        })
        .collect();
    let mut all = Vec::new();
    for task in tasks {
        all.extend(task.await.expect("no panic"));
    }
    let messages: BTreeSet<u64> = all.iter().map(|lease| lease.message).collect();
    assert_eq!((all.len(), messages.len()), (1_000, 1_000));
}
