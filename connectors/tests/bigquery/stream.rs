//! Appends to a write stream: each range in the table once, after deaths at every step, lost answers and lost streams.

use std::time::{Duration, Instant};

use connectors::bigquery::{BigQueryError, Destination, new_stream};
use connectors::store::Store;
use connectors::store::WriteMethod::StorageWrite;
use records::FaultClass::{Indeterminate, Permanent};
use records::Operation;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::emulator::emulator;
use crate::fixture::{
    UPLOADS, assert_each_of, assert_each_once, commit, dataset, dying_at, empty, export, filled, ready,
};
use crate::load::dies_at_every_step;
use crate::make::START;
use crate::steps::change;

#[tokio::test]
async fn an_export_that_died_at_any_step_has_appended_each_row_once() {
    for (table, steps) in dies_at_every_step(StorageWrite).await {
        // By range: begun, noted, ended; by append: noted, sent. And the stream.
        assert!(steps > 2 * 3 + 2 * 2, "{table}: only {steps} steps");
    }
}

/// What a wire does with what the emulator answers.
#[derive(Clone, Copy, PartialEq)]
enum Wire {
    Whole,
    /// Answers are swallowed.
    Deaf,
    /// Connections end.
    Cut,
}

/// A port that leads to the emulator's gRPC interface.
async fn wire(to: &Destination) -> (watch::Sender<Wire>, Destination) {
    let server = emulator().grpc.strip_prefix("http://").expect("no TLS");
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let place = format!("http://{}", listener.local_addr().expect("it is bound"));
    let (sender, receiver) = watch::channel(Wire::Whole);
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let server = TcpStream::connect(server).await.expect("the emulator is reached");
            let ((from_client, to_client), (from_server, to_server)) = (client.into_split(), server.into_split());
            tokio::spawn(pass(from_client, to_server, receiver.clone(), false));
            tokio::spawn(pass(from_server, to_client, receiver.clone(), true));
        }
    });
    (sender, Destination { storage_endpoint: Some(place), ..to.clone() })
}

async fn pass(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut wire: watch::Receiver<Wire>, is_answer: bool) {
    let mut bytes = vec![0; 1 << 16];
    loop {
        let read = tokio::select! {
            read = from.read(&mut bytes) => read,
            _ = wire.wait_for(|wire| *wire == Wire::Cut) => return,
        };
        let Ok(count @ 1..) = read else { return };
        let swallowed = is_answer && *wire.borrow() == Wire::Deaf;
        if !swallowed && to.write_all(&bytes[..count]).await.is_err() {
            return;
        }
    }
}

async fn rows(to: &Destination) -> u64 {
    emulator().counts(to, "outcomes", "'all'").await.first().map_or(0, |(_, rows)| *rows)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_append_whose_answer_is_lost_is_repeated_at_its_offset_and_is_there_once() {
    let (to, _) = dataset().await;
    let (wire, wired) = wire(&to).await;
    let (ready, fixture) = (ready(&wired).await, empty().await);
    for round in 0..4 {
        let export = export(&fixture.store, &ready, StorageWrite, "outcomes");
        commit(&fixture.store, round * 5..round * 5 + 5).await;
        if round > 0 {
            let before = rows(&to).await;
            wire.send_replace(Wire::Deaf);
            let lost = tokio::spawn({
                let export = export.clone();
                async move { export.export(START).await }
            });
            let begun = Instant::now();
            while rows(&to).await == before {
                assert!(begun.elapsed() < Duration::from_secs(30), "the append arrives");
                tokio::task::yield_now().await;
            }
            wire.send_replace(Wire::Cut);
            let error = lost.await.expect("no panic").expect_err("no answer");
            assert_eq!(error.class(), Indeterminate, "{error}");
            wire.send_replace(Wire::Whole);
        }
        export.export(START).await.expect("exported");
        assert_each_of(&to, "outcomes", round * 5 + 5, &format!("round {round}")).await;
    }
}

/// Changes what the store noted, as nothing of ours does.
async fn tamper(store: &Store, noted: &str) {
    change(store, &format!("UPDATE bigquery_tables SET {noted}")).await;
}

#[tokio::test]
async fn a_stream_that_is_gone_while_nothing_is_in_doubt_is_followed_by_another() {
    let (to, ready) = dataset().await;
    let fixture = filled().await;
    let export = export(&fixture.store, &ready, StorageWrite, "outcomes");
    export.export(START).await.expect("exported");
    tamper(&fixture.store, "stream = stream || 'x'").await;
    commit(&fixture.store, UPLOADS..UPLOADS + 9).await;
    export.export(START).await.expect("exported");
    assert_each_of(&to, "outcomes", UPLOADS + 9, "on two streams").await;
}

#[tokio::test]
async fn a_stream_that_is_gone_with_an_append_in_doubt_waits_for_somebody_to_look() {
    // The fourth step has noted the first append and not sent it; the fifth has sent it.
    for (steps, sent) in [(3, false), (4, true)] {
        let (to, ready) = dataset().await;
        let fixture = filled().await;
        let export = export(&fixture.store, &ready, StorageWrite, "outcomes");
        export.export_watched(START, &mut dying_at(steps)).await.expect_err("died");
        let there = rows(&to).await;
        assert_eq!(there > 0, sent, "after {steps} steps");
        tamper(&fixture.store, "stream = stream || 'x'").await;
        for _ in 0..2 {
            let error = export.export(START).await.expect_err("in doubt");
            assert_eq!(error.class(), Permanent);
            let BigQueryError::OffStream { rows, ref first_row, offset: 0, .. } = error else { panic!("{error:?}") };
            assert_eq!(first_row, "upload_id upload-0, version 1");
            assert!(!sent || rows == there, "{rows} rows");
            let text = error.to_string();
            assert!(text.contains(&format!("new-stream outcomes --written {rows}`")), "{text}");
        }
        let refused =
            new_stream(&fixture.store, &to, "outcomes", 777, START).await.expect_err("an append is whole or not");
        assert!(refused.to_string().contains("--written"), "{refused}");
        let operations = fixture.store.audit_log(99).await.expect("read").len();
        new_stream(&fixture.store, &to, "outcomes", there, START).await.expect("noted");
        let log = fixture.store.audit_log(99).await.expect("read");
        assert_eq!((log.len(), log[0].operation, &*log[0].target), (operations + 1, Operation::NewStream, "outcomes"));
        assert_eq!(log[0].detail["written"], there);
        export.export(START).await.expect("exported");
        assert_each_once(&to, "outcomes", "once somebody had looked").await;
        let nothing = new_stream(&fixture.store, &to, "attempts", 0, START).await.expect_err("nothing is in doubt");
        assert!(nothing.to_string().contains("attempts"), "{nothing}");
    }
}

#[tokio::test]
async fn an_offset_that_is_not_the_streams_end_stops_and_writes_nothing() {
    for noted in ["next_offset = next_offset + 1", "next_offset = next_offset - 1"] {
        let (to, ready) = dataset().await;
        let fixture = filled().await;
        let export = export(&fixture.store, &ready, StorageWrite, "outcomes");
        export.export(START).await.expect("exported");
        tamper(&fixture.store, noted).await;
        commit(&fixture.store, UPLOADS..UPLOADS + 3).await;
        for _ in 0..2 {
            let error = export.export(START).await.expect_err(noted);
            assert!(matches!(error, BigQueryError::OffStream { .. }), "{noted}: {error:?}");
        }
        assert_each_once(&to, "outcomes", "and nothing else").await;
        new_stream(&fixture.store, &to, "outcomes", 0, START).await.expect("noted");
        export.export(START).await.expect("exported");
        assert_each_of(&to, "outcomes", UPLOADS + 3, "on another stream").await;
    }
}

#[tokio::test]
async fn in_doubt_each_tables_first_row_is_named_by_its_key() {
    let (_to, ready) = dataset().await;
    let fixture = filled().await;
    for (table, parts) in [
        ("windows", ["start 2026-09-21T14:13:20.000000Z, width_s 60", "arm control, no model, lane high", "version 1"]),
        ("experiment_reports", ["reported_at 2026-09-21T14:13:20.000000Z", "experiment prompt-2", "arm arm-0"]),
        ("alerts", ["name alert-0", "since", "2026-09-21T14:13:20.000000Z"]),
        ("audit", ["done_at 2026-09-21T14:13:20.000000Z", "actor user-0@desk", "target run-0"]),
    ] {
        let export = export(&fixture.store, &ready, StorageWrite, table);
        export.export_watched(START, &mut dying_at(3)).await.expect_err("died");
        tamper(&fixture.store, "stream = stream || 'x'").await;
        let error = export.export(START).await.expect_err("in doubt").to_string();
        assert!(parts.iter().all(|part| error.contains(part)), "{table}: {error}");
    }
}

#[tokio::test]
async fn a_row_that_no_append_takes_is_named() {
    let (_to, ready) = dataset().await;
    let fixture = filled().await;
    let tiny = connectors::bigquery::Limits { bytes_per_append: 10, ..crate::fixture::SMALL };
    let export = &connectors::bigquery::TableExport::all(&fixture.store, &ready, StorageWrite, tiny)[0];
    let error = export.export(START).await.expect_err("too large").to_string();
    assert!(error.contains("outcomes") && error.contains("load_jobs"), "{error}");
}
