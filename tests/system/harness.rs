//! A data folder of its own, and the command to run on it.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use serde_json::Value;

pub(crate) const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// The configuration of commands that name none.
const QUICK: &str = "quick.toml";

/// A data folder that goes away with the test.
pub(crate) struct Home {
    folder: tempfile::TempDir,
}

impl Home {
    pub(crate) fn new() -> Self {
        let home = Self { folder: tempfile::tempdir().expect("a temporary folder") };
        let checkpoint = Path::new(ROOT).join("tests/fixtures/qwen2_audio/tiny-a");
        home.write(QUICK, format!("[model]\ncheckpoint = {checkpoint:?}\n"));
        home
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, bytes).expect("written");
        path
    }

    /// The command on this data folder, with a random checkpoint that is quick and doubtful of everything, so that all of
    /// the way is gone. What is sure of itself is asked by `nano.rs`.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tidemark"));
        command.current_dir(ROOT).env_remove("OPENAI_API_KEY").env_remove("RUST_LOG").env("NO_COLOR", "1");
        command.arg("--data").arg(self.path("data")).args(arguments);
        if !arguments.contains(&"--config") {
            command.arg("--config").arg(self.path(QUICK));
        }
        command
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().expect("the command runs")
    }

    /// Runs what must go well; its standard output.
    pub(crate) fn succeed(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        let (said, error) = (text(&output.stdout), text(&output.stderr));
        assert!(output.status.success(), "{arguments:?} ended with {}: {error}\n{said}", output.status);
        said
    }

    /// Runs what must fail; its standard error.
    pub(crate) fn fail(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert!(!output.status.success(), "{arguments:?} went well: {}", text(&output.stdout));
        text(&output.stderr)
    }

    /// A serving process, its log in a pipe.
    pub(crate) fn serve(&self, arguments: &[&str]) -> Child {
        let mut command = self.command(&[&["serve", "--listen", "127.0.0.1:0"], arguments].concat());
        command.stderr(Stdio::piped()).spawn().expect("serve starts")
    }

    pub(crate) fn serve_until_idle(&self) {
        self.succeed(&["serve", "--until-idle", "--listen", "127.0.0.1:0"]);
    }

    /// Puts events in the queue, one a line.
    pub(crate) fn enqueue_events(&self, events: &str) {
        let path = self.write("events.ndjson", events);
        self.succeed(&["enqueue", "--events", path.to_str().expect("UTF-8")]);
    }

    pub(crate) fn outcomes(&self) -> Vec<Value> {
        json_lines(&self.succeed(&["outcomes", "--json", "--limit", "100000"]))
    }
}

pub(crate) fn json_lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).expect("a JSON object a line")).collect()
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

pub(crate) fn event(id: &str, tier: &str, audio: &Path) -> String {
    serde_json::json!({ "upload_id": id, "customer_id": "c", "tier": tier, "audio_uri": audio }).to_string()
}

pub(crate) fn clip(name: &str) -> PathBuf {
    Path::new(ROOT).join("demo/clips").join(name)
}
