//! Experiments: one at a time, a name for ever, and of each upload the outcome that counts.

use connectors::store::{ArmStop, Started, StoredExperiment};
use records::{Outcome, UtcMicros};

use crate::make::{START, completed, dead_lettered};
use crate::{Fixture, admit, ending, fixture};

fn experiment(name: &str, ends_at: Option<UtcMicros>) -> StoredExperiment {
    StoredExperiment {
        name: name.to_owned(),
        definition: format!("{{\"name\":\"{name}\"}}"),
        starts_at: START,
        ends_at,
        stopped_at: None,
        stops: Vec::new(),
    }
}

#[tokio::test]
async fn one_experiment_runs_at_a_time_and_a_name_is_used_once() {
    let Fixture { store, folder: _folder } = fixture().await;
    let (first, second) = (experiment("first", None), experiment("second", Some(START.plus_ms(2_000))));
    assert_eq!(store.start_experiment(&first, START).await.expect("asked"), Started::Started);
    assert_eq!(store.start_experiment(&first, START).await.expect("asked"), Started::NameTaken);
    assert_eq!(store.start_experiment(&second, START).await.expect("asked"), Started::Running("first".into()));
    assert!(store.stop_experiment("first", START.plus_ms(1_000)).await.expect("asked"));
    assert!(!store.stop_experiment("first", START.plus_ms(1_500)).await.expect("asked"), "it is over");
    assert!(!store.stop_experiment("nobody", START).await.expect("asked"));
    assert_eq!(store.start_experiment(&second, START.plus_ms(1_000)).await.expect("asked"), Started::Started);
    let third = experiment("third", None);
    let asked = store.start_experiment(&third, START.plus_ms(1_999)).await.expect("asked");
    assert_eq!(asked, Started::Running("second".into()));
    assert_eq!(store.start_experiment(&third, START.plus_ms(2_000)).await.expect("asked"), Started::Started);

    let stopped = StoredExperiment { stopped_at: Some(START.plus_ms(1_000)), ..first };
    assert_eq!(store.experiments().await.expect("read"), [stopped, second, third]);
}

#[tokio::test]
async fn many_who_start_at_once_start_one() {
    let Fixture { store, folder: _folder } = fixture().await;
    let start = |number: u32| {
        let store = store.clone();
        tokio::spawn(async move { store.start_experiment(&experiment(&number.to_string(), None), START).await })
    };
    let mut started = 0;
    for done in (0..6).map(start).collect::<Vec<_>>() {
        started += usize::from(done.await.expect("no panic").expect("asked") == Started::Started);
    }
    assert_eq!((started, store.experiments().await.expect("read").len()), (1, 1));
}

#[tokio::test]
async fn an_arm_is_stopped_once_and_keeps_its_first_reason() {
    let Fixture { store, folder: _folder } = fixture().await;
    store.start_experiment(&experiment("e", None), START).await.expect("started");
    let stop = |ms, reason: &str| ArmStop { arm: "b".into(), stopped_at: START.plus_ms(ms), reason: reason.into() };
    assert!(store.stop_arm("e", &stop(1, "too slow")).await.expect("asked"));
    assert!(!store.stop_arm("e", &stop(2, "too dear")).await.expect("asked"));
    assert_eq!(store.experiments().await.expect("read")[0].stops, [stop(1, "too slow")]);
}

#[tokio::test]
async fn each_upload_counts_with_its_last_outcome_of_the_experiment() {
    let Fixture { store, folder: _folder } = fixture().await;
    admit(&store, 1..=4).await;
    let of = |experiment: Option<&str>, outcome: Outcome| Outcome { experiment: experiment.map(Into::into), ..outcome };
    let first = [
        ending(1, of(Some("e"), dead_lettered(1, 1, START))),
        ending(2, of(Some("e"), dead_lettered(2, 1, START))),
        ending(3, of(Some("other"), completed(3, 1, START))),
    ];
    store.commit(&first).await.expect("committed");
    store.redrive(&[first[0].0.upload_id.clone(), first[1].0.upload_id.clone()], START).await.expect("redriven");
    let second = [ending(1, of(Some("e"), completed(1, 2, START))), ending(2, of(None, completed(2, 2, START)))];
    store.commit(&second).await.expect("committed");

    let page = store.outcomes_of("e", 0, 1).await.expect("read");
    let rest = store.outcomes_of("e", page[0].0, 9).await.expect("read");
    let counted: Vec<_> = page.into_iter().chain(rest).map(|(_, outcome)| outcome).collect();
    assert_eq!(counted, [first[1].0.clone(), second[0].0.clone()], "what is redriven outside does not count");
}

#[tokio::test]
async fn what_is_open_is_told_by_its_arrival_until_its_first_outcome() {
    let Fixture { store, folder: _folder } = fixture().await;
    assert_eq!(store.oldest_open(START).await.expect("read"), None);
    admit(&store, [1]).await;
    assert_eq!(store.oldest_open(START).await.expect("read"), Some(START));
    assert_eq!(
        store.oldest_open(UtcMicros(START.0 + 1)).await.expect("read"),
        None,
        "what arrived before does not matter"
    );
    let dead = ending(1, dead_lettered(1, 1, START));
    store.commit(std::slice::from_ref(&dead)).await.expect("committed");
    assert_eq!(store.oldest_open(START).await.expect("read"), None);
    store.redrive(&[dead.0.upload_id], START).await.expect("redriven");
    assert_eq!(
        store.oldest_open(START).await.expect("read"),
        None,
        "what is redriven has an outcome that stands till then"
    );
}
