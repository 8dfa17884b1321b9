//! `tidemark replay uploads`: the past described again beside what came of it, and production as it was.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::crash::log;
use crate::harness::{Home, clip, event, json_lines, text};

/// Every file below a folder, with its bytes, but those of replays.
fn production(home: &Home) -> BTreeMap<PathBuf, Vec<u8>> {
    fn search(folder: &Path, found: &mut BTreeMap<PathBuf, Vec<u8>>) {
        for entry in std::fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if !path.is_dir() {
                found.insert(path.clone(), std::fs::read(&path).expect("read"));
            } else if !path.ends_with("data/replays") {
                search(&path, found);
            }
        }
    }
    let mut found = BTreeMap::new();
    search(&home.path("data"), &mut found);
    assert!(found.len() >= 3, "a store and files of outcomes: {:?}", found.keys());
    found
}

/// The rows of a run's pairs, by upload.
fn pairs(home: &Home, run: &str) -> BTreeMap<String, BTreeMap<String, String>> {
    let file = std::fs::File::open(home.path(&format!("data/replays/{run}/pairs.parquet"))).expect("pairs");
    let reader = parquet::file::reader::SerializedFileReader::new(file).expect("Parquet");
    let rows = parquet::file::reader::FileReader::get_row_iter(&reader, None).expect("rows").map(|row| {
        let row = row.expect("a row");
        row.get_column_iter().map(|(name, value)| (name.clone(), value.to_string())).collect::<BTreeMap<_, _>>()
    });
    let rows: Vec<_> = rows.collect();
    let count = rows.len();
    let by_upload: BTreeMap<_, _> = rows.into_iter().map(|row| (row["upload_id"].clone(), row)).collect();
    assert_eq!(by_upload.len(), count, "one row an upload");
    by_upload
}

/// By how much a score may differ where others are answered beside it: sums of many numbers are rounded in another order.
const ROUNDING: f64 = 1e-3;

fn sure(row: &BTreeMap<String, String>, of: &str) -> f64 {
    row[&format!("{of}_confidence")].parse().expect("a number")
}

/// nano, in numbers of which answers do not depend on who is answered beside them.
fn exact(home: &Home, max_batch: u32) -> String {
    let text = format!("[model]\nprecision = \"f32\"\nmax_batch = {max_batch}\n");
    home.write(&format!("exact-{max_batch}.toml"), text).to_str().expect("UTF-8").to_owned()
}

fn replay(home: &Home, config: &str, arguments: &[&str]) -> Value {
    let said = home.succeed(&[&["replay", "uploads", "--json", "--config", config], arguments].concat());
    serde_json::from_str(&said).expect("an object")
}

fn measure<'a>(compared: &'a Value, name: &str) -> &'a Value {
    let measures = compared["measures"].as_array().expect("a list");
    measures.iter().find(|row| row["measure"] == name).expect("it is there")
}

#[test]
fn the_past_is_replayed_with_another_threshold_and_prompt_and_production_is_as_it_was() {
    let home = Home::new();
    let config = exact(&home, 8);
    let gone = home.path("gone.wav");
    std::fs::copy(clip("rock-e-minor-120.wav"), &gone).expect("copied");
    let demo = clip("");
    home.succeed(&["enqueue", "--tier", "pro", demo.to_str().expect("UTF-8"), gone.to_str().expect("UTF-8")]);
    home.enqueue_events("{\"upload_id\":\"garbage\"}");
    home.succeed(&["serve", "--until-idle", "--listen", "127.0.0.1:0", "--config", &config]);
    std::fs::remove_file(&gone).expect("it was there");
    let before = production(&home);

    let compared = replay(&home, &config, &["--run", "lenient", "--threshold", "0.4", "--rate", "50/s"]);
    assert_eq!((&compared["uploads"], &compared["compared"]), (&8.into(), &6.into()), "{compared}");
    assert_eq!((&compared["audio_gone"], &compared["no_event"], &compared["open"]), (&1.into(), &1.into(), &0.into()));
    let rows = pairs(&home, "lenient");
    assert_eq!(rows.len(), 8);
    let states = |state: &str| rows.values().filter(|row| row["state"] == format!("{state:?}")).count();
    assert_eq!((states("compared"), states("audio_gone"), states("no_event")), (6, 1, 1));
    // The same model says the same, and only the threshold is another one.
    let (mut unsure_then, mut unsure_now) = (0, 0);
    for row in rows.values().filter(|row| row["state"] == "\"compared\"") {
        for field in ["metadata", "model"] {
            assert_eq!(row[&format!("original_{field}")], row[&format!("replay_{field}")], "{field} of {row:?}");
        }
        assert_eq!(row["same_answer"], "true");
        let [then, now] = ["original", "replay"].map(|of| sure(row, of));
        assert!((then - now).abs() < ROUNDING, "{row:?}");
        assert_eq!(row["original_below_threshold"], (then < 0.8).to_string());
        assert_eq!(row["replay_below_threshold"], (now < 0.4).to_string());
        unsure_then += u32::from(then < 0.8);
        unsure_now += u32::from(now < 0.4);
    }
    assert!(unsure_then > unsure_now, "0.80 and 0.40 are not the same to these clips");
    let unsure = measure(&compared, "below_threshold");
    assert_eq!(unsure["original"], f64::from(unsure_then) / 6.0);
    assert_eq!(unsure["replay"], f64::from(unsure_now) / 6.0);
    for field in compared["fields"].as_array().expect("a list") {
        assert_eq!((&field["uploads"], &field["equal"]), (&6.into(), &6.into()), "{field}");
    }
    assert_eq!(compared["fields"].as_array().expect("a list").len(), 4, "{compared}");
    assert_eq!(measure(&compared, "success_rate")["difference"], 0.0);

    // Another prompt, of the files that production wrote.
    let prompt = home.write("prompt.txt", "What is this?\n");
    let prompt = format!("@{}", prompt.display());
    let files = home.path("data/outcomes");
    let files = ["--run", "other", "--prompt", &prompt, "--outcomes", files.to_str().expect("UTF-8")];
    let other = replay(&home, &config, &[&files[..], &["--tier", "pro"]].concat());
    assert_eq!(other["definition"]["prompt"], "What is this?");
    assert_eq!((&other["uploads"], &other["compared"], &other["audio_gone"]), (&7.into(), &6.into(), &1.into()));

    // A second start says that it is over, shows the same, and does nothing.
    let again = home.run(&["replay", "uploads", "--json", "--config", &config, "--run", "lenient"]);
    assert!(text(&again.stderr).contains("run lenient is finished"), "{}", text(&again.stderr));
    assert_eq!(serde_json::from_str::<Value>(&text(&again.stdout)).expect("an object"), compared);
    let shown = home.succeed(&["replay", "show", "lenient", "--json"]);
    assert_eq!(serde_json::from_str::<Value>(&shown).expect("an object"), compared);
    let table = home.succeed(&["replay", "show", "lenient"]);
    assert!(table.contains("below_threshold") && table.contains("6 uploads compared"), "{table}");

    // The run's own outcomes, in the low lane and of no experiment.
    let data = home.path("data/replays/lenient");
    let mut own = Command::new(env!("CARGO_BIN_EXE_tidemark"));
    own.args(["outcomes", "--json", "--config", &config, "--data"]).arg(&data);
    let own = json_lines(&text(&own.output().expect("it runs").stdout));
    assert_eq!(own.len(), 7);
    assert!(own.iter().all(|it| it["lane"] == "low" && it["experiment"].is_null() && it["arm"] == "replay"), "{own:?}");
    assert!(data.join("outcomes").is_dir());

    let after = production(&home);
    let files = before.keys().chain(after.keys()).collect::<BTreeSet<_>>();
    let changed: Vec<_> = files.into_iter().filter(|file| before.get(*file) != after.get(*file)).collect();
    assert!(changed.is_empty(), "not a byte of production is changed, and no file added: {changed:?}");
    let mut audit = Command::new(env!("CARGO_BIN_EXE_tidemark"));
    let run = home.path("data/replays/lenient");
    let log = audit.args(["audit", "--json", "--data"]).arg(run).output().expect("the command runs");
    let log = json_lines(&text(&log.stdout));
    assert_eq!((log.len(), &log[0]["operation"], &log[0]["target"]), (1, &"replay".into(), &"lenient".into()));
}

#[test]
fn the_order_of_uploads_and_what_is_answered_at_once_make_no_difference_to_an_answer() {
    let home = Home::new();
    let demo = clip("");
    home.succeed(&["enqueue", "--tier", "enterprise", demo.to_str().expect("UTF-8")]);
    home.succeed(&["enqueue", "--tier", "free", demo.to_str().expect("UTF-8")]);
    home.succeed(&["serve", "--until-idle", "--listen", "127.0.0.1:0", "--config", &exact(&home, 8)]);
    let log: Vec<String> = home.outcomes().iter().map(Value::to_string).collect();
    let forth = home.write("forth.ndjson", log.join("\n"));
    let back = home.write("back.ndjson", log.iter().rev().cloned().collect::<Vec<_>>().join("\n"));
    for (run, file, max_batch) in [("forth", &forth, 1), ("back", &back, 8)] {
        let arguments = ["--run", run, "--prompt", "And this?", "--outcomes", file.to_str().expect("UTF-8")];
        assert_eq!(replay(&home, &exact(&home, max_batch), &arguments)["compared"], 12);
    }
    let (forth, back) = (pairs(&home, "forth"), pairs(&home, "back"));
    for (id, row) in &forth {
        for name in ["replay_metadata", "replay_model", "replay_status", "replay_below_threshold"] {
            assert_eq!(row[name], back[id][name], "{name} of {id}");
        }
        let [forth, back] = [row, &back[id]].map(|row| sure(row, "replay"));
        assert!((forth - back).abs() < ROUNDING, "{forth} and {back} of {id}");
    }
}

/// A home with uploads that have their outcomes.
fn served(uploads: usize) -> Home {
    let home = Home::new();
    let clips = ["rock-e-minor-120.wav", "waltz-g-major-180.flac", "swing-f-major-160.ogg"];
    let events: Vec<String> = (0..uploads).map(|n| event(&format!("u{n}"), "free", &clip(clips[n % 3]))).collect();
    home.enqueue_events(&events.join("\n"));
    home.serve_until_idle();
    home
}

fn begin(home: &Home, run: &str) -> Child {
    let mut command = home.command(&["replay", "uploads", "--run", run]);
    command.env("RUST_LOG", "info").stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("it starts")
}

#[test]
fn a_replay_that_is_killed_at_any_moment_goes_on_from_there_and_each_upload_is_in_it_once() {
    let home = served(60);
    let before = production(&home);
    let mut dice = fastrand::Rng::with_seed(5);
    let (mut killed, mut at_work) = (0, 0);
    for kill in 0..6 {
        let mut child = begin(&home, "killed");
        let lines = log(&mut child);
        // While it begins, when its queue is full, or among the uploads.
        match kill % 3 {
            0 => drop(lines.recv_timeout(Duration::from_millis(dice.u64(0..150)))),
            1 => drop(lines.iter().find(|line| line.contains("uploads to replay"))),
            _ => {
                let ended = lines.iter().filter(|line| line.contains("completed")).take(1 + dice.usize(0..10)).count();
                at_work += usize::from(ended > 0);
            }
        }
        child.kill().expect("killed with SIGKILL");
        killed += usize::from(!child.wait().expect("ended").success());
    }
    assert!(killed >= 4 && at_work >= 1, "{killed} were killed, {at_work} at work");
    let said = home.succeed(&["replay", "uploads", "--run", "killed", "--json"]);
    let compared: Value = serde_json::from_str(&said).expect("an object");
    assert_eq!((&compared["uploads"], &compared["compared"], &compared["open"]), (&60.into(), &60.into(), &0.into()));
    assert_eq!(pairs(&home, "killed").len(), 60);
    assert!(production(&home) == before, "production is as it was");
}

#[test]
fn a_signal_drains_and_says_how_to_go_on() {
    let home = served(40);
    let mut child = begin(&home, "stopped");
    let mut log = BufReader::new(child.stderr.take().expect("piped")).lines().map_while(Result::ok);
    assert!(log.any(|line| line.contains("completed")), "it works");
    let sent = Command::new("kill").args(["-TERM", &child.id().to_string()]).status().expect("kill runs");
    assert!(sent.success());
    let rest: Vec<String> = log.collect();
    assert!(child.wait().expect("ended").success(), "a drain is no failure: {rest:?}");
    let told = rest.iter().find(|line| line.contains("go on with `tidemark replay uploads --run stopped`"));
    // On a quick machine all may be in work when the signal comes.
    let finished = rest.iter().any(|line| line.contains("pairs.parquet"));
    assert!(told.is_some() != finished, "{rest:?}");
    let shown: Value =
        serde_json::from_str(&home.succeed(&["replay", "show", "stopped", "--json"])).expect("an object");
    let (open, compared) = (shown["open"].as_u64(), shown["compared"].as_u64());
    assert_eq!(open.zip(compared).map(|(open, compared)| open + compared), Some(40), "{shown}");
    assert_eq!(open == Some(0), finished);
    let said = home.run(&["replay", "uploads", "--run", "stopped"]);
    assert!(text(&said.stdout).contains("40 uploads compared; 0 not replayed yet"), "{}", text(&said.stdout));
}

#[test]
fn what_cannot_be_replayed_is_refused_with_the_reason() {
    let home = Home::new();
    let error = home.fail(&["replay", "uploads", "--run", "x"]);
    assert!(error.contains("there is no store"), "{error}");
    assert!(!home.path("data/replays").exists(), "nothing was begun");

    home.enqueue_events(&event("u1", "free", &clip("rock-e-minor-120.wav")));
    home.serve_until_idle();
    for (arguments, names) in [
        (&["--run", "../x"][..], "no name of a run"),
        (&["--rate", "5"], "5/s"),
        (&["--threshold", "80"], "from 0 to 1"),
        (&["--from", "yesterday"], "2026-09-21"),
        (&["--tier", "gold"], "enterprise"),
        (&["--prompt", "@nowhere.txt"], "nowhere.txt"),
        (&["--fallback"], "OPENAI_API_KEY"),
        (&["--model", "nowhere"], "nowhere"),
        (&["--outcomes", "nowhere"], "nowhere"),
        (&["--customer", "stranger"], "no outcome of the past"),
    ] {
        let error = home.fail(&[&["replay", "uploads"], arguments].concat());
        assert!(error.contains(names), "{arguments:?}: {error}");
    }
    home.succeed(&["replay", "uploads", "--run", "some", "--prompt", "And this?"]);
    let error = home.fail(&["replay", "uploads", "--run", "some", "--prompt", "And that?"]);
    assert!(error.contains("goes on as it was begun"), "{error}");
    home.succeed(&["replay", "uploads", "--run", "some", "--prompt", "And this?"]);
    let error = home.fail(&["replay", "show", "other"]);
    assert!(error.contains("no run other"), "{error}");
    // Beside it the one that found no upload was begun.
    let there = error.trim_end().rsplit_once("there are: ").expect("the names").1;
    assert!(there.ends_with(", some") && there.split(", ").count() == 2, "{error}");
}
