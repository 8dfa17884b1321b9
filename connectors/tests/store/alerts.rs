//! How alerts stand, and what is still to be told of them: each change once, with its notices or not at all.

use std::collections::BTreeMap;

use connectors::store::{AlertChange, Store, StoreError};
use records::{Alert, AlertPhase, Notice, UtcMicros};

use crate::make::START;
use crate::steps::column;
use crate::{Fixture, fixture};

fn alert(name: &str, phase: AlertPhase, ms: u64) -> Alert {
    let labels = BTreeMap::from([("alertname".to_owned(), name.to_owned())]);
    let annotations = BTreeMap::from([("summary".to_owned(), "too \"many\"".to_owned())]);
    let ends_at = (phase == AlertPhase::Resolved).then(|| START.plus_ms(ms));
    let notice = phase.is_told().then_some(Notice { labels, annotations, starts_at: START, ends_at });
    Alert { name: name.to_owned(), phase, since: START.plus_ms(ms), notice }
}

fn change(before: Option<&Alert>, after: &Alert) -> AlertChange {
    AlertChange { before: before.map(|it| it.since), after: after.clone() }
}

/// The log of changes, in its order.
async fn log(store: &Store) -> Vec<String> {
    let since = format!("CAST((since - {}) / 1000 AS TEXT)", START.0);
    column(store, &format!("SELECT name || ' ' || phase || ' ' || {since} FROM alert_changes ORDER BY seq")).await
}

fn targets() -> Vec<String> {
    ["log", "webhook oncall"].map(str::to_owned).to_vec()
}

#[tokio::test]
async fn a_change_is_there_with_its_notices_for_each_target_until_that_one_has_acknowledged_it() {
    let Fixture { store, folder: _folder } = fixture().await;
    let steps = [(AlertPhase::Pending, 1), (AlertPhase::Firing, 2), (AlertPhase::Resolved, 3)];
    let steps = steps.map(|(phase, ms)| alert("errors", phase, ms));
    let mut before = None;
    for after in &steps {
        store.change_alerts(&[change(before, after)], &targets()).await.expect("written");
        assert_eq!(store.alerts().await.expect("read"), std::slice::from_ref(after));
        before = Some(after);
    }
    let told: Vec<Notice> = steps.iter().filter_map(|it| it.notice.clone()).collect();
    for target in targets() {
        let untold = store.untold(&target, 0, 9).await.expect("read");
        assert_eq!(untold.iter().map(|(_, notice)| notice.clone()).collect::<Vec<_>>(), told, "in their order");
    }
    assert_eq!(
        log(&store).await,
        ["errors firing 2", "errors resolved 3"],
        "what is told is logged once, whoever is told"
    );
    let (first, _) = store.untold("log", 0, 1).await.expect("read").remove(0);
    for _ in 0..2 {
        store.told(first).await.expect("once more is no error");
    }
    assert_eq!(store.untold("log", 0, 9).await.expect("read").len(), 1);
    assert_eq!(store.untold("webhook oncall", 0, 9).await.expect("read").len(), 2, "the others are the other target's");
}

#[tokio::test]
async fn a_change_of_what_somebody_else_has_changed_is_refused_with_all_beside_it() {
    let Fixture { store, folder: _folder } = fixture().await;
    let (one, other) = (alert("one", AlertPhase::Pending, 1), alert("other", AlertPhase::Firing, 1));
    store.change_alerts(&[change(None, &one)], &targets()).await.expect("written");
    let fired = alert("one", AlertPhase::Firing, 2);
    for stale in [None, Some(UtcMicros(START.0 + 7))] {
        let changes = [change(None, &other), AlertChange { before: stale, after: fired.clone() }];
        let error = store.change_alerts(&changes, &targets()).await.expect_err("it is not so any more");
        assert!(matches!(error, StoreError::Held { .. }), "{error:?}");
    }
    assert_eq!(store.alerts().await.expect("read"), [one]);
    assert!(store.untold("log", 0, 9).await.expect("read").is_empty());
    assert!(log(&store).await.is_empty(), "the log has none of it");
}

#[tokio::test]
async fn of_many_who_make_one_change_at_once_one_does() {
    let Fixture { store, folder: _folder } = fixture().await;
    let pending = alert("errors", AlertPhase::Pending, 1);
    store.change_alerts(&[change(None, &pending)], &targets()).await.expect("written");
    let fire = |number: u64| {
        let (store, before) = (store.clone(), pending.clone());
        let changes = [change(Some(&before), &alert("errors", AlertPhase::Firing, 2 + number))];
        tokio::spawn(async move { store.change_alerts(&changes, &targets()).await })
    };
    let mut won = 0;
    for done in (0..6).map(fire).collect::<Vec<_>>() {
        match done.await.expect("no panic") {
            Ok(()) => won += 1,
            Err(error) => assert!(matches!(error, StoreError::Held { .. }), "{error:?}"),
        }
    }
    assert_eq!((won, store.untold("log", 0, 9).await.expect("read").len()), (1, 1));
    assert_eq!(log(&store).await.len(), 1);
}
