//! Windows of what was served: live in the metrics, closed in the store and in files, and the same when replayed.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::harness::{Home, clip, event, json_lines};

/// A home whose windows are a second wide, and its configuration.
fn home() -> (Home, String) {
    let home = Home::new();
    let quick = std::fs::read_to_string(home.path("quick.toml")).expect("it is there");
    let config = home.write("seconds.toml", format!("{quick}[report]\nwindow_s = 1\n"));
    (home, config.to_str().expect("UTF-8").to_owned())
}

fn rows_of(folder: &std::path::Path) -> i64 {
    let mut rows = 0;
    for day in std::fs::read_dir(folder).expect("a folder") {
        for file in std::fs::read_dir(day.expect("an entry").path()).expect("a partition") {
            let file = std::fs::File::open(file.expect("an entry").path()).expect("opened");
            let reader = parquet::file::reader::SerializedFileReader::new(file).expect("Parquet");
            rows += parquet::file::reader::FileReader::metadata(&reader).file_metadata().num_rows();
        }
    }
    rows
}

#[test]
fn windows_that_serve_closed_are_those_of_a_replay_of_its_files() {
    let (home, config) = home();
    let bad = home.write("bad.wav", b"no sound");
    let good = clip("rock-e-minor-120.wav");
    let european = event("u1", "enterprise", &good).replacen('{', "{\"region\":\"eu-west\",", 1);
    let events = [european, event("u2", "pro", &good), event("u3", "free", &bad)];
    home.enqueue_events(&events.join("\n"));
    let serve = ["serve", "--until-idle", "--listen", "127.0.0.1:0", "--config", config.as_str()];
    let windows = || json_lines(&home.succeed(&["windows", "--json"]));
    let uploads = |rows: &[Value]| rows.iter().filter_map(|row| row["requests"].as_u64()).sum::<u64>();
    // A window is closed a second after its end: by the process that served it, or by the next one.
    let deadline = Instant::now() + Duration::from_secs(120);
    let mut rows = Vec::new();
    while uploads(&rows) < 3 && Instant::now() < deadline {
        home.succeed(&serve);
        rows = windows();
    }
    assert_eq!(uploads(&rows), 3, "{rows:?}");
    let dead: Vec<_> = rows.iter().filter(|row| row["dead_lettered"] == 1).collect();
    assert_eq!(dead.len(), 1);
    assert_eq!((&dead[0]["tier"], &dead[0]["errors"]["audio_undecodable"]), (&"free".into(), &1.into()));
    let regions = |region: &Value| rows.iter().filter(|row| row["region"] == *region).count();
    assert_eq!((regions(&"eu-west".into()), regions(&Value::Null) + 1), (1, rows.len()), "{rows:?}");
    assert_eq!(rows_of(&home.path("data/windows")), rows.len() as i64, "each row is in a file");

    let out = home.path("replayed");
    let (files, out) = (home.path("data/outcomes"), out.to_str().expect("UTF-8"));
    let files = files.to_str().expect("UTF-8");
    let mut replayed =
        json_lines(&home.succeed(&["replay", "outcomes", files, "--out", out, "--window", "1s", "--json"]));
    let by_text = |one: &Value, other: &Value| one.to_string().cmp(&other.to_string());
    replayed.sort_by(by_text);
    rows.sort_by(by_text);
    assert_eq!(replayed, rows);
    let table = home.succeed(&["windows", "--config", &config]);
    assert!(table.contains("requests") && table.contains("enterprise"), "{table}");
}

#[test]
fn what_ended_is_in_the_live_view_soon_after() {
    let home = Home::new();
    let mut serve = home.serve(&[]);
    let mut log = BufReader::new(serve.stderr.take().expect("piped")).lines().map_while(Result::ok);
    let line = log.find(|line| line.contains("serving")).expect("it serves");
    let address = line.split("address=").nth(1).and_then(|rest| rest.split_whitespace().next()).expect("an address");
    home.enqueue_events(&event("u1", "enterprise", &clip("rock-e-minor-120.wav")));
    let ended = log.find(|line| line.contains("completed")).map(|_| Instant::now()).expect("it ends");
    let seen = std::iter::from_fn(|| {
        let mut stream = TcpStream::connect(address).expect("connected");
        write!(stream, "GET /metrics HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n").expect("sent");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        Some(answer)
    })
    .take_while(|_| ended.elapsed() < Duration::from_secs(60))
    .find(|metrics| metrics.contains("tidemark_window_requests{"));
    let taken = ended.elapsed();
    let live = json_lines(&home.succeed(&["windows", "--live", "--json"]));
    serve.kill().expect("killed");
    serve.wait().expect("ended");
    let metrics = seen.expect("the live view shows it");
    assert!(metrics.contains("lane=\"high\"") && metrics.contains("tier=\"enterprise\"} 1"), "{metrics}");
    assert!(metrics.contains("tidemark_report_closed_until_seconds"));
    assert!(taken < Duration::from_secs(5), "it took {taken:?}");
    assert_eq!(live.len(), 1, "{live:?}");
    assert_eq!((&live[0]["kind"], &live[0]["requests"]), (&"completion".into(), &1.into()));
}

#[test]
fn what_cannot_be_replayed_is_named() {
    let home = Home::new();
    let file = home.write("some.csv", "a,b");
    let out = home.path("out");
    let (file, out) = (file.to_str().expect("UTF-8"), out.to_str().expect("UTF-8"));
    assert!(home.fail(&["replay", "outcomes", file, "--out", out]).contains("some.csv"));
    let error = home.fail(&["replay", "outcomes", file, "--out", out, "--window", "0s"]);
    assert!(error.contains("at least one second"), "{error}");
}
