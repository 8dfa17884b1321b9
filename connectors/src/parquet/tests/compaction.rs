//! Small files become one, whatever dies: every row stays, and in a folder no reader ever sees one twice.

use proptest::prelude::*;
use records::outcomes_of;

use super::*;
use crate::parquet::compact::range;

/// An outcome: its upload and version.
type Row = (String, u32);

/// Rows in all files that readers see, in order; one that is in two of them twice.
fn rows(home: &Home, runtime: &Handle) -> Vec<Row> {
    let mut rows = Vec::new();
    for (name, bytes) in home.written(runtime) {
        if name.rsplit('/').next().is_some_and(|name| !name.starts_with('.')) {
            let reader = ParquetRecordBatchReaderBuilder::try_new(Bytes::from(bytes)).expect("a whole file");
            for batch in reader.build().expect("a reader") {
                let outcomes = outcomes_of(&batch.expect("read")).expect("outcomes");
                rows.extend(outcomes.into_iter().map(|it| (it.upload_id.to_string(), it.version)));
            }
        }
    }
    rows.sort();
    rows
}

/// An export in batches of 1 that compacts three files and more.
fn export(home: &Home, runtime: &Handle) -> ParquetExport {
    let due = Due { files: 3, bytes: 1 << 30 };
    ParquetExport { rows_per_batch: 1, due, ..home.export(runtime) }
}

/// Exports all there is, in as many files, and tells what rows those hold.
fn exported(home: &Home, runtime: &Handle) -> Vec<Row> {
    drop(home.filled(runtime));
    export(home, runtime).run(runtime, START, &mut || Ok(())).expect("exported");
    assert_eq!(home.written(runtime).len() as u64, UPLOADS);
    let rows = rows(home, runtime);
    assert_eq!(rows.len() as u64, UPLOADS);
    rows
}

/// Dies at each step in turn, and looks at what readers see at every one of them; after how many there was none left.
fn die_everywhere_in_compaction(has_bucket: bool) -> usize {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let runtime = runtime.handle();
    let mut deaths = 0;
    loop {
        let home = Home::new(has_bucket);
        let expected = exported(&home, runtime);
        let look = || {
            let mut seen = rows(&home, runtime);
            if has_bucket {
                seen.dedup();
            }
            assert_eq!(seen, expected, "when it dies at step {deaths}");
        };
        let compact = |deaths: usize| {
            let mut dying = dying_at(deaths);
            let export = export(&home, runtime);
            let compacted = export.run_compaction(runtime, START, &mut || {
                look();
                dying()
            });
            look();
            compacted
        };
        let is_whole = compact(deaths).is_ok();
        // A second death at the same step, of the process that goes on.
        drop(compact(deaths));
        compact(usize::MAX).expect("compacted");
        assert_eq!(rows(&home, runtime), expected, "after a death at step {deaths}");
        assert_eq!(home.written(runtime).len(), 2, "a file a day after a death at step {deaths}");
        assert_eq!(compact(usize::MAX).expect("nothing to do"), 0);
        let left =
            std::fs::read_dir(home.folder.path()).expect("a folder").map(|entry| entry.expect("an entry").file_name());
        assert!(left.into_iter().all(|name| name != ".outcomes.compacting"), "what died is tidied up");
        if is_whole {
            return deaths;
        }
        deaths += 1;
    }
}

#[test]
fn a_compaction_that_dies_at_any_step_shows_every_row_once_at_every_moment() {
    // By day: begun, a part at least, the end, linked, exchanged, synced, deleted.
    let deaths = die_everywhere_in_compaction(false);
    assert!(deaths >= 2 * (6 + 5), "only {deaths} steps");
}

#[test]
fn a_compaction_in_a_bucket_that_dies_at_any_step_loses_no_row_and_leaves_none_twice() {
    // By day: begun, a part at least, the end, noted, put, each part deleted, forgotten.
    let deaths = die_everywhere_in_compaction(true);
    assert!(deaths >= 2 * (5 + 4 + 5), "only {deaths} steps");
}

#[test]
fn only_neighbours_are_joined_and_whoever_exports_next_goes_on_behind_them() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let runtime = runtime.handle();
    let home = Home::new(false);
    exported(&home, runtime);
    // Another worker's folder has the fifth outcome, whose day is the first.
    let day = home.folder.path().join("outcomes").join("day=2026-09-21");
    fs::remove_file(day.join("000000000005-000000000005.parquet")).expect("was there");
    fs::write(day.join("notes.txt"), "somebody's").expect("written");
    assert_eq!(export(&home, runtime).run_compaction(runtime, START, &mut || Ok(())).expect("compacted"), 2 + 4);
    let names: Vec<String> = home.written(runtime).into_keys().collect();
    let expected = [
        "day=2026-09-21/000000000001-000000000001.parquet",
        "day=2026-09-21/000000000003-000000000003.parquet",
        "day=2026-09-21/000000000007-000000000011.parquet",
        "day=2026-09-21/notes.txt",
        "day=2026-09-22/000000000002-000000000010.parquet",
    ];
    assert_eq!(names, expected.map(|name| format!("outcomes/{name}")));
}

#[test]
fn a_file_of_another_version_s_columns_stays_as_it_is() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let runtime = runtime.handle();
    let home = Home::new(false);
    exported(&home, runtime);
    let old = home.folder.path().join("outcomes/day=2026-09-21/000000000007-000000000007.parquet");
    let rows = ParquetRecordBatchReaderBuilder::try_new(File::open(&old).expect("there")).expect("Parquet");
    let rows = rows.build().expect("a reader").next().expect("a row").expect("read");
    let fewer = rows.project(&(0..rows.num_columns() - 1).collect::<Vec<_>>()).expect("columns");
    let mut writer = ArrowWriter::try_new(File::create(&old).expect("made"), fewer.schema(), None).expect("a writer");
    writer.write(&fewer).expect("written");
    writer.close().expect("whole");
    let before = fs::read(&old).expect("read");
    assert_eq!(export(&home, runtime).run_compaction(runtime, START, &mut || Ok(())).expect("compacted"), 2 + 4);
    assert_eq!(fs::read(&old).expect("read"), before);
    assert_eq!(home.written(runtime).len(), 1 + 1 + 2 + 1, "before it one, itself, behind it two, and the other day's");
}

#[test]
fn what_is_not_named_as_ours_has_no_range() {
    let whole = Batch { first_seq: 1, last_seq: 50_000 };
    assert_eq!(range("000000000001-000000050000.parquet"), Some(whole));
    for other in ["1-50000.parquet", "000000050000-000000000001.parquet", "windows.parquet", "000000000001.parquet"] {
        assert_eq!(range(other), None, "{other}");
    }
}

/// What happens one after another.
#[derive(Clone, Debug)]
enum Step {
    Commit { outcomes: u64, day: u64 },
    Export { dies_at: usize },
    Compact { dies_at: usize },
}

fn step() -> impl Strategy<Value = Step> {
    let death = || prop_oneof![2 => 0..14_usize, 1 => Just(usize::MAX)];
    prop_oneof![
        1 => (1..6_u64, 0..2_u64).prop_map(|(outcomes, day)| Step::Commit { outcomes, day }),
        2 => death().prop_map(|dies_at| Step::Export { dies_at }),
        2 => death().prop_map(|dies_at| Step::Compact { dies_at }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn files_hold_the_rows_of_the_log_whatever_dies(
        steps in proptest::collection::vec(step(), 8..48), files in 2..5_usize, has_bucket: bool,
    ) {
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        let runtime = runtime.handle();
        let home = Home::new(has_bucket);
        // The same export for life, or a process of its own for each step: both look at the days that were written to.
        let due = Due { files, bytes: 1 << 30 };
        let export = ParquetExport { rows_per_batch: 2, due, ..home.export(runtime) };
        let (mut committed, mut before) = (0, Vec::new());
        for step in steps {
            match step {
                Step::Commit { outcomes, day } => {
                    commit(&export, runtime, committed..committed + outcomes, |_| day);
                    committed += outcomes;
                }
                Step::Export { dies_at } => drop(export.run(runtime, START, &mut dying_at(dies_at))),
                Step::Compact { dies_at } => drop(export.run_compaction(runtime, START, &mut dying_at(dies_at))),
            }
            let mut seen = rows(&home, runtime);
            if has_bucket {
                seen.dedup();
            }
            prop_assert!(before.iter().all(|row| seen.binary_search(row).is_ok()), "a row is gone");
            prop_assert!(seen.windows(2).all(|two| two[0] != two[1]), "a row is there twice");
            before = seen;
        }
        export.run(runtime, START, &mut || Ok(())).expect("exported");
        export.run_compaction(runtime, START, &mut || Ok(())).expect("compacted");
        let mut expected: Vec<Row> = (0..committed).map(|number| (id(number).to_string(), 1)).collect();
        expected.sort();
        prop_assert_eq!(rows(&home, runtime), expected);
        let days = home.written(runtime);
        prop_assert!(days.len() < 2 * files, "no day has many files: {:?}", days.keys());
    }
}
