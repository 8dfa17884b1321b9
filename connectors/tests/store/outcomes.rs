//! Admission and commit: one outcome for each version of an upload.

use records::Admitted;
use records::{Lane, Status};

use crate::make::{START, attempts, completed, dead_lettered, id};
use crate::{Fixture, admit, ending, fixture};

const OPEN: Admitted = Admitted::Open { arrived_at: START, version: 1 };

#[tokio::test]
async fn an_upload_keeps_its_first_arrival_and_is_finished_once_it_has_its_outcome() {
    let Fixture { store, folder: _folder } = fixture().await;
    let again =
        [(id(1), Lane::High, START.plus_ms(5)), (id(2), Lane::Low, START), (id(2), Lane::Low, START.plus_ms(9))];
    assert_eq!(admit(&store, [1]).await, [OPEN]);
    assert_eq!(store.admit(&again).await.expect("admitted"), [OPEN, OPEN, OPEN]);
    store.commit(&[ending(1, completed(1, 1, START))]).await.expect("committed");
    assert_eq!(store.admit(&again).await.expect("admitted"), [Admitted::Finished, OPEN, OPEN]);
}

#[tokio::test]
async fn an_outcome_comes_back_as_it_was_committed_with_all_its_attempts() {
    let Fixture { store, folder: _folder } = fixture().await;
    admit(&store, 0..300).await;
    let mut outcomes: Vec<_> = (0..300).map(|number| completed(number, 1, START)).collect();
    outcomes[7] = dead_lettered(7, 1, START);
    outcomes[7].attempts = 3;
    let invalid = &mut outcomes[8];
    (invalid.customer_id, invalid.source, invalid.tier, invalid.arm) = (None, None, None, None);
    let group: Vec<_> = (0..).zip(outcomes.clone()).map(|(number, outcome)| ending(number, outcome)).collect();
    assert_eq!(store.commit(&group).await.expect("committed"), vec![true; 300]);

    for (number, outcome) in (0..).zip(&outcomes) {
        assert_eq!(store.outcome(&id(number)).await.expect("read").as_ref(), Some(outcome));
        let tried = attempts(outcome).into_iter().map(|attempt| (1, attempt)).collect::<Vec<_>>();
        assert_eq!(store.attempts(&id(number)).await.expect("read"), tried);
    }
    let newest: Vec<_> = outcomes.iter().rev().take(3).cloned().collect();
    assert_eq!(store.newest_outcomes(3).await.expect("read"), newest);
    assert_eq!(store.outcome(&id(9_999)).await.expect("read"), None);
}

#[tokio::test]
async fn the_first_outcome_of_an_upload_stays_and_a_second_one_changes_nothing() {
    let Fixture { store, folder: _folder } = fixture().await;
    admit(&store, [1, 2]).await;
    let (first, second) = (ending(1, completed(1, 1, START)), ending(1, dead_lettered(1, 1, START)));
    let both = [first.clone(), second.clone(), ending(2, completed(2, 1, START))];
    assert_eq!(store.commit(&both).await.expect("committed"), [true, false, true], "within a group");
    assert_eq!(store.commit(&[second, first.clone()]).await.expect("committed"), [false, false], "and over groups");
    assert_eq!(store.outcome(&id(1)).await.expect("read"), Some(first.0));
    assert_eq!(store.attempts(&id(1)).await.expect("read").len(), 1);
    assert_eq!(store.dead_letters(9).await.expect("read"), []);
    let one = |lane| (lane, Status::Completed, 1);
    assert_eq!(store.tally().await.expect("counted"), [one(Lane::High), one(Lane::Low)]);
}

#[tokio::test]
async fn the_log_is_read_page_by_page_in_the_order_of_commits() {
    let Fixture { store, folder: _folder } = fixture().await;
    admit(&store, 0..10).await;
    for number in [3, 1, 4, 5, 9, 2, 6] {
        store.commit(&[ending(number, completed(number, 1, START))]).await.expect("committed");
    }
    let (mut after, mut seen) = (0, Vec::new());
    loop {
        let page = store.outcomes_after(after, 3).await.expect("read");
        let Some((last, _)) = page.last() else { break };
        after = *last;
        seen.extend(page.into_iter().map(|(_, outcome)| outcome.queued_ms));
    }
    assert_eq!(seen, [3, 1, 4, 5, 9, 2, 6]);
}

#[tokio::test]
#[should_panic(expected = "its upload was admitted")]
async fn an_outcome_without_an_admission_is_a_broken_invariant() {
    let Fixture { store, folder: _folder } = fixture().await;
    admit(&store, [1]).await;
    drop(store.commit(&[ending(1, completed(1, 1, START)), ending(2, completed(2, 1, START))]).await);
}

#[tokio::test]
async fn a_group_that_breaks_an_invariant_leaves_nothing_behind() {
    let Fixture { store, folder: _folder } = fixture().await;
    admit(&store, [1]).await;
    let broken = store.clone();
    let group = vec![ending(1, completed(1, 1, START)), ending(1, completed(1, 2, START))];
    let died = tokio::spawn(async move { broken.commit(&group).await }).await;
    assert!(died.expect_err("version 2 was never admitted").is_panic());
    assert_eq!(admit(&store, [1]).await, [OPEN]);
    assert_eq!(store.outcomes_after(0, 9).await.expect("read"), []);
}

#[tokio::test]
async fn a_text_with_a_nul_is_no_reason_to_refuse_the_outcome() {
    let Fixture { store, folder: _folder } = fixture().await;
    admit(&store, [1]).await;
    let mut outcome = completed(1, 1, START);
    outcome.customer_id = Some("a\0b".into());
    outcome.metadata.insert("key".into(), "C\0".into());
    assert_eq!(store.commit(&[ending(1, outcome.clone())]).await.expect("committed"), [true]);
    outcome.customer_id = Some("a\u{fffd}b".into());
    assert_eq!(store.outcome(&id(1)).await.expect("read"), Some(outcome), "the text is kept but for the NUL");
}

#[tokio::test]
async fn an_empty_group_is_no_error() {
    let Fixture { store, folder: _folder } = fixture().await;
    assert_eq!(store.commit(&[]).await.expect("committed"), [] as [bool; 0]);
    assert_eq!(store.admit(&[]).await.expect("admitted"), []);
    assert_eq!(store.enqueue::<Vec<u8>>(&[], START).await.expect("enqueued"), [] as [u64; 0]);
    assert_eq!(store.redrive(&[], START).await.expect("redriven"), []);
}
