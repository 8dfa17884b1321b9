//! Dead letters: shown, sent round again, purged.

use connectors::store::{Redriven, Store};
use records::Admitted;
use records::{Lane, Outcome};

use crate::make::{START, completed, dead_lettered, id, payload};
use crate::{Fixture, admit, ending, fixture};

async fn commit(store: &Store, number: u64, outcome: Outcome) {
    assert_eq!(store.commit(&[ending(number, outcome)]).await.expect("committed"), [true]);
}

#[tokio::test]
async fn a_redriven_upload_is_open_again_under_the_next_version_with_its_event_in_its_lane() {
    let Fixture { store, folder: _folder } = fixture().await;
    store.admit(&[(id(1), Lane::Low, START)]).await.expect("admitted");
    commit(&store, 1, Outcome { lane: Lane::High, ..dead_lettered(1, 1, START) }).await;

    let now = START.plus_ms(1_000);
    assert_eq!(
        store.redrive(&[id(1), id(1)], now).await.expect("redriven"),
        [Redriven::Requeued { version: 2 }, Redriven::AlreadyRequeued]
    );
    assert_eq!(store.redrive(&[id(1)], now).await.expect("redriven"), [Redriven::AlreadyRequeued]);
    assert_eq!(admit(&store, [1]).await, [Admitted::Open { arrived_at: START, version: 2 }], "as it first arrived");
    assert_eq!(store.outcome(&id(1)).await.expect("read"), None);
    assert_eq!(store.dead_letters(9).await.expect("read"), []);
    assert_eq!(store.tally().await.expect("counted"), []);
    let deliveries = store.lease(Lane::Low, 9, now, START).await.expect("leased");
    assert_eq!(deliveries.len(), 1, "once, in the lane of its admission");
    assert_eq!((&deliveries[0].payload[..], deliveries[0].enqueued_at), (&payload(1)[..], now));

    commit(&store, 1, completed(1, 2, START)).await;
    assert_eq!(store.outcome(&id(1)).await.expect("read"), Some(completed(1, 2, START)));
    assert_eq!(store.newest_outcomes(9).await.expect("read"), [completed(1, 2, START)], "one row an upload");
    assert_eq!(store.redrive(&[id(1)], now).await.expect("redriven"), [Redriven::NotDeadLettered]);
}

#[tokio::test]
async fn an_outcome_of_the_version_before_the_redrive_changes_nothing() {
    let Fixture { store, folder: _folder } = fixture().await;
    admit(&store, [1]).await;
    commit(&store, 1, dead_lettered(1, 1, START)).await;
    store.redrive(&[id(1)], START).await.expect("redriven");
    let late = store.commit(&[ending(1, completed(1, 1, START))]).await.expect("no error");
    assert_eq!(late, [false]);
    assert_eq!(admit(&store, [1]).await, [Admitted::Open { arrived_at: START, version: 2 }]);
}

#[tokio::test]
async fn a_dead_letter_shows_the_attempts_of_all_its_versions() {
    let Fixture { store, folder: _folder } = fixture().await;
    admit(&store, [1]).await;
    commit(&store, 1, Outcome { attempts: 3, ..dead_lettered(1, 1, START) }).await;
    store.redrive(&[id(1)], START.plus_ms(9)).await.expect("redriven");
    let (letter, _) = store.dead_letter(&id(1)).await.expect("read").expect("its history stays");
    assert_eq!((letter.outcome.version, letter.redriven_at), (1, Some(START.plus_ms(9))));
    commit(&store, 1, Outcome { attempts: 2, ..dead_lettered(1, 2, START) }).await;

    let (letter, attempts) = store.dead_letter(&id(1)).await.expect("read").expect("there");
    assert_eq!((letter.outcome.version, letter.redriven_at, &letter.payload[..]), (2, None, &payload(1)[..]));
    let rounds: Vec<_> = attempts.iter().map(|(version, attempt)| (*version, attempt.number)).collect();
    assert_eq!(rounds, [(1, 1), (1, 2), (1, 3), (2, 1), (2, 2)]);
    assert_eq!(store.dead_letters(9).await.expect("read"), [letter]);
    assert_eq!(store.redrive(&[id(1)], START).await.expect("redriven"), [Redriven::Requeued { version: 3 }]);
}

#[tokio::test]
async fn a_redrive_says_of_each_upload_why_it_did_nothing() {
    let Fixture { store, folder: _folder } = fixture().await;
    admit(&store, [1, 2, 3, 4]).await;
    commit(&store, 1, completed(1, 1, START)).await;
    commit(&store, 2, dead_lettered(2, 1, START)).await;
    commit(&store, 3, dead_lettered(3, 1, START)).await;
    assert_eq!(store.purge(&[id(2), id(77)], START).await.expect("purged"), 1);
    let answers = store.redrive(&[id(99), id(1), id(2), id(3), id(4)], START).await.expect("redriven");
    assert_eq!(
        answers,
        [
            Redriven::Unknown,
            Redriven::NotDeadLettered,
            Redriven::Purged,
            Redriven::Requeued { version: 2 },
            Redriven::NotDeadLettered,
        ]
    );
}

#[tokio::test]
async fn the_upload_that_died_first_is_sent_round_first() {
    let Fixture { store, folder: _folder } = fixture().await;
    admit(&store, [5, 3, 1]).await;
    for number in [3, 5, 1] {
        commit(&store, number, dead_lettered(number, 1, START)).await;
    }
    store.redrive(&[id(1), id(5), id(3)], START).await.expect("redriven");
    let deliveries = store.lease(Lane::Low, 9, START.plus_ms(1), START).await.expect("leased");
    let payloads: Vec<_> = deliveries.iter().map(|delivery| delivery.payload.to_vec()).collect();
    assert_eq!(payloads, [3, 5, 1].map(payload));
}

#[tokio::test]
async fn a_purge_takes_what_is_older_than_the_moment_and_leaves_the_outcomes() {
    let Fixture { store, folder: _folder } = fixture().await;
    admit(&store, 0..4).await;
    let day = |number: u64| START.plus_ms(86_400_000 * number);
    for number in 0..4 {
        commit(&store, number, Outcome { completed_at: day(number), ..dead_lettered(number, 1, START) }).await;
    }
    assert_eq!(store.purge_before(day(2), START).await.expect("purged"), 2);
    assert_eq!(store.purge_before(day(2), START).await.expect("purged"), 0, "what is exactly as old stays");
    let left: Vec<_> =
        store.dead_letters(9).await.expect("read").into_iter().map(|letter| letter.outcome.upload_id).collect();
    assert_eq!(left, [id(3), id(2)]);
    assert_eq!(store.dead_letter(&id(0)).await.expect("read"), None);
    assert!(store.outcome(&id(0)).await.expect("read").is_some());
}
