//! Parquet files read back: each outcome of the log in one of them, once.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use arrow::record_batch::RecordBatch;
use connectors::parquet::{ExportError, Exported, ParquetExport};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use records::{Outcome, outcome_batch};

use crate::make::{START, completed, dead_lettered, id};
use crate::{Fixture, admit, ending, fixture};

/// Every file below the folder, sorted.
pub(crate) fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.push(path);
        }
    }
    found.sort();
    found
}

pub(crate) fn read(path: &Path) -> Vec<RecordBatch> {
    let reader = ParquetRecordBatchReaderBuilder::try_new(File::open(path).expect("opens")).expect("is Parquet");
    reader.with_batch_size(1 << 20).build().expect("a reader").collect::<Result<_, _>>().expect("reads")
}

#[tokio::test]
async fn each_outcome_is_in_the_file_of_its_day_with_all_its_values() {
    let Fixture { store, folder } = fixture().await;
    admit(&store, 0..40).await;
    let next_day = START.plus_ms(86_400_000);
    let outcomes: Vec<_> =
        (0..40).map(|number| completed(number, 1, if number < 25 { START } else { next_day })).collect();
    let group: Vec<_> = (0..).zip(outcomes.clone()).map(|(number, outcome)| ending(number, outcome)).collect();
    store.commit(&group).await.expect("committed");

    let export = ParquetExport::new(store, folder.path());
    assert_eq!(export.export(START).await.expect("exported"), Exported { rows: 40, files: 2 });
    assert_eq!(export.export(START).await.expect("exported"), Exported::default(), "nothing is written twice");
    let root = folder.path().join("outcomes");
    let name = "000000000001-000000000040.parquet";
    for (day, expected) in [("2026-09-21", &outcomes[..25]), ("2026-09-22", &outcomes[25..])] {
        let read = read(&root.join(format!("day={day}")).join(name));
        assert_eq!(read, [outcome_batch(expected).expect("a batch")]);
    }
    assert_eq!(files(&root).len(), 2, "and nothing else is there");
}

#[tokio::test]
async fn a_redriven_upload_is_exported_once_for_each_version() {
    let Fixture { store, folder } = fixture().await;
    let export = ParquetExport::new(store.clone(), folder.path());
    admit(&store, [1]).await;
    let versions: [Outcome; 2] = [dead_lettered(1, 1, START), completed(1, 2, START)];
    store.commit(&[ending(1, versions[0].clone())]).await.expect("committed");
    store.redrive(&[id(1)], START).await.expect("redriven");
    assert_eq!(export.export(START).await.expect("exported").rows, 1, "the first version, though it was redriven");
    store.commit(&[ending(1, versions[1].clone())]).await.expect("committed");
    assert_eq!(export.export(START).await.expect("exported").rows, 1);
    let read: Vec<_> = files(&folder.path().join("outcomes")).iter().flat_map(|path| read(path)).collect();
    assert_eq!(read, versions.map(|outcome| outcome_batch(&[outcome]).expect("a batch")));
}

#[tokio::test]
async fn a_folder_that_another_export_writes_into_is_left_alone() {
    let Fixture { store, folder } = fixture().await;
    let root = folder.path().join("outcomes");
    fs::create_dir(&root).expect("a folder");
    let other = File::open(&root).expect("opens");
    other.lock().expect("locks");
    let export = ParquetExport::new(store, folder.path());
    let error = export.export(START).await.expect_err("held");
    assert!(matches!(error, ExportError::Held { .. }), "{error:?}");
    drop(other);
    assert_eq!(export.export(START).await.expect("exported"), Exported::default());
}

#[tokio::test]
async fn a_folder_that_cannot_be_written_is_named() {
    let Fixture { store, folder } = fixture().await;
    fs::write(folder.path().join("outcomes"), "a file").expect("written");
    let error = ParquetExport::new(store, folder.path()).export(START).await.expect_err("no folder");
    assert!(error.to_string().contains("outcomes"), "{error}");
}
