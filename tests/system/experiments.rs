//! Experiments through the command: started, compared and stopped while a worker serves.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, ChildStderr, Command, Stdio};

use serde_json::{Value, json};

use crate::harness::{Home, clip, json_lines};
use crate::llmock::Llmock;

/// A definition of two equal arms, with more to it.
fn definition(home: &Home, name: &str, more: &str) -> PathBuf {
    let text = format!(
        "name = \"{name}\"\nsmallest_difference = 0.03\nexpected_uploads = 200\n[[arms]]\nname = \"control\"\nweight = 1\n\
         threshold = 0.0\n[[arms]]\nname = \"strict\"\nweight = 1\nthreshold = 1.0\n{more}"
    );
    home.write(&format!("{name}.toml"), text)
}

fn start(home: &Home, definition: &std::path::Path) -> String {
    home.succeed(&["experiment", "start", definition.to_str().expect("UTF-8")])
}

/// Uploads of `customers`, those of the nth are n modulo 3 and one more; every other upload has no sound in it.
fn enqueue(home: &Home, round: &str, customers: usize, half_is_bad: bool) -> usize {
    let (good, bad) = (clip("rock-e-minor-120.wav"), home.write("bad.wav", b"no sound"));
    let mut events = Vec::new();
    for customer in 0..customers {
        for upload in 0..=customer % 3 {
            let audio = if half_is_bad && (customer + upload).is_multiple_of(2) { &bad } else { &good };
            events.push(
                json!({
                    "upload_id": format!("{round}-{customer}-{upload}"), "customer_id": format!("c{customer}"),
                    "tier": "pro", "audio_uri": audio,
                })
                .to_string(),
            );
        }
    }
    home.enqueue_events(&events.join("\n"));
    events.len()
}

/// The lines of a serving process's log, up to one that says so.
fn wait_for(log: &mut impl Iterator<Item = String>, says: &str) {
    assert!(log.any(|line| line.contains(says)), "the log never says {says:?}");
}

fn log(serve: &mut Child) -> impl Iterator<Item = String> + use<> {
    let stderr: ChildStderr = serve.stderr.take().expect("piped");
    BufReader::new(stderr).lines().map_while(Result::ok)
}

fn near(reported: &Value, by_hand: f64) {
    let reported = reported.as_f64().expect("a number");
    assert!((reported - by_hand).abs() < 1e-9 * by_hand.abs().max(1.0), "{reported} is not {by_hand}");
}

/// Of one arm and metric by hand: the mean, Σ(sᵢ − r nᵢ)² relative to the mean size, and the units.
fn by_hand(units: &BTreeMap<String, Vec<f64>>) -> (f64, f64, f64) {
    let sums: Vec<(f64, f64)> = units.values().map(|it| (it.iter().sum(), it.len() as f64)).collect();
    let (s, n) = sums.iter().fold((0.0, 0.0), |(s, n), unit| (s + unit.0, n + unit.1));
    let (mean, units) = (s / n, sums.len() as f64);
    (mean, sums.iter().map(|(s, n)| (s - mean * n).powi(2)).sum::<f64>() / (n / units).powi(2), units)
}

#[test]
fn a_report_has_the_numbers_of_the_outcomes() {
    let home = Home::new();
    start(&home, &definition(&home, "thresholds", "[[guardrails]]\nmetric = \"success_rate\"\nlimit = 0.9\n"));
    let uploads = enqueue(&home, "u", 90, true);
    home.serve_until_idle();
    let outcomes = home.outcomes();
    assert_eq!(outcomes.len(), uploads);

    let (metrics, arms) = (["success_rate", "total_ms"], ["control", "strict"]);
    let value = |outcome: &Value, metric: &str| match metric {
        "success_rate" => f64::from(u8::from(outcome["status"] == "completed")),
        _ => outcome[metric].as_f64().expect("a number"),
    };
    let svg = home.path("report.svg");
    let command = ["experiment", "report", "thresholds", "--svg", svg.to_str().expect("UTF-8")];
    let reported = json_lines(&home.succeed(&[&command[..], &["--json"]].concat())).remove(0);
    assert_eq!(reported["treatment"]["arm"], "strict");
    for metric in metrics {
        let mut units = [BTreeMap::new(), BTreeMap::new()];
        let mut both: BTreeMap<String, Vec<f64>> = BTreeMap::new();
        for outcome in &outcomes {
            assert_eq!(outcome["experiment"], "thresholds");
            let arm = arms.iter().position(|arm| outcome["arm"] == *arm).expect("an arm of the experiment");
            let customer = outcome["customer_id"].as_str().expect("a customer").to_owned();
            units[arm].entry(customer.clone()).or_insert_with(Vec::new).push(value(outcome, metric));
            both.entry(customer).or_default().push(value(outcome, metric));
        }
        assert!(units[0].keys().all(|customer| !units[1].contains_key(customer)), "a customer is in one arm");
        let row = reported["metrics"].as_array().expect("metrics").iter().find(|row| row["metric"] == metric);
        let row = row.expect("the metric");
        let [control, strict] = [&units[0], &units[1]].map(by_hand);
        near(&row["control"], control.0);
        near(&row["treatment"], strict.0);
        for (side, units) in ["control", "treatment"].into_iter().zip(&units) {
            assert_eq!(reported[side]["units"], units.len());
            assert_eq!(reported[side]["uploads"], units.values().map(Vec::len).sum::<usize>());
        }
        let (_, squares, customers) = by_hand(&both);
        let common = squares / (customers - 1.0);
        let variance = |(_, squares, units): (f64, f64, f64)| (squares + 30.0 * common) / (units + 29.0) / units;
        // The tuning is where (1 + 1/x)(ln(1 + x) + 2 ln 20) is smallest: at 8.211968 for the expected 200 uploads.
        let x = uploads as f64 * 8.211_968_062 / 200.0;
        let boundary = (1.0 + 1.0 / x) * ((1.0 + x).ln() + 2.0 * 20.0_f64.ln());
        let half = ((variance(control) + variance(strict)) * boundary).sqrt();
        let difference = &row["difference"];
        near(&difference["difference"], strict.0 - control.0);
        near(&difference["low"], strict.0 - control.0 - half);
        near(&difference["high"], strict.0 - control.0 + half);
    }
    assert_eq!(reported["guardrails"][0]["broken_by"], Value::Null);
    assert!(reported["split_p_value"].as_f64().is_some_and(|p| p > 0.01), "{reported}");

    let table = home.succeed(&command);
    assert!(
        table.contains("success_rate") && table.contains("verdict: ") && table.contains("split: as asked"),
        "{table}"
    );
    let drawn = std::fs::read_to_string(svg).expect("drawn");
    assert!(drawn.contains("strict: success_rate") && drawn.contains("<polyline"), "{drawn}");
}

#[test]
fn a_running_worker_takes_up_an_experiment_and_leaves_it() {
    let home = Home::new();
    let mut serve = home.serve(&[]);
    let mut log = log(&mut serve);
    wait_for(&mut log, "serving");
    let first = definition(&home, "first", "");
    assert!(start(&home, &first).contains("first is started"));
    wait_for(&mut log, "uploads are drawn into the experiment");
    let uploads = enqueue(&home, "during", 6, false);
    (0..uploads).for_each(|_| wait_for(&mut log, "completed"));

    let error = home.fail(&["experiment", "start", definition(&home, "second", "").to_str().expect("UTF-8")]);
    assert!(error.contains("first is under way"), "{error}");
    home.succeed(&["experiment", "stop", "first"]);
    wait_for(&mut log, "no experiment runs");
    let more = enqueue(&home, "after", 6, false);
    (0..more).for_each(|_| wait_for(&mut log, "completed"));
    assert!(Command::new("kill").arg(serve.id().to_string()).status().expect("kill runs").success());
    assert!(serve.wait().expect("ended").success());

    for outcome in home.outcomes() {
        let during = outcome["upload_id"].as_str().expect("an id").starts_with("during");
        assert_eq!(outcome["experiment"], if during { json!("first") } else { Value::Null }, "{outcome}");
    }
    let error = home.fail(&["experiment", "start", first.to_str().expect("UTF-8")]);
    assert!(error.contains("give this one another"), "{error}");
    let listed = json_lines(&home.succeed(&["experiment", "list", "--json"]));
    assert_eq!((&listed[0]["name"], &listed[0]["state"]), (&json!("first"), &json!("stopped")));
    let log = json_lines(&home.succeed(&["audit", "--json"]));
    let done =
        |operation: &str| log.iter().filter(|it| it["operation"] == operation && it["target"] == "first").count();
    assert_eq!((done("start_experiment"), done("stop_experiment")), (1, 1), "{log:?}");
    let error = home.fail(&["experiment", "report", "nobody"]);
    assert!(error.contains("nobody") && error.contains("experiment list"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_arm_that_breaks_a_guardrail_is_stopped_and_its_customers_leave_the_experiment() {
    let (home, llmock) = (Home::new(), Llmock::start());
    let answer = r#"{"genre":"rock","tempo_bpm":120,"key":"E minor","instruments":["drums"]}"#;
    llmock.will(json!([{"type": "reply", "text": answer}])).await;
    let quick = std::fs::read_to_string(home.path("quick.toml")).expect("the configuration");
    home.write(
        "quick.toml",
        format!("{quick}[cache]\nenabled = false\n[fallback]\nbase_url = {:?}\n", llmock.base_url()),
    );
    // The strict arm asks the paid model about everything.
    start(&home, &definition(&home, "dear", "[[guardrails]]\nmetric = \"fallback_rate\"\nlimit = 0.2\n"));
    enqueue(&home, "before", 60, false);
    let mut command = home.command(&["serve", "--listen", "127.0.0.1:0"]);
    let mut serve = command.env("OPENAI_API_KEY", "sk-of-nobody").stderr(Stdio::piped()).spawn().expect("serve starts");
    let mut log = log(&mut serve);
    wait_for(&mut log, "stopped an arm");
    wait_for(&mut log, "stopped=[\"strict\"]");
    let more = enqueue(&home, "after", 60, false);
    let after = |home: &Home| {
        let ended = |outcome: &Value| outcome["upload_id"].as_str().expect("an id").starts_with("after");
        home.outcomes().into_iter().filter(ended).collect::<Vec<_>>()
    };
    while after(&home).len() < more {
        wait_for(&mut log, "completed");
    }
    serve.kill().expect("killed");
    serve.wait().expect("ended");

    let outcomes = home.outcomes();
    let arm_of = |customer: &Value| {
        let before = |it: &&Value| it["customer_id"] == *customer && it["experiment"] == "dear";
        outcomes.iter().filter(before).map(|it| it["arm"].clone()).next()
    };
    let mut left = 0;
    for outcome in after(&home) {
        let was = arm_of(&outcome["customer_id"]).expect("each was drawn before");
        let is = (outcome["experiment"].clone(), outcome["arm"].clone(), outcome["branch"].clone());
        let (control, primary) = (json!("control"), json!("primary"));
        let expected =
            if was == "strict" { (Value::Null, control, primary) } else { (json!("dear"), control, primary) };
        assert_eq!(is, expected, "{outcome}");
        left += usize::from(was == "strict");
    }
    assert!(left > 10, "{left} customers of the strict arm came again");
    let listed = json_lines(&home.succeed(&["experiment", "list", "--json"])).remove(0);
    assert_eq!(listed["arms"][1], json!({"name": "strict", "weight": 0}));
    assert!(listed["stops"][0]["reason"].as_str().expect("a reason").contains("worse in fallback_rate"), "{listed}");
    let table = home.succeed(&["experiment", "report", "dear"]);
    assert!(table.contains("stopped: strict") && table.contains("broken"), "{table}");
}

#[test]
fn an_arm_asks_its_own_model_and_a_shadow_is_asked_about_what_the_control_described() {
    let home = Home::new();
    let other = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/qwen2_audio/tiny-sharded");
    let definition = home.write(
        "models.toml",
        "name = \"models\"\nunit = \"upload\"\nsmallest_difference = 0.03\n[[arms]]\nname = \"control\"\nweight = 1\n\
         [[arms]]\nname = \"tuned\"\nweight = 1\nmodel = \"tuned\"\n[[shadows]]\nname = \"same\"\n\
         [[shadows]]\nname = \"beside\"\nmodel = \"tuned\"\n",
    );
    let error = home.fail(&["experiment", "start", definition.to_str().expect("UTF-8")]);
    assert!(error.contains("[models.tuned]"), "{error}");
    let quick = std::fs::read_to_string(home.path("quick.toml")).expect("the configuration");
    let with_model = format!("{quick}[cache]\nenabled = false\n[models.tuned]\ncheckpoint = {other:?}\n");
    home.write("quick.toml", &with_model);
    start(&home, &definition);
    let uploads = enqueue(&home, "u", 20, false);
    home.write("quick.toml", quick);
    let error = home.fail(&["serve", "--until-idle", "--listen", "127.0.0.1:0"]);
    assert!(error.contains("add a [models.tuned]") && !error.contains("newer"), "{error}");
    home.write("quick.toml", with_model);
    let mut serve = home.serve(&[]);
    let mut log = log(&mut serve);
    (0..uploads).for_each(|_| wait_for(&mut log, "completed"));
    let outcomes = home.outcomes();
    let of = |arm: &str| outcomes.iter().filter(|it| it["arm"] == *arm).collect::<Vec<_>>();
    let (control, tuned) = (of("control"), of("tuned"));
    assert_eq!(control.len() + tuned.len(), uploads);
    assert!(control.iter().all(|it| it["model"] == "tiny-a") && tuned.iter().all(|it| it["model"] == "tiny-sharded"));
    assert!(control.len() > 5 && tuned.len() > 5, "{} {}", control.len(), tuned.len());

    let shadows = || {
        let reported = json_lines(&home.succeed(&["experiment", "report", "models", "--json"]));
        reported.into_iter().filter(|it| !it["shadow"].is_null()).collect::<Vec<_>>()
    };
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(120);
    while shadows().iter().any(|it| it["open"] != 0) {
        assert!(std::time::Instant::now() < deadline, "{:?}", shadows());
    }
    let [same, beside] = shadows().try_into().expect("two");
    for shadow in [&same, &beside] {
        assert_eq!((&shadow["compared"], &shadow["control"]), (&json!(control.len()), &json!("control")), "{shadow}");
    }
    // The same model says the same of the same sound.
    for field in same["fields"].as_array().expect("a list") {
        assert_eq!(field["equal"], field["uploads"], "{field}");
    }
    assert!(same["fields"].as_array().is_some_and(|fields| !fields.is_empty()));
    let table = home.succeed(&["experiment", "report", "models"]);
    assert!(table.contains("shadow beside") && table.contains("accepted"), "{table}");
    assert_eq!(home.outcomes().len(), uploads, "a shadow is nobody's outcome");
    assert!(Command::new("kill").arg(serve.id().to_string()).status().expect("kill runs").success());
    assert!(serve.wait().expect("ended").success());
}
