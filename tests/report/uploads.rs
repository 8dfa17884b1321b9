//! A replay of uploads: each is chosen once and put in the queue whatever dies, and is paired with its past.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use connectors::history::pieces;
use connectors::objects::{Objects, ObjectsOptions};
use connectors::parquet::WholeFile;
use connectors::store::Store;
use proptest::prelude::*;
use records::{
    Admitted, Lane, Outcome, Pair, PairState, Status, Tier, Upload, UtcMicros, outcome_batch, outcome_schema,
};
use tidemark::replay::{Definition, Past, ReplayError, Run, Wanted, choose, feed, left, pairs};
use tokio::runtime::{Handle, Runtime};

use crate::make::{START, completed, dead_lettered, id};

fn now() -> UtcMicros {
    START
}

fn write(path: &Path, outcomes: &[Outcome]) {
    let mut file = WholeFile::begin(path, outcome_schema()).expect("begun");
    file.write(outcome_batch(outcomes)).expect("written");
    file.finish().expect("whole");
}

fn read(path: &Path) -> Vec<Outcome> {
    let mut found = Vec::new();
    for piece in pieces(&[path.to_owned()]).expect("a file") {
        piece
            .outcomes(|page| -> Result<(), ReplayError> {
                found.extend(page);
                Ok(())
            })
            .expect("reads");
    }
    found
}

/// An upload's outcomes, of as many versions; all but the last one are dead letters.
fn versions(number: u64, versions: u32, arrived_at: UtcMicros) -> Vec<Outcome> {
    let tier = [Tier::Enterprise, Tier::Pro, Tier::Free][number as usize % 3];
    let of = |version| match version == versions && !number.is_multiple_of(4) {
        true => completed(number, version, arrived_at),
        false => dead_lettered(number, version, arrived_at),
    };
    (1..=versions).map(|version| Outcome { tier: Some(tier), ..of(version) }).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]
    #[test]
    fn every_upload_that_is_wanted_is_chosen_once_and_as_it_ended_at_last(
        uploads in proptest::collection::vec((1u32..4, 0u64..1_000), 1..40),
        wanted in (any::<bool>(), any::<bool>(), any::<bool>(), any::<bool>(), any::<bool>()),
        seed in any::<u64>(),
    ) {
        let folder = tempfile::tempdir().expect("a folder");
        let mut log: Vec<Outcome> = Vec::new();
        for (number, (count, ms)) in uploads.iter().enumerate() {
            log.extend(versions(number as u64, *count, START.plus_ms(*ms)));
        }
        let mut dice = fastrand::Rng::with_seed(seed);
        dice.shuffle(&mut log);
        // Two files, and what stands in both.
        let cut = dice.usize(0..=log.len());
        write(&folder.path().join("a.parquet"), &log[..cut]);
        write(&folder.path().join("b.parquet"), &log[cut / 2..]);

        let (from, to, customer, tier, lane) = wanted;
        let wanted = Wanted {
            from: from.then(|| START.plus_ms(300)),
            to: to.then(|| START.plus_ms(700)),
            customer: customer.then(|| "customer-3".to_owned()),
            tier: tier.then_some(Tier::Pro),
            lane: lane.then_some(Lane::Low),
            ..Wanted::default()
        };
        let mut expected: BTreeMap<String, Outcome> = BTreeMap::new();
        for outcome in &log {
            let is_wanted = (!from || outcome.arrived_at >= START.plus_ms(300))
                && (!to || outcome.arrived_at < START.plus_ms(700))
                && (!customer || outcome.customer_id.as_deref() == Some("customer-3"))
                && (!tier || outcome.tier == Some(Tier::Pro))
                && (!lane || outcome.lane == Lane::Low);
            let known = expected.get(outcome.upload_id.as_str()).map_or(0, |known| known.version);
            if is_wanted && outcome.version > known {
                expected.insert(outcome.upload_id.to_string(), outcome.clone());
            }
        }

        let runtime = Runtime::new().expect("a runtime");
        let objects = Arc::new(Objects::new(ObjectsOptions::default(), folder.path().join("tmp")));
        let past = runtime.block_on(Past::files(&[folder.path().to_owned()], objects)).expect("files");
        let file = folder.path().join("c");
        match choose(&past, &wanted, &file, runtime.handle()) {
            Ok(count) => {
                let chosen = folder.path().join("chosen.parquet");
                std::fs::rename(&file, &chosen).expect("it is there");
                let mut chosen = read(&chosen);
                prop_assert_eq!(chosen.len() as u64, count);
                chosen.sort_by(|one, other| one.upload_id.cmp(&other.upload_id));
                prop_assert_eq!(chosen, expected.into_values().collect::<Vec<_>>());
            }
            Err(error) => {
                prop_assert!(matches!(error, ReplayError::Nothing) && expected.is_empty(), "{error}");
                prop_assert!(!file.exists());
            }
        }
    }
}

/// The process dies.
fn dies(at: usize) -> impl FnMut() -> Result<(), ReplayError> {
    let mut step = 0;
    move || {
        step += 1;
        if step > at { Err(ReplayError::Nothing) } else { Ok(()) }
    }
}

/// Works a queue to its end as a worker does, a group at a time; one group in three is lost before its acknowledgement.
async fn work(store: &Store) {
    for turn in 0.. {
        let leased = store.lease(Lane::Low, 300, START.plus_ms(1_000), START).await.expect("leased");
        if leased.is_empty() {
            return;
        }
        // Of what was delivered twice, the second waits for the first one's end.
        let events: BTreeMap<_, _> = leased
            .iter()
            .map(|it| (Upload::from_event(&it.payload).expect("an event").upload_id, Arc::clone(&it.payload)))
            .collect();
        let asked: Vec<_> = events.keys().map(|id| (id.clone(), Lane::Low, START)).collect();
        let known = store.admit(&asked).await.expect("admitted");
        let ending = |((id, payload), known)| match known {
            Admitted::Open { version, arrived_at } => {
                let outcome = Outcome { upload_id: id, ..completed(7, version, arrived_at) };
                Some((outcome, Vec::new(), payload))
            }
            Admitted::Finished => None,
        };
        let group: Vec<_> = events.into_iter().zip(known).filter_map(ending).collect();
        store.commit(&group).await.expect("committed");
        let leases: Vec<_> = leased.iter().map(|it| it.lease).collect();
        let is_lost = turn % 3 == 0 && turn < 9;
        let end = if is_lost { store.release(&leases).await } else { store.acknowledge(&leases).await };
        end.expect("ended");
    }
}

#[test]
fn a_feed_that_dies_at_any_step_loses_no_upload_and_each_has_one_outcome() {
    let runtime = Runtime::new().expect("a runtime");
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("original.parquet");
    let unreadable = Outcome { customer_id: None, source: None, tier: None, ..dead_lettered(2_500, 1, START) };
    let outcomes: Vec<Outcome> = (0..2_500).map(|number| completed(number, 1, START)).chain([unreadable]).collect();
    write(&file, &outcomes);
    let mut deaths = 0;
    for first in 0.. {
        let store = || -> Store {
            let path: PathBuf = folder.path().join(format!("{first}.db"));
            runtime.block_on(Store::open(&path)).expect("opens")
        };
        // It dies at each step in turn, and once more a step after it has gone on.
        let mut died = [false; 2];
        for (died, at) in died.iter_mut().zip([first, 1]) {
            let store = store();
            *died = feed(&store, &file, now, runtime.handle(), &mut dies(at)).is_err();
            deaths += usize::from(*died);
            runtime.block_on(store.close());
        }
        let store = store();
        feed(&store, &file, now, runtime.handle(), &mut || Ok(())).expect("it goes on");
        runtime.block_on(async {
            work(&store).await;
            assert_eq!(left(&store, START).await.expect("known"), 0);
            let tally = store.tally().await.expect("a tally");
            assert_eq!(tally, [(Lane::Low, Status::Completed, 2_500)], "died at {first}");
            let log = store.outcomes_after(0, 10_000).await.expect("the log");
            assert_eq!(log.len(), 2_500, "one each");
            store.close().await;
        });
        if !died[0] {
            break;
        }
    }
    assert!(deaths >= 7, "{deaths} deaths: three pages have six steps");
}

#[test]
fn pairs_are_in_the_order_of_the_choice_whatever_the_order_of_the_replay() {
    let runtime = Runtime::new().expect("a runtime");
    let folder = tempfile::tempdir().expect("a folder");
    let run = Run::new(folder.path(), "some").expect("a name");
    let store = runtime.block_on(run.store()).expect("opens");
    let originals: Vec<Outcome> = (0..1_500).map(|number| completed(number, 2, START)).collect();
    write(&run.original(), &originals);
    assert_eq!(run.uploads().expect("a file"), Some(1_500));
    runtime.block_on(async {
        // The last one is still open.
        for number in (0..1_499).rev() {
            store.admit(&[(id(number), Lane::Low, START)]).await.expect("admitted");
            let outcome = Outcome { inference_ms: 1, ..completed(number, 1, START.plus_ms(5)) };
            store.commit(&[(outcome, Vec::new(), b"event"[..].into())]).await.expect("committed");
        }
    });
    let mut found = Vec::new();
    pairs(&run, &store, &Handle::clone(runtime.handle()), |page| {
        found.extend(page);
        Ok(())
    })
    .expect("paired");
    assert_eq!(found.iter().map(|pair| pair.original.clone()).collect::<Vec<_>>(), originals);
    for (number, pair) in (0..).zip(&found) {
        let expected = (number < 1_499).then(|| Outcome { inference_ms: 1, ..completed(number, 1, START.plus_ms(5)) });
        assert_eq!(pair.replay, expected);
    }
    let states: Vec<PairState> = found.iter().map(Pair::state).collect();
    assert!(states[..1_499].iter().all(|state| *state == PairState::Compared) && states[1_499] == PairState::Open);
}

#[test]
fn what_was_asked_is_read_back_and_what_is_no_name_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    for wrong in ["", ".", "..", ".x", "a/b", "a b", "ü", &"x".repeat(65)] {
        assert!(matches!(Run::new(folder.path(), wrong), Err(ReplayError::Name(_))), "{wrong:?} was taken");
    }
    let run = Run::new(folder.path(), "a-1_b.c").expect("a name");
    assert_eq!(run.definition().expect("nothing there"), None);
    std::fs::create_dir_all(run.folder()).expect("made");
    let wanted = Wanted { from: Some(START), tier: Some(Tier::Free), prompt: Some("ü".into()), ..Wanted::default() };
    let (prompt, models) = ("ü".to_owned(), "00ff".to_owned());
    let definition = Definition { begun_at: START, wanted, checkpoint: None, prompt, threshold: 0.1 + 0.2, models };
    run.begin(&definition).expect("written");
    assert_eq!(run.definition().expect("read"), Some(definition));
    std::fs::write(run.folder().join("run.json"), "{").expect("damaged");
    let error = run.definition().expect_err("refused").to_string();
    assert!(error.contains("run.json"), "{error}");
}
