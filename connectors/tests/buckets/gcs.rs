//! A Google Cloud Storage emulator: one for a test binary, gone with the process.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::OnceLock;

use crate::script::Script;

/// The emulator of this test binary.
pub(crate) struct Gcs {
    /// Its address.
    pub(crate) address: String,
    folder: PathBuf,
    http: reqwest::Client,
    _script: Script,
}

/// The emulator, which the first one to ask starts.
pub(crate) fn gcs() -> &'static Gcs {
    static GCS: OnceLock<Gcs> = OnceLock::new();
    GCS.get_or_init(Gcs::start)
}

impl Gcs {
    fn start() -> Self {
        let (script, [address, folder]) = Script::run("gcs-emulator.sh", &[]);
        Self { address, folder: folder.into(), http: reqwest::Client::new(), _script: script }
    }

    /// Makes a bucket.
    pub(crate) async fn make_bucket(&self, name: &str) {
        let url = format!("{}/storage/v1/b?project=test", self.address);
        let body = format!("{{\"name\":\"{name}\"}}");
        let made = self.http.post(url).header("content-type", "application/json").body(body).send().await;
        let status = made.expect("an answer").status();
        assert!(status.is_success(), "{status}");
    }

    /// Uploads an object, in place of one of its name.
    pub(crate) async fn upload(&self, bucket: &str, name: &str, bytes: Vec<u8>) {
        let url = format!("{}/upload/storage/v1/b/{bucket}/o?uploadType=media&name={}", self.address, encoded(name));
        let uploaded = self.http.post(url).header("content-type", "audio/wav").body(bytes).send().await;
        let status = uploaded.expect("an answer").status();
        assert!(status.is_success(), "{status}");
    }

    /// An object's bytes; `None` where there is none.
    #[allow(dead_code, reason = "not every test binary reads what was written")]
    pub(crate) async fn download(&self, bucket: &str, name: &str) -> Option<Vec<u8>> {
        let url = format!("{}/download/storage/v1/b/{bucket}/o/{}?alt=media", self.address, encoded(name));
        let answer = self.http.get(url).send().await.expect("an answer");
        if answer.status() == 404 {
            return None;
        }
        assert!(answer.status().is_success(), "{}", answer.status());
        Some(answer.bytes().await.expect("a body").to_vec())
    }

    /// The names of a bucket's objects.
    #[allow(dead_code, reason = "not every test binary reads what was written")]
    pub(crate) async fn list(&self, bucket: &str) -> Vec<String> {
        let answer =
            self.http.get(format!("{}/storage/v1/b/{bucket}/o", self.address)).send().await.expect("an answer");
        let listed: serde_json::Value = serde_json::from_slice(&answer.bytes().await.expect("a body")).expect("JSON");
        let items = listed["items"].as_array().cloned().unwrap_or_default();
        items.iter().map(|item| item["name"].as_str().expect("a name").to_owned()).collect()
    }

    /// What it was asked so far.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.folder.join("log")).expect("a log")
    }
}

fn encoded(name: &str) -> String {
    name.bytes()
        .map(|byte| if byte.is_ascii_alphanumeric() { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}

/// The emulator behind a relay that gives what it lacks: it takes an object by a plain `PUT`, as Google does, only where the
/// address looks signed, and answers without an ETag. Returns the relay's address.
#[allow(dead_code, reason = "not every test binary writes")]
pub(crate) fn with_puts(gcs: &'static Gcs) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = format!("http://{}", listener.local_addr().expect("bound"));
    let serve = move || {
        while let Ok((stream, _)) = listener.accept() {
            std::thread::spawn(move || relay(stream, gcs));
        }
    };
    std::thread::Builder::new().name("relay".into()).spawn(serve).expect("a thread");
    address
}

fn relay(mut client: TcpStream, gcs: &Gcs) {
    let host = gcs.address.trim_start_matches("http://");
    let (mut head, mut length) = (String::new(), 0);
    let mut reader = BufReader::new(client.try_clone().expect("a handle"));
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).unwrap_or_default() == 0 {
            return;
        }
        let name = line.to_lowercase();
        if line == "\r\n" {
            break;
        } else if let Some(bytes) = name.strip_prefix("content-length:") {
            length = bytes.trim().parse().expect("a number");
            head += &line;
        } else if name.starts_with("host:") {
            head += &format!("host: {host}\r\nconnection: close\r\n");
        } else if name.starts_with("put ") {
            head += &line.replacen(" HTTP/1.1", "?X-Goog-Algorithm=relayed HTTP/1.1", 1);
        } else {
            head += &line;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).expect("a body");
    let mut server = TcpStream::connect(host).expect("the emulator");
    server.write_all(format!("{head}\r\n").as_bytes()).and_then(|()| server.write_all(&body)).expect("sent");
    let mut answer = Vec::new();
    server.read_to_end(&mut answer).expect("an answer");
    let status = answer.windows(2).position(|end| end == b"\r\n").expect("a status line") + 2;
    let put = if head.starts_with("PUT ") { "etag: \"relayed\"\r\nconnection: close\r\n" } else { "" };
    let answer = [&answer[..status], put.as_bytes(), &answer[status..]].concat();
    client.write_all(&answer).unwrap_or_default();
}
