//! The cache: what one tenant is given is what that tenant had asked about, and nothing else.

use std::collections::{BTreeMap, BTreeSet};

use connectors::store::{CacheEntry, CacheKey, Sound, Tenant};
use proptest::prelude::*;
use records::{Annotation, Confidence, MicroUsd, UtcMicros};

use crate::make::{START, completed, id};
use crate::{Fixture, HISTORIES, admit, ending, fixture};

/// Names that an unlucky key would mix up.
const CUSTOMERS: [&str; 6] = ["a", "A", "everybody", "customer/a", "a%", ""];

fn tenant(number: usize) -> Tenant {
    CUSTOMERS.get(number).map_or(Tenant::everybody(), |id| Tenant::customer(id).expect("no NUL"))
}

fn key(tenant_number: usize, question: u8, content: u8) -> CacheKey {
    CacheKey { tenant: tenant(tenant_number), question: format!("question {question}"), content: [content; 32] }
}

/// An answer that tells by its model whose it is.
fn entry(key: CacheKey, customer: usize, sketch: Vec<u32>, now: UtcMicros) -> CacheEntry {
    let metadata = serde_json::json!({ "tempo_bpm": 120, "key": "F♯ minor", "instruments": ["cello"] });
    CacheEntry {
        answer: Annotation {
            model: format!("{key:?} at {now}"),
            metadata: metadata.as_object().cloned().expect("an object"),
            confidence: Confidence::try_from(0.9).ok(),
            field_confidence: BTreeMap::from([("key".into(), Confidence::ZERO)]),
            inference_ms: 0,
            cost: MicroUsd(0),
        },
        customer_id: CUSTOMERS.get(customer).copied().unwrap_or("z").to_owned(),
        sound: Sound { fingerprint: vec![1, u32::MAX, 3], length_ms: 10_000, sketch },
        created_at: now,
        expires_at: now.plus_ms(1_000),
        key,
    }
}

#[tokio::test]
async fn an_answer_is_given_again_until_it_expires() {
    let Fixture { store, folder: _folder } = fixture().await;
    admit(&store, [1]).await;
    let kept = entry(key(0, 0, 1), 0, vec![5, u32::MAX], START);
    let group = [ending(1, completed(1, 1, START))];
    assert_eq!(store.commit_and_cache(&group, std::slice::from_ref(&kept)).await.expect("committed"), [true]);
    assert!(store.outcome(&id(1)).await.expect("read").is_some(), "the outcome is there as well");

    for (ms, found) in [(0, true), (999, true), (1_000, false)] {
        let now = START.plus_ms(ms);
        let same = store.cached(&kept.key, now).await.expect("read");
        assert_eq!(same.as_ref(), found.then_some(&kept.answer), "after {ms} ms");
        let of = (&kept.key.tenant, kept.key.question.as_str());
        let alike = store.cached_alike(of, &[u32::MAX], 4, now).await.expect("read");
        let sound = Sound { sketch: Vec::new(), ..kept.sound.clone() };
        assert_eq!(alike, if found { vec![(kept.answer.clone(), sound)] } else { Vec::new() });
    }
    assert_eq!(store.forget_expired(START.plus_ms(999)).await.expect("deleted"), 0);
    assert_eq!(store.forget_expired(START.plus_ms(1_000)).await.expect("deleted"), 1);
    assert_eq!(store.cached(&kept.key, START).await.expect("read"), None);
}

#[tokio::test]
async fn those_that_share_most_come_first() {
    let Fixture { store, folder: _folder } = fixture().await;
    let entries = [(1, vec![1, 2, 3]), (2, vec![2, 3, 4, 5]), (3, vec![9])]
        .map(|(content, sketch)| entry(key(0, 0, content), 0, sketch, START));
    store.commit_and_cache(&[], &entries).await.expect("kept");
    let of = (&entries[0].key.tenant, "question 0");
    let alike = store.cached_alike(of, &[2, 3, 4, 5, 6], 2, START).await.expect("read");
    let models: Vec<_> = alike.iter().map(|(answer, _)| answer.model.as_str()).collect();
    assert_eq!(models, [&entries[1].answer.model, &entries[0].answer.model]);
}

#[tokio::test]
async fn what_was_kept_of_a_customer_can_be_forgotten_wherever_it_is() {
    let Fixture { store, folder: _folder } = fixture().await;
    let entries = [
        entry(key(0, 0, 1), 0, vec![1], START),
        entry(key(6, 0, 2), 0, vec![1], START),
        entry(key(6, 0, 3), 1, vec![1], START),
    ];
    store.commit_and_cache(&[], &entries).await.expect("kept");
    assert_eq!(store.forget_cached(CUSTOMERS[0], START).await.expect("deleted"), 2);
    for (entry, left) in entries.iter().zip([false, false, true]) {
        assert_eq!(store.cached(&entry.key, START).await.expect("read").is_some(), left);
    }
    let alike = store.cached_alike((&Tenant::everybody(), "question 0"), &[1], 9, START).await.expect("read");
    assert_eq!(alike.len(), 1, "nor is it found by its sound");
}

#[test]
fn a_name_that_no_database_keeps_has_no_tenant() {
    assert_eq!(Tenant::customer("a\0b"), None);
    assert_ne!(Tenant::customer("everybody"), Some(Tenant::everybody()));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: HISTORIES, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_tenant_is_never_given_the_answer_to_anothers_question(
        kept in prop::collection::vec(
            ((0..7usize, 0..3u8, 0..4u8), 0..6usize, prop::collection::btree_set(0..12u32, 0..6)), 0..30),
        group in 1..10usize,
        asked in prop::collection::btree_set(0..12u32, 1..6),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let Fixture { store, folder: _folder } = fixture().await;
            let mut model: BTreeMap<CacheKey, (String, BTreeSet<u32>)> = BTreeMap::new();
            let entries: Vec<_> = kept.into_iter().enumerate().map(|(number, ((of, question, content), customer, sketch))| {
                let key = key(of, question, content);
                // The same bytes have the same sound.
                let sketch: BTreeSet<u32> = model.get(&key).map_or(sketch, |(_, sketch)| sketch.clone());
                let entry = entry(key, customer, sketch.iter().copied().collect(), START.plus_ms(number as u64));
                model.insert(entry.key.clone(), (entry.answer.model.clone(), sketch));
                entry
            }).collect();
            for group in entries.chunks(group) {
                store.commit_and_cache(&[], group).await.expect("kept");
            }
            let sketch: Vec<u32> = asked.iter().copied().collect();
            for of in 0..7 {
                for question in 0..3 {
                    for content in 0..4 {
                        let key = key(of, question, content);
                        let answer = store.cached(&key, START).await.expect("read").map(|answer| answer.model);
                        assert_eq!(answer.as_ref(), model.get(&key).map(|(model, _)| model), "{key:?}");
                    }
                    let asked_question = format!("question {question}");
                    let alike = store.cached_alike((&tenant(of), &asked_question), &sketch, 99, START).await.expect("read");
                    let alike: BTreeSet<_> = alike.into_iter().map(|(answer, _)| answer.model).collect();
                    let expected = model.iter().filter(|(key, (_, sketch))| {
                        key.tenant == tenant(of) && key.question == asked_question && !sketch.is_disjoint(&asked)
                    });
                    assert_eq!(alike, expected.map(|(_, (model, _))| model.clone()).collect(), "{of} {question}");
                }
            }
        });
    }
}
