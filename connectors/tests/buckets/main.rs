//! Objects in an emulator of Google Cloud Storage. `make test-services` runs it; `tests/objects` has the failures that no
//! emulator has.

#[path = "../support/script.rs"]
mod script;
mod gcs;
#[path = "../store/logs.rs"]
#[allow(dead_code, reason = "it makes more than is needed here")]
mod logs;
#[path = "../store/make.rs"]
#[allow(dead_code, reason = "it makes more than is needed here")]
mod make;

use connectors::objects::{Audio, Objects, ObjectsOptions};
use connectors::parquet::{Exported, ParquetExport};
use connectors::store::Store;
use gcs::{gcs, with_puts};
use logs::{window, write_windows};
use make::{START, attempts, completed, id, payload};
use records::{ErrorType, Fault, FaultClass, Lane};
use tempfile::TempDir;

const MB: usize = 1 << 20;

fn objects(options: ObjectsOptions) -> (Objects, TempDir) {
    let folder = tempfile::tempdir().expect("a folder");
    let options = ObjectsOptions { gcs_endpoint: Some(gcs().address.clone()), ..options };
    (Objects::new(options, folder.path().join("tmp")), folder)
}

fn sound(length: usize, seed: u64) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(seed);
    std::iter::repeat_with(|| random.u8(..)).take(length).collect()
}

fn read(audio: &Audio) -> Vec<u8> {
    std::fs::read(audio.path()).expect("a file")
}

fn assert_fault(fault: &Fault, class: FaultClass, names: [&str; 2]) {
    assert_eq!((fault.class, fault.error_type), (class, ErrorType::AudioUnreachable), "{fault}");
    assert!(names.iter().all(|name| fault.message.contains(name)), "{fault}");
}

#[tokio::test]
async fn objects_of_any_size_and_name_come_as_they_are() {
    gcs().make_bucket("whole").await;
    let (objects, _folder) = objects(ObjectsOptions::default());
    for (name, length) in
        [("a.wav", 1), ("up/load s/ü%20#1+.wav", 300_000), ("large.wav", 17 * MB + 3), ("empty.wav", 0)]
    {
        let bytes = sound(length, 1);
        gcs().upload("whole", name, bytes.clone()).await;
        let audio = objects.fetch(&format!("gs://whole/{name}"), Lane::High).await.expect(name);
        assert!(read(&audio) == bytes, "{name}");
    }
}

#[tokio::test]
async fn what_is_not_there_can_never_be_fetched() {
    gcs().make_bucket("there").await;
    let (objects, _folder) = objects(ObjectsOptions::default());
    for uri in ["gs://there/none.wav", "gs://not-there/a.wav"] {
        let fault = objects.fetch(uri, Lane::Low).await.expect_err("nothing");
        assert_fault(&fault, FaultClass::Permanent, [uri, "no such bucket"]);
    }
}

#[tokio::test]
async fn an_object_that_is_too_large_is_refused() {
    gcs().make_bucket("limits").await;
    let (objects, folder) = objects(ObjectsOptions { largest_mb: 1, ..ObjectsOptions::default() });
    for (length, fits) in [(MB, true), (MB + 1, false)] {
        gcs().upload("limits", "a.wav", sound(length, 2)).await;
        match objects.fetch("gs://limits/a.wav", Lane::Low).await {
            Ok(_) => assert!(fits, "{length}"),
            Err(fault) => {
                assert!(!fits, "{length}: {fault}");
                assert_fault(&fault, FaultClass::Permanent, ["1048577", "objects.largest_mb"]);
            }
        }
    }
    let left = std::fs::read_dir(folder.path().join("tmp")).map_or(0, Iterator::count);
    assert_eq!(left, 0);
}

#[tokio::test]
async fn an_object_that_is_overwritten_while_it_waits_is_no_mixture() {
    gcs().make_bucket("rewritten").await;
    let (objects, _folder) = objects(ObjectsOptions { largest_mb: 12, max_disk_mb: 12, ..ObjectsOptions::default() });
    let (old, new) = (sound(11 * MB, 3), sound(11 * MB, 4));
    for name in ["first.wav", "second.wav"] {
        gcs().upload("rewritten", name, old.clone()).await;
    }
    // It has all the room that there is, so the second one waits behind its first piece.
    let first = objects.fetch("gs://rewritten/first.wav", Lane::Low).await.expect("fetched");
    let overwrite = async {
        while !gcs().log().contains("GET /rewritten/second") {
            tokio::task::yield_now().await;
        }
        gcs().upload("rewritten", "second.wav", new.clone()).await;
        drop(first);
    };
    let (second, ()) = tokio::join!(objects.fetch("gs://rewritten/second.wav", Lane::Low), overwrite);
    assert_fault(&second.expect_err("a mixture"), FaultClass::Retryable, ["second.wav", "overwritten"]);
    let again = objects.fetch("gs://rewritten/second.wav", Lane::Low).await.expect("the new one");
    assert!(read(&again) == new);
}

#[tokio::test]
async fn outcomes_are_put_into_a_bucket_once_each() {
    gcs().make_bucket("tables").await;
    let folder = tempfile::tempdir().expect("a folder");
    let options = ObjectsOptions { gcs_endpoint: Some(with_puts(gcs())), ..ObjectsOptions::default() };
    let objects = Objects::new(options, folder.path().join("tmp"));
    let store = Store::open(&folder.path().join("tidemark.db")).await.expect("opens");
    let export = ParquetExport::into_bucket(store.clone(), &objects, "gs://tables/of/tests/").expect("an address");
    for (numbers, rows) in [(0..500, 500), (500..700, 200), (700..700, 0)] {
        let uploads: Vec<_> = numbers.clone().map(|number| (id(number), Lane::Low, START)).collect();
        store.admit(&uploads).await.expect("admitted");
        let outcomes = numbers.map(|number| (number, completed(number, 1, START)));
        let group: Vec<_> = outcomes.map(|(number, it)| (it.clone(), attempts(&it), payload(number).into())).collect();
        store.commit(&group).await.expect("committed");
        let files = u64::from(rows > 0);
        assert_eq!(export.export(START).await.expect("exported"), Exported { rows, files });
    }
    let mut names = gcs().list("tables").await;
    names.sort();
    let listed = objects.list("gs://tables/of/", ".parquet").await.expect("listed");
    assert_eq!(listed, names.iter().map(|name| format!("gs://tables/{name}")).collect::<Vec<_>>());
    assert_eq!(objects.list("gs://tables/of", ".csv").await, Ok(Vec::new()));
    assert!(objects.list("gs://no-such-tables/of", "").await.is_err());
    let day = "of/tests/outcomes/day=2026-09-21";
    let expected = ["000000000001-000000000500", "000000000501-000000000700"].map(|it| format!("{day}/{it}.parquet"));
    assert_eq!(names, expected);
    for name in names {
        let bytes = gcs().download("tables", &name).await.expect("there");
        assert!(bytes.starts_with(b"PAR1") && bytes.ends_with(b"PAR1"), "{name} is a whole Parquet file");
    }
}

#[tokio::test]
async fn many_small_files_of_outcomes_and_of_windows_become_one_in_a_bucket() {
    gcs().make_bucket("small").await;
    let folder = tempfile::tempdir().expect("a folder");
    let options = ObjectsOptions { gcs_endpoint: Some(with_puts(gcs())), ..ObjectsOptions::default() };
    let objects = Objects::new(options, folder.path().join("tmp"));
    let store = Store::open(&folder.path().join("tidemark.db")).await.expect("opens");
    let outcomes = ParquetExport::into_bucket(store.clone(), &objects, "gs://small/of").expect("an address");
    let windows = ParquetExport::windows_into_bucket(store.clone(), &objects, "gs://small/of").expect("an address");
    for number in 0..64 {
        store.admit(&[(id(number), Lane::Low, START)]).await.expect("admitted");
        let outcome = completed(number, 1, START);
        let ended = (outcome.clone(), attempts(&outcome), payload(number).into());
        store.commit(&[ended]).await.expect("committed");
        assert_eq!(outcomes.export(START).await.expect("exported"), Exported { rows: 1, files: 1 });
    }
    write_windows(&store, &[window(2, 1), window(4, 1)]).await;
    assert_eq!(windows.export(START).await.expect("exported"), Exported { rows: 2, files: 1 });
    assert_eq!((windows.compact(START).await.expect("few"), outcomes.compact(START).await.expect("many")), (0, 63));
    let mut names = gcs().list("small").await;
    names.sort();
    let file = |table: &str, range: &str| format!("of/{table}/day=2026-09-21/{range}.parquet");
    let expected = [file("outcomes", "000000000001-000000000064"), file("windows", "000000000001-000000000002")];
    assert_eq!(names, expected);
    assert_eq!(outcomes.compact(START).await.expect("nothing to do"), 0);
}
