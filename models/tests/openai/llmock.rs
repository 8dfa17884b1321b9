//! llmock: a real server of OpenAI's interface, which fails as it is told to and judges how its client coped.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, ChildStderr, Command, Stdio};

use serde_json::{Value, json};

/// A running server on a port of its own; ends when dropped.
pub(crate) struct Llmock {
    server: Child,
    /// Kept open: a server whose standard error is closed cannot write to it.
    _messages: BufReader<ChildStderr>,
    address: String,
    http: reqwest::Client,
}

impl Llmock {
    /// Starts a server and waits until it says where it listens.
    pub(crate) fn start() -> Self {
        let mut folders = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors();
        let script =
            folders.find_map(|folder| Some(folder.join("deploy/setup/llmock.sh")).filter(|path| path.exists()));
        let script = script.expect("the repository has deploy/setup/llmock.sh");
        let setup = Command::new(&script).stderr(Stdio::inherit()).output().expect("deploy/setup/llmock.sh can be run");
        assert!(
            setup.status.success(),
            "deploy/setup/llmock.sh cannot fetch llmock: it needs python3 with pip and PyPI"
        );
        let program = String::from_utf8(setup.stdout).expect("a path");
        let mut server = Command::new(program.trim())
            .args(["serve", "--host", "127.0.0.1", "--port", "0"])
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("llmock can be started");
        let mut messages = BufReader::new(server.stderr.take().expect("piped"));
        let mut said = String::new();
        let address = loop {
            let start = said.len();
            let read = messages.read_line(&mut said).expect("llmock says something readable");
            assert!(read > 0, "llmock ended before it listened:\n{said}");
            if let Some((_, rest)) = said[start..].split_once("running on ") {
                break rest.split_whitespace().next().expect("an address").to_owned();
            }
        };
        Self { server, _messages: messages, address, http: reqwest::Client::new() }
    }

    /// The base address of its OpenAI interface.
    pub(crate) fn base_url(&self) -> String {
        format!("{}/v1", self.address)
    }

    /// Tells it how to behave towards the next requests.
    pub(crate) async fn will(&self, behaviors: Value) {
        let body = json!({ "behaviors": behaviors }).to_string();
        let answer = self.http.post(format!("{}/_llmock/scenario", self.address)).body(body).send().await;
        let answer = answer.expect("llmock answers");
        assert!(answer.status().is_success(), "{}", answer.text().await.unwrap_or_default());
    }

    /// The requests it got, oldest first.
    pub(crate) async fn requests(&self) -> Vec<Value> {
        self.get("requests").await["requests"].as_array().expect("a list").clone()
    }

    /// Its judgement of how its client coped with what it was told to do.
    pub(crate) async fn verdict(&self) -> Value {
        self.get("verdict").await
    }

    async fn get(&self, what: &str) -> Value {
        let answer = self.http.get(format!("{}/_llmock/{what}", self.address)).send().await.expect("llmock answers");
        serde_json::from_str(&answer.text().await.expect("a body")).expect("JSON")
    }
}

impl Drop for Llmock {
    fn drop(&mut self) {
        let ended = self.server.kill().and_then(|()| self.server.wait());
        if let Err(error) = ended {
            eprintln!("llmock does not end: {error}");
        }
    }
}
