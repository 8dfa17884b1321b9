//! The audit log: an operation that was done stands there, once, and one that was not does not.

use connectors::store::{ArmStop, CacheEntry, CacheKey, Sound, Store, StoreError, StoreUrl, StoredExperiment, Tenant};
use records::{Annotation, AuditEntry, Lane, MicroUsd, Operation, UtcMicros};
use serde_json::{Value, json};

use crate::make::{START, dead_lettered, id};
use crate::steps::{change, column};
use crate::{Fixture, admit, ending, fixture};

const NOW: UtcMicros = UtcMicros(START.0 + 5_000);

/// Each operation that is a transaction, with its target and its detail.
fn operations() -> Vec<(Operation, &'static str, Value)> {
    vec![
        (Operation::Enqueue, "queue", json!({ "uploads": 2 })),
        (Operation::Redrive, "dead_letters", json!({ "uploads": 1, "upload_ids": ["upload-1"] })),
        (Operation::Purge, "dead_letters", json!({ "uploads": 1, "upload_ids": ["upload-2"] })),
        (Operation::Purge, "dead_letters", json!({ "before": START.plus_ms(1_000), "uploads": 2 })),
        (Operation::ForgetCached, "customer-1", json!({ "answers": 1 })),
        (Operation::StartExperiment, "e", json!({ "name": "e" })),
        (Operation::StopArm, "e", json!({ "arm": "b", "reason": "too slow" })),
        (Operation::StopExperiment, "e", json!({})),
    ]
}

/// Does what an entry of [`operations`] says.
async fn act(store: &Store, (operation, _, detail): &(Operation, &str, Value)) -> Result<(), StoreError> {
    match operation {
        Operation::Enqueue => store.enqueue_audited(&[(Lane::High, "a"), (Lane::Low, "b")], NOW).await.map(drop),
        Operation::Redrive => store.redrive(&[id(1), id(99), id(1)], NOW).await.map(drop),
        Operation::Purge if detail.get("before").is_some() => {
            store.purge_before(START.plus_ms(1_000), NOW).await.map(drop)
        }
        Operation::Purge => store.purge(&[id(2), id(99)], NOW).await.map(drop),
        Operation::ForgetCached => store.forget_cached("customer-1", NOW).await.map(drop),
        Operation::StartExperiment => {
            let experiment = StoredExperiment {
                name: "e".into(),
                definition: "{\"name\":\"e\"}".into(),
                starts_at: START,
                ends_at: None,
                stopped_at: None,
                stops: Vec::new(),
            };
            store.start_experiment(&experiment, NOW).await.map(drop)
        }
        Operation::StopArm => {
            let stop = ArmStop { arm: "b".into(), stopped_at: NOW, reason: "too slow".into() };
            store.stop_arm("e", &stop).await.map(drop)
        }
        Operation::StopExperiment => store.stop_experiment("e", NOW).await.map(drop),
        Operation::Process | Operation::Replay | Operation::NewStream => unreachable!("not in the list"),
    }
}

/// A store with dead letters and a cached answer.
async fn filled() -> Fixture {
    let fixture = fixture().await;
    admit(&fixture.store, 1..=3).await;
    let dead: Vec<_> = (1..=3).map(|number| ending(number, dead_lettered(number, 1, START))).collect();
    let tenant = Tenant::customer("customer-1").expect("no NUL");
    let entry = CacheEntry {
        key: CacheKey { tenant, question: "q".into(), content: [7; 32] },
        customer_id: "customer-1".into(),
        answer: Annotation {
            model: "m".into(),
            metadata: Default::default(),
            confidence: None,
            field_confidence: Default::default(),
            inference_ms: 0,
            cost: MicroUsd(0),
        },
        sound: Sound::default(),
        created_at: START,
        expires_at: START.plus_ms(1),
    };
    fixture.store.commit_and_cache(&dead, &[entry]).await.expect("committed");
    fixture
}

/// All that operations change, but the audit log.
async fn state(store: &Store) -> Vec<String> {
    let counts = "SELECT 'messages ' || count(*) FROM messages UNION ALL SELECT 'dead ' || count(*) FROM dead_letters
        UNION ALL SELECT 'redriven ' || count(*) FROM dead_letters WHERE redriven_at IS NOT NULL
        UNION ALL SELECT 'versions ' || sum(version) FROM admissions UNION ALL SELECT 'cached ' || count(*) FROM cache
        UNION ALL SELECT 'experiments ' || count(*) FROM experiments
        UNION ALL SELECT 'stopped ' || count(*) FROM experiments WHERE stopped_at IS NOT NULL
        UNION ALL SELECT 'stops ' || count(*) FROM experiment_stops";
    column(store, counts).await
}

/// Lets no row into the audit log, or lets them in again.
async fn refuse(store: &Store, refuses: bool) {
    let statement = match (store.url(), refuses) {
        (StoreUrl::Sqlite(_), true) => {
            "CREATE TRIGGER refuse BEFORE INSERT ON audit BEGIN SELECT RAISE(ABORT, 'no'); END"
        }
        (StoreUrl::Sqlite(_), false) => "DROP TRIGGER refuse",
        (StoreUrl::Postgres(_), true) => {
            "CREATE OR REPLACE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql
                AS $$ BEGIN RAISE EXCEPTION 'no'; END $$;
            CREATE TRIGGER refuse BEFORE INSERT ON audit FOR EACH ROW EXECUTE FUNCTION refuse()"
        }
        (StoreUrl::Postgres(_), false) => "DROP TRIGGER refuse ON audit",
    };
    change(store, statement).await;
}

#[tokio::test]
async fn an_operation_is_done_with_its_row_or_not_at_all_and_what_changes_nothing_leaves_none() {
    let Fixture { store, folder: _folder } = filled().await;
    let store = store.acting_as("ann@desk");
    let mut log: Vec<AuditEntry> = Vec::new();
    for operation in operations() {
        let before = state(&store).await;
        refuse(&store, true).await;
        act(&store, &operation).await.expect_err("no row is let in");
        assert_eq!(state(&store).await, before, "{operation:?} left something without its row");
        refuse(&store, false).await;
        act(&store, &operation).await.expect("done");
        assert_ne!(state(&store).await, before, "{operation:?} did nothing");
        let (operation, target, detail) = operation;
        log.insert(0, AuditEntry { done_at: NOW, actor: "ann@desk".into(), operation, target: target.into(), detail });
        assert_eq!(store.audit_log(99).await.expect("read"), log);
    }
    for operation in operations().iter().filter(|(operation, ..)| *operation != Operation::Enqueue) {
        act(&store, operation).await.expect("nothing to do is no error");
    }
    store.enqueue_audited::<&str>(&[], NOW).await.expect("nothing to do");
    store.enqueue(&[(Lane::Low, "taken over")], NOW).await.expect("enqueued");
    assert_eq!(store.audit_log(99).await.expect("read"), log, "once more changed nothing");
    assert_eq!(store.audit_log(2).await.expect("read"), log[..2], "the newest first");
}

#[tokio::test]
async fn who_acts_is_the_user_of_the_process_unless_it_is_said() {
    let Fixture { store, folder: _folder } = fixture().await;
    let guardrail = store.acting_as("guardrail");
    for store in [&store, &guardrail] {
        store.note_operation(Operation::Replay, "lenient", &json!({}), NOW).await.expect("noted");
    }
    let actors: Vec<String> = store.audit_log(9).await.expect("read").into_iter().map(|entry| entry.actor).collect();
    assert_eq!(actors[0], "guardrail");
    let (user, host) = actors[1].split_once('@').expect("user@host");
    assert!(!user.is_empty() && user != "unknown" && !host.is_empty(), "{actors:?}");
}

#[tokio::test]
async fn a_redrive_of_many_names_all_of_them() {
    let Fixture { store, folder: _folder } = fixture().await;
    let many = 0..2_300;
    admit(&store, many.clone()).await;
    let dead: Vec<_> = many.clone().map(|number| ending(number, dead_lettered(number, 1, START))).collect();
    store.commit(&dead).await.expect("committed");
    let ids: Vec<_> = many.map(id).collect();
    store.redrive(&ids, NOW).await.expect("redriven");
    let log = store.audit_log(9).await.expect("read");
    let mut named: Vec<&str> = Vec::new();
    for entry in &log {
        let ids = entry.detail["upload_ids"].as_array().expect("a list");
        assert_eq!(entry.detail["uploads"], ids.len());
        named.extend(ids.iter().filter_map(Value::as_str));
    }
    named.sort_unstable();
    let mut expected: Vec<&str> = ids.iter().map(records::UploadId::as_str).collect();
    expected.sort_unstable();
    assert_eq!((named, log.len()), (expected, 3), "each once, in rows that fit everywhere");
}
