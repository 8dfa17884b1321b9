//! Outcomes written and read back, as Parquet and as lines.

use std::io::Write;

use crate::make::{START, completed, dead_lettered};
use ::parquet::arrow::ArrowWriter;
use records::{Outcome, outcome_batch, outcome_schema};

use super::*;

fn outcomes() -> Vec<Outcome> {
    let outcome = |number: u64| match number % 7 {
        3 => dead_lettered(number, 1, START.plus_ms(number)),
        _ => completed(number, 1 + (number % 5) as u32, START.plus_ms(number)),
    };
    (0..300).map(outcome).collect()
}

fn read(pieces: &[Piece]) -> Vec<String> {
    let mut found = Vec::new();
    for piece in pieces {
        let before = found.len() as u64;
        let count = piece.read(|outcome| found.push(format!("{outcome:?}"))).expect("reads");
        assert_eq!(count, found.len() as u64 - before);
    }
    found
}

fn in_full(pieces: &[Piece]) -> Vec<Outcome> {
    let mut found = Vec::new();
    let mut page = |outcomes: Vec<Outcome>| -> Result<(), HistoryError> {
        found.extend(outcomes);
        Ok(())
    };
    pieces.iter().try_for_each(|piece| piece.outcomes(&mut page)).expect("reads");
    found
}

fn expected(outcomes: &[Outcome]) -> Vec<String> {
    outcomes.iter().map(|outcome| format!("{:?}", Measured::from(outcome))).collect()
}

#[test]
fn parquet_gives_what_was_written_with_all_that_windows_need() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("day=2026-09-21/some.parquet");
    fs::create_dir(path.parent().expect("it has one")).expect("made");
    fs::write(folder.path().join(".some.parquet.unfinished"), "half").expect("written");
    let file = File::create(&path).expect("made");
    let mut writer = ArrowWriter::try_new(file, Arc::new(outcome_schema()), None).expect("a writer");
    for part in outcomes().chunks(120) {
        writer.write(&outcome_batch(part).expect("a batch")).expect("written");
        writer.flush().expect("a row group of its own");
    }
    writer.close().expect("whole");
    let pieces = pieces(&[folder.path().to_owned()]).expect("found");
    assert_eq!(pieces.len(), 3);
    assert_eq!(read(&pieces), expected(&outcomes()));
    assert_eq!(in_full(&pieces), outcomes());
}

#[test]
fn lines_are_read_once_wherever_pieces_are_cut() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("some.ndjson");
    let mut file = File::create(&path).expect("made");
    let outcomes = outcomes();
    for (number, outcome) in outcomes.iter().enumerate() {
        let ending = if number % 2 == 0 { "\n" } else { "\r\n\n" };
        write!(file, "{}{ending}", serde_json::to_string(outcome).expect("JSON")).expect("written");
    }
    let length = file.metadata().expect("it is there").len();
    for size in [1, 97, 1000, 4096, length] {
        let mut found = Vec::new();
        for begin in (0..length).step_by(size as usize) {
            let end = length.min(begin + size);
            lines::read(&path, begin..end, |outcome| found.push(format!("{outcome:?}"))).expect("reads");
        }
        assert_eq!(found, expected(&outcomes), "pieces of {size}");
    }
    let pieces = pieces(&[path]).expect("found");
    assert_eq!(read(&pieces), expected(&outcomes));
    assert_eq!(in_full(&pieces), outcomes);
}

#[test]
fn a_column_in_which_no_row_has_a_text_is_read_as_empty() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("fine.parquet");
    let fine = |number| Outcome { region: None, fallback_reason: None, ..completed(number, 1, START) };
    let fine: Vec<Outcome> = (0..10).map(fine).collect();
    assert!(fine.iter().all(|outcome| outcome.error_type.is_none()));
    for layout in [None, Some(crate::parquet::layout())] {
        let file = File::create(&path).expect("made");
        let mut writer = ArrowWriter::try_new(file, Arc::new(outcome_schema()), layout).expect("a writer");
        writer.write(&outcome_batch(&fine).expect("a batch")).expect("written");
        writer.close().expect("whole");
        let pieces = pieces(std::slice::from_ref(&path)).expect("found");
        assert_eq!(read(&pieces), expected(&fine));
    }
}

#[test]
fn lines_as_they_are_written_are_read_in_one_go_and_no_others_are_read_otherwise_than_by_serde() {
    let mut dice = fastrand::Rng::with_seed(11);
    let (mut in_one_go, mut damaged) = (0, 0);
    for outcome in outcomes() {
        let line = serde_json::to_string(&outcome).expect("JSON");
        assert_eq!(Measured::of_line(&line), Some(Measured::from(&outcome)), "{line}");
        assert_eq!(Measured::of_line(&format!("{line}\r")), Some(Measured::from(&outcome)));
        assert_eq!(
            Measured::of_line(&line[..line.floor_char_boundary(dice.usize(0..line.len()))]),
            None,
            "a part of {line}"
        );
        for _ in 0..100 {
            let mut bytes = line.clone().into_bytes();
            let at = dice.usize(0..bytes.len());
            bytes[at] = *dice.choice(br#"{}[]",:\ 059eEnullx-+."#).expect("some");
            let Ok(other) = String::from_utf8(bytes) else { continue };
            match (Measured::of_line(&other), serde_json::from_str::<Measured<'_>>(&other)) {
                (Some(found), Ok(expected)) => {
                    assert_eq!(found, expected, "{other}");
                    in_one_go += 1;
                }
                // Something is amiss within what no window needs.
                (Some(found), Err(_)) => {
                    assert_eq!(found, Measured::from(&outcome), "{other}");
                    damaged += 1;
                }
                (None, _) => {}
            }
        }
    }
    assert!(in_one_go > 5_000 && damaged < 2_000, "{in_one_go} {damaged}");
}

#[test]
fn older_files_are_read_as_without_what_they_lack() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("old.parquet");
    let batch = outcome_batch(&outcomes()).expect("a batch");
    let schema = batch.schema();
    let is_old = |name: &str| !["experiment", "region", "fallback_reason", "training_consent"].contains(&name);
    let kept: Vec<usize> = (0..schema.fields().len()).filter(|at| is_old(schema.field(*at).name())).collect();
    let batch = batch.project(&kept).expect("columns");
    let mut writer = ArrowWriter::try_new(File::create(&path).expect("made"), batch.schema(), None).expect("a writer");
    writer.write(&batch).expect("written");
    writer.close().expect("whole");
    let old = |outcome: Outcome| Outcome {
        experiment: None,
        region: None,
        fallback_reason: None,
        training_consent: false,
        ..outcome
    };
    let (pieces, old) = (pieces(&[path]).expect("found"), outcomes().into_iter().map(old).collect::<Vec<_>>());
    assert_eq!(in_full(&pieces), old);
    assert_eq!(read(&pieces), expected(&old));
}

#[test]
fn what_is_no_outcome_is_named_with_its_place() {
    let folder = tempfile::tempdir().expect("a folder");
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        fs::write(&path, text).expect("written");
        path
    };
    let whole = serde_json::to_string(&completed(1, 1, START)).expect("JSON");
    let broken = write("broken.ndjson", &format!("{whole}\n{}\n", whole.replace("\"low\"", "\"lower\"")));
    let error = pieces(&[broken]).expect("a file")[0].read(|_| {}).expect_err("refused").to_string();
    assert!(error.contains("broken.ndjson") && error.contains(&format!("byte {}", whole.len() + 1)), "{error}");
    assert!(error.contains("lower"), "{error}");

    let cases = [
        (write("x.parquet", "no"), "x.parquet"),
        (write("x.csv", "no"), "x.csv"),
        (folder.path().join("nowhere.ndjson"), "nowhere"),
    ];
    for (path, names) in cases {
        let error = pieces(&[path]).expect_err("refused").to_string();
        assert!(error.contains(names), "{error}");
    }
    let empty = tempfile::tempdir().expect("a folder");
    assert!(matches!(pieces(&[empty.path().to_owned()]), Err(HistoryError::Nothing { .. })));
}
