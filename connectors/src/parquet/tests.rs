//! An export that dies at each of its steps in turn.

use std::collections::BTreeMap;
use std::fs;
use std::ops::Range;

use ::parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use bytes::Bytes;

use super::*;
use crate::make::{START, attempts, completed, dead_lettered, id, payload};
use futures::TryStreamExt;
use object_store::memory::InMemory;
use object_store::{ObjectStore, ObjectStoreExt};
use records::Lane;

mod compaction;

const UPLOADS: u64 = 11;

/// A data folder, and where the files go: into it, or into a bucket that outlives processes as it does.
struct Home {
    folder: tempfile::TempDir,
    bucket: Option<Arc<InMemory>>,
}

impl Home {
    fn new(has_bucket: bool) -> Self {
        let bucket = has_bucket.then(|| Arc::new(InMemory::new()));
        Self { folder: tempfile::tempdir().expect("a folder"), bucket }
    }

    /// An export in batches of 6 and pages of 2, so that every loop runs more than once.
    fn export(&self, runtime: &Handle) -> ParquetExport {
        let folder = self.folder.path();
        let store = runtime.block_on(Store::open(&folder.join("tidemark.db"))).expect("opens");
        let place = match &self.bucket {
            None => Place::Folder(folder.join("outcomes")),
            Some(bucket) => Place::Bucket(Bucket {
                store: Arc::clone(bucket) as Arc<dyn ObjectStore>,
                prefix: "some/prefix/outcomes".into(),
                url: "gs://bucket/some/prefix/outcomes".into(),
                staging: folder.join("tmp"),
            }),
        };
        ParquetExport {
            rows_per_batch: 6,
            rows_per_page: 2,
            ..ParquetExport::of((Log::Outcomes, OUTCOMES), store, place)
        }
    }

    /// The same over outcomes of two days.
    fn filled(&self, runtime: &Handle) -> ParquetExport {
        let export = self.export(runtime);
        commit(&export, runtime, 0..UPLOADS, |number| number % 2);
        export
    }

    /// Every file by its name, with its bytes.
    fn written(&self, runtime: &Handle) -> BTreeMap<String, Vec<u8>> {
        match &self.bucket {
            None => in_folder(self.folder.path()),
            Some(bucket) => runtime.block_on(async {
                let mut found = BTreeMap::new();
                for object in bucket.list(None).try_collect::<Vec<_>>().await.expect("listed") {
                    let bytes = bucket.get(&object.location).await.expect("there").bytes().await.expect("read");
                    let name = object.location.as_ref().strip_prefix("some/prefix/").expect("is below it");
                    found.insert(name.to_owned(), bytes.to_vec());
                }
                found
            }),
        }
    }
}

/// Commits outcomes of these numbers, each of a day after the first.
fn commit(export: &ParquetExport, runtime: &Handle, numbers: Range<u64>, day: impl Fn(u64) -> u64) {
    let uploads: Vec<_> = numbers.clone().map(|number| (id(number), Lane::Low, START)).collect();
    let ending = |number: u64| {
        let outcome = if number == 5 { dead_lettered } else { completed };
        let outcome = outcome(number, 1, START.plus_ms(day(number) * 86_400_000));
        (outcome.clone(), attempts(&outcome), payload(number).into())
    };
    let group: Vec<_> = numbers.map(ending).collect();
    runtime.block_on(export.store.admit(&uploads)).expect("admitted");
    runtime.block_on(export.store.commit(&group)).expect("committed");
}

fn in_folder(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    let Ok(days) = fs::read_dir(folder.join("outcomes")) else { return found };
    for day in days {
        for file in fs::read_dir(day.expect("an entry").path()).expect("a folder") {
            let path = file.expect("an entry").path();
            let name = path.strip_prefix(folder).expect("is below it").to_str().expect("UTF-8").to_owned();
            found.insert(name, fs::read(&path).expect("read"));
        }
    }
    found
}

/// The `Reached` of a process that dies at its `nth` step, from 0.
fn dying_at(nth: usize) -> impl FnMut() -> Result<(), ExportError> {
    let mut reached = 0;
    move || {
        reached += 1;
        if reached > nth { Err(ExportError::Held { path: "died".into() }) } else { Ok(()) }
    }
}

/// Dies at each step in turn, and tells after how many there was none left.
fn die_everywhere(has_bucket: bool) -> usize {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let runtime = runtime.handle();
    let whole = Home::new(has_bucket);
    let exported = whole.filled(runtime).run(runtime, START, &mut || Ok(())).expect("exported");
    assert_eq!(exported, Exported { rows: UPLOADS, files: 4 });
    let expected = whole.written(runtime);
    assert_eq!(expected.len(), 4);

    let mut deaths = 0;
    loop {
        let home = Home::new(has_bucket);
        let mut dying = dying_at(deaths);
        if home.filled(runtime).run(runtime, START, &mut dying).is_ok() {
            return deaths;
        }
        // A second death at the same step, of the process that goes on.
        let later = START.plus_ms(1);
        drop(home.export(runtime).run(runtime, later, &mut dying_at(deaths)));
        let last = home.export(runtime);
        last.run(runtime, later, &mut || Ok(())).expect("exported");
        assert_eq!(home.written(runtime), expected, "after a death at step {deaths}");
        assert_eq!(last.run(runtime, later, &mut || Ok(())).expect("exported"), Exported::default());
        deaths += 1;
    }
}

#[test]
fn an_export_that_died_at_any_step_is_completed_to_the_same_bytes() {
    // By file: created, one page at least, the end, synced, renamed, folders synced. By batch: begun and ended.
    let deaths = die_everywhere(false);
    assert!(deaths >= 4 * 6 + 2 * 2, "only {deaths} steps");
}

#[test]
fn an_export_into_a_bucket_that_died_at_any_step_is_completed_to_the_same_bytes() {
    // By file: created, one page at least, the end, put.
    let deaths = die_everywhere(true);
    assert!(deaths >= 4 * 4 + 2 * 2, "only {deaths} steps");
}
