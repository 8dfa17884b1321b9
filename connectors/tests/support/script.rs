//! A real counterpart, started by one of the scripts in `deploy/setup`, and gone with the process.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// What `SCRIPT run` started. It ends when its standard input is closed, as it is when this is dropped, or when this process
/// ends, however it does.
pub(crate) struct Script {
    process: Child,
}

impl Script {
    /// Runs a script of `deploy/setup`; with the lines in which it says where its counterpart is.
    pub(crate) fn run<const LINES: usize>(name: &str, arguments: &[&str]) -> (Self, [String; LINES]) {
        let mut folders = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors();
        let path = folders.find_map(|folder| Some(folder.join("deploy/setup").join(name)).filter(|path| path.exists()));
        let mut process = Command::new(path.expect("the script is in deploy/setup"))
            .arg("run")
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the script can be run");
        let said = BufReader::new(process.stdout.take().expect("piped")).lines().map_while(Result::ok);
        let lines = said.take(LINES).collect::<Vec<_>>().try_into();
        let lines = lines.unwrap_or_else(|_| panic!("deploy/setup/{name} starts nothing; it says above why"));
        (Self { process }, lines)
    }
}

impl Drop for Script {
    fn drop(&mut self) {
        drop(self.process.stdin.take());
        self.process.wait().ok();
    }
}
