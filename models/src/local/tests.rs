//! Who is served, in what order, and what a failure touches; with a model that the tests hold up where they need to.

use std::sync::Mutex;
use std::sync::mpsc::{Sender, channel};

use futures::FutureExt;
use records::{FaultClass, Lane, Metadata, MicroUsd, UploadId};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use super::*;
use crate::Late;
use crate::qwen2_audio::{fixture, test_device};

/// A request whose question is its name.
fn request(name: &str, deadline: u64) -> Request {
    Request {
        upload_id: UploadId::try_from(name.to_owned()).expect("a valid id"),
        audio: PathBuf::from(name),
        lane: if deadline < 10 { Lane::High } else { Lane::Low },
        deadline: UtcMicros(deadline),
        prompt: name.into(),
        late: Late::Answer,
    }
}

fn annotation(name: &str) -> Annotation {
    Annotation {
        model: name.to_owned(),
        metadata: Metadata::new(),
        confidence: None,
        field_confidence: std::collections::BTreeMap::new(),
        inference_ms: 0,
        cost: MicroUsd(0),
    }
}

fn rows(request: &Request) -> Vec<Row> {
    vec![Row { mels: Vec::new(), question: Arc::clone(&request.prompt) }]
}

const fn count(count: usize) -> NonZeroUsize {
    NonZeroUsize::new(count).expect("not 0")
}

/// The answer, where it is there; asks for it the first time.
fn poll_once(answer: &mut BoxFuture<'_, Result<Annotation, Fault>>) -> Option<Result<Annotation, Fault>> {
    answer.now_or_never()
}

/// A model that tells of each request it begins, and answers it once the test lets it.
struct Held {
    model: LocalModel,
    begun: UnboundedReceiver<String>,
    go: Sender<()>,
    heard: UnboundedReceiver<String>,
}

/// An engine that answers one request after the other.
fn one_by_one(mut answer: impl FnMut(&str) -> Result<Annotation, Fault> + Send + 'static) -> Box<Answer> {
    Box::new(move |desk: &Desk| {
        while let Some(Heard { job, .. }) = desk.wait_for_heard() {
            let result = answer(&job.request.prompt);
            job.end(result);
        }
    })
}

fn held(hearers: usize) -> Held {
    let (tell_begun, begun) = unbounded_channel();
    let (go, gate) = channel();
    let (tell_heard, heard) = unbounded_channel();
    let hear = move |request: &Request| {
        tell_heard.send(request.prompt.to_string()).expect("the test listens");
        Ok(rows(request))
    };
    let answer = move |name: &str| {
        tell_begun.send(name.to_owned()).ok();
        gate.recv().ok();
        Ok(annotation(name))
    };
    let model = LocalModel::run("held".into(), count(2), count(hearers), Arc::new(hear), one_by_one(answer));
    Held { model, begun, go, heard }
}

/// Waits until the one hearing thread is at `last`, the least urgent request: all others are heard by then.
async fn at(heard: &mut UnboundedReceiver<String>, last: &str) {
    while heard.recv().await.expect("a hearing thread") != last {}
}

#[tokio::test]
async fn a_high_request_overtakes_waiting_low_ones_and_a_dropped_one_is_not_run() {
    let Held { model, mut begun, go, mut heard } = held(1);
    let ask = |name, deadline| {
        let mut answer = model.annotate(request(name, deadline));
        assert!(poll_once(&mut answer).is_none());
        answer
    };
    let in_work = ask("in-work", 50);
    assert_eq!(begun.recv().await.expect("an engine"), "in-work");
    let low = ask("low", 60);
    let dropped = ask("dropped", 55);
    let high = ask("high", 5);
    let last = ask("last", 99);
    at(&mut heard, "last").await;
    drop(dropped);
    for _ in 0..4 {
        go.send(()).expect("a model");
    }
    for (name, answer) in [("in-work", in_work), ("low", low), ("high", high), ("last", last)] {
        assert_eq!(answer.await.expect("an answer").model, name);
    }
    for name in ["high", "low", "last"] {
        assert_eq!(begun.recv().await.expect("an engine"), name);
    }
}

#[tokio::test]
async fn a_high_request_is_heard_although_low_ones_keep_the_hearers_busy() {
    let (tell_heard, mut heard) = unbounded_channel();
    let (go, gate) = channel();
    let gate = Mutex::new(gate);
    let hear = move |request: &Request| {
        tell_heard.send(request.prompt.to_string()).expect("the test listens");
        if request.lane == Lane::Low {
            gate.lock().expect("no panic").recv().ok();
        }
        Ok(rows(request))
    };
    let answer = one_by_one(|name| Ok(annotation(name)));
    let model = LocalModel::run("m".into(), count(4), count(1), Arc::new(hear), answer);
    let mut low = model.annotate(request("low", 50));
    assert!(poll_once(&mut low).is_none());
    assert_eq!(heard.recv().await.as_deref(), Some("low"));
    assert_eq!(model.annotate(request("high", 5)).await.expect("an answer").model, "high");
    go.send(()).expect("it is still being heard");
    assert_eq!(low.await.expect("an answer").model, "low");
}

#[tokio::test]
async fn a_panic_of_the_model_hangs_nobody_and_it_says_that_it_is_unhealthy() {
    let (go, gate) = channel();
    let answer = move |desk: &Desk| {
        let _first = desk.wait_for_heard();
        gate.recv().ok();
        panic!("a broken invariant");
    };
    let hear = |request: &Request| Ok(rows(request));
    let model = LocalModel::run("broken".into(), count(1), count(1), Arc::new(hear), Box::new(answer));
    assert!(model.is_healthy());
    let (mut first, mut waiting) = (model.annotate(request("first", 1)), model.annotate(request("waiting", 2)));
    assert!(poll_once(&mut first).is_none() && poll_once(&mut waiting).is_none());
    go.send(()).expect("a model");
    for answer in [first, waiting, model.annotate(request("later", 3))] {
        let fault = answer.await.expect_err("no answer");
        assert_eq!((fault.class, fault.error_type), (FaultClass::Retryable, ErrorType::Model), "{fault}");
        assert!(fault.message.contains("broken"), "{fault}");
    }
    assert!(!model.is_healthy());
}

#[tokio::test]
async fn a_decoder_that_panics_or_fails_does_so_for_its_file_alone() {
    let hear = |request: &Request| match &*request.prompt {
        "panics" => panic!("a broken file"),
        "fails" => Err(Fault::retryable(ErrorType::AudioUnreachable, "a slow disk")),
        _ => Ok(rows(request)),
    };
    let answer = one_by_one(|_| Ok(annotation("fine")));
    let model = LocalModel::run("fine".into(), count(4), count(1), Arc::new(hear), answer);
    let (panics, fails, fine) = futures::join!(
        model.annotate(request("panics", 1)),
        model.annotate(request("fails", 2)),
        model.annotate(request("fine", 3))
    );
    let faults = [panics, fails].map(|result| result.expect_err("no answer"));
    assert_eq!(faults[0].class, FaultClass::Permanent);
    assert_eq!(
        (faults[0].error_type, faults[1].error_type),
        (ErrorType::AudioUndecodable, ErrorType::AudioUnreachable)
    );
    assert_eq!(fine.expect("an answer").model, "fine");
    assert!(model.is_healthy());
}

#[tokio::test]
async fn the_model_does_not_wait_for_a_slow_decoder_while_others_are_ready() {
    let (go, gate) = channel::<()>();
    let gate = Mutex::new(gate);
    let hear = move |request: &Request| {
        if &*request.prompt == "slow" {
            gate.lock().expect("one slow file").recv().ok();
        }
        Ok(rows(request))
    };
    let answer = one_by_one(|_| Ok(annotation("fine")));
    let model = LocalModel::run("fine".into(), count(4), count(2), Arc::new(hear), answer);
    let mut slow = model.annotate(request("slow", 1));
    assert!(poll_once(&mut slow).is_none());
    model.annotate(request("quick", 2)).await.expect("an answer");
    assert!(poll_once(&mut slow).is_none());
    go.send(()).expect("a decoder");
    slow.await.expect("an answer");
}

#[test]
fn little_is_heard_ahead_of_the_model_but_for_what_would_be_answered_first() {
    let desk = Desk::new(2);
    let mut callers = Vec::new();
    let mut ask = |name, deadline| {
        let (reply, caller) = oneshot::channel();
        callers.push(caller);
        desk.ask(Job { request: request(name, deadline), reply });
    };
    let hear = || {
        let job = desk.next_to_hear(None).expect("open");
        let (name, rows) = (job.request.prompt.to_string(), rows(&job.request));
        desk.put(Heard { job, rows });
        name
    };
    for (name, deadline) in [("b", 20), ("a", 10), ("c", 30)] {
        ask(name, deadline);
    }
    assert_eq!([hear(), hear()], ["a", "b"]);
    assert!(!desk.hears(), "two wait heard already, and c is less urgent");
    ask("urgent", 5);
    assert_eq!(hear(), "urgent");
    let answered = || desk.wait_for_heard().expect("open").job.request.prompt.to_string();
    assert_eq!([answered(), answered()], ["urgent", "a"]);
    assert_eq!(hear(), "c");
    assert_eq!([answered(), answered()], ["b", "c"]);
}

#[test]
fn what_may_wait_is_left_at_the_desk_what_is_given_up_is_left_out_and_a_closed_desk_drops_what_waits() {
    let desk = Desk::new(4);
    let put = |name, deadline| {
        let (reply, caller) = oneshot::channel();
        let job = Job { request: request(name, deadline), reply };
        let rows = rows(&job.request);
        desk.put(Heard { job, rows });
        caller
    };
    let name = |heard: Option<Heard>| heard.map(|heard| heard.job.request.prompt.to_string());
    let _callers = [put("b", 20), put("a", 10)];
    assert_eq!(name(desk.heard_due_before(Some(UtcMicros(10)))), None);
    assert_eq!(name(desk.heard_due_before(Some(UtcMicros(11)))).as_deref(), Some("a"));
    drop(put("given-up", 1));
    assert_eq!(name(desk.heard_due_before(None)).as_deref(), Some("b"));
    assert_eq!(name(desk.heard_due_before(None)), None);
    let mut waiting = put("waiting", 1);
    desk.close();
    assert!(desk.wait_for_heard().is_none() && desk.next_to_hear(None).is_none() && desk.is_closed());
    let mut late = put("late", 1);
    for caller in [&mut waiting, &mut late] {
        assert_eq!(caller.try_recv(), Err(oneshot::error::TryRecvError::Closed));
    }
}

/// A describer of a fixture whose clock moves by 7 ms at each look.
fn describer(checkpoint: &str) -> Describer {
    let schema = Arc::new(MetadataSchema::load("music-basic").expect("built in"));
    let model = Qwen2Audio::load(&fixture(checkpoint), test_device(), Kind::Float).expect("loads");
    let vocab_size = model.config().text_config.vocab_size;
    let eos = model.eos_token_ids();
    let grammar = AnswerGrammar::new(&schema, model.tokenizer(), vocab_size, &eos).expect("a grammar");
    let now = Mutex::new(UtcMicros(0));
    let clock = move || {
        let mut now = now.lock().expect("one thread");
        *now = now.plus_ms(7);
        *now
    };
    Describer { model, grammar, schema, name: checkpoint.into(), clock: Arc::new(clock), most_rows: 3 }
}

/// Answers requests of these rows in one engine.
fn describe(describer: &Describer, requests: Vec<Vec<Row>>) -> Vec<Result<Annotation, Fault>> {
    let desk = Desk::new(requests.len());
    let put = |(n, rows): (usize, Vec<Row>)| {
        let (reply, answer) = oneshot::channel();
        desk.put(Heard { job: Job { request: request(&n.to_string(), n as u64), reply }, rows });
        answer
    };
    let answers: Vec<_> = requests.into_iter().enumerate().map(put).collect();
    std::thread::scope(|scope| {
        let asking = scope.spawn(|| {
            let _closing = Closing(&desk);
            answers.into_iter().map(|answer| answer.blocking_recv().expect("an answer")).collect()
        });
        describer.answer(&desk, describer.engine(1 << 24).expect("starts"));
        asking.join().expect("all are answered")
    })
}

/// The rows of the fixtures' clips.
fn clips() -> Vec<Vec<Row>> {
    let log_mel = LogMel::new(128, audio::LONGEST_WINDOW);
    let rows = |name: &str| {
        let path = fixture("tiny-a").join("audio").join(name);
        let segments = audio::spread(&path, Duration::from_secs(60), audio::LONGEST_WINDOW, count(4)).expect("heard");
        let row =
            |segment: audio::Segment| Row { mels: vec![log_mel.mel(&segment.samples)], question: "Describe.".into() };
        segments.into_iter().map(row).collect()
    };
    ["chirp_500ms.wav", "chord_3200ms.wav", "sweep_31s.wav", "stereo_44k_2s.wav"].map(rows).into()
}

#[test]
fn a_batch_gives_each_request_the_answer_it_gets_alone() {
    for checkpoint in ["tiny-a", "tiny-sharded"] {
        let describer = describer(checkpoint);
        let together = describe(&describer, clips());
        assert_eq!(together.len(), 4);
        for (together, rows) in together.into_iter().zip(clips()) {
            let together = together.expect("an answer");
            let alone = describe(&describer, vec![rows]).remove(0).expect("an answer");
            assert_eq!(together.metadata, alone.metadata);
            assert_eq!((together.model.as_str(), together.cost), (checkpoint, MicroUsd(0)));
            assert!(together.inference_ms >= 7 && together.inference_ms % 7 == 0, "{}", together.inference_ms);
            for (field, confidence) in &together.field_confidence {
                let difference = (confidence.get() - alone.field_confidence[field].get()).abs();
                assert!(difference < 1e-4, "{field}: {difference}");
            }
            let least = together.field_confidence.values().copied().reduce(|a, b| if b < a { b } else { a });
            assert_eq!(together.confidence, least);
            let fields: Vec<&str> = together.metadata.keys().map(String::as_str).collect();
            assert_eq!(fields, describer.schema.fields().collect::<Vec<_>>());
        }
    }
}

#[test]
fn a_segment_that_gives_no_number_fails_its_request_for_ever_and_no_other() {
    let describer = describer("tiny-a");
    let mut requests = clips();
    requests[2][1].mels[0].data[0] = f32::NAN;
    let results = describe(&describer, requests);
    let fault = results[2].as_ref().expect_err("no answer");
    assert_eq!((fault.class, fault.error_type), (FaultClass::Permanent, ErrorType::Model), "{fault}");
    assert!([0, 1, 3].iter().all(|&other| results[other].is_ok()), "{results:?}");
    let nothing = describe(&describer, vec![Vec::new()]).remove(0).expect_err("no answer");
    assert_eq!(nothing.class, FaultClass::Permanent);
}

#[test]
fn who_would_be_late_is_refused_at_once_where_another_can_do_better_and_answered_where_nobody_can() {
    let describer = describer("tiny-a");
    let clock = Arc::clone(&describer.clock);
    let desk = Desk::new(8);
    let ask = |rows: Vec<Row>, deadline: UtcMicros, late: Late| {
        let (reply, answer) = oneshot::channel();
        let request = Request { late, ..request("late", deadline.0) };
        desk.put(Heard { job: Job { request, reply }, rows });
        answer.blocking_recv().expect("an answer")
    };
    let chord = || clips().remove(1);
    let far = UtcMicros(u64::MAX);
    std::thread::scope(|scope| {
        let asking = scope.spawn(|| {
            let _closing = Closing(&desk);
            // How long it takes is not known at first; each look at the clock is 7 ms.
            for _ in 0..2 {
                ask(chord(), clock().plus_ms(8), Late::Refuse).expect("an answer");
            }
            let refused = ask(chord(), clock().plus_ms(30), Late::Refuse).expect_err("no answer");
            assert_eq!((refused.class, refused.error_type), (FaultClass::Retryable, ErrorType::WouldMissDeadline));
            ask(chord(), clock().plus_ms(30), Late::Answer).expect("nobody else answers");
            ask(chord(), UtcMicros(1), Late::Refuse).expect("nobody can be in time any more");
            ask(chord(), far, Late::Refuse).expect("it is in time");
        });
        describer.answer(&desk, describer.engine(1 << 24).expect("starts"));
        asking.join().expect("all is as it should be");
    });
}
