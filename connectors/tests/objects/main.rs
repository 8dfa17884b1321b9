//! Objects from services that fail in every way that a service can; `tests/buckets` fetches from real ones.

mod canned;

use std::path::Path;
use std::sync::{Arc, Condvar, Mutex};

use canned::{Asked, Object, Say, Service};
use connectors::objects::{Audio, Objects, ObjectsOptions};
use records::{ErrorType, Fault, FaultClass, Lane};
use tempfile::TempDir;

const MB: usize = 1 << 20;
const PIECE: usize = 8 * MB;

struct Fixture {
    service: Service,
    objects: Objects,
    folder: TempDir,
}

fn options() -> ObjectsOptions {
    ObjectsOptions { timeout_ms: 20_000, ..ObjectsOptions::default() }
}

impl Fixture {
    fn new(options: ObjectsOptions, say: impl Fn(usize, &Asked) -> Say + Send + Sync + 'static) -> Self {
        let (service, folder) = (Service::start(say), tempfile::tempdir().expect("a folder"));
        let (gcs_endpoint, s3_endpoint) = (Some(service.address.clone()), Some(service.address.clone()));
        let options = ObjectsOptions { gcs_endpoint, s3_endpoint, ..options };
        Self { service, objects: Objects::new(options, folder.path().join("tmp")), folder }
    }

    async fn fetch(&self) -> Result<Audio, Fault> {
        self.objects.fetch("gs://audio/song.wav", Lane::Low).await
    }

    /// Where each request began.
    fn starts(&self) -> Vec<usize> {
        self.service.asked().iter().map(|asked| asked.range.0).collect()
    }

    fn files(&self) -> usize {
        files(&self.folder.path().join("tmp"))
    }
}

fn files(folder: &Path) -> usize {
    std::fs::read_dir(folder).map_or(0, Iterator::count)
}

/// Bytes that no other place has.
fn sound(length: usize) -> Arc<[u8]> {
    let mut random = fastrand::Rng::with_seed(7);
    std::iter::repeat_with(|| random.u8(..)).take(length).collect()
}

fn read(audio: &Audio) -> Vec<u8> {
    std::fs::read(audio.path()).expect("a file")
}

fn assert_fault(fault: &Fault, class: FaultClass, names: &str) {
    assert_eq!((fault.class, fault.error_type), (class, ErrorType::AudioUnreachable), "{fault}");
    assert!(fault.message.contains("gs://audio/song.wav") && fault.message.contains(names), "{fault}");
}

#[tokio::test]
async fn a_large_object_comes_in_pieces_and_its_file_goes_when_nobody_needs_it() {
    let bytes = sound(2 * PIECE + 5);
    let object = Object::new(Arc::clone(&bytes));
    let fixture = Fixture::new(options(), move |_, _| Say::Part(object.clone()));
    let audio = fixture.fetch().await.expect("fetched");
    assert_eq!(read(&audio), *bytes);
    assert_eq!(fixture.starts(), [0, PIECE, 2 * PIECE]);
    assert_eq!(fixture.service.asked()[0].path, "audio/song.wav");
    assert_eq!(fixture.files(), 1);
    drop(audio);
    assert_eq!(fixture.files(), 0);
}

#[tokio::test]
async fn a_body_that_breaks_off_goes_on_from_where_it_was() {
    let bytes = sound(PIECE + MB);
    let object = Object::new(Arc::clone(&bytes));
    // Broken at the beginning, in the middle, near the end of a piece, and in the piece behind it.
    let cuts = [0, 3 * MB, PIECE - 3 * MB - 1, 1, MB / 2];
    let fixture = Fixture::new(options(), move |number, _| match cuts.get(number) {
        Some(cut) => Say::Cut(object.clone(), *cut),
        None => Say::Part(object.clone()),
    });
    assert_eq!(read(&fixture.fetch().await.expect("fetched")), *bytes);
    assert_eq!(fixture.starts(), [0, 0, 3 * MB, PIECE - 1, PIECE, PIECE + MB / 2]);
}

#[tokio::test]
async fn a_service_that_fails_for_a_while_is_asked_again() {
    let bytes = sound(1000);
    let object = Object::new(Arc::clone(&bytes));
    let fixture = Fixture::new(options(), move |number, _| match number {
        0 => Say::Status("503 Service Unavailable", ""),
        1 => Say::Status("429 Too Many Requests", ""),
        _ => Say::Part(object.clone()),
    });
    assert_eq!(read(&fixture.fetch().await.expect("fetched")), *bytes);
    assert_eq!(fixture.starts(), [0, 0, 0]);
}

#[tokio::test]
async fn a_service_that_fails_for_long_is_worth_another_attempt() {
    let fixture = Fixture::new(options(), |_, _| Say::Status("500 Internal Server Error", "<Error/>"));
    assert_fault(&fixture.fetch().await.expect_err("no object"), FaultClass::Retryable, "500");
    assert_eq!((fixture.service.asked().len(), fixture.files()), (4, 0));
}

#[tokio::test]
async fn a_service_that_hangs_does_not_hold_an_upload_for_ever() {
    let object = Object::new(sound(2 * PIECE));
    let short = ObjectsOptions { timeout_ms: 500, ..options() };
    for silent_from in [0, 1] {
        let object = object.clone();
        let fixture = Fixture::new(short.clone(), move |number, _| match number {
            number if number >= silent_from => Say::Nothing,
            _ => Say::Part(object.clone()),
        });
        assert_fault(&fixture.fetch().await.expect_err("no answer"), FaultClass::Retryable, "");
        assert_eq!(fixture.files(), 0, "what was begun is gone");
    }
}

#[tokio::test]
async fn a_service_that_is_not_there_is_worth_another_attempt() {
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").and_then(|it| it.local_addr()).expect("a free port");
    let options = ObjectsOptions { gcs_endpoint: Some(format!("http://{nobody}")), ..options() };
    let objects = Objects::new(options, "/no/such/folder".into());
    let fault = objects.fetch("gs://audio/song.wav", Lane::Low).await.expect_err("nobody is there");
    assert_fault(&fault, FaultClass::Retryable, "reached");
}

#[tokio::test]
async fn what_may_not_be_read_or_is_not_there_is_never_asked_for_again() {
    for (status, page, names) in [
        ("403 Forbidden", "<Error><Code>AccessDenied</Code></Error>", "access is denied"),
        ("401 Unauthorized", "", "access is denied"),
        ("404 Not Found", "<Error><Code>NoSuchKey</Code></Error>", "no such object"),
        ("404 Not Found", "<Error><Code>NoSuchBucket</Code></Error>", "no such bucket"),
    ] {
        let fixture = Fixture::new(options(), move |_, _| Say::Status(status, page));
        assert_fault(&fixture.fetch().await.expect_err(status), FaultClass::Permanent, names);
        assert_eq!((fixture.service.asked().len(), fixture.files()), (1, 0), "{status}");
    }
}

#[tokio::test]
async fn an_object_of_5_gb_is_refused_before_a_byte_of_it_is_kept() {
    let object = Object { claims: Some(5 << 30), ..Object::new(sound(PIECE)) };
    let fixture = Fixture::new(options(), move |_, _| Say::Part(object.clone()));
    let fault = fixture.fetch().await.expect_err("too large");
    assert_fault(&fault, FaultClass::Permanent, "5368709120");
    assert!(fault.message.contains("objects.largest_mb"), "{fault}");
    assert_eq!((fixture.service.asked().len(), fixture.files()), (1, 0));
}

#[tokio::test]
async fn an_object_that_is_overwritten_between_pieces_is_no_mixture() {
    let (old, new) = (sound(2 * PIECE), sound(2 * PIECE + 1)[1..].to_vec());
    let (before, after) = (Object::new(old), Object { e_tag: Some("\"two\""), ..Object::new(new.clone()) });
    let fixture = Fixture::new(options(), move |number, _| match number {
        0 => Say::Part(before.clone()),
        _ => Say::Part(after.clone()),
    });
    assert_fault(&fixture.fetch().await.expect_err("a mixture"), FaultClass::Retryable, "overwritten");
    assert_eq!(fixture.files(), 0);
    assert_eq!(read(&fixture.fetch().await.expect("the new one")), new);
}

#[tokio::test]
async fn bytes_that_do_not_add_up_are_not_believed() {
    let good = Object { headers: "x-goog-hash: crc32c=4waSgw==\r\n".into(), ..Object::new(*b"123456789") };
    let bad = Object { bytes: Arc::from(*b"123456780"), ..good.clone() };
    let fixture =
        Fixture::new(options(), move |number, _| Say::Part(if number == 0 { bad.clone() } else { good.clone() }));
    assert_fault(&fixture.fetch().await.expect_err("damaged"), FaultClass::Retryable, "CRC32C");
    assert_eq!(fixture.files(), 0);
    assert_eq!(read(&fixture.fetch().await.expect("whole")), b"123456789");
}

#[tokio::test]
async fn an_empty_object_is_an_empty_file() {
    let fixture = Fixture::new(options(), |_, _| Say::Status("416 Requested Range Not Satisfiable", ""));
    assert_eq!(read(&fixture.fetch().await.expect("fetched")), b"");
}

/// How many requests are being answered, and were at most.
#[derive(Default)]
struct Together(Mutex<(usize, usize)>, Condvar);

impl Together {
    /// Answers only once `count` requests are there.
    fn wait_for(&self, count: usize) {
        let mut now = self.0.lock().expect("no panic");
        now.0 += 1;
        now.1 = now.1.max(now.0);
        self.1.notify_all();
        drop(self.1.wait_while(now, |now| now.1 < count).expect("no panic"));
    }

    fn leave(&self) {
        self.0.lock().expect("no panic").0 -= 1;
    }

    fn most(&self) -> usize {
        self.0.lock().expect("no panic").1
    }
}

#[tokio::test]
async fn no_more_objects_are_fetched_at_a_time_than_may_be() {
    let together = Arc::new(Together::default());
    let (seen, object) = (Arc::clone(&together), Object::new(sound(1000)));
    let two = ObjectsOptions { max_fetches: 2, ..options() };
    let fixture = Fixture::new(two, move |_, _| {
        seen.wait_for(2);
        seen.leave();
        Say::Part(object.clone())
    });
    let fetched = futures::future::join_all((0..10).map(|_| fixture.fetch())).await;
    assert!(fetched.iter().all(Result::is_ok));
    assert_eq!(together.most(), 2);
}

#[tokio::test]
async fn what_is_on_the_disk_is_bounded() {
    let object = Object::new(sound(MB));
    let small = ObjectsOptions { largest_mb: 1, max_disk_mb: 2, ..options() };
    let fixture = Fixture::new(small, move |_, _| Say::Part(object.clone()));
    let most = futures::future::join_all((0..8).map(|_| async {
        let _audio = fixture.fetch().await.expect("fetched");
        // Whoever waits for room would be fetched meanwhile, if it were there.
        tokio::task::yield_now().await;
        fixture.files()
    }))
    .await;
    assert!(most.iter().all(|files| (1..=2).contains(files)), "{most:?}");
    assert_eq!(fixture.files(), 0);
}

#[tokio::test]
async fn bulk_that_hangs_does_not_keep_an_urgent_upload_waiting() {
    let object = Object::new(sound(1000));
    let one = ObjectsOptions { max_fetches: 1, ..options() };
    let fixture = Fixture::new(one, move |_, asked| match asked.path.as_str() {
        "audio/urgent.wav" => Say::Part(object.clone()),
        _ => Say::Nothing,
    });
    let urgent = async {
        while fixture.service.asked().is_empty() {
            tokio::task::yield_now().await;
        }
        fixture.objects.fetch("gs://audio/urgent.wav", Lane::High).await
    };
    tokio::select! {
        biased;
        urgent = urgent => assert_eq!(read(&urgent.expect("fetched")).len(), 1000),
        _ = fixture.fetch() => panic!("it hangs"),
    }
}

#[test]
fn what_is_shown_of_objects_has_no_client_in_it() {
    let shown = format!("{:?}", Objects::new(options(), "/tmp".into()));
    assert!(shown.contains("gcs_endpoint") && !shown.to_lowercase().contains("credential"), "{shown}");
}
