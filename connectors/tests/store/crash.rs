//! A process that is killed with -9 again and again, and what the next one finds.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write as _};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use arrow::array::AsArray;
use connectors::parquet::ParquetExport;
use connectors::store::{Delivery, Store, StoreUrl};
use records::Admitted;
use records::{Lane, Outcome, UploadId, UtcMicros};

use crate::export::{files, read};
use crate::make::{START, completed, dead_lettered, id, payload};
use crate::{ending, fixture};

/// In the child: the store, the folder for files, and how many were killed before it.
const CHILD: [&str; 3] = ["TIDEMARK_TEST_CRASH_STORE", "TIDEMARK_TEST_CRASH_FOLDER", "TIDEMARK_TEST_CRASH_KILLS"];

/// Before what the child tells its parent; the test runner's own lines have no such thing.
const MARK: &str = "tidemark:";

const UPLOADS: u64 = 400;
const GROUP: usize = 8;

#[test]
fn a_process_killed_at_any_moment_loses_nothing_and_doubles_nothing() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    match CHILD.map(std::env::var) {
        [Ok(store), Ok(folder), Ok(kills)] => {
            let (store, kills) = (store.parse().expect("a store"), kills.parse().expect("a number"));
            runtime.block_on(work(store, Path::new(&folder), START.plus_ms(kills)));
        }
        _ => runtime.block_on(kill_until_done()),
    }
}

/// The child: everything that a serving process asks of the store, each step told once it has answered.
async fn work(store: StoreUrl, folder: &Path, now: UtcMicros) {
    let store = Store::open(store).await.expect("opens after any crash");
    let _claim = store.claim().await.expect("the one before is dead");
    let export = ParquetExport::new(store.clone(), folder);
    loop {
        let mut deliveries = store.lease(Lane::High, GROUP, now.plus_ms(1), now).await.expect("leased");
        if deliveries.is_empty() {
            deliveries = store.lease(Lane::Low, GROUP, now.plus_ms(1), now).await.expect("leased");
        }
        tell("leased");
        if deliveries.is_empty() {
            break;
        }
        finish(&store, &deliveries).await;
        export.export(now).await.expect("exported");
        tell("exported");
    }
    export.export(now).await.expect("exported");
    tell("done");
}

async fn finish(store: &Store, deliveries: &[Delivery]) {
    let numbers: Vec<u64> = deliveries.iter().map(|delivery| number(&delivery.payload)).collect();
    let uploads: Vec<_> = numbers.iter().map(|number| (id(*number), Lane::High, START)).collect();
    let admitted = store.admit(&uploads).await.expect("admitted");
    tell("admitted");
    let open = numbers.iter().zip(&admitted).filter(|(_, admitted)| **admitted != Admitted::Finished);
    let group: Vec<_> = open.map(|(number, _)| ending(*number, outcome(*number))).collect();
    store.commit(&group).await.expect("committed");
    for (outcome, ..) in &group {
        tell(&format!("committed {}", outcome.upload_id));
    }
    let leases: Vec<_> = deliveries.iter().map(|delivery| delivery.lease).collect();
    store.acknowledge(&leases).await.expect("acknowledged");
    tell("acknowledged");
}

fn tell(what: &str) {
    // A line as a whole and at once; the parent may be gone.
    drop(std::io::stdout().lock().write_all(format!("{MARK}{what}\n").as_bytes()));
}

fn number(payload: &[u8]) -> u64 {
    (0..UPLOADS).find(|number| *payload == crate::make::payload(*number)).expect("as it was enqueued")
}

fn outcome(number: u64) -> Outcome {
    let arrived_at = START.plus_ms(number % 3 * 86_400_000);
    if number.is_multiple_of(10) { dead_lettered(number, 1, arrived_at) } else { completed(number, 1, arrived_at) }
}

/// The parent: starts the child, lets it take a random number of steps, and kills it.
async fn kill_until_done() {
    let fixture = fixture().await;
    let messages: Vec<_> = (0..UPLOADS).map(|number| (Lane::ALL[number as usize % 2], payload(number))).collect();
    fixture.store.enqueue(&messages, START).await.expect("enqueued");
    let mut random = fastrand::Rng::with_seed(9);
    let (mut kills, mut committed) = (0, BTreeSet::new());
    loop {
        let (child, lines) = start(&fixture.store, fixture.folder.path(), kills);
        let told = kill_after(child, lines, random.usize(1..60));
        committed.extend(told.iter().filter_map(|line| line.strip_prefix("committed ")).map(upload_id));
        for id in &committed {
            assert!(fixture.store.outcome(id).await.expect("read").is_some(), "{id} was committed before kill {kills}");
        }
        if told.last().is_some_and(|line| line == "done") {
            break;
        }
        kills += 1;
    }
    assert!(kills >= 10, "{kills} kills show little");
    assert_complete(&fixture.store, fixture.folder.path()).await;
}

fn upload_id(text: &str) -> UploadId {
    UploadId::try_from(text.to_owned()).expect("an upload id")
}

fn start(store: &Store, folder: &Path, kills: u64) -> (Child, impl Iterator<Item = String> + use<>) {
    let store = match store.url() {
        StoreUrl::Sqlite(path) => path.display().to_string(),
        StoreUrl::Postgres(address) => address.clone(),
    };
    let of_child = [store, folder.display().to_string(), kills.to_string()];
    let test = "crash::a_process_killed_at_any_moment_loses_nothing_and_doubles_nothing";
    let mut child = Command::new(std::env::current_exe().expect("this test"))
        .args([test, "--exact", "--nocapture"])
        .envs(CHILD.into_iter().zip(of_child))
        .stdout(Stdio::piped())
        .spawn()
        .expect("starts");
    let lines = BufReader::new(child.stdout.take().expect("is piped")).lines();
    (child, lines.map_while(Result::ok).filter_map(|line| line.split_once(MARK).map(|(_, told)| told.to_owned())))
}

/// Everything that the child told before it died or was done.
fn kill_after(mut child: Child, mut lines: impl Iterator<Item = String>, steps: usize) -> Vec<String> {
    let mut told: Vec<String> = lines.by_ref().take(steps).collect();
    child.kill().expect("is killed, or was done");
    told.extend(lines);
    let status = child.wait().expect("is over");
    let done = told.last().is_some_and(|line| line == "done");
    assert!(done || status.signal() == Some(9), "the process failed by itself: {status}, after {told:?}");
    told
}

async fn assert_complete(store: &Store, folder: &Path) {
    let log = store.outcomes_after(0, usize::MAX).await.expect("read");
    let mut numbers: Vec<u64> = log.iter().map(|(_, outcome)| outcome.queued_ms).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, (0..UPLOADS).collect::<Vec<_>>(), "one outcome each");
    for (_, found) in &log {
        assert_eq!(*found, outcome(found.queued_ms));
    }
    assert_eq!(store.dead_letters(usize::MAX).await.expect("read").len() as u64, UPLOADS / 10);
    for lane in Lane::ALL {
        assert_eq!(store.pending(lane, START).await.expect("counted"), Default::default());
    }
    let files = files(&folder.join("outcomes"));
    assert!(files.iter().all(|file| file.extension().is_some_and(|kind| kind == "parquet")), "no leftovers: {files:?}");
    let batches = files.iter().flat_map(|file| read(file)).collect::<Vec<_>>();
    let mut exported: Vec<String> = Vec::new();
    for batch in &batches {
        exported.extend(batch.column(0).as_string::<i32>().iter().flatten().map(str::to_owned));
    }
    exported.sort_unstable();
    let mut expected: Vec<String> = (0..UPLOADS).map(|number| id(number).to_string()).collect();
    expected.sort_unstable();
    assert_eq!(exported, expected, "each in one file, once");
}
