//! The OpenAI branch against real servers: llmock, and where it cannot fail as wanted, one that speaks from a script.

mod canned;
mod llmock;

use std::future::pending;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use futures::FutureExt;
use models::openai::{OpenAi, OpenAiOptions, SecretString, Time};
use models::schema::MetadataSchema;
use models::{Annotator, Late, Request};
use records::FaultClass::{Indeterminate, Permanent, Retryable};
use records::{ErrorType, Fault, Lane, MicroUsd, UploadId, UtcMicros};
use serde_json::json;

use canned::{Say, answer, completion, serve};
use llmock::Llmock;

const KEY: &str = "sk-secret-0123456789abcdef";
const ANSWER: &str = r#"{"genre":"rock","tempo_bpm":120,"key":"E minor","instruments":["drums","bass"]}"#;
/// Noon of a day.
const START: UtcMicros = UtcMicros(1_790_000_000_000_000);

fn request(name: &str) -> Request {
    Request {
        upload_id: UploadId::try_from(name.to_owned()).expect("valid"),
        audio: Path::new(env!("CARGO_MANIFEST_DIR")).join("../demo/clips/country-d-major-126.mp3"),
        lane: Lane::High,
        deadline: START.plus_ms(1_000),
        prompt: format!("Describe recording {name}.").into(),
        late: Late::Answer,
    }
}

fn options(base_url: &str) -> OpenAiOptions {
    OpenAiOptions { base_url: base_url.to_owned(), ..Default::default() }
}

fn open_ai(options: OpenAiOptions, time: Time) -> OpenAi {
    let schema = Arc::new(MetadataSchema::load("music-basic").expect("built in"));
    OpenAi::new(options, &SecretString::from(KEY), schema, time).expect("possible")
}

/// A clock that stands still but for the pauses, which pass at once. Time limits never run out.
#[derive(Clone, Default)]
struct Skipping {
    pauses: Arc<Mutex<Vec<Duration>>>,
}

impl Skipping {
    /// Sleeps of the least time limit or longer are time limits here; pauses are shorter.
    const LIMIT: Duration = Duration::from_secs(10);

    fn pauses(&self) -> Vec<Duration> {
        self.pauses.lock().expect("not poisoned").clone()
    }

    fn time(&self) -> Time {
        let (slept, sleeps) = (Arc::clone(&self.pauses), Arc::clone(&self.pauses));
        let now = move || {
            let slept: Duration = slept.lock().expect("not poisoned").iter().sum();
            UtcMicros(START.0 + u64::try_from(slept.as_micros()).expect("short"))
        };
        let sleep = move |duration| {
            if duration >= Self::LIMIT {
                return pending().boxed();
            }
            sleeps.lock().expect("not poisoned").push(duration);
            async {}.boxed()
        };
        Time { now: Arc::new(now), sleep: Arc::new(sleep) }
    }
}

async fn fault(open_ai: &OpenAi, name: &str) -> Fault {
    open_ai.annotate(request(name)).await.expect_err("must fail")
}

#[tokio::test]
async fn a_clip_is_sent_as_it_is_with_the_strict_schema_and_comes_back_as_valid_metadata() {
    let llmock = Llmock::start();
    let open_ai = open_ai(options(&llmock.base_url()), Skipping::default().time());
    let annotation = open_ai.annotate(request("u1")).await.expect("annotated");

    assert_eq!(annotation.model, "gpt-audio-1.5");
    let fields: Vec<_> = annotation.metadata.keys().map(String::as_str).collect();
    assert_eq!(fields, ["genre", "tempo_bpm", "key", "instruments"]);
    assert_eq!((annotation.confidence, annotation.field_confidence.len()), (None, 0));

    let requests = llmock.requests().await;
    let body = &requests[0]["body"];
    assert_eq!((requests.len(), &requests[0]["path"]), (1, &json!("/v1/chat/completions")));
    assert_eq!(body["response_format"]["json_schema"]["strict"], true);
    assert_eq!(body["messages"][0]["content"][1]["text"], "Describe recording u1.");
    let sound = &body["messages"][0]["content"][0]["input_audio"];
    assert_eq!(sound["format"], "mp3");
    let sent = STANDARD.decode(sound["data"].as_str().expect("text")).expect("base64");
    assert_eq!(sent, std::fs::read(request("u1").audio).expect("a demo clip"));
}

#[tokio::test]
async fn a_rate_limit_is_waited_out_as_long_as_the_service_asks() {
    let llmock = Llmock::start();
    llmock.will(json!([{"type": "fail", "status": 429, "retry_after": 1, "times": 1}])).await;
    let open_ai = open_ai(options(&llmock.base_url()), Time::real(|| START));
    open_ai.annotate(request("u1")).await.expect("annotated after the pause");

    let verdict = llmock.verdict().await;
    assert_eq!((&verdict["calls"], &verdict["attempts"]), (&json!(1), &json!(2)), "{verdict}");
    assert_eq!((&verdict["errors"], &verdict["warnings"]), (&json!(0), &json!(0)), "{verdict}");
    let counts = open_ai.counts();
    assert_eq!((counts.requests, counts.retries, counts.failures.len()), (2, 1, 0));
}

#[tokio::test]
async fn a_service_that_keeps_failing_is_asked_four_times_and_then_reported() {
    let llmock = Llmock::start();
    // llmock asks for a second after a 500 unless told otherwise.
    llmock.will(json!([{"type": "fail", "status": 500, "retry_after": 0, "times": 9}])).await;
    let skipping = Skipping::default();
    let open_ai = open_ai(options(&llmock.base_url()), skipping.time());

    let fault = fault(&open_ai, "u1").await;
    assert_eq!((fault.class, fault.error_type), (Retryable, ErrorType::Unavailable), "{fault}");
    assert!(fault.message.contains("500"), "{fault}");
    assert_eq!((llmock.requests().await.len(), skipping.pauses().len()), (4, 3));
    let counts = open_ai.counts();
    assert_eq!((counts.requests, counts.retries, counts.failures[&ErrorType::Unavailable]), (4, 3, 1));
    assert_eq!(counts.spent, MicroUsd(0));
}

#[tokio::test]
async fn a_request_that_the_service_refuses_is_not_sent_again() {
    let llmock = Llmock::start();
    let open_ai = open_ai(options(&llmock.base_url()), Skipping::default().time());
    for (status, class) in [(400, Permanent), (401, Retryable), (403, Retryable)] {
        llmock.will(json!([{"type": "fail", "status": status}])).await;
        let fault = fault(&open_ai, &format!("u{status}")).await;
        assert_eq!((fault.class, fault.error_type), (class, ErrorType::Refused), "{fault}");
    }
    assert_eq!(llmock.requests().await.len(), 3);
    assert_eq!(llmock.verdict().await["errors"], 0);
}

#[tokio::test]
async fn a_model_that_takes_no_response_format_is_asked_by_function_from_then_on() {
    let llmock = Llmock::start();
    let refusal = "Invalid parameter: 'response_format' of type 'json_schema' is not supported with this model.";
    llmock.will(json!([{"type": "fail", "status": 400, "message": refusal}])).await;
    let open_ai = open_ai(options(&llmock.base_url()), Skipping::default().time());
    for name in ["u1", "u2"] {
        let annotation = open_ai.annotate(request(name)).await.expect("annotated");
        assert_eq!(annotation.metadata.len(), 4);
    }
    let asked: Vec<_> = llmock.requests().await.iter().map(|r| r["body"].get("tools").is_some()).collect();
    assert_eq!(asked, [false, true, true], "which requests offered the function");
}

#[tokio::test]
async fn an_answer_that_breaks_the_schema_is_a_fault_and_its_cost_is_not_lost() {
    let llmock = Llmock::start();
    llmock
        .will(json!([
            {"type": "reply", "text": "{\"genre\": \"rock\""},
            {"type": "reply", "text": ANSWER.replace("120", "9000")},
            {"type": "reply", "text": ANSWER, "finish_reason": "length"},
        ]))
        .await;
    let open_ai = open_ai(options(&llmock.base_url()), Skipping::default().time());
    let mut spent = MicroUsd(0);
    for (name, class, names) in
        [("u1", Retryable, "JSON"), ("u2", Retryable, "tempo_bpm"), ("u3", Permanent, "max_answer_tokens")]
    {
        let fault = fault(&open_ai, name).await;
        assert_eq!((fault.class, fault.error_type), (class, ErrorType::Model), "{fault}");
        assert!(fault.message.contains(names), "{fault}");
        assert!(open_ai.spent() > spent, "{name} was billed");
        assert_eq!(spent + fault.cost, open_ai.spent(), "the fault says what it cost");
        spent = open_ai.spent();
    }
    assert_eq!(open_ai.counts().failures[&ErrorType::Model], 3);
    assert!(open_ai.is_available(), "a service that answers is available, whatever it says");
}

#[tokio::test]
async fn the_breaker_opens_on_a_failing_service_and_closes_when_one_call_finds_it_back() {
    let llmock = Llmock::start();
    llmock.will(json!([{"type": "fail", "status": 503, "times": 3}])).await;
    let skipping = Skipping::default();
    let options =
        OpenAiOptions { breaker_failures: 2, breaker_pause_ms: 1_000, max_retries: 0, ..options(&llmock.base_url()) };
    let open_ai = open_ai(options, skipping.time());
    let pass_time = |ms| skipping.pauses.lock().expect("not poisoned").push(Duration::from_millis(ms));

    fault(&open_ai, "u1").await;
    assert!(open_ai.is_available());
    fault(&open_ai, "u2").await;
    assert!(!open_ai.is_available());
    let refused = fault(&open_ai, "u3").await;
    assert_eq!((refused.class, refused.error_type), (Retryable, ErrorType::Unavailable));
    assert_eq!(llmock.requests().await.len(), 2, "an open breaker lets nothing through");

    pass_time(1_000);
    fault(&open_ai, "u4").await;
    assert!(!open_ai.is_available(), "the try failed, so it is open again");
    pass_time(1_000);
    open_ai.annotate(request("u5")).await.expect("the service is back");
    open_ai.annotate(request("u6")).await.expect("and stays so");
    assert_eq!(llmock.requests().await.len(), 5);
}

#[tokio::test]
async fn a_service_that_hangs_is_given_up_at_the_time_limit_as_one_that_may_have_answered() {
    let (base_url, heard) = serve(vec![Say::Nothing, Say::Nothing, Say::Nothing]);
    let heard = Arc::new(Mutex::new(heard));
    // Every limit runs out at the moment when the request has arrived.
    let limits = Arc::new(Mutex::new(Vec::new()));
    let noted = Arc::clone(&limits);
    let sleep = move |limit: Duration| {
        noted.lock().expect("not poisoned").push(limit.as_millis());
        let heard = Arc::clone(&heard);
        let arrived = move || heard.lock().expect("not poisoned").recv().expect("a request").body["model"].clone();
        tokio::task::spawn_blocking(arrived).map(|_| ()).boxed()
    };
    let open_ai = open_ai(options(&base_url), Time { now: Arc::new(|| START), sleep: Arc::new(sleep) });
    for deadline_ms in [1_000, 30_000, 600_000] {
        let request = Request { deadline: START.plus_ms(deadline_ms), ..request("u1") };
        let fault = open_ai.annotate(request).await.expect_err("no answer comes");
        assert_eq!((fault.class, fault.error_type), (Indeterminate, ErrorType::Timeout), "{fault}");
    }
    let limits = limits.lock().expect("not poisoned").clone();
    assert_eq!(limits, [10_000, 30_000, 60_000], "the deadline, but at least 10 s and at most 60 s");
    assert_eq!(open_ai.counts().requests, 3, "what may have been billed is not asked for again");
}

#[tokio::test]
async fn a_pause_that_would_end_after_the_time_limit_is_not_begun() {
    // The limit is 10 s: one pause of six seconds fits, a second does not.
    let busy = || answer("429 Too Many Requests", "retry-after: 6\r\n", r#"{"error":{"message":"slow down"}}"#);
    let (base_url, _heard) = serve(vec![busy(), busy()]);
    let skipping = Skipping::default();
    let fault = fault(&open_ai(options(&base_url), skipping.time()), "u1").await;
    assert_eq!((fault.class, fault.error_type), (Retryable, ErrorType::RateLimited), "{fault}");
    assert_eq!(skipping.pauses().len(), 1, "{:?}", skipping.pauses());
}

#[tokio::test]
async fn repeats_wait_for_the_date_they_are_told_and_carry_the_same_idempotency_key() {
    let date = "retry-after: Mon, 21 Sep 2026 14:13:25 GMT\r\n";
    let good = completion(json!({"role": "assistant", "content": ANSWER}));
    let (base_url, heard) = serve(vec![answer("503 Service Unavailable", date, "busy"), answer("200 OK", "", &good)]);
    let skipping = Skipping::default();
    open_ai(options(&base_url), skipping.time()).annotate(request("upload-7")).await.expect("annotated");

    let [pause] = skipping.pauses()[..] else { panic!("one pause, not {:?}", skipping.pauses()) };
    assert!((5_000..5_500).contains(&pause.as_millis()), "{pause:?}");
    let (first, second) = (heard.recv().expect("heard"), heard.recv().expect("heard"));
    for head in [&first.head, &second.head] {
        assert!(head.contains("\r\nidempotency-key: upload-7\r\n"), "{head}");
        assert!(head.contains(&format!("\r\nauthorization: Bearer {KEY}\r\n")), "{head}");
    }
    assert_eq!(first.body, second.body);
}

#[tokio::test]
async fn half_an_answer_and_no_chat_completion_are_faults_of_a_call_that_may_have_been_billed() {
    let good = completion(json!({"role": "assistant", "content": ANSWER}));
    let (half, _) = good.split_at(good.len() / 2);
    let promised = good.len();
    let cut_off = Say::Bytes(format!("HTTP/1.1 200 OK\r\ncontent-length: {promised}\r\n\r\n{half}"));
    let (base_url, _heard) = serve(vec![
        cut_off,
        answer("200 OK", "", half),
        answer("200 OK", "", "<html>Welcome to the hotel's network</html>"),
        answer("200 OK", "", &"x".repeat(2 << 20)),
    ]);
    let open_ai = open_ai(options(&base_url), Skipping::default().time());
    for name in ["cut-off", "half", "portal", "endless"] {
        let fault = fault(&open_ai, name).await;
        assert_eq!((fault.class, fault.error_type), (Indeterminate, ErrorType::Unavailable), "{name}: {fault}");
        assert!(!fault.message.contains("rock") && !fault.message.contains("hotel"), "the answer is quoted: {fault}");
    }
    assert_eq!(open_ai.counts().requests, 4);
}

#[tokio::test]
async fn a_model_that_refuses_is_not_asked_again() {
    let refusal = completion(json!({"role": "assistant", "content": null, "refusal": "I'm sorry."}));
    let (base_url, _heard) = serve(vec![answer("200 OK", "", &refusal)]);
    let open_ai = open_ai(options(&base_url), Skipping::default().time());
    let fault = fault(&open_ai, "u1").await;
    assert_eq!((fault.class, fault.error_type), (Permanent, ErrorType::Refused), "{fault}");
    assert_eq!(open_ai.counts().requests, 1);
}

#[tokio::test]
async fn nobody_at_the_address_is_unavailable_after_the_repeats() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let base_url = format!("http://{}/v1", free.local_addr().expect("bound"));
    drop(free);
    let skipping = Skipping::default();
    let fault = fault(&open_ai(options(&base_url), skipping.time()), "u1").await;
    assert_eq!((fault.class, fault.error_type), (Retryable, ErrorType::Unavailable), "{fault}");
    let [first, second, third] = skipping.pauses()[..] else { panic!("three pauses, not {:?}", skipping.pauses()) };
    assert!(first < second && second < third, "{first:?} {second:?} {third:?}");
}

#[tokio::test]
async fn a_call_costs_its_usage_and_no_more_are_made_once_the_day_s_budget_is_reached() {
    let good = completion(json!({"role": "assistant", "content": ANSWER}));
    let (base_url, _heard) = serve((0..3).map(|_| answer("200 OK", "", &good)).collect());
    // 1,000 text tokens at 2.5, 600 of sound at 32, 80 of answer at 10 micro-dollars each.
    let cost = 2_500 + 19_200 + 800;
    let options = OpenAiOptions { daily_budget_micro_usd: Some(MicroUsd(2 * cost)), ..options(&base_url) };
    let skipping = Skipping::default();
    let open_ai = open_ai(options, skipping.time());
    for name in ["u1", "u2"] {
        assert_eq!(open_ai.annotate(request(name)).await.expect("annotated").cost, MicroUsd(cost));
    }
    let refused = fault(&open_ai, "u3").await;
    assert_eq!((refused.class, refused.error_type), (Permanent, ErrorType::Refused));
    assert!(refused.message.contains("over budget"), "{refused}");
    assert_eq!((open_ai.counts().requests, open_ai.spent()), (2, MicroUsd(2 * cost)));

    skipping.pauses.lock().expect("not poisoned").push(Duration::from_secs(24 * 60 * 60));
    open_ai.annotate(request("u4")).await.expect("the next day has a budget of its own");
}

/// A log that is kept.
#[derive(Clone, Default)]
struct Kept(Arc<Mutex<Vec<u8>>>);

impl io::Write for Kept {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("not poisoned").write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn the_key_is_in_no_log_no_fault_and_no_debug_form_though_the_service_repeats_it() {
    let echo = json!({"error": {"message": format!("Incorrect API key provided: {KEY}"), "code": KEY}}).to_string();
    let said = completion(json!({"role": "assistant", "content": ANSWER.replace("E minor", KEY)}));
    let (base_url, _heard) = serve(vec![
        answer("401 Unauthorized", "", &echo),
        answer("503 Service Unavailable", "retry-after: 0\r\n", &echo),
        answer("400 Bad Request", "", KEY),
        answer("200 OK", "", &said),
        answer("200 OK", "", &echo),
        Say::Bytes(format!("HTTP/1.1 {KEY}\r\n\r\n")),
    ]);
    let log = Kept::default();
    let writer = log.clone();
    let subscriber =
        tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE).with_writer(move || writer.clone());
    let open_ai = open_ai(options(&base_url), Skipping::default().time());
    let guard = tracing::subscriber::set_default(subscriber.finish());
    let mut told = format!("{open_ai:?}");
    for name in ["unauthorized", "busy-then-bad", "quoted", "no-completion", "no-http"] {
        let fault = fault(&open_ai, name).await;
        told.push_str(&format!("{fault:?} {fault}"));
    }
    drop(guard);
    let log = String::from_utf8(log.0.lock().expect("not poisoned").clone()).expect("text");
    assert!(log.contains("OpenAI is asked again"), "nothing was logged: {log}");
    assert!(told.contains("[key]"), "the service repeated nothing: {told}");
    let half = &KEY[..KEY.len() / 2];
    assert!(!told.contains(half), "{told}");
    assert!(!log.contains(half), "{log}");

    let schema = Arc::new(MetadataSchema::load("music-basic").expect("built in"));
    let broken = SecretString::from(format!("{KEY}\n{KEY}"));
    let refused =
        OpenAi::new(options(&base_url), &broken, schema, Time::real(|| START)).expect_err("no key has a line end");
    assert!(!format!("{refused} {refused:?}").contains(half), "{refused}");
}
