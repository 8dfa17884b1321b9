//! An export that dies at each of its steps in turn.

#[path = "../../tests/store/make.rs"]
mod make;

use std::collections::BTreeMap;

use super::*;
use make::{START, attempts, completed, dead_lettered, id, payload};
use records::Lane;

const UPLOADS: u64 = 11;

/// Outcomes of two days; an export in batches of 6 and pages of 2, so that every loop runs more than once.
fn small(folder: &Path, runtime: &Handle) -> ParquetExport {
    let store = runtime.block_on(Store::open(&folder.join("tidemark.db"))).expect("opens");
    ParquetExport { rows_per_batch: 6, rows_per_page: 2, ..ParquetExport::new(store, folder) }
}

fn filled(folder: &Path, runtime: &Handle) -> ParquetExport {
    let export = small(folder, runtime);
    let uploads: Vec<_> = (0..UPLOADS).map(|number| (id(number), Lane::Low, START)).collect();
    let ending = |number: u64| {
        let outcome = if number == 5 { dead_lettered } else { completed };
        let outcome = outcome(number, 1, START.plus_ms(number % 2 * 86_400_000));
        (outcome.clone(), attempts(&outcome), payload(number).into())
    };
    let group: Vec<_> = (0..UPLOADS).map(ending).collect();
    runtime.block_on(export.store.admit(&uploads)).expect("admitted");
    runtime.block_on(export.store.commit(&group)).expect("committed");
    export
}

/// Every file by its path below the folder, with its bytes.
fn written(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    let Ok(days) = fs::read_dir(folder.join("outcomes")) else { return found };
    for day in days {
        for file in fs::read_dir(day.expect("an entry").path()).expect("a folder") {
            let path = file.expect("an entry").path();
            let bytes = fs::read(&path).expect("read");
            found.insert(path.strip_prefix(folder).expect("is below it").to_owned(), bytes);
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

#[test]
fn an_export_that_died_at_any_step_is_completed_to_the_same_bytes() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let runtime = runtime.handle();
    let whole = tempfile::tempdir().expect("a folder");
    let exported = filled(whole.path(), runtime).run(runtime, START, &mut || Ok(())).expect("exported");
    assert_eq!(exported, Exported { rows: UPLOADS, files: 4 });
    let expected = written(whole.path());
    assert_eq!(expected.len(), 4);

    let mut deaths = 0;
    loop {
        let folder = tempfile::tempdir().expect("a folder");
        let mut dying = dying_at(deaths);
        if filled(folder.path(), runtime).run(runtime, START, &mut dying).is_ok() {
            break;
        }
        // A second death at the same step, of the process that goes on.
        let later = START.plus_ms(1);
        drop(small(folder.path(), runtime).run(runtime, later, &mut dying_at(deaths)));
        let last = small(folder.path(), runtime);
        last.run(runtime, later, &mut || Ok(())).expect("exported");
        assert_eq!(written(folder.path()), expected, "after a death at step {deaths}");
        assert_eq!(last.run(runtime, later, &mut || Ok(())).expect("exported"), Exported::default());
        deaths += 1;
    }
    // By file: created, one page at least, the end, synced, renamed, folders synced. By batch: begun and ended.
    assert!(deaths >= 4 * 6 + 2 * 2, "only {deaths} steps");
}
